//! Starting and stopping all backends at once, and bringing back one that was away.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;

use crate::scheduler::{Inner, Member};
use crate::{BackendContext, CancelReason, CancelToken, Drained, Event, Result, Scheduler};

/// How long to wait before a backend that did not start is tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Whether a scheduler runs; its lock makes starting and stopping take turns.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    running: Option<CancelToken>,
}

impl Lifecycle {
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl Inner {
    pub(crate) async fn start(self: &Arc<Self>) -> Result<()> {
        let mut lifecycle = self.lifecycle.lock().await;
        if lifecycle.is_running() {
            return Ok(());
        }
        let started = join_all(self.backends.iter().map(|member| self.start_member(member))).await;
        let failed =
            self.backends.iter().zip(&started).any(|(member, result)| member.required && result.is_err());
        if failed {
            self.stop_members(Some(Duration::ZERO)).await?;
            let (required, optional): (Vec<_>, Vec<_>) =
                self.backends.iter().zip(started).partition(|(member, _)| member.required);
            let first = required.into_iter().chain(optional).find_map(|(_, result)| result.err());
            return Err(first.expect("a required backend failed"));
        }
        let stopping = CancelToken::new();
        if self
            .backends
            .iter()
            .any(|member| member.down.load(Ordering::Relaxed) || member.backend.schedules().is_none())
        {
            self.driver.spawn(Arc::downgrade(self), stopping.clone());
        }
        lifecycle.running = Some(stopping);
        Ok(())
    }

    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) -> Result<Drained> {
        let mut lifecycle = self.lifecycle.lock().await;
        let Some(stopping) = lifecycle.running.take() else { return Ok(Drained::default()) };
        stopping.cancel(CancelReason::Shutdown);
        self.stop_members(Some(grace)).await
    }

    /// Ends now, also while somebody else waits for a slower stop.
    pub(crate) async fn abort(self: &Arc<Self>) -> Result<Drained> {
        // A stop under way holds the lock until its backends are done, which this is about to bring forward.
        let drained = self.stop_members(None).await;
        self.stop(Duration::ZERO).await?;
        drained
    }

    /// Starts one backend and hands it its tasks; one that may be away is marked instead of failing.
    async fn start_member(self: &Arc<Self>, member: &Member) -> Result<()> {
        let ctx = BackendContext {
            namespace: self.namespace.clone(),
            clock: Arc::clone(&self.clock),
            tasks: self.tasks.clone(),
            state: Arc::clone(&self.state),
            events: self.events.clone(),
            scheduler: Scheduler(Arc::clone(self)).downgrade(),
            data_dir: self.data_dir.clone(),
        };
        let result = self.start_and_fill(member, ctx).await;
        let was_down = member.down.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_down => {
                self.events.emit(&Event::BackendDown { backend: &member.name(), reason: &error.to_string() });
            }
            Ok(()) if was_down => self.events.emit(&Event::BackendUp { backend: &member.name() }),
            _ => {}
        }
        result
    }

    async fn start_and_fill(&self, member: &Member, ctx: BackendContext) -> Result<()> {
        member.backend.start(ctx).await?;
        let name = member.name();
        for placed in self.tasks.all().into_iter().filter(|placed| placed.placement.backend == name) {
            match member.backend.schedules() {
                Some(schedules) => schedules.upsert(placed).await?,
                None => crate::Schedules::upsert(&self.driver, placed).await?,
            }
        }
        Ok(())
    }

    async fn stop_members(&self, grace: Option<Duration>) -> Result<Drained> {
        let stopping = self.backends.iter().map(|member| async move {
            match grace {
                Some(grace) => member.backend.stop(grace).await,
                None => member.backend.abort().await,
            }
        });
        let mut total = Drained::default();
        let mut first_error = None;
        for result in join_all(stopping).await {
            match result {
                Ok(drained) => total.add(drained),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(total), Err)
    }
}

/// Tries backends that are down again until all are up.
pub(crate) async fn revive(scheduler: Weak<Inner>) {
    loop {
        let Some(inner) = scheduler.upgrade() else { return };
        if !inner.backends.iter().any(|member| member.down.load(Ordering::Relaxed)) {
            return;
        }
        let pause = inner.clock.sleep_until(inner.clock.monotonic() + RESTART_PAUSE);
        drop(inner);
        pause.await;
        let Some(inner) = scheduler.upgrade() else { return };
        // The lock is tried, not awaited: whoever stops the scheduler waits for nobody here.
        let Some(lifecycle) = inner.lifecycle.try_lock() else { continue };
        if !lifecycle.is_running() {
            return;
        }
        for member in inner.backends.iter().filter(|member| member.down.load(Ordering::Relaxed)) {
            // What it said goes to the log when its state changes.
            let _ = inner.start_member(member).await;
        }
    }
}
