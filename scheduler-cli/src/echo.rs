//! Passes on what a run prints while it runs, each stream to its own.
//!
//! A thread writes, so that a reader who is slow or gone neither holds the run up nor keeps it from hearing that it
//! should stop. What such a reader leaves unread is bounded; beyond that it is dropped, and a line says how much.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use scheduler_core::{Printed, Stream};

/// How many pieces wait for a slow reader; one has at most 8 KiB.
const WAITING: usize = 2_048;

/// A thread that writes what it hears.
#[derive(Debug)]
pub(crate) struct Echo {
    writer: JoinHandle<[bool; 2]>,
    sender: SyncSender<Piece>,
    heard: Arc<AtomicBool>,
}

/// `None` is the end.
type Piece = Option<(Stream, Vec<u8>)>;

impl Echo {
    /// Begins to listen; `Printed` is what the run is given.
    pub(crate) fn begin() -> (Self, Printed) {
        let (sender, pieces) = sync_channel(WAITING);
        let heard = Arc::new(AtomicBool::new(false));
        let printed = Printed::to({
            let (sender, heard) = (sender.clone(), Arc::clone(&heard));
            let dropped = AtomicU64::new(0);
            move |stream, bytes| {
                heard.store(true, Ordering::Relaxed);
                pass(&sender, &dropped, stream, bytes);
            }
        });
        let writer = std::thread::spawn(move || write_all(&pieces));
        (Self { writer, sender, heard }, printed)
    }

    /// Waits until everything that was printed before is written, and ends a line that was begun; says whether there
    /// was anything.
    pub(crate) fn end(self) -> bool {
        // The last sender may be in a job that was given up, so the end is a word of its own. A writer that is gone
        // has panicked, which was told.
        let _ = self.sender.send(None);
        let in_line = self.writer.join().unwrap_or_default();
        for (stream, _) in Stream::ALL.iter().zip(in_line).filter(|(_, in_line)| *in_line) {
            write(*stream, b"\n");
        }
        self.heard.load(Ordering::Relaxed)
    }
}

fn pass(sender: &SyncSender<Piece>, dropped: &AtomicU64, stream: Stream, bytes: &[u8]) {
    let missing = dropped.swap(0, Ordering::Relaxed);
    let mut piece = Vec::with_capacity(bytes.len());
    if missing > 0 {
        piece.extend_from_slice(format!("\n[{missing} bytes dropped]\n").as_bytes());
    }
    piece.extend_from_slice(bytes);
    if sender.try_send(Some((stream, piece))).is_err() {
        dropped.fetch_add(missing + bytes.len() as u64, Ordering::Relaxed);
    }
}

/// Writes until the end; says of each stream whether a line of it was left open.
fn write_all(pieces: &Receiver<Piece>) -> [bool; 2] {
    let mut in_line = [false; 2];
    while let Ok(Some((stream, bytes))) = pieces.recv() {
        write(stream, &bytes);
        in_line[stream as usize] = bytes.last().is_some_and(|last| *last != b'\n');
    }
    in_line
}

fn write(stream: Stream, bytes: &[u8]) {
    // Nobody is left to complain to about a stream that is closed; the run goes on.
    let _ = match stream {
        Stream::Stdout => flushed(std::io::stdout().lock(), bytes),
        Stream::Stderr => flushed(std::io::stderr().lock(), bytes),
    };
}

fn flushed(mut to: impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stuck_reader_leaves_is_dropped_and_counted() {
        let (sender, pieces) = sync_channel(1);
        let dropped = AtomicU64::new(0);
        for text in ["one", "two", "three"] {
            pass(&sender, &dropped, Stream::Stdout, text.as_bytes());
        }
        let next = || pieces.recv().unwrap().unwrap().1;
        assert_eq!(next(), b"one");

        pass(&sender, &dropped, Stream::Stdout, b"four");

        assert_eq!(next(), b"\n[8 bytes dropped]\nfour");
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }
}
