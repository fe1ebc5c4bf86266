//! What a job of apalis becomes: a run of a job of ours or, where none can be made of it, a dead letter that says why
//! and keeps what was there.

#![cfg_attr(
    not(any(feature = "redis", test)),
    expect(dead_code, reason = "apalis is a neighbour on Redis only")
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use scheduler_core::{
    Adhoc, BackendContext, Name, Run, RunId, RunOrigin, RunRequest, RunState, Tier, Timestamp,
};
use serde_json::{Map, Value};

use crate::QueueConfig;
use crate::adopt::AdoptSettings;
use crate::envelope::{self, DEEPEST};
use crate::requests::{self, LARGEST_PARAMS};
use crate::store::{Pushed, kept_queue};

/// How many attempts a job gets of which apalis notes none: as many as it would give it.
const ATTEMPTS: u32 = 25;
/// The end of the year 9999: whatever is for later than this is shown as this.
const LATEST: i64 = 253_402_300_799_000;

/// A job that waits in a queue of apalis.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    pub(crate) id: Vec<u8>,
    /// When it is for, in seconds; nothing for one that is ready.
    pub(crate) score: Option<String>,
    /// How many bytes its payload has; nothing where it is gone.
    pub(crate) size: Option<usize>,
    /// Nothing where it is longer than [`LARGEST_PARAMS`].
    pub(crate) payload: Vec<u8>,
    pub(crate) attempts: Option<u32>,
    pub(crate) max_attempts: Option<u32>,
    /// What its producer noted of it.
    pub(crate) metadata: Map<String, Value>,
}

/// What is made of a job, and whether its payload stays where it is.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) run: Pushed,
    pub(crate) payload_stays: bool,
}

/// Who takes over, what and from where.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) ctx: BackendContext,
    pub(crate) backend: Name,
    pub(crate) config: QueueConfig,
    /// The queue of apalis.
    pub(crate) from: String,
    pub(crate) settings: AdoptSettings,
}

impl Offered {
    /// The id as text, another one for each.
    fn shown_id(&self) -> String {
        self.id.escape_ascii().to_string()
    }

    /// When it was made, if its id says so as that of apalis do, else when it is for.
    fn made_at(&self, due: Timestamp, now: Timestamp) -> Timestamp {
        let id: Option<RunId> = std::str::from_utf8(&self.id).ok().and_then(|id| id.parse().ok());
        let made = id.and_then(|id| i64::try_from(id.as_u128() >> 80).ok()).map(Timestamp::from_millis);
        made.unwrap_or(due).min(now)
    }

    fn due(&self, now: Timestamp) -> Timestamp {
        let seconds = self.score.as_ref().and_then(|score| score.parse::<f64>().ok());
        // A float becomes the nearest integer that there is, and none at all becomes 0.
        seconds.map_or(now, |seconds| Timestamp::from_millis(((seconds * 1_000.0) as i64).clamp(0, LATEST)))
    }
}

impl Adoption {
    /// What becomes of a job, at the store's time.
    pub(crate) fn adopt(&self, offered: &Offered, now: Timestamp) -> Adopted {
        let Self { ctx, backend, config, from, settings } = self;
        let (task_id, due) = (offered.shown_id(), offered.due(now));
        // The same job is the same run, whoever takes it over and how often that is begun.
        let run_id = RunId::keyed_job(
            &ctx.namespace,
            &settings.job,
            &format!("apalis/{}/{from}/{task_id}", from.len()),
        );
        let mut request = RunRequest::manual(run_id, settings.job.clone(), offered.made_at(due, now));
        request.due = due;
        request.queue.clone_from(&settings.queue);
        request.params.insert("apalis_queue".to_owned(), from.as_str().into());
        request.params.insert("apalis_task_id".to_owned(), task_id.into());
        if !offered.metadata.is_empty() {
            request.params.insert("apalis_metadata".to_owned(), offered.metadata.clone().into());
        }
        let payload = self.payload(offered);
        let args = match &payload {
            Payload::Args(args) | Payload::Unusable(args, _) => args.clone(),
            Payload::Elsewhere(_) => Value::Null,
        };
        request.adhoc = Some(Adhoc::new(settings.job.clone(), args));
        let most = offered.max_attempts.unwrap_or(ATTEMPTS).max(1);
        let left = most.saturating_sub(offered.attempts.unwrap_or(0));
        let is_elsewhere = matches!(payload, Payload::Elsewhere(_));
        let made = match payload {
            Payload::Unusable(_, reason) | Payload::Elsewhere(reason) => Err(reason),
            Payload::Args(_) if left == 0 => Err(format!("all of its {most} attempts were made by apalis")),
            Payload::Args(_) => {
                let made = || requests::requested(ctx, backend, config, vec![request.clone()]);
                // The job is made of what anybody has sent.
                match catch_unwind(AssertUnwindSafe(made)) {
                    Ok(made) => made
                        .map_err(|refusal| format!("taken over from apalis, and cannot be run: {refusal}")),
                    Err(_) => Err("its job panicked when it was made of this payload".to_owned()),
                }
            }
        };
        let run = match made.map(|mut runs| runs.pop()) {
            Ok(Some(run)) => Pushed { max_attempts: left, ..run },
            Ok(None) => dead_letter(backend, request, "nothing was made of it".to_owned(), most, now),
            Err(reason) => dead_letter(backend, request, reason, most, now),
        };
        Adopted { run, payload_stays: is_elsewhere && offered.size.is_some() }
    }

    fn payload(&self, offered: &Offered) -> Payload {
        let (hash, id) = (format!("{}:data", self.from), offered.shown_id());
        match offered.size {
            None => {
                return Payload::Elsewhere(format!("its payload is gone: the hash {hash} has no field {id}"));
            }
            Some(size) if size > LARGEST_PARAMS => {
                return Payload::Elsewhere(format!(
                    "its payload has {size} bytes, more than {LARGEST_PARAMS}; it stays in the hash {hash}, field {id}"
                ));
            }
            Some(_) => {}
        }
        let Ok(text) = std::str::from_utf8(&offered.payload) else {
            let digits: String = offered.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            let reason = "its payload is no JSON, not even text: its bytes are kept as hexadecimal digits";
            return Payload::Unusable(digits.into(), reason.to_owned());
        };
        match serde_json::from_str::<Value>(text) {
            Ok(args) if envelope::is_deeper(&args, DEEPEST) => {
                let reason = format!("its payload is nested more than {DEEPEST} deep, and kept as text");
                Payload::Unusable(text.into(), reason)
            }
            Ok(args) => Payload::Args(args),
            Err(fault) => Payload::Unusable(text.into(), format!("its payload is no JSON: {fault}")),
        }
    }
}

/// What a payload is good for.
enum Payload {
    Args(Value),
    /// What is kept of it, and why it is of no use.
    Unusable(Value, String),
    /// Why it is not looked at.
    Elsewhere(String),
}

/// The run that says why there is none; replayed, it is one.
fn dead_letter(backend: &Name, request: RunRequest, reason: String, most: u32, now: Timestamp) -> Pushed {
    let mut run = Run::queued(request.run_id, request.task, backend.clone(), Tier::Queue, request.fire_time);
    run.origin = RunOrigin::Manual;
    run.params = request.params;
    run.adhoc = request.adhoc;
    run.queue = request.queue.as_ref().and_then(kept_queue);
    run.state = RunState::Failed;
    run.finished_at = Some(now);
    run.reason = Some(reason);
    let priority = scheduler_core::Priority::default().level();
    Pushed { run, due: now, priority, max_attempts: most, alone: false }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scheduler_core::{JobDescriptor, Output, Registry, SystemClock, Way};
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Email {
        to: String,
    }

    struct Send(#[expect(dead_code, reason = "only the shape of the args counts here")] Email);

    #[scheduler_core::async_trait]
    impl scheduler_core::Job for Send {
        async fn run(&self, _: &scheduler_core::RunContext) -> Result<Output, scheduler_core::JobError> {
            Ok(Output::Null)
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_500);
    const ID: &str = "01KBE1DZ8JVF4YQ1P2N8M5T0XR";

    fn adopted(offered: &Offered) -> Adopted {
        adopted_from("emails", offered)
    }

    fn adopted_from(from: &str, offered: &Offered) -> Adopted {
        let mut registry = Registry::new();
        let job = JobDescriptor::typed("send", "", |email: Email| {
            assert!(!email.to.is_empty());
            Ok(Send(email))
        });
        registry.add_job(job.adhoc(), scheduler_core::source!(), Way::Explicit).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let mut ctx = BackendContext::standalone(name("n"), Arc::new(SystemClock::new()));
        ctx.registry = Arc::new(registry);
        let (config, settings) = (QueueConfig::default(), AdoptSettings::new(name("send")));
        Adoption { ctx, backend: name("queue"), config, from: from.to_owned(), settings }.adopt(offered, NOW)
    }

    fn offered(payload: &[u8]) -> Offered {
        Offered {
            id: ID.into(),
            score: Some("1800000000".to_owned()),
            size: Some(payload.len()),
            payload: payload.to_vec(),
            attempts: Some(0),
            max_attempts: Some(25),
            metadata: Map::new(),
        }
    }

    #[test]
    fn the_payload_becomes_the_args_and_where_it_came_from_the_parameters() {
        let mut job = offered(br#"{"to":"a@b"}"#);
        job.metadata.insert("traceparent".to_owned(), "00-1".into());
        let Pushed { run, due, max_attempts, alone, .. } = adopted(&job).run;

        assert_eq!(run.adhoc, Some(Adhoc::new(Name::new("send").unwrap(), json!({"to": "a@b"}))));
        let params = json!({"apalis_queue": "emails", "apalis_task_id": ID,
            "apalis_metadata": {"traceparent": "00-1"}});
        assert_eq!(Value::Object(run.params), params);
        assert_eq!(
            (run.state, due, max_attempts, alone),
            (RunState::Queued, at(1_800_000_000_000), 25, false)
        );
        assert_eq!(run.fire_time.as_millis(), 1_764_629_085_458, "its id says when it was made");
    }

    #[test]
    fn a_job_is_one_run_and_jobs_of_one_id_in_two_queues_are_two() {
        let (first, again) = (adopted(&offered(b"{}")), adopted(&offered(b"1")));
        assert_eq!(first.run.run.id, again.run.run.id);
        assert_ne!(first.run.run.id, adopted_from("sms", &offered(b"{}")).run.run.id);
        let other = Offered { id: b"\xff".to_vec(), ..offered(b"{}") };
        assert_ne!(first.run.run.id, adopted(&other).run.run.id);
    }

    #[test]
    fn what_is_no_payload_of_the_job_is_a_dead_letter_that_keeps_it() {
        let deep = "[".repeat(101) + &"]".repeat(101);
        let cases: [(&[u8], Value, &str); 5] = [
            (b"{to", json!("{to"), "no JSON: key must"),
            (b"\xc3\x28", json!("c328"), "hexadecimal"),
            (deep.as_bytes(), json!(deep), "more than 100 deep"),
            (br#"{"too":1}"#, json!({"too": 1}), "cannot be run"),
            (br#"{"to":""}"#, json!({"to": ""}), "panicked"),
        ];
        for (payload, kept, reason) in cases {
            let Adopted { run, payload_stays } = adopted(&offered(payload));
            assert_eq!((run.run.state, run.run.adhoc.unwrap().args), (RunState::Failed, kept));
            assert!(run.run.reason.as_ref().unwrap().contains(reason), "{:?}", run.run.reason);
            assert!(!payload_stays);
        }
    }

    #[test]
    fn a_payload_that_is_too_large_stays_where_it_is_and_one_that_is_gone_is_told() {
        let large = Offered { size: Some(LARGEST_PARAMS + 1), payload: Vec::new(), ..offered(b"") };
        let gone = Offered { size: None, ..offered(b"") };
        for (job, stays, reason) in
            [(large, true, "it stays in the hash emails:data"), (gone, false, "is gone")]
        {
            let Adopted { run, payload_stays } = adopted(&job);
            assert_eq!((run.run.state, payload_stays), (RunState::Failed, stays));
            assert!(run.run.reason.unwrap().contains(reason));
        }
    }

    #[test]
    fn the_attempts_that_apalis_made_count() {
        let with = |attempts, max_attempts| Offered { attempts, max_attempts, ..offered(br#"{"to":"a"}"#) };
        assert_eq!(adopted(&with(Some(2), Some(3))).run.max_attempts, 1);
        assert_eq!(adopted(&with(None, None)).run.max_attempts, 25);
        let spent = adopted(&with(Some(5), Some(3))).run.run;
        assert_eq!(spent.state, RunState::Failed);
        assert!(spent.reason.unwrap().contains("all of its 3 attempts"));
    }

    #[test]
    fn a_time_that_makes_no_sense_is_a_time_all_the_same() {
        for (score, due) in [
            (None, NOW),
            (Some("1800000060"), at(1_800_000_060_000)),
            (Some("inf"), at(LATEST)),
            (Some("-inf"), at(0)),
            (Some("nan"), at(0)),
            (Some("x"), NOW),
        ] {
            let job = Offered { score: score.map(str::to_owned), ..offered(br#"{"to":"a"}"#) };
            assert_eq!(adopted(&job).run.due, due, "{score:?}");
        }
    }

    const fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }
}
