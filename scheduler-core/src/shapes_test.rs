//! What is shared is what each task would be told alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

use std::num::NonZeroU32;

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    Backend, BackendContext, BackendInfo, Cancelled, Complexity, Drained, Durability, Enqueued, FiredBy,
    Health, Infrastructure, Name, OnUnavailable, Overlap, Page, Registry, RunFilter, RunId, RunRequest,
    Scheduler, TestClock, Tier, Visibility, Warning, Way, place,
};

/// A place for tasks, which has something to say of those whose name begins with `odd`.
#[derive(Debug)]
struct Bare(BackendInfo);

#[async_trait]
impl Backend for Bare {
    fn info(&self) -> BackendInfo {
        self.0.clone()
    }
    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }
    async fn enqueue(&self, _: RunRequest) -> Result<Enqueued> {
        Err(Error::unavailable("backend/stopped", "it never runs"))
    }
    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page::default())
    }
    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "it has none"))
    }
    async fn health(&self) -> Health {
        Health::up()
    }
    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }
    fn judge(&self, task: &Task) -> Result<Vec<Warning>> {
        let is_odd = task.name.as_str().starts_with("odd");
        Ok(is_odd.then(|| Warning::new("bare/odd", format!("`{}` is odd", task.name))).into_iter().collect())
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn jobs() -> [JobDescriptor; 3] {
    let job = |name| JobDescriptor::function(name, "", |_| async { Ok(Value::Null) });
    [job("plain"), job("limited").with_own_limit(), job("queued").on(&[Tier::Queue, Tier::Local])]
}

fn scheduler() -> Scheduler {
    let mut registry = Registry::new();
    jobs().into_iter().for_each(|job| registry.add_job(job, crate::source!(), Way::Explicit).unwrap());
    let tiers = [("local", Tier::Local), ("queue", Tier::Queue), ("flows", Tier::Workflow)];
    let bare = |(text, tier)| Arc::new(Bare(BackendInfo::new(name(text), text, tier, &[])));
    let builder = Scheduler::builder(Arc::new(TestClock::at(Timestamp::default()))).registry(registry);
    tiers.into_iter().fold(builder, |builder, backend| builder.backend(bare(backend))).build().unwrap()
}

/// What a task would be told if no other had been placed before it.
fn alone(scheduler: &Scheduler, task: &Task, down: &[bool]) -> Result<Placement> {
    let member = |(member, is_down): (&Member, &bool)| Site {
        info: member.info.clone(),
        is_default: member.is_default,
        is_down: *is_down,
    };
    let sites: Vec<Site> = scheduler.0.backends.iter().zip(down).map(member).collect();
    let mut placement = place(task, scheduler.0.registry.job(task.job.as_str())?, &sites)?;
    placement.warnings.extend(scheduler.0.member(&placement.backend)?.backend.judge(task)?);
    Ok(placement)
}

/// Times between fires, some of one frequency, some shorter than a run may take.
fn periods() -> impl Strategy<Value = Option<Duration>> {
    let seconds = [1, 2, 90, 95, 7_200].map(|seconds| Some(Duration::from_secs(seconds)));
    prop::sample::select([&seconds[..], &[None]].concat())
}

fn tasks() -> impl Strategy<Value = Task> {
    let second = Duration::from_secs;
    let timeouts = prop::sample::select(vec![None, Some(second(30)), Some(second(100))]);
    let tiers =
        prop::sample::select(vec![None, None, Some(Tier::Local), Some(Tier::Queue), Some(Tier::Workflow)]);
    let backends = prop::sample::select(vec![None, None, None, Some("local"), Some("flows"), Some("absent")]);
    let texts = ("(odd|even)_[a-d]", prop::sample::select(vec!["plain", "limited", "queued"]), backends);
    let when = (timeouts, prop::option::of(prop::sample::select(Overlap::ALL)));
    let choice = (tiers, any::<bool>(), prop::option::of(prop::sample::select(FiredBy::ALL)), 0..3_u32);
    let facts = (
        prop::option::of(prop::sample::select(Frequency::ALL)),
        prop::option::of(prop::sample::select(Visibility::ALL)),
        prop::option::of(prop::sample::select(Complexity::ALL)),
        prop::option::of(prop::sample::select(Durability::ALL)),
        prop::option::of(prop::sample::select(Infrastructure::ALL)),
    );
    (texts, when, choice, facts).prop_map(|(texts, when, choice, facts)| {
        let mut task = Task::new(name(&texts.0), name(texts.1));
        task.backend = texts.2.map(name);
        task.timeout = when.0;
        task.overlap = when.1.unwrap_or(Overlap::Skip);
        task.tier = choice.0;
        task.on_unavailable = if choice.1 { OnUnavailable::Fallback } else { OnUnavailable::Error };
        task.fired_by = choice.2.unwrap_or(FiredBy::Engine);
        task.retry.max_attempts = NonZeroU32::new(choice.3);
        let stated = &mut task.characteristics;
        (stated.frequency, stated.visibility, stated.complexity) = (facts.0, facts.1, facts.2);
        (stated.durability, stated.infrastructure) = (facts.3, facts.4);
        task
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_placement_that_was_shared_is_what_the_task_would_be_told_alone(
        bases in prop::collection::vec(tasks(), 2),
        steps in prop::collection::vec(
            (0..2_usize, "(odd|even)_[a-d]", periods(), any::<bool>(), prop::bool::weighted(0.1)),
            1..30,
        ),
    ) {
        let scheduler = scheduler();
        let mut is_down = false;
        let mut placing = scheduler.0.placing();
        for (base, text, period, shares, turns) in steps {
            if turns {
                is_down ^= true;
                placing = Placing { down: vec![false, is_down, is_down], ..scheduler.0.placing() };
            }
            let mut task = bases[base].clone();
            task.name = name(&text);
            task.trigger = period.map(|period| Trigger::every(period).unwrap());
            if !shares {
                task.settings = Arc::new(TaskSettings::clone(&task.settings));
            }
            match (alone(&scheduler, &task, &placing.down), placing.place(task.clone())) {
                (Ok(fresh), Ok(shared)) => {
                    prop_assert_eq!(&fresh, &*shared.placement);
                    prop_assert_eq!(&task, &shared.task);
                }
                (Err(fresh), Err(shared)) => {
                    prop_assert_eq!((fresh.code(), fresh.to_string()), (shared.code(), shared.to_string()));
                }
                (fresh, shared) => prop_assert!(false, "{task:?}: alone {fresh:?}, shared {shared:?}"),
            }
        }
    }
}

#[test]
fn no_more_shapes_are_kept_than_the_bound() {
    let scheduler = scheduler();
    for seconds in 1..=600 {
        let mut task = Task::new(name("t"), name("plain"));
        task.timeout = Some(Duration::from_secs(seconds));
        scheduler.0.placing().place(task).unwrap();
        let known = scheduler.0.shapes.0.lock().unwrap().placements.len();
        assert!((1..=MAX_SHAPES).contains(&known), "{known}");
    }
}
