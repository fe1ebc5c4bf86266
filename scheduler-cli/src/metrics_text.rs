//! How numbers over time are written: short for people, as a line of bars, and in the text format of Prometheus.

use std::fmt::Write;

use builtin_jobs::metrics_series::{Point, Series};

/// How many bars a trend has.
const BARS: usize = 16;

/// From low to high.
const BAR: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Units of thousands.
const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];

/// A number in few letters: `0.25`, `1234`, `12.3M`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size < 10_000.0 {
        let places = if value.fract() == 0.0 {
            0
        } else if size < 10.0 {
            3
        } else {
            1
        };
        return format!("{value:.places$}");
    }
    let (mut scaled, mut unit) = (value, 0);
    while scaled.abs() >= 999.95 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    // Beyond all units an instant or an odd number is told as it is.
    if scaled.abs() >= 999.95 { format!("{value:e}") } else { format!("{scaled:.1}{}", UNITS[unit]) }
}

/// The means of points as bars from their lowest to their highest; nothing for fewer than two.
pub(crate) fn trend(points: &[Point]) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let step = points.len().div_ceil(BARS);
    let means: Vec<f64> = points
        .chunks(step)
        .map(|some| some.iter().map(|point| point.avg).sum::<f64>() / some.iter().map(|_| 1.0).sum::<f64>())
        .collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |mean: &f64| {
        let share = if high > low { (mean - low) / (high - low) } else { 0.0 };
        let level =
            [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875].iter().filter(|level| share >= **level).count();
        BAR[level]
    };
    means.iter().map(bar).collect()
}

/// The latest values in the text format of Prometheus; the series are in order of their names.
pub(crate) fn written<'a>(latest: impl Iterator<Item = (&'a Series, f64)>) -> String {
    let (mut text, mut name) = (String::new(), "");
    for (series, value) in latest {
        if series.name != name {
            let kind = if series.is_counter { "counter" } else { "gauge" };
            // A text takes whatever is written to it.
            let _ = writeln!(text, "# TYPE {} {kind}", series.name);
            name = &series.name;
        }
        let _ = writeln!(text, "{} {value}", series.full_name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_in_few_letters() {
        let cases = [
            (0.0, "0"),
            (0.123_45, "0.123"),
            (12.34, "12.3"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
            (-4_294_967_296.0, "-4.3G"),
            (999_960.0, "1.0M"),
            (1.5e20, "1.5e20"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
