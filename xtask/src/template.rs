//! `examples/custom-backend` as a template: its files under other names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command_line::workspace_root;
use crate::new_backend::{Names, Site};

/// Where the template lies.
pub(crate) const FOLDER: &str = "examples/custom-backend";
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

/// The kind stands in quotes or heads a code, the library everywhere else.
fn renamed(text: &str, names: &Names) -> String {
    text.replace("\"custom_backend\"", &format!("\"{}\"", names.kind))
        .replace("\"custom_backend/", &format!("\"{}/", names.kind))
        .replace("custom_backend", &names.module)
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
}
