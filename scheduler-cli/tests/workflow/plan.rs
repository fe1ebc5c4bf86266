//! Schedules as they should be: the plan, the start that carries it out, and what is left alone.

use serde_json::{Value, json};

use crate::records::until;
use crate::site::Site;

fn nightly(site: &Site, cron: &str) -> String {
    site.task_on_demo("", &format!("trigger = {{ cron = \"{cron}\", timezone = \"Europe/Zurich\" }}"))
}

fn plan(site: &Site) -> i32 {
    site.run(&["plan"]).code
}

fn ours(site: &Site) -> Vec<Value> {
    let mut schedules = site.schedules("demo", &site.namespace);
    schedules.retain(|schedule| schedule["slug"].as_str().is_some_and(|slug| slug.starts_with("hs:")));
    schedules
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn three_edits_and_restarts_keep_the_schedules_id_and_make_no_duplicate_run() {
    let site = Site::new("");
    let of_others = json!({ "slug": "of-others", "active": true, "schedule": { "cron": "0 0 1 1 *" } });
    let deployment = site.demo(&json!({ "schedules": [of_others] }));
    site.configure(&nightly(&site, "0 3 * * *"));
    site.start_and_stop();
    let id = ours(&site)[0]["id"].clone();
    let others = |site: &Site| {
        let schedules = site.schedules("demo", &site.namespace);
        schedules.into_iter().find(|schedule| schedule["slug"] == "of-others").unwrap()
    };
    let before = others(&site);

    for minute in 1..=3 {
        site.configure(&nightly(&site, &format!("{minute} 3 * * *")));
        assert_eq!(plan(&site), 1);
        site.start_and_stop();
        assert_eq!(plan(&site), 0);

        let ours = ours(&site);
        assert_eq!(ours.len(), 1, "{ours:?}");
        assert_eq!(ours[0]["id"], id);
        assert_eq!(ours[0]["schedule"]["cron"], format!("{minute} 3 * * *"));
        assert_eq!(others(&site), before);
    }

    let mut times = until("the runs of the last edit", || {
        let mut runs = site.records.runs_of(&deployment);
        runs.retain(|run| run["created_by"]["id"] == id);
        let times: Vec<String> =
            runs.iter().map(|run| run["expected_start_time"].as_str().unwrap().to_owned()).collect();
        (!times.is_empty() && times.iter().all(|time| time.contains(":03:00"))).then_some(times)
    });
    let count = times.len();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), count, "{times:?}");
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn the_plan_says_by_its_exit_code_what_there_is_to_do() {
    let site = Site::new("");
    site.demo(&json!({}));
    site.configure(&nightly(&site, "0 3 * * *"));

    let before = site.run(&["plan"]);
    let still_before = site.schedules("demo", &site.namespace);
    site.start_and_stop();
    let after = site.run(&["plan"]);
    site.configure("[tasks.words]\njob = \"prefekt\"\n");
    let misspelt = site.run(&["plan"]);
    let nightly = nightly(&site, "0 3 * * *");
    site.configure_with("http://127.0.0.1:1/api", &nightly);
    let unreachable = site.bench.run(&["plan"]);

    assert_eq!((before.code, still_before), (1, Vec::new()), "{before:?}");
    assert!(before.stdout.contains("words"), "{before:?}");
    assert_eq!(after.code, 0, "{after:?}");
    assert_eq!(misspelt.code, 2, "{misspelt:?}");
    assert_eq!(unreachable.code, 3, "{unreachable:?}");
}

/// The deployment as Prefect has it, in one text.
fn whole(site: &Site, deployment: &Value) -> String {
    let mut found = site.records.get(&format!("/deployments/{}", deployment["id"].as_str().unwrap()));
    // The server itself keeps these as workers come and go.
    for moving in ["last_polled", "status"] {
        found.as_object_mut().unwrap().remove(moving);
    }
    found.to_string()
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_foreign_deployment_is_untouched_byte_for_byte() {
    let foreign = Site::new("");
    let schedule = json!({ "slug": "nightly", "active": true, "schedule": { "cron": "0 0 1 1 *" } });
    let deployment = foreign.demo(&json!({ "schedules": [schedule], "tags": ["theirs"] }));
    let look = || whole(&foreign, &deployment);
    let before = look();
    let site = Site::new("");
    site.demo(&json!({}));

    for cron in ["0 3 * * *", "5 3 * * *"] {
        site.configure(&nightly(&site, cron));
        site.start_and_stop();
    }
    site.configure("[tasks.beat]\njob = \"exec\"\nargs.program = \"true\"\n");
    site.start_and_stop();

    assert_eq!(look(), before);
}

/// A task that a deployment of ours runs.
const HOSTED: &str = "[tasks.work]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"1m\"\ntier = \"workflow\"\n\
                      trigger = { cron = \"0 4 1 1 *\" }\n";

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn prune_deletes_our_deployment_and_leaves_those_of_others_as_they_are() {
    let (site, neighbour) = (Site::new(""), Site::new(HOSTED));
    let yearly = |slug: &str| json!({ "slug": slug, "active": true, "schedule": { "cron": "0 0 1 1 *" } });
    let shared = site.demo(&json!({ "schedules": [yearly("of-others")], "tags": ["theirs"] }));
    // By its flow, its name and its tag it could be ours; it lacks the label.
    let flow = site.records.post("/flows/", &json!({ "name": "hybrid_scheduler" }));
    let alike = json!({
        "name": format!("{}.gone", site.namespace), "flow_id": flow["id"], "tags": ["hybrid-scheduler"],
        "entrypoint": "theirs.py:run", "schedules": [yearly("theirs")],
    });
    let alike = site.records.post("/deployments/", &alike);
    assert_eq!(neighbour.run(&["plan", "--apply"]).code, 0);
    site.configure(&format!("{}{HOSTED}", nightly(&site, "0 3 * * *")));
    assert_eq!(site.run(&["plan", "--apply"]).code, 0);
    let of = |site: &Site| site.records.deployment("hybrid_scheduler", &format!("{}.work", site.namespace));
    let (made, theirs) = (of(&site), of(&neighbour));
    let others = |site: &Site| {
        let mut schedules = site.schedules("demo", &site.namespace);
        schedules.retain(|schedule| schedule["slug"] == "of-others");
        schedules
    };
    let foreign = || (whole(&site, &alike), whole(&site, &theirs), others(&site));
    let own = || (whole(&site, &shared), whole(&site, &made));
    let (before, own_before) = (foreign(), own());

    site.configure("[tasks.beat]\njob = \"exec\"\nargs.program = \"true\"\n");
    let planned = site.run(&["plan", "--prune"]);
    assert_eq!(own(), own_before, "a plan writes nothing");
    let applied = site.run(&["plan", "--prune", "--apply"]);
    let again = site.run(&["plan", "--prune"]);

    assert_eq!((planned.code, applied.code, again.code), (1, 0, 0), "{planned:?}\n{applied:?}\n{again:?}");
    for subject in
        [format!("deployment {}.work", site.namespace), format!("schedule hs:{}:words", site.namespace)]
    {
        assert!(planned.stdout.contains(&format!("delete  {subject}")), "{planned:?}");
    }
    let path = format!("/deployments/{}", made["id"].as_str().unwrap());
    assert_eq!(site.records.call("GET", &path, &Value::Null).0, 404);
    assert_eq!(ours(&site), Vec::<Value>::new());
    assert_eq!(foreign(), before);
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn what_prefect_could_not_run_is_a_fault_and_its_schedule_stays_as_it_is() {
    let site = Site::new("");
    site.demo(&json!({}));
    let fitting = site.task_on_demo("seconds = 1", "trigger = { cron = \"0 3 1 1 *\" }");
    site.configure(&fitting);
    assert_eq!(site.run(&["plan", "--apply"]).code, 0);
    let before = ours(&site);

    let unfit = fitting.replace("seconds = 1", "seconds = \"long\"");
    let unknown =
        fitting.replace(&format!("deployment = \"{}\"", site.namespace), "deployment = \"of-nobody\"");
    for (tasks, named) in [(unfit, "`seconds`"), (unknown, "`demo/of-nobody`")] {
        site.configure(&tasks);
        let planned = site.run(&["plan"]);
        let applied = site.run(&["plan", "--apply"]);

        assert_eq!((planned.code, applied.code), (2, 6), "{planned:?} {applied:?}");
        assert!(planned.stdout.contains("fault   task words"), "{planned:?}");
        assert!(planned.stdout.contains(named), "{planned:?}");
        assert_eq!(ours(&site), before);
    }
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_schedule_that_was_edited_by_hand_is_reported_and_set_right_under_its_old_id() {
    let site = Site::new("");
    let deployment = site.demo(&json!({}));
    site.configure(&nightly(&site, "0 3 * * *"));
    site.start_and_stop();
    let before = ours(&site);
    let path = format!(
        "/deployments/{}/schedules/{}",
        deployment["id"].as_str().unwrap(),
        before[0]["id"].as_str().unwrap()
    );
    site.records.patch(&path, &json!({ "schedule": { "cron": "30 5 * * *", "timezone": "Europe/Zurich" } }));

    let plan = site.run(&["plan"]);
    site.start_and_stop();

    assert_eq!(plan.code, 1, "{plan:?}");
    assert!(plan.stdout.contains("30 5 * * *") && plan.stdout.contains("0 3 * * *"), "{plan:?}");
    let after = ours(&site);
    assert_eq!(after.len(), 1);
    assert_eq!((&after[0]["id"], &after[0]["schedule"]["cron"]), (&before[0]["id"], &json!("0 3 * * *")));
}
