//! What every scene needs: a clock at a round hour, jobs, a scheduler, and history in short words.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    ArgsError, Backend, BackendRole, Clock, Job, JobDescriptor, JobError, Name, Output, Registry, Run,
    RunContext, RunFilter, Scheduler, SchedulerBuilder, Task, TestClock, Tier, Timestamp, Trigger, Way,
    async_trait, source,
};
use serde_json::{Value, json};

use crate::custom_backend::{Config, CustomBackend};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// 2027-01-15T08:00:00Z.
pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A backend as somebody else wrote it: in memory, without schedules of its own.
pub(crate) fn in_memory(name: &str, tier: Tier) -> CustomBackend {
    CustomBackend::new(Name::new(name).unwrap(), tier, Config::default())
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn at(second: u64) -> Timestamp {
    BEGIN + SECOND * u32::try_from(second).unwrap()
}

/// Shows where it runs; takes `seconds` of the run's clock.
struct Work {
    seconds: u64,
}

#[async_trait]
impl Job for Work {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let work = ctx.sleep(Duration::from_secs(self.seconds));
        match ctx.unless_cancelled(work).await {
            Ok(()) => Ok(json!({"params": ctx.params()})),
            Err(reason) => Err(JobError::abort(reason.as_str())),
        }
    }
}

pub(crate) fn registry() -> Registry {
    let work = JobDescriptor::new("work", "takes a while", |args| {
        let Some(args) = args.as_object() else { return Err(vec![ArgsError::new("", "no object")]) };
        let known = |key: &&String| key.as_str() != "seconds";
        let faults: Vec<ArgsError> = args
            .keys()
            .filter(known)
            .map(|key| ArgsError::new(format!("/{key}"), format!("unknown key `{key}`")))
            .collect();
        let seconds = args.get("seconds").and_then(Value::as_u64).unwrap_or(0);
        if faults.is_empty() { Ok(Arc::new(Work { seconds })) } else { Err(faults) }
    });
    let mut registry = Registry::new();
    registry.add_job(work, source!(), Way::Explicit).unwrap();
    registry
}

pub(crate) fn builder(clock: &TestClock) -> SchedulerBuilder {
    Scheduler::builder(Arc::new(clock.clone()) as Arc<dyn Clock>).registry(registry())
}

/// A scheduler over these backends, each required.
pub(crate) fn scheduler<const N: usize>(clock: &TestClock, backends: [Arc<dyn Backend>; N]) -> Scheduler {
    backends.into_iter().fold(builder(clock), SchedulerBuilder::backend).build().unwrap()
}

pub(crate) fn optional() -> BackendRole {
    BackendRole { required: false, ..BackendRole::default() }
}

/// A task named `t` that runs `work`.
pub(crate) fn task(change: impl FnOnce(&mut Task)) -> Task {
    let mut task = Task::new(name("t"), name("work"));
    change(&mut task);
    task
}

/// A task named `t` that fires every ten seconds and takes `seconds`.
pub(crate) fn ticking(seconds: u64, change: impl FnOnce(&mut Task)) -> Task {
    task(|task| {
        task.trigger = Some(Trigger::every(SECOND * 10).unwrap());
        task.args = json!({"seconds": seconds});
        change(task);
    })
}

/// Every run, oldest fire first.
pub(crate) async fn runs(scheduler: &Scheduler) -> Vec<Run> {
    let mut runs = scheduler.history(&RunFilter::all().limited(1_000)).await.unwrap().runs;
    runs.sort_by_key(|run| (run.fire_time, run.id));
    runs
}

/// Every run as `fire time: state`, the time in seconds since the beginning.
pub(crate) async fn story(scheduler: &Scheduler) -> Vec<String> {
    let tell = |run: &Run| {
        let second = (run.fire_time.as_millis() - BEGIN.as_millis()) as f64 / 1_000.0;
        format!("{second}: {}", run.state)
    };
    runs(scheduler).await.iter().map(tell).collect()
}
