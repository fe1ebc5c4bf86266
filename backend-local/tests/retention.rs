//! What the local tier forgets on demand: the old end of its history, in memory and in the file.

#![expect(clippy::unwrap_used, reason = "the tests' own functions may fail like the tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    Clock, EndedRun, HistoryBounds, JobDescriptor, Name, Output, Registry, RunFilter, RunId, Scheduler, Task,
    TestClock, Timestamp, TriggerRequest, Way, source,
};

const MINUTE: Duration = Duration::from_secs(60);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A scheduler whose tasks `often` and `seldom` answer with a text, started.
async fn started(clock: &TestClock, folder: &Path) -> Scheduler {
    let mut registry = Registry::new();
    let job = JobDescriptor::function("says", "says much", |_| async { Ok(Output::from("x".repeat(1_000))) });
    registry.add_job(job, source!(), Way::Explicit).unwrap();
    let local = LocalBackend::new(name("local"), LocalConfig::default());
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let builder = Scheduler::builder(clock).registry(registry).backend(Arc::new(local)).data_dir(folder);
    let scheduler = builder.build().unwrap();
    scheduler.start().await.unwrap();
    for task in ["often", "seldom"] {
        scheduler.define(Task::new(name(task), name("says"))).await.unwrap();
    }
    scheduler
}

/// Runs a task to its end.
async fn run(scheduler: &Scheduler, clock: &TestClock, task: &str) -> RunId {
    let id = scheduler.trigger(&name(task), TriggerRequest::now()).await.unwrap().run_id();
    clock.advance(MINUTE).await;
    let page = scheduler.history(&RunFilter::of_run(id)).await.unwrap();
    assert!(page.runs[0].state.is_end(), "{page:?}");
    id
}

async fn shown(scheduler: &Scheduler) -> Vec<RunId> {
    let mut runs = scheduler.history(&RunFilter::all().limited(1_000)).await.unwrap().runs;
    runs.reverse();
    runs.iter().map(|run| run.id).collect()
}

fn ids(ended: &[EndedRun]) -> Vec<RunId> {
    ended.iter().map(|ended| ended.run).collect()
}

fn now() -> TestClock {
    TestClock::at(Timestamp::from(std::time::SystemTime::now()))
}

async fn forget_all(scheduler: &Scheduler, bounds: &HistoryBounds) -> Vec<EndedRun> {
    let mut gone = Vec::new();
    loop {
        let some = scheduler.forget_beyond(&name("local"), bounds, 4).await.unwrap();
        if some.is_empty() {
            return gone;
        }
        gone.extend(some);
    }
}

#[tokio::test]
async fn what_goes_is_gone_from_memory_and_from_the_file_and_the_last_run_of_each_task_stays() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), now());
    let scheduler = started(&clock, folder.path()).await;
    let seldom = run(&scheduler, &clock, "seldom").await;
    let mut often = Vec::new();
    for _ in 0..12 {
        often.push(run(&scheduler, &clock, "often").await);
    }
    let file = folder.path().join("history-local.jsonl");
    let (local, three) = (name("local"), HistoryBounds::default().counting(3));

    let told = scheduler.history_beyond(&local, &three, 0, 100).await.unwrap();
    let rest = scheduler.history_beyond(&local, &three, 7, 100).await.unwrap();
    let gone = forget_all(&scheduler, &three).await;

    assert_eq!(ids(&gone), often[..9], "the last run of `seldom` is older, and stays");
    assert_eq!((&told, &rest[..]), (&gone, &told[7..]));
    assert!(gone.iter().all(|ended| ended.bytes > 1_000 && ended.task == name("often")), "{gone:?}");
    let left = [&[seldom], &often[9..]].concat();
    assert_eq!(shown(&scheduler).await, left);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(often[..9].iter().all(|run| !text.contains(&run.to_string())), "{text}");

    scheduler.stop(MINUTE).await.unwrap();
    let again = started(&clock, folder.path()).await;
    assert_eq!(shown(&again).await, left, "after a restart");
    assert_eq!(forget_all(&again, &three).await, []);
    // What ends after that stands in the new file.
    let last = run(&again, &clock, "often").await;
    again.stop(MINUTE).await.unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&last.to_string()));
}

#[tokio::test]
async fn what_ended_longer_ago_goes_whatever_its_number() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), now());
    let scheduler = started(&clock, folder.path()).await;
    let mut often = Vec::new();
    for _ in 0..10 {
        often.push(run(&scheduler, &clock, "often").await);
    }

    // The last one ended a minute ago.
    let gone = forget_all(&scheduler, &HistoryBounds::default().aged(MINUTE * 4)).await;

    assert_eq!((ids(&gone), shown(&scheduler).await), (often[..7].to_vec(), often[7..].to_vec()));
    let all = forget_all(&scheduler, &HistoryBounds::default().aged(Duration::ZERO)).await;
    assert_eq!((ids(&all), shown(&scheduler).await), (often[7..9].to_vec(), vec![often[9]]));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), now());
    let scheduler = started(&clock, folder.path()).await;
    for _ in 0..3 {
        run(&scheduler, &clock, "often").await;
    }
    // The draft of the new file cannot be made where there is a folder of its name.
    std::fs::create_dir(folder.path().join("history-local.tmp")).unwrap();

    let bounds = HistoryBounds::default().counting(0);
    let refused = scheduler.forget_beyond(&name("local"), &bounds, 100).await.unwrap_err();

    assert_eq!(refused.code(), "history/unusable");
}

#[tokio::test]
async fn a_backend_that_does_not_run_forgets_nothing() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), now());
    let scheduler = started(&clock, folder.path()).await;
    run(&scheduler, &clock, "often").await;
    run(&scheduler, &clock, "often").await;
    scheduler.stop(MINUTE).await.unwrap();

    let bounds = HistoryBounds::default().counting(0);
    let refused = scheduler.forget_beyond(&name("local"), &bounds, 100).await.unwrap_err();

    assert_eq!((refused.code(), shown(&scheduler).await.len()), ("backend/stopped", 2));
}
