//! The ability of the backend to keep several queues, each of which can be paused.

use std::collections::BTreeMap;

use async_trait::async_trait;
use scheduler_core::{Error, Name, Pause, QueueStatus, Queues, Result, Timestamp};

use crate::QueueBackend;
use crate::config::default_queue;
use crate::limits;
use crate::requests::unknown_queue;
use crate::store::{Store, kept_queue};

impl QueueBackend {
    /// # Errors
    /// `queue/unknown_queue`, when it is not configured and there is nothing in it.
    async fn must_know(&self, queue: &Name, store: Option<&dyn Store>) -> Result<()> {
        let Some(unknown) = unknown_queue(&self.name, &self.config, queue) else { return Ok(()) };
        let kept = kept_queue(queue);
        let is_there = match store {
            Some(store) => store.queues().await?.iter().any(|state| state.queue == kept),
            None => false,
        };
        if is_there { Ok(()) } else { Err(Error::not_found(unknown.code(), unknown.to_string())) }
    }
}

/// They are the store's, whether anything runs or not.
#[async_trait]
impl Queues for QueueBackend {
    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        let there = match self.found().await? {
            Some(store) => store.queues().await?,
            None => Vec::new(),
        };
        let weights = self.config.weights();
        let mut all: BTreeMap<Name, QueueStatus> = weights
            .into_iter()
            .map(|(name, weight)| {
                let mut status = QueueStatus::new(name.clone(), Some(weight));
                status.limits = self.config.queues.get(&name).map(limits::words).unwrap_or_default();
                (name, status)
            })
            .collect();
        for state in there {
            let name = state.queue.unwrap_or_else(default_queue);
            let status = all.entry(name.clone()).or_insert_with(|| QueueStatus::new(name, None));
            (status.waiting, status.running) = (state.waiting, state.running);
            (status.oldest, status.paused) = (state.oldest, state.paused);
        }
        Ok(all.into_values().collect())
    }

    /// # Errors
    /// `queue/unknown_queue`, when it is not configured and there is nothing in it.
    async fn pause_queue(&self, queue: &Name, pause: Pause) -> Result<()> {
        let store = self.made().await?;
        self.must_know(queue, Some(&*store)).await?;
        store.pause_queue(kept_queue(queue).as_ref(), Some(&pause)).await.map(drop)
    }

    /// # Errors
    /// `queue/unknown_queue`, as above.
    async fn resume_queue(&self, queue: &Name) -> Result<bool> {
        let store = self.found().await?;
        self.must_know(queue, store.as_deref()).await?;
        match store {
            Some(store) => store.pause_queue(kept_queue(queue).as_ref(), None).await,
            None => Ok(false),
        }
    }

    async fn now(&self) -> Result<Timestamp> {
        match self.found().await? {
            Some(store) => store.now().await,
            None => Ok(Timestamp::from(std::time::SystemTime::now())),
        }
    }
}
