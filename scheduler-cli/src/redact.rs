//! Keeps secrets out of what is printed: which texts of a configuration are secrets, and the mask over them.
//!
//! A secret belongs into a place of its own, `{ env = "NAME" }` or `{ file = "/path" }`. What stands in the
//! file all the same is known by its key (`password`, `API_TOKEN`), by the flag before it, by what it says
//! itself (`Authorization: …`), or by its place in a URL (`redis://:password@host`, `?token=…`). It is masked
//! wherever it would be shown.

use std::borrow::Cow;
use std::collections::HashSet;
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
        if let Some(value) = tree.pointer_mut(&secret) {
            *value = Value::String(value.as_str().map_or_else(|| MASKED.to_owned(), masked));
        }
    }
    tree
}

/// A text that is a secret or holds one, without it.
fn masked(text: &str) -> String {
    match (assigned(text), mask_urls(text)) {
        (Some(value), _) => format!("{}{MASKED}", &text[..value.start]),
        (None, Cow::Owned(masked)) => masked,
        (None, Cow::Borrowed(_)) => MASKED.to_owned(),
    }
}

/// The message without the secrets that stand at this place of the tree or below it.
pub(crate) fn mask_message(message: &str, tree: &Value, place: &str) -> String {
    let below = format!("{place}/");
    let mut message = message.to_owned();
    for secret in secrets(tree).iter().filter(|secret| *secret == place || secret.starts_with(&below)) {
        let Some(value) = tree.pointer(secret) else { continue };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for written in [format!("{text:?}"), text] {
            message = message.replace(&written, MASKED);
        }
    }
    message
}

/// The value in a text such as `--password=value`, `PGPASSWORD=value` or `Authorization: value`; what a shell
/// fills in is none.
fn assigned(text: &str) -> Option<Range<usize>> {
    let sign = text.find(['=', ':'])?;
    let name = &text[..sign];
    let is_name = !name.contains(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
    let start = sign + 1 + text[sign + 1..].find(|c: char| !c.is_whitespace())?;
    (is_name && is_secret_key(name) && !text[start..].starts_with('$')).then_some(start..text.len())
}

/// Whether a table holds the place of a secret instead of one.
fn is_place(table: &serde_json::Map<String, Value>) -> bool {
    table.keys().all(|key| key == "env" || key == "file")
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
            // What was meant as a table or a list and is none, as in a variable whose braces do not close.
            let is_broken = || text.starts_with(['{', '[']) && matches!(mask_line(text), Cow::Owned(_));
            let holds_one =
                || assigned(text).is_some() || matches!(mask_urls(text), Cow::Owned(_)) || is_broken();
            if !text.is_empty() && (is_secret || holds_one()) {
                found.push(place);
            }
        }
        Value::Number(_) if is_secret => found.push(place),
        Value::Object(table) => {
            // A task or a backend may have any name; further down a secret key makes all below it secret.
            let is_secret = is_secret && pointer::keys(&place).len() > 2 && !is_place(table);
            for (key, inner) in table {
                walk(inner, pointer::child(&place, key), is_secret || is_secret_key(key), found);
            }
        }
        Value::Array(list) => {
            let mut after_flag = false;
            for (index, inner) in list.iter().enumerate() {
                let word = inner.as_str().unwrap_or_default();
                let is_flag = word.starts_with('-');
                let is_secret = is_secret || after_flag && !is_flag;
                after_flag = is_secret_flag(word);
                walk(inner, pointer::child(&place, &index.to_string()), is_secret, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with the passwords and secret queries of its URLs starred out, character by character.
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
        let (key, sign) = rest_of_key(line, word.clone());
        let is_named = ["tasks.", "backends."].iter().any(|section| line[..word.start].ends_with(section));
        if key.end > word.end && (is_named || ["env", "file"].contains(&&line[key])) {
            continue;
        }
        let is_flag = word.start > 0 && line[..word.start].ends_with('-');
        let is_assigned = line[sign..].starts_with(['=', ':']) || is_flag && line[sign..].starts_with(',');
        if is_assigned && let Some(value) = value_at(line, sign + 1) {
            rest = value.end;
            ranges.push(value);
        }
    }
    starred(line, &ranges)
}

/// The last key of a dotted one that begins with `word`, and where the sign behind it and its quotes stands.
fn rest_of_key(line: &str, word: Range<usize>) -> (Range<usize>, usize) {
    let mut key = word;
    loop {
        let behind = line[key.end..].find(|c: char| !c.is_whitespace() && !"\"'".contains(c));
        let sign = behind.map_or(line.len(), |behind| key.end + behind);
        match next_word(line, sign).filter(|_| line[sign..].starts_with('.')) {
            Some(next) => key = next,
            None => return (key, sign),
        }
    }
}

/// The line with everything starred out.
pub(crate) fn mask_whole_line(line: &str) -> String {
    line.chars().map(|character| if character.is_whitespace() { character } else { '*' }).collect()
}

/// The lines (from 0) that belong to a secret which began in a line before.
pub(crate) fn continued(content: &str) -> HashSet<usize> {
    let mut hidden = HashSet::new();
    let mut open: Option<Open<'_>> = None;
    for (number, line) in content.lines().enumerate() {
        let goes_on = match &open {
            Some(Open::Until(end, is_secret)) => {
                hidden.extend(is_secret.then_some(number));
                if line.contains(end) {
                    open = None;
                }
                true
            }
            Some(Open::Indented(indent)) if line.trim().is_empty() || indent_of(line) > *indent => {
                hidden.extend([number]);
                true
            }
            Some(Open::Items(indent)) if line.trim_start().starts_with('-') && indent_of(line) >= *indent => {
                hidden.extend([number]);
                true
            }
            Some(Open::Indented(_) | Open::Items(_)) | None => false,
        };
        if !goes_on {
            open = opened(line);
        }
    }
    hidden
}

/// A value that goes on in the lines below.
enum Open<'a> {
    /// Until this ends it; whether it is a secret.
    Until(&'a str, bool),
    /// A block of YAML, indented deeper than this.
    Indented(usize),
    /// A list of YAML.
    Items(usize),
}

fn opened(line: &str) -> Option<Open<'static>> {
    // The key is the last word before the sign; `- password: |` has it as well.
    let sign = line.find(['=', ':'])?;
    let value = line[sign + 1..].trim();
    let key = line[..sign].trim_matches(|c: char| c.is_whitespace() || "\"'-".contains(c));
    let is_secret = key.split('.').any(|key| is_secret_key(key.trim_matches(['"', '\'', ' '])));
    for quotes in ["\"\"\"", "'''"] {
        if value.matches(quotes).count() % 2 == 1 {
            // What would stand behind the quotes shows whether it is masked.
            return Some(Open::Until(quotes, mask_line(&format!("{line}x")).ends_with('*')));
        }
    }
    let is_list = value.starts_with('[') && !value.contains(']');
    match value.chars().next() {
        _ if !is_secret => None,
        Some('|' | '>') => Some(Open::Indented(indent_of(line))),
        Some('[') if is_list => Some(Open::Until("]", true)),
        None => Some(Open::Items(indent_of(line))),
        Some(_) => None,
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The next run of characters that a key may have.
fn next_word(line: &str, from: usize) -> Option<Range<usize>> {
    let belongs = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let start = from + line[from..].find(|c: char| belongs(c) && c != '-')?;
    let length = line[start..].find(|c: char| !belongs(c)).unwrap_or(line.len() - start);
    Some(start..start + length)
}

/// The text that begins at or after `from`, without its quotes, or what a list or a table holds; none where
/// the place of a secret begins.
fn value_at(line: &str, from: usize) -> Option<Range<usize>> {
    let start = from + line[from..].find(|c: char| !c.is_whitespace())?;
    let first = line[start..].chars().next()?;
    if "{[".contains(first) {
        let inner = line[start + 1..].trim_start();
        let is_place = ["env", "file"].iter().any(|key| {
            let rest = inner.strip_prefix(key).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with(['=', ':']))
        });
        let is_key = |c: char| c.is_alphanumeric() || "_-".contains(c);
        let is_header = first == '[' && line[..start].trim().is_empty() && inner.starts_with(is_key);
        let end = line[start..].rfind(if first == '{' { '}' } else { ']' }).unwrap_or(line.len() - start);
        return (!is_place && !is_header).then_some(start + 1..start + end);
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
    let end = end.map_or(line.len(), |end| inner + end);
    // A quote that nothing valid follows did not end the text.
    let behind = line.get(end + 1..).unwrap_or_default().trim_start();
    let has_ended = behind.is_empty() || behind.starts_with([',', '}', ']', '#', ';']);
    Some(inner..if has_ended { end } else { line.len() })
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
        found.extend(query_secrets(text, start));
    }
    found
}

/// The values under secret keys in the query of the URL whose authority begins at `from`.
fn query_secrets(text: &str, from: usize) -> Vec<Range<usize>> {
    let is_end = |c: char| c.is_whitespace() || "#\"'`".contains(c);
    let url = &text[from..from + text[from..].find(is_end).unwrap_or(text.len() - from)];
    let Some(query) = url.find('?') else { return Vec::new() };
    let mut found = Vec::new();
    let mut at = from + query + 1;
    for pair in url[query + 1..].split('&') {
        if let Some((key, value)) = pair.split_once('=')
            && is_secret_key(key)
        {
            found.push(at + pair.len() - value.len()..at + pair.len());
        }
        at += pair.len() + 1;
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
    fn a_secret_is_known_in_whatever_shape_its_key_has_it() {
        let tree = serde_json::json!({ "tasks": { "password": { "job": "exec", "args": {
            "url": "https://h/?a=b&access_token=hunter2&c=d",
            "args": ["-H", "Authorization: Bearer hunter2", "PGPASSWORD=hunter2", "TOKEN=$TOKEN", "a: b"],
            "body": "token=hunter2",
            "env": { "PASSWORD": { "value": "hunter2" }, "PIN_SECRET": 12345678, "TOKEN": { "file": "/run/t" } },
        } } } });

        let text = redacted(&tree).to_string();

        assert_eq!(secrets(&tree).len(), 6, "{:?}", secrets(&tree));
        assert!(!text.contains("hunter2") && !text.contains("1234"), "{text}");
        for kept in
            ["?a=b&access_token=*******&c=d", "Authorization: [secret]", "TOKEN=$TOKEN", "/run/t", "\"exec\""]
        {
            assert!(text.contains(kept), "{kept} in {text}");
        }
    }

    #[test]
    fn a_message_about_a_secret_does_not_repeat_it() {
        let tree =
            serde_json::json!({ "a": { "password": 12345678, "x": "12345678", "token": "hun\"ter2" } });

        assert_eq!(mask_message("integer `12345678`", &tree, "/a/password"), "integer `[secret]`");
        assert_eq!(mask_message("no \"hun\\\"ter2\", hun\"ter2", &tree, "/a"), "no [secret], [secret]");
        assert_eq!(mask_message("no 12345678", &tree, "/a/x"), "no 12345678");
    }

    #[test]
    fn lines_that_go_on_with_a_secret_are_known() {
        let cases = [
            ("password = \"\"\"\nhunter2\nhunter2\"\"\" x\nb = 1", vec![1, 2]),
            ("env = { TOKEN = '''\nhunter2''' }\nb = 1", vec![1]),
            ("script = \"\"\"\necho\n\"\"\"\nb = 1", vec![]),
            ("a.password = [\n'hunter2',\n]\nb = 1", vec![1, 2]),
            ("a:\n  - password: |-\n      hunter2\n\n      more\n  b: 1", vec![2, 3, 4]),
            ("password:\n- hunter2\nb: 1", vec![1]),
            ("tasks:\n  token:\n    job: exec", vec![]),
        ];

        for (content, lines) in cases {
            let mut found: Vec<usize> = continued(content).into_iter().collect();
            found.sort_unstable();
            assert_eq!(found, lines, "{content}");
        }
        assert_eq!(mask_whole_line("  é x"), "  * *");
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
            ("password = 'hun'ter2'", "password = '*********"),
            ("password = 'hunter2' hunter2", "password = '****************"),
            ("p = { password = [\"hunter2\", 'x'] }", "p = { password = [**************] }"),
            ("token = { value = \"hunter2\" }", "token = {*******************}"),
            ("token.value = \"hunter2\"", "token.value = \"*******\""),
            ("a.token.env = \"NAME\"", "a.token.env = \"NAME\""),
            ("tasks.token.job = \"exec\"", "tasks.token.job = \"exec\""),
            ("[tasks.token]", "[tasks.token]"),
            ("url = \"https://h/?a=b&api_key=hunter2\"", "url = \"https://h/?a=b&api_key=*******\""),
            ("é = \"x\" ; passwd=é€", "é = \"x\" ; passwd=**"),
        ];

        for (line, masked) in cases {
            assert_eq!(mask_line(line), masked);
            assert_eq!(mask_line(line).chars().count(), line.chars().count());
        }
    }
}
