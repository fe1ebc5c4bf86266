//! The loop that owns the store and everything under way, on a thread and a runtime of its own.
//!
//! Jobs run elsewhere, so none can keep it from prolonging leases. A store that does not answer ends nothing:
//! what was to be written is kept and written later, and nothing new is taken meanwhile.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{BackendContext, Error, Event, Name};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::QueueConfig;
use crate::drain::Drain;
use crate::flight::Flights;
use crate::requests::Command;
use crate::steadiness::Steadiness;
use crate::store::{Ack, Store};
use crate::timetable::Timetable;
use crate::work::{Ended, Work};

/// How long the loop waits at most before it looks for runs of other processes.
pub(crate) const SAFETY_POLL: Duration = Duration::from_millis(250);
/// The first and the longest wait after a store did not answer.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How many old runs are forgotten in one go.
const FORGOTTEN: u32 = 1_000;
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The loop.
pub(crate) struct Driver {
    pub(crate) name: Name,
    pub(crate) config: QueueConfig,
    pub(crate) ctx: BackendContext,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) work: UnboundedSender<Work>,
    pub(crate) flights: Flights,
    pub(crate) timetable: Timetable,
    /// Ends that are to be written.
    pub(crate) acks: Vec<Ack>,
    pub(crate) backoff: Duration,
    /// What the store said when it last did not do as it was told.
    pub(crate) trouble: Option<String>,
    pub(crate) steadiness: Steadiness,
}

/// Listens to the store beside the loop, until it is dropped.
struct Changes(JoinHandle<()>);

impl Changes {
    fn listen(store: Arc<dyn Store>, tell: mpsc::Sender<()>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                store.changed().await;
                if tell.send(()).await.is_err() {
                    return;
                }
            }
        }))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Driver {
    pub(crate) fn new(
        name: Name,
        config: QueueConfig,
        ctx: BackendContext,
        store: Arc<dyn Store>,
        work: UnboundedSender<Work>,
    ) -> Self {
        Self {
            steadiness: Steadiness::new(config.lease, Instant::now()),
            name,
            config,
            ctx,
            store,
            work,
            flights: Flights::default(),
            timetable: Timetable::default(),
            acks: Vec::new(),
            backoff: Duration::ZERO,
            trouble: None,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut commands: UnboundedReceiver<Command>,
        mut ended: UnboundedReceiver<Ended>,
    ) {
        let mut drain: Option<Drain> = None;
        let mut step_at = Instant::now();
        let mut renew_at = Instant::now() + self.config.lease / 3;
        let mut reap_at = Instant::now();
        let mut forget_at = Instant::now();
        let (tell, mut changes) = mpsc::channel(1);
        let _changes = Changes::listen(Arc::clone(&self.store), tell);
        loop {
            self.steadiness.begin_turn(Instant::now());
            if self.steadiness.take_renewal() {
                renew_at = Instant::now();
            }
            let mut is_reaping = false;
            let drain_at = drain.as_ref().map(|drain| drain.deadline);
            tokio::select! {
                biased;
                () = sleep_until(renew_at) => {
                    renew_at = self.renew().await;
                }
                command = commands.recv() => {
                    let Some(first) = command else { return };
                    self.commands(first, &mut commands, &mut drain).await;
                    step_at = Instant::now();
                }
                Some(end) = ended.recv() => {
                    self.ended(end, drain.as_mut());
                    while let Ok(end) = ended.try_recv() {
                        self.ended(end, drain.as_mut());
                    }
                    step_at = Instant::now();
                }
                () = sleep_until(step_at) => {}
                Some(()) = changes.recv() => step_at = Instant::now(),
                () = sleep(self.look_in().unwrap_or(SAFETY_POLL)), if drain.is_none() => {}
                () = sleep_until(reap_at) => {
                    reap_at = Instant::now() + (self.config.lease / 4).min(Duration::from_secs(5));
                    // Behind a renewal and a step of this turn: what meets a store that has just begun to hang
                    // harms nobody then.
                    renew_at = self.renew().await;
                    step_at = Instant::now();
                    is_reaping = true;
                }
                () = sleep_until(forget_at) => {
                    let more = self.forget().await;
                    forget_at = Instant::now() + if more { Duration::ZERO } else { FORGET_EVERY };
                }
                () = sleep_until(drain_at.unwrap_or(renew_at)), if drain_at.is_some() => {}
            }
            if drain.is_none() && self.look_in() == Some(Duration::ZERO) {
                self.look_at_due().await;
                step_at = Instant::now();
            }
            if step_at <= Instant::now() {
                step_at = Instant::now() + self.step(drain.is_none()).await;
            }
            if is_reaping && self.steadiness.may_reap(Instant::now()) {
                self.reap().await;
                step_at = Instant::now();
            }
            if let Some(under_way) = drain.take() {
                match self.drain(under_way).await {
                    Some(still) => drain = Some(still),
                    None => return,
                }
            }
        }
    }

    /// How long until the next task is to be looked at.
    pub(crate) fn look_in(&self) -> Option<Duration> {
        Some(self.timetable.next_look()?.since(self.ctx.clock.now()))
    }

    async fn forget(&mut self) -> bool {
        let forgotten = self.store.forget(&self.config.retention(), FORGOTTEN).await;
        forgotten.is_ok_and(|count| count >= FORGOTTEN as usize)
    }

    pub(crate) fn in_trouble(&mut self, error: &Error) -> Duration {
        let reason = describe(error);
        if self.trouble.is_none() {
            self.ctx.events.emit(&Event::BackendDown { backend: &self.name, reason: &reason });
        }
        self.trouble = Some(reason);
        self.steadiness.failed(Instant::now());
        self.backoff = (self.backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
        self.backoff
    }

    pub(crate) fn recovered(&mut self) {
        self.backoff = Duration::ZERO;
        self.steadiness.answered(Instant::now());
        if self.trouble.take().is_some() {
            self.ctx.events.emit(&Event::BackendUp { backend: &self.name });
        }
        self.look_at_put_off();
    }
}

/// The message with those of its causes.
pub(crate) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}
