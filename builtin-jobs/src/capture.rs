//! What a program printed, in bounded memory: the beginning and the end of each stream.
//!
//! Reading never stops while a program runs, so a program that prints more than is kept does not block. Whoever
//! listens hears all of it as it comes.

use std::collections::VecDeque;

use scheduler_core::{Printed, Stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};

/// The first and the last bytes of a stream, half of the bound each.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    head_bound: usize,
    tail: VecDeque<u8>,
    tail_bound: usize,
    dropped: u64,
}

impl Capture {
    /// An empty capture that keeps at most `bound` bytes.
    pub(crate) fn new(bound: usize) -> Self {
        let tail_bound = bound / 2;
        let head_bound = bound - tail_bound;
        Self { head: Vec::new(), head_bound, tail: VecDeque::new(), tail_bound, dropped: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_bound - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.tail_bound);
        self.tail.drain(..excess);
        self.dropped += excess as u64;
    }

    /// What was kept, as text: a line says how much is missing, and bytes that are no UTF-8 become U+FFFD.
    pub(crate) fn text(&self) -> String {
        let mut kept = self.head.clone();
        if self.dropped > 0 {
            kept.extend_from_slice(format!("\n[{} bytes dropped]\n", self.dropped).as_bytes());
        }
        kept.extend(&self.tail);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

/// Both output streams of a program.
#[derive(Debug)]
pub(crate) struct Pipes {
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
}

#[derive(Debug)]
struct Pipe<R> {
    end: Option<R>,
    capture: Capture,
    buffer: Vec<u8>,
    /// Which stream it is, and who hears it.
    told: (Stream, Printed),
}

impl Pipes {
    /// Keeps at most `bound` bytes of each stream of a program, and tells all of it.
    pub(crate) fn new(program: &mut Child, bound: usize, printed: Printed) -> Self {
        let (stdout, stderr) = (program.stdout.take(), program.stderr.take());
        Self {
            stdout: Pipe::new(stdout, bound, (Stream::Stdout, printed.clone())),
            stderr: Pipe::new(stderr, bound, (Stream::Stderr, printed)),
        }
    }

    /// Reads until nobody holds the other ends any more. Dropped early, it loses nothing and can be called
    /// again.
    pub(crate) async fn read(&mut self) {
        tokio::join!(self.stdout.read(), self.stderr.read());
    }

    /// Awaits `work` and reads meanwhile.
    pub(crate) async fn during<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            output = &mut work => return output,
            () = self.read() => {}
        }
        work.await
    }

    /// What was kept of standard output.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.capture.text()
    }

    /// What was kept of standard error.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.capture.text()
    }
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(end: Option<R>, bound: usize, told: (Stream, Printed)) -> Self {
        Self { end, capture: Capture::new(bound), buffer: vec![0; 8192], told }
    }

    async fn read(&mut self) {
        while let Some(end) = &mut self.end {
            match end.read(&mut self.buffer).await {
                Ok(0) | Err(_) => self.end = None,
                Ok(count) => {
                    let bytes = &self.buffer[..count];
                    let (stream, printed) = &self.told;
                    printed.tell(*stream, bytes);
                    self.capture.push(bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_keeps_both_ends_and_counts_what_is_missing() {
        let cases: [(usize, &[&str], &str); 7] = [
            (8, &["abc"], "abc"),
            (8, &["abcdefgh"], "abcdefgh"),
            (8, &["abcd", "efgh", "ij"], "abcd\n[2 bytes dropped]\nghij"),
            (8, &["abcdefghijklmnop"], "abcd\n[8 bytes dropped]\nmnop"),
            (3, &["a", "b", "c", "d"], "ab\n[1 bytes dropped]\nd"),
            (0, &["abc"], "\n[3 bytes dropped]\n"),
            (8, &["a\u{e9}\u{e9}", "\u{e9}"], "a\u{e9}\u{e9}\u{e9}"),
        ];
        for (bound, writes, text) in cases {
            let mut capture = Capture::new(bound);
            writes.iter().for_each(|bytes| capture.push(bytes.as_bytes()));
            assert_eq!(capture.text(), text, "{bound} {writes:?}");
        }
    }

    #[test]
    fn a_capture_does_not_grow_with_what_is_printed() {
        let mut capture = Capture::new(1000);
        for _ in 0..100_000 {
            capture.push(&[b'x'; 8192]);
        }
        assert!(capture.head.capacity() + capture.tail.capacity() < 64 * 1024);
        assert_eq!(capture.dropped, 819_200_000 - 1000);
    }
}
