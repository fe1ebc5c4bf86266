//! Stopping: no new work, a grace for what runs, then the cut.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{CancelReason, Drained};

use crate::command::Reply;
use crate::engine::{Engine, Timer};
use crate::live::RunKey;

/// How long, in real time, the futures of a hard stop may take to be dropped.
const CUT: Duration = Duration::from_secs(2);
/// How often it is looked whether a job is still being polled.
const GLANCE: Duration = Duration::from_millis(1);

/// A stop under way.
#[derive(Debug)]
pub(crate) struct Drain {
    replies: Vec<Reply<Drained>>,
    /// On the monotonic clock; after it the runs that are left are cancelled.
    grace_ends: Duration,
    cancelled: bool,
    under_way: usize,
    report: Drained,
}

impl Engine {
    /// Begins to stop, or stops faster.
    pub(crate) fn stop(&mut self, grace: Option<Duration>, reply: Reply<Drained>) {
        let now = self.pulse.monotonic();
        let ends = grace.map_or(now, |grace| now.saturating_add(grace));
        let drain = self.drain.get_or_insert_with(|| Drain {
            replies: Vec::new(),
            grace_ends: ends,
            cancelled: false,
            under_way: 0,
            report: Drained::default(),
        });
        drain.grace_ends = drain.grace_ends.min(ends);
        drain.replies.push(reply);
        self.give_back_waiting();
        if grace.is_none() {
            self.cut();
        }
        self.set_timer_in(grace.unwrap_or_default(), Timer::Drain);
    }

    /// Cancels what has not begun: this tier keeps nothing for the next start.
    fn give_back_waiting(&mut self) {
        let waiting: Vec<RunKey> =
            self.live.iter().filter(|(_, live)| !live.is_under_way).map(|(key, _)| key).collect();
        let count = waiting.len();
        for run in waiting {
            self.cancel_run(run, CancelReason::Shutdown);
        }
        let under_way = self.attempts;
        if let Some(drain) = &mut self.drain {
            drain.report.given_back += count;
            drain.under_way = drain.under_way.max(under_way);
        }
        for task in self.tasks.keys() {
            self.step(task);
        }
    }

    /// Drops every attempt now.
    fn cut(&mut self) {
        let under_way = self.live.iter().filter(|(_, live)| live.is_under_way);
        let (keys, fences): (Vec<RunKey>, Vec<u64>) = under_way.map(|(key, live)| (key, live.fence)).unzip();
        let ending = self.workers.cut(&fences);
        for key in keys {
            self.attempts -= 1;
            if let Some(run) = self.make_whole(key) {
                run.reason = Some(CancelReason::Shutdown.as_str().to_owned());
            }
            if let Some(live) = self.live.get_mut(key) {
                live.is_under_way = false;
            }
            self.note_cut_off(key, CancelReason::Shutdown);
            self.end_run(key, scheduler_core::RunState::Cancelled);
        }
        // The process may end right after the answer: what a future does when it is dropped must have happened.
        let shared = Arc::clone(self.workers.shared());
        let dropped = async move {
            for attempt in ending {
                attempt.end().await;
            }
            while fences.iter().any(|fence| shared.polls(*fence)) {
                std::thread::sleep(GLANCE);
            }
        };
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let helper = std::thread::Builder::new().spawn(move || {
            futures_lite::future::block_on(dropped);
            drop(done);
        });
        if helper.is_ok() {
            let _ = wait.recv_timeout(CUT);
        }
    }

    /// Notes a run that the drain cut off.
    pub(crate) fn note_cut_off(&mut self, key: RunKey, reason: CancelReason) {
        if self.drain.is_none() || reason != CancelReason::Shutdown {
            return;
        }
        let id = self.make_whole(key).map(|run| run.id);
        if let Some(drain) = &mut self.drain {
            drain.report.abandoned.extend(id);
        }
    }

    /// Cancels what is left when the grace is over, and answers when nothing is left.
    pub(crate) fn check_drain(&mut self) {
        let now = self.pulse.monotonic();
        let Some(drain) = &mut self.drain else { return };
        if now >= drain.grace_ends && !drain.cancelled {
            drain.cancelled = true;
            for run in self.live.keys() {
                self.cancel_run(run, CancelReason::Shutdown);
            }
        }
        if self.live.len() > 0 {
            return;
        }
        let Some(mut drain) = self.drain.take() else { return };
        self.ended = true;
        self.close_history();
        self.leave_history();
        drain.report.finished = drain.under_way.saturating_sub(drain.report.abandoned.len());
        for reply in drain.replies {
            // Whoever asked twice gets the same report.
            let _ = reply.send(drain.report.clone());
        }
    }
}
