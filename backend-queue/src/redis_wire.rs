//! What scripts are told of runs: in groups that have the task and the kind in common, so that a script does for a
//! group at once what it would do for each.

use std::collections::HashMap;
use std::time::Duration;

use redis::Cmd;
use scheduler_core::{Name, Priority, Run, RunId, RunState, Timestamp};

use crate::envelope;
use crate::redis_row::{self, CHANGING, FIXED, FLAGS, RETRYING, SNOOZED, head, lease_member, stored, tail};
use crate::redis_store::millis;
use crate::store::{Ack, Next, Pushed};

/// A longer envelope lies in a hash of its own.
pub(crate) const INLINE: usize = 4_096;

/// What the kind of a group is the sum of.
const TAKES_TURNS: u8 = 1;
const HAS_ENDED: u8 = 2;
const IS_FOLLOWED: u8 = 1;
const STAYS: u8 = 2;
const IS_BIG: u8 = 4;
const IS_QUEUE_NAMED: u8 = 8;
const IS_PLAIN: u8 = 16;
const IS_WHOLE: u8 = 8;
const TOOK_TURNS: u8 = 16;

/// What the members of a group have in common: the task, the queue where that matters, and the kind.
type Common<'a> = (&'a str, Option<&'a Name>, u8);

/// Members of groups, each with its place in the call.
struct Groups<'a, T> {
    indexes: HashMap<Common<'a>, usize>,
    /// The group that was added to last: most often it is the next one, too.
    last: usize,
    groups: Vec<(Common<'a>, Vec<(usize, T)>)>,
}

impl<'a, T> Groups<'a, T> {
    fn new() -> Self {
        Self { indexes: HashMap::new(), last: 0, groups: Vec::new() }
    }

    fn add(&mut self, common: Common<'a>, place: usize, member: T) {
        if self.groups.get(self.last).is_none_or(|(of_last, _)| *of_last != common) {
            self.last = *self.indexes.entry(common).or_insert_with(|| {
                self.groups.push((common, Vec::new()));
                self.groups.len() - 1
            });
        }
        self.groups[self.last].1.push((place, member));
    }

    /// Writes the groups; answers the places in the order in which they were written.
    fn write(self, call: &mut Cmd, mut write: impl FnMut(&mut Cmd, T)) -> Vec<usize> {
        let mut places = Vec::new();
        for ((task, queue, kind), members) in self.groups {
            match queue {
                None => call.arg(task),
                Some(queue) => call.arg(format!("{task}@{queue}")),
            };
            call.arg(kind).arg(members.len());
            for (place, member) in members {
                places.push(place);
                write(call, member);
            }
        }
        places
    }
}

/// Adds runs to the arguments; answers their places in the order of the answers.
pub(crate) fn add_runs(call: &mut Cmd, runs: &[&Pushed]) -> Vec<usize> {
    let sealed: Vec<String> = runs.iter().map(|pushed| envelope::seal(&pushed.run)).collect();
    add_sealed(call, runs.iter().copied().zip(sealed.iter().map(String::as_str)))
}

/// As [`add_runs`], with their envelopes.
pub(crate) fn add_sealed<'a>(
    call: &mut Cmd,
    runs: impl Iterator<Item = (&'a Pushed, &'a str)>,
) -> Vec<usize> {
    let mut groups = Groups::new();
    // When the last run without anything special is due, by its group.
    let mut plain: HashMap<(&str, Option<&Name>), Timestamp> = HashMap::new();
    for (place, (pushed, envelope)) in runs.enumerate() {
        let mut kind = if pushed.alone { TAKES_TURNS } else { 0 };
        kind |= if pushed.run.state.is_end() { HAS_ENDED } else { 0 };
        kind |= if envelope.len() > INLINE { IS_BIG } else { 0 };
        let queue = pushed.run.queue.as_ref();
        let is_usual = kind == 0 && pushed.priority == Priority::default().level();
        let last = plain.entry((pushed.run.task.as_str(), queue)).or_insert(pushed.due);
        if is_usual && *last <= pushed.due {
            *last = pushed.due;
            kind |= IS_PLAIN;
        }
        kind |= if queue.is_some() { IS_QUEUE_NAMED } else { 0 };
        groups.add((pushed.run.task.as_str(), queue, kind), place, (place, pushed, envelope));
    }
    groups.write(call, |call, (place, pushed, envelope)| {
        let run = &pushed.run;
        let is_big = envelope.len() > INLINE;
        // A call adds at most a thousand.
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        let mut member = place.to_be_bytes().to_vec();
        member.extend(run.id.to_string().bytes());
        let mut rest = tail(pushed, place, is_big);
        if !is_big {
            rest.extend(envelope.bytes());
        }
        call.arg(member).arg(rest);
        if run.state.is_end() {
            call.arg(head(stored(run.state), 0, 0, run.finished_at));
        }
        if is_big {
            call.arg(envelope);
        }
    })
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    run: &'a Run,
    fence: u64,
    state: u8,
    wait: Option<Duration>,
    is_followed: bool,
    /// Whether the envelope stays as it is, because it could not be read.
    stays: bool,
    /// What stands between what changes and the envelope, if that is known.
    middle: Option<&'a Middle>,
}

/// What stands in a packed run between what changes and the envelope, and stays as it is from the claim to the end.
#[derive(Debug)]
pub(crate) struct Middle(Box<[u8]>);

impl Middle {
    /// That of a run with a small envelope.
    pub(crate) fn of(packed: &[u8]) -> Option<Self> {
        let end = FIXED + usize::from(*packed.get(FIXED - 1)?);
        let is_small = packed.get(FLAGS)? & redis_row::IS_BIG == 0;
        packed.get(CHANGING..end).filter(|_| is_small).map(|middle| Self(middle.into()))
    }

    fn takes_turns(&self) -> bool {
        self.0.get(FLAGS - CHANGING).is_some_and(|flags| flags & 1 == 1)
    }

    /// Its place in the order of insertion.
    fn place(&self) -> &[u8] {
        &self.0[..7]
    }
}

impl<'a> End<'a> {
    /// As it was acknowledged.
    pub(crate) fn of(ack: &'a Ack, middle: Option<&'a Middle>) -> Self {
        let (state, wait) = match ack.next {
            Next::End => (stored(ack.run.state), None),
            Next::Again(wait) if ack.run.state == RunState::Retrying => (RETRYING, Some(wait)),
            Next::Again(wait) => (SNOOZED, Some(wait)),
            Next::Back => (stored(RunState::Queued), None),
        };
        Self {
            run: &ack.run,
            fence: ack.fence,
            state,
            wait,
            is_followed: ack.is_followed,
            stays: false,
            middle,
        }
    }

    /// Without an acknowledgement. A trigger that follows the finish goes on from there: nobody else tells it.
    pub(crate) fn without_word(run: &'a Run, fence: u64, is_readable: bool) -> Self {
        let (state, is_followed) = (stored(run.state), run.state.is_end());
        Self { run, fence, state, wait: None, is_followed, stays: !is_readable, middle: None }
    }

    /// Whether the script need not look at the run, and what it needs besides then.
    fn whole(&self, envelope: &str) -> Option<(&'a Middle, Timestamp)> {
        let is_plain = self.wait.is_none() && self.run.state != RunState::Failed && envelope.len() <= INLINE;
        self.middle.zip(self.run.finished_at).filter(|_| is_plain)
    }
}

/// Adds ends to the arguments; answers their places in the order in which a script counts them.
pub(crate) fn add_ends(call: &mut Cmd, ends: &[End<'_>]) -> Vec<usize> {
    let mut groups = Groups::new();
    for (place, end) in ends.iter().enumerate() {
        let envelope = if end.stays { String::new() } else { envelope::seal(end.run) };
        let mut kind = if end.is_followed { IS_FOLLOWED } else { 0 };
        kind |= if end.stays { STAYS } else { 0 };
        kind |= if envelope.len() > INLINE { IS_BIG } else { 0 };
        if let Some((middle, _)) = end.whole(&envelope) {
            kind |= IS_WHOLE | if middle.takes_turns() { TOOK_TURNS } else { 0 };
        }
        groups.add((end.run.task.as_str(), None, kind), place, (end, envelope));
    }
    groups.write(call, |call, (end, envelope)| {
        let End { run, fence, state, wait, .. } = *end;
        let mut begin = head(state, run.attempt, fence, run.finished_at);
        call.arg(lease_member(fence, run.id));
        if let Some((middle, at)) = end.whole(&envelope) {
            begin.extend(&middle.0);
            begin.extend(envelope.bytes());
            let mut member = middle.place().to_vec();
            member.extend(run.id.to_string().bytes());
            call.arg(begin).arg(at.as_millis()).arg(member);
            return;
        }
        call.arg(begin);
        match (wait, run.finished_at) {
            (Some(wait), _) => call.arg(millis(wait)),
            (None, Some(at)) => call.arg(at.as_millis()),
            (None, None) => call.arg(""),
        };
        call.arg(envelope);
    })
}

/// Adds how a run ended that waited, to the arguments of a script.
pub(crate) fn add_withdrawn(call: &mut Cmd, id: RunId, before: &[u8], after: &[u8], run: &Run) {
    let envelope = envelope::seal(run);
    let is_big = u8::from(envelope.len() > INLINE);
    call.arg(id.to_string()).arg(before).arg(after).arg(envelope).arg(is_big);
}
