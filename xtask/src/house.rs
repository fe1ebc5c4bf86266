//! Looks at the names and the lengths of Rust files.
//!
//! A name that says nothing about its content fails. A long file is only reported: where to split it is a judgement.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// File stems under which anything may gather.
const REFUSED_STEMS: [&str; 5] = ["common", "helpers", "mod", "types", "utils"];

/// Lines from which a file is worth a look.
const LONG: usize = 300;

/// Prints long files, refuses files with names that say nothing.
///
/// # Errors
/// Names the refused files, or the file or folder that cannot be read.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut refused = Vec::new();
    for file in rust_files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
        let lines = text.lines().count();
        if lines > LONG {
            println!("    {name} has {lines} lines: look for a word of the glossary to split it along");
        }
        if has_refused_name(&file) {
            refused.push(name.to_string());
        }
    }

    if !refused.is_empty() {
        bail!("{}: name the file after what it holds", refused.join(", "));
    }
    Ok(())
}

fn has_refused_name(file: &Path) -> bool {
    file.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| REFUSED_STEMS.contains(&stem))
}

/// Walks the folders instead of asking git, so that an unpacked release can be checked too.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            // `file_type` does not follow links, so a link to a parent folder cannot lead the walk in circles.
            if entry.file_type()?.is_dir() {
                folders.extend(is_ours(&path).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Hidden folders, build folders (cargo tags those it makes under another name) and vendored crates are not ours.
fn is_ours(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.starts_with('.') && !["target", "vendor"].contains(&name) && !folder.join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_refused() {
        let cases = [
            ("src/utils.rs", true),
            ("src/helpers.rs", true),
            ("tests/common/mod.rs", true),
            ("src/common.rs", true),
            ("src/types.rs", true),
            ("src/model.rs", false),
            ("src/common/lease.rs", false),
            ("src/lib.rs", false),
        ];

        for (file, is_refused) in cases {
            assert_eq!(has_refused_name(Path::new(file)), is_refused, "{file}");
        }
    }
}
