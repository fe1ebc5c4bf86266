//! Processes of this machine: whether as many run as should.
//!
//! A zombie runs no more. Command lines are compared and never told: they may hold what is nobody's business.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::health_probe::Found;
use crate::wildcard;

/// The most that is read of a command line, and of any other file.
const LARGEST: u64 = 64 * 1024;

/// How much of a program's name Linux keeps.
const LONGEST_NAME: usize = 15;

/// Which processes count, and how many there should be.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    /// Only the one whose number stands here.
    pub(crate) pid_file: Option<PathBuf>,
    /// The name of its program.
    pub(crate) program: Option<String>,
    /// A pattern for all its words.
    pub(crate) command_line: Option<String>,
    pub(crate) least: usize,
    pub(crate) most: Option<usize>,
}

impl Processes {
    /// Counts them. Asks the system, and may block.
    pub(crate) fn look(&self) -> Found {
        let counted = match &self.pid_file {
            Some(file) => return self.of_file(file),
            None => self.count(),
        };
        let count = match counted {
            Ok(count) => count,
            Err(error) => return Found::failed(format!("/proc cannot be read: {error}")),
        };
        let found = match count {
            0 => "no such process runs".to_owned(),
            1 => "1 process runs".to_owned(),
            _ => format!("{count} processes run"),
        };
        let wanted = match self.most {
            _ if count < self.least => format!(", at least {} wanted", self.least),
            Some(most) if count > most => format!(", at most {most} wanted"),
            Some(_) | None => return Found::healthy(found),
        };
        Found::failed(found + &wanted)
    }

    fn of_file(&self, file: &Path) -> Found {
        let shown = file.display();
        let pid = match bytes_of(file).map(|bytes| first_number(&bytes)) {
            Ok(Some(pid)) => pid,
            Ok(None) => return Found::failed(format!("{shown} holds no number of a process")),
            Err(error) => return Found::failed(format!("{shown} cannot be read: {error}")),
        };
        let place = PathBuf::from(format!("/proc/{pid}"));
        if !is_running(&place) {
            return Found::failed(format!("process {pid} of {shown} does not run"));
        }
        // Numbers are given again: the file may be older than the process.
        if !self.fits(&place) {
            return Found::failed(format!("process {pid} of {shown} is another program"));
        }
        Found::healthy(format!("process {pid} runs"))
    }

    fn count(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if is_process && is_running(&entry.path()) && self.fits(&entry.path()) {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Whether a process is one of these; one that is gone is not.
    fn fits(&self, place: &Path) -> bool {
        let is_like = |pattern: &String| {
            let words = words_of(place).join(&b' ');
            wildcard::is_like(pattern.as_bytes(), &words)
        };
        self.program.as_ref().is_none_or(|program| is_called(place, program))
            && self.command_line.as_ref().is_none_or(is_like)
    }
}

/// Whether a process has not ended; one that is gone has.
fn is_running(place: &Path) -> bool {
    let stat = bytes_of(&place.join("stat")).unwrap_or_default();
    // The state stands behind the name, which may hold anything.
    let end = stat.iter().rposition(|byte| *byte == b')');
    let state = end.and_then(|end| stat.get(end + 2));
    state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
}

fn is_called(place: &Path, program: &str) -> bool {
    let name = bytes_of(&place.join("comm")).unwrap_or_default();
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    let Some(beginning) = program.as_bytes().get(..LONGEST_NAME + 1) else {
        return name == program.as_bytes();
    };
    let first = words_of(place).into_iter().next().unwrap_or_default();
    name == &beginning[..LONGEST_NAME]
        && first.rsplit(|byte| *byte == b'/').next() == Some(program.as_bytes())
}

/// The words of a process; none of one of the kernel's own.
fn words_of(place: &Path) -> Vec<Vec<u8>> {
    let words = bytes_of(&place.join("cmdline")).unwrap_or_default();
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn bytes_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn first_number(bytes: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(bytes);
    text.split_whitespace().next()?.parse().ok().filter(|pid| *pid > 0)
}
