//! Waiting for what is kept outside of the process, which may be out of reach for a while: a server that is started again is.

use std::time::Duration;

use crate::Clock;

/// How often it is asked whether an outage is over.
const GLANCE: Duration = Duration::from_millis(100);

/// An outage that somebody waits through who waits for something else, or none yet.
#[derive(Debug, Default)]
pub struct Outage {
    /// From when on nobody answered, by the monotonic clock.
    since: Option<Duration>,
}

impl Outage {
    /// How long one may last.
    pub const LONGEST: Duration = Duration::from_secs(30);

    /// Somebody has answered.
    pub fn ends(&mut self) {
        self.since = None;
    }

    /// Whether somebody did not answer since it ended last.
    pub fn is_there(&self) -> bool {
        self.since.is_some()
    }

    /// Nobody has answered. Waits a moment if it is worth asking again, and says so: not when this lasts too long, or
    /// when the monotonic clock has come to `until`.
    pub async fn is_borne(&mut self, clock: &dyn Clock, until: Option<Duration>) -> bool {
        let now = clock.monotonic();
        let gives_up = self.since.get_or_insert(now).saturating_add(Self::LONGEST);
        let until = until.map_or(gives_up, |until| until.min(gives_up));
        if until <= now {
            return false;
        }
        clock.sleep_until(now.saturating_add(GLANCE).min(until)).await;
        true
    }
}
