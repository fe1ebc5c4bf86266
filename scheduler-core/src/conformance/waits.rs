//! Time, and waiting: every wait ends with an event or with a message that says what was waited for.

use std::fmt::Display;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::act::Seen;
use super::fault::{Outcome, broken};
use super::stage::Stage;
use crate::{Error, Result, Run, RunId, RunState, Timestamp};

/// The same for a stop, which waits for the given clock as a rule.
pub(super) const STOP_HESITATION: Duration = Duration::from_millis(5);
/// After how long, in real time, the kit takes it that an answer waits for the given clock.
const HESITATION: Duration = Duration::from_millis(500);
/// How long the kit leaves a backend alone between two looks, in real time.
pub(super) const GLANCE: Duration = Duration::from_millis(1);
/// How far the kit moves the given clock, in units, while it waits for what must happen.
const FAR: u32 = 600;
impl Stage {
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

    pub(super) async fn drive_after<T>(
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
}

/// Awaits an answer for so long, while the given clock stands still.
pub(super) async fn within<T>(
    patience: Duration,
    call: &str,
    answer: impl Future<Output = Result<T>>,
) -> Outcome<T> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer.or_else(|error| broken(refusal(call, &error))),
        Err(_) => broken(format!("`{call}` did not answer for {patience:?}")),
    }
}

fn refusal(call: &str, error: &Error) -> String {
    format!("`{call}` answered [{}] {error}", error.code())
}
