//! The client of Prefect on a real server with a real worker; what became of things is read from Prefect itself.
//!
//! `cargo xtask integration workflow` brings both and runs these tests; without them they are passed over.

#[cfg(test)]
mod demo;
#[cfg(test)]
mod events;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod hosting;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the command line use all of it")]
mod records;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod watch;
