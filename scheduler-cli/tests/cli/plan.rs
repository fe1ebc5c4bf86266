//! `plan` over a backend that keeps its schedules in a file: exit codes, and what is written when.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use scheduler_cli::App;
use scheduler_cli::scheduler_core::{
    Backend, BackendContext, BackendInfo, BackendKind, BackendSettings, Cancelled, Drained, Enqueued, Error,
    Health, JobDescriptor, Page, Placed, PlannedAction, PlannedChange, Planning, Result, RunFilter, RunId,
    RunRequest, Task, Tier, Warning, async_trait, source,
};

use crate::bench::Bench;

const TASK: &str =
    "[tasks.a]\njob = \"hello\"\ncharacteristics.visibility = \"user_facing\"\ntimeout = \"1m\"\n";

fn run(bench: &Bench, arguments: &[&str]) -> ExitCode {
    let config = bench.path("scheduler.toml");
    let named = ["scheduler", "--config", config.to_str().unwrap()];
    let hello = JobDescriptor::function("hello", "says hello", |_| async { Ok("hello".into()) });
    let shelf = BackendKind::new("shelf", Tier::Workflow, "a file", |settings: &BackendSettings| {
        Ok(Arc::new(Shelf(settings.clone())) as Arc<dyn Backend>)
    });
    App::new()
        .with_builtins()
        .job(hello, source!())
        .backend_kind(shelf, source!())
        .run_with(named.iter().chain(arguments))
}

#[test]
fn the_exit_code_says_whether_anything_would_change() {
    let bench = Bench::new(&format!("[backends.shelf]\n{TASK}"));
    let kept = || std::fs::read_to_string(bench.path("shelf")).unwrap_or_default();

    assert_eq!(run(&bench, &["plan"]), ExitCode::from(1), "there is something to create");
    assert_eq!(run(&bench, &["plan", "-o", "json"]), ExitCode::from(1));
    assert_eq!(kept(), "", "a plan writes nothing");
    assert_eq!(run(&bench, &["plan", "--apply"]), ExitCode::from(0));
    assert_eq!(kept(), "a");
    assert_eq!(run(&bench, &["plan"]), ExitCode::from(0));

    bench.write("scheduler.toml", &format!("[backends.shelf]\n{}", TASK.replace("tasks.a", "tasks.b")));
    assert_eq!(run(&bench, &["plan", "--apply"]), ExitCode::from(0));
    assert_eq!(kept(), "a b", "what no task wants stays until it is pruned");
    assert_eq!(run(&bench, &["plan"]), ExitCode::from(0));
    assert_eq!(run(&bench, &["plan", "--prune"]), ExitCode::from(1));
    assert_eq!(run(&bench, &["plan", "--prune", "--apply"]), ExitCode::from(0));
    assert_eq!(kept(), "b");
}

#[test]
fn what_cannot_be_planned_has_a_code_of_its_own() {
    let cases = [
        ("[backends.local]\n[tasks.a]\njob = \"hello\"\ntimeout = \"1m\"\n".to_owned(), 0),
        (format!("[backends.shelf]\n{TASK}surprise = 1\n"), 2),
        (format!("[backends.shelf]\naway = true\n{TASK}"), 3),
        // It is asked even where it may be missing: without it there is no plan.
        (format!("[backends.shelf]\naway = true\nrequired = false\n{TASK}"), 3),
    ];
    for (config, code) in cases {
        let bench = Bench::new(&config);

        assert_eq!(run(&bench, &["plan"]), ExitCode::from(code), "{config}");
    }
}

#[test]
fn a_task_that_its_backend_cannot_keep_is_refused_by_check() {
    let bench = Bench::new(&format!("[backends.shelf]\n{TASK}misfire = \"latest\"\n"));

    assert_eq!(run(&bench, &["check"]), ExitCode::from(2));

    bench.write("scheduler.toml", &format!("[backends.shelf]\n{TASK}fired_by = \"scheduler\"\n"));
    assert_eq!(run(&bench, &["check", "--strict"]), ExitCode::from(0));
    bench.write("scheduler.toml", &format!("[backends.shelf]\n{TASK}"));
    assert_eq!(run(&bench, &["check", "--strict"]), ExitCode::from(1), "it is warned of");
    assert_eq!(run(&bench, &["check"]), ExitCode::from(0));
}

/// Keeps the names of tasks in a file beside the configuration.
#[derive(Debug)]
struct Shelf(BackendSettings);

impl Shelf {
    fn file(&self) -> PathBuf {
        self.0.config_file.as_ref().unwrap().with_file_name("shelf")
    }

    fn here(&self) -> Result<()> {
        match self.0.config.get("away") {
            None => Ok(()),
            Some(_) => Err(Error::unavailable("shelf/away", "nobody answers")),
        }
    }
}

#[async_trait]
impl Planning for Shelf {
    async fn plan(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>> {
        self.here()?;
        let kept = std::fs::read_to_string(self.file()).unwrap_or_default();
        let wanted: Vec<&str> = tasks.iter().map(|placed| placed.task.name.as_str()).collect();
        let wish = |name: &&str| {
            let is_kept = kept.split(' ').any(|other| other == *name);
            PlannedChange::new(if is_kept { PlannedAction::Keep } else { PlannedAction::Create }, *name)
        };
        let rest = |name: &&str| {
            PlannedChange::new(if prune { PlannedAction::Delete } else { PlannedAction::Keep }, *name)
        };
        let unwanted = kept.split(' ').filter(|name| !name.is_empty() && !wanted.contains(name));
        Ok(wanted.iter().map(wish).chain(unwanted.collect::<Vec<_>>().iter().map(rest)).collect())
    }

    async fn apply(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>> {
        let changes = self.plan(tasks, prune).await?;
        let mut kept: Vec<&str> = changes
            .iter()
            .filter(|change| change.action != PlannedAction::Delete)
            .map(|change| change.subject.as_str())
            .collect();
        kept.sort_unstable();
        std::fs::write(self.file(), kept.join(" ")).unwrap();
        Ok(changes)
    }
}

#[async_trait]
impl Backend for Shelf {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(self.0.name.clone(), "shelf", Tier::Workflow, &[])
    }

    async fn start(&self, _: BackendContext) -> Result<()> {
        self.here()
    }

    async fn connect(&self, _: BackendContext) -> Result<()> {
        self.here()
    }

    async fn enqueue(&self, _: RunRequest) -> Result<Enqueued> {
        Err(Error::unavailable("shelf/away", "nothing runs here"))
    }

    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page::default())
    }

    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "nothing runs here"))
    }

    async fn health(&self) -> Health {
        Health::up()
    }

    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }

    fn planning(&self) -> Option<&dyn Planning> {
        Some(self)
    }

    fn judge(&self, task: &Task) -> Result<Vec<Warning>> {
        match (task.fired_by.as_str(), task.states_misfire()) {
            ("engine", true) => Err(Error::invalid(
                "shelf/misfire",
                "a shelf keeps no `misfire`; set fired_by = \"scheduler\"",
            )),
            ("engine", false) => Ok(vec![Warning::new("shelf/misfire", "late runs run; so it is")]),
            _ => Ok(Vec::new()),
        }
    }
}
