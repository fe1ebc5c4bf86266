//! What a configuration's backends keep outside of the process that runs them: it is read and changed there,
//! whether a daemon runs or not.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use scheduler_core::{
    DeadLetter, DeadLetterFilter, Error, Event, Name, PageToken, Run, RunFilter, RunId, Scheduler, Tier,
};

use crate::checked::Checked;
use crate::data_dir;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::members::Member;
use crate::origin::Origin;
use crate::output;
use crate::session::Session;
use crate::verb_run::build;

/// How many runs that may belong to one fire are looked at.
const SAME_FIRE: usize = 1_000;

/// A configuration whose backends are connected; none of them runs here.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) checked: Checked,
    pub(crate) scheduler: Scheduler,
    /// The backends that keep their runs outside.
    kept: Vec<Name>,
    /// Why backends that may be missing are.
    down: Vec<(Name, String)>,
}

/// Connects to what the configuration names, and acts on it.
pub(crate) fn open<T>(
    session: &Session,
    act: impl AsyncFnOnce(&Outside) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Also those that nothing is placed on any more: what they keep is still there.
    open_with(session, |_| true, act)
}

/// Connects to those backends of the configuration that `concerns` picks, and acts on them.
pub(crate) fn open_with<T>(
    session: &Session,
    concerns: impl Fn(&Member) -> bool,
    act: impl AsyncFnOnce(&Outside) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let checked = session.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Findings, "process/no_runtime", format!("cannot start a runtime: {error}"))
    })?;
    runtime.block_on(async {
        let members: Vec<Member> =
            checked.members.iter().filter(|member| concerns(member)).cloned().collect();
        let scheduler = build(&checked, &members)?;
        let down = Arc::new(Mutex::default());
        let heard = Arc::clone(&down);
        scheduler.events().listen(move |event| note_who_is_down(event, &heard));
        let kept = scheduler.connect().await?;
        let down = std::mem::take(&mut *down.lock().unwrap_or_else(PoisonError::into_inner));
        act(&Outside { checked, scheduler, kept, down }).await
    })
}

/// What such a backend keeps is missing from what is answered.
fn note_who_is_down(event: &Event<'_>, down: &Mutex<Vec<(Name, String)>>) {
    if let Event::BackendDown { backend, reason } = event {
        let message = format!("backend `{backend}` does not answer: {reason}");
        let warning = Diagnostic::warning("backend/down", message, Origin::None);
        eprint!("{}", warning.render(output::has_colour(std::io::stderr().is_terminal())));
        let mut down = down.lock().unwrap_or_else(PoisonError::into_inner);
        down.push(((*backend).clone(), (*reason).to_owned()));
    }
}

impl Outside {
    /// Whether a backend keeps its runs outside of the process that runs them.
    pub(crate) fn keeps(&self, backend: &Name) -> bool {
        self.kept.contains(backend)
    }

    /// The tier of a backend.
    pub(crate) fn tier(&self, backend: &Name) -> Option<Tier> {
        let mut infos = self.checked.members.iter().map(|member| member.backend.info());
        infos.find(|info| info.name == *backend).map(|info| info.tier)
    }

    /// Makes the folder for what is kept, before anything is put there.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        data_dir::create(&self.checked.settings.data_dir)
    }

    /// The run of this id.
    ///
    /// # Errors
    /// `run/unknown`, with the next step; `backend/down` when one that may have it does not answer.
    pub(crate) async fn run(&self, id: RunId) -> Result<Run, Failure> {
        let found = self.scheduler.history(&RunFilter::of_run(id)).await?.runs.into_iter().next();
        found.ok_or_else(|| {
            if let Some((backend, reason)) = self.down.first() {
                let message =
                    format!("run {id} may be on backend `{backend}`, which does not answer: {reason}");
                return Failure::new(Exit::Unreachable, "backend/down", message);
            }
            Failure::from(Error::not_found("run/unknown", format!("no backend has a run {id}"))).with_help(
                "`scheduler history` lists runs; one that has not ended is known if its tier keeps it",
            )
        })
    }

    /// The dead letter of a run, if it is one.
    pub(crate) async fn letter(&self, run: RunId) -> Result<Option<DeadLetter>, Failure> {
        Ok(self.scheduler.letters(&DeadLetterFilter::of_run(run)).await?.letters.into_iter().next())
    }

    /// The run that was there first, and everything that is a replay of it, each behind what it replays. Just the
    /// run itself when there is no replay.
    pub(crate) async fn lineage(&self, run: &Run) -> Result<Vec<Run>, Failure> {
        // A replay has the fire time of its origin.
        let mut filter = RunFilter::of_task(run.task.clone()).fired_up_to(run.fire_time).limited(SAME_FIRE);
        filter.states.clear();
        let page = self.scheduler.history(&filter).await?;
        let same_fire: Vec<Run> =
            page.runs.into_iter().take_while(|other| other.fire_time == run.fire_time).collect();
        let find = |id: RunId| same_fire.iter().find(|run| run.id == id);
        let mut root = run;
        while let Some(origin) = root.replay_of.and_then(find).filter(|origin| origin.id != run.id) {
            root = origin;
        }
        let mut lineage = vec![root.clone()];
        let mut next = 0;
        while let Some(origin) = lineage.get(next).map(|run| run.id) {
            let mut replays: Vec<&Run> =
                same_fire.iter().filter(|run| run.replay_of == Some(origin) && run.id != root.id).collect();
            replays.sort_unstable_by_key(|run| std::cmp::Reverse(PageToken::of(run)));
            lineage.extend(replays.into_iter().rev().cloned());
            next += 1;
        }
        Ok(lineage)
    }
}

/// What is answered about a task or a run of a backend that keeps nothing outside of its process.
pub(crate) fn not_outside(subject: &str, backend: &Name, help: String) -> Failure {
    let message =
        format!("{subject} is on backend `{backend}`, which only the daemon itself can tell to act");
    Failure::new(Exit::Unreachable, "backend/not_kept_outside", message).with_help(help)
}
