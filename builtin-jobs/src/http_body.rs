//! The body of an answer, read in bounded memory: its beginning is kept, the rest is counted, and what exceeds
//! the bound, before or after decompression, is cut while it streams.

use std::io::{self, Write};
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

/// How much is read, kept and waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_response: u64,
    pub(crate) max_output: usize,
    pub(crate) idle: Duration,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Body {
    kept: Vec<u8>,
    /// The decompressed length.
    pub(crate) length: u64,
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    TooLarge,
    Idle,
    Encoding(String),
    Transport(reqwest::Error),
}

/// Reads the body; `is_empty` for an answer that has none whatever its headers say.
///
/// # Errors
/// What was wrong with it. Nothing is read any more then.
pub(crate) async fn read(mut response: Response, bounds: Bounds, is_empty: bool) -> Result<Body, Fault> {
    let mut sink = Sink::new(&response, bounds)?;
    if !is_empty && response.content_length().is_some_and(|length| length > bounds.max_response) {
        return Err(Fault::TooLarge);
    }
    let mut raw: u64 = 0;
    loop {
        let chunk = tokio::time::timeout(bounds.idle, response.chunk()).await.map_err(|_| Fault::Idle)?;
        let Some(chunk) = chunk.map_err(Fault::Transport)? else { break };
        raw += chunk.len() as u64;
        if raw > bounds.max_response {
            return Err(Fault::TooLarge);
        }
        sink.write(&chunk)?;
    }
    sink.finish(raw)
}

impl Body {
    /// The kept beginning as text; `None` when it is none.
    pub(crate) fn text(&self) -> Option<&str> {
        match std::str::from_utf8(&self.kept) {
            Ok(text) => Some(text),
            // A character that the bound cut through is left out.
            Err(error) if error.error_len().is_none() && self.is_truncated() => {
                std::str::from_utf8(&self.kept[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        }
    }

    /// Whether less was kept than there was.
    pub(crate) fn is_truncated(&self) -> bool {
        (self.kept.len() as u64) < self.length
    }
}

/// Takes the bytes as they come.
enum Sink {
    Plain(Keeper),
    Gzip(Box<MultiGzDecoder<Keeper>>),
}

impl Sink {
    fn new(response: &Response, bounds: Bounds) -> Result<Self, Fault> {
        let keeper = Keeper { kept: Vec::new(), length: 0, bounds };
        let encodings = response.headers().get_all(CONTENT_ENCODING);
        let names: Vec<&str> = encodings.iter().map(|value| value.to_str().unwrap_or("?")).collect();
        match names.as_slice() {
            [] | ["" | "identity"] => Ok(Self::Plain(keeper)),
            [name] if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                Ok(Self::Gzip(Box::new(MultiGzDecoder::new(keeper))))
            }
            _ => Err(Fault::Encoding("it is encoded in another way than the accepted one, gzip".to_owned())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Plain(keeper) => keeper.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
        .map_err(|error| fault_of(&error))
    }

    fn finish(self, raw: u64) -> Result<Body, Fault> {
        let keeper = match self {
            Self::Plain(keeper) => keeper,
            // An answer without a body may still name an encoding.
            Self::Gzip(_) if raw == 0 => return Ok(Body { kept: Vec::new(), length: 0 }),
            Self::Gzip(decoder) => decoder.finish().map_err(|error| fault_of(&error))?,
        };
        Ok(Body { kept: keeper.kept, length: keeper.length })
    }
}

fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Fault::TooLarge,
        _ => Fault::Encoding(format!("its gzip is damaged: {error}")),
    }
}

/// Keeps the beginning and counts the rest, up to the bound.
struct Keeper {
    kept: Vec<u8>,
    length: u64,
    bounds: Bounds,
}

impl Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        if self.length > self.bounds.max_response {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let room = self.bounds.max_output - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_beginning_is_text_when_the_bound_cut_nothing_but_its_last_character() {
        let cases: [(&[u8], u64, Option<&str>); 6] = [
            (b"", 0, Some("")),
            (b"abc", 3, Some("abc")),
            ("aé".as_bytes(), 3, Some("aé")),
            (b"a\xc3", 3, Some("a")),
            (b"a\xc3", 2, None),
            (b"\xff\xfe", 9, None),
        ];
        for (kept, length, text) in cases {
            let body = Body { kept: kept.to_vec(), length };
            assert_eq!(body.text(), text, "{kept:?} of {length}");
        }
    }
}
