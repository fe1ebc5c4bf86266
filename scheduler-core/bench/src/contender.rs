//! What is measured: something that reads an expression in a zone and names the next time.

use scheduler_core::Timestamp;
use scheduler_core::cron::Cron;

/// The zones in which a contender is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Berlin,
    Utc,
}

impl Zone {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Berlin => "Europe/Berlin",
            Self::Utc => "UTC",
        }
    }
}

/// A cron engine.
pub(crate) trait Contender {
    const NAME: &'static str;
    const VERSION: &'static str;
    type Rule;

    /// Reads an expression of five fields; `None` where it is refused.
    fn parse(expression: &str, zone: Zone) -> Option<Self::Rule>;

    /// The first time after `after`; both are seconds.
    fn next(rule: &Self::Rule, after: i64) -> Option<i64>;
}

/// The engine of scheduler-core.
#[derive(Debug)]
pub(crate) struct Ours;

impl Contender for Ours {
    const NAME: &'static str = "scheduler-core";
    const VERSION: &'static str = "0.1.0";
    type Rule = Cron;

    fn parse(expression: &str, zone: Zone) -> Option<Cron> {
        Cron::parse(expression, zone.name(), "").ok()
    }

    fn next(rule: &Cron, after: i64) -> Option<i64> {
        rule.next_after(Timestamp::from_millis(after * 1_000)).map(|next| next.as_millis() / 1_000)
    }
}
