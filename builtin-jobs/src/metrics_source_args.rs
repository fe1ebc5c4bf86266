//! The args of one source of the job `metrics_collection`.
//!
//! Every kind of source takes some of the keys: what it lacks and what it has no use for are faults with a place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::duration;
use crate::exec::{Exec, ExecArgs};
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::metrics_source::{Kind, Source};
use crate::text_or_secret::TextOrSecret;

/// What is read at most of an endpoint or a program.
pub(crate) const LARGEST: usize = 8 * 1024 * 1024;

/// One source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceArgs {
    /// What it is called, once in a task. Its kind by default.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// What kind it is.
    pub(crate) kind: Kind,
    /// Its limit. That of the task by default.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) timeout: Option<Duration>,
    /// How many series it may have. As many as the task says by default.
    #[serde(default)]
    pub(crate) max_series: Option<usize>,
    /// The names of metrics that are wanted, in which `*` stands for anything. All by default.
    #[serde(default)]
    pub(crate) only: Option<Vec<String>>,
    /// For `scrape`: an endpoint that answers in the text format of Prometheus.
    #[serde(default)]
    url: Option<String>,
    /// For `scrape`: headers, texts or secrets. None by default.
    #[serde(default)]
    headers: Option<BTreeMap<String, TextOrSecret>>,
    /// For `scrape`: a PEM file with root certificates that are trusted besides those of the system. None by default.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// For `command`: the program.
    #[serde(default)]
    program: Option<String>,
    /// For `command`: its arguments. None by default.
    #[serde(default)]
    args: Option<Vec<String>>,
    /// For `command`: its own variables, texts or secrets. None by default.
    #[serde(default)]
    env: Option<BTreeMap<String, TextOrSecret>>,
}

impl SourceArgs {
    pub(crate) fn of(kind: Kind) -> Self {
        Self {
            name: None,
            kind,
            timeout: None,
            max_series: None,
            only: None,
            url: None,
            headers: None,
            ca_file: None,
            program: None,
            args: None,
            env: None,
        }
    }

    pub(crate) fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.as_str())
    }

    /// The source.
    ///
    /// # Errors
    /// Every fault that can be told without asking it; places are those within it.
    pub(crate) fn read(&self, allow: &[String], limit: Duration) -> Result<Source, Vec<ArgsError>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(match self.kind {
            Kind::System => Source::System(Arc::default()),
            Kind::Scheduler => Source::Scheduler,
            Kind::Scrape => {
                let mut args: HttpArgs = read(json!({"url": self.url, "allow": allow}))?;
                args.headers = self.headers.clone().unwrap_or_default();
                if !args.headers.keys().any(|name| name.eq_ignore_ascii_case("accept")) {
                    let format = TextOrSecret::Text(concat!("text", "/plain;version=0.0.4").to_owned());
                    args.headers.insert("Accept".to_owned(), format);
                }
                args.ca_file.clone_from(&self.ca_file);
                (args.max_response, args.max_output) = (LARGEST as u64, LARGEST);
                // The source has one limit, which is kept around all of it and passes first.
                let later = limit.saturating_add(Duration::from_secs(1));
                (args.timeout, args.idle_timeout, args.connect_timeout) = (later, later, later);
                Source::Scrape(Box::new(Http::new(args)?))
            }
            Kind::Command => {
                let env = self.env.clone().unwrap_or_default();
                let args = json!({
                    "program": self.program,
                    "args": self.args.clone().unwrap_or_default(),
                    "max_output": LARGEST,
                });
                let exec = Exec::new(read::<ExecArgs>(args)?.with_env(env.clone()))?;
                Source::Command(Box::new(exec.among_others()), env.into_values().collect())
            }
        })
    }

    fn faults(&self) -> Vec<ArgsError> {
        let kind = self.kind.as_str();
        let (needed, known) = self.kind.keys();
        let given = self.given();
        let useless = given.iter().filter(|key| !needed.contains(key) && !known.contains(key)).map(|key| {
            let help = match [needed, known].concat().as_slice() {
                [] => format!("`{kind}` takes none"),
                keys => format!("`{kind}` takes `{}`", keys.join("`, `")),
            };
            ArgsError::new(format!("/{key}"), format!("`{key}` is of no use for `{kind}`")).with_help(help)
        });
        let missing = needed.iter().filter(|key| !given.contains(key));
        let missing =
            missing.map(|key| ArgsError::new("", format!("a source of kind `{kind}` needs `{key}`")));
        let mut faults: Vec<ArgsError> = useless.chain(missing).collect();
        if self.only.as_ref().is_some_and(Vec::is_empty) {
            let fault = ArgsError::new("/only", "nothing would be wanted");
            faults.push(fault.with_help("leave it out for everything"));
        }
        if cfg!(not(target_os = "linux")) && self.kind == Kind::System {
            faults.push(ArgsError::new("/kind", "`system` is known on Linux only"));
        }
        faults
    }

    /// The keys that are given and that not every kind takes.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("url", self.url.is_some()),
            ("headers", self.headers.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("program", self.program.is_some()),
            ("args", self.args.is_some()),
            ("env", self.env.is_some()),
        ];
        keys.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
    }
}

/// Reads the args of another job.
fn read<T: serde::de::DeserializeOwned>(args: serde_json::Value) -> Result<T, Vec<ArgsError>> {
    serde_json::from_value(args).map_err(|error| vec![ArgsError::new("", error.to_string())])
}
