//! Which crate of the workspace may depend on which: `scheduler-cli` → {`backend-*`, `builtin-jobs`} →
//! `scheduler-core`, and never sideways.
//!
//! Normal, build and development dependencies count alike: a sibling needed by a test is still a sibling. A crate that
//! names itself, the usual way to switch on a feature for its own tests, draws no arrow.

use anyhow::{Result, bail};

use crate::metadata::{Kind, Member};

/// The place of a crate in the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Core,
    /// A backend or the built-in jobs.
    Part,
    Cli,
    Xtask,
}

impl Layer {
    fn of(name: &str) -> Option<Self> {
        match name {
            "scheduler-core" => Some(Self::Core),
            "builtin-jobs" => Some(Self::Part),
            "scheduler-cli" => Some(Self::Cli),
            "xtask" => Some(Self::Xtask),
            _ => name.strip_prefix("backend-").map(|_| Self::Part),
        }
    }

    fn may_depend_on(self, other: Self) -> bool {
        match self {
            Self::Core | Self::Xtask => false,
            Self::Part => other == Self::Core,
            Self::Cli => matches!(other, Self::Core | Self::Part),
        }
    }

    fn allowance(self) -> &'static str {
        match self {
            Self::Core | Self::Xtask => "no crate of the workspace",
            Self::Part => "scheduler-core only",
            Self::Cli => "scheduler-core, backend-* and builtin-jobs",
        }
    }
}

/// Refuses arrows between members that point up or sideways, and members without a place.
///
/// # Errors
/// One line a finding.
pub(crate) fn check(members: &[Member]) -> Result<()> {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let findings: Vec<String> = members
        .iter()
        .flat_map(|member| {
            let dependencies = member.dependencies.iter().map(|on| (on.name.as_str(), on.kind));
            let arrows: Vec<_> = dependencies.filter(|(to, _)| names.contains(to)).collect();
            findings(&member.name, &arrows)
        })
        .collect();

    if !findings.is_empty() {
        bail!("{}", findings.join("\n    "));
    }
    Ok(())
}

/// What is wrong with the arrows from one member to others; empty when they are as they should be.
fn findings(from: &str, arrows: &[(&str, Option<Kind>)]) -> Vec<String> {
    let Some(layer) = Layer::of(from) else {
        return vec![format!(
            "workspace member {from} has no place in the house: name it backend-*, or give it a layer in \
             xtask/src/arrows.rs"
        )];
    };

    let is_refused =
        |to: &str| from != to && !Layer::of(to).is_some_and(|target| layer.may_depend_on(target));
    arrows
        .iter()
        .filter(|(to, _)| is_refused(to))
        .map(|(to, kind)| {
            format!("{from} → {to} ({}): {from} may depend on {}", table(*kind), layer.allowance())
        })
        .collect()
}

fn table(kind: Option<Kind>) -> &'static str {
    match kind {
        None => "dependencies",
        Some(Kind::Build) => "build-dependencies",
        Some(Kind::Dev) => "dev-dependencies",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down_and_never_sideways() {
        let cases = [
            ("scheduler-cli", "scheduler-core", true),
            ("scheduler-cli", "backend-local", true),
            ("scheduler-cli", "backend-of-someone", true),
            ("scheduler-cli", "builtin-jobs", true),
            ("scheduler-cli", "xtask", false),
            ("backend-local", "scheduler-core", true),
            ("backend-local", "backend-queue", false),
            ("backend-local", "builtin-jobs", false),
            ("backend-local", "scheduler-cli", false),
            ("builtin-jobs", "scheduler-core", true),
            ("builtin-jobs", "backend-local", false),
            ("builtin-jobs", "scheduler-cli", false),
            ("scheduler-core", "backend-local", false),
            ("scheduler-core", "builtin-jobs", false),
            ("scheduler-core", "scheduler-cli", false),
            ("scheduler-core", "scheduler-core", true),
            ("xtask", "scheduler-core", false),
            ("xtask", "scheduler-cli", false),
            ("scheduler-cli", "unknown", false),
        ];

        for (from, to, is_allowed) in cases {
            for kind in [None, Some(Kind::Build), Some(Kind::Dev)] {
                assert_eq!(findings(from, &[(to, kind)]).is_empty(), is_allowed, "{from} → {to}, {kind:?}");
            }
        }
    }

    #[test]
    fn a_refused_arrow_is_named_with_the_arrows_that_may_be() {
        let findings = findings("backend-local", &[("backend-queue", Some(Kind::Dev))]);

        assert_eq!(
            findings,
            [
                "backend-local → backend-queue (dev-dependencies): backend-local may depend on scheduler-core only"
            ]
        );
    }

    #[test]
    fn a_member_without_a_layer_is_explained() {
        let findings = findings("newcomer", &[]);

        assert_eq!(findings.len(), 1);
        assert!(findings[0].contains("workspace member newcomer has no place"), "{findings:?}");
    }

    #[test]
    fn crates_from_outside_the_workspace_draw_no_arrow() {
        let member = |name: &str, on: &[&str]| Member {
            name: name.to_owned(),
            features: std::collections::BTreeMap::new(),
            dependencies: on
                .iter()
                .map(|name| crate::metadata::Dependency { name: (*name).to_owned(), kind: None })
                .collect(),
        };
        let core = member("scheduler-core", &["serde", "backend-of-someone"]);

        assert!(check(&[core]).is_ok());
        assert!(check(&[member("xtask", &["scheduler-core"]), member("scheduler-core", &[])]).is_err());
    }
}
