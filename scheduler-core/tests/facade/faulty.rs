//! The memory backend behind a door that tests can close: it refuses, hangs and counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, Drained, Enqueued, Error, FiredBy, Health, Name, Page,
    Pause, Placed, Result, RunFilter, RunId, RunRequest, ScheduleStatus, Schedules, Tier, async_trait,
};
use tokio::sync::Notify;

use crate::custom_backend::CustomBackend;
use crate::stage::in_memory;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    Start,
    Enqueue,
    Runs,
    Cancel,
    Stop,
    Upsert,
    Remove,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Away,
    Refused,
    Panics,
    Hangs,
    /// Keeps its thread until that changes.
    Blocks,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: CustomBackend,
    contract: u32,
    longest_page: usize,
    faults: Mutex<BTreeMap<Call, Fault>>,
    /// Wakes calls that hang.
    changed: Notify,
    calls: Mutex<BTreeMap<Call, usize>>,
    pub(crate) enqueued: Mutex<Vec<RunId>>,
    pub(crate) duplicates: AtomicUsize,
    /// The tasks it was handed, if it has schedules of its own.
    pub(crate) book: Option<Mutex<BTreeMap<Name, Arc<Placed>>>>,
    leaves: Option<FiredBy>,
    /// A task that it does not take.
    pub(crate) unwanted: Mutex<Option<Name>>,
}

impl Faulty {
    pub(crate) fn on(name: &str, tier: Tier) -> Self {
        Self {
            inner: in_memory(name, tier),
            contract: scheduler_core::CONTRACT,
            longest_page: usize::MAX,
            faults: Mutex::default(),
            changed: Notify::new(),
            calls: Mutex::default(),
            enqueued: Mutex::default(),
            duplicates: AtomicUsize::new(0),
            book: None,
            leaves: None,
            unwanted: Mutex::default(),
        }
    }

    pub(crate) fn with_schedules(mut self) -> Self {
        self.book = Some(Mutex::default());
        self
    }

    /// Fires no task that wants to be fired so.
    pub(crate) fn leaving(mut self, by: FiredBy) -> Self {
        self.leaves = Some(by);
        self
    }

    pub(crate) fn with_contract(mut self, contract: u32) -> Self {
        self.contract = contract;
        self
    }

    /// Shows fewer runs a page than it is asked for.
    pub(crate) fn with_short_pages(mut self, longest_page: usize) -> Self {
        self.longest_page = longest_page;
        self
    }

    pub(crate) fn set(&self, call: Call, fault: impl Into<Option<Fault>>) {
        match fault.into() {
            Some(fault) => lock(&self.faults).insert(call, fault),
            None => lock(&self.faults).remove(&call),
        };
        self.changed.notify_waiters();
    }

    pub(crate) fn calls(&self, call: Call) -> usize {
        lock(&self.calls).get(&call).copied().unwrap_or(0)
    }

    pub(crate) fn tasks(&self) -> Vec<String> {
        self.book
            .iter()
            .flat_map(|book| lock(book).keys().map(ToString::to_string).collect::<Vec<_>>())
            .collect()
    }

    async fn pass(&self, call: Call) -> Result<()> {
        *lock(&self.calls).entry(call).or_default() += 1;
        loop {
            let changed = self.changed.notified();
            let fault = lock(&self.faults).get(&call).copied();
            let name = self.inner.info().name;
            match fault {
                None => return Ok(()),
                Some(Fault::Away) => {
                    return Err(Error::unavailable("faulty/away", format!("`{name}` is away ({call:?})")));
                }
                Some(Fault::Refused) => {
                    return Err(Error::invalid("faulty/refused", format!("`{name}` refuses ({call:?})")));
                }
                Some(Fault::Panics) => panic!("{call:?} panics"),
                Some(Fault::Hangs) => changed.await,
                Some(Fault::Blocks) => std::thread::yield_now(),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Backend for Faulty {
    fn info(&self) -> BackendInfo {
        let mut info = self.inner.info();
        info.contract = self.contract;
        info
    }

    async fn start(&self, ctx: BackendContext) -> Result<()> {
        self.pass(Call::Start).await?;
        self.inner.start(ctx).await
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        self.pass(Call::Enqueue).await?;
        let answer = self.inner.enqueue(request).await?;
        match answer {
            Enqueued::Inserted(id) => lock(&self.enqueued).push(id),
            Enqueued::Duplicate(_) => drop(self.duplicates.fetch_add(1, Ordering::Relaxed)),
        }
        Ok(answer)
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        self.pass(Call::Runs).await?;
        let limit = filter.page_size().min(self.longest_page);
        self.inner.runs(&filter.clone().limited(limit)).await
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        self.pass(Call::Cancel).await?;
        self.inner.cancel(run).await
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    async fn stop(&self, grace: Duration) -> Result<Drained> {
        self.pass(Call::Stop).await?;
        self.inner.stop(grace).await
    }

    fn schedules(&self) -> Option<&dyn Schedules> {
        self.book.as_ref().map(|_| self as &dyn Schedules)
    }
}

#[async_trait]
impl Schedules for Faulty {
    fn fires(&self, by: FiredBy) -> bool {
        self.leaves != Some(by)
    }

    async fn upsert(&self, task: Arc<Placed>) -> Result<()> {
        self.pass(Call::Upsert).await?;
        if lock(&self.unwanted).as_ref() == Some(&task.task.name) {
            return Err(Error::invalid("faulty/unwanted", format!("`{}` is not wanted", task.task.name)));
        }
        self.book.iter().for_each(|book| drop(lock(book).insert(task.task.name.clone(), Arc::clone(&task))));
        Ok(())
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        self.pass(Call::Remove).await?;
        Ok(self.book.as_ref().is_some_and(|book| lock(book).remove(task).is_some()))
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        Ok(self.tasks().iter().map(|task| ScheduleStatus::new(Name::new(task).unwrap(), None)).collect())
    }

    async fn pause(&self, _: &Name, _: Pause) -> Result<()> {
        Ok(())
    }

    async fn resume(&self, _: &Name) -> Result<()> {
        Ok(())
    }
}
