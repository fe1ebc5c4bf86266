//! A walk through a folder that cannot leave it.
//!
//! Every folder is opened below its parent's handle and without following a link, so whatever is renamed or replaced
//! meanwhile, nothing outside is reached. It does not enter other file systems, nor a folder that it is in already.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::cache_cutoff::Key;
use crate::cache_sweep::Sweep;

/// The most folders below each other; each of them costs an open file.
const MOST_DEPTH: usize = 128;

/// How a folder is opened: itself, never what a link in its place leads to.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A walk to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) root: &'a OwnedFd,
    pub(crate) sweep: &'a Sweep,
    /// Whether folders that are emptied go as well.
    pub(crate) removes_empty: bool,
}

/// A file or a link, as it is met.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) folder: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    parents: &'a [Frame],
}

/// Whether an entry stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    Goes,
}

/// A folder that is being read.
#[derive(Debug)]
struct Frame {
    dir: Dir,
    name: CString,
    number: u64,
    /// What of it stays, and what of it went.
    stays: u64,
    goes: u64,
    /// When it was changed last.
    key: Key,
}

/// A walk under way.
struct Walker<'a> {
    walk: Walk<'a>,
    /// Whether anything is told to the sweep.
    is_quiet: bool,
    device: u64,
    frames: Vec<Frame>,
}

/// A walk that tells nothing.
#[derive(Debug)]
pub(crate) struct Quiet<'a>(Walk<'a>);

impl<'a> Walk<'a> {
    /// The same walk without a word about what it meets, and without removing a folder.
    pub(crate) fn quietly(self) -> Quiet<'a> {
        Quiet(Walk { removes_empty: false, ..self })
    }

    /// Meets every file and link, until the sweep is stopped.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub(crate) fn run(self, meet: impl FnMut(&Entry<'_>) -> Fate) -> Result<(), Errno> {
        Walker::new(self, false)?.run(meet)
    }
}

impl Quiet<'_> {
    /// As [`Walk::run`].
    ///
    /// # Errors
    /// As that.
    pub(crate) fn run(self, meet: impl FnMut(&Entry<'_>) -> Fate) -> Result<(), Errno> {
        Walker::new(self.0, true)?.run(meet)
    }
}

impl Entry<'_> {
    /// Its path below the root.
    pub(crate) fn path(&self) -> String {
        path(self.parents, self.name)
    }
}

/// What lies below the root where these folders lead to.
fn path(parents: &[Frame], name: &CStr) -> String {
    let folders = parents.iter().skip(1).map(|frame| frame.name.as_c_str());
    let parts: Vec<String> =
        folders.chain([name]).map(|part| part.to_string_lossy().escape_debug().to_string()).collect();
    parts.join("/")
}

impl Frame {
    fn new(folder: OwnedFd, name: CString, stat: &Stat) -> Result<Self, Errno> {
        Ok(Self { dir: Dir::new(folder)?, name, number: stat.st_ino, stays: 0, goes: 0, key: key_of(stat) })
    }
}

impl<'a> Walker<'a> {
    fn new(walk: Walk<'a>, is_quiet: bool) -> Result<Self, Errno> {
        // A handle of its own: where a folder has been read up to is a property of the handle.
        let folder = openat(walk.root, c".", FOLDER, Mode::empty())?;
        let stat = fstat(&folder)?;
        let frames = vec![Frame::new(folder, CString::default(), &stat)?];
        Ok(Self { walk, is_quiet, device: stat.st_dev, frames })
    }

    fn run(mut self, mut meet: impl FnMut(&Entry<'_>) -> Fate) -> Result<(), Errno> {
        while let Some(frame) = self.frames.last_mut() {
            if self.walk.sweep.is_stopped() {
                return Ok(());
            }
            match frame.dir.read() {
                None => self.leave(),
                Some(Err(error)) => {
                    if self.frames.len() == 1 {
                        return Err(error);
                    }
                    self.unread(error);
                }
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => self.meet(entry.file_name(), &mut meet),
            }
        }
        Ok(())
    }

    fn meet(&mut self, name: &CStr, meet: &mut impl FnMut(&Entry<'_>) -> Fate) {
        let Some((frame, _)) = self.frames.split_last() else { return };
        let stat = frame.dir.fd().and_then(|folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
        let fate = match stat {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => return self.enter(name),
                FileType::RegularFile | FileType::Symlink => {
                    let Ok(folder) = frame.dir.fd() else { return };
                    let (key, bytes) = (key_of(&stat), u64::try_from(stat.st_size).unwrap_or(0));
                    meet(&Entry { folder, name, key, bytes, parents: &self.frames })
                }
                // A socket or a device is nobody's cache.
                _ => Fate::Stays,
            },
            Err(Errno::NOENT) => {
                self.tell(Sweep::vanished);
                Fate::Goes
            }
            Err(error) => {
                self.tell(|sweep| sweep.failed(|| format!("{}: {error}", path(&self.frames, name))));
                Fate::Stays
            }
        };
        if let Some(frame) = self.frames.last_mut() {
            match fate {
                Fate::Stays => frame.stays += 1,
                Fate::Goes => frame.goes += 1,
            }
        }
    }

    fn enter(&mut self, name: &CStr) {
        let opened = self.open(name);
        let Some(frame) = self.frames.last_mut() else { return };
        match opened {
            Ok(Some(below)) => self.frames.push(below),
            // What is passed over keeps its parent from being empty.
            Ok(None) => {
                frame.stays += 1;
                self.tell(Sweep::passed_over);
            }
            // It was removed, or replaced by a link or a file since it was looked at.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                frame.stays += 1;
                self.tell(Sweep::vanished);
            }
            Err(error) => {
                frame.stays += 1;
                self.tell(|sweep| sweep.failed(|| format!("{}: {error}", path(&self.frames, name))));
            }
        }
    }

    /// The folder below; `None` for one that is not to be entered.
    fn open(&self, name: &CStr) -> Result<Option<Frame>, Errno> {
        let Some(frame) = self.frames.last() else { return Ok(None) };
        let folder = openat(frame.dir.fd()?, name, FOLDER, Mode::empty())?;
        let stat = fstat(&folder)?;
        let is_known = self.frames.iter().any(|frame| frame.number == stat.st_ino);
        if stat.st_dev != self.device || is_known || self.frames.len() >= MOST_DEPTH {
            return Ok(None);
        }
        Frame::new(folder, name.to_owned(), &stat).map(Some)
    }

    fn leave(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        let Some(parent) = self.frames.last_mut() else { return };
        let is_emptied = left.stays == 0 && left.goes > 0;
        if !self.walk.removes_empty || !is_emptied {
            parent.stays += 1;
            return;
        }
        let removed = if self.walk.sweep.is_dry() {
            Ok(())
        } else {
            parent.dir.fd().and_then(|folder| unlinkat(folder, left.name.as_c_str(), AtFlags::REMOVEDIR))
        };
        match removed {
            Ok(()) => {
                parent.goes += 1;
                let name = || format!("{}/", path(&self.frames, &left.name));
                self.walk.sweep.removed(left.key.order(), 0, name);
            }
            // Somebody put something there meanwhile, or removed it.
            Err(_) => parent.stays += 1,
        }
    }

    fn unread(&mut self, error: Errno) {
        let Some(left) = self.frames.pop() else { return };
        self.tell(|sweep| sweep.failed(|| format!("{}: {error}", path(&self.frames, &left.name))));
        if let Some(parent) = self.frames.last_mut() {
            parent.stays += 1;
        }
    }

    fn tell(&self, tell: impl FnOnce(&Sweep)) {
        if !self.is_quiet {
            tell(self.walk.sweep);
        }
    }
}

fn key_of(stat: &Stat) -> Key {
    let accessed = i128::from(stat.st_atime) * 1_000_000_000 + i128::from(stat.st_atime_nsec);
    let changed = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Key::new(accessed.max(changed), stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler_core::Timestamp;

    #[test]
    fn a_folder_that_became_a_link_after_it_was_looked_at_is_not_entered() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(inside.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
        let root = OwnedFd::from(std::fs::File::open(inside.path()).unwrap());
        let sweep = Sweep::new(false, Timestamp::default(), 0);
        let walk = Walk { root: &root, sweep: &sweep, removes_empty: false };

        let walker = Walker::new(walk, false).unwrap();

        assert!(matches!(walker.open(c"folder"), Ok(Some(_))));
        assert!(matches!(walker.open(c"link"), Err(Errno::NOTDIR | Errno::LOOP)));
    }
}
