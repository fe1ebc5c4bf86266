//! Shows the runs of this namespace, newest first, and finds one by its id.
//!
//! The engine lists by the time a run was to start. Ours are those with our tags, and those that our schedules made
//! of workflows that are not ours.

use std::collections::HashSet;

use scheduler_core::{Page, PageToken, Result, Run, RunFilter, RunId, Timestamp};

use crate::engine::{EngineRun, EngineRunFilter, EngineRunId};
use crate::names::{Identity, uuid_of};
use crate::session::Session;
use crate::shown::{phases, shown};

/// How many runs a call asks for.
pub(crate) const PAGE: usize = 200;
/// How many calls one question may cost; beyond that the answer ends where it was read to.
const MOST_PAGES: usize = 50;

impl Session {
    /// The runs that match.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn page(&self, filter: &RunFilter) -> Result<Page> {
        if let Some(run) = filter.run {
            let found = self.find(run).await?;
            return Ok(filter.page(found.map(|(identity, run)| shown(&self.backend, identity, &run))));
        }
        let phases = phases(&filter.states);
        if phases.is_empty() && !filter.states.is_empty() {
            return Ok(Page::default());
        }
        self.read_schedules().await?;
        let mut runs: Vec<Run> = Vec::new();
        let mut horizon: Option<Timestamp> = None;
        for source in self.sources(filter) {
            let source = EngineRunFilter { phases: phases.clone(), ..source };
            let read_to = self.read(filter, source, &mut runs).await?;
            horizon = horizon.max(read_to);
        }
        let mut seen = HashSet::new();
        runs.retain(|run| seen.insert(run.id));
        let Some(horizon) = horizon else { return Ok(filter.page(runs)) };
        // Older ones may be missing: the next page begins where the reading ended.
        runs.retain(|run| run.fire_time > horizon);
        let mut page = filter.page(runs);
        page.next = page.next.or_else(|| RunFilter::all().fired_up_to(horizon).after);
        Ok(page)
    }

    /// Where runs of ours are listed. Schedules announce runs that lie far ahead; those are no runs yet.
    fn sources(&self, filter: &RunFilter) -> Vec<EngineRunFilter> {
        let now = self.ctx.clock.now();
        let up_to = filter.after.as_ref().map(PageToken::fire_time);
        let task = filter.task.as_ref();
        let with_tag = |tag: String| EngineRunFilter {
            tags: std::iter::once(tag).chain(task.map(|task| self.names.task_tag(task))).collect(),
            limit: PAGE,
            ..EngineRunFilter::default()
        };
        let past = Some(up_to.map_or(now, |up_to| up_to.min(now)));
        let mut sources =
            vec![EngineRunFilter { scheduled_up_to: past, ..with_tag(self.names.namespace_tag()) }];
        if up_to.is_none_or(|up_to| up_to > now) {
            let from = Some(Timestamp::from_millis(now.as_millis().saturating_add(1)));
            let ahead = with_tag(self.names.launch_tag());
            sources.push(EngineRunFilter { scheduled_from: from, scheduled_up_to: up_to, ..ahead });
        }
        let workflows = self.carriers(task);
        if !workflows.is_empty() {
            let limit = PAGE;
            sources.push(EngineRunFilter {
                workflows,
                limit,
                scheduled_up_to: past,
                ..EngineRunFilter::default()
            });
        }
        sources
    }

    /// Reads a source until it holds a page of runs that match; says how far, if it did not come so far.
    async fn read(
        &self,
        filter: &RunFilter,
        mut source: EngineRunFilter,
        runs: &mut Vec<Run>,
    ) -> Result<Option<Timestamp>> {
        let mut own: Vec<Run> = Vec::new();
        let mut read_to = None;
        for _ in 0..MOST_PAGES {
            let page = self.link.call(|engine| engine.list_runs(&source)).await?;
            read_to = page.runs.last().and_then(|run| run.scheduled_for);
            source.offset += page.runs.len();
            let more = page.more && !page.runs.is_empty();
            own.extend(page.runs.iter().filter_map(|run| self.ours(run)).filter(|run| filter.matches(run)));
            own.sort_unstable_by_key(|run| std::cmp::Reverse(PageToken::of(run)));
            own.dedup_by_key(|run| run.id);
            // All of one instant belong together, as their order there is ours and not the engine's.
            let last = own.get(filter.page_size()).map(|run| run.fire_time);
            if !more || last.zip(read_to).is_some_and(|(last, read_to)| read_to < last) {
                read_to = None;
                break;
            }
        }
        runs.extend(own);
        Ok(read_to)
    }

    /// The run as ours, if it is one.
    fn ours(&self, run: &EngineRun) -> Option<Run> {
        let identity = self.identity(run)?;
        self.remember(identity.run_id, &run.id);
        Some(shown(&self.backend, identity, run))
    }

    /// The run of this id.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn find(&self, run: RunId) -> Result<Option<(Identity, EngineRun)>> {
        self.read_schedules().await?;
        let by_id =
            |id: EngineRunId| EngineRunFilter { runs: vec![id], limit: PAGE, ..EngineRunFilter::default() };
        let by_key =
            EngineRunFilter { keys: vec![self.names.key(run)], limit: PAGE, ..EngineRunFilter::default() };
        let by_hand = by_id(EngineRunId(uuid_of(run)));
        let known = self.remembered(run).map(by_id);
        for source in known.into_iter().chain([by_key, by_hand]) {
            let page = self.link.call(|engine| engine.list_runs(&source)).await?;
            if let Some(found) = self.pick(run, page.runs) {
                return Ok(Some(found));
            }
        }
        // A schedule made it, and its id tells nothing of when: it is searched for.
        for mut source in self.sources(&RunFilter::all()) {
            for _ in 0..MOST_PAGES {
                let page = self.link.call(|engine| engine.list_runs(&source)).await?;
                source.offset += page.runs.len();
                let more = page.more && !page.runs.is_empty();
                if let Some(found) = self.pick(run, page.runs) {
                    return Ok(Some(found));
                }
                if !more {
                    break;
                }
            }
        }
        Ok(None)
    }

    fn pick(&self, run: RunId, runs: Vec<EngineRun>) -> Option<(Identity, EngineRun)> {
        let with_identity = |run: EngineRun| Some((self.identity(&run)?, run));
        let found =
            runs.into_iter().filter_map(with_identity).find(|(identity, _)| identity.run_id == run)?;
        self.remember(run, &found.1.id);
        Some(found)
    }
}
