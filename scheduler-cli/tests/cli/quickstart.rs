//! The quickstart does what it says, counted from outside by the file that its own commands append to.

use std::path::Path;

use rustix::process::Signal;

use crate::bench::{Bench, Daemon, lines_of};

#[test]
fn the_quickstart_fires_retries_fails_skips_and_drains() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bench = Bench::new("");
    // A copy, so that what it writes lies in this test's folder.
    std::fs::create_dir_all(bench.path("examples")).unwrap();
    std::fs::create_dir_all(bench.path("docs")).unwrap();
    std::fs::copy(root.join("examples/quickstart.toml"), bench.path("examples/quickstart.toml")).unwrap();
    bench.write("docs/page.md", "something to back up\n");
    let config = ["--config", "examples/quickstart.toml"];

    let mut daemon = Daemon::of(bench.command(&[&["run", "--log", "text"], &config[..]].concat()));
    daemon.line(&["disk", "succeeded"]);
    daemon.line(&["broken", "the warehouse does not answer (attempt 1); again in 1s"]);
    daemon.line(&["broken", "failed for good after attempt 3"]);
    daemon.line(&["report", "started"]);
    daemon.signal(Signal::TERM);
    daemon.line(&["draining:"]);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
    assert!(log.contains("drained:") && log.contains(", 0 abandoned"), "{log}");
    let history = bench.run(&[&["history", "-n", "1000", "-o", "json"], &config[..]].concat()).json();
    let runs = history["runs"].as_array().unwrap();
    let attempts = |task: &str| {
        runs.iter().filter(|run| run["task"] == task).map(|run| run["attempt"].as_u64().unwrap()).sum::<u64>()
    };
    let counted = lines_of(&bench.path("target/quickstart/attempts.log"));
    assert_eq!(attempts("broken") + attempts("backup"), counted as u64, "{log}");
    assert!(bench.path("target/quickstart/docs.tar.gz").exists());
    let took = |run: &&serde_json::Value| run["task"] == "report" && run["state"] == "succeeded";
    assert!(runs.iter().any(|run| took(&run)), "what was under way was let finish: {log}");
}
