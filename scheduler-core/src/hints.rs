//! What a trigger does that its author may not have meant. Pure; `scheduler check` says it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::classify::Warning;
use crate::cron::{Cron, Dialect};
use crate::dst::{Gap, first_gap};
use crate::{Bounds, Name, Rule, Timestamp, Trigger};

/// How far ahead a gap is looked for: every zone that has one, has it within a year.
const AHEAD: Duration = Duration::from_secs(400 * 86_400);
/// From this many tasks on that fire in the same minute, that is said.
const CROWD: usize = 10;
/// What fires more often than this meets others anyway.
const OFTEN: Duration = Duration::from_secs(600);
/// The week in which fires are counted: it begins on a Monday, the first of a month.
const WEEK: (Timestamp, Duration) =
    (Timestamp::from_millis(1_704_067_200_000), Duration::from_secs(7 * 86_400));
/// How many fires are counted, over all tasks.
const MOST_COUNTED: usize = 200_000;

/// What is to be said of one trigger at `now`.
pub fn hints(trigger: &Trigger, now: Timestamp) -> Vec<Warning> {
    let Rule::Cron(cron) = trigger.rule() else { return Vec::new() };
    let fields = fields(cron.expression());
    let mut found = Vec::new();
    found.extend(either_day(cron, &fields));
    found.extend(fields.iter().filter_map(|(field, text)| uneven_step(field, text)));
    found.extend(in_gap(cron, &fields, trigger.bounds(), now));
    found
}

/// The fields of an expression by name; none for a nickname.
fn fields(expression: &str) -> Vec<(&'static Field, &str)> {
    let texts: Vec<&str> = expression.split_whitespace().collect();
    match texts.len() {
        5 => FIELDS[1..].iter().zip(texts).collect(),
        6 | 7 => FIELDS.iter().zip(texts).collect(),
        _ => Vec::new(),
    }
}

/// What is to be known of a field to judge its steps.
#[derive(Debug, PartialEq)]
struct Field {
    name: &'static str,
    /// How many values it has, if that is the same each time.
    size: Option<u32>,
    /// What it is counted anew in.
    anew: &'static str,
    /// The unit of a step as an interval, if there is one.
    unit: &'static str,
}

const FIELDS: [Field; 6] = [
    Field { name: "second", size: Some(60), anew: "minute", unit: "s" },
    Field { name: "minute", size: Some(60), anew: "hour", unit: "m" },
    Field { name: "hour", size: Some(24), anew: "day", unit: "h" },
    Field { name: "day of month", size: None, anew: "month", unit: "d" },
    Field { name: "month", size: Some(12), anew: "year", unit: "" },
    Field { name: "day of week", size: Some(7), anew: "week", unit: "d" },
];

fn uneven_step(field: &Field, text: &str) -> Option<Warning> {
    let step = ["*/", "?/", "H/"].iter().find_map(|head| text.strip_prefix(head))?;
    let step: u32 = step.parse().ok().filter(|step| *step > 1)?;
    if field.size.is_some_and(|size| size % step == 0) {
        return None;
    }
    let remedy = match (field.size, field.unit) {
        (Some(size), "") => format!("take a step that divides {size}"),
        (None, unit) => format!("for an even pace write every = \"{step}{unit}\""),
        (Some(7), unit) => format!("for an even pace write every = \"{step}{unit}\""),
        (Some(size), unit) => {
            format!("take a step that divides {size}, or for an even pace write every = \"{step}{unit}\"")
        }
    };
    let message = format!(
        "{} `{text}` is uneven: it is counted anew each {}, so the last of one and the first of the next are closer; {remedy}",
        field.name, field.anew
    );
    Some(Warning { code: "cron/uneven_step", message })
}

fn either_day(cron: &Cron, fields: &[(&Field, &str)]) -> Option<Warning> {
    let of = |name| fields.iter().find(|(field, _)| field.name == name).map(|(_, text)| *text);
    let (day, weekday) = (of("day of month")?, of("day of week")?);
    let is_any = |text: &str| ["*", "?"].contains(&text);
    if is_any(day) || is_any(weekday) || weekday.contains('+') || cron.dialect() != Dialect::Ocps {
        return None;
    }
    let message = format!(
        "`{}` sets both day fields, so it fires on each day that fits either `{day}` or `{weekday}`; \
         write `+{weekday}` for days that fit both, or `*` for the field that does not matter",
        cron.expression()
    );
    Some(Warning { code: "cron/either_day", message })
}

/// A rhythm over all hours has no time of its own that could be missed.
fn in_gap(cron: &Cron, fields: &[(&Field, &str)], bounds: &Bounds, now: Timestamp) -> Option<Warning> {
    let hour = fields.iter().find(|(field, _)| field.name == "hour").map(|(_, text)| *text);
    if hour.map_or(!cron.is_fixed(), |hour| hour.starts_with(['*', '?'])) {
        return None;
    }
    let from = bounds.start.map_or(now, |start| start.max(now));
    let until = bounds.end.map_or(from + AHEAD, |end| end.min(from + AHEAD));
    let gap = first_gap(cron, from, until)?;
    Some(Warning { code: "cron/in_gap", message: gap_message(cron, &gap) })
}

fn gap_message(cron: &Cron, gap: &Gap) -> String {
    let (from, to) = gap.edges();
    let effect = match cron.is_fixed() {
        true => format!("fires at {to} instead"),
        false => "does not fire then".to_owned(),
    };
    format!(
        "`{}` names {}, which does not exist in {} on {}, where the clock goes from {from} to {to}: it {effect}; \
         choose a time outside of the gap, or a zone without one, if that matters",
        cron.expression(),
        gap.times(),
        cron.zone(),
        gap.day(),
    )
}

/// The minute of a week in which more tasks begin than in any other, if they are many.
pub fn crowd<'a>(tasks: impl IntoIterator<Item = (&'a Name, &'a Trigger)>) -> Option<Warning> {
    let (begin, length) = WEEK;
    let mut minutes: BTreeMap<i64, Vec<&Name>> = BTreeMap::new();
    let mut counted = 0;
    for (name, trigger) in tasks {
        let is_spread = !trigger.bounds().jitter.is_zero() || trigger.bounds().start.is_some();
        let is_rare = trigger.mean_period().is_some_and(|period| period >= OFTEN);
        if is_spread || !is_rare || trigger.follows_finish() {
            continue;
        }
        // When it begins and ends says nothing of the minutes that it takes.
        let Ok(unbound) = trigger.clone().within(Bounds::default()) else { continue };
        let first = unbound.next_after(begin - Duration::from_millis(1));
        let fires = std::iter::successors(first, |at| unbound.next_after(*at));
        for fire in fires.take_while(|at| *at < begin + length) {
            counted += 1;
            let there = minutes.entry(fire.as_millis().div_euclid(60_000)).or_default();
            if there.last() != Some(&name) {
                there.push(name);
            }
        }
        if counted > MOST_COUNTED {
            break;
        }
    }
    // Of equally full minutes the first.
    let fullest = minutes.into_iter().rev().max_by_key(|(_, there)| there.len());
    let (minute, there) = fullest.filter(|(_, there)| there.len() >= CROWD)?;
    let named: Vec<String> = there.iter().take(3).map(|name| format!("`{name}`")).collect();
    let time = Timestamp::from_millis(minute * 60_000).to_string();
    let message = format!(
        "{} tasks fire in the same minute, such as {} UTC: {} and {} more; write `H` for the minute, which each task's \
         name fixes, or spread them with jitter = \"1m\"",
        there.len(),
        &time.get(11..16).unwrap_or_default(),
        named.join(", "),
        there.len() - named.len(),
    );
    Some(Warning { code: "trigger/same_minute", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(expression: &str, zone: &str) -> Vec<&'static str> {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        hints(&Trigger::cron(expression, zone).unwrap(), now).iter().map(|hint| hint.code).collect()
    }

    #[test]
    fn what_may_surprise_is_said_and_nothing_else() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("30 2 * * *", "Europe/Berlin", &["cron/in_gap"]),
            ("30 2 * * *", "UTC", &[]),
            ("30 3 * * *", "Europe/Berlin", &[]),
            ("0 0 * * *", "Africa/Cairo", &["cron/in_gap"]),
            ("@daily", "Africa/Cairo", &["cron/in_gap"]),
            ("@hourly", "Europe/Berlin", &[]),
            ("* 2 * * *", "Europe/Berlin", &["cron/in_gap"]),
            ("*/30 * * * *", "Europe/Berlin", &[]),
            ("30 2 * 7 *", "Europe/Berlin", &[]),
            ("*/7 * * * *", "UTC", &["cron/uneven_step"]),
            ("H/7 * * * *", "UTC", &["cron/uneven_step"]),
            ("*/15 */6 * */3 *", "UTC", &[]),
            ("*/45 * * * * *", "UTC", &["cron/uneven_step"]),
            ("0 */5 * * *", "UTC", &["cron/uneven_step"]),
            ("0 0 */2 * *", "UTC", &["cron/uneven_step"]),
            ("0-30/7 * * * *", "UTC", &[]),
            ("0 0 13 * 5", "UTC", &["cron/either_day"]),
            ("0 0 13 * +5", "UTC", &[]),
            ("0 0 ? * 5", "UTC", &[]),
        ];
        for (expression, zone, expected) in cases {
            assert_eq!(codes(expression, zone), *expected, "{expression} {zone}");
        }
    }

    #[test]
    fn a_gap_outside_of_the_bounds_is_none() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let bounds = Bounds { end: Some(now + Duration::from_secs(30 * 86_400)), ..Bounds::default() };
        let trigger = Trigger::cron("30 2 * * *", "Europe/Berlin").unwrap().within(bounds).unwrap();
        assert_eq!(hints(&trigger, now), []);
    }

    #[test]
    fn a_hint_names_what_it_is_about() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let of = |expression| hints(&Trigger::cron(expression, "Europe/Berlin").unwrap(), now);
        let cases = [
            (
                "30 2 * * *",
                vec!["02:30", "Europe/Berlin", "2027-03-28", "from 02:00 to 03:00", "fires at 03:00"],
            ),
            ("* 2 * * *", vec!["02:00, 02:01, 02:02 and others", "does not fire"]),
            ("*/7 * * * *", vec!["minute `*/7`", "each hour", "every = \"7m\""]),
            ("0 0 13 * 5", vec!["either `13` or `5`", "`+5`"]),
        ];
        for (expression, texts) in cases {
            let found = of(expression);
            assert!(texts.iter().all(|text| found[0].message.contains(text)), "{found:?}");
        }
    }

    #[test]
    fn many_tasks_in_one_minute_are_told() {
        let names: Vec<Name> = (0..12).map(|n| Name::new(&format!("t{n}")).unwrap()).collect();
        let all = |trigger: &Trigger| names.iter().map(|name| (name, trigger.clone())).collect::<Vec<_>>();
        let told = |tasks: &[(&Name, Trigger)]| crowd(tasks.iter().map(|(name, trigger)| (*name, trigger)));

        let daily = all(&Trigger::cron("0 2 * * *", "UTC").unwrap());
        let message = told(&daily).unwrap().message;
        assert!(message.starts_with("12 tasks") && message.contains("02:00"), "{message}");
        assert!(message.contains("`t0`, `t1`, `t2` and 9 more") && message.contains('H'), "{message}");
        assert!(told(&daily[..9]).is_none());

        let jitter = Bounds { jitter: Duration::from_secs(60), ..Bounds::default() };
        let spread = Trigger::cron("0 2 * * *", "UTC").unwrap().within(jitter).unwrap();
        let often = Trigger::cron("* * * * *", "UTC").unwrap();
        for trigger in [spread, often] {
            assert!(told(&all(&trigger)).is_none(), "{trigger}");
        }
        let hashed = names.iter().map(|name| {
            let cron = Cron::parse("H 2 * * *", "UTC", name.as_str()).unwrap();
            (name, Trigger::new(Rule::Cron(cron), Bounds::default()).unwrap())
        });
        assert!(told(&hashed.collect::<Vec<_>>()).is_none());
    }
}
