//! Forgetting what retention does not keep, beside the loop: attempts begin and end meanwhile.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::store::{Retention, Store};

/// How many old runs are forgotten in one go.
const FORGOTTEN: u32 = 1_000;
/// For how many times as long as that took the store is left to others.
const REST: u32 = 4;
/// By how much that shrinks at most for whoever does not catch up.
const LEAST: u32 = 32;

/// Forgets until there is nothing left to forget, or until it is dropped.
#[derive(Debug)]
pub(crate) struct Forgetting(JoinHandle<()>);

impl Forgetting {
    pub(crate) fn begin(store: Arc<dyn Store>, retention: Retention) -> Self {
        Self(tokio::spawn(async move {
            let mut full = 0;
            loop {
                let began = Instant::now();
                let forgotten = store.forget(&retention, FORGOTTEN).await;
                // A store that does not answer is told of by whoever needs it.
                if !forgotten.is_ok_and(|count| count >= FORGOTTEN as usize) {
                    return;
                }
                full = LEAST.min(full + 1);
                sleep(began.elapsed() * REST / full).await;
            }
        }))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
