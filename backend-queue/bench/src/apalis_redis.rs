//! apalis-redis as it is: its storage, its worker, its codec. Only the poll strategy is ours; see [`poll`](crate::poll).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use apalis::prelude::{BackendExt, BoxDynError, Data, TaskSink, WorkerBuilder};
use apalis_core::backend::Vacuum;
use apalis_redis::{Config, RedisStorage};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::contender::{BULK, Contender, PAUSE, from_callers, waited};
use crate::poll::Every;
use crate::recorder::{Recorder, payload};

/// More due jobs than this wedge it: its script unpacks them all at once.
pub(crate) const MOST_DUE: usize = 7_000;

const QUEUE: &str = "bench";

/// A job; as JSON it is the payload that all contenders get.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    payload: String,
}

/// apalis-redis with some settings.
#[derive(Clone, Debug)]
pub(crate) struct ApalisRedis {
    name: &'static str,
    url: String,
    config: Config,
}

impl ApalisRedis {
    /// With its defaults: batches of 10, locks and events.
    pub(crate) fn stock(url: &str) -> Self {
        let config = Config::default().queue(QUEUE);
        Self { name: "apalis-redis", url: url.to_owned(), config }
    }

    /// With batches of 100 and neither locks nor events, which its users can choose.
    pub(crate) fn lean(url: &str) -> Self {
        let config = Config::default().queue(QUEUE).batch_size(100).lock_tasks(false).emit_events(false);
        Self { name: "apalis-redis lean", url: url.to_owned(), config }
    }

    async fn storage(&self) -> Result<RedisStorage<Job>> {
        let connection = apalis_redis::connect(self.url.as_str()).await?;
        Ok(RedisStorage::new(connection).with_config(self.config.clone()))
    }

    async fn worker(&self, recorder: &Recorder) -> Result<JoinHandle<()>> {
        let storage = self.storage().await?.poll_with_strategy(Every::ten_millis());
        let recorder = Arc::new(recorder.clone());
        // It refuses a name that a worker had lately.
        let name = format!("bench-{:p}-{:?}", recorder, Instant::now());
        let worker = WorkerBuilder::new(name).backend(storage).data(recorder).build(work);
        Ok(tokio::spawn(async move {
            if let Err(error) = worker.run().await {
                eprintln!("the worker of apalis-redis ended: {error}");
            }
        }))
    }

    /// How many jobs it counts as done.
    async fn done(&self, connection: &mut ConnectionManager) -> Result<usize> {
        Ok(connection.scard(format!("{QUEUE}:done")).await?)
    }
}

async fn work(job: Job, recorder: Data<Arc<Recorder>>) -> Result<(), BoxDynError> {
    recorder.begin(&job.payload);
    Ok(())
}

fn job(index: usize) -> Job {
    Job { payload: payload(index) }
}

impl Contender for ApalisRedis {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn fill(&mut self, jobs: usize) -> Result<()> {
        ensure!(jobs <= MOST_DUE, "apalis-redis takes at most {MOST_DUE} due jobs");
        self.enqueue_in_bulk(jobs).await.map(drop)
    }

    async fn drain(&mut self, jobs: usize) -> Result<Duration> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection_manager().await?;
        let before = self.done(&mut connection).await?;
        let recorder = Recorder::new(jobs);
        let worker = self.worker(&recorder).await?;
        recorder.have_begun(jobs).await?;
        let until = Instant::now() + Duration::from_secs(60);
        while self.done(&mut connection).await? < before + jobs {
            ensure!(Instant::now() < until, "apalis-redis acknowledges too little");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = recorder.first().elapsed();
        worker.abort();
        Ok(took)
    }

    async fn enqueue_singly(&mut self, jobs: usize) -> Result<Duration> {
        let mut storage = self.storage().await?;
        let start = Instant::now();
        for index in 0..jobs {
            storage.push(job(index)).await?;
        }
        Ok(start.elapsed())
    }

    async fn enqueue_from_callers(&mut self, jobs: usize) -> Result<Duration> {
        let storage = self.storage().await?;
        from_callers(jobs, |indexes| {
            let mut storage = storage.clone();
            async move {
                for index in indexes {
                    storage.push(job(index)).await.context("the job was not taken")?;
                }
                Ok(())
            }
        })
        .await
    }

    async fn enqueue_in_bulk(&mut self, jobs: usize) -> Result<Duration> {
        let mut storage = self.storage().await?;
        let start = Instant::now();
        for first in (0..jobs).step_by(BULK) {
            storage.push_bulk((first..jobs.min(first + BULK)).map(job).collect()).await?;
        }
        Ok(start.elapsed())
    }

    async fn latencies(&mut self, jobs: usize) -> Result<Vec<Duration>> {
        let recorder = Recorder::new(jobs);
        let worker = self.worker(&recorder).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut storage = self.storage().await?;
        let mut enqueued = Vec::with_capacity(jobs);
        for index in 0..jobs {
            enqueued.push(Instant::now());
            storage.push(job(index)).await?;
            tokio::time::sleep(PAUSE).await;
        }
        recorder.have_begun(jobs).await?;
        worker.abort();
        Ok(waited(&recorder, &enqueued))
    }

    /// It keeps all that has ended, and has no setting for that.
    async fn verify(&mut self, jobs: usize) -> Result<()> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection_manager().await?;
        let done = self.done(&mut connection).await?;
        ensure!(done == jobs, "apalis-redis counts {done} of {jobs} jobs as done");
        Ok(())
    }

    async fn forget(&mut self) -> Result<()> {
        self.storage().await?.vacuum().await?;
        Ok(())
    }
}
