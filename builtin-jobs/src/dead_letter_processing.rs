//! The job `dead_letter_processing`: replays the dead letters that time may heal and archives those it does not.
//!
//! Letters of one task that say the same are a group. Of a group one letter is replayed first, the canary; the
//! others follow when it came through, and when it fails the group waits, longer each time. What a person holds
//! is left alone. Replays are counted in the state of the task.

use std::sync::{Mutex, PoisonError};

use scheduler_core::{
    ArgsError, DeadLetterFilter, Error, Job, JobDescriptor, JobError, Output, ReplayRate, Replayed, Result,
    RunContext, RunId, Scheduler, async_trait,
};
use serde_json::Value;

use crate::dead_letter_archive::{Archive, Archived};
use crate::dead_letter_args::DeadLetterArgs;
use crate::dead_letter_book::{Book, Replay};
use crate::dead_letter_report::{Action, Report};
use crate::dead_letter_rule::Rules;
use crate::dead_letter_survey::{Chosen, Judge, Survey};
use crate::dry_run;

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(DeadLetterArgs).to_value();
    let summary = "replays dead letters that time may heal, and archives those it does not";
    JobDescriptor::typed("dead_letter_processing", summary, DeadLetterArgs::read)
        .with_schema(schema)
        .with_backends()
}

/// What is done with which letters.
#[derive(Debug)]
pub(crate) struct DeadLetterProcessing {
    pub(crate) rules: Rules,
    pub(crate) rate: ReplayRate,
    pub(crate) limit: usize,
    pub(crate) archive: Option<Archive>,
    pub(crate) is_dry: bool,
}

/// One run: what it works on and what it tells.
#[derive(Clone, Copy, Debug)]
struct Round<'a> {
    ctx: &'a RunContext,
    scheduler: &'a Scheduler,
    report: &'a Mutex<Report>,
}

#[async_trait]
impl Job for DeadLetterProcessing {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let report = Mutex::new(Report::new(self.is_dry || dry_run::is_asked_for(ctx)?));
        // Whatever it is cut off from, the next run finds in the book.
        let ended = match ctx.unless_cancelled(self.process(ctx, &report)).await {
            Ok(ended) => ended,
            Err(reason) => Err(JobError::retry(format!("ended by the scheduler: {}", reason.as_str()))),
        };
        let output = report.into_inner().unwrap_or_else(PoisonError::into_inner).shown();
        match ended {
            Ok(()) => Ok(output),
            Err(error) => Err(error.with_output(output)),
        }
    }

    fn check(&self) -> Vec<ArgsError> {
        match &self.archive {
            None => Vec::new(),
            Some(Archive::File(path)) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let missing = folder.filter(|folder| !folder.is_dir());
                let fault = missing.map(|folder| {
                    ArgsError::new("/archive/file", format!("there is no folder {}", folder.display()))
                        .with_help("make it, or name another")
                });
                fault.into_iter().collect()
            }
            Some(Archive::Url(_, http)) => {
                let faults = http.check().into_iter();
                faults
                    .map(|fault| ArgsError { pointer: format!("/archive{}", fault.pointer), ..fault })
                    .collect()
            }
        }
    }
}

impl DeadLetterProcessing {
    async fn process(&self, ctx: &RunContext, report: &Mutex<Report>) -> Result<(), JobError> {
        let scheduler = ctx.scheduler()?;
        if !scheduler.backends().iter().any(|backend| backend.dead_letters().is_some()) {
            let message =
                "no backend of this scheduler keeps dead letters; a task on the durable tier has them";
            return Err(JobError::abort(Error::unsupported("dead_letters/none_kept", message)));
        }
        // First, as it also says whether every backend that keeps letters answers.
        scheduler.letters(&DeadLetterFilter::all().limited(1)).await?;
        let book = self.settled(ctx, &scheduler, report).await?;
        let survey = Survey::take(Judge {
            scheduler: &scheduler,
            rules: &self.rules,
            book: &book,
            own: ctx.task(),
            limit: self.limit,
            has_archive: self.archive.is_some(),
            now: ctx.clock().now(),
        })
        .await?;
        let (replays, archives) = (survey.replays(self.limit), survey.archives());
        told(report).survey(&survey);
        if told(report).is_dry {
            let mut report = told(report);
            archives.iter().for_each(|chosen| report.add(Action::planned(chosen, true)));
            replays.iter().for_each(|chosen| report.add(Action::planned(chosen, false)));
            return Ok(());
        }
        self.change(ctx, |book| survey.tidy(book)).await?;
        let round = Round { ctx, scheduler: &scheduler, report };
        let archived = self.archive(round, &archives).await;
        self.replay(round, &replays).await?;
        Ok(archived?)
    }

    /// Takes down what became of earlier replays.
    async fn settled(&self, ctx: &RunContext, scheduler: &Scheduler, report: &Mutex<Report>) -> Result<Book> {
        let mut book = Book::read(ctx.state().load::<Value>().await?.as_ref());
        let mut fates = Vec::new();
        for (letter, replay) in book.replays.iter().filter(|(_, replay)| !replay.has_failed) {
            let Replay { new_run, task, fire_time, .. } = replay;
            let fate = scheduler.replay_fate(*letter, *new_run, task, *fire_time).await?;
            told(report).count(fate);
            fates.push((*letter, fate));
        }
        let now = ctx.clock().now();
        if told(report).is_dry {
            book.settle(&fates, &self.rules, now);
            return Ok(book);
        }
        self.change(ctx, |book| book.settle(&fates, &self.rules, now)).await
    }

    async fn archive(&self, round: Round<'_>, chosen: &[Chosen]) -> Result<()> {
        let Round { ctx, scheduler, report } = round;
        let Some(archive) = &self.archive else { return Ok(()) };
        // Also without a letter, as an earlier run may have been killed half-way.
        archive
            .take(ctx, scheduler, chosen, |chosen, archived| {
                let mut report = told(report);
                report.add(Action::archived(chosen, archived));
                if archived == Archived::Safe {
                    report.group(&chosen.group, |group| group.archived += 1);
                }
            })
            .await
    }

    async fn replay(&self, round: Round<'_>, chosen: &[Chosen]) -> Result<()> {
        let ctx = round.ctx;
        let (step, pause) = (self.rate.step(), self.rate.pause());
        for (index, some) in chosen.chunks(step).enumerate() {
            if index > 0 {
                ctx.sleep(pause).await;
            }
            let done = index * step;
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more precision")]
            let share = done as f64 / chosen.len() as f64;
            ctx.set_progress(share, format!("replayed {done} of {}", chosen.len()));
            self.replay_some(round, some).await?;
        }
        if !chosen.is_empty() {
            ctx.set_progress(1.0, format!("replayed {0} of {0}", chosen.len()));
        }
        Ok(())
    }

    async fn replay_some(&self, round: Round<'_>, chosen: &[Chosen]) -> Result<()> {
        let Round { ctx, scheduler, report } = round;
        let (by, at) = (ctx.run_id(), ctx.clock().now());
        let reserve = |book: &mut Book| {
            chosen.iter().for_each(|chosen| book.reserve(chosen.run, chosen.replay(by, at)));
        };
        let book = self.change(ctx, reserve).await?;
        let is_mine = |chosen: &&Chosen| {
            book.replays.get(&chosen.run).is_some_and(|replay| replay.by == by && replay.new_run.is_none())
        };
        let mine: Vec<&Chosen> = chosen.iter().filter(is_mine).collect();
        let runs: Vec<RunId> = mine.iter().map(|chosen| chosen.run).collect();
        let answers = scheduler.replay(&runs).await?;
        self.change(ctx, |book| {
            for (chosen, answer) in mine.iter().zip(&answers) {
                let Replayed::As(new) = *answer else {
                    book.replays.remove(&chosen.run);
                    continue;
                };
                let replay = book.replays.entry(chosen.run).or_insert_with(|| chosen.replay(by, at));
                replay.new_run = Some(new);
                // Counted on with the new one.
                chosen.origin.iter().for_each(|origin| drop(book.replays.remove(origin)));
            }
        })
        .await?;
        let mut report = told(report);
        for (chosen, answer) in mine.into_iter().zip(answers) {
            report.add(Action::replayed(chosen, answer));
            if let Replayed::As(_) = answer {
                report.group(&chosen.group, |group| {
                    group.replayed += 1;
                    group.waiting -= usize::from(chosen.is_canary && group.waiting > 0);
                });
            }
        }
        Ok(())
    }

    async fn change(&self, ctx: &RunContext, change: impl Fn(&mut Book) + Send + Sync) -> Result<Book> {
        let changed = |present: Option<Value>| {
            let mut book = Book::read(present.as_ref());
            change(&mut book);
            serde_json::to_value(book).unwrap_or_default()
        };
        Ok(Book::read(Some(&ctx.state().update(changed).await?)))
    }
}

impl Chosen {
    fn replay(&self, by: RunId, at: scheduler_core::Timestamp) -> Replay {
        Replay {
            group: self.group.clone(),
            class: self.class.clone(),
            task: self.task.clone(),
            fire_time: self.fire_time,
            count: self.count.saturating_add(1),
            is_canary: self.is_canary,
            by,
            at,
            new_run: None,
            has_failed: false,
        }
    }
}

fn told(report: &Mutex<Report>) -> std::sync::MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}
