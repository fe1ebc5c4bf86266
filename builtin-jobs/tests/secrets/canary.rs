//! No value of a secret appears in what the job says, logs, keeps or writes down, whatever its programs print.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::stage::{NEW, OLD, Stage, sh};

/// Keeps every field of every event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Prints whatever it can get hold of, and then does its work.
fn loud(script: &str) -> Value {
    sh(&format!("cat \"$SECRET_FILE\" >&2; cat \"$SECRET_FILE\"* >&2; env >&2; {script}"))
}

#[tokio::test]
async fn no_value_is_told_whatever_goes_wrong() {
    let log = Log::default();
    // Were it the only subscriber, what a thread without one meets first would be off for all.
    std::mem::forget(tracing::Dispatch::new(log.clone()));
    let _guard = tracing::subscriber::set_default(log.clone());
    let generate = sh(&format!("echo {NEW} >&2; printf {NEW}"));
    let fails_live = format!("cat; [ \"$(cat \"$SECRET_FILE\")\" = {OLD} ]");
    let cases = [
        json!({"generate": generate, "verify": loud("cat")}),
        json!({"generate": generate, "verify": loud("cat; exit 3")}),
        json!({"generate": sh(&format!("printf {NEW}; exit 5"))}),
        json!({"generate": generate, "verify_live": loud(&fails_live)}),
        json!({"generate": generate, "verify_live": loud("cat; exit 3"), "reload": loud("exit 1")}),
    ];
    for kind in ["file", "env_file", "jwt"] {
        for commands in &cases {
            let stage = Stage::new();
            let content = match kind {
                "env_file" => format!("A={OLD}\n{OLD}\n"),
                "jwt" => format!("{OLD}.eyJpYXQiOjE1MDAwMDAwMDB9.{OLD}"),
                _ => OLD.to_owned(),
            };
            let file = stage.file("live/key", &content, 0o644, 100);
            let mut args = stage.rotation(commands.clone());
            args["secrets"][0]["kind"] = json!(kind);
            args["secrets"][0]["path"] = json!(file);
            if kind == "env_file" {
                args["secrets"][0]["keys"] = json!(["A"]);
            }

            let told = stage.run(&args).await;

            let kept: String =
                stage.names("state").iter().map(|name| stage.read(&format!("state/{name}"))).collect();
            let all = format!("{told:?} {} {kept} {}", stage.read("audit.jsonl"), log.0.lock().unwrap());
            assert!(stage.read("audit.jsonl").contains("\"began\"") && all.contains("rotation"), "{all}");
            // What this test itself put into the args is not the job's to hide, and it is not told either.
            assert!(!all.contains(OLD) && !all.contains(NEW), "{kind} {commands}: {all}");
        }
    }
}
