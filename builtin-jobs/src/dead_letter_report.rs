//! What a run did with dead letters, as its output.

use std::collections::BTreeMap;

use scheduler_core::{Name, Output, ReplayFate, Replayed, RunId};
use serde::Serialize;
use serde_json::json;

use crate::dead_letter_archive::Archived;
use crate::dead_letter_survey::{Chosen, Group, Survey};

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

/// The most groups that are shown, the largest first.
const MOST_GROUPS: usize = 100;

/// What was found and done so far.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) is_dry: bool,
    letters: usize,
    in_other_groups: usize,
    came_through: usize,
    failed_again: usize,
    under_way: usize,
    groups: BTreeMap<String, Group>,
    actions: Vec<Action>,
}

/// What was done with one letter, or would be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Action {
    action: What,
    run_id: RunId,
    task: Name,
    /// How often it was replayed before.
    replays: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_run_id: Option<RunId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Canary,
    Replay,
    Archive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Replayed,
    Archived,
    Held,
    Gone,
    Unreadable,
}

impl Report {
    pub(crate) fn new(is_dry: bool) -> Self {
        Self {
            is_dry,
            letters: 0,
            in_other_groups: 0,
            came_through: 0,
            failed_again: 0,
            under_way: 0,
            groups: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    pub(crate) fn survey(&mut self, survey: &Survey) {
        (self.letters, self.in_other_groups) = (survey.letters, survey.in_other_groups);
        self.groups.clone_from(&survey.groups);
    }

    pub(crate) fn count(&mut self, fate: ReplayFate) {
        match fate {
            ReplayFate::UnderWay(_) => self.under_way += 1,
            ReplayFate::Succeeded => self.came_through += 1,
            ReplayFate::Failed(_) => self.failed_again += 1,
            ReplayFate::Gone | ReplayFate::NotReplayed => {}
        }
    }

    pub(crate) fn add(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn group(&mut self, key: &str, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.get_mut(key) {
            change(group);
        }
    }

    /// The output.
    pub(crate) fn shown(self) -> Output {
        let sum = |count: fn(&Group) -> usize| self.groups.values().map(count).sum::<usize>();
        let (replayed, archived) = (sum(|group| group.replayed), sum(|group| group.archived));
        let summary = (self.letters + self.came_through > 0).then(|| {
            let planned = if self.is_dry { format!(", planned {}", self.actions.len()) } else { String::new() };
            format!(
                "letters {}, groups {}, replayed {replayed}, archived {archived}{planned}; of earlier replays {} came \
                 through and {} failed again",
                self.letters,
                self.groups.len(),
                self.came_through,
                self.failed_again
            )
        });
        let totals = json!({
            "letters": self.letters,
            "held": sum(|group| group.held),
            "waiting": sum(|group| group.waiting),
            "given_up": sum(|group| group.given_up),
            "left": sum(|group| group.left),
            "in_other_groups": self.in_other_groups,
            "replayed": replayed,
            "archived": archived,
        });
        let earlier = json!({
            "came_through": self.came_through,
            "failed_again": self.failed_again,
            "under_way": self.under_way,
        });
        let mut groups: Vec<&Group> = self.groups.values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
        groups.truncate(MOST_GROUPS);
        json!({
            "schema_version": SCHEMA_VERSION,
            "summary": summary,
            "dry_run": self.is_dry,
            "totals": totals,
            "earlier_replays": earlier,
            "groups": groups,
            "groups_not_shown": self.groups.len() - groups.len(),
            "actions": self.actions,
        })
    }
}

impl Action {
    fn new(chosen: &Chosen, action: What) -> Self {
        let (run_id, task, replays) = (chosen.run, chosen.task.clone(), chosen.count);
        Self { action, run_id, task, replays, result: None, new_run_id: None }
    }

    /// What would be done.
    pub(crate) fn planned(chosen: &Chosen, is_archive: bool) -> Self {
        Self::new(chosen, if is_archive { What::Archive } else { What::of(chosen) })
    }

    pub(crate) fn replayed(chosen: &Chosen, answer: Replayed) -> Self {
        let (result, new_run_id) = match answer {
            Replayed::As(new) => (Outcome::Replayed, Some(new)),
            Replayed::Unknown => (Outcome::Gone, None),
            Replayed::Held => (Outcome::Held, None),
            Replayed::Unreadable => (Outcome::Unreadable, None),
        };
        Self { result: Some(result), new_run_id, ..Self::new(chosen, What::of(chosen)) }
    }

    pub(crate) fn archived(chosen: &Chosen, archived: Archived) -> Self {
        let result = match archived {
            Archived::Safe => Outcome::Archived,
            Archived::Held => Outcome::Held,
            Archived::Gone => Outcome::Gone,
        };
        Self { result: Some(result), ..Self::new(chosen, What::Archive) }
    }
}

impl What {
    fn of(chosen: &Chosen) -> Self {
        if chosen.is_canary { Self::Canary } else { Self::Replay }
    }
}
