//! Which file the queue is. One at the same path may be another one, put there by somebody: a copy from yesterday, or a
//! new file where the old one was taken away. Who went on with the one that was opened would serve what nobody sees.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use scheduler_core::{Error, Result};

/// What tells a file from another one at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// The file that a connection is to, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Place(Mutex<Option<Identity>>);

impl Place {
    /// The file at the path, unless it is the one that was noted.
    ///
    /// # Errors
    /// `queue/moved` when there is none, and those of looking.
    pub(crate) fn replaced_by(&self, file: &Path) -> Result<Option<Identity>> {
        let there = identity(file).map_err(|error| gone(file, error))?;
        let noted = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(there).filter(|_| noted != Some(there)))
    }

    /// Notes that the connection is to this file.
    pub(crate) fn note(&self, file: Identity) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }
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
