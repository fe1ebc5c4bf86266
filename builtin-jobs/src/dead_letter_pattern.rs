//! Texts that are looked for in an error.

/// A text that stands in another, in any case of its letters and as whole words; `*` stands for anything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    /// What stands between the stars, in lower case, in this order.
    pieces: Vec<String>,
    /// Whether a word may go on before the first piece.
    is_open_before: bool,
    /// Whether a word may go on behind the last.
    is_open_behind: bool,
}

impl Pattern {
    /// Reads a pattern; `None` for one that fits everything.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let pieces: Vec<String> =
            text.split('*').filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
        let (is_open_before, is_open_behind) = (text.starts_with('*'), text.ends_with('*'));
        (!pieces.is_empty()).then_some(Self { pieces, is_open_before, is_open_behind })
    }

    /// Whether it stands in `text`, which is in lower case.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let mut from = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let (is_first, is_last) = (index == 0, index + 1 == self.pieces.len());
            let mut places = text[from..].match_indices(piece.as_str()).map(|(at, _)| from + at);
            let fitting = places.find(|at| {
                let begins = !is_first || self.is_open_before || is_border(text, *at);
                let ends = !is_last || self.is_open_behind || is_border(text, at + piece.len());
                begins && ends
            });
            // The earliest place leaves the most for the pieces behind it.
            match fitting {
                Some(at) => from = at + piece.len(),
                None => return false,
            }
        }
        true
    }
}

/// Whether no word goes on across this place.
fn is_border(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let behind = text[at..].chars().next();
    !before.zip(behind).is_some_and(|(before, behind)| before.is_alphanumeric() && behind.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_words_in_their_order() {
        let cases = [
            ("auth", "the author is unknown", false),
            ("auth", "AUTH failed", true),
            ("auth*", "the author is unknown", true),
            ("*space", "in a namespace", true),
            ("space", "in a namespace, no space", true),
            ("http 5*", "order 1: http 503", true),
            ("http 5*", "order 5: http 403", false),
            ("connect*refused", "connect to 10.0.0.1: connection refused", true),
            ("refused*connect", "connection refused", false),
            ("a*a", "a", false),
            ("503", "http 1503", false),
            ("é*ü", "xé… ü", false),
            ("*é*ü", "xé… ü", true),
        ];
        for (pattern, text, fits) in cases {
            assert_eq!(
                Pattern::parse(pattern).unwrap().fits(&text.to_lowercase()),
                fits,
                "{pattern} in {text}"
            );
        }
        for text in ["", " ", "*", "**"] {
            assert_eq!(Pattern::parse(text), None);
        }
    }
}
