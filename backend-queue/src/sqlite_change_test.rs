//! What the SQLite store promises when a change fails half-way or the file is none of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scheduler_core::{HeldLetters, RunFilter, RunId};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::limits::{Limits, Pace};
use crate::sqlite_error::failed;
use crate::sqlite_test::{Bench, LONG_LEASE, NOTHING, done, open, pushed, raw};
use crate::store::{Claim, Pushed, Replay, Share, Store};

#[tokio::test]
async fn a_change_that_nobody_waits_for_any_more_is_undone_and_holds_up_nobody() {
    let bench = Bench::new().await;
    let other = open(bench.folder.path()).await.unwrap();

    let mut change = bench.store.change().await.unwrap();
    change.insert([&pushed(3)].into_iter()).await.unwrap();
    drop(change);

    // The file is free again once the connection is closed, which its thread does.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = other.push(vec![pushed(3)]).await {
        assert!(error.code() == "queue/locked" && std::time::Instant::now() < deadline, "{error}");
    }
    assert_eq!(bench.store.push(vec![pushed(3)]).await.unwrap(), [true]);
    assert_eq!(bench.store.waiting().await.unwrap(), 2);
}

#[tokio::test]
async fn after_a_slow_change_the_file_is_left_to_others_for_a_moment() {
    let bench = Bench::new().await;

    let slow = bench.store.change().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    slow.end(Ok(())).await.unwrap();
    let ended = std::time::Instant::now();
    bench.push(1, 3).await;

    // A twentieth of it, less the moment between the end and our look at the clock.
    assert!(ended.elapsed() >= Duration::from_millis(8), "{:?}", ended.elapsed());
}

#[tokio::test]
async fn a_file_that_is_locked_keeps_the_connection_and_answers_that_it_is() {
    let bench = Bench::new().await;
    let mut other = bench.raw().await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();

    let refused = bench.store.push(vec![pushed(3)]).await.unwrap_err();

    assert_eq!((refused.code(), refused.is_transient()), ("queue/locked", true));
    assert!(bench.store.writer.lock().await.is_some());
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(bench.store.push(vec![pushed(3)]).await.unwrap(), [true]);
}

#[tokio::test]
async fn who_only_looks_into_a_file_waits_for_nobody_who_writes() {
    let bench = Bench::new().await;
    bench.push(2, 3).await;
    let writing = bench.store.change().await.unwrap();

    let other = open(bench.folder.path()).await.unwrap();

    assert_eq!(other.queues().await.unwrap()[0].waiting, 2);
    assert_eq!(other.push(vec![pushed(3)]).await.unwrap_err().code(), "queue/locked");
    drop(writing);
}

#[tokio::test]
async fn who_opens_a_file_waits_for_one_who_holds_all_of_it() {
    let Bench { folder, store } = Bench::new().await;
    let writer = store.writer.lock().await.take().unwrap();
    writer.close().await.unwrap();
    if let Some(reader) = store.reader.place.lock().await.take() {
        reader.close().await.unwrap();
    }
    let mut holder = raw(folder.path(), false).await;
    // As one does who is the last to leave a file.
    sqlx::raw_sql("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT")
        .execute(&mut holder)
        .await
        .unwrap();
    let opening = open(folder.path());
    let held = async {
        // Longer than a change waits at once, and shorter than it waits at all.
        tokio::time::sleep(Duration::from_millis(300)).await;
        holder.close().await.unwrap();
    };

    let (opened, ()) = tokio::join!(opening, held);

    opened.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_queue_that_many_make_at_the_same_moment_is_one() {
    for _ in 0..20 {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let folder = Arc::clone(&folder);
            opening.spawn(async move { open(folder.path()).await.map(drop) });
        }
        for opened in opening.join_all().await {
            opened.unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_refused_and_stays_as_it_is() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("a text", b"this is no database, but it is long enough to be read as the header of one.".repeat(20)),
        ("a picture", [0x89, b'P', b'N', b'G', 0, 1, 2, 3].repeat(600)),
        ("a database of something else", database("CREATE TABLE note (text TEXT)").await),
        (
            "one that counts its versions too",
            database("CREATE TABLE note (text TEXT); PRAGMA user_version = 1").await,
        ),
    ];
    for (what, bytes) in cases {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queue.db");
        std::fs::write(&file, &bytes).unwrap();

        let error = open(folder.path()).await.unwrap_err();

        assert_eq!(error.code(), "queue/corrupt", "{what}: {error}");
        assert!(error.to_string().contains("queue.db"), "{what}: {error}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{what}");
    }
}

async fn database(script: &'static str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = raw(folder.path(), true).await;
    sqlx::raw_sql(script).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    std::fs::read(folder.path().join("queue.db")).unwrap()
}

#[tokio::test]
async fn a_queue_whose_pages_are_damaged_says_so_and_is_not_rewritten() {
    let bench = Bench::new().await;
    bench.push(50, 3).await;
    let Bench { folder, store } = bench;
    drop(store);
    let file = folder.path().join("queue.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&file, &bytes).unwrap();

    let error = match open(folder.path()).await {
        Ok(store) => store.push(vec![pushed(3)]).await.unwrap_err(),
        Err(error) => error,
    };

    assert_eq!((error.code(), error.is_transient()), ("queue/corrupt", false));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

#[tokio::test]
async fn a_file_that_can_only_be_read_is_called_that() {
    let bench = Bench::new().await;
    let mut reader = bench.raw().await;
    sqlx::query("PRAGMA query_only = 1").execute(&mut reader).await.unwrap();
    let error = sqlx::query("DELETE FROM run").execute(&mut reader).await.unwrap_err();

    let error = failed(error, &bench.folder.path().join("queue.db"));
    let folder = bench.folder.path().join("file");
    std::fs::write(&folder, "").unwrap();
    let beneath_a_file = open(&folder).await.unwrap_err();

    assert_eq!((error.code(), error.is_transient()), ("queue/unreadable", false));
    assert_eq!(beneath_a_file.code(), "queue/unreadable");
}

#[tokio::test]
async fn what_is_written_is_read_by_its_owner_alone() {
    let bench = Bench::new().await;
    bench.push(1, 1).await;
    #[cfg(unix)]
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let file = bench.folder.path().join(name);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Rows of every kind, so many of each.
async fn fill_with(connection: &mut SqliteConnection, count: u32) {
    let kinds = [
        "1, 't', 3, NULL, 0",
        "2, 't', 10, NULL, 0",
        "3, 'held', 5, NULL, 1",
        "4, 't', 0, NULL, 0",
        "5, 't', 11, 5, 0",
        "6, 't', 4, NULL, 0",
        "7, 'other', 12, NULL, 0",
        "8, 'held', 4, NULL, 1",
    ];
    for kind in kinds {
        let script = format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}), \
             kind (k, task, state, died, alone) AS (VALUES ({kind})) \
             INSERT INTO run (id, namespace, task, state, priority, due, fire_time, attempt, max_attempts, fence, \
             lease_until, alone, finished, died, envelope) \
             SELECT printf('01kms9y8%018d', k * 1000000 + i), 'default', task, state, 5, \
             CASE state WHEN 0 THEN 9000000000000 ELSE i END, i, 0, 3, -i, 9000000000000, alone, \
             CASE WHEN state >= 10 THEN 8000000000000 + i END, died, '{{\"v\":1}}' FROM n, kind"
        );
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *connection).await.unwrap();
    }
}

#[tokio::test]
async fn no_step_touches_more_for_there_being_more() {
    let (few, many) = (work(1_500).await, work(9_000).await);

    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        // The instructions of SQLite's machine, in thousands.
        assert!(many <= few + few / 2 + 2, "{what}: {few} with few, {many} with many");
    }
}

/// Counts the instructions of SQLite's machine from now on, in hundreds.
async fn counted(bench: &Bench) -> Arc<AtomicU64> {
    let ticks = Arc::new(AtomicU64::new(0));
    let (mut writer, mut reader) = (bench.store.writer.lock().await, bench.store.reader.place.lock().await);
    for connection in [writer.as_mut().unwrap(), reader.as_mut().unwrap()] {
        let ticks = Arc::clone(&ticks);
        connection.lock_handle().await.unwrap().set_progress_handler(100, move || {
            ticks.fetch_add(1, Ordering::Relaxed);
            true
        });
    }
    ticks
}

/// What a claim costs that a limit lets take nothing, where so many wait.
async fn cost_of_nothing(limits: &Limits, waiting: usize) -> u64 {
    let bench = Bench::new().await;
    bench.push(waiting + 1, 3).await;
    let share = |count| Share { queue: None, count, limits: Some(Arc::new(limits.clone())) };
    let claim = |count| Claim { from: vec![share(count)], ..Claim::new(10, LONG_LEASE) };
    assert_eq!(bench.store.step(&[], &claim(10)).await.unwrap().claimed.len(), 1);
    let ticks = counted(&bench).await;
    // Where a queue has no share of its own it is asked for what others leave.
    for count in [10, 0] {
        let stepped = bench.store.step(&[], &claim(count)).await.unwrap();
        assert!(stepped.claimed.is_empty() && !stepped.has_more, "{stepped:?}");
        assert_eq!(stepped.next_due.is_some(), limits.pace.is_some());
    }
    ticks.load(Ordering::Relaxed)
}

#[tokio::test]
async fn what_waits_is_not_read_while_a_limit_lets_nothing_begin() {
    let none = Limits { concurrency: None, pace: None, per_key: None };
    let full = Limits { concurrency: Some(1), ..none.clone() };
    let paced = Limits { pace: Some(Pace { interval: 600_000_000, tolerance: 0 }), ..none };
    for limits in [full, paced] {
        let (few, many) = (cost_of_nothing(&limits, 1).await, cost_of_nothing(&limits, 1_000).await);
        assert!(many <= few + 2, "{limits:?}: {few} where one waits, {many} where many do");
    }
}

async fn work(count: u32) -> Vec<(&'static str, u64)> {
    let bench = Bench::new().await;
    fill_with(&mut bench.raw().await, count).await;
    let ticks = counted(&bench).await;
    let mut work = Vec::new();
    macro_rules! measure {
        ($what:literal, $step:expr) => {{
            ticks.store(0, Ordering::Relaxed);
            let answer = $step.await.unwrap();
            work.push(($what, ticks.load(Ordering::Relaxed)));
            answer
        }};
    }
    let store = &bench.store;
    let task = scheduler_core::Name::new("held").unwrap();
    let retention = crate::store::Retention {
        runs: 100,
        age: Duration::from_secs(1),
        letters: 100,
        letter_age: Duration::from_secs(1),
    };
    let fire = |standing: crate::store::Standing, _| crate::store::Decision {
        cursor: standing.cursor,
        paused: standing.paused,
        effect: crate::store::Effect::Fire(
            Box::new(Pushed { alone: true, ..pushed(3) }),
            scheduler_core::Entry::Start,
        ),
    };
    let letters = scheduler_core::DeadLetterFilter::all().limited(10);
    measure!("push", store.push((0..10).map(|_| Pushed { alone: true, ..pushed(3) }).collect()));
    let claim = Claim::new(10, LONG_LEASE);
    let taken = measure!("claim", store.step(&[], &claim)).claimed;
    assert_eq!(taken.len(), 10);
    let held: Vec<_> =
        taken.iter().map(|taken| crate::store::Held { run: taken.run.id, fence: taken.fence }).collect();
    measure!("renew", store.renew(&held, LONG_LEASE));
    let acks: Vec<_> = taken.iter().map(done).collect();
    measure!("acknowledge", store.step(&acks, &NOTHING));
    measure!("reap", store.reap(10));
    measure!("cancel", store.cancel(taken[0].run.id, "asked"));
    measure!("register", store.register(&task, "definition", LONG_LEASE));
    measure!("decide", store.decide(&task, 1, &fire));
    measure!("runs", store.runs(&RunFilter::all().limited(10)));
    measure!("runs of a task", store.runs(&RunFilter::of_task(task.clone()).limited(10)));
    measure!("one run", store.runs(&RunFilter::of_run(taken[0].run.id)));
    let letter = measure!("letters", store.letters(&letters)).letters[0].run.id;
    measure!("one letter", store.letters(&scheduler_core::DeadLetterFilter::of_run(letter)));
    measure!("hold", store.hold(letter, None));
    measure!("replay", store.replay(&[Replay::new(letter, RunId::manual(crate::sqlite_clock::now()))]));
    measure!("discard", store.discard(&[letter], HeldLetters::Leave));
    measure!("forget", store.forget(&retention, 10));
    work
}
