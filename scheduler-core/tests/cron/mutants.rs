//! The proof is worth something: whichever rule of the engine is broken, the oracle notices.

use scheduler_core::cron::CronRule;

use crate::judged::{Case, changes};

const DAY: i64 = 86_400;

/// Expressions that between them need every rule, on every change that the clocks of some zones made in two years.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let times = [
        "30 2 * * *",
        "0,30 2 * * *",
        "15 2 * * *",
        "*/30 * * * *",
        "*/30 0-2 * * *",
        "0 0 * * *",
        "0 12 * * *",
    ];
    for zone in ["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"] {
        for change in
            changes(zone).into_iter().filter(|change| (1_293_840_000..1_356_998_400).contains(change))
        {
            for expression in times {
                let (from, to) = (change - 2 * DAY, change + 2 * DAY);
                cases.push(Case { expression: expression.to_owned(), zone, from, to, step: 900 });
            }
        }
    }
    let days = [
        "0 0 13 * 5",
        "0 0 13 * +5",
        "0 0 * * 7",
        "0 0 L * *",
        "0 0 LW * *",
        "0 0 1W * *",
        "0 0 31W * *",
        "0 0 * * 1#5",
        "0 0 * * 3L",
        "0 0 3-31/7 * *",
        "0 0 L-2 * *",
        "0 0 29 2 *",
    ];
    for expression in days {
        // From 2098 on, with a year that is no leap year though it divides by four.
        for from in [1_767_225_600, 4_039_372_800] {
            let to = from + 1_100 * DAY;
            cases.push(Case { expression: expression.to_owned(), zone: "UTC", from, to, step: DAY });
        }
    }
    cases
}

#[test]
fn the_oracle_notices_whichever_rule_is_broken() {
    let judged: Vec<(Case, Vec<i64>)> =
        cases().into_iter().map(|case| (case.clone(), case.expected())).collect();
    let difference = || judged.iter().find_map(|(case, expected)| case.difference_from(expected));
    assert_eq!(difference(), None, "with every rule kept");

    let mut survivors = Vec::new();
    for rule in CronRule::ALL {
        match rule.broken(difference) {
            Some(difference) => println!("{rule:?} broken: {difference}"),
            None => survivors.push(rule),
        }
    }
    println!("{} rules were broken, one at a time", CronRule::ALL.len());
    assert!(survivors.is_empty(), "nothing notices when these are broken: {survivors:?}");
}
