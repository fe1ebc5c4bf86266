//! Which late runs of the engine's schedules still run. Pure.
//!
//! An engine runs whatever it has, however late. A run that no worker has fetched long after its time is a misfire,
//! and the policy of its task says what becomes of it.

use std::time::Duration;

use scheduler_core::{Misfire, MisfirePolicy, Timestamp};

/// A run that waits no longer than this is merely late.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// The fires that do not run, of those that are late.
pub(crate) fn left_out(misfire: &Misfire, late: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let mut late = late.to_vec();
    late.sort_unstable();
    let keep = match misfire.policy {
        MisfirePolicy::Skip => 0,
        MisfirePolicy::Latest => 1,
        MisfirePolicy::All => usize::try_from(misfire.max.get()).unwrap_or(usize::MAX),
    };
    let newest_kept = late.len().saturating_sub(keep);
    let is_missed = |fire: &Timestamp| now.since(*fire) > GRACE;
    let is_too_late = |fire: Timestamp| misfire.max_lateness.is_some_and(|max| now.since(fire) > max);
    let superseded = |(at, fire): (usize, &Timestamp)| at < newest_kept || is_too_late(*fire);
    late.iter()
        .enumerate()
        .filter(|(at, fire)| is_missed(fire) && superseded((*at, fire)))
        .map(|(_, fire)| *fire)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    #[test]
    fn late_runs_follow_the_policy_of_their_task() {
        let misfire = |policy| Misfire { policy, ..Misfire::default() };
        let late = [at(1), at(2), at(3), at(10)];
        let bounded = Misfire { max: 2.try_into().unwrap(), ..misfire(MisfirePolicy::All) };
        let recent = Misfire { max_lateness: Some(Duration::from_secs(480)), ..misfire(MisfirePolicy::All) };
        let cases: &[(Misfire, &[Timestamp])] = &[
            // The newest is merely late, and so no misfire.
            (misfire(MisfirePolicy::Skip), &[at(1), at(2), at(3)]),
            (misfire(MisfirePolicy::Latest), &[at(1), at(2), at(3)]),
            (misfire(MisfirePolicy::All), &[]),
            (bounded, &[at(1), at(2)]),
            (recent, &[at(1), at(2)]),
        ];
        for (misfire, expected) in cases {
            assert_eq!(left_out(misfire, &late, at(11)), *expected, "{misfire:?}");
        }
        assert_eq!(left_out(&misfire(MisfirePolicy::Skip), &late, at(20)).len(), 4);
        assert_eq!(left_out(&misfire(MisfirePolicy::Latest), &late, at(20)).len(), 3);
    }
}
