//! What one run does to one cache: whether it is dry, when it must stop, and what went.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::Timestamp;
use serde_json::{Value, json};

/// The most items that stay and are told why.
const MOST_FAULTS: usize = 10;

/// One pass over one cache. Clones share it.
#[derive(Clone, Debug)]
pub struct Sweep(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_dry: bool,
    now: Timestamp,
    most_listed: usize,
    stopped: AtomicBool,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    removed: u64,
    bytes: u64,
    /// Those that go first, the latest of them on top.
    listed: BinaryHeap<Item>,
    vanished: u64,
    passed_over: u64,
    failed: u64,
    faults: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    order: u128,
    name: String,
    bytes: u64,
}

/// Tells a sweep to stop when it is dropped.
#[derive(Debug)]
pub(crate) struct Stopping(Sweep);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Sweep {
    pub(crate) fn new(is_dry: bool, now: Timestamp, most_listed: usize) -> Self {
        let tally = Mutex::default();
        Self(Arc::new(Inner { is_dry, now, most_listed, stopped: AtomicBool::new(false), tally }))
    }

    /// Whether nothing may be removed.
    pub fn is_dry(&self) -> bool {
        self.0.is_dry
    }

    /// The instant from which ages count.
    pub fn now(&self) -> Timestamp {
        self.0.now
    }

    /// Whether it must end.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    /// Tells that an item was removed, or would be. What has the smallest `order` is listed.
    pub fn removed(&self, order: u128, bytes: u64, name: impl FnOnce() -> String) {
        let mut tally = self.tally();
        tally.removed += 1;
        tally.bytes = tally.bytes.saturating_add(bytes);
        let is_full = tally.listed.len() >= self.0.most_listed;
        if is_full && tally.listed.peek().is_none_or(|last| last.order < order) {
            return;
        }
        tally.listed.push(Item { order, name: name(), bytes });
        if is_full {
            tally.listed.pop();
        }
    }

    /// Tells that many items were removed, or would be, of which no single one is listed here.
    pub fn removed_many(&self, count: u64, bytes: u64) {
        let mut tally = self.tally();
        tally.removed = tally.removed.saturating_add(count);
        tally.bytes = tally.bytes.saturating_add(bytes);
    }

    /// Lists an item that [`removed_many`](Self::removed_many) counts.
    pub fn list(&self, order: u128, name: impl FnOnce() -> String) {
        let mut tally = self.tally();
        if tally.listed.len() < self.0.most_listed {
            tally.listed.push(Item { order, name: name(), bytes: 0 });
        }
    }

    /// How many items are listed.
    pub fn most_listed(&self) -> usize {
        self.0.most_listed
    }

    /// Tells that an item was gone before it could be removed.
    pub fn vanished(&self) {
        self.tally().vanished += 1;
    }

    /// Tells that something is none of this cache's business, such as another file system.
    pub fn passed_over(&self) {
        self.tally().passed_over += 1;
    }

    /// Tells that an item stays although it is due, or cannot be looked at.
    pub fn failed(&self, why: impl FnOnce() -> String) {
        let mut tally = self.tally();
        tally.failed += 1;
        if tally.faults.len() < MOST_FAULTS {
            tally.faults.push(why());
        }
    }

    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stopped_when_dropped(&self) -> Stopping {
        Stopping(self.clone())
    }

    /// How many items went, and how many bytes.
    pub(crate) fn freed(&self) -> (u64, u64) {
        let tally = self.tally();
        (tally.removed, tally.bytes)
    }

    /// What to say of the items that stay.
    pub(crate) fn fault(&self) -> Option<String> {
        let tally = self.tally();
        let first = tally.faults.first()?;
        Some(format!("{} items stay, such as {first}", tally.failed))
    }

    pub(crate) fn shown(&self) -> Value {
        let tally = self.tally();
        let mut listed: Vec<&Item> = tally.listed.iter().collect();
        listed.sort_unstable();
        let listed: Vec<Value> =
            listed.into_iter().map(|item| json!({"item": item.name, "bytes": item.bytes})).collect();
        json!({
            "removed": tally.removed,
            "bytes": tally.bytes,
            "listed": listed,
            "vanished": tally.vanished,
            "passed_over": tally.passed_over,
            "failed": tally.failed,
            "faults": tally.faults,
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
