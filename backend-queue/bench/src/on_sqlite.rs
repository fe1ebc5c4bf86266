//! The measurements on SQLite files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::apalis_sqlite::ApalisSqlite;
use crate::contender::{BULK, CALLERS, Contender, KEPT, PAUSE};
use crate::machine::processor_time;
use crate::ours::Ours;
use crate::recorder::{PAYLOAD, Recorder};
use crate::report::{Headline, Report, Samples};
use crate::sqlite_extent::{Extent, Mode};

/// Measures everything on files in `folder`.
///
/// # Errors
/// The files cannot be written, or jobs get lost.
pub(crate) async fn measure(folder: &Path, quick: bool) -> Result<Report> {
    let extent = Extent::new(quick);
    let mut report = Report::new("sqlite", quick);
    report.version("apalis-sqlite", "1.0.0".to_owned());
    report.setting("payload", "100 bytes of JSON");
    report.setting("ours", json!({"concurrency": 16, "history_runs": KEPT, "others": "defaults"}));
    report.setting("ours, with many finished", json!({"history_runs": 100 * extent.many}));
    report.setting(
        "apalis-sqlite",
        "batches of 10, locks; polls every 10 ms by our strategy; keeps all that ended",
    );
    report.setting("both", "a write-ahead journal and the same `synchronous`");
    report
        .setting("store_cpu_us_per_run", "the processor time of the whole process: the store is part of it");
    for mode in [Mode::Full, Mode::Normal] {
        let folder = folder.join(mode.word());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Measured { mode, folder, report: &mut report, extent: &extent }.all().await?;
    }
    judge(&mut report);
    Ok(report)
}

/// Says what was reached.
fn judge(report: &mut Report) {
    let (ours, full) = (report.headline.clone(), report.peer(Mode::Full.name()).clone());
    let of = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
    report.want_above("drain, NORMAL", 40_000.0, of(ours.runs_per_s), "runs per second");
    let callers = "enqueue from 64 callers";
    report.want_above(
        format!("{callers}, NORMAL"),
        15_000.0,
        of(ours.enqueue_single_64_per_s),
        "runs per second",
    );
    report.want_above("drain, FULL", 20_000.0, of(full.runs_per_s), "runs per second");
    report.want_above(
        format!("{callers}, FULL"),
        7_500.0,
        of(full.enqueue_single_64_per_s),
        "runs per second",
    );
    let (few, many) = (of(ours.finished_1k_runs_per_s), of(ours.finished_1m_runs_per_s));
    report.want_ratio("drain at many finished against few", 0.8, many, few);
    let left = of(ours.left_after_retention_bytes) / PAGE;
    report.want_below("left after retention beyond an empty store", 10.0, left, "pages");
}

/// How large a page is.
const PAGE: f64 = 4_096.0;

/// All that is measured with one `synchronous`.
struct Measured<'a> {
    mode: Mode,
    folder: PathBuf,
    report: &'a mut Report,
    extent: &'a Extent,
}

impl Measured<'_> {
    async fn all(&mut self) -> Result<()> {
        self.drained().await?;
        let theirs = ApalisSqlite::on(&self.folder.join("apalis.db"), self.mode.theirs()).await?;
        self.beside(theirs).await?;
        let mut ours = self.ours("new");
        self.enqueued(&mut ours, true).await?;
        let mut theirs = ApalisSqlite::on(&self.folder.join("new.db"), self.mode.theirs()).await?;
        self.enqueued(&mut theirs, false).await?;
        if self.mode == Mode::Normal { self.finished().await } else { Ok(()) }
    }

    /// Ourselves on a new file.
    fn ours(&self, file: &str) -> Ours {
        Ours::new("ours", self.folder.join(file), json!({"synchronous": self.mode.word()}))
    }

    fn headline(&mut self, is_ours: bool) -> &mut Headline {
        let headline = match (is_ours, self.mode) {
            (true, Mode::Normal) => &mut self.report.headline,
            (true, Mode::Full) => self.report.peer(self.mode.name()),
            (false, _) => self.report.peer(self.mode.peer()),
        };
        headline.synchronous = Some(self.mode.word());
        headline
    }

    fn figure(&mut self, what: &str, of: &'static str, unit: &'static str, samples: &Samples) {
        let what = format!("{what}, {}", self.mode.word().to_uppercase());
        self.report.figure(what, of, unit, samples);
    }

    /// Drains of new files by us alone, with what a run costs.
    async fn drained(&mut self) -> Result<()> {
        let (mut rate, mut cpu, mut waiting) = (Samples::default(), Samples::default(), Samples::default());
        let jobs = self.extent.backlog;
        for round in 0..self.extent.repeats {
            let mut ours = self.ours(&format!("drain-{round}"));
            ours.fill(jobs).await?;
            waiting.push(self.bytes(&format!("drain-{round}")).await? / jobs as f64 - PAYLOAD as f64);
            let before = processor_time();
            rate.push_rate(jobs, ours.drain(jobs).await?);
            cpu.push((processor_time() - before) / jobs as f64);
            ours.verify(jobs).await?;
        }
        self.figure(&format!("drain of {jobs}"), "ours", "runs per second", &rate);
        self.figure("own processor", "ours", "µs per run", &cpu);
        self.figure("a waiting run beyond its payload", "ours", "bytes", &waiting);
        let headline = self.headline(true);
        (headline.runs_per_s, headline.backlog) = (Some(rate.median()), Some(jobs));
        headline.store_cpu_us_per_run = Some(cpu.median());
        headline.bytes_per_waiting_run = Some(waiting.median());
        Ok(())
    }

    /// How much is in a file of ours, which its log may still hold.
    async fn bytes(&self, file: &str) -> Result<f64> {
        use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
        let file = SqliteConnectOptions::new().filename(self.folder.join(file).join("queue.db"));
        let pages: i64 =
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut file.connect().await?).await?;
        Ok(pages as f64 * PAGE)
    }

    /// Drains beside the peer, whose worker stays the same: nothing finished before, and then some.
    async fn beside(&mut self, mut theirs: ApalisSqlite) -> Result<()> {
        let Extent { repeats, ours: jobs, theirs: their_jobs, finished, .. } = *self.extent;
        let mut ours = self.ours("beside");
        let mut last = [f64::NAN; 2];
        for at in [0, finished] {
            let (mut rate, mut their_rate) = (Samples::default(), Samples::default());
            if at > 0 {
                finish(&mut ours, at.saturating_sub(repeats * jobs)).await?;
                finish(&mut theirs, at.saturating_sub(repeats * their_jobs)).await?;
            }
            // They take turns, so that a busy moment of the disk hits both.
            for _ in 0..repeats {
                ours.fill(jobs).await?;
                rate.push_rate(jobs, ours.drain(jobs).await?);
                theirs.fill(their_jobs).await?;
                their_rate.push_rate(their_jobs, theirs.drain(their_jobs).await?);
            }
            let what = format!("drain at {at} finished");
            self.figure(&what, "ours", "runs per second", &rate);
            self.figure(&what, "apalis-sqlite", "runs per second", &their_rate);
            last = [rate.median(), their_rate.median()];
        }
        ours.verify(2 * repeats * jobs + finished.saturating_sub(repeats * jobs)).await?;
        theirs.verify(finished.max(repeats * their_jobs) + repeats * their_jobs).await?;
        self.headline(false).runs_per_s = Some(last[1]);
        let what = format!(
            "drain at {finished} finished against apalis-sqlite, {}",
            self.mode.word().to_uppercase()
        );
        self.report.want_ratio(what, 20.0, last[0], last[1]);
        self.started(&mut ours, true).await?;
        self.started(&mut theirs, false).await
    }

    /// From the call to the beginning of a job.
    async fn started(&mut self, contender: &mut impl Contender, is_ours: bool) -> Result<()> {
        let latencies = contender.latencies(self.extent.latencies).await?;
        let word = self.mode.word().to_uppercase();
        let what = format!("enqueue to start, a job every {} ms, {word}", PAUSE.as_millis());
        let (p50, p99) = self.report.latencies(&what, contender.name(), &latencies);
        let headline = self.headline(is_ours);
        (headline.start_p50_ms, headline.start_p99_ms) = (Some(p50), Some(p99));
        Ok(())
    }

    /// How fast jobs come in.
    async fn enqueued(&mut self, contender: &mut impl Contender, is_ours: bool) -> Result<()> {
        let Extent { repeats, single, from_callers, bulk, .. } = *self.extent;
        let [mut singly, mut by_many, mut at_once] = [(); 3].map(|()| Samples::default());
        for _ in 0..repeats {
            singly.push_rate(single, contender.enqueue_singly(single).await?);
            by_many.push_rate(from_callers, contender.enqueue_from_callers(from_callers).await?);
            at_once.push_rate(bulk, contender.enqueue_in_bulk(bulk).await?);
        }
        let (name, unit) = (contender.name(), "runs per second");
        self.figure("enqueue one by one", name, unit, &singly);
        self.figure(&format!("enqueue one by one from {CALLERS} callers"), name, unit, &by_many);
        self.figure(&format!("enqueue {BULK} at once"), name, unit, &at_once);
        let headline = self.headline(is_ours);
        headline.enqueue_single_64_per_s = Some(by_many.median());
        headline.enqueue_bulk_per_s = Some(at_once.median());
        Ok(())
    }

    /// Drains with few and with many that ended before and are kept, and what is left of the file without them.
    async fn finished(&mut self) -> Result<()> {
        let Extent { repeats, ours: jobs, few, many, .. } = *self.extent;
        let mut ours = self.ours("finished").with(&json!({"history_runs": 100 * many}));
        let unused = ours.recording(&Recorder::new(0)).await?;
        unused.start().await?;
        ours.stop(&unused).await?;
        let empty = self.bytes("finished").await?;
        let [mut at_few, mut at_many, mut backlog] = [(); 3].map(|()| Samples::default());
        for round in 0..repeats {
            let mut fresh = self.ours(&format!("few-{round}")).with(&json!({"history_runs": 100 * many}));
            finish(&mut fresh, few).await?;
            fresh.fill(jobs).await?;
            at_few.push_rate(jobs, fresh.drain(jobs).await?);
        }
        ours.fill(many).await?;
        backlog.push_rate(many, ours.drain(many).await?);
        for _ in 0..repeats {
            ours.fill(jobs).await?;
            at_many.push_rate(jobs, ours.drain(jobs).await?);
        }
        let full = self.bytes("finished").await?;
        ours.forget().await?;
        let left = self.shrunk(&ours, "finished", empty).await? - empty;
        self.figure(&format!("drain at {few} kept"), "ours", "runs per second", &at_few);
        self.figure(&format!("drain of {many}"), "ours", "runs per second", &backlog);
        self.figure(&format!("drain at {many} kept"), "ours", "runs per second", &at_many);
        self.figure("file with all that ended", "ours", "bytes", &full.into());
        self.figure("file after retention, beyond an empty one", "ours", "bytes", &left.into());
        let headline = self.headline(true);
        headline.finished_1k_runs_per_s = Some(at_few.median());
        headline.finished_1m_runs_per_s = Some(at_many.median());
        headline.backlog_1m_runs_per_s = Some(backlog.median());
        headline.left_after_retention_bytes = Some(left);
        Ok(())
    }

    /// How much is in a file when it has given back what it does not need, at the latest after a while.
    async fn shrunk(&self, ours: &Ours, file: &str, empty: f64) -> Result<f64> {
        let scheduler = ours.with(&json!({"history_runs": 0})).recording(&Recorder::new(0)).await?;
        scheduler.start().await?;
        let until = Instant::now() + Duration::from_secs(60);
        let place = self.folder.join(file).join("queue.db");
        let length = || std::fs::metadata(&place).map_or(f64::NAN, |told| told.len() as f64);
        let mut bytes = length();
        while bytes > empty + 10.0 * PAGE && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(200)).await;
            bytes = length();
        }
        ours.stop(&scheduler).await?;
        Ok(length())
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
