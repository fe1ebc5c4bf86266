//! The promises of the job `metrics_collection`, kept with real servers, programs, schedulers and files.
#![cfg(all(target_os = "linux", feature = "sqlite"))]

#[cfg(test)]
mod args;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod export;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod stage;
