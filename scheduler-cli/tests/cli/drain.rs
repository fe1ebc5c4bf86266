//! Draining before maintenance, from another shell than the daemon's.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench};

/// A task in a queue of its own that runs until a file is there, and one that ends at once.
fn bench() -> Bench {
    bench_on("[backends.queue]\n")
}

/// The same on a durable tier with these settings.
fn bench_on(settings: &str) -> Bench {
    let task = |name: &str, script: &str| {
        format!(
            "[tasks.{name}]\njob = \"exec\"\ntimeout = \"60s\"\ntier = \"queue\"\noverlap = \"allow\"\nqueue = \"mail\"\n\
             args = {{ shell = true, program = '{script}' }}\n"
        )
    };
    Bench::new(&format!(
        "{settings}lease = \"1s\"\n[backends.queue.queues]\nmail = {{}}\n{}{}",
        task("slow", "echo $$ > began; until [ -e go ]; do sleep 0.05; done"),
        task("letter", "echo letter >> letters"),
    ))
}

fn json_of(bench: &Bench, arguments: &[&str]) -> (i32, Value) {
    let answer = bench.run(&[arguments, &["-o", "json"]].concat());
    (answer.code, answer.json())
}

/// Triggers the slow task and waits until it has begun; its run.
fn begin(bench: &Bench) -> Value {
    let run = json_of(bench, &["trigger", "slow"]).1["run_id"].clone();
    crate::daemon::appears(&bench.path("began"));
    run
}

#[test]
fn a_queue_that_is_drained_lets_what_runs_end_and_nothing_begin() {
    let bench = bench();
    let daemon = bench.daemon(&[]);
    let run = begin(&bench);

    let (code, late) = json_of(&bench, &["drain", "--queue", "mail", "--by", "ana", "--timeout", "300ms"]);
    assert_eq!((code, &late["drained"], &late["running"]), (124, &json!(false), &json!(1)), "{late}");
    assert_eq!(late["still"][0]["id"], run, "{late}");
    assert_eq!((&late["paused"]["by"], &late["paused"]["reason"]), (&json!("ana"), &json!("drain")));
    let letter = json_of(&bench, &["trigger", "letter"]).1["run_id"].as_str().unwrap().to_owned();
    bench.write("go", "");
    let (code, drained) = json_of(&bench, &["drain", "--queue", "mail", "--reason", "kernel"]);

    assert_eq!((code, &drained["drained"], &drained["waiting"]), (0, &json!(true), &json!(1)), "{drained}");
    assert_eq!(json_of(&bench, &["show", run.as_str().unwrap()]).1["run"]["state"], "succeeded");
    assert_eq!(json_of(&bench, &["show", &letter]).1["run"]["state"], "queued");
    let queues = bench.run(&["queues"]).stdout;
    assert!(queues.contains("drain: kernel"), "{queues}");
    json_of(&bench, &["resume", "--queue", "mail"]);
    assert_eq!(json_of(&bench, &["trigger", "letter", "--wait"]).1["run"]["state"], "succeeded");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, 0);
}

#[cfg(feature = "queue-redis")]
#[test]
fn a_drain_goes_on_while_redis_is_started_again_and_says_that_the_queue_is_paused_when_it_is_gone() {
    let mut redis = crate::redis::Redis::start();
    let bench = bench_on(&redis.settings());
    let daemon = bench.daemon(&[]);
    begin(&bench);
    let is_paused = || {
        let queues = json_of(&bench, &["queues"]).1;
        let mut queues = queues["queues"].as_array().unwrap().iter();
        queues.any(|queue| queue["queue"] == "mail" && !queue["paused"].is_null())
    };
    let drain = |timeout: &str| {
        let command = bench.command(&["drain", "--queue", "mail", "--timeout", timeout, "-o", "json"]);
        let asking = std::thread::spawn(|| Answer::of(command));
        while !is_paused() {}
        asking
    };

    let asking = drain("60s");
    redis.start_again();
    bench.write("go", "");
    let through = asking.join().unwrap();
    assert_eq!((through.code, &through.json()["drained"]), (0, &json!(true)), "{through:?}");
    json_of(&bench, &["resume", "--queue", "mail"]);
    std::fs::remove_file(bench.path("go")).unwrap();
    std::fs::remove_file(bench.path("began")).unwrap();
    begin(&bench);
    let asking = drain("2s");
    drop(redis);

    let lost = asking.join().unwrap();
    let error = &lost.json()["error"];
    assert_eq!((lost.code, &error["code"]), (124, &json!("queue/drain_unknown")), "{lost:?}");
    let told = error["message"].as_str().unwrap();
    assert!(told.starts_with("queue `mail` is paused, and whether it is drained cannot be told: "), "{told}");
    assert!(error["help"].as_str().unwrap().contains("scheduler resume --queue"), "{lost:?}");
    bench.write("go", "");
    daemon.signal(Signal::TERM);
    daemon.end();
}

#[test]
fn a_daemon_that_is_drained_ends_when_what_runs_has_ended() {
    let bench = bench();
    let (code, none) = json_of(&bench, &["drain", "--daemon"]);
    assert_eq!((code, &none["error"]["code"]), (3, &json!("daemon/not_running")), "{none}");
    let mut daemon = bench.daemon(&[]);
    begin(&bench);

    let command = bench.command(&["drain", "--daemon", "--by", "ana", "--reason", "kernel", "-o", "json"]);
    let asking = std::thread::spawn(|| Answer::of(command));
    daemon.line(&["a drain was asked for by ana: kernel: stopping"]);
    json_of(&bench, &["trigger", "letter"]);
    bench.write("go", "");
    let (code, log) = daemon.end();

    let answer = asking.join().unwrap();
    assert_eq!((code, answer.code), (0, 0), "{answer:?}\n{log}");
    let told = answer.json();
    assert_eq!((&told["drained"], &told["finished"]), (&json!(true), &json!(1)), "{told}");
    assert!(!bench.path("letters").exists(), "nothing began: {log}");
}

#[test]
fn a_daemon_that_is_drained_cuts_off_what_outlasts_the_time_and_names_it() {
    let bench = bench();
    let daemon = bench.daemon(&[]);
    let run = begin(&bench);

    let answer = bench.run(&["drain", "--daemon", "--timeout", "300ms"]);
    let (code, log) = daemon.end();

    assert_eq!((code, answer.code), (1, 124), "{answer:?}\n{log}");
    assert!(answer.stdout.contains("1 abandoned"), "{answer:?}");
    assert!(answer.stdout.contains(run.as_str().unwrap()), "{answer:?}");
    let run = json_of(&bench, &["show", run.as_str().unwrap()]).1;
    assert_eq!((&run["run"]["state"], &run["run"]["attempt"]), (&json!("queued"), &json!(0)), "{run}");
}

#[test]
fn a_signal_leaves_a_daemon_that_is_drained_its_grace_and_a_later_wish_bounds_it() {
    let bench = bench();
    let mut daemon = bench.daemon(&[]);
    begin(&bench);
    let command = bench.command(&["drain", "--daemon", "-o", "json"]);
    let asking = std::thread::spawn(|| Answer::of(command));
    daemon.line(&["a drain was asked for by ", ": stopping"]);
    daemon.signal(Signal::TERM);
    daemon.line(&["SIGTERM: at most"]);
    bench.write("go", "");
    let (code, log) = daemon.end();
    let answer = asking.join().unwrap();
    assert_eq!((code, answer.code), (0, 0), "{answer:?}\n{log}");

    std::fs::remove_file(bench.path("go")).unwrap();
    std::fs::remove_file(bench.path("began")).unwrap();
    let mut daemon = bench.daemon(&[]);
    begin(&bench);
    let command = bench.command(&["drain", "--daemon"]);
    let asking = std::thread::spawn(|| Answer::of(command));
    daemon.line(&["a drain was asked for by ", ": stopping"]);
    let bounded = bench.run(&["drain", "--daemon", "--timeout", "300ms"]);
    let (code, log) = daemon.end();
    assert_eq!((code, bounded.code, asking.join().unwrap().code), (1, 124, 124), "{bounded:?}\n{log}");
}

#[test]
fn what_is_to_be_drained_is_named() {
    let bench = bench();
    assert_eq!(bench.run(&["drain"]).code, 2);
    assert_eq!(bench.run(&["drain", "--queue", "mail", "--daemon"]).code, 2);
    let unknown = json_of(&bench, &["drain", "--queue", "post"]);
    assert_eq!((unknown.0, &unknown.1["error"]["code"]), (4, &json!("queue/unknown_queue")));
}
