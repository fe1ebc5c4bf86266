//! The job `secret_rotation_check` by the commands of its section in `docs/jobs.md`, with a real daemon's history.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::letters_processed::{commands_of, shell};
use crate::outside::json_of;

const OLD: &str = "canary-old-91ac";

fn bench(verify_live: &str) -> Bench {
    let rotation = format!(
        "generate = [\"sh\", \"-c\", \"printf canary-new-; head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \\\\n'\"]\n\
         verify = [\"sh\", \"-c\", \"grep -q ^canary-new-\"]\nverify_live = [\"sh\", \"-c\", '''{verify_live}''']\n"
    );
    let bench = Bench::new(&format!(
        "[tasks.secrets]\njob = \"secret_rotation_check\"\ntimeout = \"1m\"\n[tasks.secrets.args]\nrotate = true\n\
         audit = \"audit.jsonl\"\n[[tasks.secrets.args.secrets]]\nname = \"database\"\nkind = \"file\"\n\
         path = \"password\"\nmax_age = \"90d\"\n[tasks.secrets.args.secrets.rotation]\n{rotation}"
    ));
    age(&bench);
    bench
}

/// Puts the old value in place, a hundred days old.
fn age(bench: &Bench) {
    bench.write("password", OLD);
    let path = bench.path("password");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(100 * 86_400)).unwrap();
}

fn read(bench: &Bench, name: &str) -> String {
    std::fs::read_to_string(bench.path(name)).unwrap_or_default()
}

#[test]
fn the_commands_of_the_page_show_a_dry_run_the_run_and_a_kill_that_is_made_good() {
    let bench = bench("[ ! -e slow ] || sleep 600");
    let [dry, real, killed] = commands_of("secret_rotation_check").try_into().unwrap();

    let listed = shell(&bench, &format!("{dry} -o json"));
    let untouched = read(&bench, "password");
    let done = shell(&bench, &format!("{real} -o json"));
    let rotated = read(&bench, "password");
    age(&bench);
    // The run is killed while it verifies what it has put in place; the next one takes as long as it needs.
    let (kill, again) = killed.split_once("; ").unwrap();
    bench.write("slow", "");
    let cut_off = shell(&bench, kill);
    let between = read(&bench, "password");
    std::fs::remove_file(bench.path("slow")).unwrap();
    let finished = shell(&bench, &format!("{again} -o json"));

    assert_eq!((listed.code, untouched.as_str()), (1, OLD), "{listed:?}");
    assert_eq!(listed.json()["output"]["secrets"][0]["rotation"]["result"], "planned");
    assert_eq!(
        (done.code, &done.json()["output"]["secrets"][0]["rotation"]["result"]),
        (0, &json!("rotated"))
    );
    assert!(rotated.starts_with("canary-new-") && cut_off.code != 0);
    assert!(between.starts_with("canary-new-") && between != rotated);
    assert_eq!((finished.code, read(&bench, "password")), (0, between), "{finished:?}");
    assert_eq!(finished.json()["output"]["secrets"][0]["rotation"]["result"], "finished");
    assert!(!bench.files().iter().any(|name| name.contains("rotation")), "{:?}", bench.files());
}

#[test]
fn no_value_stands_in_history_log_state_or_trail() {
    let bench = bench("exit 7");
    let config = read(&bench, "scheduler.toml");
    bench.write(
        "scheduler.toml",
        &config.replace("timeout = \"1m\"", "timeout = \"1m\"\ntrigger = { cron = \"@reboot\" }"),
    );

    let run = bench.run(&["run", "--for", "3s", "--log", "json"]);
    let history: Value = json_of(&bench, &["history", "secrets"]);

    assert_eq!(history["runs"][0]["state"], "failed", "{history}");
    assert!(history["runs"][0]["reason"].as_str().unwrap().contains("database rolled back"), "{history}");
    assert_eq!(read(&bench, "password"), OLD);
    let mut all = format!("{run:?} {history} {}", read(&bench, "audit.jsonl"));
    for file in walk(&bench.path("data")) {
        all.push_str(&String::from_utf8_lossy(&std::fs::read(file).unwrap()));
    }
    assert!(all.contains("rolled_back") && !all.contains("canary"), "{all}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
