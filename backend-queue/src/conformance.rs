//! The promises of every backend, on a SQLite file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::conformance::{Subject, Time};
use scheduler_core::{Backend, Name, Result, async_trait};
use tempfile::TempDir;

use crate::{QueueBackend, QueueConfig};

struct OnSqlite {
    folder: TempDir,
    opened: Mutex<Option<Arc<QueueBackend>>>,
}

impl OnSqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), opened: Mutex::default() }
    }
}

#[async_trait]
impl Subject for OnSqlite {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let config = QueueConfig {
            lease: Duration::from_millis(600),
            concurrency: 4.try_into().unwrap(),
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

    fn data_dir(&self) -> Option<PathBuf> {
        Some(self.folder.path().to_owned())
    }
}

scheduler_core::conformance_tests!(OnSqlite::new);
