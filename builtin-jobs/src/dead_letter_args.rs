//! The args of the job `dead_letter_processing` and their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use scheduler_core::{ArgsError, ReplayRate};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::dead_letter_archive::Archive;
use crate::dead_letter_processing::DeadLetterProcessing;
use crate::dead_letter_rule::Rules;
use crate::dead_letter_rule_args::RuleArgs;
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::text_or_secret::TextOrSecret;

/// The most letters that one run may act on.
const MOST: usize = 10_000;

/// Looks after dead letters: replays what time may heal, archives what it does not.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterArgs {
    /// What is done with which letters; the first that fits decides, and what none fits is left alone. By default
    /// the classes `network`, `transient` and `resource` run again.
    #[serde(default)]
    rules: Option<Vec<RuleArgs>>,
    /// Replays a second. 10 by default.
    #[serde(default = "rate")]
    rate: f64,
    /// How many letters a run replays, and how many it archives, at most. 100 by default.
    #[serde(default = "limit")]
    limit: usize,
    /// Where letters go that were given up. They stay where they are by default.
    #[serde(default)]
    archive: Option<ArchiveArgs>,
    /// Only tells what would be done. Off by default; the parameter `dry_run` of a run turns it on for that run.
    #[serde(default)]
    dry_run: bool,
}

/// A place for letters that were given up: a file or a URL.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveArgs {
    /// A file, to which a line of JSON is added for each.
    #[serde(default)]
    file: Option<PathBuf>,
    /// A URL, to which each is sent by `POST`, with its run as the `Idempotency-Key`.
    #[serde(default)]
    url: Option<String>,
    /// Headers for the URL: texts or secrets, as in the job `http`.
    #[serde(default)]
    headers: BTreeMap<String, TextOrSecret>,
    /// Addresses besides public ones that the URL may lead to, as in the job `http`. None by default.
    #[serde(default)]
    allow: Vec<String>,
    /// A PEM file with root certificates that are trusted besides those of the system. None by default.
    #[serde(default)]
    ca_file: Option<PathBuf>,
}

fn rate() -> f64 {
    10.0
}

fn limit() -> usize {
    100
}

impl DeadLetterArgs {
    /// The job.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub(crate) fn read(self) -> Result<DeadLetterProcessing, Vec<ArgsError>> {
        let mut faults = Vec::new();
        let rate = ReplayRate::per_second(self.rate);
        if rate.is_none() {
            let fault = format!("{} replays a second are not above 0 and at most 1000", self.rate);
            faults.push(ArgsError::new("/rate", fault).with_help("write `0.1` for one in ten seconds"));
        }
        if !(1..=MOST).contains(&self.limit) {
            let fault = format!("{} letters are not from 1 to {MOST}", self.limit);
            faults.push(ArgsError::new("/limit", fault));
        }
        let rules = Rules::read(self.rules).map_err(|found| faults.extend(found));
        let archive = self.archive.map(ArchiveArgs::read).transpose();
        let archive = archive.map_err(|found| faults.extend(found));
        match (rules, archive, rate, faults.is_empty()) {
            (Ok(rules), Ok(archive), Some(rate), true) => {
                Ok(DeadLetterProcessing { rules, rate, limit: self.limit, archive, is_dry: self.dry_run })
            }
            _ => Err(faults),
        }
    }
}

impl ArchiveArgs {
    fn read(self) -> Result<Archive, Vec<ArgsError>> {
        let is_plain = self.headers.is_empty() && self.allow.is_empty() && self.ca_file.is_none();
        match (self.file, self.url) {
            (Some(file), None) if file.as_os_str().is_empty() => {
                Err(vec![ArgsError::new("/archive/file", "the path is empty")])
            }
            (Some(file), None) if is_plain => Ok(Archive::File(file)),
            (Some(_), None) => {
                let fault = "`headers`, `allow` and `ca_file` are of no use for a file";
                Err(vec![ArgsError::new("/archive", fault)])
            }
            (None, Some(url)) => {
                let args = json!({"url": url, "method": "POST", "allow": self.allow, "max_output": 0});
                let mut args: HttpArgs = serde_json::from_value(args)
                    .map_err(|error| vec![ArgsError::new("/archive", error.to_string())])?;
                (args.headers, args.ca_file) = (self.headers, self.ca_file);
                match Http::new(args.clone()) {
                    Ok(http) => Ok(Archive::Url(Box::new(args), Box::new(http))),
                    Err(faults) => Err(faults
                        .into_iter()
                        .map(|fault| ArgsError { pointer: format!("/archive{}", fault.pointer), ..fault })
                        .collect()),
                }
            }
            (None, None) | (Some(_), Some(_)) => {
                let fault = "an archive is a `file` or a `url`, one of the two";
                Err(vec![ArgsError::new("/archive", fault)])
            }
        }
    }
}
