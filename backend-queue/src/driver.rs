//! The loop that owns the store and everything under way, on a thread and a runtime of its own.
//!
//! Jobs run elsewhere, so none can keep it from prolonging leases. A store that does not answer ends nothing:
//! what was to be written is kept and written later, and nothing new is taken meanwhile.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{BackendContext, CancelReason, Error, Event, Name, RunId};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::QueueConfig;
use crate::adopt_loop::Adopting;
use crate::ahead::Ahead;
use crate::deliveries::{Answer, Stepping};
use crate::drain::Drain;
use crate::flight::Flights;
use crate::forgetting::Forgetting;
use crate::pauses::Pauses;
use crate::progress::TELL_EVERY;
use crate::requests::Command;
use crate::shares::Shares;
use crate::steadiness::Steadiness;
use crate::store::{Ack, Store};
use crate::timetable::Timetable;
use crate::work::{Ended, Work};

/// How long the loop waits at most before it looks for runs of other processes.
pub(crate) const SAFETY_POLL: Duration = Duration::from_millis(250);
/// The first and the longest wait after a store did not answer.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// As good as never: whoever wants a step while one is under way says so.
const UNTIL_ASKED: Duration = Duration::from_secs(86_400);
/// How many reasons are told of one that stays down.
const MOST_REASONS: usize = 5;
/// How often a store that refused a run is asked whether it would take one.
const OFFER_EVERY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// After how many ends the store is looked at for what retention does not keep, before that time is over.
const FORGET_AFTER: usize = 10_000;

/// The loop.
pub(crate) struct Driver {
    pub(crate) name: Name,
    pub(crate) config: QueueConfig,
    pub(crate) ctx: BackendContext,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) work: UnboundedSender<Work>,
    pub(crate) flights: Flights,
    pub(crate) timetable: Timetable,
    pub(crate) shares: Shares,
    pub(crate) pauses: Pauses,
    /// Ends that are to be written.
    pub(crate) acks: Vec<Ack>,
    /// What was taken and has not begun.
    pub(crate) ahead: Ahead,
    /// The step under way. There is one at most, so that each takes along what came up during the one before.
    pub(crate) stepping: Option<Stepping>,
    /// Runs that were cancelled during it, while it may be taking them.
    pub(crate) told: Vec<(RunId, CancelReason)>,
    pub(crate) backoff: Duration,
    /// What the store said when it last did not do as it was told.
    pub(crate) trouble: Option<String>,
    /// The reasons that were told since it went down, without their numbers.
    pub(crate) reasons: Vec<String>,
    /// Since when the store has refused what is new. It may do all else meanwhile, so that says nothing.
    pub(crate) refusing_since: Option<Instant>,
    pub(crate) steadiness: Steadiness,
    /// What takes over from neighbours.
    pub(crate) adopting: Adopting,
    /// What retention does not keep is forgotten beside the loop.
    pub(crate) forgetting: Option<Forgetting>,
    /// How many attempts have ended since that was begun.
    pub(crate) unforgotten: usize,
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

/// When what is to be done again.
struct Times {
    step: Instant,
    progress: Instant,
    renew: Instant,
    reap: Instant,
    forget: Instant,
}

impl Times {
    fn new(lease: Duration) -> Self {
        let now = Instant::now();
        Self { step: now, progress: now, renew: now + lease / 3, reap: now, forget: now }
    }
}

/// What the step under way answers; never while there is none.
async fn taken(stepping: &mut Option<Stepping>) -> Answer {
    match stepping {
        Some(stepping) => stepping.done().await,
        None => std::future::pending().await,
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
            shares: Shares::new(&config),
            pauses: Pauses::default(),
            name,
            config,
            ctx,
            store,
            work,
            flights: Flights::default(),
            timetable: Timetable::default(),
            acks: Vec::new(),
            ahead: Ahead::new(Instant::now()),
            stepping: None,
            told: Vec::new(),
            backoff: Duration::ZERO,
            trouble: None,
            reasons: Vec::new(),
            refusing_since: None,
            adopting: Adopting::default(),
            forgetting: None,
            unforgotten: 0,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut commands: UnboundedReceiver<Command>,
        mut ended: UnboundedReceiver<Ended>,
    ) {
        let mut drain: Option<Drain> = None;
        let mut times = Times::new(self.config.lease);
        let (tell, mut changes) = mpsc::channel(1);
        let _changes = Changes::listen(Arc::clone(&self.store), tell);
        self.adopting = Adopting::begin(&self.name, &self.config, &self.ctx, &self.store);
        loop {
            self.steadiness.begin_turn(Instant::now());
            if self.steadiness.take_renewal() {
                times.renew = Instant::now();
            }
            let wake_at = self.wake_at(&times, drain.as_ref());
            tokio::select! {
                biased;
                answer = taken(&mut self.stepping) => {
                    self.stepping = None;
                    let again = Instant::now() + self.stepped(answer, drain.is_none());
                    times.step = if self.backoff.is_zero() { times.step.min(again) } else { again };
                    self.step_at_once(&mut times, drain.is_none()).await;
                    self.begin_all();
                }
                command = commands.recv() => {
                    let Some(first) = command else { return };
                    let was_stepping = self.stepping.is_some();
                    self.commands(first, &mut commands, &mut drain).await;
                    // One that was begun meanwhile knows of all that was asked.
                    let knows = !was_stepping && self.stepping.is_some();
                    times.step = Instant::now() + if knows { UNTIL_ASKED } else { Duration::ZERO };
                }
                Some(end) = ended.recv() => {
                    self.ended(end, drain.as_mut());
                    while let Ok(end) = ended.try_recv() {
                        self.ended(end, drain.as_mut());
                    }
                    self.begin_all();
                    times.step = times.step.min(Instant::now() + self.gather());
                }
                Some(()) = changes.recv() => times.step = Instant::now(),
                () = sleep_until(wake_at) => {}
            }
            self.do_what_is_due(&mut times, drain.is_none()).await;
            if let Some(under_way) = drain.take() {
                match self.drain(under_way).await {
                    Some(still) => drain = Some(still),
                    None => return,
                }
            }
        }
    }

    /// When there is something to do at the latest.
    fn wake_at(&self, times: &Times, drain: Option<&Drain>) -> Instant {
        let step = self.stepping.is_none().then_some(times.step);
        let look = drain.is_none().then(|| Instant::now() + self.look_in().unwrap_or(SAFETY_POLL));
        let others = [step, look, self.ahead.until(), self.offer_at(), drain.map(|drain| drain.deadline)];
        others.into_iter().flatten().fold(times.renew.min(times.reap).min(times.forget), Instant::min)
    }

    async fn do_what_is_due(&mut self, times: &mut Times, may_claim: bool) {
        if times.renew <= Instant::now() {
            times.renew = self.renew().await;
        }
        if self.offer_at().is_some_and(|at| at <= Instant::now()) {
            self.push(Vec::new(), false).await;
        }
        if self.ahead.until().is_some_and(|until| until <= Instant::now()) {
            self.give_ahead_back();
            times.step = Instant::now();
        }
        // Whatever else wakes the loop is soon enough.
        if times.progress <= Instant::now() {
            self.tell_progress().await;
            times.progress = Instant::now() + TELL_EVERY;
        }
        if self.pauses.are_new() {
            self.tell_pauses().await;
        }
        let is_forgetting = !self.forgetting.as_ref().is_none_or(Forgetting::is_over);
        if times.forget <= Instant::now() || self.unforgotten >= FORGET_AFTER && !is_forgetting {
            times.forget = Instant::now() + FORGET_EVERY;
            if !is_forgetting {
                self.unforgotten = 0;
                let forgetting = Forgetting::begin(Arc::clone(&self.store), self.config.retention());
                self.forgetting = Some(forgetting);
            }
        }
        if may_claim && self.look_in() == Some(Duration::ZERO) {
            self.look_at_due().await;
            times.step = Instant::now();
        }
        if times.reap <= Instant::now() {
            times.reap = Instant::now() + (self.config.lease / 4).min(Duration::from_secs(5));
            // Behind a renewal and a step of this turn: what meets a store that has just begun to hang harms
            // nobody then, and no lease of ours is taken away whose end is not written yet.
            times.renew = self.renew().await;
            self.settle(may_claim).await;
            if self.steadiness.may_reap(Instant::now()) {
                self.reap().await;
            }
            times.step = Instant::now();
        }
        if self.stepping.is_none() && times.step <= Instant::now() {
            self.stepping = self.step(may_claim);
            let again = if self.stepping.is_some() { UNTIL_ASKED } else { SAFETY_POLL };
            times.step = Instant::now() + again;
        }
    }

    /// Sends what has ended meanwhile before what was taken begins, so that the store is at work meanwhile.
    async fn step_at_once(&mut self, times: &mut Times, may_claim: bool) {
        if self.acks.is_empty() || self.stepping.is_some() || times.step > Instant::now() {
            return;
        }
        self.stepping = self.step(may_claim);
        times.step = Instant::now() + UNTIL_ASKED;
        // The step writes to its connection in its first turn, and the connection to the network in its own.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
    }

    /// How long until the next task is to be looked at.
    pub(crate) fn look_in(&self) -> Option<Duration> {
        Some(self.timetable.next_look()?.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn in_trouble(&mut self, error: &Error) -> Duration {
        let reason = describe(error);
        // What comes first may only follow from the cause: a connection that broke says nothing of why.
        let kind: String = reason.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        if self.trouble.is_none() {
            self.ctx.events.emit(&Event::BackendDown { backend: &self.name, reason: &reason });
            self.reasons = vec![kind];
        } else if self.reasons.len() < MOST_REASONS && !self.reasons.contains(&kind) {
            let backend = &self.name;
            tracing::error!(target: "scheduler::backend", %backend, "still down: {reason}");
            self.reasons.push(kind);
        }
        self.trouble = Some(reason);
        self.steadiness.failed(Instant::now());
        self.backoff = (self.backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
        self.backoff
    }

    /// The store did as it was told. It is up again once it does so with what it refused, too.
    pub(crate) fn recovered(&mut self) {
        self.backoff = Duration::ZERO;
        self.steadiness.answered(Instant::now());
        self.look_at_put_off();
        let is_owed = self.refusing_since.is_some() || self.timetable.is_any_put_off();
        if !is_owed && self.trouble.take().is_some() {
            self.ctx.events.emit(&Event::BackendUp { backend: &self.name });
        }
    }

    /// When to find out whether a store that does all else takes what is new.
    fn offer_at(&self) -> Option<Instant> {
        self.refusing_since.filter(|_| self.backoff.is_zero()).map(|since| since + OFFER_EVERY)
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
