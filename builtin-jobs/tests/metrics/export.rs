//! Every number goes to the recorder that a program has installed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde_json::json;

use crate::stage::{Stage, endpoint, script};

/// What was set, by name and labels.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, f64>>>);

/// One of them.
struct Cell(Recorded, String);

impl Recorded {
    fn cell(&self, key: &Key, kind: &str) -> Arc<Cell> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Cell(self.clone(), format!("{kind} {} {}", key.name(), labels.join(","))))
    }
}

impl Cell {
    fn put(&self, value: f64) {
        self.0.0.lock().unwrap().insert(self.1.trim_end().to_owned(), value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, _: u64) {
        panic!("a counter is set, so that no run is counted twice");
    }

    fn absolute(&self, value: u64) {
        self.put(f64::from(u32::try_from(value).unwrap()));
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {
        unreachable!("a gauge is set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("a gauge is set");
    }

    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key, "counter"))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key, "gauge"))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("there are none")
    }
}

#[tokio::test]
async fn numbers_that_are_kept_go_to_the_recorder_and_no_others() {
    let stage = Stage::new();
    let page = "# TYPE a_total counter\na_total{code=\"200\"} 3.7\nb -1.5\nc 1\n";
    let web =
        json!({"name": "web", "kind": "scrape", "url": endpoint("200 OK", page).await, "max_series": 2});
    let args = stage.args(&json!([web, script("x", "echo d 4")]), json!({}));
    let recorded = Recorded::default();
    {
        let _installed = metrics::set_default_local_recorder(&recorded);
        assert!(stage.run(&args).await.error.is_none());
    }
    let expected = [
        ("counter a_total code=200,source=web", 3.0),
        ("gauge b source=web", -1.5),
        ("gauge d source=x", 4.0),
    ];
    assert_eq!(
        *recorded.0.lock().unwrap(),
        BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value)))
    );
    assert!(stage.run(&args).await.error.is_none(), "nobody listens, and all else goes on");
}
