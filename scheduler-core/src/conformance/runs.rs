//! From a request to a run that has ended, and how runs are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::act::Part;
use super::fault::{Outcome, broken, ensure, ensure_eq};
use super::stage::{Stage, Told};
use crate::{Enqueued, PageToken, RunFilter, RunId, RunOrigin, RunRequest, RunState};

pub(super) async fn a_run_succeeds_and_is_shown_as_it_was_asked_for(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Return(json!({"n": 1})), |_| ()).await?;
    let asked = stage.now() - stage.units(3);
    let request = stage.request(&task, asked);

    let answer = stage.ask_enqueue(request.clone()).await?;

    ensure_eq("the answer to enqueue", answer, Enqueued::Inserted(request.run_id))?;
    let run = stage.ended(request.run_id).await?;
    ensure_eq("its state", run.state, RunState::Succeeded)?;
    ensure_eq("its attempt", run.attempt, 1)?;
    ensure_eq("its task", &run.task, &task)?;
    ensure_eq("its backend and tier", (&run.backend, run.tier), (&stage.info.name, stage.info.tier))?;
    ensure_eq("its origin", run.origin, RunOrigin::Manual)?;
    ensure_eq("its fire time", run.fire_time, asked)?;
    ensure_eq("its next attempt", run.next_attempt_at, None)?;
    let times = run.started_at.zip(run.finished_at);
    let in_order = times.is_some_and(|(start, end)| asked <= start && start <= end);
    ensure(in_order, || format!("it started at {:?} and finished at {:?}", run.started_at, run.finished_at))?;

    let request = RunRequest::scheduled(RunId::manual(stage.now()), task, stage.now());
    let id = request.run_id;
    stage.ask_enqueue(request).await?;
    ensure_eq("the origin of a run by schedule", stage.ended(id).await?.origin, RunOrigin::Schedule)
}

pub(super) async fn a_run_id_runs_once(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("works", Part::Work(stage.units(1)), |_| ()).await?;
    let request = stage.request(&task, stage.now());
    let id = request.run_id;
    stage.ask_enqueue(request.clone()).await?;

    let at_once = stage.ask_enqueue(request.clone()).await?;
    ensure_eq("the same id while its run lives", at_once, Enqueued::Duplicate(id))?;
    stage.ended(id).await?;
    let later = stage.ask_enqueue(request).await?;
    ensure_eq("the same id after its run ended", later, Enqueued::Duplicate(id))?;

    stage.pass(10).await;
    ensure_eq("attempts of the run", stage.ledger.of(id).len(), 1)
}

pub(super) async fn runs_that_are_taken_together_are_answered_in_their_order(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let requests: Vec<RunRequest> = (0..4).map(|_| stage.request(&task, stage.now())).collect();
    let known = stage.enqueue(&task).await?;
    let mut together = requests.clone();
    together.insert(1, RunRequest { run_id: known, ..stage.request(&task, stage.now()) });

    let answers = stage.drive("enqueue_all", stage.backend.enqueue_all(together.clone())).await?;

    let expected: Vec<Enqueued> = together
        .iter()
        .map(|request| match request.run_id == known {
            true => Enqueued::Duplicate(known),
            false => Enqueued::Inserted(request.run_id),
        })
        .collect();
    ensure_eq("the answers", answers, expected)?;
    for request in requests {
        ensure_eq("the state of each", stage.ended(request.run_id).await?.state, RunState::Succeeded)?;
    }
    ensure_eq("attempts in all", stage.ledger.all().len(), 5)
}

pub(super) async fn a_run_of_the_future_starts_when_it_is_due_and_not_before(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let due = stage.now() + stage.units(10);
    let run = stage.enqueue_at(&task, due).await?;
    ensure_eq("its state before", stage.run(run).await?.map(|run| run.state), Some(RunState::Scheduled))?;

    stage.pass(9).await;
    let seen = stage.begun(run, 1).await?;

    let began = seen[0].at;
    ensure(began + stage.earliness() >= due, || format!("it was due at {due} and started at {began}"))?;
    ensure(began <= due + stage.lateness(), || format!("it was due at {due}, and started at {began} only"))?;
    ensure_eq("its state after", stage.ended(run).await?.state, RunState::Succeeded)
}

pub(super) async fn runs_are_shown_newest_first_without_gap_or_repetition(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let mut expected = BTreeSet::new();
    for number in 0..25 {
        // Two of each fire time: then the id decides.
        expected.insert(stage.enqueue_at(&task, stage.now() - stage.units(number / 2)).await?);
    }
    for run in &expected {
        stage.ended(*run).await?;
    }

    let mut filter = RunFilter::all().limited(4);
    let mut seen = Vec::new();
    loop {
        let page = stage.page(&filter).await?;
        ensure(page.runs.len() <= 4, || format!("{} runs on a page of at most 4", page.runs.len()))?;
        ensure(!page.runs.is_empty(), || "an empty page, although the last one had a next".into())?;
        seen.extend(page.runs.iter().map(PageToken::of));
        ensure(seen.len() <= expected.len(), || format!("more runs than the {} there are", expected.len()))?;
        match page.next {
            Some(next) => filter.after = Some(next),
            None => break,
        }
    }

    ensure_eq("runs on all pages", seen.len(), expected.len())?;
    ensure(seen.is_sorted_by(|a, b| a > b), || format!("the order over all pages: {seen:?}"))
}

pub(super) async fn runs_are_filtered_by_task_and_state(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let good = stage.task("good", Part::Echo, |_| ()).await?;
    let bad = stage.task("bad", Part::Abort, |_| ()).await?;
    let succeeded = stage.enqueue(&good).await?;
    let failed = stage.enqueue(&bad).await?;
    let ahead = stage.enqueue_at(&bad, stage.now() + stage.units(10_000)).await?;
    for run in [succeeded, failed] {
        stage.ended(run).await?;
    }

    let of_bad = RunFilter::of_task(bad);
    let cases = [
        (RunFilter::of_task(good), vec![succeeded]),
        (of_bad.clone(), vec![failed, ahead]),
        (RunFilter::all().in_states(&[RunState::Failed]), vec![failed]),
        (RunFilter::all().in_states(&[RunState::Failed, RunState::Succeeded]), vec![failed, succeeded]),
        (of_bad.clone().in_states(&[RunState::Scheduled]), vec![ahead]),
        (of_bad.in_states(&[RunState::Succeeded]), vec![]),
    ];
    for (filter, expected) in cases {
        let page = stage.page(&filter).await?;
        let seen: BTreeSet<RunId> = page.runs.iter().map(|run| run.id).collect();
        ensure_eq(&format!("the runs of {filter:?}"), seen, expected.into_iter().collect::<BTreeSet<_>>())?;
    }
    Ok(())
}

pub(super) async fn a_job_is_told_which_run_it_is(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let fire_time = stage.now() - stage.units(7);

    let run = stage.enqueue_at(&task, fire_time).await?;

    let identity = stage.begun(run, 1).await?.remove(0).identity;
    ensure_eq("namespace", &identity.namespace, stage.namespace())?;
    ensure_eq("task", &identity.task, &task)?;
    ensure_eq("tier and backend", (identity.tier, &identity.backend), (stage.info.tier, &stage.info.name))?;
    ensure_eq("fire time", identity.fire_time, fire_time)
}

pub(super) async fn many_callers_at_once_lose_and_double_nothing(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let request = || stage.request(&task, stage.now());
    let shared: Vec<RunRequest> = (0..20).map(|_| request()).collect();
    let callers = (0..8).map(|_| {
        let own: Vec<RunRequest> = (0..100).map(|_| request()).collect();
        let (backend, requests) = (Arc::clone(&stage.backend), [own, shared.clone()].concat());
        tokio::spawn(async move {
            let mut inserted = Vec::new();
            for request in requests {
                match backend.enqueue(request).await {
                    Ok(Enqueued::Inserted(id)) => inserted.push(id),
                    Ok(Enqueued::Duplicate(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(inserted)
        })
    });
    let mut inserted: BTreeMap<RunId, usize> = BTreeMap::new();
    for caller in callers.collect::<Vec<_>>() {
        match caller.await {
            Ok(Ok(ids)) => ids.into_iter().for_each(|id| *inserted.entry(id).or_default() += 1),
            Ok(Err(error)) => return broken(format!("`enqueue` answered [{}] {error}", error.code())),
            Err(error) => return broken(format!("`enqueue` panicked: {error}")),
        }
    }
    ensure_eq("runs that were inserted", inserted.len(), 820)?;
    let twice = inserted.values().filter(|count| **count > 1).count();
    ensure_eq("ids that were inserted for two callers", twice, 0)?;

    stage
        .eventually("820 runs begin and end", async || {
            Ok((stage.ledger.all().len() >= 820 && stage.ledger.under_way() == 0).then_some(()))
        })
        .await?;
    let distinct: BTreeSet<RunId> = stage.ledger.all().iter().map(|seen| seen.run).collect();
    ensure_eq("attempts, and runs that were tried", (stage.ledger.all().len(), distinct.len()), (820, 820))?;
    stage
        .eventually("820 runs are shown as succeeded", async || {
            let runs = stage.runs().await?;
            let succeeded: BTreeSet<RunId> =
                runs.iter().filter(|run| run.state == RunState::Succeeded).map(|run| run.id).collect();
            Ok((succeeded.len() == 820).then_some(()))
        })
        .await
}

pub(super) async fn every_attempt_and_every_end_is_told_once(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let retry = |task: &mut crate::Task| {
        task.retry.max_attempts = std::num::NonZeroU32::new(2);
        task.retry.initial = stage.units(1);
    };
    let good = stage.task("good", Part::Echo, |_| ()).await?;
    let bad = stage.task("bad", Part::Fail, retry).await?;
    let good_run = stage.enqueue(&good).await?;
    let bad_run = stage.enqueue(&bad).await?;
    let prevented = stage.enqueue_at(&good, stage.now() + stage.units(10_000)).await?;
    stage.cancel(&prevented).await?;

    let cases = [
        (good_run, RunState::Succeeded, (1, 0, 1)),
        (bad_run, RunState::Failed, (2, 1, 1)),
        (prevented, RunState::Cancelled, (0, 0, 1)),
    ];
    for (run, state, expected) in cases {
        stage.ended(run).await?;
        let ends = |told: &[Told]| told.iter().filter(|told| matches!(told, Told::Ended(_))).count();
        stage
            .eventually(format!("the end of run {run} is told"), async || {
                Ok((ends(&stage.told(run)) > 0).then_some(()))
            })
            .await?;
        let told = stage.told(run);
        let starts = told.iter().filter(|told| matches!(told, Told::Started(_))).count();
        let again = told.iter().filter(|told| matches!(told, Told::Again(_))).count();
        ensure_eq(
            &format!("AttemptStarted, AttemptEnded and RunEnded of a run that {state}"),
            (starts, again, ends(&told)),
            expected,
        )?;
        let last = told.iter().rev().find_map(|told| match told {
            Told::Ended(run) => Some(run.state),
            Told::Started(_) | Told::Again(_) => None,
        });
        ensure_eq("the state that is told", last, Some(state))?;
    }
    Ok(())
}
