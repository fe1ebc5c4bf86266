//! What Prefect does differently when the clocks of a zone change, told for the changes of the coming year.
//!
//! A time that the clock skips: ours fires at the first instant after it, Prefect at a wall time that is an hour off.
//! A time that the clock shows twice: ours goes on by real time where the hour or the minute is a `*`, Prefect waits
//! until the clock is past it.

use std::time::Duration;

use scheduler_core::Timestamp;
use scheduler_core::cron::{Cron, in_zone};

/// No zone changes its clocks back and forth within this time.
const STEP: Duration = Duration::from_secs(6 * 3_600);

/// Every zone that changes its clocks does so in this time.
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// What differs: a sentence for a skipped time, and one for a time that is there twice.
pub(crate) fn notes(cron: &Cron, now: Timestamp) -> Vec<String> {
    let Ok(wall) = Cron::parse(cron.plain(), "UTC", "") else { return Vec::new() };
    let changes = changes(cron.zone(), now);
    let skipped = changes.iter().find_map(|change| Some((change, change.skips(cron, &wall)?)));
    let doubled = changes.iter().find(|change| change.is_doubled_by(cron));
    let zone = cron.zone();
    let skipped = skipped.and_then(|(change, what)| {
        let at = in_zone(change.at, zone).ok()?;
        Some(format!(
            "the clocks of {zone} go forward at {at} and skip a time that the schedule names: {what}"
        ))
    });
    let doubled = doubled.and_then(|change| {
        let at = in_zone(change.at, zone).ok()?;
        Some(format!(
            "the clocks of {zone} go back at {at} and show some times twice: we fire through both passes, \
             Prefect through one"
        ))
    });
    skipped.into_iter().chain(doubled).collect()
}

/// A change of the clocks.
struct Change {
    /// The first instant of the new offset.
    at: Timestamp,
    before: i64,
    after: i64,
}

impl Change {
    /// What is different about the times that the clock skips, if anything.
    fn skips(&self, cron: &Cron, wall: &Cron) -> Option<&'static str> {
        let (from, to) = (shifted(self.at, self.before), shifted(self.at, self.after));
        let is_named = |at: Timestamp| fires_within(wall, at, shifted(at, 1));
        if from >= to || !fires_within(wall, from, to) {
            return None;
        }
        if fires_within(cron, self.at, shifted(self.at, 1)) && !is_named(to) {
            return Some("we fire at that instant, Prefect earlier, or not at all");
        }
        // Prefect puts them as much earlier as the clock skips, where they mostly meet others that are named.
        let mut skipped = shifted(from, -1);
        while let Some(next) = wall.next_after(skipped).filter(|next| *next < to) {
            if !is_named(shifted(next, self.before - self.after)) {
                return Some("we do not fire for it, Prefect does earlier");
            }
            skipped = next;
        }
        None
    }

    /// Whether ours fires while the clock shows times that it has shown.
    fn is_doubled_by(&self, cron: &Cron) -> bool {
        let length = self.before - self.after;
        length > 0 && fires_within(cron, self.at, shifted(self.at, length))
    }
}

fn fires_within(cron: &Cron, from: Timestamp, to: Timestamp) -> bool {
    cron.next_after(from - Duration::from_millis(1)).is_some_and(|next| next < to)
}

fn shifted(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

fn changes(zone: &str, now: Timestamp) -> Vec<Change> {
    let mut found = Vec::new();
    let mut from = now;
    while from < now + YEAR {
        let to = from + STEP;
        if let (Some(before), Some(after)) = (offset(from, zone), offset(to, zone))
            && before != after
        {
            found.push(Change { at: first_with(from, to, after, zone), before, after });
        }
        from = to;
    }
    found
}

/// The first instant in the stretch that has this offset.
fn first_with(from: Timestamp, to: Timestamp, after: i64, zone: &str) -> Timestamp {
    let (mut low, mut high) = (from.as_millis(), to.as_millis());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset(Timestamp::from_millis(middle), zone) == Some(after) { high = middle } else { low = middle }
    }
    Timestamp::from_millis(high)
}

/// How far the zone's clocks are ahead of UTC, in milliseconds.
fn offset(at: Timestamp, zone: &str) -> Option<i64> {
    let text = in_zone(at, zone).ok()?;
    // Behind the date, whose marks look the same.
    let offset = text.get(19..)?.trim_start_matches(|one: char| one == '.' || one.is_ascii_digit());
    let (sign, clock) = offset.split_at_checked(1)?;
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let seconds = parts.next()?? * 3_600 + parts.next()?? * 60 + parts.next().flatten().unwrap_or(0);
    Some(if sign == "-" { -seconds * 1_000 } else { seconds * 1_000 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_where_it_differs() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let cases = [
            ("30 2 * * *", "Europe/Zurich", true, false),
            ("0 4 * * *", "Europe/Zurich", false, false),
            ("0 2 28 3 *", "Europe/Zurich", true, false),
            ("0 2 27 3 *", "Europe/Zurich", false, false),
            ("0 * * * *", "Europe/Zurich", false, true),
            ("15 1,2 * * *", "Europe/Zurich", true, false),
            ("*/30 1-3 * * *", "Europe/Zurich", false, true),
            ("*/30 2 * * *", "Europe/Zurich", true, true),
            ("30 2 * * *", "UTC", false, false),
            ("30 2 * * *", "Asia/Tokyo", false, false),
            ("30 2 * * *", "America/New_York", true, false),
            ("15 2 * * *", "Australia/Lord_Howe", true, false),
        ];
        for (expression, zone, skips, doubles) in cases {
            let cron = Cron::parse(expression, zone, "").unwrap();

            let notes = notes(&cron, now);

            assert_eq!(
                notes.iter().any(|note| note.contains("go forward")),
                skips,
                "{expression} {zone}: {notes:?}"
            );
            assert_eq!(
                notes.iter().any(|note| note.contains("go back")),
                doubles,
                "{expression} {zone}: {notes:?}"
            );
        }
    }

    #[test]
    fn a_change_is_found_to_the_millisecond() {
        let found = changes("Europe/Zurich", "2026-06-01T00:00:00Z".parse().unwrap());
        let at: Vec<String> = found.iter().map(|change| change.at.to_string()).collect();
        assert_eq!(at, ["2026-10-25T01:00:00Z", "2027-03-28T01:00:00Z"]);
    }
}
