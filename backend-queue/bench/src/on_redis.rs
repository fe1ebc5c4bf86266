//! The measurements on a Redis server.

use anyhow::Result;
use serde_json::json;

use crate::apalis_redis::{ApalisRedis, MOST_DUE};
use crate::contender::Contender;
use crate::machine::processor_time;
use crate::ours::Ours;
use crate::report::{Report, Samples};
use crate::server::Server;

/// How much is done.
struct Extent {
    repeats: usize,
    backlog: usize,
    large_backlog: usize,
    single: usize,
    latencies: usize,
}

impl Extent {
    fn new(quick: bool) -> Self {
        if quick {
            Self { repeats: 1, backlog: MOST_DUE, large_backlog: 20_000, single: 300, latencies: 100 }
        } else {
            Self { repeats: 5, backlog: MOST_DUE, large_backlog: 100_000, single: 3_000, latencies: 500 }
        }
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
    report.version("redis-server", server.version().await?);
    report.setting("append only", server.append_only().await?);
    report.setting("payload", "100 bytes of JSON");
    report.setting("ours", json!({"concurrency": 16, "others": "defaults"}));
    report.setting("apalis-redis", "batches of 10, locks, events; polls every 10 ms by our strategy");
    report.setting(
        "apalis-redis lean",
        "batches of 100, no locks, no events; polls every 10 ms by our strategy",
    );

    let folder = tempfile::tempdir()?;
    let mut ours = Ours::new("ours", folder.path(), json!({"url": url}));
    let mut stock = ApalisRedis::stock(url);
    let mut lean = ApalisRedis::lean(url);

    // Who is measured takes turns, so that a busy moment of the machine hits all of them.
    let mut drains = [Drains::default(), Drains::default(), Drains::default()];
    for _ in 0..extent.repeats {
        drains[0].measure(&mut ours, &mut server, extent.backlog).await?;
        drains[1].measure(&mut stock, &mut server, extent.backlog).await?;
        drains[2].measure(&mut lean, &mut server, extent.backlog).await?;
    }
    let backlog = extent.backlog;
    let names = [ours.name(), stock.name(), lean.name()];
    for (drains, of) in drains.iter().zip(names) {
        drains.tell(&mut report, of, backlog);
    }
    let mut large = Drains::default();
    large.measure(&mut ours, &mut server, extent.large_backlog).await?;
    large.tell(&mut report, ours.name(), extent.large_backlog);

    left(&mut report, &mut server, &mut ours, &mut stock, backlog).await?;
    enqueued(&mut report, &mut server, &mut ours, &extent).await?;
    enqueued(&mut report, &mut server, &mut stock, &extent).await?;

    server.flush().await?;
    let what = "enqueue to start, a job every 10 ms";
    let median = report.latencies(what, ours.name(), &ours.latencies(extent.latencies).await?);
    server.flush().await?;
    let outside = ours.latencies_from_outside(extent.latencies).await?;
    report.latencies("enqueue to start, by another process", ours.name(), &outside);
    server.flush().await?;
    report.latencies(what, stock.name(), &stock.latencies(extent.latencies).await?);

    let rates: Vec<f64> = drains.iter().map(|drains| drains.rate.median()).collect();
    report.want_ratio("drain against apalis-redis at its defaults", 5.0, rates[0], rates[1]);
    report.want_below("enqueue to start, p50", 2.0, median, "ms");
    Ok(report)
}

/// What the drains of one backlog by one contender cost.
#[derive(Debug, Default)]
struct Drains {
    rate: Samples,
    cpu: Samples,
    own_cpu: Samples,
    commands: Samples,
    waiting: Samples,
}

impl Drains {
    async fn measure(
        &mut self,
        contender: &mut impl Contender,
        server: &mut Server,
        backlog: usize,
    ) -> Result<()> {
        server.flush().await?;
        let empty = server.counters().await?;
        contender.fill(backlog).await?;
        let full = server.counters().await?;
        let before = processor_time();
        let took = contender.drain(backlog).await?;
        let jobs = backlog as f64;
        self.own_cpu.push((processor_time() - before) / jobs);
        let drained = server.counters().await?;
        self.rate.push_rate(backlog, took);
        self.cpu.push((drained.cpu - full.cpu) / jobs);
        self.commands.push((drained.commands - full.commands) / jobs);
        self.waiting.push((full.memory - empty.memory) / jobs);
        Ok(())
    }

    fn tell(&self, report: &mut Report, of: &'static str, backlog: usize) {
        report.figure(format!("drain of {backlog}"), of, "runs per second", &self.rate);
        report.figure(format!("drain of {backlog}, processor of Redis"), of, "µs per run", &self.cpu);
        report.figure(format!("drain of {backlog}, own processor"), of, "µs per run", &self.own_cpu);
        report.figure(format!("drain of {backlog}, commands of Redis"), of, "per run", &self.commands);
        report.figure(format!("waiting run among {backlog}"), of, "bytes", &self.waiting);
    }
}

/// What stays in the server after everything has ended, and after retention.
async fn left(
    report: &mut Report,
    server: &mut Server,
    ours: &mut Ours,
    stock: &mut ApalisRedis,
    backlog: usize,
) -> Result<()> {
    server.flush().await?;
    let empty = server.counters().await?.memory;
    for of in [ours.name(), stock.name()] {
        server.flush().await?;
        if of == ours.name() {
            ours.fill(backlog).await?;
            ours.drain(backlog).await?;
        } else {
            stock.fill(backlog).await?;
            stock.drain(backlog).await?;
        }
        let per_run = (server.counters().await?.memory - empty) / backlog as f64;
        report.figure(format!("left of each of {backlog} that ended"), of, "bytes", &per_run.into());
        if of == ours.name() {
            ours.forget().await?
        } else {
            stock.vacuum().await?
        }
        let per_run = (server.counters().await?.memory - empty) / backlog as f64;
        report.figure("and after retention took them", of, "bytes", &per_run.into());
        report.figure("keys after retention", of, "", &server.keys().await?.into());
    }
    Ok(())
}

/// How fast jobs come in.
async fn enqueued(
    report: &mut Report,
    server: &mut Server,
    contender: &mut impl Contender,
    extent: &Extent,
) -> Result<()> {
    let (mut single, mut bulk) = (Samples::default(), Samples::default());
    for _ in 0..extent.repeats {
        server.flush().await?;
        single.push_rate(extent.single, contender.enqueue_singly(extent.single).await?);
        server.flush().await?;
        bulk.push_rate(extent.backlog, contender.enqueue_in_bulk(extent.backlog).await?);
    }
    report.figure("enqueue one by one", contender.name(), "runs per second", &single);
    report.figure("enqueue 1,000 at once", contender.name(), "runs per second", &bulk);
    Ok(())
}
