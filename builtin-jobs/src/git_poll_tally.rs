//! What a run of `git_poll` has to show: how many repositories stood how, what was triggered, what fails and why.

use std::collections::BTreeSet;

use scheduler_core::{Enqueued, Error, JobError, Output};
use serde_json::{Value, json};

use crate::git_poll_book::{Book, Polled, Seen};
use crate::git_poll_change::Change;

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

/// The most rows of each list: the output stands in the history of runs.
const MOST_ROWS: usize = 100;

/// How many failing repositories a message names.
const MOST_NAMED: usize = 3;

/// A change whose task was triggered.
#[derive(Debug)]
pub(crate) struct Triggered {
    pub(crate) repository: String,
    pub(crate) task: String,
    pub(crate) change: Change,
    pub(crate) enqueued: Enqueued,
}

/// Counts what happens.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    asked: usize,
    first_seen: usize,
    failed: usize,
    resting: usize,
    triggered: Vec<Value>,
    triggered_count: usize,
    news: Vec<String>,
    failing: Vec<Value>,
    failing_count: usize,
    named: Vec<String>,
    timed_out: bool,
    tried: BTreeSet<(String, u64)>,
    not_triggered: Option<Error>,
}

impl Tally {
    /// So many repositories are left alone after failures.
    pub(crate) fn rest(&mut self, count: usize) {
        self.resting = count;
    }

    /// Counts the answer of a repository that was known so far as `seen`.
    pub(crate) fn count(&mut self, seen: Option<&Seen>, polled: &Polled, timed_out: bool) {
        self.asked += 1;
        self.timed_out |= timed_out;
        match polled {
            Ok(_) if !seen.is_some_and(Seen::is_known) => self.first_seen += 1,
            Ok(_) => {}
            Err(_) => self.failed += 1,
        }
    }

    pub(crate) fn triggered(&mut self, one: &Triggered) {
        self.triggered_count += 1;
        if self.news.len() < MOST_NAMED {
            let (repository, task) = (&one.repository, &one.task);
            let (name, kind) = (&one.change.name, one.change.kind());
            self.news.push(format!("{kind} {name} of {repository} triggered {task}"));
        }
        if self.triggered.len() < MOST_ROWS {
            self.triggered.push(json!({
                "repository": one.repository,
                "ref": one.change.name,
                "change": one.change.kind(),
                "old": one.change.old,
                "new": one.change.new,
                "task": one.task,
                "run_id": one.enqueued.run_id(),
                "was_there": matches!(one.enqueued, Enqueued::Duplicate(_)),
            }));
        }
    }

    /// Whether this run has not tried to trigger the change with this number yet.
    pub(crate) fn is_first_try(&mut self, id: &(String, u64)) -> bool {
        self.tried.insert(id.clone())
    }

    /// Keeps the first error of a change whose task was not triggered.
    pub(crate) fn not_triggered(&mut self, error: Error) {
        self.not_triggered.get_or_insert(error);
    }

    /// Takes down which repositories stand failed in the end.
    pub(crate) fn stand(&mut self, book: &Book) {
        for (name, seen) in &book.repositories {
            let Some(failing) = &seen.failing else { continue };
            self.failing_count += 1;
            if self.named.len() < MOST_NAMED {
                self.named.push(format!("{name} ({})", failing.message));
            }
            if self.failing.len() < MOST_ROWS {
                self.failing.push(json!({
                    "repository": name,
                    "message": failing.message,
                    "since": failing.since,
                    "times": failing.times,
                    "left_alone_until": failing.until,
                }));
            }
        }
    }

    /// Whether a limit passed.
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// How much of `all` is done.
    pub(crate) fn share_of(&self, all: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
        let share = (self.asked + self.resting) as f64 / all.max(1) as f64;
        share
    }

    pub(crate) fn told(&self) -> String {
        format!("{} asked, {} changes", self.asked, self.triggered_count)
    }

    /// What was triggered, in a line; nothing if nothing was.
    fn summary(&self) -> Option<String> {
        let more = self.triggered_count - self.news.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (self.triggered_count > 0).then(|| format!("{}{more}", self.news.join("; ")))
    }

    /// What there is to show so far.
    pub(crate) fn shown(&self) -> Output {
        json!({
            "schema_version": SCHEMA_VERSION,
            "summary": self.summary(),
            "asked": self.asked,
            "first_seen": self.first_seen,
            "failed": self.failed,
            "left_alone": self.resting,
            "triggered_count": self.triggered_count,
            "triggered": self.triggered,
            "failing_count": self.failing_count,
            "failing": self.failing,
        })
    }

    /// How the run ends: it fails while a repository stands failed, and asks for another attempt while a change
    /// waits to be triggered.
    pub(crate) fn conclude(&mut self) -> Result<Output, JobError> {
        if let Some(error) = self.not_triggered.take() {
            return Err(JobError::retry(error).with_output(self.shown()));
        }
        if self.failing_count == 0 {
            return Ok(self.shown());
        }
        let more = self.failing_count - self.named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message =
            format!("{} repositories cannot be asked: {}{more}", self.failing_count, self.named.join("; "));
        let error = Error::unavailable("git_poll/failed", message);
        Err(JobError::abort(error).with_output(self.shown()))
    }
}
