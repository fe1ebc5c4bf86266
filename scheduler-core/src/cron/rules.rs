//! The rules that the engine keeps, by name, so that a test can break one after the other and see its proof notice.
//!
//! In a program that people run none can be broken: without the feature `test-util` each of them holds, always.

/// A rule of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "test-util"), expect(unreachable_pub, reason = "only a test names it"))]
pub enum CronRule {
    /// A fixed time in a gap fires at the first instant after it.
    GapFires,
    /// Several fixed times in one gap make one fire.
    GapFiresOnce,
    /// A day that a zone skipped whole is a gap like any other.
    LostDayIsGap,
    /// A fixed time in an overlap fires at the first pass.
    OverlapFiresFirst,
    /// A fixed time in an overlap does not fire at the second pass.
    OverlapFiresOnce,
    /// A wildcard time fires in both passes of an overlap.
    WildcardFiresTwice,
    /// A wildcard time in a gap does not exist that day.
    WildcardSkipsGap,
    /// Hours and minutes that are wildcards make a time a wildcard.
    WildcardIsByTime,
    /// Two restricted day fields mean either.
    EitherDay,
    /// A `+` before the weekday means both.
    PlusIsBoth,
    /// Sunday is 7 as well.
    SundayIsSeven,
    /// `L` is the last day of the month, whatever its length.
    LastDay,
    /// `W` does not leave the month.
    NearestStaysInMonth,
    /// `#5` is a fifth weekday only where the month has one.
    NthIsCounted,
    /// `5L` is the last weekday of the month, which may be the fifth.
    LastWeekday,
    /// A step counts from the start of its range.
    StepFromStart,
    /// A century is no leap year, unless it divides by 400.
    CenturyIsCommon,
}

impl CronRule {
    /// Every rule.
    #[cfg(feature = "test-util")]
    pub const ALL: [Self; 17] = [
        Self::GapFires,
        Self::GapFiresOnce,
        Self::LostDayIsGap,
        Self::OverlapFiresFirst,
        Self::OverlapFiresOnce,
        Self::WildcardFiresTwice,
        Self::WildcardSkipsGap,
        Self::WildcardIsByTime,
        Self::EitherDay,
        Self::PlusIsBoth,
        Self::SundayIsSeven,
        Self::LastDay,
        Self::NearestStaysInMonth,
        Self::NthIsCounted,
        Self::LastWeekday,
        Self::StepFromStart,
        Self::CenturyIsCommon,
    ];

    /// Whether the rule is broken on this thread.
    #[cfg(feature = "test-util")]
    #[inline]
    pub(super) fn is_broken(self) -> bool {
        BROKEN.get() == Some(self)
    }

    /// Whether the rule is broken: never.
    #[cfg(not(feature = "test-util"))]
    #[inline]
    pub(super) const fn is_broken(self) -> bool {
        false
    }

    /// Does `work` while this thread breaks the rule.
    #[cfg(feature = "test-util")]
    pub fn broken<T>(self, work: impl FnOnce() -> T) -> T {
        BROKEN.set(Some(self));
        let done = work();
        BROKEN.set(None);
        done
    }
}

#[cfg(feature = "test-util")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<CronRule>> = const { std::cell::Cell::new(None) };
}
