//! The loop that owns the store and everything under way, on a thread and a runtime of its own.
//!
//! Jobs run elsewhere, so none can keep it from prolonging leases. A store that does not answer ends nothing:
//! what was to be written is kept and written later, and nothing new is taken meanwhile.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    BackendContext, CancelReason, Cancelled, Drained, Enqueued, Error, Event, Name, Overlap, Pause, Placed,
    Result, Run, RunContext, RunId, RunIdentity, RunRequest, RunState, ScheduleStatus, Tier, Verdict,
    verdict,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::QueueConfig;
use crate::flight::{Flight, Flights};
use crate::store::{Ack, Cancel, Claim, Delivery, Held, Next, Pushed, Store};
use crate::timetable::{Timetable, is_followed};
use crate::work::{Ended, Work};

/// How long the loop waits at most before it looks for runs of other processes.
const SAFETY_POLL: Duration = Duration::from_millis(250);
/// The first and the longest wait after a store did not answer.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How many expired leases are taken away, and how many old runs forgotten, in one go.
const REAPED: u32 = 500;
const FORGOTTEN: u32 = 1_000;
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// The largest parameters that a run may carry, in bytes of JSON.
const LARGEST_PARAMS: usize = 1024 * 1024;
/// How long a job that was told to stop may take besides its own time to wind down.
const LOST: Duration = Duration::from_secs(1);

/// What the loop can be asked.
pub(crate) enum Command {
    Enqueue(Box<RunRequest>, Reply<Result<Enqueued>>),
    Cancel(RunId, Reply<Result<Cancelled>>),
    Upsert(Arc<Placed>, Reply<Result<()>>),
    Remove(Name, Reply<bool>),
    Statuses(Reply<Result<Vec<ScheduleStatus>>>),
    Pause(Name, Option<Pause>, Reply<Result<()>>),
    /// Answers what is wrong, if something is.
    Health(Reply<Option<String>>),
    /// No grace at all means an abort.
    Stop(Option<Duration>, Reply<Drained>),
}

pub(crate) type Reply<T> = oneshot::Sender<T>;

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

/// A stop under way.
struct Drain {
    reply: Reply<Drained>,
    report: Drained,
    deadline: Instant,
    /// Whether those that are left have been told.
    is_over: bool,
}

impl Driver {
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
            let drain_at = drain.as_ref().map(|drain| drain.deadline);
            tokio::select! {
                biased;
                () = sleep_until(renew_at) => {
                    renew_at = Instant::now() + self.config.lease / 3;
                    self.renew().await;
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
                    self.reap().await;
                    step_at = Instant::now();
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
            if let Some(under_way) = drain.take() {
                match self.drain(under_way).await {
                    Some(still) => drain = Some(still),
                    None => return,
                }
            }
        }
    }

    async fn commands(
        &mut self,
        first: Command,
        commands: &mut UnboundedReceiver<Command>,
        drain: &mut Option<Drain>,
    ) {
        let mut batch = vec![first];
        while let Ok(command) = commands.try_recv() {
            batch.push(command);
        }
        let mut pushed = Vec::new();
        for command in batch {
            match command {
                Command::Enqueue(_, reply) if drain.is_some() => drop(reply.send(Err(self.stopped()))),
                Command::Enqueue(request, reply) => match requested(&self.ctx, &self.name, &request) {
                    Ok(run) => pushed.push((run, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Cancel(run, reply) => drop(reply.send(self.cancel(run).await)),
                Command::Upsert(placed, reply) => drop(reply.send(self.upsert(placed).await)),
                Command::Remove(task, reply) => drop(reply.send(self.remove(&task))),
                Command::Statuses(reply) => drop(reply.send(self.statuses().await)),
                Command::Pause(task, pause, reply) => drop(reply.send(self.pause(&task, pause).await)),
                Command::Health(reply) => {
                    let trouble = self.store.waiting().await.err().map(|error| describe(&error));
                    let _ = reply.send(trouble.or_else(|| self.trouble.clone()));
                }
                Command::Stop(grace, reply) => {
                    let over = drain.take();
                    let report = over.as_ref().map(|over| over.report.clone()).unwrap_or_default();
                    let deadline = Instant::now() + grace.unwrap_or_default();
                    *drain = Some(Drain { reply, report, deadline, is_over: grace.is_none() });
                    if grace.is_none() {
                        self.give_up(drain.as_mut());
                    }
                }
            }
        }
        self.push(pushed).await;
    }

    /// How long until the next task is to be looked at.
    fn look_in(&self) -> Option<Duration> {
        Some(self.timetable.next_look()?.since(self.ctx.clock.now()))
    }

    fn stopped(&self) -> Error {
        Error::unavailable("backend/stopped", format!("backend `{}` does not run", self.name))
    }

    /// Adds what arrived together in one transaction.
    async fn push(&mut self, requests: Vec<(Pushed, Reply<Result<Enqueued>>)>) {
        if requests.is_empty() {
            return;
        }
        let (runs, replies): (Vec<Pushed>, Vec<_>) = requests.into_iter().unzip();
        let ids: Vec<RunId> = runs.iter().map(|pushed| pushed.run.id).collect();
        match self.store.push(runs).await {
            Ok(answers) => {
                for ((reply, id), is_new) in replies.into_iter().zip(ids).zip(answers) {
                    let answer = if is_new { Enqueued::Inserted(id) } else { Enqueued::Duplicate(id) };
                    let _ = reply.send(Ok(answer));
                }
            }
            Err(error) => {
                for reply in replies {
                    let again = Error::new(error.kind(), error.code(), describe(&error));
                    let _ = reply.send(Err(again));
                }
            }
        }
    }

    async fn cancel(&mut self, id: RunId) -> Result<Cancelled> {
        if let Some(flight) = self.flights.get(id) {
            flight.ctx.cancel(CancelReason::Requested);
        }
        let answer = self.store.cancel(id, CancelReason::Requested.as_str()).await?;
        if let Cancel::Ended(run) = &answer {
            self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
        }
        cancelled(id, &answer)
    }

    /// Writes the ends and takes what is due; answers how long nothing more is to be done.
    async fn step(&mut self, may_claim: bool) -> Duration {
        let free = self.config.concurrency.get().saturating_sub(self.flights.len());
        let limit = if may_claim { u32::try_from(free).unwrap_or(u32::MAX) } else { 0 };
        if limit == 0 && self.acks.is_empty() {
            return SAFETY_POLL;
        }
        let claim = Claim { limit, lease: self.config.lease };
        let stepped = match self.store.step(&self.acks, &claim).await {
            Ok(stepped) => stepped,
            Err(error) => return self.in_trouble(&error),
        };
        self.recovered();
        for (index, ack) in std::mem::take(&mut self.acks).into_iter().enumerate() {
            if stepped.refused.contains(&index) {
                let (task, run_id, fence) = (&ack.run.task, ack.run.id, ack.fence);
                tracing::warn!(%task, %run_id, fence, "its end came too late: the lease was lost");
            } else {
                self.tell(&ack);
                if ack.next == Next::End {
                    self.look_soon(&ack.run.task);
                }
            }
        }
        for run in &stepped.undecodable {
            self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
        }
        for delivery in stepped.claimed {
            self.begin(delivery);
        }
        if !self.acks.is_empty() || stepped.has_more && self.flights.len() < self.config.concurrency.get() {
            return Duration::ZERO;
        }
        stepped.next_due.map_or(SAFETY_POLL, |due| due.min(SAFETY_POLL))
    }

    fn tell(&self, ack: &Ack) {
        let (run, fence) = (&ack.run, ack.fence);
        match ack.next {
            Next::End => self.ctx.events.emit(&Event::RunEnded { run, fence }),
            Next::Again(next_in) => self.ctx.events.emit(&Event::AttemptEnded { run, fence, next_in }),
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let Delivery { mut run, fence, max_attempts } = delivery;
        let now = self.ctx.clock.now();
        run.next_attempt_at = None;
        let Some(placed) = self.ctx.tasks.find(&run.task) else {
            run.state = RunState::Failed;
            run.finished_at = Some(now);
            run.reason = Some(format!("no task `{}` in the process that took it", run.task));
            self.acks.push(Ack { run, fence, next: Next::End, is_followed: false });
            return;
        };
        run.started_at.get_or_insert(now);
        let identity = RunIdentity {
            namespace: self.ctx.namespace.clone(),
            task: run.task.clone(),
            tier: Tier::Queue,
            backend: self.name.clone(),
            run_id: run.id,
            fire_time: run.fire_time,
            attempt: run.attempt,
            fence,
            params: run.params.clone(),
        };
        let ctx = RunContext::new(identity, self.ctx.run_host());
        self.ctx.events.emit(&Event::AttemptStarted { run: &run, fence });
        let work = Work { placed: Arc::clone(&placed), ctx: ctx.clone() };
        self.flights.insert(Flight { run, fence, max_attempts, ctx, placed });
        // The worker lives as long as the loop.
        let _ = self.work.send(work);
    }

    /// An attempt ended by itself. One whose lease was lost is too late.
    fn ended(&mut self, ended: Ended, drain: Option<&mut Drain>) {
        let Some(flight) = self.flights.take(ended.run, ended.fence) else {
            let (run_id, fence) = (ended.run, ended.fence);
            tracing::warn!(task = %ended.ctx.task(), %run_id, fence, "ended after it was given up");
            return;
        };
        let was_told = ended.ctx.cancel_token().reason() == Some(CancelReason::Shutdown);
        let ack = self.concluded(flight, ended);
        if let Some(drain) = drain {
            match (was_told, ack.next) {
                (true, Next::Again(_)) => drain.report.abandoned.push(ack.run.id),
                _ => drain.report.finished += 1,
            }
        }
        self.acks.push(ack);
    }

    fn concluded(&self, flight: Flight, ended: Ended) -> Ack {
        let Flight { mut run, fence, max_attempts, placed, .. } = flight;
        let now = self.ctx.clock.now();
        run.output = ended.end.output().clone();
        let verdict = verdict(ended.end, &placed.task.retry, run.attempt, max_attempts, run.id.seed());
        let mut next = Next::End;
        match verdict {
            Verdict::Succeed(_) => run.state = RunState::Succeeded,
            Verdict::Fail { error } => {
                run.state = RunState::Failed;
                run.record_failure(now, error.clone());
                run.reason = Some(error);
            }
            Verdict::Cancel(CancelReason::Shutdown) => return given_back(run, fence),
            Verdict::Cancel(reason) => {
                run.state = RunState::Cancelled;
                run.reason = Some(reason.as_str().to_owned());
            }
            Verdict::Retry { after, error } => {
                run.state = RunState::Retrying;
                run.record_failure(now, error);
                next = Next::Again(after);
            }
            Verdict::Snooze { after } => {
                run.state = RunState::Queued;
                run.attempt -= 1;
                next = Next::Again(after);
            }
        }
        match next {
            Next::End => run.finished_at = Some(now),
            Next::Again(after) => run.next_attempt_at = Some(now + after),
        }
        Ack { run, fence, next, is_followed: is_followed(&placed) }
    }

    async fn renew(&mut self) {
        if !self.timetable.is_empty()
            && let Err(error) = self.store.serve(&self.timetable.names(), self.config.lease).await
        {
            self.in_trouble(&error);
        }
        let held: Vec<Held> = self.flights.iter().map(Flight::held).collect();
        if held.is_empty() {
            return;
        }
        match self.store.renew(&held, self.config.lease).await {
            Ok(renewed) => {
                self.recovered();
                for (id, reason) in renewed.cancelled {
                    let is_replaced = reason == CancelReason::Replaced.as_str();
                    let reason = if is_replaced { CancelReason::Replaced } else { CancelReason::Requested };
                    self.flights.get(id).inspect(|flight| flight.ctx.cancel(reason));
                }
                for id in renewed.lost {
                    let Some(flight) = self.flights.remove(id) else { continue };
                    tracing::warn!(task = %flight.run.task, run_id = %id, "its lease was lost");
                    flight.ctx.cancel(CancelReason::LeaseLost);
                }
            }
            Err(error) => {
                self.in_trouble(&error);
            }
        }
    }

    async fn reap(&mut self) {
        match self.store.reap(REAPED).await {
            Ok(runs) => {
                for run in &runs {
                    let (task, run_id, attempt) = (&run.task, run.id, run.attempt);
                    if !run.state.is_end() {
                        tracing::warn!(%task, %run_id, attempt, "its worker is gone: the lease expired, it runs again");
                    } else {
                        self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
                    }
                }
            }
            Err(error) => {
                self.in_trouble(&error);
            }
        }
    }

    async fn forget(&mut self) -> bool {
        let forgotten = self.store.forget(&self.config.retention(), FORGOTTEN).await;
        forgotten.is_ok_and(|count| count >= FORGOTTEN as usize)
    }

    /// Goes on with a stop; `None` once it is done and answered.
    async fn drain(&mut self, mut drain: Drain) -> Option<Drain> {
        if !self.flights.is_empty() {
            if Instant::now() < drain.deadline {
                return Some(drain);
            }
            if !drain.is_over {
                drain.is_over = true;
                let patience = self.flights.iter().map(|flight| flight.placed.job.wind_down()).max();
                drain.deadline = Instant::now() + patience.unwrap_or_default() + LOST;
                for flight in self.flights.iter() {
                    flight.ctx.cancel(CancelReason::Shutdown);
                }
                return Some(drain);
            }
            self.give_up(Some(&mut drain));
        }
        // A store that does not answer now hears of the rest when the leases expire.
        let _ = self.store.serve(&self.timetable.names(), Duration::ZERO).await;
        self.timetable.clear();
        self.step(false).await;
        drain.report.given_back =
            self.store.waiting().await.unwrap_or(0).saturating_sub(drain.report.abandoned.len());
        let _ = drain.reply.send(drain.report);
        None
    }

    /// Takes back what is under way, whether it has ended or not.
    fn give_up(&mut self, drain: Option<&mut Drain>) {
        let Some(drain) = drain else { return };
        for flight in self.flights.take_all() {
            flight.ctx.cancel(CancelReason::Shutdown);
            drain.report.abandoned.push(flight.run.id);
            self.acks.push(given_back(flight.run, flight.fence));
        }
    }

    pub(crate) fn in_trouble(&mut self, error: &Error) -> Duration {
        let reason = describe(error);
        if self.trouble.is_none() {
            self.ctx.events.emit(&Event::BackendDown { backend: &self.name, reason: &reason });
        }
        self.trouble = Some(reason);
        self.backoff = (self.backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
        self.backoff
    }

    fn recovered(&mut self) {
        self.backoff = Duration::ZERO;
        if self.trouble.take().is_some() {
            self.ctx.events.emit(&Event::BackendUp { backend: &self.name });
        }
    }
}

/// What a store's answer to a wish to cancel means.
///
/// # Errors
/// `run/unknown`.
pub(crate) fn cancelled(id: RunId, answer: &Cancel) -> Result<Cancelled> {
    match answer {
        Cancel::Ended(_) => Ok(Cancelled::Prevented),
        Cancel::Marked => Ok(Cancelled::Requested),
        Cancel::TooLate => Ok(Cancelled::AlreadyFinished),
        Cancel::Unknown => Err(Error::not_found("run/unknown", format!("no run {id}"))),
    }
}

/// The run that a request asks for.
///
/// # Errors
/// `task/unknown`, `queue/params_too_large`.
pub(crate) fn requested(ctx: &BackendContext, backend: &Name, request: &RunRequest) -> Result<Pushed> {
    let placed = ctx.tasks.find(&request.task).ok_or_else(|| {
        Error::not_found("task/unknown", format!("no task `{}` in this process", request.task))
    })?;
    let size = serde_json::to_string(&request.params).map_or(0, |text| text.len());
    if size > LARGEST_PARAMS {
        let message = format!(
            "the parameters of a run of `{}` have {size} bytes, more than {LARGEST_PARAMS}; \
             store them elsewhere and pass their place",
            request.task
        );
        return Err(Error::invalid("queue/params_too_large", message));
    }
    let mut run =
        Run::queued(request.run_id, request.task.clone(), backend.clone(), Tier::Queue, request.fire_time);
    run.origin = request.origin;
    run.params = request.params.clone();
    let max_attempts = placed.task.retry.attempts_on(Tier::Queue);
    let alone = placed.task.overlap != Overlap::Allow;
    let priority = request.priority.unwrap_or(placed.task.priority).level();
    Ok(Pushed { run, due: request.due, priority, max_attempts, alone })
}

/// The run goes back into the queue, and the attempt does not count.
fn given_back(mut run: Run, fence: u64) -> Ack {
    run.state = RunState::Queued;
    run.attempt = run.attempt.saturating_sub(1);
    run.output = serde_json::Value::Null;
    Ack { run, fence, next: Next::Again(Duration::ZERO), is_followed: false }
}

/// The message with those of its causes.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}
