//! The job `git_poll` of a daemon that is killed after it triggered a task and before it has written that down.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;

use crate::bench::{Bench, Daemon};
use crate::outside::{durable, json_of};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn bench() -> Bench {
    let bench = Bench::new(&format!(
        "[scheduler]\ndata_dir = \"data\"\n{}[tasks.watch]\njob = \"git_poll\"\ntrigger = {{ every = \"200ms\" }}\n\
         timeout = \"1m\"\n[tasks.watch.args]\ntask = \"deploy\"\nspread = \"0s\"\n",
        durable("deploy", "true", "")
    ));
    let site = bench.path("site");
    std::fs::create_dir(&site).unwrap();
    git(&bench, &["init", "--quiet", "--initial-branch=main"]);
    commit(&bench);
    let config = std::fs::read_to_string(bench.path("scheduler.toml")).unwrap();
    let url = format!("repositories = [{{ url = \"file://{}\", name = \"site\" }}]\n", site.display());
    bench.write("scheduler.toml", &(config + &url));
    bench
}

fn git(bench: &Bench, words: &[&str]) {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=A", "-c", "user.email=a@example.com"]).args(words);
    let said = git.current_dir(bench.path("site")).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

fn commit(bench: &Bench) {
    git(bench, &["commit", "--quiet", "--allow-empty", "-m", "more"]);
}

/// What the job keeps of the repository; nothing before it was seen.
fn kept(bench: &Bench) -> Value {
    let text = std::fs::read(bench.path("data/state/watch.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&text).unwrap_or_default();
    state["value"]["repositories"]["site"].clone()
}

/// Whether a change is written down that may not have been triggered.
fn is_pending(bench: &Bench) -> bool {
    kept(bench)["pending"].as_array().is_some_and(|pending| !pending.is_empty())
}

fn deploys(bench: &Bench) -> usize {
    json_of(bench, &["history", "deploy", "-n", "100"])["runs"].as_array().unwrap().len()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not {what}");
        std::thread::yield_now();
    }
}

/// Commits until a change is written down and its end cannot be: the lock of the state is ours. Answers the lock and
/// how many commits that took, each of which triggers once.
fn caught(bench: &Bench) -> (File, usize) {
    for commits in 1.. {
        commit(bench);
        until("pending", || is_pending(bench));
        let lock = File::options().write(true).open(bench.path("data/state/watch.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        // The daemon may have been faster.
        if is_pending(bench) {
            return (lock, commits);
        }
    }
    unreachable!("there are commits without end");
}

#[test]
fn a_daemon_killed_between_a_trigger_and_writing_it_down_triggers_once() {
    let bench = bench();
    let daemon = bench.daemon(&[]);
    until("seen", || kept(&bench)["refs"].is_object());

    let (lock, commits) = caught(&bench);
    until("triggered", || deploys(&bench) == commits);
    daemon.signal(Signal::KILL);
    daemon.end();
    assert!(is_pending(&bench), "it was killed before it wrote that down");
    drop(lock);
    let mut daemon: Daemon = bench.daemon(&[]);
    until("written down", || !is_pending(&bench));
    // Whatever it triggered is there when the run has ended that did.
    daemon.line(&["watch", "succeeded"]);
    daemon.signal(Signal::TERM);
    daemon.end();

    assert_eq!(deploys(&bench), commits);
}
