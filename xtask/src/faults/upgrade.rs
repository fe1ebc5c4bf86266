//! The row of what another version of the program wrote: runs that wait, and on SQLite the file as its first version kept it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::account::TooSlow;
use crate::faults::beat::Beat;
use crate::faults::file::sql;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::poison::{self, AHEAD, Poison, VICTIM};
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{Store, Trial};

/// The tables of the first version.
const FIRST: &str = "
CREATE TABLE first.run (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, namespace TEXT NOT NULL, task TEXT NOT NULL,
    state INTEGER NOT NULL, priority INTEGER NOT NULL, due INTEGER NOT NULL, fire_time INTEGER NOT NULL,
    attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL, fence INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0, cancel TEXT, alone INTEGER NOT NULL, finished INTEGER,
    envelope TEXT NOT NULL) STRICT;
CREATE INDEX first.run_delayed ON run (namespace, due) WHERE state < 3;
CREATE INDEX first.run_ready ON run (namespace, priority DESC, due, seq) WHERE state = 3;
CREATE INDEX first.run_held ON run (namespace, task, seq) WHERE state = 5;
CREATE INDEX first.run_leased ON run (namespace, lease_until) WHERE state = 4;
CREATE INDEX first.run_live ON run (namespace, task) WHERE state < 10;
CREATE INDEX first.run_ended ON run (namespace, finished) WHERE state >= 10;
CREATE INDEX first.run_shown ON run (namespace, fire_time DESC, id DESC);
CREATE INDEX first.run_shown_of_task ON run (namespace, task, fire_time DESC, id DESC);
CREATE TABLE first.schedule (namespace TEXT NOT NULL, task TEXT NOT NULL, revision INTEGER NOT NULL,
    definition TEXT NOT NULL, decided INTEGER NOT NULL, served_since INTEGER NOT NULL, served_until INTEGER NOT NULL,
    runs INTEGER NOT NULL, finished INTEGER, paused TEXT, PRIMARY KEY (namespace, task)) STRICT, WITHOUT ROWID;
CREATE TABLE first.meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT;
PRAGMA first.user_version = 1;
";

const RUN: &str = "seq, id, namespace, task, state, priority, due, fire_time, attempt, max_attempts, fence, lease_until, \
    cancel, alone, finished, envelope";

const SCHEDULE: &str =
    "namespace, task, revision, definition, decided, served_since, served_until, runs, finished, paused";

/// What another version may have written of a run that waits: less than this one, or more.
const ENVELOPES: [&str; 4] = [
    r#"{"v":1}"#,
    r#"{"v":0}"#,
    r#"{"v":1,"origin":"manual","params":{"a":1}}"#,
    r#"{"v":1,"of_a_later_version":{"a":[1,2]}}"#,
];

/// Two daemons start at once on what another version left.
pub(crate) fn older(trial: &mut Trial<'_>) -> Result<()> {
    const RUNS: usize = 12;
    let beat = Beat::soon(trial, "beat", 200, 30);
    let tasks = [trial.task(beat.task, "sleep 0.05", &beat.trigger()), trial.task(VICTIM, "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;
    trial.first_daemon("one", &beat)?.stop()?;
    let due = instant::now() + AHEAD.max(2 * u64::try_from(trial.lead.as_millis())?);
    let ids = poison::enqueued(trial, RUNS, due)?;
    for (id, envelope) in ids.iter().zip(ENVELOPES.iter().cycle()) {
        poison::spoil(trial, id, &Poison::Envelope(envelope.as_bytes().to_vec()))?;
    }
    let mut what = format!("{RUNS} runs that wait, as other versions write them: {}", ENVELOPES.join(" "));
    if trial.store == Store::Sqlite {
        as_the_first(trial)?;
        what.push_str("; the file has the tables of its first version");
    }
    TooSlow::unless_before(due)?;
    let mut daemons = [trial.daemon("one")?, trial.daemon("two")?];
    trial.injected(what);
    trial.expected("both daemons start and run what was there, once; the schedule goes on where it stood");
    trial.until(Duration::from_secs(30), |trial| trial.recorder.ends(VICTIM) >= RUNS);
    let count = trial.recorder.count(VICTIM);
    trial.counted(format!(
        "recorder: {} starts and {} ends of {RUNS} runs that waited",
        count.starts, count.ends
    ));
    trial.must(count.starts == RUNS && count.ends == RUNS && count.runs().len() == RUNS, || {
        format!("{} starts and {} ends of {} runs", count.starts, count.ends, count.runs().len())
    });
    settle(trial, &beat, &Attempts::Counted)?;
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}

/// Puts what the file holds into one with the tables of the first version, and that in its place.
fn as_the_first(trial: &Trial<'_>) -> Result<()> {
    let first = trial.path("first.db");
    let copied = format!(
        "ATTACH '{}' AS first;\n{FIRST}\nINSERT INTO first.run ({RUN}) SELECT {RUN} FROM main.run;\n\
         INSERT INTO first.schedule ({SCHEDULE}) SELECT {SCHEDULE} FROM main.schedule;\n\
         INSERT INTO first.meta SELECT key, value FROM main.meta WHERE key IN ('fence', 'boot');",
        first.display()
    );
    sql(&trial.file(), &copied)?;
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", trial.file().display()));
    }
    fs::rename(&first, trial.file()).context("cannot put the file in place")
}
