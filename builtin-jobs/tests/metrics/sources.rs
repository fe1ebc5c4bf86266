//! What each kind of source brings, and that one which fails takes nothing from the others.

use std::time::{Duration, Instant};

use scheduler_core::{AttemptEnd, CancelReason, attempt};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::stage::{Stage, endpoint, job, script, server};

const PAGE: &str = "# TYPE requests_total counter\nrequests_total{code=\"200\"} 3\ntemperature 21.5\n";

#[tokio::test]
async fn this_machine_is_told() {
    let stage = Stage::new();
    let told = stage.look(json!({"kind": "system"})).await;
    assert!(told.error.is_none() && told.of("system").get("missing").is_none(), "{told:?}");
    let kept = stage.values("*").await;
    let has = |name: &str| kept.iter().any(|(kept, value)| kept.starts_with(name) && *value > 0.0);
    for name in
        ["system_memory_total_bytes", "system_disk_free_bytes{mount=", "process_threads", "system_cpus"]
    {
        assert!(has(name), "{name}: {kept:?}");
    }
}

#[tokio::test]
async fn an_endpoint_is_scraped_and_a_program_is_read() {
    let stage = Stage::new();
    let sources = json!([
        {"name": "web", "kind": "scrape", "url": endpoint("200 OK", PAGE).await},
        script("lines", "echo jobs 4; echo 'jobs{queue=\"a\"} 5'"),
        script("object", "echo '{\"depth\": 6}'"),
    ]);
    let told = stage.run(&stage.args(&sources, json!({}))).await;
    assert!(told.error.is_none(), "{told:?}");
    let expected = [
        ("depth{source=\"object\"}", 6.0),
        ("jobs{queue=\"a\",source=\"lines\"}", 5.0),
        ("jobs{source=\"lines\"}", 4.0),
        ("requests_total{code=\"200\",source=\"web\"}", 3.0),
        ("temperature{source=\"web\"}", 21.5),
    ];
    assert_eq!(stage.values("*").await, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[tokio::test]
async fn what_the_query_of_an_endpoint_names_is_told_as_it_is() {
    let stage = Stage::new();
    let page = "up{target=\"web01.example\"} 1\n";
    let url = format!("{}?target=web01.example", endpoint("200 OK", page).await);

    let told = stage.look(json!({"kind": "scrape", "url": url})).await;

    assert!(told.error.is_none(), "{told:?}");
    let kept = stage.values("up").await;
    assert!(kept.len() == 1 && kept[0].0.contains("target=\"web01.example\""), "{kept:?}");
}

#[tokio::test]
async fn only_what_is_wanted_is_kept() {
    let stage = Stage::new();
    let source = json!({"kind": "scrape", "url": endpoint("200 OK", PAGE).await, "only": ["temp*"]});
    assert!(stage.look(source).await.error.is_none());
    assert_eq!(stage.values("*").await, [("temperature{source=\"scrape\"}".to_owned(), 21.5)]);
}

#[tokio::test]
async fn sources_that_fail_are_told_and_take_nothing_from_the_others() {
    let silent = server(|wire, _| async move {
        let _held = wire;
        std::future::pending::<()>().await;
    })
    .await;
    let vanishing = server(|mut wire, _| async move {
        let _ = wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na 1\nb 2\n").await;
    })
    .await;
    let large = server(|mut wire, _| async move {
        let _ = wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n").await;
    })
    .await;
    let scrape = |name: &str, url: String| json!({"name": name, "kind": "scrape", "url": url});
    let mut hangs = scrape("hangs", format!("http://{silent}/"));
    hangs["timeout"] = json!("300ms");
    let stage = Stage::new();
    let sources = json!([
        hangs,
        scrape("vanishes", format!("http://{vanishing}/")),
        scrape("large", format!("http://{large}/")),
        scrape("garbage", endpoint("200 OK", "a 1\n<html>\n").await),
        scrape("gone", endpoint("404 Not Found", "").await),
        script("fails", "echo no luck >&2; exit 65"),
        script("odd", "echo a b c"),
        script("well", "echo well 1"),
    ]);
    let told = stage.run(&stage.args(&sources, json!({"timeout": "60s"}))).await;

    assert!(told.message().starts_with("7 of 8 sources: hangs: no answer within 300ms; "), "{told:?}");
    assert!(told.asks_again(), "some may answer another time");
    for (name, fault) in [
        ("hangs", "no answer within 300ms"),
        ("vanishes", "http"),
        ("large", "more than 8388608 bytes"),
        ("garbage", "line 2: a name and a number were expected: `<html>`"),
        ("gone", "answered 404 Not Found"),
        ("fails", "no luck"),
        ("odd", "line 1: a number was expected: `a b c`"),
    ] {
        assert!(told.fault(name).contains(fault), "{name}: {told:?}");
    }
    assert_eq!(stage.values("*").await, [("well{source=\"well\"}".to_owned(), 1.0)], "no half of anything");
}

#[tokio::test]
async fn only_what_may_pass_asks_for_another_attempt() {
    let cases = [
        (json!({"name": "x", "kind": "scrape", "url": endpoint("503 Service Unavailable", "").await}), true),
        (json!({"name": "x", "kind": "scrape", "url": endpoint("404 Not Found", "").await}), false),
        (json!({"name": "x", "kind": "scrape", "url": endpoint("200 OK", "<html>").await}), false),
        (script("x", "exit 1"), true),
        (script("x", "exit 65"), false),
        (script("x", "echo x"), false),
    ];
    for (source, asks_again) in cases {
        let told = Stage::new().look(source.clone()).await;
        assert!(told.error.is_some(), "{source}");
        assert_eq!(told.asks_again(), asks_again, "{source}: {told:?}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_ends_with_its_group_at_its_limit() {
    let stage = Stage::new();
    let pid = stage.path("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
    let mut source = script_with_limit(&script, "2s");
    source["name"] = json!("hangs");
    let told = stage.look(source).await;
    assert_eq!(told.fault("hangs"), "no answer within 2s");
    let took = told.of("hangs")["duration_ms"].as_u64().unwrap();
    assert!((2_000..60_000).contains(&took), "it took {took} ms");
    let pid = std::fs::read_to_string(pid).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while is_alive(pid.trim()) {
        assert!(Instant::now() < until, "its child lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn script_with_limit(text: &str, limit: &str) -> serde_json::Value {
    let mut source = script("x", text);
    source["timeout"] = json!(limit);
    source
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_cancelled_run_keeps_nothing() {
    let stage = Stage::new();
    let flag = stage.path("began");
    let args = stage.args(
        &json!([script("x", &format!("touch {}; sleep 600", flag.display()))]),
        json!({"timeout": "1h"}),
    );
    let (job, ctx) = (job(&args), stage.context());
    let (end, ()) = tokio::join!(attempt(&*job, &ctx, None), async {
        while !flag.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ctx.cancel(CancelReason::Requested);
    });
    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    assert!(!stage.path("metrics.db").exists() && !stage.path("state").exists());
}
