//! One look at one target.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use scheduler_core::{Health, HealthStatus, Job, Name, RunContext};
use tokio::net::TcpStream;

use crate::exec::Exec;
use crate::health_standing::Status;
use crate::health_threshold::Thresholds;
use crate::http::Http;
use crate::resolve::{Guarded, Unresolved};
use crate::{health_certificate, health_machine};

/// A target that can be looked at.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) limit: Duration,
    pub(crate) target: Target,
}

/// What is looked at.
#[derive(Debug)]
pub(crate) enum Target {
    Tcp(Place),
    Http(Box<Http>),
    Command(Box<Exec>),
    Disk(PathBuf, Thresholds),
    Memory(Thresholds),
    Load(Thresholds),
    Server(Place, Option<PathBuf>, Thresholds),
    File(PathBuf, Thresholds),
    Backends,
}

/// A host and a port that may be connected to.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) resolver: Guarded,
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
    fn healthy(message: impl Into<String>) -> Self {
        Self { status: Status::Healthy, message: message.into() }
    }

    pub(crate) fn failed(message: String) -> Self {
        Self { status: Status::Failed, message }
    }
}

impl Check {
    /// Looks once, for at most the limit.
    pub(crate) async fn look(&self, ctx: &RunContext) -> Look {
        let began = Instant::now();
        let found = tokio::time::timeout(self.limit, self.target.look(ctx)).await;
        let found = found.unwrap_or_else(|_| Found::failed(format!("no answer within {:?}", self.limit)));
        Look { found, took: began.elapsed() }
    }
}

impl Target {
    async fn look(&self, ctx: &RunContext) -> Found {
        let now = ctx.clock().now();
        match self {
            Self::Tcp(place) => match place.connect().await {
                Ok(_) => Found::healthy("it accepts connections"),
                Err(fault) => Found::failed(fault),
            },
            Self::Http(http) => asked(http, ctx).await,
            Self::Command(exec) => match exec.run(ctx).await {
                Ok(_) => Found::healthy("exit code 0"),
                Err(error) => Found::failed(error.to_string()),
            },
            Self::Disk(path, thresholds) => {
                let (path, thresholds) = (path.clone(), *thresholds);
                blocking(move || health_machine::disk(&path, thresholds)).await
            }
            Self::Memory(thresholds) => health_machine::memory(*thresholds),
            Self::Load(thresholds) => health_machine::load(*thresholds),
            Self::Server(place, ca_file, thresholds) => match place.connect().await {
                Ok(stream) => {
                    let ca_file = ca_file.as_deref();
                    health_certificate::of_server(&place.host, stream, ca_file, *thresholds, now).await
                }
                Err(fault) => Found::failed(fault),
            },
            Self::File(file, thresholds) => {
                let (file, thresholds) = (file.clone(), *thresholds);
                blocking(move || health_certificate::in_file(&file, thresholds, now)).await
            }
            Self::Backends => backends(ctx).await,
        }
    }
}

impl Place {
    pub(crate) async fn connect(&self) -> Result<TcpStream, String> {
        let Self { host, port, resolver } = self;
        let found = match host.parse() {
            Ok(address) => resolver.allowed.judge(address).map(|()| vec![SocketAddr::new(address, 0)]),
            Err(_) => match resolver.addresses(host.clone()).await {
                Ok(addresses) => Ok(addresses),
                Err(Unresolved::Refused(refused)) => Err(refused),
                Err(Unresolved::Unknown(error)) => return Err(format!("`{host}` has no address: {error}")),
            },
        };
        let found = found.map_err(|refused| format!("{refused}; {}", refused.help()))?;
        let addresses: Vec<SocketAddr> =
            found.into_iter().map(|address| SocketAddr::new(address.ip(), *port)).collect();
        TcpStream::connect(addresses.as_slice())
            .await
            .map_err(|error| format!("no connection to {host} at port {port}: {error}"))
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

async fn backends(ctx: &RunContext) -> Found {
    match ctx.scheduler() {
        Ok(scheduler) => told_by(&scheduler.health().await),
        Err(error) => Found::failed(error.to_string()),
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

async fn blocking(look: impl FnOnce() -> Found + Send + 'static) -> Found {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| Found::failed(format!("it could not be looked at: {error}")))
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
