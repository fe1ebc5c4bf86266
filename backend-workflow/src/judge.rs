//! What a task costs on this tier, and what the engine cannot keep of it. Pure: no engine is asked.

use scheduler_core::{Error, ErrorKind, Misfire, MisfirePolicy, Overlap, Priority, Result, Task, Warning};

use crate::engine::WorkflowEngine;
use crate::plan::is_engine_fired;
use crate::target::is_hosted;

/// Says what differs from what every other tier does.
///
/// # Errors
/// `workflow/not_keepable` with every trigger and policy that the engine cannot keep.
pub(crate) fn judge(engine: &dyn WorkflowEngine, task: &Task) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    let mut faults: Vec<String> = Vec::new();
    if is_hosted(task) && !engine.capabilities().hosting {
        let message = format!("task `{}`: the engine runs no task of job `{}`", task.name, task.job);
        return Err(Error::invalid("workflow/not_hostable", message));
    }
    if task.priority != Priority::default() {
        let message = "the engine goes by the priority of its own queues; `priority` has no effect";
        warnings.push(Warning::new("workflow/no_priority", message));
    }
    if is_engine_fired(task) && engine.capabilities().schedules {
        if let Some(trigger) = &task.trigger {
            match engine.render(trigger) {
                Ok(rendered) => warnings.extend(
                    rendered.notes.into_iter().map(|note| Warning::new("workflow/engine_differs", note)),
                ),
                Err(error)
                    if error.kind() == ErrorKind::Unsupported || error.kind() == ErrorKind::Invalid =>
                {
                    // What to write instead stands at the end of the whole.
                    let fault = error.to_string();
                    faults.push(fault.split("; ").next().unwrap_or_default().to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        judge_overlap(task, &mut faults, &mut warnings);
        judge_misfire(task, &mut faults, &mut warnings);
    }
    if faults.is_empty() {
        return Ok(warnings);
    }
    let message = format!(
        "task `{}` cannot be fired by the engine: {}; write fired_by = \"scheduler\"",
        task.name,
        faults.join(", and ")
    );
    Err(Error::invalid("workflow/not_keepable", message))
}

fn judge_overlap(task: &Task, faults: &mut Vec<String>, warnings: &mut Vec<Warning>) {
    match (task.overlap, is_hosted(task)) {
        (Overlap::CancelOther, _) => {
            faults.push("overlap = \"cancel_other\" is nothing it can do".to_owned());
        }
        (Overlap::Queue, false) => {
            faults.push("overlap = \"queue\" would change a deployment that is not ours".to_owned());
        }
        (Overlap::Skip, false) => {
            let message = "whether two runs overlap is up to the deployment, which is not ours to change; \
                           overlap = \"allow\" says so, fired_by = \"scheduler\" skips";
            warnings.push(Warning::new("workflow/overlap_by_engine", message));
        }
        (Overlap::Allow, _) | (Overlap::Skip | Overlap::Queue, true) => {}
    }
}

fn judge_misfire(task: &Task, faults: &mut Vec<String>, warnings: &mut Vec<Warning>) {
    let Misfire { policy, max, .. } = task.misfire;
    if policy == MisfirePolicy::All && max != Misfire::default().max {
        faults.push(format!("misfire.max = {max} is a bound on catching up that it does not know"));
    } else if policy != MisfirePolicy::All {
        let stated = if task.states_misfire() { "" } else { ", the default," };
        let message = format!(
            "misfire = \"{policy}\"{stated} is kept while a daemon of ours runs; without one the engine runs every \
             late fire, oldest first, as soon as a worker is there"
        );
        warnings.push(Warning::new("workflow/misfire_by_engine", message));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scheduler_core::{FiredBy, Trigger};

    use super::*;
    use crate::memory::Memory;
    use crate::tier_test::{foreign, hosted};

    fn with(mut task: Task, change: impl FnOnce(&mut Task)) -> Task {
        task.trigger = Some(Trigger::every(Duration::from_secs(3_600)).unwrap());
        change(&mut task);
        task
    }

    #[test]
    fn what_the_engine_cannot_keep_is_refused_with_what_to_write() {
        let engine = Memory::with_schedules();
        let after = |task: &mut Task| {
            task.trigger = Some(Trigger::after_finish(Duration::from_secs(60)).unwrap());
            task.overlap = Overlap::CancelOther;
        };
        let bounded = |task: &mut Task| {
            task.misfire =
                Misfire { policy: MisfirePolicy::All, max: 3.try_into().unwrap(), ..Misfire::default() };
        };
        let cases = [
            (with(hosted("a"), after), vec!["follows the finish", "cancel_other"]),
            (with(hosted("a"), bounded), vec!["misfire.max = 3"]),
            (with(foreign("a"), |task| task.overlap = Overlap::Queue), vec!["not ours"]),
        ];
        for (mut task, parts) in cases {
            let error = judge(&engine, &task).unwrap_err();
            assert_eq!((error.code(), error.kind()), ("workflow/not_keepable", ErrorKind::Invalid));
            for part in parts.into_iter().chain(["fired_by = \"scheduler\""]) {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
            assert_eq!(error.to_string().matches("fired_by").count(), 1, "{error}");
            task.fired_by = FiredBy::Scheduler;
            assert!(judge(&engine, &task).is_ok());
        }
    }

    #[test]
    fn a_default_that_the_engine_does_not_share_is_warned_about() {
        let codes = |task: &Task| -> Vec<&str> {
            judge(&Memory::with_schedules(), task).unwrap().iter().map(|warning| warning.code).collect()
        };
        assert_eq!(codes(&with(hosted("a"), |_| {})), ["workflow/misfire_by_engine"]);
        let own_overlap = ["workflow/overlap_by_engine", "workflow/misfire_by_engine"];
        assert_eq!(codes(&with(foreign("a"), |_| {})), own_overlap);
        let all = |task: &mut Task| {
            task.misfire.policy = MisfirePolicy::All;
            task.priority = Priority::new(9).unwrap();
        };
        assert_eq!(codes(&with(hosted("a"), all)), ["workflow/no_priority"]);
        assert!(codes(&with(hosted("a"), |task| task.fired_by = FiredBy::Scheduler)).is_empty());
    }

    #[test]
    fn an_engine_that_runs_no_tasks_of_ours_takes_deployments_only() {
        let engine = Memory::without_schedules();
        assert_eq!(judge(&engine, &hosted("a")).unwrap_err().code(), "workflow/not_hostable");
        assert!(judge(&engine, &foreign("a")).is_ok());
    }
}
