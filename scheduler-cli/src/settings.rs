//! Decodes the configuration: what `[scheduler]` says, the backends' sections, and the tasks.
//!
//! Knows no job and no backend: whether what is named here exists is looked at when it is checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use scheduler_core::{Name, Tier, cron};
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::job_section::JobSection;
use crate::layers::Document;
use crate::suggest::with_zone_suggestion;
use crate::task_entry::{self, TaskEntry};

/// What a configuration says.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Part of every run's identity.
    pub(crate) namespace: Name,
    /// The zone of tasks that name none.
    pub(crate) timezone: String,
    /// The file that says it, absolute.
    pub(crate) config_file: PathBuf,
    /// The folder for state and history, absolute.
    pub(crate) data_dir: PathBuf,
    /// How long runs have to end when the daemon stops.
    pub(crate) shutdown_grace: Duration,
    /// The sections under `[backends]`; none when there is no such table.
    pub(crate) backends: Vec<BackendSection>,
    /// The sections under `[jobs]`.
    pub(crate) jobs: Vec<JobSection>,
    /// The tasks, by name.
    pub(crate) tasks: Vec<TaskEntry>,
}

/// One section under `[backends]`.
#[derive(Debug)]
pub(crate) struct BackendSection {
    /// Where it stands.
    pub(crate) pointer: String,
    /// The backend's name.
    pub(crate) name: Name,
    /// What it is an instance of; its name unless `kind` is set.
    pub(crate) kind: String,
    /// Whether its tier uses it when a task names none.
    pub(crate) is_default: bool,
    /// Whether the daemon refuses to start without it, if that was said; see [`is_required`].
    pub(crate) required: Option<bool>,
    /// The keys that its kind reads.
    pub(crate) config: Value,
}

impl Settings {
    /// Decodes the configuration of `file`, from whose folder relative paths count.
    pub(crate) fn decode(document: &Document, file: &Path, faults: &mut Vec<Diagnostic>) -> Self {
        let mut top = Fields::new(document);
        let scheduler = top.table("scheduler", faults).map(|fields| Scheduler::decode(fields, faults));
        let scheduler = scheduler.unwrap_or_default();
        let backends = top
            .tables("backends", faults)
            .into_iter()
            .map(|(name, fields)| BackendSection::decode(&name, fields, document, faults))
            .collect();
        let jobs = top
            .tables("jobs", faults)
            .into_iter()
            .map(|(name, fields)| JobSection::decode(&name, fields, faults))
            .collect();
        let tasks = top
            .tables("tasks", faults)
            .into_iter()
            .map(|(name, fields)| task_entry::decode(&name, fields, &scheduler.timezone, faults))
            .collect();
        top.finish(faults);
        let data_dir = file.parent().unwrap_or(Path::new("")).join(scheduler.data_dir);
        Self {
            namespace: scheduler.namespace,
            timezone: scheduler.timezone,
            config_file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
            // A folder that is gone leaves the relative path, and whoever opens it reports that.
            data_dir: std::path::absolute(&data_dir).unwrap_or(data_dir),
            shutdown_grace: scheduler.shutdown_grace,
            backends,
            jobs,
            tasks,
        }
    }
}

/// The section `[scheduler]`.
pub(crate) struct Scheduler {
    pub(crate) namespace: Name,
    pub(crate) timezone: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) shutdown_grace: Duration,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            namespace: Name::new("default").expect("`default` is a name"),
            timezone: "UTC".to_owned(),
            data_dir: "data".into(),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Scheduler {
    fn decode(mut fields: Fields<'_>, faults: &mut Vec<Diagnostic>) -> Self {
        let default = Self::default();
        let namespace = fields.take::<String>("namespace", faults).and_then(|text| {
            let named = Name::new(&text);
            named
                .map_err(|error| faults.push(fields.fault(error.code(), "namespace", error.to_string())))
                .ok()
        });
        let timezone = fields.take::<String>("timezone", faults).filter(|zone| {
            let checked = cron::check_zone(zone);
            checked
                .map_err(|error| fields.fault(error.code(), "timezone", error.to_string()))
                .map_err(|fault| faults.push(with_zone_suggestion(fault, zone)))
                .is_ok()
        });
        // Joined to the folder of the configuration it would be that folder itself.
        let is_empty = |folder: &PathBuf| folder.as_os_str().is_empty();
        let data_dir = fields.take::<PathBuf>("data_dir", faults);
        if data_dir.as_ref().is_some_and(is_empty) {
            let fault = fields.fault("config/out_of_range", "data_dir", "`data_dir` is empty".to_owned());
            faults.push(fault.with_help("write a folder, or leave it out for \"data\""));
        }
        let decoded = Self {
            namespace: namespace.unwrap_or(default.namespace),
            timezone: timezone.unwrap_or(default.timezone),
            data_dir: data_dir.unwrap_or(default.data_dir),
            shutdown_grace: fields.take("shutdown_grace", faults).unwrap_or(default.shutdown_grace),
        };
        fields.finish(faults);
        decoded
    }
}

/// Whether the daemon refuses to start without a backend that does not say. An engine is a server of its own with a
/// life of its own, and the other tiers do not wait for it.
pub(crate) fn is_required(tier: Tier) -> bool {
    tier != Tier::Workflow
}

impl BackendSection {
    /// The keys that the host reads; the others belong to the backend's kind.
    const OURS: [&str; 3] = ["kind", "default", "required"];

    fn decode(name: &str, mut fields: Fields<'_>, document: &Document, faults: &mut Vec<Diagnostic>) -> Self {
        let mut config =
            document.value(fields.pointer()).and_then(Value::as_object).cloned().unwrap_or_default();
        config.retain(|key, _| !Self::OURS.contains(&key.as_str()));
        Self {
            pointer: fields.pointer().to_owned(),
            name: task_entry::name_or_placeholder(name),
            kind: fields.take("kind", faults).unwrap_or_else(|| name.to_owned()),
            is_default: fields.take("default", faults).unwrap_or(false),
            required: fields.take("required", faults),
            config: Value::Object(config),
        }
    }
}
