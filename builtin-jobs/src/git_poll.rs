//! The job `git_poll`: asks git servers for branches and tags, and triggers a task once for each change.
//!
//! What was seen is kept in the state of the task. A change is written there before its task is triggered, and
//! triggered with a key of its own, so that a process that is killed at any point loses none and doubles none.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use scheduler_core::{
    ArgsError, Error, Job, JobDescriptor, JobError, OrAbort, Output, RunContext, TriggerRequest, async_trait,
};
use serde_json::json;
use tokio::time::Instant;

use crate::git_poll_args::{GitPollArgs, Plan, Repository};
use crate::git_poll_book::{Book, Polled};
use crate::git_poll_change::Change;
use crate::git_poll_remote::{Failure, Question, Ready};
use crate::git_poll_tally::{Tally, Triggered};
use crate::git_poll_url;
use crate::marks::Marks;

/// How long processes that left the group of their git are hunted for.
const HUNT: Duration = Duration::from_secs(1);

/// How many answers are written down at once.
const BATCH: usize = 64;

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(GitPollArgs).to_value();
    let summary = "triggers a task when a git repository changes";
    JobDescriptor::typed("git_poll", summary, GitPoll::new).with_schema(schema).with_own_limit()
}

/// Repositories that can be polled.
#[derive(Debug)]
struct GitPoll {
    plan: Plan,
    /// Set once every task that is to be triggered was found.
    knows_tasks: OnceLock<()>,
}

/// One repository after it was asked.
struct Answer<'a> {
    repository: &'a Repository,
    polled: Polled,
    timed_out: bool,
}

impl GitPoll {
    fn new(args: GitPollArgs) -> Result<Self, Vec<ArgsError>> {
        Ok(Self { plan: args.read()?, knows_tasks: OnceLock::new() })
    }

    async fn poll(&self, ctx: &RunContext, tally: &mut Tally) -> Result<(), JobError> {
        self.look_for_tasks(ctx)?;
        let program = self.plan.git.locate().map_err(|fault| fault.to_string()).or_abort()?;
        let git = self.plan.git.ready(ctx, program).await?;
        let names: BTreeSet<&str> = self.plan.repositories.iter().map(|one| one.name.as_str()).collect();
        let stored = ctx.state().load::<Book>().await.or_abort()?.unwrap_or_default();
        let mut book = stored.of(&names);
        // What an earlier run did not get to.
        self.trigger(ctx, &mut book, tally).await?;
        let now = ctx.clock().now();
        let rests = |one: &&Repository| book.rests(&one.name, self.plan.policy, now);
        let (resting, due): (Vec<&Repository>, Vec<&Repository>) =
            self.plan.repositories.iter().partition(rests);
        tally.rest(resting.len());
        let began = Instant::now();
        let spread = self.plan.spread;
        let mut due: Vec<(Duration, &Repository)> =
            due.into_iter().map(|one| (place_of(ctx.task().as_str(), &one.name, spread), one)).collect();
        due.sort_by_key(|(place, _)| *place);
        // Made ahead of the stream, which could not name the lifetimes of a closure.
        let asked: Vec<_> = due.into_iter().map(|(place, one)| ask_at(began + place, &git, one)).collect();
        let asked = stream::iter(asked).buffer_unordered(self.plan.at_once).ready_chunks(BATCH);
        let mut asked = std::pin::pin!(asked);
        while let Some(answers) = asked.next().await {
            book = self.write_down(ctx, book, &answers, tally).await?;
            self.trigger(ctx, &mut book, tally).await?;
            ctx.set_progress(tally.share_of(self.plan.repositories.len()), tally.told());
        }
        tally.stand(&book);
        Ok(())
    }

    /// A task that nobody knows is told at once, and not when something changes.
    fn look_for_tasks(&self, ctx: &RunContext) -> Result<(), JobError> {
        if self.knows_tasks.get().is_some() {
            return Ok(());
        }
        let known: BTreeSet<String> =
            ctx.scheduler()?.tasks().iter().map(|placed| placed.task.name.to_string()).collect();
        if let Some(one) = self.plan.repositories.iter().find(|one| !known.contains(one.task.as_str())) {
            let message = format!("task `{}`, which changes of {} trigger, is unknown", one.task, one.name);
            return Err(JobError::abort(Error::not_found("git_poll/unknown_task", message)));
        }
        let _ = self.knows_tasks.set(());
        Ok(())
    }

    /// The book with these answers, stored.
    async fn write_down(
        &self,
        ctx: &RunContext,
        book: Book,
        answers: &[Answer<'_>],
        tally: &mut Tally,
    ) -> Result<Book, JobError> {
        for answer in answers {
            let seen = book.repositories.get(&answer.repository.name);
            tally.count(seen, &answer.polled, answer.timed_out);
        }
        let now = ctx.clock().now();
        self.store(ctx, book, |mut book| {
            for answer in answers {
                let seen = book.repositories.entry(answer.repository.name.clone()).or_default();
                let watched = &answer.repository.watched;
                *seen = std::mem::take(seen).after(&answer.polled, watched, self.plan.policy, now);
            }
            book
        })
        .await
    }

    /// Triggers what the book says has not been triggered, and crosses it out.
    async fn trigger(&self, ctx: &RunContext, book: &mut Book, tally: &mut Tally) -> Result<(), JobError> {
        let mut triggered: Vec<(String, u64)> = Vec::new();
        for repository in &self.plan.repositories {
            let pending = book.repositories.get(&repository.name).map(|seen| seen.pending.as_slice());
            for change in pending.unwrap_or_default() {
                let id = (repository.name.clone(), change.number);
                if !tally.is_first_try(&id) {
                    continue;
                }
                match trigger_one(ctx, repository, change).await {
                    Ok(one) => {
                        tally.triggered(&one);
                        triggered.push(id);
                    }
                    Err(error) => tally.not_triggered(not_triggered(repository, change, error)),
                }
            }
        }
        if !triggered.is_empty() {
            *book = self.store(ctx, std::mem::take(book), |book| book.without(&triggered)).await?;
        }
        Ok(())
    }

    /// The book after a change, stored unless the change changes nothing.
    async fn store(
        &self,
        ctx: &RunContext,
        book: Book,
        change: impl Fn(Book) -> Book + Send + Sync,
    ) -> Result<Book, JobError> {
        let next = change(book.clone());
        if next == book {
            return Ok(book);
        }
        let names: BTreeSet<&str> = self.plan.repositories.iter().map(|one| one.name.as_str()).collect();
        let state = ctx.state();
        let next = |present: Option<Book>| change(present.unwrap_or_default().of(&names));
        Ok(state.update(next).await?)
    }
}

async fn ask_at<'a>(at: Instant, git: &Ready, repository: &'a Repository) -> Answer<'a> {
    tokio::time::sleep_until(at).await;
    ask(git, repository).await
}

async fn ask<'a>(git: &Ready, repository: &'a Repository) -> Answer<'a> {
    let asked = async {
        let url = repository.url.read().map_err(|error| (error.to_string(), false))?;
        if let Some(fault) = git_poll_url::bad(&url) {
            return Err((format!("the URL cannot be used: {fault}"), false));
        }
        let secrets = git_poll_url::secrets(&repository.url, &url);
        let (watched, limit) = (&repository.watched, repository.limit);
        let asked = git.ask(Question { url: &url, watched, limit, secrets: &secrets }).await;
        asked.map_err(|Failure { message, timed_out }| (message, timed_out))
    };
    match asked.await {
        Ok(refs) => Answer { repository, polled: Ok(refs), timed_out: false },
        Err((message, timed_out)) => Answer { repository, polled: Err(message), timed_out },
    }
}

async fn trigger_one(
    ctx: &RunContext,
    repository: &Repository,
    change: &Change,
) -> scheduler_core::Result<Triggered> {
    let mut request = TriggerRequest::now()
        .with_key(change.key(ctx.task().as_str(), &repository.name))
        .with_param("repository", json!(repository.name))
        .with_param("ref", json!(change.name))
        .with_param("change", json!(change.kind()));
    for (name, commit) in [("old", &change.old), ("new", &change.new)] {
        if let Some(commit) = commit {
            request = request.with_param(name, json!(commit));
        }
    }
    let enqueued = ctx.scheduler()?.trigger(&repository.task, request).await?;
    let (repository, task) = (repository.name.clone(), repository.task.to_string());
    Ok(Triggered { repository, task, change: change.clone(), enqueued })
}

fn not_triggered(repository: &Repository, change: &Change, error: Error) -> Error {
    let message = format!(
        "{} of {} changed, and task `{}` cannot be triggered; the next run tries it again",
        change.name, repository.name, repository.task
    );
    Error::new(error.kind(), "git_poll/not_triggered", message).with_source(error)
}

/// When a repository is asked within `spread`: always at the same place, and others at others.
fn place_of(task: &str, repository: &str, spread: Duration) -> Duration {
    // FNV-1a: the place must be the same in every version of this program.
    let bytes = task.bytes().chain([0]).chain(repository.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The upper bits are mixed best.
    let place = (u128::from(hash >> 32) * spread.as_millis()) >> 32;
    Duration::from_millis(u64::try_from(place).unwrap_or(u64::MAX))
}

#[async_trait]
impl Job for GitPoll {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let mut tally = Tally::default();
        let polled = ctx.unless_cancelled(self.poll(ctx, &mut tally)).await;
        if polled.is_err() || tally.timed_out() {
            hunt(ctx).await;
        }
        match polled {
            Ok(Ok(())) => tally.conclude(),
            Ok(Err(error)) => Err(error.with_output(tally.shown())),
            Err(reason) => {
                let error = JobError::retry(format!("ended by the scheduler: {}", reason.as_str()));
                Err(error.with_output(tally.shown()))
            }
        }
    }

    fn check(&self) -> Vec<ArgsError> {
        let git = self.plan.git.locate().err();
        let urls =
            self.plan.repositories.iter().filter_map(|one| one.url.missing(format!("{}/url", one.pointer)));
        git.into_iter().chain(self.plan.git.environment.missing()).chain(urls).collect()
    }
}

/// Ends what left the group of its git.
async fn hunt(ctx: &RunContext) {
    let Some(marks) = Marks::of(ctx.run_id()) else { return };
    let hunt = tokio::task::spawn_blocking(move || marks.kill_carriers(HUNT));
    let left = hunt.await.unwrap_or_default();
    if !left.is_empty() {
        tracing::warn!(processes = ?left, "processes that git started live on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_spread_evenly_and_always_alike() {
        let spread = Duration::from_secs(5);
        let places: Vec<Duration> = (0..1_000)
            .map(|number| place_of("poll", &format!("https://example.com/{number}.git"), spread))
            .collect();
        for fifth in 0..5 {
            let within = |place: &&Duration| place.as_secs() == fifth;
            let count = places.iter().filter(within).count();
            assert!((120..280).contains(&count), "{count} in second {fifth}");
        }
        assert_eq!(place_of("poll", "a", spread), place_of("poll", "a", spread));
        assert_eq!(place_of("poll", "a", Duration::ZERO), Duration::ZERO);
    }
}
