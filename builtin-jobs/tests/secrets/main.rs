//! The promises of the job `secret_rotation_check`, kept with real files, programs, certificates and a TLS server.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod args;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod due;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod stage;
