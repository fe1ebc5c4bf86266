//! What `cargo metadata` says about the workspace's own crates, as far as the checks read it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command_line::CommandLine;

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Every declared feature with what it turns on.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// Normal, build and development dependencies, optional ones included.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a manifest's dependency tables; `name` is the package's own name, never a rename.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
}

/// Which table a dependency stands in when it is not the normal one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Build,
    Dev,
}

/// Reads the members of the workspace.
///
/// # Errors
/// Cargo cannot read a manifest, or answers in a form we do not know.
pub(crate) fn members() -> Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Member>,
    }

    let line = CommandLine::cargo("metadata --no-deps --format-version 1");
    let metadata: Metadata = serde_json::from_slice(&line.output()?)
        .with_context(|| format!("cannot read the answer of `{line}`"))?;
    Ok(metadata.packages)
}
