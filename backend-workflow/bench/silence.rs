//! When the server answers nobody. On SQLite it is silent now and then, up to a minute; what is late for that reason is
//! late for every program that asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::prefect::Prefect;

/// A plain request that takes longer than this was kept waiting.
const SILENT: Duration = Duration::from_secs(1);
/// The pause between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks all the time for one run, as plainly as can be.
pub(crate) struct Silence {
    spans: Arc<Mutex<Vec<(Instant, Instant)>>>,
    asking: JoinHandle<()>,
}

impl Silence {
    pub(crate) fn watch(prefect: &Prefect, run: String) -> Self {
        let spans: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
        let (prefect, noted) = (prefect.clone(), Arc::clone(&spans));
        let asking = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                // One that fails was kept waiting, too.
                let _ = prefect.look(&run).await;
                if began.elapsed() > SILENT {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((began, Instant::now()));
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { spans, asking }
    }

    /// How long it was silent between two instants.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Duration {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans
            .iter()
            .map(|(began, ended)| (*ended).min(to).saturating_duration_since((*began).max(from)))
            .sum()
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.asking.abort();
    }
}
