//! Reads a configuration file and the files it includes.
//!
//! `include` lists paths relative to the including file; `*` and `?` match within one name, in
//! alphabetical order, and never a leading dot.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::origin::Origin;
use crate::pointer;
use crate::source::Source;

/// Files that include one another deeper than this are refused.
const DEEPEST: usize = 32;

/// The files in the order in which they are laid over one another: what is included comes before its includer.
///
/// A file that two others include is read once.
pub(crate) fn read_all(path: &Path) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let mut reader = Reader::default();
    reader.file(path, &Origin::None);
    reader.end()
}

/// The same, when the content of the outermost file is at hand.
pub(crate) fn read_included(path: &Path, content: Vec<u8>) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let mut reader = Reader::default();
    reader.follow(path.to_owned(), path, Source::parse(path, content));
    reader.end()
}

#[derive(Default)]
struct Reader {
    /// The files being read, the outermost first, as they resolve and as they were named.
    chain: Vec<(PathBuf, PathBuf)>,
    seen: HashSet<PathBuf>,
    sources: Vec<Source>,
    faults: Vec<Diagnostic>,
}

impl Reader {
    fn file(&mut self, path: &Path, asked_by: &Origin) {
        // A pipe has no canonical path; nothing can include it twice either.
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(fault) = self.cycle(&resolved, path, asked_by) {
            self.faults.push(fault);
            return;
        }
        if !self.seen.insert(resolved.clone()) {
            return;
        }
        let source = match asked_by {
            // Reading a device or a pipe that a file names could take for ever.
            Origin::File(_) if path.metadata().is_ok_and(|found| !found.is_file()) => {
                let message = format!("cannot include `{}`: it is no regular file", path.display());
                Err(vec![Diagnostic::error("config/unreadable", message, asked_by.clone())])
            }
            _ => Source::read(path, asked_by),
        };
        self.follow(resolved, path, source);
    }

    fn follow(&mut self, resolved: PathBuf, path: &Path, source: Result<Source, Vec<Diagnostic>>) {
        match source {
            Err(faults) => self.faults.extend(faults),
            Ok(mut source) => {
                self.chain.push((resolved, path.to_owned()));
                self.includes(&mut source);
                self.chain.pop();
                self.sources.push(source);
            }
        }
    }

    fn end(self) -> Result<Vec<Source>, Vec<Diagnostic>> {
        if self.faults.is_empty() { Ok(self.sources) } else { Err(self.faults) }
    }

    fn cycle(&self, resolved: &Path, path: &Path, asked_by: &Origin) -> Option<Diagnostic> {
        let start = self.chain.iter().position(|(above, _)| above == resolved);
        if start.is_none() && self.chain.len() < DEEPEST {
            return None;
        }
        let (code, problem) = match start {
            Some(_) => ("config/include_cycle", "files include one another in a circle"),
            None => ("config/include_too_deep", "files include one another too deeply"),
        };
        let names: Vec<String> = self.chain[start.unwrap_or(0)..]
            .iter()
            .map(|(_, name)| name.as_path())
            .chain([path])
            .map(|name| name.display().to_string())
            .collect();
        let message = format!("{problem}: {}", names.join(" → "));
        Some(Diagnostic::error(code, message, asked_by.clone()).with_help("remove one of these `include`s"))
    }

    fn includes(&mut self, source: &mut Source) {
        let base = source.path().parent().unwrap_or(Path::new("")).to_owned();
        let patterns = match source.take("include") {
            None => return,
            Some(Value::Array(patterns)) => patterns,
            Some(_) => return self.mistyped(source, "/include"),
        };
        for (index, pattern) in patterns.iter().enumerate() {
            let place = pointer::child("/include", &index.to_string());
            let Value::String(pattern) = pattern else {
                self.mistyped(source, &place);
                continue;
            };
            let origin = source.origin(&place).unwrap_or(Origin::None);
            match expand(&base, pattern) {
                Ok(paths) => paths.iter().for_each(|path| self.file(path, &origin)),
                Err(error) => {
                    let message = format!("cannot list `{pattern}`: {error}");
                    self.faults.push(Diagnostic::error("config/unreadable", message, origin));
                }
            }
        }
    }

    fn mistyped(&mut self, source: &Source, place: &str) {
        let origin = source.origin(place).unwrap_or(Origin::None);
        let message = "`include` is no list of paths";
        let fault = Diagnostic::error("config/wrong_type", message, origin);
        self.faults.push(fault.with_help("write include = [\"jobs.d/*.toml\"]"));
    }
}

fn expand(base: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![base.to_owned()];
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(name) if is_wild(name) => {
                let mut found = Vec::new();
                for path in &paths {
                    found.extend(list(path, &name.to_string_lossy())?);
                }
                paths = found;
            }
            Component::Normal(_)
            | Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => paths.iter_mut().for_each(|path| path.push(component)),
        }
    }
    if is_wild(OsStr::new(pattern)) {
        // A link that leads nowhere stays, so that it is reported.
        paths.retain(|path| path.symlink_metadata().is_ok() && !path.is_dir());
    }
    Ok(paths)
}

fn is_wild(name: &OsStr) -> bool {
    name.to_string_lossy().contains(['*', '?'])
}

fn list(directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = match listed.read_dir() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if matches(pattern, &name.to_string_lossy()) {
            found.push(directory.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether `*` (any characters) and `?` (one) make the pattern equal to the name.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at_pattern, mut at_name) = (0, 0);
    // After the last `*`: where the pattern goes on, and the characters that the `*` has eaten so far.
    let mut star: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some('*') => {
                at_pattern += 1;
                star = Some((at_pattern, at_name));
            }
            Some(wanted) if *wanted == '?' || *wanted == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => {
                let Some((after, eaten)) = star else { return false };
                at_pattern = after;
                at_name = eaten + 1;
                star = Some((after, at_name));
            }
        }
    }
    pattern[at_pattern..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        directory
    }

    fn read(files: &[(&str, &str)]) -> Result<Vec<String>, Vec<Diagnostic>> {
        let directory = write(files);
        let sources = read_all(&directory.path().join(files[0].0))?;
        let name =
            |source: &Source| source.path().strip_prefix(directory.path()).unwrap().display().to_string();
        Ok(sources.iter().map(name).collect())
    }

    #[test]
    fn included_files_come_before_their_includer_in_alphabetical_order() {
        let order = read(&[
            ("main.toml", "include = ['jobs.d/*.toml', 'other.yaml', 'none.d/*']"),
            ("jobs.d/b.toml", ""),
            ("jobs.d/a.toml", "include = ['../deep.toml']"),
            ("jobs.d/.#a.toml", "broken"),
            ("jobs.d/a.txt", "broken"),
            ("jobs.d/dir.toml/x", "broken"),
            ("deep.toml", ""),
            ("other.yaml", "include: [deep.toml]"),
        ]);

        let expected = ["jobs.d/../deep.toml", "jobs.d/a.toml", "jobs.d/b.toml", "other.yaml", "main.toml"];
        assert_eq!(order.unwrap(), expected);
    }

    #[test]
    fn a_cycle_names_the_chain() {
        let faults = read(&[
            ("start.toml", "include = ['a.toml']"),
            ("a.toml", "include = ['b.toml']"),
            ("b.toml", "\ninclude = ['./a.toml']"),
        ])
        .unwrap_err();

        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].code, "config/include_cycle");
        let names: Vec<&str> =
            faults[0].message.split(" → ").map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.toml", "b.toml", "a.toml"]);
        assert!(faults[0].origin.place().ends_with("b.toml:2:12"));
    }

    #[test]
    fn a_missing_file_is_reported_where_it_is_included() {
        let faults = read(&[("main.toml", "include = ['a.toml',\n 'b.toml']")]).unwrap_err();

        let places: Vec<_> = faults.iter().map(|fault| fault.origin.place()).collect();
        assert!(places[0].ends_with("main.toml:1:12") && places[1].ends_with("main.toml:2:2"), "{places:?}");
        assert!(faults.iter().all(|fault| fault.code == "config/file_not_found"));
    }

    #[test]
    fn a_chain_of_includes_has_an_end() {
        let files: Vec<(String, String)> =
            (0..40).map(|n| (format!("{n}.toml"), format!("include = ['{}.toml']", n + 1))).collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();

        assert_eq!(read(&files).unwrap_err()[0].code, "config/include_too_deep");
    }

    #[test]
    fn an_include_that_is_no_list_of_paths_is_refused() {
        for (content, column) in [("include = 'a.toml'", 11), ("include = [1]", 12), ("include = {}", 1)] {
            let faults = read(&[("main.toml", content)]).unwrap_err();

            assert_eq!(faults[0].code, "config/wrong_type");
            assert!(faults[0].origin.place().ends_with(&format!(":1:{column}")), "{content}");
        }
    }

    #[test]
    fn stars_and_question_marks_match_within_a_name() {
        let cases = [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            (".*", ".toml", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2", false),
            ("a?", "aä", true),
            ("a?", "a", false),
            ("*", "", true),
            ("a", "ab", false),
        ];

        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
