//! Where a key or a value of the configuration comes from.
//!
//! Knows how to show a source line: control characters escaped, tabs as spaces, long lines cut
//! around the marked part, and the mark measured in terminal cells.

use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthChar;

use crate::redact;

/// What wrote a key or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A place in a file.
    File(Box<FilePosition>),
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
        /// What it sets, as a file has it: the value, else the table around it.
        over: Option<Box<FilePosition>>,
    },
    /// A flag of the command line.
    Flag {
        /// The key path it sets, such as `scheduler.timezone`.
        key: String,
    },
    /// Nothing in particular: a default, or something that is missing altogether.
    None,
}

/// A part of one line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The number of characters, at least 1.
    pub length: usize,
    /// The line, ready to print.
    pub excerpt: Excerpt,
}

/// A source line that is safe to print, and the part of it to mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, or the part of it around the mark.
    pub text: String,
    /// Terminal cells before the mark.
    pub indent: usize,
    /// Terminal cells under the mark, at least 1.
    pub width: usize,
}

/// The longest excerpt in characters, and how many of them come before the mark.
const EXCERPT: usize = 120;
const CONTEXT: usize = 40;
/// Longer lines are not looked through for secrets.
const LONGEST_MASKED: usize = 16 * 1024;

impl Origin {
    /// The origin of something in a file.
    pub fn file(position: FilePosition) -> Self {
        Self::File(Box::new(position))
    }

    /// The place as one word, such as `jobs.toml:3:1`.
    pub fn place(&self) -> String {
        match self {
            Self::File(at) => at.place(),
            Self::Environment { variable, over: None } => format!("environment variable {variable}"),
            Self::Environment { variable, over: Some(at) } => {
                format!("environment variable {variable}, for {}", at.place())
            }
            Self::Flag { key } => format!("flag for {key}"),
            Self::None => "the defaults".to_owned(),
        }
    }
}

impl FilePosition {
    /// The place as one word, such as `jobs.toml:3:1`.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.path.display(), self.line, self.column)
    }

    /// Marks `length` characters of the line `text` from the character `column` (from 1).
    pub fn new(path: &Path, line: usize, text: &str, column: usize, length: usize) -> Self {
        let column = column.max(1);
        let length = length.max(1);
        let excerpt = Excerpt::new(text, column - 1, length);
        Self { path: path.to_owned(), line, column, length, excerpt }
    }
}

impl Excerpt {
    fn new(line: &str, start: usize, length: usize) -> Self {
        // Most lines are short; only a long one pays for being cut.
        let is_long = line.chars().nth(EXCERPT).is_some();
        // Of a very long one nobody looks for secrets, and only the mark is shown.
        let is_masked = line.len() <= LONGEST_MASKED;
        let line = if is_masked { redact::mask_line(line) } else { line.into() };
        let context = if is_masked { CONTEXT } else { 0 };
        let shown = if is_masked { EXCERPT } else { length.min(EXCERPT) };
        let from = if is_long { start.saturating_sub(context) } else { 0 };
        let mut excerpt = Self { text: String::new(), indent: 0, width: 0 };
        if from > 0 {
            excerpt.text.push('…');
            excerpt.indent = 1;
        }
        let mut characters = line.chars().enumerate().skip(from);
        for (index, character) in characters.by_ref().take(shown) {
            let cells = push_printable(&mut excerpt.text, character);
            if index < start {
                excerpt.indent += cells;
            } else if index < start.saturating_add(length) {
                excerpt.width += cells;
            }
        }
        if characters.next().is_some() {
            excerpt.text.push('…');
        }
        excerpt.width = excerpt.width.max(1);
        excerpt
    }
}

/// The text with everything escaped that a terminal would obey instead of show.
pub(crate) fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for character in text.chars() {
        push_printable(&mut printed, character);
    }
    printed
}

fn push_printable(text: &mut String, character: char) -> usize {
    // Marks that change the reading direction or show nothing could hide what a line says.
    let is_hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if character == '\t' {
        text.push_str("    ");
        4
    } else if character.is_control() || is_hidden {
        let before = text.len();
        text.extend(character.escape_default());
        text.len() - before
    } else {
        text.push(character);
        character.width().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(line: &str, column: usize, length: usize) -> Excerpt {
        FilePosition::new(Path::new("a.toml"), 1, line, column, length).excerpt
    }

    #[test]
    fn the_mark_stays_under_its_text_whatever_comes_before() {
        let cases = [
            ("a = 1", 5, 1, "a = 1", 4, 1),
            ("\ta = 1", 2, 1, "    a = 1", 4, 1),
            ("\"日本\" = 1", 8, 1, "\"日本\" = 1", 9, 1),
            ("\"日本\" = 1", 2, 2, "\"日本\" = 1", 1, 4),
            ("\"e\u{301}\" = 1", 8, 1, "\"e\u{301}\" = 1", 6, 1),
            ("\"\x1b\" = 1", 7, 1, "\"\\u{1b}\" = 1", 11, 1),
            ("a = 1", 40, 1, "a = 1", 5, 1),
        ];

        for (line, column, length, text, indent, width) in cases {
            let expected = Excerpt { text: text.to_owned(), indent, width };
            assert_eq!(excerpt(line, column, length), expected, "{line:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let line = format!("{}key{}", "x".repeat(5_000), "y".repeat(5_000));

        let excerpt = excerpt(&line, 5_001, 3);

        assert!(excerpt.text.starts_with("…x") && excerpt.text.ends_with("y…"));
        assert_eq!(excerpt.text.chars().nth(excerpt.indent), Some('k'));
        assert_eq!(excerpt.text.chars().count(), EXCERPT + 2);
        assert_eq!(excerpt.width, 3);
    }
}
