//! The rule by which many dead letters run again: some of them first, the canaries, and the others only when those came
//! through, no faster than a rate.

use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::{
    DeadLetterFilter, Error, Name, Outage, Replayed, Result, Run, RunFilter, RunId, RunState, Scheduler,
    Timestamp, parse_duration,
};

/// The most letters that are replayed in one step.
const LARGEST_STEP: usize = 100;
/// How many letters are replayed in one step where there is no rate.
const STEP: usize = 500;
/// How many runs of one fire are looked through for a replay whose id is not known.
const SAME_FIRE: usize = 1_000;
/// How many canaries an error names.
const NAMED: usize = 5;
/// How often it is looked how the canaries go.
const GLANCE: Duration = Duration::from_millis(100);

/// How many replays there may be in a time: above none and at most 1000 a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplayRate(f64);

impl ReplayRate {
    /// So many a second, if that is above none and at most 1000.
    pub fn per_second(count: f64) -> Option<Self> {
        (count > 0.0 && count <= 1_000.0).then_some(Self(count))
    }

    /// How many letters are replayed in a step.
    pub fn step(self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
        let step = self.0 as usize;
        step.clamp(1, LARGEST_STEP)
    }

    /// How long to wait from one step to the next.
    pub fn pause(self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "it is at most 100")]
        let seconds = self.step() as f64 / self.0;
        // One in 31 years is as good as none, and adds up to an instant.
        Duration::from_secs_f64(seconds.min(1e9))
    }
}

/// Written as a number and a time, such as `5/s`, `90/m` or `1/10s`; a number alone is that many a second.
impl FromStr for ReplayRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (count, time) = text.split_once('/').unwrap_or((text, "1s"));
        let time = if time.starts_with(|first: char| first.is_ascii_digit()) {
            parse_duration(time)
        } else {
            parse_duration(&format!("1{time}"))
        };
        let count = count.parse::<f64>().ok().filter(|count| count.is_finite());
        let rate =
            count.zip(time.ok()).and_then(|(count, time)| Self::per_second(count / time.as_secs_f64()));
        rate.ok_or_else(|| {
            let message = format!("`{}` is no rate above 0 and up to 1000 a second", text.escape_debug());
            Error::invalid(
                "dead_letters/bad_rate",
                format!("{message}; write one such as 5/s, 90/m or 1/10s"),
            )
        })
    }
}

/// What became of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayFate {
    /// It has not ended.
    UnderWay(RunId),
    /// It ended well.
    Succeeded,
    /// It failed again.
    Failed(RunId),
    /// Nobody knows it, or it was ended from outside.
    Gone,
    /// It was never replayed: the letter is still there.
    NotReplayed,
}

impl From<&Run> for ReplayFate {
    fn from(run: &Run) -> Self {
        match run.state {
            RunState::Succeeded => Self::Succeeded,
            RunState::Failed => Self::Failed(run.id),
            RunState::Cancelled | RunState::Skipped => Self::Gone,
            RunState::Scheduled | RunState::Queued | RunState::Running | RunState::Retrying => {
                Self::UnderWay(run.id)
            }
        }
    }
}

/// What canaries tell of the letters behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryVerdict {
    /// All came through: the others may follow.
    Passed,
    /// One failed again: the others stay.
    Failed,
    /// One is under way, and none has failed.
    Waits,
    /// One was ended from outside or is not known any more, so it tells nothing: the others stay.
    Untold,
}

impl CanaryVerdict {
    /// The verdict of canaries. One that failed decides, whatever became of the others.
    pub fn of(fates: &[ReplayFate]) -> Self {
        let any = |is_meant: fn(&ReplayFate) -> bool| fates.iter().any(is_meant);
        if any(|fate| matches!(fate, ReplayFate::Failed(_))) {
            Self::Failed
        } else if any(|fate| matches!(fate, ReplayFate::UnderWay(_))) {
            Self::Waits
        } else if any(|fate| matches!(fate, ReplayFate::Gone | ReplayFate::NotReplayed)) {
            Self::Untold
        } else {
            Self::Passed
        }
    }
}

/// How many letters are replayed one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReplayPlan {
    /// No faster than this.
    pub rate: Option<ReplayRate>,
    /// So many go first, and must succeed.
    pub canaries: usize,
    /// For so long they are waited for; to their end where there is none.
    pub patience: Option<Duration>,
}

impl ReplayPlan {
    /// As fast as it goes, all at once.
    pub fn at_once() -> Self {
        Self::default()
    }

    /// The same no faster than this.
    #[must_use]
    pub fn at_rate(mut self, rate: Option<ReplayRate>) -> Self {
        self.rate = rate;
        self
    }

    /// The same with so many canaries, which are waited for so long.
    #[must_use]
    pub fn behind_canaries(mut self, canaries: usize, patience: Option<Duration>) -> Self {
        (self.canaries, self.patience) = (canaries, patience);
        self
    }
}

/// What became of many letters.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Those that were to be replayed, in their order, with the answer; the canaries come first.
    pub answers: Vec<(RunId, Replayed)>,
    /// What the canaries told, where there are any.
    pub verdict: Option<CanaryVerdict>,
    /// The canaries as they were when that was known.
    pub canaries: Vec<Run>,
    /// Those that were left alone because of it.
    pub left: Vec<RunId>,
}

impl ReplayReport {
    /// The new runs.
    fn replays(&self) -> impl Iterator<Item = RunId> {
        self.answers.iter().filter_map(|(_, answer)| match answer {
            Replayed::As(run) => Some(*run),
            Replayed::Unknown | Replayed::Held | Replayed::Unreadable => None,
        })
    }

    /// What is to be said of an error behind which some of so many letters were to be replayed.
    fn broken_off(&self, letters: usize, error: Error) -> Error {
        if self.answers.is_empty() {
            return error;
        }
        let done = self.replays().count();
        let message = format!("{done} of {letters} dead letters were replayed, and then it broke off");
        Error::new(error.kind(), "dead_letters/broken_off", message).with_source(error)
    }
}

impl Scheduler {
    /// Replays letters by a plan: the canaries, the others if those succeed, and no faster than the rate. Once something
    /// was replayed it goes on through an [`Outage`]. Dropped in between it leaves the rest as they are.
    ///
    /// # Errors
    /// As [`replay`](Self::replay), where nothing was replayed. Otherwise, of the kind of their source,
    /// `dead_letters/canary_unknown` when the canaries cannot be looked at any more, and `dead_letters/broken_off` when
    /// the others cannot be replayed; both say what was done.
    pub async fn replay_by(&self, runs: &[RunId], plan: ReplayPlan) -> Result<ReplayReport> {
        let mut report = ReplayReport::default();
        let mut rest = runs;
        let broken_off = |report: &ReplayReport, error| report.broken_off(runs.len(), error);
        if plan.canaries > 0 {
            let sent = self.send_ahead(rest, plan.canaries, &mut report).await;
            rest = sent.map_err(|error| broken_off(&report, error))?;
            if report.replays().next().is_some() {
                let verdict = self.await_canaries(plan.patience, &mut report).await?;
                report.verdict = Some(verdict);
                if verdict != CanaryVerdict::Passed {
                    report.left = rest.to_vec();
                    return Ok(report);
                }
            }
        }
        let clock = &self.0.clock;
        let step = plan.rate.map_or(STEP, ReplayRate::step);
        for (index, some) in rest.chunks(step).enumerate() {
            // The canaries have taken time of their own.
            if let Some(rate) = plan.rate.filter(|_| index > 0) {
                clock.sleep_until(clock.monotonic().saturating_add(rate.pause())).await;
            }
            self.send(some, &mut report).await.map_err(|error| broken_off(&report, error))?;
        }
        Ok(report)
    }

    /// Replays letters until so many are under way; answers those that are left.
    async fn send_ahead<'a>(
        &self,
        runs: &'a [RunId],
        canaries: usize,
        report: &mut ReplayReport,
    ) -> Result<&'a [RunId]> {
        let mut rest = runs;
        loop {
            let missing = canaries.saturating_sub(report.replays().count());
            if missing == 0 || rest.is_empty() {
                return Ok(rest);
            }
            let (some, behind) = rest.split_at(rest.len().min(missing));
            self.send(some, report).await?;
            rest = behind;
        }
    }

    /// Replays letters in one step, through an outage unless it is the first.
    async fn send(&self, runs: &[RunId], report: &mut ReplayReport) -> Result<()> {
        let (mut outage, is_first) = (Outage::default(), report.answers.is_empty());
        let answers = loop {
            match self.replay_again(runs, outage.is_there()).await {
                Ok(answers) => break answers,
                Err(error) if is_first || !error.is_transient() => return Err(error),
                Err(error) if !outage.is_borne(&*self.0.clock, None).await => return Err(error),
                Err(_) => {}
            }
        };
        report.answers.extend(runs.iter().copied().zip(answers));
        Ok(())
    }

    /// Replays letters that may have been replayed before, when the answer was lost.
    async fn replay_again(&self, runs: &[RunId], is_again: bool) -> Result<Vec<Replayed>> {
        let mut answers = self.replay(runs).await?;
        for (letter, answer) in runs.iter().zip(&mut answers) {
            if !is_again || *answer != Replayed::Unknown {
                continue;
            }
            let failed = self.history(&RunFilter::of_run(*letter)).await?.runs.into_iter().next();
            if let Some(failed) = failed
                && let Some(new) = self.replay_of(*letter, &failed.task, failed.fire_time).await?
            {
                *answer = Replayed::As(new.id);
            }
        }
        Ok(answers)
    }

    async fn await_canaries(
        &self,
        patience: Option<Duration>,
        report: &mut ReplayReport,
    ) -> Result<CanaryVerdict> {
        let clock = &self.0.clock;
        let until = patience.map(|patience| clock.monotonic().saturating_add(patience));
        let canaries: Vec<RunId> = report.replays().collect();
        let mut outage = Outage::default();
        loop {
            report.canaries.clear();
            let looked = self.look_at(&canaries, &mut report.canaries).await;
            let fates = match looked {
                Ok(fates) => fates,
                Err(error) if error.is_transient() && outage.is_borne(&**clock, until).await => continue,
                Err(error) => return Err(unknown(&canaries, error)),
            };
            outage.ends();
            let (verdict, now) = (CanaryVerdict::of(&fates), clock.monotonic());
            if verdict != CanaryVerdict::Waits || until.is_some_and(|until| until <= now) {
                return Ok(verdict);
            }
            let next = now.saturating_add(GLANCE);
            clock.sleep_until(until.map_or(next, |until| until.min(next))).await;
        }
    }

    /// How canaries go, and those that are known.
    async fn look_at(&self, canaries: &[RunId], known: &mut Vec<Run>) -> Result<Vec<ReplayFate>> {
        let mut fates = Vec::with_capacity(canaries.len());
        for canary in canaries {
            let run = self.history(&RunFilter::of_run(*canary)).await?.runs.into_iter().next();
            fates.push(run.as_ref().map_or(ReplayFate::Gone, ReplayFate::from));
            known.extend(run);
        }
        Ok(fates)
    }

    /// What became of a letter that was replayed, or was about to be: as the run with that id, where it is known. A
    /// replay has the task and the fire time of its letter.
    ///
    /// # Errors
    /// Those of a backend that does not answer.
    pub async fn replay_fate(
        &self,
        letter: RunId,
        replay: Option<RunId>,
        task: &Name,
        fire_time: Timestamp,
    ) -> Result<ReplayFate> {
        let run = match replay {
            Some(run) => self.history(&RunFilter::of_run(run)).await?.runs.into_iter().next(),
            None => {
                if !self.letters(&DeadLetterFilter::of_run(letter)).await?.letters.is_empty() {
                    return Ok(ReplayFate::NotReplayed);
                }
                self.replay_of(letter, task, fire_time).await?
            }
        };
        Ok(run.as_ref().map_or(ReplayFate::Gone, ReplayFate::from))
    }

    /// The run as which a letter was replayed, where it is known.
    async fn replay_of(&self, letter: RunId, task: &Name, fire_time: Timestamp) -> Result<Option<Run>> {
        let same_fire = RunFilter::of_task(task.clone()).fired_up_to(fire_time);
        let page = self.history(&same_fire.limited(SAME_FIRE)).await?;
        Ok(page.runs.into_iter().find(|run| run.replay_of == Some(letter)))
    }
}

/// Canaries are under way, and how they go cannot be asked.
fn unknown(canaries: &[RunId], error: Error) -> Error {
    let named: Vec<String> = canaries.iter().take(NAMED).map(|run| format!("`{run}`")).collect();
    let more = if canaries.len() > NAMED { ", …" } else { "" };
    let message = format!("the canaries run as {}{more}, and how they go cannot be told", named.join(", "));
    Error::new(error.kind(), "dead_letters/canary_unknown", message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        for (text, step, pause_ms) in [
            ("5/s", 5, 1_000),
            ("5", 5, 1_000),
            ("90/m", 1, 666),
            ("1/10s", 1, 10_000),
            ("0.5/s", 1, 2_000),
            ("1000", 100, 100),
        ] {
            let rate: ReplayRate = text.parse().unwrap();
            let pause = rate.pause().as_millis();
            assert_eq!((rate.step(), pause), (step, pause_ms), "{text}");
        }
        for text in ["", "/s", "5/", "0/s", "-1/s", "1001/s", "nan/s", "inf", "5/0s", "5/x", "5/1"] {
            let error = text.parse::<ReplayRate>().unwrap_err();
            assert_eq!(error.code(), "dead_letters/bad_rate", "{text}");
        }
    }

    #[test]
    fn one_canary_that_failed_decides_and_one_that_says_nothing_holds_the_others_back() {
        let run = RunId::manual(Timestamp::from_millis(1));
        let (well, failed, under_way, gone) =
            (ReplayFate::Succeeded, ReplayFate::Failed(run), ReplayFate::UnderWay(run), ReplayFate::Gone);
        for (fates, verdict) in [
            (&[][..], CanaryVerdict::Passed),
            (&[well, well], CanaryVerdict::Passed),
            (&[well, under_way, gone], CanaryVerdict::Waits),
            (&[well, gone], CanaryVerdict::Untold),
            (&[under_way, failed, gone], CanaryVerdict::Failed),
        ] {
            assert_eq!(CanaryVerdict::of(fates), verdict, "{fates:?}");
        }
    }
}
