//! Runs that come in. Those of several callers go to Redis together, as soon as the call before is done: a call costs
//! as much as many runs.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{Error, Result};
use tokio::sync::oneshot;

use crate::driver::describe;
use crate::envelope;
use crate::redis_link::Link;
use crate::redis_script;
use crate::redis_store::{LARGEST, MOST};
use crate::redis_wire;
use crate::store::Pushed;

/// What somebody wants to be added, and waits for.
#[derive(Debug)]
struct Asked {
    runs: Vec<Pushed>,
    reply: oneshot::Sender<Result<Vec<bool>>>,
}

/// Callers that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    waiting: Mutex<VecDeque<Asked>>,
    /// Held while runs are on their way.
    turn: tokio::sync::Mutex<()>,
}

impl Pushes {
    /// As [`Store::push`](crate::store::Store::push). A call that is dropped while it waits adds nothing.
    pub(crate) async fn push(&self, link: &Arc<Link>, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        let alone = self.turn.try_lock().ok().filter(|_| self.waiting().is_empty());
        if let Some(_turn) = alone {
            let (answers, done) = add(link, &runs).await;
            return done.map(|()| answers);
        }
        let (reply, mut answer) = oneshot::channel();
        self.waiting().push_back(Asked { runs, reply });
        loop {
            let _turn = tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(lost(link))),
                turn = self.turn.lock() => turn,
            };
            // Those who just got their answer may come back with more.
            tokio::task::yield_now().await;
            let some = self.some();
            if !some.is_empty() {
                // A task of its own, so that it ends for the others when this call is dropped.
                let _ = tokio::spawn(add_for_all(Arc::clone(link), some)).await;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Asked>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first that wait, as many as one script takes; those whose caller has gone are left out.
    fn some(&self) -> Vec<Asked> {
        let mut waiting = self.waiting();
        let (mut some, mut count) = (Vec::new(), 0);
        while let Some(first) = waiting.front() {
            if !some.is_empty() && count + first.runs.len() > MOST {
                break;
            }
            let Some(first) = waiting.pop_front().filter(|first| !first.reply.is_closed()) else { continue };
            count += first.runs.len();
            some.push(first);
        }
        some
    }
}

fn lost(link: &Link) -> Error {
    Error::unavailable("queue/unreachable", format!("what Redis at {} answered is lost", link.place))
}

/// Adds what several callers want, and tells each what became of theirs.
async fn add_for_all(link: Arc<Link>, some: Vec<Asked>) {
    let mut replies = Vec::with_capacity(some.len());
    let mut all = Vec::new();
    for Asked { runs, reply } in some {
        replies.push((reply, runs.len()));
        all.extend(runs);
    }
    let (answers, done) = add(&link, &all).await;
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
async fn add(link: &Link, runs: &[Pushed]) -> (Vec<bool>, Result<()>) {
    let script = &redis_script::PUSH;
    let mut answers = vec![false; runs.len()];
    let mut seen = HashSet::with_capacity(runs.len());
    // Of two of one id the first one counts.
    let new = runs.iter().enumerate().filter(|(_, pushed)| seen.insert(pushed.run.id));
    let new: Vec<(usize, &Pushed, String)> =
        new.map(|(index, pushed)| (index, pushed, envelope::seal(&pushed.run))).collect();
    let mut rest = new.as_slice();
    // Nothing at all is sent as well: the answer says whether Redis takes what is new.
    loop {
        let (some, others) = rest.split_at(as_many_as_fit(rest));
        let mut call = link.call(script);
        let sealed = some.iter().map(|(_, pushed, envelope)| (*pushed, envelope.as_str()));
        let places = redis_wire::add_sealed(&mut call, sealed);
        let added: Vec<u64> = match link.send(script, &call).await {
            Ok(added) => added,
            Err(error) => {
                answers.truncate(some.first().map_or(0, |(index, ..)| *index));
                return (answers, Err(error));
            }
        };
        for (place, is_new) in places.into_iter().zip(added) {
            answers[some[place].0] = is_new == 1;
        }
        rest = others;
        if rest.is_empty() {
            return (answers, Ok(()));
        }
    }
}

/// How many of these runs one script is given.
fn as_many_as_fit(runs: &[(usize, &Pushed, String)]) -> usize {
    let mut bytes = 0;
    let fit = runs.iter().take(MOST).take_while(|(_, _, envelope)| {
        let is_room = bytes < LARGEST;
        bytes += envelope.len();
        is_room
    });
    fit.count()
}
