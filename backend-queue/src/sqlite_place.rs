//! Which file the queue is. One at the same path may be another one, put there by somebody: a copy from yesterday, or a
//! new file where the old one was taken away. Who went on with the one that was opened would serve what nobody sees.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use scheduler_core::{Error, Result};

/// What tells a file from another one at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// The file that a connection is to, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Place(Mutex<Option<Opened>>);

#[derive(Clone, Copy, Debug)]
struct Opened {
    file: Identity,
    /// Its log, of which nothing says whose it is.
    log: Option<Identity>,
}

impl Place {
    /// The file at the path, unless it is the one that was noted.
    ///
    /// # Errors
    /// `queue/moved` when there is none, or when the log of the one that was noted is beside another.
    pub(crate) fn replaced_by(&self, file: &Path) -> Result<Option<Identity>> {
        let there = identity(file).map_err(|error| gone(file, error))?;
        let Some(opened) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else {
            return Ok(Some(there));
        };
        if opened.file == there {
            return Ok(None);
        }
        if opened.log.is_some() && identity(&log_of(file)).ok() == opened.log {
            let file = file.display();
            let message = format!(
                "another file is in the place of the queue {file}, beside the log of the one before, which would be mixed \
                 into it: move `-wal` and `-shm` away as well"
            );
            return Err(Error::unavailable("queue/moved", message));
        }
        Ok(Some(there))
    }

    /// Notes that the connection is to what is there.
    pub(crate) fn note(&self, file: &Path, opened: Identity) {
        let opened = Opened { file: opened, log: identity(&log_of(file)).ok() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }
}

fn log_of(file: &Path) -> PathBuf {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn gone(file: &Path, error: std::io::Error) -> Error {
    let message =
        format!("the queue {} is not there any more: somebody has moved or removed it", file.display());
    Error::unavailable("queue/moved", message).with_source(error)
}

#[cfg(unix)]
fn identity(file: &Path) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).map(|told| Identity(told.dev(), told.ino()))
}

/// An open file can neither be moved nor removed there.
#[cfg(not(unix))]
fn identity(_: &Path) -> std::io::Result<Identity> {
    Ok(Identity(0, 0))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use crate::sqlite_test::{Bench, open, pushed};
    use crate::store::Store;

    /// Moves the file with what belongs to it.
    fn moved(from: &std::path::Path, to: &std::path::Path) {
        for end in ["", "-wal", "-shm"] {
            let [from, to] = [from, to].map(|folder| folder.join(format!("queue.db{end}")));
            std::fs::rename(from, to).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_was_moved_is_missed_and_found_when_it_is_back() {
        let (bench, away) = (Bench::new().await, tempfile::tempdir().unwrap());
        bench.store.push(vec![pushed(3)]).await.unwrap();

        moved(bench.folder.path(), away.path());
        let refused = bench.store.push(vec![pushed(3)]).await.unwrap_err();
        let unseen = bench.store.waiting().await.unwrap_err();
        moved(away.path(), bench.folder.path());

        assert_eq!((refused.code(), refused.is_transient()), ("queue/moved", true));
        assert_eq!(unseen.code(), "queue/moved");
        assert_eq!(bench.store.push(vec![pushed(3)]).await.unwrap(), [true]);
        assert_eq!(bench.store.waiting().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_copy_beside_the_log_of_another_is_left_alone() {
        let (bench, away) = (Bench::new().await, tempfile::tempdir().unwrap());
        bench.store.push(vec![pushed(3)]).await.unwrap();
        let (file, copy) = (bench.folder.path().join("queue.db"), away.path().join("queue.db"));
        std::fs::copy(&file, &copy).unwrap();

        std::fs::rename(&copy, &file).unwrap();

        let refused = bench.store.push(vec![pushed(3)]).await.unwrap_err();
        assert_eq!(refused.code(), "queue/moved");
        assert!(refused.to_string().contains("-wal"), "{refused}");
    }

    #[tokio::test]
    async fn opening_a_file_again_leaves_the_locks_that_keep_its_log() {
        let bench = Bench::new().await;
        bench.store.push(vec![pushed(3)]).await.unwrap();
        let again = open(bench.folder.path()).await.unwrap();
        bench.store.waiting().await.unwrap();
        drop(again);
        let log = bench.folder.path().join("queue.db-wal");
        let other = std::process::Command::new("python3")
            .args([
                "-c",
                "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM run')",
            ])
            .arg(bench.folder.path().join("queue.db"))
            .status();

        assert!(other.unwrap().success() && log.exists(), "the log went with somebody else");
    }

    #[tokio::test]
    async fn a_file_that_took_the_place_of_another_is_served_in_its_place() {
        let (bench, away) = (Bench::new().await, tempfile::tempdir().unwrap());
        bench.store.push(vec![pushed(3), pushed(3)]).await.unwrap();

        moved(bench.folder.path(), away.path());
        let other = open(bench.folder.path()).await.unwrap();
        other.push(vec![pushed(3)]).await.unwrap();

        assert_eq!(bench.store.waiting().await.unwrap(), 1);
        assert_eq!(bench.store.push(vec![pushed(3)]).await.unwrap(), [true]);
        assert_eq!(other.waiting().await.unwrap(), 2);
        assert_eq!(open(away.path()).await.unwrap().waiting().await.unwrap(), 2);
    }
}
