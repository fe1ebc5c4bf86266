//! A schedule whose fire times are known beforehand, because it begins and ends at chosen instants.

use anyhow::{Result, bail};

use crate::faults::account::TooSlow;
use crate::faults::daemon::{self, Daemon};
use crate::faults::instant;
use crate::faults::trial::{PATIENCE, Trial};

/// A task that fires every `period` milliseconds from `first` on, `count` times.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    pub(crate) task: &'static str,
    pub(crate) first: u64,
    pub(crate) period: u64,
    pub(crate) count: u64,
}

impl Beat {
    /// Begins as soon as a daemon can have started, which depends on how busy the machine is.
    pub(crate) fn soon(trial: &Trial<'_>, task: &'static str, period: u64, count: u64) -> Self {
        let lead = u64::try_from(trial.lead.as_millis()).unwrap_or(u64::MAX);
        Self { task, first: instant::now() + lead, period, count }
    }

    /// The same instants for another task, with another period.
    pub(crate) fn beside(&self, task: &'static str, period: u64, count: u64) -> Self {
        Self { task, period, count, ..self.clone() }
    }

    /// Waits until the first daemon knows the schedule.
    ///
    /// # Errors
    /// As [`Self::is_in_time`].
    pub(crate) fn is_known_to(&self, trial: &Trial<'_>, daemon: &Daemon) -> Result<()> {
        let is_gone = || !daemon::exists(daemon.pid());
        trial.until(PATIENCE, |_| daemon.has_started() || is_gone());
        if !daemon.has_started() && is_gone() {
            bail!("the daemon ended at its start; {}", daemon.last_words());
        }
        self.is_in_time()
    }

    /// Says whether the first fire lies ahead.
    ///
    /// # Errors
    /// [`TooSlow`] when it does not.
    pub(crate) fn is_in_time(&self) -> Result<()> {
        Ok(TooSlow::unless_before(self.first)?)
    }

    pub(crate) fn fires(&self) -> impl Iterator<Item = u64> + use<> {
        let Self { first, period, count, .. } = *self;
        (0..count).map(move |index| first + index * period)
    }

    pub(crate) fn last(&self) -> u64 {
        self.first + (self.count - 1) * self.period
    }

    /// As a configuration writes it.
    pub(crate) fn trigger(&self) -> String {
        let (start, end) = (instant::written(self.first), instant::written(self.last()));
        format!("trigger = {{ every = \"{}ms\", start = \"{start}\", end = \"{end}\" }}", self.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_knows_its_fires() {
        let beat = Beat { task: "t", first: 1_000, period: 250, count: 3 };
        assert_eq!(beat.fires().collect::<Vec<_>>(), [1_000, 1_250, 1_500]);
        assert!(beat.trigger().contains("end = \"1970-01-01T00:00:01.500Z\""), "{}", beat.trigger());
    }
}
