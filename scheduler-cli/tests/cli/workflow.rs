//! The workflow tier as far as it goes without an engine: what is refused, what is told, what is installed.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::bench::Bench;

const TASK: &str = "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntier = \"workflow\"\ntimeout = \"1m\"\n\
                    trigger = { cron = \"30 2 * * *\" }\n";

/// A port on which nobody listens.
fn silent_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn with_section(more: &str, task: &str) -> Bench {
    let port = silent_port();
    Bench::new(&format!("[backends.workflow]\nurl = \"http://127.0.0.1:{port}/api\"\n{more}{task}"))
}

#[test]
fn an_engine_that_does_not_answer_ends_the_verbs_that_need_it_with_3() {
    let bench = with_section("", TASK);

    assert_eq!(bench.run(&["check"]).code, 0, "a configuration is sound without its server");
    let run = "01kdn4xt2v8d5q0z9w7r3y6mba";
    let verbs: [&[&str]; 7] = [
        &["plan"],
        &["plan", "-o", "json"],
        &["plan", "--apply"],
        &["trigger", "a"],
        &["show", run],
        &["cancel", run],
        &["logs", run],
    ];
    for verb in verbs {
        let answer = bench.run(verb);
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
    }
}

/// A task of another tier, which says that it ran.
const LOCAL: &str = "[backends.local]\n[tasks.b]\njob = \"exec\"\ntimeout = \"50ms\"\n\
                     args = { program = \"touch\", args = [\"ran\"] }\ntrigger = { every = \"100ms\" }\n";

#[test]
fn an_engine_that_does_not_answer_keeps_no_other_tier_waiting() {
    let bench = with_section("", &format!("{TASK}{LOCAL}"));

    let daemon = bench.run(&["run", "--for", "1s", "--log", "text"]);
    let history = bench.run(&["history"]);

    assert_eq!(daemon.code, 0, "{daemon:?}");
    assert!(daemon.stderr.contains("workflow"), "it is told: {daemon:?}");
    assert!(bench.path("ran").exists(), "{daemon:?}");
    assert!(history.code == 0 && history.stdout.contains("succeeded"), "{history:?}");
    assert!(history.stderr.contains("backend/down"), "{history:?}");
}

#[test]
fn an_engine_that_takes_calls_and_says_nothing_keeps_no_other_tier_waiting() {
    // The system takes the connections, and nobody ever reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api", silent.local_addr().unwrap());
    let bench = Bench::new(&format!("[backends.workflow]\nurl = \"{url}\"\ntimeout = \"1h\"\n{TASK}{LOCAL}"));

    let mut daemon = bench.daemon(&[]);
    daemon.line(&["b", "succeeded"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
}

#[test]
fn who_needs_the_engine_can_say_so() {
    let bench = with_section("required = true\n", TASK);

    let answer = bench.run(&["run", "--for", "1s", "--log", "text"]);

    assert_eq!(answer.code, 3, "{answer:?}");
}

#[test]
fn without_a_task_or_a_section_there_is_nothing_to_plan() {
    let bench = Bench::new("[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"1m\"\n");

    let answer = bench.run(&["plan"]);
    let json = bench.run(&["plan", "-o", "json"]).json();

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.starts_with("nothing to plan"), "{answer:?}");
    assert_eq!((&json["schema_version"], &json["changes"]), (&1.into(), &0.into()));
}

#[test]
fn a_task_on_the_tier_without_a_section_learns_what_to_write() {
    let answer = Bench::new(TASK).run(&["check"]);

    assert_eq!(answer.code, 2);
    for text in ["placement/no_backend", "[backends.workflow]", "http://127.0.0.1:4200/api"] {
        assert!(answer.stderr.contains(text), "{answer:?}");
    }
}

#[test]
fn who_fires_a_task_is_one_of_two_words_and_matters_on_the_tier_only() {
    let fired = |by: &str| TASK.replace("tier = ", &format!("fired_by = \"{by}\"\ntier = "));
    for by in ["engine", "scheduler"] {
        let bench = with_section("", &fired(by));
        assert_eq!(bench.run(&["check"]).code, 0, "{by}");
        let explained = bench.run(&["explain", "a"]).stdout;
        assert!(explained.contains(&format!("fired_by       {by}")), "{explained}");
    }
    assert!(with_section("", TASK).run(&["explain", "a"]).stdout.contains("fired_by       engine (default)"));
    let unknown = with_section("", &fired("daemon")).run(&["check"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("`engine`, `scheduler`"), "{unknown:?}");

    let moved = Bench::new(&fired("scheduler").replace("\"workflow\"", "\"queue\""));
    let answer = moved.run(&["check"]);
    assert_eq!(answer.code, 0, "one word moves a task: {answer:?}");
    assert!(answer.stderr.contains("task/unused_key"), "{answer:?}");
    assert_eq!(moved.run(&["check", "--strict"]).code, 1);
}

#[test]
fn a_secret_of_the_section_is_a_place_and_never_shown() {
    let bench = with_section("api_key = { env = \"PREFECT_KEY\" }\n", TASK);

    let shown = bench.run(&["config", "show"]);

    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("PREFECT_KEY"), "the place is shown: {shown:?}");
    let bench = with_section("api_key = \"hunter2\"\n", TASK);
    for verb in [&["check"][..], &["config", "show"], &["plan"]] {
        let answer = bench.run(verb);
        assert!(!answer.stdout.contains("hunter2") && !answer.stderr.contains("hunter2"), "{answer:?}");
    }
    assert_eq!(bench.run(&["check"]).code, 2);
}

#[test]
fn the_flow_is_installed_once_and_nothing_of_others_is_replaced() {
    let bench = Bench::new("");
    let flow = bench.path("flows/scheduler_flow.py");
    let install = ["workflow", "install", "--to", "flows"];

    let first = bench.run(&install);
    assert_eq!(first.code, 0, "{first:?}");
    let written = std::fs::read_to_string(&flow).unwrap();
    assert!(written.contains("@flow") && written.contains("exec"), "{written}");
    for text in ["prefect worker start", "work-pool create", "[backends.workflow]", "flow_folder", "flows"] {
        assert!(first.stdout.contains(text), "no {text}: {first:?}");
    }

    let again = bench.run(&install);
    assert!(again.code == 0 && again.stdout.starts_with("up to date"), "{again:?}");

    std::fs::write(&flow, "# mine").unwrap();
    let refused = bench.run(&install);
    assert_eq!(
        (refused.code, std::fs::read_to_string(&flow).unwrap().as_str()),
        (5, "# mine"),
        "{refused:?}"
    );
    assert_eq!(bench.run(&["workflow", "install", "--to", "flows", "--force"]).code, 0);
    assert_eq!(std::fs::read_to_string(&flow).unwrap(), written);
}

#[test]
fn the_flow_is_installed_where_the_configuration_looks_for_it() {
    let bench = with_section("", TASK);

    let answer = bench.run(&["workflow", "install"]);

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(bench.path("data/workflow/scheduler_flow.py").exists(), "{:?}", bench.files());
    assert!(!answer.stdout.contains("flow_folder"), "nothing needs to be set: {answer:?}");
}

#[test]
fn what_an_engine_does_in_another_way_is_warned_of_and_what_it_cannot_do_is_refused() {
    let with = |more: &str| with_section("", &format!("{TASK}{more}")).run(&["check"]);

    let warned = with("");
    assert!(warned.code == 0 && warned.stderr.contains("workflow/misfire_by_engine"), "{warned:?}");

    let refusals = [
        ("overlap = \"cancel_other\"\n", "overlap"),
        ("misfire = { policy = \"all\", max = 3 }\n", "misfire"),
    ];
    for (policy, key) in refusals {
        let refused = with(policy);
        assert_eq!(refused.code, 2, "{policy}: {refused:?}");
        assert!(refused.stderr.contains("workflow/not_keepable"), "{refused:?}");
        assert!(
            refused.stderr.contains(key) && refused.stderr.contains("fired_by = \"scheduler\""),
            "{refused:?}"
        );

        let ours = with(&format!("{policy}fired_by = \"scheduler\"\n"));
        assert_eq!(ours.code, 0, "{policy}: {ours:?}");
    }
    let seconds = TASK.replace("30 2 * * *", "*/10 0 2 * * *");
    let refused = with_section("", &seconds).run(&["check"]);
    assert!(refused.code == 2 && refused.stderr.contains("workflow/not_keepable"), "{refused:?}");
}
