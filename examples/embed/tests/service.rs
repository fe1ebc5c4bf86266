//! Runs the service as its users do.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn the_service_answers_from_its_cache_and_drains_when_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let rates = folder.path().join("rates");
    std::fs::write(&rates, "EURUSD 1.0834\nEURCHF 0.9371\n").unwrap();
    let mut service = Command::new(env!("CARGO_BIN_EXE_embed"))
        .args([&rates, &folder.path().join("reports")])
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.next().unwrap().replace("listening on ", "");
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let mut ask = |pair: &str| {
        stream.write_all(format!("{pair}\n").as_bytes()).unwrap();
        answers.next().unwrap()
    };

    // The first refresh may still be under way.
    let answer = std::iter::repeat_with(|| ask("EURUSD")).take(100_000).find(|answer| answer != "unknown");
    let nonsense = ask("EURMOON");
    let told = Command::new("kill").arg(service.id().to_string()).status().unwrap();
    let last = lines.last();

    assert_eq!(answer.as_deref(), Some("1.0834"));
    assert_eq!(nonsense, "unknown");
    assert!(told.success() && service.wait().unwrap().success());
    assert!(last.is_some_and(|line| line.starts_with("drained: ")));
}

#[test]
fn without_its_files_it_says_how_to_start_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_embed")).output().unwrap();

    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage: embed RATES REPORTS"));
}
