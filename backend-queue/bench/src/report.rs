//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::machine::Machine;

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: u32,
    store: &'static str,
    /// What is compared first, of ourselves.
    #[serde(flatten)]
    pub(crate) headline: Headline,
    peers: Vec<Peer>,
    quick: bool,
    machine: Machine,
    versions: BTreeMap<&'static str, String>,
    settings: BTreeMap<&'static str, Value>,
    figures: Vec<Figure>,
    targets: Vec<Target>,
}

/// The figures that a contender is known by; nothing where one does not apply or was not measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Headline {
    /// The drain of a backlog, by one worker process.
    pub(crate) runs_per_s: Option<f64>,
    /// Of how many that backlog was.
    pub(crate) backlog: Option<usize>,
    /// One by one, each awaited, from 64 callers.
    pub(crate) enqueue_single_64_per_s: Option<f64>,
    /// A thousand a call.
    pub(crate) enqueue_bulk_per_s: Option<f64>,
    pub(crate) start_p50_ms: Option<f64>,
    pub(crate) start_p99_ms: Option<f64>,
    /// Processor time of the server.
    pub(crate) store_cpu_us_per_run: Option<f64>,
    /// Beyond the payload.
    pub(crate) bytes_per_waiting_run: Option<f64>,
    /// All of it, beyond what an unused store holds.
    pub(crate) left_after_retention_bytes: Option<f64>,
    pub(crate) backlog_1m_runs_per_s: Option<f64>,
    pub(crate) slowest_script_ms: Option<f64>,
    /// The drain with so many finished rows in the store.
    pub(crate) finished_1k_runs_per_s: Option<f64>,
    pub(crate) finished_1m_runs_per_s: Option<f64>,
    /// What a commit waits for; of SQLite only.
    pub(crate) synchronous: Option<&'static str>,
}

/// Somebody else's figures.
#[derive(Debug, Serialize)]
struct Peer {
    name: &'static str,
    #[serde(flatten)]
    headline: Headline,
}

/// One measured number.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    what: String,
    of: &'static str,
    /// The median of the samples.
    value: f64,
    unit: &'static str,
    samples: Vec<f64>,
}

/// Something that we want to reach.
#[derive(Debug, Serialize)]
struct Target {
    what: String,
    wanted: f64,
    measured: f64,
    unit: &'static str,
    /// Nothing when too little was measured.
    reached: Option<bool>,
}

/// Numbers of one kind about one contender, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// So many in that time.
    pub(crate) fn push_rate(&mut self, count: usize, took: Duration) {
        self.push(count as f64 / took.as_secs_f64());
    }

    pub(crate) fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }
}

impl From<f64> for Samples {
    fn from(sample: f64) -> Self {
        Self(vec![sample])
    }
}

impl Report {
    pub(crate) fn new(store: &'static str, quick: bool) -> Self {
        Self {
            schema_version: 1,
            store,
            headline: Headline::default(),
            peers: Vec::new(),
            quick,
            machine: Machine::this(),
            versions: BTreeMap::new(),
            settings: BTreeMap::new(),
            figures: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// The headline of a peer, to be filled in.
    pub(crate) fn peer(&mut self, name: &'static str) -> &mut Headline {
        let known = self.peers.iter().position(|peer| peer.name == name);
        let index = known.unwrap_or_else(|| {
            self.peers.push(Peer { name, headline: Headline::default() });
            self.peers.len() - 1
        });
        &mut self.peers[index].headline
    }

    pub(crate) fn version(&mut self, of: &'static str, version: String) {
        self.versions.insert(of, version);
    }

    pub(crate) fn setting(&mut self, name: &'static str, value: impl Into<Value>) {
        self.settings.insert(name, value.into());
    }

    pub(crate) fn figure(
        &mut self,
        what: impl Into<String>,
        of: &'static str,
        unit: &'static str,
        samples: &Samples,
    ) {
        let what = what.into();
        eprintln!("  {what}, {of}: {} {unit}", short(samples.median()));
        self.figures.push(Figure { what, of, value: samples.median(), unit, samples: samples.0.clone() });
    }

    /// The median and the 99th of 100, in milliseconds.
    pub(crate) fn latencies(&mut self, what: &str, of: &'static str, latencies: &[Duration]) -> (f64, f64) {
        let millis: Vec<f64> = latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
        let (median, high) = (quantile(&millis, 0.5), quantile(&millis, 0.99));
        self.figure(format!("{what}, p50"), of, "ms", &median.into());
        self.figure(format!("{what}, p99"), of, "ms", &high.into());
        (median, high)
    }

    /// At least `wanted` times as much.
    pub(crate) fn want_ratio(&mut self, what: impl Into<String>, wanted: f64, ours: f64, theirs: f64) {
        let measured = ours / theirs;
        let reached = (!self.quick).then_some(measured >= wanted);
        self.targets.push(Target { what: what.into(), wanted, measured, unit: "times", reached });
    }

    /// At least `wanted`.
    pub(crate) fn want_above(
        &mut self,
        what: impl Into<String>,
        wanted: f64,
        measured: f64,
        unit: &'static str,
    ) {
        let reached = (!self.quick).then_some(measured >= wanted);
        self.targets.push(Target { what: what.into(), wanted, measured, unit, reached });
    }

    /// At most `wanted`.
    pub(crate) fn want_below(
        &mut self,
        what: impl Into<String>,
        wanted: f64,
        measured: f64,
        unit: &'static str,
    ) {
        let reached = (!self.quick).then_some(measured <= wanted);
        self.targets.push(Target { what: what.into(), wanted, measured, unit, reached });
    }

    /// Prints it to where results go.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        let Machine { cores, processor, load, .. } = &self.machine;
        println!("{cores} cores, {processor}; load {load} before it began");
        for (name, version) in &self.versions {
            println!("{name} {version}");
        }
        for (name, value) in &self.settings {
            println!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        println!();
        self.print_figures();
        println!();
        self.print_targets();
        Ok(())
    }

    fn print_targets(&self) {
        for Target { what, wanted, measured, unit, reached } in &self.targets {
            let verdict = match reached {
                Some(true) => "reached",
                Some(false) => "NOT REACHED",
                None => "not judged, too little was measured",
            };
            println!("{what}: {} {unit}, wanted {}: {verdict}", short(*measured), short(*wanted));
        }
    }

    /// A line for each kind of figure, with what all contenders did.
    fn print_figures(&self) {
        let width = self.figures.iter().map(|figure| figure.what.chars().count()).max().unwrap_or(0);
        let mut told: Vec<&str> = Vec::new();
        for Figure { what, unit, .. } in &self.figures {
            if told.contains(&what.as_str()) {
                continue;
            }
            told.push(what);
            let alike = self.figures.iter().filter(|figure| figure.what == *what);
            let values: Vec<String> =
                alike.map(|figure| format!("{} {:>8}", figure.of, short(figure.value))).collect();
            println!("{what:width$}  {unit:>15}  {}", values.join("   "));
        }
    }
}

/// The value below which so much of the samples lies.
fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len().saturating_sub(1)) as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_99th_of_100_are_samples() {
        let samples: Vec<f64> = (0..101).map(f64::from).collect();
        assert_eq!((quantile(&samples, 0.5), quantile(&samples, 0.99)), (50.0, 99.0));
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn little_is_not_judged() {
        let mut report = Report::new("redis", true);
        report.want_ratio("drain", 5.0, 10.0, 1.0);
        assert_eq!(report.targets[0].reached, None);
        report.quick = false;
        report.want_ratio("drain", 5.0, 4.0, 1.0);
        report.want_below("start", 2.0, 1.0, "ms");
        assert_eq!((report.targets[1].reached, report.targets[2].reached), (Some(false), Some(true)));
    }
}
