//! Checks what a configuration names against what is there: jobs and their args, backends, tiers.
//!
//! Runs nothing and changes nothing. Every fault is found at once and stands where it was written.

use std::sync::Arc;

use scheduler_core::{Job, Placement, Registry, Site, Task, Tier, Timestamp, hints, place};

use crate::absent;
use crate::adhoc_jobs;
use crate::args_fault;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::layers::Document;
use crate::members::{self, Member};
use crate::origin::Origin;
use crate::settings::Settings;
use crate::suggest::suggestion;
use crate::task_entry::TaskEntry;

/// A configuration that was looked at.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) settings: Settings,
    /// The jobs and kinds of backends, with what the configuration says of jobs.
    pub(crate) registry: Registry,
    /// The backends that could be made, also those that nobody asked for.
    pub(crate) members: Vec<Member>,
    /// The tasks without a fault of their own, by name.
    pub(crate) tasks: Vec<CheckedTask>,
    /// Errors and warnings in the order of the file.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A task whose definition makes sense.
pub(crate) struct CheckedTask {
    pub(crate) task: Task,
    pub(crate) job: Arc<dyn Job>,
    /// Where it runs; `None` when nothing there can run it.
    pub(crate) placement: Option<Placement>,
}

impl std::fmt::Debug for CheckedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedTask").field("task", &self.task.name).finish_non_exhaustive()
    }
}

impl Checked {
    /// The task of this name.
    ///
    /// # Errors
    /// `task/unknown`, with what it may have meant.
    pub(crate) fn task(&self, name: &str) -> Result<&CheckedTask, Failure> {
        self.tasks.iter().find(|task| task.task.name == *name).ok_or_else(|| {
            let known: Vec<&str> = self.tasks.iter().map(|task| task.task.name.as_str()).collect();
            Failure::new(Exit::NotFound, "task/unknown", format!("there is no task `{name}`"))
                .with_help(suggestion(name, "tasks", &known))
        })
    }
}

impl CheckedTask {
    /// When it fires next, judged by its trigger alone.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.task.trigger.as_ref().and_then(|trigger| trigger.next_after(now))
    }
}

/// Checks settings that were decoded with these `faults`.
pub(crate) fn check(
    mut settings: Settings,
    document: &Document,
    registry: &Registry,
    mut faults: Vec<Diagnostic>,
) -> Checked {
    let mut allowing = registry.clone();
    settings.jobs.iter().for_each(|section| section.apply(&mut allowing, document, &mut faults));
    let (mut members, sites) = members::build(&settings, document, registry, &mut faults);
    adhoc_jobs::check(&settings, &members, document, &allowing, &mut faults);
    faults.extend(absent::secrets(&settings.backends, document));
    let now = Timestamp::from(std::time::SystemTime::now());
    let mut tasks = Vec::new();
    if settings.tasks.is_empty() {
        let fault = Diagnostic::warning("config/no_tasks", "there is no task, so nothing runs", Origin::None);
        faults.push(fault.with_help("`scheduler init --config FILE` writes a first one"));
    }
    for entry in std::mem::take(&mut settings.tasks) {
        let mut task = TaskCheck { document, registry, entry: &entry, faults: &mut faults };
        let job = task.job();
        let placement = sites.as_deref().and_then(|sites| task.placement(sites, &members));
        task.warn_of_passed(now);
        task.hint(now);
        if let Some(job) = job.filter(|_| entry.is_sound) {
            tasks.push(CheckedTask { task: entry.task, job, placement });
        }
    }
    faults.extend(crowd(&tasks));
    members::mark_unused(&mut members, document, &tasks, &allowing);
    faults.sort_by(|a, b| position(a).cmp(&position(b)));
    Checked { settings, registry: allowing, members, tasks, diagnostics: faults }
}

fn position(fault: &Diagnostic) -> (bool, &std::path::Path, usize, usize) {
    match &fault.origin {
        Origin::File(at) => (false, &at.path, at.line, at.column),
        Origin::Environment { .. } | Origin::Flag { .. } | Origin::None => (true, "".as_ref(), 0, 0),
    }
}

struct TaskCheck<'a> {
    document: &'a Document,
    registry: &'a Registry,
    entry: &'a TaskEntry,
    faults: &'a mut Vec<Diagnostic>,
}

impl TaskCheck<'_> {
    /// The job made from its args, if neither has a fault.
    fn job(&mut self) -> Option<Arc<dyn Job>> {
        let name = self.entry.job.as_deref()?;
        let Ok(descriptor) = self.registry.job(name) else {
            let fault = self.fault("job/unknown", "/job", format!("no job `{name}` is registered"));
            let fault = fault.with_help(self.unknown_job_help(name));
            self.faults.push(fault);
            return None;
        };
        if !self.entry.has_sound_args {
            return None;
        }
        let built = descriptor.build(&self.entry.task.args);
        let found = match &built {
            Ok(job) => job.check(),
            Err(faults) => faults.clone(),
        };
        for fault in &found {
            self.faults.push(args_fault::diagnose(
                self.document,
                &format!("{}/args", self.entry.pointer),
                "task/bad_args",
                fault,
            ));
        }
        built.ok().filter(|_| found.is_empty())
    }

    fn unknown_job_help(&self, name: &str) -> String {
        let known: Vec<&str> = self.registry.jobs().map(|job| job.item.name().as_str()).collect();
        let suggestion = suggestion(name, "jobs", &known);
        if cfg!(not(feature = "builtin-jobs")) && name == "exec" {
            return format!("build with the feature `builtin-jobs`, which brings it; {suggestion}");
        }
        format!("{suggestion}; a crate that brings one is linked by `use that_crate as _;`")
    }

    fn placement(&mut self, sites: &[Site], members: &[Member]) -> Option<Placement> {
        let task = &self.entry.task;
        let descriptor =
            self.registry.job(self.entry.job.as_deref()?).ok().filter(|_| self.entry.is_sound)?;
        let judged = place(task, descriptor, sites).and_then(|placement| judged(task, placement, members));
        let placement = match judged {
            Ok(placement) => placement,
            Err(error) => {
                let below = match error.code() {
                    "placement/unknown_backend" => "/backend",
                    "placement/job_not_on_tier" if task.tier.is_none() => "/job",
                    code if code.starts_with("placement/") => "/tier",
                    code => self.blamed(code, &error.to_string()),
                };
                let (message, help) = split_remedy(&error.to_string());
                let help = match error.code() {
                    "placement/no_backend" => self.no_kind_help().or_else(|| self.no_section_help()).or(help),
                    _ => help,
                };
                let fault = self.fault(error.code(), below, message);
                self.faults.push(Diagnostic { help, ..fault });
                return None;
            }
        };
        for warning in &placement.warnings {
            let below = match warning.code {
                "task/period_below_timeout" => "/timeout",
                "task/no_timeout" => "",
                "task/tier_disagrees" => "/tier",
                "classify/high_frequency_on_workflow" | "classify/high_frequency_on_queue" => "/trigger",
                code if code.starts_with("classify/") || code.starts_with("task/") => "/characteristics",
                code => self.blamed(code, &warning.message),
            };
            let (message, help) = split_remedy(&format!("task `{}`: {}", task.name, warning.message));
            let origin = self.document.origin(&format!("{}{below}", self.entry.pointer));
            self.faults.push(Diagnostic { help, ..Diagnostic::warning(warning.code, message, origin) });
        }
        if placement.tier != Tier::Workflow {
            self.warn_of_unused("fired_by", placement.tier);
        }
        Some(placement)
    }

    /// The key of the task that its backend complains about: the first that its code or its message names and the task
    /// has.
    fn blamed(&self, code: &str, message: &str) -> &'static str {
        let keys = ["/trigger", "/misfire", "/overlap", "/priority", "/retry", "/timeout", "/args"];
        let is_named = |key: &&str| {
            let word = key.trim_start_matches('/');
            code.contains(word) || message.contains(word)
        };
        let is_there = |key: &&str| self.document.value(&format!("{}{key}", self.entry.pointer)).is_some();
        keys.into_iter().filter(is_named).find(is_there).unwrap_or("")
    }

    /// Whoever moves a task to another tier changes one word; what only the workflow tier reads may stay.
    fn warn_of_unused(&mut self, key: &str, tier: Tier) {
        let place = format!("{}/{key}", self.entry.pointer);
        if self.document.value(&place).is_none() {
            return;
        }
        let message = format!(
            "task `{}`: `{key}` changes nothing on {tier}, where no engine could fire it",
            self.entry.task.name
        );
        let fault = Diagnostic::warning("task/unused_key", message, self.document.origin(&place));
        self.faults.push(fault.with_help("remove it, or leave it for the workflow tier"));
    }

    /// What to do about a tier that no configuration of this program could serve.
    fn no_kind_help(&self) -> Option<String> {
        let task = &self.entry.task;
        let tier = task.tier.unwrap_or_else(|| task.classify().tier);
        if self.registry.backends().any(|kind| kind.item.tier() == tier) {
            return None;
        }
        Some(match tier {
            Tier::Local => "this program has no local tier; build it with the feature `local`".to_owned(),
            Tier::Queue => {
                "this program has no queue tier; build it with the feature `queue-sqlite`".to_owned()
            }
            Tier::Workflow => {
                let build = "build it with the feature `workflow-prefect`";
                format!("this program has no workflow tier; {build}, or set tier = \"queue\"")
            }
        })
    }

    /// What to write for a tier that this program has and the configuration does not. The others are there without a
    /// section of their own.
    fn no_section_help(&self) -> Option<String> {
        let task = &self.entry.task;
        let tier = task.tier.unwrap_or_else(|| task.classify().tier);
        (tier == Tier::Workflow).then(|| {
            "write a section [backends.workflow] with url = \"http://127.0.0.1:4200/api\", set tier to another one, \
             or set on_unavailable = \"fallback\""
                .to_owned()
        })
    }

    fn warn_of_passed(&mut self, now: Timestamp) {
        let task = &self.entry.task;
        let Some(trigger) = task.trigger.as_ref().filter(|trigger| trigger.has_passed(now)) else { return };
        let message = format!("task `{}` never fires again: `{trigger}` has passed", task.name);
        let origin = self.document.origin(&format!("{}/trigger", self.entry.pointer));
        let fault = Diagnostic::warning("trigger/passed", message, origin);
        self.faults.push(fault.with_help("remove the task, or give it a time to come"));
    }

    /// What a trigger does that may not be meant.
    fn hint(&mut self, now: Timestamp) {
        let task = &self.entry.task;
        let Some(trigger) = &task.trigger else { return };
        let cron = format!("{}/trigger/cron", self.entry.pointer);
        let place = match self.document.value(&cron) {
            Some(_) => cron,
            None => format!("{}/trigger", self.entry.pointer),
        };
        for warning in hints::hints(trigger, now) {
            let (message, help) = split_remedy(&format!("task `{}`: {}", task.name, warning.message));
            let origin = self.document.origin(&place);
            self.faults.push(Diagnostic { help, ..Diagnostic::warning(warning.code, message, origin) });
        }
    }

    fn fault(&self, code: &'static str, below: &str, message: String) -> Diagnostic {
        let origin = self.document.origin(&format!("{}{below}", self.entry.pointer));
        Diagnostic::error(code, message, origin)
    }
}

/// Many tasks that fire at once.
fn crowd(tasks: &[CheckedTask]) -> Option<Diagnostic> {
    let timed = tasks.iter().filter_map(|task| Some((&task.task.name, task.task.trigger.as_ref()?)));
    let warning = hints::crowd(timed)?;
    let (message, help) = split_remedy(&warning.message);
    Some(Diagnostic { help, ..Diagnostic::warning(warning.code, message, Origin::None) })
}

/// The placement with what its backend says of the task, as the scheduler asks it.
fn judged(task: &Task, mut placement: Placement, members: &[Member]) -> scheduler_core::Result<Placement> {
    let mut backends = members.iter().map(|member| &member.backend);
    if let Some(backend) = backends.find(|backend| backend.info().name == placement.backend) {
        placement.warnings.extend(backend.judge(task)?);
    }
    Ok(placement)
}

/// Core's messages end in the remedy, behind a semicolon.
fn split_remedy(message: &str) -> (String, Option<String>) {
    match message.split_once("; ") {
        Some((message, remedy)) => (message.to_owned(), Some(remedy.to_owned())),
        None => (message.to_owned(), None),
    }
}
