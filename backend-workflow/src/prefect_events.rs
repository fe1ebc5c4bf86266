//! Prefect's stream of events: which runs changed, as it happens.
//!
//! An event only says that a run changed; where the run stands is asked for, as an event may be old or come twice.

use std::time::{Duration, SystemTime};

use scheduler_core::{Error, Result, Timestamp};
use serde_json::{Value, json};

use crate::engine::{EngineRunId, Told};
use crate::prefect::PrefectEngine;
use crate::prefect_runs::is_id;
use crate::prefect_socket::Socket;

/// What the events of runs begin with, and so do their ids in them.
const RUN: &str = "prefect.flow-run.";

/// Runs that are only planned, and signs of life: nothing that changes what is shown.
const UNIMPORTANT: [&str; 2] = ["prefect.flow-run.Scheduled", "prefect.flow-run.heartbeat"];

/// Prefect leaves out of the stream what happens after an instant that it wants to be told.
const FAR: Duration = Duration::from_secs(365 * 24 * 3_600);

impl PrefectEngine {
    pub(crate) async fn hear(&self, tag: &str, tell: &(dyn Fn(Told) + Send + Sync)) -> Result<()> {
        let exchange = self.client.exchange();
        let tag = format!("prefect.tag.{tag}");
        let mut socket = Socket::open(exchange, &["events", "out"]).await?;
        socket.send(&json!({ "type": "auth", "token": exchange.token()? })).await?;
        let answer = socket.receive().await.map_err(|error| match error.to_string() {
            // It closes the stream of whom it does not let in.
            words if words.contains("oken") => {
                Error::unauthorized("engine/unauthorized", format!("{words}; {}", exchange.remedy()))
            }
            _ => error,
        })?;
        if answer["type"] != "auth_success" {
            let message = "the stream of events was not opened: Prefect says nothing of the credentials";
            return Err(Error::unauthorized("engine/unauthorized", message));
        }
        socket.send(&wanted(&tag, Timestamp::from(SystemTime::now()))).await?;
        tell(Told::Begun);
        loop {
            if let Some(run) = changed(&socket.receive().await?, &tag) {
                tell(Told::Changed(run));
            }
        }
    }
}

/// What is asked for: nothing of the past, as everything is looked at when the stream has begun.
fn wanted(tag: &str, now: Timestamp) -> Value {
    let minute = Duration::from_secs(60);
    json!({
        "type": "filter",
        "backfill": false,
        "filter": {
            "event": { "prefix": [RUN], "exclude_name": UNIMPORTANT },
            // The server's clock may be behind ours.
            "occurred": { "since": now - minute, "until": now + FAR },
            // Only of the past: what happens is sent whatever it is about.
            "related": { "resources_in_roles": [[tag, "tag"]] },
        },
    })
}

/// The run that an event is about, if it has the tag.
fn changed(message: &Value, tag: &str) -> Option<EngineRunId> {
    let event = &message["event"];
    let id = event["resource"]["prefect.resource.id"].as_str()?.strip_prefix(RUN)?;
    let is_tagged = event["related"].as_array()?.iter().any(|related| related["prefect.resource.id"] == tag);
    (is_tagged && is_id(id)).then(|| EngineRunId(id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_run_if_that_has_the_tag() {
        let of = |id: &str, tag: &str| {
            json!({ "type": "event", "event": {
                "resource": { "prefect.resource.id": id },
                "related": [{ "prefect.resource.id": "prefect.flow.1" }, { "prefect.resource.id": tag }],
            } })
        };
        let id = "03cfae9f-dc37-4fdf-a4bd-319c630b0190";
        let run = format!("{RUN}{id}");
        assert_eq!(changed(&of(&run, "prefect.tag.a"), "prefect.tag.a"), Some(EngineRunId(id.to_owned())));
        assert_eq!(changed(&of(&run, "prefect.tag.b"), "prefect.tag.a"), None);
        for other in ["prefect.flow-run.../flows", "prefect.task-run.1", ""] {
            assert_eq!(changed(&of(other, "prefect.tag.a"), "prefect.tag.a"), None, "{other}");
        }
        assert_eq!(changed(&json!({ "type": "pong" }), "prefect.tag.a"), None);
    }
}
