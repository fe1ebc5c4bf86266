//! Daemons that die at any call: the loop that ships, on a virtual clock, over the model of a store.
//!
//! Each seed is half a minute of three daemons that share a store. They crash before and after calls, are suspended for
//! longer than a lease, restart and are drained; calls are refused, slow, and answered to nobody. Then all is calm, and
//! what was promised must have come true. After "Simulation Testing" as FoundationDB does it (Zhou et al., SIGMOD 2021).
//!
//! `SIMULATION_SEED=17` runs one seed again, and `SIMULATION_SEEDS=100000` as many.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scheduler_core::{
    BackendContext, BackendInfo, Backoff, Bounds, BoxFuture, Clock, JobDescriptor, JobError, Misfire,
    MisfirePolicy, Name, Overlap, Placed, RetryPolicy, Rule, RunContext, RunId, RunRequest, Site, Task, Tier,
    Timestamp, Trigger, Unique, place,
};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::QueueConfig;
use crate::model::Model;
use crate::model_run::{Lack, VirtualTime, name};
use crate::requests::Command;
use crate::simulation_daemon::{Fleet, Place};
use crate::simulation_world::{Scale, Weather, World};
use crate::store::Store;

const SCALE: Scale =
    Scale { unit: Duration::from_secs(1), lease: Duration::from_secs(2), fires: 6, late: Duration::ZERO };
const STORM: Duration = Duration::from_secs(30);
/// How long it may take until everything is done that was owed.
const CALM: u32 = 1_200;

/// A clock that is moved by whoever waits for it.
#[derive(Debug)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        crate::model_run::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep_until(self.0 + at))
    }
}

/// What the tasks of a simulation do: each takes a while, and some fail.
fn job(world: &Arc<World>) -> JobDescriptor {
    let world = Arc::clone(world);
    JobDescriptor::function("job", "takes a while and may fail", move |ctx: RunContext| {
        let (unit, mut dice) = (world.scale.unit, world.dice());
        let (length, end) = (unit * 3 * u32::try_from(dice.below(101)).unwrap() / 100, dice.below(20));
        drop(dice);
        world.seen().begin(ctx.run_id(), ctx.fence());
        async move {
            ctx.sleep(length).await;
            match end {
                0..3 => Err(JobError::retry("not yet")),
                3 => Err(JobError::snooze(unit)),
                4 => Err(JobError::abort("never")),
                _ => Ok(Value::Null),
            }
        }
    })
}

/// A task of each kind: one that nothing keeps from firing, one for each other overlap, one that follows its own end,
/// and one that is only asked for.
fn tasks(world: &Arc<World>) -> Vec<Arc<Placed>> {
    let Scale { unit, fires, .. } = world.scale;
    let every = |units| Some(Rule::Every(unit * units));
    let after = Some(Rule::AfterFinish(unit * 3));
    let kinds = [
        ("all", every(5), Overlap::Allow),
        ("skips", every(4), Overlap::Skip),
        ("queues", every(4), Overlap::Queue),
        ("replaces", every(6), Overlap::CancelOther),
        ("follows", after, Overlap::Skip),
        ("asked", None, Overlap::Queue),
    ];
    let placed = |(task, rule, overlap): (&str, Option<Rule>, Overlap)| {
        let job = job(world);
        let bounds = Bounds { max_runs: NonZeroU64::new(fires), ..Bounds::default() };
        let mut task = Task::new(name(task), job.name().clone());
        task.trigger = rule.map(|rule| Trigger::new(rule, bounds).unwrap());
        (task.tier, task.overlap) = (Some(Tier::Queue), overlap);
        task.misfire = Misfire { policy: MisfirePolicy::All, ..Misfire::default() };
        task.retry = RetryPolicy {
            max_attempts: 4.try_into().ok(),
            backoff: Backoff::Constant,
            initial: unit,
            ..RetryPolicy::default()
        };
        let info = BackendInfo::new(name("queue"), "queue", Tier::Queue, &[]);
        let placement = place(&task, &job, &[Site { info, is_default: false, is_down: false }]).unwrap();
        let job = job.build(&Value::Null).unwrap();
        Arc::new(Placed { task, job, placement: placement.into() })
    };
    kinds.into_iter().map(placed).collect()
}

/// Asks for runs, some of them later, and cancels some; suspends daemons, and drains them.
async fn trouble(world: Arc<World>, places: Vec<Place>) {
    for number in 0_u64.. {
        let (wait, place, what, delay) = {
            let mut dice = world.dice();
            let place = usize::try_from(dice.below(places.len() as u64)).unwrap();
            (dice.millis(1_000), place, dice.below(10), dice.millis(5_000))
        };
        sleep(wait).await;
        let post = places[place].post.lock().unwrap().clone();
        match (what, post) {
            (0, _) => places[place].suspend(delay),
            (1, Some(post)) => {
                let (reply, _) = oneshot::channel();
                let _ = post.send(Command::Stop(Some(delay / 4), reply));
            }
            (2, Some(post)) => {
                let (reply, _) = oneshot::channel();
                let some = asked(number.saturating_sub(delay.as_secs()));
                let _ = post.send(Command::Cancel(some, reply));
            }
            (3..8, Some(post)) => {
                let now = crate::model_run::now();
                let mut request = RunRequest::manual(asked(number), name("asked"), now);
                request.due = if what == 3 { now + delay } else { now };
                request.unique = number.is_multiple_of(3).then(Unique::default);
                let (reply, answer) = oneshot::channel();
                let _ = post.send(Command::Enqueue(vec![request], reply));
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    if let Ok(Ok(answers)) = answer.await {
                        answers.iter().for_each(|answer| world.seen().accept(answer.run_id()));
                    }
                });
            }
            _ => {}
        }
    }
}

pub(crate) fn asked(number: u64) -> RunId {
    RunId::keyed(&name("simulation"), &name("asked"), &number.to_string())
}

/// How many calls, crashes and refused ends a seed had.
///
/// # Errors
/// The promises that were broken.
fn simulate(seed: u64, lacks: Option<Lack>) -> Result<[u64; 3], String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let _time = VirtualTime::begin();
        let world = Arc::new(World::new(seed, Weather::Stormy, SCALE));
        let clock = Arc::new(Virtual(Instant::now()));
        let fleet = fleet(&world, Arc::new(Model::lacking(lacks)), clock);
        let places: Vec<Place> = (0..3).map(|_| Place::default()).collect();
        let mut daemons = JoinSet::new();
        for place in &places {
            daemons.spawn(place.clone().inhabit(fleet.clone()));
        }
        let mut trouble = JoinSet::from_iter([trouble(Arc::clone(&world), places)]);
        tokio::select! {
            () = sleep(STORM) => {}
            ended = trouble.join_next() => ended.unwrap().unwrap(),
            ended = daemons.join_next() => ended.unwrap().unwrap(),
        }
        drop(trouble);
        world.seen().weather = Weather::Calm;
        let mut is_all_done = false;
        for _ in 0..CALM {
            sleep(Duration::from_millis(500)).await;
            is_all_done = is_done(&fleet).await;
            if is_all_done || !world.seen().broken().is_empty() {
                break;
            }
        }
        conclude(&fleet, is_all_done)
    })
}

/// Daemons that share a store and a clock.
pub(crate) fn fleet(world: &Arc<World>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Fleet {
    let ctx = BackendContext::standalone(name("simulation"), clock);
    let tasks = tasks(world);
    tasks.iter().for_each(|placed| drop(ctx.tasks.insert(Arc::clone(placed))));
    let lease = world.scale.lease;
    let config = QueueConfig { lease, concurrency: 3.try_into().unwrap(), ..QueueConfig::default() };
    Fleet { world: Arc::clone(world), store, ctx, config, tasks }
}

/// The tasks that fire.
fn fired(fleet: &Fleet) -> impl Iterator<Item = &Name> {
    fleet.tasks.iter().filter(|placed| placed.task.trigger.is_some()).map(|placed| &placed.task.name)
}

/// Whether everything that was owed is done, and the world knows of all of it.
pub(crate) async fn is_done(fleet: &Fleet) -> bool {
    for task in fired(fleet) {
        let standing = fleet.store.standing(task).await.unwrap();
        if standing.is_none_or(|standing| standing.cursor.runs < fleet.world.scale.fires) {
            return false;
        }
    }
    let seen = fleet.world.seen();
    // The cursors may be ahead of what was heard.
    seen.has_heard_all() && seen.owed().is_empty()
}

/// What is to be said at the end.
///
/// # Errors
/// The promises that were broken.
pub(crate) fn conclude(fleet: &Fleet, is_done: bool) -> Result<[u64; 3], String> {
    let seen = fleet.world.seen();
    let mut broken = seen.broken().to_vec();
    if broken.is_empty() && !is_done {
        broken.push(format!("these never end: {:?}", seen.owed()));
        let (is_taken, is_heard) = (seen.has_accepted(asked(0)), seen.has_heard_all());
        broken.push(format!(
            "what was asked for was taken: {is_taken}; all decisions were heard of: {is_heard}"
        ));
        let fires = fired(fleet).map(|task| format!("{task} fired {:?}", seen.fires(task)));
        broken.extend(fires);
    }
    if broken.is_empty() {
        let ran = seen.fires(&name("all"));
        let expected = usize::try_from(fleet.world.scale.fires).unwrap();
        if ran != (expected, expected) {
            broken.push(format!("`all` fired {ran:?} and not {expected} times"));
        }
    }
    if broken.is_empty() { Ok([seen.calls, seen.crashes, seen.stale_ends]) } else { Err(broken.join("\n")) }
}

/// The seeds that the environment asks for, or else these.
fn seeds(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let read = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    match (read("SIMULATION_SEED"), read("SIMULATION_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => usual,
    }
}

#[test]
fn no_crash_breaks_a_promise() {
    let seeds = seeds(0..50);
    let next = AtomicU64::new(seeds.start);
    let simulate_some = || {
        let mut sums = [0; 3];
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed))
        {
            match simulate(seed, None) {
                Ok(counts) => sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
                Err(broken) => panic!("SIMULATION_SEED={seed} breaks what was promised:\n{broken}"),
            }
        }
        sums
    };
    let sums: Vec<[u64; 3]> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(simulate_some)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let sum = |what: usize| sums.iter().map(|sums| sums[what]).sum::<u64>();
    let (calls, crashes, stale) = (sum(0), sum(1), sum(2));
    println!("simulated seeds {seeds:?}: {calls} calls, {crashes} crashes, {stale} late ends refused");
}

/// Without a check some seed breaks a promise.
fn is_needed(check: Lack) {
    let broken = (0..200).find_map(|seed| simulate(seed, Some(check)).err().map(|broken| (seed, broken)));
    let Some((seed, broken)) = broken else { panic!("nothing breaks without the {check:?} check") };
    println!("without the {check:?} check seed {seed} breaks: {}", broken.lines().next().unwrap());
}

#[test]
fn a_store_that_does_not_compare_fences_breaks_a_promise() {
    is_needed(Lack::Fence);
}

#[test]
fn a_store_that_does_not_compare_cursors_breaks_a_promise() {
    is_needed(Lack::Cursor);
}

#[test]
fn a_seed_does_the_same_again() {
    assert_eq!(simulate(7, None), simulate(7, None));
}
