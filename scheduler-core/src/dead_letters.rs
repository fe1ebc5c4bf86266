//! Dead letters: failed runs that are kept to be looked at, replayed or discarded.

use std::cmp::Reverse;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use serde_json::{Map, Value};

use crate::{Error, Name, PageToken, Result, Run, RunId, Timestamp};

/// Keeps what failed for good, could not be read, or had no job.
///
/// A dead letter is a failed run; it stays in history as one. It leaves the dead letters when it is replayed or
/// discarded, or by retention unless it is held.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// A page of dead letters, the newest fire first.
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage>;

    /// Runs dead letters again, each as a new run of the same task, fire time and parameters that names its
    /// origin, with every attempt before it. A replay and the letter's leaving are one step, so a letter is
    /// replayed once, however often and by how many it is asked for. Answers in the order of `runs`.
    async fn replay(&self, runs: &[RunId]) -> Result<Vec<Replayed>>;

    /// Runs one dead letter again as [`replay`](Self::replay) does, in the same one step, but the new run gets these
    /// parameters in place of the letter's. The run that failed keeps its own.
    ///
    /// # Errors
    /// Those for which it refuses such parameters of a run that is triggered; `dead_letters/no_edit`, of kind
    /// `Unsupported`, where it cannot.
    async fn replay_with(&self, run: &RunId, params: &Map<String, Value>) -> Result<Replayed> {
        let _ = params;
        let message = format!("run {run} can be replayed as it was, but not with other parameters");
        Err(Error::unsupported("dead_letters/no_edit", message))
    }

    /// Keeps a dead letter from replay and from retention, for this reason; `None` lets it go again. Says whether
    /// there is such a letter.
    async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool>;

    /// Removes dead letters, and those that are held as `held` says; their runs stay in history as long as others.
    /// Looking whether one is held and its leaving are one step. Answers, in the order of `runs`, whether there
    /// was such a letter and it left.
    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>>;
}

/// What becomes of letters that are held when they are discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldLetters {
    /// They leave as others do: who names them means them.
    Leave,
    /// They stay, also one that is held in the same moment.
    Stay,
}

/// A failed run that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The run: its error is the `reason`, its attempts, parameters and origin are those of the run.
    pub run: Run,
    /// When it became one.
    pub died_at: Timestamp,
    /// Why it is held, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What was stored, where that could not be read: it cannot be replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl DeadLetter {
    /// A dead letter of a run that failed.
    pub fn new(run: Run, died_at: Timestamp) -> Self {
        Self { run, died_at, held: None, unreadable: None }
    }

    /// The error without what differs from run to run (numbers), by which letters are grouped.
    pub fn error_pattern(&self) -> String {
        let mut pattern = String::new();
        for c in self.run.reason.as_deref().unwrap_or_default().chars() {
            match c.is_ascii_digit() {
                true if pattern.ends_with('#') => {}
                true => pattern.push('#'),
                false => pattern.push(c),
            }
        }
        pattern
    }
}

/// Which dead letters to show.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeadLetterFilter {
    /// Only that of this run.
    pub run: Option<RunId>,
    /// Only those of this task.
    pub task: Option<Name>,
    /// Only those behind this place in the order.
    pub after: Option<PageToken>,
    /// How many at most; 100 unless set.
    pub limit: Option<NonZeroUsize>,
}

impl DeadLetterFilter {
    /// Every dead letter, a page at a time.
    pub fn all() -> Self {
        Self::default()
    }

    /// The dead letter of one run.
    pub fn of_run(run: RunId) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// The dead letters of one task.
    pub fn of_task(task: Name) -> Self {
        Self { task: Some(task), ..Self::default() }
    }

    /// At most `limit` letters a page.
    #[must_use]
    pub fn limited(mut self, limit: usize) -> Self {
        self.limit = NonZeroUsize::new(limit);
        self
    }

    /// How many letters a page holds at most.
    pub fn page_size(&self) -> usize {
        self.limit.map_or(100, NonZeroUsize::get)
    }

    /// Whether a letter belongs on the pages of this filter.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.run.is_none_or(|id| id == letter.run.id)
            && self.task.as_ref().is_none_or(|task| *task == letter.run.task)
            && self.after.is_none_or(|after| PageToken::of(&letter.run) < after)
    }

    /// One page of `letters`: those that match, the newest fire first.
    pub fn page(&self, letters: impl IntoIterator<Item = DeadLetter>) -> DeadLetterPage {
        let mut letters: Vec<DeadLetter> =
            letters.into_iter().filter(|letter| self.matches(letter)).collect();
        letters.sort_unstable_by_key(|letter| Reverse(PageToken::of(&letter.run)));
        let has_more = letters.len() > self.page_size();
        letters.truncate(self.page_size());
        let next = letters.last().filter(|_| has_more).map(|letter| PageToken::of(&letter.run));
        DeadLetterPage { letters, next }
    }
}

/// Some dead letters, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadLetterPage {
    /// The newest fire first.
    pub letters: Vec<DeadLetter>,
    /// The filter's `after` for the next page, if there is one.
    pub next: Option<PageToken>,
}

/// What became of a dead letter that was to be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replayed {
    /// As this run.
    As(RunId),
    /// There is no such letter.
    Unknown,
    /// It is held.
    Held,
    /// What was stored cannot be read.
    Unreadable,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;

    #[test]
    fn errors_that_differ_in_numbers_only_are_one_group() {
        let name = |text| Name::new(text).unwrap();
        let at = Timestamp::from_millis(0);
        let mut run = Run::queued(RunId::manual(at), name("t"), name("queue"), Tier::Queue, at);
        run.reason = Some("order 4711: HTTP 503 after 1.25s".into());
        assert_eq!(DeadLetter::new(run, at).error_pattern(), "order #: HTTP # after #.#s");
    }
}
