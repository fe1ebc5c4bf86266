//! What a claim finds, told in one row: a row for each run would wake whoever waits for them once for each.

use std::borrow::Cow;

use scheduler_core::{Name, Run, RunId, Timestamp};
use sqlx::sqlite::SqliteRow;

use crate::envelope::{self, Indexed};
use crate::sqlite_row::{integer, read, shown};

/// How long an envelope may be that is told beside others, in bytes.
macro_rules! longest {
    () => {
        "4096"
    };
}
pub(crate) use longest;

/// What a [`Told`] is read from, as one value.
macro_rules! told {
    () => {
        concat!(
            "json_array(seq, id, task, state, attempt, max_attempts, due, fire_time, finished, queue, \
             CASE WHEN octet_length(envelope) <= ",
            longest!(),
            " THEN envelope END)"
        )
    };
}
pub(crate) use told;

/// A run that may be taken, as far as it can be read.
#[derive(Debug)]
pub(crate) struct ReadyRun {
    pub(crate) seq: i64,
    pub(crate) max_attempts: u32,
    pub(crate) run: Result<Run, Box<Run>>,
}

impl ReadyRun {
    pub(crate) fn of(row: &SqliteRow, backend: &Name) -> Self {
        Self {
            seq: integer(row, "seq").unwrap_or_default(),
            max_attempts: integer(row, "max_attempts").unwrap_or(1),
            run: read(row, backend),
        }
    }
}

type Told<'a> =
    (i64, &'a str, &'a str, i64, u32, u32, i64, i64, Option<i64>, Option<&'a str>, Option<Cow<'a, str>>);

/// The runs that were told of; nothing if there is anything about one of them that is out of the ordinary, and that
/// whoever reads row by row has an answer to.
pub(crate) fn runs(text: &str, backend: &Name) -> Option<Vec<ReadyRun>> {
    let told: Vec<Told<'_>> = serde_json::from_str(text).ok()?;
    told.into_iter().map(|told| ready(told, backend)).collect()
}

fn ready(told: Told<'_>, backend: &Name) -> Option<ReadyRun> {
    let (seq, id, task, state, attempt, max_attempts, due, fire_time, finished, queue, envelope) = told;
    let id: RunId = id.parse().ok()?;
    let fire = Timestamp::from_millis(fire_time);
    if id.as_u128() >> 80 == 0 || fire.as_millis() != fire_time || fire == Timestamp::MIN {
        return None;
    }
    let indexed = Indexed {
        id,
        task: Name::new(task).ok()?,
        queue: queue.map(Name::new).transpose().ok()?,
        state: shown(state)?,
        attempt,
        fire_time: fire,
        due: Timestamp::from_millis(due),
        finished: finished.map(Timestamp::from_millis),
    };
    let run = envelope::open(indexed, envelope.as_deref()?, backend).ok()?;
    Some(ReadyRun { seq, max_attempts, run: Ok(run) })
}
