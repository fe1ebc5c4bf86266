//! Queues of several backends, each of which counts by a clock of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, Drained, Enqueued, Error, Health, Name, Page, Pause,
    QueueStatus, Queues, Result, RunFilter, RunId, RunRequest, TestClock, Tier, Timestamp, async_trait,
};

use crate::stage::{BEGIN, SECOND, name, scheduler};

/// A backend with one queue, `mail`, whose clock is off by so much.
#[derive(Debug)]
struct Shop {
    name: Name,
    ahead: Duration,
    has_mail: bool,
    paused: Mutex<Option<Pause>>,
}

impl Shop {
    fn backend(shop: &str, ahead: Duration, has_mail: bool) -> Arc<dyn Backend> {
        Arc::new(Self { name: name(shop), ahead, has_mail, paused: Mutex::default() })
    }

    fn must_have(&self, queue: &Name) -> Result<()> {
        let is_there = self.has_mail && *queue == name("mail");
        is_there.then_some(()).ok_or_else(|| Error::not_found("shop/unknown_queue", "no such queue"))
    }
}

#[async_trait]
impl Backend for Shop {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(self.name.clone(), "shop", Tier::Queue, &[])
    }
    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }
    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        Ok(Enqueued::Inserted(request.run_id))
    }
    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page::default())
    }
    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "no such run"))
    }
    async fn health(&self) -> Health {
        Health::down("it does not run")
    }
    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }
    fn queues(&self) -> Option<&dyn Queues> {
        Some(self)
    }
}

#[async_trait]
impl Queues for Shop {
    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        Ok(vec![QueueStatus::new(name("mail"), Some(1))])
    }
    async fn pause_queue(&self, queue: &Name, pause: Pause) -> Result<()> {
        self.must_have(queue)?;
        *self.paused.lock().unwrap() = Some(pause);
        Ok(())
    }
    async fn resume_queue(&self, queue: &Name) -> Result<bool> {
        self.must_have(queue)?;
        Ok(self.paused.lock().unwrap().take().is_some())
    }
    async fn now(&self) -> Result<Timestamp> {
        Ok(BEGIN + self.ahead)
    }
}

#[tokio::test]
async fn how_long_a_pause_lasts_is_counted_by_the_clock_of_each_backend() {
    let clock = TestClock::at(BEGIN);
    let shops = [Shop::backend("here", Duration::ZERO, true), Shop::backend("there", SECOND * 3_600, true)];
    let scheduler = scheduler(&clock, shops);

    let paused = scheduler.pause_queue(None, &name("mail"), &Pause::default(), Some(SECOND * 60)).await;
    let untils: Vec<_> = paused.unwrap().into_iter().map(|(shop, pause)| (shop, pause.until)).collect();

    let of = |shop: &str, until| (name(shop), Some(until));
    assert_eq!(untils, [of("here", BEGIN + SECOND * 60), of("there", BEGIN + SECOND * 3_660)]);
    assert_eq!(scheduler.resume_queue(None, &name("mail")).await.unwrap(), [name("here"), name("there")]);
    let until = Pause { until: Some(BEGIN + SECOND), ..Pause::default() };
    let paused = scheduler.pause_queue(Some(&name("there")), &name("mail"), &until, None).await.unwrap();
    assert_eq!(paused, [(name("there"), until)], "what names a time is kept as it is");
}

#[tokio::test]
async fn a_queue_that_no_backend_has_is_not_resumed_in_silence() {
    let clock = TestClock::at(BEGIN);
    let shops = [Shop::backend("here", Duration::ZERO, true), Shop::backend("there", Duration::ZERO, false)];
    let scheduler = scheduler(&clock, shops);

    assert_eq!(scheduler.resume_queue(None, &name("mail")).await.unwrap(), [] as [Name; 0], "one has it");
    let unknown = scheduler.resume_queue(None, &name("post")).await.unwrap_err();
    assert_eq!(unknown.code(), "shop/unknown_queue");
    let unknown = scheduler.resume_queue(Some(&name("there")), &name("mail")).await.unwrap_err();
    assert_eq!(unknown.code(), "shop/unknown_queue");
}
