//! The way to the engine, and what is known of how it answers. The engine itself bounds each call and gives up early
//! on a server that is away; here that is told, and those who ask again and again learn how long to wait.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{BackendContext, Event, Events, Name, Result};

use crate::engine::WorkflowEngine;
use crate::plan::may_concern_all;
use crate::session::lock;

/// So many calls in a row fail before the engine counts as away; one that lets nobody in is as good as away.
const PATIENCE: u32 = 2;
/// The longest wait before it is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The engine, and how it answered last.
pub(crate) struct Link {
    pub(crate) engine: Arc<dyn WorkflowEngine>,
    backend: Name,
    events: Events,
    standing: Mutex<Standing>,
}

/// How the engine answered last.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Calls in a row without an answer.
    failures: u32,
    told_down: bool,
}

impl Link {
    pub(crate) fn new(engine: Arc<dyn WorkflowEngine>, backend: &Name, ctx: &BackendContext) -> Self {
        Self { engine, backend: backend.clone(), events: ctx.events.clone(), standing: Mutex::default() }
    }

    /// Calls the engine, and notes how that went.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) async fn call<'a, T, F>(&'a self, call: impl FnOnce(&'a dyn WorkflowEngine) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let answer = call(&*self.engine).await;
        match &answer {
            Err(error) if may_concern_all(error) => self.note_failure(&error.to_string()),
            _ => self.note_answer(),
        }
        answer
    }

    /// How long to wait before asking again, where `usual` is the wait while it answers.
    pub(crate) fn wait(&self, usual: Duration) -> Duration {
        let failures = lock(&self.standing).failures.min(10);
        usual.saturating_mul(1 << failures).min(LONGEST_WAIT.max(usual))
    }

    /// Notes that it did not answer.
    pub(crate) fn note_failure(&self, reason: &str) {
        let tells = {
            let mut standing = lock(&self.standing);
            standing.failures = standing.failures.saturating_add(1);
            standing.failures >= PATIENCE && !std::mem::replace(&mut standing.told_down, true)
        };
        if tells {
            self.events.emit(&Event::BackendDown { backend: &self.backend, reason });
        }
    }

    fn note_answer(&self) {
        let before = std::mem::take(&mut *lock(&self.standing));
        if before.told_down {
            self.events.emit(&Event::BackendUp { backend: &self.backend });
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("engine", &self.engine).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use scheduler_core::{SystemClock, Tier};

    use super::*;
    use crate::memory::Memory;

    #[tokio::test]
    async fn that_an_engine_is_away_and_is_back_is_told_once() {
        let name = Name::new(Tier::Workflow.as_str()).unwrap();
        let ctx = BackendContext::standalone(name.clone(), Arc::new(SystemClock::new()));
        let told = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&told);
        ctx.events.listen(move |event| match event {
            Event::BackendDown { .. } => drop(heard.fetch_add(1, Ordering::SeqCst)),
            Event::BackendUp { .. } => drop(heard.fetch_add(100, Ordering::SeqCst)),
            _ => {}
        });
        let engine = Memory::with_schedules();
        let link = Link::new(Arc::new(engine.clone()), &name, &ctx);
        let usual = Duration::from_secs(2);
        assert_eq!(link.wait(usual), usual);

        engine.set_down(true);
        for _ in 0..10 {
            link.call(WorkflowEngine::probe).await.unwrap_err();
        }
        assert_eq!(told.load(Ordering::SeqCst), 1);
        assert_eq!(link.wait(usual), LONGEST_WAIT);

        engine.set_down(false);
        link.call(WorkflowEngine::probe).await.unwrap();
        assert_eq!(told.load(Ordering::SeqCst), 101);
        assert_eq!(link.wait(usual), usual);

        engine.refuse(Some("engine/unauthorized"));
        for _ in 0..10 {
            link.call(WorkflowEngine::probe).await.unwrap_err();
        }
        engine.refuse(None);
        link.call(WorkflowEngine::probe).await.unwrap();
        assert_eq!(told.load(Ordering::SeqCst), 202);
    }
}
