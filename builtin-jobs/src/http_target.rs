//! Where a request goes: the URL of a task or of a redirect, judged before anything is sent, and how messages
//! show it. A query may hold a key, so no message shows one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::address::{Allowed, Refused};

/// What is wrong with a URL.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not one that can be requested: what is wrong, and what to do.
    Bad(String, &'static str),
    /// Its address may not be connected to.
    Refused(Refused),
}

/// Reads a URL.
///
/// # Errors
/// Whatever keeps it from being requested, as far as it can be told without resolving a name.
pub(crate) fn parse(text: &str, allowed: &Allowed) -> Result<Url, Fault> {
    let url = Url::parse(text)
        .map_err(|error| Fault::Bad(format!("this is no URL: {error}"), "write `https://host/path`"))?;
    judge(&url, allowed).map(|()| url)
}

/// Looks whether a URL may be requested.
///
/// # Errors
/// As [`parse`].
pub(crate) fn judge(url: &Url, allowed: &Allowed) -> Result<(), Fault> {
    if !matches!(url.scheme(), "http" | "https") {
        let fault = format!("scheme `{}` is none that this job speaks", url.scheme());
        return Err(Fault::Bad(fault, "write `https://` or `http://`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let fault = "the URL holds a user or a password".to_owned();
        return Err(Fault::Bad(fault, "send it in the header `Authorization`, as a secret"));
    }
    if url.port() == Some(0) {
        return Err(Fault::Bad("port 0 leads nowhere".to_owned(), "write a port from 1 to 65535"));
    }
    judge_host(url.host_str().unwrap_or_default(), allowed).map_err(Fault::Refused)
}

/// Judges a host as far as it is known without resolving it.
///
/// # Errors
/// When it is an address that may not be connected to, or this machine by name.
pub(crate) fn judge_host(host: &str, allowed: &Allowed) -> Result<(), Refused> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return allowed.judge(address);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        let v6 = allowed.judge(IpAddr::V6(Ipv6Addr::LOCALHOST));
        return v6.or_else(|_| allowed.judge(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    Ok(())
}

/// The URL without its query.
pub(crate) fn shown(url: &Url) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}{}{query}", origin(url), url.path())
}

/// Scheme, host and port.
pub(crate) fn origin(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_inner_address_is_refused_before_it_is_resolved() {
        let hosts = [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0X7F.0.0.1",
            "017700000001",
            "0177.0.0.1",
            "0177.0x0.0.1",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "⑫7.0.0.1",
            "0",
            "0.0.0.0",
            "0x0",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "[2002:c0a8:101::1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "any.localhost",
            "loc%61lhost",
            "ｌocalhost",
            "10.0.0.1",
            "012.1",
            "172.16.0.1",
            "192.168.0.1",
            "3232235521",
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "[::ffff:a9fe:a9fe]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fc00::1]",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
        ];
        for host in hosts {
            for url in [format!("http://{host}/"), format!("https://{host}:8443/a?b#c")] {
                let judged = parse(&url, &Allowed::default());
                assert!(matches!(judged, Err(Fault::Refused(_))), "{url}: {judged:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_requested_is_named() {
        let cases = [
            ("", "no URL"),
            ("/path", "no URL"),
            ("example.com", "no URL"),
            ("http://", "no URL"),
            ("http://256.256.256.256/", "no URL"),
            ("http://1.2.3.4.5/", "no URL"),
            ("http://[fe80::1%25eth0]/", "no URL"),
            ("http://exa mple.com/", "no URL"),
            ("http://example.com:99999/", "no URL"),
            ("http://example.com:0/", "port 0"),
            ("ftp://example.com/", "scheme `ftp`"),
            ("file:///etc/passwd", "scheme `file`"),
            ("gopher://example.com/", "scheme `gopher`"),
            ("http://user@example.com/", "a user or a password"),
            ("http://user:canary@example.com/?canary", "a user or a password"),
            ("http://:canary@example.com/", "a user or a password"),
        ];
        for (text, part) in cases {
            match parse(text, &Allowed::default()) {
                Err(Fault::Bad(fault, _)) => {
                    assert!(fault.contains(part) && !fault.contains("canary"), "{text}: {fault}");
                }
                judged => panic!("{text}: {judged:?}"),
            }
        }
    }

    #[test]
    fn a_public_address_and_any_name_may_be_tried() {
        for text in
            ["http://1.1.1.1/", "https://example.com./", "http://[2606:4700::1111]/", "http://134744072/"]
        {
            assert!(parse(text, &Allowed::default()).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_shown_url_has_no_query_and_no_fragment() {
        let url = parse("https://example.com:8443/a/b?key=canary#canary", &Allowed::default()).unwrap();
        assert_eq!(shown(&url), "https://example.com:8443/a/b?…");
        assert_eq!(origin(&url), "https://example.com:8443");
    }
}
