//! Ended runs of a backend: one in memory here, the real ones where they are at home.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    AttemptEnd, Backend, BackendContext, BackendInfo, BackendRole, CancelReason, Cancelled, Clock, Drained,
    EndedRun, Enqueued, Error, Health, HistoryBounds, Name, Page, Printed, Result, Retention, RunContext,
    RunFilter, RunHost, RunId, RunRequest, Scheduler, SystemClock, Tier, Timestamp, async_trait, attempt,
};
use serde_json::{Value, json};

use crate::stage::{HOUR, Told, cache_cleanup, context, descriptor, listed, told};

/// A backend that has nothing but ended runs, the one that ended first first; of one that forgets nothing, none.
#[derive(Clone, Debug)]
struct Archive {
    name: &'static str,
    runs: Option<Arc<Mutex<Vec<EndedRun>>>>,
    /// Told to stop as soon as runs have been forgotten so often.
    stops: Arc<Mutex<Option<(usize, RunContext)>>>,
}

impl Archive {
    /// Runs that ended an hour after each other, the last one just now.
    fn new(count: u32) -> Self {
        let now = SystemClock::new().now();
        let run = |hours: u32| {
            let id = RunId::manual(now - HOUR * hours);
            EndedRun::new(id, Name::new("mail").unwrap(), now - HOUR * hours, 100)
        };
        let runs = (0..count).rev().map(run).collect();
        Self { name: "queue", runs: Some(Arc::new(Mutex::new(runs))), stops: Arc::default() }
    }

    fn ids(&self) -> Vec<RunId> {
        self.runs.as_ref().unwrap().lock().unwrap().iter().map(|ended| ended.run).collect()
    }

    fn over(bounds: &HistoryBounds, runs: &[EndedRun]) -> usize {
        let oldest = bounds.max_age.map_or(Timestamp::MIN, |age| SystemClock::new().now() - age);
        bounds.beyond(runs.len(), runs.iter().filter(|ended| ended.ended_at <= oldest).count())
    }
}

#[async_trait]
impl Retention for Archive {
    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: usize) -> Result<Vec<EndedRun>> {
        let runs = self.runs.as_ref().unwrap().lock().unwrap();
        Ok(runs[..Self::over(bounds, &runs)].iter().skip(skip).take(limit).cloned().collect())
    }

    async fn forget(&self, bounds: &HistoryBounds, limit: usize) -> Result<Vec<EndedRun>> {
        if let Some((left, run)) = &mut *self.stops.lock().unwrap() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                run.cancel(CancelReason::Requested);
            }
        }
        let mut runs = self.runs.as_ref().unwrap().lock().unwrap();
        let over = Self::over(bounds, &runs).min(limit);
        Ok(runs.drain(..over).collect())
    }
}

#[async_trait]
impl Backend for Archive {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(Name::new(self.name).unwrap(), "archive", Tier::Queue, &[])
    }

    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }

    async fn enqueue(&self, _: RunRequest) -> Result<Enqueued> {
        Err(Error::unsupported("backend/stopped", "it takes nothing"))
    }

    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page::default())
    }

    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "it has no runs"))
    }

    async fn health(&self) -> Health {
        Health::up()
    }

    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }

    fn retention(&self) -> Option<&dyn Retention> {
        self.runs.is_some().then_some(self)
    }
}

fn args(more: &Value) -> Value {
    let mut target = json!({"kind": "history", "backend": "queue"});
    target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"targets": [target]})
}

/// A scheduler of backends, and a run of it.
fn run_of(backends: &[&Archive], params: &Value) -> (Scheduler, RunContext) {
    let clock = Arc::new(SystemClock::new());
    let builder = Scheduler::builder(clock.clone());
    let builder = backends.iter().fold(builder, |builder, backend| {
        builder.backend_as(Arc::new((*backend).clone()), BackendRole::default())
    });
    let scheduler = builder.build().unwrap();
    let mut identity = context().identity().clone();
    identity.params = params.as_object().cloned().unwrap_or_default();
    let mut host = RunHost::standalone(clock);
    (host.scheduler, host.printed) = (scheduler.downgrade(), Printed::default());
    (scheduler, RunContext::new(identity, host))
}

async fn run_on(backends: &[&Archive], args: &Value, params: &Value) -> Told {
    let (_scheduler, run) = run_of(backends, params);
    told(attempt(&*cache_cleanup(args), &run, None).await)
}

#[tokio::test]
async fn what_a_dry_run_lists_is_what_a_real_one_forgets() {
    for (more, left) in [
        (json!({"max_runs": 3}), 3),
        (json!({"max_age": "90m"}), 2),
        (json!({"max_age": "90m", "max_runs": 1}), 1),
        (json!({"max_runs": 2000}), 1_200),
        (json!({"max_runs": 0}), 0),
    ] {
        let (archive, mut args) = (Archive::new(1_200), args(&more));
        args["max_listed"] = json!(5_000);
        let before = archive.ids();

        let dry = run_on(&[&archive], &args, &json!({"dry_run": true})).await;
        assert_eq!(archive.ids(), before, "{more}: a dry run forgets nothing");
        let real = run_on(&[&archive], &args, &Value::Null).await;

        let gone = 1_200 - left;
        assert_eq!(archive.ids(), before[gone..], "{more}");
        assert_eq!((listed(&dry), &dry.output["bytes"]), (listed(&real), &real.output["bytes"]), "{more}");
        assert_eq!((&dry.output["dry_run"], &real.output["dry_run"]), (&json!(true), &json!(false)));
        let named: Vec<&str> = listed(&real).iter().map(|item| item.split(' ').nth(1).unwrap()).collect();
        let expected: Vec<String> = before[..gone].iter().map(ToString::to_string).collect();
        assert_eq!(named, expected, "{more}: the one that ended first first");
        assert_eq!((real.output["removed"].as_u64(), real.error), (Some(gone as u64), None));
        assert_eq!(real.output["bytes"], 100 * gone);
    }
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_ends_between_two_parts_and_tells_what_went() {
    let archive = Archive::new(5_000);
    let (_scheduler, run) = run_of(&[&archive], &Value::Null);
    *archive.stops.lock().unwrap() = Some((2, run.clone()));

    let end = attempt(&*cache_cleanup(&args(&json!({"max_runs": 0}))), &run, None).await;

    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    let removed = end.output()["removed"].as_u64().unwrap();
    assert!(removed > 0 && removed < 5_000, "{removed}");
    assert_eq!(archive.ids().len() as u64, 5_000 - removed);
}

#[tokio::test]
async fn a_backend_that_cannot_forget_or_is_not_there_is_a_fault_and_the_others_are_cleaned() {
    let (archive, fixed) = (Archive::new(5), Archive { name: "flows", runs: None, ..Archive::new(0) });
    let target = |backend: &str| json!({"kind": "history", "backend": backend, "max_runs": 0});
    let args = json!({"targets": [target("flows"), target("nowhere"), target("queue")]});

    let told = run_on(&[&archive, &fixed], &args, &Value::Null).await;

    let error = told.error.unwrap();
    assert!(error.contains("backend `flows` does not forget runs on demand"), "{error}");
    assert!(error.contains("no backend `nowhere`") && archive.ids().is_empty(), "{error}");
}

#[tokio::test]
async fn without_a_scheduler_nothing_is_forgotten_and_that_is_told() {
    let told = crate::stage::run(&args(&json!({"max_runs": 1}))).await;

    assert!(told.error.unwrap().contains("has no scheduler around it"));
}

#[test]
fn what_cannot_be_meant_of_a_history_has_a_place() {
    let cases = [
        (args(&json!({})), "/targets/0", "nothing says what goes"),
        (args(&json!({"max_runs": 1, "backend": "Queue 1"})), "/targets/0/backend", "Queue 1"),
        (args(&json!({"max_runs": 1, "path": "/x"})), "/targets/0/path", "of no use for `history`"),
        (json!({"targets": [{"kind": "history", "max_runs": 1}]}), "/targets/0", "needs `backend`"),
        (args(&json!({"max_files": 1, "max_runs": 1})), "/targets/0/max_files", "of no use"),
    ];
    for (args, place, part) in cases {
        let faults = descriptor().build(&args).err().unwrap_or_default();
        let told: Vec<String> = faults.iter().map(|fault| format!("{} {fault}", fault.pointer)).collect();
        assert!(told.len() == 1 && faults[0].pointer == place && told[0].contains(part), "{place}: {told:?}");
    }
}
