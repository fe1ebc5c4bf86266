//! A program, everything in its process group, and how they end.
//!
//! The leader is reaped last: until then its number cannot pass on to a stranger, so a signal to the group
//! never hits one.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::capture::Pipes;
use crate::marks::{self, Marks};

/// How often a group that was told to end is looked at once its leader has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long processes that left the group are hunted for.
const HUNT: Duration = Duration::from_secs(1);

/// A running program and what it started. Dropped before [`reap`](Self::reap) is done, it kills them all.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    leader: Child,
    id: Pid,
    marks: Option<Marks>,
}

impl ProcessGroup {
    /// Starts `command` as the leader of a group of its own, from which `pipes` are taken.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn spawn(
        mut command: Command,
        marks: Option<Marks>,
        pipes: impl FnOnce(&mut Child) -> Pipes,
    ) -> io::Result<(Self, Pipes)> {
        let mut leader = command.process_group(0).spawn()?;
        let pipes = pipes(&mut leader);
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.expect("a child that was not waited for has an id");
        Ok((Self { leader, id, marks }, pipes))
    }

    /// Waits until the leader has ended, and leaves it unreaped.
    ///
    /// # Errors
    /// When somebody else in this process reaped it.
    pub(crate) async fn leader_ended(&self) -> io::Result<()> {
        let mut deaths = signal(SignalKind::child())?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.id), look)?.is_none() {
            deaths.recv().await;
        }
        Ok(())
    }

    /// Tells every member to terminate, kills them after `grace`, and then whoever left the group but still
    /// carries the run's marks.
    ///
    /// # Errors
    /// When the leader cannot be waited for.
    pub(crate) async fn end(self, grace: Duration) -> io::Result<()> {
        self.signal(Signal::TERM);
        // A stopped process hears nothing before it goes on.
        self.signal(Signal::CONT);
        // Neither outcome changes what follows.
        let _ = tokio::time::timeout(grace, self.emptied()).await;
        self.kill();
        // A killed process takes a moment to go, and carries no marks any more meanwhile.
        let _ = tokio::time::timeout(HUNT, self.emptied()).await;
        if let Some(marks) = self.marks {
            let hunt = tokio::task::spawn_blocking(move || marks.kill_carriers(HUNT));
            let left = hunt.await.unwrap_or_default();
            if !left.is_empty() {
                tracing::warn!(processes = ?left, "processes of an ended run live on");
            }
        }
        self.reap().await.map(drop)
    }

    /// Kills every member at once.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Takes the leader's status; the group is forgotten.
    ///
    /// # Errors
    /// When the leader cannot be waited for.
    pub(crate) async fn reap(mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    async fn emptied(&self) -> io::Result<()> {
        self.leader_ended().await?;
        let id = self.id;
        while tokio::task::spawn_blocking(move || marks::is_group_alive(id)).await.unwrap_or(false) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // The only way to fail is that no member may be signalled: a program that changed its user.
        let _ = kill_process_group(self.id, signal);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // Without an id the leader is reaped, and its number may be somebody else's by now.
        if self.leader.id().is_none() {
            return;
        }
        self.kill();
        if let Some(marks) = self.marks {
            marks.kill_carriers(Duration::ZERO);
        }
        // tokio reaps a dropped child later, whichever way it ends.
    }
}
