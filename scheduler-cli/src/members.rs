//! Makes the backends that a configuration names.

use std::sync::Arc;

use scheduler_core::{
    Backend, BackendInfo, BackendKind, BackendRole, BackendSettings, Name, Registry, Site, Tier,
};
use serde_json::{Map, Value};

use crate::args_fault;
use crate::checked::CheckedTask;
use crate::diagnostic::Diagnostic;
use crate::layers::Document;
use crate::settings::{BackendSection, Settings, is_required};
use crate::suggest::suggestion;

/// A backend, and the part it plays.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) role: BackendRole,
    /// Whether the daemon has it: not if nobody asked for it and nothing is placed on it.
    pub(crate) is_used: bool,
}

/// The backends that could be made, and every site a task may be placed on. The sites are `None` when a
/// section's kind is unknown: then nobody knows what is missing.
pub(crate) fn build(
    settings: &Settings,
    document: &Document,
    registry: &Registry,
    faults: &mut Vec<Diagnostic>,
) -> (Vec<Member>, Option<Vec<Site>>) {
    if document.value("/backends").is_none() {
        return implied(settings, registry);
    }
    let (mut members, mut sites, mut all_known) = (Vec::new(), Vec::new(), true);
    for section in &settings.backends {
        let Ok(kind) = registry.backend(&section.kind) else {
            faults.push(unknown_kind(section, document, registry));
            all_known = false;
            continue;
        };
        let built = kind.build(&section.settings(settings));
        let required = section.required.unwrap_or_else(|| is_required(kind.tier()));
        let role = BackendRole { is_default: section.is_default, required };
        let info = match &built {
            Ok(backend) => backend.info(),
            // A faulty section still has its place: its tasks are not to blame.
            Err(_) => BackendInfo::new(section.name.clone(), kind.kind().as_str(), kind.tier(), &[]),
        };
        let second =
            role.is_default && sites.iter().any(|site: &Site| site.is_default && site.info.tier == info.tier);
        if second {
            let message = format!("backend `{}` is a second default of tier {}", section.name, info.tier);
            let origin = document.origin(&format!("{}/default", section.pointer));
            faults.push(
                Diagnostic::error("config/two_defaults", message, origin)
                    .with_help("keep one default a tier"),
            );
        }
        sites.push(Site { info, is_default: role.is_default, is_down: false });
        match built {
            Ok(backend) => members.push(Member { backend, role, is_used: true }),
            Err(found) => {
                let place = &section.pointer;
                let told = |fault| args_fault::diagnose(document, place, "backend/bad_config", fault);
                faults.extend(found.iter().map(told));
            }
        }
    }
    (members, all_known.then_some(sites))
}

/// The kinds that a configuration without `[backends]` has, as far as the program has them.
const IMPLIED: [&str; 2] = ["local", "queue"];

fn implied(settings: &Settings, registry: &Registry) -> (Vec<Member>, Option<Vec<Site>>) {
    let made = IMPLIED.into_iter().filter_map(|name| {
        let kind = registry.backend(name).ok()?;
        let config = Value::Object(Map::new());
        let data_dir = Some(settings.data_dir.clone());
        let backend = kind.build(&BackendSettings::new(kind.kind().clone(), config, data_dir)).ok()?;
        Some(Member { backend, role: BackendRole::default(), is_used: true })
    });
    let members: Vec<Member> = made.collect();
    let site = |member: &Member| Site { info: member.backend.info(), is_default: false, is_down: false };
    let sites = members.iter().map(site).collect();
    (members, Some(sites))
}

/// Marks what nobody asked for: a durable tier without a task of its own, or a job that needs none, would only
/// make a file.
pub(crate) fn mark_unused(
    members: &mut [Member],
    document: &Document,
    tasks: &[CheckedTask],
    registry: &Registry,
) {
    let has_adhoc = registry.jobs().any(|job| job.item.is_adhoc());
    if has_adhoc || document.value("/backends").is_some() {
        return;
    }
    for member in members {
        let info = member.backend.info();
        let mut placements = tasks.iter().filter_map(|task| task.placement.as_ref());
        member.is_used =
            info.tier == Tier::Local || placements.any(|placement| placement.backend == info.name);
    }
}

impl BackendSection {
    fn settings(&self, settings: &Settings) -> BackendSettings {
        BackendSettings::new(self.name.clone(), self.config.clone(), Some(settings.data_dir.clone()))
            .with_config_file(&settings.config_file)
    }
}

fn unknown_kind(section: &BackendSection, document: &Document, registry: &Registry) -> Diagnostic {
    let kind = section.kind.as_str();
    let known: Vec<&str> = registry.backends().map(|kind| kind.item.kind()).map(Name::as_str).collect();
    let place = format!("{}/kind", section.pointer);
    let origin = match document.value(&place) {
        Some(_) => document.origin(&place),
        None => document.key_origin(&section.pointer),
    };
    let (message, help) = match kind {
        "local" => (
            format!("backend kind `{kind}` is not compiled in"),
            "build with the feature `local` of scheduler-cli".to_owned(),
        ),
        "queue" => (
            format!("backend kind `{kind}` is not compiled in"),
            "build with the feature `queue-sqlite` of scheduler-cli".to_owned(),
        ),
        "workflow" => (
            format!("backend kind `{kind}` is not compiled in"),
            "build with the feature `workflow-prefect` of scheduler-cli".to_owned(),
        ),
        _ => (
            format!("no backend kind `{kind}` is registered"),
            format!(
                "{}; a crate that brings one is linked by `use that_crate as _;`",
                suggestion(kind, "known kinds", &known)
            ),
        ),
    };
    Diagnostic::error("backend/unknown", message, origin).with_help(help)
}

/// A backend of this kind with the defaults, to ask what it can do.
pub(crate) fn sample(kind: &BackendKind) -> Option<Arc<dyn Backend>> {
    kind.build(&BackendSettings::new(kind.kind().clone(), Value::Object(Map::new()), None)).ok()
}
