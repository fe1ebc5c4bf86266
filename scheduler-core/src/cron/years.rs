//! The set of years that an expression names.
//!
//! Years are ranges with steps rather than bits: there are 9999 of them, and an expression names few or all.

/// The first year of all.
pub(super) const FIRST: u32 = 1;
/// The last year of all, where instants end too.
pub(super) const LAST: u32 = 9_999;
/// The year that steps over all years begin with.
pub(super) const STEPS_FROM: u32 = 1_970;

/// A set of years.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Years {
    /// Every year.
    Any,
    /// The union of ranges.
    Listed(Box<[YearRange]>),
}

/// The years from `low` to `high`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct YearRange {
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) step: u32,
}

impl Years {
    /// The first named year from `year` on.
    #[inline]
    pub(super) fn next(&self, year: i64) -> Option<i64> {
        match self {
            Self::Any => (year <= i64::from(LAST)).then_some(year.max(i64::from(FIRST))),
            Self::Listed(ranges) => ranges.iter().filter_map(|range| range.next(year)).min(),
        }
    }

    /// The last named year up to `year`.
    #[inline]
    pub(super) fn previous(&self, year: i64) -> Option<i64> {
        match self {
            Self::Any => (year >= i64::from(FIRST)).then_some(year.min(i64::from(LAST))),
            Self::Listed(ranges) => ranges.iter().filter_map(|range| range.previous(year)).max(),
        }
    }

    #[inline]
    pub(super) fn contains(&self, year: i64) -> bool {
        match self {
            Self::Any => (i64::from(FIRST)..=i64::from(LAST)).contains(&year),
            Self::Listed(_) => self.next(year) == Some(year),
        }
    }
}

impl YearRange {
    fn bounds(self) -> (i64, i64, i64) {
        (i64::from(self.low), i64::from(self.high), i64::from(self.step))
    }

    fn next(self, year: i64) -> Option<i64> {
        let (low, high, step) = self.bounds();
        let steps = ((year - low).max(0) + step - 1) / step;
        Some(low + steps * step).filter(|next| *next <= high)
    }

    fn previous(self, year: i64) -> Option<i64> {
        let (low, high, step) = self.bounds();
        let offset = year.min(high) - low;
        (offset >= 0).then(|| low + offset / step * step)
    }
}
