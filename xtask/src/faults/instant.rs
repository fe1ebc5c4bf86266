//! Instants as configurations and programs of runs write them: RFC 3339, in UTC.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400_000;

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The instant of a number of seconds since the machine was started, as the first word of `/proc/uptime` is one.
pub(crate) fn of_uptime(text: &str) -> Option<u64> {
    boot().checked_add(uptime(text)?)
}

fn uptime(text: &str) -> Option<u64> {
    let (seconds, part) = text.split_once('.').unwrap_or((text, "0"));
    let part: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(part)
}

/// When the machine was started, by its clock as that stands at the first look: the earliest of many answers, since
/// each is late by what the file leaves out.
pub(crate) fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let looks = (0..40).filter_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            let told = std::fs::read_to_string("/proc/uptime").ok()?;
            now().checked_sub(uptime(told.split(' ').next()?)?)
        });
        looks.min().unwrap_or_default()
    })
}

/// `2026-01-31T12:00:00.250Z`.
pub(crate) fn written(millis: u64) -> String {
    let (year, month, day) = date(millis / DAY);
    let rest = millis % DAY;
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, part) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{part:03}Z")
}

/// The instant of such a text, whose fraction may have any length or be left out.
pub(crate) fn read(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let days = days_before(date.next()??, date.next()??, date.next()??)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let part: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(days * DAY + hour * 3_600_000 + minute * 60_000 + second * 1_000 + part)
}

/// The date of a day since the epoch, by counting eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year / 400, year % 400);
    let month = (month + 9) % 12;
    let day = (153 * month + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_and_read_alike() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (4_107_542_400_250, "2100-03-01T00:00:00.250Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(written(millis), text);
            assert_eq!(read(text), Some(millis), "{text}");
        }
        assert_eq!(read("2025-12-31T23:59:59Z"), Some(1_767_225_599_000));
        assert_eq!(read("2025-12-31T23:59:59.5Z"), Some(1_767_225_599_500));
        assert_eq!(read("2025-12-31"), None);
    }

    #[test]
    fn an_uptime_is_an_instant() {
        let boot = boot();
        assert_eq!([of_uptime("7"), of_uptime("7.25")], [Some(boot + 7_000), Some(boot + 7_250)]);
        assert_eq!([of_uptime(""), of_uptime("7.x"), of_uptime("-7.25")], [None; 3]);
        let told = std::fs::read_to_string("/proc/uptime").unwrap();
        let read = of_uptime(told.split(' ').next().unwrap()).unwrap();
        assert!((read.saturating_sub(1)..read + 60_000).contains(&now()), "{told}");
    }
}
