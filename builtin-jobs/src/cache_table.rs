//! A table of SQLite as a cache: rows whose timestamp is too old go, some at a time, so that others can write in
//! between.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scheduler_core::{ArgsError, Error, Result, RunContext, Timestamp, async_trait};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use crate::cache_args::TargetArgs;
use crate::cache_cleanup::CacheTarget;
use crate::cache_sweep::Sweep;
use crate::cache_unit::Unit;

/// How long another connection that writes is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// A table with a column of timestamps.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) path: PathBuf,
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) unit: Unit,
    pub(crate) max_age: Duration,
    /// How many rows go at once.
    pub(crate) chunk: u32,
}

impl Table {
    /// Reads a target.
    ///
    /// # Errors
    /// Every fault of its keys.
    pub(crate) fn read(args: TargetArgs) -> Result<Self, Vec<ArgsError>> {
        let (table, column) = (args.table.unwrap_or_default(), args.column.unwrap_or_default());
        let names = [("/table", &table), ("/column", &column)].into_iter();
        let bad = names.filter(|(_, name)| name.trim().is_empty() || name.contains('\0'));
        let faults: Vec<ArgsError> = bad.map(|(place, _)| ArgsError::new(place, "this is no name")).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            path: args.path.unwrap_or_default(),
            table,
            column,
            unit: args.unit.unwrap_or_default(),
            max_age: args.max_age.unwrap_or_default(),
            chunk: args.chunk.map_or(1_000, NonZeroU32::get),
        })
    }

    /// The column with its table: a name of no column, by itself, SQLite takes for a text.
    fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.table), quoted(&self.column))
    }

    /// What makes a row one that goes; the limit is its first parameter. What is no timestamp of the unit stays:
    /// SQLite finds an order between any two values.
    fn condition(&self) -> String {
        let column = self.qualified();
        match self.unit {
            Unit::Seconds | Unit::Milliseconds => {
                format!("typeof({column}) IN ('integer', 'real') AND {column} < ?1")
            }
            Unit::Text => {
                format!("typeof({column}) = 'text' AND unixepoch({column}) < ?1")
            }
        }
    }

    fn limit(&self, now: Timestamp) -> i64 {
        let age = i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX);
        let limit = now.as_millis().saturating_sub(age);
        match self.unit {
            Unit::Milliseconds => limit,
            Unit::Seconds | Unit::Text => limit.div_euclid(1000),
        }
    }

    async fn sweep(&self, connection: &mut SqliteConnection, sweep: &Sweep) -> Result<(), sqlx::Error> {
        let (table, column, condition) = (quoted(&self.table), self.qualified(), self.condition());
        let limit = self.limit(sweep.now());
        let oldest = format!(
            "SELECT rowid, CAST({column} AS TEXT) FROM {table} WHERE {condition} ORDER BY {column}, rowid LIMIT ?2"
        );
        let listed = i64::try_from(sweep.most_listed()).unwrap_or(i64::MAX);
        let oldest = sqlx::query_as::<_, (i64, String)>(AssertSqlSafe(oldest)).bind(limit).bind(listed);
        for (place, (row, used)) in (0_u128..).zip(oldest.fetch_all(&mut *connection).await?) {
            sweep.list(place, || format!("row {row} of {used}"));
        }
        // By number of the row, so that what stays is looked at once and not again for every part.
        let part = format!(
            "SELECT max(rowid), count(*) FROM \
             (SELECT rowid FROM {table} WHERE rowid >= ?2 AND {condition} ORDER BY rowid LIMIT ?3)"
        );
        let delete = format!("DELETE FROM {table} WHERE rowid BETWEEN ?2 AND ?3 AND {condition}");
        let mut first = i64::MIN;
        while !sweep.is_stopped() {
            let part = sqlx::query_as::<_, (Option<i64>, i64)>(AssertSqlSafe(part.clone()));
            let part = part.bind(limit).bind(first).bind(i64::from(self.chunk));
            let (Some(last), found) = part.fetch_one(&mut *connection).await? else { break };
            let gone = if sweep.is_dry() {
                found.unsigned_abs()
            } else {
                let delete = sqlx::query(AssertSqlSafe(delete.clone())).bind(limit).bind(first).bind(last);
                delete.execute(&mut *connection).await?.rows_affected()
            };
            sweep.removed_many(gone, 0);
            let Some(next) = last.checked_add(1) else { break };
            first = next;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn unusable(&self, error: sqlx::Error) -> Error {
        let message = format!("table {} of {} cannot be cleaned", self.table, self.path.display());
        Error::unavailable("cache_cleanup/unusable", message).with_source(error)
    }
}

#[async_trait]
impl CacheTarget for Table {
    async fn clean(&self, _: &RunContext, sweep: &Sweep) -> Result<()> {
        let path = self.path.clone();
        // A disk that does not answer blocks whoever asks.
        if !tokio::task::spawn_blocking(move || is_there(&path)).await.unwrap_or(true) {
            return Ok(());
        }
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(BUSY);
        let opened = options.read_only(sweep.is_dry()).disable_statement_logging().connect().await;
        let mut connection = opened.map_err(|error| self.unusable(error))?;
        self.sweep(&mut connection, sweep).await.map_err(|error| self.unusable(error))
    }

    fn check(&self) -> Vec<ArgsError> {
        Vec::new()
    }
}

fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// A name as SQL writes one, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
