//! What the tests of `http` act on: the job from its args, a run around it, and how it ended.

use std::sync::Arc;

use scheduler_core::{
    AttemptEnd, Clock, Error, Job, Name, RunContext, RunHost, RunId, RunIdentity, SystemClock, Tier,
    Timestamp, attempt,
};
use serde_json::{Map, Value, json};

/// Args for `url` on this machine.
pub(crate) fn args(url: &str) -> Value {
    json!({"url": url, "allow": ["loopback"]})
}

/// Args for `url` on this machine, with others.
pub(crate) fn args_with(url: &str, more: Value) -> Value {
    let mut args = args(url);
    if let Value::Object(more) = more {
        args.as_object_mut().unwrap().extend(more);
    }
    args
}

/// The job `http` with these args.
pub(crate) fn http(args: &Value) -> Arc<dyn Job> {
    let jobs = builtin_jobs::all();
    let descriptor = jobs.iter().find(|job| *job.name() == "http").unwrap();
    descriptor.build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A new run of the task `call`.
pub(crate) fn context() -> RunContext {
    let clock = SystemClock::new();
    let identity = RunIdentity {
        namespace: Name::new("default").unwrap(),
        task: Name::new("call").unwrap(),
        tier: Tier::Local,
        backend: Name::new("local").unwrap(),
        run_id: RunId::manual(clock.now()),
        fire_time: Timestamp::from_millis(1_774_695_600_000),
        attempt: 2,
        fence: 7,
        params: Map::new(),
    };
    RunContext::new(identity, RunHost::standalone(Arc::new(clock)))
}

/// Runs the job once.
pub(crate) async fn run(args: &Value) -> AttemptEnd {
    attempt(&*http(args), &context(), None).await
}

/// Runs the job once and returns its output.
pub(crate) async fn output(args: &Value) -> Value {
    match run(args).await {
        AttemptEnd::Succeeded(output) => output,
        end => panic!("{end:?}"),
    }
}

/// How a job failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// `Retry`, `Abort` or `Snooze(…)`.
    pub(crate) wish: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) output: Value,
}

/// Runs the job once and returns how it failed.
pub(crate) async fn failed(args: &Value) -> Failed {
    match run(args).await {
        AttemptEnd::Failed(error) => {
            let (message, shown) = (error.to_string(), format!("{error:?}"));
            let code = error.source().downcast_ref::<Error>().map_or("", Error::code);
            let wish = shown.strip_suffix(&format!("({message})")).unwrap();
            Failed { wish: wish.into(), code: code.into(), message, output: error.output().clone() }
        }
        end => panic!("{end:?}"),
    }
}

/// Asserts that the job fails with this code, this wish, and this in its message.
pub(crate) async fn fails(args: &Value, wish: &str, code: &str, part: &str) {
    let failed = failed(args).await;
    assert_eq!((failed.wish.as_str(), failed.code.as_str()), (wish, code), "{failed:?}");
    assert!(failed.message.contains(part), "{failed:?}");
}
