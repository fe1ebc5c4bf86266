//! What follows an attempt: the retry policy and the verdict, both pure.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;

use crate::characteristics::words;
use crate::job::Wish;
use crate::{AttemptEnd, CancelReason, ErrorKind, JobError, Output, Tier};

/// The shortest snooze; a job that snoozes for nothing would otherwise spin.
pub const MIN_SNOOZE: Duration = Duration::from_millis(100);

words! {
    /// How the wait between attempts grows.
    Backoff {
        /// Doubles with each attempt.
        Exponential = "exponential",
        /// Grows by the initial wait with each attempt.
        Linear = "linear",
        /// Stays the same.
        Constant = "constant",
    }
}

/// How often and how fast a failed run is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RetryPolicy {
    /// Attempts in all; left out, the tier's default counts: local 1, queue 5, workflow 1.
    pub max_attempts: Option<NonZeroU32>,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The wait before the second attempt. Ten seconds unless set.
    pub initial: Duration,
    /// The longest wait. Ten minutes unless set.
    pub max: Duration,
    /// Whether each wait is drawn from the upper half of what the backoff gives. On unless set.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: None,
            backoff: Backoff::Exponential,
            initial: Duration::from_secs(10),
            max: Duration::from_secs(600),
            jitter: true,
        }
    }
}

impl RetryPolicy {
    /// Attempts in all on `tier`.
    pub fn attempts_on(&self, tier: Tier) -> u32 {
        let default = match tier {
            Tier::Local | Tier::Workflow => 1,
            Tier::Queue => 5,
        };
        self.max_attempts.map_or(default, NonZeroU32::get)
    }

    /// The wait after `attempt` (from 1) failed. `seed` fixes the jitter, so that the same run gives the same
    /// waits; "equal jitter" of Brooker, "Exponential Backoff And Jitter" (AWS, 2015).
    pub fn wait_after(&self, attempt: u32, seed: u64) -> Duration {
        let factor = match self.backoff {
            Backoff::Constant => 1,
            Backoff::Linear => attempt.max(1),
            Backoff::Exponential => 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX),
        };
        let wait = self.initial.saturating_mul(factor).min(self.max);
        if !self.jitter {
            return wait;
        }
        let share = spread(seed, u64::from(attempt));
        (wait / 2 + wait.mul_f64(0.5 * share)).min(wait)
    }
}

/// What a backend does after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The run succeeded with this output.
    Succeed(Output),
    /// The attempt failed for this reason; try again after this wait.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Why the attempt failed.
        error: String,
    },
    /// Try again after this wait, without spending the attempt.
    Snooze {
        /// How long to wait.
        after: Duration,
    },
    /// The run failed for this reason.
    Fail {
        /// Why.
        error: String,
    },
    /// The run was ended from outside.
    Cancel(CancelReason),
}

/// Decides what follows the end of attempt number `attempt` of at most `max_attempts`.
pub fn verdict(end: AttemptEnd, policy: &RetryPolicy, attempt: u32, max_attempts: u32, seed: u64) -> Verdict {
    let again = |error: String| {
        if attempt < max_attempts {
            Verdict::Retry { after: policy.wait_after(attempt, seed), error }
        } else {
            Verdict::Fail { error }
        }
    };
    match end {
        AttemptEnd::Succeeded(output) => Verdict::Succeed(output),
        AttemptEnd::Cancelled { reason, .. } => Verdict::Cancel(reason),
        AttemptEnd::TimedOut { limit, .. } => again(format!("timed out after {limit:?}")),
        AttemptEnd::Panicked(message) => again(format!("panicked: {message}")),
        AttemptEnd::Failed(error) => match error.wish() {
            Wish::Snooze(delay) => Verdict::Snooze { after: delay.max(MIN_SNOOZE) },
            Wish::Abort => Verdict::Fail { error: error.to_string() },
            Wish::Retry if is_permanent(&error) => Verdict::Fail { error: error.to_string() },
            Wish::Retry => again(error.to_string()),
        },
    }
}

/// Whether one of our own errors in the chain says that the same call fails again.
fn is_permanent(error: &JobError) -> bool {
    // An unexpected error may well pass, a wrong input does not.
    error.own_cause().is_some_and(|own| !own.is_transient() && own.kind() != ErrorKind::Unexpected)
}

/// A number in 0..1 that `seed` and `step` fix (the finaliser of SplitMix64, Steele et al. 2014).
pub(crate) fn spread(seed: u64, step: u64) -> f64 {
    let mut z = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use proptest::prelude::*;

    fn plain(backoff: Backoff) -> RetryPolicy {
        RetryPolicy { backoff, jitter: false, max: Duration::from_secs(50), ..RetryPolicy::default() }
    }

    #[test]
    fn each_backoff_grows_as_named_up_to_the_longest_wait() {
        let seconds =
            |backoff| (1..=4).map(|n| plain(backoff).wait_after(n, 0).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(Backoff::Constant), [10, 10, 10, 10]);
        assert_eq!(seconds(Backoff::Linear), [10, 20, 30, 40]);
        assert_eq!(seconds(Backoff::Exponential), [10, 20, 40, 50]);
    }

    #[test]
    fn the_verdict_follows_the_end_of_the_attempt() {
        let policy = plain(Backoff::Constant);
        let failed = |error| AttemptEnd::Failed(error);
        let own = |error: Error| failed(JobError::from(error));
        let wait = Duration::from_secs(10);
        let cases = [
            (failed(JobError::retry("e")), 1, Verdict::Retry { after: wait, error: "e".into() }),
            (failed(JobError::retry("e")), 3, Verdict::Fail { error: "e".into() }),
            (failed(JobError::abort("e")), 1, Verdict::Fail { error: "e".into() }),
            (failed(JobError::snooze(wait)), 3, Verdict::Snooze { after: wait }),
            (failed(JobError::snooze(Duration::ZERO)), 1, Verdict::Snooze { after: MIN_SNOOZE }),
            (own(Error::invalid("a/b", "e")), 1, Verdict::Fail { error: "e".into() }),
            (own(Error::unavailable("a/b", "e")), 1, Verdict::Retry { after: wait, error: "e".into() }),
            (
                AttemptEnd::Panicked("e".into()),
                1,
                Verdict::Retry { after: wait, error: "panicked: e".into() },
            ),
            (
                AttemptEnd::TimedOut { limit: wait, output: Output::Null },
                3,
                Verdict::Fail { error: "timed out after 10s".into() },
            ),
            (
                AttemptEnd::Cancelled { reason: CancelReason::Shutdown, output: Output::Null },
                1,
                Verdict::Cancel(CancelReason::Shutdown),
            ),
        ];
        for (end, attempt, expected) in cases {
            assert_eq!(verdict(end, &policy, attempt, 3, 0), expected);
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_in_the_upper_half_and_nothing_overflows(attempt: u32, seed: u64, initial: u32, max: u32) {
            let (initial, max) = (Duration::from_millis(initial.into()), Duration::from_millis(max.into()));
            let policy = RetryPolicy { initial, max, ..RetryPolicy::default() };
            let whole = RetryPolicy { jitter: false, ..policy.clone() }.wait_after(attempt, seed);
            let wait = policy.wait_after(attempt, seed);
            prop_assert!(wait <= whole && whole <= max && wait >= whole / 2);
        }
    }
}
