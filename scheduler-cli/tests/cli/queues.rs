//! Queues of the durable tier, held from a third shell beside two daemons that share them.

use serde_json::{Value, json};

use crate::bench::{Answer, Bench, Daemon};

/// Two tasks that note their runs, one of them in a queue of its own, and one that runs until it is ended.
fn bench() -> Bench {
    let bench = Bench::new("");
    let url = format!("sqlite:{}", bench.path("shared.db").display());
    let task = |name: &str, more: &str, script: &str| {
        format!(
            "[tasks.{name}]\njob = \"exec\"\ntimeout = \"60s\"\ntier = \"queue\"\noverlap = \"allow\"\n{more}\n\
             args = {{ shell = true, program = '{script}' }}\n"
        )
    };
    let config = format!(
        "[backends.queue]\nurl = \"{url}\"\nlease = \"1s\"\n[backends.queue.queues]\nmail = {{ weight = 3 }}\n{}{}{}",
        task("letter", "queue = \"mail\"", "echo letter >> letters"),
        task("note", "", "echo note >> notes"),
        task("long", "", "echo $$ > long.pid; exec sleep 600"),
    );
    bench.write("scheduler.toml", &config);
    bench
}

fn daemon(bench: &Bench, data_dir: &str) -> Daemon {
    let mut command = bench.command(&["run", "--log", "text"]);
    command.env("SCHEDULER_SCHEDULER__DATA_DIR", data_dir);
    Daemon::of(command)
}

fn told(bench: &Bench, arguments: &[&str]) -> Value {
    let answer = bench.run(&[arguments, &["-o", "json"]].concat());
    assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
    answer.json()
}

/// How a queue stands.
fn standing(bench: &Bench, queue: &str) -> Value {
    let queues = told(bench, &["queues"]);
    queues["queues"].as_array().unwrap().iter().find(|other| other["queue"] == queue).unwrap().clone()
}

#[test]
fn a_queue_that_is_paused_from_a_third_shell_is_left_alone_by_every_daemon() {
    let bench = bench();
    let (mut one, mut two) = (daemon(&bench, "one"), daemon(&bench, "two"));
    one.line(&["3 tasks"]);
    two.line(&["3 tasks"]);

    let paused = ["pause", "--queue", "mail", "--by", "ana", "--reason", "provider is down", "--for", "1h"];
    assert_eq!(told(&bench, &paused)["backends"], json!(["queue"]));
    for daemon in [&mut one, &mut two] {
        daemon.line(&["queue `mail` is paused by ana until", "provider is down"]);
    }
    let letter = told(&bench, &["trigger", "letter"])["run_id"].as_str().unwrap().to_owned();
    let others = (0..20).map(|_| told(&bench, &["trigger", "note", "--wait"]));
    assert!(others.into_iter().all(|note| note["run"]["state"] == "succeeded"));

    let mail = standing(&bench, "mail");
    assert_eq!((&mail["waiting"], &mail["running"], &mail["weight"]), (&json!(1), &json!(0), &json!(3)));
    assert_eq!(
        (&mail["paused"]["by"], &mail["paused"]["reason"]),
        (&json!("ana"), &json!("provider is down"))
    );
    let waiting = told(&bench, &["show", &letter]);
    assert_eq!((&waiting["run"]["state"], &waiting["run"]["queue"]), (&json!("queued"), &json!("mail")));
    assert!(!bench.path("letters").exists());

    told(&bench, &["resume", "--queue", "mail"]);
    one.line(&["queue `mail` is no longer paused"]);
    two.line(&["queue `mail` is no longer paused"]);
    assert_eq!(told(&bench, &["trigger", "letter", "--wait"])["run"]["state"], "succeeded");
    assert_eq!(standing(&bench, "mail")["paused"], Value::Null);
}

#[test]
fn who_pauses_is_known_also_where_the_shell_has_no_name() {
    let bench = bench();
    let by = |names: &[(&str, &str)], more: &[&str]| {
        let arguments = [&["pause", "--queue", "mail", "-o", "json"], more].concat();
        let mut command = bench.command(&arguments);
        command.env_remove("USER").env_remove("LOGNAME").envs(names.iter().copied());
        Answer::of(command)
    };
    let said = |answer: Answer| answer.json()["paused"]["by"].as_str().unwrap().to_owned();

    assert_eq!(said(by(&[("USER", "ana"), ("LOGNAME", "bo")], &[])), "ana");
    assert_eq!(said(by(&[("USER", ""), ("LOGNAME", "bo")], &[])), "bo");
    assert_eq!(said(by(&[("USER", "ana")], &["--by", "cid"])), "cid");
    assert_eq!(by(&[], &["--by", ""]).code, 2);
    let nobody = said(by(&[], &[]));
    let user = rustix::process::getuid().as_raw();
    let host = nobody.strip_prefix(&format!("user {user} on ")).unwrap_or_default();
    assert!(!host.is_empty(), "{nobody}");
}

#[test]
fn what_says_nothing_is_refused_and_a_time_learns_how_it_is_written() {
    let bench = bench();
    let no_letter = "01m8jrjr9bq6chttxssn1btb7v";
    let verbs: [&[&str]; 3] =
        [&["pause", "--queue", "mail"], &["drain", "--queue", "mail"], &["dlq", "hold", no_letter]];
    for verb in verbs {
        let refused = bench.run(&[verb, &["--reason", ""]].concat());
        assert!(refused.code == 2 && refused.stderr.contains("--reason <TEXT>"), "{refused:?}");
    }
    for verb in [&["pause", "--queue", "mail", "--for", "5"], &["drain", "--queue", "mail", "--timeout", "5"]]
    {
        let refused = bench.run(verb);
        assert!(refused.code == 2 && refused.stderr.contains("such as \"30s\" or \"1h30m\""), "{refused:?}");
    }
}

#[test]
fn a_pause_or_a_drain_in_the_place_of_somebody_elses_pause_says_so() {
    let bench = bench();
    let by = |verb: &str, name: &str, more: &[&str]| {
        bench.run(&[&[verb, "--queue", "mail", "--by", name], more].concat())
    };
    let first = by("pause", "ana", &["--reason", "provider is down"]);
    let again = by("pause", "ana", &["--reason", "provider is down", "--for", "1h"]);
    assert!(first.stderr.is_empty() && again.stderr.is_empty(), "it is her own: {first:?} {again:?}");

    let drained = by("drain", "bo", &[]);
    let told = ["queue mail was paused by ana, over in ", ": provider is down; this takes its place"];
    assert!(drained.code == 0 && told.iter().all(|text| drained.stderr.contains(text)), "{drained:?}");
    let paused = by("pause", "ana", &["-o", "json"]).json();
    assert_eq!(paused["replaced"], json!({"by": "bo", "reason": "drain", "until": null}), "{paused}");
    let drained = by("drain", "bo", &["-o", "json"]).json();
    assert_eq!(drained["replaced"]["by"], "ana", "{drained}");
}

#[test]
fn a_daemon_that_starts_during_a_pause_keeps_to_it_until_it_ends_by_itself() {
    let bench = bench();
    told(&bench, &["pause", "--queue", "mail", "--for", "3s"]);
    let until: scheduler_core::Timestamp =
        serde_json::from_value(standing(&bench, "mail")["paused"]["until"].clone()).unwrap();
    told(&bench, &["trigger", "letter"]);

    let mut daemon = daemon(&bench, "one");
    let letter = told(&bench, &["trigger", "letter", "--wait"]);
    daemon.line(&["queue `mail` is no longer paused"]);

    let started: scheduler_core::Timestamp =
        serde_json::from_value(letter["run"]["started_at"].clone()).unwrap();
    assert!(started >= until, "{letter}: paused until {until}");
}

#[test]
fn a_run_under_way_on_one_of_two_daemons_is_cancelled_from_a_third_shell() {
    let bench = bench();
    let (_one, _two) = (daemon(&bench, "one"), daemon(&bench, "two"));
    let run = told(&bench, &["trigger", "long"])["run_id"].as_str().unwrap().to_owned();
    let pid = crate::daemon::appears(&bench.path("long.pid"));

    assert_eq!(told(&bench, &["cancel", &run])["cancelled"], "requested");

    crate::daemon::vanishes(&pid);
}

#[test]
fn a_queue_that_is_not_listed_is_refused_with_those_that_are() {
    let bench = bench();
    let config = std::fs::read_to_string(bench.path("scheduler.toml")).unwrap();
    let is_refused = |arguments: &[&str], code: i32| {
        let answer = bench.run(arguments);
        assert_eq!(answer.code, code, "{arguments:?}: {answer:?}");
        for text in ["queue/unknown_queue", "no queue `post`, only default, mail"] {
            assert!(answer.stderr.contains(text), "{arguments:?}: {answer:?}");
        }
    };

    is_refused(&["trigger", "note", "--queue", "post"], 2);
    is_refused(&["pause", "--queue", "post"], 4);
    is_refused(&["drain", "--queue", "post"], 4);
    let elsewhere = bench.run(&["pause", "--queue", "mail", "--backend", "queu"]);
    assert_eq!(elsewhere.code, 4, "{elsewhere:?}");
    for text in ["no backend `queu`", "did you mean `queue`?"] {
        assert!(elsewhere.stderr.contains(text), "{elsewhere:?}");
    }
    let at_once = bench.run(&["pause", "--queue", "mail", "--for", "0s"]);
    assert!(at_once.stderr.contains("a pause of 0s is over already"), "{at_once:?}");
    // Nothing is there yet, and later something is.
    is_refused(&["resume", "--queue", "post"], 4);
    let typo = bench.run(&["resume", "--queue", "mial"]);
    assert_eq!(typo.code, 4, "{typo:?}");
    assert!(typo.stderr.contains("did you mean `mail`?"), "{typo:?}");
    told(&bench, &["trigger", "note"]);
    is_refused(&["resume", "--queue", "post"], 4);
    assert_eq!(told(&bench, &["resume", "--queue", "mail"])["backends"], json!([]), "it was not paused");
    bench.write("lines", "{\"task\": \"note\", \"queue\": \"post\"}\n");
    is_refused(&["enqueue", "--file", "lines"], 2);
    bench.write("lines", "{\"task\": \"note\", \"queue\": \"mail\"}\n");
    told(&bench, &["enqueue", "--file", "lines"]);
    assert_eq!(standing(&bench, "mail")["waiting"], 1);
    bench.write("scheduler.toml", &config.replace("queue = \"mail\"", "queue = \"post\""));
    is_refused(&["check"], 2);
    let unnamed = config.replace("queue = \"mail\"", "queue = \"E-Mail\"");
    bench.write("scheduler.toml", &unnamed);
    assert!(bench.run(&["check"]).stderr.contains("name/invalid"));
}

#[test]
fn runs_in_a_queue_that_no_configuration_lists_any_more_wait_and_are_shown() {
    let bench = bench();
    told(&bench, &["trigger", "letter"]);
    let config = std::fs::read_to_string(bench.path("scheduler.toml")).unwrap();
    bench.write("scheduler.toml", &config.replace("queue = \"mail\"", "").replace("mail =", "post ="));

    let mail = standing(&bench, "mail");
    let table = bench.run(&["queues"]).stdout;
    assert_eq!(told(&bench, &["resume", "--queue", "mail"])["backends"], json!([]), "it was not paused");

    assert_eq!((&mail["waiting"], &mail["weight"]), (&json!(1), &Value::Null));
    assert!(table.contains("not here"), "{table}");
}

/// A configuration with one task in the queue `mail`, which has these settings.
fn limited(settings: &str, script: &str) -> Bench {
    let bench = Bench::new("");
    let url = format!("sqlite:{}", bench.path("shared.db").display());
    let config = format!(
        "[backends.queue]\nurl = \"{url}\"\nlease = \"2s\"\nsynchronous = \"normal\"\n\
         [backends.queue.queues.mail]\n{settings}\n\
         [tasks.letter]\njob = \"exec\"\ntimeout = \"60s\"\ntier = \"queue\"\noverlap = \"allow\"\nqueue = \"mail\"\n\
         args = {{ shell = true, program = '{script}' }}\n"
    );
    bench.write("scheduler.toml", &config);
    bench
}

/// Enqueues so many letters of each customer, and lets two daemons write them for some seconds.
fn written(bench: &Bench, each: usize, seconds: u32) -> Vec<Value> {
    let line =
        |customer: &str| format!("{{\"task\": \"letter\", \"params\": {{\"customer\": \"{customer}\"}}}}\n");
    bench.write("lines", &format!("{}{}", line("ana").repeat(each), line("bo").repeat(each)));
    told(bench, &["enqueue", "--file", "lines"]);
    let length = format!("{seconds}s");
    let start = |data_dir: &str| {
        let mut command = bench.command(&["run", "--for", &length, "--log", "text"]);
        command.env("SCHEDULER_SCHEDULER__DATA_DIR", data_dir);
        Daemon::of(command)
    };
    let (one, two) = (start("one"), start("two"));
    let ends = (one.end(), two.end());
    assert_eq!((ends.0.0, ends.1.0), (0, 0), "{}\n{}", ends.0.1, ends.1.1);
    told(bench, &["history", "-n", "1000"])["runs"].as_array().unwrap().clone()
}

#[test]
fn a_rate_by_key_is_kept_over_two_daemons_to_within_five_percent() {
    let bench = limited("per_key = { param = \"customer\", rate = { runs = 10, per = \"1s\" } }", "true");

    let runs = written(&bench, 130, 12);

    for customer in ["ana", "bo"] {
        let of_customer = runs.iter().filter(|run| run["params"]["customer"] == customer);
        let mut starts: Vec<scheduler_core::Timestamp> =
            of_customer.filter_map(|run| serde_json::from_value(run["started_at"].clone()).ok()).collect();
        starts.sort();
        let end = starts[0] + std::time::Duration::from_secs(10);
        let count = starts.iter().filter(|start| **start < end).count();
        assert!((95..=105).contains(&count), "{count} letters to {customer} in 10 s");
    }
}

#[test]
fn no_more_runs_of_one_customer_are_under_way_than_the_limit_and_others_go_on() {
    let script = "lock=lock.$SCHEDULER_PARAM_CUSTOMER; mkdir $lock || echo clash >> clashes; \
                  [ $SCHEDULER_PARAM_CUSTOMER = ana ] || [ ! -d lock.ana ] || echo x >> beside; sleep 0.1; rmdir $lock";
    let bench = limited("per_key = { param = \"customer\", concurrency = 1 }", script);

    let runs = written(&bench, 10, 6);

    let ended = runs.iter().filter(|run| run["state"] == "succeeded").count();
    assert_eq!((ended, bench.path("clashes").exists()), (20, false), "{runs:?}");
    assert!(bench.path("beside").exists(), "a letter to bo waits for none to ana");
}

#[test]
fn no_more_runs_of_a_queue_are_under_way_than_its_limit_in_all_processes() {
    let script = "mkdir lock || echo clash >> clashes; sleep 0.05; rmdir lock";
    let bench = limited("concurrency = 1", script);

    let runs = written(&bench, 10, 6);

    let ended = runs.iter().filter(|run| run["state"] == "succeeded").count();
    assert_eq!((ended, bench.path("clashes").exists()), (20, false), "{runs:?}");
}
