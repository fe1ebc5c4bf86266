//! Where a task runs: the classifier's answer, the owner's word, and what is there to run it.

use serde::Serialize;

use crate::{
    BackendInfo, Classification, Error, JobDescriptor, Name, OnUnavailable, Overlap, Result, Task, Tier,
    Warning,
};

/// Where a task runs, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Placement {
    /// The tier it runs on.
    pub tier: Tier,
    /// The backend that runs it.
    pub backend: Name,
    /// What the classifier said, whether it was followed or not.
    pub classification: Classification,
    /// Why it is this tier and this backend, in order.
    pub reasons: Vec<String>,
    /// What the placement costs.
    pub warnings: Vec<Warning>,
}

/// A backend a task could be placed on.
#[derive(Clone, Debug)]
pub struct Site {
    /// What it is.
    pub info: BackendInfo,
    /// Whether its tier uses it when a task names none.
    pub is_default: bool,
    /// Whether it is known to be down.
    pub is_down: bool,
}

/// The order in which another tier takes over.
const FALLBACK: [Tier; 3] = [Tier::Workflow, Tier::Queue, Tier::Local];

/// Places a task on one of `sites`.
///
/// # Errors
/// `placement/no_backend` when its tier has none and it allows no other, `placement/backend_down`,
/// `placement/unknown_backend`, `placement/wrong_tier` when the backend it names serves another tier than it
/// names, `placement/ambiguous` when its tier has several and none is the default, and
/// `placement/job_not_on_tier`.
pub fn place(task: &Task, job: &JobDescriptor, sites: &[Site]) -> Result<Placement> {
    decide(task, job, sites).map(|(placement, _)| placement)
}

/// As [`place`], and whether another tier took over: a reason names the task then, and no other one says so of it.
pub(crate) fn decide(task: &Task, job: &JobDescriptor, sites: &[Site]) -> Result<(Placement, bool)> {
    let classification = task.classify();
    let mut reasons: Vec<String> =
        classification.reasons.iter().map(|reason| format!("{}: {reason}", classification.rule)).collect();
    if let Some(stated) = task.tier {
        reasons = vec![format!("tier = \"{stated}\" is set (the classifier says {})", classification.tier)];
    }
    let wanted = wanted_tier(task, &classification, sites, &mut reasons)?;
    let (tier, site) = find_site(task, job, wanted, sites, &mut reasons)?;
    if !job.tiers().contains(&tier) {
        let tiers: Vec<&str> = job.tiers().iter().map(|tier| tier.as_str()).collect();
        let message = format!(
            "task `{}` is placed on {tier}, but job `{}` runs on {} only; set tier = \"{}\"",
            task.name,
            job.name(),
            tiers.join(", "),
            tiers.first().unwrap_or(&"")
        );
        return Err(Error::invalid("placement/job_not_on_tier", message));
    }
    let mut warnings = task.warnings_on(tier);
    warnings.extend(unlimited(task, job));
    let backend = site.info.name.clone();
    Ok((Placement { tier, backend, classification, reasons, warnings }, tier != wanted))
}

/// What it costs that nothing ends an attempt which hangs.
fn unlimited(task: &Task, job: &JobDescriptor) -> Option<Warning> {
    if task.timeout.is_some() || job.has_own_limit() {
        return None;
    }
    let price = match (&task.trigger, task.overlap) {
        (None, _) => "holds its slot until the process ends",
        (Some(_), Overlap::Skip) => "holds its slot, and every later fire is skipped",
        (Some(_), Overlap::Queue) => "holds its slot, and every later fire waits for it",
        (Some(_), Overlap::CancelOther) => "holds its slot until the next fire",
        (Some(_), Overlap::Allow) => "holds its slot, and every later fire takes another one",
    };
    let message =
        format!("no time limit: an attempt that hangs {price}; set timeout = \"10m\", or what suits it");
    Some(Warning::new("task/no_timeout", message))
}

fn wanted_tier(
    task: &Task,
    classification: &Classification,
    sites: &[Site],
    reasons: &mut Vec<String>,
) -> Result<Tier> {
    let Some(named) = &task.backend else { return Ok(task.tier.unwrap_or(classification.tier)) };
    let Some(site) = sites.iter().find(|site| site.info.name == *named) else {
        let known: Vec<&str> = sites.iter().map(|site| site.info.name.as_str()).collect();
        let message =
            format!("task `{}` names backend `{named}`; there are: {}", task.name, known.join(", "));
        return Err(Error::not_found("placement/unknown_backend", message));
    };
    let tier = site.info.tier;
    if let Some(stated) = task.tier.filter(|stated| *stated != tier) {
        let message = format!(
            "task `{}` names tier {stated} and backend `{named}`, which serves {tier}; leave one of them out",
            task.name
        );
        return Err(Error::invalid("placement/wrong_tier", message));
    }
    *reasons = vec![format!("backend = \"{named}\" is set (the classifier says {})", classification.tier)];
    Ok(tier)
}

fn find_site<'a>(
    task: &Task,
    job: &JobDescriptor,
    wanted: Tier,
    sites: &'a [Site],
    reasons: &mut Vec<String>,
) -> Result<(Tier, &'a Site)> {
    let refused = match site_on(task, wanted, sites) {
        Ok(site) => return Ok((wanted, site)),
        Err(refused) => refused,
    };
    if task.on_unavailable == OnUnavailable::Error || !refused.is_transient() {
        return Err(refused);
    }
    let next = FALLBACK.into_iter().skip_while(|tier| *tier != wanted).skip(1);
    for tier in next.filter(|tier| job.tiers().contains(tier)) {
        if let Ok(site) = site_on(task, tier, sites) {
            reasons.push(format!("fallback to {tier}: {refused}"));
            return Ok((tier, site));
        }
    }
    Err(refused)
}

fn site_on<'a>(task: &Task, tier: Tier, sites: &'a [Site]) -> Result<&'a Site> {
    let named = |site: &&Site| task.backend.as_ref().is_none_or(|name| *name == site.info.name);
    let on_tier: Vec<&Site> = sites.iter().filter(|site| site.info.tier == tier).collect();
    let found = match on_tier.as_slice() {
        [] => {
            let message = format!(
                "task `{}` belongs on {tier}, but no backend of that tier is configured; add one under [backends], \
                 set tier to another one, or set on_unavailable = \"fallback\"",
                task.name
            );
            return Err(Error::unavailable("placement/no_backend", message));
        }
        [only] => Some(*only),
        several => {
            let by_name = several.iter().copied().find(|site| task.backend.is_some() && named(site));
            by_name.or_else(|| several.iter().copied().find(|site| site.is_default))
        }
    };
    let Some(site) = found else {
        let names: Vec<&str> = on_tier.iter().map(|site| site.info.name.as_str()).collect();
        let message = format!(
            "task `{}` belongs on {tier}, which has {}; set backend on the task or default = true on one of them",
            task.name,
            names.join(", ")
        );
        return Err(Error::invalid("placement/ambiguous", message));
    };
    if site.is_down {
        let message = format!("task `{}` belongs on backend `{}`, which is down", task.name, site.info.name);
        return Err(Error::unavailable("placement/backend_down", message));
    }
    Ok(site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, Name};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn site(backend: &str, tier: Tier) -> Site {
        Site { info: BackendInfo::new(name(backend), backend, tier, &[]), is_default: false, is_down: false }
    }

    fn job() -> JobDescriptor {
        JobDescriptor::function("j", "", |_| async { Ok(serde_json::Value::Null) })
    }

    fn task(change: impl FnOnce(&mut Task)) -> Task {
        let mut task = Task::new(name("t"), name("j"));
        change(&mut task);
        task
    }

    fn code(task: &Task, sites: &[Site]) -> &'static str {
        place(task, &job(), sites).unwrap_err().code()
    }

    #[test]
    fn the_classifier_is_followed_unless_the_owner_says_otherwise() {
        let sites = [site("local", Tier::Local), site("queue", Tier::Queue)];
        let persistent = |t: &mut Task| t.characteristics.durability = Some(Durability::Persistent);
        let placed = place(&task(persistent), &job(), &sites).unwrap();
        assert_eq!((placed.tier, placed.backend.as_str()), (Tier::Queue, "queue"));
        let overridden = task(|t| {
            persistent(t);
            t.tier = Some(Tier::Local);
        });
        let placed = place(&overridden, &job(), &sites).unwrap();
        assert_eq!((placed.tier, placed.classification.tier), (Tier::Local, Tier::Queue));
        assert!(placed.warnings.iter().any(|warning| warning.code == "task/tier_disagrees"));
    }

    #[test]
    fn a_missing_or_downed_tier_is_an_error_or_the_next_one_takes_over_and_says_so() {
        let on = |tier, fallback| {
            task(|t| {
                t.tier = Some(tier);
                t.on_unavailable = if fallback { OnUnavailable::Fallback } else { OnUnavailable::Error };
            })
        };
        let local = [site("local", Tier::Local)];
        assert_eq!(code(&on(Tier::Workflow, false), &local), "placement/no_backend");
        let placed = place(&on(Tier::Workflow, true), &job(), &local).unwrap();
        assert_eq!(placed.tier, Tier::Local);
        assert!(
            placed.reasons.iter().any(|reason| reason.contains("fallback to local")),
            "{:?}",
            placed.reasons
        );
        let mut sites = vec![site("local", Tier::Local), site("queue", Tier::Queue)];
        sites[0].is_down = true;
        assert_eq!(code(&on(Tier::Local, true), &sites), "placement/backend_down", "nothing is below local");
        sites[1].is_down = true;
        assert_eq!(code(&on(Tier::Queue, false), &sites), "placement/backend_down");
    }

    #[test]
    fn a_choice_that_cannot_be_made_says_what_to_write() {
        let mut sites = vec![site("a", Tier::Local), site("b", Tier::Local), site("q", Tier::Queue)];
        assert_eq!(code(&task(|_| ()), &sites), "placement/ambiguous");
        let named = |backend| task(move |t: &mut Task| t.backend = Some(name(backend)));
        assert_eq!(place(&named("b"), &job(), &sites).unwrap().backend, "b");
        assert_eq!(code(&named("c"), &sites), "placement/unknown_backend");
        let torn = task(|t| {
            t.backend = Some(name("q"));
            t.tier = Some(Tier::Local);
        });
        assert_eq!(code(&torn, &sites), "placement/wrong_tier");
        sites[0].is_default = true;
        assert_eq!(place(&task(|_| ()), &job(), &sites).unwrap().backend, "a");
        let queue_only = job().on(&[Tier::Queue]);
        assert_eq!(
            place(&task(|_| ()), &queue_only, &sites).unwrap_err().code(),
            "placement/job_not_on_tier"
        );
    }
}
