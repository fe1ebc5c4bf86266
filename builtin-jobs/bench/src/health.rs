//! A hundred targets of `health_check`, of which ten hang.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::work;

const TARGETS: usize = 100;
const HANGING: usize = 10;

/// Measures a look at all of them, each with a limit of so many seconds.
///
/// # Errors
/// A target is not told as what it is.
pub(crate) fn measure(limit: u64) -> Result<Value> {
    eprintln!("  {TARGETS} health targets, {HANGING} of them hang, limit {limit} s");
    let (well, silent) =
        (server(Some("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))?, server(None)?);
    let checks: Vec<Value> = (0..TARGETS).map(|number| check(number, well, silent)).collect();
    let done = work::run("health_check", &json!({"checks": checks, "timeout": format!("{limit}s")}))?;
    let rows = done.output["checks"].as_array().cloned().unwrap_or_default();
    let failed: Vec<&Value> = rows.iter().filter(|row| row["latest"] == "failed").collect();
    ensure!(
        rows.len() == TARGETS && failed.len() == HANGING,
        "{} of {} failed: {failed:?}",
        failed.len(),
        rows.len()
    );
    let seconds = done.took.as_secs_f64();
    Ok(json!({
        "health_targets": TARGETS,
        "health_hanging": HANGING,
        "health_limit_seconds": limit,
        "health_seconds": seconds,
        "health_ratio": seconds / limit as f64,
    }))
}

/// Every tenth hangs: a server that takes a call and says nothing, or a program that does not end.
fn check(number: usize, well: SocketAddr, silent: SocketAddr) -> Value {
    let name = format!("target {number}");
    match (number % (TARGETS / HANGING), number % 20) {
        (0, 0) => json!({"name": name, "kind": "http", "url": format!("http://{silent}/")}),
        (0, _) => json!({"name": name, "kind": "command", "program": "sleep", "args": ["600"]}),
        (1..=4, _) => json!({"name": name, "kind": "tcp", "address": well.to_string()}),
        (5..=8, _) => json!({"name": name, "kind": "http", "url": format!("http://{well}/")}),
        _ => json!({"name": name, "kind": "command", "program": "true"}),
    }
}

/// A server that answers every call with this, or never.
fn server(answer: Option<&'static str>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        for mut wire in listener.incoming().flatten() {
            match answer {
                None => held.push(wire),
                Some(answer) => drop(std::thread::spawn(move || {
                    // One that only looks whether the port is open says nothing.
                    if wire.read(&mut [0; 4_096]).is_ok_and(|read| read > 0) {
                        let _ = wire.write_all(answer.as_bytes());
                    }
                })),
            }
        }
    });
    Ok(address)
}
