//! The requests to stop that the operating system delivers.

#[cfg(unix)]
use crate::exit::Exit;
use crate::failure::Failure;

/// SIGINT, SIGTERM and SIGHUP (Ctrl-C elsewhere), from the moment on that this is made.
#[derive(Debug)]
pub(crate) struct StopSignals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    /// None where it was ignored from the start, as `nohup` has it.
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl StopSignals {
    /// Begins to listen; the signals do not end the process any more.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listening = |kind| signal(kind).map_err(|error| deaf(&error));
        Ok(Self {
            interrupt: listening(SignalKind::interrupt())?,
            terminate: listening(SignalKind::terminate())?,
            hang_up: if ignores_hang_up() { None } else { Some(listening(SignalKind::hangup())?) },
        })
    }

    /// Begins to listen.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// The name of the next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            Some(_) = async { self.hang_up.as_mut()?.recv().await } => "SIGHUP",
        }
    }

    /// The name of the next one.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

/// Whether whoever started this process had it ignore SIGHUP; listening would undo that.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    // Only Linux tells without unsafe code.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is the first signal, so the lowest bit is its own.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(unix)]
fn deaf(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Findings, "process/no_signals", format!("cannot listen for signals: {error}"))
}
