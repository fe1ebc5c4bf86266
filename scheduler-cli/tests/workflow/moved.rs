//! One task on one tier after the other.

use rustix::process::Signal;

use crate::records::{until, variable};
use crate::site::Site;

/// Writes down itself and every process above it.
const CHAIN: &str = "p=$$; while [ \"$p\" -gt 1 ]; do echo $p; p=$(sed 's/.*) . //; s/ .*//' /proc/$p/stat); \
                     done > \"$SCHEDULER_RUN_ID.chain\"; echo done by $SCHEDULER_TASK";

fn task(site: &Site, tier: &str) -> String {
    format!(
        "[backends.queue]\nurl = \"sqlite:queue.db\"\n[tasks.work]\njob = \"exec\"\ntimeout = \"2m\"\ntier = \"{tier}\"\n\
         [tasks.work.args]\nshell = true\nprogram = '''\ncd {}\n{CHAIN}\n'''\n",
        site.bench.path("").display()
    )
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_task_runs_on_a_worker_of_prefect_and_by_one_other_word_on_the_queue_with_one_history() {
    let site = Site::new("");
    site.configure(&task(&site, "workflow"));
    let worker = variable("TEST_PREFECT_WORKER");
    let chain = |run: &serde_json::Value| {
        let file = format!("{}.chain", run["id"].as_str().unwrap());
        std::fs::read_to_string(site.bench.path(&file)).unwrap()
    };

    let mut daemon = site.bench.daemon(&[]);
    let there = site.run(&["trigger", "work", "--key", "there", "--wait", "--timeout", "3m"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!((there.code, code), (0, 0), "{there:?}\n{log}");
    let runs = site.history("work");
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!((&runs[0]["tier"], &runs[0]["state"]), (&"workflow".into(), &"succeeded".into()), "{runs:?}");
    assert!(chain(&runs[0]).lines().any(|pid| pid == worker), "{}", chain(&runs[0]));
    let deployment = site.records.deployment("hybrid_scheduler", &format!("{}.work", site.namespace));
    let recorded = site.records.runs_of(&deployment);
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(recorded[0]["state_type"], "COMPLETED");
    site.records.logs(&recorded[0], "done by work");

    site.configure(&task(&site, "queue"));
    daemon = site.bench.daemon(&[]);
    let pid = daemon.pid().to_string();
    let here = site.run(&["trigger", "work", "--key", "here", "--wait", "--timeout", "3m"]);
    daemon.signal(Signal::TERM);
    daemon.end();

    assert_eq!(here.code, 0, "{here:?}");
    let runs = site.history("work");
    let tiers: Vec<&str> = runs.iter().map(|run| run["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["queue", "workflow"], "{runs:?}");
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:?}");
    assert!(chain(&runs[0]).lines().any(|ancestor| ancestor == pid), "{}", chain(&runs[0]));
    assert_eq!(site.records.runs_of(&deployment).len(), 1);
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_schedule_fires_while_no_daemon_runs_and_its_runs_stand_in_history() {
    let site = Site::new("");
    let folder = site.bench.path("");
    let task = |every: &str| {
        format!(
            "[tasks.work]\njob = \"exec\"\ntimeout = \"15s\"\ntier = \"workflow\"\noverlap = \"allow\"\n\
             trigger = {{ every = \"{every}\" }}\n[tasks.work.args]\nshell = true\n\
             program = 'echo \"$SCHEDULER_RUN_ID $SCHEDULER_FIRE_TIME\" >> {}/fired'\n",
            folder.display()
        )
    };
    site.configure(&task("20s"));

    site.start_and_stop();
    let fired = until("a fire without a daemon", || {
        let fired = std::fs::read_to_string(site.bench.path("fired")).ok()?;
        fired.lines().next().filter(|_| fired.ends_with('\n')).map(str::to_owned)
    });
    let (id, fire_time) = fired.split_once(' ').unwrap();
    let of_it = until("its end in history", || {
        let runs = site.history("work");
        runs.into_iter().find(|run| run["id"] == id && run["state"] == "succeeded")
    });

    assert_eq!((&of_it["fire_time"], &of_it["tier"]), (&fire_time.into(), &"workflow".into()), "{of_it}");
    let millis: i64 = fire_time.parse::<scheduler_core::Timestamp>().unwrap().as_millis();
    assert_eq!(millis % 20_000, 0, "{fire_time}");
}
