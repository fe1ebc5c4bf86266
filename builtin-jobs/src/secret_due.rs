//! Whether a secret is due: by its age, or by the time before its end.

use std::time::Duration;

use scheduler_core::Timestamp;
use serde::Serialize;

/// When a secret was made and when it ends, as far as it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) created: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
}

/// From when on a secret is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_age: Duration,
    /// Whether the age counts also for a secret that says when it ends.
    pub(crate) has_own_age: bool,
    pub(crate) before_expiry: Duration,
}

/// How a secret stands, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Current,
    Due,
    Expired,
    /// It could not be read.
    Unknown,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Due => "due",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl Limits {
    /// How a secret of these dates stands, and why.
    pub(crate) fn judge(self, dates: Dates, now: Timestamp) -> (Status, String) {
        let age = dates.created.map(|created| now.since(created));
        if let Some(expires) = dates.expires {
            if expires <= now {
                return (Status::Expired, format!("it ended at {expires}"));
            }
            let left = expires.since(now);
            let life = dates.created.map(|created| expires.since(created));
            let before = life.map_or(self.before_expiry, |life| self.before_expiry.min(life / 3));
            if left <= before {
                return (Status::Due, format!("it ends in {}", days(left)));
            }
        }
        let counts = dates.expires.is_none() || self.has_own_age;
        match age {
            Some(age) if counts && age >= self.max_age => {
                (Status::Due, format!("it is {} old, and {} is the most", days(age), days(self.max_age)))
            }
            Some(age) => (Status::Current, format!("it is {} old", days(age))),
            None if dates.expires.is_some() => (Status::Current, "it has not ended".to_owned()),
            None => (Status::Unknown, "nothing says how old it is or when it ends".to_owned()),
        }
    }
}

fn days(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_due_by_its_age_or_shortly_before_its_end() {
        let day = |days: i64| Timestamp::from_millis(days * 86_400_000);
        let limits = |has_own_age| Limits {
            max_age: Duration::from_secs(90 * 86_400),
            has_own_age,
            before_expiry: Duration::from_secs(7 * 86_400),
        };
        let now = day(1_000);
        let cases = [
            (Some(911), None, false, Status::Current),
            (Some(910), None, false, Status::Due),
            (Some(2_000), None, false, Status::Current),
            (Some(800), Some(1_008), false, Status::Current),
            (Some(800), Some(1_008), true, Status::Due),
            (Some(800), Some(1_007), false, Status::Due),
            (Some(999), Some(1_005), false, Status::Current),
            (Some(996), Some(1_002), false, Status::Due),
            (None, Some(1_007), false, Status::Due),
            (None, Some(1_008), false, Status::Current),
            (Some(800), Some(1_000), false, Status::Expired),
            (None, None, false, Status::Unknown),
        ];
        for (created, expires, has_own_age, status) in cases {
            let dates = Dates { created: created.map(day), expires: expires.map(day) };
            assert_eq!(
                limits(has_own_age).judge(dates, now).0,
                status,
                "{created:?} {expires:?} {has_own_age}"
            );
        }
    }
}
