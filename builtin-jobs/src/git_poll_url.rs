//! The URL of a repository: what it may be, how it is called, and how messages stay free of what it hides.
//!
//! Credentials stand in a URL that is a secret, or where git keeps them; never in the args as they are written.

use scheduler_core::ArgsError;

use crate::http_secrets::Secrets;
use crate::text_or_secret::TextOrSecret;

/// The shortest user or path that is taken for a secret, in bytes; `git` is none.
const SHORTEST: usize = 6;

/// What stands for credentials.
const HIDDEN: &str = "[secret]";

/// What is wrong with a URL, at an empty place; of a secret nothing is known yet.
pub(crate) fn fault(url: &TextOrSecret) -> Option<ArgsError> {
    let TextOrSecret::Text(text) = url else { return None };
    if let Some(fault) = bad(text) {
        return Some(ArgsError::new("", fault).with_help("write what `git clone` takes"));
    }
    let fault = || ArgsError::new("", "the URL holds a user or a password");
    let help = "leave them to git's credential helper, or make the URL a secret";
    holds_credentials(text).then(|| fault().with_help(help))
}

/// What is wrong with any URL, a secret or not. It shows nothing of the text.
pub(crate) fn bad(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Some("it is no URL and no path");
    }
    if text.starts_with('-') {
        return Some("it would be an option of git");
    }
    let runs_a_program = text.starts_with("ext::") || text.starts_with("fd::");
    runs_a_program.then_some("it would run a program in place of asking a server")
}

fn holds_credentials(text: &str) -> bool {
    userinfo(text).is_some_and(|(scheme, userinfo)| is_web(scheme) || userinfo.contains(':'))
}

/// How a URL is called; `None` for a secret.
pub(crate) fn shown(url: &TextOrSecret) -> Option<String> {
    match url {
        TextOrSecret::Text(text) => Some(text.split(['?', '#']).next().unwrap_or_default().to_owned()),
        TextOrSecret::Secret(_) => None,
    }
}

/// What of a URL must appear in no message.
pub(crate) fn secrets(url: &TextOrSecret, text: &str) -> Secrets {
    let mut secrets = Secrets::default();
    if url.is_secret() {
        secrets.add(text);
        // Git shows a URL in parts; the place on the server is as secret as the rest.
        let path = text.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        let path = path.map(|(_, path)| path.split(['?', '#']).next().unwrap_or_default().trim_matches('/'));
        if let Some(path) = path.filter(|path| path.len() >= SHORTEST) {
            secrets.add(path);
        }
    }
    if let Some((scheme, userinfo)) = userinfo(text) {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        if !password.is_empty() {
            secrets.add(userinfo);
            secrets.add_query(password);
            secrets.add(password);
        }
        if is_web(scheme) && user.len() >= SHORTEST {
            secrets.add_query(user);
        }
    }
    if let Some((_, query)) = text.split_once('?') {
        secrets.add_query(query);
    }
    secrets
}

/// What git said, without the credentials of any URL in it: git may have rewritten one by its own configuration.
pub(crate) fn hide(secrets: &Secrets, text: &str) -> String {
    let (mut told, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        told.push_str(before);
        let scheme = before[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let authority = after.split(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"')).next();
        rest = match authority.unwrap_or_default().rfind('@') {
            Some(end) if is_web(scheme) || after[..end].contains(':') => {
                told.push_str(HIDDEN);
                &after[end..]
            }
            Some(_) | None => after,
        };
    }
    told.push_str(rest);
    secrets.hide(&told)
}

fn userinfo(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rfind('@').map(|end| (scheme, &authority[..end]))
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_credentials_is_a_fault_unless_it_is_a_secret() {
        let cases = [
            ("https://example.com/a.git", true),
            ("ssh://git@example.com/a.git", true),
            ("git@example.com:a.git", true),
            ("file:///srv/a@b.git", true),
            ("../a", true),
            ("https://example.com/a@b:c", true),
            ("https://canary@example.com/a.git", false),
            ("https://user:canary@example.com/a.git", false),
            ("HTTPS://user:canary@example.com", false),
            ("ssh://git:canary@example.com/a.git", false),
            ("--upload-pack=canary", false),
            ("ext::sh -c canary", false),
            ("", false),
            ("a\nb", false),
        ];
        for (text, is_good) in cases {
            let fault = fault(&TextOrSecret::Text(text.to_owned()));
            assert_eq!(fault.is_none(), is_good, "{text}: {fault:?}");
            assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
        }
    }

    #[test]
    fn what_git_says_keeps_no_credentials() {
        let cases = [
            ("at 'https://user:canary@example.com/a'", "at 'https://[secret]@example.com/a'"),
            (
                "at https://canary@example.com, http://b.c/d@e",
                "at https://[secret]@example.com, http://b.c/d@e",
            ),
            ("ssh://git@example.com/a", "ssh://git@example.com/a"),
            ("ssh://git:can@ary@example.com/a", "ssh://[secret]@example.com/a"),
            ("no URL: canary", "no URL: [secret]"),
            ("it was pa%73s or pass", "it was [secret] or [secret]"),
        ];
        let mut own = secrets(&TextOrSecret::Text(String::new()), "https://u:pass@h/");
        own.add("canary");
        for (text, told) in cases {
            assert_eq!(hide(&own, text), told);
        }
    }

    #[test]
    fn a_short_user_tears_up_no_message() {
        let own = secrets(&TextOrSecret::Text(String::new()), "ssh://git@example.com/a");
        assert_eq!(hide(&own, "git: no such command"), "git: no such command");
    }
}
