//! What lies beside a secret while it is rotated: the new value, and the old one until the new one works in place.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::secret_file::{NEXT, PREVIOUS, VALUE};
use crate::{secret_env_file, secret_file};

/// Why a rotation did not go on.
pub(crate) type Fault = String;

/// Where the values lie.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) live: PathBuf,
    pub(crate) next: PathBuf,
    pub(crate) previous: PathBuf,
    pub(crate) value: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Files {
    /// The files beside `path`; a link is followed, as it is what it leads to that is replaced.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn of(path: &Path) -> Result<Self, Fault> {
        let live =
            path.canonicalize().map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
        let beside = |ending: &str| {
            let mut name = live.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            live.with_file_name(name)
        };
        let (next, previous, value) = (beside(NEXT), beside(PREVIOUS), beside(VALUE));
        let folder = live.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { live, next, previous, value, folder })
    }

    /// Whether a rotation was cut off after the new value may have been put in place.
    pub(crate) fn are_between(&self) -> bool {
        self.previous.exists()
    }
}

/// Does work that waits for a disk.
///
/// # Errors
/// Those of the work.
pub(crate) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| error.to_string())
}

/// A new file that nobody else may read.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn create(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Gives the new file its content, where it is one value of several, and the owner and mode of the old one.
///
/// # Errors
/// Says what is wrong with the new value, and tells nothing of it.
pub(crate) fn shape(files: &Files, key: Option<&str>) -> Result<(), Fault> {
    let generated = secret_file::content(&files.next)?;
    if generated.trim_ascii().is_empty() {
        return Err("`generate` printed nothing".to_owned());
    }
    let same = || "`generate` printed the value that is in place".to_owned();
    match key {
        None if generated == secret_file::content(&files.live)? => return Err(same()),
        None => {}
        Some(key) => {
            let value =
                std::str::from_utf8(&generated).map_err(|_| "`generate` printed no UTF-8".to_owned())?;
            let value = value.trim_end_matches(['\r', '\n']);
            let present = secret_file::text(&files.live)?;
            if secret_env_file::value(&present, key) == Some(value) {
                return Err(same());
            }
            let text = secret_env_file::replaced(&present, key, value)?;
            std::fs::write(&files.next, text).map_err(|error| unshaped(&error))?;
        }
    }
    let shaped = || -> std::io::Result<()> {
        let (old, new) = (std::fs::metadata(&files.live)?, std::fs::metadata(&files.next)?);
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            std::os::unix::fs::chown(&files.next, Some(old.uid()), Some(old.gid()))?;
        }
        std::fs::set_permissions(&files.next, old.permissions())?;
        File::open(&files.next)?.sync_all()
    };
    shaped().map_err(|error| unshaped(&error))
}

fn unshaped(error: &std::io::Error) -> Fault {
    format!("the new file could not be made like the old one: {error}")
}

/// The value of one name as a file of its own, which has no name any more when this returns.
///
/// # Errors
/// When it is not there, or cannot be written.
pub(crate) fn alone(path: &Path, key: &str, place: &Path) -> std::io::Result<File> {
    let text = secret_file::text(path).map_err(std::io::Error::other)?;
    let missing = || std::io::Error::other(format!("{} does not set `{key}`", path.display()));
    let value = secret_env_file::value(&text, key).ok_or_else(missing)?;
    let mut file = create(place)?;
    std::fs::remove_file(place)?;
    file.write_all(value.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
