//! Rows about what daemons find of others: a data folder that another one holds, and runs that another version wrote.

use std::time::Duration;

use anyhow::Result;

use crate::faults::beat::Beat;
use crate::faults::settled::{Attempts, ends_well, settle};
use crate::faults::trial::Trial;

/// A second daemon on the same data folder is refused, until the first one is gone.
pub(crate) fn shared(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(40, 100));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;
    let mut first = trial.first_daemon("one", &beat)?;
    let mut codes = Vec::new();
    for _ in 0..3 {
        // Its log would begin within the first one's.
        let mut second = trial.start(trial.daemon_command("one"), "second")?;
        let status = second.wait()?;
        let is_named =
            second.log().contains("data_dir/in_use") && second.log().contains(&first.pid().to_string());
        codes.push(status.code());
        trial.must(status.code() == Some(5) && is_named, || {
            format!("the second ended with {status}; {}", second.last_words())
        });
    }
    let is_alive = first.is_alive();
    trial.must(is_alive, || format!("the first one has ended; {}", first.last_words()));
    let pid = first.pid();
    first.kill()?;
    let mut heir = trial.start(trial.daemon_command("one"), "heir")?;
    let has_started = trial.until(Duration::from_secs(20), |_| heir.has_started());
    trial.injected(format!(
        "three more daemons on the data folder of process {pid}; then kill -9 of that one"
    ));
    trial.expected(
        "they end with exit code 5 and name it; once it is gone the next one starts; each fire once",
    );
    trial.counted(format!("exit codes {codes:?}; after the kill one has started: {has_started}"));
    trial.must(has_started, || format!("nobody starts after the kill; {}", heir.last_words()));
    settle(trial, &beat, Attempts::Counted)?;
    ends_well(trial, &mut heir)
}
