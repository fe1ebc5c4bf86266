//! The job `metrics_collection` in a daemon with real runs, and the verb that shows what it kept.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::Bench;

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs that end well, badly and later, on both tiers, and the task that counts them.
const CONFIG: &str = r#"
[backends.local]
[backends.queue]
[tasks.beat]
job = "exec"
args.program = "true"
timeout = "30s"
trigger = { every = "100ms", max_runs = 5 }
overlap = "queue"
[tasks.bad]
job = "exec"
args = { program = "sh", args = ["-c", "exit 65"] }
timeout = "30s"
trigger = { every = "100ms", max_runs = 3 }
overlap = "queue"
[tasks.order]
job = "exec"
args.program = "true"
timeout = "30s"
characteristics = { durability = "persistent" }
[tasks.lost]
job = "exec"
args = { program = "sh", args = ["-c", "exit 65"] }
timeout = "30s"
characteristics = { durability = "persistent" }
[tasks.metrics]
job = "metrics_collection"
tier = "local"
trigger = { every = "250ms" }
"#;

/// The last value of a series, by its name and labels.
fn value(bench: &Bench, series: &str) -> Option<f64> {
    let answer = bench.run(&["metrics", "-o", "json"]);
    let listed = serde_json::from_str::<Value>(&answer.stdout).ok()?;
    let is_it = |row: &&Value| {
        format!("{}{}", row["name"].as_str().unwrap(), row["labels"].as_str().unwrap()) == series
    };
    listed["series"].as_array()?.iter().find(is_it)?["last"].as_f64()
}

fn runs(bench: &Bench, task: &str, outcome: &str) -> Option<f64> {
    value(bench, &format!("scheduler_runs_total{{outcome=\"{outcome}\",task=\"{task}\"}}"))
}

/// Waits until it holds.
fn eventually(what: &str, bench: &Bench, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        let seen = || bench.run(&["metrics", "scheduler_*", "--prometheus"]).stdout;
        assert!(Instant::now() < until, "not {what}:\n{}", seen());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn each_run_of_both_tiers_is_counted_once_over_several_lives() {
    let bench = Bench::new(CONFIG);
    for life in 1..=2_u32 {
        let mut daemon = bench.daemon(&[]);
        daemon.line(&["metrics", "succeeded"]);
        for _ in 0..4 {
            assert_eq!(bench.run(&["trigger", "order"]).code, 0);
        }
        assert_eq!(bench.run(&["trigger", "lost"]).code, 0);
        let expected = |each: u32| Some(f64::from(each * life));
        eventually("counted", &bench, || {
            runs(&bench, "beat", "succeeded") == expected(5)
                && runs(&bench, "bad", "failed") == expected(3)
                && runs(&bench, "order", "succeeded") == expected(4)
                && runs(&bench, "lost", "failed") == expected(1)
        });
        let letters = "scheduler_dead_letters{backend=\"queue\",tier=\"queue\"}";
        eventually("the letters told", &bench, || value(&bench, letters) == expected(1));
        assert_eq!(runs(&bench, "beat", "failed"), Some(0.0));
        assert_eq!(value(&bench, "scheduler_backend_up{backend=\"local\",tier=\"local\"}"), Some(1.0));
        assert!(value(&bench, "scheduler_run_seconds_sum{task=\"order\"}").unwrap() > 0.0);
        assert!(value(&bench, "scheduler_next_run_timestamp_seconds{task=\"metrics\"}").unwrap() > 1e9);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.end().0, 0);
    }
    let history = bench.run(&["history", "-n", "100000", "-o", "json"]).json();
    let count = |task: &str, state: &str| {
        let runs = history["runs"].as_array().unwrap().iter();
        runs.filter(|run| run["task"] == task && run["state"] == state).map(|_| 1.0).sum::<f64>()
    };
    for (task, state) in
        [("beat", "succeeded"), ("bad", "failed"), ("order", "succeeded"), ("lost", "failed")]
    {
        assert_eq!(runs(&bench, task, state), Some(count(task, state)), "{task}");
    }
}

#[test]
fn what_waits_is_counted_and_how_long_it_does() {
    let bench = Bench::new(
        r#"
[backends.local]
[backends.queue]
concurrency = 1
[tasks.slow]
job = "exec"
args = { program = "sleep", args = ["600"] }
timeout = "1h"
characteristics = { durability = "persistent" }
overlap = "allow"
[tasks.metrics]
job = "metrics_collection"
tier = "local"
trigger = { every = "250ms" }
args.sources = [{ kind = "scheduler" }]
"#,
    );
    let _daemon = bench.daemon(&[]);
    for _ in 0..5 {
        assert_eq!(bench.run(&["trigger", "slow"]).code, 0);
    }
    assert_eq!(bench.run(&["trigger", "slow", "--at", "2100-01-01T00:00:00Z"]).code, 0);

    let of = |name: &str| value(&bench, &format!("{name}{{backend=\"queue\",tier=\"queue\"}}"));
    eventually("all told", &bench, || {
        let all = of("scheduler_runs_waiting").zip(of("scheduler_runs_under_way"));
        all.is_some_and(|(waiting, under_way)| {
            waiting + under_way == 5.0 && under_way >= 1.0 && waiting >= 1.0
        }) && of("scheduler_runs_ahead") == Some(1.0)
            && of("scheduler_oldest_waiting_seconds").is_some_and(|seconds| seconds > 0.5 && seconds < 600.0)
    });
}

#[test]
fn a_daemon_that_is_killed_leaves_a_file_that_is_whole() {
    let bench = Bench::new(
        "[backends.local]\n[tasks.metrics]\njob = \"metrics_collection\"\ntrigger = { every = \"20ms\" }\n\
         args.sources = [{ kind = \"system\" }]\n",
    );
    let mut before = 0;
    for round in 0..6_u64 {
        let mut daemon = bench.daemon(&[]);
        for _ in 0..5 {
            daemon.line(&["metrics", "succeeded"]);
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        daemon.signal(Signal::KILL);
        daemon.end();
        let answer = bench.run(&["metrics", "system_load1", "-o", "json"]);
        assert_eq!(answer.code, 0, "{answer:?}");
        let points = answer.json()["series"][0]["points"].as_array().unwrap().len();
        assert!(points >= before + 5, "{points} after {before}");
        before = points;
    }
}

#[test]
fn numbers_are_listed_shown_and_printed_for_a_scraper() {
    let bench = Bench::new(
        "[backends.local]\n[tasks.metrics]\njob = \"metrics_collection\"\ntrigger = { every = \"1m\" }\n\
         args.sources = [{ kind = \"system\" }]\n",
    );
    for _ in 0..3 {
        let exec = bench.run(&["exec", "metrics"]);
        assert_eq!(exec.code, 0, "{exec:?}");
        assert!(exec.stdout.contains("\"schema_version\": 1"), "{exec:?}");
    }

    let table = bench.run(&["metrics"]);
    assert!(table.stdout.starts_with("METRIC ") && table.stdout.contains("\nsystem_load1 "), "{table:?}");
    let list = bench.run(&["metrics", "-o", "json"]).json();
    let first = &list["series"][0];
    assert_eq!(list["schema_version"], 1);
    assert!(
        ["name", "labels", "source", "last", "at", "min", "avg", "max"]
            .iter()
            .all(|key| !first[key].is_null()),
        "{first}"
    );
    let points = bench.run(&["metrics", "system_load*", "-o", "jsonl"]);
    let lines: Vec<Value> = points.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.len() == 9 && lines.iter().all(|line| line["schema_version"] == 1 && line["value"].is_number()),
        "{points:?}"
    );
    let text = bench.run(&["metrics", "system_cpu*", "--prometheus"]).stdout;
    assert!(text.starts_with("# TYPE system_cpu_seconds_total counter\nsystem_cpu_seconds_total "), "{text}");
    assert!(bench.run(&["metrics", "system_load1"]).stdout.lines().count() == 4);
    // What was not told lately is no number of now.
    std::thread::sleep(Duration::from_millis(20));
    let late = bench.run(&["metrics", "system_cpu*", "--prometheus", "--since", "1ms"]);
    assert_eq!((late.code, late.stdout.as_str()), (0, ""), "{late:?}");
}

#[test]
fn what_is_not_there_is_told_with_what_to_do() {
    let bench = Bench::new(
        "[backends.local]\n[tasks.metrics]\njob = \"metrics_collection\"\ntrigger = { every = \"1m\" }\n\
         args.sources = [{ kind = \"system\" }]\n",
    );
    let nothing = bench.run(&["metrics"]);
    assert_eq!(nothing.code, 4, "{nothing:?}");
    assert!(
        nothing.stderr.contains("metrics/no_file") && nothing.stderr.contains("scheduler exec TASK"),
        "{nothing:?}"
    );
    assert!(!bench.path("data/metrics.db").exists(), "looking makes none");

    assert_eq!(bench.run(&["exec", "metrics"]).code, 0);
    let unknown = bench.run(&["metrics", "system_laod1", "-o", "json"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    let error = &unknown.json()["error"];
    assert_eq!(error["code"], "metrics/unknown");
    assert!(error["help"].as_str().unwrap().contains("did you mean `system_load1`?"), "{error}");

    std::fs::write(
        bench.path("other.db"),
        "something else that is long enough to be told from an empty file",
    )
    .unwrap();
    assert_eq!(bench.run(&["metrics", "--file", "other.db"]).code, 2);
    let full = bench.command(&["exec", "metrics"]);
    let told = with_small_files(&full);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stdout.contains("metrics"), "{told:?}");
    let after = bench.run(&["metrics", "system_load1"]);
    assert_eq!(after.code, 0, "what was there stays: {after:?}");
}

/// Runs a command that may write no file beyond a few bytes, as on a full disk.
fn with_small_files(command: &std::process::Command) -> crate::bench::Answer {
    let mut limited = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    limited.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap());
    crate::bench::Answer::of(limited)
}
