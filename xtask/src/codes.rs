//! Compares the error codes in the code with those that `docs/troubleshooting.md` explains.
//!
//! Codes are permanent and scripts rely on them, so one that nobody explains, or that no longer exists, is a fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::house::rust_files;

/// The page that explains the codes, each in backticks at the head of a table row.
const PAGE: &str = "docs/troubleshooting.md";

/// Fails for codes that only one side knows.
///
/// # Errors
/// Names them, or the file that cannot be read.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut used = BTreeSet::new();
    for file in rust_files(root)? {
        let place = file.strip_prefix(root).unwrap_or(&file);
        // What an outside crate refuses is its own to explain; the template's codes are those of every backend.
        let is_outside = place.starts_with("examples") && !place.starts_with(crate::template::FOLDER);
        let is_ours = !place.starts_with("xtask") && !is_outside;
        let has = |folder: &str| place.components().any(|part| part.as_os_str() == folder);
        // What measures prints units, which look like codes.
        let is_test = place.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_test"));
        let is_shipped = is_ours && has("src") && !has("bench") && !is_test;
        if is_shipped {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", place.display()))?;
            used.extend(codes_in(without_tests(&text)));
        }
    }
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let explained = explained_in(&page);

    let list = |codes: Vec<&String>| codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
    let unexplained = list(used.difference(&explained).collect());
    let gone = list(explained.difference(&used).collect());
    match (unexplained.as_str(), gone.as_str()) {
        ("", "") => Ok(()),
        (unexplained, "") => bail!("{PAGE} does not explain {unexplained}"),
        ("", gone) => bail!("{PAGE} explains {gone}, which the code does not know"),
        (unexplained, gone) => {
            bail!("{PAGE} does not explain {unexplained}, and the code does not know {gone}")
        }
    }
}

/// What stands before the unit tests, which come last in a file.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default()
}

/// The string literals that look like a code: two words of lower-case letters and `_`, joined by a slash.
fn codes_in(text: &str) -> impl Iterator<Item = String> + '_ {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(|literal| is_code(literal))
        .map(str::to_owned)
}

fn explained_in(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).filter(|code| is_code(code)).map(str::to_owned).collect()
}

fn is_code(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.split_once('/').is_some_and(|(area, fault)| is_word(area) && is_word(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_code_and_not_in_comments_or_tests() {
        let text = "\
            // Not \"a/comment\".\n\
            Error::invalid(\"task/bad_args\", format!(\"{x}/y {}\", \"state/conflict\"))\n\
            let media = \"application/json; q=1\";\n\
            \n#[cfg(test)]\nmod tests { \"in/tests\" }\n";

        let found: Vec<String> = codes_in(without_tests(text)).collect();

        assert_eq!(found, ["task/bad_args", "state/conflict"]);
    }

    #[test]
    fn a_row_explains_the_code_at_its_head() {
        let page = "| code | means |\n|---|---|\n| `task/unknown` | not `task/known` |\ntext `a/b`\n";
        assert_eq!(explained_in(page).into_iter().collect::<Vec<_>>(), ["task/unknown"]);
    }
}
