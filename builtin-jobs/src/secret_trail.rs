//! The audit trail of rotations: what was done with which secret, when and by which run; never a value.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use scheduler_core::{Name, RunContext, RunId, Timestamp};
use serde::Serialize;

/// The version of what stands in a line.
const SCHEMA_VERSION: u32 = 1;

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Began,
    /// The new value works, and is not in place.
    Verified,
    /// The new value is about to be put in place.
    Swapping,
    /// The new value is in place and works.
    Rotated,
    /// The old value is back in place.
    RolledBack,
    /// Nothing in place was changed.
    GivenUp,
    /// What a run left that was cut off is looked at.
    Resumed,
    /// The old value does not work either.
    OldValueFails,
}

/// What happened, as the output tells it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    at: Timestamp,
    pub(crate) step: Step,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What happened, as the trail has it.
#[derive(Serialize)]
struct Line<'a> {
    schema_version: u32,
    at: Timestamp,
    task: &'a Name,
    run_id: RunId,
    secret: &'a str,
    path: &'a Path,
    step: Step,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The trail of one rotation.
#[derive(Debug)]
pub(crate) struct Trail<'a> {
    pub(crate) ctx: &'a RunContext,
    pub(crate) secret: &'a str,
    pub(crate) path: &'a Path,
    pub(crate) file: Option<&'a Path>,
    pub(crate) events: Vec<Event>,
}

impl Trail<'_> {
    /// Adds a step; when this returns well it is on the disk.
    ///
    /// # Errors
    /// When it could not be written.
    pub(crate) async fn add(&mut self, step: Step, reason: Option<&str>) -> Result<(), String> {
        let at = self.ctx.clock().now();
        self.events.push(Event { at, step, reason: reason.map(str::to_owned) });
        tracing::info!(secret = self.secret, ?step, reason, "rotation");
        let Some(file) = self.file.map(Path::to_owned) else { return Ok(()) };
        let line = Line {
            schema_version: SCHEMA_VERSION,
            at,
            task: self.ctx.task(),
            run_id: self.ctx.run_id(),
            secret: self.secret,
            path: self.path,
            step,
            reason,
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| unwritten(&file, &error))?;
        text.push(b'\n');
        let told = file.clone();
        let written = tokio::task::spawn_blocking(move || append(&file, &text)).await;
        written
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| unwritten(&told, &error))
    }
}

fn append(file: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    file.write_all(text)?;
    file.sync_all()
}

fn unwritten(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("the audit trail {} could not be written: {error}", file.display())
}
