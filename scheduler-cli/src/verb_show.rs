//! `scheduler show`: everything that is known about one run.

use clap::Args;
use scheduler_core::{DeadLetter, Run, RunId, RunState, Spelled, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::origin::printable;
use crate::output::{self, OutputFlag};
use crate::outside;
use crate::relative::relative;
use crate::session::Session;

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The run.
    run: RunId,
    #[command(flatten)]
    output: OutputFlag,
}

/// A run with what belongs to it.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    pub(crate) run: Run,
    /// Its dead letter, while it is one.
    pub(crate) dead_letter: Option<Letter>,
    /// The run that was there first and every replay of it, this one among them.
    pub(crate) lineage: Vec<Relative>,
}

/// What a dead letter says besides its run.
#[derive(Debug, Serialize)]
pub(crate) struct Letter {
    died_at: Timestamp,
    held: Option<String>,
    unreadable: Option<String>,
    error_pattern: String,
}

/// A run that replays this one, or that this one replays.
#[derive(Debug, Serialize)]
pub(crate) struct Relative {
    run_id: RunId,
    state: RunState,
    replay_of: Option<RunId>,
}

impl From<&DeadLetter> for Letter {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            died_at: letter.died_at,
            held: letter.held.clone(),
            unreadable: letter.unreadable.clone(),
            error_pattern: letter.error_pattern(),
        }
    }
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| {
        let run = outside.run(flags.run).await?;
        // Nothing else is a dead letter.
        let letter = match run.state {
            RunState::Failed => outside.letter(flags.run).await?,
            _ => None,
        };
        let lineage = outside.lineage(&run).await?;
        let whole = Whole::new(run, letter.as_ref(), &lineage);
        output::one(flags.output.format, &whole, || whole.text())?;
        Ok(Exit::Done)
    })
}

impl Whole {
    pub(crate) fn new(run: Run, letter: Option<&DeadLetter>, lineage: &[Run]) -> Self {
        let relative = |run: &Run| Relative { run_id: run.id, state: run.state, replay_of: run.replay_of };
        Self { run, dead_letter: letter.map(Letter::from), lineage: lineage.iter().map(relative).collect() }
    }

    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<(&str, String)> = Vec::new();
        self.say_what_it_is(&mut lines);
        self.say_how_it_went(&mut lines);
        self.say_what_was_kept(&mut lines);
        let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let line = |(label, text): &(&str, String)| {
            let text: Vec<String> = text.lines().map(printable).collect();
            let indent = format!("\n{:width$}  ", "");
            format!("{label:width$}  {}\n", text.join(&indent))
        };
        lines.iter().map(line).collect()
    }

    fn say_what_it_is(&self, lines: &mut Vec<(&str, String)>) {
        let run = &self.run;
        let now = Timestamp::from(std::time::SystemTime::now());
        lines.push(("run", run.id.to_string()));
        match &run.adhoc {
            Some(adhoc) => lines.push(("job", format!("{}, without a task", adhoc.job))),
            None => lines.push(("task", run.task.to_string())),
        }
        lines.push(("on", format!("{} (backend {})", run.tier, run.backend)));
        if let Some(url) = &run.url {
            lines.push(("page", url.clone()));
        }
        let reason = run.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        lines.push(("state", format!("{}{reason}", run.state)));
        if let Some(progress) = &run.progress {
            lines.push(("progress", progress.to_string()));
        }
        let instant = |at: Timestamp| format!("{at} ({})", relative(at, now));
        lines.push(("fire time", format!("{}, {}", instant(run.fire_time), run.origin)));
        if let Some(started) = run.started_at {
            lines.push(("started", instant(started)));
        }
        if let Some(finished) = run.finished_at {
            let took = run.started_at.map(|started| format!(", took {}", Spelled(finished.since(started))));
            lines.push(("finished", instant(finished) + &took.unwrap_or_default()));
        }
        if let Some(next) = run.next_attempt_at {
            lines.push(("again", instant(next)));
        }
    }

    fn say_how_it_went(&self, lines: &mut Vec<(&str, String)>) {
        let run = &self.run;
        lines.push(("attempts", run.attempt.to_string()));
        for failure in &run.failures {
            let text = format!("{} at {}: {}", failure.attempt, failure.at, failure.error);
            lines.push(("failed", text));
        }
        if let Some(origin) = run.replay_of {
            let known = self.lineage.iter().find(|relative| relative.run_id == origin);
            let state = known.map(|relative| format!(" ({})", relative.state)).unwrap_or_default();
            lines.push(("replay of", format!("{origin}{state}")));
        }
        for replay in self.lineage.iter().filter(|relative| relative.replay_of == Some(run.id)) {
            lines.push(("replayed as", format!("{} ({})", replay.run_id, replay.state)));
        }
        if let Some(letter) = &self.dead_letter {
            let held = letter.held.as_ref().map(|reason| format!(", held: {reason}")).unwrap_or_default();
            lines.push(("dead letter", format!("since {}{held}", letter.died_at)));
            if let Some(stored) = &letter.unreadable {
                lines.push(("stored", stored.clone()));
            }
        }
    }

    fn say_what_was_kept(&self, lines: &mut Vec<(&str, String)>) {
        let run = &self.run;
        if let Some(adhoc) = run.adhoc.as_ref().filter(|adhoc| !adhoc.args.is_null()) {
            lines.push(("args", format!("{:#}", adhoc.args)));
        }
        if !run.params.is_empty() {
            lines.push(("params", format!("{:#}", Value::Object(run.params.clone()))));
        }
        match &run.output {
            Value::Null => {}
            Value::String(text) => lines.push(("output", text.clone())),
            other => lines.push(("output", format!("{other:#}"))),
        }
    }
}
