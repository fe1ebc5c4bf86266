//! What backends keep outside of the process, without starting any of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, DeadLetter, DeadLetterFilter, DeadLetterPage,
    DeadLetters, Drained, Enqueued, Error, Health, HeldLetters, Name, Page, PageToken, Replayed, Result, Run,
    RunFilter, RunId, RunRequest, TestClock, Tier, TriggerRequest, async_trait,
};

use crate::stage::{BEGIN, SECOND, builder, in_memory, name, optional, scheduler, task};

/// A backend that keeps runs and letters outside, and only ever is connected.
#[derive(Debug)]
struct Archive {
    name: Name,
    answers: bool,
    connected: Mutex<bool>,
    taken: Mutex<Vec<RunRequest>>,
    letters: Mutex<Vec<DeadLetter>>,
}

impl Archive {
    fn new(archive: &str, answers: bool) -> Self {
        let (name, connected) = (name(archive), Mutex::new(false));
        Self { name, answers, connected, taken: Mutex::default(), letters: Mutex::default() }
    }

    fn with_letters(self, seconds: impl IntoIterator<Item = u32>) -> Self {
        let letter = |second: u32| {
            let at = BEGIN + SECOND * second;
            DeadLetter::new(Run::queued(RunId::manual(at), name("t"), self.name.clone(), Tier::Queue, at), at)
        };
        *self.letters.lock().unwrap() = seconds.into_iter().map(letter).collect();
        self
    }

    fn ids(&self) -> Vec<RunId> {
        self.letters.lock().unwrap().iter().map(|letter| letter.run.id).collect()
    }
}

#[async_trait]
impl Backend for Archive {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(self.name.clone(), "archive", Tier::Queue, &[])
    }
    async fn start(&self, _: BackendContext) -> Result<()> {
        panic!("nothing is started here")
    }
    async fn connect(&self, _: BackendContext) -> Result<()> {
        if !self.answers {
            return Err(Error::unavailable("archive/away", "it does not answer"));
        }
        *self.connected.lock().unwrap() = true;
        Ok(())
    }
    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        let id = request.run_id;
        self.taken.lock().unwrap().push(request);
        Ok(Enqueued::Inserted(id))
    }
    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page::default())
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
    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }
}

#[async_trait]
impl DeadLetters for Archive {
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        Ok(filter.page(self.letters.lock().unwrap().clone()))
    }
    async fn replay(&self, runs: &[RunId]) -> Result<Vec<Replayed>> {
        let was_there = self.discard(runs, HeldLetters::Leave).await?;
        let answer =
            |was_there| if was_there { Replayed::As(RunId::manual(BEGIN)) } else { Replayed::Unknown };
        Ok(was_there.into_iter().map(answer).collect())
    }
    async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool> {
        let mut letters = self.letters.lock().unwrap();
        let Some(letter) = letters.iter_mut().find(|letter| letter.run.id == *run) else { return Ok(false) };
        letter.held = reason.map(str::to_owned);
        Ok(true)
    }
    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        let mut letters = self.letters.lock().unwrap();
        let mut take = |run: &RunId| {
            let before = letters.len();
            let stays = |letter: &DeadLetter| held == HeldLetters::Stay && letter.held.is_some();
            letters.retain(|letter| letter.run.id != *run || stays(letter));
            letters.len() < before
        };
        Ok(runs.iter().map(&mut take).collect())
    }
}

fn on_queue(backend: &str) -> scheduler_core::Task {
    task(|task| task.backend = Some(name(backend)))
}

#[tokio::test]
async fn a_run_is_asked_for_without_anything_being_started() {
    let clock = TestClock::at(BEGIN);
    let archive = Arc::new(Archive::new("archive", true));
    let local: Arc<dyn Backend> = Arc::new(in_memory("local", Tier::Local));
    let scheduler = scheduler(&clock, [local, Arc::clone(&archive) as Arc<dyn Backend>]);

    let kept = scheduler.connect().await.unwrap();
    scheduler.define(on_queue("archive")).await.unwrap();
    scheduler.trigger(&name("t"), TriggerRequest::at(BEGIN + SECOND)).await.unwrap();

    assert_eq!(kept, ["archive"], "the other keeps nothing outside");
    assert!(*archive.connected.lock().unwrap());
    assert_eq!(archive.taken.lock().unwrap()[0].due, BEGIN + SECOND);
}

#[tokio::test]
async fn who_does_not_answer_is_an_error_where_it_is_required_and_down_where_it_is_not() {
    let clock = TestClock::at(BEGIN);
    let required = scheduler(&clock, [Arc::new(Archive::new("away", false)) as Arc<dyn Backend>]);
    assert_eq!(required.connect().await.unwrap_err().code(), "archive/away");

    let away: Arc<dyn Backend> = Arc::new(Archive::new("away", false));
    let there: Arc<dyn Backend> = Arc::new(Archive::new("there", true));
    let scheduler = builder(&clock).backend_as(away, optional()).backend(there).build().unwrap();
    scheduler.define(on_queue("away")).await.unwrap();
    assert_eq!(scheduler.connect().await.unwrap(), ["there"]);

    let refused = scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap_err();
    assert_eq!(refused.code(), "backend/down");
    assert!(refused.to_string().contains("it does not answer"), "{refused}");
    let letters = scheduler.letters(&DeadLetterFilter::all()).await.unwrap_err();
    assert_eq!(letters.code(), "backend/down", "the list would not be whole");
}

#[tokio::test]
async fn the_letters_of_all_backends_are_one_list_and_each_is_settled_where_it_is() {
    let clock = TestClock::at(BEGIN);
    let one = Arc::new(Archive::new("one", true).with_letters((0..9).map(|n| n * 2)));
    let other = Arc::new(Archive::new("other", true).with_letters([1, 3, 20]));
    let backends: [Arc<dyn Backend>; 2] = [Arc::clone(&one) as _, Arc::clone(&other) as _];
    let scheduler = scheduler(&clock, backends);

    for size in [1, 2, 5, 100] {
        let (mut seen, mut filter) = (Vec::new(), DeadLetterFilter::all().limited(size));
        loop {
            let page = scheduler.letters(&filter).await.unwrap();
            assert!(page.letters.len() <= size);
            seen.extend(page.letters.iter().map(|letter| PageToken::of(&letter.run)));
            filter.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "each once, the newest first, {size} a page");
        assert_eq!(seen.len(), 12, "{size} a page");
    }

    let (a, b, unknown) = (one.ids()[0], other.ids()[0], RunId::manual(BEGIN));
    let answers = scheduler.replay(&[b, unknown, a, b]).await.unwrap();
    let is_done: Vec<bool> = answers.iter().map(|answer| matches!(answer, Replayed::As(_))).collect();
    assert_eq!(is_done, [true, false, true, false]);
    let (a, b) = (one.ids()[0], other.ids()[0]);
    assert!(scheduler.hold(&b, Some("looked at")).await.unwrap());
    assert!(!scheduler.hold(&unknown, Some("looked at")).await.unwrap());
    assert_eq!(scheduler.discard(&[unknown, b, a], HeldLetters::Stay).await.unwrap(), [false, false, true]);
    assert_eq!(scheduler.discard(&[unknown, b, a], HeldLetters::Leave).await.unwrap(), [false, true, false]);
    assert_eq!((one.ids().len(), other.ids().len()), (7, 1));
}
