//! What the figures were measured on, and what a process uses of it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// The machine, as far as Linux tells, with the file system of a folder.
pub(crate) fn this(folder: &Path) -> Value {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "processor": model.map(|(_, name)| name.to_owned()).unwrap_or_default(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        "file_system": said(Command::new("df").args(["--output=fstype"]).arg(folder)),
        "find": said(Command::new("find").arg("--version")).map(|text| text.lines().next().map(str::to_owned)),
        "git": said(Command::new("git").arg("--version")),
    })
}

/// The last line but for the version of a program that says more.
fn said(command: &mut Command) -> Option<String> {
    let text = String::from_utf8(command.output().ok()?.stdout).ok()?;
    Some(text.trim().trim_start_matches("Type").trim().to_owned())
}

/// The most memory that this process has had in use, in bytes.
pub(crate) fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) * 1_024.0
}
