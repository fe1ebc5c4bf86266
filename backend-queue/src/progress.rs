//! How far runs have come: told to the store about once a second, where there is something new to tell.

use std::time::Duration;

use scheduler_core::{Progress, Run};

use crate::driver::Driver;

/// How often the store is told.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(1);

/// How much of a note is kept, in characters.
const LONGEST: usize = 500;

/// What is kept of what a job says.
pub(crate) fn bounded(mut progress: Progress) -> Progress {
    if let Some((end, _)) = progress.note.char_indices().nth(LONGEST) {
        progress.note.truncate(end);
    }
    progress
}

impl Driver {
    /// Tells the store how far runs have come, as far as it does not know. A store that does not answer hears of it later.
    pub(crate) async fn tell_progress(&mut self) {
        let mut told: Vec<(Run, u64)> = Vec::new();
        for flight in self.flights.iter() {
            let Some(progress) = flight.ctx.progress().map(bounded) else { continue };
            if self.backoff.is_zero() && flight.run.progress.as_ref() != Some(&progress) {
                let mut run = flight.run.clone();
                run.progress = Some(progress);
                told.push((run, flight.fence));
            }
        }
        if told.is_empty() {
            return;
        }
        match self.store.tell_progress(&told).await {
            Ok(()) => {
                for (run, _) in told {
                    if let Some(flight) = self.flights.get_mut(run.id) {
                        flight.run.progress = run.progress;
                    }
                }
            }
            Err(error) => {
                self.in_trouble(&error);
            }
        }
    }
}
