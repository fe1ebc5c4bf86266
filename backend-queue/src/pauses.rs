//! What this daemon says of queues: which of them are paused, and in which runs wait that nobody here takes.

use std::collections::BTreeSet;

use scheduler_core::{Name, Pause};

use crate::driver::Driver;
use crate::store::{QueueState, called};

/// The pauses of queues, as far as they are known here.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    known: BTreeSet<Option<Name>>,
    /// What the last step found, while that was not told yet.
    found: Option<BTreeSet<Option<Name>>>,
}

impl Pauses {
    /// Notes which queues a step found paused.
    pub(crate) fn note(&mut self, found: Vec<Option<Name>>) {
        if found.len() == self.known.len() && found.iter().all(|queue| self.known.contains(queue)) {
            self.found = None;
        } else {
            self.found = Some(found.into_iter().collect());
        }
    }

    /// Whether something is to be told.
    pub(crate) fn are_new(&self) -> bool {
        self.found.is_some()
    }
}

impl Driver {
    /// Says which queues are paused since it was last said, and which are not any more.
    pub(crate) async fn tell_pauses(&mut self) {
        let Some(found) = self.pauses.found.take() else { return };
        // A store that does not answer is told of elsewhere, and the pause is told without its reason.
        let queues = self.store.queues().await.unwrap_or_default();
        let pause = |queue: &Option<Name>| queues.iter().find(|state| state.queue == *queue)?.paused.as_ref();
        let backend = &self.name;
        for queue in found.difference(&self.pauses.known) {
            let said = said(&pause(queue).cloned().unwrap_or_default());
            let queue = called(queue.as_ref());
            tracing::warn!(target: "scheduler::backend", %backend, "queue `{queue}` is paused{said}");
        }
        for queue in self.pauses.known.difference(&found) {
            let queue = called(queue.as_ref());
            tracing::info!(target: "scheduler::backend", %backend, "queue `{queue}` is no longer paused");
        }
        self.pauses.known = found;
    }

    /// What is to be known of queues about the health of this daemon.
    pub(crate) fn findings(&self, queues: &[QueueState]) -> Vec<String> {
        let paused = queues.iter().filter_map(|state| {
            let said = said(state.paused.as_ref()?);
            Some(format!("queue `{}` is paused{said}", called(state.queue.as_ref())))
        });
        let known = self.config.queue_names();
        let stray = queues.iter().filter(|state| {
            state.waiting > 0 && state.queue.as_ref().is_some_and(|queue| !known.contains(queue))
        });
        let stray = stray.map(|state| {
            let (queue, waiting) = (called(state.queue.as_ref()), state.waiting);
            format!("queue `{queue}` is not configured here, and {waiting} of its runs wait")
        });
        paused.chain(stray).collect()
    }
}

/// By whom, until when and why.
fn said(pause: &Pause) -> String {
    let by = pause.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let until = pause.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let reason = pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{by}{until}{reason}")
}
