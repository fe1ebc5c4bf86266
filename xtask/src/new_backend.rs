//! `cargo xtask new-backend`: a backend crate that is green at once, because it is the example under another name.
//!
//! Made in this workspace it becomes a member with everything the check asks for; made elsewhere it is a crate of its
//! own that finds `scheduler-core` by its path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::command_line::{CommandLine, workspace_root};
use crate::{manifest, template};

/// What a new backend is called, in every spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The word that a configuration uses.
    pub(crate) kind: String,
    pub(crate) package: String,
    pub(crate) module: String,
    pub(crate) type_name: String,
}

/// Where a new crate goes, and how it names `scheduler-core` from there.
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) core: String,
}

/// Makes the crate and says what to do next.
///
/// # Errors
/// The place is taken or unfit, or cannot be written.
pub(crate) fn run(names: &Names, outside: Option<&Path>) -> Result<ExitCode> {
    match outside {
        None => join_workspace(names)?,
        Some(folder) => stand_alone(names, folder)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn join_workspace(names: &Names) -> Result<()> {
    let Names { package, module, .. } = names;
    let root = workspace_root();
    let site = Site { folder: root.join(package), core: "../scheduler-core".to_owned() };
    create(names, &site)?;
    manifest::follow_house_lints(&site.folder.join("Cargo.toml"))?;
    manifest::add_member(&root.join("Cargo.toml"), package)?;
    format(&site.folder)?;
    // Writes the new member into Cargo.lock, which every other command finds locked.
    CommandLine::cargo("metadata --format-version 1").output()?;

    println!("made {package}/ and added it to the members in Cargo.toml");
    println!("  prove it as it is   cargo test -p {package}");
    next_steps(names, &format!("{package}/"));
    println!(
        "  ship it             a feature of scheduler-cli with a line in App::with_builtins, or `use {module} as _;`"
    );
    println!("  before a commit     cargo xtask check");
    Ok(())
}

fn stand_alone(names: &Names, folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder).with_context(|| format!("cannot place {}", folder.display()))?;
    if lies_below(&folder, workspace_root()) {
        bail!(
            "{} lies in this workspace; leave --path out to make a member of it, or name a folder outside of it",
            folder.display()
        );
    }
    let core = workspace_root().join("scheduler-core").display().to_string();
    create(names, &Site { folder: folder.clone(), core })?;
    seed_lock_file(&folder)?;
    format(&folder)?;

    let shown = folder.display();
    println!("made {shown}, which finds scheduler-core by its path");
    println!("  prove it as it is   cargo test --manifest-path {shown}/Cargo.toml");
    next_steps(names, &format!("{shown}/"));
    println!("  use it              `use {} as _;` in a program that depends on it", names.module);
    Ok(())
}

fn next_steps(Names { kind, type_name, .. }: &Names, folder: &str) {
    println!(
        "  write yours         {type_name} in {folder}src/backend.rs, its settings in {folder}src/config.rs"
    );
    println!("  keep it proven      {folder}tests/conformance.rs has one test for each promise of a backend");
    println!("  configure it        [backends.{kind}] in scheduler.toml");
}

/// Copies the template, renamed. It is not formatted: cargo takes it only when it knows whether it is a member.
///
/// # Errors
/// The folder exists, or cannot be written.
pub(crate) fn create(names: &Names, site: &Site) -> Result<()> {
    let folder = site.folder.display();
    if site.folder.exists() {
        bail!("{folder} exists already; choose another name or folder, or remove it first");
    }
    template::copy(names, site)
}

/// Formats the crate: longer or shorter names change where lines break.
///
/// # Errors
/// Cargo does not take the crate.
pub(crate) fn format(folder: &Path) -> Result<()> {
    CommandLine::cargo("fmt --manifest-path").and([folder.join("Cargo.toml").display().to_string()]).run()
}

/// The versions that the examples are tested with.
///
/// # Errors
/// The file cannot be copied, or cargo cannot resolve the crate's dependencies.
pub(crate) fn seed_lock_file(folder: &Path) -> Result<()> {
    let lock = folder.join("Cargo.lock");
    fs::copy(workspace_root().join("examples/Cargo.lock"), &lock)
        .with_context(|| format!("cannot write {}", lock.display()))?;
    let manifest = folder.join("Cargo.toml").display().to_string();
    CommandLine::cargo("metadata --format-version 1 --manifest-path").and([manifest]).output().map(|_| ())
}

/// Whether a folder that may not exist yet would lie below `root`, also by way of a link.
fn lies_below(folder: &Path, root: &Path) -> bool {
    let existing = folder.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    existing.is_some_and(|existing| existing.starts_with(root))
}

impl FromStr for Names {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        /// The longest name that a configuration takes.
        const LONGEST: usize = 64;
        if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) {
            bail!("a name has characters of [a-z0-9_] only, such as `my_store`");
        }
        if !text.starts_with(|first: char| first.is_ascii_lowercase()) {
            bail!("a name begins with a letter, because types and crates are called by it");
        }
        if text.len() > LONGEST {
            bail!("a name has at most {LONGEST} characters, this one {}", text.len());
        }
        let capitalised = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        let words: String = text.split('_').filter(|word| !word.is_empty()).map(capitalised).collect();
        Ok(Self {
            kind: text.to_owned(),
            package: format!("backend-{}", text.replace('_', "-")),
            module: format!("backend_{text}"),
            type_name: format!("{words}Backend"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelled_as_each_place_wants_it() {
        let names: Names = "my_store2".parse().unwrap();

        let spelled = [names.kind, names.package, names.module, names.type_name];
        assert_eq!(spelled, ["my_store2", "backend-my-store2", "backend_my_store2", "MyStore2Backend"]);
    }

    #[test]
    fn a_name_that_no_configuration_could_use_is_refused_with_the_reason() {
        let long = "a".repeat(65);
        let cases = [
            ("", "[a-z0-9_]"),
            ("My", "[a-z0-9_]"),
            ("a-b", "[a-z0-9_]"),
            ("../x", "[a-z0-9_]"),
            ("é", "[a-z0-9_]"),
            ("2fast", "begins with a letter"),
            ("_x", "begins with a letter"),
            (long.as_str(), "at most 64"),
        ];
        for (name, reason) in cases {
            let error = name.parse::<Names>().unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn what_exists_is_left_alone() {
        let names: Names = "demo".parse().unwrap();
        let site = Site { folder: workspace_root().join("docs"), core: String::new() };

        let error = create(&names, &site).unwrap_err().to_string();

        assert!(error.contains("docs exists already; choose another name"), "{error}");
    }

    #[test]
    fn a_folder_of_this_workspace_is_no_outside() {
        let root = workspace_root();
        assert!(lies_below(&root.join("not/there/yet"), root));
        assert!(!lies_below(&root.join("..").join("not-there-yet"), root));
    }
}
