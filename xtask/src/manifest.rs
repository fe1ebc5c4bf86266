//! Small changes of a `Cargo.toml` that leave the rest of it as its authors wrote it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Adds a member to the workspace of this manifest, behind the other backends.
///
/// # Errors
/// The manifest cannot be read or written, or has no list of members.
pub(crate) fn add_member(manifest: &Path, member: &str) -> Result<()> {
    edit(manifest, |text| with_member(text, member).context("it has no `members = […]`"))
}

/// Makes the crate follow the lints of its workspace.
///
/// # Errors
/// The manifest cannot be read or written.
pub(crate) fn follow_house_lints(manifest: &Path) -> Result<()> {
    edit(manifest, |text| Ok(format!("{text}\n[lints]\nworkspace = true\n")))
}

/// Makes the crate a workspace of its own, wherever it lies.
///
/// # Errors
/// The manifest cannot be read or written.
pub(crate) fn stand_alone(manifest: &Path) -> Result<()> {
    edit(manifest, |text| Ok(format!("{text}\n[workspace]\n")))
}

fn edit(manifest: &Path, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let name = manifest.display();
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {name}"))?;
    let text = change(&text).with_context(|| format!("cannot change {name}"))?;
    fs::write(manifest, text).with_context(|| format!("cannot write {name}"))
}

fn with_member(text: &str, member: &str) -> Option<String> {
    let start = text.find("\nmembers = [")? + "\nmembers = [".len();
    let list = &text[start..start + text[start..].find(']')?];
    // Behind the last backend, else at the head; the list's own white space separates the new entry.
    let Some(last) = list.rfind("\"backend-") else {
        let separator = if list.trim().is_empty() { "" } else { ", " };
        return Some(format!("{}\"{member}\"{separator}{}", &text[..start], &text[start..]));
    };
    let before = &list[..last];
    let space = &before[before.trim_end().len()..];
    let space = if space.is_empty() { " " } else { space };
    let end = start + last + 1 + list[last + 1..].find('"')? + 1;
    Some(format!("{},{space}\"{member}\"{}", &text[..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_joins_the_list_in_the_lists_own_form() {
        let cases = [
            ("\nmembers = []\n", "\nmembers = [\"backend-x\"]\n"),
            ("\nmembers = [\"a\"]\n", "\nmembers = [\"backend-x\", \"a\"]\n"),
            ("\nmembers = [\"backend-a\"]\n", "\nmembers = [\"backend-a\", \"backend-x\"]\n"),
            (
                "\nmembers = [\"a\", \"backend-b\", \"z\"]\n",
                "\nmembers = [\"a\", \"backend-b\", \"backend-x\", \"z\"]\n",
            ),
            (
                "\nmembers = [\n  \"backend-b\",\n  \"z\",\n]\n",
                "\nmembers = [\n  \"backend-b\",\n  \"backend-x\",\n  \"z\",\n]\n",
            ),
        ];
        for (before, after) in cases {
            assert_eq!(with_member(before, "backend-x").as_deref(), Some(after), "{before}");
        }
        assert_eq!(with_member("[package]\n", "backend-x"), None);
    }
}
