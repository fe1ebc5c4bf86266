//! The promises of the job `exec`, kept with real processes.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod args;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod output;
#[cfg(test)]
mod stage;
