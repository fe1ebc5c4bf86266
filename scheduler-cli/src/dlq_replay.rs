//! `scheduler dlq replay`: dead letters run again, as they were or with other parameters, all at once or behind a canary
//! and at a rate.

use std::time::{Duration, Instant};

use clap::Args;
use scheduler_core::{CanaryVerdict, ReplayPlan, ReplayRate, ReplayReport, RunId, RunState};
use serde_json::{Map, Value};

use crate::asked::param;
use crate::command_line::duration;
use crate::dlq_settle::{self, Settled, Settlement};
use crate::exit::Exit;
use crate::failure::{Failure, counted, waited_in_vain};
use crate::output::Format;
use crate::outside::Outside;
use crate::verb_dlq::no_letter;

/// Which letters, and how they run.
#[derive(Debug, Args)]
#[group(id = "replay")]
pub(crate) struct Flags {
    #[command(flatten)]
    which: dlq_settle::Flags,
    /// No faster than this, such as 5/s, 90/m or 1/10s; all at once unless given.
    #[arg(long, value_name = "RATE")]
    rate: Option<ReplayRate>,
    /// So many go first, and the others only when all of these have succeeded.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    canary: usize,
    /// Gives up waiting for the canaries after this time, with exit code 124; the others are left alone.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "canary")]
    timeout: Option<Duration>,
    #[command(flatten)]
    edit: Edit,
}

/// The parameters of the new run, where they are to be others than the letter's.
#[derive(Debug, Args)]
struct Edit {
    /// A parameter of the new run in place of the letter's; may be given several times.
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = param,
          conflicts_with_all = ["canary", "rate", "timeout"])]
    params: Vec<(String, Value)>,
    /// A parameter of the letter that the new run does not get; may be given several times.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["canary", "rate", "timeout"])]
    unset: Vec<String>,
    /// All parameters of the new run, as a JSON object.
    #[arg(long = "params", value_name = "JSON", value_parser = object, 
          conflicts_with_all = ["params", "unset", "canary", "rate", "timeout"])]
    whole: Option<Map<String, Value>>,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON object: {error}"))
}

impl Edit {
    fn is_none(&self) -> bool {
        self.params.is_empty() && self.unset.is_empty() && self.whole.is_none()
    }

    /// What becomes of a letter's parameters, which stay as they are themselves.
    fn of(&self, mut params: Map<String, Value>) -> Map<String, Value> {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        self.unset.iter().for_each(|key| drop(params.remove(key)));
        params.extend(self.params.iter().cloned());
        params
    }
}

pub(crate) async fn replay(outside: &Outside, flags: &Flags) -> Result<Exit, Failure> {
    if !flags.edit.is_none() {
        return replay_edited(outside, flags).await;
    }
    let Some(chosen) = flags.which.choose(outside, "replay", true).await? else { return Ok(Exit::Done) };
    let plan = ReplayPlan::at_once().at_rate(flags.rate).behind_canaries(flags.canary, flags.timeout);
    let began = Instant::now();
    let report = outside.scheduler.replay_by(&chosen, plan).await.map_err(|error| {
        let is_over = flags.timeout.is_some_and(|timeout| began.elapsed() >= timeout);
        let is_waiting = error.code() == "dead_letters/canary_unknown";
        waited_in_vain(error, is_waiting && is_over)
    })?;
    let stopped = report.verdict.filter(|verdict| *verdict != CanaryVerdict::Passed);
    let mut settled = settled(&report);
    settled.extend(report.left.iter().map(|run| Settled::new(*run, Settlement::Left, None)));
    let Some(verdict) = stopped else {
        if report.verdict.is_none() {
            return flags.which.report(outside, settled, "replayed").await;
        }
        let has_refusals = settled.iter().any(|settled| settled.result.is_refusal());
        flags.which.print(settled, report.verdict, "replayed")?;
        return Ok(if has_refusals { Exit::PartOfBulk } else { Exit::Done });
    };
    flags.which.print(settled, report.verdict, "replayed")?;
    if flags.which.output.format == Format::Table {
        eprint!("{}", said(&report, verdict));
    }
    Ok(if verdict == CanaryVerdict::Waits { Exit::TimedOut } else { Exit::Findings })
}

fn settled(report: &ReplayReport) -> Vec<Settled> {
    report.answers.iter().map(|(run, answer)| Settled::replayed(*run, *answer)).collect()
}

/// Why the others were left alone.
fn said(report: &ReplayReport, verdict: CanaryVerdict) -> String {
    let left = counted(report.left.len(), "dead letter");
    let is_meant = |state: RunState| match verdict {
        CanaryVerdict::Waits => !state.is_end(),
        CanaryVerdict::Failed => state == RunState::Failed,
        CanaryVerdict::Passed | CanaryVerdict::Untold => state != RunState::Succeeded,
    };
    let canary = report.canaries.iter().find(|run| is_meant(run.state));
    let told = match (verdict, canary) {
        (CanaryVerdict::Passed | CanaryVerdict::Failed, _) => "failed again",
        (CanaryVerdict::Waits, _) => "has not ended in time and goes on",
        (CanaryVerdict::Untold, Some(_)) => "was ended from outside and tells nothing",
        (CanaryVerdict::Untold, None) => "is not known any more and tells nothing",
    };
    let name = canary.map(|run| format!(" {}", run.id)).unwrap_or_default();
    let reason = canary.and_then(|run| run.reason.as_ref()).map(|reason| format!(": {reason}"));
    format!("the canary{name} {told}{}; {left} left alone\n", reason.unwrap_or_default())
}

/// One letter with other parameters.
async fn replay_edited(outside: &Outside, flags: &Flags) -> Result<Exit, Failure> {
    let [run]: [RunId; 1] = flags.which.runs.clone().try_into().map_err(|_| {
        let message = "parameters are changed of one dead letter at a time";
        Failure::new(Exit::Usage, "usage", message).with_help("name its run")
    })?;
    let Some(letter) = outside.letter(run).await? else { return Err(no_letter(outside, run).await) };
    if flags.which.choose(outside, "replay", true).await?.is_none() {
        return Ok(Exit::Done);
    }
    let answer = outside.scheduler.replay_with(&run, &flags.edit.of(letter.run.params)).await?;
    flags.which.report(outside, vec![Settled::replayed(run, answer)], "replayed").await
}

#[cfg(test)]
mod tests {
    use scheduler_core::{Name, Run, Tier, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_became_of_the_canary_is_said() {
        let id = RunId::manual(Timestamp::from_millis(1));
        let said_of = |verdict: CanaryVerdict, states: &[RunState]| {
            let mut report = ReplayReport::default();
            report.left = vec![id];
            report.canaries.extend(states.iter().map(|state| {
                let name = |text: &str| Name::new(text).unwrap();
                let mut run =
                    Run::queued(id, name("t"), name("queue"), Tier::Queue, Timestamp::from_millis(1));
                (run.state, run.reason) = (*state, Some("a reason".to_owned()));
                run
            }));
            said(&report, verdict)
        };
        use CanaryVerdict::{Failed, Untold, Waits};
        for (verdict, states, told) in [
            (Failed, &[RunState::Succeeded, RunState::Failed][..], format!(" {id} failed again: a reason")),
            (Waits, &[RunState::Running], format!(" {id} has not ended in time and goes on: a reason")),
            (
                Untold,
                &[RunState::Cancelled],
                format!(" {id} was ended from outside and tells nothing: a reason"),
            ),
            (Untold, &[RunState::Succeeded], " is not known any more and tells nothing".to_owned()),
        ] {
            assert_eq!(said_of(verdict, states), format!("the canary{told}; 1 dead letter left alone\n"));
        }
    }

    #[test]
    fn an_edit_keeps_what_it_does_not_name() {
        let Value::Object(before) = json!({"a": 1, "b": 2, "c": 3}) else { unreachable!() };
        let edit = Edit { params: vec![("a".into(), json!("x"))], unset: vec!["b".into()], whole: None };
        assert_eq!(Value::Object(edit.of(before.clone())), json!({"a": "x", "c": 3}));
        let all = Edit { params: Vec::new(), unset: Vec::new(), whole: object(r#"{"d": null}"#).ok() };
        assert_eq!(Value::Object(all.of(before)), json!({"d": null}));
        assert!(object("[1]").is_err());
    }
}
