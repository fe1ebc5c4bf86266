//! The neighbours: which queues of apalis are taken over, and as what.
//!
//! A program that pushes with `apalis_redis::RedisStorage` goes on as it is; what it pushed is moved into our queue and
//! runs with our promises. The jobs that it may become are those that run without a task: whoever may write to Redis
//! decides about their args.

use std::collections::BTreeMap;

use scheduler_core::{ArgsError, Error, Name, Registry, Result, Tier};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::QueueConfig;

/// What becomes of the jobs in a queue of apalis.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AdoptSettings {
    /// The job that runs, with the payload as its args. It must be one that runs without a task.
    #[schemars(with = "String")]
    pub job: Name,
    /// The queue of ours that they wait in; `default` unless set.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub queue: Option<Name>,
}

impl AdoptSettings {
    /// Settings that make this job of them.
    pub fn new(job: Name) -> Self {
        Self { job, queue: None }
    }
}

/// Every fault of the section `adopt`.
pub(crate) fn faults(config: &QueueConfig, is_on_redis: bool) -> Vec<ArgsError> {
    let mut faults = Vec::new();
    let known = config.queue_names();
    for (from, settings) in &config.adopt {
        let place = place_of(from);
        if !is_on_redis {
            let message =
                "jobs of apalis are taken over within one Redis, and the runs of this queue are in a file";
            let help = "write a `redis://` URL, that of the Redis that they are pushed to, or leave it out";
            faults.push(ArgsError::new(&place, message).with_help(help));
        }
        if let Some(queue) = settings.queue.as_ref().filter(|queue| !known.contains(*queue)) {
            let message = format!("there is no queue `{queue}`");
            let help =
                format!("add it to `queues`, or name one of {}", listed(known.iter().map(Name::as_str)));
            faults.push(ArgsError::new(format!("{place}/queue"), message).with_help(help));
        }
    }
    faults
}

/// The jobs that are named, each with the place that names it.
pub(crate) fn jobs(adopt: &BTreeMap<String, AdoptSettings>) -> Vec<(String, Name)> {
    adopt.iter().map(|(from, settings)| (format!("{}/job", place_of(from)), settings.job.clone())).collect()
}

/// Looks whether this process can run what it would take over.
///
/// # Errors
/// `job/unknown`, `job/not_adhoc`, `placement/job_not_on_tier`.
pub(crate) fn check(adopt: &BTreeMap<String, AdoptSettings>, registry: &Registry) -> Result<()> {
    for (from, AdoptSettings { job, .. }) in adopt {
        let descriptor = registry.job(job.as_str())?;
        if !descriptor.is_adhoc() {
            let message = format!(
                "job `{job}` is to run what apalis has in `{from}`, and may not run without a task here; \
                 adhoc = true in [jobs.{job}] lets it"
            );
            return Err(Error::invalid("job/not_adhoc", message));
        }
        if !descriptor.tiers().contains(&Tier::Queue) {
            let message = format!(
                "job `{job}` is to run what apalis has in `{from}`, and does not run on the queue tier; name another"
            );
            return Err(Error::invalid("placement/job_not_on_tier", message));
        }
    }
    Ok(())
}

fn place_of(from: &str) -> String {
    format!("/adopt/{}", from.replace('~', "~0").replace('/', "~1"))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use scheduler_core::{JobDescriptor, Output, Way};
    use serde_json::json;

    use super::*;

    fn faults_of(section: &serde_json::Value) -> Vec<(String, String)> {
        let faults = QueueConfig::from_value(section).unwrap_err();
        faults.into_iter().map(|fault| (fault.pointer, fault.message)).collect()
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_queue_of_apalis_is_named_as_they_name_it() {
        let section = json!({"url": "redis://h", "queues": {"mail": {}},
            "adopt": {"my_app::jobs::Email": {"job": "send", "queue": "mail"}}});
        let config = QueueConfig::from_value(&section).unwrap();
        let settings = &config.adopt["my_app::jobs::Email"];
        assert_eq!((settings.job.as_str(), settings.queue.as_ref().unwrap().as_str()), ("send", "mail"));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn every_fault_of_the_section_has_its_place() {
        let found =
            faults_of(&json!({"url": "redis://h", "adopt": {"a/b": {"job": "send", "queue": "male"}}}));
        assert_eq!(found[0].0, "/adopt/a~1b/queue");
        assert_eq!(faults_of(&json!({"url": "redis://h", "adopt": {"a": {}}}))[0].0, "/adopt/a");
        let (place, message) =
            faults_of(&json!({"url": "redis://h", "adopt": {"a": {"job": "b", "jib": 1}}})).remove(0);
        assert!(
            place.starts_with("/adopt/a") && message.starts_with("unknown field `jib`"),
            "{place} {message}"
        );
    }

    #[test]
    fn a_file_has_no_neighbours() {
        let found = faults_of(&json!({"adopt": {"a": {"job": "send"}}}));
        assert_eq!(found[0].0, "/adopt/a");
        assert!(found[0].1.contains("within one Redis"), "{found:?}");
    }

    #[test]
    fn only_a_job_that_runs_here_without_a_task_takes_over() {
        let job = |name: &str| JobDescriptor::function(name, "", async |_| Ok(Output::Null));
        let mut registry = Registry::new();
        for job in [job("free").adhoc(), job("bound"), job("near").adhoc().on(&[Tier::Local])] {
            registry.add_job(job, scheduler_core::source!(), Way::Explicit).unwrap();
        }
        let code = |name: &str| {
            let adopt = BTreeMap::from([("q".to_owned(), AdoptSettings::new(Name::new(name).unwrap()))]);
            check(&adopt, &registry).err().map(|error| error.code().to_owned())
        };
        assert_eq!(code("free"), None);
        assert_eq!(code("bound").as_deref(), Some("job/not_adhoc"));
        assert_eq!(code("near").as_deref(), Some("placement/job_not_on_tier"));
        assert_eq!(code("nobody").as_deref(), Some("job/unknown"));
    }
}
