//! The job `health_check`: looks at targets side by side and tells how each stands, and for how long.
//!
//! A run fails while a target stands failed, and succeeds otherwise, degraded or not. It never asks for another
//! attempt: the next run looks again. How targets stand is kept in the state of the task, so it survives a
//! restart, and a status changes when results agree (see `damping`).

use std::time::Duration;

use futures_util::future::join_all;
use scheduler_core::{
    ArgsError, Error, Job, JobDescriptor, JobError, Output, RunContext, Timestamp, async_trait,
};
use serde_json::{Value, json};

use crate::health_args::{self, HealthArgs};
use crate::health_probe::{Check, Look, Target};
use crate::health_standing::{Book, Damping, Standing, Status};
use crate::tls;

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

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

/// How one check stands after a look at it.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    check: &'a Check,
    look: &'a Look,
    standing: &'a Standing,
    now: Timestamp,
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
        conclude(&rows)
    }

    fn check(&self) -> Vec<ArgsError> {
        let found = self.checks.iter().enumerate().flat_map(|(index, check)| {
            let faults = match &check.target {
                Target::Http(http) => http.check(),
                Target::Command(exec) => exec.check(),
                Target::Server(_, Some(ca_file), _) => tls::bad_ca_file(ca_file).into_iter().collect(),
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
    let account = || {
        let ill: Vec<String> = rows.iter().filter(|row| row.is_ill()).map(|row| row.told()).collect();
        format!("{} of {} checks: {}", ill.len(), rows.len(), ill.join("; "))
    };
    match worst {
        Status::Healthy => Ok(output),
        Status::Degraded => {
            tracing::warn!("degraded: {}", account());
            Ok(output)
        }
        Status::Failed => {
            let error = Error::unavailable("health/failed", account());
            Err(JobError::abort(error).with_output(output))
        }
    }
}

impl Row<'_> {
    fn is_ill(self) -> bool {
        self.standing.status != Status::Healthy
    }

    fn lasts(self) -> Duration {
        self.now.since(self.standing.since)
    }

    fn told(self) -> String {
        let (name, status) = (&self.check.name, self.standing.status.as_str());
        // A status that is damped may not be the one that the latest message explains.
        let message = if self.look.found.status == Status::Healthy {
            format!("healthy again by the latest look: {}", self.look.found.message)
        } else {
            self.look.found.message.clone()
        };
        format!("{name} {status} for {} ({message})", words(self.lasts()))
    }

    fn change(self) -> Option<Value> {
        let from = self.standing.changed_from?;
        Some(json!({"name": self.check.name, "from": from, "to": self.standing.status}))
    }

    fn shown(self) -> Value {
        json!({
            "name": self.check.name,
            "kind": self.check.kind,
            "status": self.standing.status,
            "since": self.standing.since,
            "for_seconds": self.lasts().as_secs(),
            "latest": self.look.found.status,
            "message": self.look.found.message,
            "latency_ms": u64::try_from(self.look.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// A length of time in its largest unit.
fn words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_its_largest_unit() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (7_199, "1h"), (86_400, "1d"), (900_000, "10d")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }
}
