//! What the reference backend stands on: a disk that outlives its instances, and the life of the present one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{
    BackendContext, BackendInfo, Busy, Cursor, Drained, Name, Pause, Placed, Priority, Run, RunContext,
    RunId, Timestamp,
};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::breaks::Break;

/// A run on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) run: Run,
    /// Not to be delivered before.
    pub(crate) due: Timestamp,
    /// The order in which runs came.
    pub(crate) number: u64,
    /// It waits until the runs of its task before it have ended.
    pub(crate) waits_for_turn: bool,
    /// It was cancelled, and is delivered all the same.
    pub(crate) haunts: bool,
    /// Its own, in place of its task's.
    pub(crate) priority: Option<Priority>,
    /// It was asked for while nothing ran.
    pub(crate) is_from_outside: bool,
}

/// A dead letter on the disk, beside its run.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) died_at: Timestamp,
    pub(crate) held: Option<String>,
}

/// Everything, behind one lock.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) runs: BTreeMap<RunId, Stored>,
    pub(crate) cursors: BTreeMap<Name, Cursor>,
    pub(crate) letters: BTreeMap<RunId, Letter>,
    pub(crate) accepted: u64,
    pub(crate) fence: u64,
    pub(crate) life: Option<Life>,
}

/// From a start to the end of what it started.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) ctx: BackendContext,
    pub(crate) tasks: BTreeMap<Name, Kept>,
    pub(crate) attempts: BTreeMap<RunId, (RunContext, AbortHandle)>,
    /// What the loop was woken for, until it has looked.
    pub(crate) held: Vec<Busy>,
    pub(crate) is_draining: bool,
    /// Only a broken backend goes on after its stop.
    pub(crate) is_stopped: bool,
    pub(crate) cut_off: Vec<RunId>,
    pub(crate) pump: Option<AbortHandle>,
}

/// A task with a schedule.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) placed: Arc<Placed>,
    pub(crate) paused: Option<Pause>,
    pub(crate) next: Option<Timestamp>,
    /// It was removed, and fires all the same.
    pub(crate) haunts: bool,
}

/// One instance's hold on the disk.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) info: BackendInfo,
    pub(crate) broken: Option<Break>,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) wake: Notify,
    /// How many attempts are under way.
    pub(crate) under_way: watch::Sender<usize>,
    pub(crate) past: Mutex<Past>,
    /// What it was connected with.
    pub(crate) connected: Mutex<Option<BackendContext>>,
}

/// What an instance that is broken remembers.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) has_started: bool,
    pub(crate) has_stopped: bool,
    pub(crate) last_stop: Drained,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn is(&self, broken: Break) -> bool {
        self.broken == Some(broken)
    }

    /// What a run is to do.
    pub(crate) fn work_of(&self, ctx: &BackendContext, run: &Run) -> scheduler_core::Result<Arc<Placed>> {
        let (mut ctx, mut run) = (ctx.clone(), run.clone());
        if let Some(adhoc) = &mut run.adhoc {
            if self.is(Break::ArgsLost) {
                adhoc.args = serde_json::Value::Null;
            }
            if self.is(Break::AnyJob) {
                let mut registry = (*ctx.registry).clone();
                let _ = registry.allow_adhoc(adhoc.job.as_str(), true, None);
                ctx.registry = Arc::new(registry);
            }
        }
        ctx.work_of(&run)
    }

    /// Wakes the loop; a test clock does not move before it has looked.
    pub(crate) fn notify(&self, state: &mut State) {
        if let Some(life) = &mut state.life {
            life.held.push(life.ctx.clock.busy());
        }
        self.wake.notify_one();
    }
}

impl State {
    /// The life that takes work.
    pub(crate) fn running(&self) -> Option<&Life> {
        self.life.as_ref().filter(|life| !life.is_stopped)
    }

    /// Ends the life with everything in it, as a crash does.
    pub(crate) fn end(&mut self) {
        let Some(life) = self.life.take() else { return };
        life.pump.iter().for_each(AbortHandle::abort);
        life.attempts.values().for_each(|(_, attempt)| attempt.abort());
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
