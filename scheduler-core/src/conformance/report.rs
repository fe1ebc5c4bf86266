//! What became of each promise, for people and for programs.

use std::any::Any;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::fault::{Fault, Outcome};
use super::stage::Stage;
use super::{PROMISES, Promise, Subject};
use crate::BackendInfo;

/// The variable that names the file for the report.
const FILE: &str = "SCHEDULER_CONFORMANCE_REPORT";

/// What became of every promise.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The backend: its name, kind, tier, capabilities and contract; `None` when it could not be opened.
    pub backend: Option<BackendInfo>,
    /// The version of the kit.
    pub kit: &'static str,
    /// How many promises are kept.
    pub kept: usize,
    /// How many are broken.
    pub broken: usize,
    /// How many do not apply.
    pub not_applicable: usize,
    /// Each promise, in the order of [`PROMISES`].
    pub promises: Vec<Finding>,
}

/// What became of one promise.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The promise's name.
    pub name: &'static str,
    /// The promise as a sentence.
    pub sentence: String,
    /// What it is about.
    pub chapter: &'static str,
    /// What became of it.
    pub result: Kept,
    /// What was seen, or why it does not apply; empty when it is kept.
    pub message: String,
}

/// Whether a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It is.
    Kept,
    /// It is not.
    Broken,
    /// It does not apply to this backend.
    NotApplicable,
}

/// Plays every promise, each on a subject of its own.
///
/// Needs no runtime around it, and may be called inside of one.
pub fn report<S: Subject>(subject: impl Fn() -> S) -> Report {
    let mut backend = None;
    let promises: Vec<Finding> = PROMISES
        .iter()
        .map(|promise| {
            let (info, outcome) = play(promise, Arc::new(subject()));
            backend = backend.take().or(info);
            finding(promise, outcome)
        })
        .collect();
    let count = |result| promises.iter().filter(|finding| finding.result == result).count();
    Report {
        backend,
        kit: env!("CARGO_PKG_VERSION"),
        kept: count(Kept::Kept),
        broken: count(Kept::Broken),
        not_applicable: count(Kept::NotApplicable),
        promises,
    }
}

impl Promise {
    /// Plays this promise alone. Needs no runtime around it, and may be called inside of one.
    pub fn prove(&self, subject: impl Subject) -> Finding {
        finding(self, play(self, Arc::new(subject)).1)
    }
}

fn finding(promise: &Promise, outcome: Outcome) -> Finding {
    let (result, message) = match outcome {
        Ok(()) => (Kept::Kept, String::new()),
        Err(Fault::Broken(message)) => (Kept::Broken, message),
        Err(Fault::NotApplicable(message)) => (Kept::NotApplicable, message),
    };
    Finding { name: promise.name, sentence: promise.sentence(), chapter: promise.chapter, result, message }
}

/// Plays one promise on a thread and a runtime of its own, so that nothing it leaves behind disturbs another.
fn play(promise: &Promise, subject: Arc<dyn Subject>) -> (Option<BackendInfo>, Outcome) {
    let promise = *promise;
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return (None, Err(Fault::Broken(format!("no runtime for the test: {error}")))),
        };
        let played = runtime.block_on(async {
            let mut stage = match Stage::set(subject).await {
                Ok(stage) => stage,
                Err(fault) => return (None, Err(fault)),
            };
            let outcome = (promise.play)(&mut stage).await;
            let info = stage.info.clone();
            stage.strike().await;
            (Some(info), outcome)
        });
        // A backend that is broken may hang for ever.
        runtime.shutdown_background();
        played
    });
    thread.join().unwrap_or_else(|payload| (None, Err(Fault::Broken(message_of(&*payload)))))
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with a value that is no text"))
}

#[doc(hidden)]
pub fn __prove<S: Subject>(name: &str, subject: impl Fn() -> S) {
    let promise = PROMISES.iter().find(|promise| promise.name == name).expect("the list makes both");
    let finding = promise.prove(subject());
    match finding.result {
        Kept::Kept => {}
        Kept::Broken => panic!("broken: {}\n  {}", finding.sentence, finding.message),
        // Not by a macro of print's: a test's output is kept back when it passes.
        Kept::NotApplicable => {
            let _ = writeln!(std::io::stderr(), "not applicable: {name}: {}", finding.message);
        }
    }
}

#[doc(hidden)]
pub fn __write_report<S: Subject>(subject: impl Fn() -> S) {
    let Some(file) = std::env::var_os(FILE).filter(|file| !file.is_empty()) else { return };
    let report = serde_json::to_string_pretty(&report(subject)).expect("a report is plain data");
    if let Err(error) = std::fs::write(&file, report + "\n") {
        panic!("{FILE}: cannot write `{}`: {error}", file.display());
    }
}
