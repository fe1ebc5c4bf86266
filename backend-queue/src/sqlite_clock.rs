//! The clocks that SQLite's leases and due times go by.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};
use scheduler_core::Timestamp;

/// Milliseconds since the machine started, suspended or not. Setting the wall clock does not move it, so no
/// lease expires by that.
pub(crate) fn since_boot() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

/// What differs after the machine was started anew, when times since the last start mean nothing.
pub(crate) fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|id| id.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
