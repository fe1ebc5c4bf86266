//! Where a redirect leads: each one is judged like the URL of the task, and another origin gets no secrets.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};
use scheduler_core::ErrorKind;

use crate::address::Allowed;
use crate::http_fault::Failure;
use crate::http_target::{self, Fault, origin, shown};

/// One request on the way to the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hop {
    pub(crate) url: Url,
    pub(crate) method: Method,
    /// Whether the body goes with it.
    pub(crate) with_body: bool,
    /// Whether it, or one before it, goes to another origin than the first.
    pub(crate) is_foreign: bool,
}

impl Hop {
    /// The hop that an answer asks for; `None` when it asks for none.
    ///
    /// # Errors
    /// Why it is not followed.
    pub(crate) fn next(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        allowed: &Allowed,
    ) -> Result<Option<Self>, Failure> {
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = headers.get(LOCATION) else { return Ok(None) };
        let target = location.to_str().ok().and_then(|location| self.url.join(location).ok());
        let Some(mut url) = target else { return Err(self.refused("to what is no URL")) };
        url.set_fragment(None);
        http_target::judge(&url, allowed).map_err(|fault| match fault {
            Fault::Bad(fault, _) => self.refused(&format!("to a place that cannot be requested: {fault}")),
            Fault::Refused(refused) => {
                let place = format!("{} redirects to {}", shown(&self.url), origin(&url));
                Failure::refusal(&refused, &place)
            }
        })?;
        if self.url.scheme() == "https" && url.scheme() != "https" {
            return Err(self.refused(&format!("to {}, which is not encrypted", origin(&url))));
        }
        let method = next_method(status, &self.method);
        let with_body = self.with_body && method == self.method;
        let leaves = url.origin() != self.url.origin();
        if leaves && with_body {
            return Err(self.refused(&format!("to another origin, {}, with the body", origin(&url))));
        }
        Ok(Some(Self { url, method, with_body, is_foreign: self.is_foreign || leaves }))
    }

    /// This hop asked for another one that is not followed; `why` goes on after "redirects".
    pub(crate) fn refused(&self, why: &str) -> Failure {
        let message = format!("{} redirects {why}", shown(&self.url));
        Failure::new(ErrorKind::Invalid, "http/redirect_refused", message)
    }
}

/// What browsers do (RFC 9110, 15.4): only 307 and 308 repeat a POST.
fn next_method(status: StatusCode, method: &Method) -> Method {
    match (status.as_u16(), method) {
        (303, &Method::HEAD) => Method::HEAD,
        (303, _) | (301 | 302, &Method::POST) => Method::GET,
        _ => method.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_secrets::Secrets;

    fn hop(url: &str, method: Method, with_body: bool) -> Hop {
        Hop { url: url.parse().unwrap(), method, with_body, is_foreign: false }
    }

    fn followed(from: &Hop, status: u16, location: &str) -> Result<Option<Hop>, String> {
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        from.next(StatusCode::from_u16(status).unwrap(), &headers, &Allowed::default())
            .map_err(|failure| failure.without(&Secrets::default()).to_string())
    }

    #[test]
    fn a_redirect_changes_the_method_as_browsers_do() {
        let cases = [
            (301, Method::GET, false, Method::GET, false),
            (301, Method::POST, true, Method::GET, false),
            (302, Method::POST, true, Method::GET, false),
            (302, Method::PUT, true, Method::PUT, true),
            (303, Method::PUT, true, Method::GET, false),
            (303, Method::HEAD, false, Method::HEAD, false),
            (307, Method::POST, true, Method::POST, true),
            (308, Method::DELETE, false, Method::DELETE, false),
        ];
        for (status, method, with_body, next, next_with_body) in cases {
            let from = hop("https://example.com/a?b", method, with_body);
            let expected = hop("https://example.com/c", next, next_with_body);
            assert_eq!(followed(&from, status, "c#d"), Ok(Some(expected)), "{status}");
        }
        for status in [200, 300, 304, 305, 404] {
            let from = hop("https://example.com/", Method::GET, false);
            assert_eq!(followed(&from, status, "/c"), Ok(None), "{status}");
        }
    }

    #[test]
    fn another_origin_is_foreign_for_good() {
        let home = hop("https://example.com/", Method::GET, false);
        for (location, is_foreign) in [
            ("/b", false),
            ("https://example.com:443/b", false),
            ("https://example.com:444/b", true),
            ("https://other.example/b", true),
            ("//other.example/b", true),
        ] {
            assert_eq!(followed(&home, 302, location).unwrap().unwrap().is_foreign, is_foreign, "{location}");
        }
        let away = followed(&home, 302, "https://other.example/").unwrap().unwrap();
        for location in ["/again", "https://other.example/", "https://example.com/"] {
            assert!(followed(&away, 302, location).unwrap().unwrap().is_foreign, "{location}");
        }
    }

    #[test]
    fn a_redirect_that_would_give_something_away_is_refused() {
        let cases = [
            (302, "http://example.com/", false, "which is not encrypted"),
            (302, "ftp://example.com/", false, "scheme `ftp`"),
            (302, "https://user:canary@example.com/", false, "a user or a password"),
            (302, "https://127.1/", false, "address 127.0.0.1 is refused"),
            (302, "https://localhost/", false, "is refused"),
            (302, "//[::ffff:a9fe:a9fe]/canary", false, "a cloud's metadata"),
            (302, "https://:0/", false, "no URL"),
            (307, "https://other.example/canary", true, "with the body"),
        ];
        for (status, location, with_body, part) in cases {
            let from = hop("https://example.com/?canary", Method::POST, with_body);
            let error = followed(&from, status, location).unwrap_err();
            assert!(error.contains(part) && !error.contains("canary"), "{location}: {error}");
        }
    }
}
