//! apalis-sqlite as it is, on a file with the same journal and the same `synchronous` as ours.
//!
//! Its own set-up would turn `synchronous` off, and on one connection of its pool only, so the options are given to
//! the pool and its migrations run by themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use apalis::prelude::{BackendExt, BoxDynError, Data, TaskBuilder, TaskSink, WorkerBuilder};
use apalis_core::backend::Vacuum;
use apalis_sqlite::{Config, SqliteStorage};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::task::JoinHandle;

use crate::contender::{BULK, Contender, PAUSE, from_callers, waited};
use crate::poll::Every;
use crate::recorder::{Recorder, payload};

/// After how long the jobs of a drain become due. It counts whole seconds.
const TOGETHER: Duration = Duration::from_secs(4);

/// A job; as JSON it is the payload that all contenders get.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    payload: String,
}

/// apalis-sqlite on a file.
#[derive(Debug)]
pub(crate) struct ApalisSqlite {
    pool: SqlitePool,
    /// What it has finished is slow to pass by, and only for the worker that did it: so it is one for all.
    worker: Option<(Recorders, JoinHandle<()>)>,
}

/// Where the jobs of the one worker tell of themselves.
type Recorders = Arc<std::sync::Mutex<Recorder>>;

impl ApalisSqlite {
    /// On a new file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) async fn on(file: &Path, synchronous: SqliteSynchronous) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous);
        let pool = SqlitePool::connect_with(options).await?;
        SqliteStorage::<()>::migrations().run(&pool).await?;
        Ok(Self { pool, worker: None })
    }

    fn storage(&self) -> SqliteStorage<Job> {
        SqliteStorage::new(&self.pool).with_config(Config::default().queue("bench"))
    }

    /// Sends what the jobs tell to `recorder` from now on, and starts the worker if it is not there.
    fn record(&mut self, recorder: &Recorder) {
        if let Some((recorders, _)) = &self.worker {
            *recorders.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = recorder.clone();
            return;
        }
        let recorders: Recorders = Arc::new(std::sync::Mutex::new(recorder.clone()));
        let storage = self.storage().poll_with_strategy(Every::ten_millis());
        let worker = WorkerBuilder::new("bench").backend(storage).data(Arc::clone(&recorders)).build(work);
        let under_way = tokio::spawn(async move {
            if let Err(error) = worker.run().await {
                eprintln!("the worker of apalis-sqlite ended: {error}");
            }
        });
        self.worker = Some((recorders, under_way));
    }

    async fn done(&self) -> Result<usize> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status = 'Done'")
            .fetch_one(&self.pool)
            .await?;
        Ok(usize::try_from(count)?)
    }
}

impl Drop for ApalisSqlite {
    fn drop(&mut self) {
        if let Some((_, worker)) = &self.worker {
            worker.abort();
        }
    }
}

async fn work(job: Job, recorders: Data<Recorders>) -> Result<(), BoxDynError> {
    recorders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).begin(&job.payload);
    Ok(())
}

fn job(index: usize) -> Job {
    Job { payload: payload(index) }
}

impl Contender for ApalisSqlite {
    fn name(&self) -> &'static str {
        "apalis-sqlite"
    }

    /// Its worker may run already, so they all become due together, when they are all there.
    async fn fill(&mut self, jobs: usize) -> Result<()> {
        let later = |index| TaskBuilder::new(job(index)).run_after(TOGETHER).build();
        let mut tasks = futures_util::stream::iter((0..jobs).map(later));
        self.storage().push_all(&mut tasks).await.context("the jobs were not taken")
    }

    async fn drain(&mut self, jobs: usize) -> Result<Duration> {
        let before = self.done().await?;
        let recorder = Recorder::new(jobs);
        self.record(&recorder);
        recorder.have_begun(jobs).await?;
        let until = Instant::now() + Duration::from_secs(120);
        while self.done().await? < before + jobs {
            ensure!(Instant::now() < until, "apalis-sqlite acknowledges too little");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(recorder.first().elapsed())
    }

    async fn enqueue_singly(&mut self, jobs: usize) -> Result<Duration> {
        let mut storage = self.storage();
        let start = Instant::now();
        for index in 0..jobs {
            storage.push(job(index)).await?;
        }
        Ok(start.elapsed())
    }

    async fn enqueue_from_callers(&mut self, jobs: usize) -> Result<Duration> {
        let storage = self.storage();
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
        let mut storage = self.storage();
        let start = Instant::now();
        for first in (0..jobs).step_by(BULK) {
            storage.push_bulk((first..jobs.min(first + BULK)).map(job).collect()).await?;
        }
        Ok(start.elapsed())
    }

    async fn latencies(&mut self, jobs: usize) -> Result<Vec<Duration>> {
        let recorder = Recorder::new(jobs);
        self.record(&recorder);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut storage = self.storage();
        let mut enqueued = Vec::with_capacity(jobs);
        for index in 0..jobs {
            enqueued.push(Instant::now());
            storage.push(job(index)).await?;
            tokio::time::sleep(PAUSE).await;
        }
        recorder.have_begun(jobs).await?;
        Ok(waited(&recorder, &enqueued))
    }

    /// It keeps all that has ended, and has no setting for that.
    async fn verify(&mut self, jobs: usize) -> Result<()> {
        let done = self.done().await?;
        ensure!(done == jobs, "apalis-sqlite counts {done} of {jobs} jobs as done");
        Ok(())
    }

    async fn forget(&mut self) -> Result<()> {
        self.storage().vacuum().await?;
        Ok(())
    }
}
