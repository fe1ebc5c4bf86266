//! Processes that run, ended, or are others than they should be.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::stage::Stage;

/// A program that waits, under a name of its own.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sleeper {
    fn start(program: &Path, seconds: &str) -> Self {
        let child = Command::new(program).arg(seconds).spawn().unwrap();
        let sleeper = Self(child);
        // Until then it is this very program, about to become another.
        let name = program.file_name().unwrap().as_encoded_bytes();
        while !std::fs::read(sleeper.place("cmdline")).unwrap().windows(name.len()).any(|part| part == name) {
            std::thread::yield_now();
        }
        sleeper
    }

    fn place(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0.id()))
    }

    /// Ends it, and leaves it to be waited for.
    fn end(&mut self) {
        self.0.kill().unwrap();
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.0)), ended).unwrap();
    }
}

/// A program that waits, of this name.
fn program(stage: &Stage, name: &str) -> PathBuf {
    let path = stage.path(name);
    symlink("/bin/sleep", &path).unwrap();
    path
}

fn check(more: &Value) -> Value {
    let mut check = json!({"kind": "process"});
    check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    check
}

async fn expect(stage: &Stage, cases: &[(Value, &str, &str)]) {
    for (more, status, part) in cases {
        let (found, message) = stage.look(check(more)).await;
        assert_eq!(found, *status, "{more}: {message}");
        assert!(message.contains(part) && !message.contains("4711"), "{more}: {message}");
    }
}

#[tokio::test]
async fn processes_are_counted_by_name_and_by_command_line() {
    let stage = Stage::new();
    // Names of this test alone, whatever else runs.
    let own = std::process::id();
    let (short, long) = (format!("well{own}"), format!("well_and_long_enough_{own}"));
    let first = program(&stage, &short);
    let mut sleepers = [Sleeper::start(&first, "4711"), Sleeper::start(&first, "4712")];
    let _long = Sleeper::start(&program(&stage, &long), "4711");
    let line = format!("*/{short} 47?1");

    expect(
        &stage,
        &[
            (json!({"process": short}), "healthy", "2 processes run"),
            (json!({"process": short, "min": 3}), "failed", "2 processes run, at least 3 wanted"),
            (json!({"process": short, "max": 1}), "failed", "2 processes run, at most 1 wanted"),
            (json!({"process": short, "max": 0}), "failed", "at most 0 wanted"),
            (json!({"process": short, "min": 2, "max": 2}), "healthy", "2 processes run"),
            (json!({"process": &short[..6]}), "failed", "no such process runs, at least 1 wanted"),
            (json!({"process": &short[..6], "max": 0}), "healthy", "no such process runs"),
            (json!({"process": long}), "healthy", "1 process runs"),
            (json!({"process": format!("{long}r")}), "failed", "no such process"),
            (json!({"command_line": line}), "healthy", "1 process runs"),
            (json!({"command_line": &line[1..]}), "failed", "no such process"),
            (json!({"command_line": line, "process": long}), "failed", "no such process"),
        ],
    )
    .await;

    sleepers[0].end();
    expect(&stage, &[(json!({"process": short}), "healthy", "1 process runs")]).await;
}

#[tokio::test]
async fn a_pid_file_names_a_process_that_runs_and_is_the_right_one() {
    let stage = Stage::new();
    let sleeper_name = format!("pid{}", std::process::id());
    let mut sleeper = Sleeper::start(&program(&stage, &sleeper_name), "4711");
    let (file, odd, gone) = (stage.path("it.pid"), stage.path("odd.pid"), stage.path("gone.pid"));
    std::fs::write(&file, format!("{}\n/var/lib/more\n", sleeper.0.id())).unwrap();
    std::fs::write(&odd, "no number").unwrap();

    expect(
        &stage,
        &[
            (json!({"pid_file": file}), "healthy", "runs"),
            (json!({"pid_file": file, "process": sleeper_name}), "healthy", "runs"),
            (json!({"pid_file": file, "process": "nginx"}), "failed", "is another program"),
            (json!({"pid_file": file, "command_line": "nginx*"}), "failed", "is another program"),
            (json!({"pid_file": odd}), "failed", "holds no number of a process"),
            (json!({"pid_file": gone}), "failed", "gone.pid cannot be read"),
        ],
    )
    .await;

    sleeper.end();
    expect(&stage, &[(json!({"pid_file": file}), "failed", "does not run")]).await;
}
