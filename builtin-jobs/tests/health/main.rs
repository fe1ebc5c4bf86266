//! The promises of the job `health_check`, kept with real sockets, servers, files, programs and certificates.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod args;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod log;
#[cfg(test)]
mod over_time;
#[cfg(test)]
mod processes;
#[cfg(feature = "redis")]
#[cfg(test)]
mod redis;
#[cfg(feature = "sqlite")]
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tiers;
