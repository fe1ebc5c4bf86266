//! Dead letters: what failed for good is kept, looked at, replayed, held and discarded from outside.

use serde_json::{Value, json};

use crate::bench::{Bench, lines_of};
use crate::outside::{durable, json_of};

/// A task that fails unless the file `mended` is there, and one that always fails.
fn bench() -> Bench {
    let once = "retry = { max_attempts = 1 }";
    let picky =
        "echo \"$SCHEDULER_RUN_ID\" >> attempts; [ -e mended ] || { echo order 4711 lost >&2; exit 3; }";
    Bench::new(&format!("{}{}", durable("picky", picky, once), durable("hopeless", "exit 4", once)))
}

/// Asks for a run of each of these tasks and lets a daemon run them; the ids in the same order.
fn fail(bench: &Bench, tasks: &[&str]) -> Vec<String> {
    let ask = |task: &&str| json_of(bench, &["trigger", task])["run_id"].as_str().unwrap().to_owned();
    let runs = tasks.iter().map(ask).collect();
    serve(bench);
    runs
}

/// A daemon until nothing waits any more.
pub(crate) fn serve(bench: &Bench) {
    let daemon = bench.daemon(&[]);
    let waits = |run: &Value| ["queued", "running", "scheduled"].iter().any(|state| run["state"] == *state);
    let runs = || json_of(bench, &["history", "-n", "100"])["runs"].as_array().unwrap().clone();
    while runs().iter().any(waits) {
        std::thread::yield_now();
    }
    daemon.signal(rustix::process::Signal::TERM);
    let (code, log) = daemon.end();
    assert_eq!(code, 0, "{log}");
}

fn letters(bench: &Bench) -> Vec<Value> {
    json_of(bench, &["dlq", "list"])["letters"].as_array().unwrap().clone()
}

#[test]
fn a_dead_letter_is_replayed_once_and_both_runs_know_of_each_other() {
    let bench = bench();
    let run = fail(&bench, &["picky"]).remove(0);
    let listed = letters(&bench);
    bench.write("mended", "");

    let replayed = json_of(&bench, &["dlq", "replay", &run]);
    let again = bench.run(&["dlq", "replay", &run, "-o", "json"]);
    serve(&bench);

    assert_eq!((listed.len(), &listed[0]["run"]["id"]), (1, &json!(run)));
    assert_eq!(listed[0]["run"]["reason"], "exit code 3: order 4711 lost");
    assert_eq!(listed[0]["error_pattern"], "exit code #: order # lost");
    assert_eq!((&replayed["settled"], &replayed["letters"][0]["result"]), (&json!(1), &json!("replayed")));
    assert_eq!((again.code, &again.json()["error"]["code"]), (4, &json!("dlq/unknown")));
    let told = again.json()["error"]["message"].as_str().unwrap().to_owned();
    let new = replayed["letters"][0]["new_run_id"].as_str().unwrap();
    assert!(told.contains(&format!("it was replayed as {new}, which is queued")), "{told}");
    let (old_run, new_run) = (json_of(&bench, &["show", &run]), json_of(&bench, &["show", new]));
    assert_eq!((&new_run["run"]["state"], &new_run["run"]["replay_of"]), (&json!("succeeded"), &json!(run)));
    assert_eq!(new_run["run"]["fire_time"], old_run["run"]["fire_time"]);
    for shown in [&old_run, &new_run] {
        let ids: Vec<&Value> =
            shown["lineage"].as_array().unwrap().iter().map(|run| &run["run_id"]).collect();
        assert_eq!(ids, [&json!(run), &json!(new)]);
    }
    let (old_text, new_text) = (bench.run(&["show", &run]).stdout, bench.run(&["show", new]).stdout);
    assert!(old_text.contains(&format!("replayed as  {new} (succeeded)")), "{old_text}");
    assert!(new_text.contains(&format!("replay of  {run} (failed)")), "{new_text}");
    assert_eq!((letters(&bench).len(), lines_of(&bench.path("attempts"))), (0, 2));
}

#[test]
fn a_held_letter_is_neither_replayed_nor_taken_by_a_filter_until_it_is_released() {
    let bench = bench();
    let run = fail(&bench, &["hopeless"]).remove(0);

    let held = json_of(&bench, &["dlq", "hold", &run, "--reason", "asked the vendor"]);
    let refused = bench.run(&["dlq", "replay", &run, "-o", "json"]);
    let by_filter = json_of(&bench, &["dlq", "discard", "--all", "--yes"]);
    let shown = bench.run(&["dlq", "show", &run]);
    let released = json_of(&bench, &["dlq", "release", &run]);
    let replayed = json_of(&bench, &["dlq", "replay", &run]);

    assert_eq!((&held["held"], &released["held"]), (&json!("asked the vendor"), &Value::Null));
    assert_eq!((refused.code, &refused.json()["error"]["code"]), (5, &json!("dlq/held")));
    assert!(refused.json()["error"]["help"].as_str().unwrap().contains("dlq release"), "{refused:?}");
    assert_eq!(by_filter["settled"], 0);
    assert!(shown.stdout.contains("held: asked the vendor"), "{shown:?}");
    assert_eq!(replayed["settled"], 1);
    assert_eq!(bench.run(&["dlq", "hold", &run]).code, 2, "without a reason");
}

#[test]
fn a_filter_wants_a_confirmation_and_shows_what_it_would_take() {
    let bench = bench();
    fail(&bench, &["picky", "hopeless", "hopeless"]);

    let unconfirmed = bench.run(&["dlq", "discard", "--task", "hopeless", "-o", "json"]);
    let text = bench.run(&["dlq", "replay", "--all"]);
    let dry = json_of(&bench, &["dlq", "discard", "--task", "hopeless", "--dry-run"]);
    assert_eq!((unconfirmed.code, &unconfirmed.json()["error"]["code"]), (2, &json!("dlq/unconfirmed")));
    assert!(text.stderr.contains("would replay 3 dead letters") && text.stderr.contains("--yes"), "{text:?}");
    assert_eq!((&dry["dry_run"], &dry["settled"], letters(&bench).len()), (&json!(true), &json!(2), 3));

    let discarded = json_of(&bench, &["dlq", "discard", "--task", "hopeless", "--yes"]);
    assert_eq!((&discarded["settled"], letters(&bench).len()), (&json!(2), 1));
    assert_eq!(json_of(&bench, &["history", "--failed"])["runs"].as_array().unwrap().len(), 3);
    let none = json_of(&bench, &["dlq", "replay", "--error", "exit code #", "--yes"]);
    let group = json_of(&bench, &["dlq", "replay", "--error", "exit code #: order # lost", "--yes"]);
    assert_eq!((&none["settled"], &group["settled"]), (&json!(0), &json!(1)));
}

#[test]
fn a_task_that_nobody_knows_is_told_and_one_that_left_something_is_known() {
    let bench = bench();
    fail(&bench, &["picky"]);

    for verb in [&["list"][..], &["list", "--group"], &["replay", "--yes"], &["discard", "--dry-run"]] {
        let unknown = bench.run(&[&["dlq"], verb, &["--task", "pickle", "-o", "json"]].concat());
        let error = &unknown.json()["error"];
        assert_eq!((unknown.code, &error["code"]), (4, &json!("task/unknown")), "{verb:?}: {unknown:?}");
        assert_eq!(error["help"], "did you mean `picky`? tasks: `hopeless`, `picky`", "{verb:?}");
    }
    let none = json_of(&bench, &["dlq", "replay", "--task", "hopeless", "--yes"]);
    assert_eq!(none["settled"], 0, "it is configured");

    bench.write("scheduler.toml", &durable("hopeless", "exit 4", ""));
    let near = bench.run(&["dlq", "replay", "--task", "pickle", "--yes"]);
    assert!(near.stderr.contains("did you mean `picky`?"), "it left a letter: {near:?}");
    assert_eq!(json_of(&bench, &["dlq", "discard", "--task", "picky", "--yes"])["settled"], 1);
    assert_eq!(json_of(&bench, &["dlq", "discard", "--task", "picky", "--yes"])["settled"], 0, "it ran once");
}

#[test]
fn letters_are_grouped_by_what_they_say_and_several_are_settled_as_far_as_it_goes() {
    let bench = bench();
    let runs = fail(&bench, &["hopeless", "picky", "hopeless"]);

    let groups = json_of(&bench, &["dlq", "list", "--group"])["groups"].clone();
    let table = bench.run(&["dlq", "list", "--group"]);
    json_of(&bench, &["dlq", "discard", &runs[0]]);
    let part = bench.run(&["dlq", "discard", &runs[0], &runs[1], "-o", "json"]);

    assert_eq!((&groups[0]["error_pattern"], &groups[0]["letters"]), (&json!("exit code #"), &json!(2)));
    assert_eq!((&groups[0]["tasks"], &groups[1]["letters"]), (&json!(["hopeless"]), &json!(1)));
    assert!(
        table.stdout.contains("LETTERS") && table.stdout.contains("exit code #: order # lost"),
        "{table:?}"
    );
    assert_eq!((part.code, &part.json()["settled"], &part.json()["refused"]), (6, &json!(1), &json!(1)));
}

#[test]
fn what_the_last_durable_task_left_is_looked_after_when_it_is_gone() {
    let bench = bench();
    let runs = fail(&bench, &["hopeless", "picky"]);
    bench.write(
        "scheduler.toml",
        "[tasks.other]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"5s\"\n",
    );

    assert_eq!(letters(&bench).len(), 2);
    assert_eq!(json_of(&bench, &["show", &runs[0]])["dead_letter"]["error_pattern"], "exit code #");
    assert_eq!(json_of(&bench, &["history", "hopeless"])["runs"][0]["id"], json!(runs[0]));
    assert_eq!(json_of(&bench, &["dlq", "discard", &runs[0]])["settled"], 1);
    let replayed = json_of(&bench, &["dlq", "replay", "--all", "--yes"]);
    serve(&bench);

    let new = json_of(&bench, &["show", replayed["letters"][0]["new_run_id"].as_str().unwrap()]);
    let reason = new["run"]["reason"].as_str().unwrap();
    assert!(reason.contains("no task `picky`"), "somebody served it: {new}");
}

/// The answers of a script to replays of these letters while a daemon serves them.
fn replay_beside_a_daemon(bench: &Bench, arguments: &[&str]) -> crate::bench::Answer {
    let daemon = bench.daemon(&[]);
    let answer = bench.run(&[&["dlq", "replay"][..], arguments, &["-o", "json"]].concat());
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.end().0, 0);
    answer
}

#[test]
fn nothing_else_is_replayed_when_the_canary_fails_again() {
    let bench = bench();
    let runs = fail(&bench, &["picky", "picky", "picky"]);

    let all = ["--task", "picky", "--yes", "--canary", "1"];
    let failed = replay_beside_a_daemon(&bench, &all);
    assert_eq!((failed.code, &failed.json()["canary"]), (1, &json!("failed")), "{failed:?}");
    assert_eq!((&failed.json()["settled"], &failed.json()["refused"]), (&json!(1), &json!(2)), "{failed:?}");
    assert_eq!(letters(&bench).len(), 3, "the canary is a letter again");

    bench.write("mended", "");
    let passed = replay_beside_a_daemon(&bench, &[&all[..], &["--rate", "50/s"]].concat());
    assert_eq!((passed.code, &passed.json()["canary"]), (0, &json!("passed")), "{passed:?}");
    assert_eq!((&passed.json()["settled"], letters(&bench).len()), (&json!(3), 0), "{passed:?}");
    serve(&bench);
    let ended = json_of(&bench, &["history", "picky"])["runs"].as_array().unwrap().clone();
    let well = ended.iter().filter(|run| run["state"] == "succeeded").count();
    assert_eq!((well, runs.len()), (3, 3), "{ended:?}");
}

#[test]
fn a_canary_that_nobody_runs_is_given_up_and_a_rate_is_kept() {
    let bench = bench();
    fail(&bench, &["picky", "picky", "picky"]);

    let late = bench.run(&["dlq", "replay", "--all", "--yes", "--canary", "1", "--timeout", "200ms"]);
    assert_eq!(late.code, 124, "{late:?}");
    assert!(late.stderr.contains("2 dead letters left alone"), "{late:?}");
    let began = std::time::Instant::now();
    let paced = json_of(&bench, &["dlq", "replay", "--all", "--yes", "--rate", "1/s"]);
    assert_eq!(paced["settled"], 2);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "one a second: {:?}", began.elapsed());
    assert_eq!(bench.run(&["dlq", "replay", "--all", "--rate", "0/s"]).code, 2);
}

#[cfg(feature = "queue-redis")]
#[test]
fn a_canary_is_waited_for_while_redis_is_started_again_and_named_when_it_is_gone() {
    let mut redis = crate::redis::Redis::start();
    let picky = durable("picky", "[ -e mended ] || exit 3", "retry = { max_attempts = 1 }");
    let bench = Bench::new(&format!("{}{picky}", redis.settings()));
    fail(&bench, &["picky", "picky", "picky"]);
    bench.write("mended", "");
    // What is sent ahead, and waited for in another thread.
    let canary = |timeout: &str| {
        let all = ["dlq", "replay", "--all", "--yes", "--canary", "1", "--timeout", timeout, "-o", "json"];
        let command = bench.command(&all);
        let asking = std::thread::spawn(|| crate::bench::Answer::of(command));
        let newest = || json_of(&bench, &["history", "-n", "100"])["runs"].as_array().unwrap().clone();
        loop {
            if let Some(run) = newest().iter().find(|run| run["state"] == "queued") {
                return (run["id"].as_str().unwrap().to_owned(), asking);
            }
        }
    };

    let (_, asking) = canary("60s");
    redis.start_again();
    serve(&bench);
    let through = asking.join().unwrap();
    assert_eq!((through.code, &through.json()["canary"]), (0, &json!("passed")), "{through:?}");
    serve(&bench);
    std::fs::remove_file(bench.path("mended")).unwrap();
    fail(&bench, &["picky"]);
    let (run, asking) = canary("2s");
    drop(redis);

    let lost = asking.join().unwrap();
    let error = &lost.json()["error"];
    assert_eq!((lost.code, &error["code"]), (124, &json!("dead_letters/canary_unknown")), "{lost:?}");
    let told = error["message"].as_str().unwrap();
    assert!(told.contains(&run) && told.contains("cannot be reached"), "{told}");
    assert!(error["help"].as_str().unwrap().contains("scheduler show"), "{lost:?}");
}

#[test]
fn a_letter_is_replayed_with_other_parameters_and_keeps_its_own() {
    let once = "retry = { max_attempts = 1 }";
    let script = "[ \"$SCHEDULER_PARAM_ORDER\" = 4712 ] || exit 3";
    let bench = Bench::new(&durable("orders", script, once));
    let ask = ["trigger", "orders", "--param", "order=4711", "--param", "note=x"];
    let run = json_of(&bench, &ask)["run_id"].as_str().unwrap().to_owned();
    serve(&bench);

    assert_eq!(bench.run(&["dlq", "replay", &run, "--params", "[1]"]).code, 2, "no object");
    let deep = format!("{{\"k\": {}{}}}", "[".repeat(110), "]".repeat(110));
    let refused = bench.run(&["dlq", "replay", &run, "--params", &deep, "-o", "json"]);
    assert_eq!((refused.code, &refused.json()["error"]["code"]), (2, &json!("queue/params_too_deep")));
    let many = bench.run(&["dlq", "replay", "--all", "--yes", "--param", "order=1"]);
    assert_eq!(many.code, 2, "one at a time: {many:?}");
    let edit = ["dlq", "replay", &run, "--param", "order=4712", "--unset", "note"];
    let replayed = json_of(&bench, &edit);
    serve(&bench);

    let new = replayed["letters"][0]["new_run_id"].as_str().unwrap();
    let (old_run, new_run) = (json_of(&bench, &["show", &run]), json_of(&bench, &["show", new]));
    assert_eq!(new_run["run"]["state"], "succeeded", "{new_run}");
    assert_eq!(
        (&new_run["run"]["params"], &new_run["run"]["replay_of"]),
        (&json!({"order": 4712}), &json!(run))
    );
    assert_eq!(old_run["run"]["params"], json!({"order": 4711, "note": "x"}));
    assert_eq!(bench.run(&[&edit[..], &["-o", "json"]].concat()).code, 4, "once");
}
