//! Backlogs that are drained, and what each run of them costs.

use std::time::Duration;

use anyhow::Result;

use crate::contender::Contender;
use crate::machine::processor_time;
use crate::recorder::PAYLOAD;
use crate::report::{Headline, Report, Samples};
use crate::server::Server;
use crate::worker;

/// What the drains of one backlog by one contender cost.
#[derive(Debug)]
pub(crate) struct Drains {
    backlog: usize,
    pub(crate) rate: Samples,
    pub(crate) cpu: Samples,
    own_cpu: Samples,
    commands: Samples,
    waiting: Samples,
}

impl Drains {
    /// Of so many jobs each.
    pub(crate) fn of(backlog: usize) -> Self {
        let none = Samples::default;
        let (rate, cpu, own_cpu, commands, waiting) = (none(), none(), none(), none(), none());
        Self { backlog, rate, cpu, own_cpu, commands, waiting }
    }

    /// One more, on an empty server; what came of it is looked at.
    ///
    /// # Errors
    /// Jobs stay behind, or did not end well, or are not kept as they should be.
    pub(crate) async fn measure(
        &mut self,
        contender: &mut impl Contender,
        server: &mut Server,
    ) -> Result<()> {
        server.flush().await?;
        let empty = server.counters().await?;
        contender.fill(self.backlog).await?;
        let full = server.counters().await?;
        let before = processor_time();
        let took = contender.drain(self.backlog).await?;
        let jobs = self.backlog as f64;
        self.own_cpu.push((processor_time() - before) / jobs);
        let drained = server.counters().await?;
        self.rate.push_rate(self.backlog, took);
        self.cpu.push((drained.cpu - full.cpu) / jobs);
        self.commands.push((drained.commands - full.commands) / jobs);
        self.waiting.push((full.memory - empty.memory) / jobs - PAYLOAD as f64);
        contender.verify(self.backlog).await
    }

    /// Writes the figures.
    pub(crate) fn tell(&self, report: &mut Report, of: &'static str) {
        let backlog = self.backlog;
        report.figure(format!("drain of {backlog}"), of, "runs per second", &self.rate);
        report.figure(format!("drain of {backlog}, processor of Redis"), of, "µs per run", &self.cpu);
        report.figure(format!("drain of {backlog}, own processor"), of, "µs per run", &self.own_cpu);
        report.figure(format!("drain of {backlog}, commands of Redis"), of, "per run", &self.commands);
        report.figure(format!("waiting run among {backlog}, beyond its payload"), of, "bytes", &self.waiting);
    }

    /// Fills in what is known of a contender.
    pub(crate) fn head(&self, headline: &mut Headline) {
        headline.runs_per_s = Some(self.rate.median());
        headline.backlog = Some(self.backlog);
        headline.store_cpu_us_per_run = Some(self.cpu.median());
        headline.bytes_per_waiting_run = Some(self.waiting.median());
    }
}

/// Drains a backlog by several worker processes of ours; answers how many runs a second that makes.
///
/// # Errors
/// Runs stay behind, or are run twice.
pub(crate) async fn by_processes(
    report: &mut Report,
    contender: &mut impl Contender,
    server: &mut Server,
    url: &str,
    (processes, backlog): (usize, usize),
) -> Result<f64> {
    server.flush().await?;
    contender.fill(backlog).await?;
    let before = server.counters().await?.cpu;
    let (took, ran): (Duration, Vec<usize>) = worker::drain(url, processes, backlog).await?;
    let cpu = (server.counters().await?.cpu - before) / backlog as f64;
    contender.verify(backlog).await?;
    let rate = backlog as f64 / took.as_secs_f64();
    let (what, name) = (format!("drain of {backlog} by {processes} worker processes"), contender.name());
    report.figure(format!("{what}, processor of Redis"), name, "µs per run", &cpu.into());
    let least = ran.iter().min().copied().unwrap_or(0) as f64;
    report.figure(format!("{what}, least of one"), name, "runs", &least.into());
    report.figure(what, name, "runs per second", &rate.into());
    Ok(rate)
}
