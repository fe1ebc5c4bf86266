//! A server that wants to know who asks, and a token against forged requests with whatever writes.

use std::io::Write as _;

use backend_workflow::{Auth, PrefectEngine, Told, WorkflowEngine};
use scheduler_core::{Error, ErrorKind, Secret};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::sync::mpsc::unbounded_channel;

use crate::demo::{Demo, engine_as};
use crate::events::{next, put};
use crate::records::{Records, variable};

/// The user of the suite with this password, or the right one.
struct Caller {
    user: String,
    password: NamedTempFile,
}

impl Caller {
    fn new(password: Option<&str>) -> Self {
        let guard = variable("TEST_PREFECT_GUARD");
        let (user, right) = guard.split_once(':').unwrap();
        let mut file = NamedTempFile::new().unwrap();
        writeln!(file, "{}", password.unwrap_or(right)).unwrap();
        Self { user: user.to_owned(), password: file }
    }

    fn engine(&self, records: &Records) -> PrefectEngine {
        let password = Secret::file(self.password.path());
        engine_as(&records.url, Auth::Basic { user: self.user.clone(), password })
    }
}

/// Why nothing is heard.
async fn deaf(engine: &PrefectEngine) -> Error {
    engine.watch("tag", &|_| panic!("it was let in")).await.unwrap_err()
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn who_is_let_in_starts_runs_and_hears_what_becomes_of_them() {
    let (records, caller) = (Records::guarded(), Caller::new(None));
    let no_pool = json!({ "work_pool_name": Value::Null });
    let demo = Demo::on(records.clone(), caller.engine(&records), &no_pool).await;
    let launch = demo.launch("k", &json!({}));
    let first = demo.engine.trigger(&launch).await.unwrap();
    let again = caller.engine(&records).trigger(&launch).await.unwrap();
    assert!(first.created && !again.created && first.run.id == again.run.id, "{first:?} {again:?}");

    let (tell, mut told) = unbounded_channel();
    let listener = caller.engine(&records);
    let listening =
        tokio::spawn(
            async move { listener.watch("of-the-suite", &move |news| tell.send(news).unwrap()).await },
        );
    assert_eq!(next(&mut told, "the stream").await, Told::Begun);
    put(&records, &first.run.id.0, "RUNNING");

    assert_eq!(next(&mut told, "the event").await, Told::Changed(first.run.id));
    assert_eq!(demo.runs().len(), 1);
    listening.abort();
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn who_is_not_let_in_is_told_so_and_starts_nothing() {
    let records = Records::guarded();
    let no_pool = json!({ "work_pool_name": Value::Null });
    let right = Caller::new(None);
    let demo = Demo::on(records.clone(), right.engine(&records), &no_pool).await;
    let wrong = Caller::new(Some("hunter2"));

    for engine in [wrong.engine(&records), engine_as(&records.url, Auth::None)] {
        let refusals = [
            engine.probe().await.unwrap_err(),
            engine.trigger(&demo.launch("k", &json!({}))).await.unwrap_err(),
            deaf(&engine).await,
        ];
        for refused in refusals {
            assert_eq!((refused.code(), refused.kind()), ("engine/unauthorized", ErrorKind::Unauthorized));
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }
    assert_eq!(demo.runs(), Vec::<Value>::new());
}
