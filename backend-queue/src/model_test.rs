//! The same random sequence of calls gives the same answers on every store as on the model.
//!
//! What differs rightly is levelled first: fences are drawn by each store, and an instant that a store took from
//! its own clock is just now. Leases last an hour or not at all, runs are long due or in a hundred years, so that
//! no answer depends on how fast a machine is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use scheduler_core::{
    Cursor, DeadLetter, DeadLetterFilter, EndedRun, HeldLetters, HistoryBounds, Load, Pause, Run, RunFilter,
    RunId, RunState, Timestamp,
};
use serde_json::Map;

use crate::model::Model;
use crate::model_call::{
    Call, End, FAR_AHEAD, HOUR, LONG_AGO, TASKS, call, decision, id, lease, limits, pushed, queue,
};
use crate::model_run::name;
use crate::store::{
    Ack, Cancel, Claim, Decided, Delivery, Held, Next, QueueState, Replay, Retention, Share, Standing,
    Stepped, Store,
};

/// A store, what it delivered, and how many of its attempts have ended.
struct Side<S> {
    store: S,
    deliveries: Vec<Delivery>,
    ends: i64,
    replays: u32,
    /// The latest revision of each task.
    revisions: [u64; TASKS.len()],
}

impl<S: Store> Side<S> {
    fn new(store: S) -> Self {
        Self { store, deliveries: Vec::new(), ends: 0, replays: 0, revisions: [1; TASKS.len()] }
    }

    /// Does what the call says; answers what it answered and everything that can be seen after it, as text.
    async fn answer(&mut self, call: &Call) -> String {
        let store = &self.store;
        let answer = match call {
            Call::Push(runs) if runs.iter().any(|new| new.unique.is_some()) => {
                format!("{:?}", store.push_unique(runs.iter().map(pushed).collect()).await.unwrap())
            }
            Call::Push(runs) => {
                format!("{:?}", store.push(runs.iter().map(pushed).collect()).await.unwrap())
            }
            Call::Progress { held, percent } => {
                let told = self.delivery(*held).map(|delivery| {
                    let progress = serde_json::json!({"done": f64::from(*percent) / 100.0, "note": "n"});
                    let mut run = delivery.run.clone();
                    run.progress = serde_json::from_value(progress).ok();
                    (run, delivery.fence)
                });
                store.tell_progress(&told.into_iter().collect::<Vec<_>>()).await.unwrap();
                String::new()
            }
            Call::Step { acks, limit, from, is_leased } => {
                let acks: Vec<Ack> = acks.iter().filter_map(|(index, end)| self.ack(*index, *end)).collect();
                let from = from.iter().map(|(place, count, limited)| {
                    let limits = limited.map(|limited| Arc::new(limits()[limited].clone()));
                    Share { queue: queue(*place), count: *count, limits }
                });
                let claim = Claim { from: from.collect(), ..Claim::new(*limit, lease(*is_leased)) };
                let stepped = self.store.step(&acks, &claim).await.unwrap();
                let seen = seen_step(&stepped);
                self.deliveries.extend(stepped.claimed);
                seen
            }
            Call::Renew { held, is_leased } => {
                let held: Vec<Held> = held.iter().filter_map(|index| self.held(*index)).collect();
                let renewed = store.renew(&held, lease(*is_leased)).await.unwrap();
                format!("{renewed:?}")
            }
            Call::Reap => {
                let mut reaped = store.reap(1_000).await.unwrap();
                reaped.sort_by_key(|run| run.id);
                // When they are due again is seen below.
                reaped.iter_mut().for_each(|run| run.next_attempt_at = None);
                // A store may leave it to the next step to pass turns on.
                store.step(&[], &Claim::new(0, HOUR)).await.unwrap();
                format!("{:?}", reaped.into_iter().map(level).collect::<Vec<_>>())
            }
            Call::Cancel(run) => match store.cancel(id(*run), "asked").await.unwrap() {
                Cancel::Ended(run) => format!("{:?}", level(*run)),
                answer => format!("{answer:?}"),
            },
            Call::Replay(letters) => {
                self.replays += 1;
                let again = |index: usize| id(format!("replay {} {index}", self.replays));
                // Every other one gets other parameters.
                let params = |index: usize| Map::from_iter([("edited".to_owned(), index.into())]);
                let replays: Vec<_> = letters
                    .iter()
                    .enumerate()
                    .map(|(index, run)| Replay {
                        params: (index % 2 == 1).then(|| params(index)),
                        ..Replay::new(id(*run), again(index))
                    })
                    .collect();
                format!("{:?}", store.replay(&replays).await.unwrap())
            }
            Call::Hold(run, is_held) => {
                format!("{:?}", store.hold(id(*run), is_held.then_some("look")).await.unwrap())
            }
            Call::Discard(runs, stays) => {
                let held = if *stays { HeldLetters::Stay } else { HeldLetters::Leave };
                let runs: Vec<RunId> = runs.iter().map(|run| id(*run)).collect();
                format!("{:?}", store.discard(&runs, held).await.unwrap())
            }
            Call::Forget { runs, letters, is_old, limit } => {
                let age = if *is_old { Duration::ZERO } else { HOUR * 24 * 365 * 100 };
                let retention = Retention { runs: *runs, letters: *letters, age, letter_age: age };
                format!("{:?}", store.forget(&retention, *limit).await.unwrap())
            }
            Call::Prune { runs, is_old, skip, limit } => {
                let mut bounds = HistoryBounds::default();
                bounds.max_runs = *runs;
                bounds.max_age =
                    is_old.map(|is_old| if is_old { Duration::ZERO } else { HOUR * 24 * 365 * 100 });
                let beyond = store.beyond(&bounds, *skip, *limit).await.unwrap();
                let first = store.beyond(&bounds, 0, *limit).await.unwrap();
                let gone = store.prune(&bounds, *limit).await.unwrap();
                assert_eq!(first, gone, "what was told is what was done");
                let told = |ended: Vec<EndedRun>| {
                    let told =
                        ended.into_iter().map(|ended| (ended.run, ended.task, level_time(ended.ended_at)));
                    told.collect::<Vec<_>>()
                };
                format!("{:?} {:?}", told(beyond), told(gone))
            }
            Call::Register(task, definition) => {
                let definition = definition.to_string();
                let revision = store.register(&name(TASKS[*task]), &definition, HOUR).await.unwrap();
                self.revisions[*task] = revision;
                format!("{revision}")
            }
            Call::Serve(task, is_served) => {
                format!("{:?}", store.serve(&[name(TASKS[*task])], lease(*is_served)).await.unwrap())
            }
            Call::Pause(task, is_paused) => {
                let pause = is_paused.then(Pause::default);
                format!("{:?}", store.pause(&name(TASKS[*task]), pause.as_ref()).await.unwrap())
            }
            Call::PauseQueue(place, pause) => {
                let until = |is_over| Timestamp::from_millis(if is_over { LONG_AGO } else { FAR_AHEAD });
                // One of them is paused without an end.
                let until = |is_over| Some(until(is_over)).filter(|_| is_over || *place > 0);
                let pause = pause.map(|is_over| Pause { until: until(is_over), ..Pause::default() });
                let queue = queue(*place);
                format!("{:?}", store.pause_queue(queue.as_ref(), pause.as_ref()).await.unwrap())
            }
            Call::Decide { task, is_stale, what } => {
                let revision = self.revisions[*task] - u64::from(*is_stale);
                let decide = |standing, _| decision(standing, TASKS[*task], what);
                match store.decide(&name(TASKS[*task]), revision, &decide).await.unwrap() {
                    Decided::Done { mut ended, mut marked } => {
                        ended.sort_by_key(|run| run.id);
                        marked.sort();
                        format!("{:?} {marked:?}", ended.into_iter().map(level).collect::<Vec<_>>())
                    }
                    answer => format!("{answer:?}"),
                }
            }
            Call::Look { run, task, state, limit } => self.pages(*run, *task, *state, *limit).await,
        };
        format!("{answer}\n{}", self.everything().await)
    }

    fn delivery(&self, index: usize) -> Option<&Delivery> {
        // The latest are asked for most often.
        self.deliveries.iter().rev().nth(index % 8)
    }

    fn held(&self, index: usize) -> Option<Held> {
        let delivery = self.delivery(index)?;
        Some(Held { run: delivery.run.id, fence: delivery.fence })
    }

    fn ack(&mut self, index: usize, end: End) -> Option<Ack> {
        let Delivery { run, fence, .. } = self.deliveries.iter().rev().nth(index % 8)?;
        let (mut run, fence, wait) =
            (run.clone(), *fence, |is_long| if is_long { HOUR } else { Duration::ZERO });
        self.ends += 1;
        let at = Timestamp::from_millis(LONG_AGO + 1_000 * self.ends);
        run.started_at.get_or_insert(at);
        let next = match end {
            End::Succeed => {
                run.output = "done".into();
                run.state = RunState::Succeeded;
                Next::End
            }
            End::Fail => {
                run.record_failure(at, "no");
                run.reason = Some("no".into());
                run.state = RunState::Failed;
                Next::End
            }
            End::Cancel => {
                run.state = RunState::Cancelled;
                Next::End
            }
            End::Retry(is_long) => {
                run.record_failure(at, "not yet");
                run.state = RunState::Retrying;
                Next::Again(wait(is_long))
            }
            End::GiveBack => {
                run.state = RunState::Queued;
                run.attempt -= 1;
                Next::Back
            }
            End::Snooze(is_long) => {
                run.state = RunState::Queued;
                run.attempt -= 1;
                Next::Again(wait(is_long))
            }
        };
        run.finished_at = (next == Next::End).then_some(at);
        Some(Ack { run, fence, next, is_followed: index.is_multiple_of(2) })
    }

    /// Every page of a filter, of runs and of letters.
    async fn pages(
        &self,
        run: Option<u8>,
        task: Option<usize>,
        state: Option<usize>,
        limit: usize,
    ) -> String {
        let mut seen = String::new();
        let mut runs = RunFilter::all().limited(limit);
        runs.run = run.map(id);
        runs.task = task.map(|task| name(TASKS[task]));
        runs.states = state.map(|state| RunState::ALL[state]).into_iter().collect();
        loop {
            let page = self.store.runs(&runs).await.unwrap();
            seen.push_str(&format!("{:?}\n", page.runs.into_iter().map(level).collect::<Vec<_>>()));
            runs.after = page.next;
            if runs.after.is_none() {
                break;
            }
        }
        let mut letters = DeadLetterFilter::all().limited(limit);
        (letters.run, letters.task) = (runs.run, runs.task);
        loop {
            let page = self.store.letters(&letters).await.unwrap();
            seen.push_str(&format!("{:?}\n", page.letters.into_iter().map(level_letter).collect::<Vec<_>>()));
            letters.after = page.next;
            if letters.after.is_none() {
                return seen;
            }
        }
    }

    async fn everything(&self) -> String {
        let mut seen = String::new();
        for run in self.store.runs(&RunFilter::all().limited(1_000)).await.unwrap().runs {
            seen.push_str(&format!("{:?}\n", level(run)));
        }
        for letter in self.store.letters(&DeadLetterFilter::all().limited(1_000)).await.unwrap().letters {
            seen.push_str(&format!("{:?}\n", level_letter(letter)));
        }
        for task in TASKS {
            let standing = self.store.standing(&name(task)).await.unwrap().map(level_standing);
            seen.push_str(&format!("{standing:?}\n"));
        }
        for queue in self.store.queues().await.unwrap() {
            seen.push_str(&format!("{:?}\n", level_queue(queue)));
        }
        seen.push_str(&format!("{} wait", self.store.waiting().await.unwrap()));
        // What is due in a moment is ahead for one of two that are asked after one another.
        let Load { waiting, ahead, under_way, dead_letters, .. } = self.store.load().await.unwrap();
        seen.push_str(&format!("{} {under_way} {dead_letters:?}", waiting + ahead));
        seen
    }
}

/// An instant that a store took from its clock is just now; one that it counted from there is soon.
fn level_time(at: Timestamp) -> Timestamp {
    let now = Timestamp::from(SystemTime::now());
    match at {
        at if at <= now - 24 * HOUR || at > now + 24 * HOUR => at,
        at if at <= now + Duration::from_secs(60) => Timestamp::from_millis(1),
        _ => Timestamp::from_millis(2),
    }
}

fn level(mut run: Run) -> Run {
    run.finished_at = run.finished_at.map(level_time);
    run.next_attempt_at = run.next_attempt_at.map(level_time);
    for failure in &mut run.failures {
        failure.at = level_time(failure.at);
    }
    run
}

fn level_letter(mut letter: DeadLetter) -> DeadLetter {
    letter.run = level(letter.run);
    letter.died_at = level_time(letter.died_at);
    letter
}

fn level_standing(standing: Standing) -> Standing {
    let Cursor { decided, served_since, runs, finished } = standing.cursor;
    let (decided, served_since) = (level_time(decided), level_time(served_since));
    Standing {
        cursor: Cursor { decided, served_since, runs, finished: finished.map(level_time) },
        ..standing
    }
}

fn level_queue(queue: QueueState) -> QueueState {
    QueueState { oldest: queue.oldest.map(level_time), ..queue }
}

fn seen_step(stepped: &Stepped) -> String {
    let Stepped { refused, marked, claimed, undecodable, next_due, has_more, paused } = stepped;
    let claimed: Vec<_> =
        claimed.iter().map(|delivery| (level(delivery.run.clone()), delivery.max_attempts)).collect();
    let next_due = next_due.map(|due| due > Duration::from_secs(60));
    format!("{refused:?} {marked:?} {claimed:?} {} {next_due:?} {has_more} {paused:?}", undecodable.len())
}

/// Compares a store with the model; `open` gives one that nobody else uses, and what it needs to stay.
fn agree<S: Store, Kept>(cases: u32, open: impl AsyncFn() -> (S, Kept)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest!(ProptestConfig::with_cases(cases), |(calls in prop::collection::vec(call(), 1..50))| {
        runtime.block_on(async {
            let (store, _kept) = open().await;
            let (mut model, mut store) = (Side::new(Model::default()), Side::new(store));
            for (index, call) in calls.iter().enumerate() {
                let (expected, seen) = (model.answer(call).await, store.answer(call).await);
                prop_assert_eq!(expected, seen, "call {} of {:#?}", index, calls);
                let fences = store.deliveries.iter().map(|delivery| delivery.fence);
                prop_assert!(fences.is_sorted_by(|before, after| before < after), "fences rise");
                // Every clock moves on, so that what was just now is before what comes.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        })?;
    });
}

#[test]
fn the_model_agrees_with_itself() {
    agree(8, async || (Model::default(), ()));
}

#[cfg(feature = "sqlite")]
#[test]
fn a_queue_in_a_file_answers_as_the_model() {
    agree(64, async || {
        let folder = tempfile::tempdir().unwrap();
        (crate::sqlite_test::open(folder.path()).await.unwrap(), folder)
    });
}

#[cfg(feature = "redis")]
#[test]
fn a_queue_on_redis_answers_as_the_model() {
    let url = crate::redis_stage::url();
    agree(64, async || (crate::redis_stage::open(&url, &crate::redis_stage::namespace()).await.unwrap(), ()));
}
