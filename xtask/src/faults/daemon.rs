//! A daemon under test: a process that is killed, stopped and asked from outside.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where its own part of the log begins.
    begin: u64,
}

impl Daemon {
    /// Starts it; what it says is appended to `log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let begin = file.metadata()?.len();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log: log.to_owned(), begin })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let own = bytes.get(usize::try_from(self.begin).unwrap_or(0)..).unwrap_or_default();
        String::from_utf8_lossy(own).into_owned()
    }

    /// Whether its backends have started and know its tasks; then it says how many those are.
    pub(crate) fn has_started(&self) -> bool {
        let log = self.log();
        log.lines().any(|line| line.contains(" INFO ") && line.contains(" task"))
    }

    /// Whether the process is there.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the daemon had ended by itself with {status}; {}", self.last_words());
        }
        kill_process(Pid::from_child(&self.child), signal).context("the daemon cannot be reached")
    }

    /// Ends it as a crash does.
    ///
    /// # Errors
    /// It had ended by itself before.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.child.wait()?;
        if std::os::unix::process::ExitStatusExt::signal(&status) != Some(9) {
            bail!("the daemon ended with {status} before it was killed; {}", self.last_words());
        }
        Ok(())
    }

    /// Lets it neither run nor know that it does not, until it is continued.
    ///
    /// # Errors
    /// It has ended, or the system does not stop it.
    pub(crate) fn suspend(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + PATIENCE;
        while state_of(self.pid()) != Some('T') {
            if Instant::now() > deadline {
                bail!("SIGSTOP did not stop the daemon");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// It had ended by itself before, or does not end.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the daemon does not end; {}", self.last_words());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of what it said, for who has to find out why.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.trim().lines().collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        format!("its last words: {}", last.join(" | "))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has mostly ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The state of a process by its letter in `/proc`: `T` is stopped.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything, a parenthesis included.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether there is such a process that has not ended.
pub(crate) fn exists(pid: u32) -> bool {
    !matches!(state_of(pid), None | Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_stopped_continued_and_killed() {
        let folder = crate::scratch::Scratch::new().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600").current_dir(folder.path());
        let mut daemon = Daemon::start(command, &folder.path().join("log")).unwrap();

        daemon.suspend().unwrap();
        assert!(daemon.is_alive() && exists(daemon.pid()));
        daemon.resume().unwrap();
        daemon.kill().unwrap();

        assert!(!daemon.is_alive() && !exists(daemon.pid()));
        assert!(daemon.kill().is_err());
    }
}
