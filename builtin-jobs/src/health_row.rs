//! How one check stands after a look at it, and what is told of that.

use std::time::Duration;

use scheduler_core::Timestamp;
use serde_json::{Value, json};

use crate::health_probe::{Check, Look};
use crate::health_standing::{Standing, Status};

/// One check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) check: &'a Check,
    pub(crate) look: &'a Look,
    pub(crate) standing: &'a Standing,
    pub(crate) now: Timestamp,
}

impl Row<'_> {
    pub(crate) fn is_ill(self) -> bool {
        self.standing.status != Status::Healthy
    }

    fn lasts(self) -> Duration {
        self.now.since(self.standing.since)
    }

    pub(crate) fn told(self) -> String {
        let (name, status) = (&self.check.name, self.standing.status.as_str());
        // A status that is damped may not be the one that the latest message explains.
        let message = if self.look.found.status == Status::Healthy {
            format!("healthy again by the latest look: {}", self.look.found.message)
        } else {
            self.look.found.message.clone()
        };
        format!("{name} {status} for {} ({message})", words(self.lasts()))
    }

    /// Writes what is new to the log: a change, and what is ill at the first sight of it.
    pub(crate) fn log(self) {
        let (name, status) = (&self.check.name, self.standing.status);
        let message = &self.look.found.message;
        let Some(change) = self.standing.change else {
            if self.standing.is_new(self.now) && self.is_ill() {
                tracing::warn!("{name} is {} ({message})", status.as_str());
            }
            return;
        };
        let lasted = words(change.lasted(self.standing.since));
        let told =
            format!("{name} is {} after {lasted} {} ({message})", status.as_str(), change.from.as_str());
        if status > change.from {
            tracing::warn!("{told}");
        } else {
            tracing::info!("{told}");
        }
    }

    /// What the status was before the latest result changed it, and for how long.
    pub(crate) fn change(self) -> Option<Value> {
        let change = self.standing.change?;
        let lasted = change.lasted(self.standing.since).as_secs();
        let (name, to) = (&self.check.name, self.standing.status);
        Some(json!({"name": name, "from": change.from, "to": to, "lasted_seconds": lasted}))
    }

    pub(crate) fn shown(self) -> Value {
        json!({
            "name": self.check.name,
            "kind": self.check.kind,
            "status": self.standing.status,
            "since": self.standing.since,
            "for_seconds": self.lasts().as_secs(),
            "latest": self.look.found.status,
            "message": self.look.found.message,
            "latency_ms": u64::try_from(self.look.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// A length of time in its largest unit.
fn words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_its_largest_unit() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400, "1d"), (900_000, "10d")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }
}
