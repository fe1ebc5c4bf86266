//! What the SQLite store makes of values that it did not write.

use std::time::Duration;

use scheduler_core::{DeadLetterFilter, Entry, HeldLetters, Name, RunFilter, RunId, RunState, Timestamp};
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::sqlite_clock::now;
use crate::sqlite_test::{Bench, LONG_LEASE, NO_LEASE, NOTHING, done, failed, pushed};
use crate::store::{
    Cancel, Claim, Decided, Decision, Effect, Held, Pushed, Replay, Retention, Standing, Store,
};

const NUMBERS: &[&str] = &["9223372036854775807", "-9223372036854775808", "-1", "0", "4294967296", "7"];
const TEXTS: &[&str] =
    &["CAST(x'ff00' AS TEXT)", "''", "CAST(x'6100' AS TEXT)", "'{'", "'日本'", "'{\"v\":9}'"];

/// Every column of a run, with values that it may take in a file whose owner wrote them.
fn poisons() -> impl Iterator<Item = (&'static str, &'static str)> {
    let numbers = [
        "state",
        "priority",
        "due",
        "fire_time",
        "attempt",
        "max_attempts",
        "fence",
        "lease_until",
        "alone",
        "finished",
        "died",
    ];
    let texts = ["id", "task", "cancel", "envelope", "hold"];
    let of = |columns: Vec<&'static str>, values: &'static [&'static str]| {
        columns.into_iter().flat_map(move |column| values.iter().map(move |value| (column, *value)))
    };
    of(numbers.to_vec(), NUMBERS).chain(of(texts.to_vec(), TEXTS))
}

async fn write(connection: &mut SqliteConnection, id: RunId, column: &str, value: &str) {
    // An id can be given to one run only.
    let poison = format!("UPDATE OR IGNORE run SET {column} = {value} WHERE id = '{id}'");
    sqlx::raw_sql(AssertSqlSafe(poison)).execute(connection).await.unwrap();
}

#[tokio::test]
async fn no_stored_value_keeps_the_queue_from_going_on() {
    for (column, value) in poisons() {
        let bench = Bench::new().await;
        let place = format!("{column} = {value}");
        // One that waits, one under way, one that is held back behind it, one that failed, one that is to come.
        let under_way = Pushed { alone: true, priority: 9, ..pushed(3) };
        let failing = Pushed { priority: 8, ..pushed(1) };
        let held_back = Pushed { alone: true, ..pushed(3) };
        let to_come = Pushed { due: now() + LONG_LEASE, ..pushed(3) };
        let waiting = pushed(3);
        let all = vec![under_way, failing, held_back, to_come, waiting];
        let ids: Vec<RunId> = all.iter().map(|pushed| pushed.run.id).collect();
        bench.store.push(all).await.unwrap();
        let mut taken = bench.claim(2, LONG_LEASE).await;
        let failing = taken.pop().unwrap();
        let under_way = taken.pop().unwrap();
        bench.store.step(&[failed(&failing)], &NOTHING).await.unwrap();
        let mut raw = bench.raw().await;
        for id in &ids {
            write(&mut raw, *id, column, value).await;
        }
        let sound = bench.push(1, 3).await[0];

        let held = Held { run: under_way.run.id, fence: under_way.fence };
        bench.store.renew(&[held], NO_LEASE).await.expect(&place);
        bench.store.step(&[done(&under_way)], &NOTHING).await.expect(&place);
        let mut has_run = false;
        for _ in 0..4 {
            bench.store.reap(100).await.expect(&place);
            let claim = Claim::new(3, LONG_LEASE);
            let stepped = bench.store.step(&[], &claim).await.expect(&place);
            has_run |= stepped.claimed.iter().any(|delivery| delivery.run.id == sound);
            assert!(stepped.claimed.iter().all(|delivery| delivery.run.attempt > 0), "{place}");
            let acks: Vec<_> = stepped.claimed.iter().map(done).collect();
            bench.store.step(&acks, &NOTHING).await.expect(&place);
        }
        assert!(has_run, "{place}");
        use_everything(&bench, &place).await;
    }
}

/// Asks for everything that reads or changes runs, of every run that is shown.
async fn use_everything(bench: &Bench, place: &str) {
    let mut filter = RunFilter::all().limited(1);
    let mut shown = Vec::new();
    for _ in 0..10 {
        let page = bench.store.runs(&filter).await.expect(place);
        shown.extend(page.runs);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert!(filter.after.is_none() && !shown.is_empty(), "{place}: pages come to an end");
    let letters = bench.store.letters(&DeadLetterFilter::all()).await.expect(place).letters;
    for run in shown.iter().chain(letters.iter().map(|letter| &letter.run)) {
        bench.store.cancel(run.id, "asked").await.expect(place);
        bench.store.hold(run.id, None).await.expect(place);
        bench.store.replay(&[Replay::new(run.id, RunId::manual(now()))]).await.expect(place);
        bench.store.discard(&[run.id], HeldLetters::Leave).await.expect(place);
    }
    let (task, age) = (Name::new("t").unwrap(), Duration::ZERO);
    bench.store.register(&task, "definition", LONG_LEASE).await.expect(place);
    bench.store.standing(&task).await.expect(place);
    let fire = |standing: Standing, _| Decision {
        cursor: standing.cursor,
        paused: standing.paused,
        effect: Effect::Fire(Box::new(pushed(3)), Entry::CancelOthers),
    };
    bench.store.decide(&task, 1, &fire).await.expect(place);
    bench.store.waiting().await.expect(place);
    bench.store.forget(&Retention { runs: 0, age, letters: 0, letter_age: age }, 100).await.expect(place);
}

#[tokio::test]
async fn a_run_that_cannot_be_read_ends_as_a_letter_that_says_why_and_can_be_discarded() {
    let cases = [
        ("attempt", "9223372036854775807", "its attempt is 9223372036854775807"),
        ("attempt", "-1", "its attempt is -1"),
        ("max_attempts", "4294967296", "its max_attempts is 4294967296"),
        ("task", "CAST(x'ff' AS TEXT)", "its task is no text"),
        ("task", "'No Name'", "`No Name` is no name"),
        ("id", "CAST(x'ff' AS TEXT)", "its id could not be read"),
        ("id", "'short'", "its id could not be read"),
        ("fire_time", "9223372036854775807", "its fire_time could not be read"),
        ("envelope", "CAST(x'7bff' AS TEXT)", "its envelope is no text"),
        ("envelope", "'{\"v\":9}'", "version 9"),
    ];
    for (column, value, reason) in cases {
        let bench = Bench::new().await;
        let ids = bench.push(2, 3).await;
        write(&mut bench.raw().await, ids[0], column, value).await;

        let stepped = bench.store.step(&[], &Claim::new(10, LONG_LEASE)).await.unwrap();
        let letter = bench.store.letters(&DeadLetterFilter::all()).await.unwrap().letters.remove(0);
        let shown = bench.store.runs(&RunFilter::of_run(letter.run.id)).await.unwrap().runs.remove(0);
        let replayed = bench.store.replay(&[Replay::new(letter.run.id, RunId::manual(now()))]).await.unwrap();
        let discarded = bench.store.discard(&[letter.run.id], HeldLetters::Leave).await.unwrap();

        assert_eq!((stepped.claimed.len(), stepped.undecodable.len()), (1, 1), "{column} {value}");
        assert_eq!((letter.run.state, &shown), (RunState::Failed, &letter.run), "{column} {value}");
        let said = letter.run.reason.unwrap();
        assert!(said.contains(reason), "{column} {value}: {said}");
        assert!(letter.unreadable.is_some(), "{column} {value}");
        assert_eq!(replayed, [scheduler_core::Replayed::Unreadable], "{column} {value}");
        assert_eq!(discarded, [true], "{column} {value}");
    }
}

#[tokio::test]
async fn a_waiting_run_that_cannot_be_read_is_cancelled_as_a_failed_one() {
    let bench = Bench::new().await;
    let id = bench.push(1, 3).await[0];
    write(&mut bench.raw().await, id, "envelope", "'{'").await;

    let cancelled = bench.store.cancel(id, "asked").await.unwrap();

    assert!(matches!(cancelled, Cancel::Ended(run) if run.state == RunState::Failed));
    assert_eq!(bench.store.letters(&DeadLetterFilter::of_run(id)).await.unwrap().letters.len(), 1);
}

#[tokio::test]
async fn a_fence_is_raised_whatever_the_last_one_was_overwritten_with() {
    for value in ["'x'", "x'ff'", "9223372036854775807", "-5", "0.5"] {
        let bench = Bench::new().await;
        bench.push(3, 3).await;
        let before = bench.claim(2, LONG_LEASE).await.pop().unwrap();
        let poison = format!("UPDATE meta SET value = {value} WHERE key = 'fence'");
        sqlx::raw_sql(AssertSqlSafe(poison)).execute(&mut bench.raw().await).await.unwrap();

        let after = bench.claim(1, LONG_LEASE).await.pop().unwrap();

        assert!(after.fence > before.fence, "{value}: {} {}", before.fence, after.fence);
    }
}

#[tokio::test]
async fn no_stored_value_stops_a_schedule_for_good() {
    let numbers = ["decided", "served_since", "served_until", "runs", "finished", "revision"];
    let numbers = numbers.iter().flat_map(|column| NUMBERS.iter().map(move |value| (*column, *value)));
    let texts = ["definition", "paused"];
    let texts = texts.iter().flat_map(|column| TEXTS.iter().map(move |value| (*column, *value)));
    let bench = Bench::new().await;
    let task = Name::new("t").unwrap();
    for (column, value) in numbers.chain(texts) {
        let place = format!("{column} = {value}");
        bench.store.register(&task, "definition", LONG_LEASE).await.unwrap();
        let poison = format!("UPDATE schedule SET {column} = {value}");
        sqlx::raw_sql(AssertSqlSafe(poison)).execute(&mut bench.raw().await).await.unwrap();

        let revision = bench.store.register(&task, "definition", LONG_LEASE).await.expect(&place);
        let standing = bench.store.standing(&task).await.expect(&place).unwrap();
        let resume = |standing: Standing, at: Timestamp| {
            let mut cursor = standing.cursor;
            cursor.runs = cursor.runs.saturating_add(1);
            cursor.decided = at;
            Decision { cursor, paused: None, effect: Effect::Fire(Box::new(pushed(3)), Entry::Start) }
        };
        let decided = bench.store.decide(&task, revision, &resume).await.expect(&place);

        assert!(matches!(decided, Decided::Done { .. }), "{place}");
        assert_eq!(standing.paused.is_some(), column == "paused", "{place}");
        assert!(standing.cursor.decided <= Timestamp::MAX, "{place}");
    }
    assert_eq!(bench.store.waiting().await.unwrap(), 8 * 6);
}
