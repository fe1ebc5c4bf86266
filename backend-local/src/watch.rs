//! Looks, while jobs run, whether they block their threads: lets others take what waits, adds threads, and tells.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use scheduler_core::CancelReason;

use crate::live::RunKey;
use crate::thread::Thread;
use crate::workers::{MAX_THREADS, Shared};

/// How often it looks while jobs run, and how often while something waits for a thread.
const PERIOD: Duration = Duration::from_millis(20);
const HURRY: Duration = Duration::from_millis(2);
/// A thread that polls one job for so long counts as blocked.
const BLOCKED: Duration = Duration::from_millis(10);
/// When a blocked thread is told of: at first for the loop to watch its time limit, and then as an event.
const TELL_FIRST: Duration = BLOCKED;
pub(crate) const TELL: Duration = Duration::from_secs(1);
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// How long spare threads stay once nothing blocks.
const SPARE: Duration = Duration::from_secs(10);

/// Whether any job runs; the watch sleeps while none does.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    running: Mutex<bool>,
    changed: Condvar,
}

impl Activity {
    pub(crate) fn set(&self, running: bool) {
        let mut state = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != running {
            *state = running;
            // That nothing runs it sees by itself.
            if running {
                self.changed.notify_one();
            }
        }
    }

    fn wait_until_running(&self) {
        let state = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(state, |running| !*running).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the watch; it ends with the workers.
pub(crate) fn spawn(shared: Arc<Shared>, activity: Arc<Activity>) -> std::io::Result<()> {
    let base = shared.threads().len();
    let builder = std::thread::Builder::new().name("scheduler-local-watch".into());
    let watch =
        Watch { shared, base, seen: HashMap::new(), told: HashMap::new(), free_since: Instant::now() };
    builder.spawn(move || watch.run(&activity)).map(|_| ())
}

struct Watch {
    shared: Arc<Shared>,
    base: usize,
    /// The poll that each thread was at, and since when it has been seen there.
    seen: HashMap<usize, (u64, Instant)>,
    /// When the blocking of an attempt is told of next.
    told: HashMap<u64, Duration>,
    free_since: Instant,
}

impl Watch {
    fn run(mut self, activity: &Activity) {
        while self.shared.ending.reason().is_none() {
            activity.wait_until_running();
            let hurry = self.shared.has_waiting() || self.shared.inbox().has_ends();
            std::thread::sleep(if hurry { HURRY } else { PERIOD });
            if self.shared.ending.reason().is_none() {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let threads = self.shared.threads();
        let now = Instant::now();
        let mut blocked: Vec<(Duration, RunKey, u64)> = Vec::new();
        let mut stuck = 0;
        for thread in &threads {
            let Some(since) = self.polling_since(thread, now) else { continue };
            // Others take what waits behind it, and what ended before it is heard of.
            self.shared.write_off(thread);
            if since >= BLOCKED {
                stuck += 1;
                blocked.extend(thread.run().map(|(run, fence)| (since, run, fence)));
            }
        }
        self.shared.call();
        if self.shared.inbox().has_ends() {
            self.shared.inbox().nudge();
        }
        if stuck >= threads.len() && threads.len() < MAX_THREADS {
            // A machine out of threads is told by the blocked jobs themselves.
            let _ = self.shared.add_thread();
        }
        if threads.len() - stuck < self.base {
            self.free_since = now;
        }
        if threads.len() > self.base && self.free_since.elapsed() > SPARE {
            threads.iter().skip(self.base).for_each(|thread| thread.retire(CancelReason::Requested));
            self.free_since = now;
        }
        self.tell(blocked);
        let alive: Vec<usize> = threads.iter().map(name_of).collect();
        self.seen.retain(|name, _| alive.contains(name));
    }

    /// How long a thread has been seen at the same poll; nothing at the first sight of it.
    fn polling_since(&mut self, thread: &Arc<Thread>, now: Instant) -> Option<Duration> {
        let polls = thread.polls();
        let seen = self.seen.entry(name_of(thread)).or_insert((polls, now));
        if seen.0 != polls {
            *seen = (polls, now);
        }
        let since = now - seen.1;
        (polls % 2 == 1 && !since.is_zero()).then_some(since)
    }

    fn tell(&mut self, blocked: Vec<(Duration, RunKey, u64)>) {
        self.told.retain(|fence, _| blocked.iter().any(|(_, _, other)| other == fence));
        for (since, run, fence) in blocked {
            let next = self.told.entry(fence).or_insert(TELL_FIRST);
            if since >= *next {
                *next = if since < TELL { TELL } else { since + TELL_AGAIN };
                self.shared.report_blocked(run, fence, since);
            }
        }
    }
}

fn name_of(thread: &Arc<Thread>) -> usize {
    Arc::as_ptr(thread) as usize
}
