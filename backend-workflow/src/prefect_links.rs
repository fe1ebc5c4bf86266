//! The addresses of the pages that people look at, beside that of the API.

use reqwest::Url;
use scheduler_core::{Error, Result};

use crate::address;

/// Where people look at things.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    pages: String,
}

impl Links {
    /// The pages at `ui_url`, by default those that belong to the API.
    ///
    /// # Errors
    /// `engine/bad_url`.
    pub(crate) fn new(api: &Url, ui_url: Option<&str>) -> Result<Self> {
        let pages = match ui_url {
            Some(text) => read_url(text)?.to_string(),
            None if api.host_str() == Some("api.prefect.cloud") => {
                let path = api.path().trim_start_matches("/api");
                let path = path.replace("/accounts/", "/account/").replace("/workspaces/", "/workspace/");
                format!("https://app.prefect.cloud{path}")
            }
            None => api.as_str().trim_end_matches('/').trim_end_matches("/api").to_owned(),
        };
        Ok(Self { pages: pages.trim_end_matches('/').to_owned() })
    }

    pub(crate) fn run(&self, id: &str) -> String {
        format!("{}/runs/flow-run/{id}", self.pages)
    }

    pub(crate) fn workflow(&self, id: &str) -> String {
        format!("{}/deployments/deployment/{id}", self.pages)
    }
}

/// Reads an address. The text itself is not repeated: a password may stand in it.
///
/// # Errors
/// `engine/bad_url`.
pub(crate) fn read_url(text: &str) -> Result<Url> {
    address::read_url(text)
        .map_err(|fault| Error::invalid("engine/bad_url", format!("the URL of the engine {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_belong_to_their_api() {
        let cases = [
            ("http://127.0.0.1:4200/api", None, "http://127.0.0.1:4200/runs/flow-run/7"),
            ("https://host/prefix/api/", None, "https://host/prefix/runs/flow-run/7"),
            ("http://inner:4200/api", Some("https://outer/"), "https://outer/runs/flow-run/7"),
            (
                "https://api.prefect.cloud/api/accounts/a/workspaces/w",
                None,
                "https://app.prefect.cloud/account/a/workspace/w/runs/flow-run/7",
            ),
        ];
        for (api, ui, expected) in cases {
            let links = Links::new(&read_url(api).unwrap(), ui).unwrap();
            assert_eq!(links.run("7"), expected);
        }
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_and_not_repeated() {
        let cases =
            ["", "127.0.0.1:4200", "ftp://host/api", "http://u:canary@h/api", "http://h/api?k=canary"];
        for text in cases {
            let error = read_url(text).unwrap_err();
            assert_eq!(error.code(), "engine/bad_url", "{text}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
