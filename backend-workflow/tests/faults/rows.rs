//! The rows: what is done to a request that starts a run, what has to come of it, and what was counted.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use backend_workflow::{Launch, PrefectEngine, PrefectSettings, WorkflowEngine, WorkflowId};
use scheduler_core::{ErrorKind, Result};
use serde_json::{Map, json};

use crate::server::{DEPLOYMENT, Fault, Server};

const KEY: &str = "default:backup:2026-01-01T00:00:00Z";

/// One row.
struct Row {
    injected: &'static str,
    faults: Vec<Fault>,
    /// `created`, or the code of the error.
    expected: &'static str,
    /// How many requests try to start the run, and how many runs there are after that.
    starts: usize,
    runs: usize,
    /// How long it takes at least.
    at_least: Duration,
}

impl Row {
    fn new(
        injected: &'static str,
        faults: Vec<Fault>,
        expected: &'static str,
        starts: usize,
        runs: usize,
    ) -> Self {
        Self { injected, faults, expected, starts, runs, at_least: Duration::ZERO }
    }

    fn at_least(mut self, millis: u64) -> Self {
        self.at_least = Duration::from_millis(millis);
        self
    }

    /// Whether it came as expected, and what says so, as `cargo xtask faults workflow` prints it.
    async fn check(self) -> (bool, String) {
        let server = Server::start(self.faults.clone()).await;
        let engine = engine(&server.url);
        let began = Instant::now();

        let outcome = engine.trigger(&launch(&json!({}))).await;
        let took = began.elapsed();
        let again = engine.trigger(&launch(&json!({}))).await;

        let said = match &outcome {
            Ok(launched) if launched.created => "created".to_owned(),
            Ok(_) => "duplicate".to_owned(),
            Err(error) => error.code().to_owned(),
        };
        // The fire is tried once more, as by a daemon that started anew; what is left is one run.
        let (starts, runs) = (server.starts(), server.runs());
        let again =
            again.map_or_else(|error| error.code().to_owned(), |launched| launched.created.to_string());
        let is_met = said == self.expected
            && took >= self.at_least
            && runs == 1
            && again == (self.runs == 0).to_string()
            && starts == self.starts + 1;
        let mut told = format!("--> {}\n", self.injected);
        writeln!(told, "    expected: {}, {} requests, {} runs", self.expected, self.starts, self.runs)
            .unwrap();
        let requests = starts - 1;
        writeln!(
            told,
            "    counted: {said}, {requests} requests; the same fire again: new = {again}, {runs} run in all"
        )
        .unwrap();
        if let Err(error) = outcome {
            writeln!(told, "    told: {error}").unwrap();
        }
        let verdict = if is_met { "held" } else { "BROKE" };
        write!(told, "    {verdict}, {:.1}s", took.as_secs_f64()).unwrap();
        (is_met, told)
    }
}

/// Patient enough for a machine that is busy, and no more.
pub(crate) fn engine(url: &str) -> PrefectEngine {
    let mut settings = PrefectSettings::new(url);
    settings.timeout = Duration::from_secs(3);
    settings.patience = Duration::from_secs(20);
    settings.attempts = 3;
    settings.backoff = Duration::from_millis(10);
    settings.failures_to_open = 0;
    PrefectEngine::new(settings).unwrap()
}

pub(crate) fn launch(parameters: &serde_json::Value) -> Launch {
    Launch {
        workflow: WorkflowId(DEPLOYMENT.to_owned()),
        key: KEY.to_owned(),
        name: "backup".to_owned(),
        parameters: parameters.as_object().cloned().unwrap_or_else(Map::new),
        at: None,
        tags: Vec::new(),
    }
}

fn status(status: u16, headers: impl Into<String>, body: impl Into<String>) -> Fault {
    Fault::Status(status, headers.into(), body.into())
}

fn rows() -> Vec<Row> {
    const HTML: &str = "content-type: text/html\r\n";
    let page = || "<html><title>Bad Gateway</title></html>".to_owned();
    let in_two_seconds = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let limited =
        |after: &str| status(429, format!("retry-after: {after}\r\n"), r#"{"detail":"rate limit"}"#);
    let passing = |fault: Fault| vec![fault];
    let lasting = |fault: Fault| vec![fault; 3];
    vec![
        Row::new("nothing", vec![], "created", 1, 1),
        Row::new("a blackhole", passing(Fault::Blackhole), "created", 2, 1),
        Row::new("a blackhole that lasts", lasting(Fault::Blackhole), "engine/timed_out", 3, 0),
        Row::new("headers that do not come", passing(Fault::SlowHeaders), "created", 2, 1),
        Row::new("a body that stops", passing(Fault::SlowBody), "created", 2, 1),
        Row::new("the end of the connection after the run was made", passing(Fault::Reset), "created", 2, 1),
        Row::new("the same three times", lasting(Fault::Reset), "engine/cut_short", 3, 1),
        Row::new("an answer that is cut short", passing(Fault::CutShort), "created", 2, 1),
        Row::new("500", passing(status(500, "", r#"{"exception_message":"oh"}"#)), "engine/failed", 1, 0),
        Row::new("a page with 502", passing(status(502, HTML, page())), "created", 2, 1),
        Row::new(
            "a page with 502 after the run was made",
            passing(Fault::MadeBut(502, HTML, page())),
            "created",
            2,
            1,
        ),
        Row::new("502 that lasts", lasting(status(502, HTML, page())), "engine/overloaded", 3, 0),
        Row::new(
            "503 that lasts",
            lasting(status(503, "", "Service Unavailable")),
            "engine/overloaded",
            3,
            0,
        ),
        Row::new("429 for a second", passing(limited("1")), "created", 2, 1).at_least(1_000),
        Row::new("429 for a fraction of one", passing(limited("0.4")), "created", 2, 1).at_least(400),
        Row::new("429 until a date", passing(limited(&in_two_seconds)), "created", 2, 1),
        Row::new("429 for an hour", passing(limited("3600")), "engine/overloaded", 1, 0),
        Row::new(
            "423 for a fraction of a second",
            passing(status(423, "retry-after: 0.2\r\n", "{}")),
            "created",
            2,
            1,
        )
        .at_least(200),
        Row::new(
            "401",
            passing(status(401, "", r#"{"exception_message":"Unauthorized"}"#)),
            "engine/unauthorized",
            1,
            0,
        ),
        Row::new("403", passing(status(403, "", r#"{"detail":"Forbidden"}"#)), "engine/forbidden", 1, 0),
        Row::new(
            "404",
            passing(status(404, "", r#"{"detail":"Deployment not found"}"#)),
            "engine/unknown_workflow",
            1,
            0,
        ),
        Row::new(
            "409",
            passing(status(409, "", r#"{"detail":"Validation failed"}"#)),
            "engine/bad_parameters",
            1,
            0,
        ),
        Row::new(
            "422",
            passing(status(422, "", r#"{"exception_message":"Invalid"}"#)),
            "engine/refused",
            1,
            0,
        ),
        Row::new("418", passing(status(418, "", "{}")), "engine/bad_answer", 1, 0),
        Row::new(
            "302",
            passing(status(302, "location: http://127.0.0.1:1/\r\n", "")),
            "engine/bad_answer",
            1,
            0,
        ),
        Row::new("a page with 201", passing(Fault::MadeBut(201, HTML, page())), "engine/bad_answer", 1, 1),
        Row::new(
            "damaged JSON",
            passing(Fault::MadeBut(201, "", "{\"id\":".to_owned())),
            "engine/bad_answer",
            1,
            1,
        ),
        Row::new("other JSON", passing(Fault::MadeBut(201, "", "[]".to_owned())), "engine/bad_answer", 1, 1),
        Row::new(
            "an empty answer",
            passing(Fault::MadeBut(204, "", String::new())),
            "engine/bad_answer",
            1,
            1,
        ),
        Row::new("2 GiB, announced", passing(Fault::Endless { announced: true }), "engine/too_large", 1, 1),
        Row::new(
            "2 GiB, not announced",
            passing(Fault::Endless { announced: false }),
            "engine/too_large",
            1,
            1,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fire_starts_at_most_one_run_whatever_the_server_does() {
    let checks: Vec<_> = rows().into_iter().map(|row| tokio::spawn(row.check())).collect();

    let mut unmet = Vec::new();
    for check in checks {
        let (is_met, told) = check.await.unwrap();
        println!("{told}");
        unmet.extend((!is_met).then_some(told));
    }

    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
}

#[tokio::test]
async fn where_nobody_listens_the_call_ends_and_says_where() {
    let url = Server::start(vec![]).await.url.clone();

    let error = engine(&url).trigger(&launch(&json!({}))).await.unwrap_err();

    assert_eq!(error.code(), "engine/unreachable");
    assert!(error.is_transient() && error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_server_of_another_version_is_refused_by_what_it_is() {
    for version in ["2.20.27", "4.0.0", "", "nonsense\u{1b}[2J"] {
        let server = Server::start_with(vec![], None, json!({ "version": version })).await;

        let error = engine(&server.url).probe().await.unwrap_err();

        assert_eq!((error.code(), error.kind()), ("engine/wrong_version", ErrorKind::Unsupported));
        let said = error.to_string();
        let number = version.split('\u{1b}').next().unwrap();
        assert!(said.contains(number) && said.contains("Prefect 3") && said.contains(&server.url), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    let server = Server::start_with(vec![], None, json!({ "version": "3.0.0" })).await;
    assert_eq!(engine(&server.url).probe().await.unwrap().version, "3.0.0");
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_a_bound() {
    for announced in [true, false] {
        let server = Server::start(vec![Fault::Endless { announced }]).await;

        let error = engine(&server.url).trigger(&launch(&json!({}))).await.unwrap_err();

        assert_eq!(error.code(), "engine/too_large");
        // What the kernel holds between the two is sent as well.
        let sent = server.seen.lock().unwrap().sent;
        assert!(sent < 64 << 20, "announced: {announced}, sent: {sent}");
    }
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused_before_anything_is_started() {
    let server = Server::start(vec![]).await;
    let engine = engine(&server.url);

    let unfit = engine.trigger(&launch(&json!({ "n": "canary" }))).await.unwrap_err();
    let fit = engine.trigger(&launch(&json!({ "n": 5 }))).await.unwrap();

    assert_eq!(unfit.code(), "engine/bad_parameters");
    assert!(unfit.to_string().contains("`n`") && !unfit.to_string().contains("canary"), "{unfit}");
    assert!(fit.created);
    assert_eq!(server.starts(), 1);
}

#[tokio::test]
async fn a_start_is_one_call_until_the_server_contradicts_what_is_known() {
    let missing = status(404, "", r#"{"detail":"Deployment not found"}"#);
    let unfit = status(409, "", r#"{"detail":"Validation failed"}"#);
    for fault in [missing, unfit] {
        let server = Server::start(vec![]).await;
        let engine = engine(&server.url);
        let start = async |key: &str| {
            engine.trigger(&Launch { key: key.to_owned(), ..launch(&json!({ "n": 1 })) }).await
        };
        let calls = || {
            let seen = server.seen.lock().unwrap();
            seen.requests.iter().map(|(line, ..)| line.split('?').next().unwrap().to_owned()).collect()
        };

        for key in ["1", "2", "3"] {
            start(key).await.unwrap();
        }
        let first: Vec<String> = calls();
        server.will(fault);
        start("4").await.unwrap_err();
        start("5").await.unwrap();
        let second: Vec<String> = calls();

        // The schema and the question for a token against forged requests come once before the first.
        let is_start = |call: &&String| call.contains("create_flow_run");
        assert_eq!((first.len(), first.iter().filter(is_start).count()), (5, 3), "{first:?}");
        let after = &second[first.len()..];
        assert_eq!((after.len(), after.iter().filter(is_start).count()), (3, 2), "{after:?}");
    }
}

#[tokio::test]
async fn a_server_that_fails_in_a_row_is_not_asked_any_more() {
    let server = Server::start(vec![status(503, "", "Service Unavailable"); 4]).await;
    let mut settings = PrefectSettings::new(&server.url);
    (settings.attempts, settings.failures_to_open) = (1, 2);
    settings.open_for = Duration::from_secs(3_600);
    let engine = PrefectEngine::new(settings).unwrap();
    let start = || async { code_of(engine.trigger(&launch(&json!({}))).await) };

    assert_eq!([start().await, start().await], ["engine/overloaded"; 2]);
    let asked = server.seen.lock().unwrap().requests.len();
    assert_eq!([start().await, start().await], ["engine/circuit_open"; 2]);
    assert_eq!(engine.probe().await.unwrap_err().code(), "engine/circuit_open");
    assert_eq!(server.seen.lock().unwrap().requests.len(), asked);

    // Another client is not kept from asking, and one success is all that a server needs.
    let mut settings = PrefectSettings::new(&server.url);
    (settings.attempts, settings.failures_to_open) = (3, 3);
    let other = PrefectEngine::new(settings).unwrap();
    for _ in 0..2 {
        assert_eq!(code_of(other.trigger(&launch(&json!({}))).await), "created");
    }
}

#[tokio::test]
async fn a_server_whose_database_is_locked_for_a_moment_is_waited_for() {
    let locked = status(503, "", r#"{"exception_message":"Service Unavailable"}"#);
    let server = Server::start(vec![locked; 7]).await;
    let mut settings = PrefectSettings::new(&server.url);
    settings.backoff = Duration::from_millis(1);
    let engine = PrefectEngine::new(settings).unwrap();

    let launched = engine.trigger(&launch(&json!({}))).await;

    // More often than a server that says nothing is asked.
    assert_eq!((code_of(launched), server.starts(), server.runs()), ("created", 8, 1));
}

fn code_of(outcome: Result<backend_workflow::Launched>) -> &'static str {
    outcome.map_or_else(|error| error.code(), |_| "created")
}
