//! What is told of a store that does not do as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{Error, Event, RunId, RunRequest, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::QueueConfig;
use crate::driver::Driver;
use crate::leases_test::{Mood, Moody, context};
use crate::requests::{Command, Reply};
use crate::store::Store;

async fn ask<T>(commands: &UnboundedSender<Command>, command: impl FnOnce(Reply<T>) -> Command) -> T {
    let (reply, answer) = oneshot::channel();
    assert!(commands.send(command(reply)).is_ok());
    answer.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_a_run_and_does_all_else_is_down_until_it_takes_one() {
    let (name, ctx) = context(|_| async { Ok(Value::Null) });
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    ctx.events.listen(move |event| match event {
        Event::BackendDown { reason, .. } => hears.lock().unwrap().push((*reason).to_owned()),
        Event::BackendUp { .. } => hears.lock().unwrap().push("up".to_owned()),
        _ => {}
    });
    let store = Arc::new(Moody::new(Mood::RefusesRuns, None));
    let (work, _taken) = unbounded_channel();
    let (commands, received) = unbounded_channel();
    let (_ended, ends) = unbounded_channel();
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let driver = Driver::new(name.clone(), QueueConfig::default(), ctx, shared, work);
    let driving = tokio::spawn(driver.run(received, ends));
    let now = Timestamp::from_millis(0);
    let request = RunRequest::manual(RunId::manual(now), name, now);

    let began = Instant::now();
    let refused = ask(&commands, |reply| Command::Enqueue(vec![request.clone()], reply)).await;
    store.until("step", Instant::now()).await;
    store.until("step", Instant::now()).await;
    let meanwhile = ask(&commands, Command::Health).await;
    store.mood.send_replace(Mood::Answers);
    while !ask(&commands, Command::Health).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it takes runs again and nobody finds out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    driving.abort();
    assert_eq!(refused.unwrap_err().code(), "queue/full");
    assert_eq!(meanwhile, ["no room"]);
    assert_eq!(*told.lock().unwrap(), ["no room", "up"]);
}

#[tokio::test]
async fn a_store_that_is_down_for_another_reason_now_has_that_told_once() {
    let (name, ctx) = context(|_| async { Ok(Value::Null) });
    let store = Arc::new(Moody::new(Mood::Answers, None)) as Arc<dyn Store>;
    let (work, _taken) = unbounded_channel();
    let mut driver = Driver::new(name, QueueConfig::default(), ctx, store, work);
    let fails = |driver: &mut Driver, message: &str| {
        driver.in_trouble(&Error::unavailable("queue/unreachable", message));
        driver.reasons.len()
    };

    let told = ["broken pipe", "expired 7 s ago", "expired 8 s ago", "broken pipe"];
    let counts = told.map(|message| fails(&mut driver, message));
    driver.recovered();
    let again = fails(&mut driver, "broken pipe");

    assert_eq!((counts, again), ([1, 2, 2, 2], 1));
}
