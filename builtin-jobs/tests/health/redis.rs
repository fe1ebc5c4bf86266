//! A Redis server, one that the test starts or something that is none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::{Stage, closed_port, server};

/// A server of this test alone.
struct Redis {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    fn start(settings: &[&str]) -> Self {
        let (address, folder) = (closed_port(), tempfile::tempdir().unwrap());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port"]).arg(address.port().to_string());
        command.arg("--dir").arg(folder.path()).args(settings).stdout(Stdio::null());
        let child = command.spawn().expect("a redis-server in PATH, as `cargo xtask test` has it");
        let server = Self { child, address, _folder: folder };
        let until = Instant::now() + Duration::from_secs(30);
        while !server.answers() {
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn answers(&self) -> bool {
        let Ok(mut wire) = TcpStream::connect(self.address) else { return false };
        wire.write_all(b"PING\r\n").is_ok() && wire.read(&mut [0; 16]).is_ok_and(|count| count > 0)
    }
}

/// A check of the server there, with more keys, whose URL is a secret in a file.
fn check(stage: &Stage, address: SocketAddr, password: &str, more: Value) -> Value {
    let file = stage.path("url");
    let password = if password.is_empty() { String::new() } else { format!(":{password}@") };
    std::fs::write(&file, format!("redis://{password}{address}/")).unwrap();
    let mut check = json!({"kind": "redis", "url": {"file": file}});
    if let Value::Object(more) = more {
        check.as_object_mut().unwrap().extend(more);
    }
    check
}

#[tokio::test]
async fn a_server_answers_who_has_its_password_and_no_password_is_told() {
    let redis = Redis::start(&["--requirepass", "right canary"]);
    let stage = Stage::new();

    for (address, password, status, part) in [
        (redis.address, "right%20canary", "healthy", "answered PONG"),
        (redis.address, "wrong%20canary", "failed", "no connection to the server: "),
        (redis.address, "", "failed", "`PING`: "),
        (closed_port(), "right%20canary", "failed", "refused"),
    ] {
        let (found, message) = stage.look(check(&stage, address, password, json!({}))).await;
        assert_eq!(found, status, "{password}: {message}");
        assert!(message.contains(part) && !message.contains("canary"), "{message}");
    }
    let (found, message) = stage.look(json!({"kind": "redis", "url": {"file": stage.path("none")}})).await;
    assert!(found == "failed" && message.contains("none"), "{message}");
}

#[tokio::test]
async fn memory_and_role_are_judged_when_they_are_asked_for() {
    let well = Redis::start(&["--maxmemory", "100mb"]);
    let nobody = closed_port().port().to_string();
    let lost = Redis::start(&["--replicaof", "127.0.0.1", &nobody]);
    let stage = Stage::new();

    for (address, more, status, part) in [
        (well.address, json!({"role": "master", "degraded": "1%", "failed": 0}), "healthy", "is a master, "),
        (well.address, json!({"degraded": "100%", "failed": 0}), "degraded", "of 100.0 MiB) in its memory"),
        (well.address, json!({"failed": "100%", "degraded": "100%"}), "failed", "free"),
        (well.address, json!({"role": "replica"}), "failed", "it is a master"),
        (lost.address, json!({"role": "replica"}), "degraded", "a replica without its master"),
        (lost.address, json!({"role": "master"}), "failed", "it is a replica"),
        (lost.address, json!({"degraded": 1, "failed": 1}), "healthy", "in its memory"),
    ] {
        let (found, message) = stage.look(check(&stage, address, "", more.clone())).await;
        assert_eq!(found, status, "{more}: {message}");
        assert!(message.contains(part), "{more}: {message}");
    }
}

#[tokio::test]
async fn a_replica_that_follows_its_master_is_well() {
    let master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    let port = master.address.port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]);
    let stage = Stage::new();

    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (found, message) =
            stage.look(check(&stage, replica.address, "", json!({"role": "replica"}))).await;
        if found == "healthy" {
            assert!(message.ends_with("is a replica"), "{message}");
            return;
        }
        assert!(Instant::now() < until, "{message}");
    }
}

#[tokio::test]
async fn what_hangs_ends_half_way_or_answers_anything_else_has_failed() {
    let stage = Stage::new();
    let answers: &[&[u8]] = &[
        b"",
        b"+PO",
        b"+OK\r\n+OK\r\n+OK\r\n+GONP\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command `AUTH canary`\r\n",
        b"$2000000000\r\ncanary",
        b"*2000000000\r\n",
        b"\xff\xfe\x00\x01\x02\r\n",
    ];
    for answer in answers {
        let address = server(move |mut wire| async move {
            let _ = wire.read(&mut [0; 4096]).await;
            let _ = wire.write_all(answer).await;
        })
        .await;
        let (found, message) = stage.look(check(&stage, address, "canary", json!({}))).await;
        assert_eq!(found, "failed", "{answer:?}: {message}");
        assert!(!message.contains("canary") && message.len() < 1_000, "{answer:?}: {message}");
    }
    let telltale = server(|mut wire| async move {
        let mut said = [0; 4096];
        while let Ok(count @ 1..) = wire.read(&mut said).await {
            let request = String::from_utf8_lossy(&said[..count]);
            let answer = if request.contains("AUTH") { "+OK\r\n" } else { "-ERR you said canary\r\n" };
            // Every command begins with a star.
            let _ = wire.write_all(answer.repeat(request.matches('*').count()).as_bytes()).await;
        }
    })
    .await;
    let (found, message) = stage.look(check(&stage, telltale, "canary", json!({}))).await;
    assert!(found == "failed" && message.contains("you said …"), "{message}");
    let echo = server(|mut wire| async move {
        let (mut reader, mut writer) = wire.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let silent = server(|mut wire| async move {
        let _ = wire.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for address in [echo, silent] {
        let short = check(&stage, address, "canary", json!({"timeout": "300ms"}));
        let (found, message) = stage.look(short).await;
        assert!(found == "failed" && !message.contains("canary"), "{message}");
    }
}

#[tokio::test]
async fn an_address_that_may_not_be_connected_to_is_not() {
    let redis = Redis::start(&[]);
    let stage = Stage::new();
    let check = crate::stage::named("it", check(&stage, redis.address, "", json!({})));

    let told = stage.run(&json!({"checks": [check], "allow": ["private"]})).await;

    let error = told.error.unwrap();
    assert!(error.contains("address 127.0.0.1 is refused"), "{error}");
}
