//! Where a promise is played: one subject, its backend, the tasks, the time, and what was seen.
//!
//! Every wait ends with an event or, with a message that names it, when the subject's patience is over.

use std::fmt::Display;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::act::{Act, Ledger, Part, Seen};
use super::fault::{Outcome, broken, ensure_eq, not_applicable};
use super::{Subject, Time};
use crate::{
    Backend, BackendContext, BackendInfo, Cancelled, Capability, Clock, Drained, Enqueued, Error, Event,
    Events, MemoryStateStore, Name, Overlap, PageToken, Placed, Placement, Result, Run, RunFilter, RunId,
    RunRequest, RunState, Schedules, StateStore, SystemClock, Task, TaskBook, TestClock, Timestamp, Trigger,
    WeakScheduler,
};

/// Where the given clock begins: 2027-01-15T08:00:00Z.
const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// The unit of time on the given clock, which costs nothing.
const UNIT: Duration = Duration::from_secs(1);
/// How far the kit moves the given clock, in units, while it waits for what must happen.
const FAR: u32 = 600;
/// How long the kit leaves a backend alone between two looks, in real time.
const GLANCE: Duration = Duration::from_millis(1);
/// After how long, in real time, the kit takes it that an answer waits for the given clock.
const HESITATION: Duration = Duration::from_millis(500);
/// The same for a stop, which waits for the given clock as a rule.
const STOP_HESITATION: Duration = Duration::from_millis(5);

/// Something a backend told about a run.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Started(RunId),
    Again(RunId),
    Ended(Box<Run>),
}

/// A subject and everything around it.
pub(super) struct Stage {
    subject: Arc<dyn Subject>,
    clock: Arc<dyn Clock>,
    /// The clock, if the kit moves it.
    given: Option<TestClock>,
    unit: Duration,
    namespace: Name,
    tasks: TaskBook,
    events: Events,
    state: Arc<dyn StateStore>,
    told: Arc<Mutex<Vec<Told>>>,
    pub(super) ledger: Ledger,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) info: BackendInfo,
    is_running: bool,
}

impl Stage {
    pub(super) async fn set(subject: Arc<dyn Subject>) -> Outcome<Self> {
        let (clock, given, unit): (Arc<dyn Clock>, _, _) = match subject.time() {
            Time::Given => {
                let clock = TestClock::at(BEGIN);
                (Arc::new(clock.clone()), Some(clock), UNIT)
            }
            Time::Own { unit } => (Arc::new(SystemClock::new()), None, unit),
        };
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let events = Events::default();
        let heard = Arc::clone(&told);
        events.listen(move |event| {
            let told = match *event {
                Event::AttemptStarted { run, .. } => Told::Started(run.id),
                Event::AttemptEnded { run, .. } => Told::Again(run.id),
                Event::RunEnded { run, .. } => Told::Ended(Box::new(run.clone())),
                _ => return,
            };
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        });
        let backend = within(subject.patience(), "open", subject.open()).await?;
        let info = backend.info();
        Ok(Self {
            subject,
            clock,
            given,
            unit,
            namespace: Name::new("conformance").expect("`conformance` is a name"),
            tasks: TaskBook::default(),
            events,
            state: Arc::new(MemoryStateStore::default()),
            told,
            ledger: Ledger::default(),
            backend,
            info,
            is_running: false,
        })
    }

    // What the backend is asked.

    fn context(&self) -> BackendContext {
        BackendContext {
            namespace: self.namespace.clone(),
            clock: Arc::clone(&self.clock),
            tasks: self.tasks.clone(),
            state: Arc::clone(&self.state),
            events: self.events.clone(),
            scheduler: WeakScheduler::default(),
            data_dir: self.subject.data_dir(),
        }
    }

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
        let name = Name::new(name).expect("the kit's names are names");
        let mut task = Task::new(name.clone(), Name::new("act").expect("`act` is a name"));
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
        let placed = Arc::new(Placed { task, job: Arc::new(act), placement });
        self.tasks.insert(Arc::clone(&placed));
        if let Some(schedules) = self.backend.schedules().filter(|_| self.is_running) {
            self.drive("upsert", schedules.upsert(placed)).await?;
        }
        Ok(name)
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

    pub(super) async fn page(&self, filter: &RunFilter) -> Outcome<crate::Page> {
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

    // Time.

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn units(&self, count: u32) -> Duration {
        self.unit * count
    }

    /// How late an instant may be that a backend notes.
    pub(super) fn lateness(&self) -> Duration {
        match self.given {
            Some(_) => self.units(2),
            None => self.subject.patience(),
        }
    }

    /// How early an instant may be that a backend notes: two clocks of their own never agree to the millisecond.
    pub(super) fn earliness(&self) -> Duration {
        match self.given {
            Some(_) => Duration::ZERO,
            None => self.unit / 10,
        }
    }

    /// Lets so many units of time pass.
    pub(super) async fn pass(&self, count: u32) {
        match &self.given {
            Some(clock) => clock.advance(self.units(count)).await,
            None => self.subject.advance(self.units(count)).await,
        }
    }

    /// Lets time pass until `at`.
    pub(super) async fn pass_until(&self, at: Timestamp) {
        let by = at.since(self.now());
        match &self.given {
            Some(clock) => clock.advance(by).await,
            None => self.subject.advance(by).await,
        }
    }

    /// Waits for what must happen, moving the given clock meanwhile.
    pub(super) async fn eventually<T>(
        &self,
        what: impl Display,
        mut look: impl AsyncFnMut() -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let since = Instant::now();
        let mut moved = 0;
        loop {
            if let Some(clock) = &self.given {
                clock.settle().await;
            }
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if since.elapsed() > self.subject.patience() {
                return broken(format!("waited {:?} in vain: {what}", self.subject.patience()));
            }
            tokio::time::sleep(GLANCE).await;
            if let Some(clock) = self.given.as_ref().filter(|_| moved < FAR) {
                clock.advance(self.unit).await;
                moved += 1;
            }
        }
    }

    /// Waits, without moving the given clock, until a claim about what was done by now holds; says whether it
    /// does.
    pub(super) async fn settles(&self, mut holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome<bool> {
        let since = Instant::now();
        loop {
            if let Some(clock) = &self.given {
                clock.settle().await;
            }
            if holds().await? {
                return Ok(true);
            }
            if since.elapsed() > self.subject.patience() {
                return Ok(false);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits for what must happen although time stands still.
    pub(super) async fn soon(&self, what: impl Display, mut look: impl FnMut() -> bool) -> Outcome {
        let since = Instant::now();
        while !look() {
            if since.elapsed() > self.subject.patience() {
                return broken(format!("waited {:?} in vain: {what}", self.subject.patience()));
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Awaits an answer, moving the given clock when it does not come at once.
    pub(super) async fn drive<T>(&self, call: &str, answer: impl Future<Output = Result<T>>) -> Outcome<T> {
        self.drive_after(HESITATION, call, answer).await
    }

    async fn drive_after<T>(
        &self,
        hesitation: Duration,
        call: &str,
        answer: impl Future<Output = Result<T>>,
    ) -> Outcome<T> {
        let mut answer = pin!(answer.map(|answer| answer.or_else(|error| broken(refusal(call, &error)))));
        let since = Instant::now();
        let mut moved = 0;
        loop {
            if let Either::Left((answer, _)) = select(&mut answer, pin!(tokio::time::sleep(hesitation))).await
            {
                return answer;
            }
            if since.elapsed() > self.subject.patience() {
                return broken(format!("`{call}` did not answer for {:?}", self.subject.patience()));
            }
            if let Some(clock) = self.given.as_ref().filter(|_| moved < FAR) {
                // The answer may be held up by work that the clock waits for, so both are awaited together.
                if let Either::Left((answer, _)) = select(&mut answer, pin!(clock.advance(self.unit))).await {
                    return answer;
                }
                moved += 1;
            }
        }
    }

    // What was seen.

    /// Waits until a run has ended, and returns it as the backend shows it.
    pub(super) async fn ended(&self, id: RunId) -> Outcome<Run> {
        self.eventually(format!("run {id} ends"), async || {
            Ok(self.run(id).await?.filter(|run| run.state.is_end()))
        })
        .await
    }

    /// Waits until a run is in this state.
    pub(super) async fn in_state(&self, id: RunId, state: RunState) -> Outcome<Run> {
        self.eventually(format!("run {id} is {state}"), async || {
            Ok(self.run(id).await?.filter(|run| run.state == state))
        })
        .await
    }

    /// Waits until so many attempts of a run have begun.
    pub(super) async fn begun(&self, id: RunId, attempts: usize) -> Outcome<Vec<Seen>> {
        self.eventually(format!("attempt {attempts} of run {id} begins"), async || {
            Ok(Some(self.ledger.of(id)).filter(|seen| seen.len() >= attempts))
        })
        .await
    }

    /// What it told about a run.
    pub(super) fn told(&self, id: RunId) -> Vec<Told> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of = |told: &&Told| match told {
            Told::Started(run) | Told::Again(run) => *run == id,
            Told::Ended(run) => run.id == id,
        };
        told.iter().filter(is_of).cloned().collect()
    }

    /// Ends what is left; its faults are those of other promises.
    pub(super) async fn strike(mut self) {
        self.ledger.open_doors();
        let _ = self.abort().await;
    }
}

/// Awaits an answer for so long, while the given clock stands still.
async fn within<T>(patience: Duration, call: &str, answer: impl Future<Output = Result<T>>) -> Outcome<T> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer.or_else(|error| broken(refusal(call, &error))),
        Err(_) => broken(format!("`{call}` did not answer for {patience:?}")),
    }
}

fn refusal(call: &str, error: &Error) -> String {
    format!("`{call}` answered [{}] {error}", error.code())
}
