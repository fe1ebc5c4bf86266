//! Checks the jobs that backends run without a task because their settings say so.

use scheduler_core::Registry;

use crate::diagnostic::Diagnostic;
use crate::layers::Document;
use crate::members::Member;
use crate::settings::Settings;
use crate::suggest::suggestion;

/// Adds a fault for each that is unknown, may not run without a task, or does not run on the backend's tier.
pub(crate) fn check(
    settings: &Settings,
    members: &[Member],
    document: &Document,
    registry: &Registry,
    faults: &mut Vec<Diagnostic>,
) {
    for member in members {
        let info = member.backend.info();
        let Some(section) = settings.backends.iter().find(|section| section.name == info.name) else {
            continue;
        };
        for (pointer, job) in member.backend.adhoc_jobs() {
            let origin = document.origin(&format!("{}{pointer}", section.pointer));
            let fault = match registry.job(job.as_str()) {
                Err(_) => {
                    let known: Vec<&str> = registry.jobs().map(|job| job.item.name().as_str()).collect();
                    Diagnostic::error("job/unknown", format!("no job `{job}` is registered"), origin)
                        .with_help(suggestion(job.as_str(), "jobs", &known))
                }
                Ok(found) if !found.is_adhoc() => {
                    let message = format!("job `{job}` may not run without a task here");
                    let help = format!("set adhoc = true in [jobs.{job}], or name a job that may");
                    Diagnostic::error("job/not_adhoc", message, origin).with_help(help)
                }
                Ok(found) if !found.tiers().contains(&info.tier) => {
                    let message = format!("job `{job}` does not run on the tier {}", info.tier);
                    Diagnostic::error("placement/job_not_on_tier", message, origin)
                        .with_help("name a job that does")
                }
                Ok(_) => continue,
            };
            faults.push(fault);
        }
    }
}
