//! Where the words of a step go: out as they come, or kept until the step has ended.
//!
//! Of two steps at a time only one may speak, or nobody could read what either said.

use std::io::{self, Write};

/// What a step writes to.
#[derive(Debug)]
pub(crate) enum Output {
    /// Our own standard output; children have our standard error too.
    Shown,
    /// Memory, also for what children say on standard error.
    Kept(Vec<u8>),
}

impl Output {
    /// Writes what a child has said.
    ///
    /// # Errors
    /// Our standard output takes nothing.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Shown => io::stdout().write_all(bytes),
            Self::Kept(kept) => {
                kept.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Writes a line of our own.
    pub(crate) fn line(&mut self, line: &str) {
        match self {
            // Not as above: a test of ours that prints is to be quiet when it passes.
            Self::Shown => println!("{line}"),
            Self::Kept(kept) => kept.extend(format!("{line}\n").bytes()),
        }
    }
}
