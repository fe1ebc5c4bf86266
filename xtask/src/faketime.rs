//! The library that lets the wall clock of one process lie: libfaketime, loaded before that process's own.
//!
//! It works on programs that ask the C library for the time, as ours does, and on no others.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command_line::CommandLine;
use crate::tool;

/// A year that it is not, to see whether the library works.
const YEAR: &str = "2001";

/// Where distributions put the form for programs with threads, below a folder of libraries.
const PLACES: [&str; 2] = ["faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1"];
/// The folders of libraries, but for those of one machine's kind.
const FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];

/// Finds it. Root on Debian gets it where it is missing; others are told which package holds it.
///
/// # Errors
/// There is none and this process may not install it, or it is none that works here.
pub(crate) fn library() -> Result<PathBuf> {
    let found = match find() {
        Some(found) => found,
        None => {
            tool::install("libfaketime", "there is no libfaketime on this machine (clocks lie by it)")?;
            find().with_context(|| {
                format!("the package libfaketime was installed, and there is still no {}", PLACES[0])
            })?
        }
    };
    // What cannot be loaded is left out without an error, and each test would find that its clock tells the truth.
    let told = told_below(&found)?;
    if told != YEAR {
        bail!(
            "the year below {} is {told} and not {YEAR}; install the package libfaketime for this machine's kind \
             of programs",
            found.display()
        );
    }
    Ok(found)
}

/// The year that a program is told.
fn told_below(library: &Path) -> Result<String> {
    let line = CommandLine::new("date", "+%Y")
        .with_variable("LD_PRELOAD", library.display().to_string())
        .with_variable("FAKETIME", format!("{YEAR}-06-01 00:00:00"));
    Ok(String::from_utf8_lossy(&line.output()?).trim().to_owned())
}

fn find() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    let folders = FOLDERS.iter().map(PathBuf::from);
    let of_machine = PathBuf::from(format!("/usr/lib/{machine}-linux-gnu"));
    let places = std::iter::once(of_machine).chain(folders);
    places.flat_map(|folder| PLACES.map(|place| folder.join(place))).find(|place| place.is_file())
}
