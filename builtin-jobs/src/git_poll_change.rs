//! A change of a branch or a tag, and the key by which it triggers once.

use serde::{Deserialize, Serialize};

/// A ref that was not what it had been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) number: u64,
    #[serde(rename = "ref")]
    pub(crate) name: String,
    /// Nothing for a ref that is new.
    pub(crate) old: Option<String>,
    /// Nothing for a ref that is gone.
    pub(crate) new: Option<String>,
}

impl Change {
    /// What happened.
    pub(crate) fn kind(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "created",
            (Some(_), Some(_)) => "updated",
            (Some(_), None) => "deleted",
        }
    }

    /// The key of its run: another for each change, and the same however often it is triggered.
    pub(crate) fn key(&self, task: &str, repository: &str) -> String {
        let commit = |commit: &Option<String>| commit.clone().unwrap_or_default();
        let (old, new) = (commit(&self.old), commit(&self.new));
        format!("git_poll {task} {repository} {} {} {old} {new}", self.name, self.number)
    }
}
