//! What becomes of runs that failed for good.

use std::num::NonZeroU32;

use futures_util::future::join_all;
use serde_json::json;

use super::act::Part;
use super::fault::{Outcome, broken, ensure, ensure_eq, not_applicable};
use super::stage::Stage;
use crate::{
    Capability, DeadLetter, DeadLetterFilter, DeadLetters, HeldLetters, Name, PageToken, Replayed, RunId,
    RunOrigin, RunState, Task,
};

/// Its dead letters; a backend that declares them and has none breaks another promise.
fn keeper(stage: &Stage) -> Outcome<&dyn DeadLetters> {
    stage.needs(Capability::DeadLetters)?;
    match stage.backend.dead_letters() {
        Some(keeper) => Ok(keeper),
        None => not_applicable("it declares dead letters, and dead_letters() is None"),
    }
}

async fn page(stage: &Stage, filter: &DeadLetterFilter) -> Outcome<Vec<DeadLetter>> {
    Ok(stage.drive("letters", keeper(stage)?.letters(filter)).await?.letters)
}

async fn ids(stage: &Stage) -> Outcome<Vec<RunId>> {
    let mut ids: Vec<RunId> =
        page(stage, &DeadLetterFilter::all()).await?.iter().map(|letter| letter.run.id).collect();
    ids.sort_unstable();
    Ok(ids)
}

async fn replay(stage: &Stage, runs: &[RunId]) -> Outcome<Vec<Replayed>> {
    stage.drive("replay", keeper(stage)?.replay(runs)).await
}

async fn hold(stage: &Stage, run: RunId, reason: Option<&str>) -> Outcome<bool> {
    stage.drive("hold", keeper(stage)?.hold(&run, reason)).await
}

async fn discard(stage: &Stage, runs: &[RunId]) -> Outcome<Vec<bool>> {
    stage.drive("discard", keeper(stage)?.discard(runs, HeldLetters::Leave)).await
}

/// A run of a task that has failed for good.
async fn dead(stage: &Stage, task: &Name) -> Outcome<RunId> {
    let run = stage.enqueue(task).await?;
    ensure_eq("the state of a run whose job fails", stage.ended(run).await?.state, RunState::Failed)?;
    Ok(run)
}

fn sorted(mut runs: Vec<RunId>) -> Vec<RunId> {
    runs.sort_unstable();
    runs
}

fn replayed(answers: &[Replayed]) -> Vec<RunId> {
    let new = |answer: &Replayed| match answer {
        Replayed::As(run) => Some(*run),
        Replayed::Unknown | Replayed::Held | Replayed::Unreadable => None,
    };
    answers.iter().filter_map(new).collect()
}

pub(super) async fn dead_letters_are_declared_exactly_where_they_are(stage: &mut Stage) -> Outcome {
    match (stage.declares(Capability::DeadLetters), stage.backend.dead_letters().is_some()) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => broken("it declares dead letters, but dead_letters() is None"),
        (false, true) => broken("dead_letters() is there, but not declared: declare Capability::DeadLetters"),
    }
}

pub(super) async fn every_run_that_fails_becomes_a_dead_letter(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let twice = |task: &mut Task| {
        task.retry.max_attempts = NonZeroU32::new(2);
        task.retry.initial = std::time::Duration::from_millis(1);
    };
    let fails = stage.task("fails", Part::Fail, twice).await?;
    let aborts = stage.task("aborts", Part::Abort, twice).await?;
    let panics = stage.task("panics", Part::Panic, |_| ()).await?;
    let returns = stage.task("returns", Part::Echo, |_| ()).await?;
    let mut request = stage.request(&fails, stage.now());
    request.params.insert("kept".to_owned(), json!(["with", "it"]));
    let spent = request.run_id;
    stage.ask_enqueue(request).await?;
    let died = vec![spent, stage.enqueue(&aborts).await?, stage.enqueue(&panics).await?];
    let well = stage.enqueue(&returns).await?;
    let prevented = stage.enqueue_at(&returns, stage.now() + stage.units(1_000)).await?;
    stage.cancel(&prevented).await?;
    for run in died.iter().chain([&well, &prevented]) {
        stage.ended(*run).await?;
    }

    ensure_eq("the dead letters", ids(stage).await?, sorted(died))?;
    let of_run = page(stage, &DeadLetterFilter::of_run(spent)).await?;
    let Some(letter) = of_run.first() else { return broken("a letter is not found by its run") };
    ensure_eq("the run of a letter", Some(&letter.run), stage.run(spent).await?.as_ref())?;
    ensure_eq("its attempts", letter.run.attempt, 2)?;
    ensure(letter.run.reason.is_some(), || "a letter does not say why its run failed".into())?;
    ensure_eq("its parameters", letter.run.params.get("kept"), Some(&json!(["with", "it"])))?;
    ensure_eq("why it is held", &letter.held, &None)
}

pub(super) async fn a_replay_is_a_new_run_that_names_its_origin(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let mut request = stage.request(&fails, stage.now() - stage.units(3));
    request.params.insert("n".to_owned(), json!(4_711));
    let (origin, fire_time, params) = (request.run_id, request.fire_time, request.params.clone());
    stage.ask_enqueue(request).await?;
    stage.ended(origin).await?;

    let answers = replay(stage, &[origin]).await?;

    let [new] = replayed(&answers)[..] else { return broken(format!("a replay was answered {answers:?}")) };
    ensure(new != origin, || "a replay has the id of its origin".into())?;
    let run = stage.ended(new).await?;
    ensure_eq("the task of a replay", &run.task, &fails)?;
    ensure_eq("its fire time", run.fire_time, fire_time)?;
    ensure_eq("its parameters", &run.params, &params)?;
    ensure_eq("its origin", (run.replay_of, run.origin), (Some(origin), RunOrigin::Manual))?;
    ensure_eq("its attempts, counted anew", run.attempt, 1)?;
    let seen: Vec<_> = stage.ledger.of(new).into_iter().map(|seen| seen.params).collect();
    ensure_eq("the parameters that its job saw", seen, [params])?;
    ensure_eq("the dead letters after it failed as well", ids(stage).await?, [new])?;
    let before = stage.run(origin).await?.map(|run| run.state);
    ensure_eq("the state of the run it replays", before, Some(RunState::Failed))
}

pub(super) async fn a_letter_is_replayed_once(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let (twice, raced) = (dead(stage, &fails).await?, dead(stage, &fails).await?);

    let at_once = replay(stage, &[twice, twice]).await?;
    ensure_eq("replays of a letter that is named twice", replayed(&at_once).len(), 1)?;
    ensure_eq("the answer to the second", at_once.last(), Some(&Replayed::Unknown))?;
    ensure_eq("the answer when it is asked again", replay(stage, &[twice]).await?, [Replayed::Unknown])?;
    let callers = (0..8).map(|_| replay(stage, std::slice::from_ref(&raced)));
    let answers: Vec<Replayed> =
        join_all(callers).await.into_iter().collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect();
    ensure_eq("replays of a letter by eight callers at once", replayed(&answers).len(), 1)?;

    let runs = stage.runs().await?.len();
    ensure_eq("runs in all, two that failed and a replay of each", runs, 4)
}

pub(super) async fn a_held_letter_is_not_replayed_until_it_is_released(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let run = dead(stage, &fails).await?;

    ensure(hold(stage, run, Some("looked at")).await?, || "a letter to be held is not there".into())?;
    let held: Vec<_> = page(stage, &DeadLetterFilter::all()).await?.into_iter().map(|it| it.held).collect();
    ensure_eq("why it is held", held, [Some("looked at".to_owned())])?;
    ensure_eq("the answer to a replay", replay(stage, &[run]).await?, [Replayed::Held])?;
    ensure_eq("the dead letters", ids(stage).await?, [run])?;

    ensure(hold(stage, run, None).await?, || "a held letter is not there".into())?;
    let held: Vec<_> = page(stage, &DeadLetterFilter::all()).await?.into_iter().map(|it| it.held).collect();
    ensure_eq("why it is held after its release", held, [None])?;
    ensure_eq("replays after its release", replayed(&replay(stage, &[run]).await?).len(), 1)
}

pub(super) async fn a_discarded_letter_is_gone_and_its_run_stays(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let runs = [dead(stage, &fails).await?, dead(stage, &fails).await?];
    hold(stage, runs[0], Some("looked at")).await?;

    ensure_eq("whether there were such letters", discard(stage, &runs).await?, [true, true])?;

    ensure_eq("the dead letters", ids(stage).await?, [])?;
    ensure_eq("whether there still are", discard(stage, &runs).await?, [false, false])?;
    ensure_eq("replays of them", replay(stage, &runs).await?, [Replayed::Unknown, Replayed::Unknown])?;
    for run in runs {
        let state = stage.run(run).await?.map(|run| run.state);
        ensure_eq("the run in history", state, Some(RunState::Failed))?;
    }
    Ok(())
}

pub(super) async fn a_held_letter_stays_when_only_others_are_discarded(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let runs = [dead(stage, &fails).await?, dead(stage, &fails).await?, dead(stage, &fails).await?];
    hold(stage, runs[1], Some("looked at")).await?;

    let left = stage.drive("discard", keeper(stage)?.discard(&runs, HeldLetters::Stay)).await?;
    ensure_eq("which of three letters left", left, [true, false, true])?;
    let held: Vec<_> = page(stage, &DeadLetterFilter::all()).await?.into_iter().map(|it| it.held).collect();
    ensure_eq("why those are held that are left", held, [Some("looked at".to_owned())])?;

    hold(stage, runs[1], None).await?;
    let left = stage.drive("discard", keeper(stage)?.discard(&runs, HeldLetters::Stay)).await?;
    ensure_eq("which of them left after its release", left, [false, true, false])
}

pub(super) async fn a_letter_that_is_not_there_is_answered_in_its_place(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let returns = stage.task("returns", Part::Echo, |_| ()).await?;
    let (one, other, well) =
        (dead(stage, &fails).await?, dead(stage, &fails).await?, stage.enqueue(&returns).await?);
    stage.ended(well).await?;
    let unknown = RunId::manual(stage.now());

    for run in [unknown, well] {
        ensure(!hold(stage, run, Some("nobody")).await?, || format!("run {run} is held and no letter"))?;
    }
    let answers = replay(stage, &[unknown, one, well]).await?;
    let is_unknown: Vec<bool> = answers.iter().map(|answer| *answer == Replayed::Unknown).collect();
    ensure_eq("which of three replays are unknown", is_unknown, [true, false, true])?;
    let was_there = discard(stage, &[well, other, unknown]).await?;
    ensure_eq("which of three letters were there", was_there, [false, true, false])
}

pub(super) async fn letters_are_shown_newest_first_and_filtered(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let mut tasks = Vec::new();
    for name in ["one", "other"] {
        tasks.push(stage.task(name, Part::Fail, |_| ()).await?);
    }
    let mut died: Vec<(Name, RunId)> = Vec::new();
    for number in 0..12 {
        let task = &tasks[number as usize % 2];
        // Two of each fire time: then the id decides.
        died.push((task.clone(), stage.enqueue_at(task, stage.now() - stage.units(number / 2)).await?));
    }
    for (_, run) in &died {
        stage.ended(*run).await?;
    }

    let (mut seen, mut filter) = (Vec::new(), DeadLetterFilter::all().limited(5));
    loop {
        let page = stage.drive("letters", keeper(stage)?.letters(&filter)).await?;
        ensure(page.letters.len() <= 5, || format!("a page of 5 has {} letters", page.letters.len()))?;
        seen.extend(page.letters.iter().map(|letter| PageToken::of(&letter.run)));
        filter.after = page.next;
        if filter.after.is_none() || page.letters.is_empty() {
            break;
        }
    }
    ensure(seen.is_sorted_by(|a, b| a > b), || format!("not the newest fire first, or twice: {seen:?}"))?;
    ensure_eq("how many letters the pages have", seen.len(), died.len())?;
    let of_task = page(stage, &DeadLetterFilter::of_task(tasks[0].clone())).await?;
    ensure_eq("letters of one of two tasks", of_task.len(), died.len() / 2)?;
    ensure(of_task.iter().all(|letter| letter.run.task == tasks[0]), || "letters of another task".into())?;
    let of_run = page(stage, &DeadLetterFilter::of_run(died[3].1)).await?;
    ensure_eq("letters of one run", of_run.iter().map(|it| it.run.id).collect::<Vec<_>>(), [died[3].1])
}

pub(super) async fn letters_survive_a_restart_and_a_crash(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.needs(Capability::Durable)?;
    stage.start().await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let (held, other) = (dead(stage, &fails).await?, dead(stage, &fails).await?);
    hold(stage, held, Some("looked at")).await?;

    stage.reopen().await?;
    stage.start().await?;
    ensure_eq("the dead letters after a restart", ids(stage).await?, sorted(vec![held, other]))?;
    stage.crash().await?;
    stage.start().await?;

    ensure_eq("the dead letters after a crash", ids(stage).await?, sorted(vec![held, other]))?;
    let still = page(stage, &DeadLetterFilter::of_run(held)).await?;
    let reasons: Vec<_> = still.into_iter().map(|letter| letter.held).collect();
    ensure_eq("why it is held", reasons, [Some("looked at".to_owned())])?;
    ensure_eq("replays of the other", replayed(&replay(stage, &[other]).await?).len(), 1)
}
