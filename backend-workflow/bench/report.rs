//! What was measured, as a table and as JSON.

use serde::Serialize;

use crate::prefect::Result;

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: u32,
    subject: &'static str,
    pub(crate) quick: bool,
    prefect: String,
    figures: Vec<Figure>,
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
struct Figure {
    what: &'static str,
    of: &'static str,
    /// The median of the samples.
    value: f64,
    unit: &'static str,
    samples: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Target {
    what: &'static str,
    wanted: f64,
    measured: f64,
    unit: &'static str,
    /// Nothing when too little was measured.
    reached: Option<bool>,
}

impl Report {
    pub(crate) fn new(quick: bool, prefect: String) -> Self {
        let (figures, targets) = (Vec::new(), Vec::new());
        Self { schema_version: 1, subject: "workflow", quick, prefect, figures, targets }
    }

    /// Adds a figure and answers its median.
    pub(crate) fn figure(
        &mut self,
        what: &'static str,
        of: &'static str,
        unit: &'static str,
        samples: Vec<f64>,
    ) -> f64 {
        let value = quantile(&samples, 0.5);
        eprintln!("  {what}, {of}: {value:.3} {unit}");
        self.figures.push(Figure { what, of, value, unit, samples });
        value
    }

    pub(crate) fn want_at_least(
        &mut self,
        what: &'static str,
        wanted: f64,
        measured: f64,
        unit: &'static str,
    ) {
        let reached = (!self.quick).then_some(measured >= wanted);
        self.targets.push(Target { what, wanted, measured, unit, reached });
    }

    pub(crate) fn want_at_most(
        &mut self,
        what: &'static str,
        wanted: f64,
        measured: f64,
        unit: &'static str,
    ) {
        let reached = (!self.quick).then_some(measured <= wanted);
        self.targets.push(Target { what, wanted, measured, unit, reached });
    }

    /// Prints it to where results go.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        println!("Prefect {}", self.prefect);
        for Figure { what, of, value, unit, .. } in &self.figures {
            println!("{what:44} {of:18} {value:10.3} {unit}");
        }
        for Target { what, wanted, measured, unit, reached } in &self.targets {
            let verdict = match reached {
                Some(true) => "reached",
                Some(false) => "NOT REACHED",
                None => "not judged",
            };
            println!("{what:44} wanted {wanted} {unit}, measured {measured:.3}: {verdict}");
        }
        Ok(())
    }
}

/// The value below which that share of the samples lies, between the two nearest of them by distance: the median of an
/// even number is the mean of the two in the middle.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = sorted.len().saturating_sub(1) as f64 * share;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    let (below, above) = (at(place.floor()), at(place.ceil()));
    below + (above - below) * place.fract()
}
