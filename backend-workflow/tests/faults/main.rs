//! The client of Prefect against a server that misbehaves on demand: what reaches the caller, how often the server
//! is asked, and that a fire starts at most one run however the answer is lost.

#[cfg(test)]
mod credentials;
#[cfg(test)]
mod events;
#[cfg(test)]
mod looks;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod server;
