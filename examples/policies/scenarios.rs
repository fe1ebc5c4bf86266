//! One scenario a policy: what is expected, written down before anything runs, and what history then shows.
//!
//! The example runs them by the system's clock, the suite of backend-local by the test clock.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    Bounds, BoxFuture, Clock, JobDescriptor, JobError, Misfire, MisfirePolicy, Name, Output, Overlap, Pause,
    Priority, Registry, Result, RetryPolicy, Rule, Run, RunContext, RunFilter, Scheduler, Task, Timestamp,
    Trigger, Way, source,
};
use serde_json::Value;

/// A policy, put to the test.
pub(crate) struct Scenario {
    /// The policy.
    pub(crate) name: &'static str,
    /// What history will show.
    pub(crate) expected: &'static str,
    tasks: fn(Timestamp) -> Vec<Task>,
    /// From when to when the tasks are paused, in milliseconds after the first fire.
    pause: Option<(u64, u64)>,
    lasts: u64,
    concurrency: usize,
    show: fn(&Run, Timestamp) -> String,
}

/// How a scenario lets time pass.
pub(crate) type Pass = Arc<dyn Fn(Duration) -> BoxFuture<()> + Send + Sync>;

impl Scenario {
    /// Runs it, and returns what history shows.
    pub(crate) async fn run(&self, clock: Arc<dyn Clock>, pass: Pass) -> Result<String> {
        let mut config = LocalConfig::default();
        config.concurrency = NonZeroUsize::new(self.concurrency).expect("every scenario allows a run");
        let local = LocalBackend::new(Name::new("local")?, config);
        let scheduler =
            Scheduler::builder(Arc::clone(&clock)).registry(jobs()?).backend(Arc::new(local)).build()?;
        scheduler.start().await?;
        // The first fire lies on the second after the next one, so that everything is ready for it.
        let first = Timestamp::from_millis((clock.now().as_millis() / 1_000 + 2) * 1_000);
        let tasks = (self.tasks)(first);
        for task in &tasks {
            scheduler.submit(task.clone()).await?;
        }
        let until = |millis: u64| pass((first + Duration::from_millis(millis)).since(clock.now()));
        if let Some((from, to)) = self.pause {
            if from == 0 {
                pass(Duration::ZERO).await;
            } else {
                until(from).await;
            }
            for task in &tasks {
                scheduler.pause(&task.name, Pause::default()).await?;
            }
            until(to).await;
            for task in &tasks {
                scheduler.resume(&task.name).await?;
            }
        }
        until(self.lasts).await;
        let mut runs = scheduler.history(&RunFilter::all()).await?.runs;
        scheduler.abort().await?;
        runs.sort_by_key(|run| (run.fire_time, run.started_at));
        Ok(runs.iter().map(|run| (self.show)(run, first)).collect::<Vec<_>>().join(", "))
    }
}

/// Every policy that the local tier keeps.
pub(crate) fn all() -> Vec<Scenario> {
    let base = Scenario {
        name: "",
        expected: "",
        tasks: |_| Vec::new(),
        pause: None,
        lasts: 4_750,
        concurrency: 100,
        show: fire_and_state,
    };
    vec![
        Scenario {
            name: "overlap = skip",
            expected: "0s succeeded, 1s skipped (still going), 2s succeeded, 3s skipped (still going)",
            tasks: |first| vec![task("slow", every(1_000, first, 3_000), |t| t.overlap = Overlap::Skip)],
            ..base
        },
        Scenario {
            name: "overlap = queue",
            expected: "0s began 0s, 1s began 1.5s, 2s began 3s",
            tasks: |first| vec![task("slow", every(1_000, first, 2_000), |t| t.overlap = Overlap::Queue)],
            show: fire_and_start,
            ..base
        },
        Scenario {
            name: "overlap = cancel_other",
            expected: "0s cancelled (replaced), 1s cancelled (replaced), 2s succeeded",
            tasks: |first| {
                vec![task("slow", every(1_000, first, 2_000), |t| t.overlap = Overlap::CancelOther)]
            },
            ..base
        },
        Scenario {
            name: "overlap = allow",
            expected: "0s began 0s, 1s began 1s, 2s began 2s",
            tasks: |first| vec![task("slow", every(1_000, first, 2_000), |t| t.overlap = Overlap::Allow)],
            show: fire_and_start,
            ..base
        },
        Scenario {
            name: "misfire = latest",
            expected: "1s skipped (missed 2), 2s succeeded, 3s succeeded",
            tasks: |first| vec![task("instant", every(1_000, first, 3_000), |_| ())],
            pause: Some((0, 2_500)),
            ..base
        },
        Scenario {
            name: "misfire = skip",
            expected: "2s skipped (missed 3), 3s succeeded",
            tasks: |first| vec![task("instant", every(1_000, first, 3_000), misfire(MisfirePolicy::Skip))],
            pause: Some((0, 2_500)),
            ..base
        },
        Scenario {
            name: "misfire = all",
            expected: "0s began 2.5s, 1s began 2.5s, 2s began 2.5s, 3s began 3s",
            tasks: |first| vec![task("instant", every(1_000, first, 3_000), misfire(MisfirePolicy::All))],
            pause: Some((0, 2_500)),
            show: fire_and_start,
            ..base
        },
        Scenario {
            name: "misfire = all, one after the other",
            expected: "0s began 2.5s, 1s began 3s, 2s began 3.5s",
            tasks: |first| vec![task("half", every(1_000, first, 2_000), misfire(MisfirePolicy::All))],
            pause: Some((0, 2_500)),
            show: fire_and_start,
            ..base
        },
        Scenario {
            name: "misfire = all, at most 2",
            expected: "0s skipped (missed 1), 1s succeeded, 2s succeeded, 3s succeeded",
            tasks: |first| {
                vec![task("instant", every(1_000, first, 3_000), |t| {
                    misfire(MisfirePolicy::All)(t);
                    t.misfire.max = NonZeroU32::new(2).expect("2 is not 0");
                })]
            },
            pause: Some((0, 2_500)),
            ..base
        },
        Scenario {
            name: "misfire = latest, max_lateness = 200ms",
            expected: "1s skipped (missed 2), 2s skipped (too late), 3s succeeded",
            tasks: |first| {
                vec![task("instant", every(1_000, first, 3_000), |t| {
                    t.misfire.max_lateness = Some(Duration::from_millis(200));
                })]
            },
            pause: Some((0, 2_500)),
            ..base
        },
        Scenario {
            name: "pause in between",
            expected: "0s succeeded, 1s skipped (missed 1), 2s succeeded, 3s succeeded",
            tasks: |first| vec![task("instant", every(1_000, first, 3_000), |_| ())],
            pause: Some((500, 2_500)),
            ..base
        },
        Scenario {
            name: "retry, constant backoff",
            expected: "succeeded at attempt 3 after failures at 0s, 1s, ended 2s",
            tasks: |first| vec![task("fails_twice", once(first), retry(3))],
            show: attempts,
            ..base
        },
        Scenario {
            name: "retry, attempts spent",
            expected: "failed at attempt 2 after failures at 0s, 1s, ended 1s",
            tasks: |first| vec![task("fails_twice", once(first), retry(2))],
            show: attempts,
            ..base
        },
        Scenario {
            name: "retry, the job aborts",
            expected: "failed at attempt 1 after failures at 0s, ended 0s",
            tasks: |first| vec![task("aborts", once(first), retry(3))],
            show: attempts,
            ..base
        },
        Scenario {
            name: "retry, the job panics",
            expected: "failed at attempt 2 after failures at 0s, 1s, ended 1s",
            tasks: |first| vec![task("panics", once(first), retry(2))],
            show: attempts,
            ..base
        },
        Scenario {
            name: "timeout = 1s, retried once",
            expected: "failed at attempt 2 after failures at 1s, 3s, ended 3s",
            tasks: |first| {
                vec![task("endless", once(first), |t| {
                    retry(2)(t);
                    t.timeout = Some(Duration::from_secs(1));
                })]
            },
            show: attempts,
            ..base
        },
        Scenario {
            name: "snooze of 1s spends no attempt",
            expected: "succeeded at attempt 1 after failures at none, ended 1s",
            tasks: |first| vec![task("snoozes_once", once(first), |_| ())],
            show: attempts,
            ..base
        },
        Scenario {
            name: "priority, one slot, three due",
            expected: "half began 0s, priority_9 began 1s, priority_5 began 2s, priority_1 began 3s",
            tasks: |first| {
                let due = first + Duration::from_millis(500);
                let of = |level: u8| {
                    let mut task = task("one_second", once(due), |t| {
                        t.priority = Priority::new(level).expect("a level from 0 to 9");
                    });
                    task.name = name(&format!("priority_{level}"));
                    task
                };
                let mut blocker = task("one_second", once(first), |_| ());
                blocker.name = name("half");
                vec![blocker, of(1), of(5), of(9)]
            },
            concurrency: 1,
            show: name_and_start,
            ..base
        },
        Scenario {
            name: "fixed delay: 1s after each finish",
            expected: "0s succeeded, 1.5s succeeded, 3s succeeded, 4.5s running",
            tasks: |first| {
                let rule = Rule::AfterFinish(Duration::from_secs(1));
                vec![task("half", within(rule, first, None, None), |_| ())]
            },
            ..base
        },
        Scenario {
            name: "max_runs = 3",
            expected: "0s succeeded, 0.5s succeeded, 1s succeeded",
            tasks: |first| {
                let rule = Rule::Every(Duration::from_millis(500));
                vec![task("instant", within(rule, first, None, NonZeroU64::new(3)), |_| ())]
            },
            ..base
        },
    ]
}

fn jobs() -> Result<Registry> {
    let mut registry = Registry::new();
    let jobs = [
        JobDescriptor::function("instant", "ends at once", |_| async { Ok(Value::Null) }),
        JobDescriptor::function("half", "takes half a second", |ctx| takes(ctx, 500)),
        JobDescriptor::function("one_second", "takes a second", |ctx| takes(ctx, 1_000)),
        JobDescriptor::function("slow", "takes one and a half seconds", |ctx| takes(ctx, 1_500)),
        JobDescriptor::function("fails_twice", "fails at its first two attempts", |ctx| async move {
            if ctx.attempt() < 3 { Err(JobError::retry("not yet")) } else { Ok(Value::Null) }
        }),
        JobDescriptor::function("aborts", "fails for good", |_| async { Err(JobError::abort("never")) }),
        JobDescriptor::function("panics", "panics", |ctx| async move {
            panic!("attempt {} fell over", ctx.attempt())
        }),
        JobDescriptor::function("endless", "ends when it is told to", |ctx| async move {
            let reason = ctx.cancelled().await;
            Err(JobError::retry(reason.as_str()))
        }),
        JobDescriptor::function("snoozes_once", "snoozes when it is called first", |ctx| async move {
            let calls = ctx.state().update(|calls: Option<u32>| calls.unwrap_or(0) + 1).await?;
            if calls == 1 { Err(JobError::snooze(Duration::from_secs(1))) } else { Ok(Value::Null) }
        }),
    ];
    jobs.into_iter().try_for_each(|job| registry.add_job(job, source!(), Way::Explicit))?;
    Ok(registry)
}

async fn takes(ctx: RunContext, millis: u64) -> Result<Output, JobError> {
    match ctx.unless_cancelled(ctx.sleep(Duration::from_millis(millis))).await {
        Ok(()) => Ok(Value::Null),
        Err(reason) => Err(JobError::retry(reason.as_str())),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("the names here are names")
}

fn task(job: &str, trigger: Trigger, change: impl FnOnce(&mut Task)) -> Task {
    let mut task = Task::new(name(job), name(job));
    task.trigger = Some(trigger);
    change(&mut task);
    task
}

fn within(rule: Rule, first: Timestamp, end: Option<Timestamp>, max_runs: Option<NonZeroU64>) -> Trigger {
    let bounds = Bounds { start: Some(first), end, max_runs, jitter: Duration::ZERO };
    Trigger::new(rule, bounds).expect("the triggers here fire")
}

fn every(period: u64, first: Timestamp, end: u64) -> Trigger {
    within(Rule::Every(Duration::from_millis(period)), first, Some(first + Duration::from_millis(end)), None)
}

fn once(at: Timestamp) -> Trigger {
    Trigger::at(at).expect("a moment always fires")
}

fn misfire(policy: MisfirePolicy) -> impl FnOnce(&mut Task) {
    move |task| task.misfire = Misfire { policy, ..Misfire::default() }
}

fn retry(attempts: u32) -> impl FnOnce(&mut Task) {
    move |task| {
        task.retry = RetryPolicy {
            max_attempts: NonZeroU32::new(attempts),
            initial: Duration::from_secs(1),
            backoff: scheduler_core::Backoff::Constant,
            jitter: false,
            ..RetryPolicy::default()
        };
    }
}

fn fire_and_state(run: &Run, first: Timestamp) -> String {
    let reason = run.reason.as_deref().unwrap_or_default();
    let why = [
        ("still going", "still going"),
        ("replaced", "replaced"),
        ("max_lateness", "too late"),
        ("served the fire", "missed 1"),
        ("served 2 fires", "missed 2"),
        ("served 3 fires", "missed 3"),
    ];
    let why = why.iter().find(|(part, _)| reason.contains(part)).map(|(_, short)| format!(" ({short})"));
    format!("{} {}{}", Seconds::of(run.fire_time, first), run.state, why.unwrap_or_default())
}

fn fire_and_start(run: &Run, first: Timestamp) -> String {
    match run.started_at {
        Some(started) => {
            format!("{} began {}", Seconds::of(run.fire_time, first), Seconds::of(started, first))
        }
        None => fire_and_state(run, first),
    }
}

fn name_and_start(run: &Run, first: Timestamp) -> String {
    let began = run.started_at.map_or("never".to_owned(), |started| Seconds::of(started, first));
    format!("{} began {began}", run.task)
}

fn attempts(run: &Run, first: Timestamp) -> String {
    let failures: Vec<String> = run.failures.iter().map(|failure| Seconds::of(failure.at, first)).collect();
    let failures = if failures.is_empty() { "none".to_owned() } else { failures.join(", ") };
    let ended = run.finished_at.map_or("never".to_owned(), |finished| Seconds::of(finished, first));
    format!("{} at attempt {} after failures at {failures}, ended {ended}", run.state, run.attempt)
}

/// Time since the first fire in steps of half a second, which is coarser than a busy machine is late.
struct Seconds;

impl Seconds {
    fn of(at: Timestamp, first: Timestamp) -> String {
        let halves = (at.as_millis() - first.as_millis()).div_euclid(500);
        if halves % 2 == 0 { format!("{}s", halves / 2) } else { format!("{}.5s", halves / 2) }
    }
}
