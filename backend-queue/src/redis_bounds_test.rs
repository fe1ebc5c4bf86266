//! What one call touches on Redis has bounds, whatever there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::FromRedisValue;
use scheduler_core::{BackendContext, Name, RunFilter, RunId, SystemClock};

use crate::adopt_task::Adoption;
use crate::limits::Limits;
use crate::limits_test::{by_customer, of, pace, whole, within};
use crate::redis_script;
use crate::redis_stage::{self, Server};
use crate::redis_store::RedisStore;
use crate::redis_test::{LONG_LEASE, claim, done, fresh, now, push, pushed};
use crate::store::{Cancel, Claim, Pushed, Share, Stepped, Store};
use crate::{AdoptSettings, QueueConfig};

/// What runs of these tests carry: six are more than one call looks into.
const PAYLOAD: usize = 200_000;

/// Sends a word to Redis, in which `@` stands for what the keys of the store begin with.
async fn ask<T: FromRedisValue>(store: &RedisStore, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(words[1..].iter().map(|word| word.replace('@', &store.link.base)).collect::<Vec<_>>());
    store.link.ask(&command).await.unwrap()
}

/// How often a command was called since the server began to count.
async fn calls(store: &RedisStore, command: &str) -> usize {
    let told: String = ask(store, &["INFO", "commandstats"]).await;
    let start = format!("cmdstat_{command}:calls=");
    let count = told.lines().find_map(|line| line.strip_prefix(&start)?.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

async fn alone() -> (Server, RedisStore) {
    let server = Server::start(&[]);
    let store = redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap();
    (server, store)
}

fn carrying(customer: &str, payload: usize) -> Pushed {
    let mut pushed = of(customer);
    pushed.run.params.insert("payload".into(), "x".repeat(payload).into());
    pushed
}

fn in_queue(queue: &str) -> Pushed {
    let mut pushed = pushed(3);
    pushed.run.queue = Name::new(queue).ok();
    pushed
}

/// As many as it may be of a queue without limits.
fn from(queue: &str) -> Claim {
    let share = Share { queue: Name::new(queue).ok(), count: 100, limits: None };
    Claim { from: vec![share], ..Claim::new(100, LONG_LEASE) }
}

/// Puts members without a run at the end of a list of fresh runs.
async fn push_members(store: &RedisStore, queue: &str, count: usize) {
    let list = format!("@fresh:{queue}");
    let members: Vec<String> = (0..count).map(|index| format!("0000000nobody{index}")).collect();
    let words: Vec<&str> = ["RPUSH", &list].into_iter().chain(members.iter().map(String::as_str)).collect();
    ask::<usize>(store, &words).await;
    ask::<usize>(store, &["HINCRBY", "@gone", &list, &count.to_string()]).await;
    ask::<usize>(store, &["SADD", "@queues", queue]).await;
}

async fn length(store: &RedisStore, list: &str) -> usize {
    ask(store, &["LLEN", list]).await
}

async fn a_step(store: &RedisStore, limits: &Limits) -> Stepped {
    store.step(&[], &within(limits.clone())).await.unwrap()
}

#[tokio::test]
async fn a_step_looks_into_a_part_of_what_large_runs_carry_and_the_next_one_goes_on() {
    let store = fresh().await;
    let limits = by_customer(Some(1), None);
    for (count, payload, most) in [(30, PAYLOAD, 6), (3, 7 * PAYLOAD, 1)] {
        store
            .push((0..count).map(|index| carrying(&format!("{payload}:{index}"), payload)).collect())
            .await
            .unwrap();

        let mut taken = Vec::new();
        loop {
            let stepped = a_step(&store, &limits).await;
            taken.push(stepped.claimed.len());
            if !stepped.has_more {
                break;
            }
        }

        assert_eq!(taken.iter().sum::<usize>(), count, "{taken:?}");
        assert!(taken.iter().all(|taken| (1..=most).contains(taken)), "{taken:?}");
    }
}

#[tokio::test]
async fn each_queue_gets_on_whatever_runs_of_another_carry() {
    let store = fresh().await;
    let limits = Arc::new(by_customer(Some(1), None));
    let mail = |index| {
        let mut pushed = of(&format!("mail {index}"));
        pushed.run.queue = Name::new("mail").ok();
        pushed
    };
    let large = (0..12).map(|index| carrying(&format!("{index}"), PAYLOAD));
    store.push(large.chain((0..2).map(mail)).collect()).await.unwrap();
    let share = |queue| Share { queue, count: 50, limits: Some(Arc::clone(&limits)) };
    let from = vec![share(None), share(Name::new("mail").ok())];

    let stepped = store.step(&[], &Claim { from, ..Claim::new(100, LONG_LEASE) }).await.unwrap();

    assert!(stepped.has_more);
    assert!(stepped.claimed.iter().any(|delivery| delivery.run.queue.is_some()));
}

#[tokio::test]
async fn what_is_under_way_is_looked_into_in_portions() {
    const MANY: usize = 30;
    let store = fresh().await;
    store.push((0..MANY).map(|_| carrying("ana", PAYLOAD)).collect()).await.unwrap();
    assert_eq!(claim(&store, 100, LONG_LEASE).await.len(), MANY);
    store.push(vec![of("ana")]).await.unwrap();
    let limits = by_customer(u32::try_from(MANY).ok(), None);
    let counted = async || ask::<usize>(&store, &["HLEN", "@under:default/customer"]).await;

    let mut before = 0;
    loop {
        let stepped = a_step(&store, &limits).await;
        let count = counted().await;
        assert!(stepped.claimed.is_empty(), "as many as may be are under way");
        assert!(count <= before + 6, "{count} after {before}");
        if stepped.next_due.is_none_or(|due| !due.is_zero()) {
            break;
        }
        assert!(count > before, "each step looks into some");
        before = count;
    }

    assert_eq!(counted().await, MANY);
    assert_eq!(ask::<usize>(&store, &["HGET", "@counts:default/customer", "=ana"]).await, MANY);
}

#[tokio::test]
async fn a_call_takes_few_members_without_a_run_from_lists_of_however_many_queues() {
    const QUEUES: [&str; 4] = ["a", "b", "c", "d"];
    let store = fresh().await;
    for queue in QUEUES {
        push_members(&store, queue, 600).await;
    }

    store.push(QUEUES.map(in_queue).into()).await.unwrap();

    let mut left = 0;
    for queue in QUEUES {
        left += length(&store, &format!("@fresh:{queue}")).await;
    }
    // The first queue's list was empty after that, so its run stands in there.
    assert_eq!(left, 4 * 600 - 1_000 + 1);
    assert!(store.queues().await.unwrap().iter().all(|state| state.waiting == 1));
    for queue in QUEUES {
        assert_eq!(store.step(&[], &from(queue)).await.unwrap().claimed.len(), 1, "of {queue}");
    }
}

#[tokio::test]
async fn what_lives_of_a_task_is_looked_for_in_few_calls_however_many_queues_there_are() {
    let (_server, store) = alone().await;
    for index in 0..20 {
        push_members(&store, &format!("q{index}"), 2_000).await;
    }
    let run = in_queue("q19");
    let id = run.run.id;
    ask::<usize>(&store, &["DEL", "@fresh:q19"]).await;
    store.push(vec![run]).await.unwrap();
    push_members(&store, "q19", 2_000).await;
    // More than there are, so all are looked for.
    ask::<usize>(&store, &["HSET", "@count", "t", "5"]).await;
    ask::<String>(&store, &["CONFIG", "RESETSTAT"]).await;

    let script = &redis_script::LIVING;
    let mut call = store.link.call(script);
    call.arg("t").arg(1_000).arg("q19");
    let found: Vec<(String, Vec<u8>)> = store.link.send(script, &call).await.unwrap();

    assert_eq!(found.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [id.to_string()]);
    let calls = calls(&store, "lrange").await;
    assert!(calls <= 30, "{calls} lists and parts of lists were looked at");
}

#[tokio::test]
async fn nothing_is_looked_at_of_a_queue_of_which_nothing_may_begin() {
    for limits in [
        Limits { concurrency: Some(1), pace: None, per_key: None },
        Limits { concurrency: Some(1), ..by_customer(Some(1), None) },
        whole(pace(LONG_LEASE, 1)),
    ] {
        let store = fresh().await;
        push(&store, 1).await;
        let first = a_step(&store, &limits).await.claimed;
        assert_eq!(first.len(), 1);
        push(&store, 300).await;

        for _ in 0..2 {
            let stepped = a_step(&store, &limits).await;

            assert!(stepped.claimed.is_empty() && !stepped.has_more, "{limits:?}");
            // Fresh runs that are looked at leave their list.
            assert_eq!(length(&store, "@fresh").await, 300, "{limits:?}");
            let has_slots = limits.pace.is_some();
            assert_eq!(stepped.next_due.is_some_and(|due| due <= LONG_LEASE), has_slots, "{limits:?}");
        }
        let next = store.step(&[done(&first[0])], &within(limits.clone())).await.unwrap().claimed;
        assert_eq!(next.len(), usize::from(limits.pace.is_none()), "{limits:?}");
    }
}

#[tokio::test]
async fn a_key_of_apalis_that_holds_something_else_is_named_without_a_search() {
    let (_server, store) = alone().await;
    ask::<usize>(&store, &["RPUSH", "app::Email:active", "a"]).await;
    ask::<String>(&store, &["SET", "app::Email:data", "somebody else's"]).await;
    let (name, from) = (|text| Name::new(text).unwrap(), "app::Email");
    let settings = AdoptSettings::new(name("send"));
    let config = QueueConfig {
        adopt: BTreeMap::from([(from.to_owned(), settings.clone())]),
        ..QueueConfig::default()
    };
    let ctx = BackendContext::standalone(name("default"), Arc::new(SystemClock::new()));
    let adoption = Adoption { ctx, backend: name("queue"), config, from: from.to_owned(), settings };

    let error = store.adopt(&Arc::new(adoption)).await.unwrap_err();

    assert_eq!(error.code(), "queue/wrong_type");
    assert!(error.to_string().contains("app::Email:data"), "{error}");
    assert_eq!(calls(&store, "scan").await, 0);
}

#[tokio::test]
async fn a_key_of_one_queue_or_task_that_holds_something_else_is_named_without_a_search() {
    for (key, kind) in [("ready:mail", "zset"), ("live:t", "set")] {
        let (_server, store) = alone().await;
        store.push(vec![in_queue("mail")]).await.unwrap();
        ask::<usize>(&store, &["DEL", &format!("@{key}")]).await;
        ask::<String>(&store, &["SET", &format!("@{key}"), kind]).await;

        let mut taking_turns = in_queue("mail");
        taking_turns.alone = true;
        let stepped = store.step(&[], &from("mail")).await.err();
        let error = stepped.or(store.push(vec![taking_turns]).await.err()).unwrap();

        assert_eq!(error.code(), "queue/wrong_type");
        assert!(error.to_string().contains(&format!("{}{key} ", store.link.base)), "{error}");
        assert_eq!(calls(&store, "scan").await, 0);
    }
}

#[tokio::test]
async fn a_key_of_the_queue_without_a_name_that_holds_something_else_is_named() {
    for key in ["pace:default", "lines:default"] {
        let (_server, store) = alone().await;
        push(&store, 1).await;
        ask::<String>(&store, &["SET", &format!("@{key}"), "somebody else's"]).await;

        let limits = Limits { pace: Some(pace(LONG_LEASE, 1)), ..by_customer(Some(1), None) };
        let error = store.step(&[], &within(limits)).await.unwrap_err();

        assert!(error.to_string().contains(&format!("{}{key} ", store.link.base)), "{error}");
        assert_eq!(calls(&store, "scan").await, 0);
    }
}

#[tokio::test]
async fn a_key_of_a_task_whose_runs_only_take_turns_is_named_when_it_holds_something_else() {
    for key in ["live:t", "held:t", "shown:t"] {
        let (_server, store) = alone().await;
        let taking_turns = || Pushed { alone: true, ..pushed(3) };
        store.push(vec![taking_turns(), taking_turns()]).await.unwrap();
        ask::<usize>(&store, &["DEL", &format!("@{key}")]).await;
        ask::<String>(&store, &["SET", &format!("@{key}"), "somebody else's"]).await;

        let taken = store.step(&[], &Claim::new(1, LONG_LEASE)).await;
        let pushed = store.push(vec![taking_turns()]).await.err();
        let paged = store.runs(&RunFilter::of_task(Name::new("t").unwrap())).await.err();
        let error = taken.err().or(pushed).or(paged).unwrap();

        assert!(error.to_string().contains(&format!("{}{key} ", store.link.base)), "{key}: {error}");
        assert_eq!(calls(&store, "scan").await, 0);
    }
}

#[tokio::test]
async fn each_queue_says_what_is_under_way_however_much_that_is() {
    const BEFORE: usize = 10_500;
    let store = fresh().await;
    // Leases that end earlier than any of ours.
    let others: Vec<String> = (0..BEFORE).map(|_| format!("00000000{}", RunId::manual(now()))).collect();
    let scored = others.iter().flat_map(|other| ["1", other]);
    ask::<usize>(&store, &["ZADD", "@lease"].into_iter().chain(scored).collect::<Vec<_>>()).await;
    store.push(vec![in_queue("mail"), in_queue("mail"), pushed(3)]).await.unwrap();
    let taken = store.step(&[], &from("mail")).await.unwrap().claimed;
    assert_eq!(taken.len(), 2);
    let running = async || -> Vec<(String, usize, usize)> {
        let told = store.queues().await.unwrap().into_iter();
        told.map(|state| (format!("{:?}", state.queue), state.running, state.waiting)).collect()
    };

    let both = running().await;
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!((both[0].1, both[0].2, both[1].1, both[1].2), (0, 1, 2, 0), "{both:?}");
    store.step(&[done(&taken[0])], &Claim::new(0, LONG_LEASE)).await.unwrap();
    assert_eq!(running().await[1].1, 1);
    store.step(&[done(&taken[1])], &Claim::new(0, LONG_LEASE)).await.unwrap();
    assert_eq!(running().await.len(), 1, "nothing is left of that queue");
}

/// Takes and ends all runs, a hundred at most in a step; how often each was taken.
async fn drained(store: &RedisStore, limits: &Limits, runs: usize) -> BTreeMap<RunId, usize> {
    let share = Share { queue: None, count: 100, limits: Some(Arc::new(limits.clone())) };
    let claim = Claim { from: vec![share], ..Claim::new(100, LONG_LEASE) };
    let (mut taken, mut acks) = (BTreeMap::new(), Vec::new());
    for _ in 0..4 * runs {
        let stepped = store.step(&acks, &claim).await.unwrap();
        assert!(stepped.refused.is_empty(), "what was taken is held: {:?}", stepped.refused);
        acks = stepped.claimed.iter().map(done).collect();
        for delivery in &stepped.claimed {
            *taken.entry(delivery.run.id).or_default() += 1;
        }
        if acks.is_empty() && taken.len() >= runs {
            break;
        }
    }
    taken
}

#[tokio::test]
async fn a_cancelled_run_hides_none_of_those_behind_it_from_a_queue_with_limits() {
    let whole_and_key = Limits { concurrency: Some(20), ..by_customer(Some(1), None) };
    for (limits, runs, cancelled) in
        [(by_customer(Some(3), None), 402, 1), (whole_and_key, 240, 1), (by_customer(None, None), 350, 250)]
    {
        let store = fresh().await;
        let pushed: Vec<Pushed> = (0..runs).map(|_| of("ana")).collect();
        store.push(pushed.clone()).await.unwrap();
        // One that is due later, and was known before it was.
        let mut later = of("ben");
        later.due = now() + Duration::from_millis(20);
        store.push(vec![later.clone()]).await.unwrap();
        for pushed in &pushed[..cancelled] {
            assert!(matches!(store.cancel(pushed.run.id, "asked").await.unwrap(), Cancel::Ended(_)));
        }
        while now() < later.due {
            tokio::task::yield_now().await;
        }

        let taken = drained(&store, &limits, runs - cancelled + 1).await;

        let expected: BTreeMap<RunId, usize> =
            pushed[cancelled..].iter().chain([&later]).map(|pushed| (pushed.run.id, 1)).collect();
        assert_eq!(taken.len(), expected.len(), "{limits:?}");
        assert_eq!(taken, expected, "{limits:?}");
    }
}

#[tokio::test]
async fn a_run_behind_many_that_were_cancelled_begins_without_a_wait() {
    let store = fresh().await;
    let pushed: Vec<Pushed> = (0..301).map(|_| of("ana")).collect();
    store.push(pushed.clone()).await.unwrap();
    for pushed in &pushed[..300] {
        store.cancel(pushed.run.id, "asked").await.unwrap();
    }

    let limits = Limits { concurrency: Some(5), pace: None, per_key: None };
    let stepped = a_step(&store, &limits).await;

    assert_eq!(
        stepped.claimed.iter().map(|delivery| delivery.run.id).collect::<Vec<_>>(),
        [pushed[300].run.id]
    );
}

#[tokio::test]
async fn what_waits_in_lines_is_counted_however_much_it_is_and_few_of_it_are_looked_at() {
    const MANY: usize = 2_400;
    let store = fresh().await;
    store.push((0..MANY).map(|_| of("ana")).collect()).await.unwrap();
    store.push(vec![of("bo"), of("bo")]).await.unwrap();
    let limits = by_customer(Some(1), None);
    let queue = async || store.queues().await.unwrap().remove(0);
    while a_step(&store, &limits).await.has_more {}

    let stands = queue().await;
    assert_eq!((stands.running, stands.waiting), (2, MANY), "{stands:?}");
    // The first of a line are looked at.
    let first = store.link.base.clone() + "line:default/=ana";
    let members: Vec<Vec<u8>> = store.link.ask(redis::cmd("ZRANGE").arg(first).arg(0).arg(9)).await.unwrap();
    for member in members {
        let id = String::from_utf8(member[7..].to_vec()).unwrap().parse().unwrap();
        assert!(matches!(store.cancel(id, "asked").await.unwrap(), Cancel::Ended(_)));
    }
    assert_eq!(queue().await.waiting, MANY - 10, "what was cancelled in its line");
}
