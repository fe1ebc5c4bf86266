//! Binaries composed by others: what they bring is found, and what cannot start says so.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use scheduler_cli::App;
use scheduler_cli::scheduler_core::{
    Backend, BackendContext, BackendInfo, BackendKind, BackendSettings, Cancelled, Drained, Enqueued, Error,
    Health, JobDescriptor, Name, Page, Result, RunFilter, RunId, RunRequest, Source, Tier, Way, async_trait,
    source,
};

use crate::bench::Bench;

fn hello() -> JobDescriptor {
    JobDescriptor::function("hello", "says hello", |_| async { Ok("hello".into()) })
}

#[test]
fn three_lines_compose_a_binary() {
    let registry = App::new().with_builtins().job(hello(), source!()).into_registry().unwrap();

    let ways: Vec<(String, Way)> =
        registry.jobs().map(|job| (job.item.name().to_string(), job.way)).collect();
    assert!(ways.contains(&("hello".into(), Way::Explicit)), "{ways:?}");
    assert!(ways.contains(&("exec".into(), Way::Feature)), "{ways:?}");
}

#[test]
fn two_jobs_of_one_name_are_refused_naming_both_crates() {
    let theirs = Source { crate_name: "their-jobs", version: "2.0.0" };
    let exec = JobDescriptor::function("exec", "another", |_| async { Ok("".into()) });
    let app = App::new().with_builtins().job(exec, theirs);

    let error = app.into_registry().unwrap_err();

    assert_eq!(error.code(), "registry/duplicate_job");
    assert!(error.to_string().contains("builtin-jobs"), "{error}");
    assert!(error.to_string().contains("their-jobs 2.0.0"), "{error}");
}

#[test]
fn a_required_backend_that_cannot_start_ends_the_daemon_with_3() {
    let bench = Bench::new("[backends.absent]\n[tasks.a]\njob = \"hello\"\ntier = \"queue\"\n");

    let code = run(&bench, &["run", "--for", "5s", "--log", "text"]);

    assert_eq!(code, ExitCode::from(3));
}

#[test]
fn a_daemon_runs_without_a_backend_that_is_not_required() {
    let bench =
        Bench::new("[backends.absent]\nrequired = false\n[tasks.a]\njob = \"hello\"\ntier = \"queue\"\n");

    let code = run(&bench, &["run", "--for", "100ms", "--log", "text"]);

    assert_eq!(code, ExitCode::from(0));
}

fn run(bench: &Bench, arguments: &[&str]) -> ExitCode {
    let config = bench.path("scheduler.toml");
    let named = ["scheduler", "--config", config.to_str().unwrap()];
    let absent = BackendKind::new("absent", Tier::Queue, "never there", |settings: &BackendSettings| {
        Ok(Arc::new(Absent(settings.name.clone())) as Arc<dyn Backend>)
    });
    let app = App::new().with_builtins().job(hello(), source!()).backend_kind(absent, source!());
    app.run_with(named.iter().chain(arguments))
}

/// A backend whose other side is never there.
#[derive(Debug)]
struct Absent(Name);

fn gone<T>() -> Result<T> {
    Err(Error::unavailable("absent/gone", "nobody answers"))
}

#[async_trait]
impl Backend for Absent {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(self.0.clone(), "absent", Tier::Queue, &[])
    }

    async fn start(&self, _: BackendContext) -> Result<()> {
        gone()
    }

    async fn enqueue(&self, _: RunRequest) -> Result<Enqueued> {
        gone()
    }

    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        gone()
    }

    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        gone()
    }

    async fn health(&self) -> Health {
        Health::down("nobody answers")
    }

    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }
}
