//! What our things are called in an engine: keys, tags and slugs, and the way back from them.
//!
//! Everything begins with `hs:` and carries the namespace, so that two schedulers on one engine never meet.

use scheduler_core::{Name, RunId, RunOrigin, RunRequest, Timestamp};
use serde_json::{Map, Value};

use crate::engine::EngineRun;

/// On whatever is ours, of every namespace.
const OURS: &str = "hybrid-scheduler";

/// Makes and reads the names of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) namespace: Name,
}

/// Which run of ours a run of the engine is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) run_id: RunId,
    pub(crate) task: Name,
    pub(crate) fire_time: Timestamp,
    pub(crate) origin: RunOrigin,
    /// What was given when it was triggered.
    pub(crate) params: Map<String, Value>,
}

impl Names {
    /// The key under which a run is started; the same key is the same run.
    pub(crate) fn key(&self, run: RunId) -> String {
        format!("hs:{}:{run}", self.namespace)
    }

    /// The slug of a task's schedule.
    pub(crate) fn slug(&self, task: &Name) -> String {
        format!("{}{task}", self.slug_prefix())
    }

    /// What every slug of ours begins with.
    pub(crate) fn slug_prefix(&self) -> String {
        format!("hs:{}:", self.namespace)
    }

    /// The task whose schedule has this slug.
    pub(crate) fn task_of_slug(&self, slug: &str) -> Option<Name> {
        slug.strip_prefix(&self.slug_prefix()).and_then(|task| Name::new(task).ok())
    }

    /// The name of the workflow that runs a task of ours.
    pub(crate) fn deployment(&self, task: &Name) -> String {
        format!("{}{task}", self.deployment_prefix())
    }

    /// What the name of every workflow that runs a task of ours begins with.
    pub(crate) fn deployment_prefix(&self) -> String {
        format!("{}.", self.namespace)
    }

    /// The task that a workflow of ours runs.
    pub(crate) fn task_of_deployment(&self, deployment: &str) -> Option<Name> {
        let task = deployment.strip_prefix(self.namespace.as_str())?.strip_prefix('.')?;
        Name::new(task).ok()
    }

    /// On every run of this namespace, whoever made it.
    pub(crate) fn namespace_tag(&self) -> String {
        format!("hs:namespace:{}", self.namespace)
    }

    /// On every run that we started, and on none that a schedule of the engine made.
    pub(crate) fn launch_tag(&self) -> String {
        format!("hs:launched:{}", self.namespace)
    }

    /// On every run of this task, whoever made it.
    pub(crate) fn task_tag(&self, task: &Name) -> String {
        format!("hs:task:{}.{task}", self.namespace)
    }

    /// The tags of a run that we start. They are all that the engine keeps of the request.
    pub(crate) fn launch_tags(&self, request: &RunRequest) -> Vec<String> {
        let mut tags = vec![
            OURS.to_owned(),
            self.namespace_tag(),
            self.launch_tag(),
            self.task_tag(&request.task),
            format!("hs:run:{}", request.run_id),
            format!("hs:origin:{}", request.origin),
        ];
        if request.due != request.fire_time {
            tags.push(format!("hs:fire:{}", request.fire_time));
        }
        tags.extend(request.params.keys().map(|name| format!("hs:param:{name}")));
        tags
    }

    /// Reads the tags of a run that we started; `None` when it is none of ours.
    ///
    /// Copies that a person makes of a run in the engine may carry its tags, but not its key.
    pub(crate) fn launched(&self, run: &EngineRun) -> Option<Identity> {
        let run_id: RunId = tag(run, "hs:run:")?.parse().ok()?;
        if run.key.as_deref() != Some(self.key(run_id).as_str()) {
            return None;
        }
        let scheduled_for = run.scheduled_for.or(run.started)?;
        let fire_time = tag(run, "hs:fire:").and_then(|at| at.parse().ok()).unwrap_or(scheduled_for);
        let origin = match tag(run, "hs:origin:") {
            Some("schedule") => RunOrigin::Schedule,
            _ => RunOrigin::Manual,
        };
        Some(Identity { run_id, task: self.tagged_task(run)?, fire_time, origin, params: given_params(run) })
    }

    /// The task that a run's tags name.
    pub(crate) fn tagged_task(&self, run: &EngineRun) -> Option<Name> {
        tag(run, "hs:task:").and_then(|task| self.task_of_deployment(task))
    }

    /// The identity of a run that a schedule of the engine made.
    pub(crate) fn scheduled(&self, task: Name, fire_time: Timestamp) -> Identity {
        let run_id = RunId::scheduled(&self.namespace, &task, fire_time);
        Identity { run_id, task, fire_time, origin: RunOrigin::Schedule, params: Map::new() }
    }

    /// The identity of a run that a person made in the engine: its id there, written as ours are.
    pub(crate) fn by_hand(&self, task: Name, run: &EngineRun) -> Option<Identity> {
        let fire_time = run.scheduled_for.or(run.started)?;
        let run_id = run_id_of_uuid(&run.id.0)
            .unwrap_or_else(|| RunId::keyed(&self.namespace, &task, &format!("engine/{}", run.id.0)));
        Some(Identity { run_id, task, fire_time, origin: RunOrigin::Manual, params: given_params(run) })
    }
}

fn tag<'a>(run: &'a EngineRun, prefix: &str) -> Option<&'a str> {
    run.tags.iter().find_map(|tag| tag.strip_prefix(prefix))
}

/// What was given when a run was triggered: a workflow of ours has it as one parameter, another one among its own.
fn given_params(run: &EngineRun) -> Map<String, Value> {
    let names: Vec<&str> = run.tags.iter().filter_map(|tag| tag.strip_prefix("hs:param:")).collect();
    let hosted = run.parameters.get("params").and_then(Value::as_object);
    let given = |name: &&str| {
        let value = hosted.and_then(|params| params.get(*name)).or_else(|| run.parameters.get(*name))?;
        Some(((*name).to_owned(), value.clone()))
    };
    names.iter().filter_map(given).collect()
}

/// The 128 bits of a UUID as a run id.
fn run_id_of_uuid(uuid: &str) -> Option<RunId> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hex: String = uuid.chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let number = u128::from_str_radix(&hex, 16).ok()?;
    let digit = |place: usize| char::from(ALPHABET[(number >> (125 - 5 * place) & 31) as usize]);
    (0..26).map(digit).collect::<String>().parse().ok()
}

/// A run id as the UUID that it may stand for.
pub(crate) fn uuid_of(run: RunId) -> String {
    let hex = format!("{:032x}", run.as_u128());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_world::run;

    fn names() -> Names {
        Names { namespace: Name::new("default").unwrap() }
    }

    fn task() -> Name {
        Name::new("backup").unwrap()
    }

    #[test]
    fn what_a_run_was_asked_for_with_is_read_back_from_the_engine() {
        let (asked, due) = (Timestamp::from_millis(1_000), Timestamp::from_millis(5_000));
        let mut request = RunRequest::manual(RunId::manual(asked), task(), asked);
        request.due = due;
        request.params.insert("who".into(), "x".into());
        let mut seen = run("1");
        seen.key = Some(names().key(request.run_id));
        seen.tags = names().launch_tags(&request);
        seen.scheduled_for = Some(due);
        seen.parameters = Map::from_iter([("who".into(), "x".into()), ("own".into(), 1.into())]);

        let identity = names().launched(&seen).unwrap();

        assert_eq!((identity.run_id, identity.fire_time), (request.run_id, asked));
        assert_eq!((identity.origin, identity.params), (RunOrigin::Manual, request.params));
    }

    #[test]
    fn a_copy_of_a_run_and_a_run_of_another_namespace_are_not_that_run() {
        let request = RunRequest::scheduled(
            RunId::manual(Timestamp::from_millis(1)),
            task(),
            Timestamp::from_millis(1),
        );
        let mut copy = run("1");
        copy.tags = names().launch_tags(&request);
        copy.scheduled_for = Some(Timestamp::from_millis(1));
        assert_eq!(names().launched(&copy), None);
        copy.key = Some(names().key(request.run_id));
        assert!(names().launched(&copy).is_some());
        assert_eq!(Names { namespace: Name::new("other").unwrap() }.launched(&copy), None);
    }

    #[test]
    fn slugs_and_workflows_name_their_task_and_no_foreign_one() {
        assert_eq!(names().task_of_slug(&names().slug(&task())), Some(task()));
        assert_eq!(names().task_of_deployment(&names().deployment(&task())), Some(task()));
        for foreign in ["hs:other:backup", "nightly", "hs:default:Not A Name"] {
            assert_eq!(names().task_of_slug(foreign), None, "{foreign}");
        }
        assert_eq!(names().task_of_deployment("defaultx.backup"), None);
    }

    #[test]
    fn a_run_made_by_hand_is_named_by_its_id_in_the_engine() {
        let uuid = "0197f2a4-5b6c-7d8e-9fa0-b1c2d3e4f506";
        let id = run_id_of_uuid(uuid).unwrap();
        assert_eq!(uuid_of(id), uuid);
        assert_eq!(run_id_of_uuid("no-uuid"), None);
    }
}
