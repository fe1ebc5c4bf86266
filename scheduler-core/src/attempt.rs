//! One try inside a run: the time limit, the panic, the cancellation, for every backend alike.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;

use crate::{CancelReason, Job, JobError, Output, RunContext};

/// How an attempt ended.
#[derive(Debug)]
pub enum AttemptEnd {
    /// The job returned its output.
    Succeeded(Output),
    /// The job returned an error.
    Failed(JobError),
    /// The time limit passed; the job was told to stop and its future is gone.
    TimedOut(Duration),
    /// The job panicked with this message.
    Panicked(String),
    /// It was told to stop and did not finish.
    Cancelled(CancelReason),
}

/// Runs `job` once, for at most `limit`.
///
/// When the limit passes or the run is cancelled, the job hears it through `ctx` and has
/// [`Job::wind_down`] to end; then its future is dropped. A job that succeeds although it was cancelled has
/// succeeded; one that succeeds after its limit has not. A panic, wherever it happens, ends only this attempt.
pub async fn attempt(job: &dyn Job, ctx: &RunContext, limit: Option<Duration>) -> AttemptEnd {
    let Ok(future) = catch_unwind(AssertUnwindSafe(|| job.run(ctx))) else {
        return AttemptEnd::Panicked("before its first await".into());
    };
    let mut running = Box::pin(AssertUnwindSafe(future).catch_unwind());
    let end = drive(job, ctx, limit, running.as_mut()).await;
    // What a job holds may panic when it is dropped, too.
    match catch_unwind(AssertUnwindSafe(|| drop(running))) {
        Ok(()) => end,
        Err(payload) => AttemptEnd::Panicked(message_of(payload)),
    }
}

type Ended = Result<Result<Output, JobError>, Box<dyn Any + Send>>;

async fn drive(
    job: &dyn Job,
    ctx: &RunContext,
    limit: Option<Duration>,
    mut running: std::pin::Pin<&mut (impl Future<Output = Ended> + Send)>,
) -> AttemptEnd {
    // Most jobs end at the first poll; only the others pay for a timer.
    let first = poll_fn(|cx| Poll::Ready(running.poll_unpin(cx))).await;
    if let Poll::Ready(ended) = first {
        return conclude(ended, ctx.cancel_token().reason(), limit);
    }
    let began = ctx.clock().monotonic();
    let mut cancelled = Box::pin(ctx.cancel_token().cancelled());
    let mut time_up = limit.map(|limit| ctx.clock().sleep_until(began + limit));
    let told = poll_fn(|cx| {
        if let Poll::Ready(ended) = running.poll_unpin(cx) {
            return Poll::Ready(Err(ended));
        }
        if let Poll::Ready(reason) = cancelled.poll_unpin(cx) {
            return Poll::Ready(Ok(reason));
        }
        match time_up.as_mut().map(|sleep| sleep.poll_unpin(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Ok(CancelReason::TimedOut)),
            _ => Poll::Pending,
        }
    });
    let reason = match told.await {
        Err(ended) => return conclude(ended, None, limit),
        Ok(reason) => reason,
    };
    ctx.hold_clock();
    ctx.cancel_token().cancel(reason);
    let mut patience = ctx.clock().sleep_until(ctx.clock().monotonic() + job.wind_down());
    let ended = poll_fn(|cx| match running.poll_unpin(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending => patience.poll_unpin(cx).map(|()| None),
    });
    match ended.await {
        Some(ended) => conclude(ended, Some(reason), limit),
        None => stopped(reason, limit),
    }
}

fn conclude(ended: Ended, told: Option<CancelReason>, limit: Option<Duration>) -> AttemptEnd {
    match (ended, told) {
        (Err(payload), _) => AttemptEnd::Panicked(message_of(payload)),
        (Ok(_), Some(CancelReason::TimedOut)) => stopped(CancelReason::TimedOut, limit),
        (Ok(Ok(output)), _) => AttemptEnd::Succeeded(output),
        (Ok(Err(_)), Some(reason)) => AttemptEnd::Cancelled(reason),
        (Ok(Err(error)), None) => AttemptEnd::Failed(error),
    }
}

fn stopped(reason: CancelReason, limit: Option<Duration>) -> AttemptEnd {
    match (reason, limit) {
        (CancelReason::TimedOut, Some(limit)) => AttemptEnd::TimedOut(limit),
        _ => AttemptEnd::Cancelled(reason),
    }
}

fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is no text".to_owned());
    // The payload's own destructor may panic; what it says then is of no use to anybody.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    message
}
