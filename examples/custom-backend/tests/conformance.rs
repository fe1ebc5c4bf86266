//! It keeps what every backend promises.

use std::sync::Arc;

use custom_backend::{Config, CustomBackend};
use scheduler_core::conformance::Subject;
use scheduler_core::{Backend, Name, Result, Tier, async_trait};

struct InMemory;

#[async_trait]
impl Subject for InMemory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(CustomBackend::new(Name::new("memory")?, Tier::Local, Config::default())))
    }
}

scheduler_core::conformance_tests!(|| InMemory);
