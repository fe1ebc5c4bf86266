//! Runs that several callers add at once, in one change: what an addition costs is its commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{Error, Result};
use tokio::sync::oneshot;

use crate::driver::describe;
use crate::store::Pushed;

/// How many runs are taken along in one change, besides those of the last caller, so that no change takes long.
const MOST: usize = 2_000;

/// Runs that wait for the next change, whoever makes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offers(Arc<Mutex<Vec<Offer>>>);

#[derive(Debug)]
struct Offer {
    runs: Vec<Pushed>,
    reply: oneshot::Sender<Result<Vec<bool>>>,
}

/// Offers that a change takes along. Dropped before they were answered they wait for the next one.
#[derive(Debug)]
pub(crate) struct Along {
    offers: Offers,
    taken: Vec<Offer>,
}

impl Offers {
    fn waiting(&self) -> MutexGuard<'_, Vec<Offer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, runs: Vec<Pushed>) -> oneshot::Receiver<Result<Vec<bool>>> {
        let (reply, answer) = oneshot::channel();
        self.waiting().push(Offer { runs, reply });
        answer
    }

    /// Takes those that came first. Whoever does not wait any more adds nothing.
    pub(crate) fn take(&self) -> Along {
        let mut waiting = self.waiting();
        waiting.retain(|offer| !offer.reply.is_closed());
        let mut runs = 0;
        let fits = |offer: &&Offer| {
            let fits = runs < MOST;
            runs += offer.runs.len();
            fits
        };
        let count = waiting.iter().take_while(fits).count();
        let taken = waiting.drain(..count).collect();
        drop(waiting);
        Along { offers: self.clone(), taken }
    }
}

impl Along {
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Pushed> + Clone {
        self.taken.iter().flat_map(|offer| &offer.runs)
    }

    /// Tells each caller what became of his runs.
    pub(crate) fn answer(mut self, added: std::result::Result<Vec<bool>, &Error>) {
        let mut added = added.map(Vec::into_iter);
        for Offer { runs, reply } in std::mem::take(&mut self.taken) {
            let answer = match &mut added {
                Ok(are_new) => Ok(are_new.take(runs.len()).collect()),
                Err(error) => Err(Error::new(error.kind(), error.code(), describe(error))),
            };
            // Who is gone needs no answer.
            let _ = reply.send(answer);
        }
    }
}

impl Drop for Along {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            let mut waiting = self.offers.waiting();
            self.taken.append(&mut waiting);
            *waiting = std::mem::take(&mut self.taken);
        }
    }
}
