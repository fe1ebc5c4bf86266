//! Which branches and tags are watched, and what a server says of them, read as it comes in bounded memory.

use std::collections::BTreeMap;

use scheduler_core::ArgsError;
use serde::{Deserialize, Serialize};

use crate::wildcard::is_like;

/// Where the default branch of a repository points to.
const HEAD: &str = "HEAD";
const BRANCHES: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

/// The end of a line that tells which commit an annotated tag means.
const PEELED: &str = "^{}";

/// The most refs of one repository that are watched: all are kept in the state of the task.
pub(crate) const MOST_REFS: usize = 2_000;

/// No server has a longer line: names of refs have at most a few hundred bytes.
const LONGEST_LINE: usize = 8 * 1024;

/// Commits by the full names of refs.
pub(crate) type Refs = BTreeMap<String, String>;

/// Patterns of full names of refs. A `*` stands for slashes as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watched(Vec<String>);

impl Watched {
    /// Reads patterns of branches and tags, each list with its place. Without any, the default branch is watched.
    ///
    /// # Errors
    /// Every pattern that no name can fit.
    pub(crate) fn new(
        (branches, branches_at): (&[String], &str),
        (tags, tags_at): (&[String], &str),
    ) -> Result<Self, Vec<ArgsError>> {
        let bad = |list: &[String], place: &str| -> Vec<ArgsError> {
            let faults = list.iter().enumerate().filter_map(|(index, pattern)| {
                let (fault, help) = bad_pattern(pattern)?;
                Some(ArgsError::new(format!("{place}/{index}"), fault).with_help(help))
            });
            faults.collect()
        };
        let faults = [bad(branches, branches_at), bad(tags, tags_at)].concat();
        if !faults.is_empty() {
            return Err(faults);
        }
        let below = |root: &'static str| move |pattern: &String| format!("{root}{pattern}");
        let patterns: Vec<String> =
            branches.iter().map(below(BRANCHES)).chain(tags.iter().map(below(TAGS))).collect();
        Ok(Self(if patterns.is_empty() { vec![HEAD.to_owned()] } else { patterns }))
    }

    /// Whether a ref is watched.
    pub(crate) fn fits(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| is_like(pattern.as_bytes(), name.as_bytes()))
    }

    /// What git is asked for before and after the URL.
    pub(crate) fn asked(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let has = |root: &str| self.0.iter().any(|pattern| pattern.starts_with(root));
        match (has(BRANCHES), has(TAGS)) {
            (false, false) => (vec![], vec![HEAD]),
            (true, false) => (vec!["--heads"], vec![]),
            (false, true) => (vec!["--tags"], vec![]),
            (true, true) => (vec!["--heads", "--tags"], vec![]),
        }
    }
}

fn bad_pattern(pattern: &str) -> Option<(String, &'static str)> {
    let shown = pattern.escape_debug();
    if pattern.starts_with("refs/") {
        return Some((
            format!("`{shown}` would be looked for below `refs/heads/` or `refs/tags/`"),
            "leave that out",
        ));
    }
    let is_odd = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '\\' | '[');
    let is_bad = pattern.is_empty()
        || pattern.starts_with('/')
        || pattern.ends_with('/')
        || pattern.contains("..")
        || pattern.contains(is_odd);
    is_bad.then(|| {
        (format!("`{shown}` fits no name"), "write a name such as `main`, or a pattern such as `v*`")
    })
}

/// Reads what `git ls-remote` prints.
#[derive(Debug)]
pub(crate) struct Reader {
    watched: Watched,
    refs: Refs,
    line: Vec<u8>,
    fault: Option<String>,
}

impl Reader {
    pub(crate) fn new(watched: Watched) -> Self {
        Self { watched, refs: Refs::new(), line: Vec::new(), fault: None }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.fault.is_some() {
                return;
            }
            if self.line.len() + part.len() > LONGEST_LINE {
                self.fault = Some("what git printed is no list of refs".to_owned());
                return;
            }
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take(&line[..line.len() - 1]);
            }
        }
    }

    /// Everything that was read.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn finish(&mut self) -> Result<Refs, String> {
        if self.fault.is_none() && !self.line.is_empty() {
            self.fault = Some("the list of refs is cut short".to_owned());
        }
        self.fault.take().map_or_else(|| Ok(std::mem::take(&mut self.refs)), Err)
    }

    fn take(&mut self, line: &[u8]) {
        let mut parts = line.splitn(2, |byte| *byte == b'\t');
        let (commit, name) = (parts.next().unwrap_or_default(), parts.next());
        let is_commit = matches!(commit.len(), 40 | 64) && commit.iter().all(u8::is_ascii_hexdigit);
        let Some(name) = name.filter(|_| is_commit) else {
            self.fault = Some("what git printed is no list of refs".to_owned());
            return;
        };
        // A pattern is text, so no other name can be meant.
        let Ok(name) = std::str::from_utf8(name) else { return };
        let name = name.strip_suffix(PEELED).unwrap_or(name);
        if !self.watched.fits(name) {
            return;
        }
        // The commit behind an annotated tag comes after the tag, and takes its place.
        self.refs.insert(name.to_owned(), String::from_utf8_lossy(commit).to_ascii_lowercase());
        if self.refs.len() > MOST_REFS {
            self.fault =
                Some(format!("more than {MOST_REFS} branches and tags are watched; narrow the patterns"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(branches: &[&str], tags: &[&str]) -> Result<Watched, Vec<ArgsError>> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Watched::new((&owned(branches), "/branches"), (&owned(tags), "/tags"))
    }

    fn read(reader: &mut Reader, text: &str, step: usize) -> Result<Refs, String> {
        text.as_bytes().chunks(step).for_each(|bytes| reader.push(bytes));
        reader.finish()
    }

    #[test]
    fn patterns_that_fit_no_name_are_faults_with_a_place() {
        for (branches, tags, place) in [
            (&["main", ""][..], &[][..], "/branches/1"),
            (&["refs/heads/main"], &[], "/branches/0"),
            (&[], &["v1", "v 2"], "/tags/1"),
            (&["a..b"], &[], "/branches/0"),
            (&["/a"], &[], "/branches/0"),
        ] {
            let faults = watched(branches, tags).unwrap_err();
            assert_eq!(faults.iter().map(|fault| &*fault.pointer).collect::<Vec<_>>(), [place]);
        }
    }

    #[test]
    fn a_list_is_read_however_it_is_cut_and_a_tag_means_its_commit() {
        let (a, b, c) = ("a".repeat(40), "B".repeat(40), "c".repeat(64));
        let text = format!(
            "{a}\trefs/heads/main\n{a}\trefs/heads/other\n{a}\trefs/tags/v1\n{b}\trefs/tags/v1^{{}}\n{c}\trefs/tags/v2\n"
        );
        for step in [1, 7, 1_000] {
            let mut reader = Reader::new(watched(&["main"], &["v*"]).unwrap());
            let refs = read(&mut reader, &text, step).unwrap();
            let expected = [("refs/heads/main", &a), ("refs/tags/v1", &"b".repeat(40)), ("refs/tags/v2", &c)];
            assert_eq!(refs, expected.map(|(name, commit)| (name.to_owned(), commit.clone())).into());
        }
    }

    #[test]
    fn what_is_no_list_is_told_and_kept_in_bounds() {
        let commit = "a".repeat(40);
        let endless = "x".repeat(10 * LONGEST_LINE);
        let many: String = (0..=MOST_REFS).map(|number| format!("{commit}\trefs/heads/{number}\n")).collect();
        let cases = [
            ("hello\n", "no list of refs"),
            ("abc\trefs/heads/main\n", "no list of refs"),
            (&endless, "no list of refs"),
            (&format!("{commit}\trefs/heads/ma"), "cut short"),
            (&many, "more than 2000"),
        ];
        for (text, part) in cases {
            let mut reader = Reader::new(watched(&["*"], &[]).unwrap());
            let fault = read(&mut reader, text, 4_096).unwrap_err();
            assert!(fault.contains(part), "{fault}");
            assert!(reader.line.capacity() <= 2 * LONGEST_LINE && reader.refs.len() <= MOST_REFS + 1);
        }
    }
}
