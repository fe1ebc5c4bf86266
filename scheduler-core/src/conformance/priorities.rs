//! Which of many due runs starts first.

use super::act::Part;
use super::fault::{Outcome, broken, ensure, not_applicable};
use super::stage::Stage;
use crate::{Capability, Priority, RunRequest, Task};

/// The priorities of the runs that wait, in the order they came.
const CAME: [u8; 6] = [4, 1, 8, 6, 9, 2];

/// What has the priority.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Task,
    Run,
}

/// Fills every slot, lets runs of different priorities wait, frees one slot, and says in which order they began.
async fn order(stage: &mut Stage, slots: usize, of: Of) -> Outcome<Vec<u8>> {
    stage.start().await?;
    let holds = stage.task("holds", Part::Hold, |_| ()).await?;
    let works = stage.task("works", Part::Work(stage.units(5)), |_| ()).await?;
    for task in std::iter::once(&works).chain(std::iter::repeat_n(&holds, slots - 1)) {
        let run = stage.enqueue(task).await?;
        stage.begun(run, 1).await?;
    }
    for level in CAME {
        let priority = Priority::new(level);
        let set = |task: &mut Task| {
            if of == Of::Task {
                task.priority = priority.unwrap_or_default();
            }
        };
        let task = stage.task(&format!("priority_{level}"), Part::Echo, set).await?;
        let own = priority.filter(|_| of == Of::Run);
        let request = RunRequest { priority: own, ..stage.request(&task, stage.now()) };
        stage.ask_enqueue(request).await?;
    }
    let begun = || -> Vec<u8> {
        let seen = stage.ledger.all();
        let levels = seen.iter().filter_map(|seen| seen.task.as_str().strip_prefix("priority_"));
        levels.filter_map(|level| level.parse().ok()).collect()
    };
    ensure(begun().is_empty(), || {
        format!("runs began although {slots} attempts were under way: {:?}", begun())
    })?;
    stage
        .eventually("every run begins that waited for a slot", async || {
            Ok(Some(begun()).filter(|begun| begun.len() == CAME.len()))
        })
        .await
}

fn by_priority() -> Vec<u8> {
    let mut levels = CAME.to_vec();
    levels.sort_unstable_by(|a, b| b.cmp(a));
    levels
}

pub(super) async fn the_higher_priority_starts_first(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Priorities)?;
    let Some(slots) = stage.concurrency() else {
        return broken("it declares priorities; say in Subject::concurrency how many attempts run at once");
    };
    let order = order(stage, slots, Of::Task).await?;
    ensure(order == by_priority(), || format!("by priority, {CAME:?} began in the order {order:?}"))
}

pub(super) async fn a_run_goes_by_the_priority_it_was_asked_for_with(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Priorities)?;
    let Some(slots) = stage.concurrency() else {
        return not_applicable("Subject::concurrency says of no bound, so no run waits for another");
    };
    let order = order(stage, slots, Of::Run).await?;
    ensure(order == by_priority(), || format!("by their own priority, {CAME:?} began in the order {order:?}"))
}

pub(super) async fn who_goes_by_priority_says_so(stage: &mut Stage) -> Outcome {
    stage.needs_no(Capability::Priorities)?;
    let Some(slots) = stage.concurrency() else {
        return not_applicable("Subject::concurrency says of no bound, so no run waits for another");
    };
    let order = order(stage, slots, Of::Task).await?;
    ensure(order != by_priority(), || {
        format!("{CAME:?} began in the order {order:?}: declare Capability::Priorities")
    })
}
