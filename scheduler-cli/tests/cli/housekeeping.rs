//! The example of the jobs that look after a machine does what its page says.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::{Answer, Bench, Daemon};

const CONFIG: &str = "examples/housekeeping/scheduler.toml";

/// A folder like the root of the repository as far as the example needs it, prepared.
fn prepared() -> Bench {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bench = Bench::new("");
    std::fs::create_dir_all(bench.path("examples/housekeeping")).unwrap();
    for file in ["scheduler.toml", "prepare.sh"] {
        let file = format!("examples/housekeeping/{file}");
        std::fs::copy(root.join(&file), bench.path(&file)).unwrap();
    }
    let said =
        Command::new("sh").arg("examples/housekeeping/prepare.sh").current_dir(bench.path("")).output();
    assert!(said.as_ref().is_ok_and(|said| said.status.success()), "{said:?}");
    bench
}

fn scheduler(bench: &Bench, words: &[&str]) -> Answer {
    bench.run(&[words, &["--config", CONFIG]].concat())
}

fn commit(bench: &Bench) -> String {
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=A", "-c", "user.email=a@example.com"]).args(words);
        let said = git.current_dir(bench.path("target/housekeeping/site")).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    git(&["commit", "--quiet", "--allow-empty", "-m", "more"]);
    git(&["rev-parse", "HEAD"])
}

/// Every run of `deploy`.
fn deploys(bench: &Bench) -> Vec<Value> {
    let history = scheduler(bench, &["history", "deploy", "-o", "json"]).json();
    history["runs"].as_array().unwrap().clone()
}

#[test]
fn a_dry_run_lists_what_the_real_run_removes_and_links_lead_nowhere() {
    let bench = prepared();
    let cleaned = |task: &str| {
        let answer = scheduler(&bench, &["exec", task, "-o", "json"]).json();
        answer["output"]["targets"][0]["listed"].as_array().unwrap().clone()
    };

    let look = cleaned("look");
    assert!(bench.path("target/housekeeping/cache/pages/old-1.html").exists());
    let clean = cleaned("clean");

    assert_eq!(look, clean);
    assert_eq!(clean.len(), 3, "{clean:?}");
    assert!(!bench.path("target/housekeeping/cache/pages/old-1.html").exists());
    assert!(bench.path("target/housekeeping/cache/pages/new-1.html").exists());
    assert!(bench.path("target/housekeeping/outside/precious").exists());
    assert!(bench.path("target/housekeeping/cache/loop").exists());
}

#[test]
fn a_home_and_a_folder_with_homes_in_it_are_refused_before_anything_runs() {
    for (path, what) in
        [("homes", "a folder with a home in it"), ("homes/me", "a home"), ("homes/me/../me", "a home")]
    {
        let bench = Bench::new("");
        std::fs::create_dir_all(bench.path("homes/me")).unwrap();
        std::fs::write(bench.path("homes/me/letters"), "dear").unwrap();
        let target = format!("{{ kind = \"directory\", path = \"{path}\", max_files = 0 }}");
        let args = format!("args = {{ targets = [{target}] }}");
        bench.write(
            "scheduler.toml",
            &format!("[tasks.clean]\njob = \"cache_cleanup\"\ntimeout = \"1m\"\n{args}\n"),
        );
        let asked = |words: &[&str]| {
            let mut command = bench.command(words);
            command.env("HOME", bench.path("homes/me"));
            Answer::of(command)
        };

        let (check, exec) = (asked(&["check", "-o", "json"]), asked(&["exec", "clean", "-o", "json"]));

        assert!(check.code == 2 && check.stdout.contains(&format!("it is {what}")), "{path}: {check:?}");
        assert!(exec.code != 0 && bench.path("homes/me/letters").exists(), "{path}: {exec:?}");
    }
}

#[test]
fn each_change_deploys_once_also_when_the_daemon_is_killed() {
    let bench = prepared();
    let start = || Daemon::of(bench.command(&["run", "--log", "text", "--config", CONFIG]));

    let mut daemon = start();
    daemon.line(&["watch", "succeeded"]);
    commit(&bench);
    daemon.line(&["deploy", "succeeded"]);
    daemon.signal(Signal::KILL);
    drop(daemon);
    commit(&bench);
    let mut daemon = start();
    daemon.line(&["deploy", "succeeded"]);
    daemon.line(&["watch", "succeeded"]);
    daemon.line(&["watch", "succeeded"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
    assert_eq!(deploys(&bench).len(), 2, "{log}");
}
