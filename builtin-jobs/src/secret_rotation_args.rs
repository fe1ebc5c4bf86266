//! The args of a rotation and their defaults.

use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::duration;
use crate::secret_rotation::Rotation;

/// The commands of a rotation, each a program with its arguments.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotationArgs {
    /// Prints the new value.
    generate: Vec<String>,
    /// Succeeds when a value works: the new one before it is put in place.
    verify: Vec<String>,
    /// Makes those who use the secret read it anew. None by default.
    #[serde(default)]
    reload: Option<Vec<String>>,
    /// Succeeds when the value in place works. By default `verify`.
    #[serde(default)]
    verify_live: Option<Vec<String>>,
    /// The limit for each command. 30 seconds by default.
    #[serde(default = "rotation_timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
}

fn rotation_timeout() -> Duration {
    Duration::from_secs(30)
}

impl RotationArgs {
    /// The rotation, of the only one of these keys if there are any.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub(crate) fn read(self, keys: Option<&[String]>) -> Result<Rotation, Vec<ArgsError>> {
        let mut faults = Vec::new();
        let commands = [
            ("generate", Some(&self.generate)),
            ("verify", Some(&self.verify)),
            ("reload", self.reload.as_ref()),
            ("verify_live", self.verify_live.as_ref()),
        ];
        for (name, words) in commands {
            let place = format!("/rotation/{name}");
            let Some(words) = words else { continue };
            if words.first().is_none_or(|program| program.trim().is_empty()) {
                faults.push(
                    ArgsError::new(&place, "there is no program")
                        .with_help("write [\"program\", \"argument\"]"),
                );
            }
            if words.iter().any(|word| word.contains('\0')) {
                faults.push(ArgsError::new(place, "it holds a NUL byte"));
            }
        }
        if self.timeout.is_zero() {
            faults.push(ArgsError::new("/rotation/timeout", "a limit of nothing lets nothing succeed"));
        }
        let key = keys.and_then(|keys| keys.first().cloned());
        if !faults.is_empty() {
            return Err(faults);
        }
        let verify_live = self.verify_live.unwrap_or_else(|| self.verify.clone());
        let Self { generate, verify, reload, timeout, .. } = self;
        Ok(Rotation { generate, verify, reload, verify_live, limit: timeout, key })
    }
}
