//! The measurements on a Redis server.

use anyhow::Result;
use serde_json::json;

use crate::apalis_redis::{ApalisRedis, MOST_DUE};
use crate::bullmq::{BullMq, CONCURRENCY};
use crate::contender::{BULK, CALLERS, Contender, KEPT, PAUSE};
use crate::drains::{Drains, by_processes};
use crate::ours::Ours;
use crate::report::{Headline, Report, Samples};
use crate::server::Server;

/// How much is done.
struct Extent {
    repeats: usize,
    /// What everybody can take.
    backlog: usize,
    /// What those can take who take more.
    large: usize,
    largest: usize,
    single: usize,
    bulk: usize,
    latencies: usize,
}

impl Extent {
    fn new(quick: bool) -> Self {
        if quick {
            return Self {
                repeats: 1,
                backlog: 2_000,
                large: 10_000,
                largest: 50_000,
                single: 300,
                bulk: 10_000,
                latencies: 100,
            };
        }
        Self {
            repeats: 5,
            backlog: MOST_DUE,
            large: 100_000,
            largest: 1_000_000,
            single: 3_000,
            bulk: 100_000,
            latencies: 500,
        }
    }

    /// How many are enqueued by many callers.
    fn from_callers(&self) -> usize {
        self.bulk / 2
    }
}

/// Measures everything on the server, which is flushed again and again.
///
/// # Errors
/// The server does not answer, or jobs get lost.
pub(crate) async fn measure(url: &str, quick: bool) -> Result<Report> {
    let extent = Extent::new(quick);
    let mut server = Server::connect(url).await?;
    let mut report = Report::new("redis", quick);
    settings(&mut report, &mut server).await?;

    let folder = tempfile::tempdir()?;
    let mut ours = Ours::on_redis(url, folder.path());
    let mut stock = ApalisRedis::stock(url);
    let mut lean = ApalisRedis::lean(url);
    let mut bullmq = BullMq::new(url);

    // Who is drained takes turns, so that a busy moment of the machine hits all of them. All else is measured of one
    // after the other.
    let mut small = [(); 4].map(|()| Drains::of(extent.backlog));
    let mut large = [(); 2].map(|()| Drains::of(extent.large));
    for _ in 0..extent.repeats {
        small[0].measure(&mut ours, &mut server).await?;
        small[1].measure(&mut stock, &mut server).await?;
        small[2].measure(&mut lean, &mut server).await?;
        small[3].measure(&mut bullmq, &mut server).await?;
        large[0].measure(&mut ours, &mut server).await?;
        large[1].measure(&mut bullmq, &mut server).await?;
    }
    let names = [ours.name(), stock.name(), lean.name(), bullmq.name()];
    small.iter().zip(names).for_each(|(drains, of)| drains.tell(&mut report, of));
    large.iter().zip([ours.name(), bullmq.name()]).for_each(|(drains, of)| drains.tell(&mut report, of));
    large[0].head(&mut report.headline);
    small[1].head(report.peer(stock.name()));
    small[2].head(report.peer(lean.name()));
    large[1].head(report.peer(bullmq.name()));

    let mut all = Measured { report: &mut report, server: &mut server, extent: &extent };
    all.of(&mut ours).await?;
    all.of(&mut stock).await?;
    all.of(&mut bullmq).await?;
    all.of_ours(&mut ours, url).await?;
    all.processes(&mut ours, url).await?;
    judge(&mut report, [&large[0], &small[0]], [&small[1], &large[1]]);
    Ok(report)
}

async fn settings(report: &mut Report, server: &mut Server) -> Result<()> {
    report.version("redis-server", server.version().await?);
    report.version("apalis-redis", "1.0.0".to_owned());
    report.version("bullmq-official", "1.4.4".to_owned());
    report.setting("append only", server.append_only().await?);
    report.setting("payload", "100 bytes of JSON");
    report.setting("ours", json!({"concurrency": 16, "history_runs": KEPT, "others": "defaults"}));
    let kept = "keeps all that ended: it has no setting for that";
    let polls = "polls every 10 ms by our strategy";
    report.setting("apalis-redis", format!("batches of 10, locks, events; {polls}; {kept}"));
    report.setting("apalis-redis lean", format!("batches of 100, no locks, no events; {polls}; {kept}"));
    report.setting(
        "bullmq-official",
        json!({"concurrency": CONCURRENCY, "remove_on_complete": KEPT, "remove_on_fail": KEPT, "others": "defaults"}),
    );
    Ok(())
}

/// Where the rest is measured, one contender after the other.
struct Measured<'a> {
    report: &'a mut Report,
    server: &'a mut Server,
    extent: &'a Extent,
}

impl Measured<'_> {
    fn headline(&mut self, of: &'static str) -> &mut Headline {
        if of == "ours" { &mut self.report.headline } else { self.report.peer(of) }
    }

    /// What everybody can.
    async fn of(&mut self, contender: &mut impl Contender) -> Result<()> {
        self.left(contender).await?;
        self.enqueued(contender).await?;
        self.server.flush().await?;
        let latencies = contender.latencies(self.extent.latencies).await?;
        let what = format!("enqueue to start, a job every {} ms", PAUSE.as_millis());
        let (p50, p99) = self.report.latencies(&what, contender.name(), &latencies);
        let headline = self.headline(contender.name());
        (headline.start_p50_ms, headline.start_p99_ms) = (Some(p50), Some(p99));
        Ok(())
    }

    /// What stays in the server after everything has ended, and after retention: by how much the second half of the
    /// jobs makes it more, twice. What a store holds besides jobs is the same for any number of them.
    async fn left(&mut self, contender: &mut impl Contender) -> Result<()> {
        let (name, backlog) = (contender.name(), self.extent.backlog);
        let mut bytes = [0.0; 2];
        for (bytes, jobs) in bytes.iter_mut().zip([backlog / 2, backlog]) {
            self.server.flush().await?;
            let empty = self.server.counters().await?.memory;
            contender.fill(jobs).await?;
            contender.drain(jobs).await?;
            if jobs == backlog {
                let per_run = (self.server.counters().await?.memory - empty) / backlog as f64;
                self.report.figure(
                    format!("left of each of {backlog} that ended"),
                    name,
                    "bytes",
                    &per_run.into(),
                );
            }
            contender.forget().await?;
            *bytes = self.server.bytes_of_keys().await?;
            let whole = format!("all keys after retention took {jobs}");
            self.report.figure(whole, name, "bytes", &(*bytes).into());
        }
        let left = 2.0 * (bytes[1] - bytes[0]);
        self.report.figure(
            format!("left of {backlog} after retention took them"),
            name,
            "bytes",
            &left.into(),
        );
        self.report.figure("keys after retention", name, "", &self.server.keys().await?.into());
        self.headline(name).left_after_retention_bytes = Some(left);
        Ok(())
    }

    /// How fast jobs come in.
    async fn enqueued(&mut self, contender: &mut impl Contender) -> Result<()> {
        let Extent { repeats, single, bulk, .. } = *self.extent;
        let (mut singly, mut by_many, mut at_once) =
            (Samples::default(), Samples::default(), Samples::default());
        let from_callers = self.extent.from_callers();
        for _ in 0..repeats.min(3) {
            self.server.flush().await?;
            singly.push_rate(single, contender.enqueue_singly(single).await?);
            self.server.flush().await?;
            by_many.push_rate(from_callers, contender.enqueue_from_callers(from_callers).await?);
            self.server.flush().await?;
            at_once.push_rate(bulk, contender.enqueue_in_bulk(bulk).await?);
        }
        let (name, unit) = (contender.name(), "runs per second");
        self.report.figure("enqueue one by one", name, unit, &singly);
        self.report.figure(format!("enqueue one by one from {CALLERS} callers"), name, unit, &by_many);
        self.report.figure(format!("enqueue {BULK} at once"), name, unit, &at_once);
        let headline = self.headline(name);
        headline.enqueue_single_64_per_s = Some(by_many.median());
        headline.enqueue_bulk_per_s = Some(at_once.median());
        Ok(())
    }

    /// What only we are asked: by a scheduler with a connection of its own that runs nothing, a million runs that wait,
    /// and how long the longest script took.
    async fn of_ours(&mut self, ours: &mut Ours, url: &str) -> Result<()> {
        self.server.flush().await?;
        let outside = ours.latencies_from_outside(self.extent.latencies).await?;
        self.report.latencies(
            "enqueue to start, by another scheduler of this process",
            ours.name(),
            &outside,
        );
        self.server.watch_scripts().await?;
        let mut drains = Drains::of(self.extent.largest);
        drains.measure(ours, self.server).await?;
        drains.tell(self.report, ours.name());
        ours.forget().await?;
        let slowest = self.server.slowest_script().await?;
        self.report.figure("slowest call of a script", ours.name(), "ms", &slowest.into());
        self.report.setting("server", url);
        self.report.headline.backlog_1m_runs_per_s = Some(drains.rate.median());
        self.report.headline.slowest_script_ms = Some(slowest);
        Ok(())
    }

    /// One, two and four worker processes together.
    async fn processes(&mut self, ours: &mut Ours, url: &str) -> Result<()> {
        let mut rates = Vec::new();
        for processes in [1, 2, 4] {
            let how = (processes, self.extent.large);
            rates.push(by_processes(self.report, ours, self.server, url, how).await?);
        }
        self.report.want_ratio("two worker processes against one", 1.0, rates[1], rates[0]);
        self.report.want_ratio("four worker processes against one", 1.0, rates[2], rates[0]);
        Ok(())
    }
}

/// Says what was reached.
fn judge(report: &mut Report, [large, small]: [&Drains; 2], [stock, bullmq]: [&Drains; 2]) {
    let ours = report.headline.clone();
    let theirs = report.peer("apalis-redis").clone();
    let of = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
    report.want_above("drain", 60_000.0, of(ours.runs_per_s), "runs per second");
    report.want_below("processor of Redis", 14.0, of(ours.store_cpu_us_per_run), "µs per run");
    report.want_ratio("drain against bullmq-official", 3.0, large.rate.median(), bullmq.rate.median());
    let what = "drain against apalis-redis at its defaults";
    report.want_ratio(what, 8.0, small.rate.median(), stock.rate.median());
    let what = "enqueue from 64 callers against apalis-redis";
    report.want_ratio(what, 2.0, of(ours.enqueue_single_64_per_s), of(theirs.enqueue_single_64_per_s));
    report.want_above("enqueue in bulk", 200_000.0, of(ours.enqueue_bulk_per_s), "runs per second");
    report.want_below("enqueue to start, p50", 1.0, of(ours.start_p50_ms), "ms");
    report.want_below("enqueue to start, p99", 3.0, of(ours.start_p99_ms), "ms");
    let bytes = of(ours.bytes_per_waiting_run);
    report.want_below("waiting run, beyond its payload", 250.0, bytes, "bytes");
    report.want_below("left after retention", 0.0, of(ours.left_after_retention_bytes), "bytes");
    let what = "drain at the largest backlog";
    report.want_ratio(what, 0.8, of(ours.backlog_1m_runs_per_s), large.rate.median());
    report.want_below("slowest call of a script", 20.0, of(ours.slowest_script_ms), "ms");
}
