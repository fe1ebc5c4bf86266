//! Instants as people say them: `in 4m`, `2h ago`.

use std::time::Duration;

use scheduler_core::Timestamp;

/// How far away `then` is, in the largest unit that fits; nothing that lies ahead is nearer than a second.
pub(crate) fn relative(then: Timestamp, now: Timestamp) -> String {
    let ahead = then.since(now);
    if ahead > Duration::ZERO {
        return format!("in {}", rough(ahead.max(Duration::from_secs(1))));
    }
    match now.since(then) {
        past if past < Duration::from_secs(1) => "now".to_owned(),
        past => format!("{} ago", rough(past)),
    }
}

/// A length in its largest unit, never rounded up to the next one.
pub(crate) fn rough(length: Duration) -> String {
    match length.as_secs() {
        0 => format!("{}ms", length.as_millis()),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_told_in_its_largest_unit() {
        let cases = [
            (0, "now"),
            (-500, "now"),
            (500, "in 1s"),
            (3_000, "in 3s"),
            (-59_999, "59s ago"),
            (240_000, "in 4m"),
            (-7_200_000, "2h ago"),
            (86_400_000, "in 24h"),
            (-259_200_000, "3d ago"),
        ];
        for (offset, said) in cases {
            let now = Timestamp::from_millis(1_000_000_000_000);
            assert_eq!(relative(Timestamp::from_millis(now.as_millis() + offset), now), said);
        }
    }
}
