//! Everything of one run, as JSON and as a table.

use serde_json::{Value, json};

use crate::answers::{Question, marks, questions};
use crate::contender::{Contender, Ours, Zone};
use crate::peers::{CronCrate, Croner, Cronexpr};
use crate::timing::{self, Effort, MIXED};

/// What we want to stay below: a figure, the floor, and the goal beyond it.
const TARGETS: [(&str, f64, f64); 4] = [
    ("next_zone_ns", 400.0, 250.0),
    ("next_utc_ns", 120.0, 120.0),
    ("parse_ns", 5_000.0, 5_000.0),
    ("impossible_ns", 100_000.0, 100_000.0),
];

/// Measures everything.
pub(crate) fn measure(quick: bool) -> Value {
    let effort = if quick { Effort { calls: 200, rounds: 2 } } else { Effort { calls: 5_000, rounds: 15 } };
    let questions = questions();
    let mut report = figures::<Ours>(effort, &questions);
    let peer = |mut figures: Value, name: &str, version: &str| {
        figures["name"] = json!(name);
        figures["version"] = json!(version);
        figures
    };
    // A call of a peer may be a hundred times longer, and as many fewer say as much.
    let fewer = Effort { calls: effort.calls / 5, rounds: effort.rounds.div_ceil(3) };
    report["peers"] = json!([
        peer(figures::<Croner>(fewer, &questions), Croner::NAME, Croner::VERSION),
        peer(figures::<CronCrate>(fewer, &questions), CronCrate::NAME, CronCrate::VERSION),
        peer(figures::<Cronexpr>(fewer, &questions), Cronexpr::NAME, Cronexpr::VERSION),
    ]);
    report["schema_version"] = json!(1);
    report["quick"] = json!(quick);
    report["zone"] = json!(Zone::Berlin.name());
    report["expressions"] = json!(MIXED);
    report["questions"] = json!(questions.len());
    report["targets"] =
        TARGETS.iter().map(|(name, floor, goal)| target(&report, name, *floor, *goal)).collect();
    report
}

fn target(report: &Value, name: &str, floor: f64, goal: f64) -> Value {
    let is_below = |bound: f64| report[name].as_f64().is_some_and(|figure| figure < bound);
    json!({ "figure": name, "floor": floor, "goal": goal, "is_reached": is_below(floor), "is_goal_reached": is_below(goal) })
}

fn figures<C: Contender>(effort: Effort, questions: &[Question]) -> Value {
    let marks = marks::<C>(questions);
    let rounded = |figure: Option<f64>| figure.map(|nanoseconds| (nanoseconds * 10.0).round() / 10.0);
    json!({
        "next_zone_ns": rounded(timing::next::<C>(Zone::Berlin, effort)),
        "next_utc_ns": rounded(timing::next::<C>(Zone::Utc, effort)),
        "parse_ns": rounded(timing::parse::<C>(effort)),
        "impossible_ns": rounded(timing::impossible::<C>(effort)),
        "wrong": marks.wrong,
        "refused": marks.refused,
        "expressions_timed": MIXED.iter().filter(|expression| C::parse(expression, Zone::Berlin).is_some()).count(),
    })
}

/// The report for people.
pub(crate) fn table(report: &Value) -> String {
    let mut ours = report.clone();
    ours["name"] = json!(Ours::NAME);
    ours["version"] = json!(Ours::VERSION);
    let peers = report["peers"].as_array().into_iter().flatten();
    let rows: String = std::iter::once(&ours).chain(peers).map(row).collect();
    let missed =
        report["targets"].as_array().into_iter().flatten().filter(|target| target["is_reached"] == false);
    let missed: String = missed
        .map(|target| format!("not reached: {} below {}\n", target["figure"], target["floor"]))
        .collect();
    format!(
        "{:<22} {:>12} {:>12} {:>12} {:>16} {:>6} {:>8}   of {} questions\n{rows}{missed}",
        "ns a call",
        "next, zone",
        "next, UTC",
        "parse",
        "impossible date",
        "wrong",
        "refused",
        report["questions"],
    )
}

fn row(figures: &Value) -> String {
    let name = format!(
        "{} {}",
        figures["name"].as_str().unwrap_or_default(),
        figures["version"].as_str().unwrap_or_default()
    );
    let number =
        |name: &str| figures[name].as_f64().map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"));
    format!(
        "{name:<22} {:>12} {:>12} {:>12} {:>16} {:>6} {:>8}\n",
        number("next_zone_ns"),
        number("next_utc_ns"),
        number("parse_ns"),
        number("impossible_ns"),
        figures["wrong"].to_string(),
        figures["refused"].to_string(),
    )
}
