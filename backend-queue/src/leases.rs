//! The leases: those that are held are prolonged, those that others let expire are taken away.

use scheduler_core::{CancelReason, Event};
use tokio::time::Instant;

use crate::driver::Driver;
use crate::flight::Flight;
use crate::store::Held;

/// How many expired leases are taken away in one go.
const REAPED: u32 = 500;

impl Driver {
    /// Prolongs what is held; answers when to do so again.
    pub(crate) async fn renew(&mut self) -> Instant {
        let is_answered = self.renew_all().await;
        let third = self.config.lease / 3;
        // Sooner than others may take anything away after the store was silent.
        Instant::now() + if is_answered { third } else { self.backoff.min(third / 2) }
    }

    /// Says whether the store answered.
    async fn renew_all(&mut self) -> bool {
        if !self.timetable.is_empty()
            && let Err(error) = self.store.serve(&self.timetable.names(), self.config.lease).await
        {
            self.in_trouble(&error);
            return false;
        }
        let held: Vec<Held> = self.flights.iter().map(Flight::held).chain(self.ahead.held()).collect();
        if held.is_empty() {
            return true;
        }
        match self.store.renew(&held, self.config.lease).await {
            Ok(renewed) => {
                self.recovered();
                for (id, reason) in renewed.cancelled {
                    let is_replaced = reason == CancelReason::Replaced.as_str();
                    let reason = if is_replaced { CancelReason::Replaced } else { CancelReason::Requested };
                    self.tell_cancelled(id, reason);
                }
                for id in renewed.lost {
                    let Some(flight) = self.flights.remove(id) else {
                        self.ahead.take(id);
                        continue;
                    };
                    self.ctx.events.emit(&Event::AttemptLost { run: &flight.run, fence: flight.fence });
                    flight.ctx.cancel(CancelReason::LeaseLost);
                }
                true
            }
            Err(error) => {
                self.in_trouble(&error);
                false
            }
        }
    }

    pub(crate) async fn reap(&mut self) {
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
}
