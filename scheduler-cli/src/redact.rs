//! Keeps secrets out of what is printed: which texts of a configuration are secrets, and the mask over them.
//!
//! A secret belongs into a place of its own, `{ env = "NAME" }` or `{ file = "/path" }`. What stands in the
//! file all the same is known by its key (`password`, `API_TOKEN`), by the flag before it, or by its place in
//! a URL (`redis://:password@host`). It is masked wherever it would be shown.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use crate::pointer;

/// What stands in the place of a secret value.
pub(crate) const MASKED: &str = "[secret]";

const ENDINGS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "credentials",
    "authorization",
    "cookie",
];
const WORDS: [&str; 2] = ["pass", "pwd"];
const PAIRS: [[&str; 2]; 6] = [
    ["api", "key"],
    ["access", "key"],
    ["private", "key"],
    ["secret", "key"],
    ["signing", "key"],
    ["encryption", "key"],
];

/// Whether a text under this key is a secret, judged by how the key ends: `DB_PASSWORD` names one, and
/// `password_file` names a file.
pub(crate) fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let mut words = key.rsplit(|character: char| !character.is_alphanumeric());
    let last = words.next().unwrap_or_default();
    let before = words.next().unwrap_or_default();
    ENDINGS.iter().any(|ending| last.ends_with(ending))
        || WORDS.contains(&last)
        || PAIRS.contains(&[before, last])
}

/// The flag of a command line that is followed by a secret, such as `--password`.
fn is_secret_flag(word: &str) -> bool {
    word.starts_with('-') && is_secret_key(word)
}

/// The tree with a mask over its secrets.
pub(crate) fn redacted(tree: &Value) -> Value {
    let mut tree = tree.clone();
    for secret in secrets(&tree) {
        if let Some(Value::String(text)) = tree.pointer_mut(&secret) {
            *text = match mask_urls(text) {
                Cow::Owned(masked) => masked,
                Cow::Borrowed(_) => match text.split_once('=').filter(|(flag, _)| is_secret_flag(flag)) {
                    Some((flag, _)) => format!("{flag}={MASKED}"),
                    None => MASKED.to_owned(),
                },
            };
        }
    }
    tree
}

/// Where the secrets of a tree stand, as JSON pointers.
pub(crate) fn secrets(tree: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(tree, String::new(), false, &mut found);
    found
}

fn walk(value: &Value, place: String, is_secret: bool, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            if !text.is_empty() && (is_secret || matches!(mask_urls(text), Cow::Owned(_))) {
                found.push(place);
            }
        }
        Value::Object(table) => {
            for (key, inner) in table {
                walk(inner, pointer::child(&place, key), is_secret_key(key), found);
            }
        }
        Value::Array(list) => {
            let mut after_flag = false;
            for (index, inner) in list.iter().enumerate() {
                let word = inner.as_str().unwrap_or_default();
                let is_flag = word.starts_with('-');
                let holds_one =
                    word.split_once('=').is_some_and(|(flag, text)| is_secret_flag(flag) && !text.is_empty());
                let is_secret = is_secret || holds_one || after_flag && !is_flag;
                after_flag = is_secret_flag(word);
                walk(inner, pointer::child(&place, &index.to_string()), is_secret, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with the passwords of its URLs starred out, character by character.
pub(crate) fn mask_urls(text: &str) -> Cow<'_, str> {
    starred(text, &url_passwords(text))
}

/// A line of a configuration with its secrets starred out, character by character, so that places stay.
///
/// It knows the line alone, whatever its language, and takes what follows a secret key for its value.
pub(crate) fn mask_line(line: &str) -> Cow<'_, str> {
    let mut ranges = url_passwords(line);
    let mut rest = 0;
    while let Some(word) = next_word(line, rest) {
        rest = word.end;
        if !is_secret_key(&line[word.clone()]) {
            continue;
        }
        // Behind the quotes of the key and the sign between it and the value.
        let Some(sign) = line[word.end..].find(|c: char| !c.is_whitespace() && !"\"'".contains(c)) else {
            break;
        };
        let sign = word.end + sign;
        let is_flag = word.start > 0 && line[..word.start].ends_with('-');
        let is_assigned = line[sign..].starts_with(['=', ':']) || is_flag && line[sign..].starts_with(',');
        if is_assigned && let Some(value) = value_at(line, sign + 1) {
            rest = value.end;
            ranges.push(value);
        }
    }
    starred(line, &ranges)
}

/// The next run of characters that a key may have.
fn next_word(line: &str, from: usize) -> Option<Range<usize>> {
    let belongs = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let start = from + line[from..].find(|c: char| belongs(c) && c != '-')?;
    let length = line[start..].find(|c: char| !belongs(c)).unwrap_or(line.len() - start);
    Some(start..start + length)
}

/// The text that begins at or after `from`, without its quotes; none where a table or a list begins.
fn value_at(line: &str, from: usize) -> Option<Range<usize>> {
    let start = from + line[from..].find(|c: char| !c.is_whitespace())?;
    let first = line[start..].chars().next()?;
    if "{[".contains(first) {
        return None;
    }
    if !"\"'".contains(first) {
        let length = line[start..].find(|c: char| ",}]#\"'".contains(c)).unwrap_or(line.len() - start);
        return Some(start..start + line[start..start + length].trim_end().len());
    }
    let inner = start + first.len_utf8();
    // Three quotes begin a text of several lines.
    if line[inner..].starts_with([first; 2].iter().collect::<String>().as_str()) {
        return Some(inner + 2..line.len());
    }
    let mut is_escaped = false;
    let end = line[inner..].char_indices().find_map(|(at, character)| {
        let is_end = character == first && !is_escaped;
        is_escaped = first == '"' && character == '\\' && !is_escaped;
        is_end.then_some(at)
    });
    Some(inner..end.map_or(line.len(), |end| inner + end))
}

fn url_passwords(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (scheme, separator) in text.match_indices("://") {
        let start = scheme + separator.len();
        let authority = &text[start..];
        let is_end = |c: char| c.is_whitespace() || "/?#\"'`".contains(c);
        let authority = &authority[..authority.find(is_end).unwrap_or(authority.len())];
        let userinfo = authority.rfind('@').map(|at| &authority[..at]);
        if let Some((user, password)) = userinfo.and_then(|userinfo| userinfo.split_once(':')) {
            let from = start + user.len() + 1;
            found.extend((!password.is_empty()).then_some(from..from + password.len()));
        }
    }
    found
}

fn starred<'a>(text: &'a str, secrets: &[Range<usize>]) -> Cow<'a, str> {
    if secrets.iter().all(Range::is_empty) {
        return Cow::Borrowed(text);
    }
    let is_secret = |at: usize| secrets.iter().any(|secret| secret.contains(&at));
    text.char_indices().map(|(at, character)| if is_secret(at) { '*' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_how_its_key_ends() {
        for key in [
            "password",
            "DB_PASSWORD",
            "PGPASSWORD",
            "api-key",
            "AWS_SECRET_ACCESS_KEY",
            "authToken",
            "Authorization",
            "client.secret",
            "DB_PASS",
            "Set-Cookie",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["password_file", "token_url", "tokens", "key", "compass", "secret_name", "pass_env", ""] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn every_secret_of_a_tree_is_masked_and_nothing_else() {
        let tree = serde_json::json!({
            "backends": { "queue": { "url": "redis://me:hunter2@db:6379/0" } },
            "tasks": { "a": { "args": {
                "args": ["--token", "hunter2", "--verbose", "x", "--api-key=hunter2", "--token", "--x"],
                "env": { "DB_PASSWORD": "hunter2", "KEY_FILE": "/k", "TOKEN": { "env": "TOKEN" }, "PASS": "" },
                "headers": { "Authorization": ["hunter2"] },
            } } },
        });

        let text = redacted(&tree).to_string();

        assert_eq!(secrets(&tree).len(), 5, "{:?}", secrets(&tree));
        assert!(!text.contains("hunter2"), "{text}");
        for kept in
            ["redis://me:*******@db:6379/0", "/k", "--api-key=[secret]", "{\"env\":\"TOKEN\"}", "\"x\""]
        {
            assert!(text.contains(kept), "{kept} in {text}");
        }
    }

    #[test]
    fn a_shown_line_keeps_its_length_and_loses_its_secrets() {
        let cases = [
            ("url = \"redis://:hunter2@h/0\"", "url = \"redis://:*******@h/0\""),
            ("password = 'hunter2' # x", "password = '*******' # x"),
            ("  API_TOKEN: hunter2", "  API_TOKEN: *******"),
            (
                "env = { \"DB_PASS\" = \"hun\\\"2\", A = \"x\" }",
                "env = { \"DB_PASS\" = \"******\", A = \"x\" }",
            ),
            (
                "args = [\"--password\", \"hunter2\", \"--token=hunter2\"]",
                "args = [\"--password\", \"*******\", \"--token=*******\"]",
            ),
            ("secret = { env = \"X\" }", "secret = { env = \"X\" }"),
            ("token = \"\"\"hunter2", "token = \"\"\"*******"),
            ("password = \"\"", "password = \"\""),
            ("é = \"x\" ; passwd=é€", "é = \"x\" ; passwd=**"),
        ];

        for (line, masked) in cases {
            assert_eq!(mask_line(line), masked);
            assert_eq!(mask_line(line).chars().count(), line.chars().count());
        }
    }
}
