//! Placing tasks, many of which are alike: what is said of one is made once and shared by the others.
//!
//! A task's shape is all that [`place`](crate::place) reads of it but its name. What names the task, an error or the
//! reason of a fallback, is never shared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::placement::{Site, decide};
use crate::scheduler::{Inner, Member};
use crate::{
    ArgsError, Error, Frequency, Job, JobDescriptor, Placed, Placement, Result, Task, TaskSettings,
    Timestamp, Trigger,
};

/// How many shapes are remembered; with more, it begins anew.
const MAX_SHAPES: usize = 256;
/// How many tasks that are refused an error tells of, behind the first.
const MAX_FAULTS: usize = 20;

/// The placements that tasks share.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Which backends were down when these placements were made.
    down: Vec<bool>,
    placements: HashMap<Shape, Arc<Placement>>,
}

/// What placing reads of a task, its name aside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    settings: Arc<TaskSettings>,
    /// How often its trigger fires, if it has one.
    frequency: Option<Frequency>,
    /// The time between fires where that is less than a run may take.
    period: Option<Duration>,
}

impl Shape {
    fn of(task: &Task) -> Self {
        Self {
            settings: Arc::clone(&task.settings),
            frequency: task.trigger.as_ref().map(Trigger::frequency),
            period: shorter_period(task),
        }
    }

    /// Whether it is the shape of a task, which shared settings tell without a look into them.
    fn is_of(&self, task: &Task) -> bool {
        let are_shared = Arc::ptr_eq(&self.settings, &task.settings);
        (are_shared || self.settings == task.settings)
            && self.frequency == task.trigger.as_ref().map(Trigger::frequency)
            && self.period == shorter_period(task)
    }
}

/// The time between fires, if that is less than a run may take.
fn shorter_period(task: &Task) -> Option<Duration> {
    let timeout = task.timeout?;
    task.trigger.as_ref().and_then(Trigger::mean_period).filter(|period| *period < timeout)
}

impl Shapes {
    /// The placement of a shape, with the settings that its tasks share.
    fn find(&self, down: &[bool], shape: &Shape) -> Option<(Shape, Arc<Placement>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.placements.get_key_value(shape).filter(|_| known.down == down)?;
        Some((found.0.clone(), Arc::clone(found.1)))
    }

    fn remember(&self, down: &[bool], shape: Shape, placement: &Arc<Placement>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.down != down || known.placements.len() >= MAX_SHAPES {
            *known = Known { down: down.to_vec(), ..Known::default() };
        }
        known.placements.insert(shape, Arc::clone(placement));
    }
}

/// Places tasks on the backends as they stand at one moment.
pub(crate) struct Placing<'a> {
    inner: &'a Inner,
    down: Vec<bool>,
    now: Timestamp,
    /// What was found for the last task, which the next one is like more often than not.
    last: Option<Alike<'a>>,
}

/// What tasks of one shape have in common.
pub(crate) struct Alike<'a> {
    shape: Shape,
    pub(crate) placement: Arc<Placement>,
    descriptor: &'a JobDescriptor,
    member: &'a Member,
    /// Whether it is that of one task only, which it names.
    names_its_task: bool,
}

impl Inner {
    pub(crate) fn placing(&self) -> Placing<'_> {
        let down = self.backends.iter().map(|member| member.down().is_some()).collect();
        Placing { inner: self, down, now: self.clock.now(), last: None }
    }
}

impl<'a> Placing<'a> {
    /// Makes a task's job and finds its place.
    ///
    /// # Errors
    /// `job/unknown`, `task/bad_args` (all faults in one message), and those of placing it.
    pub(crate) fn place(&mut self, mut task: Task) -> Result<Placed> {
        let last = self.last.take().filter(|last| !last.names_its_task && last.shape.is_of(&task));
        let descriptor = match &last {
            Some(last) => last.descriptor,
            None => self.inner.registry.job(task.job.as_str())?,
        };
        let job = make(&task, descriptor)?;
        let alike = match last {
            Some(last) => last,
            None => self.alike(&task, descriptor)?,
        };
        let judged = alike.member.backend.judge(&task)?;
        let mut placement = Arc::clone(&alike.placement);
        if !judged.is_empty() {
            Arc::make_mut(&mut placement).warnings.extend(judged);
        }
        if !Arc::ptr_eq(&task.settings, &alike.shape.settings) {
            task.settings = Arc::clone(&alike.shape.settings);
        }
        self.last = Some(alike);
        Ok(Placed { task, job, placement })
    }

    /// As [`place`](Self::place), for a task that fires again.
    ///
    /// # Errors
    /// As [`place`](Self::place), and `trigger/passed`.
    pub(crate) fn place_ahead(&mut self, task: Task) -> Result<Placed> {
        let placed = self.place(task)?;
        match &placed.task.trigger {
            Some(trigger) if trigger.has_passed(self.now) => {
                let message = format!("task `{}` never fires: `{trigger}` has passed", placed.task.name);
                Err(Error::invalid("trigger/passed", message))
            }
            _ => Ok(placed),
        }
    }

    /// Places many tasks by `place`, in their order.
    ///
    /// # Errors
    /// That of the first that has no place, with the messages of the others behind its own.
    pub(crate) fn all(
        &mut self,
        tasks: impl IntoIterator<Item = Task>,
        place: fn(&mut Self, Task) -> Result<Placed>,
    ) -> Result<Vec<Arc<Placed>>> {
        let tasks = tasks.into_iter();
        let mut all = Vec::with_capacity(tasks.size_hint().0);
        let mut refused: Option<Refused> = None;
        for task in tasks {
            match (place(self, task), &mut refused) {
                (Ok(placed), None) => all.push(Arc::new(placed)),
                (Ok(_), Some(_)) => {}
                (Err(error), None) => refused = Some(Refused::new(error)),
                (Err(error), Some(refused)) => refused.add(&error),
            }
        }
        refused.map_or(Ok(all), |refused| Err(refused.error()))
    }

    /// What a task has in common with those that are like it.
    ///
    /// # Errors
    /// Those of [`place`](crate::place).
    pub(crate) fn alike(&self, task: &Task, descriptor: &'a JobDescriptor) -> Result<Alike<'a>> {
        let shape = Shape::of(task);
        let shapes = &self.inner.shapes;
        let alike = |shape, placement: Arc<Placement>, names_its_task| {
            let member = self.inner.member(&placement.backend)?;
            Ok(Alike { shape, placement, descriptor, member, names_its_task })
        };
        if let Some((shape, placement)) = shapes.find(&self.down, &shape) {
            return alike(shape, placement, false);
        }
        let site = |(member, is_down): (&Member, &bool)| Site {
            info: member.info.clone(),
            is_default: member.is_default,
            is_down: *is_down,
        };
        let sites: Vec<Site> = self.inner.backends.iter().zip(&self.down).map(site).collect();
        let (placement, fell_back) = decide(task, descriptor, &sites)?;
        let placement = Arc::new(placement);
        if !fell_back {
            shapes.remember(&self.down, shape.clone(), &placement);
        }
        alike(shape, placement, fell_back)
    }
}

/// The job of a task.
///
/// # Errors
/// `task/bad_args`.
fn make(task: &Task, descriptor: &JobDescriptor) -> Result<Arc<dyn Job>> {
    let faults = |faults: Vec<ArgsError>| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::invalid("task/bad_args", format!("task `{}`: {}", task.name, all.join("; ")))
    };
    let job = descriptor.build(&task.args).map_err(faults)?;
    let missing = job.check();
    if missing.is_empty() { Ok(job) } else { Err(faults(missing)) }
}

/// The tasks of many that have no place.
struct Refused {
    first: Error,
    others: Vec<String>,
    more: usize,
}

impl Refused {
    fn new(first: Error) -> Self {
        Self { first, others: Vec::new(), more: 0 }
    }

    fn add(&mut self, error: &Error) {
        match self.others.len() {
            MAX_FAULTS.. => self.more += 1,
            _ => self.others.push(error.to_string()),
        }
    }

    fn error(self) -> Error {
        let mut others: String = self.others.iter().map(|other| format!("; {other}")).collect();
        if self.more > 0 {
            others.push_str(&format!("; and {} more", self.more));
        }
        self.first.followed_by(&others)
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "shapes_test.rs"]
mod tests;
