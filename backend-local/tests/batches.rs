//! What the local tier promises when many runs begin and end together: none waits for another, none is forgotten.

#![expect(clippy::unwrap_used, reason = "the tests' own functions may fail like the tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    CancelReason, Cancelled, Clock, Event, JobDescriptor, JobError, Name, Overlap, Pause, Priority, Registry,
    RunFilter, RunState, Scheduler, SystemClock, Task, TestClock, Timestamp, Trigger, TriggerRequest, Way,
    source,
};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// For what must happen soon; long enough for a machine under load.
const SOON: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

async fn started(clock: Arc<dyn Clock>, config: LocalConfig, jobs: Vec<JobDescriptor>) -> Scheduler {
    let mut registry = Registry::new();
    jobs.into_iter().for_each(|job| registry.add_job(job, source!(), Way::Explicit).unwrap());
    let local = LocalBackend::new(name("local"), config);
    let scheduler = Scheduler::builder(clock).registry(registry).backend(Arc::new(local)).build().unwrap();
    scheduler.start().await.unwrap();
    scheduler
}

fn stopped_clock() -> TestClock {
    TestClock::at(Timestamp::from_millis(1_790_000_000_000))
}

fn instant() -> JobDescriptor {
    JobDescriptor::function("instant", "ends at once", |_| async { Ok(Value::Null) })
}

/// A task `NAME` of a job, which fires once at `due`.
fn once(task: &str, job: &str, due: Timestamp) -> Task {
    let mut task = Task::new(name(task), name(job));
    task.trigger = Some(Trigger::at(due).unwrap());
    task
}

/// A job that keeps its thread until it is released, and does not wait for anything else.
fn blocks(hold: &Hold) -> JobDescriptor {
    let released = Arc::clone(&hold.0);
    JobDescriptor::function("blocks", "keeps its thread", move |_| {
        released.wait();
        async { Ok(Value::Null) }
    })
}

/// What keeps threads until it is let go, also when the test fails.
struct Hold(Arc<Released>);

#[derive(Default)]
struct Released {
    is: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    fn new() -> Self {
        Self(Arc::default())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        *self.0.is.lock().unwrap() = true;
        self.0.changed.notify_all();
    }
}

impl Released {
    fn wait(&self) {
        drop(self.changed.wait_while(self.is.lock().unwrap(), |released| !*released).unwrap());
    }
}

#[tokio::test]
async fn jobs_that_block_in_a_batch_delay_neither_what_follows_nor_word_of_what_came_before() {
    const MANY: usize = 300;
    let hold = Hold::new();
    let clock = Arc::new(SystemClock::new());
    let scheduler = started(clock.clone(), LocalConfig::default(), vec![instant(), blocks(&hold)]).await;
    let (sender, ended) = mpsc::channel();
    scheduler.events().listen(move |event| {
        if let Event::RunEnded { run, .. } = event {
            let _ = sender.send(run.task.clone());
        }
    });
    let due = clock.now() + 2 * SECOND;
    // By priority some come first, some in the middle, and some last.
    for (index, priority) in [9, 5, 5, 0].into_iter().enumerate() {
        let mut task = once(&format!("blocks_{index}"), "blocks", due);
        task.priority = Priority::new(priority).unwrap();
        scheduler.submit(task).await.unwrap();
    }
    for index in 0..MANY {
        let mut task = once(&format!("instant_{index}"), "instant", due);
        task.priority = Priority::new(if index % 2 == 0 { 6 } else { 4 }).unwrap();
        scheduler.submit(task).await.unwrap();
    }

    let mut seen = BTreeSet::new();
    while seen.len() < MANY {
        let task = ended.recv_timeout(SOON).unwrap();
        assert!(task.as_str().starts_with("instant"), "{task} is released at the end");
        seen.insert(task);
    }

    drop(hold);
    assert!(scheduler.stop(SOON).await.unwrap().abandoned.is_empty());
}

#[tokio::test]
async fn a_blocked_thread_takes_no_share_of_what_comes_later() {
    let hold = Hold::new();
    let clock = Arc::new(SystemClock::new());
    let scheduler = started(clock, LocalConfig::default(), vec![instant(), blocks(&hold)]).await;
    let mut blocking = Task::new(name("blocks"), name("blocks"));
    blocking.overlap = Overlap::Allow;
    scheduler.submit(blocking).await.unwrap();
    scheduler.submit(Task::new(name("instant"), name("instant"))).await.unwrap();
    let (sender, ended) = mpsc::channel();
    scheduler.events().listen(move |event| {
        if let Event::RunEnded { run, .. } = event {
            let _ = sender.send(run.task.clone());
        }
    });

    for _ in 0..5 {
        scheduler.trigger(&name("blocks"), TriggerRequest::now()).await.unwrap();
        for _ in 0..20 {
            scheduler.trigger(&name("instant"), TriggerRequest::now()).await.unwrap();
            assert_eq!(ended.recv_timeout(SOON).unwrap(), "instant");
        }
    }
}

#[tokio::test]
async fn a_job_that_keeps_its_thread_can_look_whether_it_should_stop() {
    let hold = Hold::new();
    let cancelled = Arc::clone(&hold.0);
    let (sender, seen) = mpsc::channel();
    let looks = JobDescriptor::function("looks", "looks before and after", move |ctx| {
        sender.send(ctx.told_to_stop()).unwrap();
        cancelled.wait();
        sender.send(ctx.told_to_stop()).unwrap();
        async { Err(JobError::abort("told to stop")) }
    });
    let scheduler = started(Arc::new(SystemClock::new()), LocalConfig::default(), vec![looks]).await;
    scheduler.submit(Task::new(name("looks"), name("looks"))).await.unwrap();
    let run = scheduler.trigger(&name("looks"), TriggerRequest::now()).await.unwrap().run_id();
    assert_eq!(seen.recv_timeout(SOON).unwrap(), None);

    assert_eq!(scheduler.cancel(&run).await.unwrap(), Cancelled::Requested);

    drop(hold);
    assert_eq!(seen.recv_timeout(SOON).unwrap(), Some(CancelReason::Requested));
    scheduler.stop(SOON).await.unwrap();
    let ended = scheduler.history(&RunFilter::of_run(run)).await.unwrap().runs.remove(0);
    assert_eq!(ended.state, RunState::Cancelled);
    assert_eq!(ended.reason.as_deref(), Some(CancelReason::Requested.as_str()));
}

#[tokio::test]
async fn the_last_run_of_every_task_is_shown_however_short_history_is() {
    let clock = stopped_clock();
    let mut config = LocalConfig::default();
    config.history_runs = 3;
    let scheduler = started(Arc::new(clock.clone()), config, vec![instant()]).await;
    let first = clock.now() + SECOND;
    for index in 0..10 {
        scheduler.submit(once(&format!("task_{index}"), "instant", first)).await.unwrap();
    }
    clock.advance(2 * SECOND).await;
    let all = || async { scheduler.history(&RunFilter::all()).await.unwrap().runs };
    let names = || async { all().await.into_iter().map(|run| run.task).collect::<BTreeSet<_>>() };

    assert_eq!((all().await.len(), names().await.len()), (10, 10));
    let one = all().await.into_iter().find(|run| run.task == "task_0").unwrap();
    assert_eq!((one.state, one.attempt), (RunState::Succeeded, 1));
    assert_eq!((one.fire_time, one.started_at, one.finished_at), (first, Some(first), Some(first)));
    assert_eq!(scheduler.history(&RunFilter::of_run(one.id)).await.unwrap().runs, std::slice::from_ref(&one));
    assert_eq!(scheduler.cancel(&one.id).await.unwrap(), Cancelled::AlreadyFinished);

    // Removed, the backend stopped and started again, and there anew, it still is the last one.
    scheduler.remove(&name("task_0")).await.unwrap();
    assert_eq!(names().await.len(), 10);
    scheduler.stop(SECOND).await.unwrap();
    assert_eq!(names().await.len(), 10);
    scheduler.start().await.unwrap();
    scheduler.submit(Task::new(name("task_0"), name("instant"))).await.unwrap();
    let again = scheduler.history(&RunFilter::of_task(name("task_0"))).await.unwrap().runs;
    assert_eq!(again, [one]);
    assert_eq!((all().await.len(), names().await.len()), (10, 10));
}

#[tokio::test]
async fn pages_of_many_runs_follow_each_other_without_gap_or_repetition() {
    let clock = stopped_clock();
    let mut config = LocalConfig::default();
    config.history_runs = 7;
    let scheduler = started(Arc::new(clock.clone()), config, vec![instant()]).await;
    for index in 0..40 {
        // Many share their fire time.
        let due = clock.now() + SECOND * (1 + index / 15);
        scheduler.submit(once(&format!("task_{index}"), "instant", due)).await.unwrap();
    }
    clock.advance(10 * SECOND).await;

    let mut filter = RunFilter::all().limited(6);
    let mut seen = Vec::new();
    loop {
        let page = scheduler.history(&filter).await.unwrap();
        seen.extend(page.runs.iter().map(|run| (run.fire_time, run.id)));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }

    assert_eq!(seen.len(), 40);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "newest first, each once");
}

#[tokio::test]
async fn what_runs_when_its_task_is_edited_or_removed_ends_on_the_old_definition() {
    let clock = stopped_clock();
    let slow = JobDescriptor::function("slow", "takes ten seconds", |ctx| async move {
        ctx.sleep(10 * SECOND).await;
        Err(JobError::retry("not yet"))
    });
    let scheduler = started(Arc::new(clock.clone()), LocalConfig::default(), vec![slow, instant()]).await;
    for task in ["edited", "removed"] {
        let mut task = Task::new(name(task), name("slow"));
        task.trigger = Some(Trigger::every(3_600 * SECOND).unwrap());
        scheduler.submit(task).await.unwrap();
    }
    let until_due = 3_600 - clock.now().as_millis().unsigned_abs() / 1_000 % 3_600;
    clock.advance(Duration::from_secs(until_due)).await;

    let mut edited = Task::new(name("edited"), name("instant"));
    edited.retry.max_attempts = std::num::NonZeroU32::new(5);
    scheduler.submit(edited).await.unwrap();
    scheduler.remove(&name("removed")).await.unwrap();
    // In its place comes another.
    scheduler.submit(Task::new(name("another"), name("instant"))).await.unwrap();
    let running = scheduler.history(&RunFilter::all()).await.unwrap().runs;
    assert_eq!(running.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Running; 2]);
    clock.advance(60 * SECOND).await;

    let ended = scheduler.history(&RunFilter::all()).await.unwrap().runs;
    let seen: BTreeSet<_> = ended.iter().map(|run| (run.task.as_str(), run.state, run.attempt)).collect();
    let expected = [("edited", RunState::Failed, 1), ("removed", RunState::Failed, 1)];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[tokio::test]
async fn a_scheduler_that_is_aborted_amid_many_runs_leaves_nothing_behind() {
    let clock = Arc::new(SystemClock::new());
    for _ in 0..5 {
        let scheduler = started(clock.clone(), LocalConfig::default(), vec![instant()]).await;
        let (begun, begins) = mpsc::channel();
        scheduler.events().listen(move |event| {
            if let Event::AttemptStarted { .. } = event {
                let _ = begun.send(());
            }
        });
        let tasks = (0..2_000).map(|index| {
            let mut task = Task::new(name(&format!("task_{index}")), name("instant"));
            task.trigger = Some(Trigger::every(Duration::from_millis(10)).unwrap());
            task
        });
        scheduler.submit_all(tasks).await.unwrap();
        begins.recv_timeout(SOON).unwrap();
        scheduler.abort().await.unwrap();
    }
    // Its threads end by themselves; whatever of it stayed would keep the clock.
    let began = std::time::Instant::now();
    while Arc::strong_count(&clock) > 1 && began.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(Arc::strong_count(&clock), 1);
}

#[tokio::test]
async fn many_tasks_are_taken_paused_resumed_and_forgotten_each_as_if_alone() {
    const MANY: usize = 50;
    let clock = stopped_clock();
    let scheduler = started(Arc::new(clock.clone()), LocalConfig::default(), vec![instant()]).await;
    let names: Vec<Name> = (0..MANY).map(|index| name(&format!("task_{index}"))).collect();
    let due = |index: usize| clock.now() + SECOND * (10 + u32::try_from(index).unwrap());
    let task = |index: usize| once(names[index].as_str(), "instant", due(index));
    scheduler.submit_all((0..30).map(task)).await.unwrap();
    // Some of them again, among others.
    scheduler.submit_all((20..names.len()).map(task)).await.unwrap();
    let seen = async || {
        let all = scheduler.statuses().await.unwrap().into_iter();
        all.map(|status| (status.task, status.next, status.paused.is_some())).collect::<BTreeSet<_>>()
    };
    let expected = |is_paused: fn(usize) -> bool| {
        let all = names.iter().cloned().enumerate();
        let status = |(index, name)| (name, Some(due(index)).filter(|_| !is_paused(index)), is_paused(index));
        all.map(status).collect::<BTreeSet<_>>()
    };
    assert_eq!(seen().await, expected(|_| false));

    let odd: Vec<Name> = names.iter().skip(1).step_by(2).cloned().collect();
    scheduler.pause_all(&odd, &Pause::default()).await.unwrap();
    assert_eq!(seen().await, expected(|index| index % 2 == 1));
    scheduler.resume_all(&names[..40]).await.unwrap();
    assert_eq!(seen().await, expected(|index| index % 2 == 1 && index >= 40));
    assert_eq!(scheduler.remove_all(&names).await.unwrap(), vec![true; names.len()]);
    assert!(seen().await.is_empty());
}
