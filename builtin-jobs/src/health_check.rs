//! The job `health_check`: looks at targets side by side and tells how each stands, and for how long.
//!
//! A run fails while a target stands failed, and succeeds otherwise, degraded or not. It never asks for another
//! attempt: the next run looks again. How targets stand is kept in the state of the task, so it survives a
//! restart, and a status changes when results agree (see `damping`).

use futures_util::future::join_all;
use scheduler_core::{
    ArgsError, Error, Job, JobDescriptor, JobError, Output, RunContext, Timestamp, async_trait,
};
use serde_json::{Value, json};

use crate::health_args::{self, HealthArgs};
use crate::health_probe::{Check, Look, Target};
use crate::health_row::Row;
use crate::health_standing::{Book, Damping, Status};
use crate::{health_metrics, tls};

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

/// How many targets the message of a run names.
const MOST_TOLD: usize = 20;

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(HealthArgs).to_value();
    let summary = "looks whether services, certificates and this machine are well";
    JobDescriptor::typed("health_check", summary, HealthCheck::new).with_schema(schema).with_own_limit()
}

/// Targets that can be looked at.
#[derive(Debug)]
struct HealthCheck {
    checks: Vec<Check>,
    damping: Damping,
}

impl HealthCheck {
    fn new(args: HealthArgs) -> Result<Self, Vec<ArgsError>> {
        let damping = args.damping;
        Ok(Self { checks: args.read()?, damping })
    }

    async fn remember(&self, ctx: &RunContext, looks: &[Look], now: Timestamp) -> Result<Book, JobError> {
        let looked = self.checks.iter().zip(looks);
        let results: Vec<(&str, Status)> =
            looked.map(|(check, look)| (check.name.as_str(), look.found.status)).collect();
        // Read as any value: a book that cannot be read is begun anew.
        let after = |present: Option<Value>| {
            let book = Book::after(present.as_ref(), &results, self.damping, now);
            serde_json::to_value(book).expect("a book can be written as JSON")
        };
        Ok(serde_json::from_value(ctx.state().update(after).await?)?)
    }

    /// What is known when the state cannot be kept: the looks alone.
    fn forgotten(&self, looks: &[Look]) -> Output {
        let looked = self.checks.iter().zip(looks).map(|(check, look)| {
            json!({"name": check.name, "latest": look.found.status, "message": look.found.message})
        });
        json!({"schema_version": SCHEMA_VERSION, "checks": looked.collect::<Vec<_>>()})
    }
}

#[async_trait]
impl Job for HealthCheck {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let looking = join_all(self.checks.iter().map(|check| check.look(ctx)));
        let looks = ctx
            .unless_cancelled(looking)
            .await
            .map_err(|reason| JobError::retry(format!("ended by the scheduler: {}", reason.as_str())))?;
        let now = ctx.clock().now();
        let remembered = self.remember(ctx, &looks, now).await;
        let book = remembered.map_err(|error| error.with_output(self.forgotten(&looks)))?;
        let rows: Vec<Row> = self
            .checks
            .iter()
            .zip(&looks)
            .filter_map(|(check, look)| {
                let standing = book.checks.get(&check.name)?;
                Some(Row { check, look, standing, now })
            })
            .collect();
        for row in &rows {
            row.log();
            health_metrics::tell(ctx.task().as_str(), &row.check.name, row.standing.status, row.look.took);
        }
        conclude(&rows)
    }

    fn check(&self) -> Vec<ArgsError> {
        let found = self.checks.iter().enumerate().flat_map(|(index, check)| {
            let faults = match &check.target {
                Target::Http(http) => http.check(),
                Target::Command(exec) => exec.check(),
                Target::Server(_, Some(ca_file), _) => tls::bad_ca_file(ca_file).into_iter().collect(),
                #[cfg(feature = "redis")]
                Target::Redis(redis) => redis.url.missing("/url".to_owned()).into_iter().collect(),
                // Whatever else is missing is what the check is there to tell.
                _ => Vec::new(),
            };
            faults.into_iter().map(move |fault| health_args::below(index, fault))
        });
        found.collect()
    }
}

fn conclude(rows: &[Row<'_>]) -> Result<Output, JobError> {
    let worst = rows.iter().map(|row| row.standing.status).max().unwrap_or(Status::Healthy);
    let changes: Vec<Value> = rows.iter().filter_map(|row| row.change()).collect();
    let output = json!({
        "schema_version": SCHEMA_VERSION,
        "status": worst,
        "changes": changes,
        "checks": rows.iter().map(|row| row.shown()).collect::<Vec<_>>(),
    });
    if worst != Status::Failed {
        return Ok(output);
    }
    let mut ill: Vec<&Row> = rows.iter().filter(|row| row.is_ill()).collect();
    // What made the run fail is told first.
    ill.sort_by_key(|row| std::cmp::Reverse(row.standing.status));
    let mut told: Vec<String> = ill.iter().take(MOST_TOLD).map(|row| row.told()).collect();
    if ill.len() > MOST_TOLD {
        told.push(format!("and {} more", ill.len() - MOST_TOLD));
    }
    let account = format!("{} of {} checks: {}", ill.len(), rows.len(), told.join("; "));
    Err(JobError::abort(Error::unavailable("health/failed", account)).with_output(output))
}
