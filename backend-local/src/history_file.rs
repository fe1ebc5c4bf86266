//! History on disk: one JSON line a run, appended by a thread of its own and rewritten when it has grown.
//!
//! The loop never waits for the disk: what the thread cannot take is dropped from the file and counted aloud.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use scheduler_core::{EndedRun, Error, Name, Result, Run, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::LocalConfig;
use crate::command::Reply;
use crate::history::History;
use crate::live::Owner;

const FORMAT: u32 = 1;
/// Batches that may wait for the disk.
const QUEUE: usize = 1_024;

#[derive(Serialize, Deserialize)]
struct Header {
    v: u32,
    kind: String,
}

/// Where the history of the backend `name` lies in a data folder.
pub(crate) fn path(data_dir: &Path, name: &Name) -> PathBuf {
    data_dir.join(format!("history-{name}.jsonl"))
}

/// Reads a history file; none is an empty history. A last line that was cut by a crash is left out.
pub(crate) fn load(path: &Path, config: &LocalConfig, now: Timestamp) -> Result<History> {
    let mut history = History::new(config.history_runs, config.history_age);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(history),
        Err(error) => return Err(unusable(path, error)),
    };
    let mut lines = BufReader::new(file).split(b'\n');
    let Some(first) = lines.next() else { return Ok(history) };
    let header: Header =
        serde_json::from_slice(&first.map_err(|error| unusable(path, error))?).map_err(|error| {
            let message = format!("{} is no history of this program; move it away", path.display());
            Error::invalid("history/damaged", message).with_source(error)
        })?;
    if header.v > FORMAT {
        let message = format!("{} was written by a newer version (format {})", path.display(), header.v);
        return Err(Error::unsupported("history/newer_format", message));
    }
    let mut damaged = 0;
    for line in lines {
        match serde_json::from_slice::<Run>(&line.map_err(|error| unusable(path, error))?) {
            Ok(run) => history.push_alone(Arc::new(run), now),
            Err(_) => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!("{} lines of {} could not be read and are left out", damaged, path.display());
    }
    Ok(history)
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Append(Vec<Arc<Run>>),
    /// These are gone; the answer goes to who asked for it.
    Forget(Vec<EndedRun>, Reply<Result<Vec<EndedRun>>>),
}

/// The thread that appends.
#[derive(Debug)]
pub(crate) struct Writer {
    batches: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
    dropped: u64,
}

impl Writer {
    /// Opens the file, rewritten to what `history` keeps, and starts the thread.
    pub(crate) fn start(path: PathBuf, config: LocalConfig, history: &History, owner: Owner) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unusable(folder, error))?;
        }
        let kept = history.kept(&owner);
        let file = rewrite(&path, &kept).map_err(|error| unusable(&path, error))?;
        let mut log = Log { path, config, owner, file, lines: kept.len() };
        let (batches, received) = sync_channel(QUEUE);
        let builder = std::thread::Builder::new().name("scheduler-local-history".into());
        let thread = builder.spawn(move || log.write_all(&received)).map_err(|error| {
            Error::unavailable("history/unusable", "no thread to write history").with_source(error)
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread), dropped: 0 })
    }

    /// Hands over ended runs; never waits.
    pub(crate) fn append(&mut self, runs: Vec<Arc<Run>>) {
        let Some(batches) = &self.batches else { return };
        match batches.try_send(Order::Append(runs)) {
            Ok(()) if self.dropped > 0 => {
                tracing::warn!(
                    "{} runs are missing from the history file: the disk was too slow",
                    self.dropped
                );
                self.dropped = 0;
            }
            Ok(()) => {}
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => {
                if let Order::Append(runs) = order {
                    self.dropped += runs.len() as u64;
                }
            }
        }
    }

    /// Has runs taken out of the file; says whether that will be done. The answer follows when it is, or is not.
    pub(crate) fn forget(&self, runs: Vec<EndedRun>, reply: Reply<Result<Vec<EndedRun>>>) -> bool {
        let Some(batches) = &self.batches else { return false };
        match batches.try_send(Order::Forget(runs, reply)) {
            Ok(()) => true,
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => {
                if let Order::Forget(_, reply) = order {
                    let message = "the disk is too slow: the history file is not up to date yet";
                    let _ = reply.send(Err(Error::unavailable("history/unusable", message)));
                }
                false
            }
        }
    }
}

impl Drop for Writer {
    /// Waits until everything that was handed over is in the file.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Log {
    path: PathBuf,
    config: LocalConfig,
    owner: Owner,
    file: BufWriter<File>,
    lines: usize,
}

impl Log {
    fn write_all(&mut self, batches: &Receiver<Order>) {
        let mut failing = false;
        while let Ok(order) = batches.recv() {
            let batch = match order {
                Order::Append(batch) => batch,
                Order::Forget(runs, reply) => {
                    let gone = runs.iter().map(|ended| ended.run).collect();
                    let forgotten = self.rewrite_without(&gone).map_err(|error| unusable(&self.path, error));
                    let _ = reply.send(forgotten.map(|()| runs));
                    continue;
                }
            };
            match self.write(&batch) {
                Ok(()) => failing = false,
                // Said once until it works again: a full disk would fill the log as well.
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!("history is not written to {}: {error}", self.path.display());
                }
                Err(_) => {}
            }
        }
    }

    fn write(&mut self, batch: &[Arc<Run>]) -> std::io::Result<()> {
        for run in batch {
            serde_json::to_writer(&mut self.file, &**run)?;
            self.file.write_all(b"\n")?;
        }
        self.file.flush()?;
        self.lines += batch.len();
        if self.lines > 2 * self.config.history_runs + 1_000 {
            self.rewrite_without(&HashSet::new())?;
        }
        Ok(())
    }

    fn rewrite_without(&mut self, gone: &HashSet<RunId>) -> std::io::Result<()> {
        let now = Timestamp::from(std::time::SystemTime::now());
        let mut kept = load(&self.path, &self.config, now).map_err(std::io::Error::other)?.kept(&self.owner);
        kept.retain(|run| !gone.contains(&run.id));
        self.file = rewrite(&self.path, &kept)?;
        self.lines = kept.len();
        Ok(())
    }
}

/// Replaces the file by one that holds `runs`, and returns it open for appending.
fn rewrite(path: &Path, runs: &[Arc<Run>]) -> std::io::Result<BufWriter<File>> {
    let draft = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = BufWriter::new(options.open(&draft)?);
    serde_json::to_writer(&mut file, &Header { v: FORMAT, kind: "history".into() })?;
    file.write_all(b"\n")?;
    for run in runs {
        serde_json::to_writer(&mut file, &**run)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    std::fs::rename(&draft, path)?;
    Ok(file)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable("history/unusable", format!("cannot use {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler_core::{RunId, RunState, Tier};

    fn run(second: i64) -> Arc<Run> {
        let (task, at) = (Name::new("t").unwrap(), Timestamp::from_millis(second * 1_000));
        let mut run = Run::queued(RunId::scheduled(&task, &task, at), task.clone(), task, Tier::Local, at);
        run.state = RunState::Succeeded;
        run.finished_at = Some(at);
        Arc::new(run)
    }

    fn owner() -> Owner {
        Owner { namespace: Name::new("n").unwrap(), backend: Name::new("local").unwrap() }
    }

    fn config(history_runs: usize) -> LocalConfig {
        LocalConfig { history_runs, ..LocalConfig::default() }
    }

    #[test]
    fn a_torn_last_line_loses_itself_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), &Name::new("local").unwrap());
        let empty = load(&path, &config(100), Timestamp::from_millis(0)).unwrap();
        let mut writer = Writer::start(path.clone(), config(100), &empty, owner()).unwrap();
        writer.append(vec![run(1), run(2)]);
        drop(writer);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\":\"76ysm").unwrap();

        let history = load(&path, &config(100), Timestamp::from_millis(0)).unwrap();

        assert_eq!(history.entries().count(), 2);
    }

    #[test]
    fn the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), &Name::new("local").unwrap());
        let empty = load(&path, &config(10), Timestamp::from_millis(0)).unwrap();
        let mut writer = Writer::start(path.clone(), config(10), &empty, owner()).unwrap();
        let base = Timestamp::from(std::time::SystemTime::now()).as_millis() / 1_000;
        for second in 0..1_500 {
            writer.append(vec![run(base + second)]);
            // The thread keeps up here because the batches that wait are bounded below the channel's room.
            if second % 500 == 499 {
                while std::fs::read_to_string(&path)
                    .unwrap()
                    .lines()
                    .last()
                    .is_none_or(|line| !line.contains(&run(base + second).id.to_string()))
                {
                    std::thread::yield_now();
                }
            }
        }
        drop(writer);

        let lines = std::fs::read_to_string(&path).unwrap().lines().count();

        assert!(lines < 1_030, "{lines} lines");
    }

    #[test]
    fn a_foreign_or_newer_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history-local.jsonl");
        for (text, code) in
            [("hello\n", "history/damaged"), ("{\"v\":9,\"kind\":\"history\"}\n", "history/newer_format")]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path, &config(1), Timestamp::from_millis(0)).unwrap_err().code(), code);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
