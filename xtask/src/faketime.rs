//! The library that lets the wall clock of one process lie: libfaketime, loaded before that process's own.
//!
//! It works on programs that ask the C library for the time, as ours does, and on no others.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::tool;

/// Where distributions put the form for programs with threads, below a folder of libraries.
const PLACES: [&str; 2] = ["faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1"];
/// The folders of libraries, but for those of one machine's kind.
const FOLDERS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];

/// Finds it. Root on Debian gets it where it is missing; others are told which package holds it.
///
/// # Errors
/// There is none and this process may not install it.
pub(crate) fn library() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    tool::install("libfaketime", "there is no libfaketime on this machine (clocks lie by it)")?;
    match find() {
        Some(found) => Ok(found),
        None => bail!("the package libfaketime was installed, and there is still no {}", PLACES[0]),
    }
}

fn find() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    let folders = FOLDERS.iter().map(PathBuf::from);
    let of_machine = PathBuf::from(format!("/usr/lib/{machine}-linux-gnu"));
    let places = std::iter::once(of_machine).chain(folders);
    places.flat_map(|folder| PLACES.map(|place| folder.join(place))).find(|place| place.is_file())
}
