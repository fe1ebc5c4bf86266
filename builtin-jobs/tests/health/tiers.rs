//! The backends of the scheduler itself, all of them or one.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, Drained, Enqueued, Error, Health, Name, Page, Result,
    RunFilter, RunId, RunRequest, Scheduler, Tier, async_trait,
};
use serde_json::json;

use crate::stage::Stage;

/// A backend that is as a test says; without a health it does not answer.
#[derive(Debug)]
struct Bare(&'static str, Tier, Option<Health>);

#[async_trait]
impl Backend for Bare {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(Name::new(self.0).unwrap(), "bare", self.1, &[])
    }

    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }

    async fn enqueue(&self, _: RunRequest) -> Result<Enqueued> {
        Err(Error::unsupported("backend/stopped", "it takes nothing"))
    }

    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page::default())
    }

    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "it has no runs"))
    }

    async fn health(&self) -> Health {
        match &self.2 {
            Some(health) => health.clone(),
            None => std::future::pending().await,
        }
    }

    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[tokio::test]
async fn the_backends_of_the_scheduler_are_looked_at_together_or_one_by_one() {
    let mut stage = Stage::new();
    let tiers = [
        Bare("local", Tier::Local, Some(Health::up())),
        Bare("queue", Tier::Queue, Some(Health::degraded(vec!["slow".to_owned()]))),
        Bare("flow", Tier::Workflow, None),
    ];
    let builder = Scheduler::builder(Arc::new(stage.clock.clone()));
    let builder = tiers.into_iter().fold(builder, |builder, tier| builder.backend(Arc::new(tier)));
    let scheduler = builder.build().unwrap();
    stage.scheduler = scheduler.downgrade();

    for (check, status, part) in [
        (json!({"backend": "local"}), "healthy", "1 up"),
        (json!({"backend": "queue"}), "degraded", "queue is degraded: slow"),
        (json!({"backend": "flow", "timeout": "100ms"}), "failed", "no answer within 100ms"),
        (json!({"timeout": "100ms"}), "failed", "no answer within 100ms"),
        (json!({"backend": "other"}), "failed", "no backend `other`; it has local, queue, flow"),
    ] {
        let mut check = check;
        check["kind"] = json!("backend");
        let (found, message) = stage.look(check.clone()).await;
        assert_eq!(found, status, "{check}: {message}");
        assert!(message.contains(part), "{check}: {message}");
    }
    let (found, message) = stage.look(json!({"kind": "backend", "timeout": "100ms"})).await;
    assert_eq!(found, "failed", "{message}");
}
