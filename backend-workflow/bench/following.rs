//! What following a thousand runs costs, and how soon a change is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_workflow::{EngineRunFilter, PrefectEngine, WorkflowBackend, WorkflowConfig, WorkflowEngine};
use scheduler_core::{
    Event, Name, OnUnavailable, Registry, Scheduler, SystemClock, Task, Tier, TriggerRequest, Way, source,
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::counting::Counting;
use crate::prefect::{FLOW, Prefect, Result};
use crate::report::{Report, quantile};
use crate::silence::Silence;

const PAGE: usize = 200;
/// How many runs are started at a time.
const CALLERS: usize = 4;
/// Runs that change while the others only live.
const CHANGED: usize = 40;
/// The longest that a change is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

type Heard = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

pub(crate) async fn measure(prefect: &Prefect, report: &mut Report) -> Result<()> {
    let (runs, seconds) = if report.quick { (200, 6) } else { (1000, 20) };
    let (_, deployment) = prefect.deployment("followed").await?;
    let engine = Arc::new(Counting::new(PrefectEngine::new(prefect.settings())?));
    let (name, task) = (Name::new("workflow")?, Name::new("followed")?);
    let backend = WorkflowBackend::new(name, WorkflowConfig::default(), engine.clone());
    let mut registry = Registry::new();
    registry.add_job(backend_workflow::job(), source!(), Way::Explicit)?;
    let clock = Arc::new(SystemClock::new());
    let scheduler = Scheduler::builder(clock).registry(registry).backend(Arc::new(backend)).build()?;
    let heard = listen(&scheduler);
    scheduler.start().await?;
    let mut definition = Task::new(task.clone(), Name::new("prefect")?);
    definition.args = json!({ "flow": FLOW, "deployment": "followed" });
    definition.tier = Some(Tier::Workflow);
    definition.on_unavailable = OnUnavailable::Error;
    scheduler.submit(definition).await?;
    let mut under_way = JoinSet::new();
    for _ in 0..runs {
        if under_way.len() == CALLERS
            && let Some(ended) = under_way.join_next().await
        {
            ended??;
        }
        let (scheduler, task) = (scheduler.clone(), task.clone());
        under_way.spawn(async move { scheduler.trigger(&task, TriggerRequest::now()).await });
    }
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }

    // Their time has come and nobody takes them, so each look finds all of them.
    let (looks, searches) = (engine.looks(), engine.searches());
    let (cpu, began) = (processor_time()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let periods = began.elapsed().as_secs_f64() / 2.0;
    let looks = (engine.looks() - looks) as f64 / periods;
    let searches = (engine.searches() - searches) as f64 / periods;
    let cpu = (processor_time()? - cpu).as_secs_f64() * 1e6 / (runs as f64 * periods);
    let looks = report.figure("follow the runs, pages every 2 s", "ours", "pages", vec![looks]);
    report.figure("look for new runs, pages every 2 s", "ours", "pages", vec![searches]);
    let cpu = report.figure("follow the runs, own processor", "ours", "us a run", vec![cpu]);

    let filter =
        EngineRunFilter { workflows: vec![deployment], limit: CHANGED, ..EngineRunFilter::default() };
    let chosen = engine.list_runs(&filter).await?;
    let first = chosen.runs.first().ok_or("no run is followed")?.id.0.clone();
    let silence = Silence::watch(prefect, first);
    let (mut seen, mut silent) = (Vec::new(), Vec::new());
    for (told_as, state) in ["RUNNING", "COMPLETED"].into_iter().enumerate() {
        let mut changed = Vec::new();
        for run in &chosen.runs {
            prefect.put(&run.id.0, state).await?;
            changed.push((run.id.0.clone(), Instant::now()));
        }
        for (at, told) in told(&heard, told_as, &changed).await? {
            // Until it answers again nobody knows.
            let kept_waiting = silence.between(at, told);
            seen.push((told.saturating_duration_since(at).saturating_sub(kept_waiting)).as_secs_f64());
            silent.push(kept_waiting.as_secs_f64());
        }
    }
    scheduler.stop(Duration::from_secs(5)).await?;
    drop(silence);
    let last = quantile(&seen, 1.0);
    let longest = quantile(&silent, 1.0);
    report.figure("the longest silence of the server then", "plain calls", "s", vec![longest]);
    report.figure("a change of state is told after", "ours", "s", seen);

    report.want_at_most("pages every 2 s", (runs / PAGE) as f64, looks, "pages");
    report.want_at_most("own processor a run", 50.0, cpu, "us");
    report.want_at_most("the slowest change of state", 5.0, last, "s");
    Ok(())
}

/// Notes when the first attempt and the end of each run were told, by the id that its page has in Prefect.
fn listen(scheduler: &Scheduler) -> Heard {
    let heard = Heard::default();
    let notes = Arc::clone(&heard);
    scheduler.events().listen(move |event| {
        let (Event::AttemptStarted { run, .. } | Event::RunEnded { run, .. }) = event else { return };
        if let Some((_, id)) = run.url.as_deref().and_then(|url| url.rsplit_once('/')) {
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.entry(id.to_owned()).or_default().push(Instant::now());
        }
    });
    heard
}

/// When each change came about and when it was told, as the first or the second that was told of its run.
async fn told(
    heard: &Heard,
    told_as: usize,
    changed: &[(String, Instant)],
) -> Result<Vec<(Instant, Instant)>> {
    let began = Instant::now();
    loop {
        let found: Option<Vec<(Instant, Instant)>> = {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let after = |(run, at): &(String, Instant)| Some((*at, *heard.get(run)?.get(told_as)?));
            changed.iter().map(after).collect()
        };
        match found {
            Some(found) => return Ok(found),
            None if began.elapsed() > PATIENCE => return Err("a change of state was never told".into()),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What this process has used so far.
fn processor_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // After the name of the program, which may hold anything: user and system time are the 12th and 13th.
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<std::result::Result<u64, _>>()?;
    // The kernel tells a hundredth of a second.
    Ok(Duration::from_millis(ticks * 10))
}
