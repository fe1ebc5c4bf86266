//! The promises of the job `dead_letter_processing`, on a backend in memory whose letters a test places. The command
//! line's tests hold it against the durable tier.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod archive;
#[cfg(test)]
mod args;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod keeper;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod url;
