//! Runs that need no more than to be put into a hash and a list: what most enqueues are. They are packed here, and the
//! script that adds them does nothing for each.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use redis::Cmd;
use scheduler_core::{Name, Priority, Result, Timestamp};

use crate::redis_link::Link;
use crate::redis_row::{self, FRESH};
use crate::redis_script;
use crate::redis_wire::INLINE;
use crate::store::{Pushed, called};

/// How many bytes the number of a call has in the place of a run.
const NUMBER: usize = 5;

/// How many numbers are kept: as many as there are calls at the same time.
const KEPT: usize = 2;
/// How long a number is good. What is added by it may stand in front of what others added after it was given, as far as
/// both are due alike, or wait in the line of a key.
const GOOD: Duration = Duration::from_millis(100);

/// Numbers for calls to come, which have been given to nobody else.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first, and since when it is there.
    numbers: VecDeque<(Instant, u64)>,
    /// Until when there is no use in asking for what needs them.
    vain_until: Option<Instant>,
}

impl Numbers {
    /// Keeps what Redis gave, as far as there is room for it.
    pub(crate) fn keep(&self, given: u64) {
        let is_short = given.leading_zeros() as usize >= 64 - 8 * NUMBER;
        if is_short {
            let mut kept = self.kept();
            kept.numbers.push_back((Instant::now(), given));
            if kept.numbers.len() > KEPT {
                kept.numbers.pop_front();
            }
        }
    }

    /// The newest.
    pub(crate) fn take(&self) -> Option<u64> {
        let mut kept = self.kept();
        if kept.vain_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let (since, number) = kept.numbers.pop_back()?;
        (since.elapsed() < GOOD).then_some(number)
    }

    /// For some time there is no use in asking.
    pub(crate) fn hold_off(&self) {
        self.kept().vain_until = Some(Instant::now() + GOOD);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run with its place in what was asked and its envelope.
pub(crate) type Sealed<'a> = (usize, &'a Pushed, String);

/// Adds runs, all of them new, or does nothing where they need more than this; says which it was.
///
/// # Errors
/// Those of the link.
pub(crate) async fn add(link: &Link, numbers: &Numbers, runs: &[Sealed<'_>]) -> Result<bool> {
    let Some(mut runs) = plain(runs) else { return Ok(false) };
    let Some(batch) = numbers.take() else { return Ok(false) };
    runs.sort_by_key(|(_, pushed, _)| pushed.due);
    let script = &redis_script::PUSH_FRESH;
    let mut call = link.call(script);
    describe(&mut call, &runs, batch);
    let given: Option<u64> = link.send(script, &call).await?;
    match given {
        // It was for nothing, and the script that does it instead gives a newer number.
        None => {}
        Some(0) => numbers.hold_off(),
        Some(given) => numbers.keep(given),
    }
    Ok(given.is_some_and(|given| given > 0))
}

/// The runs, if none of them needs more.
fn plain<'a, 'b>(runs: &'b [Sealed<'a>]) -> Option<Vec<&'b Sealed<'a>>> {
    let queue = runs.first()?.1.run.queue.as_ref();
    // Redis decides by its own clock; what is far ahead need not be sent for that.
    let now = Timestamp::from(SystemTime::now());
    let is_plain = |(_, pushed, envelope): &&Sealed<'_>| {
        let Pushed { run, priority, alone, .. } = pushed;
        let is_usual = *priority == Priority::default().level() && run.queue.as_ref() == queue;
        is_usual && pushed.due <= now && !alone && !run.state.is_end() && envelope.len() <= INLINE
    };
    runs.iter().all(|sealed| is_plain(&sealed)).then(|| runs.iter().collect())
}

/// Writes runs that are in the order in which they are due.
fn describe(call: &mut Cmd, runs: &[&Sealed<'_>], batch: u64) {
    let due = |sealed: Option<&&Sealed<'_>>| sealed.map_or(0, |(_, pushed, _)| pushed.due.as_millis());
    call.arg(called(runs.first().and_then(|(_, pushed, _)| pushed.run.queue.as_ref())));
    call.arg(due(runs.first())).arg(due(runs.last()));
    let mut tasks: Vec<(&Name, usize)> = Vec::new();
    for (_, Pushed { run, .. }, _) in runs {
        match tasks.iter_mut().find(|(task, _)| **task == run.task) {
            Some((_, count)) => *count += 1,
            None => tasks.push((&run.task, 1)),
        }
    }
    call.arg(tasks.len());
    for (task, count) in tasks {
        call.arg(task.as_str()).arg(count);
    }
    call.arg(runs.len());
    let number = &batch.to_be_bytes()[8 - NUMBER..];
    let begin = [&redis_row::head(FRESH, 0, 0, None), number].concat();
    let mut packed = Vec::with_capacity(512);
    let mut members = Vec::with_capacity(runs.len());
    for (place, (_, pushed, envelope)) in runs.iter().enumerate() {
        // A call adds at most a thousand.
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        let id = pushed.run.id.to_string();
        packed.clear();
        packed.extend(&begin);
        packed.extend(redis_row::tail(pushed, place, false));
        packed.extend(envelope.bytes());
        call.arg(&id).arg(packed.as_slice());
        members.push((place, id));
    }
    for (place, id) in members {
        packed.clear();
        packed.extend(number);
        packed.extend(place.to_be_bytes());
        packed.extend(id.bytes());
        call.arg(packed.as_slice());
    }
}
