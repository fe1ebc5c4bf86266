//! Secrets of backends that are not where the configuration says.
//!
//! That is a warning: another user, or the daemon's unit, may have them.

use std::path::Path;

use scheduler_core::Secret;

use crate::diagnostic::Diagnostic;
use crate::layers::Document;
use crate::pointer;
use crate::settings::BackendSection;

/// The keys of sections that take a secret.
const KEYS: [&str; 2] = ["password", "api_key"];

/// A warning for each secret of a backend that cannot be read now.
pub(crate) fn secrets(sections: &[BackendSection], document: &Document) -> Vec<Diagnostic> {
    let keys = sections.iter().flat_map(|section| KEYS.map(|key| (section, key)));
    keys.filter_map(|(section, key)| {
        let value = section.config.get(key)?;
        let file = value.get("file").and_then(|file| Path::new(file.as_str()?).metadata().ok());
        // What is there and no file, as a pipe, may give what it has only once.
        if file.is_some_and(|file| !file.is_file()) {
            return None;
        }
        let secret: Secret = serde_json::from_value(value.clone()).ok()?;
        let missing = secret.resolve().err()?;
        let place = format!("{}/{key}", section.pointer);
        let message = format!("{}: {missing}", pointer::subject(&place));
        let warning = Diagnostic::warning("secret/missing", message, document.origin(&place));
        Some(warning.with_help("set it where the daemon runs"))
    })
    .collect()
}
