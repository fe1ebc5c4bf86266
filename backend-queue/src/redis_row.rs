//! A run as the Redis store packs it: what scripts read at fixed places, then the task and the envelope.

use scheduler_core::{Name, Run, RunId, RunState, Timestamp};

use crate::envelope::{self, Indexed};
use crate::store::Pushed;

/// How many bytes at the start of a packed run change as it moves on.
pub(crate) const HEAD: usize = 36;
/// How many bytes of those are written anew when an attempt begins or ends.
pub(crate) const CHANGING: usize = 21;
/// How many bytes stand before the task, the last of them its length.
pub(crate) const FIXED: usize = 51;
/// Where the flags stand.
pub(crate) const FLAGS: usize = 37;
/// What the flags are the sum of.
const IS_ALONE: u8 = 1;
pub(crate) const IS_BIG: u8 = 2;
const IS_QUEUE_NAMED: u8 = 4;
/// The finish of what has not finished.
const NEVER: i64 = i64::MIN;

const SCHEDULED: u8 = 0;
pub(crate) const RETRYING: u8 = 1;
pub(crate) const SNOOZED: u8 = 2;
const READY: u8 = 3;
pub(crate) const RUNNING: u8 = 4;
const HELD: u8 = 5;
pub(crate) const FRESH: u8 = 6;
const SUCCEEDED: u8 = 10;
const FAILED: u8 = 11;
const CANCELLED: u8 = 12;
const SKIPPED: u8 = 13;

/// A packed run.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) state: u8,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    pub(crate) due: Timestamp,
    pub(crate) finished: Option<Timestamp>,
    /// Its place in the order of insertion.
    pub(crate) seq: u64,
    pub(crate) priority: u8,
    pub(crate) is_alone: bool,
    pub(crate) max_attempts: u32,
    pub(crate) fire_time: Timestamp,
    /// The task, and behind an `@` the queue if that is not the one called `default`.
    name: &'a [u8],
    is_queue_named: bool,
    envelope: &'a [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl<'a> Row<'a> {
    /// Reads a packed run; `None` when it is none.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let finished = i64::from_be_bytes(number(bytes, 13)?);
        let mut seq = [0; 8];
        seq[1..].copy_from_slice(bytes.get(21..28)?);
        let envelope_at = FIXED + usize::from(*bytes.get(50)?);
        Some(Self {
            state: *bytes.first()?,
            attempt: u32::from_be_bytes(number(bytes, 1)?),
            fence: u64::from_be_bytes(number(bytes, 5)?),
            finished: (finished != NEVER).then(|| Timestamp::from_millis(finished)),
            seq: u64::from_be_bytes(seq),
            due: Timestamp::from_millis(i64::from_be_bytes(number(bytes, 28)?)),
            priority: *bytes.get(36)?,
            is_alone: bytes.get(FLAGS)? & IS_ALONE != 0,
            max_attempts: u32::from_be_bytes(number(bytes, 38)?),
            fire_time: Timestamp::from_millis(i64::from_be_bytes(number(bytes, 42)?)),
            name: bytes.get(FIXED..envelope_at)?,
            is_queue_named: bytes.get(FLAGS)? & IS_QUEUE_NAMED != 0,
            envelope: bytes.get(envelope_at..)?,
        })
    }

    /// The envelope as text, as well as it can be shown.
    pub(crate) fn envelope(&self) -> String {
        String::from_utf8_lossy(self.envelope).into_owned()
    }

    /// The name of its task, if it is one.
    pub(crate) fn task(&self) -> Option<Name> {
        Name::new(self.names().0).ok()
    }

    /// That of its queue, unless it is the one called `default`.
    fn queue(&self) -> Option<Name> {
        Name::new(self.names().1?).ok()
    }

    fn names(&self) -> (&str, Option<&str>) {
        let name = std::str::from_utf8(self.name).unwrap_or_default();
        match name.split_once('@').filter(|_| self.is_queue_named) {
            Some((task, queue)) => (task, Some(queue)),
            None => (name, None),
        }
    }

    /// The run.
    ///
    /// # Errors
    /// What could be read of it, failed, saying why.
    pub(crate) fn open(&self, id: RunId, backend: &Name) -> Result<Run, Box<Run>> {
        let indexed = Indexed {
            id,
            // What Redis holds besides our own names is nobody's doing but its owner's.
            task: self.task().unwrap_or_else(|| backend.clone()),
            queue: self.queue(),
            state: shown(self.state),
            attempt: self.attempt,
            fire_time: self.fire_time,
            due: self.due,
            finished: self.finished,
        };
        envelope::open(indexed, std::str::from_utf8(self.envelope).unwrap_or("no UTF-8"), backend)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state >= SUCCEEDED
    }

    /// What it begins with once it was cancelled.
    pub(crate) fn head_cancelled(&self, at: Timestamp) -> Vec<u8> {
        head(CANCELLED, self.attempt, self.fence, Some(at))
    }
}

/// What a packed run begins with.
pub(crate) fn head(state: u8, attempt: u32, fence: u64, finished: Option<Timestamp>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(21);
    bytes.push(state);
    bytes.extend(attempt.to_be_bytes());
    bytes.extend(fence.to_be_bytes());
    bytes.extend(finished.map_or(NEVER, Timestamp::as_millis).to_be_bytes());
    bytes
}

/// What stands in a packed run from the last part of its place in the order on, up to the envelope.
pub(crate) fn tail(pushed: &Pushed, place: u16, is_big: bool) -> Vec<u8> {
    let Pushed { run, due, priority, max_attempts, alone } = pushed;
    let mut bytes = Vec::with_capacity(512);
    bytes.extend(place.to_be_bytes());
    bytes.extend(due.as_millis().to_be_bytes());
    bytes.push(*priority);
    let flags = [(*alone, IS_ALONE), (is_big, IS_BIG), (run.queue.is_some(), IS_QUEUE_NAMED)];
    bytes.push(flags.iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag).sum());
    bytes.extend(max_attempts.to_be_bytes());
    bytes.extend(run.fire_time.as_millis().to_be_bytes());
    // A name has at most 64 characters.
    let length = run.task.as_str().len() + run.queue.as_ref().map_or(0, |queue| 1 + queue.as_str().len());
    bytes.push(u8::try_from(length).unwrap_or(u8::MAX));
    bytes.extend(run.task.as_str().bytes());
    if let Some(queue) = &run.queue {
        bytes.push(b'@');
        bytes.extend(queue.as_str().bytes());
    }
    bytes
}

/// A delivery as a member of the leases.
pub(crate) fn lease_member(fence: u64, run: RunId) -> Vec<u8> {
    let mut bytes = fence.to_be_bytes().to_vec();
    bytes.extend(run.to_string().bytes());
    bytes
}

pub(crate) fn stored(state: RunState) -> u8 {
    match state {
        RunState::Scheduled => SCHEDULED,
        RunState::Retrying => RETRYING,
        RunState::Queued => READY,
        RunState::Running => RUNNING,
        RunState::Succeeded => SUCCEEDED,
        RunState::Failed => FAILED,
        RunState::Cancelled => CANCELLED,
        RunState::Skipped => SKIPPED,
    }
}

/// The bytes that a state is stored as.
pub(crate) fn numbers(state: RunState) -> &'static [u8] {
    match state {
        RunState::Scheduled => &[SCHEDULED],
        RunState::Retrying => &[RETRYING],
        RunState::Queued => &[SNOOZED, READY, HELD, FRESH],
        RunState::Running => &[RUNNING],
        RunState::Succeeded => &[SUCCEEDED],
        RunState::Failed => &[FAILED],
        RunState::Cancelled => &[CANCELLED],
        RunState::Skipped => &[SKIPPED],
    }
}

fn shown(number: u8) -> RunState {
    let known = RunState::ALL.iter().find(|state| numbers(**state).contains(&number));
    known.copied().unwrap_or(RunState::Failed)
}

#[cfg(test)]
mod tests {
    use scheduler_core::Tier;

    use super::*;

    #[test]
    fn a_run_comes_out_packed_as_it_went_in() {
        let name = |text| Name::new(text).unwrap();
        let (id, at) = (RunId::manual(Timestamp::from_millis(7)), Timestamp::from_millis(-5));
        let mut run = Run::queued(id, name("mail"), name("queue"), Tier::Queue, at);
        run.state = RunState::Scheduled;
        run.params.insert("k".into(), "日".into());
        run.queue = Some(name("bulk"));
        let pushed = Pushed { run: run.clone(), due: at, priority: 9, max_attempts: 3, alone: true };

        let mut packed = head(SCHEDULED, 0, 0, None);
        packed.extend([0, 0, 0, 0, 1]);
        packed.extend(tail(&pushed, 2, false));
        packed.extend(envelope::seal(&pushed.run).bytes());
        let row = Row::parse(&packed).unwrap();

        assert_eq!(row.open(id, &name("queue")).unwrap(), run);
        assert_eq!((row.due, row.finished, row.fire_time), (at, None, at));
        assert_eq!((row.priority, row.is_alone, row.max_attempts, row.seq), (9, true, 3, 0x1_0002));
    }

    #[test]
    fn what_is_no_run_is_not_taken_for_one() {
        for bytes in [&b""[..], b"x", &[0; 50], &[255; 60]] {
            assert!(Row::parse(bytes).is_none(), "{bytes:?}");
        }
        let mut odd = vec![0; 51];
        odd.extend(b"\xff\xfe");
        let row = Row::parse(&odd).unwrap();
        let id = RunId::manual(Timestamp::from_millis(1));
        assert_eq!(row.open(id, &Name::new("queue").unwrap()).unwrap_err().state, RunState::Failed);
    }
}
