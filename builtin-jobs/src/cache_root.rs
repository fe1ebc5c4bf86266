//! The folder at the top of a cache, and what is too dangerous to be one unless it is told twice.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open as open_path, stat};
use rustix::io::Errno;
use scheduler_core::{Error, Result};

/// The numbers of users that are persons begin here, by the custom of Linux; `nobody` has a number far above.
const PERSONS: std::ops::Range<u32> = 1_000..60_000;

/// Opens the root of a cache; `None` when there is none.
///
/// # Errors
/// `cache_cleanup/refused` when it is the root of the file system, a home, a folder with homes in it or a mount point,
/// and `is_confirmed` is not set; `cache_cleanup/unusable` when it cannot be opened.
pub(crate) fn open(path: &Path, is_confirmed: bool) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match open_path(path, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => {
            let message = format!("{} cannot be opened", path.display());
            return Err(Error::unavailable("cache_cleanup/unusable", message).with_source(error));
        }
    };
    if !is_confirmed && let Some(danger) = danger(&root) {
        let message = format!("{} is not cleaned: it is {danger}", path.display());
        return Err(Error::invalid("cache_cleanup/refused", message));
    }
    Ok(Some(root))
}

/// What is dangerous about a folder. It is told by what was opened, not by how the path is spelt.
fn danger(root: &OwnedFd) -> Option<&'static str> {
    if is_same(root, Path::new("/")) {
        return Some("the root of the file system");
    }
    for home in homes() {
        let Ok(home) = home.canonicalize() else { continue };
        let mut above = home.ancestors();
        if above.next().is_some_and(|home| is_same(root, home)) {
            return Some("a home");
        }
        if above.any(|above| is_same(root, above)) {
            return Some("a folder with a home in it");
        }
    }
    is_mount_point(root).then_some("a mount point")
}

fn is_same(root: &OwnedFd, path: &Path) -> bool {
    match (fstat(root), stat(path)) {
        (Ok(root), Ok(other)) => (root.st_dev, root.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// The homes of this user, of root and of every person that the machine knows by its own list.
fn homes() -> Vec<PathBuf> {
    let own = std::env::var_os("HOME").map(PathBuf::from);
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let persons = list.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let user: u32 = fields.get(2)?.parse().ok()?;
        let home = fields.get(5).filter(|home| home.len() > 1)?;
        (user == 0 || PERSONS.contains(&user)).then(|| PathBuf::from(home))
    });
    own.into_iter().filter(|home| home.is_absolute()).chain(persons).collect()
}

#[cfg(target_os = "linux")]
fn is_mount_point(root: &OwnedFd) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let told = statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::empty());
    // An old kernel does not say; a folder on another device than its parent is one for certain.
    told.is_ok_and(|told| told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        || differs_from_parent(root)
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(root: &OwnedFd) -> bool {
    differs_from_parent(root)
}

fn differs_from_parent(root: &OwnedFd) -> bool {
    use rustix::fs::{AtFlags, statat};
    match (fstat(root), statat(root, c"..", AtFlags::empty())) {
        (Ok(root), Ok(parent)) => root.st_dev != parent.st_dev,
        _ => false,
    }
}
