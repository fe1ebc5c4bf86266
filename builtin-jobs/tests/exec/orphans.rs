//! A copy of this test binary that plays the daemon.

use crate::stage::{DAEMON, run};

#[tokio::test]
async fn a_copy_of_this_binary_plays_the_daemon() {
    if let Ok(args) = std::env::var(DAEMON) {
        let end = run(&serde_json::from_str(&args).unwrap()).await;
        assert!(matches!(end, scheduler_core::AttemptEnd::Succeeded(_)), "{end:?}");
    }
}
