//! Secrets that stand in a file which everybody on the machine can read.

use crate::diagnostic::Diagnostic;
use crate::origin::Origin;
use crate::source::Source;
use crate::{pointer, redact};

/// A fault for each secret of a file that others than its owner and group can read.
pub(crate) fn secrets(source: &Source) -> Vec<Diagnostic> {
    if !is_readable_by_others(source) {
        return Vec::new();
    }
    let tree = serde_json::Value::Object(source.tree().clone());
    let found = redact::secrets(&tree).into_iter().map(|place| {
        let message = format!(
            "{} is a secret in a file that every user of this machine can read",
            pointer::subject(&place)
        );
        let origin = source.key_origin(&place).unwrap_or(Origin::None);
        let file = source.path().display();
        Diagnostic::error("config/readable_secret", message, origin).with_help(format!(
            "write {{ env = \"NAME\" }} or {{ file = \"/path\" }} in its place where the key takes one, \
             or `chmod o= {file}`"
        ))
    });
    found.collect()
}

#[cfg(unix)]
fn is_readable_by_others(source: &Source) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let metadata = source.path().metadata();
    metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &Source) -> bool {
    false
}
