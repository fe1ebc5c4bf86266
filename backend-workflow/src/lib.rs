//! The workflow tier of the hybrid scheduler: an HTTP client of a workflow engine.
//!
//! This version of the crate holds the seam for engines, [`WorkflowEngine`]; it registers no backend yet, and a
//! configuration that names the tier is refused.

mod engine;
mod prefect;
mod prefect_answer;
mod prefect_breaker;
mod prefect_clock_changes;
mod prefect_cron;
mod prefect_cron_field;
mod prefect_csrf;
mod prefect_deployment;
mod prefect_exchange;
mod prefect_http;
mod prefect_links;
mod prefect_logs;
mod prefect_parameters;
mod prefect_runs;
mod prefect_schedules;
mod prefect_state;
mod prefect_verdict;
mod prefect_watch;
mod prefect_wire;
mod prefect_workflows;

pub use engine::{
    CancelOutcome, Capabilities, EngineInfo, EngineLogLine, EngineRun, EngineRunFilter, EngineRunId,
    EngineRuns, EngineSchedule, Hosted, Hosting, Launch, Launched, Phase, Rendered, ScheduleSpec, Workflow,
    WorkflowEngine, WorkflowId, WorkflowName,
};
pub use prefect::{Auth, PrefectEngine, PrefectSettings};
