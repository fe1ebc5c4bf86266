//! Two hundred repositories polled by `git_poll`, ten of which are slow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::work;

const SLOW: usize = 10;
const COMMIT: &str = "1111111111111111111111111111111111111111";

/// Measures a poll of `repositories`, ten of which answer after `slow`, each with a limit of `limit`; and one of those
/// ten alone.
///
/// # Errors
/// A repository does not answer.
pub(crate) fn measure(below: &Path, repositories: usize, slow: Duration, limit: Duration) -> Result<Value> {
    eprintln!("  {repositories} git repositories, {SLOW} of them answer after {slow:?}, limit {limit:?}");
    let address = slow_server(slow)?;
    let template = below.join("template.git");
    git(&["init", "--quiet", "--bare", "--initial-branch=main"], &template)?;
    git_in(
        &template,
        &["-c", "user.name=A", "-c", "user.email=a@example.com", "commit-tree", "-m", "first"],
    )?;
    let mut all = Vec::new();
    let mut slowest = Vec::new();
    for number in 0..repositories {
        if number.is_multiple_of(repositories / SLOW) {
            let url = format!("http://{address}/{number}.git");
            slowest.push(json!({"url": url}));
            all.push(json!({"url": url}));
        } else {
            let folder = below.join(format!("{number}.git"));
            copy(&template, &folder)?;
            all.push(json!({"url": folder}));
        }
    }
    let ten = poll(&slowest, limit)?;
    let seconds = poll(&all, limit)?;
    Ok(json!({
        "git_repositories": repositories,
        "git_slow": SLOW,
        "git_limit_seconds": limit.as_secs_f64(),
        "git_seconds": seconds,
        "git_slowest_ten_seconds": ten,
        "git_ratio": seconds / limit.as_secs_f64(),
        "git_ratio_to_slowest_ten": seconds / ten,
    }))
}

fn poll(repositories: &[Value], limit: Duration) -> Result<f64> {
    let args = json!({
        "repositories": repositories,
        "task": "deploy",
        "branches": ["main"],
        "timeout": format!("{}ms", limit.as_millis()),
        // A wait that is asked for is nothing to measure.
        "spread": "0s",
    });
    let done = work::run("git_poll", &args)?;
    if let Some(error) = done.error {
        bail!("{error}: {}", done.output);
    }
    let answered = &done.output["repositories"];
    ensure!(answered.is_null() || done.output["failed"].as_u64().unwrap_or(0) == 0, "{}", done.output);
    Ok(done.took.as_secs_f64())
}

fn git(words: &[&str], folder: &Path) -> Result<()> {
    let status = Command::new("git").args(words).arg(folder).status()?;
    ensure!(status.success(), "git {words:?} ended with {status}");
    Ok(())
}

/// A first commit on `main`, in a repository without a folder of files.
fn git_in(repository: &Path, commit: &[&str]) -> Result<()> {
    let said = |words: &[&str]| -> Result<String> {
        let said = Command::new("git").arg("--git-dir").arg(repository).args(words).output()?;
        ensure!(said.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&said.stderr));
        Ok(String::from_utf8(said.stdout)?.trim().to_owned())
    };
    let tree = said(&["hash-object", "-t", "tree", "-w", "/dev/null"])?;
    let words: Vec<&str> = commit.iter().copied().chain([tree.as_str()]).collect();
    let commit = said(&words)?;
    said(&["update-ref", "refs/heads/main", &commit]).map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp ended with {status}");
    Ok(())
}

/// A server that tells one branch of any repository, after a while.
fn slow_server(slow: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for wire in listener.incoming().flatten() {
            std::thread::spawn(move || answer(wire, slow));
        }
    });
    Ok(address)
}

fn answer(mut wire: TcpStream, slow: Duration) -> std::io::Result<()> {
    let (mut request, mut part) = (Vec::<u8>::new(), [0; 4_096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match wire.read(&mut part)? {
            0 => return Ok(()),
            count => request.extend(&part[..count]),
        }
    }
    std::thread::sleep(slow);
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let body = [
        line("# service=git-upload-pack\n"),
        "0000".to_owned(),
        line(&format!("{COMMIT} HEAD\0symref=HEAD:refs/heads/main agent=bench\n")),
        line(&format!("{COMMIT} refs/heads/main\n")),
        "0000".to_owned(),
    ]
    .concat();
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/x-git-upload-pack-advertisement\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    wire.write_all(head.as_bytes())?;
    wire.write_all(body.as_bytes())
}
