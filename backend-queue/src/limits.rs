//! The limits of a queue: how many of its runs are under way at once, and how many begin in a time, as a whole and for
//! each value of a parameter. They are kept by the store, at the claim, over all processes.
//!
//! A rate is kept by the time from which on the next run may begin. Who comes earlier keeps its place where the rate is
//! that of the queue as a whole, and else waits in the line of its key, so it stands in nobody's way. A slot that comes
//! goes to the first in line; how late that begins moves no other, up to a second.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(feature = "sqlite", test))]
use scheduler_core::Run;
use scheduler_core::{ArgsError, Name, Overlap, Spelled, Task, Warning};
use schemars::JsonSchema;
use serde::Deserialize;
#[cfg(any(feature = "sqlite", test))]
use serde_json::Value;

use crate::config::{QueueSettings, default_queue};

/// How late a run that waited for its slot may begin and still have it. Later, because nobody took runs, what was
/// missed is lost. The scripts of Redis have these figures too.
#[cfg(any(feature = "sqlite", test))]
pub(crate) const GOOD: Duration = Duration::from_secs(1);
/// How long a run waits in line at most before it is looked at again, should nobody let it go on.
#[cfg(any(feature = "sqlite", test))]
pub(crate) const IN_LINE: Duration = Duration::from_secs(90);
/// The longest value by which runs are told apart, in characters.
#[cfg(any(feature = "sqlite", test))]
pub(crate) const LONGEST_KEY: usize = 200;

/// The longest time that a rate is of, and the most that may begin together.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
const LARGEST_BURST: u32 = 1_000_000;

/// How many runs begin in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rate {
    /// So many.
    pub runs: NonZeroU32,
    /// In this time. 1 second by default.
    #[serde(with = "crate::config::duration", default = "second")]
    #[schemars(schema_with = "crate::config::duration_schema")]
    pub per: Duration,
    /// How many may begin together after a time of rest. 1 by default, which spaces them evenly.
    #[serde(default = "one")]
    pub burst: NonZeroU32,
}

/// Limits that hold for each value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PerKey {
    /// The parameter by which runs are told apart. Those without it are told apart from the others only.
    pub param: String,
    /// How many runs of one value are under way at once; no limit unless set.
    #[serde(default)]
    pub concurrency: Option<NonZeroU32>,
    /// How many runs of one value begin in a time; no limit unless set.
    #[serde(default)]
    pub rate: Option<Rate>,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// A rate as a store keeps it, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// From one slot to the next.
    pub(crate) interval: i64,
    /// How much earlier than its slot a run may begin.
    pub(crate) tolerance: i64,
}

impl Pace {
    fn of(rate: &Rate) -> Self {
        let interval = (rate.per.as_micros() / u128::from(rate.runs.get())).max(1);
        let interval = i64::try_from(interval).unwrap_or(i64::MAX >> 16);
        Self { interval, tolerance: interval.saturating_mul(i64::from(rate.burst.get() - 1)) }
    }
}

/// The limits of one queue, as a store keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) concurrency: Option<u32>,
    pub(crate) pace: Option<Pace>,
    pub(crate) per_key: Option<ByKey>,
}

/// Those that hold for each value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByKey {
    pub(crate) param: String,
    pub(crate) concurrency: Option<u32>,
    pub(crate) pace: Option<Pace>,
}

impl Limits {
    /// Those of a queue, if it has any.
    pub(crate) fn of(settings: &QueueSettings) -> Option<Arc<Self>> {
        let limits = Self {
            concurrency: settings.concurrency.map(NonZeroU32::get),
            pace: settings.rate.as_ref().map(Pace::of),
            per_key: settings.per_key.as_ref().map(|by| ByKey {
                param: by.param.clone(),
                concurrency: by.concurrency.map(NonZeroU32::get),
                pace: by.rate.as_ref().map(Pace::of),
            }),
        };
        let is_limited = limits.concurrency.is_some() || limits.pace.is_some() || limits.per_key.is_some();
        is_limited.then(|| Arc::new(limits))
    }
}

/// The value by which a run is told apart.
#[cfg(any(feature = "sqlite", test))]
pub(crate) fn key_of(run: &Run, param: &str) -> String {
    let text = match run.params.get(param) {
        None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().take(LONGEST_KEY).collect()
}

/// Says of a task that is asked for and takes turns that one key waits for another, whatever the limits of each are.
pub(crate) fn turns_by_key(queues: &BTreeMap<Name, QueueSettings>, task: &Task) -> Option<Warning> {
    let name = task.queue.clone().unwrap_or_else(default_queue);
    let param = &queues.get(&name)?.per_key.as_ref()?.param;
    let takes_turns = match task.overlap {
        Overlap::Skip | Overlap::Queue => task.trigger.is_none(),
        Overlap::CancelOther | Overlap::Allow => false,
    };
    takes_turns.then(|| {
        let message = format!(
            "its runs take turns, so that those of one `{param}` wait for those of another although queue `{name}` has \
             limits for each; set overlap = \"allow\""
        );
        Warning::new("queue/takes_turns", message)
    })
}

/// What is wrong with the settings of a queue.
pub(crate) fn faults(queues: &BTreeMap<Name, QueueSettings>) -> Vec<ArgsError> {
    let mut faults = Vec::new();
    for (name, queue) in queues {
        let per_key = queue.per_key.as_ref();
        let rates = [("", queue.rate.as_ref()), ("/per_key", per_key.and_then(|by| by.rate.as_ref()))];
        for (within, rate) in rates.into_iter().filter_map(|(within, rate)| Some((within, rate?))) {
            let place = format!("/queues/{name}{within}/rate");
            if rate.per.is_zero() || rate.per > LONGEST {
                let message = format!("{} is not between 1ms and 31d", Spelled(rate.per));
                faults.push(ArgsError::new(format!("{place}/per"), message));
            }
            if rate.burst.get() > LARGEST_BURST {
                let message = format!("{} is more than {LARGEST_BURST}", rate.burst);
                faults.push(ArgsError::new(format!("{place}/burst"), message));
            }
        }
        if per_key.is_some_and(|by| by.concurrency.is_none() && by.rate.is_none()) {
            let fault = ArgsError::new(format!("/queues/{name}/per_key"), "it limits nothing");
            faults.push(fault.with_help("write a rate, or concurrency"));
        }
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        if let Some(by) = per_key.filter(|by| by.param.is_empty() || !by.param.chars().all(is_plain)) {
            let message =
                format!("`{}` is not of letters, digits, `_`, `-` and `.`", by.param.escape_debug());
            faults.push(ArgsError::new(format!("/queues/{name}/per_key/param"), message));
        }
    }
    faults
}

/// The limits of a queue in words, for people.
pub(crate) fn words(settings: &QueueSettings) -> Vec<String> {
    let rate = |rate: &Rate| {
        let burst = if rate.burst.get() > 1 { format!(", {} at once", rate.burst) } else { String::new() };
        format!("{} in {}{burst}", rate.runs, Spelled(rate.per))
    };
    let concurrency = settings.concurrency.map(|most| format!("{most} under way"));
    let whole = concurrency.into_iter().chain(settings.rate.as_ref().map(rate));
    let by_key = settings.per_key.iter().flat_map(|by| {
        let most = by.concurrency.map(|most| format!("{most} under way"));
        most.into_iter().chain(by.rate.as_ref().map(rate)).map(|word| format!("{word} by {}", by.param))
    });
    whole.chain(by_key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_asked_for_and_takes_turns_is_warned_of_limits_by_key() {
        let (name, per) = (|text: &str| Name::new(text).unwrap(), Duration::from_secs(1));
        let rate = Rate { runs: NonZeroU32::MIN, per, burst: NonZeroU32::MIN };
        let per_key = PerKey { param: "customer".into(), concurrency: None, rate: Some(rate) };
        let settings = |per_key, rate| QueueSettings { per_key, rate, ..QueueSettings::default() };
        let by_key = BTreeMap::from([
            (name("mail"), settings(Some(per_key), None)),
            (name("bulk"), settings(None, Some(rate))),
        ]);
        let task = |queue: Option<&str>, overlap| {
            let mut task = Task::new(name("t"), name("job"));
            (task.queue, task.overlap) = (queue.map(name), overlap);
            task
        };

        let told = turns_by_key(&by_key, &task(Some("mail"), Overlap::Skip)).unwrap();
        assert!(
            told.message.contains("of one `customer` wait") && told.message.contains("`mail`"),
            "{told:?}"
        );
        let mut fired = task(Some("mail"), Overlap::Skip);
        fired.trigger = Some(scheduler_core::Trigger::cron("0 * * * *", "UTC").unwrap());
        for plain in [
            fired,
            task(Some("mail"), Overlap::Allow),
            task(Some("bulk"), Overlap::Skip),
            task(None, Overlap::Skip),
        ] {
            assert_eq!(turns_by_key(&by_key, &plain), None, "{plain:?}");
        }
    }

    #[test]
    fn a_rate_is_spread_evenly_over_its_time() {
        let rate = |runs, per, burst| Rate {
            runs: NonZeroU32::new(runs).unwrap(),
            per,
            burst: NonZeroU32::new(burst).unwrap(),
        };
        let second = Duration::from_secs(1);
        assert_eq!(Pace::of(&rate(10, second, 1)), Pace { interval: 100_000, tolerance: 0 });
        assert_eq!(Pace::of(&rate(3, second, 4)), Pace { interval: 333_333, tolerance: 999_999 });
        assert_eq!(Pace::of(&rate(u32::MAX, Duration::from_millis(1), 1)).interval, 1);
        assert_eq!(Pace::of(&rate(1, LONGEST, LARGEST_BURST)).tolerance, 2_678_400_000_000 * 999_999);
    }

    #[test]
    fn a_rate_that_cannot_be_kept_is_told_with_its_place() {
        let section = serde_json::json!({"queues": {
            "a": {"rate": {"runs": 1, "per": "32d"}},
            "b": {"per_key": {"param": "a b", "rate": {"runs": 1, "per": "0s", "burst": 1_000_001}}},
            "c": {"rate": {"runs": 1}, "per_key": {"param": "c", "rate": {"runs": 1}}, "concurrency": 1},
        }});
        let faults = crate::QueueConfig::from_value(&section).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        let of_b = ["/queues/b/per_key/rate/per", "/queues/b/per_key/rate/burst", "/queues/b/per_key/param"];
        assert_eq!(places, [&["/queues/a/rate/per"][..], &of_b].concat(), "all limits go together");
    }
}
