//! What happened, told as it happens: one log line and one call to each listener.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::{Name, Run, RunState, Spelled, Timestamp};

/// Something that happened in a scheduler.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An attempt of this run began.
    AttemptStarted {
        /// The run.
        run: &'a Run,
        /// The fencing token of the delivery.
        fence: u64,
    },
    /// An attempt did not end its run; the next one follows.
    AttemptEnded {
        /// The run, which now waits.
        run: &'a Run,
        /// The fencing token of the delivery.
        fence: u64,
        /// How long until the next attempt.
        next_in: Duration,
    },
    /// An attempt counts no more, however it ends: its lease was lost, and the run is another worker's.
    AttemptLost {
        /// The run, as it was delivered.
        run: &'a Run,
        /// The fencing token of the delivery.
        fence: u64,
    },
    /// The run ended, or was skipped.
    RunEnded {
        /// The run.
        run: &'a Run,
        /// The fencing token of its last delivery; 0 when it never began.
        fence: u64,
    },
    /// A job keeps its thread from doing anything else.
    JobBlocksThread {
        /// The run.
        run: &'a Run,
        /// The fencing token of the delivery.
        fence: u64,
        /// For how long already.
        since: Duration,
    },
    /// The wall clock moved by itself.
    ClockStepped {
        /// Where it stood.
        from: Timestamp,
        /// Where it stands.
        to: Timestamp,
    },
    /// A backend stopped answering.
    BackendDown {
        /// The backend.
        backend: &'a Name,
        /// Why.
        reason: &'a str,
    },
    /// A backend answers again.
    BackendUp {
        /// The backend.
        backend: &'a Name,
    },
}

/// Where events go. Clones share the listeners.
#[derive(Clone, Default)]
pub struct Events(Arc<RwLock<Arc<Vec<Arc<Listener>>>>>);

type Listener = dyn Fn(&Event<'_>) + Send + Sync;

impl Events {
    /// Adds a listener. It is called on the thread where the event happens and must not block.
    pub fn listen(&self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut *listeners).push(Arc::new(listener));
    }

    /// Whether anybody hears of runs that go well: a listener, or a log. Who emits many such events asks before.
    pub fn is_heard(&self) -> bool {
        tracing::enabled!(target: "scheduler::run", tracing::Level::INFO) || !self.listeners().is_empty()
    }

    /// Logs an event and tells the listeners. One that panics is logged and keeps nobody else from hearing.
    pub fn emit(&self, event: &Event<'_>) {
        log(event);
        for listener in self.listeners().iter() {
            if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
                error!(target: "scheduler::events", "a listener panicked");
            }
        }
    }

    /// Those of now, so that nothing is locked while they are called: a listener may itself listen or emit.
    fn listeners(&self) -> Arc<Vec<Arc<Listener>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// One log line about a run, with the fields that every such line carries.
macro_rules! run_line {
    ($level:ident, $run:expr, $fence:expr, $($message:tt)+) => {
        $level!(
            target: "scheduler::run",
            task = %$run.task,
            run_id = %$run.id,
            attempt = $run.attempt,
            fence = $fence,
            tier = %$run.tier,
            backend = %$run.backend,
            fire_time = %$run.fire_time,
            $($message)+
        )
    };
}

fn log(event: &Event<'_>) {
    match *event {
        Event::AttemptStarted { run, fence } => run_line!(info, run, fence, "started"),
        Event::AttemptEnded { run, fence, next_in } => {
            let next_in = Spelled(next_in);
            match run.failures.last().filter(|_| run.state == RunState::Retrying) {
                Some(failure) => run_line!(warn, run, fence, "failed: {}; again in {next_in}", failure.error),
                None => run_line!(info, run, fence, "snoozed; again in {next_in}"),
            }
        }
        Event::AttemptLost { run, fence } => {
            run_line!(warn, run, fence, "its lease was lost: what this attempt does counts no more");
        }
        Event::RunEnded { run, fence } => log_end(run, fence),
        Event::JobBlocksThread { run, fence, since } => {
            let since = Spelled(since);
            run_line!(warn, run, fence, "has blocked its thread for {since}; use spawn_blocking in the job");
        }
        Event::ClockStepped { from, to } => {
            warn!(target: "scheduler::clock", %from, %to, "the wall clock stepped");
        }
        Event::BackendDown { backend, reason } => {
            error!(target: "scheduler::backend", %backend, "down: {reason}");
        }
        Event::BackendUp { backend } => info!(target: "scheduler::backend", %backend, "up again"),
    }
}

fn log_end(run: &Run, fence: u64) {
    let reason = run.reason.as_deref().unwrap_or_default();
    let took =
        Spelled(run.finished_at.zip(run.started_at).map_or(Duration::ZERO, |(end, start)| end.since(start)));
    let summary = |mark| run.summary().map(|summary| format!("{mark}{summary}")).unwrap_or_default();
    match run.state {
        RunState::Succeeded => run_line!(info, run, fence, "succeeded in {took}{}", summary(": ")),
        RunState::Failed => {
            let (attempt, summary) = (run.attempt, summary("; "));
            run_line!(error, run, fence, "failed for good after attempt {attempt}: {reason}{summary}");
        }
        RunState::Cancelled => run_line!(warn, run, fence, "cancelled: {reason}"),
        RunState::Skipped => run_line!(info, run, fence, "skipped: {reason}"),
        RunState::Scheduled | RunState::Queued | RunState::Running | RunState::Retrying => {}
    }
}
