//! The workspaces beside the main one lock the versions that the main one locks.
//!
//! What they share is then compiled once, and what the suites prove is what people run. A change of the main workspace's
//! dependencies does not reach their lock files by itself, so this says what does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command_line::CommandLine;

/// The folders of the other workspaces.
const OTHERS: [&str; 6] =
    ["examples", "scheduler-cli/fuzz", "builtin-jobs/bench", WITH_PEERS[0], WITH_PEERS[1], WITH_PEERS[2]];

/// Those in which peers of ours bring versions of their own.
const WITH_PEERS: [&str; 3] = ["backend-queue/bench", "backend-local/bench", "scheduler-core/bench"];

/// Fails for a lock file that is out of date, or that locks another version of a shared crate.
///
/// # Errors
/// Names each such file and what mends it, or the file that cannot be read.
pub(crate) fn check(root: &Path) -> Result<()> {
    let main = versions(root, ".")?;
    let mut findings = Vec::new();
    for other in OTHERS {
        let metadata = CommandLine::cargo("metadata --locked --format-version 1 --manifest-path")
            .and([format!("{other}/Cargo.toml")]);
        if !metadata.command().output().is_ok_and(|output| output.status.success()) {
            findings.push(format!(
                "{other}/Cargo.lock is out of date; run `cargo update --workspace --manifest-path {other}/Cargo.toml`"
            ));
            continue;
        }
        let different = different(&main, &versions(root, other)?);
        if !different.is_empty() && !WITH_PEERS.contains(&other) {
            findings.push(format!(
                "{other}/Cargo.lock has other versions than Cargo.lock of {}; copy Cargo.lock to {other}/ and run \
                 `cargo update --workspace --manifest-path {other}/Cargo.toml`",
                different.join(", ")
            ));
        }
    }
    if findings.is_empty() { Ok(()) } else { bail!("{}", findings.join("\n")) }
}

type Versions = BTreeMap<String, BTreeSet<String>>;

fn versions(root: &Path, workspace: &str) -> Result<Versions> {
    let file = root.join(workspace).join("Cargo.lock");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {workspace}/Cargo.lock"))?;
    Ok(locked(&text))
}

/// The versions of each crate in a lock file, which cargo writes with one key a line.
fn locked(text: &str) -> Versions {
    let value = |line: Option<&str>, key: &str| {
        Some(line?.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let mut versions = Versions::new();
    for package in text.split("[[package]]").skip(1) {
        let mut lines = package.trim().lines();
        if let Some(name) = value(lines.next(), "name")
            && let Some(version) = value(lines.next(), "version")
        {
            versions.entry(name).or_default().insert(version);
        }
    }
    versions
}

/// The crates that both know and of which `other` has a version that `main` has not.
fn different(main: &Versions, other: &Versions) -> Vec<String> {
    let shared = other.iter().filter_map(|(name, versions)| Some((name, versions, main.get(name)?)));
    shared.filter(|(_, theirs, ours)| !theirs.is_subset(ours)).map(|(name, ..)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> Versions {
        let package = |(name, version): &(&str, &str)| {
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\ndependencies = [\n \"libc\",\n]\n\n"
            )
        };
        locked(&packages.iter().map(package).collect::<String>())
    }

    #[test]
    fn only_a_shared_crate_of_another_version_is_different() {
        let main = lock(&[("serde", "1.0.2"), ("syn", "1.0.0"), ("syn", "2.0.0")]);
        let other = lock(&[("serde", "1.0.1"), ("syn", "2.0.0"), ("cc", "1.1.0")]);

        assert_eq!(different(&main, &other), ["serde"]);
        assert!(different(&main, &main).is_empty());
    }
}
