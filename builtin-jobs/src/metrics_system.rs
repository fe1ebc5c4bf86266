//! What this machine and this process use: read from `/proc`, and of disks from their file systems.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::metrics_disks;
use crate::metrics_sample::Sample;

/// The kernel tells times in hundredths of a second, whatever it counts in itself.
const TICKS: f64 = 100.0;

/// The most interfaces that are told.
const MOST: usize = 32;

/// Between the two looks from which the use of the processors follows, when there was none before.
const GLANCE: Duration = Duration::from_millis(200);

/// The machine, with what was seen of its processors before.
#[derive(Debug, Default)]
pub(crate) struct System {
    before: Mutex<Option<Processors>>,
    /// Held during a look: one that hangs on a disk outlives its limit.
    looking: Mutex<()>,
}

/// Ticks of all processors since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Processors {
    busy: u64,
    all: u64,
    count: usize,
}

impl System {
    /// Looks once, and says what could not be looked at; nothing while an earlier look has not ended. It may block.
    pub(crate) fn look(&self) -> Option<(Vec<Sample>, Vec<String>)> {
        let _looking = self.looking.try_lock().ok()?;
        let mut samples = Vec::new();
        let mut missing = Vec::new();
        let parts: [(&str, Option<Vec<Sample>>); 8] = [
            ("/proc/stat", self.processors()),
            ("/proc/meminfo", read("/proc/meminfo").and_then(|text| memory(&text))),
            ("/proc/self/mountinfo", metrics_disks::look()),
            ("/proc/net/dev", read("/proc/net/dev").map(|text| network(&text))),
            ("/proc/sys/fs/file-nr", read("/proc/sys/fs/file-nr").and_then(|text| files(&text))),
            ("/proc/loadavg", read("/proc/loadavg").and_then(|text| load(&text))),
            ("/proc/uptime", read("/proc/uptime").and_then(|text| uptime(&text))),
            ("/proc/self", process()),
        ];
        for (place, part) in parts {
            match part {
                Some(part) => samples.extend(part),
                None => missing.push(format!("{place} does not say it in the known way")),
            }
        }
        Some((samples, missing))
    }

    fn processors(&self) -> Option<Vec<Sample>> {
        let look = || read("/proc/stat").and_then(|text| Processors::parse(&text));
        let before = *self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match before {
            Some(before) => before,
            None => {
                let first = look()?;
                std::thread::sleep(GLANCE);
                first
            }
        };
        let now = look()?;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        let mut samples = vec![
            Sample::counter("system_cpu_seconds_total", &[], float(now.busy) / TICKS),
            Sample::gauge("system_cpus", &[], float(now.count as u64)),
        ];
        samples
            .extend(now.share_since(before).map(|share| Sample::gauge("system_cpu_used_ratio", &[], share)));
        Some(samples)
    }
}

impl Processors {
    fn parse(text: &str) -> Option<Self> {
        let all = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = all.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        // User, nice, system, idle, waiting for a disk, interrupts (two kinds), stolen; guests are in the first two.
        let [user, nice, system, idle, waiting, hard, soft, stolen, ..] = ticks[..] else { return None };
        let busy = user + nice + system + hard + soft + stolen;
        let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        Some(Self { busy, all: busy + idle + waiting, count: text.lines().filter(is_one).count() })
    }

    /// Nothing when no time has passed, as far as the kernel counts.
    fn share_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some((float(self.busy.saturating_sub(before.busy)) / float(all)).min(1.0))
    }
}

fn memory(text: &str) -> Option<Vec<Sample>> {
    let bytes = |key: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(float(line.split_ascii_whitespace().next()?.parse::<u64>().ok()?) * 1024.0)
    };
    let swap = bytes("SwapTotal")?;
    Some(vec![
        Sample::gauge("system_memory_total_bytes", &[], bytes("MemTotal")?),
        Sample::gauge("system_memory_available_bytes", &[], bytes("MemAvailable")?),
        Sample::gauge("system_swap_total_bytes", &[], swap),
        Sample::gauge("system_swap_used_bytes", &[], swap - bytes("SwapFree")?),
    ])
}

fn network(text: &str) -> Vec<Sample> {
    let interfaces = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        Some((name.trim(), numbers)).filter(|(name, numbers)| *name != "lo" && numbers.len() >= 11)
    });
    let samples = interfaces.take(MOST).flat_map(|(name, numbers)| {
        let named = [
            ("system_network_received_bytes_total", 0),
            ("system_network_received_packets_total", 1),
            ("system_network_receive_errors_total", 2),
            ("system_network_sent_bytes_total", 8),
            ("system_network_sent_packets_total", 9),
            ("system_network_send_errors_total", 10),
        ];
        named.map(|(metric, place)| Sample::counter(metric, &[("interface", name)], float(numbers[place])))
    });
    samples.collect()
}

fn files(text: &str) -> Option<Vec<Sample>> {
    let numbers: Vec<f64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let [open, free, most] = numbers[..] else { return None };
    Some(vec![
        Sample::gauge("system_open_files", &[], open - free),
        Sample::gauge("system_open_files_limit", &[], most),
    ])
}

fn load(text: &str) -> Option<Vec<Sample>> {
    let mut words = text.split_ascii_whitespace().map_while(|word| word.parse::<f64>().ok());
    let mut next = || words.next();
    let (one, five, fifteen) = (next()?, next()?, next()?);
    let numbers = [("system_load1", one), ("system_load5", five), ("system_load15", fifteen)];
    Some(numbers.map(|(name, value)| Sample::gauge(name, &[], value)).to_vec())
}

fn uptime(text: &str) -> Option<Vec<Sample>> {
    let seconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(vec![Sample::gauge("system_uptime_seconds", &[], seconds)])
}

fn process() -> Option<Vec<Sample>> {
    let stat = read("/proc/self/stat")?;
    // The program's name stands in parentheses and may hold any of them, and spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // proc(5) counts from 1, and the two fields before the rest are the id and the name.
    let field = |number: usize| fields.get(number - 3).and_then(|word| word.parse::<u64>().ok()).map(float);
    let status = read("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident: u64 = resident.split_ascii_whitespace().next()?.parse().ok()?;
    // The look itself has one of them open.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    let limits = read("/proc/self/limits")?;
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut samples = vec![
        Sample::gauge("process_resident_memory_bytes", &[], float(resident) * 1024.0),
        Sample::counter("process_cpu_seconds_total", &[], (field(14)? + field(15)?) / TICKS),
        Sample::gauge("process_threads", &[], field(20)?),
        Sample::gauge("process_open_fds", &[], float(open as u64)),
    ];
    // Nothing when there is no limit.
    let most = most.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    samples.extend(most.map(|most| Sample::gauge("process_max_fds", &[], float(most))));
    Some(samples)
}

pub(crate) fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

#[expect(clippy::cast_precision_loss, reason = "of petabytes a byte may be missing")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_the_processors_follows_from_two_looks() {
        let before = Processors::parse("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5\n").unwrap();
        let after = Processors::parse("cpu  30 0 20 140 5 3 2 0 9 9\ncpu0 1\ncpu1 1\n").unwrap();
        assert_eq!(before, Processors { busy: 20, all: 100, count: 2 });
        assert_eq!(after.share_since(before), Some(0.35));
        assert_eq!(before.share_since(after), None);
        assert_eq!(Processors::parse("cpu 1 2\n"), None);
    }

    #[test]
    fn the_loop_is_no_network() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0:5 6 7 0 0 0 0 0 8 9 10 0 0 0 0 0\n";
        let found: Vec<f64> = network(text).iter().map(|sample| sample.value).collect();
        assert_eq!(found, [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_all_of_it() {
        let system = System::default();
        let (samples, missing) = system.look().unwrap();
        assert_eq!(missing, Vec::<String>::new());
        for name in [
            "system_cpu_used_ratio",
            "system_memory_available_bytes",
            "system_disk_inodes_free",
            "system_open_files",
            "system_load1",
            "system_uptime_seconds",
            "process_resident_memory_bytes",
            "process_open_fds",
        ] {
            assert!(samples.iter().any(|sample| sample.name == name && sample.value >= 0.0), "{name}");
        }
        let share = samples.iter().find(|sample| sample.name == "system_cpu_used_ratio").unwrap().value;
        assert!((0.0..=1.0).contains(&share), "{share}");

        let _hanging = system.looking.lock().unwrap();
        assert!(system.look().is_none(), "looks that hang do not pile up");
    }
}
