//! Secrets in files: read in bounds, never through something that is no file, and looked at for who else may.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use scheduler_core::Timestamp;

use crate::secret_due::Dates;

/// The most bytes of a file that is read.
const LARGEST: u64 = 1024 * 1024;

/// The most files of a folder that are looked at.
const MOST_FILES: usize = 10_000;

/// What the names of files end with that a rotation works on.
pub(crate) const NEXT: &str = ".rotation-next";
pub(crate) const PREVIOUS: &str = ".rotation-previous";
pub(crate) const VALUE: &str = ".rotation-value";

/// What the operating system says of a file.
///
/// # Errors
/// When it cannot be looked at, or is none.
pub(crate) fn metadata(path: &Path) -> Result<Metadata, String> {
    let found =
        std::fs::metadata(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    if found.is_file() { Ok(found) } else { Err(format!("{} is no file", path.display())) }
}

/// The content of a file.
///
/// # Errors
/// As [`metadata`], and when it is too large or cannot be read.
pub(crate) fn content(path: &Path) -> Result<Vec<u8>, String> {
    metadata(path)?;
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if content.len() as u64 > LARGEST {
        return Err(format!("{} has more than {LARGEST} bytes", path.display()));
    }
    Ok(content)
}

/// The content of a file as text.
///
/// # Errors
/// As [`content`], and when it is no UTF-8.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(content(path)?).map_err(|_| format!("{} is no UTF-8 text", path.display()))
}

/// A file is as old as its last change.
pub(crate) fn dates(metadata: &Metadata) -> Dates {
    Dates { created: metadata.modified().ok().map(Timestamp::from), expires: None }
}

/// What others may do with a file beyond `allowed`.
pub(crate) fn exposure(metadata: &Metadata, allowed: u32) -> Option<String> {
    const OTHERS: u32 = 0o077;
    let mode = metadata.mode() & 0o777;
    let is_exposed = mode & OTHERS & !allowed != 0;
    is_exposed
        .then(|| format!("others may use its file: its mode is {mode:04o}, and {allowed:04o} is the most"))
}

/// The files of a folder, by name; links are followed, folders and what a rotation works on are passed over.
///
/// # Errors
/// When it cannot be listed, holds too many files or none.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unlisted = |error: std::io::Error| format!("cannot list {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unlisted)? {
        let path = entry.map_err(unlisted)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_working = [NEXT, PREVIOUS, VALUE].iter().any(|ending| name.ends_with(ending));
        // Mounted secrets of Kubernetes are links into a folder `..data`.
        if is_working || name.starts_with("..") || path.is_dir() {
            continue;
        }
        if files.len() == MOST_FILES {
            return Err(format!("{} holds more than {MOST_FILES} files", folder.display()));
        }
        files.push(path);
    }
    files.sort_unstable();
    if files.is_empty() { Err(format!("there is no file in {}", folder.display())) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn others_may_do_with_a_file_what_is_allowed_and_no_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cases = [
            (0o600, 0o600, false),
            (0o400, 0o600, false),
            (0o700, 0o600, false),
            (0o640, 0o600, true),
            (0o604, 0o600, true),
            (0o640, 0o640, false),
            (0o660, 0o640, true),
            (0o644, 0o640, true),
        ];
        for (mode, allowed, is_exposed) in cases {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let found = exposure(&metadata(file.path()).unwrap(), allowed);
            assert_eq!(found.is_some(), is_exposed, "{mode:o} {allowed:o}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero"), Path::new("/nowhere/x")] {
            assert!(content(path).is_err(), "{}", path.display());
        }
    }
}
