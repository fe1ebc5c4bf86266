//! What a store may have lost at a crash, and so which attempts may begin anew: a store that does not know any more that
//! it gave one out gives it out again, under the same number.
//!
//! Only that is forgiven. What was lost of the file of a row is looked up in it; of what a server had in its memory
//! nobody knows, so there the instants decide.

use std::collections::BTreeMap;

use crate::faults::instant;
use crate::faults::recorder::{Again, ROUGH};

/// How soon a job notes its start after the store has given it out, on a machine that is busy.
const SETTING_OUT: u64 = 3_000;

/// What may have happened to an attempt besides running once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempts {
    /// A server lost what it had confirmed shortly before these crashes.
    LostAt(Vec<Loss>),
    /// A store lost these, each so many times.
    Lost(BTreeMap<Attempt, usize>),
    /// A number may come again: a drain hands the attempt that it cuts off back.
    HandedBack,
    /// Each has a number of its own.
    Counted,
}

/// A run and the number of its attempt.
pub(crate) type Attempt = (String, u32);

/// A crash of a server that may lose what it had confirmed in the last moments before it, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// How long those moments are.
    window: u64,
    /// It was there before the one instant and gone after the other.
    from: u64,
    until: u64,
}

impl Loss {
    /// Lets a server crash.
    ///
    /// # Errors
    /// Those of the crash.
    pub(crate) fn by<T, E>(window: u64, crash: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let from = instant::now();
        crash()?;
        Ok(Self { window, from, until: instant::now() })
    }

    /// Whether what was confirmed then may be gone.
    pub(crate) fn may_take(&self, confirmed: u64) -> bool {
        (self.from.saturating_sub(self.window)..=self.until).contains(&confirmed)
    }

    /// Whether an attempt began anew because of it: the fire had come due before the crash, it was given out within the
    /// window and so noted its start no earlier and a moment after the crash at the latest, and again since the crash.
    fn explains(&self, again: &Again) -> bool {
        let noted = self.from.saturating_sub(self.window.saturating_add(ROUGH))..=self.until + SETTING_OUT;
        again.fire <= self.until && noted.contains(&again.before) && again.at + ROUGH >= self.from
    }
}

impl Attempts {
    /// Leaves of the starts that were one too many those that nothing explains.
    pub(crate) fn left(&self, all: Vec<Again>, are_numbers: bool) -> Vec<Again> {
        match self {
            Self::Counted => all,
            Self::HandedBack if are_numbers => Vec::new(),
            Self::HandedBack => all,
            Self::LostAt(losses) => {
                let is_unexplained = |again: &Again| !losses.iter().any(|loss| loss.explains(again));
                all.into_iter().filter(is_unexplained).collect()
            }
            Self::Lost(attempts) => {
                let mut attempts = attempts.clone();
                let is_unexplained = |again: &Again| match attempts.get_mut(&again.attempt) {
                    Some(times) if *times > 0 => {
                        *times -= 1;
                        false
                    }
                    _ => true,
                };
                all.into_iter().filter(is_unexplained).collect()
            }
        }
    }
}

/// The attempts that a store knew before something befell it and does not know afterwards, by how many each run had.
pub(crate) fn lost(before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) -> Vec<Attempt> {
    let of_run = |(run, had): (&String, &u32)| {
        let kept = after.get(run).copied().unwrap_or(0);
        (kept + 1..=*had).map(|attempt| (run.clone(), attempt)).collect::<Vec<_>>()
    };
    before.iter().flat_map(of_run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(fire: u64, before: u64, at: u64) -> Again {
        Again { fire, before, at, attempt: ("a".to_owned(), 1), what: String::new() }
    }

    #[test]
    fn a_crash_explains_what_was_given_out_within_its_window_and_again_since() {
        let loss = Loss { window: 2_000, from: 10_000, until: 10_020 };
        let cases = [
            (again(8_000, 8_000, 10_700), true, "just within the window"),
            (again(9_900, 10_300, 10_700), true, "noted a moment after the crash"),
            (again(3_000, 9_000, 10_700), true, "long overdue, and given out within the window"),
            (again(7_900, 7_980, 10_700), false, "given out before the window"),
            (again(10_021, 10_300, 10_700), false, "due after the crash"),
            (again(10_000, 13_100, 13_200), false, "given out after the crash"),
            (again(9_000, 9_100, 9_900), false, "again before the crash"),
        ];
        for (again, is_explained, what) in cases {
            let left = Attempts::LostAt(vec![loss]).left(vec![again.clone()], true);
            assert_eq!(left.is_empty(), is_explained, "{what}");
            assert_eq!(Attempts::Counted.left(vec![again], true).len(), 1, "{what}");
        }
        let gone = [7_999, 8_000, 10_020, 10_021].map(|confirmed| loss.may_take(confirmed));
        assert_eq!(gone, [false, true, true, false]);
    }

    #[test]
    fn each_attempt_that_was_lost_may_begin_anew_as_often_as_it_was() {
        let known = |runs: &[(&str, u32)]| runs.iter().map(|(run, had)| ((*run).to_owned(), *had)).collect();
        let lost = lost(&known(&[("a", 1), ("b", 3), ("c", 2)]), &known(&[("b", 1), ("c", 2), ("d", 1)]));
        let told: Vec<(&str, u32)> = lost.iter().map(|(run, attempt)| (run.as_str(), *attempt)).collect();
        assert_eq!(told, [("a", 1), ("b", 2), ("b", 3)]);

        let attempts = Attempts::Lost(lost.into_iter().map(|attempt| (attempt, 1)).collect());
        let starts = vec![again(1, 1, 2), again(1, 2, 3)];
        assert_eq!(attempts.left(starts, true), [again(1, 2, 3)], "it was lost once");
    }

    #[test]
    fn a_drain_hands_numbers_back_and_no_delivery_twice() {
        assert!(Attempts::HandedBack.left(vec![again(1, 1, 2)], true).is_empty());
        assert_eq!(Attempts::HandedBack.left(vec![again(1, 1, 2)], false).len(), 1);
    }
}
