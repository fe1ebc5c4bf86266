//! The address of an engine, as a configuration writes it.

/// What is wrong with a URL, to be said after it.
pub(crate) fn url_fault(url: &str) -> Option<&'static str> {
    let Ok(parsed) = reqwest::Url::parse(url) else { return Some("is no URL") };
    match parsed.scheme() {
        "http" | "https" if !parsed.has_host() => Some("names no host"),
        "http" | "https" if !parsed.username().is_empty() || parsed.password().is_some() => {
            Some("holds credentials, which belong into `username` and `password`")
        }
        "http" | "https" if parsed.query().is_some() || parsed.fragment().is_some() => {
            Some("has more than a path behind its host")
        }
        "http" | "https" => None,
        _ => Some("is neither http nor https"),
    }
}

/// The URL without what stands before its host.
pub(crate) fn shown_url(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}
