//! The verbs that act on what a durable tier keeps, with a daemon and without one.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Daemon, lines_of};
use crate::daemon::appears;

/// A durable task that runs when it is asked to.
pub(crate) fn durable(name: &str, script: &str, more: &str) -> String {
    format!(
        "[tasks.{name}]\njob = \"exec\"\ntier = \"queue\"\ntimeout = \"60s\"\n{more}\n\
         [tasks.{name}.args]\nshell = true\nprogram = '''{script}'''\n"
    )
}

pub(crate) fn json_of(bench: &Bench, arguments: &[&str]) -> Value {
    let answer = bench.run(&[arguments, &["-o", "json"]].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.json()
}

pub(crate) fn code(answer: &Answer) -> (i32, String) {
    (answer.code, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_run_that_was_asked_for_without_a_daemon_is_run_once_by_the_next() {
    let bench = Bench::new(&durable("invoice", "echo \"$SCHEDULER_PARAM_ORDER\" >> attempts", ""));
    let ask = ["trigger", "invoice", "--key", "order 4711", "--param", "order=4711"];

    let first = json_of(&bench, &ask);
    let again = json_of(&bench, &ask);
    let run = first["run_id"].as_str().unwrap();
    let waiting = json_of(&bench, &["show", run]);
    bench.run(&["run", "--for", "2s"]);
    let after = json_of(&bench, &ask);
    let shown = json_of(&bench, &["show", run]);
    let text = bench.run(&["show", run]);

    assert_eq!((&first["enqueued"], &again["enqueued"]), (&json!("inserted"), &json!("duplicate")));
    assert_eq!((&again["run_id"], &after["run_id"]), (&first["run_id"], &first["run_id"]));
    assert_eq!((&first["backend"], &first["tier"]), (&json!("queue"), &json!("queue")));
    assert_eq!(
        (&waiting["run"]["state"], &waiting["run"]["params"]),
        (&json!("queued"), &json!({"order": 4711}))
    );
    assert_eq!((&shown["run"]["state"], &shown["run"]["origin"]), (&json!("succeeded"), &json!("manual")));
    assert_eq!((&shown["dead_letter"], &shown["lineage"][0]["run_id"]), (&Value::Null, &json!(run)));
    assert_eq!(std::fs::read_to_string(bench.path("attempts")).unwrap(), "4711\n");
    for part in [run, "invoice", "queue (backend queue)", "succeeded", "manual", "\"order\": 4711"] {
        assert!(text.stdout.contains(part), "{part} in {text:?}");
    }
}

#[test]
fn who_waits_for_a_run_gets_its_end_as_the_exit_code() {
    let retry = "retry = { max_attempts = 1 }";
    let bench = Bench::new(
        &[
            durable("good", "echo fine", ""),
            durable("bad", "echo no luck >&2; exit 3", retry),
            durable("long", "exec sleep 600", ""),
        ]
        .concat(),
    );
    let mut daemon = bench.daemon(&[]);
    daemon.line(&["3 tasks"]);

    let good = bench.run(&["trigger", "good", "--wait", "-o", "json"]);
    let bad = bench.run(&["trigger", "bad", "--wait"]);
    let long = bench.run(&["trigger", "long", "--wait", "--timeout", "300ms", "-o", "json"]);

    assert_eq!((good.code, &good.json()["run"]["output"]["stdout"]), (0, &json!("fine\n")), "{good:?}");
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(
        bad.stdout.contains("bad failed after") && bad.stdout.contains("exit code 3: no luck"),
        "{bad:?}"
    );
    assert_eq!(long.code, 124, "{long:?}");
    assert!(["queued", "running"].iter().any(|state| long.json()["run"]["state"] == *state), "{long:?}");
}

#[test]
fn a_run_begins_when_it_is_due() {
    let bench = Bench::new(&durable("invoice", "echo x >> attempts", ""));

    let later = json_of(&bench, &["trigger", "invoice", "--in", "1h", "--priority", "9"]);
    bench.run(&["run", "--for", "1s"]);

    let shown = json_of(&bench, &["show", later["run_id"].as_str().unwrap()]);
    assert_eq!(shown["run"]["state"], "scheduled");
    assert_eq!(lines_of(&bench.path("attempts")), 0);
    for flags in
        [["--priority", "10"], ["--at", "noon"], ["--in", "soon"], ["--param", "x"], ["--timeout", "1s"]]
    {
        let refused = bench.run(&["trigger", "invoice", flags[0], flags[1]]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(flags[0]), "{refused:?}");
    }
}

#[test]
fn a_task_whose_time_has_passed_can_still_be_asked_for() {
    let trigger = "trigger = { at = \"2020-01-01T00:00:00Z\" }";
    let bench = Bench::new(&durable("once", "echo x >> attempts", trigger));
    json_of(&bench, &["trigger", "once"]);

    bench.run(&["run", "--for", "2s"]);

    assert_eq!(lines_of(&bench.path("attempts")), 1);
}

#[test]
fn a_task_of_this_process_is_refused_with_what_to_do() {
    let bench = Bench::new("[tasks.beat]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"5s\"\n");

    let text = bench.run(&["trigger", "beat"]);
    let json = bench.run(&["trigger", "beat", "-o", "json"]);
    let unknown = bench.run(&["trigger", "bead", "-o", "json"]);

    assert!(
        text.stderr.contains("scheduler exec beat") && text.stderr.contains("tier = \"queue\""),
        "{text:?}"
    );
    assert_eq!((text.code, code(&json)), (3, (3, "backend/not_kept_outside".to_owned())));
    assert_eq!(code(&unknown), (4, "task/unknown".to_owned()));
    assert_eq!(bench.files(), ["scheduler.toml"]);
}

#[test]
fn who_only_looks_makes_nothing() {
    let bench = Bench::new(&durable("invoice", "true", ""));
    let run = "01kdn4xt2v8d5q0z9w7r3y6mba";

    assert_eq!(json_of(&bench, &["history"])["runs"], json!([]));
    assert_eq!(json_of(&bench, &["list"])["tasks"][0]["result"], Value::Null);
    assert_eq!(json_of(&bench, &["dlq", "list"])["letters"], json!([]));
    assert_eq!(json_of(&bench, &["dlq", "replay", "--all"])["settled"], 0);
    let unknown = "run/unknown".to_owned();
    for verb in ["show", "cancel"] {
        assert_eq!(code(&bench.run(&[verb, run, "-o", "json"])), (4, unknown.clone()), "{verb}");
    }
    for verb in ["show", "replay", "discard", "release"] {
        assert_eq!(
            code(&bench.run(&["dlq", verb, run, "-o", "json"])),
            (4, "dlq/unknown".to_owned()),
            "{verb}"
        );
    }
    assert_eq!(bench.run(&["show", "short"]).code, 2);

    assert_eq!(bench.files(), ["scheduler.toml"]);
}

#[test]
fn a_waiting_run_that_is_cancelled_never_starts_and_one_that_ended_stays_as_it_is() {
    let bench = Bench::new(&durable("invoice", "echo x >> attempts", ""));
    let ask = |bench: &Bench| json_of(bench, &["trigger", "invoice"])["run_id"].as_str().unwrap().to_owned();
    let (waiting, other) = (ask(&bench), ask(&bench));

    let prevented = json_of(&bench, &["cancel", &waiting]);
    let again = json_of(&bench, &["cancel", &waiting]);
    bench.run(&["run", "--for", "2s"]);
    let ended = bench.run(&["cancel", &other, "-o", "json"]);

    assert_eq!((&prevented["cancelled"], &prevented["state"]), (&json!("prevented"), &json!("cancelled")));
    assert_eq!((&again["cancelled"], &again["state"]), (&json!("already_finished"), &json!("cancelled")));
    assert_eq!((ended.code, &ended.json()["cancelled"]), (5, &json!("already_finished")));
    assert_eq!(lines_of(&bench.path("attempts")), 1);
}

#[test]
fn a_run_under_way_in_another_process_hears_that_it_is_cancelled() {
    let lease = "[backends.local]\n[backends.queue]\nlease = \"1s\"\n";
    let bench = Bench::new(&format!("{lease}{}", durable("long", "echo x > began; exec sleep 600", "")));
    let mut daemon = bench.daemon(&[]);
    let run = json_of(&bench, &["trigger", "long"])["run_id"].as_str().unwrap().to_owned();
    daemon.line(&["long", "started"]);
    appears(&bench.path("began"));

    let answer = json_of(&bench, &["cancel", &run]);

    assert_eq!(answer["cancelled"], "requested");
    daemon.line(&["long", "cancelled"]);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().0, 0);
    assert_eq!(json_of(&bench, &["show", &run])["run"]["state"], "cancelled");
}

#[test]
fn what_does_not_answer_is_said_and_ends_what_needs_it() {
    let away = "[backends.local]\n[backends.queue]\nurl = \"sqlite:queue.db\"\n";
    let bench = Bench::new(&format!("{away}{}", durable("invoice", "true", "")));
    std::fs::create_dir_all(bench.path("data")).unwrap();
    bench.write("data/queue.db", "this is no queue\n");
    let verbs: [&[&str]; 5] =
        [&["history"], &["list"], &["dlq", "list"], &["trigger", "invoice"], &["enqueue", "invoice"]];
    for verb in verbs {
        let answer = bench.run(&[verb, &["-o", "json"]].concat());
        assert_eq!(code(&answer), (2, "queue/corrupt".to_owned()), "{verb:?}");
    }

    let optional = "[backends.local]\n[backends.queue]\nrequired = false\n";
    bench.write("scheduler.toml", &format!("{optional}{}", durable("invoice", "true", "")));
    let history = bench.run(&["history", "-o", "json"]);
    let letters = bench.run(&["dlq", "list", "-o", "json"]);

    assert_eq!((history.code, &history.json()["runs"]), (0, &json!([])));
    assert!(history.stderr.contains("warning[backend/down]: backend `queue` does not answer"), "{history:?}");
    assert_eq!(code(&letters), (3, "backend/down".to_owned()));
    assert_eq!(std::fs::read_to_string(bench.path("data/queue.db")).unwrap(), "this is no queue\n");
}

#[cfg(feature = "queue-redis")]
#[test]
fn a_wait_goes_on_while_redis_is_started_again_and_names_the_run_when_it_is_gone() {
    let mut redis = crate::redis::Redis::start();
    let bench = Bench::new(&format!("{}{}", redis.settings(), durable("invoice", "true", "")));
    let wait = |arguments: &[&str]| {
        let mut command =
            bench.command(&[&["trigger", "invoice", "--wait", "-o", "json"], arguments].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let is_taken = || json_of(&bench, &["history", "invoice"])["runs"][0]["state"] == "queued";
        while !is_taken() {}
        std::thread::spawn(move || child.wait_with_output().unwrap())
    };

    let waited = wait(&[]);
    redis.start_again();
    bench.run(&["run", "--for", "3s"]);
    let through = waited.join().unwrap();
    let lost = wait(&["--timeout", "2s"]);
    let run = json_of(&bench, &["history", "invoice"])["runs"][0]["id"].as_str().unwrap().to_owned();
    drop(redis);
    let lost = lost.join().unwrap();

    assert_eq!(through.status.code(), Some(0), "{through:?}");
    assert_eq!(lost.status.code(), Some(124), "{lost:?}");
    let told = String::from_utf8(lost.stdout).unwrap();
    assert!(told.contains(&format!("run {run} was taken, and cannot be followed")), "{told}");
    assert!(told.contains("queue/unreachable"), "{told}");
}

#[cfg(feature = "queue-redis")]
#[test]
fn a_password_that_comes_in_a_pipe_is_read_once_by_whoever_needs_it() {
    use std::io::Write as _;
    let redis = crate::redis::Redis::start();
    redis.order("CONFIG SET requirepass canary");
    let settings = format!("{}password = {{ file = \"/dev/stdin\" }}\n", redis.settings());
    let bench = Bench::new(&format!("{settings}{}", durable("invoice", "true", "")));
    let command = |password: &str, arguments: &[&str]| {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(password.as_bytes()).unwrap();
        drop(write);
        let mut command = bench.command(arguments);
        command.stdin(read);
        command
    };
    let with = |password: &str, arguments: &[&str]| Answer::of(command(password, arguments));

    let checked = with("", &["check"]);
    assert!(!checked.stderr.contains("secret/missing"), "what is in a pipe is left there: {checked:?}");
    let daemon = Daemon::of(command("canary", &["run", "--log", "text"]));
    let ran = with("canary\n", &["trigger", "invoice", "--wait", "--timeout", "60s", "-o", "json"]);
    daemon.signal(Signal::TERM);
    let served = daemon.end();
    let refused = with("wrong", &["queues", "-o", "json"]);

    assert_eq!((served.0, &ran.json()["run"]["state"]), (0, &json!("succeeded")), "{served:?} {ran:?}");
    assert_eq!(code(&refused), (3, "queue/refused".to_owned()), "{refused:?}");
    for told in [format!("{checked:?}"), format!("{ran:?}"), format!("{served:?}"), format!("{refused:?}")] {
        assert!(!told.contains("canary"), "{told}");
    }
}
