//! The folder for state and history, which belongs to one daemon at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use scheduler_core::{RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::Failure;

/// A daemon's hold on its folder; the operating system ends it with the process at the latest.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
    pub(crate) holder: Holder,
}

/// Who holds a folder. In containers every daemon may have the same process id, and one that is started again often has,
/// so each has a name of its own besides, drawn anew at each start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// Nothing in a daemon of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) daemon: Option<String>,
}

impl Holder {
    /// This process, from now on.
    pub(crate) fn new() -> Self {
        let drawn = RunId::manual(Timestamp::from(SystemTime::now()));
        Self { pid: std::process::id(), daemon: Some(drawn.to_string()) }
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(Self { pid, daemon: words.next().map(str::to_owned) })
    }

    fn written(&self) -> String {
        match &self.daemon {
            Some(daemon) => format!("{}\n{daemon}\n", self.pid),
            None => self.pid.to_string(),
        }
    }
}

impl DataDirLock {
    /// Makes the folder, readable by its owner only, and takes hold of it.
    ///
    /// # Errors
    /// `data_dir/in_use` names the process that holds it; `data_dir/unusable`.
    pub(crate) fn take(folder: &Path) -> Result<Self, Failure> {
        let unusable = |error| unusable(folder, &error);
        create(folder)?;
        let path = folder.join("scheduler.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, &mut file)),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let holder = Holder::new();
        file.set_len(0).and_then(|()| file.write_all(holder.written().as_bytes())).map_err(unusable)?;
        Ok(Self { _file: file, holder })
    }
}

/// Who holds a folder, if anybody does.
///
/// # Errors
/// `data_dir/unusable`.
pub(crate) fn holder(folder: &Path) -> Result<Option<Holder>, Failure> {
    let mut file = match File::open(folder.join("scheduler.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(folder, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Holder::read(&written(&mut file))),
        Err(TryLockError::Error(error)) => Err(unusable(folder, &error)),
    }
}

/// Who holds the lock; the other one may just be about to write it.
fn written(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    text
}

fn in_use(folder: &Path, file: &mut File) -> Failure {
    let holder = match Holder::read(&written(file)) {
        None => "another scheduler".to_owned(),
        Some(Holder { pid, .. }) => format!("the scheduler with process id {pid}"),
    };
    let message = format!("data_dir {} is in use by {holder}", folder.display());
    let help = "stop that one, or give this one a folder of its own: SCHEDULER_SCHEDULER__DATA_DIR=…";
    Failure::new(Exit::Conflict, "data_dir/in_use", message).with_help(help)
}

/// The failure of a folder that cannot be used.
pub(crate) fn unusable(folder: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot use data_dir {}: {error}", folder.display());
    Failure::new(Exit::Usage, "data_dir/unusable", message)
        .with_help("set `data_dir` in [scheduler] to a folder that can be written to")
}

/// Makes the folder, readable by its owner only.
///
/// # Errors
/// `data_dir/unusable`.
pub(crate) fn create(folder: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| unusable(folder, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_holds_a_folder_after_another_is_told_apart_whatever_its_process_id() {
        let folder = tempfile::tempdir().unwrap();
        let held = || holder(folder.path()).unwrap();

        let first = DataDirLock::take(folder.path()).unwrap();
        let before = held();
        assert_eq!(before.as_ref(), Some(&first.holder));
        drop(first);
        assert_eq!(held(), None);
        let next = DataDirLock::take(folder.path()).unwrap();

        assert_eq!(held(), Some(next.holder.clone()));
        assert_ne!(held(), before);
        assert_eq!(next.holder.pid, std::process::id());
    }

    #[test]
    fn a_lock_of_an_earlier_version_names_its_process_only() {
        assert_eq!(Holder::read("17"), Some(Holder { pid: 17, daemon: None }));
        assert_eq!(Holder::read(""), None);
        let holder = Holder::new();
        assert_eq!(Holder::read(&holder.written()), Some(holder));
    }
}
