//! A run as a row: what its columns say, and what is made of one that cannot be read.
//!
//! Every value is read as if anybody could have written it. A row with one that is out of range is a failed run
//! that says so; the queue ends it and goes on.

use std::fmt::Display;

use scheduler_core::{Name, Run, RunId, RunState, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::envelope::{self, Indexed};

/// The states, as numbers, so that an index can hold one kind of them: below [`READY`] a run waits for its
/// time, above [`RUNNING`] but for [`HELD`] it has ended.
pub(crate) const SCHEDULED: i64 = 0;
pub(crate) const RETRYING: i64 = 1;
pub(crate) const SNOOZED: i64 = 2;
pub(crate) const READY: i64 = 3;
pub(crate) const RUNNING: i64 = 4;
/// It waits for its turn: until the runs of its task before it have ended.
pub(crate) const HELD: i64 = 5;
pub(crate) const SUCCEEDED: i64 = 10;
pub(crate) const FAILED: i64 = 11;
pub(crate) const CANCELLED: i64 = 12;
pub(crate) const SKIPPED: i64 = 13;

/// Everything that a run is read from.
macro_rules! columns {
    () => {
        "seq, id, task, state, attempt, max_attempts, due, fire_time, finished, envelope, queue"
    };
}
pub(crate) use columns;

/// The run in a row.
///
/// # Errors
/// The run without what could not be read, failed, saying why.
pub(crate) fn read(row: &SqliteRow, backend: &Name) -> Result<Run, Box<Run>> {
    let id = id(row);
    let task = text(row, "task").and_then(|task| Name::new(task).map_err(|error| error.to_string()));
    let queue: Result<Option<&str>, String> =
        row.try_get("queue").map_err(|_| unreadable("queue", "no text"));
    let queue = queue.and_then(|queue| queue.map(Name::new).transpose().map_err(|error| error.to_string()));
    let state = integer(row, "state").and_then(|state| shown(state).ok_or(format!("its state is {state}")));
    let attempt = integer(row, "attempt");
    let fire_time = fire_time(row);
    let finished: Option<i64> = row.try_get("finished").unwrap_or_default();
    let indexed = Indexed {
        id: *id.as_ref().unwrap_or(&made_up(row)),
        // It stands for a name that cannot be shown.
        task: task.clone().unwrap_or_else(|_| backend.clone()),
        queue: queue.clone().unwrap_or_default(),
        state: *state.as_ref().unwrap_or(&RunState::Failed),
        attempt: *attempt.as_ref().unwrap_or(&0),
        fire_time: *fire_time.as_ref().unwrap_or(&Timestamp::MIN),
        due: Timestamp::from_millis(row.try_get("due").unwrap_or_default()),
        finished: finished.map(Timestamp::from_millis),
    };
    let max_attempts = integer::<u32>(row, "max_attempts");
    let faults =
        [id.err(), task.err(), queue.err(), state.err(), attempt.err(), fire_time.err(), max_attempts.err()];
    match (faults.into_iter().flatten().next(), text(row, "envelope")) {
        (None, Ok(envelope)) => envelope::open(indexed, envelope, backend),
        (Some(fault), _) | (None, Err(fault)) => Err(envelope::unreadable(indexed, &fault, backend)),
    }
}

/// A whole number, if it is one and in range.
///
/// # Errors
/// Says what is there instead.
pub(crate) fn integer<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, String> {
    // Without the option nothing at all would be read as zero.
    let value: Option<i64> = row.try_get(column).map_err(|_| unreadable(column, "no whole number"))?;
    let value = value.ok_or_else(|| unreadable(column, "missing"))?;
    T::try_from(value).map_err(|_| unreadable(column, value))
}

/// A text, if it is one.
///
/// # Errors
/// Says that it is not.
pub(crate) fn text<'r>(row: &'r SqliteRow, column: &str) -> Result<&'r str, String> {
    row.try_get(column).map_err(|_| unreadable(column, "no text"))
}

/// What of a text can be shown, if there is one.
pub(crate) fn lossy(row: &SqliteRow, column: &str) -> Option<String> {
    let bytes: Option<&[u8]> = row.try_get_unchecked(column).ok()?;
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn unreadable(column: &str, found: impl Display) -> String {
    format!("its {column} is {found}")
}

/// The fire time; the earliest instant of all stands for one that could not be read.
fn fire_time(row: &SqliteRow) -> Result<Timestamp, String> {
    let millis: i64 = integer(row, "fire_time")?;
    let instant = Timestamp::from_millis(millis);
    let is_real = instant.as_millis() == millis && instant > Timestamp::MIN;
    if is_real { Ok(instant) } else { Err("its fire_time could not be read".to_owned()) }
}

/// The id of a run.
///
/// # Errors
/// Says that it cannot be read.
pub(crate) fn id(row: &SqliteRow) -> Result<RunId, String> {
    let id: RunId = text(row, "id")?.parse().map_err(|error: scheduler_core::Error| error.to_string())?;
    // No run of ours is from the first millisecond of 1970, and a hash that begins with 48 zeros does not happen.
    if id.as_u128() >> 80 == 0 { Err("its id could not be read".to_owned()) } else { Ok(id) }
}

/// What a run is called whose id cannot be read, so that it can be shown and discarded: its place in the file,
/// sixteen hexadecimal digits in the low 80 bits.
pub(crate) fn made_up(row: &SqliteRow) -> RunId {
    let seq: i64 = row.try_get("seq").unwrap_or_default();
    format!("{seq:026x}").parse().unwrap_or_else(|_| RunId::manual(Timestamp::default()))
}

/// The number of a state that says all there is to say.
pub(crate) fn stored(state: RunState) -> i64 {
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

/// The numbers that are shown as a state.
pub(crate) fn numbers(state: RunState) -> &'static [i64] {
    match state {
        RunState::Scheduled => &[SCHEDULED],
        RunState::Retrying => &[RETRYING],
        RunState::Queued => &[SNOOZED, READY, HELD],
        RunState::Running => &[RUNNING],
        RunState::Succeeded => &[SUCCEEDED],
        RunState::Failed => &[FAILED],
        RunState::Cancelled => &[CANCELLED],
        RunState::Skipped => &[SKIPPED],
    }
}

/// The state that a number is shown as.
pub(crate) fn shown(number: i64) -> Option<RunState> {
    RunState::ALL.iter().copied().find(|state| numbers(*state).contains(&number))
}
