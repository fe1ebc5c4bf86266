//! What the kit asks a backend, with every refusal and every silence named.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::act::{Act, Part};
use super::fault::{Outcome, broken, ensure_eq, not_applicable};
use super::stage::Stage;
use super::waits::{GLANCE, STOP_HESITATION, within};
use crate::{
    Cancelled, Capability, Drained, Enqueued, Name, Overlap, Page, PageToken, Placed, Placement, Run,
    RunFilter, RunId, RunRequest, Schedules, Task, Timestamp, Trigger,
};

impl Stage {
    /// Starts the backend and hands it the tasks, as the scheduler does.
    pub(super) async fn start(&mut self) -> Outcome {
        let backend = Arc::clone(&self.backend);
        self.drive("start", backend.start(self.context())).await?;
        self.is_running = true;
        if let Some(schedules) = backend.schedules() {
            for placed in self.tasks.all() {
                self.drive("upsert", schedules.upsert(placed)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn stop(&mut self, grace: Duration) -> Outcome<Drained> {
        let backend = Arc::clone(&self.backend);
        self.is_running = false;
        self.drive_after(STOP_HESITATION, "stop", backend.stop(grace)).await
    }

    /// Aborts the backend while the given clock stands still.
    pub(super) async fn abort(&mut self) -> Outcome<Drained> {
        let backend = Arc::clone(&self.backend);
        self.is_running = false;
        within(self.subject.patience(), "abort", backend.abort()).await
    }

    /// Stops the backend and opens the next instance over the same data; it has to be started.
    pub(super) async fn reopen(&mut self) -> Outcome {
        self.stop(Duration::ZERO).await?;
        self.open_next().await
    }

    /// Crashes the backend and opens the next instance over the same data; it has to be started.
    pub(super) async fn crash(&mut self) -> Outcome {
        let killed = self.subject.kill(Arc::clone(&self.backend));
        let answered = async {
            killed.await;
            Ok(())
        };
        within(self.subject.patience(), "kill", answered).await?;
        self.open_next().await
    }

    async fn open_next(&mut self) -> Outcome {
        self.is_running = false;
        self.backend = within(self.subject.patience(), "open", self.subject.open()).await?;
        Ok(())
    }

    /// A task that plays a part: one attempt, runs beside each other.
    pub(super) async fn task(&self, name: &str, part: Part, change: impl FnOnce(&mut Task)) -> Outcome<Name> {
        let placed = self.placed(name, part, change);
        let name = placed.task.name.clone();
        if let Some(schedules) = self.backend.schedules().filter(|_| self.is_running) {
            self.drive("upsert", schedules.upsert(placed)).await?;
        }
        Ok(name)
    }

    /// Such a task in the book, of which the backend has not heard.
    pub(super) fn placed(&self, name: &str, part: Part, change: impl FnOnce(&mut Task)) -> Arc<Placed> {
        let name = Name::new(name).expect("the kit's names are names");
        let mut task = Task::new(name, Name::new("act").expect("`act` is a name"));
        task.retry.max_attempts = std::num::NonZeroU32::new(1);
        task.retry.backoff = crate::Backoff::Constant;
        task.retry.jitter = false;
        task.overlap = Overlap::Allow;
        change(&mut task);
        let classification = task.classify();
        let placement = Placement {
            tier: self.info.tier,
            backend: self.info.name.clone(),
            classification,
            reasons: Vec::new(),
            warnings: Vec::new(),
        };
        let act = Act { part, ledger: self.ledger.clone(), glance: self.unit / 4 };
        let placed = Arc::new(Placed { task, job: Arc::new(act), placement: Arc::new(placement) });
        self.tasks.insert(Arc::clone(&placed));
        placed
    }

    /// A run that is due now.
    pub(super) async fn enqueue(&self, task: &Name) -> Outcome<RunId> {
        self.enqueue_at(task, self.now()).await
    }

    pub(super) async fn enqueue_at(&self, task: &Name, due: Timestamp) -> Outcome<RunId> {
        let request = self.request(task, due);
        let id = request.run_id;
        ensure_eq("enqueue of a new run", self.ask_enqueue(request).await?, Enqueued::Inserted(id))?;
        Ok(id)
    }

    pub(super) fn request(&self, task: &Name, due: Timestamp) -> RunRequest {
        RunRequest::manual(RunId::manual(self.now()), task.clone(), due)
    }

    pub(super) async fn ask_enqueue(&self, request: RunRequest) -> Outcome<Enqueued> {
        self.drive("enqueue", self.backend.enqueue(request)).await
    }

    /// Waits, while time stands still, until the backend takes nothing any more.
    pub(super) async fn refuses(&self, task: &Name) -> Outcome {
        let since = Instant::now();
        let far = self.now() + self.units(1_000_000);
        while self.backend.enqueue(self.request(task, far)).await.is_ok() {
            if since.elapsed() > self.subject.patience() {
                return broken(format!("it takes runs {:?} after a stop began", self.subject.patience()));
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    pub(super) async fn cancel(&self, run: &RunId) -> Outcome<Cancelled> {
        self.drive("cancel", self.backend.cancel(run)).await
    }

    pub(super) async fn page(&self, filter: &RunFilter) -> Outcome<Page> {
        self.drive("runs", self.backend.runs(filter)).await
    }

    /// Every run it owns, in the order it shows them.
    pub(super) async fn runs(&self) -> Outcome<Vec<Run>> {
        let mut filter = RunFilter::all().limited(500);
        let mut runs: Vec<Run> = Vec::new();
        loop {
            let page = self.page(&filter).await?;
            let is_new = |next: &PageToken| filter.after != Some(*next);
            let next = page.next.filter(is_new).filter(|_| !page.runs.is_empty());
            runs.extend(page.runs);
            match next {
                Some(next) => filter.after = Some(next),
                None => return Ok(runs),
            }
        }
    }

    pub(super) async fn run(&self, id: RunId) -> Outcome<Option<Run>> {
        Ok(self.runs().await?.into_iter().find(|run| run.id == id))
    }

    /// Its schedules; a backend that declares them and has none breaks another promise.
    pub(super) fn schedules(&self) -> Outcome<&dyn Schedules> {
        self.needs(Capability::Schedules)?;
        match self.backend.schedules() {
            Some(schedules) => Ok(schedules),
            None => not_applicable("it declares schedules, and schedules() is None"),
        }
    }

    pub(super) fn declares(&self, capability: Capability) -> bool {
        self.info.capabilities.contains(&capability)
    }

    /// The promise is for those who declare this.
    pub(super) fn needs(&self, capability: Capability) -> Outcome {
        if self.declares(capability) {
            Ok(())
        } else {
            not_applicable(format!("it does not declare {capability}"))
        }
    }

    /// The promise is for those who do not declare this.
    pub(super) fn needs_no(&self, capability: Capability) -> Outcome {
        if self.declares(capability) { not_applicable(format!("it declares {capability}")) } else { Ok(()) }
    }

    pub(super) fn concurrency(&self) -> Option<usize> {
        self.subject.concurrency().map(std::num::NonZeroUsize::get)
    }

    pub(super) fn namespace(&self) -> &Name {
        &self.namespace
    }

    /// Every so many units, from `first` on.
    pub(super) fn every(&self, period: u32, first: Timestamp) -> Trigger {
        let bounds = crate::Bounds { start: Some(first), ..crate::Bounds::default() };
        let every = Trigger::every(self.units(period)).and_then(|trigger| trigger.within(bounds));
        every.expect("an interval from an instant on always fires")
    }
}
