//! Takes over what neighbours push, beside the loop: for each of their queues a tokio task that looks from time to time.
//!
//! A producer of apalis tells nobody that it pushed, so there is nothing to wait for. A fault in one of their queues ends
//! nothing: it is told in the health of this daemon, and that queue is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scheduler_core::{BackendContext, Event, Name};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::QueueConfig;
use crate::adopt_task::Adoption;
use crate::driver::describe;
use crate::store::Store;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(100);
/// The longest wait after a fault.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// What keeps a queue from being taken from, by its name.
type Troubles = Arc<Mutex<BTreeMap<String, String>>>;

/// What takes over, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Adopting {
    troubles: Troubles,
    _tasks: JoinSet<()>,
}

impl Adopting {
    /// Begins to take over what the settings name.
    pub(crate) fn begin(
        name: &Name,
        config: &QueueConfig,
        ctx: &BackendContext,
        store: &Arc<dyn Store>,
    ) -> Self {
        let (troubles, mut tasks) = (Troubles::default(), JoinSet::new());
        for (from, settings) in &config.adopt {
            let adoption = Arc::new(Adoption {
                ctx: ctx.clone(),
                backend: name.clone(),
                config: config.clone(),
                from: from.clone(),
                settings: settings.clone(),
            });
            let (store, troubles) = (Arc::clone(store), Arc::clone(&troubles));
            tasks.spawn(async move { take_over(&adoption, &*store, &troubles).await });
        }
        Self { troubles, _tasks: tasks }
    }

    /// What is to be known about the health of this daemon.
    pub(crate) fn findings(&self) -> Vec<String> {
        let told =
            |(from, reason): (&String, &String)| format!("nothing is taken over from `{from}`: {reason}");
        lock(&self.troubles).iter().map(told).collect()
    }
}

async fn take_over(adoption: &Arc<Adoption>, store: &dyn Store, troubles: &Troubles) {
    let (mut backoff, from) = (EVERY, adoption.from.as_str());
    loop {
        match store.adopt(adoption).await {
            Ok(taken) => {
                backoff = EVERY;
                if lock(troubles).remove(from).is_some() {
                    tracing::info!(from, "jobs are taken over again");
                }
                for run in &taken.dead {
                    adoption.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
                }
                if taken.runs > 0 {
                    tracing::debug!(from, "{} jobs were taken over", taken.runs);
                }
                if taken.has_more {
                    continue;
                }
            }
            Err(error) => {
                let reason = describe(&error);
                if lock(troubles).insert(from.to_owned(), reason.clone()).is_none() {
                    tracing::warn!(from, "nothing is taken over: {reason}");
                }
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
        }
        sleep(backoff).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
