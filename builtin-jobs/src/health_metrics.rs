//! The figures of a health check for whoever records metrics: two of each target.

use std::time::Duration;

use crate::health_standing::Status;

/// Tells how a target of a task stands, and how long the latest look at it took.
pub(crate) fn tell(task: &str, target: &str, status: Status, took: Duration) {
    let labels = [("task", task.to_owned()), ("target", target.to_owned())];
    let number = match status {
        Status::Healthy => 0.0,
        Status::Degraded => 1.0,
        Status::Failed => 2.0,
    };
    metrics::gauge!("scheduler_health_status", &labels).set(number);
    metrics::gauge!("scheduler_health_latency_seconds", &labels).set(took.as_secs_f64());
}
