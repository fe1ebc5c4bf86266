//! The measurements on SQLite files.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sqlx::sqlite::SqliteSynchronous;

use crate::apalis_sqlite::ApalisSqlite;
use crate::contender::Contender;
use crate::ours::Ours;
use crate::report::{Report, Samples};

/// How much is done.
struct Extent {
    repeats: usize,
    finished: usize,
    /// Jobs of one drain, ours and theirs: theirs take long.
    ours: usize,
    theirs: usize,
    single: usize,
    bulk: usize,
    latencies: usize,
}

impl Extent {
    fn new(quick: bool) -> Self {
        if quick {
            Self {
                repeats: 1,
                finished: 1_000,
                ours: 2_000,
                theirs: 200,
                single: 50,
                bulk: 2_000,
                latencies: 50,
            }
        } else {
            Self {
                repeats: 3,
                finished: 10_000,
                ours: 10_000,
                theirs: 500,
                single: 300,
                bulk: 10_000,
                latencies: 300,
            }
        }
    }
}

/// Measures everything on files in `folder`.
///
/// # Errors
/// The files cannot be written, or jobs get lost.
pub(crate) async fn measure(folder: &Path, quick: bool) -> Result<Report> {
    let extent = Extent::new(quick);
    let mut report = Report::new("sqlite", quick);
    report.version("apalis-sqlite", "1.0.0".to_owned());
    report.setting("payload", "100 bytes of JSON");
    report.setting("ours", json!({"concurrency": 16, "others": "defaults"}));
    report.setting("apalis-sqlite", "batches of 10, locks; polls every 10 ms by our strategy");
    report.setting("both", "a write-ahead journal and the same `synchronous`");
    for mode in [Mode::Full, Mode::Normal] {
        let folder = folder.join(mode.word());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        mode.measure(&mut report, &folder, &extent).await?;
    }
    Ok(report)
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Full,
    Normal,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }

    fn theirs(self) -> SqliteSynchronous {
        match self {
            Self::Full => SqliteSynchronous::Full,
            Self::Normal => SqliteSynchronous::Normal,
        }
    }

    async fn measure(self, report: &mut Report, folder: &Path, extent: &Extent) -> Result<()> {
        let word = self.word().to_uppercase();
        let mut ours = Ours::new("ours", folder, json!({"synchronous": self.word()}));
        let mut theirs = ApalisSqlite::on(&folder.join("apalis.db"), self.theirs()).await?;

        let mut rates = Rates::default();
        rates.measure(&mut ours, &mut theirs, extent, extent.repeats).await?;
        rates.tell(report, &format!("drain at 0 finished, {word}"), &ours, &theirs);

        // Up to as many as were done already, and then on.
        finish(&mut ours, extent.finished.saturating_sub(extent.repeats * extent.ours)).await?;
        finish(&mut theirs, extent.finished.saturating_sub(extent.repeats * extent.theirs)).await?;
        let mut rates = Rates::default();
        rates.measure(&mut ours, &mut theirs, extent, extent.repeats).await?;
        let what = format!("drain at {} finished, {word}", extent.finished);
        rates.tell(report, &what, &ours, &theirs);
        let wanted = format!("{what}, against apalis-sqlite");
        report.want_ratio(wanted, 10.0, rates.ours.median(), rates.theirs.median());

        let mut new = Ours::new("ours", folder.join("new"), json!({"synchronous": self.word()}));
        self.enqueued(report, &mut new, extent).await?;
        let mut new = ApalisSqlite::on(&folder.join("new.db"), self.theirs()).await?;
        self.enqueued(report, &mut new, extent).await?;
        let what = format!("enqueue to start, a job every 10 ms, {word}");
        let latencies = ours.latencies(extent.latencies).await?;
        report.latencies(&what, ours.name(), &latencies);
        let latencies = theirs.latencies(extent.latencies).await?;
        report.latencies(&what, theirs.name(), &latencies);
        Ok(())
    }

    async fn enqueued(
        self,
        report: &mut Report,
        contender: &mut impl Contender,
        extent: &Extent,
    ) -> Result<()> {
        let word = self.word().to_uppercase();
        let took = contender.enqueue_singly(extent.single).await?;
        let mut rate = Samples::default();
        rate.push_rate(extent.single, took);
        report.figure(format!("enqueue one by one, {word}"), contender.name(), "runs per second", &rate);
        let took = contender.enqueue_in_bulk(extent.bulk).await?;
        let mut rate = Samples::default();
        rate.push_rate(extent.bulk, took);
        report.figure(format!("enqueue 1,000 at once, {word}"), contender.name(), "runs per second", &rate);
        Ok(())
    }
}

/// Lets so many more jobs end.
async fn finish(contender: &mut impl Contender, jobs: usize) -> Result<()> {
    if jobs > 0 {
        contender.fill(jobs).await?;
        contender.drain(jobs).await?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Rates {
    ours: Samples,
    theirs: Samples,
}

impl Rates {
    /// Who is measured takes turns, so that a busy moment of the disk hits both.
    async fn measure(
        &mut self,
        ours: &mut Ours,
        theirs: &mut ApalisSqlite,
        extent: &Extent,
        repeats: usize,
    ) -> Result<()> {
        for _ in 0..repeats {
            ours.fill(extent.ours).await?;
            self.ours.push_rate(extent.ours, ours.drain(extent.ours).await?);
            theirs.fill(extent.theirs).await?;
            self.theirs.push_rate(extent.theirs, theirs.drain(extent.theirs).await?);
        }
        Ok(())
    }

    fn tell(&self, report: &mut Report, what: &str, ours: &Ours, theirs: &ApalisSqlite) {
        report.figure(what, ours.name(), "runs per second", &self.ours);
        report.figure(what, theirs.name(), "runs per second", &self.theirs);
    }
}
