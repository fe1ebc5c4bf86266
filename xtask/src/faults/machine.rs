//! What a process takes of the machine, by what Linux tells of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What one process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes that are in memory now.
    pub(crate) memory: u64,
    pub(crate) threads: u64,
    /// Open files, sockets among them.
    pub(crate) files: u64,
    /// On a processor so far, its own time and that of the system for it.
    pub(crate) processor: Duration,
}

impl Usage {
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}");
        let read = |name: &str| {
            fs::read_to_string(format!("{folder}/{name}")).with_context(|| format!("process {pid} is gone"))
        };
        let (status, stat) = (read("status")?, read("stat")?);
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        // The name of the program may hold anything, a parenthesis included.
        let after_name = stat.rsplit_once(") ").context("a line of /proc names its program")?.1;
        let ticks = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
        let files = fs::read_dir(format!("{folder}/fd")).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self {
            memory: field("VmRSS") * 1024,
            threads: field("Threads"),
            files: u64::try_from(files.count())?,
            // Linux counts in hundredths of a second here, whatever its own clock does.
            processor: Duration::from_millis(ticks.sum::<u64>() * 10),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something_and_one_that_is_gone_nothing() {
        let usage = Usage::of(std::process::id()).unwrap();

        assert!(usage.memory > 1024 * 1024 && usage.threads > 0 && usage.files > 0, "{usage:?}");
        assert!(Usage::of(u32::MAX).is_err());
    }
}
