//! Expressions that nobody thought of, as strategies.

use proptest::prelude::*;
use proptest::sample::select;

/// A list of up to three parts.
fn list(part: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec(part, 1..=3).prop_map(|parts| parts.join(","))
}

/// A value, a range or a range with a step.
fn part(first: u32, last: u32) -> impl Strategy<Value = String> {
    let range = (first..=last, first..=last).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        3 => (first..=last).prop_map(|value| value.to_string()),
        1 => range.clone().prop_map(|(low, high)| format!("{low}-{high}")),
        1 => (range, 1..=last).prop_map(|((low, high), step)| format!("{low}-{high}/{step}")),
    ]
}

/// A field of numbers; a `*` as often as anything else.
fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        1 => (1..=last).prop_map(|step| format!("*/{step}")),
        3 => list(part(first, last)),
    ]
}

/// Times near midnight and the hours in which clocks are set.
fn hour() -> impl Strategy<Value = String> {
    let early = select(vec!["0", "1", "2", "3", "0,2", "1-3", "0-2", "2,3", "23", "*", "*/2", "1-3/2"]);
    prop_oneof![3 => early.prop_map(str::to_owned), 1 => field(0, 23)]
}

fn day() -> impl Strategy<Value = String> {
    let special = prop_oneof![
        Just("L".to_owned()),
        Just("LW".to_owned()),
        (1..=30_u32).prop_map(|before| format!("L-{before}")),
        (1..=31_u32).prop_map(|day| format!("{day}W")),
        (1..=9_u32).prop_map(|before| format!("L-{before}W")),
    ];
    prop_oneof![
        4 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        2 => field(1, 31),
        3 => list(prop_oneof![special, part(1, 31)]),
    ]
}

fn weekday() -> impl Strategy<Value = String> {
    let named = select(vec!["MON-FRI", "sun", "FRI-SUN", "Tue,THU", "SAT", "7", "0-7", "5-7"]);
    let special = prop_oneof![
        (0..=7_u32, 1..=5_u32).prop_map(|(weekday, nth)| format!("{weekday}#{nth}")),
        (0..=7_u32).prop_map(|weekday| format!("{weekday}L")),
        (0..=7_u32).prop_map(|weekday| format!("{weekday}#L")),
    ];
    let field = prop_oneof![
        4 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => field(0, 7),
        1 => named.prop_map(str::to_owned),
        2 => list(prop_oneof![special, part(0, 7)]),
    ];
    (field, prop::bool::weighted(0.3))
        .prop_map(|(field, plus)| if plus { format!("+{field}") } else { field })
}

fn month() -> impl Strategy<Value = String> {
    let named = select(vec!["JAN", "feb", "MAR-APR", "OCT,nov", "2", "2,10"]).prop_map(str::to_owned);
    prop_oneof![5 => Just("*".to_owned()), 2 => field(1, 12), 1 => named]
}

/// Five fields, where every minute is asked.
pub(crate) fn of_minutes() -> impl Strategy<Value = String> {
    (field(0, 59), hour(), day(), month(), weekday())
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// Five fields on quarters of an hour, where days are what is asked.
pub(crate) fn of_days() -> impl Strategy<Value = String> {
    let minute = select(vec!["0", "15", "30", "0,45", "*/15", "0-45/15", "*/30"]);
    (minute, hour(), day(), month(), weekday())
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// Six or seven fields, where every second is asked.
pub(crate) fn of_seconds() -> impl Strategy<Value = String> {
    let year = prop_oneof![
        2 => Just(String::new()),
        1 => (1970..2200_u32, 0..90_u32).prop_map(|(low, length)| format!(" {low}-{}", low + length)),
        1 => (1..9_u32).prop_map(|step| format!(" */{step}")),
    ];
    (field(0, 59), field(0, 59), hour(), day(), month(), weekday(), year).prop_map(
        |(second, minute, hour, day, month, weekday, year)| {
            format!("{second} {minute} {hour} {day} {month} {weekday}{year}")
        },
    )
}
