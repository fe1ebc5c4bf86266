//! The embedded store: one file, one connection that writes, as many as are needed that read.
//!
//! Every change is one transaction. Claiming raises the attempt and draws a fence in the same transaction;
//! an acknowledgement counts only while its fence is still the run's.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, Name, Page, PageToken, Pause, Replayed, Result, Run, RunFilter, RunId,
    RunState, Timestamp,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{ConnectOptions, Connection, QueryBuilder, Row, Sqlite, SqliteConnection, Transaction};
use tokio::sync::Mutex;

use crate::Synchronous;
use crate::envelope::{self, Indexed};
use crate::sqlite_clock::{now, since_boot};
use crate::sqlite_error::failed;
use crate::sqlite_letters;
use crate::sqlite_schedule;
use crate::sqlite_schema::{
    self, CANCELLED, FAILED, HELD, READY, RETRYING, RUNNING, SCHEDULED, SKIPPED, SNOOZED, SUCCEEDED,
};
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Delivery, Held, Next, Pushed, Renewed, Retention, Standing, Stepped,
    Store,
};

/// How many runs become ready in one step, so that no step takes long.
const PROMOTED: i64 = 1_000;

/// How often the file is looked at for changes of other processes; one look is a read of shared memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A queue in a file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    file: PathBuf,
    /// Everything in the file is shown while the namespace is not known.
    namespace: Option<Name>,
    backend: Name,
    writer: Mutex<SqliteConnection>,
    reader: Mutex<SqliteConnection>,
    /// The version of the file's content that [`Store::changed`] answered last.
    seen: AtomicI64,
}

/// Everything that a run is read from.
macro_rules! columns {
    () => {
        "seq, id, task, state, attempt, max_attempts, due, fire_time, fence, finished, envelope"
    };
}
pub(crate) use columns;

impl SqliteStore {
    /// Opens the file or makes it.
    ///
    /// # Errors
    /// `queue/unreadable`, `queue/newer_store`, `queue/corrupt`, `queue/locked` and the like.
    pub(crate) async fn open(
        file: &Path,
        synchronous: Synchronous,
        namespace: Option<Name>,
        backend: Name,
    ) -> Result<Self> {
        let writer = Mutex::new(sqlite_schema::open(file, synchronous).await?);
        let reader = sqlite_schema::options(file, synchronous).connect().await;
        let mut reader = reader.map_err(|error| failed(error, file))?;
        let seen = data_version(&mut reader).await.map_err(|error| failed(error, file))?;
        let (reader, seen) = (Mutex::new(reader), AtomicI64::new(seen));
        Ok(Self { file: file.to_owned(), namespace, backend, writer, reader, seen })
    }

    /// The namespace whose runs are shown, if it is not every one's.
    pub(crate) fn shown_namespace(&self) -> Option<&Name> {
        self.namespace.as_ref()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }

    fn failed(&self, error: sqlx::Error) -> scheduler_core::Error {
        failed(error, &self.file)
    }

    pub(crate) fn read(&self, row: &SqliteRow) -> Result<Run, Box<Run>> {
        let finished: Option<i64> = row.get("finished");
        let indexed = Indexed {
            // What the file holds besides our own ids and names is nobody's doing but its owner's.
            id: row.get::<&str, _>("id").parse().unwrap_or(RunId::manual(Timestamp::from_millis(0))),
            task: Name::new(row.get::<&str, _>("task")).unwrap_or_else(|_| self.backend.clone()),
            state: shown(row.get("state")),
            attempt: row.get("attempt"),
            fire_time: Timestamp::from_millis(row.get("fire_time")),
            due: Timestamp::from_millis(row.get("due")),
            finished: finished.map(Timestamp::from_millis),
        };
        envelope::open(indexed, row.get("envelope"), &self.backend)
    }

    /// Writes the end of an attempt; says whether it was still the run's delivery.
    async fn acknowledge(&self, change: &mut Transaction<'_, Sqlite>, ack: &Ack) -> sqlx::Result<bool> {
        let (state, due) = match ack.next {
            Next::End => (stored(ack.run.state), None),
            Next::Again(wait) => {
                let state = if ack.run.state == RunState::Retrying { RETRYING } else { SNOOZED };
                (state, Some((now() + wait).as_millis()))
            }
        };
        let written = sqlx::query(
            "UPDATE run SET state = ?1, died = CASE ?1 WHEN 11 THEN ?2 END, due = coalesce(?3, due), \
             attempt = ?4, lease_until = 0, finished = ?5, envelope = ?6 \
             WHERE id = ?7 AND fence = ?8 AND state = 4",
        )
        .bind(state)
        .bind(now().as_millis())
        .bind(due)
        .bind(ack.run.attempt)
        .bind(ack.run.finished_at.map(Timestamp::as_millis))
        .bind(envelope::seal(&ack.run))
        .bind(ack.run.id.to_string())
        .bind(fence_column(ack.fence))
        .execute(&mut **change)
        .await?;
        if let Some(at) = ack.run.finished_at.filter(|_| ack.is_followed && written.rows_affected() == 1) {
            self.note_finish(change, &ack.run.task, at).await?;
        }
        Ok(written.rows_affected() == 1)
    }

    async fn promote(&self, change: &mut Transaction<'_, Sqlite>, at: i64) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE run SET state = CASE WHEN alone AND state = 0 THEN 5 ELSE 3 END WHERE seq IN \
             (SELECT seq FROM run WHERE namespace = ? AND state < 3 AND due <= ? ORDER BY due LIMIT ?)",
        )
        .bind(self.namespace())
        .bind(at)
        .bind(PROMOTED)
        .execute(&mut **change)
        .await?;
        self.release(change).await
    }

    /// Lets the first of the runs that wait for their turn go on, of each task of which nothing else lives.
    pub(crate) async fn release(&self, change: &mut Transaction<'_, Sqlite>) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE run SET state = 3 WHERE seq IN (SELECT min(seq) FROM run AS held WHERE namespace = ? \
             AND state = 5 AND NOT EXISTS (SELECT 1 FROM run AS live WHERE live.namespace = held.namespace \
             AND live.task = held.task AND live.state BETWEEN 1 AND 4 AND live.state < 10) GROUP BY task)",
        )
        .bind(self.namespace())
        .execute(&mut **change)
        .await
        .map(drop)
    }

    /// Adds a run; says whether it is new.
    pub(crate) async fn insert(
        &self,
        change: &mut Transaction<'_, Sqlite>,
        pushed: &Pushed,
    ) -> sqlx::Result<bool> {
        let Pushed { run, due, priority, max_attempts, alone } = pushed;
        let state = match (run.state.is_end(), *due <= now(), alone) {
            (true, ..) => stored(run.state),
            (false, false, _) => SCHEDULED,
            (false, true, true) => HELD,
            (false, true, false) => READY,
        };
        let inserted = sqlx::query(
            "INSERT INTO run (id, namespace, task, state, priority, due, fire_time, attempt, max_attempts, \
             alone, finished, envelope) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )
        .bind(run.id.to_string())
        .bind(self.namespace())
        .bind(run.task.as_str())
        .bind(state)
        .bind(*priority)
        .bind(due.as_millis())
        .bind(run.fire_time.as_millis())
        .bind(*max_attempts)
        .bind(*alone)
        .bind(run.finished_at.map(Timestamp::as_millis))
        .bind(envelope::seal(run))
        .execute(&mut **change)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Ends a run that waits.
    pub(crate) async fn end_waiting(
        &self,
        change: &mut Transaction<'_, Sqlite>,
        row: &SqliteRow,
        reason: &str,
    ) -> sqlx::Result<Run> {
        let mut run = self.read(row).unwrap_or_else(|run| *run);
        let at = now();
        run.state = RunState::Cancelled;
        run.reason = Some(reason.to_owned());
        run.finished_at = Some(at);
        run.next_attempt_at = None;
        sqlx::query("UPDATE run SET state = 12, finished = ?, envelope = ? WHERE seq = ?")
            .bind(at.as_millis())
            .bind(envelope::seal(&run))
            .bind(row.get::<i64, _>("seq"))
            .execute(&mut **change)
            .await?;
        self.note_finish(change, &run.task, at).await?;
        Ok(run)
    }

    /// Notes when a run of a task finished, for a trigger that follows it.
    async fn note_finish(
        &self,
        change: &mut Transaction<'_, Sqlite>,
        task: &Name,
        at: Timestamp,
    ) -> sqlx::Result<()> {
        let note =
            "UPDATE schedule SET finished = max(coalesce(finished, ?), ?) WHERE namespace = ? AND task = ?";
        sqlx::query(note)
            .bind(at.as_millis())
            .bind(at.as_millis())
            .bind(self.namespace())
            .bind(task.as_str())
            .execute(&mut **change)
            .await
            .map(drop)
    }

    async fn claim(
        &self,
        change: &mut Transaction<'_, Sqlite>,
        claim: &Claim,
        answer: &mut Stepped,
    ) -> sqlx::Result<()> {
        let ready: Vec<i64> = sqlx::query_scalar(
            "SELECT seq FROM run WHERE namespace = ? AND state = 3 ORDER BY priority DESC, due, seq LIMIT ?",
        )
        .bind(self.namespace())
        .bind(i64::from(claim.limit) + 1)
        .fetch_all(&mut **change)
        .await?;
        answer.has_more = ready.len() > claim.limit as usize;
        let taken = &ready[..ready.len().min(claim.limit as usize)];
        if taken.is_empty() {
            return Ok(());
        }
        let last: i64 =
            sqlx::query_scalar("UPDATE meta SET value = value + ? WHERE key = 'fence' RETURNING value")
                .bind(i64::try_from(taken.len()).unwrap_or(i64::MAX))
                .fetch_one(&mut **change)
                .await?;
        let until = since_boot() + millis(claim.lease);
        for (seq, fence) in taken.iter().zip(last - taken.len() as i64 + 1..) {
            let row = sqlx::query(concat!(
                "UPDATE run SET state = 4, attempt = attempt + 1, fence = ?, lease_until = ?, cancel = NULL ",
                "WHERE seq = ? RETURNING ",
                columns!()
            ))
            .bind(fence)
            .bind(until)
            .bind(seq)
            .fetch_one(&mut **change)
            .await?;
            match self.read(&row) {
                Ok(run) => answer.claimed.push(Delivery {
                    run,
                    fence: fence.unsigned_abs(),
                    max_attempts: row.get("max_attempts"),
                }),
                Err(run) => answer.undecodable.push(self.bury(change, *seq, *run).await?),
            }
        }
        Ok(())
    }

    /// Ends a run whose envelope cannot be read. The envelope stays, for whoever wants to look at it.
    async fn bury(&self, change: &mut Transaction<'_, Sqlite>, seq: i64, mut run: Run) -> sqlx::Result<Run> {
        let at = now();
        run.finished_at = Some(at);
        sqlx::query("UPDATE run SET state = 11, lease_until = 0, finished = ?1, died = ?1 WHERE seq = ?2")
            .bind(at.as_millis())
            .bind(seq)
            .execute(&mut **change)
            .await?;
        Ok(run)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        let mut connection = self.writer.lock().await;
        let changed = async {
            let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
            let mut answers = Vec::with_capacity(runs.len());
            for pushed in &runs {
                answers.push(self.insert(&mut change, pushed).await?);
            }
            self.release(&mut change).await?;
            change.commit().await?;
            Ok(answers)
        };
        changed.await.map_err(|error| self.failed(error))
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        let mut connection = self.writer.lock().await;
        let changed = async {
            let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
            let mut answer = Stepped::default();
            for (index, ack) in acks.iter().enumerate() {
                if !self.acknowledge(&mut change, ack).await? {
                    answer.refused.push(index);
                }
            }
            let at = now().as_millis();
            self.promote(&mut change, at).await?;
            if claim.limit > 0 {
                self.claim(&mut change, claim, &mut answer).await?;
            }
            let next: Option<i64> =
                sqlx::query_scalar("SELECT min(due) FROM run WHERE namespace = ? AND state < 3")
                    .bind(self.namespace())
                    .fetch_one(&mut *change)
                    .await?;
            answer.next_due = next.map(|next| Duration::from_millis((next - at).max(0).unsigned_abs()));
            change.commit().await?;
            Ok(answer)
        };
        changed.await.map_err(|error| self.failed(error))
    }

    async fn renew(&self, held: &[Held], lease: Duration) -> Result<Renewed> {
        let mut connection = self.writer.lock().await;
        let changed = async {
            let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
            let until = since_boot() + millis(lease);
            let mut answer = Renewed::default();
            for held in held {
                let kept = sqlx::query(
                    "UPDATE run SET lease_until = ? WHERE id = ? AND fence = ? AND state = 4 RETURNING cancel",
                )
                .bind(until)
                .bind(held.run.to_string())
                .bind(fence_column(held.fence))
                .fetch_optional(&mut *change)
                .await?;
                match kept {
                    None => answer.lost.push(held.run),
                    Some(row) => {
                        let reason: Option<String> = row.get(0);
                        answer.cancelled.extend(reason.map(|reason| (held.run, reason)));
                    }
                }
            }
            change.commit().await?;
            Ok(answer)
        };
        changed.await.map_err(|error| self.failed(error))
    }

    async fn reap(&self, limit: u32) -> Result<Vec<Run>> {
        let mut connection = self.writer.lock().await;
        let changed = async {
            let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
            let expired = sqlx::query(concat!(
                "SELECT cancel, ",
                columns!(),
                " FROM run WHERE namespace = ? AND state = 4 AND lease_until < ? ORDER BY lease_until LIMIT ?"
            ))
            .bind(self.namespace())
            .bind(since_boot())
            .bind(limit)
            .fetch_all(&mut *change)
            .await?;
            let at = now();
            let mut answers = Vec::with_capacity(expired.len());
            for row in &expired {
                let Ok(mut run) = self.read(row) else {
                    let run = self.read(row).expect_err("it could not be read");
                    answers.push(self.bury(&mut change, row.get("seq"), *run).await?);
                    continue;
                };
                run.record_failure(at, "its worker is gone: the lease expired");
                let is_spent = run.attempt >= row.get::<u32, _>("max_attempts");
                let told: Option<String> = row.get("cancel");
                run.state = match (&told, is_spent) {
                    (Some(_), _) => RunState::Cancelled,
                    (None, true) => RunState::Failed,
                    (None, false) => RunState::Queued,
                };
                if run.state.is_end() {
                    run.finished_at = Some(at);
                    let spent = "its worker is gone: the lease expired, and no attempt is left";
                    run.reason = Some(told.unwrap_or_else(|| spent.to_owned()));
                }
                sqlx::query(
                    "UPDATE run SET state = ?1, died = CASE ?1 WHEN 11 THEN ?2 END, lease_until = 0, \
                     finished = ?2, envelope = ?3 WHERE seq = ?4",
                )
                .bind(stored(run.state))
                .bind(run.finished_at.map(Timestamp::as_millis))
                .bind(envelope::seal(&run))
                .bind(row.get::<i64, _>("seq"))
                .execute(&mut *change)
                .await?;
                answers.push(run);
            }
            change.commit().await?;
            Ok(answers)
        };
        changed.await.map_err(|error| self.failed(error))
    }

    async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancel> {
        let mut connection = self.writer.lock().await;
        let changed = async {
            let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
            let found =
                sqlx::query(concat!("SELECT ", columns!(), " FROM run WHERE id = ? AND namespace = ?"))
                    .bind(run.to_string())
                    .bind(self.namespace())
                    .fetch_optional(&mut *change)
                    .await?;
            let Some(row) = found else { return Ok(Cancel::Unknown) };
            let seq: i64 = row.get("seq");
            let answer = match row.get::<i64, _>("state") {
                RUNNING => {
                    let marked =
                        sqlx::query("UPDATE run SET cancel = ? WHERE seq = ?").bind(reason).bind(seq);
                    marked.execute(&mut *change).await?;
                    Cancel::Marked
                }
                state if state > HELD => Cancel::TooLate,
                _ => {
                    let run = self.end_waiting(&mut change, &row, reason).await?;
                    self.release(&mut change).await?;
                    Cancel::Ended(Box::new(run))
                }
            };
            change.commit().await?;
            Ok(answer)
        };
        changed.await.map_err(|error| self.failed(error))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        let mut connection = self.reader.lock().await;
        page(&mut connection, filter, self.namespace.as_ref(), |row| {
            self.read(row).unwrap_or_else(|run| *run)
        })
        .await
        .map_err(|error| self.failed(error))
    }

    async fn waiting(&self) -> Result<usize> {
        let mut connection = self.reader.lock().await;
        let counted: sqlx::Result<i64> =
            sqlx::query_scalar("SELECT count(*) FROM run WHERE namespace = ? AND state < 10 AND state <> 4")
                .bind(self.namespace())
                .fetch_one(&mut *connection)
                .await;
        counted.map(|count| usize::try_from(count).unwrap_or(0)).map_err(|error| self.failed(error))
    }

    async fn register(&self, task: &Name, definition: &str, lease: Duration) -> Result<u64> {
        let mut connection = self.writer.lock().await;
        let registered =
            sqlite_schedule::register(self.namespace(), &mut connection, task, definition, lease);
        registered.await.map_err(|error| self.failed(error))
    }

    async fn serve(&self, tasks: &[Name], lease: Duration) -> Result<()> {
        let mut connection = self.writer.lock().await;
        let served = sqlite_schedule::serve(self.namespace(), &mut connection, tasks, lease);
        served.await.map_err(|error| self.failed(error))
    }

    async fn decide(&self, task: &Name, revision: u64, decide: &Decide<'_>) -> Result<Decided> {
        let mut connection = self.writer.lock().await;
        let decided = sqlite_schedule::decide(self, &mut connection, task, revision, decide);
        decided.await.map_err(|error| self.failed(error))
    }

    async fn pause(&self, task: &Name, pause: Option<&Pause>) -> Result<()> {
        let mut connection = self.writer.lock().await;
        let paused = sqlite_schedule::pause(self.namespace(), &mut connection, task, pause);
        paused.await.map_err(|error| self.failed(error))
    }

    async fn standing(&self, task: &Name) -> Result<Option<Standing>> {
        let mut connection = self.reader.lock().await;
        let found = sqlite_schedule::standing(self.namespace(), &mut connection, task).await;
        Ok(found.map_err(|error| self.failed(error))?.map(|(_, standing)| standing))
    }

    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let mut connection = self.reader.lock().await;
        let page = sqlite_letters::page(self, &mut connection, filter).await;
        page.map_err(|error| self.failed(error))
    }

    async fn replay(&self, letters: &[(RunId, RunId)]) -> Result<Vec<Replayed>> {
        let mut connection = self.writer.lock().await;
        let replayed = sqlite_letters::replay(self, &mut connection, letters).await;
        replayed.map_err(|error| self.failed(error))
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        let mut connection = self.writer.lock().await;
        let held = sqlite_letters::hold(self.namespace(), &mut connection, run, reason).await;
        held.map_err(|error| self.failed(error))
    }

    async fn discard(&self, runs: &[RunId]) -> Result<Vec<bool>> {
        let mut connection = self.writer.lock().await;
        let discarded = sqlite_letters::discard(self.namespace(), &mut connection, runs).await;
        discarded.map_err(|error| self.failed(error))
    }

    async fn changed(&self) {
        loop {
            let version = data_version(&mut *self.reader.lock().await).await;
            // A file that does not answer now is no news; the caller looks from time to time all the same.
            if let Ok(version) = version
                && self.seen.swap(version, Ordering::Relaxed) != version
            {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize> {
        let Retention { runs: keep, age, .. } = *retention;
        let mut connection = self.writer.lock().await;
        let changed = async {
            let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
            let let_go = sqlite_letters::let_go(self.namespace(), &mut change, retention, limit).await?;
            let keep = i64::try_from(keep).unwrap_or(i64::MAX);
            // The newest run that is one too many, found by walking the index from its young end.
            let beyond = sqlx::query(
                "SELECT finished, seq FROM run WHERE namespace = ? AND state >= 10 AND died IS NULL \
                 ORDER BY finished DESC, seq DESC LIMIT 1 OFFSET ?",
            )
            .bind(self.namespace())
            .bind(keep)
            .fetch_optional(&mut *change)
            .await?;
            let beyond = beyond.map(|row| (row.get::<i64, _>(0), row.get::<i64, _>(1)));
            let oldest = ((now() - age).as_millis(), i64::MAX);
            let (finished, seq) = beyond.map_or(oldest, |beyond| beyond.max(oldest));
            let forgotten = sqlx::query(
                "DELETE FROM run WHERE seq IN (SELECT seq FROM run WHERE namespace = ? AND state >= 10 \
                 AND died IS NULL AND (finished, seq) <= (?, ?) ORDER BY finished, seq LIMIT ?)",
            )
            .bind(self.namespace())
            .bind(finished)
            .bind(seq)
            .bind(i64::from(limit).saturating_sub(let_go))
            .execute(&mut *change)
            .await?;
            change.commit().await?;
            let count = forgotten.rows_affected().saturating_add(let_go.unsigned_abs());
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        };
        changed.await.map_err(|error| self.failed(error))
    }
}

/// One page of the runs of a namespace, newest fire first.
async fn page(
    connection: &mut SqliteConnection,
    filter: &RunFilter,
    namespace: Option<&Name>,
    read: impl Fn(&SqliteRow) -> Run,
) -> sqlx::Result<Page> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!("SELECT ", columns!(), " FROM run WHERE "));
    match namespace {
        Some(namespace) => query.push("namespace = ").push_bind(namespace.as_str()),
        None => query.push("true"),
    };
    if let Some(run) = filter.run {
        query.push(" AND id = ").push_bind(run.to_string());
    }
    if let Some(task) = &filter.task {
        query.push(" AND task = ").push_bind(task.as_str());
    }
    if !filter.states.is_empty() {
        query.push(" AND state IN (");
        let mut states = query.separated(", ");
        for state in filter.states.iter().flat_map(|state| numbers(*state)) {
            states.push_bind(*state);
        }
        query.push(")");
    }
    if let Some(after) = &filter.after {
        query.push(" AND (fire_time, id) < (").push_bind(after.fire_time().as_millis());
        query.push(", ").push_bind(after.run().to_string()).push(")");
    }
    query.push(" ORDER BY fire_time DESC, id DESC LIMIT ");
    query.push_bind(i64::try_from(filter.page_size()).unwrap_or(i64::MAX).saturating_add(1));
    let rows = query.build().fetch_all(connection).await?;
    let has_more = rows.len() > filter.page_size();
    let runs: Vec<Run> = rows.iter().take(filter.page_size()).map(read).collect();
    let next = runs.last().filter(|_| has_more).map(PageToken::of);
    Ok(Page { runs, next })
}

/// A number that differs once another connection has changed the file.
async fn data_version(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await
}

fn stored(state: RunState) -> i64 {
    match state {
        RunState::Scheduled => SCHEDULED,
        RunState::Retrying => RETRYING,
        RunState::Queued => READY,
        RunState::Running => RUNNING,
        RunState::Succeeded => SUCCEEDED,
        RunState::Failed => FAILED,
        RunState::Cancelled => CANCELLED,
        RunState::Skipped => SKIPPED,
    }
}

fn numbers(state: RunState) -> &'static [i64] {
    match state {
        RunState::Scheduled => &[SCHEDULED],
        RunState::Retrying => &[RETRYING],
        RunState::Queued => &[SNOOZED, READY, HELD],
        RunState::Running => &[RUNNING],
        RunState::Succeeded => &[SUCCEEDED],
        RunState::Failed => &[FAILED],
        RunState::Cancelled => &[CANCELLED],
        RunState::Skipped => &[SKIPPED],
    }
}

fn shown(number: i64) -> RunState {
    let known = RunState::ALL.iter().find(|state| numbers(**state).contains(&number));
    known.copied().unwrap_or(RunState::Failed)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

fn fence_column(fence: u64) -> i64 {
    i64::try_from(fence).unwrap_or(i64::MAX)
}
