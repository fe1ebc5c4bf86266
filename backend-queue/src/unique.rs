//! Unique runs, as every store keeps them: a kind belongs to the run that has it, and whether that still keeps others
//! out is judged when another one is to be added. So nothing is done when a run ends, and nothing is left behind that
//! could keep others out for ever.

use scheduler_core::{Run, RunId, RunState, Timestamp, UniqueUntil};

/// Whether the run that has a kind keeps others out. `run` is where it stands: its state and its attempts, nothing where
/// history has forgotten it. `unique.lua` says the same.
#[cfg_attr(
    all(feature = "redis", not(feature = "sqlite"), not(test)),
    expect(dead_code, reason = "on Redis a script judges it")
)]
pub(crate) fn is_kept_out(
    until: Option<UniqueUntil>,
    expires: Option<Timestamp>,
    now: Timestamp,
    run: Option<(RunState, u32)>,
) -> bool {
    if expires.is_some_and(|at| at <= now) {
        return false;
    }
    let Some((state, attempt)) = run else { return until.is_none() && expires.is_some() };
    match until {
        None => !matches!(state, RunState::Failed | RunState::Cancelled | RunState::Skipped),
        Some(UniqueUntil::Done) => !state.is_end(),
        Some(UniqueUntil::Started) => !state.is_end() && attempt == 0,
    }
}

/// The skipped run that stands for a fire whose kind another run has.
pub(crate) fn skipped(run: Run, owner: RunId, now: Timestamp) -> Run {
    let mut run = run.into_skipped(now, format!("unique: run {owner} is of the same kind"));
    run.unique = None;
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_kept_as_long_as_it_says() {
        use RunState::{Cancelled, Failed, Queued, Retrying, Running, Skipped, Succeeded};
        use UniqueUntil::{Done, Started};
        let at = Timestamp::from_millis;
        let now = at(100);
        for (until, expires, run, is_kept) in [
            (Some(Done), None, Some((Queued, 0)), true),
            (Some(Done), None, Some((Retrying, 2)), true),
            (Some(Done), None, Some((Succeeded, 1)), false),
            (Some(Done), None, Some((Failed, 1)), false),
            (Some(Done), None, None, false),
            (Some(Done), Some(100), Some((Running, 1)), false),
            (Some(Done), Some(101), Some((Running, 1)), true),
            (Some(Started), None, Some((Queued, 0)), true),
            (Some(Started), None, Some((Running, 1)), false),
            (None, Some(101), Some((Succeeded, 1)), true),
            (None, Some(101), None, true),
            (None, Some(101), Some((Failed, 1)), false),
            (None, Some(101), Some((Cancelled, 0)), false),
            (None, Some(101), Some((Skipped, 0)), false),
            (None, Some(99), Some((Queued, 0)), false),
        ] {
            let seen = is_kept_out(until, expires.map(at), now, run);
            assert_eq!(seen, is_kept, "{until:?} {expires:?} {run:?}");
        }
    }
}
