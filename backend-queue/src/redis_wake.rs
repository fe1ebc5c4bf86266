//! Hearing of new work at once, by a connection of its own.
//!
//! A script that makes work where there was none says so on a channel; whoever waits hears it, in whatever process.
//! Nothing piles up, and a word that is lost costs no more than the wait until somebody looks anyway.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use redis::aio::PubSub;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::redis_link::Link;

/// How long it may be silent before the connection is tried.
const SILENCE: Duration = Duration::from_secs(20);
/// How long an answer to that may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long to wait before a connection is tried again that could not be made.
const AGAIN: Duration = Duration::from_secs(1);

/// Who waits for work.
#[derive(Default)]
pub(crate) struct Listener(Mutex<Option<PubSub>>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    /// Resolves when somebody may have added work, and whenever it begins to listen: what was said before was
    /// not heard.
    pub(crate) async fn changed(&self, link: &Link) {
        let mut slot = self.0.lock().await;
        let Some(heard) = slot.as_mut() else {
            match link.listen().await {
                Ok(heard) => *slot = Some(heard),
                Err(_) => sleep(AGAIN).await,
            }
            return;
        };
        loop {
            let word = timeout(SILENCE, heard.on_message().next()).await;
            match word {
                Ok(Some(_)) => {
                    // However often it was said, it is one change.
                    let mut words = heard.on_message();
                    while words.next().now_or_never().flatten().is_some() {}
                    return;
                }
                Ok(None) => break,
                Err(_) => match timeout(ANSWER, heard.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) => break,
                },
            }
        }
        *slot = None;
    }
}
