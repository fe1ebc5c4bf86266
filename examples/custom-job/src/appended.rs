//! The whole lines that were appended to a file since a place in it.

use std::fs::File;
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::Path;

/// The most bytes read at once; the next run goes on behind them.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// New lines, and the place behind them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Appended {
    pub(crate) lines: Vec<String>,
    pub(crate) end: u64,
}

/// Reads on from `offset`, or from the beginning of a file that has become shorter, as after a rotation.
///
/// # Errors
/// The file exists and cannot be read.
pub(crate) fn since(file: &Path, offset: u64) -> Result<Appended> {
    let mut file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Appended::default()),
        Err(error) => return Err(error),
    };
    let start = if file.metadata()?.len() < offset { 0 } else { offset };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;

    // A line that is still being written is left for the next run, unless it fills everything that is read at once.
    if (bytes.len() as u64) < MOST_BYTES || bytes.contains(&b'\n') {
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Appended { lines: text.lines().map(str::to_owned).collect(), end: start + bytes.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_once_and_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, "one\ntwo\nthr").unwrap();

        let first = since(&file, 0).unwrap();
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        let second = since(&file, first.end).unwrap();

        assert_eq!(first.lines, ["one", "two"]);
        assert_eq!((second.lines, second.end), (vec!["three".to_owned()], 14));
    }

    #[test]
    fn a_file_that_was_rotated_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, "new\n").unwrap();

        assert_eq!(since(&file, 900).unwrap(), Appended { lines: vec!["new".into()], end: 4 });
    }

    #[test]
    fn a_file_that_is_not_there_yet_has_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(since(&folder.path().join("log"), 7).unwrap(), Appended::default());
    }
}
