//! What a backend can do that keeps its work outside: show logs, say what it would change, refuse a definition.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, Drained, Enqueued, Error, FiredBy, Health, Page, Placed,
    PlannedAction, PlannedChange, Planning, Result, RunFilter, RunId, RunLogLine, RunLogs, RunRequest, Task,
    TestClock, Tier, Warning, async_trait,
};

use crate::custom_backend::CustomBackend;
use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{BEGIN, SECOND, at, builder, in_memory, name, optional, scheduler, task};

/// A backend with every ability of an engine; each change is made once.
#[derive(Debug)]
struct Engine {
    inner: CustomBackend,
    made: Mutex<Vec<String>>,
    answers: bool,
}

impl Engine {
    fn on(backend: &str, tier: Tier) -> Self {
        Self { inner: in_memory(backend, tier), made: Mutex::default(), answers: true }
    }
}

#[async_trait]
impl Backend for Engine {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }
    async fn start(&self, ctx: BackendContext) -> Result<()> {
        self.inner.start(ctx).await
    }
    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        self.inner.enqueue(request).await
    }
    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        self.inner.runs(filter).await
    }
    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        self.inner.cancel(run).await
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
    async fn stop(&self, grace: Duration) -> Result<Drained> {
        self.inner.stop(grace).await
    }
    fn run_logs(&self) -> Option<&dyn RunLogs> {
        Some(self)
    }
    fn planning(&self) -> Option<&dyn Planning> {
        Some(self)
    }
    fn judge(&self, task: &Task) -> Result<Vec<Warning>> {
        match (task.fired_by, task.states_misfire()) {
            (FiredBy::Engine, true) => Err(Error::invalid("engine/misfire", "it cannot keep `misfire`")),
            (FiredBy::Engine, false) => Ok(vec![Warning::new("engine/misfire", "late runs run")]),
            (FiredBy::Scheduler, _) => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl RunLogs for Engine {
    async fn logs(&self, run: &RunId, offset: usize, limit: usize) -> Result<Vec<RunLogLine>> {
        if !self.answers {
            return Err(Error::unavailable("engine/away", "it does not answer"));
        }
        if self.inner.runs(&RunFilter::of_run(*run)).await?.runs.is_empty() {
            return Err(Error::not_found("run/unknown", "no such run"));
        }
        let line = |n| RunLogLine {
            at: at(n),
            level: "info".into(),
            message: format!("{n} of {}", self.info().name),
        };
        Ok((0..5).map(line).skip(offset).take(limit).collect())
    }
}

#[async_trait]
impl Planning for Engine {
    async fn plan(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>> {
        let made = self.made.lock().unwrap();
        let change = |placed: &Arc<Placed>| {
            let task = placed.task.name.clone();
            let is_made = made.contains(&task.to_string());
            let action = if is_made { PlannedAction::Keep } else { PlannedAction::Create };
            PlannedChange::new(action, format!("schedule of {task}")).of_task(task)
        };
        let wanted = |name: &&String| tasks.iter().any(|placed| placed.task.name.as_str() == name.as_str());
        let gone = made.iter().filter(|name| prune && !wanted(name));
        let gone = gone.map(|name| PlannedChange::new(PlannedAction::Delete, format!("schedule of {name}")));
        Ok(tasks.iter().map(change).chain(gone).collect())
    }

    async fn apply(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>> {
        let changes = self.plan(tasks, prune).await?;
        *self.made.lock().unwrap() = tasks.iter().map(|placed| placed.task.name.to_string()).collect();
        Ok(changes)
    }
}

#[tokio::test]
async fn a_plan_is_made_by_each_backend_for_its_own_tasks_and_applied_once() {
    let plain = Arc::new(in_memory("plain", Tier::Queue));
    let backends = [Arc::new(Engine::on("a", Tier::Local)), Arc::new(Engine::on("b", Tier::Workflow))];
    let scheduler = builder(&TestClock::at(BEGIN));
    let scheduler = scheduler.backend(plain).backend(backends[0].clone()).backend(backends[1].clone());
    let scheduler = scheduler.build().unwrap();
    for (task_name, tier) in [("x", Tier::Local), ("y", Tier::Workflow), ("z", Tier::Queue)] {
        scheduler.submit(task(|task| (task.name, task.tier) = (name(task_name), Some(tier)))).await.unwrap();
    }
    let told = |plans: Vec<scheduler_core::BackendPlan>| -> Vec<String> {
        let tell = |plan: &scheduler_core::BackendPlan| -> Vec<String> {
            let of =
                |change: &PlannedChange| format!("{}: {} {}", plan.backend, change.action, change.subject);
            plan.changes.iter().map(of).collect()
        };
        plans.iter().flat_map(tell).collect()
    };

    let planned = told(scheduler.plan(false).await.unwrap());
    assert_eq!(planned, ["a: create schedule of x", "b: create schedule of y"]);
    assert!(backends.iter().all(|backend| backend.made.lock().unwrap().is_empty()), "a plan writes nothing");

    assert_eq!(told(scheduler.apply(false).await.unwrap()), planned);
    assert_eq!(
        told(scheduler.plan(false).await.unwrap()),
        ["a: keep schedule of x", "b: keep schedule of y"]
    );
    scheduler.remove(&name("x")).await.unwrap();
    assert_eq!(
        told(scheduler.plan(true).await.unwrap()),
        ["a: delete schedule of x", "b: keep schedule of y"]
    );
}

#[tokio::test]
async fn logs_are_shown_by_the_backend_that_owns_the_run() {
    let clock = TestClock::at(BEGIN);
    let plain = Arc::new(in_memory("plain", Tier::Queue));
    let engine = Arc::new(Engine::on("engine", Tier::Workflow));
    let scheduler = scheduler(&clock, [plain, engine]);
    scheduler.start().await.unwrap();
    let mut runs = Vec::new();
    for (task_name, tier) in [("x", Tier::Queue), ("y", Tier::Workflow)] {
        let submitted = task(|task| (task.name, task.tier) = (name(task_name), Some(tier)));
        scheduler.submit(submitted).await.unwrap();
        runs.push(scheduler.trigger(&name(task_name), Default::default()).await.unwrap().run_id());
    }

    let lines = scheduler.logs(&runs[1], 1, 2).await.unwrap();
    let messages: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(messages, ["1 of engine", "2 of engine"]);
    let without = scheduler.logs(&runs[0], 0, 10).await.unwrap_err();
    assert!(without.code() == "run/no_logs" && without.to_string().contains("`plain`"), "{without}");
    let unknown = scheduler.logs(&RunId::manual(at(7)), 0, 10).await.unwrap_err();
    assert_eq!(unknown.code(), "run/unknown");
}

#[tokio::test]
async fn logs_of_a_run_that_nobody_else_owns_are_as_unavailable_as_the_one_that_may() {
    let engine = Arc::new(Engine { answers: false, ..Engine::on("engine", Tier::Workflow) });
    let scheduler = scheduler(&TestClock::at(BEGIN), [Arc::new(in_memory("plain", Tier::Queue)), engine]);

    let error = scheduler.logs(&RunId::manual(at(7)), 0, 10).await.unwrap_err();

    assert_eq!(error.code(), "engine/away");
}

#[tokio::test]
async fn a_backend_refuses_what_it_cannot_keep_and_warns_of_what_differs() {
    let scheduler =
        scheduler(&TestClock::at(BEGIN), [Arc::new(Engine::on("m", Tier::Workflow)) as Arc<dyn Backend>]);
    let placed = |by, stated| {
        let wanted = task(|task| {
            task.tier = Some(Tier::Workflow);
            (task.fired_by, task.misfire_stated) = (by, stated);
            task.timeout = Some(SECOND);
        });
        let codes = |warnings: &[Warning]| -> Vec<&str> { warnings.iter().map(|w| w.code).collect() };
        match scheduler.placement(&wanted) {
            Ok(placement) => format!("{:?}", codes(&placement.warnings).contains(&"engine/misfire")),
            Err(error) => error.code().to_owned(),
        }
    };

    assert_eq!(placed(FiredBy::Engine, true), "engine/misfire");
    assert_eq!(placed(FiredBy::Engine, false), "true");
    assert_eq!(placed(FiredBy::Scheduler, true), "false");
}

#[tokio::test]
async fn a_run_that_nobody_owns_may_be_on_a_backend_that_is_down() {
    let down = Arc::new(Faulty::on("down", Tier::Queue));
    down.set(Call::Start, Fault::Away);
    let clock = TestClock::at(BEGIN);
    let scheduler = builder(&clock).backend(Arc::new(Engine::on("engine", Tier::Workflow)));
    let scheduler = scheduler.backend_as(down, optional()).build().unwrap();
    scheduler.start().await.unwrap();
    let run = RunId::manual(at(7));

    let errors = [scheduler.logs(&run, 0, 1).await.unwrap_err(), scheduler.cancel(&run).await.unwrap_err()];

    assert_eq!(errors.map(|error| error.code().to_owned()), ["backend/down", "backend/down"]);
}
