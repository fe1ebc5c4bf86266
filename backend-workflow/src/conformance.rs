//! The promises of every backend, as far as they are this tier's to keep.
//!
//! The kit's jobs run in this process, so the engine in memory is given workers that run them here, as a worker of a
//! real engine runs `scheduler exec`. What is the engine's own business (how often a run is tried, what it returns,
//! what becomes of it when we stop) is not asked.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use scheduler_core::conformance::{Kept, PROMISES, Subject, Time};
use scheduler_core::{
    AttemptEnd, Backend, BackendContext, BackendInfo, CancelReason, Cancelled, Drained, Enqueued, Health,
    Page, Result, RunContext, RunFilter, RunId, RunIdentity, RunRequest, Tier, Timestamp, async_trait,
    attempt,
};

use crate::engine::{EngineRunId, Phase};
use crate::memory::Memory;
use crate::names::Names;
use crate::tier_test::name;
use crate::{WorkflowBackend, WorkflowConfig};

const GLANCE: Duration = Duration::from_millis(5);

/// An engine whose workers run the tasks of whoever used it last.
#[derive(Clone, Debug)]
struct Workers {
    engine: Memory,
    ctx: Arc<Mutex<Option<BackendContext>>>,
    begun: Arc<OnceLock<()>>,
}

impl Workers {
    fn serve(&self, ctx: BackendContext) {
        *self.ctx.lock().unwrap() = Some(ctx);
        if self.begun.set(()).is_ok() {
            tokio::spawn(self.clone().work());
        }
    }

    async fn work(self) {
        loop {
            for id in self.engine.due() {
                tokio::spawn(self.clone().run(id));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn run(self, id: EngineRunId) {
        let run = self.engine.find(&id);
        let ctx = self.ctx.lock().unwrap().clone().unwrap();
        let identity = Names { namespace: ctx.namespace.clone() }.launched(&run).unwrap();
        let placed = ctx.tasks.find(&identity.task).unwrap();
        let identity = RunIdentity {
            namespace: ctx.namespace.clone(),
            task: identity.task,
            tier: Tier::Workflow,
            backend: name("workflow"),
            run_id: identity.run_id,
            fire_time: identity.fire_time,
            attempt: run.attempts,
            fence: u64::from(run.attempts),
            params: identity.params,
        };
        let context = RunContext::new(identity, ctx.run_host());
        let ended = {
            let trying = attempt(&*placed.job, &context, placed.task.timeout);
            tokio::pin!(trying);
            loop {
                tokio::select! {
                    ended = &mut trying => break ended,
                    () = tokio::time::sleep(GLANCE) => {}
                }
                if self.engine.find(&id).phase == Phase::Cancelling {
                    context.cancel(CancelReason::Requested);
                }
            }
        };
        let (phase, message) = match ended {
            AttemptEnd::Succeeded(_) => (Phase::Succeeded, None),
            AttemptEnd::Cancelled { reason, .. } => (Phase::Cancelled, Some(reason.as_str().to_owned())),
            AttemptEnd::Failed(error) => (Phase::Failed, Some(error.to_string())),
            AttemptEnd::TimedOut { limit, .. } => (Phase::Failed, Some(format!("timed out after {limit:?}"))),
            AttemptEnd::Panicked(message) => (Phase::Failed, Some(format!("panicked: {message}"))),
        };
        self.engine.change(&id, |run| {
            (run.phase, run.raw_state, run.message) = (phase, format!("{phase:?}"), message);
            run.ended = Some(Timestamp::from(std::time::SystemTime::now()));
        });
    }
}

/// The tier with workers beside it.
#[derive(Debug)]
struct Manned {
    workers: Workers,
    tier: WorkflowBackend,
}

#[async_trait]
impl Backend for Manned {
    fn info(&self) -> BackendInfo {
        self.tier.info()
    }

    async fn start(&self, ctx: BackendContext) -> Result<()> {
        self.workers.serve(ctx.clone());
        self.tier.start(ctx).await
    }

    async fn connect(&self, ctx: BackendContext) -> Result<()> {
        self.tier.connect(ctx).await
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        self.tier.enqueue(request).await
    }

    async fn enqueue_all(&self, requests: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        self.tier.enqueue_all(requests).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        self.tier.runs(filter).await
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        self.tier.cancel(run).await
    }

    async fn health(&self) -> Health {
        self.tier.health().await
    }

    async fn stop(&self, grace: Duration) -> Result<Drained> {
        self.tier.stop(grace).await
    }

    async fn abort(&self) -> Result<Drained> {
        self.tier.abort().await
    }
}

struct OnWorkers(Workers);

impl OnWorkers {
    fn new() -> Self {
        Self(Workers { engine: Memory::that_hosts(), ctx: Arc::default(), begun: Arc::default() })
    }
}

#[async_trait]
impl Subject for OnWorkers {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let config = WorkflowConfig { poll: GLANCE * 2, idle_poll: GLANCE * 4, ..WorkflowConfig::default() };
        let tier = WorkflowBackend::new(name("workflow"), config, Arc::new(self.0.engine.clone()));
        Ok(Arc::new(Manned { workers: self.0.clone(), tier }))
    }

    fn time(&self) -> Time {
        Time::Own { unit: Duration::from_millis(100) }
    }
}

/// Why a promise is not asked of the tier, and which.
const THE_ENGINES: &[(&str, &[&str])] = &[
    (
        "the engine tries a run again by the settings of its workflow; `retry` covers our call",
        &[
            "attempts_are_counted_from_one_to_the_maximum",
            "a_failed_run_waits_before_it_is_tried_again",
            "a_snooze_spends_no_attempt",
            "fences_rise_over_attempts_runs_and_restarts",
            "a_run_between_attempts_can_be_cancelled",
            "every_attempt_and_every_end_is_told_once",
            "a_run_cut_off_by_a_crash_runs_again_as_its_next_attempt",
        ],
    ),
    ("Prefect does not hand out what a run returned", &["the_output_of_a_job_is_kept_unchanged"]),
    (
        "runs go on in the engine when we stop: nothing ends, is cut off or is given back",
        &[
            "a_stop_lets_runs_end_within_the_grace",
            "a_stop_names_what_it_cut_off",
            "a_stop_gives_back_what_did_not_begin",
            "after_a_stop_nothing_runs",
            "an_abort_waits_for_nothing",
            "an_abort_cuts_a_stop_short",
        ],
    ),
];

#[test]
fn every_promise_is_kept_that_is_this_tiers_to_keep() {
    let broken: Vec<String> = PROMISES
        .iter()
        .filter(|promise| THE_ENGINES.iter().all(|(_, names)| !names.contains(&promise.name)))
        .map(|promise| promise.prove(OnWorkers::new()))
        .filter(|finding| finding.result == Kept::Broken)
        .map(|finding| format!("{}: {}", finding.name, finding.message))
        .collect();

    assert!(broken.is_empty(), "{broken:#?}");
}
