//! What a test does to the engine in memory: it breaks it, and plays its workers and its schedules.

use scheduler_core::Timestamp;

use crate::engine::{EngineRun, EngineRunId, Phase, WorkflowId, WorkflowName};
use crate::memory::Memory;
use crate::memory_world::run;

impl Memory {
    /// Adds somebody else's workflow.
    pub(crate) fn add_workflow(&self, flow: &str, deployment: &str) -> WorkflowId {
        let name = WorkflowName { flow: flow.to_owned(), deployment: deployment.to_owned() };
        self.world().add_workflow(name, false).id
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.world().down = down;
    }

    /// The next so many triggers do their work, and their answer is lost.
    pub(crate) fn lose_answers(&self, count: usize) {
        self.world().lost_answers = count;
    }

    /// Answers every call with this error from now on.
    pub(crate) fn refuse(&self, code: Option<&'static str>) {
        self.world().refused = code;
    }

    pub(crate) fn calls(&self) -> usize {
        self.world().calls
    }

    /// Takes the runs whose time has come, as a worker does: they have begun then.
    pub(crate) fn due(&self) -> Vec<EngineRunId> {
        let now = Timestamp::from(std::time::SystemTime::now());
        let mut world = self.world();
        let waits = |run: &&mut EngineRun| matches!(run.phase, Phase::Scheduled | Phase::Queued);
        let due =
            world.runs.iter_mut().filter(waits).filter(|run| run.scheduled_for.is_none_or(|at| at <= now));
        let begin = |run: &mut EngineRun| {
            (run.phase, run.raw_state) = (Phase::Running, "Running".to_owned());
            (run.attempts, run.started) = (run.attempts + 1, Some(now));
            run.id.clone()
        };
        due.map(begin).collect()
    }

    pub(crate) fn find(&self, id: &EngineRunId) -> EngineRun {
        self.world().runs.iter().find(|run| run.id == *id).unwrap().clone()
    }

    pub(crate) fn change(&self, id: &EngineRunId, change: impl FnOnce(&mut EngineRun)) {
        change(self.world().runs.iter_mut().find(|run| run.id == *id).unwrap());
    }

    /// Moves a run on.
    pub(crate) fn set(&self, run: usize, change: impl FnOnce(&mut EngineRun)) {
        change(&mut self.world().runs[run]);
    }

    pub(crate) fn end(&self, run: usize, phase: Phase) {
        self.set(run, |run| {
            run.phase = phase;
            run.raw_state = format!("{phase:?}");
            run.attempts = run.attempts.max(1);
            run.ended = Some(Timestamp::from(std::time::SystemTime::now()));
        });
    }

    /// A schedule fires: as the engine does it, with no tag of a run of ours.
    pub(crate) fn fire(&self, slug: &str, at: Timestamp, raw_state: &str) {
        let mut world = self.world();
        let (workflow, schedule) =
            world.schedules.iter().find(|(_, s)| s.slug.as_deref() == Some(slug)).unwrap().clone();
        let id = world.id("run");
        let hosts = world.workflows.iter().find(|known| known.id == workflow && known.hosted);
        // A run that a schedule makes has the words of its workflow.
        let tags = hosts.map_or_else(Vec::new, |hosts| {
            let (namespace, _) = hosts.name.deployment.split_once('.').unwrap();
            vec![format!("hs:namespace:{namespace}"), format!("hs:task:{}", hosts.name.deployment)]
        });
        world.runs.push(EngineRun {
            tags,
            workflow: Some(workflow),
            schedule: Some(schedule.id),
            scheduled_for: Some(at),
            raw_state: raw_state.to_owned(),
            parameters: schedule.parameters,
            ..run(&id)
        });
    }
}
