//! The address of an engine, as a configuration writes it.

use reqwest::Url;

/// Reads an address of HTTP without anything secret in it.
///
/// # Errors
/// What is wrong with it, to be said after it.
pub(crate) fn read_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    match url.scheme() {
        "http" | "https" if !url.has_host() => Err("names no host"),
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Err("holds credentials, which belong into `username` and `password`")
        }
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
            Err("has more than a path behind its host")
        }
        "http" | "https" => Ok(url),
        _ => Err("is neither http nor https"),
    }
}

/// The URL without what stands before its host.
pub(crate) fn shown_url(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}
