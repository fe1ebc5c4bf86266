//! Which sets of Cargo features every crate must build with: none, each alone, all of them.
//!
//! Not every combination: they double with each feature, and a feature that compiles alone and beside all others has
//! in practice never broken in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::command_line::CommandLine;
use crate::metadata::Member;
use crate::steps::Step;

/// A choice of features of one crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FeatureSet<'a> {
    None,
    One(&'a str),
    All,
}

impl FeatureSet<'_> {
    fn arguments(&self) -> Vec<&str> {
        match self {
            Self::None => vec!["--no-default-features"],
            Self::One(feature) => vec!["--no-default-features", "--features", feature],
            Self::All => vec!["--all-features"],
        }
    }
}

impl fmt::Display for FeatureSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no features"),
            Self::One(feature) => f.write_str(feature),
            Self::All => f.write_str("all features"),
        }
    }
}

/// A clippy run for every feature set of every crate that declares features.
///
/// Targets whose `required-features` are not in the set are left out by `--all-targets` itself.
pub(crate) fn steps(members: &[Member]) -> Vec<Step> {
    let mut steps = Vec::new();
    for member in members.iter().filter(|member| !member.features.is_empty()) {
        for set in feature_sets(&member.features) {
            let line = CommandLine::cargo("clippy --locked --all-targets --package")
                .and([&member.name])
                .and(set.arguments())
                .and(["--", "-D", "warnings"]);
            steps.push(Step::command(format!("features, {} with {set}", member.name), line));
        }
    }
    steps
}

/// The sets that differ in what they turn on; `default` only abbreviates others and gets no set of its own.
fn feature_sets(declared: &BTreeMap<String, Vec<String>>) -> Vec<FeatureSet<'_>> {
    let each =
        declared.keys().map(String::as_str).filter(|feature| *feature != "default").map(FeatureSet::One);
    let candidates = std::iter::once(FeatureSet::None).chain(each).chain([FeatureSet::All]);

    let mut seen = BTreeSet::new();
    candidates.filter(|set| seen.insert(turned_on(*set, declared))).collect()
}

/// Everything a set reaches: features, `dep:name` and `dependency/feature` entries.
fn turned_on<'a>(set: FeatureSet<'a>, declared: &'a BTreeMap<String, Vec<String>>) -> BTreeSet<&'a str> {
    let mut open: Vec<&str> = match set {
        FeatureSet::None => Vec::new(),
        FeatureSet::One(feature) => vec![feature],
        FeatureSet::All => declared.keys().map(String::as_str).collect(),
    };

    let mut reached = BTreeSet::new();
    while let Some(entry) = open.pop() {
        if reached.insert(entry) {
            open.extend(declared.get(entry).into_iter().flatten().map(String::as_str));
        }
    }
    reached.remove("default");
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_gets_a_set_alone_and_no_set_comes_twice() {
        type Declared = &'static [(&'static str, &'static [&'static str])];
        let cases: [(&str, Declared, &[&str]); 6] = [
            (
                "independent features",
                &[("a", &["dep:a"]), ("b", &[])],
                &["no features", "a", "b", "all features"],
            ),
            ("one feature is all of them", &[("a", &[])], &["no features", "a"]),
            ("default is no set", &[("default", &["a"]), ("a", &[])], &["no features", "a"]),
            (
                "default with something of its own",
                &[("default", &["a", "dep:b"]), ("a", &[])],
                &["no features", "a", "all features"],
            ),
            ("a feature that implies the rest", &[("a", &["b"]), ("b", &[])], &["no features", "a", "b"]),
            ("an empty default", &[("default", &[])], &["no features"]),
        ];

        for (case, declared, expected) in cases {
            let declared = declared
                .iter()
                .map(|(name, on)| ((*name).to_owned(), on.iter().map(|entry| (*entry).to_owned()).collect()))
                .collect();
            let sets: Vec<String> = feature_sets(&declared).iter().map(FeatureSet::to_string).collect();
            assert_eq!(sets, expected, "{case}");
        }
    }
}
