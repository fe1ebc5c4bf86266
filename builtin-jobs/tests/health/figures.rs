//! Whoever records metrics gets two of each target, and no more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use serde_json::json;

use crate::stage::{Stage, closed_port, named};

/// The gauges that were set. Clones share them.
#[derive(Clone, Default)]
struct Gauges(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Gauges {
    fn values(&self) -> BTreeMap<String, f64> {
        let values = self.0.lock().unwrap();
        values.iter().map(|(key, bits)| (key.clone(), f64::from_bits(bits.load(Ordering::Relaxed)))).collect()
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        panic!("{key} is no gauge")
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("{key} is no gauge")
    }
}

#[tokio::test]
async fn each_target_has_two_figures_however_often_it_is_looked_at() {
    let stage = Stage::new();
    let checks = json!([
        named("disk", json!({"kind": "disk", "path": "/", "degraded": "100%", "failed": 0})),
        named("memory", json!({"kind": "memory", "degraded": 0, "failed": 0})),
        named("port", json!({"kind": "tcp", "address": closed_port().to_string()})),
    ]);
    let gauges = Gauges::default();
    let _recording = set_default_local_recorder(&gauges);

    for _ in 0..3 {
        stage.run(&json!({"checks": checks})).await;
    }

    let values = gauges.values();
    let status = |target: &str| values[&format!("scheduler_health_status task=health target={target}")];
    assert_eq!(["memory", "disk", "port"].map(status), [0.0, 1.0, 2.0]);
    let latency =
        |target: &str| values[&format!("scheduler_health_latency_seconds task=health target={target}")];
    assert!(["memory", "disk", "port"].map(latency).iter().all(|seconds| *seconds > 0.0), "{values:?}");
    assert_eq!(values.len(), 6, "{values:?}");
}
