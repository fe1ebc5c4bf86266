//! Follows the runs of the tier, all together: one call for many of them, often while any lives and seldom while
//! none does, and tells what happened to them. Runs that the engine's events name are looked at at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Event, Result, Timestamp};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::engine::{EngineRun, EngineRunFilter, EngineRunId};
use crate::followed::{Followed, News};
use crate::hearing::{Heard, hear};
use crate::listing::PAGE;
use crate::session::{Session, lock};
use crate::shown::live_phases;

/// Runs that schedules make appear in the engine at most this much after their time.
const LAG: Duration = Duration::from_secs(60);
/// How many pages of new runs are read in one look.
const MOST_PAGES: usize = 50;

/// Follows runs until the backend stops.
pub(crate) async fn follow(session: Arc<Session>, handed: UnboundedReceiver<EngineRun>) {
    let stopping = session.stopping.cancelled();
    let (tell, heard) = unbounded_channel();
    tokio::select! {
        () = Following::new(Arc::clone(&session)).go_on(handed, heard) => {}
        () = hear(&session, tell) => {}
        _ = stopping => {}
    }
}

struct Following {
    session: Arc<Session>,
    followed: Followed,
    /// Since when what happens is told.
    since: Timestamp,
    /// Up to where new runs were looked for, and when to look for them again.
    looked_up_to: Option<Timestamp>,
    next_search: Duration,
    last_round: Duration,
    /// Whether the engine tells what changes.
    is_told: bool,
}

/// What ends a wait.
enum Woken {
    Time,
    Handed(Option<Box<EngineRun>>),
    Heard(Heard),
}

impl Following {
    fn new(session: Arc<Session>) -> Self {
        let since = session.ctx.clock.now();
        Self {
            session,
            followed: Followed::default(),
            since,
            looked_up_to: None,
            next_search: Duration::ZERO,
            last_round: Duration::ZERO,
            is_told: false,
        }
    }

    async fn go_on(mut self, mut handed: UnboundedReceiver<EngineRun>, mut heard: UnboundedReceiver<Heard>) {
        let clock = Arc::clone(&self.session.ctx.clock);
        let busy = clock.busy();
        loop {
            while let Ok(run) = handed.try_recv() {
                self.take(&run);
            }
            self.last_round = clock.monotonic();
            if let Err(error) = self.round().await {
                tracing::debug!(backend = %self.session.backend, "runs are not followed now: {error}");
            }
            loop {
                let mut sleep = clock.sleep_until(self.next_round());
                let woken = async {
                    tokio::select! {
                        () = &mut sleep => Woken::Time,
                        run = handed.recv() => Woken::Handed(run.map(Box::new)),
                        Some(heard) = heard.recv() => Woken::Heard(heard),
                    }
                };
                match busy.parked(woken).await {
                    Woken::Time => break,
                    Woken::Handed(Some(run)) => self.take(&run),
                    Woken::Handed(None) => return,
                    Woken::Heard(first) => {
                        if !self.heed(first, &mut heard).await {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Looks at what the engine told; answers whether the wait for the next round goes on.
    async fn heed(&mut self, first: Heard, more: &mut UnboundedReceiver<Heard>) -> bool {
        let mut changed = BTreeSet::new();
        let mut next = Some(first);
        while let Some(heard) = next {
            match heard {
                Heard::Changed(run) => drop(changed.insert(run)),
                // What was missed before is found by looking at everything.
                Heard::Begun => {
                    (self.is_told, self.next_search) = (true, Duration::ZERO);
                    return false;
                }
                Heard::Ended => {
                    self.is_told = false;
                    return false;
                }
            }
            next = more.try_recv().ok();
        }
        let changed: Vec<EngineRunId> = changed.into_iter().collect();
        for some in changed.chunks(PAGE) {
            if let Err(error) = self.look_at(some).await {
                tracing::debug!(backend = %self.session.backend, "what changed is not seen now: {error}");
                return false;
            }
        }
        *lock(&self.session.live) = self.followed.live_by_task();
        true
    }

    /// When to look again.
    fn next_round(&self) -> Duration {
        let session = &self.session;
        let (now, monotonic) = (session.ctx.clock.now(), session.ctx.clock.monotonic());
        let poll = session.link.wait(self.usual_poll());
        if self.followed.is_busy(now) {
            return self.last_round + poll;
        }
        let ahead = self.followed.next_due().map(|due| monotonic + due.since(now));
        ahead.map_or(self.next_search, |ahead| ahead.min(self.next_search)).max(self.last_round + poll)
    }

    /// How often the runs that live are looked at. Events may get lost, so it is never left out.
    fn usual_poll(&self) -> Duration {
        let config = &self.session.config;
        if self.is_told { config.idle_poll.max(config.poll) } else { config.poll }
    }

    /// Takes a run that was started here.
    fn take(&mut self, run: &EngineRun) {
        if let Some(identity) = self.session.identity(run) {
            let news = self.followed.see(&self.session.backend, identity, run, Duration::ZERO);
            self.tell(news);
        }
    }

    async fn round(&mut self) -> Result<()> {
        if self.session.ctx.clock.monotonic() >= self.next_search {
            self.search().await?;
        }
        let now = self.session.ctx.clock.now();
        let ids = self.followed.to_look_at(now, self.last_round.max(Duration::from_nanos(1)));
        for some in ids.chunks(PAGE) {
            self.look_at(some).await?;
        }
        *lock(&self.session.live) = self.followed.live_by_task();
        Ok(())
    }

    async fn look_at(&mut self, ids: &[EngineRunId]) -> Result<()> {
        let filter = EngineRunFilter { runs: ids.to_vec(), limit: PAGE, ..EngineRunFilter::default() };
        let session = Arc::clone(&self.session);
        let page = session.link.call(|engine| engine.list_runs(&filter)).await?;
        for id in ids.iter().filter(|id| page.runs.iter().all(|run| run.id != **id)) {
            self.followed.lose(id);
        }
        for run in &page.runs {
            // One that is not followed yet was told of by the engine.
            let known = self.followed.identity(&run.id);
            if let Some(identity) = known.or_else(|| session.identity(run)) {
                session.remember(identity.run_id, &run.id);
                let looked = session.ctx.clock.monotonic();
                let news = self.followed.see(&session.backend, identity, run, looked);
                self.tell(news);
            }
        }
        Ok(())
    }

    /// Looks for runs that were not started here: by a schedule of the engine, by a person, by another process.
    async fn search(&mut self) -> Result<()> {
        let session = Arc::clone(&self.session);
        session.read_schedules().await?;
        let now = session.ctx.clock.now();
        let from = self.looked_up_to.map(|up_to| up_to - LAG);
        // The first time, what ended before is of no interest.
        let phases = if from.is_none() { live_phases() } else { Vec::new() };
        let window = EngineRunFilter {
            phases,
            scheduled_from: from,
            scheduled_up_to: Some(now),
            limit: PAGE,
            ..EngineRunFilter::default()
        };
        let tags = vec![session.names.namespace_tag()];
        self.search_in(EngineRunFilter { tags, ..window.clone() }).await?;
        let workflows = session.carriers(None);
        if !workflows.is_empty() {
            self.search_in(EngineRunFilter { workflows, ..window }).await?;
        }
        self.looked_up_to = Some(now);
        self.followed.forget_ended(now - LAG - LAG);
        self.next_search = session.ctx.clock.monotonic() + self.until_next_search(now);
        Ok(())
    }

    async fn search_in(&mut self, mut window: EngineRunFilter) -> Result<()> {
        let session = Arc::clone(&self.session);
        let is_first = self.looked_up_to.is_none();
        for _ in 0..MOST_PAGES {
            let page = session.link.call(|engine| engine.list_runs(&window)).await?;
            for run in &page.runs {
                let Some(identity) = session.identity(run) else { continue };
                session.remember(identity.run_id, &run.id);
                let looked = session.ctx.clock.monotonic();
                let ended_before = run.ended.is_some_and(|ended| ended < self.since);
                // One that was to start after ours did is followed from its beginning.
                if is_first && run.scheduled_for.is_none_or(|at| at < self.since) {
                    self.followed.adopt(&session.backend, identity, run, looked);
                } else if !ended_before || self.followed.identity(&run.id).is_some() {
                    let news = self.followed.see(&session.backend, identity, run, looked);
                    self.tell(news);
                }
            }
            window.offset += page.runs.len();
            if !page.more || page.runs.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// New runs are expected when a schedule fires; others are found a little later.
    fn until_next_search(&self, now: Timestamp) -> Duration {
        let config = &self.session.config;
        let usual = if self.followed.is_busy(now) { self.usual_poll() * 2 } else { config.idle_poll };
        let tasks = self.session.ctx.tasks.all();
        let triggers = tasks.iter().filter(|placed| placed.placement.backend == self.session.backend);
        let fires = triggers.filter_map(|placed| placed.task.trigger.as_ref()?.next_after(now));
        let until_fire = fires.min().map(|fire| fire.since(now) + config.poll / 2);
        until_fire.map_or(usual, |until_fire| until_fire.min(usual))
    }

    fn tell(&self, news: Vec<News>) {
        let events = &self.session.ctx.events;
        for news in news {
            match &news {
                News::Started(run) => {
                    events.emit(&Event::AttemptStarted { run, fence: u64::from(run.attempt) });
                }
                News::Again(run) => events.emit(&Event::AttemptEnded {
                    run,
                    fence: u64::from(run.attempt),
                    next_in: Duration::ZERO,
                }),
                News::Ended(run) => events.emit(&Event::RunEnded { run, fence: u64::from(run.attempt) }),
            }
        }
    }
}
