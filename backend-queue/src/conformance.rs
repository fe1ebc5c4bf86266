//! The promises of every backend, on each store.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::conformance::{Subject, Time};
use scheduler_core::{Backend, Name, Result, async_trait};
use tempfile::TempDir;

use crate::{QueueBackend, QueueConfig, Synchronous};

/// A queue in a folder, or at a URL.
struct Queue {
    folder: TempDir,
    namespace: Name,
    url: String,
    opened: Mutex<Option<Arc<QueueBackend>>>,
}

#[async_trait]
impl Subject for Queue {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let config = QueueConfig {
            url: self.url.clone(),
            lease: Duration::from_millis(600),
            concurrency: 4.try_into().unwrap(),
            // Nothing here cuts the power, and a busy disk would be late for every fire.
            synchronous: Synchronous::Normal,
            ..QueueConfig::default()
        };
        let backend = Arc::new(QueueBackend::new(Name::new("queue")?, config));
        *self.opened.lock().unwrap() = Some(Arc::clone(&backend));
        Ok(backend)
    }

    async fn kill(&self, _: Arc<dyn Backend>) {
        if let Some(backend) = self.opened.lock().unwrap().take() {
            backend.crash();
        }
    }

    fn time(&self) -> Time {
        Time::Own { unit: Duration::from_millis(100) }
    }

    fn concurrency(&self) -> Option<std::num::NonZeroUsize> {
        4.try_into().ok()
    }

    fn namespace(&self) -> Name {
        self.namespace.clone()
    }

    fn data_dir(&self) -> Option<PathBuf> {
        Some(self.folder.path().to_owned())
    }
}

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use super::*;

    fn subject() -> Queue {
        let folder = tempfile::tempdir().unwrap();
        Queue {
            folder,
            namespace: Name::new("conformance").unwrap(),
            url: "sqlite:queue.db".to_owned(),
            opened: Mutex::default(),
        }
    }

    scheduler_core::conformance_tests!(subject);
}

#[cfg(feature = "redis")]
mod on_redis {
    use super::*;

    fn subject() -> Queue {
        let (folder, url) = (tempfile::tempdir().unwrap(), crate::redis_stage::url());
        Queue { folder, namespace: crate::redis_stage::namespace(), url, opened: Mutex::default() }
    }

    scheduler_core::conformance_tests!(subject);
}
