//! Listens to the engine's events where the configuration wants it, and listens anew when their stream ended.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::engine::{EngineRunId, Told};
use crate::session::Session;

/// The longest wait before the stream is opened again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What those that follow hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// From now on every change is told.
    Begun,
    /// This run changed.
    Changed(EngineRunId),
    /// Nothing is told any more.
    Ended,
}

/// Passes on what the engine tells; never ends by itself.
pub(crate) async fn hear(session: &Session, followers: UnboundedSender<Heard>) {
    if !session.config.events || !session.capabilities().events {
        return std::future::pending().await;
    }
    let clock = &session.ctx.clock;
    let tag = session.names.namespace_tag();
    let (mut failures, mut told_lost) = (0_u32, false);
    loop {
        let began = clock.monotonic();
        let tell = |told| {
            let heard = match told {
                Told::Begun => Heard::Begun,
                Told::Changed(run) => Heard::Changed(run),
            };
            // Nobody follows any longer once the backend stops.
            let _ = followers.send(heard);
        };
        let ended = session.link.engine.watch(&tag, &tell).await;
        let _ = followers.send(Heard::Ended);
        // One that went on for a while was no failure to begin it.
        let lasted = clock.monotonic().saturating_sub(began) > LONGEST_WAIT;
        (failures, told_lost) = if lasted { (0, false) } else { (failures + 1, told_lost) };
        if let Err(error) = ended
            && !std::mem::replace(&mut told_lost, true)
        {
            tracing::warn!(
                backend = %session.backend, code = error.code(),
                "the engine's events are not heard, so runs are looked at instead: {error}"
            );
        }
        let wait = session.config.poll.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT);
        clock.sleep_until(clock.monotonic().saturating_add(wait)).await;
    }
}
