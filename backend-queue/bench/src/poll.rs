//! A poll strategy for apalis' own backends.
//!
//! Without one they look for work at their heartbeat only, every 30 seconds, and the one that apalis brings loses
//! its wake-up when the store answers at once. This one never does, so it can only help them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use tokio::time::{Sleep, sleep};

/// Wakes the worker again and again.
#[derive(Debug)]
pub(crate) struct Every {
    interval: Duration,
    next: Option<Pin<Box<Sleep>>>,
}

impl Every {
    /// Every ten milliseconds.
    pub(crate) fn ten_millis() -> Self {
        Self { interval: Duration::from_millis(10), next: None }
    }
}

impl PollStrategy for Every {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut has_fired = false;
        loop {
            let interval = self.interval;
            let next = self.next.get_or_insert_with(|| Box::pin(sleep(interval)));
            match next.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    has_fired = true;
                    self.next = None;
                }
                Poll::Pending if has_fired => return Poll::Ready(Some(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
