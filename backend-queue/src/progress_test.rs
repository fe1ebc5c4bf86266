//! How far a run has come, seen from another process, on each store.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, JobDescriptor, Name, Placed, Progress, Registry, RunContext, RunFilter, RunId,
    RunRequest, RunState, SystemClock, Task, Tier, Timestamp, place,
};

use crate::store::{Ack, Claim, Next, Store};
use crate::{QueueBackend, QueueConfig};

const LEASE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

fn half() -> Progress {
    serde_json::from_value(serde_json::json!({"done": 0.5, "note": "copying"})).unwrap()
}

/// The progress that is shown of a run.
async fn shown(store: &dyn Store, run: RunId) -> Option<Progress> {
    store.runs(&RunFilter::of_run(run)).await.unwrap().runs.remove(0).progress
}

async fn only_who_has_a_run_says_how_far_it_has_come(store: &dyn Store) {
    let claim = |lease| Claim::new(1, lease);
    let stale = store.step(&[], &claim(Duration::ZERO)).await.unwrap().claimed.remove(0);
    // The lease of no length has expired as soon as the clock has moved on.
    while store.reap(1).await.unwrap().is_empty() {}
    let held = store.step(&[], &claim(LEASE)).await.unwrap().claimed.remove(0);
    let told = |delivery: &crate::store::Delivery, progress: Progress| {
        let mut run = delivery.run.clone();
        run.progress = Some(progress);
        (run, delivery.fence)
    };

    store.tell_progress(&[told(&held, half())]).await.unwrap();
    let late = serde_json::from_value(serde_json::json!({"done": 0.9, "note": "stale"})).unwrap();
    store.tell_progress(&[told(&stale, late)]).await.unwrap();
    assert_eq!(shown(store, held.run.id).await, Some(half()));

    let mut run = held.run.clone();
    (run.state, run.finished_at) = (RunState::Succeeded, Some(now()));
    let ack = Ack { run, fence: held.fence, next: Next::End, is_followed: false };
    assert!(store.step(&[ack], &Claim::new(0, LEASE)).await.unwrap().refused.is_empty());
    store.tell_progress(&[told(&held, half())]).await.unwrap();
    let ended = store.runs(&RunFilter::of_run(held.run.id)).await.unwrap().runs.remove(0);
    assert_eq!((ended.state, ended.progress), (RunState::Succeeded, None), "it is told with the end");
}

/// A backend whose job says that it is half done and waits for `go`.
async fn running(config: QueueConfig, namespace: &Name, folder: &std::path::Path) -> (QueueBackend, RunId) {
    let go = folder.join("go");
    let job = JobDescriptor::function("job", "says how far it is", move |ctx: RunContext| {
        let go = go.clone();
        async move {
            ctx.set_progress(0.5, "copying");
            while !go.exists() {
                ctx.sleep(Duration::from_millis(10)).await;
            }
            ctx.set_progress(1.0, "x".repeat(10_000));
            Ok("done".into())
        }
    });
    let backend = QueueBackend::new(Name::new("queue").unwrap(), config);
    let ctx = context(namespace, folder);
    let mut task = Task::new(Name::new("t").unwrap(), job.name().clone());
    task.tier = Some(Tier::Queue);
    let site = scheduler_core::Site { info: backend.info(), is_default: false, is_down: false };
    let placement = place(&task, &job, &[site]).unwrap();
    let job = job.build(&serde_json::Value::Null).unwrap();
    ctx.tasks.insert(Arc::new(Placed { task, job, placement: placement.into() }));
    backend.start(ctx.clone()).await.unwrap();
    let request = RunRequest::manual(RunId::manual(now()), Name::new("t").unwrap(), now());
    let run = backend.enqueue(request).await.unwrap().run_id();
    (backend, run)
}

fn context(namespace: &Name, folder: &std::path::Path) -> BackendContext {
    let mut ctx = BackendContext::standalone(namespace.clone(), Arc::new(SystemClock::new()));
    ctx.registry = Arc::new(Registry::default());
    ctx.data_dir = Some(folder.to_owned());
    ctx
}

async fn a_job_says_how_far_it_is_and_another_process_reads_it(config: QueueConfig, namespace: &Name) {
    let folder = tempfile::tempdir().unwrap();
    let (backend, run) = running(config.clone(), namespace, folder.path()).await;
    let other = QueueBackend::new(Name::new("queue").unwrap(), config);
    other.connect(context(namespace, folder.path())).await.unwrap();
    let read = async || other.runs(&RunFilter::of_run(run)).await.unwrap().runs.remove(0);

    let said = loop {
        let run = read().await;
        if let Some(progress) = run.progress {
            assert_eq!(run.state, RunState::Running);
            assert!(run.started_at.is_some(), "it is known when it began");
            break progress;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(said, half());
    assert_eq!(said.to_string(), "50%, copying");
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = loop {
        let run = read().await;
        if run.state.is_end() {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let last = ended.progress.unwrap();
    assert_eq!((ended.state, last.done, last.note.len()), (RunState::Succeeded, 1.0, 500));
    backend.stop(LEASE).await.unwrap();
}

#[cfg(feature = "sqlite")]
mod in_a_file {
    use super::*;

    #[tokio::test]
    async fn only_who_has_a_run_says_how_far_it_has_come() {
        let bench = crate::sqlite_test::Bench::new().await;
        bench.push(1, 3).await;
        super::only_who_has_a_run_says_how_far_it_has_come(&bench.store).await;
    }

    #[tokio::test]
    async fn a_job_says_how_far_it_is_and_another_process_reads_it() {
        let namespace = Name::new("default").unwrap();
        super::a_job_says_how_far_it_is_and_another_process_reads_it(QueueConfig::default(), &namespace)
            .await;
    }
}

#[cfg(feature = "redis")]
mod on_redis {
    use crate::redis_stage::{config, namespace, url};
    use crate::redis_test::{fresh, push};

    #[tokio::test]
    async fn only_who_has_a_run_says_how_far_it_has_come() {
        let store = fresh().await;
        push(&store, 1).await;
        super::only_who_has_a_run_says_how_far_it_has_come(&store).await;
    }

    #[tokio::test]
    async fn a_job_says_how_far_it_is_and_another_process_reads_it() {
        super::a_job_says_how_far_it_is_and_another_process_reads_it(config(&url()), &namespace()).await;
    }
}
