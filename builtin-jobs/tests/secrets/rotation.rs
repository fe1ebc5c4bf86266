//! Rotations: what is in place afterwards, whatever happened meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use scheduler_core::CancelReason;
use serde_json::{Value, json};

use crate::stage::{NEW, OLD, Stage, sh};

fn due(stage: &Stage) {
    stage.file("live/key", OLD, 0o640, 100);
}

fn audit(stage: &Stage) -> Vec<String> {
    let lines = stage.read("audit.jsonl");
    let step = |line: &str| serde_json::from_str::<Value>(line).unwrap()["step"].as_str().unwrap().to_owned();
    lines.lines().map(step).collect()
}

#[tokio::test]
async fn a_secret_that_is_due_is_replaced_verified_and_written_down() {
    let stage = Stage::new();
    due(&stage);
    let args = stage.rotation(json!({
        "verify": sh(&format!("echo \"$SECRET_NAME $SECRET_FILE\" >> '{}'; [ \"$(cat)\" = {NEW} ]", stage.path("verified").display())),
        "reload": sh(&format!("cp \"$SECRET_FILE\" '{}'", stage.path("reloaded").display())),
    }));

    let mut allowed = args.clone();
    allowed["secrets"][0]["mode"] = json!("0640");
    let told = stage.run(&allowed).await;
    let again = stage.run(&allowed).await;

    assert_eq!(told.error, None, "{told:?}");
    assert_eq!((stage.read("live/key"), stage.read("reloaded")), (NEW.to_owned(), NEW.to_owned()));
    assert_eq!(stage.names("live"), ["key"]);
    let mode = std::fs::metadata(stage.path("live/key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "as before");
    assert_eq!(told.steps(), ["began", "verified", "swapping", "rotated"]);
    assert_eq!(audit(&stage), told.steps());
    assert_eq!(
        (&told.first()["rotation"]["result"], &told.first()["status"]),
        (&json!("rotated"), &json!("current"))
    );
    assert_eq!(again.first()["rotation"], Value::Null, "{again:?}");
    let verified = stage.read("verified");
    let files: Vec<&str> = verified.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(files, ["key.rotation-next", "key"], "first beside the old one, then in place");
    assert!(verified.starts_with("api /"), "{verified}");
    let audit_mode = std::fs::metadata(stage.path("audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(audit_mode & 0o777, 0o600);
}

#[tokio::test]
async fn nothing_is_changed_unless_it_is_told_to_and_a_dry_run_says_what_would_be() {
    let stage = Stage::new();
    due(&stage);
    let mut args = stage.rotation(json!({}));
    let dry = stage.run_in(&args, &stage.context(&json!({"dry_run": true}))).await;
    args["rotate"] = json!(false);
    let check = stage.run(&args).await;

    assert_eq!(
        (&dry.output["dry_run"], &dry.first()["rotation"]["result"]),
        (&json!(true), &json!("planned"))
    );
    assert_eq!(check.first()["rotation"], Value::Null);
    assert!(check.error.unwrap().contains("api due"));
    assert_eq!(
        (stage.read("live/key"), stage.names("live"), stage.names("")),
        (OLD.to_owned(), vec!["key".to_owned()], vec!["live".to_owned()])
    );
}

#[tokio::test]
async fn a_new_value_that_does_not_work_is_never_put_in_place() {
    let long = "head -c 2000000 /dev/zero | tr '\\0' x";
    let cases = [
        (json!({"verify": sh("exit 3")}), "`sh` ended with exit code 3"),
        (json!({"generate": sh("exit 4")}), "`sh` ended with exit code 4"),
        (json!({"generate": sh(":")}), "`generate` printed nothing"),
        (json!({"generate": sh(&format!("printf {OLD}"))}), "printed the value that is in place"),
        (json!({"generate": sh(long)}), "has more than 1048576 bytes"),
        (json!({"generate": ["/nowhere/program"]}), "no file at /nowhere/program"),
        (json!({"verify": sh("sleep 600"), "timeout": "200ms"}), "did not end within 200ms"),
    ];
    for (commands, words) in cases {
        let stage = Stage::new();
        due(&stage);
        let told = stage.run(&stage.rotation(commands.clone())).await;
        let error = told.error.clone().unwrap();
        assert!(
            error.contains("api not rotated: ") && (error.contains(words) || words.contains("nowhere")),
            "{commands}: {error}"
        );
        assert_eq!((stage.read("live/key"), stage.names("live")), (OLD.to_owned(), vec!["key".to_owned()]));
        assert_eq!(told.steps(), ["began", "given_up"], "{commands}");
    }
}

#[tokio::test]
async fn the_old_value_comes_back_when_the_new_one_fails_in_place() {
    let stage = Stage::new();
    due(&stage);
    let reloads = stage.path("reloads");
    let args = stage.rotation(json!({
        "verify_live": sh(&format!("[ \"$(cat)\" = {OLD} ]")),
        "reload": sh(&format!("cat \"$SECRET_FILE\" >> '{}'; echo >> '{}'", reloads.display(), reloads.display())),
    }));

    let told = stage.run(&args).await;

    assert!(
        told.error.as_ref().unwrap().contains("api rolled back: `sh` ended with exit code 1"),
        "{told:?}"
    );
    assert_eq!((stage.read("live/key"), stage.names("live")), (OLD.to_owned(), vec!["key".to_owned()]));
    assert_eq!(stage.read("reloads"), format!("{NEW}\n{OLD}\n"), "those who use it hear of both");
    assert_eq!(audit(&stage), ["began", "verified", "swapping", "rolled_back"]);
    assert_eq!(told.first()["status"], "due", "it is as old as before");
}

#[tokio::test]
async fn a_run_that_is_killed_behind_the_swap_is_finished_or_taken_back_by_the_next() {
    for works in [true, false] {
        let stage = Stage::new();
        due(&stage);
        let hangs = stage.path("hangs");
        std::fs::write(&hangs, "").unwrap();
        let verdict = if works { NEW } else { OLD };
        let live =
            format!("while [ -e '{}' ]; do sleep 0.05; done; [ \"$(cat)\" = {verdict} ]", hangs.display());
        let mut args = stage.rotation(json!({"verify_live": sh(&live)}));
        args["secrets"][0]["mode"] = json!("0640");
        stage.kill_when(&args, || stage.read("live/key") == NEW).await;
        assert_eq!(stage.names("live"), ["key", "key.rotation-previous"]);
        std::fs::remove_file(&hangs).unwrap();

        let mut check = args.clone();
        check["rotate"] = json!(false);
        let noticed = stage.run(&check).await;
        let next = stage.run(&args).await;

        assert!(noticed.error.unwrap().contains("a rotation was cut off"));
        let (value, result) = if works { (NEW, "finished") } else { (OLD, "rolled_back") };
        assert_eq!(next.first()["rotation"]["result"], result, "{next:?}");
        assert_eq!((stage.read("live/key").as_str(), stage.names("live")), (value, vec!["key".to_owned()]));
        assert_eq!(next.error.is_none(), works, "{next:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_killed_while_it_goes_back_is_taken_back_by_the_next_and_nothing_else_is_tried() {
    let stage = Stage::new();
    due(&stage);
    let hangs = stage.path("hangs");
    std::fs::write(&hangs, "").unwrap();
    // The new value fails while the file is there, and works afterwards.
    let live = "[ -e \"$0\" ] || exit 0; [ \"$(cat)\" = \"$1\" ] || exit 1; while [ -e \"$0\" ]; do sleep 0.05; done";
    let args = stage.rotation(json!({"verify_live": ["sh", "-c", live, hangs, OLD]}));
    let goes_back = || {
        let notes = std::fs::read_dir(stage.path("state")).into_iter().flatten().flatten();
        let mut notes = notes.map(|note| std::fs::read_to_string(note.path()).unwrap_or_default());
        stage.read("live/key") == OLD && notes.any(|note| note.contains("rolling_back"))
    };
    stage.kill_when(&args, goes_back).await;
    std::fs::remove_file(&hangs).unwrap();

    let next = stage.run(&args).await;

    assert_eq!(next.first()["rotation"]["result"], "rolled_back", "{next:?}");
    assert_eq!((stage.read("live/key").as_str(), stage.names("live")), (OLD, vec!["key".to_owned()]));
}

#[tokio::test]
async fn going_back_is_given_its_time_when_a_run_ends() {
    let stage = Stage::new();
    due(&stage);
    let job = crate::stage::job(&stage.rotation(json!({"timeout": "40s"})));
    assert!(job.wind_down() > Duration::from_secs(80), "two commands, each within its limit");
}

#[tokio::test]
async fn a_run_that_is_killed_before_the_swap_leaves_the_old_value_and_the_next_begins_anew() {
    let stage = Stage::new();
    due(&stage);
    let hangs = stage.path("hangs");
    std::fs::write(&hangs, "").unwrap();
    let wait = format!("while [ -e '{}' ]; do sleep 0.05; done", hangs.display());
    let args = stage.rotation(json!({"verify": sh(&wait)}));
    stage.kill_when(&args, || stage.read("live/key.rotation-next") == NEW).await;
    assert_eq!(stage.read("live/key"), OLD);
    std::fs::remove_file(&hangs).unwrap();

    let next = stage.run(&args).await;

    assert_eq!((stage.read("live/key").as_str(), stage.names("live")), (NEW, vec!["key".to_owned()]));
    assert_eq!(next.first()["rotation"]["result"], "rotated");
}

#[tokio::test]
async fn a_run_that_is_cancelled_behind_the_swap_puts_the_old_value_back() {
    let stage = Stage::new();
    due(&stage);
    let args = stage.rotation(json!({"verify_live": sh(&format!("[ \"$(cat)\" = {OLD} ] || sleep 600"))}));
    let context = stage.context(&Value::Null);
    let cancelling = async {
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while stage.read("live/key") != NEW {
            assert!(std::time::Instant::now() < until, "the new value was never put in place");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        context.cancel(CancelReason::Requested);
    };

    let began = std::time::Instant::now();
    let (told, ()) = tokio::join!(stage.run_in(&args, &context), cancelling);

    assert!(told.error.is_some() && began.elapsed() < Duration::from_secs(30), "{told:?}");
    assert_eq!((stage.read("live/key"), stage.names("live")), (OLD.to_owned(), vec!["key".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_side_by_side_rotate_once() {
    let stage = Stage::new();
    due(&stage);
    let generated = stage.path("generated");
    let args = stage.rotation(json!({
        "generate": sh(&format!("echo x >> '{}'; sleep 0.2; printf {NEW}", generated.display())),
    }));

    let told = tokio::join!(stage.run(&args), stage.run(&args), stage.run(&args));

    assert_eq!(stage.read("generated"), "x\n");
    let mut results: Vec<String> =
        [&told.0, &told.1, &told.2].map(|told| told.first()["rotation"]["result"].to_string()).to_vec();
    results.sort();
    assert_eq!(results, ["\"not_due\"", "\"not_due\"", "\"rotated\""]);
    assert_eq!((stage.read("live/key").as_str(), stage.names("live")), (NEW, vec!["key".to_owned()]));
}

#[tokio::test]
async fn one_name_of_an_environment_file_is_rotated_and_the_rest_stays() {
    let stage = Stage::new();
    let file = stage.file("live/key", &format!("# keys\nA={OLD}\nB=stays\n"), 0o600, 100);
    let mut args = stage.rotation(json!({
        "generate": sh(&format!("echo {NEW}")),
        "verify": sh(&format!("[ \"$(cat)\" = {NEW} ] && grep -q '^B=stays$' \"$SECRET_FILE\"")),
    }));
    args["secrets"][0] = json!({
        "name": "api", "kind": "env_file", "path": file, "keys": ["A"],
        "rotation": args["secrets"][0]["rotation"],
    });

    let told = stage.run(&args).await;

    assert_eq!(told.error, None, "{told:?}");
    assert_eq!(stage.read("live/key"), format!("# keys\nA={NEW}\nB=stays\n"));
    assert_eq!(stage.names("live"), ["key"]);
}

#[tokio::test]
async fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let stage = Stage::new();
    stage.file("real/key", OLD, 0o600, 100);
    std::fs::create_dir(stage.path("live")).unwrap();
    std::os::unix::fs::symlink("../real/key", stage.path("live/key")).unwrap();

    let told = stage.run(&stage.rotation(json!({}))).await;

    assert_eq!(told.error, None, "{told:?}");
    assert!(std::fs::symlink_metadata(stage.path("live/key")).unwrap().is_symlink());
    assert_eq!((stage.read("real/key").as_str(), stage.names("real")), (NEW, vec!["key".to_owned()]));
}

#[tokio::test]
async fn without_a_trail_that_can_be_written_nothing_is_changed() {
    let stage = Stage::new();
    due(&stage);
    let mut args = stage.rotation(json!({}));
    args["audit"] = json!("/dev/full");

    let told = stage.run(&args).await;

    assert!(told.error.unwrap().contains("the audit trail /dev/full could not be written"));
    assert_eq!((stage.read("live/key"), stage.names("live")), (OLD.to_owned(), vec!["key".to_owned()]));
}
