//! Jobs that ship with the hybrid scheduler.
//!
//! Nothing registers itself: whoever wants these jobs takes [`all`]. A job is one file that is named like it,
//! and what several files share is named by a word: the [process group](exec), the marks, the capture.
//!
//! ```
//! let jobs = builtin_jobs::all();
//! let exec = jobs.iter().find(|job| *job.name() == "exec").unwrap();
//!
//! let args = serde_json::json!({"program": "/bin/echo", "args": ["$HOME; stays as it is"]});
//! assert!(exec.build(&args).unwrap().check().is_empty());
//! ```
//!
//! # Guarantees
//!
//! - Args are read into types when a task is checked; a fault names its place and what to do.
//! - A value of a secret appears in no message and no args; what a program prints is its own affair.
//! - Whatever a job starts ends with its run, as far as the operating system can tell that it belongs to it.

mod address;
mod cache_args;
pub mod cache_cleanup;
mod cache_cutoff;
mod cache_directory;
mod cache_history;
mod cache_kind;
mod cache_pass;
mod cache_purge;
#[cfg(feature = "redis")]
mod cache_redis;
mod cache_root;
mod cache_sweep;
#[cfg(feature = "sqlite")]
mod cache_table;
mod cache_unit;
mod cache_walk;
mod capture;
mod certificate;
mod dead_letter_archive;
mod dead_letter_args;
mod dead_letter_book;
mod dead_letter_file;
mod dead_letter_pattern;
pub mod dead_letter_processing;
mod dead_letter_report;
mod dead_letter_rule;
mod dead_letter_rule_args;
mod dead_letter_survey;
mod dry_run;
mod duration;
mod environment;
pub mod exec;
mod exit_code;
pub mod git_poll;
mod git_poll_args;
mod git_poll_book;
mod git_poll_change;
mod git_poll_refs;
mod git_poll_remote;
mod git_poll_tally;
mod git_poll_url;
mod health_args;
mod health_certificate;
pub mod health_check;
mod health_check_args;
mod health_check_faults;
mod health_kind;
mod health_machine;
mod health_metrics;
mod health_probe;
mod health_process;
#[cfg(feature = "redis")]
mod health_redis;
mod health_row;
#[cfg(feature = "sqlite")]
mod health_sqlite;
mod health_standing;
mod health_threshold;
pub mod http;
mod http_answer;
mod http_args;
mod http_body;
mod http_fault;
mod http_redirect;
mod http_request;
mod http_secrets;
mod http_status;
mod http_target;
#[cfg(target_os = "linux")]
mod marks;
#[cfg(not(target_os = "linux"))]
#[path = "marks_off.rs"]
mod marks;
mod metrics_args;
pub mod metrics_collection;
mod metrics_disks;
mod metrics_export;
mod metrics_sample;
mod metrics_scheduler;
#[cfg(feature = "sqlite")]
pub mod metrics_series;
#[cfg(feature = "sqlite")]
mod metrics_series_read;
#[cfg(feature = "sqlite")]
mod metrics_series_write;
mod metrics_source;
mod metrics_source_args;
mod metrics_system;
mod metrics_text;
mod network;
mod params;
mod place;
mod pointer;
mod process;
mod program;
#[cfg(feature = "redis")]
mod redis_server;
mod resolve;
mod secret_args;
mod secret_beside;
mod secret_command;
mod secret_due;
mod secret_env_file;
mod secret_file;
mod secret_jwt;
mod secret_kind;
mod secret_ledger;
mod secret_rotation;
mod secret_rotation_args;
pub mod secret_rotation_check;
mod secret_row;
mod secret_source;
mod secret_trail;
mod text_or_secret;
mod tls;
mod wildcard;

use scheduler_core::JobDescriptor;

/// Every job of this crate.
pub fn all() -> Vec<JobDescriptor> {
    vec![
        cache_cleanup::descriptor(),
        dead_letter_processing::descriptor(),
        exec::descriptor(),
        git_poll::descriptor(),
        health_check::descriptor(),
        http::descriptor(),
        metrics_collection::descriptor(),
        secret_rotation_check::descriptor(),
    ]
}
