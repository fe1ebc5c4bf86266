//! A folder for what a suite starts. It is gone afterwards with every process that was started in it, even when this
//! process is killed.
//!
//! A shell outside of our process group waits for the end of a pipe that only we hold, so it learns of our end however
//! that came about. What was started in the folder is known by its working folder; Linux tells that.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Waits for our end, kills what runs in the folder, unmounts what is mounted there and removes it.
const WARDEN: &str = r#"
trap '' INT TERM HUP
cd /
cat >/dev/null
found=yes
while [ "$found" ]; do
    found=
    for link in /proc/[0-9]*/cwd; do
        case "$(readlink "$link")/" in
        "$1"/*)
            pid=${link#/proc/}
            kill -KILL "${pid%/cwd}" && found=yes
            ;;
        esac
    done
done
while read -r _ point _; do
    case "$point" in "$1"/*) umount -l "$point" ;; esac
done </proc/mounts
rm -rf "$1"
"#;

/// The folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    warden: Child,
}

impl Scratch {
    /// A new, empty folder that only we may look into.
    ///
    /// # Errors
    /// It cannot be made, or there is no shell.
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::temp_dir().canonicalize().context("there is no folder for temporary files")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("xtask-{}-{count}", std::process::id()));
        // Nobody else's: one that is there already is refused, and one of a process of that id long ago is rare.
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        let warden = Command::new("sh")
            .args(["-c", WARDEN, "warden"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start `sh`")?;
        Ok(Self { folder, warden })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        // Whatever it answers, there is nobody to tell.
        let _ = self.warden.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_folder_or_of_what_runs_in_it() {
        let scratch = Scratch::new().unwrap();
        let folder = scratch.path().to_owned();
        let inner = folder.join("inner");
        fs::create_dir(&inner).unwrap();
        let mut child = Command::new("sleep").arg("600").current_dir(&inner).spawn().unwrap();

        drop(scratch);

        assert!(!folder.exists());
        assert!(!child.wait().unwrap().success());
    }
}
