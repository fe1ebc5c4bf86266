//! Credentials that are wrong before the start, and that become wrong after it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::Answer;
use crate::records::until;
use crate::site::Site;

const WRONG: &str = "hunter2";

fn is_refused(answer: &Answer) {
    assert_eq!(answer.code, 3, "{answer:?}");
    for text in ["refuses the credentials", "correct `username` and `password`", "/api/"] {
        assert!(answer.stderr.contains(text), "no {text}: {answer:?}");
    }
    assert!(!answer.stdout.contains(WRONG) && !answer.stderr.contains(WRONG), "{answer:?}");
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn wrong_credentials_are_told_before_and_after_the_start_and_once_they_are_right_all_goes_on() {
    let site = Site::guarded();
    let deployment = site.demo(&json!({ "work_pool_name": Value::Null }));
    site.configure(&site.task_on_demo("", "trigger = { cron = \"0 3 1 1 *\" }"));
    let right = std::fs::read_to_string(site.bench.path("password")).unwrap();
    let schedules = || site.schedules("demo", &site.namespace);
    let ask = |key: &str| site.bench.run(&["trigger", "words", "--key", key]);

    site.bench.write("password", WRONG);
    is_refused(&site.bench.run(&["plan"]));
    let mut daemon = site.bench.daemon(&[]);
    daemon.line(&["workflow", "down", "refuses the credentials"]);
    is_refused(&ask("early"));
    assert_eq!(schedules(), Vec::<Value>::new());

    site.bench.write("password", &right);
    daemon.line(&["workflow", "up again"]);
    until("the schedule", || (schedules().len() == 1).then_some(()));
    site.bench.write("password", WRONG);
    daemon.line(&["workflow", "down", "refuses the credentials"]);
    is_refused(&ask("late"));
    site.bench.write("password", &right);
    daemon.line(&["workflow", "up again"]);
    let asked = site.run(&["trigger", "words", "--key", "late"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!((asked.code, code), (0, 0), "{asked:?}\n{log}");
    assert!(!log.contains(WRONG) && !log.contains(right.trim()), "{log}");
    let was_asked_for = |run: &&Value| run["auto_scheduled"] == false;
    assert_eq!(site.records.runs_of(&deployment).iter().filter(was_asked_for).count(), 1);
    assert_eq!(schedules().len(), 1);
}
