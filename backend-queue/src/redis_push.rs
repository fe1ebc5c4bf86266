//! Runs that come in. Those of several callers go to Redis together, because a call costs as much as many runs; and
//! up to two calls are on their way, so that Redis is at work while the callers of the other one get their answers and
//! come back with more.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{Error, Result};
use tokio::sync::{Notify, oneshot};

use crate::driver::describe;
use crate::envelope;
use crate::redis_fresh::{self, Numbers, Sealed};
use crate::redis_link::Link;
use crate::redis_script;
use crate::redis_store::{LARGEST, MOST};
use crate::redis_wire;
use crate::store::Pushed;

/// How many calls are on their way at most.
const LANES: usize = 2;

/// What somebody wants to be added, and waits for.
#[derive(Debug)]
struct Asked {
    runs: Vec<Pushed>,
    reply: oneshot::Sender<Result<Vec<bool>>>,
}

/// Callers that wait for their turn.
#[derive(Debug)]
pub(crate) struct Pushes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    line: Mutex<Line>,
    /// Tells one who waits that nobody else takes up what does.
    left: Notify,
    numbers: Numbers,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Asked>,
    /// How many runs wait, how many are on their way, and by how many calls.
    count: usize,
    on_way: usize,
    lanes: usize,
}

impl Line {
    /// Whether one more call is worth while: the first is, and the second where it has enough to bring.
    fn has_room(&self) -> bool {
        self.lanes == 0 || self.lanes < LANES && self.count * 2 >= self.on_way
    }

    /// The first that wait: half of all there are, so that the other half is on its way meanwhile, and as many as one
    /// script takes. Those whose caller has gone are left out.
    fn take(&mut self) -> Vec<Asked> {
        let most = (self.count + self.on_way).div_ceil(2).min(MOST);
        let (mut some, mut count) = (Vec::new(), 0);
        while let Some(first) = self.waiting.front() {
            if !some.is_empty() && count + first.runs.len() > most {
                break;
            }
            let Some(first) = self.waiting.pop_front() else { break };
            self.count -= first.runs.len();
            if !first.reply.is_closed() {
                count += first.runs.len();
                some.push(first);
            }
        }
        some
    }
}

/// The right to have a call on its way.
struct Lane<'a> {
    shared: &'a Shared,
    on_way: usize,
}

impl Pushes {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let (line, left, numbers) = Default::default();
        Self(Arc::new(Shared { link, line, left, numbers }))
    }

    /// As [`Store::push`](crate::store::Store::push). A call that is dropped while it waits adds nothing.
    pub(crate) async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        let shared = &self.0;
        let is_alone = |line: &Line| line.lanes == 0 && line.waiting.is_empty();
        if let Some(_lane) = shared.open(runs.len(), is_alone) {
            let (answers, done) = add(&shared.link, &shared.numbers, &runs).await;
            return done.map(|()| answers);
        }
        let (reply, mut answer) = oneshot::channel();
        {
            let mut line = shared.line();
            line.count += runs.len();
            line.waiting.push_back(Asked { runs, reply });
        }
        loop {
            let mut lane = tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(lost(&shared.link))),
                lane = shared.lane() => lane,
            };
            // Those who just got their answer may come back with more.
            tokio::task::yield_now().await;
            let some = lane.take();
            if !some.is_empty() {
                // A task of its own, so that it ends for the others when this call is dropped; and it is waited for,
                // because a runtime may stand still as soon as whoever drives it has an answer.
                let _ = tokio::spawn(add_for_all(Arc::clone(shared), some)).await;
            }
        }
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more call, if it may be, with so many runs.
    fn open(&self, on_way: usize, may_be: impl FnOnce(&Line) -> bool) -> Option<Lane<'_>> {
        let mut line = self.line();
        may_be(&line).then(|| {
            line.lanes += 1;
            line.on_way += on_way;
            Lane { shared: self, on_way }
        })
    }

    /// Tells one who waits, where one more call is worth while.
    fn hand_on(&self, line: &Line) {
        if !line.waiting.is_empty() && line.has_room() {
            self.left.notify_one();
        }
    }

    /// One more call, as soon as it is worth while.
    async fn lane(&self) -> Lane<'_> {
        loop {
            if let Some(lane) = self.open(0, Line::has_room) {
                return lane;
            }
            self.left.notified().await;
        }
    }
}

impl Lane<'_> {
    /// What it brings. Others may take what it leaves.
    fn take(&mut self) -> Vec<Asked> {
        let mut line = self.shared.line();
        let some = line.take();
        self.on_way = some.iter().map(|asked| asked.runs.len()).sum();
        line.on_way += self.on_way;
        self.shared.hand_on(&line);
        some
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut line = self.shared.line();
        line.lanes -= 1;
        line.on_way -= self.on_way;
        self.shared.hand_on(&line);
    }
}

fn lost(link: &Link) -> Error {
    Error::unavailable("queue/unreachable", format!("what Redis at {} answered is lost", link.place))
}

/// Adds what several callers want, and tells each what became of theirs.
async fn add_for_all(shared: Arc<Shared>, some: Vec<Asked>) {
    let mut replies = Vec::with_capacity(some.len());
    let mut all = Vec::new();
    for Asked { runs, reply } in some {
        replies.push((reply, runs.len()));
        all.extend(runs);
    }
    let (answers, done) = add(&shared.link, &shared.numbers, &all).await;
    let mut from = 0;
    for (reply, count) in replies {
        let upto = from + count;
        // What was added before something went wrong is there.
        let answer = match (&done, answers.get(from..upto)) {
            (Ok(()), some) => Ok(some.unwrap_or_default().to_vec()),
            (Err(_), Some(some)) if count > 0 => Ok(some.to_vec()),
            (Err(error), _) => Err(Error::new(error.kind(), error.code(), describe(error))),
        };
        let _ = reply.send(answer);
        from = upto;
    }
}

/// Adds runs. Says of each whether it is new, up to the first that was not added, and why that one was not.
async fn add(link: &Link, numbers: &Numbers, runs: &[Pushed]) -> (Vec<bool>, Result<()>) {
    let mut answers = vec![false; runs.len()];
    let mut seen = HashSet::with_capacity(runs.len());
    // Of two of one id the first one counts.
    let new = runs.iter().enumerate().filter(|(_, pushed)| seen.insert(pushed.run.id));
    let new: Vec<Sealed<'_>> =
        new.map(|(index, pushed)| (index, pushed, envelope::seal(&pushed.run))).collect();
    let mut rest = new.as_slice();
    // Nothing at all is sent as well: the answer says whether Redis takes what is new.
    loop {
        let (some, others) = rest.split_at(as_many_as_fit(rest));
        let added = match add_some(link, numbers, some).await {
            Ok(added) => added,
            Err(error) => {
                answers.truncate(some.first().map_or(0, |(index, ..)| *index));
                return (answers, Err(error));
            }
        };
        for ((index, ..), is_new) in some.iter().zip(added) {
            answers[*index] = is_new;
        }
        rest = others;
        if rest.is_empty() {
            return (answers, Ok(()));
        }
    }
}

/// Adds runs by one script; says of each whether it is new.
async fn add_some(link: &Link, numbers: &Numbers, some: &[Sealed<'_>]) -> Result<Vec<bool>> {
    let mut answers = vec![true; some.len()];
    if redis_fresh::add(link, numbers, some).await? {
        return Ok(answers);
    }
    let script = &redis_script::PUSH;
    let mut call = link.call(script);
    let sealed = some.iter().map(|(_, pushed, envelope)| (*pushed, envelope.as_str()));
    let places = redis_wire::add_sealed(&mut call, sealed);
    let (next, added): (u64, Vec<u64>) = link.send(script, &call).await?;
    numbers.keep(next);
    for (place, is_new) in places.into_iter().zip(added) {
        answers[place] = is_new == 1;
    }
    Ok(answers)
}

/// How many of these runs one script is given.
fn as_many_as_fit(runs: &[Sealed<'_>]) -> usize {
    let mut bytes = 0;
    let fit = runs.iter().take(MOST).take_while(|(_, _, envelope)| {
        let is_room = bytes < LARGEST;
        bytes += envelope.len();
        is_room
    });
    fit.count()
}
