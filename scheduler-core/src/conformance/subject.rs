//! What the author of a backend tells the kit: how to open it, end it, and whose time it goes by.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Backend, Name, Result, async_trait};

/// A backend under test and the data it stands on.
///
/// One subject is made for each promise, so it begins with no data. Only [`open`](Self::open) is required; it
/// is called again on the same subject after a restart and after a crash.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// Makes an instance over this subject's data. It has not been started.
    ///
    /// # Errors
    /// Whatever keeps it from being made; each promise is broken then.
    async fn open(&self) -> Result<Arc<dyn Backend>>;

    /// Ends an instance as a crash would: nothing is drained, written or given back.
    ///
    /// Override it where [`Backend::abort`] tidies up more than a crash does.
    async fn kill(&self, backend: Arc<dyn Backend>) {
        // What it reports is lost in a crash.
        let _ = backend.abort().await;
    }

    /// Whose time it goes by.
    fn time(&self) -> Time {
        Time::Given
    }

    /// Lets time pass for a backend that goes by [`Time::Own`]: waits for real, unless its store has a clock
    /// that can be moved.
    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    /// How many attempts it runs at once, where that is bounded; at least 4, and the fewer the faster.
    ///
    /// Whether due runs start by priority shows only where some of them must wait.
    fn concurrency(&self) -> Option<NonZeroUsize> {
        None
    }

    /// The namespace of its runs: one of its own for each subject, where a server is shared by many.
    fn namespace(&self) -> Name {
        Name::new("conformance").expect("`conformance` is a name")
    }

    /// A folder for files, handed to the backend when it starts.
    fn data_dir(&self) -> Option<PathBuf> {
        None
    }

    /// How long, in real time, the kit waits for what must happen.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// Whose time a backend goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// That of [`BackendContext::clock`](crate::BackendContext); the kit moves it, and hours take no time.
    ///
    /// The backend has to hold that clock ([`Clock::busy`](crate::Clock::busy)) while it works, else the time
    /// runs away from it: fires come late and count as missed.
    Given,
    /// Its own, which the kit cannot move: it waits for events, with a bound.
    Own {
        /// The kit's unit of time, in which every wait is a few: at least what the backend can tell apart.
        unit: Duration,
    },
}
