//! What a run prints, for whoever listens while it runs.
//!
//! What a run has to show stands in its output when it has ended; this is for those who cannot wait for that.

use std::fmt;
use std::sync::Arc;

use crate::characteristics::words;

words! {
    /// Where a program writes what it prints.
    Stream {
        /// Its results.
        Stdout = "stdout",
        /// Its talk.
        Stderr = "stderr",
    }
}

/// Where a run prints to while it runs: nowhere unless somebody listens.
#[derive(Clone, Default)]
pub struct Printed(Option<Arc<Listener>>);

type Listener = dyn Fn(Stream, &[u8]) + Send + Sync;

impl Printed {
    /// Tells everything that is printed to `listener`, which must not block.
    pub fn to(listener: impl Fn(Stream, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Whether somebody listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells some bytes of a stream, in their order.
    pub fn tell(&self, stream: Stream, bytes: &[u8]) {
        if let Some(listener) = &self.0 {
            listener(stream, bytes);
        }
    }
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Printed({})", if self.is_heard() { "heard" } else { "unheard" })
    }
}
