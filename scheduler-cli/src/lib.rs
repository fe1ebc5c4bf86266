//! The command line of the hybrid scheduler, as a library.
//!
//! [`App`] composes a binary from jobs and kinds of backends; the binary `scheduler` is one with everything
//! that is compiled in. The other public modules are the configuration layer: files, environment and flags
//! laid over one another, and faults that know their place.
//!
//! # Guarantees
//! - A configuration with a fault starts nothing, and all its faults are told at once.
//! - A result goes to stdout and everything else to stderr; JSON carries its version, also on failure.

mod absent;
mod adhoc_jobs;
mod app;
mod args_fault;
mod asked;
mod asker;
mod assignment;
mod checked;
mod command_line;
mod data_dir;
mod defaults;
pub mod diagnostic;
mod dlq_list;
mod dlq_replay;
mod dlq_settle;
mod drain_wish;
mod echo;
mod enqueue_lines;
mod exit;
mod exposed;
mod failure;
pub mod fields;
pub mod from_value;
mod include;
mod job_section;
pub mod layers;
mod log;
mod log_line;
mod members;
#[cfg(all(feature = "builtin-jobs", feature = "queue-sqlite"))]
mod metrics_text;
pub mod origin;
mod orphans;
mod output;
mod outside;
mod overrides;
mod pointer;
mod reasoning;
mod redact;
mod relative;
mod schedule;
mod schema;
mod schema_task;
mod session;
mod settings;
mod signals;
pub mod source;
mod starter;
mod suggest;
mod table;
mod tally;
mod task_entry;
mod task_trigger;
mod toml_file;
mod verb_backends;
mod verb_cancel;
mod verb_check;
mod verb_classify;
mod verb_completions;
mod verb_config;
mod verb_dlq;
mod verb_drain;
mod verb_enqueue;
mod verb_exec;
mod verb_explain;
mod verb_history;
mod verb_init;
mod verb_jobs;
mod verb_list;
mod verb_logs;
#[cfg(all(feature = "builtin-jobs", feature = "queue-sqlite"))]
mod verb_metrics;
mod verb_next;
mod verb_plan;
mod verb_queues;
mod verb_run;
mod verb_show;
mod verb_trigger;
mod verb_version;
#[cfg(feature = "workflow-prefect")]
mod verb_workflow;
mod yaml_file;

pub use app::App;
pub use scheduler_core;
