//! Where fresh rates come from.

use std::path::PathBuf;

use anyhow::{Context, Result};
use scheduler_core::{RunContext, async_trait};
use tokio::task::spawn_blocking;

use crate::Rates;

/// A source of rates.
#[async_trait]
pub trait Feed: Send + Sync + 'static {
    /// All rates as they are now.
    async fn fetch(&self, ctx: &RunContext) -> Result<Rates>;
}

/// A file that another program keeps up to date, one pair and its price a line.
#[derive(Clone, Debug)]
pub struct FileFeed(pub PathBuf);

#[async_trait]
impl Feed for FileFeed {
    async fn fetch(&self, _ctx: &RunContext) -> Result<Rates> {
        let (file, path) = (self.0.display(), self.0.clone());
        // Files block, and a job must not keep its thread from others.
        let text = spawn_blocking(move || std::fs::read_to_string(path)).await?;
        let text = text.with_context(|| format!("cannot read {file}"))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| parsed(line).with_context(|| format!("{file} has the line `{line}`"))).collect()
    }
}

fn parsed(line: &str) -> Result<(String, f64)> {
    let (pair, price) = line.split_once(' ').context("a pair and its price belong on a line")?;
    Ok((pair.to_owned(), price.trim().parse().context("the price is no number")?))
}
