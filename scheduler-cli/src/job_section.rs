//! Decodes `[jobs.NAME]`: whether a job may run without a task, and for how long.

use std::time::Duration;

use scheduler_core::Registry;

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::layers::Document;
use crate::suggest::suggestion;

/// One section under `[jobs]`.
#[derive(Debug)]
pub(crate) struct JobSection {
    /// Where it stands.
    pointer: String,
    name: String,
    adhoc: Option<bool>,
    timeout: Option<Duration>,
}

impl JobSection {
    pub(crate) fn decode(name: &str, mut fields: Fields<'_>, faults: &mut Vec<Diagnostic>) -> Self {
        let adhoc = fields.take("adhoc", faults);
        let timeout = fields.take("timeout", faults);
        if timeout == Some(Duration::ZERO) {
            let message = format!("{} is 0s, which ends every attempt at once", fields.subject("timeout"));
            let help = "leave it out for the time limit of the job, one hour unless it says otherwise";
            faults.push(fields.fault("config/out_of_range", "timeout", message).with_help(help));
        }
        let pointer = fields.pointer().to_owned();
        fields.finish(faults);
        Self { pointer, name: name.to_owned(), adhoc, timeout }
    }

    /// Lets the job run without a task, or not, as the section says.
    pub(crate) fn apply(&self, registry: &mut Registry, document: &Document, faults: &mut Vec<Diagnostic>) {
        let Ok(job) = registry.job(&self.name) else {
            let known: Vec<&str> = registry.jobs().map(|job| job.item.name().as_str()).collect();
            let message = format!("no job `{}` is registered", self.name);
            let fault = Diagnostic::error("job/unknown", message, document.key_origin(&self.pointer));
            faults.push(fault.with_help(suggestion(&self.name, "jobs", &known)));
            return;
        };
        let is_allowed = self.adhoc.unwrap_or(job.is_adhoc());
        // It is known, so there is nothing to refuse.
        let _ = registry.allow_adhoc(&self.name, is_allowed, self.timeout);
    }
}
