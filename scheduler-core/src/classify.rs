//! Which tier a task belongs on, and why: pure, total, and written as data.
//!
//! The rules are the decision matrix of the original design; the documentation's matrix is made from them.

use std::fmt;

use serde::Serialize;

use crate::{Complexity, Durability, Frequency, Infrastructure, TaskCharacteristics, Tier, Visibility};

/// The classifier's answer and its reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Classification {
    /// The tier the task belongs on.
    pub tier: Tier,
    /// The first rule that matched, such as `R3`.
    pub rule: &'static str,
    /// The facts that rule read, as `field = value: what it means`.
    pub reasons: Vec<String>,
    /// The other tiers, each with the fact that excluded it.
    pub rejected: Vec<Rejected>,
    /// What this placement costs; never changes the tier.
    pub warnings: Vec<Warning>,
    /// The smallest changes of input that would give another tier.
    pub flips: Vec<Flip>,
}

/// A tier that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rejected {
    /// The tier.
    pub tier: Tier,
    /// The fact that excluded it.
    pub reason: String,
}

/// Something about a placement that its owner should know.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// The permanent code.
    pub code: &'static str,
    /// What it costs and what to change.
    pub message: String,
}

impl Warning {
    /// A warning with its permanent code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A change of input that would give another tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Flip {
    /// The fields to change and their new values.
    #[serde(serialize_with = "as_table")]
    pub set: Vec<(&'static str, &'static str)>,
    /// The tier it would give.
    pub tier: Tier,
}

fn as_table<S: serde::Serializer>(set: &[(&str, &str)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(set.iter().copied())
}

/// One rule: where all its facts hold, its tier is the answer.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The permanent name.
    pub id: &'static str,
    /// The facts, any value of each list holding; none for the rule that always matches.
    pub when: &'static [Fact],
    /// The answer.
    pub tier: Tier,
    /// Why, in words.
    pub because: &'static str,
}

/// A condition on one field.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// The frequency is one of these.
    Frequency(&'static [Frequency]),
    /// The visibility is one of these.
    Visibility(&'static [Visibility]),
    /// The complexity is one of these.
    Complexity(&'static [Complexity]),
    /// The durability is one of these.
    Durability(&'static [Durability]),
    /// The infrastructure is one of these.
    Infrastructure(&'static [Infrastructure]),
}

/// The rules, first match wins.
pub const RULES: &[Rule] = &[
    Rule {
        id: "R1",
        when: &[Fact::Visibility(&[Visibility::UserFacing])],
        tier: Tier::Workflow,
        because: "people follow its runs, and a workflow engine shows them",
    },
    Rule {
        id: "R2",
        when: &[Fact::Infrastructure(&[Infrastructure::Distributed])],
        tier: Tier::Queue,
        because: "several machines share the work, and a queue hands it out",
    },
    Rule {
        id: "R3",
        when: &[Fact::Durability(&[Durability::Persistent])],
        tier: Tier::Queue,
        because: "a run must survive a restart, and a queue keeps it",
    },
    Rule {
        id: "R4",
        when: &[Fact::Frequency(&[Frequency::High, Frequency::Medium])],
        tier: Tier::Local,
        because: "it runs often and may be lost, so it runs where it costs least",
    },
    Rule {
        id: "R5",
        when: &[Fact::Complexity(&[Complexity::Dag, Complexity::Complex])],
        tier: Tier::Workflow,
        because: "it has many steps, and a workflow engine keeps the state of each",
    },
    Rule { id: "R6", when: &[], tier: Tier::Local, because: "nothing asks for more than this process" },
];

/// Places a task by its characteristics.
pub fn classify_task(facts: &TaskCharacteristics) -> Classification {
    let rule = matching_rule(facts);
    Classification {
        tier: rule.tier,
        rule: rule.id,
        reasons: reasons(rule, facts),
        rejected: Tier::ALL
            .iter()
            .filter(|tier| **tier != rule.tier)
            .map(|tier| rejected(*tier, rule, facts))
            .collect(),
        warnings: placement_warnings(rule.tier, facts),
        flips: flips(rule.tier, facts),
    }
}

/// What placing a task with these characteristics on `tier` costs.
pub fn placement_warnings(tier: Tier, facts: &TaskCharacteristics) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let steps = facts.complexity != Complexity::Simple;
    if facts.frequency == Frequency::High && tier == Tier::Workflow {
        warnings.push(Warning::new(
            "classify/high_frequency_on_workflow",
            "more than one flow run a minute: each costs several calls to the engine and rows in its database; \
             run it less often, or make it internal so that it can leave the workflow tier",
        ));
    }
    if facts.frequency == Frequency::High && tier == Tier::Queue {
        warnings.push(Warning::new(
            "classify/high_frequency_on_queue",
            "more than one run a minute: each is written to the store several times; \
             make it ephemeral and local if the next run makes up for a lost one",
        ));
    }
    if steps && tier != Tier::Workflow {
        warnings.push(Warning::new(
            "classify/steps_without_state",
            format!(
                "complexity = {} on the {tier} tier: no state of a step is kept, a retry begins at the first step; \
                 split it into tasks, or set tier = \"workflow\"",
                facts.complexity
            ),
        ));
    }
    if facts.durability == Durability::Persistent && tier == Tier::Local {
        warnings.push(Warning::new(
            "classify/persistent_on_local",
            "a persistent task on the local tier: a run that is under way when the process ends is lost",
        ));
    }
    if facts.infrastructure == Infrastructure::Distributed && tier == Tier::Local {
        warnings.push(Warning::new(
            "classify/distributed_on_local",
            "a distributed task on the local tier: every process that loads it runs it",
        ));
    }
    warnings
}

fn matching_rule(facts: &TaskCharacteristics) -> &'static Rule {
    RULES
        .iter()
        .find(|rule| rule.when.iter().all(|fact| fact.holds(facts)))
        .expect("the last rule always matches")
}

fn reasons(rule: &Rule, facts: &TaskCharacteristics) -> Vec<String> {
    if rule.when.is_empty() {
        return vec![rule.because.to_owned()];
    }
    rule.when.iter().map(|fact| format!("{}: {}", fact.of(facts), rule.because)).collect()
}

fn rejected(tier: Tier, chosen: &Rule, facts: &TaskCharacteristics) -> Rejected {
    let deciding = chosen.when.iter().map(|fact| fact.of(facts)).collect::<Vec<_>>().join(", ");
    let reason = match tier {
        Tier::Local if facts.visibility == Visibility::UserFacing => {
            format!("{deciding}: runs of this process are not shown to people")
        }
        Tier::Local if facts.infrastructure == Infrastructure::Distributed => {
            format!("{deciding}: every process would run it, none knowing of the others")
        }
        Tier::Local if facts.durability == Durability::Persistent => {
            format!("{deciding}: a run would be lost with the process")
        }
        Tier::Local => format!("{deciding}: the state of its steps would be lost with the process"),
        Tier::Queue if chosen.tier == Tier::Workflow => {
            format!("{deciding}: a queue shows no runs to people and keeps no state of steps")
        }
        Tier::Queue => {
            "durability = ephemeral, infrastructure = local: a store would be written for nothing".to_owned()
        }
        Tier::Workflow if facts.complexity == Complexity::Simple => {
            "visibility = internal, complexity = simple: nobody follows it and it has one step".to_owned()
        }
        Tier::Workflow => {
            format!("visibility = internal, and rule {} came before its steps: {deciding}", chosen.id)
        }
    };
    Rejected { tier, reason }
}

/// Every set of changes, of the smallest size that flips the tier, towards each other tier.
fn flips(tier: Tier, facts: &TaskCharacteristics) -> Vec<Flip> {
    let mut found: Vec<Flip> = Vec::new();
    for candidate in TaskCharacteristics::all() {
        let other = matching_rule(&candidate).tier;
        let set = candidate.differences(facts);
        if other == tier {
            continue;
        }
        let best = found.iter().filter(|flip| flip.tier == other).map(|flip| flip.set.len()).min();
        if best.is_none_or(|best| set.len() <= best) {
            found.retain(|flip| flip.tier != other || flip.set.len() <= set.len());
            found.push(Flip { set, tier: other });
        }
    }
    found.sort_by_key(|flip| (flip.set.len(), flip.tier));
    found
}

impl TaskCharacteristics {
    /// All 72 combinations.
    pub fn all() -> impl Iterator<Item = Self> {
        Frequency::ALL.iter().flat_map(|frequency| {
            Visibility::ALL.iter().flat_map(move |visibility| {
                Complexity::ALL.iter().flat_map(move |complexity| {
                    Durability::ALL.iter().flat_map(move |durability| {
                        Infrastructure::ALL.iter().map(move |infrastructure| Self {
                            frequency: *frequency,
                            visibility: *visibility,
                            complexity: *complexity,
                            durability: *durability,
                            infrastructure: *infrastructure,
                        })
                    })
                })
            })
        })
    }

    /// The fields and their words, in the order of the documentation.
    pub fn words(&self) -> [(&'static str, &'static str); 5] {
        [
            ("frequency", self.frequency.as_str()),
            ("visibility", self.visibility.as_str()),
            ("complexity", self.complexity.as_str()),
            ("durability", self.durability.as_str()),
            ("infrastructure", self.infrastructure.as_str()),
        ]
    }

    fn differences(&self, other: &Self) -> Vec<(&'static str, &'static str)> {
        self.words()
            .into_iter()
            .zip(other.words())
            .filter(|(mine, theirs)| mine != theirs)
            .map(|(mine, _)| mine)
            .collect()
    }
}

impl Fact {
    fn holds(self, facts: &TaskCharacteristics) -> bool {
        match self {
            Self::Frequency(values) => values.contains(&facts.frequency),
            Self::Visibility(values) => values.contains(&facts.visibility),
            Self::Complexity(values) => values.contains(&facts.complexity),
            Self::Durability(values) => values.contains(&facts.durability),
            Self::Infrastructure(values) => values.contains(&facts.infrastructure),
        }
    }

    /// The field and its value, as `field = value`.
    fn of(self, facts: &TaskCharacteristics) -> String {
        match self {
            Self::Frequency(_) => format!("frequency = {}", facts.frequency),
            Self::Visibility(_) => format!("visibility = {}", facts.visibility),
            Self::Complexity(_) => format!("complexity = {}", facts.complexity),
            Self::Durability(_) => format!("durability = {}", facts.durability),
            Self::Infrastructure(_) => format!("infrastructure = {}", facts.infrastructure),
        }
    }
}

impl fmt::Display for Fact {
    /// The field and the values that hold, as `field = a or b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn joined<T: fmt::Display>(values: &[T]) -> String {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
        }
        match self {
            Self::Frequency(values) => write!(f, "frequency = {}", joined(values)),
            Self::Visibility(values) => write!(f, "visibility = {}", joined(values)),
            Self::Complexity(values) => write!(f, "complexity = {}", joined(values)),
            Self::Durability(values) => write!(f, "durability = {}", joined(values)),
            Self::Infrastructure(values) => write!(f, "infrastructure = {}", joined(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules as section 4 of the design words them, written a second time and differently.
    fn expected(facts: &TaskCharacteristics) -> Tier {
        if facts.visibility == Visibility::UserFacing {
            return Tier::Workflow;
        }
        if facts.infrastructure == Infrastructure::Distributed || facts.durability == Durability::Persistent {
            return Tier::Queue;
        }
        if facts.frequency == Frequency::Low && facts.complexity != Complexity::Simple {
            return Tier::Workflow;
        }
        Tier::Local
    }

    #[test]
    fn the_72_combinations_are_38_workflow_27_queue_and_7_local() {
        let mut counts = [0; 3];
        for facts in TaskCharacteristics::all() {
            let answer = classify_task(&facts);
            assert_eq!(answer.tier, expected(&facts), "{facts:?}");
            counts[answer.tier as usize] += 1;
        }
        assert_eq!(counts, [7, 27, 38]);
    }

    #[test]
    fn every_answer_rejects_the_two_other_tiers_and_names_a_fact() {
        for facts in TaskCharacteristics::all() {
            let answer = classify_task(&facts);
            let mut tiers: Vec<_> = answer.rejected.iter().map(|rejected| rejected.tier).collect();
            tiers.push(answer.tier);
            tiers.sort_unstable();
            assert_eq!(tiers, Tier::ALL, "{facts:?}");
            for rejected in &answer.rejected {
                let fact = facts
                    .words()
                    .into_iter()
                    .any(|(field, word)| rejected.reason.contains(&format!("{field} = {word}")));
                assert!(fact, "no fact of {facts:?} in: {}", rejected.reason);
            }
        }
    }

    #[test]
    fn the_smallest_change_really_flips_the_tier_and_nothing_smaller_does() {
        for facts in TaskCharacteristics::all() {
            let answer = classify_task(&facts);
            for flip in &answer.flips {
                let changed =
                    TaskCharacteristics::all().find(|other| other.differences(&facts) == flip.set).unwrap();
                assert_eq!(matching_rule(&changed).tier, flip.tier);
                let smaller = TaskCharacteristics::all().any(|other| {
                    matching_rule(&other).tier == flip.tier
                        && other.differences(&facts).len() < flip.set.len()
                });
                assert!(!smaller, "{facts:?} has a smaller change than {flip:?}");
            }
            let reached: Vec<_> =
                Tier::ALL.iter().filter(|tier| answer.flips.iter().any(|f| f.tier == **tier)).collect();
            assert_eq!(reached.len(), 2, "{facts:?}");
        }
    }

    #[test]
    fn a_placement_that_costs_is_warned_about() {
        let codes = |facts| classify_task(&facts).warnings.iter().map(|w| w.code).collect::<Vec<_>>();
        let base = TaskCharacteristics { frequency: Frequency::High, ..TaskCharacteristics::default() };
        assert!(codes(base).is_empty());
        assert_eq!(
            codes(TaskCharacteristics { visibility: Visibility::UserFacing, ..base }),
            ["classify/high_frequency_on_workflow"]
        );
        assert_eq!(
            codes(TaskCharacteristics {
                durability: Durability::Persistent,
                complexity: Complexity::Dag,
                ..base
            }),
            ["classify/high_frequency_on_queue", "classify/steps_without_state"]
        );
    }
}
