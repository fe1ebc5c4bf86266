//! Keeps secrets out of what a job says: a server may send them back in places that end in a message.

/// The shortest value of a query that is taken for a secret, in bytes.
const SHORTEST_VALUE: usize = 6;

/// Texts that must appear in no message.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a text, as it is sent.
    pub(crate) fn add(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.0.push(secret.to_owned());
            // The longest first: one that is part of another would leave its rest standing.
            self.0.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// Adds a query and its values; a short value is no secret and would tear up every message.
    pub(crate) fn add_query(&mut self, query: &str) {
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        for text in values.chain([query]).filter(|text| text.len() >= SHORTEST_VALUE) {
            self.add(text);
            self.add(&decoded(text));
        }
    }

    /// The text without them, as they are and as a URL writes them.
    pub(crate) fn hide(&self, text: &str) -> String {
        let without =
            |text: &str| self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"));
        let plain = without(text);
        let decoded = decoded(&plain);
        // Counted, as what stands for a secret may hold one: `e`.
        let holds_more = |secret: &String| decoded.matches(secret).count() > plain.matches(secret).count();
        if self.0.iter().any(holds_more) { without(&decoded) } else { plain }
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} secrets]", self.0.len())
    }
}

/// The text with `%2D` and the like written out; what would be no UTF-8 becomes U+FFFD.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(written) if byte == b'%' => {
                bytes.push(written);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_wherever_it_stands_and_is_not_printed() {
        let mut secrets = Secrets::default();
        ["", "key", "keyword"].iter().for_each(|secret| secrets.add(secret));

        assert_eq!(secrets.hide("a keyword, a key: keykey"), "a [secret], a [secret]: [secret][secret]");
        assert!(!format!("{secrets:?}").contains("key"));
    }

    #[test]
    fn a_secret_is_hidden_however_a_url_writes_it() {
        let mut secrets = Secrets::default();
        secrets.add("a key/é");
        secrets.add_query("a=short&b=long%20value");

        for text in ["/a key/é", "/a%20key/%C3%A9", "/%61%20%6bey%2F%c3%a9", "long value", "long%20value"] {
            assert!(secrets.hide(text).ends_with("[secret]"), "{text}: {}", secrets.hide(text));
        }
        secrets.add("e");
        assert_eq!(secrets.hide("%65"), "[secret]", "what stands for it holds it, too");
        let mut secrets = Secrets::default();
        secrets.add_query("a=short&b=long%20value");
        for text in ["short", "100%", "%", "%zz", "%2", "a%20b"] {
            assert_eq!(secrets.hide(text), text);
        }
    }
}
