//! The args of the job `git_poll` and their defaults, read into repositories.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use scheduler_core::{ArgsError, Name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::duration;
use crate::environment::{Environment, PASSED};
use crate::git_poll_book::Policy;
use crate::git_poll_refs::Watched;
use crate::git_poll_remote::Git;
use crate::git_poll_url;
use crate::text_or_secret::TextOrSecret;

/// What git and ssh need besides to reach a server as the user does.
const GIT_PASSED: [&str; 15] = [
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// The most repositories that are asked at the same time.
const MOST_AT_ONCE: u16 = 256;

/// Asks git servers for branches and tags, and triggers a task for each change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GitPollArgs {
    /// What is polled.
    repositories: Vec<RepositoryArgs>,
    /// The task that is triggered, once for each change, with the parameters `repository`, `ref`, `change`, `old`
    /// and `new`.
    task: String,
    /// Branches by name or pattern, such as `"main"` and `"release/*"`. Without branches and tags, the default
    /// branch of each repository is watched.
    #[serde(default)]
    branches: Vec<String>,
    /// Tags by name or pattern, such as `"v*"`. None by default.
    #[serde(default)]
    tags: Vec<String>,
    /// Whether what is seen for the first time triggers as well. Off by default.
    #[serde(default)]
    trigger_first: bool,
    /// Whether a branch or a tag that is gone triggers as well, without `new`. Off by default.
    #[serde(default)]
    trigger_deleted: bool,
    /// The program. `git` by default.
    #[serde(default = "git")]
    git: String,
    /// The limit for each repository. 30 seconds by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// How many repositories are asked side by side, at most 256. 16 by default.
    #[serde(default = "at_once")]
    at_once: NonZeroU16,
    /// The time over which the repositories are spread, each at its own place. 5 seconds by default.
    #[serde(default = "spread", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    spread: Duration,
    /// How long a repository is left alone after its first failure; twice as long after each further one. 1 minute
    /// by default.
    #[serde(default = "backoff", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    backoff: Duration,
    /// The longest that a repository is left alone. 1 hour by default.
    #[serde(default = "max_backoff", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    max_backoff: Duration,
    /// Variables for git: texts, or secrets such as `{ env = "NAME" }` and `{ file = "/path" }`.
    #[serde(default)]
    env: BTreeMap<String, TextOrSecret>,
    /// The daemon's variables that are passed on to git. By default those of `exec`, and the ones by which git and
    /// ssh find keys, certificates and proxies.
    #[serde(default = "passed")]
    pass_env: Vec<String>,
}

/// One repository.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryArgs {
    /// Where it is, as `git clone` takes it: a text without a password, or a secret.
    url: TextOrSecret,
    /// What it is called, once in a task; needed when the URL is a secret. The URL by default.
    #[serde(default)]
    name: Option<String>,
    /// Its own branches, in place of those of the task.
    #[serde(default)]
    branches: Option<Vec<String>>,
    /// Its own tags, in place of those of the task.
    #[serde(default)]
    tags: Option<Vec<String>>,
    /// Its own task to trigger.
    #[serde(default)]
    task: Option<String>,
    /// Its own limit.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Option<Duration>,
}

fn git() -> String {
    "git".to_owned()
}

fn timeout() -> Duration {
    Duration::from_secs(30)
}

fn at_once() -> NonZeroU16 {
    const { NonZeroU16::new(16).unwrap() }
}

fn spread() -> Duration {
    Duration::from_secs(5)
}

fn backoff() -> Duration {
    Duration::from_secs(60)
}

fn max_backoff() -> Duration {
    Duration::from_secs(3600)
}

fn passed() -> Vec<String> {
    PASSED.into_iter().chain(GIT_PASSED).map(str::to_owned).collect()
}

/// A repository that can be polled.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) url: TextOrSecret,
    pub(crate) watched: Watched,
    pub(crate) task: Name,
    pub(crate) limit: Duration,
    /// Where it stands in the args.
    pub(crate) pointer: String,
}

/// What is polled, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) repositories: Vec<Repository>,
    pub(crate) git: Git,
    pub(crate) policy: Policy,
    pub(crate) at_once: usize,
    pub(crate) spread: Duration,
}

impl GitPollArgs {
    /// The plan.
    ///
    /// # Errors
    /// Every fault that can be told without asking a server.
    pub(crate) fn read(self) -> Result<Plan, Vec<ArgsError>> {
        let mut faults = self.faults();
        let task = read_task(&self.task, "/task").map_err(|fault| faults.push(fault)).ok();
        let own = (self.branches.as_slice(), self.tags.as_slice());
        let mut repositories: Vec<Repository> = Vec::new();
        for (index, args) in self.repositories.into_iter().enumerate() {
            let pointer = format!("/repositories/{index}");
            let read = args.read(&pointer, own, task.as_ref(), self.timeout);
            let Some(read) = read.map_err(|found| faults.extend(found)).ok().flatten() else { continue };
            if repositories.iter().any(|other| other.name == read.name) {
                let fault = format!("`{}` is the name of an earlier repository", read.name.escape_debug());
                let fault = ArgsError::new(pointer, fault).with_help("give it a `name` of its own");
                faults.push(fault);
            }
            repositories.push(read);
        }
        let environment = Environment::new(self.pass_env, self.env).map_err(|found| faults.extend(found));
        let Ok(environment) = environment else { return Err(faults) };
        if !faults.is_empty() {
            return Err(faults);
        }
        let policy = Policy {
            trigger_first: self.trigger_first,
            trigger_deleted: self.trigger_deleted,
            backoff: self.backoff,
            max_backoff: self.max_backoff,
        };
        let git = Git { program: self.git, environment };
        let at_once = usize::from(self.at_once.get());
        Ok(Plan { repositories, git, policy, at_once, spread: self.spread })
    }

    fn faults(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        if self.repositories.is_empty() {
            let fault = ArgsError::new("/repositories", "there is nothing to poll");
            faults.push(fault.with_help("add a repository"));
        }
        if self.git.trim().is_empty() || self.git.contains('\0') {
            faults.push(ArgsError::new("/git", "this is no program").with_help("write `git`"));
        }
        if self.at_once.get() > MOST_AT_ONCE {
            let fault = format!("{} side by side are more than {MOST_AT_ONCE}", self.at_once);
            faults.push(ArgsError::new("/at_once", fault));
        }
        faults.extend(bad_limit(self.timeout, "/timeout"));
        if self.max_backoff < self.backoff {
            let fault = ArgsError::new("/max_backoff", "the longest wait is shorter than the first");
            faults.push(fault.with_help("set both `backoff` and `max_backoff`"));
        }
        faults
    }
}

impl RepositoryArgs {
    /// The repository; `None` where the fault is one of the whole task.
    fn read(
        self,
        pointer: &str,
        (branches, tags): (&[String], &[String]),
        task: Option<&Name>,
        timeout: Duration,
    ) -> Result<Option<Repository>, Vec<ArgsError>> {
        let place = |key: &str| format!("{pointer}/{key}");
        let mut faults: Vec<ArgsError> = git_poll_url::fault(&self.url)
            .map(|fault| ArgsError { pointer: place("url"), ..fault })
            .into_iter()
            .collect();
        let name = self.name.or_else(|| git_poll_url::shown(&self.url));
        if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
            faults.push(ArgsError::new(place("name"), "this is no name that can be told"));
        }
        if name.is_none() {
            let fault = ArgsError::new(pointer, "a repository whose URL is a secret needs a `name`");
            faults.push(fault);
        }
        let (is_own, are_own) = (self.branches.is_some(), self.tags.is_some());
        let branches = self.branches.as_deref().unwrap_or(branches);
        let tags = self.tags.as_deref().unwrap_or(tags);
        let at = |key: &str, is_own: bool| if is_own { place(key) } else { format!("/{key}") };
        let watched = Watched::new((branches, &at("branches", is_own)), (tags, &at("tags", are_own)));
        let watched = watched.map_err(|found| faults.extend(found));
        let own_task = self.task.map(|task| read_task(&task, &place("task"))).transpose();
        let own_task = own_task.map_err(|fault| faults.push(fault));
        let limit = self.timeout.unwrap_or(timeout);
        faults.extend(self.timeout.and_then(|limit| bad_limit(limit, &place("timeout"))));
        let (Ok(watched), Ok(own_task), Some(name), true) = (watched, own_task, name, faults.is_empty())
        else {
            return Err(faults);
        };
        let Some(task) = own_task.or_else(|| task.cloned()) else { return Ok(None) };
        Ok(Some(Repository { name, url: self.url, watched, task, limit, pointer: pointer.to_owned() }))
    }
}

fn read_task(name: &str, pointer: &str) -> Result<Name, ArgsError> {
    Name::new(name).map_err(|error| ArgsError::new(pointer, error.to_string()))
}

fn bad_limit(limit: Duration, pointer: &str) -> Option<ArgsError> {
    let fault =
        || ArgsError::new(pointer, "a limit of nothing lets nothing succeed").with_help("write `30s`");
    limit.is_zero().then(fault)
}
