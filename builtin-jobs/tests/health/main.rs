//! The promises of the job `health_check`, kept with real sockets, files, programs and certificates.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod args;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod log;
#[cfg(test)]
mod over_time;
#[cfg(test)]
mod stage;
