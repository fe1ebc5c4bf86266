//! One daemon of a simulation: the loop that ships, with a worker of its own, which may die or be stopped for a while.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use scheduler_core::{BackendContext, Name, Placed, attempt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use crate::QueueConfig;
use crate::driver::Driver;
use crate::requests::Command;
use crate::simulation_store::{Faulty, Life};
use crate::simulation_world::{Weather, World};
use crate::store::Store;
use crate::work::{Ended, Work};

/// Where a daemon is asked for things, while one lives there.
pub(crate) type Post = Arc<Mutex<Option<UnboundedSender<Command>>>>;

/// What all daemons have in common.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ctx: BackendContext,
    pub(crate) config: QueueConfig,
    pub(crate) tasks: Vec<Arc<Placed>>,
}

/// A place where one daemon lives after the other.
#[derive(Clone, Default)]
pub(crate) struct Place {
    pub(crate) post: Post,
    /// Until when the daemon does nothing, as a process that was suspended.
    stopped_until: Arc<Mutex<Option<Instant>>>,
}

impl Place {
    /// Suspends whoever lives here.
    pub(crate) fn suspend(&self, length: Duration) {
        *self.stopped_until.lock().unwrap() = Some(Instant::now() + length);
    }

    /// Starts a daemon here, and another one whenever it has died or stopped.
    pub(crate) async fn inhabit(self, fleet: Fleet) {
        loop {
            let life = Arc::new(Life::default());
            let (world, store) = (Arc::clone(&fleet.world), Arc::clone(&fleet.store));
            let faulty = Arc::new(Faulty { store, world, life: Arc::clone(&life) });
            let (commands, received) = unbounded_channel();
            let (work, taken) = unbounded_channel();
            let (ended, ends) = unbounded_channel();
            let driver = Driver::new(
                Name::new("queue").unwrap(),
                fleet.config.clone(),
                fleet.ctx.clone(),
                faulty,
                work,
            );
            let mut daemon = JoinSet::new();
            daemon.spawn(self.stopping(driver.run(received, ends)));
            let mut beside = JoinSet::new();
            beside.spawn(self.stopping(work_off(taken, ended)));
            beside.spawn(self.stopping(submit(commands.clone(), fleet.tasks.clone())));
            *self.post.lock().unwrap() = Some(commands);
            tokio::select! {
                () = life.is_over() => {}
                ended = daemon.join_next() => ended.unwrap().unwrap(),
            }
            *self.post.lock().unwrap() = None;
            drop((daemon, beside));
            let pause = if fleet.world.seen().weather == Weather::Stormy { 5_000 } else { 10 };
            let pause = fleet.world.dice().millis(pause);
            tokio::time::sleep(pause).await;
        }
    }

    fn stopping<F: Future<Output = ()> + Send + 'static>(&self, inner: F) -> Stopping {
        let until = Arc::clone(&self.stopped_until);
        Stopping { inner: Box::pin(inner), until, sleep: None }
    }
}

/// A part of a daemon, which does nothing while that is suspended.
struct Stopping {
    inner: Pin<Box<dyn Future<Output = ()> + Send>>,
    until: Arc<Mutex<Option<Instant>>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until.lock().unwrap().filter(|until| *until > Instant::now());
        if let Some(until) = until {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.sleep = None;
        self.inner.as_mut().poll(cx)
    }
}

/// Runs what is taken, each beside the others.
async fn work_off(mut taken: UnboundedReceiver<Work>, ended: UnboundedSender<Ended>) {
    let mut jobs = JoinSet::new();
    while let Some(Work { placed, ctx }) = taken.recv().await {
        let ended = ended.clone();
        jobs.spawn(async move {
            let end = attempt(&*placed.job, &ctx, placed.task.timeout).await;
            let _ = ended.send(Ended { run: ctx.run_id(), fence: ctx.fence(), end, ctx });
        });
    }
}

/// Hands in the tasks, each until it is taken.
async fn submit(commands: UnboundedSender<Command>, tasks: Vec<Arc<Placed>>) {
    for placed in tasks {
        loop {
            let (reply, answer) = oneshot::channel();
            let _ = commands.send(Command::Upsert(Arc::clone(&placed), reply));
            if let Ok(Ok(())) = answer.await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // What follows keeps the channel open.
    std::future::pending::<()>().await;
}
