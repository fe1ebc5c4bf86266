//! From a task to the backend that has it: accepting, moving and removing tasks, and handing over runs.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::placement::{Site, place};
use crate::scheduler::{Inner, Member};
use crate::{
    ArgsError, Backend, Enqueued, Error, FiredBy, Name, OnUnavailable, Placed, Result, RunId, RunRequest,
    ScheduleStatus, Schedules, Task,
};

impl Member {
    /// The backend as a place for tasks.
    pub(crate) fn site(&self) -> Site {
        let is_down = self.down().is_some();
        Site { info: self.info.clone(), is_default: self.is_default, is_down }
    }

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
}

impl Inner {
    pub(crate) fn placed(&self, task: Task) -> Result<Placed> {
        let descriptor = self.registry.job(task.job.as_str())?;
        let faults = |faults: Vec<ArgsError>| {
            let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Error::invalid("task/bad_args", format!("task `{}`: {}", task.name, all.join("; ")))
        };
        let job = descriptor.build(&task.args).map_err(faults)?;
        let missing = job.check();
        if !missing.is_empty() {
            return Err(faults(missing));
        }
        let sites: Vec<Site> = self.backends.iter().map(Member::site).collect();
        let mut placement = place(&task, descriptor, &sites)?;
        placement.warnings.extend(self.member(&placement.backend)?.backend.judge(&task)?);
        Ok(Placed { task, job, placement })
    }

    /// Puts a task into the book and tells its backend; all stays as it was when that fails.
    pub(crate) async fn accept(&self, placed: &Arc<Placed>) -> Result<()> {
        let _accepting = self.accepting.lock().await;
        // The book first: a task that fires at once is looked up there.
        let before = self.tasks.insert(Arc::clone(placed));
        let Err(error) = self.hand_over(placed, before.as_deref()).await else { return Ok(()) };
        match before {
            Some(before) => drop(self.tasks.insert(before)),
            None => drop(self.tasks.remove(&placed.task.name)),
        }
        Err(error)
    }

    async fn hand_over(&self, placed: &Arc<Placed>, before: Option<&Placed>) -> Result<()> {
        let member = self.member(&placed.placement.backend)?;
        let is_up = member.is_up();
        // One that is not up is handed its tasks when it starts.
        if is_up {
            self.schedules_of(member, &placed.task).upsert(Arc::clone(placed)).await?;
        }
        let Some(before) = before else { return Ok(()) };
        let old = self.member(&before.placement.backend)?;
        let was_driven = old.schedules_for(&before.task).is_none();
        let is_driven = member.schedules_for(&placed.task).is_none();
        let stays = old.info.name == member.info.name && was_driven == is_driven;
        if stays || (was_driven && is_driven && is_up) {
            return Ok(());
        }
        let forgotten = self.forget(old, &before.task).await;
        if forgotten.is_err() && is_up {
            // It stays where it was, and nowhere else.
            self.schedules_of(member, &placed.task).remove(&placed.task.name).await?;
        }
        forgotten
    }

    pub(crate) async fn remove(&self, task: &Name) -> Result<bool> {
        let _accepting = self.accepting.lock().await;
        let Some(placed) = self.tasks.find(task) else { return Ok(false) };
        self.forget(self.member(&placed.placement.backend)?, &placed.task).await?;
        self.tasks.remove(task);
        Ok(true)
    }

    async fn forget(&self, member: &Member, task: &Task) -> Result<()> {
        match self.schedules_of(member, task).remove(&task.name).await {
            Err(error) if member.is_up() => Err(error),
            // One that does not run fires nothing, and is not handed the task when it starts.
            _ => Ok(()),
        }
    }

    pub(crate) fn known(&self, task: &Name) -> Result<Arc<Placed>> {
        self.tasks.find(task).ok_or_else(|| {
            let known: Vec<String> =
                self.tasks.all().iter().map(|placed| placed.task.name.to_string()).collect();
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
    fn schedules_of<'a>(&'a self, member: &'a Member, task: &Task) -> &'a dyn Schedules {
        member.schedules_for(task).unwrap_or(&self.driver)
    }

    pub(crate) fn schedules_of_task(&self, task: &Name) -> Result<&dyn Schedules> {
        let placed = self.known(task)?;
        Ok(self.schedules_of(self.member(&placed.placement.backend)?, &placed.task))
    }

    /// The tasks that are placed on a backend, by name.
    pub(crate) fn tasks_on(&self, member: &Member) -> Vec<Arc<Placed>> {
        let mut tasks = self.tasks.all();
        tasks.retain(|placed| placed.placement.backend == member.info.name);
        tasks
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
        let mut refused = None;
        for member in self.hosts(placed) {
            let answer = match member.answering() {
                Ok(backend) => backend.enqueue(run.clone()).await,
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
