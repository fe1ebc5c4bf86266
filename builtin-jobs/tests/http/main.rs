//! The promises of the job `http`, kept with real servers on this machine.

#[cfg(test)]
mod args;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod redirects;
#[cfg(test)]
mod server;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tls;
