//! The promises of the job `git_poll`, kept with real repositories, servers and the git of this machine.
#![cfg(target_os = "linux")]

#[cfg(test)]
#[path = "../shared/answering.rs"]
mod answering;
#[cfg(test)]
mod args;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod stage;
