//! Where a program lies: found before it is started, by the same rule when a task is checked and when it runs.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use scheduler_core::ArgsError;

/// Finds `program`: as it stands when it holds a slash, else in the folders of `path`. What is relative counts
/// from `cwd`, the folder in which it will run, and stays relative to it.
///
/// # Errors
/// Says where it was looked for, and what to do.
pub(crate) fn locate(program: &str, path: &OsStr, cwd: &Path) -> Result<PathBuf, ArgsError> {
    if program.contains('/') {
        let place = cwd.join(program);
        return look_at(&place).map(|()| program.into()).map_err(|obstacle| obstacle.told(program, &place));
    }
    let mut blocked = None;
    for folder in std::env::split_paths(path) {
        // An empty entry means the current folder; the dot keeps the path from being looked up again.
        let folder = if folder.as_os_str().is_empty() { Path::new(".").into() } else { folder };
        let candidate = folder.join(program);
        let place = cwd.join(&candidate);
        match look_at(&place) {
            Ok(()) => return Ok(candidate),
            Err(Obstacle::Missing) => {}
            Err(obstacle) => blocked = blocked.or(Some((obstacle, place))),
        }
    }
    Err(match blocked {
        Some((obstacle, place)) => obstacle.told(program, &place),
        None => fault(format!("program `{program}` is not in PATH, which is {}", path.display()))
            .with_help("give the full path"),
    })
}

/// Looks whether a program can run in `cwd`.
///
/// # Errors
/// Says what lies there instead of a folder.
pub(crate) fn check_folder(cwd: &Path) -> Result<(), ArgsError> {
    let shown = || std::path::absolute(cwd).unwrap_or_else(|_| cwd.to_owned()).display().to_string();
    let fault = |text: String| ArgsError::new("/cwd", text);
    match cwd.metadata() {
        Ok(found) if !found.is_dir() => Err(fault(format!("{} is no folder", shown()))),
        Ok(_) if access(cwd, Access::EXEC_OK).is_err() => {
            Err(fault(format!("folder {} may not be entered", shown())))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(fault(format!("folder {} does not exist", shown()))
                .with_help("create it, or give the full path of another"))
        }
        Err(error) => Err(fault(format!("folder {} cannot be read: {error}", shown()))),
    }
}

enum Obstacle {
    Missing,
    NoFile,
    NotExecutable,
    Unreadable(io::Error),
}

impl Obstacle {
    fn told(self, program: &str, place: &Path) -> ArgsError {
        let place = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
        let place = place.display();
        match self {
            Self::Missing => fault(format!("program `{program}` does not exist, looked for at {place}"))
                .with_help("correct the path, or install the program"),
            Self::NoFile => fault(format!("program `{program}` is no file but something else at {place}"))
                .with_help("give the path of the program in it"),
            Self::NotExecutable => fault(format!("program `{program}` is not executable at {place}"))
                .with_help(format!("chmod +x {place}")),
            Self::Unreadable(error) => {
                fault(format!("program `{program}` cannot be looked at, at {place}: {error}"))
            }
        }
    }
}

fn look_at(place: &Path) -> Result<(), Obstacle> {
    match place.metadata() {
        Ok(found) if !found.is_file() => Err(Obstacle::NoFile),
        Ok(_) if access(place, Access::EXEC_OK).is_err() => Err(Obstacle::NotExecutable),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Obstacle::Missing)
        }
        Err(error) => Err(Obstacle::Unreadable(error)),
    }
}

fn fault(text: String) -> ArgsError {
    ArgsError::new("/program", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_is_found_where_the_child_would_find_it() {
        let folder = tempfile::tempdir().unwrap();
        for (file, mode) in [("bin/run", 0o755), ("run", 0o755), ("plain", 0o644)] {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        }
        let absolute = folder.path().join("run").to_str().unwrap().to_owned();
        let cases = [
            (absolute.as_str(), "", Ok(absolute.as_str())),
            ("./run", "/nowhere", Ok("./run")),
            ("bin/run", "/nowhere", Ok("bin/run")),
            ("run", "/nowhere:bin", Ok("bin/run")),
            ("run", "/nowhere::bin", Ok("./run")),
            ("run", "/nowhere", Err("program `run` is not in PATH, which is /nowhere")),
            ("./other", "", Err("does not exist, looked for at")),
            ("./plain", "", Err("is not executable at")),
            ("plain", ".", Err("is not executable at")),
            ("./bin", "", Err("is no file")),
            ("./plain/x", "", Err("does not exist")),
        ];
        for (program, path, expected) in cases {
            match (locate(program, OsStr::new(path), folder.path()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, Path::new(expected), "{program}"),
                (Err(found), Err(expected)) => assert!(found.message.contains(expected), "{found}"),
                (found, _) => panic!("{program} in {path}: {found:?}"),
            }
        }
    }
}
