//! A file system of its own for the files of one cleaning.
//!
//! ext4 does not give out again the inodes that were freed in the last minutes, and passes over each of them: on the
//! machine's own disk a million files that are made after a million were removed take many times as long.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An ext4 in a file, mounted until it is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) root: PathBuf,
}

impl Disk {
    /// One with room for so many files; `None` where this user may not mount.
    pub(crate) fn make(below: &Path, files: usize) -> Option<Self> {
        let disk = Self { image: below.join("disk.ext4"), root: below.join("disk") };
        let bytes = 512 * 1024 * 1024 + files as u64 * 1_024;
        File::create(&disk.image).and_then(|image| image.set_len(bytes)).ok()?;
        std::fs::create_dir_all(&disk.root).ok()?;
        let inodes = (files + files / 100 + 1_000).to_string();
        // What is put off would be done while somebody is measured.
        let at_once = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        let is_made = is_done(
            Command::new("mkfs.ext4").args(["-q", "-F", "-N", &inodes, "-E", at_once]).arg(&disk.image),
        );
        let is_mounted =
            is_made && is_done(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.root));
        // Dropped, and with it the image, where it is not.
        is_mounted.then_some(disk)
    }
}

fn is_done(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        is_done(Command::new("umount").arg(&self.root));
        let _ = std::fs::remove_file(&self.image);
    }
}
