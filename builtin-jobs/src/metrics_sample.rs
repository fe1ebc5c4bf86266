//! A number with a name and labels, and what of them is kept: what a source sends is bounded, and what looks like
//! a secret becomes no label.

/// The longest name of a metric or label, in bytes.
const LONGEST_NAME: usize = 200;

/// The longest value of a label, in bytes; a longer one is cut.
const LONGEST_VALUE: usize = 128;

/// The most labels of a sample.
const MOST_LABELS: usize = 16;

/// What a value stands under that nobody should see.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "private_key",
];

/// What takes its place.
const HIDDEN: &str = "[hidden]";

/// How a number changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Up and down.
    Gauge,
    /// Up, until it begins anew.
    Counter,
}

/// A number with a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    /// By name.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) kind: Kind,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn gauge(name: &str, labels: &[(&str, &str)], value: f64) -> Self {
        Self::known(name, labels, Kind::Gauge, value)
    }

    pub(crate) fn counter(name: &str, labels: &[(&str, &str)], value: f64) -> Self {
        Self::known(name, labels, Kind::Counter, value)
    }

    /// One whose names are ours.
    fn known(name: &str, labels: &[(&str, &str)], kind: Kind, value: f64) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::bounded(name.to_owned(), labels, kind, value)
    }

    /// A sample whose labels are in order, bounded and without secrets.
    pub(crate) fn bounded(name: String, labels: Vec<(String, String)>, kind: Kind, value: f64) -> Self {
        let mut labels: Vec<(String, String)> = labels
            .into_iter()
            .map(|(label, value)| {
                let value = if is_secret(&label) { HIDDEN.to_owned() } else { shown(&value) };
                (label, value)
            })
            .collect();
        labels.sort_unstable();
        labels.dedup_by(|later, earlier| later.0 == earlier.0);
        labels.truncate(MOST_LABELS);
        Self { name, labels, kind, value }
    }

    /// The same sample of a source by this name. A label `source` of its own stays under another name.
    pub(crate) fn labelled(self, source: &str) -> Self {
        let mut labels = self.labels;
        for (label, _) in &mut labels {
            if label == "source" {
                "exported_source".clone_into(label);
            }
        }
        labels.push(("source".to_owned(), source.to_owned()));
        Self::bounded(self.name, labels, self.kind, self.value)
    }

    /// The labels as the text format writes them, `{}` around them; nothing for none.
    #[cfg(any(feature = "sqlite", test))]
    pub(crate) fn label_text(&self) -> String {
        let escaped = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
    }
}

/// Whether a metric can be called this.
pub(crate) fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_' || byte == b':')
}

/// Whether a label can be called this.
pub(crate) fn is_label_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_')
}

fn is_name(name: &str, is_mark: impl Fn(u8) -> bool) -> bool {
    name.len() <= LONGEST_NAME
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

fn is_secret(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| label.contains(word))
}

/// A label's value without the parts of a URL in which keys stand, and not too long.
fn shown(value: &str) -> String {
    let mut text = value.to_owned();
    if let Some(at) = text.find("://") {
        let path = text[at + 3..].find(['/', '?', '#']).map_or(text.len(), |end| at + 3 + end);
        if let Some(user) = text[at + 3..path].rfind('@') {
            text.replace_range(at + 3..=at + 3 + user, "");
        }
        if let Some(query) = text[at..].find(['?', '#']) {
            text.truncate(at + query);
        }
    }
    if text.len() > LONGEST_VALUE {
        let end = (0..=LONGEST_VALUE - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_or_a_query_becomes_no_label() {
        let long = "é".repeat(100);
        let cases = [
            ("path", "/a?b=c", "/a?b=c"),
            ("target", "https://user:canary@host:80/a/b?key=canary#canary", "https://host:80/a/b"),
            ("target", "http://host?key=canary", "http://host"),
            ("target", "redis://:canary@host", "redis://host"),
            ("target", "http://host/a@b", "http://host/a@b"),
            ("api_key", "canary", "[hidden]"),
            ("DB_Password", "canary", "[hidden]"),
            ("sessionToken", "canary", "[hidden]"),
            ("path", "a\"b", "a\"b"),
        ];
        for (name, value, expected) in cases {
            let sample = Sample::gauge("m", &[(name, value)], 1.0);
            assert_eq!(sample.labels, [(name.to_owned(), expected.to_owned())], "{value}");
        }
        let cut = &Sample::gauge("m", &[("path", &long)], 1.0).labels[0].1;
        assert!(cut.len() <= LONGEST_VALUE && cut.ends_with("é…"), "{cut}");
    }

    #[test]
    fn labels_are_written_in_order_and_as_the_text_format_does() {
        let sample = Sample::gauge("m", &[("b", "x\\y\"z\n"), ("a", "1"), ("source", "mine")], 1.0);
        assert_eq!(
            sample.labelled("node").label_text(),
            r#"{a="1",b="x\\y\"z\n",exported_source="mine",source="node"}"#
        );
        assert_eq!(Sample::gauge("m", &[], 1.0).label_text(), "");
    }

    #[test]
    fn names_are_those_of_the_text_format() {
        for (name, metric, label) in [
            ("a_b1", true, true),
            ("a:b", true, false),
            ("1a", false, false),
            ("", false, false),
            ("a-b", false, false),
        ] {
            assert_eq!((is_metric_name(name), is_label_name(name)), (metric, label), "{name}");
        }
        assert!(!is_metric_name(&"a".repeat(201)));
    }
}
