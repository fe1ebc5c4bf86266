//! The durable tier: what was accepted is finished, whatever happens to the process. Counted from outside, by
//! files that the tasks append to.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use scheduler_core::Timestamp;

use crate::bench::{Bench, lines_of};
use crate::daemon::{appears, vanishes};

/// A persistent task that notes each attempt in the file `attempts`.
fn persistent(every: &str, script: &str, url: &str) -> String {
    format!(
        "[backends.local]\n[backends.queue]\nurl = \"{url}\"\nlease = \"1s\"\n\
         [tasks.invoice]\njob = \"exec\"\ntimeout = \"60s\"\ntrigger = {{ every = \"{every}\" }}\n\
         characteristics = {{ durability = \"persistent\" }}\n[tasks.invoice.args]\nshell = true\n\
         program = '''\necho \"$SCHEDULER_RUN_ID $SCHEDULER_FIRE_TIME $SCHEDULER_ATTEMPT $SCHEDULER_FENCE\" >> \
         \"$HOME/attempts\"\n{script}\n'''\n"
    )
}

fn noted(bench: &Bench) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(bench.path("attempts")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

#[test]
fn a_persistent_task_needs_no_server_and_no_section() {
    let bench = Bench::new(
        "[tasks.invoice]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"5s\"\n\
         trigger = { every = \"300ms\" }\ncharacteristics = { durability = \"persistent\" }\n",
    );

    let explain = bench.run(&["explain", "invoice"]);
    let run = bench.run(&["run", "--for", "2s", "--log", "text"]);
    let history = bench.run(&["history", "invoice", "-o", "json"]).json();

    assert!(explain.stdout.starts_with("invoice -> queue (backend queue)  rule R3"), "{explain:?}");
    assert_eq!(run.code, 0, "{run:?}");
    let runs = history["runs"].as_array().unwrap();
    assert!(runs.iter().any(|run| run["state"] == "succeeded" && run["tier"] == "queue"), "{history}");
    let mode = bench.path("data/queue.db").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_configuration_without_a_durable_task_makes_no_queue() {
    let bench = Bench::new(
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"5s\"\ntrigger = { every = \"300ms\" }\n",
    );

    let run = bench.run(&["run", "--for", "1s", "--log", "text"]);

    assert_eq!(run.code, 0, "{run:?}");
    assert!(bench.path("data").exists() && !bench.path("data/queue.db").exists());
}

#[test]
fn a_run_cut_off_by_kill_9_is_finished_as_attempt_2_and_nothing_of_attempt_1_remains() {
    let script = "echo $$ > pid.$SCHEDULER_ATTEMPT\n[ $SCHEDULER_ATTEMPT = 2 ] || exec sleep 600";
    let bench = Bench::new(&persistent("500ms", script, "sqlite:queue.db"));
    let start = |flags: &[&str]| {
        let arguments = [&["run", "--log", "text"], flags].concat();
        let mut command = bench.command(&arguments);
        command.env("HOME", bench.path(""));
        crate::bench::Daemon::of(command)
    };

    let first = start(&[]);
    let pid = appears(&bench.path("pid.1"));
    first.signal(Signal::KILL);
    first.end();
    let mut second = start(&[]);
    second.line(&["invoice", "its worker is gone"]);
    second.line(&["invoice", "succeeded", "/2"]);
    second.signal(Signal::TERM);
    second.end();

    vanishes(&pid);
    let noted = noted(&bench);
    let of_first: Vec<&Vec<String>> = noted.iter().filter(|line| line[0] == noted[0][0]).collect();
    let attempts: Vec<&str> = of_first.iter().map(|line| line[2].as_str()).collect();
    assert_eq!(attempts, ["1", "2"], "{noted:?}");
    assert!(of_first[1][3].parse::<u64>().unwrap() > of_first[0][3].parse::<u64>().unwrap(), "{noted:?}");
}

#[test]
fn a_run_that_outlives_its_trigger_is_finished_by_the_next_daemon() {
    let soon = Timestamp::from(std::time::SystemTime::now()) + Duration::from_millis(800);
    let script = "echo $$ > pid.$SCHEDULER_ATTEMPT\n[ $SCHEDULER_ATTEMPT = 2 ] || exec sleep 600";
    let config = persistent("1s", script, "sqlite:queue.db");
    let config = config.replace("every = \"1s\"", &format!("at = \"{soon}\""));
    let bench = Bench::new(&config);
    let start = || {
        let mut command = bench.command(&["run", "--log", "text"]);
        command.env("HOME", bench.path(""));
        crate::bench::Daemon::of(command)
    };

    let first = start();
    appears(&bench.path("pid.1"));
    first.signal(Signal::KILL);
    first.end();
    let mut second = start();

    second.line(&["invoice", "succeeded", "/2"]);
}

#[test]
fn two_daemons_on_one_queue_run_each_fire_once() {
    let bench = Bench::new("");
    let url = format!("sqlite:{}", bench.path("shared.db").display());
    bench.write("scheduler.toml", &persistent("250ms", "", &url));
    let start = |data_dir: &str| {
        let mut command = bench.command(&["run", "--for", "4s", "--log", "text"]);
        command.env("HOME", bench.path("")).env("SCHEDULER_SCHEDULER__DATA_DIR", data_dir);
        crate::bench::Daemon::of(command)
    };

    let (one, two) = (start("one"), start("two"));
    let ((first, log_of_one), (second, log_of_two)) = (one.end(), two.end());

    assert_eq!((first, second), (0, 0), "{log_of_one}\n{log_of_two}");
    let noted = noted(&bench);
    let fires: BTreeSet<&str> = noted.iter().map(|line| line[1].as_str()).collect();
    assert!(noted.len() >= 8, "{noted:?}\n{log_of_one}");
    assert_eq!(fires.len(), noted.len(), "a fire ran twice: {noted:?}");
    assert_eq!(lines_of(&bench.path("attempts")), noted.len());
}

#[test]
fn a_file_that_is_no_queue_is_refused_and_left_as_it_is() {
    let bench = Bench::new(&persistent("500ms", "", "sqlite:queue.db"));
    std::fs::create_dir_all(bench.path("data")).unwrap();
    bench.write("data/queue.db", "this is no database, and somebody needs it, so it must stay as it is\n");

    let answer = bench.run(&["run", "--for", "1s", "--log", "text"]);

    assert_eq!(answer.code, 3, "{answer:?}");
    for text in ["queue/corrupt", "queue.db", "left as it is"] {
        assert!(answer.stderr.contains(text), "{answer:?}");
    }
    let kept = std::fs::read_to_string(bench.path("data/queue.db")).unwrap();
    assert!(kept.starts_with("this is no database"));
}

#[test]
fn a_one_off_whose_time_passed_while_no_daemon_ran_is_run_by_the_next() {
    let bench = Bench::new("");
    let at = Timestamp::from(std::time::SystemTime::now()) + Duration::from_millis(1_500);
    bench.write(
        "scheduler.toml",
        &format!(
            "[tasks.once]\njob = \"exec\"\ntimeout = \"60s\"\ntrigger = {{ at = \"{at}\" }}\n\
             characteristics.durability = \"persistent\"\n\
             args = {{ program = \"echo x >> attempts\", shell = true }}\n"
        ),
    );

    bench.run(&["run", "--for", "500ms"]);
    while std::time::SystemTime::now()
        < std::time::UNIX_EPOCH + Duration::from_millis(at.as_millis().unsigned_abs() + 100)
    {
        std::thread::yield_now();
    }
    bench.run(&["run", "--for", "2s"]);
    bench.run(&["run", "--for", "1s"]);

    assert_eq!(lines_of(&bench.path("attempts")), 1);
}
