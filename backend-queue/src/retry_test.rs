//! The retry policy as it is seen from outside, on each store: as many attempts as configured, each after its wait.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use scheduler_core::{
    Backend, BackendContext, Backoff, Event, JobDescriptor, JobError, Name, Output, Placed, RetryPolicy, Run,
    RunContext, RunFilter, RunId, RunRequest, RunState, Site, SystemClock, Task, Tier, Timestamp, place,
};

use crate::{QueueBackend, QueueConfig};

/// What an attempt of a job does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Fails,
    Panics,
    Aborts,
    TakesTooLong,
    /// Twice, then it fails.
    Snoozes,
}

/// A row of the table: what the job does, the policy, and how many attempts are seen.
struct Row {
    does: Does,
    policy: RetryPolicy,
    seen: usize,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for most in 1..=4_u32 {
        for (backoff, jitter) in
            [(Backoff::Exponential, true), (Backoff::Linear, false), (Backoff::Constant, true)]
        {
            let policy = RetryPolicy {
                max_attempts: most.try_into().ok(),
                backoff,
                initial: Duration::from_millis(30),
                max: Duration::from_millis(80),
                jitter,
            };
            let seen = most as usize;
            for does in [Does::Fails, Does::Panics, Does::TakesTooLong] {
                rows.push(Row { does, policy: policy.clone(), seen });
            }
            rows.push(Row { does: Does::Aborts, policy: policy.clone(), seen: 1 });
            rows.push(Row { does: Does::Snoozes, policy, seen: seen + 2 });
        }
    }
    rows
}

type Starts = Arc<Mutex<Vec<(Name, u32, Timestamp)>>>;

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn job(does: Does, starts: &Starts) -> JobDescriptor {
    let starts = Arc::clone(starts);
    JobDescriptor::function("job", "does what its row says", move |ctx: RunContext| {
        let before = {
            let mut starts = starts.lock().unwrap();
            let before = starts.iter().filter(|(task, ..)| task == ctx.task()).count();
            starts.push((ctx.task().clone(), ctx.attempt(), now()));
            before
        };
        async move {
            match does {
                Does::Panics => panic!("no"),
                Does::Aborts => Err(JobError::abort("no")),
                Does::TakesTooLong => std::future::pending::<Result<Output, JobError>>().await,
                Does::Snoozes if before < 2 => Err(JobError::snooze(Duration::from_millis(1))),
                Does::Snoozes | Does::Fails => Err(JobError::retry("no")),
            }
        }
    })
}

async fn prove(url: &str, namespace: Name) {
    let folder = tempfile::tempdir().unwrap();
    let config =
        QueueConfig { url: url.to_owned(), concurrency: 64.try_into().unwrap(), ..QueueConfig::default() };
    let backend = QueueBackend::new(Name::new("queue").unwrap(), config);
    let mut ctx = BackendContext::standalone(namespace, Arc::new(SystemClock::new()));
    ctx.data_dir = Some(folder.path().to_owned());
    let starts = Starts::default();
    let waits = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&waits);
    ctx.events.listen(move |event| {
        if let Event::AttemptEnded { run, next_in, .. } = event {
            told.lock().unwrap().push((run.task.clone(), run.state, run.attempt, *next_in));
        }
    });
    let rows = rows();
    let name = |index: usize| Name::new(&format!("row_{index}")).unwrap();
    for (index, row) in rows.iter().enumerate() {
        let job = job(row.does, &starts);
        let mut task = Task::new(name(index), job.name().clone());
        (task.tier, task.retry) = (Some(Tier::Queue), row.policy.clone());
        task.timeout = (row.does == Does::TakesTooLong).then_some(Duration::from_millis(20));
        let site = Site { info: backend.info(), is_default: false, is_down: false };
        let placement = place(&task, &job, &[site]).unwrap();
        let job = job.build(&serde_json::Value::Null).unwrap();
        ctx.tasks.insert(Arc::new(Placed { task, job, placement: placement.into() }));
    }
    backend.start(ctx).await.unwrap();
    for index in 0..rows.len() {
        let request = RunRequest::manual(RunId::manual(now()), name(index), now());
        backend.enqueue(request).await.unwrap();
    }

    let runs = ended(&backend, rows.len()).await;

    for (index, row) in rows.iter().enumerate() {
        let place = format!("row {index}: {:?} with {:?}", row.does, row.policy);
        let run = runs.iter().find(|run| run.task == name(index)).unwrap();
        let starts = starts.lock().unwrap();
        let starts: Vec<_> = starts.iter().filter(|(task, ..)| *task == name(index)).collect();
        assert_eq!((run.state, starts.len()), (RunState::Failed, row.seen), "{place}");
        let most = row.policy.max_attempts.unwrap().get();
        assert_eq!(run.attempt, if row.does == Does::Aborts { 1 } else { most }, "{place}");
        assert_eq!(run.failures.len() as u32, run.attempt, "{place}");
        // Each wait is between the half of what the backoff gives, or all of it, and all of it.
        for (task, state, attempt, wait) in waits.lock().unwrap().iter().filter(|told| told.0 == name(index))
        {
            if *state != RunState::Retrying {
                continue;
            }
            let whole = RetryPolicy { jitter: false, ..row.policy.clone() }.wait_after(*attempt, 0);
            let least = if row.policy.jitter { whole / 2 } else { whole };
            assert!(
                least <= *wait && *wait <= whole,
                "{place}: {task} waits {wait:?} after attempt {attempt}"
            );
        }
        // No attempt starts before its wait is over; the clocks count in whole milliseconds.
        for (failure, next) in run.failures.iter().zip(starts.iter().filter(|(_, attempt, _)| *attempt > 1)) {
            let whole = RetryPolicy { jitter: false, ..row.policy.clone() }.wait_after(failure.attempt, 0);
            let least = if row.policy.jitter { whole / 2 } else { whole };
            let waited = next.2.since(failure.at) + Duration::from_millis(2);
            assert!(waited >= least, "{place}: attempt {} after {waited:?}", next.1);
        }
    }
}

async fn ended(backend: &QueueBackend, count: usize) -> Vec<Run> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let runs = backend.runs(&RunFilter::all().limited(count)).await.unwrap().runs;
        if runs.len() == count && runs.iter().all(|run| run.state.is_end()) {
            return runs;
        }
        assert!(std::time::Instant::now() < deadline, "they do not end: {runs:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn as_many_attempts_as_configured_each_after_its_wait_in_a_file() {
    prove("sqlite:queue.db", Name::new("retry").unwrap()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn as_many_attempts_as_configured_each_after_its_wait_on_redis() {
    prove(&crate::redis_stage::url(), crate::redis_stage::namespace()).await;
}
