//! Prefect's own records by plain HTTP: the evidence of what became of things, read past any code of ours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How often what is waited for is looked at.
const GLANCE: Duration = Duration::from_millis(250);

/// A server of Prefect.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// The address of its API.
    pub(crate) url: String,
    /// The headers by which it is said who asks, with the token that such a server wants with whatever writes.
    guard: String,
}

impl Records {
    /// The server that the suite brings.
    pub(crate) fn of_suite() -> Self {
        Self { url: variable("TEST_PREFECT_URL"), guard: String::new() }
    }

    /// The one that wants credentials and tokens against forged requests.
    pub(crate) fn guarded() -> Self {
        // A new token for a name ends the one before, so each has a name of its own.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let client = format!("suite-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let who = format!("Authorization: {}\r\n", variable("TEST_PREFECT_GUARD_SAID"));
        let mut records = Self { url: variable("TEST_PREFECT_GUARDED_URL"), guard: who };
        let answer = records.get(&format!("/csrf-token?client={client}"));
        let token = answer["token"].as_str().unwrap();
        let is_meant = format!("Prefect-Csrf-Client: {client}\r\nPrefect-Csrf-Token: {token}\r\n");
        records.guard.push_str(&is_meant);
        records
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.expect("GET", path, &Value::Null)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.expect("POST", path, body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Value {
        self.expect("PATCH", path, body)
    }

    /// Asks, whatever the answer is.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.exchange(method, path, body).unwrap_or_else(|error| panic!("{path}: {error}"));
            // Its database is busy; everything that is sent here may be sent again.
            if answer.0 != 503 || Instant::now() >= deadline {
                return answer;
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn expect(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path} {body}: {status} {answer}");
        answer
    }

    /// By version 1.0, where the answer ends with the connection and comes in one piece.
    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let (host, base) = self.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} /{base}{path} HTTP/1.0\r\nHost: {host}\r\n{}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.guard,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// The deployment of that name.
    pub(crate) fn deployment(&self, flow: &str, name: &str) -> Value {
        self.get(&format!("/deployments/name/{flow}/{name}"))
    }

    /// Every run of the deployment, as it is recorded.
    pub(crate) fn runs_of(&self, deployment: &Value) -> Vec<Value> {
        let of = json!({ "deployments": { "id": { "any_": [deployment["id"]] } }, "limit": 200 });
        self.post("/flow_runs/filter", &of).as_array().unwrap().clone()
    }

    /// What the run logged, oldest first.
    pub(crate) fn log(&self, run: &Value) -> Vec<String> {
        let of = json!({ "logs": { "flow_run_id": { "any_": [run["id"]] } }, "sort": "TIMESTAMP_ASC" });
        let lines = self.post("/logs/filter", &of);
        lines.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the run is in a state of one of these types, and answers it.
    pub(crate) fn becomes(&self, run: &Value, states: &[&str]) -> Value {
        let path = format!("/flow_runs/{}", run["id"].as_str().unwrap());
        let is_there = |run: &Value| states.iter().any(|state| run["state_type"] == *state);
        until(&format!("{states:?} of the run {path}"), || Some(self.get(&path)).filter(is_there))
    }

    /// Waits until the run has logged a line with this text, and answers all that it logged.
    pub(crate) fn logs(&self, run: &Value, text: &str) -> Vec<String> {
        let is_there = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        until(&format!("the line `{text}` of {}", run["id"]), || Some(self.log(run)).filter(is_there))
    }
}

/// A variable that the suite sets.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run `cargo xtask integration workflow`"))
}

/// Waits for what `look` answers.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(GLANCE);
    }
}
