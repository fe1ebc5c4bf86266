//! A trigger of ours in Prefect's words, or why it has none there.
//!
//! Prefect reads the second as the last of six fields where we read it as the first, and says nothing about it; its
//! days are counted in other ways than ours too. So each field is written anew: what it names in ours is what is
//! written, and what cannot be written is refused.

use std::fmt::Display;

use scheduler_core::cron::Cron;
use scheduler_core::{Bounds, Error, Result, Rule, Timestamp, Trigger};
use serde_json::{Map, Value, json};

use crate::engine::Rendered;
use crate::prefect_clock_changes::notes;
use crate::prefect_cron_field::{Field, Form, days_of_month, days_of_week, number_field};

/// Says a trigger as a schedule of Prefect.
///
/// # Errors
/// `engine/trigger_not_sayable`.
pub(crate) fn render(trigger: &Trigger, now: Timestamp) -> Result<Rendered> {
    refuse_bounds(trigger.bounds(), now)?;
    match trigger.rule() {
        Rule::At(_) => Err(unsayable("a single instant", "Prefect's schedules repeat")),
        Rule::AtStart => Err(unsayable("`@reboot`", "Prefect knows of no start of ours")),
        Rule::AfterFinish(_) => Err(unsayable(
            "`after = \"finish\"`",
            "Prefect counts from the planned time, not from the end of a run",
        )),
        Rule::Every(period) => {
            if period.subsec_nanos() != 0 {
                return Err(unsayable(
                    "an interval with a part of a second",
                    "Prefect is not as fine as that",
                ));
            }
            let anchor = trigger.bounds().start.unwrap_or(Timestamp::from_millis(0));
            let rule = json!({ "interval": period.as_secs(), "anchor_date": anchor, "timezone": "UTC" });
            Ok(Rendered { rule: in_one_form(&rule), notes: Vec::new() })
        }
        Rule::Cron(cron) => {
            let rule = render_cron(cron)?;
            Ok(Rendered { rule, notes: notes(cron, now) })
        }
    }
}

/// A rule of Prefect's in the form in which [`render`] writes it, so that equal rules are equal values.
pub(crate) fn in_one_form(rule: &Value) -> Value {
    let zone = rule.get("timezone").and_then(Value::as_str).unwrap_or("UTC");
    if let Some(interval) = rule.get("interval").and_then(Value::as_f64) {
        let anchor = rule.get("anchor_date").and_then(Value::as_str).unwrap_or_default();
        let anchor = anchor.parse::<Timestamp>().map_or_else(|_| json!(anchor), |anchor| json!(anchor));
        return json!({ "interval": number(interval), "anchor_date": anchor, "timezone": zone });
    }
    if let Some(cron) = rule.get("cron") {
        let day_or = rule.get("day_or").and_then(Value::as_bool).unwrap_or(true);
        return json!({ "cron": cron, "timezone": zone, "day_or": day_or });
    }
    let mut rule = rule.as_object().cloned().unwrap_or_else(Map::new);
    rule.insert("timezone".to_owned(), json!(zone));
    Value::Object(rule)
}

/// Prefect writes whole seconds with a fraction of nothing.
fn number(seconds: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and fits")]
    let whole = seconds as i64;
    #[expect(clippy::cast_precision_loss, reason = "what is lost makes it differ, and then it is not used")]
    let is_whole = whole as f64 == seconds;
    if is_whole { json!(whole) } else { json!(seconds) }
}

fn refuse_bounds(bounds: &Bounds, now: Timestamp) -> Result<()> {
    let why = "a schedule of Prefect has no bounds";
    if bounds.end.is_some() {
        return Err(unsayable("`end`", why));
    }
    if bounds.max_runs.is_some() {
        return Err(unsayable("`max_runs`", "Prefect takes such a bound and ignores it"));
    }
    if !bounds.jitter.is_zero() {
        return Err(unsayable("`jitter`", "a schedule of Prefect has none"));
    }
    if bounds.start.is_some_and(|start| start > now) {
        return Err(unsayable("a `start` that lies ahead", why));
    }
    Ok(())
}

fn unsayable(what: &str, why: &str) -> Error {
    let message = format!("Prefect cannot hold {what}: {why}; write `fired_by = \"scheduler\"`");
    Error::unsupported("engine/trigger_not_sayable", message)
}

fn unsayable_cron(cron: &Cron, what: impl Display, why: &str) -> Error {
    unsayable(&format!("{what} of cron `{}`", cron.expression()), why)
}

fn render_cron(cron: &Cron) -> Result<Value> {
    let plain = spelled_out(cron.plain());
    let fields: Vec<&str> = plain.split_whitespace().collect();
    let (second, rest, year) = match fields.len() {
        6 => (fields[0], &fields[1..], "*"),
        7 => (fields[0], &fields[1..6], fields[6]),
        _ => ("0", &fields[..], "*"),
    };
    let [minute, hour, day, month, weekday] = rest else {
        return Err(unsayable_cron(cron, "the fields", "there are not five of them"));
    };
    if second.parse() != Ok(0_u8) {
        return Err(unsayable_cron(cron, "the seconds", "its schedules are read to the minute"));
    }
    if !matches!(year, "*" | "?") {
        return Err(unsayable_cron(cron, "the year", "its schedules have no year"));
    }
    let both = weekday.starts_with('+');
    let refused = |what: String| unsayable_cron(cron, what, "it has no word for that");
    let mut days = days_of_month(day).map_err(refused)?;
    let mut weekdays = days_of_week(weekday.trim_start_matches('+')).map_err(refused)?;
    if days.is_restricted() && weekdays.is_restricted() && (weekdays.is_special() || days.is_special()) {
        let why = "it takes a day such as the last or the first of its kind alone";
        return Err(unsayable_cron(cron, "the two fields of days", why));
    }
    let number = |text: &str, form: Form| number_field(text, form).map_err(refused);
    let months = number(month, Form::Month)?;
    if days.is_lost_after_february(&months) {
        let why =
            "where a day at the end of a month stands beside the first it passes over the first of March";
        return Err(unsayable_cron(cron, "the day of month", why));
    }
    if days.is_restricted() && weekdays.is_restricted() && !both {
        if days.is_full() || weekdays.is_full() {
            // One that names every day decides everything where either is asked for.
            (days, weekdays) = (Field::all(), Field::all());
        } else if days.is_in_no_month(&months) {
            // One that names none decides nothing, and Prefect would search it for ever.
            days = Field::all();
        }
    }
    let day_or =
        !(both && days.is_restricted() && weekdays.is_restricted() && !days.is_full() && !weekdays.is_full());
    let text = [
        number(minute, Form::Minute)?.to_string(),
        number(hour, Form::Hour)?.to_string(),
        days.to_string(),
        months.to_string(),
        weekdays.to_string(),
    ];
    Ok(json!({ "cron": text.join(" "), "timezone": cron.zone(), "day_or": day_or }))
}

fn spelled_out(expression: &str) -> &str {
    match expression {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use scheduler_core::cron::Dialect;

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn cron_is_written_as_prefect_reads_it() {
        let cases = [
            ("30 2 * * *", "30 2 * * *", true),
            ("*/5 2-4 * * mon-fri", "*/5 2-4 * * 1-5", true),
            ("@weekly", "0 0 * * 0", true),
            ("0 0 12 * * 7", "0 12 * * 0", true),
            ("00 0 12 ? JAN,mar *  *", "0 12 * 1,3 *", true),
            ("0 0 13 * 5", "0 0 13 * 5", true),
            ("0 0 13 * +5", "0 0 13 * 5", false),
            ("0 0 13 * +*", "0 0 13 * *", true),
            ("0 0 13 * 0-6", "0 0 * * *", true),
            ("0 0 13 * +0-6", "0 0 13 * *", true),
            ("0 0 1-31 * 5", "0 0 * * *", true),
            ("0 0 L * *", "0 0 L * *", true),
            ("0 0 * * 5L", "0 0 * * L5", true),
            ("0 0 * * friL", "0 0 * * L5", true),
            ("0 0 * * MON#1,7#2", "0 0 * * 1#1,0#2", true),
            ("5-59/20 0 * * 5-7", "5,25,45 0 * * 0,5,6", true),
            ("0-59 * * * *", "* * * * *", true),
            ("0 0 31 2 1", "0 0 * 2 1", true),
            ("0 0 1,29,30 * *", "0 0 1,29,30 * *", true),
            ("0 0 1,31 4-12 *", "0 0 1,31 4-12 *", true),
            ("0 0 */2 * *", "0 0 */2 * *", true),
        ];
        for (ours, theirs, day_or) in cases {
            let trigger =
                Trigger::cron(ours, "Europe/Zurich").unwrap_or_else(|error| panic!("{ours}: {error}"));

            let rendered = render(&trigger, now()).unwrap_or_else(|error| panic!("{ours}: {error}"));

            let expected = json!({ "cron": theirs, "timezone": "Europe/Zurich", "day_or": day_or });
            assert_eq!(rendered.rule, expected, "{ours}");
            assert_eq!(in_one_form(&rendered.rule), rendered.rule);
        }
    }

    #[test]
    fn an_expression_of_another_dialect_is_translated() {
        let cases = [
            (Dialect::Quartz, "0 0/20 9 ? * 2-6", "0,20,40 9 * * 1-5", true),
            (Dialect::Quartz, "0 0 9 13 * 6", "0 9 13 * 5", false),
            (Dialect::Quartz, "0 0 9 ? * 6L", "0 9 * * L5", true),
            (Dialect::Vixie, "0 0 */2 * 1", "0 0 */2 * 1", false),
            (Dialect::Vixie, "0 0 13 * 5", "0 0 13 * 5", true),
        ];
        for (dialect, theirs, prefects, day_or) in cases {
            let rule = Rule::cron(dialect, theirs, "UTC", "").unwrap();
            let trigger = Trigger::new(rule, Bounds::default()).unwrap();

            let rendered = render(&trigger, now()).unwrap_or_else(|error| panic!("{theirs}: {error}"));

            assert_eq!(
                rendered.rule,
                json!({ "cron": prefects, "timezone": "UTC", "day_or": day_or }),
                "{theirs}"
            );
        }
        let nearest = Rule::cron(Dialect::Quartz, "0 0 9 15W * ?", "UTC", "").unwrap();
        let refused = render(&Trigger::new(nearest, Bounds::default()).unwrap(), now()).unwrap_err();
        assert_eq!(refused.code(), "engine/trigger_not_sayable");
    }

    #[test]
    fn what_prefect_cannot_hold_is_refused_and_names_the_way_out() {
        let every = |millis| Trigger::every(Duration::from_millis(millis)).unwrap();
        let daily = || Trigger::cron("0 0 * * *", "UTC").unwrap();
        let end = Bounds { end: Some(Timestamp::MAX), ..Bounds::default() };
        let ahead = Bounds { start: Some(now() + Duration::from_secs(1)), ..Bounds::default() };
        let counted = Bounds { max_runs: NonZeroU64::new(3), ..Bounds::default() };
        let jitter = Bounds { jitter: Duration::from_secs(1), ..Bounds::default() };
        let cases = [
            Trigger::at(now()).unwrap(),
            Trigger::after_finish(Duration::from_secs(9)).unwrap(),
            every(1_500),
            daily().within(end).unwrap(),
            daily().within(ahead).unwrap(),
            daily().within(counted).unwrap(),
            daily().within(jitter).unwrap(),
            Trigger::cron("*/10 0 2 * * *", "UTC").unwrap(),
            Trigger::cron("0 0 2 * * * 2030", "UTC").unwrap(),
            Trigger::cron("0 0 15W * *", "UTC").unwrap(),
            Trigger::cron("0 0 1,L * *", "UTC").unwrap(),
            Trigger::cron("0 0 13 * 5L", "UTC").unwrap(),
            Trigger::cron("0 0 L * 1", "UTC").unwrap(),
            Trigger::cron("0 0 13 * +5#2", "UTC").unwrap(),
            Trigger::cron("0 0 */5 * *", "UTC").unwrap(),
            Trigger::cron("0 0 1,28,31 * *", "UTC").unwrap(),
            Trigger::cron("0 0 1,30 2,3 *", "UTC").unwrap(),
        ];
        for trigger in cases {
            let refused = render(&trigger, now()).unwrap_err();
            assert_eq!(refused.code(), "engine/trigger_not_sayable", "{trigger}");
            assert!(refused.to_string().ends_with("`fired_by = \"scheduler\"`"), "{refused}");
        }
    }

    #[test]
    fn an_interval_always_has_its_anchor() {
        let every = Trigger::every(Duration::from_secs(90)).unwrap();
        let from = Bounds { start: Some("2026-01-01T00:00:07Z".parse().unwrap()), ..Bounds::default() };

        let plain = render(&every, now()).unwrap();
        let anchored = render(&every.within(from).unwrap(), now()).unwrap();

        let expected = json!({ "interval": 90, "anchor_date": "1970-01-01T00:00:00Z", "timezone": "UTC" });
        assert_eq!(plain.rule, expected);
        assert_eq!(anchored.rule["anchor_date"], "2026-01-01T00:00:07Z");
    }

    #[test]
    fn equal_rules_are_equal_values() {
        let read =
            json!({ "interval": 3600.0, "anchor_date": "1970-01-01T00:00:00+00:00", "timezone": null });
        let ours = render(&Trigger::every(Duration::from_secs(3600)).unwrap(), now()).unwrap();
        assert_eq!(in_one_form(&read), ours.rule);
        let read = json!({ "cron": "0 0 * * *", "timezone": null });
        assert_eq!(in_one_form(&read), render(&Trigger::cron("@daily", "UTC").unwrap(), now()).unwrap().rule);
        let foreign = json!({ "rrule": "FREQ=DAILY", "timezone": null });
        assert_eq!(in_one_form(&foreign), json!({ "rrule": "FREQ=DAILY", "timezone": "UTC" }));
    }
}
