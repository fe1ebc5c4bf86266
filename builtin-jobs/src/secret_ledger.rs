//! Which rotations are under way, in the state of the task: so a run that is killed is noticed by the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scheduler_core::{Result, RunContext, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of what is stored.
const FORMAT: u32 = 1;

/// The rotations under way, by the name of the secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    v: u32,
    under_way: BTreeMap<String, Entry>,
}

/// A rotation under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    stage: Stage,
    path: PathBuf,
    run: RunId,
    at: Timestamp,
}

/// How far a rotation had come at the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Nothing in place was touched.
    Generating,
    /// The new value may be in place.
    Swapping,
    /// The old value goes back.
    RollingBack,
}

impl Ledger {
    /// The ledger of a task; one that cannot be read is begun anew, as the files tell the same.
    pub(crate) async fn load(ctx: &RunContext) -> Result<Self> {
        Ok(Self::read(ctx.state().load::<Value>().await?.as_ref()))
    }

    /// How far the rotation of a secret in this file had come.
    pub(crate) fn stage(&self, secret: &str, path: &Path) -> Option<Stage> {
        self.under_way.get(secret).filter(|entry| entry.path == path).map(|entry| entry.stage)
    }

    /// Notes how far a rotation has come; `None` when it is over.
    pub(crate) async fn note(
        ctx: &RunContext,
        secret: &str,
        path: &Path,
        stage: Option<Stage>,
    ) -> Result<()> {
        let (run, at) = (ctx.run_id(), ctx.clock().now());
        let noted = |present: Option<Value>| {
            let mut ledger = Self::read(present.as_ref());
            ledger.under_way.remove(secret);
            if let Some(stage) = stage {
                let entry = Entry { stage, path: path.to_owned(), run, at };
                ledger.under_way.insert(secret.to_owned(), entry);
            }
            serde_json::to_value(ledger).unwrap_or_default()
        };
        ctx.state().update(noted).await.map(drop)
    }

    fn read(stored: Option<&Value>) -> Self {
        let read = stored.and_then(|value| Self::deserialize(value).ok());
        read.filter(|ledger| ledger.v == FORMAT)
            .unwrap_or_else(|| Self { v: FORMAT, under_way: BTreeMap::new() })
    }
}
