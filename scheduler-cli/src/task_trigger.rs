//! Decodes when a task fires: one table whose keys are looked at together once each was read.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use scheduler_core::cron::Dialect;
use scheduler_core::{Bounds, Error, Name, Rule, Timestamp, Trigger};

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::pointer;
use crate::suggest::with_zone_suggestion;

const FORMS_OF_A_TRIGGER: &str =
    "write { cron = \"30 2 * * *\" }, { every = \"30s\" } or { at = \"2026-12-01T00:00:00Z\" }";

/// The trigger of a task, if it has one without a fault.
pub(crate) fn take(
    task: &mut Fields<'_>,
    name: &Name,
    timezone: &str,
    faults: &mut Vec<Diagnostic>,
) -> Option<Trigger> {
    let before = faults.len();
    let Some(mut fields) = task.table("trigger", faults) else {
        if let Some(fault) = faults.get_mut(before) {
            fault.help = Some(FORMS_OF_A_TRIGGER.to_owned());
        }
        return None;
    };
    let keys = Keys::read(&mut fields, faults);
    let trigger = match faults.len() == before {
        true => keys.trigger(&fields, name, timezone).map_err(|fault| faults.push(*fault)).ok(),
        false => None,
    };
    fields.finish(faults);
    trigger
}

/// What stands in the table.
struct Keys {
    cron: Option<String>,
    timezone: Option<String>,
    dialect: Option<Dialect>,
    every: Option<Duration>,
    is_after_finish: bool,
    at: Option<Timestamp>,
    bounds: Bounds,
}

type Checked<T> = Result<T, Box<Diagnostic>>;

impl Keys {
    fn read(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> Self {
        Self {
            cron: fields.take("cron", faults),
            timezone: fields.take("timezone", faults),
            dialect: fields.word("dialect", &Dialect::ALL.map(|dialect| (dialect.name(), dialect)), faults),
            every: fields.take("every", faults),
            is_after_finish: fields.word("after", &[("finish", true)], faults).unwrap_or(false),
            at: instant(fields, "at", faults),
            bounds: Bounds {
                start: instant(fields, "start", faults),
                end: instant(fields, "end", faults),
                max_runs: fields.take::<NonZeroU64>("max_runs", faults),
                jitter: fields.take("jitter", faults).unwrap_or_default(),
            },
        }
    }

    fn trigger(&self, fields: &Fields<'_>, name: &Name, timezone: &str) -> Checked<Trigger> {
        let (key, rule) = match (&self.cron, self.every, self.at) {
            (Some(expression), None, None) => {
                let zone = self.timezone.as_deref().unwrap_or(timezone);
                let dialect = self.dialect.unwrap_or_default();
                let rule = Rule::cron(dialect, expression, zone, name.as_str());
                ("cron", rule.map_err(|error| explained(fields, "cron", &error))?)
            }
            (None, Some(pause), None) if self.is_after_finish => ("every", Rule::AfterFinish(pause)),
            (None, Some(period), None) => ("every", Rule::Every(period)),
            (None, None, Some(at)) => ("at", Rule::At(at)),
            (None, None, None) => {
                let message = format!("{} says no time", pointer::subject(fields.pointer()));
                let fault = fields.fault_below("trigger/no_rule", "", message);
                return Err(Box::new(fault.with_help(FORMS_OF_A_TRIGGER)));
            }
            _ => {
                let message = format!(
                    "{} says more than one of `cron`, `every` and `at`",
                    pointer::subject(fields.pointer())
                );
                let fault = fields.fault_below("trigger/several_rules", "", message);
                return Err(Box::new(fault.with_help("keep one of them")));
            }
        };
        let useless = match &rule {
            Rule::Cron(_) | Rule::AtStart if self.is_after_finish => Some("after"),
            Rule::Every(_) | Rule::AfterFinish(_) if self.timezone.is_some() => Some("timezone"),
            Rule::At(_) | Rule::AtStart if self.timezone.is_some() => Some("timezone"),
            Rule::Every(_) | Rule::AfterFinish(_) | Rule::At(_) if self.dialect.is_some() => Some("dialect"),
            Rule::At(_) if self.is_after_finish => Some("after"),
            Rule::Cron(_) | Rule::AtStart | Rule::Every(_) | Rule::AfterFinish(_) | Rule::At(_) => None,
        };
        if let Some(useless) = useless {
            let message = format!("{} means nothing beside `{key}`", fields.subject(useless));
            return Err(Box::new(fields.fault("config/no_effect", useless, message).with_help("remove it")));
        }
        Trigger::new(rule, self.bounds.clone()).map_err(|error| explained(fields, key, &error))
    }
}

/// The fault of a rule at the key that its code is about.
fn explained(fields: &Fields<'_>, rule: &str, error: &Error) -> Box<Diagnostic> {
    let key = match error.code() {
        "cron/unknown_zone" if fields.has("timezone") => "timezone",
        "trigger/bad_jitter" => "jitter",
        "trigger/never_fires" if fields.has("end") => "end",
        _ => rule,
    };
    let fault = fields.fault(error.code(), key, format!("{}: {error}", fields.subject(key)));
    Box::new(match fields.text(key).filter(|_| error.code() == "cron/unknown_zone") {
        Some(zone) => with_zone_suggestion(fault, zone),
        None => fault,
    })
}

fn instant(fields: &mut Fields<'_>, key: &'static str, faults: &mut Vec<Diagnostic>) -> Option<Timestamp> {
    let text: String = fields.take(key, faults)?;
    let read = Timestamp::from_str(&text);
    read.map_err(|error| {
        let message = format!("{}: {error}", fields.subject(key));
        faults.push(fields.fault(error.code(), key, message));
    })
    .ok()
}
