//! Running without an optional backend, until it comes back.

use std::sync::{Arc, Mutex};

use scheduler_core::{Drained, Event, Health, Scheduler, TestClock, Tier};

use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{BEGIN, SECOND, builder, optional, story, ticking};

/// A scheduler whose queue is optional and away, and what was told of it.
fn degraded(clock: &TestClock) -> (Scheduler, Arc<Faulty>, Arc<Mutex<Vec<String>>>) {
    let (local, queue) = (Faulty::on("local", Tier::Local), Arc::new(Faulty::on("queue", Tier::Queue)));
    let scheduler =
        builder(clock).backend(Arc::new(local)).backend_as(queue.clone(), optional()).build().unwrap();
    queue.set(Call::Start, Fault::Away);
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    scheduler.events().listen(move |event| match event {
        Event::BackendDown { backend, reason } => {
            heard.lock().unwrap().push(format!("{backend} down: {reason}"));
        }
        Event::BackendUp { backend } => heard.lock().unwrap().push(format!("{backend} up")),
        _ => {}
    });
    (scheduler, queue, told)
}

#[tokio::test]
async fn an_optional_backend_that_fails_is_told_once_and_comes_back_with_its_tasks() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, queue, told) = degraded(&clock);
    scheduler.submit(ticking(0, |task| task.tier = Some(Tier::Queue))).await.unwrap();

    scheduler.start().await.unwrap();
    clock.advance(SECOND * 22).await;
    let health = scheduler.health().await;

    assert_eq!(health[1].1, Health::down("did not start: `queue` is away (Start)"));
    assert_eq!(queue.calls(Call::Start), 5, "at once, then every five seconds");
    assert_eq!(story(&scheduler).await, [""; 0]);

    queue.set(Call::Start, None);
    clock.advance(SECOND * 10).await;

    assert_eq!(*told.lock().unwrap(), ["queue down: `queue` is away (Start)", "queue up"]);
    assert_eq!(scheduler.health().await[1].1, Health::up());
    assert_eq!(story(&scheduler).await, ["30: succeeded"]);
}

#[tokio::test]
async fn stopping_while_a_backend_is_tried_again_does_not_wait_for_it() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, queue, _) = degraded(&clock);
    scheduler.start().await.unwrap();
    queue.set(Call::Start, Fault::Hangs);
    let reached = async {
        while queue.calls(Call::Start) < 2 {
            tokio::task::yield_now().await;
        }
    };
    // A start that hangs holds the clock for ever, so nobody may wait for it to stand still.
    futures_util::future::select(Box::pin(clock.advance(SECOND * 5)), Box::pin(reached)).await;

    let stopped = tokio::time::timeout(SECOND * 10, scheduler.stop(SECOND)).await;

    assert_eq!(stopped.expect("it waits for a start that hangs").unwrap(), Drained::default());
    assert_eq!(
        scheduler.health().await[1].1,
        Health::down("it does not run"),
        "it is not down, it is stopped"
    );
}
