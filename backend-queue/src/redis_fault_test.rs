//! What becomes of the Redis store when Redis does not do what it should.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, JobDescriptor, Name, Placed, RunFilter, RunId, RunState, SystemClock, Task,
    Tier, Trigger, place,
};

use crate::QueueBackend;
use crate::redis_stage::{self, Proxy, Server};
use crate::redis_store::RedisStore;
use crate::redis_test::{
    LONG_LEASE, NO_LEASE, NOTHING, PATIENCE, claim, done, fresh, now, push, pushed, state,
};
use crate::store::{Claim, Held, Next, Store};

pub(crate) async fn tell(store: &RedisStore, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    store.link.ask::<redis::Value>(&command).await.unwrap();
}

#[tokio::test]
async fn a_server_that_was_killed_and_is_there_again_is_used_again() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap();
    let ids = push(&store, 2).await;

    server.kill();
    let error = store.step(&[], &NOTHING).await.unwrap_err();
    server.start_again();
    let stepped = store.step(&[], &Claim::new(9, LONG_LEASE)).await.unwrap();

    assert_eq!((error.code(), error.is_transient()), ("queue/unreachable", true), "{error}");
    let claimed: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!(claimed, ids);
}

#[tokio::test]
async fn a_step_whose_answer_is_lost_is_neither_lost_nor_done_twice() {
    let proxy = Proxy::before(&redis_stage::url()).await;
    let store = redis_stage::open(&proxy.url(), &redis_stage::namespace()).await.unwrap();
    let ids = push(&store, 3).await;
    let two = Claim::new(2, LONG_LEASE);

    proxy.cut(true);
    let lost = store.step(&[], &two).await.unwrap_err();
    proxy.cut(false);
    let claimed = store.step(&[], &two).await.unwrap().claimed;
    let acks = [done(&claimed[0]), done(&claimed[1])];
    proxy.cut(true);
    let again = store.step(&acks[..1], &two).await.unwrap_err();
    proxy.cut(false);
    let settled = store.step(&acks, &NOTHING).await.unwrap();

    assert_eq!((lost.code(), again.code()), ("queue/unreachable", "queue/unreachable"));
    let attempts: Vec<(RunId, u32)> = claimed.iter().map(|taken| (taken.run.id, taken.run.attempt)).collect();
    assert_eq!(attempts, [(ids[0], 1), (ids[1], 1)]);
    assert!(settled.refused.is_empty() && settled.claimed.is_empty(), "{settled:?}");
    for (id, expected) in ids.iter().zip([RunState::Succeeded, RunState::Succeeded, RunState::Queued]) {
        assert_eq!(state(&store, *id).await, expected);
    }
    // The one that was claimed and that nobody asked for any more was given back with its attempt.
    assert_eq!(claim(&store, 9, LONG_LEASE).await[0].run.attempt, 1);
}

#[tokio::test]
async fn a_cancel_that_met_an_end_is_told_even_when_the_answer_is_lost() {
    let proxy = Proxy::before(&redis_stage::url()).await;
    let store = redis_stage::open(&proxy.url(), &redis_stage::namespace()).await.unwrap();
    let id = push(&store, 1).await[0];
    let taken = claim(&store, 1, LONG_LEASE).await.remove(0);
    store.cancel(id, "asked").await.unwrap();
    let mut again = done(&taken);
    (again.run.state, again.run.finished_at, again.next) =
        (RunState::Retrying, None, Next::Again(Duration::ZERO));

    proxy.cut(true);
    store.step(&[again.clone()], &NOTHING).await.unwrap_err();
    proxy.cut(false);
    let told = store.step(&[again], &NOTHING).await.unwrap();
    let held = state(&store, id).await;
    let over = store.step(&[done(&taken)], &NOTHING).await.unwrap();

    assert_eq!((told.refused, told.marked, held), (vec![], vec![(0, "asked".to_owned())], RunState::Running));
    assert_eq!((over.refused, over.marked, state(&store, id).await), (vec![], vec![], RunState::Succeeded));
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() {
    let server = Server::start(&[]);
    let store = redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap();

    push(&store, 1).await;
    tell(&store, &["SCRIPT", "FLUSH"]).await;
    push(&store, 1).await;
    let taken = claim(&store, 2, LONG_LEASE).await;
    tell(&store, &["SCRIPT", "FLUSH"]).await;
    let stepped = store.step(&[done(&taken[0])], &NOTHING).await.unwrap();

    assert_eq!((taken.len(), stepped.refused), (2, vec![]));
}

#[tokio::test]
async fn without_memory_what_ends_is_written_and_nothing_new_is_taken() {
    let server = Server::start(&[]);
    let store = redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap();
    let ids = push(&store, 3).await;
    let taken = claim(&store, 2, LONG_LEASE).await;
    let held = Held { run: taken[1].run.id, fence: taken[1].fence };

    tell(&store, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = store.push(vec![pushed(3)]).await.unwrap_err();
    let stepped = store.step(&[done(&taken[0])], &Claim::new(9, LONG_LEASE)).await.unwrap();
    let renewed = store.renew(&[held], LONG_LEASE).await.unwrap();
    let shown = store.runs(&RunFilter::all()).await.unwrap().runs;
    tell(&store, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let later = claim(&store, 9, LONG_LEASE).await;

    assert_eq!((refused.code(), refused.is_transient()), ("queue/out_of_memory", true), "{refused}");
    assert!(stepped.refused.is_empty() && stepped.claimed.is_empty(), "{stepped:?}");
    assert!(renewed.lost.is_empty());
    let is_shown = |run: RunId, state| shown.iter().any(|shown| (shown.id, shown.state) == (run, state));
    assert!(is_shown(ids[0], RunState::Succeeded) && is_shown(ids[1], RunState::Running), "{shown:?}");
    assert_eq!(state(&store, ids[0]).await, RunState::Succeeded);
    assert_eq!(later.iter().map(|taken| taken.run.id).collect::<Vec<_>>(), [ids[2]]);
}

/// The error with all its causes, as it is printed and as it is debugged.
fn told(error: &scheduler_core::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(" {source} {source:?}"));
        cause = source.source();
    }
    text
}

#[tokio::test]
async fn who_is_not_let_in_hears_it_and_no_password_is_told() {
    let server = Server::start(&["--requirepass", "the-right-one"]);
    let (place, namespace) = (server.url().replace("redis://", ""), redis_stage::namespace());
    let opened = async |login: &str| redis_stage::open(&format!("redis://{login}{place}"), &namespace).await;

    let admin = opened(":the-right-one@").await.unwrap();
    tell(&admin, &["ACL", "SETUSER", "weak", "on", ">weak-one", "~hybrid:*", "+info", "+get", "+set"]).await;
    tell(&admin, &["ACL", "SETUSER", "mute", "on", ">weak-one", "~hybrid:*", "+@all", "resetchannels"]).await;
    let mut refused = Vec::new();
    for login in ["", ":canary@", "somebody:canary@"] {
        refused.push(opened(login).await.unwrap_err());
    }
    // Whoever names a database is refused when it is chosen.
    for (login, database) in [(":the-right-one@", "/77"), ("", "/1")] {
        let elsewhere = format!("redis://{login}{}", place.replace("/0", database));
        refused.push(redis_stage::open(&elsewhere, &namespace).await.unwrap_err());
    }
    for login in ["weak:weak-one@", "mute:weak-one@"] {
        refused.push(opened(login).await.unwrap_err());
    }

    for error in refused {
        assert_eq!((error.code(), error.is_transient()), ("queue/refused", false), "{error}");
        let told = told(&error);
        for secret in ["canary", "the-right-one", "weak-one"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    assert!(!format!("{admin:?}").contains("the-right-one"), "{admin:?}");
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_named() {
    let store = fresh().await;
    push(&store, 1).await;
    let key = format!("{}delayed", store.link.base);
    tell(&store, &["SET", &key, "somebody else's"]).await;

    let error = store.push(vec![pushed(3)]).await.unwrap_err();

    assert_eq!(error.code(), "queue/wrong_type");
    assert!(error.to_string().contains(&key), "{error}");
}

#[tokio::test]
async fn a_newer_queue_is_refused_and_left_as_it_is() {
    let store = fresh().await;
    tell(&store, &["SET", &format!("{}version", store.link.base), "99"]).await;
    let namespace = store.link.base.split(['{', '}']).nth(1).unwrap();

    let error = redis_stage::open(&redis_stage::url(), &Name::new(namespace).unwrap()).await.unwrap_err();

    assert_eq!(error.code(), "queue/newer_store");
    assert!(error.to_string().contains("version 99"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read_fails_and_the_queue_goes_on() {
    let store = fresh().await;
    let poisoned = push(&store, 3).await;
    let key = format!("{}run", store.link.base);
    let mut read = redis::cmd("HGET");
    read.arg(&key).arg(poisoned[2].to_string());
    let mut newer: Vec<u8> = store.link.ask(&read).await.unwrap();
    newer.truncate(52);
    newer.extend(br#"{"v":99}"#);
    for (id, junk) in poisoned.iter().zip([&b"junk"[..], b"", &newer]) {
        let mut write = redis::cmd("HSET");
        write.arg(&key).arg(id.to_string()).arg(junk);
        store.link.ask::<u64>(&write).await.unwrap();
    }
    let missing = push(&store, 1).await[0];
    tell(&store, &["HDEL", &key, &missing.to_string()]).await;
    let sound = push(&store, 1).await[0];

    let stepped = store.step(&[], &Claim::new(10, LONG_LEASE)).await.unwrap();

    let claimed: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!((claimed, stepped.undecodable.len()), (vec![sound], 3));
    for id in poisoned {
        assert_eq!(state(&store, id).await, RunState::Failed);
    }
}

#[tokio::test]
async fn leases_are_spared_while_workers_come_back_after_redis_was_away() {
    let config =
        crate::QueueConfig { lease: Duration::from_millis(300), ..redis_stage::config(&redis_stage::url()) };
    let store =
        RedisStore::open(&config, &redis_stage::namespace(), Name::new("queue").unwrap()).await.unwrap();
    push(&store, 1).await;
    assert!(store.reap(10).await.unwrap().is_empty());
    let taken = claim(&store, 1, NO_LEASE).await.remove(0);
    // As if nobody had been heard for an hour.
    let earlier = (now() - LONG_LEASE).as_millis().to_string();
    tell(&store, &["HSET", &format!("{}beat", store.link.base), "at", &earlier]).await;

    let spared = store.reap(10).await.unwrap();
    let held = Held { run: taken.run.id, fence: taken.fence };
    let renewed = store.renew(&[held], NO_LEASE).await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    let reaped = loop {
        let reaped = store.reap(10).await.unwrap();
        if !reaped.is_empty() || std::time::Instant::now() > deadline {
            break reaped;
        }
    };

    assert!(spared.is_empty() && renewed.lost.is_empty());
    assert_eq!(reaped.len(), 1);
}

#[tokio::test]
async fn a_schedule_goes_on_after_redis_has_lost_its_data() {
    let (namespace, server) = (redis_stage::namespace(), Server::start(&[]));
    let backend = QueueBackend::new(Name::new("queue").unwrap(), redis_stage::config(&server.url()));
    let ctx = BackendContext::standalone(namespace.clone(), Arc::new(SystemClock::new()));
    let job = JobDescriptor::function("nothing", "does nothing", |_| async { Ok("done".into()) });
    let mut task = Task::new(Name::new("t").unwrap(), job.name().clone());
    task.tier = Some(Tier::Queue);
    task.trigger = Some(Trigger::every(Duration::from_millis(50)).unwrap());
    let site = scheduler_core::Site { info: backend.info(), is_default: false, is_down: false };
    let placement = place(&task, &job, &[site]).unwrap();
    let job = job.build(&serde_json::Value::Null).unwrap();
    let placed = Arc::new(Placed { task, job, placement: placement.into() });
    ctx.tasks.insert(Arc::clone(&placed));
    backend.start(ctx).await.unwrap();
    backend.schedules().unwrap().upsert(placed).await.unwrap();
    let fires = async |more_than: usize| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while backend.runs(&RunFilter::all()).await.unwrap().runs.len() <= more_than {
            assert!(std::time::Instant::now() < deadline, "it fires no more");
            tokio::task::yield_now().await;
        }
    };

    fires(1).await;
    let other = redis_stage::open(&server.url(), &namespace).await.unwrap();
    tell(&other, &["FLUSHALL"]).await;
    fires(3).await;
}
