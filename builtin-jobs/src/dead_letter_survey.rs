//! One look at all dead letters: which groups there are, and what is to be done with which letters.
//!
//! Letters are read a page at a time and only counted; what is kept is bounded, however many there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use scheduler_core::{DeadLetter, DeadLetterFilter, Name, Result, RunFilter, RunId, Scheduler, Timestamp};
use serde::Serialize;

use crate::dead_letter_book::Book;
use crate::dead_letter_rule::{Policy, Rule, Rules};

/// How many letters are read at a time.
const PAGE: usize = 200;

/// The most groups that are told apart.
const MOST_GROUPS: usize = 1_000;

/// The most letters whose ids are remembered during a look.
const MOST_IDS: usize = 200_000;

/// How much of an error names its group.
const LONGEST_PATTERN: usize = 200;

/// Letters of one task that say the same, whatever numbers they name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Group {
    pub(crate) task: Name,
    pub(crate) error_pattern: String,
    pub(crate) class: String,
    pub(crate) policy: &'static str,
    /// What the group waits for, or what is done with it.
    pub(crate) standing: Standing,
    pub(crate) letters: usize,
    /// Those that a person holds; nothing is done with them.
    pub(crate) held: usize,
    /// Those whose time has not come.
    pub(crate) waiting: usize,
    /// Those that were replayed as often as the rule says.
    pub(crate) given_up: usize,
    /// Those that are left to a person: they never run again, or cannot.
    pub(crate) left: usize,
    pub(crate) replayed: usize,
    pub(crate) archived: usize,
    /// When the next one may run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_at: Option<Timestamp>,
    /// The newest of them.
    pub(crate) example: RunId,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Nothing of it runs again.
    Left,
    /// One of it is tried, or will be.
    Canary,
    /// That one is under way.
    Testing,
    /// That one came through: the others follow.
    Open,
    /// The last one failed again: it waits.
    Stopped,
}

/// A letter that something is to be done with.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) run: RunId,
    pub(crate) task: Name,
    pub(crate) fire_time: Timestamp,
    pub(crate) group: String,
    pub(crate) class: String,
    /// How often it was replayed.
    pub(crate) count: u32,
    pub(crate) is_canary: bool,
    /// The letter that it is a replay of.
    pub(crate) origin: Option<RunId>,
}

/// What there is, and what is to be done.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) letters: usize,
    /// Letters of groups beyond those that are told apart.
    pub(crate) in_other_groups: usize,
    pub(crate) groups: BTreeMap<String, Group>,
    canaries: BTreeMap<String, Chosen>,
    replays: VecDeque<Chosen>,
    archives: VecDeque<Chosen>,
    /// The ids of all letters, unless they are too many.
    ids: BTreeSet<RunId>,
}

/// What a letter is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) scheduler: &'a Scheduler,
    pub(crate) rules: &'a Rules,
    pub(crate) book: &'a Book,
    /// The task of this job, whose own letters it leaves alone.
    pub(crate) own: &'a Name,
    pub(crate) limit: usize,
    pub(crate) has_archive: bool,
    pub(crate) now: Timestamp,
}

impl Survey {
    /// Looks at every letter.
    ///
    /// # Errors
    /// Those of a backend that does not answer.
    pub(crate) async fn take(judge: Judge<'_>) -> Result<Self> {
        let mut survey = Self::default();
        let mut filter = DeadLetterFilter::all().limited(PAGE);
        loop {
            let page = judge.scheduler.letters(&filter).await?;
            for letter in &page.letters {
                survey.judge(judge, letter).await?;
            }
            filter.after = page.next;
            if page.next.is_none() {
                return Ok(survey);
            }
        }
    }

    /// What is to be replayed: the canaries first, then the oldest letters of open groups.
    pub(crate) fn replays(&self, limit: usize) -> Vec<Chosen> {
        let others = self.replays.iter().rev();
        self.canaries.values().chain(others).take(limit).cloned().collect()
    }

    /// What is to be archived, the oldest first.
    pub(crate) fn archives(&self) -> Vec<Chosen> {
        self.archives.iter().rev().cloned().collect()
    }

    /// Lets the book forget what concerns no letter any more.
    pub(crate) fn tidy(&self, book: &mut Book) {
        if self.letters <= MOST_IDS && self.in_other_groups == 0 {
            book.tidy(&self.ids, &self.groups.keys().cloned().collect());
        }
    }

    async fn judge(&mut self, judge: Judge<'_>, letter: &DeadLetter) -> Result<()> {
        self.letters += 1;
        if self.ids.len() < MOST_IDS {
            self.ids.insert(letter.run.id);
        }
        let rule = judge.rules.of(letter);
        let key = key(letter, rule);
        if !self.groups.contains_key(&key) && self.groups.len() >= MOST_GROUPS {
            self.in_other_groups += 1;
            return Ok(());
        }
        let policy = judge.policy(letter, rule);
        let count = if policy == Policy::Never { 0 } else { judge.count(letter, rule).await? };
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group::new(letter, rule, judge, &key));
        group.letters += 1;
        if letter.held.is_some() {
            group.held += 1;
            return Ok(());
        }
        let chosen = Chosen {
            run: letter.run.id,
            task: letter.run.task.clone(),
            fire_time: letter.run.fire_time,
            group: key.clone(),
            class: rule.class.clone(),
            count,
            is_canary: group.standing == Standing::Canary,
            origin: letter.run.replay_of,
        };
        let is_given_up = policy != Policy::Never && count >= rule.replays;
        let lies_long = rule.archive_after.is_some_and(|after| letter.died_at + after <= judge.now);
        if is_given_up || (policy == Policy::Never && lies_long && !judge.leaves_alone(letter)) {
            group.given_up += usize::from(is_given_up);
            if judge.has_archive {
                // Pages come newest first; the oldest are to go first.
                keep(&mut self.archives, chosen, judge.limit);
            } else if !is_given_up {
                group.left += 1;
            }
            return Ok(());
        }
        if policy == Policy::Never {
            group.left += 1;
            return Ok(());
        }
        let due = (letter.died_at + rule.wait(count)).max(group.gate_opens(judge, &key));
        if due > judge.now || group.standing == Standing::Testing {
            group.waiting += 1;
            group.next_at = Some(group.next_at.map_or(due, |next| next.min(due)));
            return Ok(());
        }
        if group.standing == Standing::Open {
            keep(&mut self.replays, chosen, judge.limit);
            return Ok(());
        }
        group.standing = Standing::Canary;
        group.waiting += 1;
        let chosen = Chosen { is_canary: true, ..chosen };
        // The one that was tried the least, and of those the oldest: a letter that can never succeed does not keep
        // the others of its group waiting.
        match self.canaries.get(&key) {
            Some(present) if present.count < chosen.count => {}
            _ => drop(self.canaries.insert(key, chosen)),
        }
        Ok(())
    }
}

impl Judge<'_> {
    /// When it runs again: never, where it cannot, and where it is this job's own.
    fn policy(&self, letter: &DeadLetter, rule: &Rule) -> Policy {
        if self.leaves_alone(letter) { Policy::Never } else { rule.policy }
    }

    /// Whether nothing is done with a letter that nobody holds.
    fn leaves_alone(&self, letter: &DeadLetter) -> bool {
        letter.unreadable.is_some() || letter.run.task == *self.own
    }

    /// How often a letter was replayed: by the book, else by its origins, as far as history knows them.
    async fn count(&self, letter: &DeadLetter, rule: &Rule) -> Result<u32> {
        let Some(mut origin) = letter.run.replay_of else { return Ok(0) };
        if let Some(replay) = self.book.replays.get(&origin) {
            return Ok(replay.count);
        }
        let mut count = 1;
        while count < rule.replays {
            let page = self.scheduler.history(&RunFilter::of_run(origin)).await?;
            let Some(before) = page.runs.first().and_then(|run| run.replay_of) else { break };
            (origin, count) = (before, count + 1);
        }
        Ok(count)
    }
}

impl Group {
    fn new(letter: &DeadLetter, rule: &Rule, judge: Judge<'_>, key: &str) -> Self {
        let policy = judge.policy(letter, rule);
        let standing = match judge.book.gates.get(key) {
            _ if policy == Policy::Never => Standing::Left,
            _ if judge.book.has_canary(key) => Standing::Testing,
            Some(gate) if gate.is_open => Standing::Open,
            Some(_) => Standing::Stopped,
            None => Standing::Canary,
        };
        Self {
            task: letter.run.task.clone(),
            error_pattern: pattern(letter),
            class: rule.class.clone(),
            policy: policy.as_str(),
            standing,
            letters: 0,
            held: 0,
            waiting: 0,
            given_up: 0,
            left: 0,
            replayed: 0,
            archived: 0,
            next_at: None,
            example: letter.run.id,
        }
    }

    fn gate_opens(&self, judge: Judge<'_>, key: &str) -> Timestamp {
        judge.book.gates.get(key).map(|gate| gate.not_before).unwrap_or_default()
    }
}

/// Keeps the last ones that come.
fn keep(kept: &mut VecDeque<Chosen>, chosen: Chosen, limit: usize) {
    if kept.len() == limit {
        kept.pop_front();
    }
    kept.push_back(chosen);
}

/// What names the group of a letter. The class belongs to it: errors that differ in numbers only may fit other
/// rules.
fn key(letter: &DeadLetter, rule: &Rule) -> String {
    format!("{} {} {}", letter.run.task, rule.class, pattern(letter))
}

fn pattern(letter: &DeadLetter) -> String {
    letter.error_pattern().chars().take(LONGEST_PATTERN).collect()
}
