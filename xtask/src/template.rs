//! `examples/custom-backend` as a template: its files under other names, and the codes it brings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command_line::workspace_root;
use crate::new_backend::{Names, Site};

const FOLDER: &str = "examples/custom-backend";
const PAGE: &str = "docs/troubleshooting.md";

/// The second half of each error code that the template has of its own, with its row in the page that explains codes.
const CODES: [(&str, &str, &str); 1] = [(
    "full",
    "the backend holds as many runs as it may",
    "wait until some have ended, or raise `live_runs`",
)];

/// Writes the template's files, renamed, into the folder, which does not exist yet.
///
/// # Errors
/// Names the file that cannot be read or written.
pub(crate) fn copy(names: &Names, site: &Site) -> Result<()> {
    let template = workspace_root().join(FOLDER);
    for file in files(&template)? {
        let place = file.strip_prefix(&template).expect("the file was found there");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let copy = site.folder.join(renamed(&place.display().to_string(), names));
        let folder = copy.parent().expect("a file lies in a folder");
        let text = renamed(&text, names).replace("../../scheduler-core", &site.core);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&copy, text))
            .with_context(|| format!("cannot write {}", copy.display()))?;
    }
    Ok(())
}

/// Adds a row for each code of the new backend to the page that explains them.
///
/// # Errors
/// The page cannot be read or written.
pub(crate) fn explain_codes(root: &Path, names: &Names) -> Result<()> {
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
    fs::write(&page, with_rows(&text, names)).with_context(|| format!("cannot write {PAGE}"))
}

/// The page with rows behind the last row that it has.
fn with_rows(page: &str, names: &Names) -> String {
    let rows: String = CODES
        .iter()
        .map(|(fault, happened, advice)| format!("| `{}/{fault}` | {happened} | {advice} |\n", names.kind))
        .collect();
    let row = page.rfind("\n| ").map_or(0, |at| at + 1);
    let end = page[row..].find('\n').map_or(page.len(), |at| row + at + 1);
    format!("{}{rows}{}", &page[..end], &page[end..])
}

/// The kind stands in quotes or heads a code, the library everywhere else.
fn renamed(text: &str, names: &Names) -> String {
    text.replace("\"custom_backend\"", &format!("\"{}\"", names.kind))
        .replace("\"custom_backend/", &format!("\"{}/", names.kind))
        .replace("custom_backend", &names.library)
        .replace("custom-backend", &names.package)
        .replace("CustomBackend", &names.type_name)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            files.push(path);
        } else if path.file_name().is_some_and(|name| name != "target") {
            files.extend(self::files(&path)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        "demo".parse().unwrap()
    }

    #[test]
    fn every_spelling_of_the_template_is_replaced_by_the_new_ones() {
        let text = r#"use custom_backend::CustomBackend; kind("custom_backend"); "custom_backend/full" custom-backend"#;
        let expected = r#"use backend_demo::DemoBackend; kind("demo"); "demo/full" backend-demo"#;
        assert_eq!(renamed(text, &names()), expected);
    }

    #[test]
    fn the_codes_that_are_explained_are_those_of_the_template() {
        let mut used = std::collections::BTreeSet::new();
        for file in files(&workspace_root().join(FOLDER).join("src")).unwrap() {
            let text = fs::read_to_string(file).unwrap();
            let own = text.split("\"custom_backend/").skip(1).filter_map(|rest| rest.split('"').next());
            used.extend(own.map(str::to_owned));
        }
        assert_eq!(used.into_iter().collect::<Vec<_>>(), CODES.map(|(fault, ..)| fault));
    }

    #[test]
    fn a_row_comes_behind_the_last_one() {
        let page = "# Codes\n\n| code |\n|---|\n| `a/b` | x |\n\nMore.\n";
        let expected = "| `a/b` | x |\n| `demo/full` | ";
        assert!(with_rows(page, &names()).contains(expected));
        assert!(with_rows(page, &names()).ends_with(" |\n\nMore.\n"));
    }
}
