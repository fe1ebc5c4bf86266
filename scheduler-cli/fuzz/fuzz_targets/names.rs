//! Any text as everything that is written as a short text: names, ids, durations, instants, cron expressions.
//!
//! The first line is the text; the second a time zone, the third the key of `H`, the fourth milliseconds to search
//! fire times from.
#![no_main]

use std::str::FromStr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use scheduler_core::cron::{Cron, in_zone};
use scheduler_core::{Bounds, Error, Name, Rule, RunId, Spelled, Timestamp, Trigger, parse_duration};

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let text = lines.next().unwrap_or_default();
    let zone = lines.next().filter(|zone| !zone.is_empty()).unwrap_or("UTC");
    let key = lines.next().unwrap_or_default();
    let from = lines.next().and_then(|millis| millis.parse().ok()).map_or(NOW, Timestamp::from_millis);

    name(text);
    run_id(text);
    timestamp(text);
    if let Some(duration) = parsed(text, parse_duration(text)) {
        assert_eq!(parse_duration(&Spelled(duration).to_string()).ok(), Some(duration), "{text:?}");
        interval(duration, from);
    }
    cron(text, zone, key, from);
});

/// 2026-09-21T14:13:20Z.
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// What was read; what was not must have been refused in a way that a terminal can show.
fn parsed<T>(text: &str, result: Result<T, Error>) -> Option<T> {
    if let Err(error) = &result {
        let message = error.to_string();
        assert!(error.code().contains('/') && !message.is_empty(), "{text:?}");
        assert!(!message.chars().any(char::is_control), "{message:?} would be obeyed by a terminal");
    }
    result.ok()
}

/// What is read prints as a text that reads as the same.
fn survives<T: FromStr<Err = Error> + ToString + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    let read: T = parsed(text, text.parse())?;
    let again = read.to_string().parse();
    assert_eq!(again.ok().as_ref(), Some(&read), "{text:?}");
    Some(read)
}

fn name(text: &str) {
    let Some(name) = survives::<Name>(text) else { return };
    assert_eq!(name.as_str(), text);
    assert!(text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{text:?}");
    assert!((1..=Name::MAX_LEN).contains(&text.len()), "{text:?}");
}

fn run_id(text: &str) {
    if let Some(id) = survives::<RunId>(text) {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
}

fn timestamp(text: &str) {
    let Some(at) = survives::<Timestamp>(text) else { return };
    assert!((Timestamp::MIN..=Timestamp::MAX).contains(&at), "{text:?}");
    if let Some(once) = parsed(text, Trigger::at(at)) {
        assert_eq!(once.next_after(at), None.or((at == Timestamp::MIN).then_some(at)), "{text:?}");
    }
}

fn interval(period: Duration, from: Timestamp) {
    let Some(trigger) = parsed("an interval", Trigger::every(period)) else { return };
    if let Some(next) = trigger.next_after(from) {
        assert!(next > from && next.since(from) <= period, "{period:?} after {from}: {next}");
        assert_eq!(
            next.as_millis().rem_euclid(period.as_millis() as i64),
            0,
            "{period:?} after {from}: {next}"
        );
    }
}

fn cron(text: &str, zone: &str, key: &str, from: Timestamp) {
    let Some(cron) = parsed(text, Cron::parse(text, zone, key)) else { return };
    assert_eq!(parsed(text, Cron::parse(cron.expression(), cron.zone(), key)).as_ref(), Some(&cron));
    let Some(trigger) = parsed(text, Trigger::new(Rule::Cron(cron), Bounds::default())) else { return };
    assert!(trigger.mean_period().is_some_and(|period| !period.is_zero()), "{text:?}");

    let mut at = from;
    for _ in 0..4 {
        let Some(next) = trigger.next_after(at) else { break };
        assert!(next > at, "`{trigger}` after {at}: {next}");
        // No fire lies in between: asked from just before it, the same one comes.
        assert_eq!(trigger.next_after(next - Duration::from_millis(1)), Some(next), "`{trigger}` after {at}");
        let shown = in_zone(next, zone).expect("the zone is known");
        assert_eq!(shown.parse().ok(), Some(next), "{shown}");
        at = next;
    }

    let bounds = Bounds { start: Some(from), end: Some(at), ..Bounds::default() };
    if let Some(bounded) = parsed(text, trigger.within(bounds)) {
        let first = bounded.next_after(Timestamp::MIN);
        assert!(first.is_some_and(|first| (from..=at).contains(&first)), "`{bounded}` from {from} to {at}");
    }
}
