//! The folder for state and history, which belongs to one daemon at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::exit::Exit;
use crate::failure::Failure;

/// A daemon's hold on its folder; the operating system ends it with the process at the latest.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
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
        let pid = std::process::id().to_string();
        file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// The process that holds a folder, if one does.
///
/// # Errors
/// `data_dir/unusable`.
pub(crate) fn holder(folder: &Path) -> Result<Option<u32>, Failure> {
    let mut file = match File::open(folder.join("scheduler.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(folder, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(written(&mut file).trim().parse().ok()),
        Err(TryLockError::Error(error)) => Err(unusable(folder, &error)),
    }
}

/// Who holds the lock; the other one may just be about to write it.
fn written(file: &mut File) -> String {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    pid
}

fn in_use(folder: &Path, file: &mut File) -> Failure {
    let holder = match written(file).trim() {
        "" => "another scheduler".to_owned(),
        pid => format!("the scheduler with process id {pid}"),
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
