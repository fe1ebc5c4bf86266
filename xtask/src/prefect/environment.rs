//! A Python environment with the versions of Prefect that are known to work together, made once and kept below the
//! build folder.
//!
//! What is installed stands in a file beside it, written last: an environment that was cut off, or that another list
//! of versions made, is made anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command_line::{CommandLine, target_folder, workspace_root};
use crate::tool;

/// Every package and its version.
const LOCK: &str = "xtask/prefect/requirements.txt";

/// The programs that may be a Python of the right version, in the order in which they are tried.
const PYTHONS: [&str; 4] = ["python3.11", "python3.12", "python3.13", "python3"];

/// Ends well when it is a version that the list is for, which also tells that version.
const VERSION: &str = "import sys; print(sys.version.split()[0]); \
                       sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))";

/// Ends well when Prefect is installed beside it: a build folder that was kept in part has the stamp alone.
const FINDS: &str = "import sys, importlib.util as u; sys.exit(not u.find_spec('prefect'))";

/// Where Prefect is installed.
#[derive(Debug)]
pub(crate) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Finds the environment, or makes it, which takes about a minute and 250 MB.
    ///
    /// # Errors
    /// There is no Python and none can be installed, or the packages cannot be had.
    pub(crate) fn ensure() -> Result<Self> {
        let build = workspace_root().join(target_folder());
        fs::create_dir_all(&build).with_context(|| format!("cannot make {}", build.display()))?;
        let environment = Self { folder: build.join("prefect") };
        // Two suites at a time would install over each other.
        let guard = File::create(build.join("prefect.lock")).context("cannot write prefect.lock")?;
        guard.lock().context("cannot lock prefect.lock")?;
        let lock = workspace_root().join(LOCK);
        let wanted = fs::read_to_string(&lock).with_context(|| format!("cannot read {LOCK}"))?;
        if !environment.has(&wanted) {
            environment.make(&lock, &wanted)?;
        }
        Ok(environment)
    }

    /// Its Python, which runs Prefect as `python -m prefect`.
    pub(crate) fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("installed.txt")
    }

    /// Whether all of it is there and its Python still is, which finds Prefect.
    fn has(&self, wanted: &str) -> bool {
        let finds = |python: &Path| {
            let mut command = Command::new(python);
            command.args(["-c", FINDS]).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        fs::read_to_string(self.stamp()).is_ok_and(|installed| installed == wanted) && finds(&self.python())
    }

    fn make(&self, lock: &Path, wanted: &str) -> Result<()> {
        let python = python()?;
        let count = wanted.lines().filter(|line| line.contains("==")).count();
        eprintln!("    installing Prefect ({count} packages of {LOCK}) in {}", self.folder.display());
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", self.folder.display()));
            }
            Ok(()) | Err(_) => {}
        }
        CommandLine::new(python, "-m venv").and([self.folder.display().to_string()]).run()?;
        // The list is whole, so nothing beside it is looked for. What a machine has set up for pip holds.
        let install = CommandLine::program(self.python().display().to_string())
            .and("-m pip install --quiet --no-deps --no-input --disable-pip-version-check -r".split(' '))
            .and([lock.display().to_string()]);
        install
            .run()
            .context("Prefect cannot be installed; the suite needs a package index that pip reaches")?;
        let check = CommandLine::program(self.python().display().to_string()).and(["-m", "pip", "check"]);
        let checked = check.command().output().with_context(|| check.cannot_start())?;
        if !checked.status.success() {
            let lack = String::from_utf8_lossy(&checked.stdout);
            bail!("{LOCK} does not fit this Python; add to it what `{check}` says: {}", lack.trim());
        }
        fs::write(self.stamp(), wanted).context("cannot write installed.txt")
    }
}

/// A Python that can make environments, which is installed if need be.
fn python() -> Result<&'static str> {
    const LACK: &str = "there is no Python 3.11 to 3.13 that makes environments (Prefect runs in one)";
    let able = || {
        let is_able = |python: &&str| version_of(Path::new(python)).is_some() && makes_environments(python);
        PYTHONS.into_iter().find(is_able)
    };
    if let Some(python) = able() {
        return Ok(python);
    }
    tool::install("python3-venv", LACK)?;
    able().with_context(|| {
        format!("the package python3-venv was installed, and still {LACK}; put one on the PATH, such as python3.12")
    })
}

/// Its version, if it is one of those that the list is for.
fn version_of(python: &Path) -> Option<String> {
    let output = Command::new(python).args(["-c", VERSION]).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Debian has the modules for it in a package of their own.
fn makes_environments(python: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import ensurepip, venv"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The version of Prefect in the list.
///
/// # Errors
/// The list cannot be read or names none.
pub(crate) fn version_of_prefect() -> Result<String> {
    let text =
        fs::read_to_string(workspace_root().join(LOCK)).with_context(|| format!("cannot read {LOCK}"))?;
    match text.lines().find_map(|line| line.strip_prefix("prefect==")) {
        Some(version) => Ok(version.trim().to_owned()),
        None => bail!("{LOCK} names no version of prefect"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_and_comes_from_nowhere_in_particular() {
        let text = fs::read_to_string(workspace_root().join(LOCK)).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, version) = line.split_once("==").expect(line);
            let is_plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            assert!(is_plain(name) && is_plain(version), "{line}");
        }
        assert!(version_of_prefect().unwrap().starts_with("3."));
    }

    #[test]
    fn an_environment_that_was_cut_off_is_not_taken_for_whole() {
        let scratch = crate::scratch::Scratch::new().unwrap();
        let environment = Environment { folder: scratch.path().to_owned() };
        fs::create_dir(scratch.path().join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/true", environment.python()).unwrap();

        assert!(!environment.has("a==1\n"));
        fs::write(environment.stamp(), "a==1\n").unwrap();
        assert!(environment.has("a==1\n"));
        assert!(!environment.has("a==2\n"));
        fs::remove_file(environment.python()).unwrap();
        assert!(!environment.has("a==1\n"));
        // One that finds no Prefect.
        std::os::unix::fs::symlink("/bin/false", environment.python()).unwrap();
        assert!(!environment.has("a==1\n"));
    }
}
