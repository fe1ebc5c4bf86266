//! The workflow tier of the hybrid scheduler: an HTTP client of a workflow engine.
//!
//! Runs live in the engine, and so does what is known of them: a run of ours is told by its key and its tags there.
//! The backend starts runs, shows them, follows them and cancels them. Where the engine holds schedules, it keeps those
//! of our tasks as they should be, and writes only what differs.
//!
//! # Guarantees
//!
//! - A run of ours is one run of the engine, however often it is asked for: its id is in the engine's key.
//! - A schedule of ours keeps its id over restarts and edits. What is not ours is never changed.
//! - An engine that does not answer delays nobody else, and is asked again until it does.

mod abilities;
mod address;
mod backend;
mod catch_up;
mod config;
#[cfg(test)]
mod conformance;
mod directory;
mod engine;
mod engine_run;
mod engine_schedule;
mod engine_workflow;
mod follow;
mod followed;
mod hearing;
mod job;
mod judge;
mod keep;
mod kind;
mod launch;
mod leftovers;
mod link;
mod listing;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod memory_hand;
#[cfg(test)]
mod memory_world;
mod misfires;
mod names;
mod pauses;
mod plan;
mod prefect;
mod prefect_answer;
mod prefect_breaker;
mod prefect_cancel;
mod prefect_clock_changes;
mod prefect_cron;
mod prefect_cron_field;
mod prefect_csrf;
mod prefect_deployment;
mod prefect_events;
mod prefect_exchange;
mod prefect_http;
mod prefect_links;
mod prefect_logs;
mod prefect_look;
mod prefect_parameters;
mod prefect_runs;
mod prefect_schedules;
mod prefect_socket;
mod prefect_state;
mod prefect_verdict;
mod prefect_watch;
mod prefect_wire;
mod prefect_workflows;
#[cfg(test)]
mod schedules_test;
mod session;
mod shown;
mod target;
#[cfg(test)]
mod tier_test;

pub use backend::WorkflowBackend;
pub use config::{EngineKind, WorkflowConfig};
pub use engine::{
    CancelOutcome, Capabilities, EngineInfo, EngineLogLine, EngineRun, EngineRunFilter, EngineRunId,
    EngineRuns, EngineSchedule, Hosted, Hosting, Launch, Launched, Phase, Rendered, ScheduleSpec, Told,
    Workflow, WorkflowEngine, WorkflowId, WorkflowName,
};
pub use job::job;
pub use kind::{engine, kind};
pub use prefect::{Auth, PrefectEngine, PrefectSettings};
