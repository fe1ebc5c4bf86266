//! BullMQ as its vendor ships it for Rust: its queue, its worker, its scripts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bullmq::options::RedisConnectionOptions;
use bullmq::types::RemoveOnFinish;
use bullmq::{BulkJob, Job, Queue, QueueOptions, Worker, WorkerOptions};
use serde_json::{Value, json};

use crate::contender::{BULK, Contender, KEPT, PAUSE, from_callers, waited};
use crate::recorder::{Recorder, payload};

const QUEUE: &str = "bench";

/// How many jobs its worker runs at once: with more it is not faster.
pub(crate) const CONCURRENCY: usize = 200;

/// How long its worker may take to close, in milliseconds.
const CLOSING: u64 = 10_000;

/// BullMQ on a server.
#[derive(Debug)]
pub(crate) struct BullMq {
    url: String,
}

impl BullMq {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    fn connection(&self) -> RedisConnectionOptions {
        RedisConnectionOptions::default().url(self.url.as_str())
    }

    async fn queue(&self) -> Result<Queue> {
        Ok(Queue::with_options(QUEUE, QueueOptions::new().connection(self.connection())).await?)
    }

    /// As many ended jobs are kept as we keep.
    async fn worker(&self, recorder: &Recorder) -> Result<Worker> {
        let recorder = recorder.clone();
        let work = move |job: Job, _| {
            recorder.begin(job.data().get("payload").and_then(Value::as_str).unwrap_or_default());
            std::future::ready(Ok(Value::Null))
        };
        let options = WorkerOptions::new()
            .connection(self.connection())
            .concurrency(CONCURRENCY)
            .remove_on_complete(RemoveOnFinish::Count(KEPT))
            .remove_on_fail(RemoveOnFinish::Count(KEPT));
        Ok(Worker::with_options(QUEUE, work, options).await?)
    }
}

fn data(index: usize) -> Value {
    json!({"payload": payload(index)})
}

impl Contender for BullMq {
    fn name(&self) -> &'static str {
        "bullmq-official"
    }

    async fn fill(&mut self, jobs: usize) -> Result<()> {
        self.enqueue_in_bulk(jobs).await.map(drop)
    }

    async fn drain(&mut self, jobs: usize) -> Result<Duration> {
        let queue = self.queue().await?;
        let recorder = Recorder::new(jobs);
        let worker = self.worker(&recorder).await?;
        recorder.have_begun(jobs).await?;
        let until = Instant::now() + Duration::from_secs(60);
        while queue.get_active_count().await? > 0 {
            ensure!(Instant::now() < until, "bullmq-official acknowledges too little");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = recorder.first().elapsed();
        worker.close(CLOSING).await?;
        Ok(took)
    }

    async fn enqueue_singly(&mut self, jobs: usize) -> Result<Duration> {
        let queue = self.queue().await?;
        let start = Instant::now();
        for index in 0..jobs {
            queue.add("noop", data(index)).await?;
        }
        Ok(start.elapsed())
    }

    async fn enqueue_from_callers(&mut self, jobs: usize) -> Result<Duration> {
        let queue = Arc::new(self.queue().await?);
        from_callers(jobs, |indexes| {
            let queue = Arc::clone(&queue);
            async move {
                for index in indexes {
                    queue.add("noop", data(index)).await?;
                }
                Ok(())
            }
        })
        .await
    }

    async fn enqueue_in_bulk(&mut self, jobs: usize) -> Result<Duration> {
        let queue = self.queue().await?;
        let start = Instant::now();
        for first in (0..jobs).step_by(BULK) {
            let some = (first..jobs.min(first + BULK)).map(|index| BulkJob::new("noop", data(index)));
            queue.add_bulk(some.collect()).await?;
        }
        Ok(start.elapsed())
    }

    async fn latencies(&mut self, jobs: usize) -> Result<Vec<Duration>> {
        let queue = self.queue().await?;
        let recorder = Recorder::new(jobs);
        let worker = self.worker(&recorder).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut enqueued = Vec::with_capacity(jobs);
        for index in 0..jobs {
            enqueued.push(Instant::now());
            queue.add("noop", data(index)).await?;
            tokio::time::sleep(PAUSE).await;
        }
        recorder.have_begun(jobs).await?;
        worker.close(CLOSING).await?;
        Ok(waited(&recorder, &enqueued))
    }

    async fn verify(&mut self, jobs: usize) -> Result<()> {
        let queue = self.queue().await?;
        let (waiting, active) = (queue.get_waiting_count().await?, queue.get_active_count().await?);
        let (completed, failed) = (queue.get_completed_count().await?, queue.get_failed_count().await?);
        ensure!(
            waiting == 0 && active == 0 && failed == 0 && completed == jobs.min(KEPT) as u64,
            "bullmq-official says of {jobs} jobs: {waiting} wait, {active} are active, {failed} failed, \
             {completed} completed and are kept"
        );
        Ok(())
    }

    async fn forget(&mut self) -> Result<()> {
        let queue = self.queue().await?;
        while !queue.clean(0, BULK as u32, "completed").await?.is_empty() {}
        Ok(())
    }
}
