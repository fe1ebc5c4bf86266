//! A server that speaks as much of Prefect's API as starting a run takes, and does wrong what it is told to.
//!
//! It is written by hand down to the bytes, as a decent HTTP library would not break off in the middle of an answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The deployment that it has.
pub(crate) const DEPLOYMENT: &str = "03cfae9f-dc37-4fdf-a4bd-319c630b0190";

/// What is done to one request that starts a run.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing is answered, and nothing was done.
    Blackhole,
    /// The run is made, and nothing is answered.
    SlowHeaders,
    /// The run is made, and the answer stops half-way.
    SlowBody,
    /// The run is made, and the connection ends without an answer.
    Reset,
    /// The run is made, and the connection ends in the middle of the answer.
    CutShort,
    /// The run is made, and the answer to that is something else.
    MadeBut(u16, &'static str, String),
    /// The run is made, and the answer does not end; with its length announced, or without.
    Endless { announced: bool },
    /// Nothing was done; that status, these headers and this body are answered.
    Status(u16, String, String),
}

/// What was seen and done.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Every request: its first line, its headers and its body.
    pub(crate) requests: Vec<(String, String, Value)>,
    /// The runs by their key, as Prefect keeps them.
    pub(crate) runs: BTreeMap<String, Value>,
    /// How many runs were made without a key.
    pub(crate) keyless: usize,
    /// How many bytes of a body without end were sent.
    pub(crate) sent: usize,
}

/// The server; it stops with this.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    lost_looks: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct State {
    seen: Arc<Mutex<Seen>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// How many of the next requests for lists of runs are not answered.
    lost_looks: Arc<AtomicUsize>,
    /// The token against forged requests that is asked for, if any.
    csrf: Option<&'static str>,
    deployment: Value,
}

impl Server {
    /// A server that does this to the requests that start a run, one after the other, and serves the rest well.
    pub(crate) async fn start(faults: Vec<Fault>) -> Self {
        Self::start_with(faults, None, json!({})).await
    }

    pub(crate) async fn start_with(faults: Vec<Fault>, csrf: Option<&'static str>, more: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let mut deployment = json!({
            "id": DEPLOYMENT, "name": "d", "flow_id": DEPLOYMENT, "schedules": [], "parameters": {},
            "parameter_openapi_schema": { "type": "object", "properties": { "n": { "type": "integer" } } },
        });
        deployment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let faults: Arc<Mutex<VecDeque<Fault>>> = Arc::new(Mutex::new(faults.into()));
        let lost_looks: Arc<AtomicUsize> = Arc::default();
        let state = State {
            seen: Arc::clone(&seen),
            faults: Arc::clone(&faults),
            lost_looks: Arc::clone(&lost_looks),
            csrf,
            deployment,
        };
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        });
        Self { url, seen, faults, lost_looks, accepting }
    }

    /// Does this to the next request that starts a run.
    pub(crate) fn will(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// Answers none of the next requests for lists of runs, so many.
    pub(crate) fn lose_looks(&self, count: usize) {
        self.lost_looks.store(count, Ordering::SeqCst);
    }

    /// How many requests tried to start a run.
    pub(crate) fn starts(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.requests.iter().filter(|(line, ..)| line.contains("create_flow_run")).count()
    }

    /// How many runs there are.
    pub(crate) fn runs(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.runs.len() + seen.keyless
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, state: State) {
    while let Some((line, headers, body)) = read_request(&mut stream).await {
        state.seen.lock().unwrap().requests.push((line.clone(), headers.clone(), body.clone()));
        if !answer(&mut stream, &state, &line, &headers, &body).await {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let (line, headers) = head.split_once("\r\n")?;
    let length = headers.lines().find_map(|header| {
        let (name, value) = header.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some((line.to_owned(), headers.to_owned(), body))
}

/// Whether the connection goes on.
async fn answer(stream: &mut TcpStream, state: &State, line: &str, headers: &str, body: &Value) -> bool {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    if let Some(refusal) = refusal(state, method, path, headers) {
        return write(stream, refusal.0, "", &refusal.1.to_string()).await;
    }
    if path.ends_with("/flow_runs/filter") {
        let lose = |left: usize| left.checked_sub(1);
        return match state.lost_looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose) {
            Ok(_) => hang().await,
            Err(_) => write(stream, 200, "", "[]").await,
        };
    }
    if !path.ends_with("/create_flow_run") {
        let (status, answer) = plain(state, method, path, body);
        return write(stream, status, "", &answer.to_string()).await;
    }
    let fault = state.faults.lock().unwrap().pop_front();
    if matches!(fault, Some(Fault::Blackhole)) {
        return hang().await;
    }
    if let Some(Fault::Status(status, headers, body)) = fault {
        return write(stream, status, &headers, &body).await;
    }
    let (status, run) = make(state, body);
    let text = run.to_string();
    match fault {
        None | Some(Fault::Blackhole | Fault::Status(..)) => write(stream, status, "", &text).await,
        Some(Fault::SlowHeaders) => hang().await,
        Some(Fault::Reset) => false,
        Some(Fault::MadeBut(status, headers, body)) => write(stream, status, headers, &body).await,
        Some(Fault::SlowBody) => {
            write_half(stream, &text).await;
            hang().await
        }
        Some(Fault::CutShort) => {
            write_half(stream, &text).await;
            false
        }
        Some(Fault::Endless { announced }) => {
            pour(stream, state, announced).await;
            false
        }
    }
}

/// What is wrong with a request that ought to carry a token.
fn refusal(state: &State, method: &str, path: &str, headers: &str) -> Option<(u16, Value)> {
    let token = state.csrf?;
    if path.starts_with("/api/csrf-token?client=") {
        let client = path.split('=').next_back()?;
        return Some((
            200,
            json!({ "token": token, "client": client, "expiration": "2030-01-01T00:00:00Z" }),
        ));
    }
    let is_there = headers.to_ascii_lowercase().contains(&format!("prefect-csrf-token: {token}"));
    (method != "GET" && !is_there).then(|| (403, json!({ "detail": "Missing CSRF token." })))
}

/// What is answered to anything but the start of a run.
fn plain(state: &State, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let schedule = format!("/api/deployments/{DEPLOYMENT}/schedules");
    match (method, path) {
        // Prefect Cloud does not tell a version.
        ("GET", "/api/admin/version") if state.deployment["cloud"] == true => {
            (404, json!({ "detail": "Not Found" }))
        }
        ("GET", "/api/admin/version") => {
            (200, state.deployment.get("version").unwrap_or(&json!("3.8.8")).clone())
        }
        ("POST", "/api/deployments/count") => (200, json!(1)),
        ("GET", path) if path.starts_with("/api/csrf-token") => {
            (422, json!({ "detail": "CSRF protection is disabled." }))
        }
        ("GET", path) if path == format!("/api/deployments/{DEPLOYMENT}") => (200, state.deployment.clone()),
        ("POST", path) if path == schedule => (201, body.clone()),
        ("PATCH" | "DELETE", _) => (200, json!({})),
        _ => (404, json!({ "detail": "Not Found" })),
    }
}

/// Makes the run of that key, unless it is there.
fn make(state: &State, body: &Value) -> (u16, Value) {
    let mut seen = state.seen.lock().unwrap();
    let number = seen.runs.len();
    let run = json!({
        "id": format!("00000000-0000-4000-8000-{number:012}"), "deployment_id": DEPLOYMENT, "labels": body["labels"],
        "state_type": "SCHEDULED", "state_name": "Scheduled", "idempotency_key": body["idempotency_key"],
    });
    let Some(key) = body["idempotency_key"].as_str() else {
        seen.keyless += 1;
        return (201, run);
    };
    if let Some(there) = seen.runs.get(key) {
        return (200, there.clone());
    }
    seen.runs.insert(key.to_owned(), run.clone());
    (201, run)
}

fn head(status: u16, headers: &str, length: usize) -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let kind = if headers.contains("content-type") { "" } else { "content-type: application/json\r\n" };
    format!("HTTP/1.1 {status} Said\r\ndate: {date}\r\n{kind}content-length: {length}\r\n{headers}\r\n")
}

async fn write(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let answer = format!("{}{body}", head(status, headers, body.len()));
    stream.write_all(answer.as_bytes()).await.is_ok()
}

async fn write_half(stream: &mut TcpStream, body: &str) {
    let answer = format!("{}{}", head(201, "", body.len()), &body[..body.len() / 2]);
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Two GiB, unless the reader has enough before.
async fn pour(stream: &mut TcpStream, state: &State, announced: bool) {
    const WHOLE: usize = 2 << 30;
    let head = if announced {
        head(201, "", WHOLE)
    } else {
        "HTTP/1.1 201 Said\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\"".to_owned()
    };
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let chunk = vec![b'x'; 1 << 16];
    for _ in 0..WHOLE / chunk.len() {
        if stream.write_all(&chunk).await.is_err() {
            return;
        }
        state.seen.lock().unwrap().sent += chunk.len();
    }
}

async fn hang() -> bool {
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    false
}
