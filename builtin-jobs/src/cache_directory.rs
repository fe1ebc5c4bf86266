//! A folder as a cache: what was not used for too long goes, and then whatever was not used for longest until the
//! rest fits its bounds.
//!
//! "Used" is the later of the last access and the last change. Which files go is found by counting, not by a list
//! of them, so memory stays flat: see [`Cutoff`](crate::cache_cutoff).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use scheduler_core::{ArgsError, Error, Result, RunContext, async_trait};

use crate::cache_args::TargetArgs;
use crate::cache_cleanup::CacheTarget;
use crate::cache_cutoff::{Bounds, Cutoff, Key};
use crate::cache_root;
use crate::cache_sweep::Sweep;
use crate::cache_walk::{Entry, Fate, Walk};
use crate::wildcard::is_like;

/// A folder.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// Whether the path was given a second time, which lifts the bar from what is dangerous.
    pub(crate) is_confirmed: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) bounds: Bounds,
    /// Patterns of names that are no part of the cache.
    pub(crate) keep: Vec<String>,
    /// Whether folders that this empties go as well.
    pub(crate) remove_empty: bool,
}

impl Directory {
    /// Reads a target.
    ///
    /// # Errors
    /// Every fault of its keys.
    pub(crate) fn read(args: TargetArgs) -> Result<Self, Vec<ArgsError>> {
        let mut faults = Vec::new();
        let path = args.path.unwrap_or_default();
        if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().contains(&0) {
            faults.push(ArgsError::new("/path", "this is no path"));
        }
        if args.confirm_path.as_ref().is_some_and(|confirmed| *confirmed != path) {
            let fault = "this is another path than `path`";
            faults.push(ArgsError::new("/confirm_path", fault).with_help("leave it out, or repeat `path`"));
        }
        let bounds = Bounds { count: args.max_files, bytes: args.max_bytes };
        if args.max_age.is_none() && bounds.count.is_none() && bounds.bytes.is_none() {
            let help = "set `max_age`, `max_bytes` or `max_files`";
            faults.push(ArgsError::new("", "nothing says what goes").with_help(help));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            path,
            is_confirmed: args.confirm_path.is_some(),
            max_age: args.max_age,
            bounds,
            keep: args.keep.unwrap_or_default(),
            remove_empty: args.remove_empty.unwrap_or_default(),
        })
    }

    fn sweep(&self, sweep: &Sweep) -> Result<()> {
        match cache_root::open(&self.path, self.is_confirmed)? {
            Some(root) => self.sweep_below(&root, sweep),
            None => Ok(()),
        }
    }

    /// Sweeps what was opened, whatever lies at its path by now.
    fn sweep_below(&self, root: &OwnedFd, sweep: &Sweep) -> Result<()> {
        let kept = |entry: &Entry<'_>| {
            self.keep.iter().any(|pattern| is_like(pattern.as_bytes(), entry.name.to_bytes()))
        };
        let walk = Walk { root, sweep, removes_empty: self.remove_empty };
        let oldest = self.max_age.map_or(Key::default(), |age| Key::before(sweep.now(), age));
        let mut cutoff = Cutoff::new(oldest, self.bounds, sweep.now());
        while let Some(pass) = cutoff.pass() {
            let count = |entry: &Entry<'_>| {
                if !kept(entry) {
                    pass.count(entry.key, entry.bytes);
                }
                Fate::Stays
            };
            walk.quietly().run(count).map_err(|error| self.unusable(error))?;
            if sweep.is_stopped() {
                return Ok(());
            }
            cutoff.narrow();
        }
        let cutoff = cutoff.found();
        let remove = |entry: &Entry<'_>| {
            if entry.key >= cutoff || kept(entry) {
                return Fate::Stays;
            }
            if !sweep.is_dry() {
                match unlinkat(entry.folder, entry.name, AtFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => {
                        sweep.vanished();
                        return Fate::Goes;
                    }
                    Err(error) => {
                        sweep.failed(|| format!("{}: {error}", entry.path()));
                        return Fate::Stays;
                    }
                }
            }
            sweep.removed(entry.key.order(), entry.bytes, || entry.path());
            Fate::Goes
        };
        walk.run(remove).map_err(|error| self.unusable(error))
    }

    fn unusable(&self, error: Errno) -> Error {
        let message = format!("{} cannot be read", self.path.display());
        Error::unavailable("cache_cleanup/unusable", message).with_source(error)
    }
}

#[async_trait]
impl CacheTarget for Directory {
    async fn clean(&self, _: &RunContext, sweep: &Sweep) -> Result<()> {
        let (own, theirs) = (self.clone(), sweep.clone());
        let swept = tokio::task::spawn_blocking(move || own.sweep(&theirs)).await;
        swept.unwrap_or_else(|error| {
            let message = format!("cleaning {} ended early", self.path.display());
            Err(Error::unexpected("cache_cleanup/unusable", message).with_source(error))
        })
    }

    fn check(&self) -> Vec<ArgsError> {
        let refused = cache_root::open(&self.path, self.is_confirmed).err();
        let refused = refused.filter(|error| error.code() == "cache_cleanup/refused");
        let help = "name another folder, or give the path once more as `confirm_path`";
        refused.map(|error| ArgsError::new("/path", error.to_string()).with_help(help)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler_core::Timestamp;

    #[test]
    fn a_root_that_is_replaced_by_a_link_after_it_was_opened_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for place in ["cache", "cache/sub", "outside"] {
            std::fs::create_dir(path(place)).unwrap();
            std::fs::write(path(place).join("file"), "").unwrap();
        }
        let bounds = Bounds { count: Some(0), bytes: None };
        let directory = Directory {
            path: path("cache"),
            is_confirmed: false,
            max_age: None,
            bounds,
            keep: Vec::new(),
            remove_empty: false,
        };
        let sweep = Sweep::new(false, Timestamp::from_millis(2_000_000_000_000), 10);

        let root = cache_root::open(&directory.path, false).unwrap().unwrap();
        std::fs::rename(path("cache"), path("moved")).unwrap();
        std::os::unix::fs::symlink(path("outside"), path("cache")).unwrap();
        directory.sweep_below(&root, &sweep).unwrap();

        assert!(path("outside/file").exists(), "what the link leads to is nobody's cache");
        assert!(!path("moved/file").exists() && !path("moved/sub/file").exists());
        assert_eq!(sweep.freed().0, 2);
    }
}
