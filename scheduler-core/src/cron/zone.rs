//! Time zones: the offsets of a zone as windows of real time, and the only place that knows jiff.
//!
//! A zone is known by name. What the database says about it is read into a table of windows, which every rule in that
//! zone shares, and is compared with the database again every few milliseconds of use, so a changed database is seen as
//! soon as jiff sees it, and a search rarely asks jiff for anything.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use crate::{Error, Result, Timestamp};

/// A zone by its name; UTC needs no table.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    Utc,
    Named(Arc<Named>),
}

/// A zone that the database knew when it was asked for.
#[derive(Debug)]
pub(super) struct Named {
    name: String,
    read: RwLock<(Instant, Arc<Table>)>,
}

/// The offset that holds from one instant to before another; all are seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) offset: i64,
    /// The offset that held before.
    pub(super) before: i64,
}

impl Window {
    /// How far the clocks were set forward where it begins.
    pub(super) fn gap(&self) -> i64 {
        (self.offset - self.before).max(0)
    }

    /// How far they were set back, and so for how long it shows times that were shown before.
    pub(super) fn overlap(&self) -> i64 {
        (self.before - self.offset).max(0)
    }
}

/// The windows of a zone from 1970 to the end of [`LISTED`]; others are asked of jiff.
#[derive(Debug)]
pub(super) struct Table {
    zone: TimeZone,
    windows: Box<[Window]>,
}

/// What a search reads windows from: the same table from its first step to its last.
#[derive(Clone, Debug)]
pub(super) enum Windows {
    Utc,
    Table(Arc<Table>),
}

/// Every zone that was named; only what the database knows gets here.
static ZONES: LazyLock<RwLock<HashMap<String, Arc<Named>>>> = LazyLock::new(RwLock::default);

/// For how long a table is used before the database is asked whether it changed.
const FRESH: Duration = Duration::from_millis(10);

/// 2200-01-01T00:00:00Z: windows up to there are listed.
const LISTED: i64 = 7_258_118_400;

impl Zone {
    /// The zone of that name.
    ///
    /// # Errors
    /// `cron/unknown_zone`.
    pub(super) fn named(name: &str) -> Result<Self> {
        if name == "UTC" {
            return Ok(Self::Utc);
        }
        if let Some(zone) = ZONES.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Self::Named(Arc::clone(zone)));
        }
        let table = Table::read(lookup(name)?);
        let mut zones = ZONES.write().unwrap_or_else(PoisonError::into_inner);
        let zone = zones.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Named { name: name.to_owned(), read: RwLock::new((Instant::now(), Arc::new(table))) })
        });
        Ok(Self::Named(Arc::clone(zone)))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Utc => "UTC",
            Self::Named(zone) => &zone.name,
        }
    }

    /// The windows as the database has them now.
    pub(super) fn windows(&self) -> Windows {
        match self {
            Self::Utc => Windows::Utc,
            Self::Named(zone) => Windows::Table(zone.table()),
        }
    }
}

impl Named {
    fn table(&self) -> Arc<Table> {
        {
            let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
            if read.0.elapsed() < FRESH {
                return Arc::clone(&read.1);
            }
        }
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        read.0 = Instant::now();
        // A zone that a new database does not know any more keeps what the old one said: its rules go on.
        if let Ok(zone) = lookup(&self.name)
            && zone != read.1.zone
        {
            read.1 = Arc::new(Table::read(zone));
        }
        Arc::clone(&read.1)
    }
}

impl Table {
    fn read(zone: TimeZone) -> Self {
        let mut window = window_at(&zone, 0);
        let mut windows = Vec::new();
        while window.until < LISTED {
            windows.push(window);
            window = window_from(&zone, window.until, window.offset);
        }
        windows.push(window);
        Self { zone, windows: windows.into() }
    }

    #[inline]
    fn at(&self, instant: i64) -> Window {
        let index = self.windows.partition_point(|window| window.from <= instant);
        match index.checked_sub(1).and_then(|index| self.windows.get(index)) {
            Some(window) if instant < window.until => *window,
            _ => window_at(&self.zone, instant),
        }
    }
}

impl Windows {
    /// The window that holds at `instant`.
    #[inline]
    pub(super) fn at(&self, instant: i64) -> Window {
        match self {
            Self::Utc => Window { from: i64::MIN, until: i64::MAX, offset: 0, before: 0 },
            Self::Table(table) => table.at(instant),
        }
    }
}

/// The window that holds at `instant`.
fn window_at(zone: &TimeZone, instant: i64) -> Window {
    let (at, offset) = (within(instant), offset_at(zone, instant));
    // What changes a name or the mark of summer time, but no clock, is no change here.
    let last = jiff::Timestamp::from_second(at.as_second().saturating_add(1)).unwrap_or(jiff::Timestamp::MAX);
    let mut from = i64::MIN;
    let mut before = offset;
    for change in zone.preceding(last) {
        let start = change.timestamp().as_second();
        let earlier = offset_at(zone, start - 1);
        if earlier != offset {
            (from, before) = (start, earlier);
            break;
        }
    }
    Window { from, until: end_of(zone, at, offset), offset, before }
}

/// The window that begins at `from`.
fn window_from(zone: &TimeZone, from: i64, before: i64) -> Window {
    let offset = offset_at(zone, from);
    Window { from, until: end_of(zone, within(from), offset), offset, before }
}

fn end_of(zone: &TimeZone, at: jiff::Timestamp, offset: i64) -> i64 {
    let changes = zone.following(at);
    changes
        .map(|change| (change.timestamp().as_second(), i64::from(change.offset().seconds())))
        .find(|(_, later)| *later != offset)
        .map_or(i64::MAX, |(end, _)| end)
}

fn offset_at(zone: &TimeZone, instant: i64) -> i64 {
    i64::from(zone.to_offset(within(instant)).seconds())
}

/// The instant, brought within the bounds of jiff, which are a day narrower than ours.
fn within(instant: i64) -> jiff::Timestamp {
    let bounds = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    jiff::Timestamp::from_second(instant).unwrap_or(if instant < 0 { bounds.0 } else { bounds.1 })
}

/// Writes an instant as RFC 3339 with the offset that `zone` has then.
///
/// # Errors
/// `cron/unknown_zone` when the time-zone database has no such zone.
pub fn in_zone(instant: Timestamp, zone: &str) -> Result<String> {
    let zoned = jiff::Timestamp::from_millisecond(instant.as_millis())
        .map_err(|error| Error::invalid("time/bad_timestamp", error.to_string()))?
        .to_zoned(lookup(zone)?);
    let format =
        if instant.as_millis() % 1_000 == 0 { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.3f%:z" };
    Ok(zoned.strftime(format).to_string())
}

/// A time at which the clock of a zone is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// How many seconds the clock was ahead of UTC before.
    pub before: i32,
    /// How many seconds it is ahead of UTC from then on; never the same number.
    pub after: i32,
}

/// The first time after `after` at which the clock of a zone is set.
///
/// # Errors
/// `cron/unknown_zone` when the time-zone database has no such zone.
pub fn next_change(after: Timestamp, zone: &str) -> Result<Option<Change>> {
    let windows = Zone::named(zone)?.windows();
    let end = windows.at(after.as_millis().div_euclid(1_000)).until;
    let Some(end_in_millis) = end.checked_mul(1_000) else { return Ok(None) };
    let next = windows.at(end);
    let at = Timestamp::from_millis(end_in_millis);
    Ok(Some(Change { at, before: next.before as i32, after: next.offset as i32 }))
}

/// The names of the zones that the time-zone database knows.
pub fn zones() -> Vec<String> {
    jiff::tz::db().available().map(|zone| zone.to_string()).collect()
}

/// Checks that the time-zone database knows `zone`.
///
/// # Errors
/// `cron/unknown_zone`, naming the zone.
pub fn check_zone(zone: &str) -> Result<()> {
    lookup(zone).map(|_| ())
}

fn lookup(zone: &str) -> Result<TimeZone> {
    if zone == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let unknown = || {
        let message =
            format!("`{}` is no time zone of the IANA database, such as Europe/Berlin", zone.escape_debug());
        Error::invalid("cron/unknown_zone", message)
    };
    let found = TimeZone::get(zone).map_err(|_| unknown())?;
    // jiff takes any spelling of case; a zone is stored by name, so only the one of the database is taken.
    if found.iana_name().is_some_and(|name| name != zone) { Err(unknown()) } else { Ok(found) }
}
