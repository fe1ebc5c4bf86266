//! A stop: what is under way may end, what does not is given back.

use std::time::Duration;

use scheduler_core::{CancelReason, Drained};
use tokio::time::Instant;

use crate::deliveries::given_back;
use crate::driver::Driver;
use crate::requests::Reply;

/// How long a job that was told to stop may take besides its own time to wind down.
const LOST: Duration = Duration::from_secs(1);

/// A stop under way.
pub(crate) struct Drain {
    pub(crate) reply: Reply<Drained>,
    pub(crate) report: Drained,
    pub(crate) deadline: Instant,
    /// Whether those that are left have been told.
    pub(crate) is_over: bool,
}

impl Driver {
    /// Goes on with a stop; `None` once it is done and answered.
    pub(crate) async fn drain(&mut self, mut drain: Drain) -> Option<Drain> {
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
        self.settle(false).await;
        if !self.acks.is_empty() && self.backoff.is_zero() {
            // Those that a cancel met end otherwise than they were to.
            self.settle(false).await;
        }
        drain.report.given_back =
            self.store.waiting().await.unwrap_or(0).saturating_sub(drain.report.abandoned.len());
        let _ = drain.reply.send(drain.report);
        None
    }

    /// Takes back what is under way, whether it has ended or not.
    pub(crate) fn give_up(&mut self, drain: Option<&mut Drain>) {
        let Some(drain) = drain else { return };
        for flight in self.flights.take_all() {
            flight.ctx.cancel(CancelReason::Shutdown);
            drain.report.abandoned.push(flight.run.id);
            self.acks.push(given_back(flight.run, flight.fence));
        }
    }
}
