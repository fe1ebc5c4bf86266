//! Accepting, moving and forgetting tasks, many in one step: the book changes at once, and each backend hears of all
//! its tasks in one call.
//!
//! Whoever is in the middle of it holds `accepting`. A backend that refuses leaves everything as it was.

use std::sync::Arc;

use crate::scheduler::{Inner, Member};
use crate::{Name, Pause, Placed, Placement, Result, Schedules, Task};

/// Who fires some tasks: a backend itself, or the driver in its place.
#[derive(Clone, Copy)]
struct Desk<'a> {
    member: &'a Member,
    is_driven: bool,
    schedules: &'a dyn Schedules,
}

impl Desk<'_> {
    fn is(&self, other: &Self) -> bool {
        self.is_driven == other.is_driven && self.member.info.name == other.member.info.name
    }

    /// Whether it accepts a task in the place of one that the other has, which needs not forget it then.
    fn replaces(&self, other: &Self) -> bool {
        self.is(other) || (self.is_driven && other.is_driven && self.member.is_up())
    }
}

/// Tasks that change the book together, and what each of them replaces.
struct Change<'a> {
    all: &'a [Arc<Placed>],
    before: &'a [Option<Arc<Placed>>],
}

/// How far a change has come.
#[derive(Default)]
struct Progress<'a> {
    /// The tasks that each desk has accepted, by their places in the change.
    accepted: Vec<(Desk<'a>, Vec<usize>)>,
    /// The desks that have forgotten the definition before, by the place of the new one.
    forgotten: Vec<(Desk<'a>, usize)>,
}

impl Inner {
    pub(crate) async fn accept_one(&self, placed: Placed) -> Result<Arc<Placement>> {
        let placed = Arc::new(placed);
        self.accept(std::slice::from_ref(&placed)).await?;
        Ok(Arc::clone(&placed.placement))
    }

    pub(crate) async fn accept_many(&self, all: Vec<Arc<Placed>>) -> Result<Vec<Arc<Placement>>> {
        self.accept(&all).await?;
        Ok(all.iter().map(|placed| Arc::clone(&placed.placement)).collect())
    }

    /// Puts tasks into the book and tells their backends; all stays as it was when that fails.
    ///
    /// # Errors
    /// `task/duplicate` when two have one name, and those of the first backend that refuses one.
    async fn accept(&self, all: &[Arc<Placed>]) -> Result<()> {
        // Before any of them runs: whoever reads the tally misses none that follows.
        if !self.counting.is_on() && all.iter().any(|placed| placed.job.reads_tally()) {
            self.counting.switch_on(&self.events, self.clock.now());
        }
        let _accepting = self.accepting.lock().await;
        // The book first: a task that fires at once is looked up there.
        let before = self.tasks.insert_all(all)?;
        let change = Change { all, before: &before };
        let mut progress = Progress::default();
        let Err(error) = self.hand_over(&change, &mut progress).await else { return Ok(()) };
        self.undo(&change, progress).await;
        self.tasks.restore(all, before);
        Err(error)
    }

    async fn hand_over<'a>(&'a self, change: &Change<'_>, progress: &mut Progress<'a>) -> Result<()> {
        for (desk, places) in self.desks(change.all.iter().map(|placed| &**placed).enumerate())? {
            // One that is not up is handed its tasks when it starts.
            if !desk.member.is_up() {
                continue;
            }
            let handed = places.iter().map(|place| Arc::clone(&change.all[*place])).collect();
            let refused = desk.schedules.upsert_all(handed).await.err();
            let done = refused.as_ref().map_or(places.len(), |partial| partial.done.min(places.len()));
            progress.accepted.push((desk, places[..done].to_vec()));
            if let Some(partial) = refused {
                return Err(partial.error);
            }
        }
        for (place, (placed, before)) in change.all.iter().zip(change.before).enumerate() {
            let Some(before) = before else { continue };
            let old = self.desk(before)?;
            if self.desk(placed)?.replaces(&old) {
                continue;
            }
            self.forget(old.member, &before.task).await?;
            progress.forgotten.push((old, place));
        }
        Ok(())
    }

    /// Gives back what a change that failed has done so far. A backend that refuses even that is not asked again.
    async fn undo(&self, change: &Change<'_>, progress: Progress<'_>) {
        for (desk, place) in progress.forgotten {
            let Some(before) = &change.before[place] else { continue };
            if desk.member.is_up()
                && let Err(error) = desk.schedules.upsert(Arc::clone(before)).await
            {
                tracing::warn!(task = %before.task.name, backend = %desk.member.info.name, "not put back: {error}");
            }
        }
        for (desk, places) in progress.accepted {
            let (known, new): (Vec<usize>, Vec<usize>) = places.into_iter().partition(|place| {
                let before = change.before[*place].as_ref();
                before.is_some_and(|before| self.desk(before).is_ok_and(|old| desk.replaces(&old)))
            });
            let known = known.iter().filter_map(|place| change.before[*place].clone()).collect();
            let new: Vec<Name> = new.iter().map(|place| change.all[*place].task.name.clone()).collect();
            let mut undone = desk.schedules.upsert_all(known).await;
            if undone.is_ok() {
                undone = desk.schedules.remove_all(&new).await.map(|_| ());
            }
            if let Err(partial) = undone {
                let error = partial.error;
                tracing::warn!(backend = %desk.member.info.name, "tasks that were refused stay there: {error}");
            }
        }
    }

    /// Forgets tasks; says which were known.
    ///
    /// # Errors
    /// Those of the first backend that refuses one. Those before it are forgotten then.
    pub(crate) async fn remove(&self, tasks: &[Name]) -> Result<Vec<bool>> {
        let _accepting = self.accepting.lock().await;
        let mut known = vec![false; tasks.len()];
        let found = self.tasks.find_all(tasks);
        let found = found.iter().enumerate().filter_map(|(place, placed)| Some((place, &**placed.as_ref()?)));
        for (desk, places) in self.desks(found)? {
            let names: Vec<Name> = places.iter().map(|place| tasks[*place].clone()).collect();
            let removed = match desk.schedules.remove_all(&names).await {
                Err(partial) if desk.member.is_up() => {
                    self.tasks.remove_all(&names[..partial.done.min(names.len())]);
                    return Err(partial.error);
                }
                // One that does not run fires nothing, and is not handed the task when it starts.
                _ => self.tasks.remove_all(&names),
            };
            places.iter().zip(removed).for_each(|(place, removed)| known[*place] = removed);
        }
        Ok(known)
    }

    async fn forget(&self, member: &Member, task: &Task) -> Result<()> {
        match self.schedules_of(member, task).remove(&task.name).await {
            Err(error) if member.is_up() => Err(error),
            // One that does not run fires nothing, and is not handed the task when it starts.
            _ => Ok(()),
        }
    }

    /// Keeps tasks from firing.
    ///
    /// # Errors
    /// `task/unknown`, before anything is done, and those of the first backend that refuses one.
    pub(crate) async fn pause(&self, tasks: &[Name], pause: &Pause) -> Result<()> {
        let known = self.all_known(tasks)?;
        for (desk, places) in self.desks(known.iter().map(|placed| &**placed).enumerate())? {
            let names: Vec<Name> = places.iter().map(|place| tasks[*place].clone()).collect();
            desk.schedules.pause_all(&names, pause).await?;
        }
        Ok(())
    }

    /// Lets paused tasks fire again.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub(crate) async fn resume(&self, tasks: &[Name]) -> Result<()> {
        let known = self.all_known(tasks)?;
        for (desk, places) in self.desks(known.iter().map(|placed| &**placed).enumerate())? {
            let names: Vec<Name> = places.iter().map(|place| tasks[*place].clone()).collect();
            desk.schedules.resume_all(&names).await?;
        }
        Ok(())
    }

    fn all_known(&self, tasks: &[Name]) -> Result<Vec<Arc<Placed>>> {
        let found = self.tasks.find_all(tasks).into_iter();
        found.zip(tasks).map(|(found, task)| found.map_or_else(|| self.known(task), Ok)).collect()
    }

    fn desk(&self, placed: &Placed) -> Result<Desk<'_>> {
        let member = self.member(&placed.placement.backend)?;
        Ok(match member.schedules_for(&placed.task) {
            Some(schedules) => Desk { member, is_driven: false, schedules },
            None => Desk { member, is_driven: true, schedules: &self.driver },
        })
    }

    /// Who fires which of some tasks, named by their places; in the order in which each is met first.
    fn desks<'a, 'p>(
        &'a self,
        tasks: impl Iterator<Item = (usize, &'p Placed)>,
    ) -> Result<Vec<(Desk<'a>, Vec<usize>)>> {
        let mut desks: Vec<(Desk<'a>, Vec<usize>)> = Vec::new();
        // The last task and the place of its desk, which is that of all that are like it.
        let mut last: Option<(&Placed, usize)> = None;
        for (place, placed) in tasks {
            let index = match last.filter(|(last, _)| last.is_alike(placed)) {
                Some((_, index)) => index,
                None => {
                    let desk = self.desk(placed)?;
                    desks.iter().position(|(known, _)| known.is(&desk)).unwrap_or_else(|| {
                        desks.push((desk, Vec::new()));
                        desks.len() - 1
                    })
                }
            };
            desks[index].1.push(place);
            last = Some((placed, index));
        }
        Ok(desks)
    }
}
