//! The example of all maintenance jobs finds and does something with each, on what its script makes.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::{Bench, Daemon};
use crate::outside::json_of;

const CONFIG: &str = "examples/maintenance.toml";
const SCRIPT: &str = "examples/maintenance/prepare.sh";

/// A folder like the root of the repository as far as the example needs it; what its script started ends with it.
struct Prepared(Bench, Child);

impl Prepared {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let bench = Bench::new("");
        std::fs::create_dir_all(bench.path("examples/maintenance")).unwrap();
        for file in [CONFIG, SCRIPT] {
            std::fs::copy(root.join(file), bench.path(file)).unwrap();
        }
        // Ends the server also when this process is killed: its input ends then.
        let watch = "trap '' INT; cat > /dev/null; kill \"$(cat target/maintenance/redis.pid)\"";
        let watch = Command::new("sh")
            .args(["-c", watch])
            .current_dir(bench.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let prepared = Self(bench, watch.unwrap());
        let said = prepared.script().output().unwrap();
        assert!(said.status.success(), "{said:?}");
        prepared
    }

    fn script(&self) -> Command {
        let mut script = Command::new("sh");
        script.arg(SCRIPT).current_dir(self.0.path("")).env("SCHEDULER", env!("CARGO_BIN_EXE_scheduler"));
        script
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // A server that did not start is not there to be stopped.
        let _ = self.script().arg("stop").output();
        drop(self.1.stdin.take());
        let _ = self.1.wait();
    }
}

/// What a run of `cache_cleanup` listed.
fn listed(run: &Value) -> Vec<Value> {
    let targets = run["output"]["targets"].as_array().unwrap();
    targets.iter().map(|target| target["listed"].clone()).collect()
}

#[test]
fn every_job_finds_something_and_does_something_about_it() {
    let prepared = Prepared::new();
    let bench = &prepared.0;
    let look = json_of(bench, &["exec", "look", "--config", CONFIG]);
    let mut daemon = Daemon::of(bench.command(&["run", "--log", "text", "--config", CONFIG]));

    daemon.all_lines(&[
        &["clean", "removed 6 items"],
        &["warehouse is failed"],
        &["metrics", "1 of 4 sources: warehouse"],
        &["secrets", "certificate due", "rotated password"],
        &["watch", "of site triggered deploy"],
        &["deploy", "succeeded"],
        &["dead_letters", "letters 3,", "replayed 1"],
        // The warehouse is back.
        &["warehouse is healthy after", "failed"],
        &["metrics", "succeeded", "numbers of 4 sources"],
        &["dead_letters", "2 came through"],
    ]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
    assert_eq!(look["output"]["removed"], 6, "{look}");
    let cleaned = json_of(bench, &["history", "clean", "--config", CONFIG]);
    assert_eq!(listed(&look), listed(cleaned["runs"].as_array().unwrap().last().unwrap()));
    let imports = json_of(bench, &["history", "import", "--config", CONFIG]);
    let done = imports["runs"].as_array().unwrap().iter().filter(|run| run["state"] == "succeeded");
    assert_eq!(done.count(), 3, "{imports}");
    let letters = json_of(bench, &["dlq", "list", "--config", CONFIG]);
    assert_eq!(letters["letters"].as_array().map(Vec::len), Some(0), "{letters}");
}
