//! The durable tier of the hybrid scheduler: a queue that outlives the process.
//!
//! Runs are kept in a store, by default in an embedded SQLite file, or on a Redis server. A run is delivered to a worker under a
//! lease and with a fencing token; a worker that dies loses its lease, and the run is delivered again.
//!
//! # Guarantees
//!
//! - A run that was accepted is executed at least once, until it succeeds or has no attempt left.
//! - An attempt counts when it is delivered, so a job that kills its worker does not live for ever. A snooze and
//!   a drain hand the attempt back.
//! - The end of a delivery counts only while no later one exists.
//! - No fault of the store ends the process: what was to be written is written when it answers again.

#![cfg_attr(
    not(any(feature = "sqlite", feature = "redis")),
    expect(dead_code, reason = "without a store there is nothing to drive")
)]

mod abilities;
mod adopt;
mod adopt_loop;
#[cfg(feature = "redis")]
mod adopt_redis;
mod adopt_task;
#[cfg(test)]
#[cfg(feature = "redis")]
mod adopt_test;
mod ahead;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod ahead_test;
mod apalis;
mod backend;
#[cfg(feature = "board")]
mod board;
#[cfg(feature = "board")]
mod board_pages;
#[cfg(test)]
#[cfg(all(feature = "board", any(feature = "sqlite", feature = "redis")))]
mod board_test;
mod config;
#[cfg(test)]
mod conformance;
mod deliveries;
mod drain;
mod driver;
mod envelope;
mod flight;
mod forgetting;
mod layers;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod layers_test;
mod leases;
#[cfg(test)]
mod leases_test;
mod limits;
#[cfg(test)]
mod limits_test;
#[cfg(test)]
mod load_test;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_call;
#[cfg(test)]
mod model_queue;
#[cfg(test)]
mod model_run;
#[cfg(test)]
mod model_test;
mod pauses;
mod progress;
#[cfg(test)]
mod progress_test;
mod queues;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis_bounds_test;
#[cfg(feature = "redis")]
mod redis_error;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis_fault_test;
#[cfg(feature = "redis")]
mod redis_fresh;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis_fresh_test;
#[cfg(feature = "redis")]
mod redis_letters;
#[cfg(feature = "redis")]
mod redis_link;
#[cfg(feature = "redis")]
mod redis_misuse;
#[cfg(feature = "redis")]
mod redis_open;
#[cfg(feature = "redis")]
mod redis_page;
#[cfg(feature = "redis")]
mod redis_push;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis_push_test;
#[cfg(feature = "redis")]
mod redis_queue;
#[cfg(feature = "redis")]
mod redis_recall;
#[cfg(feature = "redis")]
mod redis_retention;
#[cfg(feature = "redis")]
mod redis_row;
#[cfg(feature = "redis")]
mod redis_schedule;
#[cfg(feature = "redis")]
mod redis_script;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis_stage;
#[cfg(feature = "redis")]
mod redis_step;
#[cfg(feature = "redis")]
mod redis_store;
#[cfg(test)]
#[cfg(feature = "redis")]
mod redis_test;
#[cfg(feature = "redis")]
mod redis_unique;
#[cfg(feature = "redis")]
mod redis_wake;
#[cfg(feature = "redis")]
mod redis_wire;
mod requests;
#[cfg(test)]
mod retry_test;
mod shares;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod simulation_daemon;
#[cfg(test)]
mod simulation_failpoint;
#[cfg(test)]
mod simulation_store;
#[cfg(test)]
mod simulation_world;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_acks;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_backend_test;
#[cfg(feature = "sqlite")]
mod sqlite_change;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_change_test;
#[cfg(feature = "sqlite")]
mod sqlite_clock;
#[cfg(feature = "sqlite")]
mod sqlite_delivery;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_disk_test;
#[cfg(feature = "sqlite")]
mod sqlite_end;
#[cfg(feature = "sqlite")]
mod sqlite_error;
#[cfg(feature = "sqlite")]
mod sqlite_history;
#[cfg(feature = "sqlite")]
mod sqlite_letters;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_letters_test;
#[cfg(feature = "sqlite")]
mod sqlite_limits;
#[cfg(feature = "sqlite")]
mod sqlite_load;
#[cfg(feature = "sqlite")]
mod sqlite_offers;
#[cfg(feature = "sqlite")]
mod sqlite_pace;
#[cfg(feature = "sqlite")]
mod sqlite_place;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_poison_test;
#[cfg(feature = "sqlite")]
mod sqlite_push;
#[cfg(feature = "sqlite")]
mod sqlite_queue;
#[cfg(feature = "sqlite")]
mod sqlite_reading;
#[cfg(feature = "sqlite")]
mod sqlite_ready;
#[cfg(feature = "sqlite")]
mod sqlite_retention;
#[cfg(feature = "sqlite")]
mod sqlite_room;
#[cfg(feature = "sqlite")]
mod sqlite_row;
#[cfg(feature = "sqlite")]
mod sqlite_schedule;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_schedule_test;
#[cfg(feature = "sqlite")]
mod sqlite_schema;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_test;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite_together_test;
#[cfg(feature = "sqlite")]
mod sqlite_unique;
mod steadiness;
mod store;
mod threads;
mod timetable;
#[cfg(test)]
mod trouble_test;
mod unique;
#[cfg(test)]
mod unique_test;
mod work;

pub use adopt::AdoptSettings;
pub use backend::{QueueBackend, kind, kind_with};
#[cfg(feature = "board")]
pub use board::{AsJson, Board};
pub use config::{QueueConfig, QueueSettings, Synchronous};
pub use layers::{Attempt, AttemptFailure, AttemptService, BoxError};
pub use limits::{PerKey, Rate};
