//! Keys of a Redis server, one that the test starts.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::stage::{Stage, listed, run};

/// A server of this test alone.
struct Server {
    child: Child,
    url: String,
    _folder: Stage,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start() -> Self {
        let folder = Stage::new();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--requirepass", "canary", "--port"])
            .arg(port.to_string());
        command.arg("--dir").arg(folder.path("cache")).stdout(Stdio::null());
        let child = command.spawn().expect("a redis-server in PATH, as `cargo xtask test` has it");
        let server = Self { child, url: format!("redis://:canary@127.0.0.1:{port}/"), _folder: folder };
        let until = Instant::now() + Duration::from_secs(30);
        while server.connect().await.is_none() {
            assert!(Instant::now() < until, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    async fn connect(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd("PING").query_async::<String>(&mut connection).await.ok()?;
        Some(connection)
    }

    async fn does(&self, words: &[&str]) -> Vec<String> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer: redis::Value = command.query_async(&mut self.connect().await.unwrap()).await.unwrap();
        redis::from_redis_value(answer).unwrap_or_default()
    }

    /// The job's args for this server.
    fn args(&self, more: &Value) -> Value {
        let file = self._folder.path("url");
        std::fs::write(&file, &self.url).unwrap();
        let mut target = json!({"kind": "redis", "url": {"file": file}, "pattern": "page:*"});
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"targets": [target]})
    }

    async fn keys(&self) -> Vec<String> {
        let mut keys = self.does(&["KEYS", "*"]).await;
        keys.sort();
        keys
    }
}

#[tokio::test]
async fn keys_that_never_expire_or_were_not_used_go_and_others_stay() {
    let server = Server::start().await;
    // RESTORE sets how long a key was not used.
    server.does(&["SET", "seed", "v"]).await;
    let mut connection = server.connect().await.unwrap();
    let dump: Vec<u8> = redis::cmd("DUMP").arg("seed").query_async(&mut connection).await.unwrap();
    for (key, ttl, idle) in
        [("page:a", 0, 7_200), ("page:b", 0, 60), ("page:c", 900_000, 7_200), ("other", 0, 7_200)]
    {
        let mut restore = redis::cmd("RESTORE");
        restore.arg(key).arg(ttl).arg(&dump).arg("IDLETIME").arg(idle);
        restore.query_async::<()>(&mut connection).await.unwrap();
    }

    for (more, left) in [
        (json!({"max_age": "1h", "without_ttl": true}), vec!["other", "page:b", "page:c", "seed"]),
        (json!({"max_age": "1h"}), vec!["other", "page:b", "seed"]),
        (json!({"without_ttl": true}), vec!["other", "seed"]),
    ] {
        let before = server.keys().await;
        let mut args = server.args(&more);
        args["dry_run"] = json!(true);
        let dry = run(&args).await;
        assert_eq!(server.keys().await, before, "{more}");
        args["dry_run"] = json!(false);
        let real = run(&args).await;

        assert_eq!(server.keys().await, left, "{more}: {real:?}");
        assert_eq!((listed(&dry), &dry.output["bytes"]), (listed(&real), &real.output["bytes"]));
        assert_eq!(real.output["removed"], 1);
        assert!(real.output["bytes"].as_u64().unwrap() > 0 && !format!("{dry:?}{real:?}").contains("canary"));
    }
}

#[tokio::test]
async fn many_keys_are_gone_through_in_parts_and_no_command_lists_them_all() {
    let server = Server::start().await;
    let mut connection = server.connect().await.unwrap();
    let mut pipe = redis::pipe();
    for number in 0..5_000 {
        pipe.set(format!("page:{number}"), "v").ignore();
    }
    pipe.query_async::<()>(&mut connection).await.unwrap();

    let told = run(&server.args(&json!({"without_ttl": true}))).await;

    assert_eq!((told.output["removed"].as_u64(), told.error), (Some(5_000), None));
    let calls: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    assert!(calls.contains("cmdstat_scan:calls=") && !calls.contains("cmdstat_keys"), "{calls}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_without_its_password() {
    let server = Server::start().await;
    let args = server.args(&json!({"without_ttl": true}));
    drop(server.connect().await);
    let stage = Stage::new();
    let file = stage.path("url");
    std::fs::write(&file, "redis://:canary@127.0.0.1:1/").unwrap();
    let mut closed = args.clone();
    closed["targets"][0]["url"] = json!({"file": file});

    let told = run(&closed).await;

    let error = told.error.clone().unwrap();
    assert!(error.contains("cannot be cleaned") && !format!("{told:?}").contains("canary"), "{told:?}");
}

#[tokio::test]
async fn a_server_that_vanishes_half_way_is_told_with_what_went_before() {
    const KEYS: u64 = 200_000;
    let mut server = Server::start().await;
    let mut connection = server.connect().await.unwrap();
    for part in 0..KEYS / 10_000 {
        let mut pipe = redis::pipe();
        for number in 0..10_000 {
            pipe.set(format!("page:{part}:{number}"), "v").ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }
    let args = server.args(&json!({"without_ttl": true}));

    let running = tokio::spawn(async move { run(&args).await });
    let size = async |connection: &mut MultiplexedConnection| {
        redis::cmd("DBSIZE").query_async::<u64>(connection).await.unwrap()
    };
    // Only what the server has answered counts as removed, and of the last page the answer may be lost.
    while size(&mut connection).await > KEYS - 10_000 {}
    server.child.kill().unwrap();
    let told = tokio::time::timeout(Duration::from_secs(60), running).await.expect("it ends").unwrap();

    let error = told.error.clone().unwrap();
    assert!(error.contains("the Redis server cannot be cleaned"), "{error}");
    let removed = told.output["removed"].as_u64().unwrap();
    assert!(removed > 0 && removed < KEYS && !format!("{told:?}").contains("canary"), "{told:?}");
}

#[tokio::test]
async fn a_server_that_stops_answering_keeps_the_run_no_longer_than_its_limit() {
    let server = Server::start().await;
    server.does(&["SET", "page:1", "v"]).await;
    let mut args = server.args(&json!({"without_ttl": true, "timeout": "300ms"}));
    let second = json!({"kind": "directory", "path": server._folder.path("none"), "max_age": "1d"});
    args["targets"].as_array_mut().unwrap().push(second);
    let stopped = Command::new("kill").args(["-STOP", &server.child.id().to_string()]).status().unwrap();

    let began = Instant::now();
    let told = run(&args).await;

    assert!(stopped.success() && began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(told.error.unwrap().contains("not done within 300ms"));
    assert_eq!(told.output["targets"].as_array().unwrap().len(), 2, "the next one is cleaned");
}
