//! From a task to the backend that has it, and handing over runs.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::scheduler::{Inner, Member};
use crate::{
    Backend, Enqueued, Error, FiredBy, Health, Name, OnUnavailable, Placed, Result, RunId, RunRequest,
    ScheduleStatus, Schedules, Task,
};

/// How many tasks an error lists that says which ones there are.
const MAX_LISTED: usize = 20;

impl Member {
    /// The backend's own schedules, if it fires the task by itself.
    pub(crate) fn schedules_for(&self, task: &Task) -> Option<&dyn Schedules> {
        self.backend.schedules().filter(|schedules| schedules.fires(task.fired_by))
    }

    /// Whether there may be tasks that it does not fire by itself.
    pub(crate) fn needs_driver(&self) -> bool {
        let fires_all = |schedules: &dyn Schedules| FiredBy::ALL.iter().all(|by| schedules.fires(*by));
        !self.backend.schedules().is_some_and(fires_all)
    }

    /// The backend, unless it is known to be down.
    ///
    /// # Errors
    /// `backend/down`.
    pub(crate) fn answering(&self) -> Result<&dyn Backend> {
        match self.down() {
            None => Ok(&*self.backend),
            Some(reason) => {
                let message = format!("backend `{}` is down: {reason}", self.info.name);
                Err(Error::unavailable("backend/down", message))
            }
        }
    }

    pub(crate) async fn health(&self) -> Health {
        match self.down() {
            Some(reason) => Health::down(format!("did not start: {reason}")),
            None => self.backend.health().await,
        }
    }
}

impl Inner {
    pub(crate) fn known(&self, task: &Name) -> Result<Arc<Placed>> {
        self.tasks.find(task).ok_or_else(|| {
            let all = self.tasks.all();
            let mut known: Vec<&str> =
                all.iter().take(MAX_LISTED).map(|placed| placed.task.name.as_str()).collect();
            let more = format!("and {} more", all.len() - known.len());
            known.extend((all.len() > known.len()).then_some(more.as_str()));
            Error::not_found("task/unknown", format!("no task `{task}`; there are: {}", known.join(", ")))
        })
    }

    /// What is answered about a run that no backend owns: one that is down may own it.
    pub(crate) fn nobody_has(&self, run: &RunId) -> Error {
        let away = self.backends.iter().find_map(|member| member.answering().err());
        away.unwrap_or_else(|| Error::not_found("run/unknown", format!("no backend has a run {run}")))
    }

    pub(crate) fn member(&self, backend: &Name) -> Result<&Member> {
        self.backends
            .iter()
            .find(|member| member.info.name == *backend)
            .ok_or_else(|| Error::not_found("backend/unknown", format!("no backend `{backend}`")))
    }

    /// What fires a task of a backend: that itself, or the driver.
    pub(crate) fn schedules_of<'a>(&'a self, member: &'a Member, task: &Task) -> &'a dyn Schedules {
        member.schedules_for(task).unwrap_or(&self.driver)
    }

    pub(crate) fn schedules_of_task(&self, task: &Name) -> Result<&dyn Schedules> {
        let placed = self.known(task)?;
        Ok(self.schedules_of(self.member(&placed.placement.backend)?, &placed.task))
    }

    /// The tasks that are placed on a backend, by name.
    pub(crate) fn tasks_on(&self, member: &Member) -> Vec<Arc<Placed>> {
        self.tasks.matching(|placed| placed.placement.backend == member.info.name)
    }

    /// The backends that may have runs of a task: its own, then those it may fall back to, the next tier first.
    pub(crate) fn hosts(&self, placed: &Placed) -> Vec<&Member> {
        let own = self.backends.iter().filter(|member| member.info.name == placed.placement.backend);
        let mut hosts: Vec<&Member> = own.collect();
        if placed.task.on_unavailable == OnUnavailable::Error {
            return hosts;
        }
        let Ok(job) = self.registry.job(placed.task.job.as_str()) else { return hosts };
        let can_take_over = |member: &&Member| {
            let tier = member.info.tier;
            tier < placed.placement.tier && job.tiers().contains(&tier) && member.is_up()
        };
        let mut others: Vec<&Member> = self.backends.iter().filter(can_take_over).collect();
        others.sort_by_key(|member| (Reverse(member.info.tier), Reverse(member.is_default)));
        hosts.append(&mut others);
        hosts
    }

    /// Hands a run to the task's backend, or to the next tier when that is down and the task allows it.
    pub(crate) async fn enqueue(&self, placed: &Placed, run: RunRequest) -> Result<Enqueued> {
        self.judge_unique(&placed.placement.backend, &run)?;
        let mut refused = None;
        let mut hosts = self.hosts(placed).into_iter().peekable();
        let mut run = Some(run);
        while let Some(member) = hosts.next() {
            // Parameters may be large, and mostly nobody falls back.
            let given = if hosts.peek().is_some() { run.clone() } else { run.take() };
            let Some(given) = given else { break };
            let answer = match member.answering() {
                Ok(backend) => backend.enqueue(given).await,
                Err(error) => Err(error),
            };
            match (answer, &refused) {
                (Ok(answer), None) => return Ok(answer),
                (Ok(answer), Some(refused)) => {
                    tracing::warn!(task = %placed.task.name, backend = %member.info.name, "fallback: {refused}");
                    return Ok(answer);
                }
                (Err(error), None) if !error.is_transient() => return Err(error),
                (Err(error), None) => refused = Some(error),
                (Err(_), Some(_)) => {}
            }
        }
        let unknown = || Error::not_found("backend/unknown", "the backend of the task is gone");
        Err(refused.unwrap_or_else(unknown))
    }

    /// The tasks that the driver fires, with the runs that live by the account of their backends.
    pub(crate) async fn driven_statuses(&self) -> Vec<ScheduleStatus> {
        let mut all = self.driver.all_statuses();
        if all.is_empty() {
            return all;
        }
        for member in self.backends.iter().filter(|member| member.needs_driver()) {
            let mut filter = self.driver.live_runs();
            // A backend that does not answer leaves what the driver knows: the fires that wait.
            while let Ok(page) = member.backend.runs(&filter).await {
                for run in page.runs {
                    all.iter_mut()
                        .filter(|status| status.task == run.task)
                        .for_each(|status| status.live += 1);
                }
                filter.after = page.next;
                if filter.after.is_none() {
                    break;
                }
            }
        }
        all
    }
}
