//! The target `history` of `cache_cleanup` on the durable tier: what its dry run lists is what the real run forgets, and
//! nothing that lives or is a dead letter.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::Bench;
use crate::letters::serve;
use crate::outside::{durable, json_of};

/// A Redis server of this test alone.
struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port"]).arg(port.to_string());
        command.arg("--dir").arg(folder.path()).stdout(Stdio::null());
        let child = command.spawn().expect("a redis-server in PATH, as `cargo xtask test` has it");
        let redis = Self { child, port, _folder: folder };
        let until = Instant::now() + Duration::from_secs(30);
        while !redis.answers() {
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    fn answers(&self) -> bool {
        let Ok(mut wire) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 5];
        let asked = wire.write_all(b"PING\r\n").and_then(|()| wire.read_exact(&mut answer));
        asked.is_ok() && answer == *b"+PONG"
    }
}

fn bench(url: &str) -> Bench {
    let target = "targets = [{ kind = \"history\", backend = \"queue\", max_runs = 4 }]";
    Bench::new(&format!(
        "[backends.queue]\nurl = \"{url}\"\n[backends.local]\n{}{}\
         [tasks.clean]\njob = \"cache_cleanup\"\ntimeout = \"1m\"\nargs = {{ {target} }}\n\
         [tasks.look]\njob = \"cache_cleanup\"\ntimeout = \"1m\"\nargs = {{ {target}, dry_run = true }}\n\
         [tasks.local]\njob = \"cache_cleanup\"\ntimeout = \"1m\"\n\
         args = {{ targets = [{{ kind = \"history\", backend = \"local\", max_runs = 0 }}] }}\n",
        durable("well", "echo it went well", ""),
        durable("badly", "exit 3", "retry = { max_attempts = 1 }"),
    ))
}

fn ids(bench: &Bench) -> Vec<String> {
    let runs = json_of(bench, &["history", "-n", "100"])["runs"].as_array().unwrap().clone();
    runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

fn triggered(bench: &Bench, words: &[&str]) -> String {
    json_of(bench, &[&["trigger"], words].concat())["run_id"].as_str().unwrap().to_owned()
}

fn ended(answer: &Value) -> Vec<String> {
    let listed = answer["output"]["targets"][0]["listed"].as_array().unwrap();
    listed.iter().map(|item| item["item"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned()).collect()
}

fn forgets_what_it_listed(url: &str) {
    let bench = bench(url);
    let well: Vec<String> = (0..10).map(|_| triggered(&bench, &["well"])).collect();
    let letter = triggered(&bench, &["badly"]);
    serve(&bench);
    let waits = triggered(&bench, &["well", "--at", "2099-01-01T00:00:00Z"]);
    let before = ids(&bench);

    let look = json_of(&bench, &["exec", "look"]);
    assert_eq!(ids(&bench), before, "a dry run forgets nothing");
    let clean = json_of(&bench, &["exec", "clean"]);

    let gone = ended(&clean);
    assert_eq!((ended(&look), gone.len()), (gone.clone(), 6), "{clean}");
    assert!(clean["output"]["bytes"].as_u64().unwrap() > 0, "{clean}");
    assert_eq!(look["output"]["bytes"], clean["output"]["bytes"]);
    let left = ids(&bench);
    let stays: Vec<String> = before.into_iter().filter(|run| !gone.contains(run)).collect();
    assert_eq!(left, stays);
    assert!(gone.iter().all(|run| well.contains(run)) && left.contains(&letter) && left.contains(&waits));
    let letters = json_of(&bench, &["dlq", "list"]);
    assert_eq!(letters["letters"].as_array().unwrap().len(), 1, "{letters}");
    assert_eq!(json_of(&bench, &["exec", "clean"])["output"]["removed"], 0);
}

#[test]
fn a_durable_history_on_sqlite_forgets_what_the_dry_run_listed() {
    forgets_what_it_listed("sqlite:queue.db");
}

#[test]
fn a_durable_history_on_redis_forgets_what_the_dry_run_listed() {
    let redis = Redis::start();
    forgets_what_it_listed(&format!("redis://127.0.0.1:{}/0", redis.port));
}

#[test]
fn what_only_a_daemon_can_forget_is_told_outside_of_it() {
    let bench = bench("sqlite:queue.db");

    let refused = bench.run(&["exec", "local", "-o", "json"]);

    assert!(refused.code == 1 && refused.stdout.contains("backend `local` does not run"), "{refused:?}");
}
