//! The args of the job `secret_rotation_check` and their defaults.

use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Allowed;
use crate::duration;
use crate::place::Place;
use crate::secret_due::Limits;
use crate::secret_kind::Kind;
use crate::secret_rotation_args::RotationArgs;
use crate::secret_rotation_check::{SecretCheck, SecretRotationCheck};
use crate::secret_source::Source;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Looks whether secrets are due for rotation, and rotates those it was told how to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretsArgs {
    /// The secrets.
    secrets: Vec<SecretArgs>,
    /// The age at which a secret is due that does not say when it ends. 90 days by default.
    #[serde(default = "max_age", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    max_age: Duration,
    /// How long before its end a secret is due that says when it ends, or a third of its whole life if that is
    /// shorter. 7 days by default.
    #[serde(default = "before_expiry", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    before_expiry: Duration,
    /// The limit for a look at each secret. 10 seconds by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// Rotates what is due and has a `rotation`. Off by default: it is only told.
    #[serde(default)]
    rotate: bool,
    /// Only tells what would be done. Off by default; the parameter `dry_run` of a run turns it on for that run.
    #[serde(default)]
    dry_run: bool,
    /// A file to which a line of JSON is added for each step of a rotation. None by default.
    #[serde(default)]
    audit: Option<PathBuf>,
    /// Addresses besides public ones that may be connected to, as in the job `http`. By default `loopback`,
    /// `private` and `shared`: one's own network.
    #[serde(default = "allow")]
    allow: Vec<String>,
}

/// One secret, or several of one place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretArgs {
    /// What it is called, once in a task.
    name: String,
    /// What kind of place it lies in.
    kind: Kind,
    /// The file or the folder.
    #[serde(default)]
    path: Option<PathBuf>,
    /// The variable of the daemon that holds the token, for `jwt` instead of `path`.
    #[serde(default)]
    env: Option<String>,
    /// The names that must be there, for `env_file`. Any by default.
    #[serde(default)]
    keys: Option<Vec<String>>,
    /// `HOST:PORT`, for `tls`.
    #[serde(default)]
    address: Option<String>,
    /// A PEM file with root certificates that are trusted besides those of the system, for `tls`. None by default.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// The program that says when a secret was made and when it ends, for `command`.
    #[serde(default)]
    program: Option<String>,
    /// The program's arguments. None by default.
    #[serde(default)]
    args: Option<Vec<String>>,
    /// Its own limits of age, which then counts also where it says when it ends, and of the time before its end.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    max_age: Option<Duration>,
    /// Its own `before_expiry`.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    before_expiry: Option<Duration>,
    /// The most that others may do with its file, as in `"0640"`. `"0600"` by default.
    #[serde(default)]
    mode: Option<String>,
    /// How it is rotated. By a person by default.
    #[serde(default)]
    rotation: Option<RotationArgs>,
}

fn max_age() -> Duration {
    Duration::from_secs(90 * DAY)
}

fn before_expiry() -> Duration {
    Duration::from_secs(7 * DAY)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn allow() -> Vec<String> {
    ["loopback", "private", "shared"].map(str::to_owned).to_vec()
}

impl SecretsArgs {
    /// The job.
    ///
    /// # Errors
    /// Every fault that can be told without a look at a secret.
    pub(crate) fn read(self) -> Result<SecretRotationCheck, Vec<ArgsError>> {
        let mut faults = Vec::new();
        if self.secrets.is_empty() {
            faults.push(ArgsError::new("/secrets", "there is nothing to check").with_help("add a secret"));
        }
        for (place, limit) in [("/timeout", self.timeout), ("/max_age", self.max_age)] {
            if limit.is_zero() {
                faults.push(ArgsError::new(place, "a limit of nothing lets nothing succeed"));
            }
        }
        if self.audit.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            faults.push(ArgsError::new("/audit", "the path is empty"));
        }
        for (index, secret) in self.secrets.iter().enumerate() {
            let name = secret.name.escape_debug();
            let place = format!("/secrets/{index}/name");
            if secret.name.trim().is_empty() || secret.name.chars().any(char::is_control) {
                faults.push(ArgsError::new(&place, format!("`{name}` is no name that can be told")));
            }
            if self.secrets[..index].iter().any(|other| other.name == secret.name) {
                faults.push(ArgsError::new(&place, format!("`{name}` is the name of an earlier secret")));
            }
        }
        let allowed = Allowed::parse(&self.allow, "/allow").map_err(|found| faults.extend(found));
        let Ok(allowed) = allowed else { return Err(faults) };
        let mut secrets = Vec::new();
        for (index, secret) in self.secrets.into_iter().enumerate() {
            let limits = Limits {
                max_age: secret.max_age.unwrap_or(self.max_age),
                has_own_age: secret.max_age.is_some(),
                before_expiry: secret.before_expiry.unwrap_or(self.before_expiry),
            };
            match secret.read(&allowed, limits) {
                Ok(secret) => secrets.push(secret),
                Err(found) => faults.extend(found.into_iter().map(|fault| {
                    let pointer = format!("/secrets/{index}{}", fault.pointer);
                    ArgsError { pointer, ..fault }
                })),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let Self { timeout, rotate, dry_run, audit, .. } = self;
        Ok(SecretRotationCheck { secrets, timeout, rotates: rotate, is_dry: dry_run, audit })
    }
}

impl SecretArgs {
    fn read(self, allowed: &Allowed, limits: Limits) -> Result<SecretCheck, Vec<ArgsError>> {
        let mut faults = self.faults();
        let mode = match self.mode.as_deref().map(|mode| u32::from_str_radix(mode, 8)) {
            None => 0o600,
            Some(Ok(mode)) if mode <= 0o777 => mode,
            Some(_) => {
                let fault = "this is no mode of a file";
                faults.push(
                    ArgsError::new("/mode", fault)
                        .with_help("write it as `chmod` takes it, such as \"0640\""),
                );
                0
            }
        };
        let rotation = self.rotation.map(|rotation| rotation.read(self.keys.as_deref())).transpose();
        let rotation = rotation.map_err(|found| faults.extend(found)).unwrap_or_default();
        if !faults.is_empty() {
            return Err(faults);
        }
        let path = self.path.unwrap_or_default();
        let source = match self.kind {
            Kind::File => Source::File(path),
            Kind::Directory => Source::Directory(path),
            Kind::EnvFile => Source::EnvFile(path, self.keys.unwrap_or_default()),
            Kind::Certificate => Source::Certificate(path),
            Kind::Tls => {
                let address = self.address.unwrap_or_default();
                Source::Tls(Place::parse(&address, allowed.clone())?, self.ca_file)
            }
            Kind::Jwt => match self.env {
                Some(variable) => Source::JwtVariable(variable),
                None => Source::Jwt(path),
            },
            Kind::Command => {
                let program = self.program.into_iter();
                Source::Command(program.chain(self.args.unwrap_or_default()).collect())
            }
        };
        Ok(SecretCheck { name: self.name, kind: self.kind, source, limits, mode, rotation })
    }

    fn faults(&self) -> Vec<ArgsError> {
        let kind = self.kind.as_str();
        let (needed, known) = self.kind.keys();
        let given = [
            ("path", self.path.is_some()),
            ("env", self.env.is_some()),
            ("keys", self.keys.is_some()),
            ("address", self.address.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("program", self.program.is_some()),
            ("args", self.args.is_some()),
            ("mode", self.mode.is_some()),
            ("rotation", self.rotation.is_some()),
        ];
        let given: Vec<&str> = given.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key).collect();
        let useless = given.iter().filter(|key| !needed.contains(key) && !known.contains(key));
        let mut faults: Vec<ArgsError> = useless
            .map(|key| ArgsError::new(format!("/{key}"), format!("`{key}` is of no use for `{kind}`")))
            .collect();
        let missing = needed.iter().filter(|key| !given.contains(key));
        faults.extend(
            missing.map(|key| ArgsError::new("", format!("a secret of kind `{kind}` needs `{key}`"))),
        );
        if self.kind == Kind::Jwt && self.path.is_some() == self.env.is_some() {
            faults.push(ArgsError::new("", "a secret of kind `jwt` needs one of `path` and `env`"));
        }
        if self.kind == Kind::Jwt && self.env.is_some() && self.rotation.is_some() {
            faults.push(ArgsError::new("/rotation", "a variable of the daemon cannot be rotated"));
        }
        let has_one_key = self.keys.as_ref().is_some_and(|keys| keys.len() == 1);
        if self.kind == Kind::EnvFile && self.rotation.is_some() && !has_one_key {
            let fault = "a rotation in such a file is of one name";
            faults.push(ArgsError::new("/rotation", fault).with_help("name it: `keys = [\"NAME\"]`"));
        }
        if self.path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            faults.push(ArgsError::new("/path", "the path is empty"));
        }
        faults
    }
}
