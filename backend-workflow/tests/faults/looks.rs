//! Looks at runs that are not answered.

use std::time::Duration;

use backend_workflow::{EngineRunFilter, PrefectEngine, PrefectSettings, WorkflowEngine};

use crate::server::Server;

#[tokio::test]
async fn a_look_that_gets_lost_is_sent_again_long_before_the_time_limit_of_requests() {
    let server = Server::start(Vec::new()).await;
    let mut settings = PrefectSettings::new(&server.url);
    // Whoever waits for that fails the test by the limit of the suite.
    settings.timeout = Duration::from_secs(3_600);
    settings.patience = Duration::from_secs(3_600);
    let engine = PrefectEngine::new(settings).unwrap();
    server.lose_looks(1);

    let everything = EngineRunFilter::default();
    let runs = engine.list_runs(&everything);
    let runs = tokio::time::timeout(Duration::from_secs(60), runs).await.unwrap().unwrap();

    assert!(runs.runs.is_empty());
    assert_eq!(engine.repeated_requests(), 1);
}
