//! One HTTP call over a plain connection: what it takes to see whether a server of our own is up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::GUARD;

/// How long a server may say nothing: while it brings its database up to date, it does.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks and answers the JSON that comes back with a status of success. A server that does not ask who asks takes no
/// notice of being told.
///
/// # Errors
/// Nobody listens, or the answer is another one; it is quoted.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // By version 1.0 the answer ends with the connection and comes in one piece.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        GUARD.1,
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    read(&answer).with_context(|| format!("{method} {path}"))
}

fn read(answer: &str) -> Result<Value> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{status}: {}", body.chars().take(300).collect::<String>());
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(body).context("the answer is not JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_success_with_json_counts() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\ntrue").unwrap(), Value::Bool(true));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Value::Null);
        assert!(read("HTTP/1.1 503 No\r\n\r\ntrue").is_err());
        assert!(read("HTTP/1.1 200 OK\r\n\r\n<html>").is_err());
        assert!(read("true").is_err());
    }
}
