//! Every policy of the local tier, by the test clock: the scenarios of `examples/policies`.

#[path = "../../examples/policies/scenarios.rs"]
mod scenarios;

use std::sync::Arc;

use scheduler_core::{Clock, TestClock, Timestamp};

#[tokio::test]
async fn every_policy_does_what_was_expected_of_it() {
    let mut wrong = Vec::new();
    for scenario in scenarios::all() {
        let clock = TestClock::at(Timestamp::from_millis(1_790_000_000_000));
        let moved = clock.clone();
        let pass: scenarios::Pass = Arc::new(move |by| {
            let clock = moved.clone();
            Box::pin(async move { clock.advance(by).await })
        });

        let seen = scenario.run(Arc::new(clock) as Arc<dyn Clock>, pass).await.unwrap();

        if seen != scenario.expected {
            wrong.push(format!("{}\n  expected {}\n  seen     {seen}", scenario.name, scenario.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
