//! No secret gets into the output, the file, the state or the log.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::stage::{Stage, script, server};

const CANARY: &str = "canary-7f3a91";

#[tokio::test]
async fn no_secret_is_told_or_kept() {
    // A server and programs that send back what they were given, wherever a name, a label or a fault may stand.
    let echo = server(|mut wire, said| async move {
        let sent = said.lines().find_map(|line| line.strip_prefix("x-key: ")).unwrap_or("none").to_owned();
        let body = format!(
            "a{{key=\"{sent}\",path=\"http://u:{sent}@h/p?key={sent}\",plain=\"x {sent} y\"}} 1\n\
             b{{url=\"http://u:{CANARY}@h/?q={CANARY}\",session_token=\"{CANARY}\"}} 2\n"
        );
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = wire.write_all(answer.as_bytes()).await;
    })
    .await;
    let garbage = server(|mut wire, said| async move {
        let sent = said.lines().find_map(|line| line.strip_prefix("x-key: ")).unwrap_or("none").to_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n<{sent}", sent.len() + 1);
        let _ = wire.write_all(answer.as_bytes()).await;
    })
    .await;
    let stage = Stage::new();
    std::fs::write(stage.path("key"), CANARY).unwrap();
    let key = json!({"file": stage.path("key")});
    let scrape = |name: &str, address| json!({"name": name, "kind": "scrape", "url": format!("http://{address}/?key={CANARY}"), "headers": {"x-key": key}});
    let command = |name: &str, text: &str| {
        let mut source = script(name, text);
        source["env"] = json!({"KEY": key});
        source
    };
    let sources = json!([
        scrape("echo", echo),
        scrape("garbage", garbage),
        command("prints", "echo \"c{key=\\\"$KEY\\\"} 3\""),
        command("odd", "echo \"$KEY $KEY\""),
        command("fails", "echo $KEY; echo $KEY >&2; exit 65"),
    ]);
    let log = Log::default();
    let told = {
        let _heard = log.listen();
        stage.run(&stage.args(&sources, json!({"max_series": 1}))).await
    };

    assert_eq!(stage.values("a").await.len() + stage.values("c").await.len(), 2, "{told:?}");
    for place in [&format!("{told:?}"), &told.message(), &log.text()] {
        assert!(!place.contains(CANARY), "{place}");
    }
    assert!(log.text().contains("max_series"), "the log is heard");
    for entry in [stage.path("metrics.db"), stage.path("state/metrics.json")] {
        let content = std::fs::read(&entry).unwrap();
        let has = content.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes());
        assert!(!has, "{}", entry.display());
    }
}

/// Everything that is logged on this thread while somebody listens.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        // Were it the only subscriber, what a thread without one meets first would be off for all.
        std::mem::forget(tracing::Dispatch::new(self.clone()));
        tracing::subscriber::set_default(self.clone())
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0.lock().unwrap(), "{}={value:?}", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
