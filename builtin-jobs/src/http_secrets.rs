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
        values.chain([query]).filter(|text| text.len() >= SHORTEST_VALUE).for_each(|text| self.add(text));
    }

    /// The text without them.
    pub(crate) fn hide(&self, text: impl Into<String>) -> String {
        self.0.iter().fold(text.into(), |text, secret| text.replace(secret, "[secret]"))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} secrets]", self.0.len())
    }
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
}
