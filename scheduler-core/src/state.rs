//! What a task keeps between its runs: one JSON value, compared and set.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as IoKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Name, Result};

/// Keeps one value a task, durable or not as the store says.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The value of a task, or `None` when it never stored one.
    async fn load(&self, task: &Name) -> Result<Option<StoredState>>;

    /// Stores `value` if the task's version still is `expected` (0: nothing stored yet), and returns the new
    /// version. After it returns, every later `load` sees this value or a newer one.
    ///
    /// # Errors
    /// `state/conflict` when the version is another; the value stays as it was.
    async fn store(&self, task: &Name, expected: u64, value: Value) -> Result<u64>;
}

/// A task's value and its version, which rises with every store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StoredState {
    /// Version of the stored format.
    v: u32,
    /// Counts the stores, from 1.
    pub version: u64,
    /// What the task stored.
    pub value: Value,
}

const FORMAT: u32 = 1;

/// One task's view of a [`StateStore`].
#[derive(Clone, Debug)]
pub struct TaskState {
    store: Arc<dyn StateStore>,
    task: Name,
}

impl TaskState {
    /// The state of `task` in `store`.
    pub fn new(store: Arc<dyn StateStore>, task: Name) -> Self {
        Self { store, task }
    }

    /// The task's value, or `None` when it never stored one.
    ///
    /// # Errors
    /// Those of the store, and `state/undecodable` when what is stored is no `T`.
    pub async fn load<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let stored = self.store.load(&self.task).await?;
        stored.map(|stored| self.decode(stored.value)).transpose()
    }

    /// Replaces the value by what `change` makes of the present one, again if another run was faster.
    ///
    /// # Errors
    /// Those of the store, and `state/undecodable`.
    pub async fn update<T>(&self, change: impl Fn(Option<T>) -> T + Send + Sync) -> Result<T>
    where
        T: DeserializeOwned + Serialize + Send,
    {
        loop {
            let (version, present) = match self.store.load(&self.task).await? {
                Some(stored) => (stored.version, Some(self.decode(stored.value)?)),
                None => (0, None),
            };
            let next = change(present);
            let value = serde_json::to_value(&next).map_err(|source| {
                Error::invalid("state/undecodable", format!("the state of task `{}` is no JSON", self.task))
                    .with_source(source)
            })?;
            match self.store.store(&self.task, version, value).await {
                Ok(_) => return Ok(next),
                Err(error) if error.code() == "state/conflict" => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn decode<T: DeserializeOwned>(&self, value: Value) -> Result<T> {
        serde_json::from_value(value).map_err(|source| {
            Error::invalid(
                "state/undecodable",
                format!("the state of task `{}` has another shape", self.task),
            )
            .with_source(source)
        })
    }
}

/// State that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStateStore(Mutex<HashMap<Name, StoredState>>);

#[async_trait]
impl StateStore for MemoryStateStore {
    async fn load(&self, task: &Name) -> Result<Option<StoredState>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned())
    }

    async fn store(&self, task: &Name, expected: u64, value: Value) -> Result<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next_version(task, expected, all.get(task))?;
        all.insert(task.clone(), StoredState { v: FORMAT, version: next, value });
        Ok(next)
    }
}

/// State in a folder, one file a task, shared between processes on one machine.
///
/// A store is atomic and durable: the new file is synced, then renamed over the old one, under a lock of the
/// operating system that ends with its holder. A disk may take seconds for that, so inside a tokio runtime it is left to
/// a thread on which nothing else waits.
#[derive(Clone, Debug)]
pub struct FileStateStore {
    folder: PathBuf,
}

impl FileStateStore {
    /// A store in `folder`, which is made, readable by its owner only, when the first value is stored.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn read(&self, task: &Name) -> Result<Option<StoredState>> {
        let path = self.path(task, "json");
        let mut text = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, error)),
        }
        let stored: StoredState = serde_json::from_slice(&text).map_err(|source| {
            Error::unexpected("state/damaged", format!("{} holds no state of this program", path.display()))
                .with_source(source)
        })?;
        if stored.v > FORMAT {
            let message = format!("{} was written by a newer version (format {})", path.display(), stored.v);
            return Err(Error::unsupported("state/newer_format", message));
        }
        Ok(Some(stored))
    }

    fn write(&self, task: &Name, expected: u64, value: Value) -> Result<u64> {
        create_private_folder(&self.folder).map_err(|error| unusable(&self.folder, error))?;
        let lock_path = self.path(task, "lock");
        let lock =
            private().create(true).truncate(false).open(&lock_path).map_err(|e| unusable(&lock_path, e))?;
        lock.lock().map_err(|error| unusable(&lock_path, error))?;
        let version = next_version(task, expected, self.read(task)?.as_ref())?;
        let text = serde_json::to_vec(&StoredState { v: FORMAT, version, value })
            .expect("a JSON value can be written as JSON");
        let (draft, path) = (self.path(task, "tmp"), self.path(task, "json"));
        private()
            .create(true)
            .truncate(true)
            .open(&draft)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&draft, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|error| unusable(&path, error))?;
        Ok(version)
    }

    fn path(&self, task: &Name, ending: &str) -> PathBuf {
        self.folder.join(format!("{task}.{ending}"))
    }
}

#[async_trait]
impl StateStore for FileStateStore {
    async fn load(&self, task: &Name) -> Result<Option<StoredState>> {
        let (store, task) = (self.clone(), task.clone());
        beside(move || store.read(&task)).await
    }

    async fn store(&self, task: &Name, expected: u64, value: Value) -> Result<u64> {
        let (store, task) = (self.clone(), task.clone());
        beside(move || store.write(&task, expected, value)).await
    }
}

/// Does what may block its thread on one where nothing else waits, if there is a runtime that has one.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    #[cfg(feature = "tokio")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        return runtime.spawn_blocking(work).await.unwrap_or_else(|error| {
            let message = "the runtime ended before the state was read or written";
            Err(Error::unavailable("state/unusable", message).with_source(error))
        });
    }
    work()
}

fn next_version(task: &Name, expected: u64, present: Option<&StoredState>) -> Result<u64> {
    let version = present.map_or(0, |stored| stored.version);
    if version == expected {
        let message = || format!("the state of task `{task}` is at the last version there is, {version}");
        return version.checked_add(1).ok_or_else(|| Error::unexpected("state/damaged", message()));
    }
    let message = format!("the state of task `{task}` is at version {version}, not {expected}");
    Err(Error::conflict("state/conflict", message))
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable("state/unusable", format!("cannot use {}", path.display())).with_source(error)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task() -> Name {
        Name::new("poll").unwrap()
    }

    async fn a_stale_version_changes_nothing(store: Arc<dyn StateStore>) {
        assert_eq!(store.load(&task()).await.unwrap(), None);
        assert_eq!(store.store(&task(), 0, json!({"seen": "a"})).await.unwrap(), 1);

        let error = store.store(&task(), 0, json!({"seen": "b"})).await.unwrap_err();

        assert_eq!(error.code(), "state/conflict");
        assert_eq!(store.load(&task()).await.unwrap().unwrap().value, json!({"seen": "a"}));
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_state_that_cannot_be_had_yet_blocks_no_other_job() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStateStore::new(folder.path());
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let name = task();
            runtime.block_on(async {
                store.store(&task(), 0, json!(1)).await.unwrap();
                let other = File::open(store.path(&task(), "lock")).unwrap();
                other.lock().unwrap();
                let (stored, freed) = tokio::join!(store.store(&name, 1, json!(2)), async { other.unlock() });
                freed.unwrap();
                done.send(stored.unwrap()).unwrap();
            });
        });
        let stored = ended.recv_timeout(std::time::Duration::from_secs(60));
        assert_eq!(stored.expect("it waits for who waits for it"), 2);
    }

    #[tokio::test]
    async fn a_stale_version_changes_nothing_in_any_store() {
        let folder = tempfile::tempdir().unwrap();
        a_stale_version_changes_nothing(Arc::new(MemoryStateStore::default())).await;
        a_stale_version_changes_nothing(Arc::new(FileStateStore::new(folder.path().join("state")))).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn updates_from_many_places_all_count() {
        let folder = tempfile::tempdir().unwrap();
        let adders: Vec<_> = (0..4)
            .map(|_| {
                // A store each, as processes have it: only the file and its lock are shared.
                let state = TaskState::new(Arc::new(FileStateStore::new(folder.path())), task());
                tokio::spawn(async move {
                    for _ in 0..25 {
                        state.update(|n: Option<u32>| n.unwrap_or(0) + 1).await.unwrap();
                    }
                })
            })
            .collect();
        for adder in adders {
            adder.await.unwrap();
        }

        let state = TaskState::new(Arc::new(FileStateStore::new(folder.path())), task());

        assert_eq!(state.load::<u32>().await.unwrap(), Some(100));
    }

    #[tokio::test]
    async fn a_damaged_or_newer_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStateStore::new(folder.path());
        let newer = r#"{"v":2,"version":1,"value":null}"#;
        for (text, code) in [("{\"v\":1,", "state/damaged"), (newer, "state/newer_format")] {
            std::fs::write(folder.path().join("poll.json"), text).unwrap();
            assert_eq!(store.load(&task()).await.unwrap_err().code(), code);
            assert_eq!(store.store(&task(), 0, Value::Null).await.unwrap_err().code(), code);
            assert_eq!(std::fs::read_to_string(folder.path().join("poll.json")).unwrap(), text);
        }
    }
}
