//! One configuration file: its tree of values, and where each key and value stands in it.
//!
//! TOML, or YAML by file ending. Knows nothing of settings or layers: any tree is good as long as
//! its top is a table.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::origin::{FilePosition, Origin};
use crate::{redact, toml_file, yaml_file};

/// Larger files are refused.
const LARGEST: u64 = 4 * 1024 * 1024;
/// Deeper trees are refused.
pub(crate) const DEEPEST: usize = 64;
pub(crate) const BAD_NUMBER: &str = "the number is not finite or does not fit into 64 bits";
/// A parser stops after this many faults: more of one file say nothing new.
pub(crate) const MOST_FAULTS: usize = 20;

/// A parsed file.
pub struct Source {
    text: Text,
    parsed: Parsed,
}

/// The text of a file, from which positions are counted.
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) content: String,
    line_starts: Vec<usize>,
    /// The lines (from 0) that are shown starred out.
    hidden: HashSet<usize>,
}

/// What a parser makes of a text: the tree, and the place of each key and value by JSON pointer.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) tree: Map<String, Value>,
    pub(crate) spans: HashMap<String, Span>,
}

/// Byte ranges of a key and its value. A table stands where its key does, an element of a list, which
/// has no key, where its value does.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Shows no content: passwords may be among it.
impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("path", &self.text.path).finish_non_exhaustive()
    }
}

impl Source {
    /// Reads and parses a file; `asked_by` is what named it, such as an `include`.
    ///
    /// # Errors
    /// Every fault that the parser finds.
    pub fn read(path: &Path, asked_by: &Origin) -> Result<Self, Vec<Diagnostic>> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| vec![unreadable(path, &error, asked_by)])?;
        if bytes.len() as u64 > LARGEST {
            let message = format!("`{}` is larger than 4 MiB", path.display());
            let fault = Diagnostic::error("config/file_too_large", message, asked_by.clone());
            return Err(vec![fault.with_help("split it with `include`")]);
        }
        Self::parse(path, bytes)
    }

    /// Parses what a file of that name holds. Nothing at all is an empty table.
    ///
    /// # Errors
    /// Every fault that the parser finds.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Vec<Diagnostic>> {
        let text = Text::new(path, bytes).map_err(|fault| vec![fault])?;
        let is_yaml = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml"));
        let parsed = if is_yaml { yaml_file::parse(&text)? } else { toml_file::parse(&text)? };
        Ok(Self { text, parsed })
    }

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.text.path
    }

    /// The values of the file.
    pub fn tree(&self) -> &Map<String, Value> {
        &self.parsed.tree
    }

    /// Takes a top-level key out of the tree; its place stays known.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.parsed.tree.remove(key)
    }

    /// Where the value at this JSON pointer stands; for a table, where it is named.
    pub fn origin(&self, pointer: &str) -> Option<Origin> {
        self.parsed.spans.get(pointer).map(|span| self.text.locate(&span.value))
    }

    /// Where the key at this JSON pointer stands.
    pub fn key_origin(&self, pointer: &str) -> Option<Origin> {
        self.parsed.spans.get(pointer).map(|span| self.text.locate(&span.key))
    }
}

impl Text {
    pub(crate) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        let decoded = String::from_utf8(bytes);
        let invalid_at = decoded.as_ref().err().map(|error| error.utf8_error().valid_up_to());
        let mut content =
            decoded.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        if content.starts_with('\u{feff}') {
            content.drain(..'\u{feff}'.len_utf8());
        }
        let line_starts = std::iter::once(0)
            .chain(content.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1))
            .collect();
        let hidden = redact::continued(&content);
        let text = Self { path: path.to_owned(), content, line_starts, hidden };
        match invalid_at {
            None => Ok(text),
            Some(at) => Err(text
                .fault("config/not_utf8", "the file is not UTF-8", &(at..at))
                .with_help("save it as UTF-8")),
        }
    }

    /// The line that holds this byte, from 0.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        // The first line starts at 0, so at least one line starts at or before any byte.
        self.line_starts.partition_point(|line_start| *line_start <= at) - 1
    }

    /// The place of a byte range, cut at the end of its first line. Any range will do.
    pub(crate) fn locate(&self, range: &Range<usize>) -> Origin {
        let start = self.content.floor_char_boundary(range.start);
        let line = self.line_of(start);
        let line_start = self.line_starts[line];
        let line_text = self.content[line_start..].lines().next().unwrap_or("");
        let column = self.content[line_start..start].chars().count() + 1;
        let end = self.content.floor_char_boundary(range.end.min(line_start + line_text.len()));
        let length = self.content.get(start..end).map_or(1, |marked| marked.chars().count());
        let shown = match self.hidden.contains(&line) {
            true => redact::mask_whole_line(line_text).into(),
            false => Cow::Borrowed(line_text),
        };
        Origin::file(FilePosition::new(&self.path, line + 1, &shown, column, length))
    }

    /// Whether what stands there is shown starred out.
    pub(crate) fn is_masked(&self, range: &Range<usize>) -> bool {
        let line = self.line_of(range.start);
        let line_start = self.line_starts[line];
        let line_text = self.content[line_start..].lines().next().unwrap_or("");
        let masked = redact::mask_line(line_text);
        let at = self.content[line_start..range.start].chars().count();
        self.hidden.contains(&line) || masked.chars().nth(at) != line_text.chars().nth(at)
    }

    pub(crate) fn fault(
        &self,
        code: &'static str,
        message: impl Into<String>,
        at: &Range<usize>,
    ) -> Diagnostic {
        Diagnostic::error(code, message, self.locate(at))
    }

    pub(crate) fn too_deep(&self, at: &Range<usize>) -> Diagnostic {
        self.fault("config/too_deep", format!("values nest deeper than {DEEPEST} levels"), at)
    }
}

fn unreadable(path: &Path, error: &std::io::Error, asked_by: &Origin) -> Diagnostic {
    let path = path.display();
    if error.kind() != ErrorKind::NotFound {
        let message = format!("cannot read `{path}`: {error}");
        return Diagnostic::error("config/unreadable", message, asked_by.clone());
    }
    let help = match asked_by {
        Origin::None => {
            "name the configuration with `--config FILE`, or write a first one with `scheduler init`"
        }
        Origin::File(_) | Origin::Environment { .. } | Origin::Flag { .. } => {
            "correct the path; it counts from the including file"
        }
    };
    let message = format!("there is no file `{path}`");
    Diagnostic::error("config/file_not_found", message, asked_by.clone()).with_help(help)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codes(name: &str, bytes: &[u8]) -> Vec<(&'static str, usize, usize)> {
        let faults = Source::parse(Path::new(name), bytes.to_vec()).unwrap_err();
        faults.into_iter().map(|fault| (fault.code, line(&fault.origin), column(&fault.origin))).collect()
    }

    fn line(origin: &Origin) -> usize {
        if let Origin::File(position) = origin { position.line } else { 0 }
    }

    fn column(origin: &Origin) -> usize {
        if let Origin::File(position) = origin { position.column } else { 0 }
    }

    #[test]
    fn an_empty_file_is_an_empty_table() {
        for name in ["a.toml", "a.yaml", "a.yml"] {
            for bytes in ["", "\u{feff}", "\n\n", "# nothing\n"] {
                let source = Source::parse(Path::new(name), bytes.into()).unwrap();

                assert!(source.tree().is_empty(), "{name} {bytes:?}");
            }
        }
    }

    #[test]
    fn a_byte_order_mark_shifts_no_position() {
        assert_eq!(codes("a.toml", "\u{feff}a = \n".as_bytes())[0].1, 1);
        assert_eq!(codes("a.yaml", "\u{feff}1: x\n".as_bytes()), [("config/bad_key", 1, 1)]);
    }

    #[test]
    fn invalid_utf_8_is_refused_where_it_begins() {
        for name in ["a.toml", "a.yaml"] {
            assert_eq!(codes(name, b"a = 1\nb = \"\xff\""), [("config/not_utf8", 2, 6)]);
        }
    }

    #[test]
    fn a_file_larger_than_4_mib_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.toml");
        let largest = usize::try_from(LARGEST).unwrap();

        std::fs::write(&path, "#".repeat(largest)).unwrap();
        assert!(Source::read(&path, &Origin::None).is_ok());

        std::fs::write(&path, "#".repeat(largest + 1)).unwrap();
        assert_eq!(Source::read(&path, &Origin::None).unwrap_err()[0].code, "config/file_too_large");
    }

    #[test]
    fn a_directory_is_unreadable() {
        let directory = tempfile::tempdir().unwrap();

        let faults = Source::read(directory.path(), &Origin::None).unwrap_err();

        assert_eq!(faults[0].code, "config/unreadable");
    }

    #[test]
    fn a_position_counts_characters_and_stays_on_its_line() {
        let text = Text::new(Path::new("a"), "ä = 1\r\n\"日本\" = [\n]".into()).unwrap();
        let cases =
            [(5..6, 1, 5, 1), (9..15, 2, 2, 2), (8..9, 2, 1, 1), (18..23, 2, 7, 2), (99..120, 3, 2, 1)];

        for (range, line, column, length) in cases {
            let Origin::File(position) = text.locate(&range) else { panic!("no file") };
            assert_eq!(
                (position.line, position.column, position.length),
                (line, column, length),
                "{range:?}"
            );
        }
    }

    /// Text that looks like configuration more often than chance would have it.
    fn fragments() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("a"),
            Just("\"ä\""),
            Just(" = "),
            Just(": "),
            Just("\n"),
            Just("  "),
            Just("["),
            Just("]"),
            Just("{"),
            Just("}"),
            Just("- "),
            Just("? "),
            Just("&x "),
            Just("*x"),
            Just("!!str "),
            Just("'"),
            Just("\"\"\""),
            Just("|"),
            Just(">"),
            Just("#"),
            Just("---\n"),
            Just("..."),
            Just("%TAG ! x\n"),
            Just("1e9"),
            Just("a.a.a.a.a.a.a.a.a"),
            Just("{ a = "),
            Just("0x"),
            Just("."),
            Just(","),
            Just("\t"),
            Just("\r"),
            Just("\u{feff}"),
            Just("日"),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in prop_oneof![any::<String>(), fragments()]) {
            for name in ["a.toml", "a.yaml"] {
                for fault in Source::parse(Path::new(name), text.clone().into()).err().into_iter().flatten() {
                    let _ = fault.to_string();
                }
            }
            let _ = toml_file::parse_value(&text);
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes in any::<Vec<u8>>()) {
            for name in ["a.toml", "a.yaml"] {
                let _ = Source::parse(Path::new(name), bytes.clone());
            }
        }
    }
}
