//! One look at one target.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler_core::{Health, HealthStatus, Job, Name, RunContext};

use crate::exec::Exec;
use crate::health_process::Processes;
use crate::health_standing::Status;
use crate::health_threshold::Thresholds;
use crate::http::Http;
use crate::place::Place;
use crate::{health_certificate, health_machine};

/// How many looks of one check may hang in calls of the operating system, which nothing can end: a disk that is
/// gone keeps them for ever.
const MOST_HANGING: usize = 4;

/// A target that can be looked at.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    limit: Duration,
    pub(crate) target: Target,
    /// Shared with every look that is under way in a call of the operating system.
    hanging: Arc<()>,
}

/// What is looked at.
#[derive(Debug)]
pub(crate) enum Target {
    Tcp(Place),
    Http(Box<Http>),
    Command(Box<Exec>),
    Process(Processes),
    Disk(PathBuf, Thresholds),
    Memory(Thresholds),
    Load(Thresholds),
    Server(Place, Option<PathBuf>, Thresholds),
    File(PathBuf, Thresholds),
    #[cfg(feature = "redis")]
    Redis(Box<crate::health_redis::Redis>),
    /// A file, and whether all of it is read.
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf, bool),
    /// One backend, or all.
    Backend(Option<Name>),
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) status: Status,
    pub(crate) message: String,
}

/// What was found, and how long it took.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) found: Found,
    pub(crate) took: Duration,
}

impl Found {
    pub(crate) fn healthy(message: impl Into<String>) -> Self {
        Self { status: Status::Healthy, message: message.into() }
    }

    pub(crate) fn failed(message: String) -> Self {
        Self { status: Status::Failed, message }
    }

    /// Both, and the worse decides.
    #[cfg(feature = "redis")]
    pub(crate) fn and(self, other: &Self) -> Self {
        let message = format!("{}, {}", self.message, other.message);
        Self { status: self.status.max(other.status), message }
    }
}

impl Check {
    pub(crate) fn new(name: String, kind: &'static str, limit: Duration, target: Target) -> Self {
        Self { name, kind, limit, target, hanging: Arc::default() }
    }

    /// Looks once, for at most the limit.
    pub(crate) async fn look(&self, ctx: &RunContext) -> Look {
        let began = Instant::now();
        let found = tokio::time::timeout(self.limit, self.found(ctx)).await;
        let found = found.unwrap_or_else(|_| Found::failed(format!("no answer within {:?}", self.limit)));
        Look { found, took: began.elapsed() }
    }

    async fn found(&self, ctx: &RunContext) -> Found {
        let now = ctx.clock().now();
        match &self.target {
            Target::Tcp(place) => match place.connect().await {
                Ok(_) => Found::healthy("it accepts connections"),
                Err(fault) => Found::failed(fault),
            },
            Target::Http(http) => asked(http, ctx).await,
            Target::Command(exec) => match exec.run(ctx).await {
                Ok(_) => Found::healthy("exit code 0"),
                Err(error) => Found::failed(error.to_string()),
            },
            Target::Process(processes) => {
                let processes = processes.clone();
                self.blocking(move || processes.look()).await
            }
            Target::Disk(path, thresholds) => {
                let (path, thresholds) = (path.clone(), *thresholds);
                self.blocking(move || health_machine::disk(&path, thresholds)).await
            }
            Target::Memory(thresholds) => health_machine::memory(*thresholds),
            Target::Load(thresholds) => health_machine::load(*thresholds),
            Target::Server(place, ca_file, thresholds) => match place.connect().await {
                Ok(stream) => {
                    let ca_file = ca_file.as_deref();
                    health_certificate::of_server(&place.host, stream, ca_file, *thresholds, now).await
                }
                Err(fault) => Found::failed(fault),
            },
            Target::File(file, thresholds) => {
                let (file, thresholds) = (file.clone(), *thresholds);
                self.blocking(move || health_certificate::in_file(&file, thresholds, now)).await
            }
            #[cfg(feature = "redis")]
            Target::Redis(redis) => redis.look().await,
            #[cfg(feature = "sqlite")]
            Target::Sqlite(path, is_thorough) => {
                let file = path.clone();
                let there = self.blocking(move || crate::health_sqlite::is_there(&file)).await;
                if there.status == Status::Failed {
                    return there;
                }
                crate::health_sqlite::look(path, *is_thorough, self.limit).await
            }
            Target::Backend(name) => backends(ctx, name.as_ref()).await,
        }
    }

    /// Looks in a way that nothing can end.
    async fn blocking(&self, look: impl FnOnce() -> Found + Send + 'static) -> Found {
        let hanging = Arc::clone(&self.hanging);
        // The check has one, and so has this look.
        if Arc::strong_count(&hanging) >= MOST_HANGING + 2 {
            return Found::failed("looks from before still hang".to_owned());
        }
        let looked = tokio::task::spawn_blocking(move || {
            let found = look();
            drop(hanging);
            found
        });
        looked.await.unwrap_or_else(|error| Found::failed(format!("it could not be looked at: {error}")))
    }
}

async fn asked(http: &Http, ctx: &RunContext) -> Found {
    match http.exchange(ctx).await {
        Ok(answer) => match http.fault_in(&answer) {
            None => Found::healthy(format!("answered {}", answer.status)),
            Some(fault) => Found::failed(fault.to_string()),
        },
        Err(error) => Found::failed(error.to_string()),
    }
}

async fn backends(ctx: &RunContext, name: Option<&Name>) -> Found {
    let scheduler = match ctx.scheduler() {
        Ok(scheduler) => scheduler,
        Err(error) => return Found::failed(error.to_string()),
    };
    let Some(name) = name else { return told_by(&scheduler.health().await) };
    match scheduler.health_of(name).await {
        Some(health) => told_by(&[(name.clone(), health)]),
        None => {
            let names: Vec<String> =
                scheduler.backends().iter().map(|backend| backend.info().name.to_string()).collect();
            Found::failed(format!("this scheduler has no backend `{name}`; it has {}", names.join(", ")))
        }
    }
}

/// The worst of the backends decides.
fn told_by(backends: &[(Name, Health)]) -> Found {
    let mut worst = Status::Healthy;
    let mut findings = Vec::new();
    for (name, health) in backends {
        let status = match health.status {
            HealthStatus::Up => Status::Healthy,
            HealthStatus::Degraded => Status::Degraded,
            HealthStatus::Down => Status::Failed,
        };
        worst = worst.max(status);
        if status != Status::Healthy {
            findings.push(format!("{name} is {}: {}", health.status, health.findings.join(", ")));
        }
    }
    let message = if findings.is_empty() { format!("{} up", backends.len()) } else { findings.join("; ") };
    Found { status: worst, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_backend_decides() {
        let backend = |name: &str, health| (Name::new(name).unwrap(), health);
        let up = backend("local", Health::up());
        let slow = backend("queue", Health::degraded(vec!["slow".to_owned()]));
        let down = backend("flow", Health::down("no answer"));
        let cases = [
            (vec![up.clone()], Status::Healthy, "1 up"),
            (vec![up.clone(), slow.clone()], Status::Degraded, "queue is degraded: slow"),
            (vec![down, up, slow], Status::Failed, "flow is down: no answer; queue is degraded: slow"),
        ];
        for (backends, status, message) in cases {
            assert_eq!(told_by(&backends), Found { status, message: message.to_owned() });
        }
    }
}
