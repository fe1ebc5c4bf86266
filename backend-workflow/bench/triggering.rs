//! How many runs a second are started, by us and by a program that only makes the calls.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use backend_workflow::{Launch, PrefectEngine, WorkflowEngine, WorkflowId};
use scheduler_core::Timestamp;
use serde_json::{Map, json};
use tokio::task::JoinSet;

use crate::prefect::{Prefect, Result};
use crate::report::{Report, quantile};

/// Callers at once, each of which waits for its answer.
const CALLERS: usize = 4;
/// The server takes about as long for each.
const LIKENESS: f64 = 0.9;

pub(crate) async fn measure(prefect: &Prefect, report: &mut Report) -> Result<()> {
    // Many short rounds: how fast the server is changes by more than a half from one minute to the next.
    let (rounds, runs) = if report.quick { (2, 20) } else { (24, 48) };
    let (_, deployment) = prefect.deployment("triggered").await?;
    let engine = Arc::new(PrefectEngine::new(prefect.settings())?);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let repeated = prefect.repeated();
    // Whoever begins has an emptier database, so they take turns at it; the first round warms both up.
    for round in 0..=rounds {
        let first = round % 2;
        for turn in [first, 1 - first] {
            let mark = format!("{round}-{turn}");
            let rate = if turn == 0 {
                let (engine, deployment) = (Arc::clone(&engine), deployment.clone());
                rate(runs, move |number| {
                    let (engine, launch) = (Arc::clone(&engine), launch(&deployment, &mark, number));
                    async move { Ok(engine.trigger(&launch).await.map(|_| ())?) }
                })
                .await?
            } else {
                let (prefect, deployment) = (prefect.clone(), deployment.clone());
                rate(runs, move |number| {
                    let launch = launch(&deployment, &mark, number);
                    let order = json!({
                        "idempotency_key": launch.key, "name": launch.name, "parameters": {},
                        "tags": launch.tags, "labels": { "of": launch.key },
                        "state": { "type": "SCHEDULED", "state_details": { "scheduled_time": launch.at } },
                    });
                    let (prefect, deployment) = (prefect.clone(), deployment.clone());
                    async move { prefect.start(&deployment, &order).await }
                })
                .await?
            };
            if round > 0 {
                if turn == 0 { &mut ours } else { &mut bare }.push(rate);
            }
        }
    }
    let count = |count: u64| vec![count as f64];
    report.figure("start a run, calls sent again", "ours", "calls", count(engine.repeated_requests()));
    report.figure(
        "start a run, calls sent again",
        "bare calls",
        "calls",
        count(prefect.repeated() - repeated),
    );
    let ratios: Vec<f64> = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    report.figure("start a run, 4 callers", "ours", "runs/s", ours);
    report.figure("start a run, 4 callers", "bare calls", "runs/s", bare);
    report.want_at_least("starting, against bare calls", LIKENESS, quantile(&ratios, 0.5), "times");
    Ok(())
}
/// In an hour, so that nothing becomes of it meanwhile.
fn launch(deployment: &WorkflowId, mark: &str, number: usize) -> Launch {
    let key = format!("{mark}-{number}");
    Launch {
        workflow: deployment.clone(),
        name: key.clone(),
        key,
        parameters: Map::new(),
        at: Some(Timestamp::from(SystemTime::now() + Duration::from_secs(3600))),
        tags: vec!["measured".to_owned()],
    }
}

/// So many starts a second.
async fn rate<F>(runs: usize, start: impl Fn(usize) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let began = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0..runs {
        if under_way.len() == CALLERS
            && let Some(ended) = under_way.join_next().await
        {
            ended??;
        }
        under_way.spawn(start(number));
    }
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }
    Ok(runs as f64 / began.elapsed().as_secs_f64())
}
