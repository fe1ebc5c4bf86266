//! The service's own work: a line with a pair is answered by a line with its price.

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Cache;

/// Longer lines end the connection.
const LONGEST_LINE: u64 = 64;

/// Answers until its future is dropped, which ends the connections too.
///
/// # Errors
/// The listener breaks.
pub async fn serve(listener: TcpListener, cache: Cache) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(answer(stream, cache.clone()));
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, cache: Cache) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while (&mut reader).take(LONGEST_LINE).read_line(&mut line).await? > 0 && line.ends_with('\n') {
        let answer =
            cache.price(line.trim()).map_or_else(|| "unknown\n".to_owned(), |price| format!("{price}\n"));
        writer.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
