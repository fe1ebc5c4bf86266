//! An embedder cleans a cache of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builtin_jobs::cache_cleanup::{CacheCleanup, CacheTarget, Named, Sweep};
use scheduler_core::{Result, RunContext, async_trait, attempt};

use crate::stage::{context, told};

/// Entries in memory by their ages.
#[derive(Clone, Debug)]
struct Memory(Arc<Mutex<BTreeMap<u32, &'static str>>>);

#[async_trait]
impl CacheTarget for Memory {
    async fn clean(&self, _: &RunContext, sweep: &Sweep) -> Result<()> {
        let mut entries = self.0.lock().unwrap();
        let old: Vec<u32> = entries.range(10..).map(|(age, _)| *age).collect();
        for age in old {
            let name = entries[&age];
            if !sweep.is_dry() {
                entries.remove(&age);
            }
            sweep.removed(u128::MAX - u128::from(age), 8, || name.to_owned());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_target_of_ones_own_is_cleaned_dry_and_in_earnest() {
    let memory = Memory(Arc::new(Mutex::new([(1, "new"), (10, "old"), (90, "older")].into())));
    let job = |is_dry: bool| CacheCleanup {
        targets: vec![Named {
            name: "memory".to_owned(),
            kind: "memory",
            limit: Duration::from_secs(60),
            target: Box::new(memory.clone()),
        }],
        is_dry,
        most_listed: 1,
    };

    let dry = told(attempt(&job(true), &context(), None).await);
    assert_eq!(memory.0.lock().unwrap().len(), 3);
    let real = told(attempt(&job(false), &context(), None).await);

    assert_eq!(memory.0.lock().unwrap().len(), 1);
    assert_eq!(dry.output["targets"][0]["listed"], real.output["targets"][0]["listed"]);
    assert_eq!(real.output["targets"][0]["listed"][0]["item"], "older");
    assert_eq!((real.output["removed"].as_u64(), real.output["bytes"].as_u64()), (Some(2), Some(16)));
}
