//! A store whose callers may die before and after each call, and which may refuse, be slow, or lose an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, EndedRun, Error, HeldLetters, HistoryBounds, Load, Name, Page, Pause,
    Replayed, Result, Run, RunFilter, RunId, Timestamp,
};
use tokio::sync::{Notify, RwLock};

use crate::simulation_world::{Fate, World};
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Decision, Effect, Held, Pushed, QueueState, Renewed, Replay,
    Retention, Standing, Stepped, Store,
};

/// The life of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Life {
    is_over: AtomicBool,
    over: Notify,
    /// Read while the store does something for this daemon, and until that is noted.
    calls: RwLock<()>,
}

impl Life {
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.over.notify_one();
    }

    /// Resolves when it is over, and what the store did for it is noted: a real store may do it although nobody waits for
    /// the answer.
    pub(crate) async fn is_over(&self) {
        self.over.notified().await;
        let _no_call = self.calls.write().await;
    }

    /// Whoever is dead does nothing any more.
    async fn live_on(&self) {
        if self.is_over.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// A store as one daemon sees it.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl Faulty {
    async fn call<T>(&self, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let (fate, before, after) = self.world.fate();
        tokio::time::sleep(before).await;
        self.life.live_on().await;
        match fate {
            Fate::CrashBefore => self.life.end(),
            Fate::Refused => return Err(Error::unavailable("queue/unavailable", "not now")),
            Fate::Answered | Fate::CrashAfter | Fate::AnswerLost => {}
        }
        self.life.live_on().await;
        let under_way = self.life.calls.read().await;
        if self.life.is_over.load(Ordering::Relaxed) {
            drop(under_way);
            return std::future::pending().await;
        }
        let answer = effect.await;
        drop(under_way);
        if fate == Fate::CrashAfter {
            self.life.end();
        }
        self.life.live_on().await;
        tokio::time::sleep(after).await;
        self.life.live_on().await;
        if fate == Fate::AnswerLost {
            return Err(Error::unavailable("queue/unavailable", "no answer"));
        }
        answer
    }
}

#[async_trait]
impl Store for Faulty {
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        self.call(self.store.push(runs)).await
    }

    async fn push_unique(&self, runs: Vec<Pushed>) -> Result<Vec<Option<RunId>>> {
        self.call(async {
            let answers = self.store.push_unique(runs).await?;
            let page = self.store.runs(&RunFilter::all().limited(10_000)).await?;
            let live = page.runs.iter().filter(|run| run.unique.is_some() && !run.state.is_end());
            let live: Vec<RunId> = live.map(|run| run.id).collect();
            if live.len() > 1 {
                self.world.seen().broke(format!("these are of one kind: {live:?}"));
            }
            Ok(answers)
        })
        .await
    }

    async fn tell_progress(&self, runs: &[(Run, u64)]) -> Result<()> {
        self.call(self.store.tell_progress(runs)).await
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        self.call(async {
            let stepped = self.store.step(acks, claim).await?;
            self.world.seen().step(acks, &stepped);
            Ok(stepped)
        })
        .await
    }

    async fn renew(&self, held: &[Held], lease: std::time::Duration) -> Result<Renewed> {
        self.call(self.store.renew(held, lease)).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<Run>> {
        self.call(async {
            let reaped = self.store.reap(limit).await?;
            let mut seen = self.world.seen();
            reaped.iter().filter(|run| run.state.is_end()).for_each(|run| seen.end(run.id));
            Ok(reaped)
        })
        .await
    }

    async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancel> {
        self.call(async {
            let answer = self.store.cancel(run, reason).await?;
            if let Cancel::Ended(run) = &answer {
                self.world.seen().end(run.id);
            }
            Ok(answer)
        })
        .await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        self.call(self.store.runs(filter)).await
    }

    async fn waiting(&self) -> Result<usize> {
        self.call(self.store.waiting()).await
    }

    async fn load(&self) -> Result<Load> {
        self.call(self.store.load()).await
    }

    async fn register(&self, task: &Name, definition: &str, lease: std::time::Duration) -> Result<u64> {
        self.call(self.store.register(task, definition, lease)).await
    }

    async fn serve(&self, tasks: &[Name], lease: std::time::Duration) -> Result<()> {
        self.call(self.store.serve(tasks, lease)).await
    }

    async fn decide(&self, task: &Name, revision: u64, decide: &Decide<'_>) -> Result<Decided> {
        self.call(async {
            let (fire, late) = (Mutex::new(None), self.world.scale.late);
            let _unheard = self.world.deciding();
            let deciding = |standing: Standing, now: Timestamp| -> Decision {
                let decision = decide(standing, now);
                *fire.lock().unwrap() = match &decision.effect {
                    Effect::Fire(pushed, _) => Some((pushed.run.clone(), true)),
                    Effect::Skip(run) => Some((run.as_ref().clone(), false)),
                    Effect::Nothing => None,
                };
                decision
            };
            let decided = self.store.decide(task, revision, &deciding).await?;
            if !late.is_zero() {
                tokio::time::sleep(late).await;
            }
            if let Decided::Done { ended, .. } = &decided {
                let mut seen = self.world.seen();
                if let Some((run, is_fired)) = fire.lock().unwrap().take() {
                    seen.decide(&run, is_fired);
                }
                ended.iter().for_each(|run| seen.end(run.id));
            }
            Ok(decided)
        })
        .await
    }

    async fn pause(&self, task: &Name, pause: Option<&Pause>) -> Result<()> {
        self.call(self.store.pause(task, pause)).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.call(self.store.now()).await
    }

    async fn pause_queue(&self, queue: Option<&Name>, pause: Option<&Pause>) -> Result<bool> {
        self.call(self.store.pause_queue(queue, pause)).await
    }

    async fn queues(&self) -> Result<Vec<QueueState>> {
        self.call(self.store.queues()).await
    }

    async fn standing(&self, task: &Name) -> Result<Option<Standing>> {
        self.call(self.store.standing(task)).await
    }

    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        self.call(self.store.letters(filter)).await
    }

    async fn replay(&self, letters: &[Replay]) -> Result<Vec<Replayed>> {
        self.call(self.store.replay(letters)).await
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        self.call(self.store.hold(run, reason)).await
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        self.call(self.store.discard(runs, held)).await
    }

    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize> {
        self.call(self.store.forget(retention, limit)).await
    }

    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: u32) -> Result<Vec<EndedRun>> {
        self.call(self.store.beyond(bounds, skip, limit)).await
    }

    async fn prune(&self, bounds: &HistoryBounds, limit: u32) -> Result<Vec<EndedRun>> {
        self.call(self.store.prune(bounds, limit)).await
    }

    async fn changed(&self) {
        self.store.changed().await;
    }
}
