//! An attempt from its first poll to its end, wherever it is taken up.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use async_executor::Task;
use scheduler_core::{AttemptEnd, Placed, RunContext, RunId, attempt};

use crate::command::Ended;
use crate::live::RunKey;
use crate::thread::{Thread, this_thread};
use crate::workers::Shared;

/// An attempt that goes on; dropping it drops the job's future as soon as it is not being polled.
#[derive(Debug)]
pub(crate) struct Attempt(Option<Task<()>>);

impl Attempt {
    /// Ends it now: the future is dropped. Resolves once that has happened.
    pub(crate) async fn end(mut self) {
        if let Some(task) = self.0.take() {
            task.cancel().await;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // A blocked job never comes back to be dropped; nobody waits for it.
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// An attempt with all that it needs, which it gives back at the end.
pub(crate) async fn whole_attempt(placed: Arc<Placed>, ctx: RunContext) -> Whole {
    let end = attempt(&*placed.job, &ctx, placed.task.timeout).await;
    (end, placed, ctx)
}

/// How an attempt ended, and what it had with it.
type Whole = (AttemptEnd, Arc<Placed>, RunContext);

impl Shared {
    /// Lets an attempt that did not end at its first poll be taken up by any thread.
    pub(crate) fn go_on<F>(self: &Arc<Self>, polling: Watched<F>, id: RunId, thread: &Thread)
    where
        F: Future<Output = Whole> + Send + 'static,
    {
        let (run, fence) = (polling.run, polling.fence);
        let Some(ctx) = thread.context(fence) else { return };
        self.orders.goes_on(fence, &ctx.clone(), move || {
            let inbox = Arc::clone(&self.inbox);
            let task = self.executor.spawn(async move {
                let (end, placed, ctx) = polling.await;
                // It holds a test clock until the loop has taken note.
                let held = ctx.clock().busy();
                let end = Ended::shortened(end);
                inbox.put_end(Ended { run, fence, id, placed, end, went_on: true, held });
                inbox.nudge();
            });
            (ctx, Attempt(Some(task)))
        });
    }
}

/// A job's future that leaves a mark on its thread while it is polled.
pub(crate) struct Watched<F> {
    pub(crate) run: RunKey,
    pub(crate) fence: u64,
    pub(crate) shared: Weak<Shared>,
    pub(crate) future: Room<F>,
}

/// A place for a future, which may be empty.
pub(crate) type Room<F> = Pin<Box<Option<F>>>;

/// Puts a future into a room, a new one if there is none.
pub(crate) fn furnished<F>(room: Option<Room<F>>, future: F) -> Room<F> {
    let mut room = room.unwrap_or_else(|| Box::pin(None));
    room.as_mut().set(Some(future));
    room
}

pub(crate) fn poll_in_place<F: Future>(room: &mut Room<F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    room.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx))
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let thread = this_thread();
        if let Some(ctx) = self.shared.upgrade().and_then(|shared| shared.orders.context(self.fence)) {
            thread.begin_poll(self.run, self.fence, ctx);
            let polled = poll_in_place(&mut self.future, cx);
            thread.end_poll();
            return polled;
        }
        // It was given up, and goes on unwatched.
        poll_in_place(&mut self.future, cx)
    }
}
