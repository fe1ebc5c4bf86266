//! Firing by itself: which fires there are, each once, and what pauses, edits and ends them.

use std::time::Duration;

use super::act::Part;
use super::fault::{Outcome, broken, ensure, ensure_eq};
use super::stage::Stage;
use crate::{
    Capability, MisfirePolicy, Name, Overlap, Pause, Run, RunId, RunOrigin, RunState, ScheduleStatus, Task,
    Timestamp,
};

impl Stage {
    /// A task that fires every ten units from `first` on.
    pub(super) async fn ticking(
        &self,
        name: &str,
        part: Part,
        first: Timestamp,
        change: impl FnOnce(&mut Task),
    ) -> Outcome<Name> {
        let change = |task: &mut Task| {
            task.trigger = Some(self.every(10, first));
            change(task);
        };
        self.task(name, part, change).await
    }

    /// The run that a fire time makes.
    pub(super) fn fire(&self, task: &Name, fire_time: Timestamp) -> RunId {
        RunId::scheduled(self.namespace(), task, fire_time)
    }

    /// The runs of a task in the order of their fire times, each as units since `base` and its state.
    pub(super) async fn story(&self, task: &Name, base: Timestamp) -> Outcome<Vec<(u32, RunState)>> {
        let mut runs: Vec<Run> = self.runs().await?.into_iter().filter(|run| run.task == *task).collect();
        runs.sort_by_key(|run| run.fire_time);
        let units = |run: &Run| run.fire_time.since(base).as_millis() / self.units(1).as_millis();
        Ok(runs.iter().map(|run| (u32::try_from(units(run)).unwrap_or(u32::MAX), run.state)).collect())
    }

    /// Waits until the task's runs are these.
    pub(super) async fn tells(&self, task: &Name, base: Timestamp, expected: &[(u32, RunState)]) -> Outcome {
        let mut seen = Vec::new();
        let told = self
            .settles(async || {
                seen = self.story(task, base).await?;
                Ok(seen == expected)
            })
            .await?;
        ensure(told, || format!("the runs of `{task}` by fire time: expected {expected:?}, saw {seen:?}"))
    }

    async fn status(&self, task: &Name) -> Outcome<ScheduleStatus> {
        let statuses = self.drive("statuses", self.schedules()?.statuses()).await?;
        match statuses.into_iter().find(|status| status.task == *task) {
            Some(status) => Ok(status),
            None => broken(format!("statuses() does not show `{task}`, which was accepted")),
        }
    }
}

const DONE: RunState = RunState::Succeeded;

pub(super) async fn a_task_fires_at_its_times_under_their_ids(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let first = base + stage.units(5);
    let task = stage.ticking("fires", Part::Echo, first, |_| ()).await?;
    let once = |task: &mut Task| task.trigger = crate::Trigger::at(first).ok();
    let one_shot = stage.task("fires_once", Part::Echo, once).await?;

    stage.pass_until(base + stage.units(36)).await;

    stage.tells(&task, base, &[(5, DONE), (15, DONE), (25, DONE), (35, DONE)]).await?;
    stage.tells(&one_shot, base, &[(5, DONE)]).await?;
    for run in stage.runs().await? {
        ensure_eq("the id of the run of a fire", run.id, stage.fire(&run.task, run.fire_time))?;
        ensure_eq("its origin", run.origin, RunOrigin::Schedule)?;
        let lateness = run
            .started_at
            .map(|start| (start + stage.earliness() >= run.fire_time, start.since(run.fire_time)));
        let in_time = lateness.is_some_and(|(is_due, late)| is_due && late <= stage.lateness());
        ensure(in_time, || format!("the fire of {} started at {:?}", run.fire_time, run.started_at))?;
    }
    Ok(())
}

pub(super) async fn an_edit_keeps_what_fired_and_takes_the_new_rule(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let first = base + stage.units(5);
    let task = stage.ticking("fires", Part::Echo, first, |_| ()).await?;
    stage.pass_until(first + stage.units(1)).await;
    stage.tells(&task, base, &[(5, DONE)]).await?;

    stage.ticking("fires", Part::Echo, first, |_| ()).await?;
    stage.pass(2).await;
    stage.tells(&task, base, &[(5, DONE)]).await?;
    let later = |task: &mut Task| task.trigger = Some(stage.every(20, base + stage.units(30)));
    stage.task("fires", Part::Echo, later).await?;

    stage.pass_until(base + stage.units(52)).await;
    stage.tells(&task, base, &[(5, DONE), (30, DONE), (50, DONE)]).await
}

pub(super) async fn a_removed_task_fires_no_more(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let task = stage.ticking("fires", Part::Echo, base + stage.units(5), |_| ()).await?;
    stage.pass_until(base + stage.units(7)).await;
    stage.tells(&task, base, &[(5, DONE)]).await?;

    let known = stage.drive("remove", stage.schedules()?.remove(&task)).await?;
    let again = stage.drive("remove", stage.schedules()?.remove(&task)).await?;

    ensure_eq("remove of a task that is known, and again", (known, again), (true, false))?;
    stage.pass(30).await;
    stage.tells(&task, base, &[(5, DONE)]).await
}

pub(super) async fn a_paused_task_does_not_fire_until_it_is_resumed(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let task = stage.ticking("fires", Part::Echo, base + stage.units(5), |_| ()).await?;
    let pause = Pause { reason: Some("deploy".into()), by: Some("ana".into()), until: None };

    stage.drive("pause", stage.schedules()?.pause(&task, pause.clone())).await?;

    let status = stage.status(&task).await?;
    ensure_eq("its status: next fire and pause", (status.next, status.paused), (None, Some(pause)))?;
    stage.pass_until(base + stage.units(28)).await;
    ensure_eq("attempts while it was paused", stage.ledger.all().len(), 0)?;
    stage.drive("resume", stage.schedules()?.resume(&task)).await?;
    let next = stage.fire(&task, base + stage.units(35));
    stage.begun(next, 1).await?;
    ensure_eq("its pause after resume", stage.status(&task).await?.paused, None)
}

pub(super) async fn a_pause_ends_by_itself_at_its_time(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let skip = |task: &mut Task| task.misfire.policy = MisfirePolicy::Skip;
    let task = stage.ticking("fires", Part::Echo, base + stage.units(5), skip).await?;
    let pause = Pause { until: Some(base + stage.units(30)), ..Pause::default() };

    stage.drive("pause", stage.schedules()?.pause(&task, pause)).await?;

    stage.pass_until(base + stage.units(36)).await;
    let next = stage.fire(&task, base + stage.units(35));
    stage.begun(next, 1).await?;
    ensure_eq("its pause after that", stage.status(&task).await?.paused, None)
}

pub(super) async fn a_task_it_does_not_know_cannot_be_paused(stage: &mut Stage) -> Outcome {
    let unknown = Name::new("nobody_knows_it").expect("it is a name");
    stage.schedules()?;
    stage.start().await?;

    let paused = stage.schedules()?.pause(&unknown, Pause::default()).await;
    let resumed = stage.schedules()?.resume(&unknown).await;

    ensure_eq("pause", paused.map_err(|error| error.code()), Err("task/unknown"))?;
    ensure_eq("resume", resumed.map_err(|error| error.code()), Err("task/unknown"))
}

pub(super) async fn many_tasks_at_once_are_treated_as_each_alone(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let ticking = |name, after| {
        stage.placed(name, Part::Echo, |task| {
            task.misfire.policy = MisfirePolicy::Skip;
            task.trigger = Some(stage.every(10, base + stage.units(after)));
        })
    };
    let both = vec![ticking("first", 4), ticking("second", 6)];
    let [first, second] = [both[0].task.name.clone(), both[1].task.name.clone()];
    let unknown = Name::new("nobody_knows_it").expect("it is a name");
    let names = [first.clone(), second.clone()];
    let schedules = stage.schedules()?;

    stage.drive("upsert_all", async { Ok(schedules.upsert_all(both).await?) }).await?;
    stage.pass_until(base + stage.units(8)).await;
    stage.tells(&first, base, &[(4, DONE)]).await?;
    stage.tells(&second, base, &[(6, DONE)]).await?;

    let pause = Pause { reason: Some("deploy".into()), ..Pause::default() };
    stage.drive("pause_all", async { Ok(schedules.pause_all(&names, &pause).await?) }).await?;
    for task in &names {
        ensure_eq("its pause", stage.status(task).await?.paused.as_ref(), Some(&pause))?;
    }
    stage.pass_until(base + stage.units(28)).await;
    stage.drive("resume_all", async { Ok(schedules.resume_all(&names).await?) }).await?;
    stage.begun(stage.fire(&first, base + stage.units(34)), 1).await?;
    stage.begun(stage.fire(&second, base + stage.units(36)), 1).await?;

    let asked = [first, unknown, second];
    let known = stage.drive("remove_all", async { Ok(schedules.remove_all(&asked).await?) }).await?;
    ensure_eq("remove_all of two and one it does not know", known, vec![true, false, true])
}

pub(super) async fn missed_fires_follow_the_policy_of_their_task(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let mut tasks = Vec::new();
    for policy in MisfirePolicy::ALL {
        let change = |task: &mut Task| {
            task.misfire.policy = *policy;
            task.overlap = Overlap::Skip;
        };
        let task = stage.ticking(policy.as_str(), Part::Echo, base + stage.units(5), change).await?;
        stage.drive("pause", stage.schedules()?.pause(&task, Pause::default())).await?;
        tasks.push(task);
    }

    stage.pass_until(base + stage.units(38)).await;
    for task in &tasks {
        stage.drive("resume", stage.schedules()?.resume(task)).await?;
    }

    for (task, policy) in tasks.iter().zip(MisfirePolicy::ALL) {
        let expected: &[_] = match policy {
            MisfirePolicy::Latest => &[(25, RunState::Skipped), (35, DONE)],
            MisfirePolicy::Skip => &[(35, RunState::Skipped)],
            MisfirePolicy::All => &[(5, DONE), (15, DONE), (25, DONE), (35, DONE)],
        };
        stage.tells(task, base, expected).await?;
    }
    Ok(())
}

pub(super) async fn statuses_tell_the_next_fire_and_the_runs_that_live(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let first = base + stage.units(5);
    let skip = |task: &mut Task| task.overlap = Overlap::Skip;
    let task = stage.ticking("fires", Part::Hold, first, skip).await?;
    let unscheduled = stage.task("waits", Part::Echo, |_| ()).await?;

    let before = stage.status(&task).await?;
    ensure_eq("next fire and live runs before the first", (before.next, before.live), (Some(first), 0))?;
    ensure_eq("the next fire of a task without a trigger", stage.status(&unscheduled).await?.next, None)?;
    stage.pass_until(base + stage.units(7)).await;
    stage.begun(stage.fire(&task, first), 1).await?;

    let after = stage.status(&task).await?;

    let expected = (Some(base + stage.units(15)), 1);
    ensure_eq("next fire and live runs after the first", (after.next, after.live), expected)
}

pub(super) async fn a_task_that_follows_its_finish_waits_for_it(stage: &mut Stage) -> Outcome {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let pause = stage.units(4);
    let follows = |task: &mut Task| {
        let bounds = crate::Bounds { start: Some(base + stage.units(5)), ..crate::Bounds::default() };
        task.trigger = crate::Trigger::new(crate::Rule::AfterFinish(pause), bounds).ok();
        task.overlap = Overlap::Skip;
    };
    let task = stage.task("follows", Part::Work(stage.units(7)), follows).await?;

    let of_task = async || {
        let mut runs: Vec<Run> = stage.runs().await?.into_iter().filter(|run| run.task == task).collect();
        runs.sort_by_key(|run| run.fire_time);
        Ok(Some(runs).filter(|runs| runs.iter().filter(|run| run.state == DONE).count() >= 3))
    };
    let runs = stage.eventually("three runs, each after the last", of_task).await?;

    let mut previous: Option<Timestamp> = None;
    for run in runs.iter().take(3) {
        if let Some(finished) = previous {
            ensure_eq("the fire time after a finish", run.fire_time, finished + pause)?;
        }
        previous = run.finished_at;
    }
    ensure_eq("the first fire", runs[0].fire_time, base + stage.units(5))
}

pub(super) async fn fires_missed_while_it_was_away_follow_the_policy(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Durable)?;
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let first = base + stage.units(5);
    // No fire after the last missed one, so that a slow start changes nothing.
    let bounds =
        crate::Bounds { start: Some(first), end: Some(base + stage.units(35)), ..crate::Bounds::default() };
    let until = |task: &mut Task| task.trigger = stage.every(10, first).within(bounds).ok();
    let task = stage.ticking("fires", Part::Echo, first, until).await?;
    stage.pass_until(base + stage.units(7)).await;
    stage.tells(&task, base, &[(5, DONE)]).await?;
    stage.stop(Duration::ZERO).await?;
    stage.pass_until(base + stage.units(37)).await;

    stage.reopen().await?;
    stage.start().await?;

    let expected = [(5, DONE), (25, RunState::Skipped), (35, DONE)];
    stage.tells(&task, base, &expected).await
}
