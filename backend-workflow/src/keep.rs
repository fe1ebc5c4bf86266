//! Keeps the engine in step with the tasks while the backend runs: writes their schedules, cancels what is late by
//! their policy, fills in what is missing, and looks for what keeps the engine from its work.
//!
//! One loop; it never stands in the way of those that start or follow runs. What it cannot do it says in the health
//! and tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Name, Placed, Result, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::WorkflowId;
use crate::plan::{Act, may_concern_all};
use crate::session::{Session, lock};

/// Tasks are handed over one by one; when none came for so long, what none of them wants is looked for.
const QUIET: Duration = Duration::from_secs(5);
/// What is wrong with a task in the engine may be put right there: it is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the engine is looked over for what keeps it from its work.
const ROUND: Duration = Duration::from_secs(30);

/// Keeps the engine in step until the backend stops. A name that comes in is of a task to look at.
pub(crate) async fn keep(session: Arc<Session>, tasks: UnboundedReceiver<Name>) {
    let stopping = session.stopping.cancelled();
    tokio::select! {
        () = Keeping::new(session).go_on(tasks) => {}
        _ = stopping => {}
    }
}

struct Keeping {
    session: Arc<Session>,
    /// Tasks whose schedule may differ from what it should be.
    to_sync: BTreeSet<Name>,
    /// The workflows of those that are in step.
    in_step: BTreeMap<Name, Option<WorkflowId>>,
    /// Since when the schedule of a task is as it is, where it was changed here.
    changed: BTreeMap<Name, Timestamp>,
    faults: BTreeMap<Name, String>,
    last_handed: Duration,
    /// What moved elsewhere goes at once; what no task wants, when all tasks have been handed over.
    has_begun: bool,
    is_swept: bool,
    next_round: Duration,
    next_retry: Duration,
}

impl Keeping {
    fn new(session: Arc<Session>) -> Self {
        let last_handed = session.ctx.clock.monotonic();
        let mut tasks = session.ctx.tasks.all();
        // Also those that the engine does not fire, as it may have done so before.
        tasks.retain(|placed| placed.placement.backend == session.backend);
        let to_sync = tasks.iter().map(|placed| placed.task.name.clone()).collect();
        Self {
            session,
            to_sync,
            in_step: BTreeMap::new(),
            changed: BTreeMap::new(),
            faults: BTreeMap::new(),
            last_handed,
            has_begun: false,
            is_swept: false,
            next_round: Duration::ZERO,
            next_retry: Duration::MAX,
        }
    }

    async fn go_on(mut self, mut tasks: UnboundedReceiver<Name>) {
        let clock = Arc::clone(&self.session.ctx.clock);
        let busy = clock.busy();
        loop {
            let worked = self.work().await;
            if let Err(error) = &worked {
                tracing::debug!(backend = %self.session.backend, "the engine is not kept in step now: {error}");
            }
            let pause = match worked {
                Ok(()) => self.next_work().saturating_sub(clock.monotonic()),
                Err(_) => self.session.link.wait(self.session.config.poll),
            };
            let mut sleep = clock.sleep_until(clock.monotonic().saturating_add(pause));
            let woken = async {
                tokio::select! {
                    () = &mut sleep => None,
                    task = tasks.recv() => Some(task),
                }
            };
            match busy.parked(woken).await {
                None => {}
                Some(None) => return,
                Some(Some(task)) => {
                    self.hand(task);
                    while let Ok(task) = tasks.try_recv() {
                        self.hand(task);
                    }
                }
            }
        }
    }

    fn hand(&mut self, task: Name) {
        self.last_handed = self.session.ctx.clock.monotonic();
        self.is_swept = false;
        self.to_sync.insert(task);
    }

    fn next_work(&self) -> Duration {
        let sweep = if self.is_swept {
            Duration::MAX
        } else {
            self.last_handed + QUIET.min(self.session.config.idle_poll)
        };
        self.next_round.min(self.next_retry).min(sweep)
    }

    async fn work(&mut self) -> Result<()> {
        let now = self.session.ctx.clock.monotonic();
        if now >= self.next_retry {
            self.next_retry = Duration::MAX;
            self.to_sync.extend(self.faults.keys().cloned());
        }
        while let Some(task) = self.to_sync.first().cloned() {
            self.sync(&task).await?;
            self.to_sync.remove(&task);
        }
        if !std::mem::replace(&mut self.has_begun, true)
            && let Err(error) = self.sweep(false).await
        {
            self.has_begun = false;
            return Err(error);
        }
        if !self.is_swept && now >= self.last_handed + QUIET.min(self.session.config.idle_poll) {
            let left = self.sweep(self.session.config.prune).await?;
            for finding in &left {
                tracing::warn!(backend = %self.session.backend, "{finding}");
            }
            lock(&self.session.findings).left = left;
            self.is_swept = true;
        }
        self.end_pauses().await?;
        if now >= self.next_round {
            self.look_over().await?;
            self.next_round =
                self.session.ctx.clock.monotonic() + ROUND.min(self.session.config.idle_poll * 2);
        }
        Ok(())
    }

    /// Brings one task's schedule in step; what is wrong with this task alone is kept as a finding.
    async fn sync(&mut self, task: &Name) -> Result<()> {
        let session = Arc::clone(&self.session);
        let placed =
            session.ctx.tasks.find(task).filter(|placed| placed.placement.backend == session.backend);
        let Some(placed) = placed else {
            self.in_step.remove(task);
            self.faults.remove(task);
            return Ok(());
        };
        match self.sync_placed(&placed).await {
            Ok(workflow) => {
                self.in_step.insert(task.clone(), workflow);
                self.faults.remove(task);
            }
            Err(error) if may_concern_all(&error) => return Err(error),
            Err(error) => {
                let fault = error.to_string();
                if self.faults.insert(task.clone(), fault.clone()) != Some(fault) {
                    tracing::error!(backend = %session.backend, code = error.code(), "{error}");
                }
                self.next_retry = session.ctx.clock.monotonic() + AGAIN;
            }
        }
        self.publish();
        Ok(())
    }

    async fn sync_placed(&mut self, placed: &Placed) -> Result<Option<WorkflowId>> {
        let session = Arc::clone(&self.session);
        let (steps, _) = session.plan_task(placed).await?;
        for step in &steps {
            session.take(Some(&placed.task), step).await?;
            if matches!(step.act, Act::Write(_)) {
                self.changed.insert(placed.task.name.clone(), session.ctx.clock.now());
            }
        }
        Ok(Some(session.workflow_of(&placed.task).await?.1.id))
    }

    /// Deletes schedules that no task wants where they are, and says which it left.
    async fn sweep(&mut self, prune: bool) -> Result<Vec<String>> {
        let session = Arc::clone(&self.session);
        let wanted: Vec<(Name, Option<WorkflowId>)> =
            self.in_step.iter().map(|(task, workflow)| (task.clone(), workflow.clone())).collect();
        let mut left = Vec::new();
        for step in session.plan_rest(&wanted, prune).await? {
            // A workflow without a task does nothing by itself.
            if step.act == Act::Nothing && step.change.subject.starts_with("schedule ") {
                left.push(format!("{}: {}", step.change.subject, step.change.notes.join("; ")));
            }
            session.take(None, &step).await?;
        }
        Ok(left)
    }

    /// Lets tasks fire again whose pause had an end.
    async fn end_pauses(&mut self) -> Result<()> {
        let now = self.session.ctx.clock.now();
        let over: Vec<Name> = {
            let pauses = lock(&self.session.pauses);
            let is_over = |until: Option<Timestamp>| until.is_some_and(|until| until <= now);
            pauses.all().filter(|(_, pause)| is_over(pause.until)).map(|(task, _)| task.clone()).collect()
        };
        for task in over {
            match self.session.switch(&task, true).await {
                Err(error) if may_concern_all(&error) => return Err(error),
                // After a restart the task may not be there yet.
                Err(error) => tracing::debug!(%task, "its pause is over, and it does not fire: {error}"),
                Ok(()) => lock(&self.session.pauses).remove(&task),
            }
        }
        let ends: Vec<Timestamp> =
            lock(&self.session.pauses).all().filter_map(|(_, pause)| pause.until).collect();
        let next = ends.into_iter().filter(|until| *until > now).min();
        if let Some(next) = next {
            let monotonic = self.session.ctx.clock.monotonic();
            self.next_round = self.next_round.min(monotonic + next.since(now));
        }
        Ok(())
    }

    /// Applies the missed-run policies, and asks the engine what keeps it from its work.
    async fn look_over(&mut self) -> Result<()> {
        let session = Arc::clone(&self.session);
        let now = session.ctx.clock.now();
        if session.capabilities().schedules {
            session.cancel_late(now).await?;
            session.fill_in(now, &self.changed).await?;
        }
        let workflows = session.known_workflows();
        let found = session.link.call(|engine| engine.findings(&workflows, now)).await?;
        let before = std::mem::replace(&mut lock(&session.findings).engine, found.clone());
        // A number in it that grows is no news.
        let is_new = |finding: &&String| before.iter().all(|known| wordy(known) != wordy(finding));
        for finding in found.iter().filter(is_new) {
            tracing::warn!(backend = %session.backend, "{finding}");
        }
        Ok(())
    }

    fn publish(&self) {
        lock(&self.session.findings).faults = self.faults.values().cloned().collect();
    }
}

/// A finding without its numbers.
fn wordy(finding: &str) -> String {
    finding.chars().filter(|c| !c.is_ascii_digit()).collect()
}
