//! Any text as a cron expression in each dialect.
//!
//! The first line is the expression; the second a time zone, the third the key of `H`, the fourth milliseconds to search
//! fire times from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scheduler_core::Timestamp;
use scheduler_core::cron::{Cron, Dialect};

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let text = lines.next().unwrap_or_default();
    let zone = lines.next().filter(|zone| !zone.is_empty()).unwrap_or("UTC");
    let key = lines.next().unwrap_or_default();
    let from = lines.next().and_then(|millis| millis.parse().ok()).map_or(NOW, Timestamp::from_millis);
    for dialect in Dialect::ALL {
        expression(dialect, text, zone, key, from);
    }
});

/// 2026-09-21T14:13:20Z.
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn expression(dialect: Dialect, text: &str, zone: &str, key: &str, from: Timestamp) {
    let faults = Cron::faults(dialect, text);
    let length = text.chars().count();
    for fault in &faults {
        let shown = fault.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?} would be obeyed by a terminal");
        assert!((1..=length + 1).contains(&fault.position), "{fault:?} in {text:?}");
        assert!(text.contains(&fault.value), "{fault:?} in {text:?}");
    }
    let cron = match Cron::parse_in(dialect, text, zone, key) {
        Ok(cron) => cron,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.chars().any(char::is_control), "{message:?} would be obeyed by a terminal");
            assert_eq!(
                error.code() == "cron/bad_expression",
                !faults.is_empty() && error.code() != "cron/unknown_zone" && error.code() != "cron/no_start",
                "{text:?}: {message}"
            );
            return;
        }
    };
    assert!(faults.is_empty() && !cron.describe().is_empty());
    let plain =
        Cron::parse(cron.plain(), zone, "").unwrap_or_else(|error| panic!("{text:?} in {dialect}: {error}"));

    let mut at = from;
    for _ in 0..4 {
        let next = cron.next_after(at);
        assert_eq!(plain.next_after(at), next, "{text:?} in {dialect} is `{plain}`, after {at}");
        let Some(next) = next else { break };
        assert!(next > at && cron.matches(next), "`{cron}` after {at}: {next}");
        let after = Timestamp::from_millis(next.as_millis() + 1);
        assert_eq!(cron.previous_before(after), Some(next), "`{cron}` before {after}");
        assert!(
            cron.previous_before(next).is_none_or(|previous| previous <= at),
            "`{cron}` before {next}, after {at}"
        );
        at = next;
    }
}
