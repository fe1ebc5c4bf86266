//! Room that a file does not need any more is given back, some of it at a time.

use scheduler_core::Result;

use crate::sqlite::SqliteStore;
use crate::sqlite_schema::{BUSY, GIVES_BACK, LOOKS, PAGE, room_beside, run_all, wait_for};

/// How many pages are given back in one change.
const PAGES: i64 = 250;
/// What part of the pages in use may be free, for what comes next.
const SHARE: i64 = 8;
/// How many pages may be in use in a file that is written anew as a whole, which nobody else can write into meanwhile.
const FEW: i64 = 2_500;

/// How a file that was made by an earlier version gives nothing back.
const NEVER: i64 = 0;

impl SqliteStore {
    /// Gives back what is free beyond what is soon needed again.
    ///
    /// # Errors
    /// Those of a change.
    pub(crate) async fn give_room_back(&self) -> Result<()> {
        let mut is_any = false;
        loop {
            let (free, in_use, way) = self.room().await?;
            if free <= in_use / SHARE {
                break;
            }
            match way {
                // It is written into the log as a whole, and beside that once more.
                NEVER if in_use > FEW || room_beside(&self.file) / PAGE < 4 * in_use.unsigned_abs() => break,
                NEVER => self.write_anew().await?,
                _ => self.give_pages_back(free.min(PAGES)).await?,
            }
            is_any = true;
            if self.room().await?.0 >= free {
                break;
            }
        }
        if is_any { self.settle_log().await } else { Ok(()) }
    }

    /// How many pages are free, how many are not, and how the file gives them back.
    async fn room(&self) -> Result<(i64, i64, i64)> {
        let mut reading = self.reading().await?;
        let room = sqlx::query_as(
            "SELECT freelist_count, page_count - freelist_count, auto_vacuum \
             FROM pragma_freelist_count, pragma_page_count, pragma_auto_vacuum",
        );
        let room = room.fetch_one(&mut reading.connection).await;
        reading.end(room)
    }

    async fn give_pages_back(&self, pages: i64) -> Result<()> {
        let mut change = self.change().await?;
        let text = format!("PRAGMA incremental_vacuum({pages})");
        let given = sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut change.connection).await;
        change.end(given.map(drop)).await
    }

    async fn write_anew(&self) -> Result<()> {
        self.outside_of_changes(&[GIVES_BACK, "VACUUM"]).await
    }

    /// A file becomes shorter when what was written about it leaves the log.
    async fn settle_log(&self) -> Result<()> {
        self.outside_of_changes(&["PRAGMA wal_checkpoint(PASSIVE)"]).await
    }

    /// What cannot be part of a change, on the connection that makes them.
    async fn outside_of_changes(&self, statements: &[&'static str]) -> Result<()> {
        let mut writer = self.writer.lock().await;
        let Some(mut connection) = writer.take() else { return Ok(()) };
        let done = async {
            wait_for(&mut connection, BUSY).await?;
            run_all(&mut connection, statements).await?;
            wait_for(&mut connection, LOOKS).await
        };
        let done = done.await;
        if done.is_ok() {
            *writer = Some(connection);
        }
        done.map_err(|error| self.failed(error))
    }
}
