//! The local tier keeps what every backend promises.

use std::num::NonZeroUsize;
use std::sync::Arc;

use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::conformance::Subject;
use scheduler_core::{Backend, Name, Result, async_trait};

struct Local;

const SLOTS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

#[async_trait]
impl Subject for Local {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let mut config = LocalConfig::default();
        config.concurrency = SLOTS;
        Ok(Arc::new(LocalBackend::new(Name::new("local")?, config)))
    }

    fn concurrency(&self) -> Option<NonZeroUsize> {
        Some(SLOTS)
    }
}

scheduler_core::conformance_tests!(|| Local);
