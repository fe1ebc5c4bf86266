//! Places wall times in real time: what happens to a rule where the clocks of its zone change.
//!
//! The search goes window by window, a window being a stretch of real time with one offset, so what it finds is later
//! than what it found before, whatever the clocks show.

use super::fields::Fields;
use super::rules::CronRule;
use super::search;
use super::zone::{Window, Windows};

/// No clock was ever changed by more: a wall time lies within this of any instant at which it is shown.
const TWO_DAYS: i64 = 2 * 86_400;

/// After so many windows a rule whose every time is lost in a gap is given up.
const MOST_WINDOWS: usize = 1_000;

/// The first fire at or after the instant `from`, in seconds.
pub(super) fn next(fields: &Fields, windows: &Windows, from: i64) -> Option<i64> {
    let mut from = from;
    for _ in 0..MOST_WINDOWS {
        let window = windows.at(from);
        if let Some(fire) = gap_fire(fields, &window, from) {
            return Some(fire);
        }
        let first = from.max(begin(fields, &window));
        let fire = search::next(fields, first + window.offset).map(|wall| wall - window.offset);
        if let Some(fire) = fire
            .filter(|fire| *fire < window.until && !is_left_to_second_pass(fields, windows, &window, *fire))
        {
            return Some(fire);
        }
        // The next window may show times again that lie before `first`, unless that lies well before its end.
        let is_searched = first <= window.until.saturating_sub(TWO_DAYS);
        from = match fire {
            Some(fire) if is_searched => window.until.max(fire - TWO_DAYS),
            None if is_searched => return None,
            Some(_) | None => window.until,
        };
    }
    None
}

/// The last fire at or before the instant `to`, in seconds.
pub(super) fn previous(fields: &Fields, windows: &Windows, to: i64) -> Option<i64> {
    let mut to = to;
    for _ in 0..MOST_WINDOWS {
        let window = windows.at(to);
        let begin = begin(fields, &window);
        let fire = search::previous(fields, to + window.offset).map(|wall| wall - window.offset);
        if let Some(fire) = fire
            .filter(|fire| *fire >= begin)
            .or_else(|| gap_fire(fields, &window, window.from).filter(|fire| *fire <= to))
        {
            return Some(fire);
        }
        // The window before may show times that lie after `to` on the wall, unless that lies well after its end.
        let is_searched = to >= window.from.saturating_add(TWO_DAYS);
        to = match fire {
            Some(fire) if is_searched => (window.from - 1).min(fire + TWO_DAYS),
            None if is_searched => return None,
            Some(_) | None => window.from.checked_sub(1)?,
        };
    }
    None
}

/// The first instant of a window at which the rule may fire: a fixed time does not fire again at a second pass.
fn begin(fields: &Fields, window: &Window) -> i64 {
    let skips = match fields.is_fixed {
        true => !CronRule::OverlapFiresOnce.is_broken() && !CronRule::OverlapFiresFirst.is_broken(),
        false => CronRule::WildcardFiresTwice.is_broken(),
    };
    if skips { window.from.saturating_add(window.overlap()) } else { window.from }
}

/// The fire of the times in the gap before a window: its first instant, where a fixed time falls into the gap.
#[inline]
fn gap_fire(fields: &Fields, window: &Window, from: i64) -> Option<i64> {
    if window.gap() == 0 || from > window.from + window.gap() {
        return None;
    }
    gap_fire_of(fields, window, from)
}

#[cold]
fn gap_fire_of(fields: &Fields, window: &Window, from: i64) -> Option<i64> {
    let is_fixed = fields.is_fixed || CronRule::WildcardSkipsGap.is_broken();
    let is_lost_day = window.gap() >= 86_400 && CronRule::LostDayIsGap.is_broken();
    if !is_fixed || is_lost_day || CronRule::GapFires.is_broken() {
        return None;
    }
    if CronRule::GapFiresOnce.is_broken() {
        let shifted = search::next(fields, from + window.before)? - window.before;
        return Some(shifted).filter(|fire| *fire < window.from + window.gap());
    }
    (from == window.from && skipped(fields, window).is_some()).then_some(window.from)
}

/// The first named time that the clock skips before a window, on the wall.
pub(super) fn skipped(fields: &Fields, window: &Window) -> Option<i64> {
    let gap = window.gap();
    if gap == 0 {
        return None;
    }
    search::next(fields, window.from + window.before).filter(|wall| *wall < window.from + window.offset)
}

/// Whether a time that the next window shows again is to fire there and not here: never, unless that rule is broken.
fn is_left_to_second_pass(fields: &Fields, windows: &Windows, window: &Window, fire: i64) -> bool {
    fields.is_fixed
        && CronRule::OverlapFiresFirst.is_broken()
        && window.until != i64::MAX
        && fire >= window.until - windows.at(window.until).overlap()
}
