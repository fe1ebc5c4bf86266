//! The definition of a task: job, args, trigger, characteristics, policies.

use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::characteristics::words;
use crate::{
    Classification, Complexity, Durability, Frequency, Infrastructure, Name, RetryPolicy,
    TaskCharacteristics, Tier, Trigger, Unique, Visibility, Warning, classify_task, placement_warnings,
};

/// What to run, when, where and how. Build it with [`Task::new`] and set what differs from the defaults.
///
/// Everything but the name, the args and the trigger is in its [`TaskSettings`], which it stands in for: they are
/// read and set as if they were its own fields. Its clones share them until one of them is changed, so a million
/// tasks made from one differ by little more than their names.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Task {
    /// Its name, unique in a namespace.
    pub name: Name,
    /// What the job is given.
    pub args: Value,
    /// When it fires; without one it runs when asked to.
    pub trigger: Option<Trigger>,
    pub(crate) settings: Arc<TaskSettings>,
}

/// What many tasks have in common: the job, where it runs, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TaskSettings {
    /// The job it runs.
    pub job: Name,
    /// The facts it states about itself.
    pub characteristics: StatedCharacteristics,
    /// The tier its owner chose, whatever the classifier says.
    pub tier: Option<Tier>,
    /// The backend its owner chose by name.
    pub backend: Option<Name>,
    /// How a failed run is tried again.
    pub retry: RetryPolicy,
    /// The time limit of one attempt.
    pub timeout: Option<Duration>,
    /// What happens to a fire that arrives while the last run lives.
    pub overlap: Overlap,
    /// What happens to fires that nobody served.
    pub misfire: Misfire,
    /// Whether that was stated, should it be what the default says.
    pub misfire_stated: bool,
    /// Which of many due tasks goes first.
    pub priority: Priority,
    /// The queue in which its runs wait, where its backend has several; the one called `default` when left out.
    pub queue: Option<Name>,
    /// That its runs keep others of their kind out, where its backend is of the queue tier.
    pub unique: Option<Unique>,
    /// What happens when its tier has no backend or the backend is down.
    pub on_unavailable: OnUnavailable,
    /// Who fires it, where its backend could.
    pub fired_by: FiredBy,
}

impl Deref for Task {
    type Target = TaskSettings;
    fn deref(&self) -> &TaskSettings {
        &self.settings
    }
}

impl DerefMut for Task {
    /// Its own settings from here on, if other tasks share them.
    fn deref_mut(&mut self) -> &mut TaskSettings {
        Arc::make_mut(&mut self.settings)
    }
}

/// The characteristics a task states; what it leaves out is derived or takes the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatedCharacteristics {
    /// How often it runs; derived from the trigger when left out.
    pub frequency: Option<Frequency>,
    /// Who looks at its runs.
    pub visibility: Option<Visibility>,
    /// What one run consists of.
    pub complexity: Option<Complexity>,
    /// Whether a run may be lost.
    pub durability: Option<Durability>,
    /// How many machines take part.
    pub infrastructure: Option<Infrastructure>,
}

words! {
    /// What happens to a fire that arrives while the last run lives.
    Overlap {
        /// It becomes a skipped run that says so.
        Skip = "skip",
        /// It waits its turn; at most 100 do.
        Queue = "queue",
        /// It ends the run that lives and takes its place.
        CancelOther = "cancel_other",
        /// It runs beside it.
        Allow = "allow",
    }
}

words! {
    /// What happens to fires that nobody served: the task was paused, or the process was away.
    MisfirePolicy {
        /// The newest one runs.
        Latest = "latest",
        /// None runs.
        Skip = "skip",
        /// All run, one after the other, up to a bound.
        All = "all",
    }
}

/// The misfire policy with its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Misfire {
    /// What runs.
    pub policy: MisfirePolicy,
    /// A misfire older than this does not run.
    pub max_lateness: Option<Duration>,
    /// How many run at most under [`MisfirePolicy::All`].
    pub max: NonZeroU32,
}

impl Default for Misfire {
    fn default() -> Self {
        const HUNDRED: NonZeroU32 = NonZeroU32::new(100).expect("100 is not 0");
        Self { policy: MisfirePolicy::Latest, max_lateness: None, max: HUNDRED }
    }
}

/// From 0 to 9; higher goes first, 5 is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// The priority `level`, if it is one: 0 to 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= 9 { Some(Self(level)) } else { None }
    }

    /// The number, 0 to 9.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

words! {
    /// What happens when a task's tier has no backend or the backend is down.
    OnUnavailable {
        /// The caller gets the error.
        Error = "error",
        /// The next tier in the order workflow, queue, local takes it.
        Fallback = "fallback",
    }
}

words! {
    /// Who fires a task whose backend keeps schedules outside of this process.
    FiredBy {
        /// What is outside: it fires also while this process is away, and in its own way.
        Engine = "engine",
        /// This process, in our way: every trigger and policy is kept.
        Scheduler = "scheduler",
    }
}

impl Task {
    /// A task with every default: no trigger, no args, no time limit.
    pub fn new(name: Name, job: Name) -> Self {
        let settings = TaskSettings {
            job,
            characteristics: StatedCharacteristics::default(),
            tier: None,
            backend: None,
            retry: RetryPolicy::default(),
            timeout: None,
            overlap: Overlap::Skip,
            misfire: Misfire::default(),
            misfire_stated: false,
            priority: Priority::default(),
            queue: None,
            unique: None,
            on_unavailable: OnUnavailable::Error,
            fired_by: FiredBy::Engine,
        };
        Self { name, args: Value::Object(Map::new()), trigger: None, settings: Arc::new(settings) }
    }

    /// Its characteristics, with the frequency taken from the trigger where it states none.
    pub fn characteristics(&self) -> TaskCharacteristics {
        let stated = &self.characteristics;
        let default = TaskCharacteristics::default();
        TaskCharacteristics {
            frequency: stated
                .frequency
                .or_else(|| self.trigger.as_ref().map(Trigger::frequency))
                .unwrap_or(default.frequency),
            visibility: stated.visibility.unwrap_or(default.visibility),
            complexity: stated.complexity.unwrap_or(default.complexity),
            durability: stated.durability.unwrap_or(default.durability),
            infrastructure: stated.infrastructure.unwrap_or(default.infrastructure),
        }
    }

    /// Whether it states its misfire policy and does not leave it to the default.
    pub fn states_misfire(&self) -> bool {
        self.misfire_stated || self.misfire != Misfire::default()
    }

    /// Where it belongs, and why.
    pub fn classify(&self) -> Classification {
        classify_task(&self.characteristics())
    }

    /// What its definition costs on `tier`, the tier it was placed on.
    pub fn warnings_on(&self, tier: Tier) -> Vec<Warning> {
        let mut warnings = placement_warnings(tier, &self.characteristics());
        if let Some((period, timeout)) =
            self.trigger.as_ref().and_then(Trigger::mean_period).zip(self.timeout)
            && period < timeout
        {
            warnings.push(Warning::new(
                "task/period_below_timeout",
                format!(
                    "fires every {} but a run may take {}: with overlap = {} fires are {}; \
                         shorten the timeout or the cadence",
                    crate::Spelled(period),
                    crate::Spelled(timeout),
                    self.overlap,
                    match self.overlap {
                        Overlap::Skip => "skipped",
                        Overlap::Queue => "queued",
                        Overlap::CancelOther => "cut short",
                        Overlap::Allow => "run side by side",
                    }
                ),
            ));
        }
        let persistent = self.characteristics().durability == Durability::Persistent;
        if persistent && self.retry.attempts_on(tier) == 1 {
            warnings.push(Warning::new(
                "task/persistent_without_retries",
                "a persistent task with a single attempt: the first failure ends the run; set retry = { max_attempts = 3 }",
            ));
        }
        if let Some(queue) = self.queue.as_ref().filter(|_| tier != Tier::Queue) {
            warnings.push(Warning::new(
                "task/queue_ignored",
                format!("queue = \"{queue}\" says nothing on tier {tier}; tier = \"queue\" has queues"),
            ));
        }
        if self.unique.is_some() && tier != Tier::Queue {
            warnings.push(Warning::new(
                "task/unique_ignored",
                format!("unique says nothing on tier {tier}; tier = \"queue\" keeps runs unique"),
            ));
        }
        let chosen = self.classify();
        if self.tier.is_some_and(|stated| stated != chosen.tier) {
            warnings.push(Warning::new(
                "task/tier_disagrees",
                format!(
                    "tier = \"{tier}\" is set, the classifier says {} by {}: {}",
                    chosen.tier,
                    chosen.rule,
                    chosen.reasons.join(", ")
                ),
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task::new(Name::new("t").unwrap(), Name::new("j").unwrap())
    }

    #[test]
    fn a_change_of_a_clone_leaves_the_others_as_they_were() {
        let first = task();
        let mut second = first.clone();
        second.name = Name::new("second").unwrap();
        assert!(Arc::ptr_eq(&first.settings, &second.settings), "a name is no setting");

        second.timeout = Some(Duration::from_secs(1));
        second.retry.jitter = false;

        assert_eq!((first.timeout, first.retry.jitter), (None, true));
        assert_eq!((second.timeout, second.retry.jitter), (Some(Duration::from_secs(1)), false));
    }

    #[test]
    fn a_task_is_small() {
        assert!(size_of::<Task>() <= 128, "{}", size_of::<Task>());
    }

    fn codes(task: &Task, tier: Tier) -> Vec<&'static str> {
        task.warnings_on(tier).iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn the_frequency_follows_the_trigger_unless_it_is_stated() {
        let mut task = task();
        assert_eq!(task.characteristics().frequency, Frequency::Low);
        task.trigger = Some(Trigger::every(Duration::from_secs(30)).unwrap());
        assert_eq!(task.characteristics().frequency, Frequency::High);
        task.characteristics.frequency = Some(Frequency::Medium);
        assert_eq!(task.characteristics().frequency, Frequency::Medium);
    }

    #[test]
    fn a_costly_definition_is_warned_about() {
        let mut task = task();
        assert!(codes(&task, Tier::Local).is_empty());
        task.trigger = Some(Trigger::every(Duration::from_secs(30)).unwrap());
        task.timeout = Some(Duration::from_secs(60));
        task.characteristics.durability = Some(Durability::Persistent);
        assert_eq!(
            codes(&task, Tier::Queue),
            ["classify/high_frequency_on_queue", "task/period_below_timeout"]
        );
        task.tier = Some(Tier::Local);
        assert_eq!(
            codes(&task, Tier::Local),
            [
                "classify/persistent_on_local",
                "task/period_below_timeout",
                "task/persistent_without_retries",
                "task/tier_disagrees"
            ]
        );
        let mut queued = Task::new(task.name.clone(), task.job.clone());
        queued.queue = Some(task.name.clone());
        assert_eq!(codes(&queued, Tier::Local), ["task/queue_ignored"]);
        assert!(codes(&queued, Tier::Queue).is_empty());
        let mut unique = Task::new(task.name.clone(), task.job.clone());
        unique.unique = Some(Unique::default());
        assert_eq!(codes(&unique, Tier::Local), ["task/unique_ignored"]);
        assert!(codes(&unique, Tier::Queue).is_empty());
    }
}
