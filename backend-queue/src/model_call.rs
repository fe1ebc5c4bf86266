//! Random calls of a store, in small numbers, so that they meet the same few runs.

use std::fmt::Display;
use std::time::Duration;

use proptest::prelude::*;
use scheduler_core::{Entry, Name, Pause, Run, RunId, Tier, Timestamp, Unique, UniqueUntil};

use crate::limits::{ByKey, Limits, Pace};
use crate::model_run::name;
use crate::store::{Decision, Effect, Pushed, Standing};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const TASKS: [&str; 3] = ["a", "b", "c"];
pub(crate) const QUEUES: [Option<&str>; 3] = [None, Some("mail"), Some("zz")];
/// Somewhere in 2001: long before anything that a store's clock says.
pub(crate) const LONG_AGO: i64 = 1_000_000_000_000;
/// Somewhere in 2128.
pub(crate) const FAR_AHEAD: i64 = 5_000_000_000_000;
/// As many runs as are asked for by name.
pub(crate) const RUNS: u8 = 24;

/// A call, in small numbers: places in lists of what there is.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Push(Vec<New>),
    Step { acks: Vec<(usize, End)>, limit: u32, from: Vec<(usize, u32, Option<usize>)>, is_leased: bool },
    Renew { held: Vec<usize>, is_leased: bool },
    Reap,
    Cancel(u8),
    Progress { held: usize, percent: u8 },
    Replay(Vec<u8>),
    Hold(u8, bool),
    Discard(Vec<u8>, bool),
    Forget { runs: usize, letters: usize, is_old: bool, limit: u32 },
    Prune { runs: Option<usize>, is_old: Option<bool>, skip: usize, limit: u32 },
    Register(usize, bool),
    Serve(usize, bool),
    Pause(usize, bool),
    PauseQueue(usize, Option<bool>),
    Decide { task: usize, is_stale: bool, what: What },
    Look { run: Option<u8>, task: Option<usize>, state: Option<usize>, limit: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct New {
    pub(crate) run: u8,
    pub(crate) task: usize,
    pub(crate) fire: i64,
    pub(crate) is_ahead: bool,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
    pub(crate) alone: bool,
    pub(crate) queue: usize,
    /// The kind that it keeps others out of, and how.
    pub(crate) unique: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Succeed,
    Fail,
    Retry(bool),
    Snooze(bool),
    GiveBack,
    Cancel,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Fire(New, usize),
    Skip(New),
    Pause(bool),
    Nothing,
}

pub(crate) fn new() -> impl Strategy<Value = New> {
    // The usual priority is 5; stores may keep such runs otherwise than others.
    let order = (0..4_i64, prop::bool::weighted(0.1), 4..7_u8);
    // Half of all runs are in one queue.
    let queue = (0..2 * QUEUES.len()).prop_map(|place| place.saturating_sub(QUEUES.len()));
    let unique = prop::option::weighted(0.2, (0..2_u8, 0..5_u8));
    (0..RUNS, 0..TASKS.len(), order, 1..4_u32, any::<bool>(), (queue, unique)).prop_map(
        |(run, task, (fire, is_ahead, priority), max_attempts, alone, (queue, unique))| New {
            run,
            task,
            fire,
            is_ahead,
            priority,
            max_attempts,
            alone,
            queue,
            unique,
        },
    )
}

/// Which queues are taken from, each once.
fn from() -> impl Strategy<Value = Vec<(usize, u32, Option<usize>)>> {
    let all = Just((0..QUEUES.len()).collect::<Vec<_>>()).prop_shuffle();
    let share = (0..4_u32, prop::option::weighted(0.7, 0..limits().len()));
    let shares = prop_oneof![
        1 => Just(Vec::new()),
        3 => prop::collection::vec(share, 1..=QUEUES.len()),
    ];
    (all, shares).prop_map(|(queues, shares)| {
        queues.into_iter().zip(shares).map(|(queue, (count, limits))| (queue, count, limits)).collect()
    })
}

/// Limits that a queue may have. What is not let begin at once waits for minutes, so that no answer depends on how
/// fast a machine is.
pub(crate) fn limits() -> Vec<Limits> {
    let none = Limits { concurrency: None, pace: None, per_key: None };
    let pace = |burst: i64| Pace { interval: 600_000_000, tolerance: (burst - 1) * 600_000_000 };
    let by = |burst| Some(ByKey { param: "who".to_owned(), concurrency: None, pace: Some(pace(burst)) });
    let one_by = |pace| Some(ByKey { param: "who".to_owned(), concurrency: Some(1), pace });
    vec![
        Limits { concurrency: Some(1), ..none.clone() },
        Limits { concurrency: Some(3), ..none.clone() },
        Limits { pace: Some(pace(2)), ..none.clone() },
        Limits { per_key: by(1), ..none.clone() },
        Limits { concurrency: Some(2), pace: Some(pace(3)), per_key: by(2) },
        Limits { per_key: one_by(None), ..none.clone() },
        Limits { concurrency: Some(3), per_key: one_by(Some(pace(2))), ..none.clone() },
    ]
}

/// The queue at this place of [`QUEUES`].
pub(crate) fn queue(place: usize) -> Option<Name> {
    QUEUES[place].map(name)
}

pub(crate) fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Succeed),
        4 => Just(End::Fail),
        2 => any::<bool>().prop_map(End::Retry),
        2 => any::<bool>().prop_map(End::Snooze),
        2 => Just(End::GiveBack),
        1 => Just(End::Cancel),
    ]
}

pub(crate) fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => (new(), 0..3_usize).prop_map(|(new, entry)| What::Fire(new, entry)),
        1 => new().prop_map(What::Skip),
        1 => any::<bool>().prop_map(What::Pause),
        1 => Just(What::Nothing),
    ]
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    use prop::collection::vec;
    let run = || 0..RUNS;
    let task = || 0..TASKS.len();
    let leased = || prop::bool::weighted(0.7);
    prop_oneof![
        6 => vec(new(), 1..5).prop_map(Call::Push),
        10 => (vec((0..64_usize, end()), 0..4), 0..5_u32, from(), leased())
            .prop_map(|(acks, limit, from, is_leased)| Call::Step { acks, limit, from, is_leased }),
        2 => (vec(0..64_usize, 0..4), leased()).prop_map(|(held, is_leased)| Call::Renew { held, is_leased }),
        3 => Just(Call::Reap),
        3 => run().prop_map(Call::Cancel),
        1 => (0..64_usize, 0..100_u8).prop_map(|(held, percent)| Call::Progress { held, percent }),
        2 => vec(run(), 1..4).prop_map(Call::Replay),
        2 => (run(), any::<bool>()).prop_map(|(run, is_held)| Call::Hold(run, is_held)),
        1 => (vec(run(), 1..4), any::<bool>()).prop_map(|(runs, stays)| Call::Discard(runs, stays)),
        2 => (0..8_usize, 0..5_usize, prop::bool::weighted(0.1), 1..6_u32)
            .prop_map(|(runs, letters, is_old, limit)| Call::Forget { runs, letters, is_old, limit }),
        2 => (prop::option::of(0..8_usize), prop::option::of(prop::bool::weighted(0.2)), 0..4_usize, 1..6_u32)
            .prop_map(|(runs, is_old, skip, limit)| Call::Prune { runs, is_old, skip, limit }),
        3 => (task(), any::<bool>()).prop_map(|(task, definition)| Call::Register(task, definition)),
        1 => (task(), any::<bool>()).prop_map(|(task, is_served)| Call::Serve(task, is_served)),
        1 => (task(), any::<bool>()).prop_map(|(task, is_paused)| Call::Pause(task, is_paused)),
        2 => (0..QUEUES.len(), prop::option::weighted(0.4, any::<bool>()))
            .prop_map(|(queue, pause)| Call::PauseQueue(queue, pause)),
        5 => (task(), prop::bool::weighted(0.1), what())
            .prop_map(|(task, is_stale, what)| Call::Decide { task, is_stale, what }),
        2 => (prop::option::weighted(0.2, run()), prop::option::of(task()), prop::option::weighted(0.3, 0..8_usize), 1..4_usize)
            .prop_map(|(run, task, state, limit)| Call::Look { run, task, state, limit }),
    ]
}

pub(crate) fn id(run: impl Display) -> RunId {
    RunId::keyed(&name("default"), &name("t"), &run.to_string())
}

pub(crate) fn pushed(new: &New) -> Pushed {
    let fire_time = Timestamp::from_millis(LONG_AGO + new.fire);
    let mut run = Run::queued(id(new.run), name(TASKS[new.task]), name("queue"), Tier::Queue, fire_time);
    run.params.insert("of".into(), new.run.into());
    run.queue = queue(new.queue);
    if !new.run.is_multiple_of(3) {
        run.params.insert("who".into(), if new.run.is_multiple_of(2) { "ana" } else { "bo" }.into());
    }
    let due =
        Timestamp::from_millis(if new.is_ahead { FAR_AHEAD } else { LONG_AGO } + i64::from(new.run % 3));
    run.unique = new.unique.map(|(kind, how)| {
        let until =
            [None, Some(UniqueUntil::Done), Some(UniqueUntil::Started), Some(UniqueUntil::Done), None];
        // A window has passed at once, or lasts longer than any test.
        let window = [None, None, None, Some(Duration::ZERO), Some(HOUR)];
        let mut unique = Unique::default();
        (unique.until, unique.window) = (until[usize::from(how)], window[usize::from(how)]);
        unique.key_of(&name(TASKS[usize::from(kind)]), &run.params)
    });
    let New { priority, max_attempts, alone, .. } = *new;
    Pushed { run, due, priority, max_attempts, alone }
}

pub(crate) fn lease(is_leased: bool) -> Duration {
    if is_leased { HOUR } else { Duration::ZERO }
}

/// What a decision makes of where a schedule stands; nothing in it comes from a clock.
pub(crate) fn decision(standing: Standing, task: &str, what: &What) -> Decision {
    let Standing { mut cursor, mut paused, live } = standing;
    let of_task = |new: &New| {
        let mut pushed = pushed(new);
        pushed.run.task = name(task);
        // How many live when it is decided shows in what is stored.
        pushed.run.params.insert("beside".into(), (live.running * 100 + live.queued).into());
        pushed
    };
    cursor.runs += 1;
    cursor.decided = Timestamp::from_millis(LONG_AGO + i64::try_from(cursor.runs).unwrap());
    let effect = match what {
        What::Fire(new, entry) => {
            let entry = [Entry::Start, Entry::Queue, Entry::CancelOthers][*entry];
            Effect::Fire(Box::new(of_task(new)), entry)
        }
        What::Skip(new) => {
            Effect::Skip(Box::new(of_task(new).run.into_skipped(Timestamp::from_millis(LONG_AGO), "overlap")))
        }
        What::Pause(is_paused) => {
            paused = is_paused.then(Pause::default);
            Effect::Nothing
        }
        What::Nothing => {
            cursor.finished = None;
            Effect::Nothing
        }
    };
    Decision { cursor, paused, effect }
}
