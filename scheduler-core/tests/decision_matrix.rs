//! `docs/decision-matrix.md` is made from the classifier and cannot drift from it.

use std::path::Path;

use scheduler_core::{RULES, TaskCharacteristics, Tier, classify_task};

fn matrix() -> String {
    let mut page = String::from(
        "# Decision matrix\n\n\
         Made from the classifier's rules by `cargo xtask docs`; do not edit.\n\n\
         The first rule whose facts hold gives the tier.\n\n\
         | rule | when | tier | because |\n|---|---|---|---|\n",
    );
    for rule in RULES {
        let example = TaskCharacteristics::all().find(|facts| classify_task(facts).rule == rule.id);
        let facts =
            example.map(|facts| classify_task(&facts)).expect("every rule is the answer to something");
        let allowed: Vec<String> = rule.when.iter().map(ToString::to_string).collect();
        let when = if allowed.is_empty() { "none of the above".to_owned() } else { allowed.join(", ") };
        page += &format!("| {} | {when} | {} | {} |\n", facts.rule, facts.tier, rule.because);
    }
    let count = |tier| TaskCharacteristics::all().filter(|facts| classify_task(facts).tier == tier).count();
    page += &format!(
        "\nOver the 72 combinations of explicit values that is {} workflow, {} queue and {} local.\n\n",
        count(Tier::Workflow),
        count(Tier::Queue),
        count(Tier::Local)
    );
    page.push_str("| frequency | visibility | complexity | durability | infrastructure | tier | rule |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    for facts in TaskCharacteristics::all() {
        let answer = classify_task(&facts);
        let words: Vec<&str> = facts.words().into_iter().map(|(_, word)| word).collect();
        page += &format!("| {} | {} | {} |\n", words.join(" | "), answer.tier, answer.rule);
    }
    page
}

#[test]
fn the_documented_matrix_is_the_classifiers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/decision-matrix.md");
    let expected = matrix();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/decision-matrix.md is not what the rules say; make it with `cargo xtask docs`"
    );
}
