//! Who waits for what is kept outside goes on while that is out of reach for a while, and says what was done otherwise.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, CanaryVerdict, Cancelled, Clock, DeadLetterFilter, DeadLetterPage,
    DeadLetters, Drained, Enqueued, Error, ErrorKind, Health, HeldLetters, Name, Page, Pause, QueueStatus,
    Queues, ReplayPlan, Replayed, Result, Run, RunFilter, RunId, RunRequest, RunState, Scheduler, TestClock,
    Tier, Timestamp, async_trait,
};

use crate::stage::{BEGIN, SECOND, name, scheduler};

/// A store with a queue `mail` of which one run, or each replay, is under way until a time; out of reach between two others.
#[derive(Debug)]
struct Far {
    clock: TestClock,
    busy_until: Duration,
    away: (Duration, Duration),
    /// Whether what is asked for while it is out of reach is done all the same.
    hears: bool,
    /// Whether it is empty once it is within reach again.
    forgets: bool,
    is_paused: Mutex<bool>,
    runs: Mutex<Vec<Run>>,
}

impl Far {
    /// Busy for so many seconds, and out of reach from one second to another.
    fn new(clock: &TestClock, busy: u32, away: (u32, u32)) -> Self {
        let second = |second: u32| SECOND * second;
        let away = (second(away.0), second(away.1));
        let (is_paused, runs) = Default::default();
        Self {
            clock: clock.clone(),
            busy_until: second(busy),
            away,
            hears: false,
            forgets: false,
            is_paused,
            runs,
        }
    }

    /// So many runs that failed, each a letter.
    fn with_letters(self, letters: u32) -> Self {
        let failed = |n| {
            let at = BEGIN + SECOND * n;
            let mut run = Run::queued(RunId::manual(at), name("t"), name("far"), Tier::Queue, at);
            run.state = RunState::Failed;
            run
        };
        *self.runs.lock().unwrap() = (0..letters).map(failed).collect();
        self
    }

    fn letters(&self) -> Vec<RunId> {
        self.runs.lock().unwrap().iter().map(|run| run.id).collect()
    }

    fn replays(&self) -> usize {
        self.runs.lock().unwrap().iter().filter(|run| run.replay_of.is_some()).count()
    }

    fn reach(&self) -> Result<()> {
        let (from, to) = self.away;
        match (from..to).contains(&self.clock.monotonic()) {
            true => Err(Error::unavailable("far/away", "it does not answer")),
            false => Ok(()),
        }
    }

    fn is_busy(&self) -> bool {
        self.clock.monotonic() < self.busy_until
    }
}

#[async_trait]
impl Backend for Far {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(name("far"), "far", Tier::Queue, &[])
    }
    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }
    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        Ok(Enqueued::Inserted(request.run_id))
    }
    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        self.reach()?;
        let mut runs = self.runs.lock().unwrap().clone();
        for run in runs.iter_mut().filter(|run| run.replay_of.is_some()) {
            run.state = if self.is_busy() { RunState::Running } else { RunState::Succeeded };
        }
        Ok(filter.page(runs))
    }
    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "no such run"))
    }
    async fn health(&self) -> Health {
        Health::down("it does not run")
    }
    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }
    fn queues(&self) -> Option<&dyn Queues> {
        Some(self)
    }
    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }
}

#[async_trait]
impl Queues for Far {
    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        self.reach()?;
        if self.forgets && self.clock.monotonic() >= self.away.1 {
            return Ok(Vec::new());
        }
        let mut mail = QueueStatus::new(name("mail"), Some(1));
        mail.running = usize::from(self.is_busy());
        mail.paused = self.is_paused.lock().unwrap().then(Pause::default);
        Ok(vec![mail])
    }
    async fn pause_queue(&self, _: &Name, _: Pause) -> Result<()> {
        self.reach()?;
        *self.is_paused.lock().unwrap() = true;
        Ok(())
    }
    async fn resume_queue(&self, _: &Name) -> Result<bool> {
        Ok(std::mem::take(&mut *self.is_paused.lock().unwrap()))
    }
    async fn now(&self) -> Result<Timestamp> {
        Ok(self.clock.now())
    }
}

#[async_trait]
impl DeadLetters for Far {
    async fn letters(&self, _: &DeadLetterFilter) -> Result<DeadLetterPage> {
        Ok(DeadLetterPage::default())
    }
    async fn replay(&self, letters: &[RunId]) -> Result<Vec<Replayed>> {
        let reached = self.reach();
        if !self.hears {
            reached.as_ref().map_err(|_| Error::unavailable("far/away", "it does not answer"))?;
        }
        let mut answers = Vec::new();
        for letter in letters {
            let mut runs = self.runs.lock().unwrap();
            let failed = runs.iter().find(|run| run.id == *letter).cloned().unwrap();
            if runs.iter().any(|run| run.replay_of == Some(*letter)) {
                answers.push(Replayed::Unknown);
                continue;
            }
            let mut again = failed;
            (again.id, again.replay_of) = (RunId::manual(BEGIN), Some(*letter));
            answers.push(Replayed::As(again.id));
            runs.push(again);
        }
        reached.map(|()| answers)
    }
    async fn hold(&self, _: &RunId, _: Option<&str>) -> Result<bool> {
        Ok(false)
    }
    async fn discard(&self, runs: &[RunId], _: HeldLetters) -> Result<Vec<bool>> {
        Ok(vec![false; runs.len()])
    }
}

fn over(clock: &TestClock, far: Far) -> (Scheduler, Arc<Far>) {
    let far = Arc::new(far);
    (scheduler(clock, [Arc::clone(&far) as Arc<dyn Backend>]), far)
}

/// How a drain of `mail` ends, and when.
async fn drain(far: impl FnOnce(&TestClock) -> Far, patience: Option<u32>) -> (Result<usize>, Duration) {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = over(&clock, far(&clock));
    let (mail, pause) = (name("mail"), Pause::default());
    let drained = async {
        let patience = patience.map(|seconds| SECOND * seconds);
        let drained = scheduler.drain_queue(None, &mail, &pause, patience).await;
        (drained.map(|drained| drained.running), clock.monotonic())
    };
    let ((drained, at), ()) = tokio::join!(drained, clock.advance(SECOND * 100));
    (drained, at)
}

#[tokio::test]
async fn a_drain_goes_on_through_an_outage_and_says_otherwise_that_the_queue_is_paused() {
    let (drained, at) = drain(|clock| Far::new(clock, 50, (5, 34)), None).await;
    assert_eq!((drained.unwrap(), at), (0, SECOND * 50));

    for (away, patience, ended) in [((5, 99), None, 35), ((5, 99), Some(20), 20)] {
        let (unknown, at) = drain(|clock| Far::new(clock, 50, away), patience).await;
        let unknown = unknown.unwrap_err();
        assert_eq!((unknown.code(), unknown.kind()), ("queue/drain_unknown", ErrorKind::Unavailable));
        assert!(unknown.to_string().contains("queue `mail` is paused"), "{unknown}");
        assert_eq!(at, SECOND * ended);
    }

    let (at_once, at) = drain(|clock| Far::new(clock, 50, (0, 99)), None).await;
    assert_eq!((at_once.unwrap_err().code(), at), ("far/away", Duration::ZERO), "nothing was done");

    let (lost, _) = drain(|clock| Far { forgets: true, ..Far::new(clock, 50, (5, 6)) }, None).await;
    assert_eq!(
        lost.unwrap_err().code(),
        "queue/resumed",
        "a store that lost all keeps nothing from being taken"
    );
}

/// What becomes of three letters behind a canary, and when; and how many were replayed.
async fn replay(
    far: impl FnOnce(&TestClock) -> Far,
    plan: ReplayPlan,
) -> (Result<scheduler_core::ReplayReport>, Duration, usize) {
    let clock = TestClock::at(BEGIN);
    let (scheduler, far) = over(&clock, far(&clock).with_letters(3));
    let letters = far.letters();
    let replayed = async {
        let report = scheduler.replay_by(&letters, plan).await;
        (report, clock.monotonic())
    };
    let ((report, at), ()) = tokio::join!(replayed, clock.advance(SECOND * 100));
    (report, at, far.replays())
}

#[tokio::test]
async fn a_canary_is_waited_for_through_an_outage_and_named_when_it_cannot_be_looked_at() {
    let canary = |patience: Option<u32>| {
        ReplayPlan::at_once().behind_canaries(1, patience.map(|seconds| SECOND * seconds))
    };
    let (report, at, replays) = replay(|clock| Far::new(clock, 50, (5, 34)), canary(None)).await;
    assert_eq!((report.unwrap().verdict, at, replays), (Some(CanaryVerdict::Passed), SECOND * 50, 3));

    for (patience, ended) in [(None, 35), (Some(20), 20)] {
        let (unknown, at, replays) = replay(|clock| Far::new(clock, 50, (5, 99)), canary(patience)).await;
        let unknown = unknown.unwrap_err();
        assert_eq!(unknown.code(), "dead_letters/canary_unknown");
        assert_eq!((unknown.is_transient(), at, replays), (true, SECOND * ended, 1));
    }

    let (at_once, at, _) = replay(|clock| Far::new(clock, 50, (0, 99)), canary(None)).await;
    assert_eq!((at_once.unwrap_err().code(), at), ("far/away", Duration::ZERO), "nothing was done");
}

#[tokio::test]
async fn letters_whose_answer_an_outage_took_are_replayed_once_and_known_by_their_replay() {
    let paced = || ReplayPlan::at_once().at_rate("1/s".parse().ok());
    let hearing = |clock: &TestClock| Far { hears: true, ..Far::new(clock, 0, (1, 20)) };
    let (report, _, replays) = replay(hearing, paced()).await;
    let answers = report.unwrap().answers;
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Replayed::As(_))), "{answers:?}");
    assert_eq!((answers.len(), replays), (3, 3));

    let (broken_off, at, replays) = replay(|clock| Far::new(clock, 0, (1, 99)), paced()).await;
    let broken_off = broken_off.unwrap_err();
    assert_eq!((broken_off.code(), at, replays), ("dead_letters/broken_off", SECOND * 31, 1));
    assert!(broken_off.to_string().starts_with("1 of 3 dead letters were replayed"), "{broken_off}");
}
