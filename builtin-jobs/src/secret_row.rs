//! How one secret stands after a look at it and maybe a rotation, and what is told of that.

use scheduler_core::Timestamp;
use serde_json::{Value, json};

use crate::secret_due::Status;
use crate::secret_rotation::Outcome;
use crate::secret_rotation_check::{SecretCheck, Seen};
use crate::secret_trail::Event;

/// The most secrets of one place that are shown, the worst first.
const MOST_ITEMS: usize = 100;

/// What is told of one place.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) check: &'a SecretCheck,
    pub(crate) seen: Seen,
    /// Whether an earlier rotation was cut off.
    pub(crate) is_between: bool,
    pub(crate) rotation: Option<Told>,
}

/// How a rotation went.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) fault: Option<String>,
    pub(crate) events: Vec<Event>,
}

impl Row<'_> {
    /// What was done with it, or would be, if that is the case.
    pub(crate) fn rotated(&self) -> Option<String> {
        let does = match self.rotation.as_ref()?.outcome {
            Outcome::Planned => "would rotate",
            Outcome::Rotated => "rotated",
            Outcome::Finished => "finished the rotation of",
            Outcome::RolledBack => "took back the rotation of",
            Outcome::NotDue | Outcome::Failed => return None,
        };
        Some(format!("{does} {}", self.check.name))
    }

    /// What somebody must look at, in one line.
    pub(crate) fn trouble(&self, now: Timestamp) -> Option<String> {
        let name = &self.check.name;
        let mut told = Vec::new();
        if let Some(Told { outcome, fault: Some(fault), .. }) = &self.rotation {
            let ended = match outcome {
                Outcome::RolledBack => "rolled back",
                Outcome::Rotated | Outcome::Finished => "rotated, but",
                Outcome::Planned | Outcome::NotDue | Outcome::Failed => "not rotated",
            };
            told.push(format!("{ended}: {fault}"));
        } else if self.is_between {
            told.push(
                "a rotation was cut off; a run with `rotate = true` finishes it or takes it back".to_owned(),
            );
        }
        let worst = self.seen.items.iter().map(|item| (item, self.seen.judged(item, now)));
        let worst = worst.filter(|(_, (status, _))| *status != Status::Current);
        if let Some((item, (status, why))) = worst.max_by_key(|(_, (status, _))| *status) {
            let which = if item.name == *name { String::new() } else { format!("{}: ", item.name) };
            told.push(format!("{} ({which}{why})", status.as_str()));
        }
        let open = self.seen.items.iter().find_map(|item| Some((item, item.findings.first()?)));
        told.extend(open.map(|(_, finding)| finding.clone()));
        (!told.is_empty()).then(|| format!("{name} {}", told.join(", ")))
    }

    pub(crate) fn shown(&self, now: Timestamp) -> Value {
        let mut items: Vec<(Status, Value)> = self
            .seen
            .items
            .iter()
            .map(|item| {
                let (status, message) = self.seen.judged(item, now);
                let dates = item.dates.clone().unwrap_or_default();
                let shown = json!({
                    "name": item.name,
                    "status": status,
                    "message": message,
                    "created_at": dates.created,
                    "expires_at": dates.expires,
                    "findings": item.findings,
                });
                (status, shown)
            })
            .collect();
        items.sort_by_key(|(status, _)| std::cmp::Reverse(*status));
        let count = items.len();
        let findings = self.seen.items.iter().map(|item| item.findings.len()).sum::<usize>();
        let items: Vec<Value> = items.into_iter().take(MOST_ITEMS).map(|(_, shown)| shown).collect();
        let rotation = self
            .rotation
            .as_ref()
            .map(|told| json!({"result": told.outcome, "reason": told.fault, "events": told.events}));
        json!({
            "name": self.check.name,
            "kind": self.check.kind,
            "status": self.seen.status(now),
            "findings": findings,
            "is_cut_off": self.is_between,
            "items": items,
            "items_not_shown": count.saturating_sub(MOST_ITEMS),
            "rotation": rotation,
        })
    }
}
