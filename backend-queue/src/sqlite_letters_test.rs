//! What the SQLite store promises of dead letters.

use std::time::Duration;

use scheduler_core::{
    Adhoc, DeadLetter, DeadLetterFilter, HeldLetters, Name, Replayed, Run, RunFilter, RunId, RunOrigin,
    RunState, Timestamp,
};

use crate::sqlite_clock::now;
use crate::sqlite_test::{Bench, LONG_LEASE, NO_LEASE, NOTHING, failed, open, pushed};
use crate::store::{Ack, Claim, Pushed, Replay, Retention, Store};

const AGE: Duration = Duration::from_secs(3_600);
const EVERYTHING: Retention = Retention { runs: 100, age: AGE, letters: 100, letter_age: AGE };

impl Bench {
    async fn letters(&self) -> Vec<DeadLetter> {
        self.store.letters(&DeadLetterFilter::all()).await.unwrap().letters
    }

    async fn letter_ids(&self) -> Vec<RunId> {
        self.letters().await.into_iter().map(|letter| letter.run.id).collect()
    }

    /// Pushes runs and lets them fail; in the order of their fire times.
    async fn fail(&self, runs: Vec<Pushed>) -> Vec<RunId> {
        let ids: Vec<RunId> = runs.iter().map(|pushed| pushed.run.id).collect();
        self.store.push(runs).await.unwrap();
        let acks: Vec<Ack> = self.claim(1_000, LONG_LEASE).await.iter().map(failed).collect();
        assert_eq!(acks.len(), ids.len());
        assert!(self.store.step(&acks, &NOTHING).await.unwrap().refused.is_empty());
        ids
    }

    async fn run(&self, id: RunId) -> Option<Run> {
        self.store.runs(&RunFilter::of_run(id)).await.unwrap().runs.pop()
    }
}

/// A run whose fire time is that.
fn fired(millis: i64) -> Pushed {
    let mut pushed = pushed(3);
    pushed.run.fire_time = Timestamp::from_millis(millis);
    pushed
}

#[tokio::test]
async fn a_run_becomes_a_letter_in_whichever_step_ends_it_as_failed() {
    let bench = Bench::new().await;
    let acknowledged = bench.fail(vec![fired(3)]).await[0];
    let reaped = fired(2);
    let reaped_id = reaped.run.id;
    bench.store.push(vec![Pushed { max_attempts: 1, ..reaped }]).await.unwrap();
    bench.claim(1, NO_LEASE).await;
    while bench.store.reap(10).await.unwrap().is_empty() {}
    let poisoned = fired(1);
    let poisoned_id = poisoned.run.id;
    bench.store.push(vec![poisoned]).await.unwrap();
    let poison = sqlx::query("UPDATE run SET envelope = '{' WHERE id = ?").bind(poisoned_id.to_string());
    poison.execute(&mut bench.raw().await).await.unwrap();
    bench.claim(1, LONG_LEASE).await;

    let letters = bench.letters().await;

    let ids: Vec<RunId> = letters.iter().map(|letter| letter.run.id).collect();
    assert_eq!(ids, [acknowledged, reaped_id, poisoned_id]);
    assert!(letters.iter().all(|letter| letter.run.state == RunState::Failed));
    assert_eq!(letters[0].run.reason.as_deref(), Some("no"));
    assert!(letters[1].run.reason.as_ref().is_some_and(|reason| reason.contains("worker is gone")));
    assert_eq!((letters[1].unreadable.as_ref(), letters[2].unreadable.as_deref()), (None, Some("{")));
    assert!(letters.iter().all(|letter| letter.died_at <= now() && letter.died_at > now() - AGE));
}

#[tokio::test]
async fn what_ends_otherwise_is_no_letter() {
    let bench = Bench::new().await;
    let ids = bench.push(3, 1).await;
    let taken = bench.claim(2, NO_LEASE).await;
    bench.store.step(&[crate::sqlite_test::done(&taken[0])], &NOTHING).await.unwrap();
    bench.store.cancel(taken[1].run.id, "asked").await.unwrap();
    while bench.store.reap(10).await.unwrap().is_empty() {}
    let waiting = ids.into_iter().find(|id| taken.iter().all(|taken| taken.run.id != *id)).unwrap();
    bench.store.cancel(waiting, "asked").await.unwrap();

    assert_eq!(bench.letters().await, []);
}

#[tokio::test]
async fn letters_are_shown_a_page_at_a_time_by_run_and_by_task() {
    let bench = Bench::new().await;
    let mut runs: Vec<Pushed> = (0..5).map(|at| fired(at / 2)).collect();
    runs[3].run.task = Name::new("other").unwrap();
    let ids = bench.fail(runs).await;

    let (mut paged, mut filter) = (Vec::new(), DeadLetterFilter::all().limited(2));
    loop {
        let page = bench.store.letters(&filter).await.unwrap();
        assert!(page.letters.len() <= 2);
        paged.extend(page.letters);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let of_run = bench.store.letters(&DeadLetterFilter::of_run(ids[1])).await.unwrap().letters;
    let of_task = DeadLetterFilter::of_task(Name::new("other").unwrap());
    let of_task = bench.store.letters(&of_task).await.unwrap().letters;

    assert_eq!((paged.len(), &paged), (5, &bench.letters().await));
    assert!(paged.is_sorted_by_key(|letter| std::cmp::Reverse((letter.run.fire_time, letter.run.id))));
    assert_eq!((of_run.len(), of_run[0].run.id), (1, ids[1]));
    assert_eq!((of_task.len(), of_task[0].run.id), (1, ids[3]));
}

#[tokio::test]
async fn a_replay_is_a_new_run_of_the_same_that_names_its_origin() {
    let bench = Bench::new().await;
    let mut pushed = Pushed { priority: 8, max_attempts: 7, ..fired(4_711) };
    pushed.run.params.insert("k".into(), "v".into());
    pushed.run.adhoc = Some(Adhoc { job: Name::new("j").unwrap(), args: serde_json::json!([1]) });
    let before = pushed.run.clone();
    let letter = bench.fail(vec![pushed]).await[0];
    let again = RunId::manual(now());

    let replayed = bench.store.replay(&[Replay::new(letter, again)]).await.unwrap();

    assert_eq!((replayed, bench.letters().await), (vec![Replayed::As(again)], vec![]));
    assert_eq!(bench.state(letter).await, RunState::Failed);
    let taken = bench.claim(10, LONG_LEASE).await.remove(0);
    let mut expected = before;
    (expected.id, expected.state, expected.attempt) = (again, RunState::Running, 1);
    expected.origin = RunOrigin::Manual;
    expected.replay_of = Some(letter);
    assert_eq!((taken.run, taken.max_attempts), (expected, 7));
    let priority = sqlx::query_scalar("SELECT priority FROM run WHERE id = ?").bind(again.to_string());
    let priority: i64 = priority.fetch_one(&mut bench.raw().await).await.unwrap();
    assert_eq!(priority, 8);
}

#[tokio::test]
async fn a_letter_is_replayed_once_however_many_ask() {
    let bench = Bench::new().await;
    let letter = bench.fail(vec![fired(1)]).await[0];
    let other = open(bench.folder.path()).await.unwrap();
    let pairs: Vec<_> = (0..2).map(|_| Replay::new(letter, RunId::manual(now()))).collect();

    let (one, two) = tokio::join!(bench.store.replay(&pairs), other.replay(&pairs));

    let answers = [one.unwrap(), two.unwrap()].concat();
    let replayed = answers.iter().filter(|answer| matches!(answer, Replayed::As(_))).count();
    let unknown = answers.iter().filter(|answer| **answer == Replayed::Unknown).count();
    assert_eq!((replayed, unknown), (1, 3), "{answers:?}");
    assert_eq!(bench.claim(10, LONG_LEASE).await.len(), 1);
}

#[tokio::test]
async fn a_replay_waits_for_its_turn_as_its_origin_did() {
    let bench = Bench::new().await;
    let letter = bench.fail(vec![Pushed { alone: true, ..fired(1) }]).await[0];
    bench.push(1, 3).await;
    bench.claim(1, LONG_LEASE).await;

    bench.store.replay(&[Replay::new(letter, RunId::manual(now()))]).await.unwrap();

    assert!(bench.claim(10, LONG_LEASE).await.is_empty());
    assert_eq!(bench.store.waiting().await.unwrap(), 1);
}

#[tokio::test]
async fn a_held_letter_and_one_that_cannot_be_read_are_not_replayed() {
    let bench = Bench::new().await;
    let ids = bench.fail(vec![fired(2), fired(1)]).await;
    let poison = sqlx::query("UPDATE run SET envelope = '{' WHERE id = ?").bind(ids[1].to_string());
    poison.execute(&mut bench.raw().await).await.unwrap();
    let pairs = [Replay::new(ids[0], RunId::manual(now())), Replay::new(ids[1], RunId::manual(now()))];

    assert!(bench.store.hold(ids[0], Some("look at it")).await.unwrap());
    let refused = bench.store.replay(&pairs).await.unwrap();
    let held = bench.letters().await.remove(0).held;
    assert!(bench.store.hold(ids[0], None).await.unwrap());
    let replayed = bench.store.replay(&pairs[..1]).await.unwrap();

    assert_eq!(refused, [Replayed::Held, Replayed::Unreadable]);
    assert_eq!(held.as_deref(), Some("look at it"));
    assert_eq!(replayed, [Replayed::As(pairs[0].run)]);
    assert!(!bench.store.hold(ids[0], Some("gone")).await.unwrap());
}

#[tokio::test]
async fn a_discarded_letter_leaves_and_its_run_stays_in_history() {
    let bench = Bench::new().await;
    let ids = bench.fail(vec![fired(2), fired(1)]).await;
    bench.store.hold(ids[0], Some("held or not")).await.unwrap();

    let discarded =
        bench.store.discard(&[ids[0], RunId::manual(now()), ids[0]], HeldLetters::Leave).await.unwrap();

    assert_eq!((discarded, bench.letter_ids().await), (vec![true, false, false], vec![ids[1]]));
    assert_eq!(bench.state(ids[0]).await, RunState::Failed);
}

#[tokio::test]
async fn a_held_letter_stays_when_only_others_are_discarded() {
    let bench = Bench::new().await;
    let ids = bench.fail(vec![fired(2), fired(1)]).await;
    bench.store.hold(ids[0], Some("look at it")).await.unwrap();

    let discarded = bench.store.discard(&ids, HeldLetters::Stay).await.unwrap();

    let letters = bench.letters().await;
    assert_eq!((discarded, bench.letter_ids().await), (vec![false, true], vec![ids[0]]));
    assert_eq!(letters[0].held.as_deref(), Some("look at it"));
    bench.store.hold(ids[0], None).await.unwrap();
    assert_eq!(bench.store.discard(&ids, HeldLetters::Stay).await.unwrap(), [true, false]);
}

#[tokio::test]
async fn history_keeps_the_run_of_a_letter_until_it_is_discarded() {
    let bench = Bench::new().await;
    let ids = bench.fail(vec![fired(2), fired(1)]).await;
    let nothing_kept = Retention { runs: 0, age: Duration::ZERO, ..EVERYTHING };

    let forgotten = bench.store.forget(&nothing_kept, 100).await.unwrap();
    bench.store.discard(&ids[..1], HeldLetters::Leave).await.unwrap();
    let after = bench.store.forget(&nothing_kept, 100).await.unwrap();

    assert_eq!((forgotten, after), (0, 1));
    assert_eq!((bench.run(ids[0]).await, bench.letter_ids().await), (None, vec![ids[1]]));
}

#[tokio::test]
async fn retention_lets_the_oldest_letters_go_and_none_that_is_held() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for at in 0..5 {
        ids.extend(bench.fail(vec![fired(at)]).await);
    }
    bench.store.hold(ids[0], Some("keep")).await.unwrap();

    let few = Retention { letters: 2, ..EVERYTHING };
    let first = bench.store.forget(&few, 1).await.unwrap();
    let rest = bench.store.forget(&few, 100).await.unwrap();
    let left = bench.letter_ids().await;
    let old = Retention { letter_age: Duration::ZERO, ..EVERYTHING };
    let aged = bench.store.forget(&old, 100).await.unwrap();

    assert_eq!((first, rest, left), (1, 1, vec![ids[4], ids[3], ids[0]]));
    assert_eq!((aged, bench.letter_ids().await), (2, vec![ids[0]]));
    assert_eq!(bench.state(ids[4]).await, RunState::Failed);
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_taken_over_and_its_failed_runs_are_letters() {
    for earlier in [include_str!("../testdata/queue_v1.sql"), include_str!("../testdata/queue_v2.sql")] {
        let folder = tempfile::tempdir().unwrap();
        let mut first = crate::sqlite_test::raw(folder.path(), true).await;
        sqlx::raw_sql(earlier).execute(&mut first).await.unwrap();
        drop(first);

        let store = open(folder.path()).await.unwrap();

        let runs = store.runs(&RunFilter::all()).await.unwrap().runs;
        assert_eq!(runs.len(), 3);
        let letters = store.letters(&DeadLetterFilter::all()).await.unwrap().letters;
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].died_at, Timestamp::from_millis(1_774_695_600_500));
        let again = RunId::manual(now());
        let replayed = store.replay(&[Replay::new(letters[0].run.id, again)]).await.unwrap();
        assert_eq!(replayed, [Replayed::As(again)]);
        let claimed = store.step(&[], &Claim::new(10, LONG_LEASE)).await.unwrap().claimed;
        assert_eq!(claimed.len(), 2);
        drop(store);
        open(folder.path()).await.unwrap();
    }
}

#[tokio::test]
async fn another_process_that_adds_a_run_is_heard_of() {
    let bench = Bench::new().await;
    let other = open(bench.folder.path()).await.unwrap();
    let patience = Duration::from_secs(20);

    let (heard, pushed) =
        tokio::join!(tokio::time::timeout(patience, bench.store.changed()), other.push(vec![pushed(1)]));
    let silence = tokio::time::timeout(Duration::from_millis(100), bench.store.changed()).await;

    assert_eq!((heard.is_ok(), pushed.unwrap()), (true, vec![true]));
    assert!(silence.is_err(), "nothing changed since");
}
