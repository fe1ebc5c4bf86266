//! One try inside a run: the time limit, the panic, the cancellation, for every backend alike.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;

use crate::{Busy, CancelReason, Job, JobError, Output, RunContext};

/// How an attempt ended.
#[derive(Debug)]
pub enum AttemptEnd {
    /// The job returned its output.
    Succeeded(Output),
    /// The job returned an error.
    Failed(JobError),
    /// This time limit passed; the job was told to stop and its future is gone.
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What the job had to show, if it ended in time to show it.
        output: Output,
    },
    /// The job panicked with this message.
    Panicked(String),
    /// It was told to stop and did not finish.
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// What the job had to show, if it ended in time to show it.
        output: Output,
    },
}

impl AttemptEnd {
    /// What the job had to show, whatever the end; `null` for nothing.
    pub fn output(&self) -> &Output {
        match self {
            Self::Succeeded(output) | Self::TimedOut { output, .. } | Self::Cancelled { output, .. } => {
                output
            }
            Self::Failed(error) => error.output(),
            Self::Panicked(_) => &Output::Null,
        }
    }
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
    let mut running = AssertUnwindSafe(future).catch_unwind();
    let end = drive(job, ctx, limit, &mut running).await;
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
    running: &mut (impl Future<Output = Ended> + Send + Unpin),
) -> AttemptEnd {
    // Held until the time limit is known to the clock, which would else move past it.
    let beginning = ctx.clock().busy();
    // Most jobs end at the first poll; only the others pay for a timer, and for the room that waiting needs.
    match poll_fn(|cx| Poll::Ready(running.poll_unpin(cx))).await {
        Poll::Ready(ended) => conclude(ended, ctx.told_to_stop(), limit),
        Poll::Pending => Box::pin(wait_for(job, ctx, limit, running, beginning)).await,
    }
}

async fn wait_for(
    job: &dyn Job,
    ctx: &RunContext,
    limit: Option<Duration>,
    running: &mut (impl Future<Output = Ended> + Send + Unpin),
    beginning: Busy,
) -> AttemptEnd {
    let mut beginning = Some(beginning);
    let began = ctx.clock().monotonic();
    let mut cancelled = Box::pin(ctx.cancel_token().cancelled());
    let mut time_up = limit.map(|limit| ctx.clock().sleep_until(began.saturating_add(limit)));
    let told = poll_fn(|cx| {
        if let Poll::Ready(ended) = running.poll_unpin(cx) {
            return Poll::Ready(Err(ended));
        }
        if let Poll::Ready(reason) = cancelled.poll_unpin(cx) {
            return Poll::Ready(Ok(reason));
        }
        if let Some(Poll::Ready(())) = time_up.as_mut().map(|sleep| sleep.poll_unpin(cx)) {
            return Poll::Ready(Ok(CancelReason::TimedOut));
        }
        beginning = None;
        Poll::Pending
    });
    let reason = match told.await {
        Err(ended) => return conclude(ended, ctx.told_to_stop(), limit),
        Ok(reason) => reason,
    };
    ctx.cancel(reason);
    // Only one of two reasons counts when both come at once: the one the job hears.
    let reason = ctx.told_to_stop().unwrap_or(reason);
    let mut patience = ctx.clock().sleep_until(ctx.clock().monotonic().saturating_add(job.wind_down()));
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = running.poll_unpin(cx) {
            return Poll::Ready(Some(ended));
        }
        let given_up = patience.poll_unpin(cx).map(|()| None);
        time_up = None;
        ctx.heard();
        given_up
    });
    match ended.await {
        Some(ended) => conclude(ended, Some(reason), limit),
        None => stopped(reason, limit, Output::Null),
    }
}

fn conclude(ended: Ended, told: Option<CancelReason>, limit: Option<Duration>) -> AttemptEnd {
    match (ended, told) {
        (Err(payload), _) => AttemptEnd::Panicked(message_of(payload)),
        (Ok(Ok(output)), Some(CancelReason::TimedOut)) => stopped(CancelReason::TimedOut, limit, output),
        (Ok(Ok(output)), _) => AttemptEnd::Succeeded(output),
        (Ok(Err(error)), Some(reason)) => stopped(reason, limit, error.output().clone()),
        (Ok(Err(error)), None) => AttemptEnd::Failed(error),
    }
}

fn stopped(reason: CancelReason, limit: Option<Duration>, output: Output) -> AttemptEnd {
    match (reason, limit) {
        (CancelReason::TimedOut, Some(limit)) => AttemptEnd::TimedOut { limit, output },
        _ => AttemptEnd::Cancelled { reason, output },
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

#[cfg(feature = "test-util")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, JobDescriptor, Name, RunHost, RunId, RunIdentity, TestClock, Tier, Timestamp};
    use serde_json::Value;
    use std::sync::Arc;

    const SECOND: Duration = Duration::from_secs(1);

    fn context(clock: &TestClock) -> RunContext {
        let name = Name::new("t").unwrap();
        let identity = RunIdentity {
            namespace: name.clone(),
            task: name.clone(),
            tier: Tier::Local,
            backend: name,
            run_id: RunId::manual(Timestamp::from_millis(0)),
            fire_time: Timestamp::from_millis(0),
            attempt: 1,
            fence: 1,
            params: serde_json::Map::new(),
        };
        RunContext::new(identity, RunHost::standalone(Arc::new(clock.clone())))
    }

    /// Runs a job for at most a second while time goes by for ten; says how it ended and when.
    async fn ended<F, R>(reason: Option<CancelReason>, run: F) -> (String, u64)
    where
        F: Fn(RunContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Output, JobError>> + Send + 'static,
    {
        let clock = TestClock::at(Timestamp::from_millis(0));
        let ctx = context(&clock);
        let job = JobDescriptor::function("j", "", run).build(&Value::Null).unwrap();
        let (given, timer) = (ctx.clone(), clock.clone());
        let attempt = tokio::spawn(async move {
            let end = attempt(&*job, &given, Some(SECOND)).await;
            (format!("{end:?}"), timer.monotonic().as_secs())
        });
        // The context here would hold the clock, as whoever started the run does.
        let told = reason.map(|reason| ctx.cancel_token().cancel(reason));
        drop((ctx, told));
        clock.advance(SECOND * 10).await;
        attempt.await.unwrap()
    }

    #[tokio::test]
    async fn an_attempt_ends_in_the_way_its_job_does() {
        let ok = ended(None, |_| async { Ok(Value::from(1)) }).await;
        assert_eq!(ok, ("Succeeded(Number(1))".into(), 0));
        let failed = ended(None, |_| async { Err(JobError::abort("no")) }).await;
        assert_eq!(failed.0, "Failed(Abort(no))");
        let panicked = ended(None, |_| async { panic!("oh {}", "no") }).await;
        assert_eq!(panicked.0, "Panicked(\"oh no\")");
    }

    #[tokio::test]
    async fn a_limit_is_heard_at_its_time_and_enforced_after_the_time_to_wind_down() {
        let polite = ended(None, |ctx| async move {
            ctx.cancelled().await;
            Ok("late".into())
        });
        assert_eq!(
            polite.await,
            ("TimedOut { limit: 1s, output: String(\"late\") }".into(), 1),
            "a success after the limit is none"
        );
        let deaf = ended(None, |ctx| async move {
            ctx.sleep(SECOND * 100).await;
            Ok(Value::Null)
        });
        assert_eq!(
            deaf.await,
            ("TimedOut { limit: 1s, output: Null }".into(), 6),
            "five seconds to wind down, then it is dropped"
        );
    }

    #[tokio::test]
    async fn a_cancelled_job_that_succeeds_has_succeeded() {
        let reason = Some(CancelReason::Requested);
        let late = ended(reason, |ctx| async move {
            ctx.cancelled().await;
            Ok(Value::Null)
        });
        assert_eq!(late.await.0, "Succeeded(Null)");
        let heeded = ended(reason, |ctx| async move {
            ctx.cancelled().await;
            Err(JobError::retry("stopped half-way").with_output("half".into()))
        });
        assert_eq!(heeded.await.0, "Cancelled { reason: Requested, output: String(\"half\") }");
    }

    #[tokio::test]
    async fn a_panic_when_the_job_is_dropped_ends_only_the_attempt() {
        struct Grenade;
        impl Drop for Grenade {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        let end = ended(None, |ctx| async move {
            let _grenade = Grenade;
            ctx.sleep(SECOND * 100).await;
            Ok(Value::Null)
        });
        assert_eq!(end.await.0, "Panicked(\"in drop\")");
    }
}
