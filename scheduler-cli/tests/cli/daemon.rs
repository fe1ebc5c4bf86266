//! The daemon: fires, retries, drains, and what it leaves to read.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::{Answer, Bench, Daemon, lines_of};

/// A task that runs a shell script as often as it says.
fn script(name: &str, every: &str, script: &str, more: &str) -> String {
    format!(
        "[tasks.{name}]\njob = \"exec\"\nargs = {{ program = '{script}', shell = true }}\n\
         trigger = {{ every = \"{every}\" }}\n{more}\n"
    )
}

fn runs(bench: &Bench) -> Vec<Value> {
    let answer = bench.run(&["history", "-n", "1000", "-o", "json"]);
    answer.json()["runs"].as_array().unwrap().clone()
}

#[test]
fn history_agrees_with_what_the_tasks_did() {
    let bench = Bench::new(&script("beat", "200ms", "echo x >> beats", ""));

    let answer = bench.run(&["run", "--for", "2s", "--log", "text"]);

    let runs = runs(&bench);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(runs.len() >= 5, "{answer:?}");
    assert_eq!(runs.len(), lines_of(&bench.path("beats")));
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:?}");
    assert!(answer.stderr.contains(&format!("{} fires: {} succeeded", runs.len(), runs.len())), "{answer:?}");
}

#[test]
fn a_task_that_fails_is_seen_to_retry_and_ends_failed() {
    let retry = "retry = { max_attempts = 2, initial = \"100ms\", jitter = false }";
    let bench = Bench::new(&script("flaky", "500ms", "echo no luck >&2; exit 3", retry));
    let mut daemon = bench.daemon(&[]);

    daemon.line(&["WARN", "flaky", "failed: exit code 3: no luck; again in 100ms"]);
    daemon.line(&["ERROR", "flaky", "failed for good after attempt 2: exit code 3: no luck", "/2"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
    let began = log.lines().filter(|line| line.contains("started")).filter(|line| line.ends_with("/2"));
    let told = match began.count() {
        1 => "; 1 retry".to_owned(),
        retries => format!("; {retries} retries"),
    };
    assert!(log.contains(&told), "{log}");
    let failed = bench.run(&["history", "--failed", "-o", "json"]).json();
    assert_eq!(failed["runs"][0]["attempt"], 2);
    assert_eq!(failed["runs"][0]["failures"][0]["error"], "exit code 3: no luck");
    let list = bench.run(&["list"]);
    assert!(list.stdout.contains("failed"), "{list:?}");
}

#[test]
fn history_keeps_what_a_program_printed_before_it_failed_or_was_ended() {
    let bench = Bench::new(&format!(
        "{}{}",
        script("fails", "500ms", "echo out; echo err >&2; exit 3", ""),
        script("hangs", "500ms", "echo began; exec sleep 600", "timeout = \"100ms\"")
    ));
    let mut daemon = bench.daemon(&[]);

    daemon.line(&["fails", "failed for good"]);
    daemon.line(&["hangs", "failed for good after attempt 1: timed out after 100ms"]);
    daemon.signal(Signal::TERM);
    daemon.end();

    let runs = runs(&bench);
    let output = |task: &str| runs.iter().rfind(|run| run["task"] == task).unwrap()["output"].clone();
    assert_eq!((&output("fails")["exit_code"], &output("fails")["stderr"]), (&3.into(), &"err\n".into()));
    assert_eq!(output("hangs")["stdout"], "began\n");
}

#[test]
fn a_signal_lets_runs_end_within_the_grace() {
    // Under `nohup` these tests and what they start ignore the last one.
    let signals =
        [Signal::TERM, Signal::INT, Signal::HUP].into_iter().take(if ignores_hang_up() { 2 } else { 3 });
    for signal in signals {
        let bench = Bench::new(&script(
            "slow",
            "500ms",
            "echo $$ > began; until [ -e go ]; do sleep 0.05; done; touch done",
            "",
        ));
        let mut daemon = bench.daemon(&[]);

        appears(&bench.path("began"));
        daemon.signal(signal);
        daemon.line(&["draining: 1 run under way, at most 30s"]);
        bench.write("go", "");
        let (code, log) = daemon.end();

        assert_eq!(code, 0, "{log}");
        assert!(bench.path("done").exists(), "{log}");
        assert!(log.contains("drained: 1 finished, 0 given back, 0 abandoned"), "{log}");
    }
}

#[test]
fn a_second_signal_stops_at_once_and_leaves_no_process() {
    let bench = Bench::new(&script("long", "500ms", "echo $$ > pid; exec sleep 600", ""));
    let mut daemon = bench.daemon(&[]);
    daemon.line(&["long", "started"]);
    let pid = appears(&bench.path("pid"));

    let began = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.line(&["draining: 1 run under way"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 1, "{log}");
    assert!(log.contains("0 finished, 0 given back, 1 abandoned"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "{log}");
    vanishes(&pid);
}

#[test]
fn a_run_that_outlasts_the_grace_is_abandoned() {
    let config = script("long", "500ms", "exec sleep 600", "");
    let bench = Bench::new(&format!("[scheduler]\nshutdown_grace = \"300ms\"\n{config}"));
    let mut daemon = bench.daemon(&[]);

    daemon.line(&["long", "started"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 1, "{log}");
    assert!(log.contains("1 abandoned"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_daemon_that_was_told_to_ignore_the_hang_up_goes_on() {
    let bench = Bench::new(&script("beat", "200ms", "true", ""));
    let mut command = std::process::Command::new("nohup");
    command.current_dir(bench.path("")).arg(env!("CARGO_BIN_EXE_scheduler"));
    let mut daemon = Daemon::of({
        command.args(["run", "--log", "text"]).stdin(std::process::Stdio::null());
        command
    });

    daemon.line(&["beat", "succeeded"]);
    daemon.signal(Signal::HUP);
    daemon.line(&["beat", "succeeded"]);
    daemon.line(&["beat", "succeeded"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
    assert!(log.contains("SIGTERM: stopping") && !log.contains("SIGHUP"), "{log}");
}

#[test]
fn many_abandoned_runs_are_counted_and_not_all_named() {
    let slow = (0..12).map(|n| script(&format!("slow_{n}"), "1s", "exec sleep 600", ""));
    let config: String = slow.collect();
    let bench = Bench::new(&format!("[scheduler]\nshutdown_grace = \"300ms\"\n{config}"));
    let mut daemon = bench.daemon(&[]);

    (0..12).for_each(|_| drop(daemon.line(&["started"])));
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 1, "{log}");
    let line = log.lines().find(|line| line.contains("12 abandoned")).expect("a report");
    assert!(line.ends_with("and 2 more"), "{line}");
}

#[test]
fn history_is_a_table_on_eighty_columns() {
    let bench =
        Bench::new(&script("nightly_backup", "500ms", "echo the warehouse does not answer >&2; exit 1", ""));
    bench.run(&["run", "--for", "1s", "--log", "text"]);

    let mut command = bench.command(&["history"]);
    command.env("COLUMNS", "80");
    let answer = Answer::of(command);

    assert!(answer.stdout.starts_with("RUN  "), "{answer:?}");
    assert!(answer.stdout.lines().next().unwrap().contains("NOTE"), "{answer:?}");
    assert!(answer.stdout.lines().all(|line| line.len() <= 80), "{answer:?}");
}

#[test]
fn a_data_dir_belongs_to_one_daemon_at_a_time() {
    let bench = Bench::new(&script("beat", "100ms", "true", ""));
    let mut first = bench.daemon(&[]);
    first.line(&["beat", "started"]);

    let second = bench.run(&["run", "--for", "1s", "--log", "text"]);
    let mut elsewhere = bench.command(&["run", "--for", "1s", "--log", "text"]);
    elsewhere.env("SCHEDULER_SCHEDULER__DATA_DIR", "other");
    let elsewhere = Answer::of(elsewhere);
    let pid = first.pid();
    first.signal(Signal::KILL);
    first.end();
    let third = bench.run(&["run", "--for", "1s", "--log", "text"]);

    assert_eq!((second.code, elsewhere.code, third.code), (5, 0, 0), "{second:?} {elsewhere:?} {third:?}");
    assert!(second.stderr.contains(&format!("process id {pid}")), "{second:?}");
    assert!(second.stderr.contains(bench.path("data").to_str().unwrap()), "{second:?}");
}

#[test]
fn list_knows_the_last_run_after_the_daemon_has_gone() {
    let config = script("beat", "200ms", "true", "");
    let bench = Bench::new(&format!("{config}[tasks.idle]\njob = \"exec\"\nargs.program = \"true\"\n"));

    let run = bench.run(&["run", "--for", "1s", "--log", "text"]);
    let list = bench.run(&["list"]);
    let json = bench.run(&["list", "-o", "json"]).json();

    assert_eq!(run.code, 0, "{run:?}");
    let rows: Vec<Vec<&str>> = list.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "TIER", "SCHEDULE", "NEXT", "LAST", "RESULT"]);
    assert_eq!(rows[1][..4], ["beat", "local", "every", "200ms"]);
    assert_eq!(rows[1].last(), Some(&"succeeded"));
    assert_eq!(rows[2][..6], ["idle", "local", "when", "asked", "when", "asked"]);
    assert_eq!(json["tasks"][0]["result"], "succeeded");
    assert!(json["tasks"][1]["last"].is_null(), "{json}");
}

#[test]
fn relative_paths_count_from_the_configuration() {
    let bench = Bench::new("");
    std::fs::create_dir(bench.path("etc")).unwrap();
    bench.write("etc/jobs.toml", &script("beat", "200ms", "true", ""));

    let answer = bench.run(&["--config", "etc/jobs.toml", "run", "--for", "1s", "--log", "text"]);

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(bench.path("etc/data").is_dir(), "{:?}", bench.files());
}

#[test]
fn every_log_line_of_a_run_says_which_run_it_is() {
    let bench = Bench::new(&script("beat", "200ms", "true", ""));

    let answer = bench.run(&["run", "--for", "1s"]);

    let lines: Vec<Value> =
        answer.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of_runs: Vec<&Value> = lines.iter().filter(|line| line["target"] == "scheduler::run").collect();
    assert!(of_runs.len() >= 4, "{answer:?}");
    for line in of_runs {
        for field in ["task", "run_id", "attempt", "fence", "tier", "backend", "fire_time"] {
            assert!(!line[field].is_null(), "no {field} in {line}");
        }
    }
}

#[test]
fn a_reader_of_the_log_that_goes_away_does_not_end_the_daemon() {
    let bench = Bench::new(&script("beat", "100ms", "echo x >> beats", ""));
    let mut command = bench.command(&["run", "--for", "2s", "--log", "text"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();

    drop(child.stderr.take());
    let status = child.wait().unwrap();

    assert_eq!(status.code(), Some(0));
    assert!(lines_of(&bench.path("beats")) >= 5);
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_daemon_leaves_nothing_beside_the_next_one() {
    let bench = Bench::new(&script("long", "500ms", "echo $$ > pid; exec sleep 600", ""));
    let mut first = bench.daemon(&[]);
    first.line(&["long", "started"]);
    let pid = appears(&bench.path("pid"));
    first.signal(Signal::KILL);
    first.end();
    assert!(Path::new(&format!("/proc/{pid}")).exists());

    let second = bench.daemon(&["--for", "100ms"]);
    second.end();

    // Any scheduler that starts does it, also one of another test.
    vanishes(&pid);
}

/// The first line of a file that a task writes.
pub(crate) fn appears(path: &Path) -> String {
    await_that(|| std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')))
        .unwrap_or_else(|| panic!("no {}", path.display()))
        .trim()
        .to_owned()
}

fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1)
}

/// Waits until a process is gone.
pub(crate) fn vanishes(pid: &str) {
    let path = format!("/proc/{pid}");
    let gone = await_that(|| (!Path::new(&path).exists()).then_some(()));
    assert!(gone.is_some() || !Path::new("/proc").exists(), "process {pid} is still there");
}

fn await_that<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
