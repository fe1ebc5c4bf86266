//! What every command starts from: what the program knows, and the configuration it was pointed at.

use std::path::{Path, PathBuf};

use scheduler_core::Registry;

use crate::checked::{self, Checked};
use crate::diagnostic::{Diagnostic, Severity};
use crate::failure::Failure;
use crate::layers::Document;
use crate::overrides;
use crate::settings::Settings;

/// The configuration of who names none.
pub(crate) const DEFAULT_CONFIG: &str = "scheduler.toml";

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) registry: Registry,
    pub(crate) config: PathBuf,
}

impl Session {
    /// Loads and checks the configuration.
    ///
    /// # Errors
    /// Every fault of it; warnings are in what is answered.
    pub(crate) fn load(&self) -> Result<Checked, Failure> {
        let checked = self.check()?;
        if checked.diagnostics.iter().any(|found| found.severity == Severity::Error) {
            return Err(self.refuse(checked.diagnostics));
        }
        Ok(checked)
    }

    /// Loads and checks the configuration; its faults are in what is answered.
    ///
    /// # Errors
    /// Faults that leave nothing to look at, such as a file that does not parse.
    pub(crate) fn check(&self) -> Result<Checked, Failure> {
        Ok(look_at(&self.document()?, &self.registry, &self.config))
    }

    /// Loads the configuration, whatever it says.
    ///
    /// # Errors
    /// Faults that leave nothing to look at.
    pub(crate) fn document(&self) -> Result<Document, Failure> {
        let (environment, not_texts) = overrides::texts(std::env::vars_os());
        if !not_texts.is_empty() {
            return Err(self.refuse(not_texts));
        }
        let kinds: Vec<String> = self.registry.backends().map(|kind| kind.item.kind().to_string()).collect();
        Document::load(&self.config, environment, &[], &kinds).map_err(|faults| self.refuse(faults))
    }

    /// The failure of a configuration with these faults.
    pub(crate) fn refuse(&self, diagnostics: Vec<Diagnostic>) -> Failure {
        Failure::of_config(&self.config.display().to_string(), diagnostics)
    }
}

/// The faults and warnings of a configuration named `path` that holds `content`.
pub(crate) fn diagnose(registry: &Registry, path: &Path, content: Vec<u8>) -> Vec<Diagnostic> {
    match Document::parse(path, content) {
        Ok(document) => look_at(&document, registry, path).diagnostics,
        Err(faults) => faults,
    }
}

fn look_at(document: &Document, registry: &Registry, config: &Path) -> Checked {
    let mut faults = Vec::new();
    let settings = Settings::decode(document, config, &mut faults);
    checked::check(settings, document, registry, faults)
}
