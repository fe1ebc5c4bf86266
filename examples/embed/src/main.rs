//! `embed RATES REPORTS [ADDRESS]` serves the rates in the file RATES and adds to the file REPORTS every night.
//! SIGTERM and Ctrl-C let a refresh or a report that is under way end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use embed::{Cache, FileFeed, schedules, server};
use scheduler_core::{Name, SystemClock, TriggerRequest};
use tokio::net::TcpListener;

/// How long a run that is under way may go on.
const GRACE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: embed RATES REPORTS [ADDRESS]";
    let (rates, reports) = arguments.next().zip(arguments.next()).context(usage)?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;

    let cache = Cache::default();
    let feed = Arc::new(FileFeed(rates.into()));
    let clock = Arc::new(SystemClock::new());
    let scheduler = schedules::scheduler(clock, &cache, feed, reports.into()).await?;
    scheduler.start().await?;
    // The first customer should not have to wait for the next full minute.
    scheduler.trigger(&Name::new(schedules::REFRESH)?, TriggerRequest::now()).await?;
    println!("listening on {}", listener.local_addr()?);

    tokio::select! {
        broken = server::serve(listener, cache) => broken?,
        told = told_to_stop() => told?,
    }

    let drained = scheduler.stop(GRACE).await?;
    println!("drained: {} finished, {} abandoned", drained.finished, drained.abandoned.len());
    Ok(())
}

#[cfg(unix)]
async fn told_to_stop() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

#[cfg(not(unix))]
async fn told_to_stop() -> Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}
