//! What the scheduler itself does: its backends, its tasks, and what became of their runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scheduler_core::{
    ErrorKind, HealthStatus, Load, Name, RunContext, RunId, Scheduler, Tally, TaskTally, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::metrics_sample::Sample;
use crate::metrics_source::Look;

/// What became of runs since the state of the task began, as it is stored. The scheduler counts anew in each life
/// of its process; what it counted before is carried over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Of which count `now` is.
    life: Option<RunId>,
    /// What earlier lives counted.
    before: BTreeMap<String, Counts>,
    now: BTreeMap<String, Counts>,
    /// The tasks that there are, and the jobs, under whose names runs without a task are counted. Of others nothing is
    /// carried over.
    #[serde(skip)]
    known: Option<BTreeSet<String>>,
}

/// What became of the runs of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    skipped: u64,
    retried: u64,
    timed: u64,
    took_ms: u64,
    fired: u64,
    late_ms: u64,
    last_success: Option<i64>,
}

/// Looks at the scheduler of a run.
pub(crate) async fn look(ctx: &RunContext) -> Look {
    let scheduler = match ctx.scheduler() {
        Ok(scheduler) => scheduler,
        Err(error) => return Look::at_fault(error.to_string(), error.is_transient()),
    };
    let now = ctx.clock().now();
    let tally = scheduler.tally();
    let mut look = Look { counted: tally.as_ref().map(Counted::of), ..Look::default() };
    if let Some(counted) = &mut look.counted {
        let tasks = scheduler.tasks().into_iter().map(|placed| placed.task.name.to_string());
        let jobs = scheduler.registry().jobs().map(|job| job.item.name().to_string());
        counted.known = Some(tasks.chain(jobs).collect());
    }
    // Where it was not started, as when the task is tried by hand, there is nothing but what backends keep.
    let runs_here = tally.is_some();
    backends(&scheduler, runs_here, now, &mut look).await;
    if runs_here {
        tasks(&scheduler, &mut look).await;
    } else {
        look.missing.push("this process runs no tasks, so it counts none".to_owned());
    }
    look
}

async fn backends(scheduler: &Scheduler, runs_here: bool, now: Timestamp, look: &mut Look) {
    let loads = scheduler.loads().await;
    let health = if runs_here { scheduler.health().await } else { Vec::new() };
    for (info, load) in loads {
        let labels = [("backend", info.name.as_str()), ("tier", info.tier.as_str())];
        if let Some((_, health)) = health.iter().find(|(name, _)| *name == info.name) {
            let is = |status| f64::from(u8::from(health.status == status));
            look.samples.push(Sample::gauge("scheduler_backend_up", &labels, 1.0 - is(HealthStatus::Down)));
            look.samples.push(Sample::gauge(
                "scheduler_backend_degraded",
                &labels,
                is(HealthStatus::Degraded),
            ));
        }
        match load {
            Ok(load) => look.samples.extend(of_load(&load, &labels, now)),
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            // That it is down is a number above.
            Err(_) if !runs_here => {}
            Err(error) => look.missing.push(error.to_string()),
        }
    }
}

fn of_load(load: &Load, labels: &[(&str, &str)], now: Timestamp) -> Vec<Sample> {
    let oldest = load.oldest_due.map_or(Duration::ZERO, |due| now.since(due));
    let mut samples = vec![
        Sample::gauge("scheduler_runs_waiting", labels, float(load.waiting)),
        Sample::gauge("scheduler_oldest_waiting_seconds", labels, oldest.as_secs_f64()),
        Sample::gauge("scheduler_runs_ahead", labels, float(load.ahead)),
        Sample::gauge("scheduler_runs_under_way", labels, float(load.under_way)),
    ];
    samples
        .extend(load.dead_letters.map(|count| Sample::gauge("scheduler_dead_letters", labels, float(count))));
    samples
}

async fn tasks(scheduler: &Scheduler, look: &mut Look) {
    look.samples.push(Sample::gauge("scheduler_tasks", &[], float(scheduler.tasks().len() as u64)));
    let statuses = match scheduler.statuses().await {
        Ok(statuses) => statuses,
        Err(error) => return look.missing.push(error.to_string()),
    };
    for status in statuses {
        let labels = [("task", status.task.as_str())];
        let is_paused = f64::from(u8::from(status.paused.is_some()));
        look.samples.push(Sample::gauge("scheduler_task_paused", &labels, is_paused));
        look.samples.push(Sample::gauge("scheduler_task_live_runs", &labels, float(status.live as u64)));
        look.samples.extend(
            status
                .next
                .map(|next| Sample::gauge("scheduler_next_run_timestamp_seconds", &labels, instant(next))),
        );
    }
}

impl Counted {
    fn of(tally: &Tally) -> Self {
        let now = tally.tasks.iter().map(|(task, tally)| (Name::to_string(task), Counts::of(tally)));
        Self { life: Some(tally.life), before: BTreeMap::new(), now: now.collect(), known: None }
    }

    /// What is known after this count: that of an earlier life is carried over, and one of the same life takes its
    /// place, unless a run beside this one was faster.
    pub(crate) fn after(self, present: Self) -> Self {
        let mut before = present.before;
        let mut now = self.now;
        for (task, counts) in present.now {
            if present.life == self.life {
                let entry = now.entry(task).or_default();
                *entry = entry.larger(counts);
            } else {
                let entry = before.entry(task).or_default();
                *entry = entry.plus(counts);
            }
        }
        if let Some(known) = &self.known {
            before.retain(|task, _| known.contains(task));
        }
        Self { life: self.life, before, now, known: self.known }
    }

    /// The numbers, of every task that ever ended a run.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut all = self.before.clone();
        for (task, counts) in &self.now {
            let entry = all.entry(task.clone()).or_default();
            *entry = entry.plus(*counts);
        }
        all.iter().flat_map(|(task, counts)| counts.samples(task)).collect()
    }
}

impl Counts {
    fn of(tally: &TaskTally) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            succeeded: tally.succeeded,
            failed: tally.failed,
            cancelled: tally.cancelled,
            skipped: tally.skipped,
            retried: tally.retried,
            timed: tally.timed,
            took_ms: millis(tally.took),
            fired: tally.fired,
            late_ms: millis(tally.late),
            last_success: tally.last_success.map(Timestamp::as_millis),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn larger(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    fn with(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            succeeded: join(self.succeeded, other.succeeded),
            failed: join(self.failed, other.failed),
            cancelled: join(self.cancelled, other.cancelled),
            skipped: join(self.skipped, other.skipped),
            retried: join(self.retried, other.retried),
            timed: join(self.timed, other.timed),
            took_ms: join(self.took_ms, other.took_ms),
            fired: join(self.fired, other.fired),
            late_ms: join(self.late_ms, other.late_ms),
            last_success: self.last_success.max(other.last_success),
        }
    }

    fn samples(&self, task: &str) -> Vec<Sample> {
        let labels = [("task", task)];
        let outcomes = [
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
            ("skipped", self.skipped),
        ];
        // Rare outcomes that never happened take no room.
        let outcomes =
            outcomes.into_iter().enumerate().filter(|(place, (_, count))| *place < 2 || *count > 0);
        let mut samples: Vec<Sample> = outcomes
            .map(|(_, (outcome, count))| {
                let labels = [("outcome", outcome), ("task", task)];
                Sample::counter("scheduler_runs_total", &labels, float(count))
            })
            .collect();
        let seconds = |millis: u64| float(millis) / 1000.0;
        let counters = [
            ("scheduler_run_seconds_sum", seconds(self.took_ms)),
            ("scheduler_run_seconds_count", float(self.timed)),
            ("scheduler_late_seconds_sum", seconds(self.late_ms)),
            ("scheduler_late_seconds_count", float(self.fired)),
            ("scheduler_retries_total", float(self.retried)),
        ];
        samples.extend(counters.map(|(name, value)| Sample::counter(name, &labels, value)));
        samples.extend(self.last_success.map(|at| {
            Sample::gauge(
                "scheduler_last_success_timestamp_seconds",
                &labels,
                instant(Timestamp::from_millis(at)),
            )
        }));
        samples
    }
}

#[expect(clippy::cast_precision_loss, reason = "instants of this era are exact")]
fn instant(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts that far")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(life: i64, succeeded: u64) -> Counted {
        let counts = Counts { succeeded, last_success: Some(life), ..Counts::default() };
        // Ids of one instant differ, so a life is one that was made once.
        let life = RunId::scheduled(
            &Name::new("n").unwrap(),
            &Name::new("t").unwrap(),
            Timestamp::from_millis(life),
        );
        let now = BTreeMap::from([("a".to_owned(), counts)]);
        Counted { life: Some(life), before: BTreeMap::new(), now, known: None }
    }

    #[test]
    fn of_a_task_that_is_gone_nothing_is_carried_over() {
        let book = counted(1, 2);
        let known = Some(BTreeSet::from(["b".to_owned()]));
        let next = Counted { now: BTreeMap::new(), known, ..counted(2, 0) };
        assert!(next.after(book).samples().is_empty());
    }

    #[test]
    fn no_run_is_counted_twice_or_lost_over_several_lives() {
        let mut book = Counted::default();
        let mut told = Vec::new();
        for (life, count) in [(1, 2), (1, 5), (1, 4), (2, 1), (2, 3), (3, 0), (3, 1)] {
            book = counted(life, count).after(book);
            told.push(book.samples()[0].value);
            book = serde_json::from_value(serde_json::to_value(book).unwrap()).unwrap();
        }
        assert_eq!(told, [2.0, 5.0, 5.0, 6.0, 8.0, 8.0, 9.0]);
    }
}
