//! What the engine in memory holds.

use scheduler_core::Timestamp;
use serde_json::Map;

use crate::engine::{
    EngineRun, EngineRunFilter, EngineRunId, EngineSchedule, Hosting, Launch, Phase, Workflow, WorkflowId,
    WorkflowName,
};

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) workflows: Vec<Workflow>,
    pub(crate) hosted: Vec<Hosting>,
    pub(crate) runs: Vec<EngineRun>,
    pub(crate) schedules: Vec<(WorkflowId, EngineSchedule)>,
    pub(crate) launches: Vec<Launch>,
    pub(crate) backfills: Vec<(WorkflowId, Timestamp, Timestamp, usize)>,
    pub(crate) findings: Vec<String>,
    /// How many runs were asked for by their ids, look by look.
    pub(crate) looks: Vec<usize>,
    /// What changed a schedule, in order.
    pub(crate) writes: Vec<String>,
    /// How many runs were to be cancelled together, call by call.
    pub(crate) bulks: Vec<usize>,
    /// How often the stream of events was opened, and how many of those are cut.
    pub(crate) streams: usize,
    pub(crate) broken_streams: usize,
    pub(crate) down: bool,
    pub(crate) lost_answers: usize,
    pub(crate) refused: Option<&'static str>,
    pub(crate) calls: usize,
    pub(crate) next_id: usize,
}

/// A run that waits, as an engine shows it.
pub(crate) fn run(id: &str) -> EngineRun {
    EngineRun {
        id: EngineRunId(id.to_owned()),
        workflow: None,
        key: None,
        schedule: None,
        phase: Phase::Queued,
        raw_state: "Pending".to_owned(),
        message: None,
        scheduled_for: None,
        started: None,
        ended: None,
        attempts: 0,
        parameters: Map::new(),
        tags: Vec::new(),
        page: Some(format!("http://engine/runs/{id}")),
    }
}

impl World {
    pub(crate) fn id(&mut self, of: &str) -> String {
        self.next_id += 1;
        format!("{of}-{}", self.next_id)
    }

    pub(crate) fn add_workflow(&mut self, name: WorkflowName, hosted: bool) -> Workflow {
        let id = WorkflowId(self.id("workflow"));
        let workflow = Workflow { id, name, parameters: None, page: None, hosted };
        self.workflows.push(workflow.clone());
        workflow
    }

    pub(crate) fn schedule(&mut self, workflow: &WorkflowId, slug: &str) -> Option<&mut EngineSchedule> {
        let mut schedules = self.schedules.iter_mut().filter(|(id, _)| id == workflow);
        schedules.find(|(_, schedule)| schedule.slug.as_deref() == Some(slug)).map(|(_, schedule)| schedule)
    }
}

pub(crate) fn matches(filter: &EngineRunFilter, run: &EngineRun) -> bool {
    let EngineRunFilter { workflows, runs, keys, tags, phases, scheduled_up_to, scheduled_from, .. } = filter;
    (workflows.is_empty() || run.workflow.as_ref().is_some_and(|id| workflows.contains(id)))
        && (runs.is_empty() || runs.contains(&run.id))
        && (keys.is_empty() || run.key.as_ref().is_some_and(|key| keys.contains(key)))
        && tags.iter().all(|tag| run.tags.contains(tag))
        && (phases.is_empty() || phases.contains(&run.phase))
        && scheduled_up_to.is_none_or(|up_to| run.scheduled_for.is_some_and(|at| at <= up_to))
        && scheduled_from.is_none_or(|from| run.scheduled_for.is_some_and(|at| at >= from))
}
