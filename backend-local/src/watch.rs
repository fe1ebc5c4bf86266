//! Looks, while jobs run, whether they block their threads: adds threads so that others go on, and tells.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::workers::{MAX_THREADS, Shared};

/// How often it looks while jobs run.
const PERIOD: Duration = Duration::from_millis(20);
/// A thread that polls one job for so long counts as blocked.
const BLOCKED: Duration = Duration::from_millis(10);
/// When a blocked thread is told, and told again.
const TELL: Duration = Duration::from_secs(1);
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
            self.changed.notify_one();
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
    builder.spawn(move || watch(&shared, &activity, base)).map(|_| ())
}

fn watch(shared: &Arc<Shared>, activity: &Activity, base: usize) {
    let mut told: HashMap<u64, Duration> = HashMap::new();
    let mut free_since = Instant::now();
    while shared.ending.reason().is_none() {
        activity.wait_until_running();
        std::thread::sleep(PERIOD);
        let threads = shared.threads();
        let blocked: Vec<_> = threads
            .iter()
            .filter_map(|thread| shared.blocked(thread))
            .filter(|(since, _, _)| *since >= BLOCKED)
            .collect();
        if blocked.len() >= threads.len() && threads.len() < MAX_THREADS {
            // A machine out of threads is told by the blocked jobs themselves.
            let _ = shared.add_thread();
        }
        if threads.len() - blocked.len().min(threads.len()) < base {
            free_since = Instant::now();
        }
        if threads.len() > base && free_since.elapsed() > SPARE {
            threads.iter().skip(base).for_each(|thread| Shared::retire(thread));
            free_since = Instant::now();
        }
        told.retain(|fence, _| blocked.iter().any(|(_, _, other)| other == fence));
        for (since, run, fence) in blocked.into_iter().filter(|(since, _, _)| *since >= TELL) {
            let next = told.entry(fence).or_insert(TELL);
            if since >= *next {
                *next = since + TELL_AGAIN;
                shared.report_blocked(run, fence, since);
            }
        }
    }
}
