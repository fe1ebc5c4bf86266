//! A folder of many files is cleaned: by `find -delete`, and by `cache_cleanup` by age and by count.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::machine;
use crate::pile::Pile;
use crate::work;

/// By what `cache_cleanup` finds what goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Age,
    Count,
}

/// Who cleans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleaner {
    Find,
    Ours(By),
}

/// A cleaning in this process.
#[derive(Debug)]
pub(crate) struct Cleaning {
    pub(crate) folder: PathBuf,
    pub(crate) by: By,
    /// How many files stay.
    pub(crate) kept: usize,
}

impl By {
    /// # Errors
    /// There is none of this name.
    pub(crate) fn named(text: &str) -> Result<Self> {
        match text {
            "age" => Ok(Self::Age),
            "count" => Ok(Self::Count),
            other => bail!("there is no cleaning by `{other}`"),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
        }
    }
}

impl Cleaner {
    fn as_str(self) -> &'static str {
        match self {
            Self::Find => "find",
            Self::Ours(by) => by.as_str(),
        }
    }
}

/// Cleans in this process; what was removed, and the most memory that took.
///
/// # Errors
/// The run failed.
pub(crate) fn work(cleaning: &Cleaning) -> Result<Value> {
    let mut target = json!({"kind": "directory", "path": cleaning.folder, "timeout": "1h"});
    match cleaning.by {
        By::Age => target["max_age"] = json!("1h"),
        By::Count => target["max_files"] = json!(cleaning.kept),
    }
    let before = machine::peak();
    let done = work::run("cache_cleanup", &json!({"targets": [target]}))?;
    if let Some(error) = done.error {
        bail!("{error}");
    }
    Ok(json!({
        "removed": done.output["removed"],
        "seconds_inside": done.took.as_secs_f64(),
        "peak_mb": machine::peak() / 1e6,
        "peak_mb_before": before / 1e6,
    }))
}

/// Measures all three so often, each on files of its own, in an order that changes from round to round.
///
/// # Errors
/// Something is left that had to go, or gone that had to stay.
pub(crate) fn measure(below: &Path, files: usize, rounds: usize) -> Result<Value> {
    let cleaners = [Cleaner::Find, Cleaner::Ours(By::Age), Cleaner::Ours(By::Count)];
    let mut samples: Vec<Value> = Vec::new();
    for round in 0..rounds {
        for place in 0..cleaners.len() {
            let cleaner = cleaners[(round + place) % cleaners.len()];
            eprintln!("  round {} of {rounds}: {files} files, {}", round + 1, cleaner.as_str());
            samples.push(sample(below, files, cleaner)?);
        }
    }
    let tenth = sample(below, files / 10, Cleaner::Ours(By::Count))?;
    let median = |cleaner: Cleaner, figure: &str| {
        let of = samples.iter().filter(|sample| sample["cleaner"] == cleaner.as_str());
        middle(of.filter_map(|sample| sample[figure].as_f64()).collect())
    };
    let [find, age, count] = cleaners.map(|cleaner| median(cleaner, "seconds"));
    let [_, age_peak, count_peak] = cleaners.map(|cleaner| median(cleaner, "peak_mb"));
    let removed = (files - files.div_ceil(100)) as f64;
    Ok(json!({
        "files": files,
        "files_removed": removed,
        "rounds": rounds,
        "find_seconds": find,
        "age_seconds": age,
        "count_seconds": count,
        "find_files_per_s": removed / find,
        "age_files_per_s": removed / age,
        "count_files_per_s": removed / count,
        "age_ratio": age / find,
        "count_ratio": count / find,
        "age_peak_mb": age_peak,
        "count_peak_mb": count_peak,
        "count_peak_mb_of_a_tenth": tenth["peak_mb"],
        "samples": samples,
    }))
}

fn sample(below: &Path, files: usize, cleaner: Cleaner) -> Result<Value> {
    let pile = Pile::make(below, files)?;
    let mut command = match cleaner {
        Cleaner::Find => {
            let mut find = Command::new("find");
            find.arg(&pile.folder).args(["-type", "f", "-mmin", "+60", "-delete"]);
            find
        }
        Cleaner::Ours(by) => {
            let mut ours =
                Command::new(std::env::current_exe().context("cannot tell which program this is")?);
            ours.arg("--clean").arg(&pile.folder).args([by.as_str(), &pile.kept.to_string()]);
            ours
        }
    };
    let began = Instant::now();
    let said = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let took = began.elapsed();
    ensure!(said.status.success(), "{} ended with {}", cleaner.as_str(), said.status);
    pile.is_clean()?;
    let mut sample = match cleaner {
        Cleaner::Find => json!({}),
        Cleaner::Ours(_) => serde_json::from_slice(&said.stdout).context("its figures cannot be read")?,
    };
    sample["own_file_system"] = json!(pile.disk.is_some());
    sample["cleaner"] = json!(cleaner.as_str());
    sample["seconds"] = json!(took.as_secs_f64());
    Ok(sample)
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => f64::NAN,
        (count, half) if count % 2 == 1 => numbers[half],
        (_, half) => f64::midpoint(numbers[half - 1], numbers[half]),
    }
}
