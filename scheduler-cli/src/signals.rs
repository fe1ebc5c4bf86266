//! The requests to stop that the operating system delivers.

#[cfg(unix)]
use crate::exit::Exit;
use crate::failure::Failure;

/// SIGINT and SIGTERM (Ctrl-C elsewhere), from the moment on that this is made.
#[derive(Debug)]
pub(crate) struct StopSignals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
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

#[cfg(unix)]
fn deaf(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Findings, "process/no_signals", format!("cannot listen for signals: {error}"))
}
