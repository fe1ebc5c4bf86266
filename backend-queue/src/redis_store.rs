//! The shared store, on a Redis server: each call is one script, judged by the clock of Redis.
//!
//! A run is a packed string (`redis_row.rs`), and sorted sets say in which order runs are taken, when their leases
//! expire and which are shown. What must look into an envelope is done here: it is read, computed, and written
//! by a script that does nothing when the run has changed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, EndedRun, Error, HeldLetters, HistoryBounds, Load, Name, Page, Pause,
    Replayed, Result, Run, RunFilter, RunId, RunState, Tier, Timestamp,
};

use crate::QueueConfig;
use crate::adopt_redis;
use crate::adopt_task::Adoption;
use crate::redis_link::Link;
use crate::redis_push::Pushes;
use crate::redis_row::{HEAD, RUNNING, Row};
use crate::redis_step::Deliveries;
use crate::redis_wake::Listener;
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Held, Pushed, QueueState, Renewed, Replay, Retention, Standing,
    Stepped, Store, TakenOver,
};
use crate::{
    redis_letters, redis_open, redis_page, redis_queue, redis_retention, redis_schedule, redis_script,
    redis_unique, redis_wire,
};

/// How many runs a script adds, acknowledges or claims, so that none takes long.
pub(crate) const MOST: usize = 1_000;
/// How many bytes of runs a script is given at most, besides the last.
pub(crate) const LARGEST: usize = 8 * 1024 * 1024;
/// How often something is read again that changes while it is looked at.
pub(crate) const MOST_TRIES: usize = 100;

/// A queue on a Redis server.
#[derive(Debug)]
pub(crate) struct RedisStore {
    pub(crate) link: Arc<Link>,
    pub(crate) backend: Name,
    pub(crate) deliveries: Deliveries,
    pushes: Pushes,
    listener: Listener,
}

/// What is stored under an id.
#[derive(Debug)]
pub(crate) struct Peeked {
    /// Nothing where there is no such run.
    pub(crate) packed: Vec<u8>,
    /// When it died, as a dead letter that is not held.
    pub(crate) died: String,
    /// When it died and why it is held, as one that is.
    pub(crate) held: String,
}

impl Peeked {
    pub(crate) fn is_letter(&self) -> bool {
        !(self.died.is_empty() && self.held.is_empty())
    }
}

impl RedisStore {
    /// Connects and looks at what is there.
    ///
    /// # Errors
    /// `queue/unreachable`, `queue/refused`, `queue/old_redis`, `queue/newer_store` and the like.
    pub(crate) async fn open(config: &QueueConfig, namespace: &Name, backend: Name) -> Result<Self> {
        let link = Arc::new(Link::new(config, namespace)?);
        redis_open::examine(&link).await?;
        let (deliveries, pushes) = (Deliveries::new(config.lease), Pushes::new(Arc::clone(&link)));
        Ok(Self { link, backend, deliveries, pushes, listener: Listener::default() })
    }

    /// The run that was stored under an id.
    pub(crate) fn read(&self, id: RunId, packed: &[u8]) -> Result<Run, Box<Run>> {
        match Row::parse(packed) {
            Some(row) => row.open(id, &self.backend),
            None => Err(Box::new(nothing_readable(id, &self.backend))),
        }
    }

    /// A run as it is shown, whatever can be read of it.
    pub(crate) fn shown(&self, id: RunId, packed: &[u8]) -> Run {
        self.read(id, packed).unwrap_or_else(|run| *run)
    }

    /// What is stored under these ids, and the time.
    pub(crate) async fn peek(&self, runs: &[RunId]) -> Result<(Timestamp, Vec<Peeked>)> {
        let mut call = self.link.call(&redis_script::PEEK);
        for run in runs {
            call.arg(run.to_string());
        }
        let (at, found): (i64, Vec<(Vec<u8>, String, String)>) =
            self.link.send(&redis_script::PEEK, &call).await?;
        let found = found.into_iter().map(|(packed, died, held)| Peeked { packed, died, held });
        Ok((Timestamp::from_millis(at), found.collect()))
    }

    /// A run that waited, as it is once it was cancelled.
    pub(crate) fn cancelled(&self, id: RunId, packed: &[u8], reason: &str, at: Timestamp) -> Run {
        let mut run = self.shown(id, packed);
        run.state = RunState::Cancelled;
        run.reason = Some(reason.to_owned());
        run.finished_at = Some(at);
        run.next_attempt_at = None;
        run
    }
}

/// What stands in for a run of which nothing can be read.
fn nothing_readable(id: RunId, backend: &Name) -> Run {
    let at = Timestamp::from_millis(0);
    let mut run = Run::queued(id, backend.clone(), backend.clone(), Tier::Queue, at);
    run.state = RunState::Failed;
    run.reason = Some("what was stored cannot be read: it is no run".to_owned());
    run
}

/// The id that these bytes spell.
pub(crate) fn id_of(bytes: &[u8]) -> Option<RunId> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Milliseconds that a script can add to the time.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(1 << 50)
}

/// The error of what changes faster than it can be read.
pub(crate) fn restless(what: &str) -> Error {
    Error::unavailable("queue/unavailable", format!("{what} changes faster than it can be read"))
}

#[async_trait]
impl Store for RedisStore {
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        self.pushes.push(runs).await
    }

    async fn push_unique(&self, runs: Vec<Pushed>) -> Result<Vec<Option<RunId>>> {
        redis_unique::push(self, &runs).await
    }

    async fn tell_progress(&self, runs: &[(Run, u64)]) -> Result<()> {
        redis_unique::tell_progress(self, runs).await
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        self.take_step(acks, claim).await
    }

    async fn renew(&self, held: &[Held], lease: Duration) -> Result<Renewed> {
        self.renew_leases(held, lease).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<Run>> {
        self.reap_expired(limit).await
    }

    async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancel> {
        let script = &redis_script::CANCEL;
        for _ in 0..MOST_TRIES {
            let (at, found) = self.peek(&[run]).await?;
            let packed = found.first().map(|found| found.packed.as_slice()).unwrap_or_default();
            let Some(row) = Row::parse(packed) else { return Ok(Cancel::Unknown) };
            let mut call = self.link.call(script);
            let before = &packed[..HEAD];
            let answer = if row.state == RUNNING {
                call.arg(run.to_string()).arg(before).arg(reason);
                Cancel::Marked
            } else if row.has_ended() {
                return Ok(Cancel::TooLate);
            } else {
                let ended = self.cancelled(run, packed, reason, at);
                redis_wire::add_withdrawn(&mut call, run, before, &row.head_cancelled(at), &ended);
                Cancel::Ended(Box::new(ended))
            };
            if self.link.send::<u8>(script, &call).await? == 1 {
                return Ok(answer);
            }
        }
        Err(restless(&format!("run {run}")))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        redis_page::runs(self, filter).await
    }

    async fn waiting(&self) -> Result<usize> {
        let script = &redis_script::WAITING;
        let count: i64 = self.link.send(script, &self.link.call(script)).await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    async fn load(&self) -> Result<Load> {
        let script = &redis_script::LOAD;
        let (waiting, oldest, ahead, under_way, letters): (u64, Option<i64>, u64, u64, u64) =
            self.link.send(script, &self.link.call(script)).await?;
        let mut load = Load::default();
        (load.waiting, load.ahead, load.under_way, load.dead_letters) =
            (waiting, ahead, under_way, Some(letters));
        load.oldest_due = oldest.map(Timestamp::from_millis);
        Ok(load)
    }

    async fn register(&self, task: &Name, definition: &str, lease: Duration) -> Result<u64> {
        redis_schedule::register(&self.link, task, definition, lease).await
    }

    async fn serve(&self, tasks: &[Name], lease: Duration) -> Result<()> {
        redis_schedule::serve(&self.link, tasks, lease).await
    }

    async fn decide(&self, task: &Name, revision: u64, decide: &Decide<'_>) -> Result<Decided> {
        redis_schedule::decide(self, task, revision, decide).await
    }

    async fn pause(&self, task: &Name, pause: Option<&Pause>) -> Result<()> {
        redis_schedule::pause(&self.link, task, pause).await
    }

    async fn pause_queue(&self, queue: Option<&Name>, pause: Option<&Pause>) -> Result<bool> {
        redis_queue::pause_queue(&self.link, queue, pause).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.peek(&[]).await.map(|(at, _)| at)
    }

    async fn queues(&self) -> Result<Vec<QueueState>> {
        redis_queue::queues(&self.link).await
    }

    async fn standing(&self, task: &Name) -> Result<Option<Standing>> {
        Ok(redis_schedule::stands(&self.link, task).await?.map(|stands| stands.standing))
    }

    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        redis_page::letters(self, filter).await
    }

    async fn replay(&self, letters: &[Replay]) -> Result<Vec<Replayed>> {
        redis_letters::replay(self, letters).await
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        redis_letters::hold(&self.link, run, reason).await
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        redis_letters::discard(&self.link, runs, held).await
    }

    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize> {
        redis_letters::forget(&self.link, retention, limit).await
    }

    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: u32) -> Result<Vec<EndedRun>> {
        redis_retention::beyond(self, bounds, skip, limit).await
    }

    async fn prune(&self, bounds: &HistoryBounds, limit: u32) -> Result<Vec<EndedRun>> {
        redis_retention::prune(self, bounds, limit).await
    }

    async fn adopt(&self, adoption: &Arc<Adoption>) -> Result<TakenOver> {
        adopt_redis::adopt(self, adoption).await
    }

    async fn changed(&self) {
        self.listener.changed(&self.link).await;
    }
}
