//! The promises of the job `cache_cleanup`, kept with real folders and servers.
#![cfg(target_os = "linux")]

#[cfg(test)]
#[path = "../shared/answering.rs"]
mod answering;
#[cfg(test)]
mod args;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod history;
#[cfg(feature = "redis")]
#[cfg(test)]
mod keys;
#[cfg(test)]
mod own;
#[cfg(test)]
mod purge;
#[cfg(test)]
mod stage;
#[cfg(feature = "sqlite")]
#[cfg(test)]
mod table;
