//! Drives the binary as a person or a script does.
#![cfg(all(unix, feature = "local", feature = "builtin-jobs"))]

#[cfg(test)]
mod answers;
#[cfg(test)]
mod bad_file;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod configured;
#[cfg(test)]
mod daemon;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod drain;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod durable;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod enqueue;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod first_minutes;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod git_polled;
#[cfg(all(feature = "queue-redis", feature = "queue-sqlite"))]
#[cfg(test)]
mod history_cleaned;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod housekeeping;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod letters;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod letters_processed;
#[cfg(all(feature = "queue-sqlite", feature = "queue-redis", target_os = "linux"))]
#[cfg(test)]
mod maintenance;
#[cfg(all(feature = "queue-sqlite", target_os = "linux"))]
#[cfg(test)]
mod metrics;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod outside;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod plan;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod queues;
#[cfg(test)]
mod quickstart;
#[cfg(test)]
mod reasons;
#[cfg(all(feature = "queue-sqlite", feature = "queue-redis"))]
#[cfg(test)]
mod redis;
#[cfg(test)]
mod schema;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod secrets_rotated;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod timetable;
#[cfg(feature = "queue-sqlite")]
#[cfg(test)]
mod unique;
#[cfg(feature = "workflow-prefect")]
#[cfg(test)]
mod workflow;
