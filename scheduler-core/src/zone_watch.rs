//! Notices when the time-zone database says something else of a zone, as after an update of it.
//!
//! A schedule waits for the next fire time that it computed, which may lie months ahead and be another one then. So
//! whoever waits looks now and then whether its zones are what they were; that costs a few look-ups for each zone,
//! however many tasks are in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Rule, Timestamp, Trigger};

/// How often zones are looked at. The database itself may be read anew less often, every five minutes.
const EVERY: Duration = Duration::from_secs(30);

/// What the zones in use were at the last look.
#[derive(Clone, Debug, Default)]
pub struct ZoneWatch {
    known: BTreeMap<String, Option<Facts>>,
    looked: Option<Duration>,
}

/// The offset of a zone now, and its next changes.
type Facts = (String, Vec<(Timestamp, i32)>);

impl ZoneWatch {
    /// Notes what a zone is that a schedule begins to follow, so that a change before the next look is noticed.
    pub fn meet(&mut self, zone: &str, now: Timestamp) {
        if !self.known.contains_key(zone) {
            self.known.insert(zone.to_owned(), facts(zone, now));
        }
    }

    /// Looks at these zones, if it is time for that; answers those that are not what they were.
    pub fn look<'a>(
        &mut self,
        zones: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
        monotonic: Duration,
    ) -> BTreeSet<String> {
        if self.looked.is_some_and(|looked| monotonic < looked.saturating_add(EVERY)) {
            return BTreeSet::new();
        }
        self.looked = Some(monotonic);
        let zones: BTreeSet<&str> = zones.into_iter().collect();
        let mut changed = BTreeSet::new();
        for zone in zones {
            let facts = facts(zone, now);
            let before = self.known.insert(zone.to_owned(), facts.clone());
            if before.is_some_and(|before| before != facts) {
                changed.insert(zone.to_owned());
            }
        }
        changed
    }
}

impl Trigger {
    /// The time zone whose rules its fire times follow; none when they follow no clock on a wall, or that of UTC.
    pub fn zone(&self) -> Option<&str> {
        match self.rule() {
            Rule::Cron(cron) => Some(cron.zone()).filter(|zone| *zone != "UTC"),
            Rule::At(_) | Rule::Every(_) | Rule::AfterFinish(_) | Rule::AtStart => None,
        }
    }
}

#[cfg(feature = "cron")]
fn facts(zone: &str, now: Timestamp) -> Option<Facts> {
    use crate::cron::{in_zone, next_change};

    const CHANGES: usize = 3;

    let written = in_zone(now, zone).ok()?;
    let offset = written.get(written.len().checked_sub(6)?..)?.to_owned();
    let next = |after| next_change(after, zone).ok().flatten();
    let changes = std::iter::successors(next(now), |change| next(change.at)).take(CHANGES);
    Some((offset, changes.map(|change| (change.at, change.after)).collect()))
}

/// Without the feature `cron` there are no zones.
#[cfg(not(feature = "cron"))]
fn facts(_zone: &str, _now: Timestamp) -> Option<Facts> {
    None
}

#[cfg(all(test, feature = "cron"))]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_what_it_was_is_not_told() {
        let triggers =
            [Trigger::cron("0 9 * * *", "Europe/Berlin").unwrap(), Trigger::at(Timestamp::MAX).unwrap()];
        let zones: Vec<&str> = triggers.iter().filter_map(Trigger::zone).collect();
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        let mut watch = ZoneWatch::default();
        for minute in 0..3 {
            let passed = Duration::from_secs(60 * minute);
            assert_eq!(watch.look(zones.iter().copied(), now + passed, passed), BTreeSet::new());
        }
        assert_eq!(watch.known.len(), 1);
    }

    #[test]
    fn a_zone_that_is_another_is_told_once() {
        let zones = ["Europe/Berlin"];
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        let mut watch = ZoneWatch::default();
        assert!(watch.look(zones, now, Duration::ZERO).is_empty());
        let before = watch.known.get_mut("Europe/Berlin").unwrap().as_mut().unwrap();
        assert_eq!((before.0.as_str(), before.1.len()), ("+02:00", 3));
        before.0 = "+03:00".to_owned();

        assert!(watch.look(zones, now, EVERY / 2).is_empty(), "it is not time yet");
        assert_eq!(watch.look(zones, now, EVERY), BTreeSet::from(["Europe/Berlin".to_owned()]));
        assert!(watch.look(zones, now, EVERY * 2).is_empty());
    }

    #[test]
    fn a_zone_that_changes_between_its_first_schedule_and_the_next_look_is_told() {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        let mut watch = ZoneWatch::default();
        assert!(watch.look([], now, Duration::ZERO).is_empty());
        watch.meet("Europe/Berlin", now);
        watch.known.get_mut("Europe/Berlin").unwrap().as_mut().unwrap().0 = "+03:00".to_owned();
        watch.meet("Europe/Berlin", now);

        let changed = watch.look(["Europe/Berlin"], now + EVERY, EVERY);

        assert_eq!(changed, BTreeSet::from(["Europe/Berlin".to_owned()]));
    }
}
