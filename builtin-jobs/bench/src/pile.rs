//! A folder full of files, most of them old.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};

use crate::disk::Disk;

/// How many files lie in one folder.
const PER_FOLDER: usize = 1_000;

/// Threads that make files.
const MAKERS: usize = 2;

/// How old the youngest of the old files is, so that they are older than an hour for as long as any run takes.
const OLD: Duration = Duration::from_secs(7_200);

/// A folder with files below it, made anew and removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Pile {
    pub(crate) folder: PathBuf,
    /// How many of the files are new.
    pub(crate) kept: usize,
    /// What it lies on, unless that is the machine's own disk.
    pub(crate) disk: Option<Disk>,
}

impl Pile {
    /// Makes `files` files below a new folder, of which every so many-th is new, and waits until they are on the disk.
    ///
    /// # Errors
    /// The disk is full, and the like.
    pub(crate) fn make(below: &Path, files: usize) -> Result<Self> {
        let disk = Disk::make(below, files);
        let folder = disk.as_ref().map_or(below, |disk| &disk.root).join("pile");
        let pile = Self { folder, kept: files.div_ceil(100), disk };
        let began = SystemTime::now();
        std::thread::scope(|scope| {
            let pile = &pile;
            let make = |maker| scope.spawn(move || pile.part(maker, files, began));
            let makers: Vec<_> = (0..MAKERS).map(make).collect();
            for maker in makers {
                maker.join().map_err(|_| anyhow!("a maker of files panicked"))??;
            }
            anyhow::Ok(())
        })?;
        // What is not written yet would be written while somebody is measured.
        ensure!(Command::new("sync").status()?.success(), "what was made is not on the disk");
        Ok(pile)
    }

    fn part(&self, maker: usize, files: usize, began: SystemTime) -> Result<()> {
        for first in (maker * PER_FOLDER..files).step_by(MAKERS * PER_FOLDER) {
            let folder = self.folder.join(format!("{:04}", first / PER_FOLDER));
            std::fs::create_dir_all(&folder)?;
            for number in first..files.min(first + PER_FOLDER) {
                let file = File::create(folder.join(format!("{number:07}.cache")))?;
                // All at instants of their own, over about a day.
                let used = if number.is_multiple_of(100) {
                    began
                } else {
                    began - OLD - Duration::from_micros(number as u64 * 86_399)
                };
                file.set_times(FileTimes::new().set_accessed(used).set_modified(used))?;
            }
        }
        Ok(())
    }

    /// Fails unless all that is left is what is new.
    ///
    /// # Errors
    /// Says how many files are left.
    pub(crate) fn is_clean(&self) -> Result<()> {
        let mut left = 0;
        for folder in std::fs::read_dir(&self.folder)? {
            left += std::fs::read_dir(folder?.path())?.count();
        }
        ensure!(left == self.kept, "{left} files are left, not {}", self.kept);
        Ok(())
    }
}

impl Drop for Pile {
    fn drop(&mut self) {
        if self.disk.is_some() {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder).context("left behind") {
            eprintln!("{}: {error:#}", self.folder.display());
        }
    }
}
