//! The workflow tier of the hybrid scheduler: an HTTP client of a workflow engine.
//!
//! This version of the crate holds the seam for engines, [`WorkflowEngine`]; it registers no backend yet, and a
//! configuration that names the tier is refused.

mod engine;

pub use engine::{
    CancelOutcome, Capabilities, EngineInfo, EngineLogLine, EngineRun, EngineRunFilter, EngineRunId,
    EngineRuns, EngineSchedule, Hosted, Hosting, Launch, Launched, Phase, Rendered, ScheduleSpec, Workflow,
    WorkflowEngine, WorkflowId, WorkflowName,
};
