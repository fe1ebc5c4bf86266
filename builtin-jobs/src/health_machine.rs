//! What this machine has left: room on a disk, memory, and time of its processors.

use std::io;
use std::path::Path;

use crate::health_probe::Found;
use crate::health_threshold::Thresholds;

/// Judges the room that is left for this user on the disk of `path`. Asks the file system, and may block.
pub(crate) fn disk(path: &Path, thresholds: Thresholds) -> Found {
    let stat = match rustix::fs::statvfs(path) {
        Ok(stat) => stat,
        Err(error) => return Found::failed(format!("{} cannot be looked at: {error}", path.display())),
    };
    let (free, whole) =
        (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    left(free, whole, &format!("on the disk of {}", path.display()), thresholds)
}

/// Judges the memory that programs could still get.
pub(crate) fn memory(thresholds: Thresholds) -> Found {
    measured("/proc/meminfo", |text| {
        let kilobytes = |key: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let free = kilobytes("MemAvailable:")?.saturating_mul(1024);
        let whole = kilobytes("MemTotal:")?.saturating_mul(1024);
        Some(left(free, whole, "in memory", thresholds))
    })
}

/// Judges the bytes that are left of all that there are.
pub(crate) fn left(free: u64, whole: u64, place: &str, thresholds: Thresholds) -> Found {
    let status = thresholds.when_below(float(free), float(whole));
    Found { status, message: format!("{} {place}", share(free, whole)) }
}

/// Judges the load of the last minute, per core.
pub(crate) fn load(thresholds: Thresholds) -> Found {
    measured("/proc/loadavg", |text| {
        let load: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let per_core = load / float(cores as u64);
        let status = thresholds.when_above(per_core);
        Some(Found { status, message: format!("load {per_core:.2} per core, {cores} cores") })
    })
}

fn measured(file: &str, judge: impl Fn(&str) -> Option<Found>) -> Found {
    let read: io::Result<String> = std::fs::read_to_string(file);
    match read.map(|text| judge(&text)) {
        Ok(Some(found)) => found,
        Ok(None) => Found::failed(format!("{file} does not say it in the known way")),
        Err(error) => Found::failed(format!("{file} cannot be read: {error}")),
    }
}

fn share(free: u64, whole: u64) -> String {
    let percent = if whole == 0 { 0.0 } else { float(free) * 100.0 / float(whole) };
    format!("{percent:.1}% free ({} of {})", bytes(free), bytes(whole))
}

fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut number = float(count);
    let mut unit = 0;
    while number >= 1024.0 && unit < units.len() - 1 {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{number:.1} {}", units[unit]) }
}

#[expect(clippy::cast_precision_loss, reason = "a share of petabytes may be a byte off")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health_standing::Status;
    use crate::health_threshold::Threshold;

    #[test]
    fn bytes_are_told_in_a_unit_that_fits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_machine_has_what_its_thresholds_say() {
        let all = Thresholds { degraded: Threshold::Percent(100.0), failed: Threshold::Number(1.0) };
        let none = Thresholds { degraded: Threshold::Number(0.0), failed: Threshold::Number(0.0) };
        let never = Thresholds { degraded: Threshold::Number(1e9), failed: Threshold::Number(1e9) };
        assert_eq!(memory(all).status, Status::Degraded);
        assert_eq!(memory(none).status, Status::Healthy);
        assert_eq!(disk(Path::new("/"), all).status, Status::Degraded);
        assert_eq!(disk(Path::new("/"), none).status, Status::Healthy);
        assert_eq!(load(never).status, Status::Healthy);
        let gone = disk(Path::new("/surely/not/there"), none);
        assert_eq!(gone.status, Status::Failed);
        assert!(gone.message.starts_with("/surely/not/there cannot be looked at: "), "{}", gone.message);
    }
}
