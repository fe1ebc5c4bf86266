//! The daemon while its clock lies: steps, corrections, suspends, stalls, and zones that change.
//!
//! Each test is a lie on one tier. It prints what was done to the clock and what was seen of the fires, from outside.
//! `cargo xtask integration clocks` runs them, and brings libfaketime, without which there is no lying.
#![cfg(all(target_os = "linux", feature = "local", feature = "queue-sqlite", feature = "builtin-jobs"))]

#[cfg(test)]
mod daylight;
#[cfg(test)]
mod liar;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod zone_file;
#[cfg(test)]
mod zones;
