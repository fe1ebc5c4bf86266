//! The schedules of an engine, as the seam names them: as they should be and as they are.

use serde_json::{Map, Value};

/// A trigger in an engine's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The rule, as the engine's API writes it.
    pub rule: Value,
    /// What the engine does differently: one sentence each.
    pub notes: Vec<String>,
}

/// A schedule as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    /// Ours for good; begins with our prefix.
    pub slug: String,
    /// The rule, from [`WorkflowEngine::render`](crate::WorkflowEngine::render).
    pub rule: Value,
    /// Whether it fires.
    pub active: bool,
    /// What its runs are given.
    pub parameters: Map<String, Value>,
}

/// A schedule as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSchedule {
    /// The engine's id of it.
    pub id: String,
    /// Its slug, if it has one.
    pub slug: Option<String>,
    /// The rule, in the form of [`WorkflowEngine::render`](crate::WorkflowEngine::render): equal rules are equal values.
    pub rule: Value,
    /// Whether it fires.
    pub active: bool,
    /// What its runs are given.
    pub parameters: Map<String, Value>,
}
