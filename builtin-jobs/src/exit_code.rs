//! What the end of a program means for its run, and how history tells it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Signal;
use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest excerpt of a program's output in an error, in characters.
const LONGEST_EXCERPT: usize = 200;

/// The signals that end programs; their numbers differ between systems.
const SIGNALS: [(Signal, &str); 16] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::XCPU, "SIGXCPU"),
    (Signal::XFSZ, "SIGXFSZ"),
    (Signal::SYS, "SIGSYS"),
];

/// Exit codes whose meaning differs from the usual one: 0 succeeds, 75 (`EX_TEMPFAIL`) snoozes, 64 to 78
/// otherwise abort, and the rest retry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExitCodes {
    /// The attempt succeeded.
    success: Vec<u8>,
    /// Not now: run again after `snooze`, without spending an attempt.
    snooze: Vec<u8>,
    /// The run failed; another attempt would fail as well.
    abort: Vec<u8>,
    /// The attempt failed; another one may succeed.
    retry: Vec<u8>,
}

/// What follows a program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Success,
    Snooze,
    Abort,
    Retry,
}

impl ExitCodes {
    /// What `status` means; death by a signal means retry.
    pub(crate) fn meaning(&self, status: ExitStatus) -> Meaning {
        let Some(code) = status.code().and_then(|code| u8::try_from(code).ok()) else {
            return Meaning::Retry;
        };
        if let Some((_, _, meaning)) = self.lists().into_iter().find(|(_, codes, _)| codes.contains(&code)) {
            return meaning;
        }
        match code {
            0 => Meaning::Success,
            75 => Meaning::Snooze,
            64..=78 => Meaning::Abort,
            _ => Meaning::Retry,
        }
    }

    /// A code that stands twice has no meaning.
    pub(crate) fn faults(&self) -> Vec<ArgsError> {
        let mut seen: Vec<(u8, &str)> = Vec::new();
        let mut faults = Vec::new();
        for (name, codes, _) in self.lists() {
            for (index, code) in codes.iter().enumerate() {
                match seen.iter().find(|(other, _)| other == code) {
                    Some((_, first)) => faults.push(ArgsError::new(
                        format!("/exit_codes/{name}/{index}"),
                        format!("exit code {code} stands in `{first}` already"),
                    )),
                    None => seen.push((*code, name)),
                }
            }
        }
        faults
    }

    fn lists(&self) -> [(&'static str, &[u8], Meaning); 4] {
        [
            ("success", &self.success, Meaning::Success),
            ("snooze", &self.snooze, Meaning::Snooze),
            ("abort", &self.abort, Meaning::Abort),
            ("retry", &self.retry, Meaning::Retry),
        ]
    }
}

/// How a program ended, in one line: its exit code or signal, and the last thing it said.
pub(crate) fn account(status: ExitStatus, stdout: &str, stderr: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => status.to_string(),
    };
    match last_line(stderr).or_else(|| last_line(stdout)) {
        Some(line) => format!("{end}: {}", excerpt(line)),
        None => end,
    }
}

fn signal_name(number: i32) -> String {
    let name = SIGNALS.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| *name);
    name.map_or_else(|| format!("signal {number}"), str::to_owned)
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

/// The line as one that a terminal prints as it stands.
fn excerpt(line: &str) -> String {
    let mut text = String::new();
    let mut room = LONGEST_EXCERPT;
    for character in line.chars() {
        let shown = if is_invisible(character) {
            character.escape_default().to_string()
        } else {
            character.to_string()
        };
        let length = shown.chars().count();
        // One character of room stays for the ellipsis.
        if length >= room {
            text.push('…');
            break;
        }
        room -= length;
        text.push_str(&shown);
    }
    text
}

/// Control characters, and those that reorder or hide text around them.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: u8) -> ExitStatus {
        ExitStatus::from_raw(i32::from(code) << 8)
    }

    #[test]
    fn an_exit_code_has_one_meaning() {
        let usual = ExitCodes::default();
        let own: ExitCodes =
            serde_json::from_str(r#"{"success": [3], "snooze": [64], "abort": [0, 1], "retry": [75]}"#)
                .unwrap();
        let cases = [
            (0, Meaning::Success, Meaning::Abort),
            (1, Meaning::Retry, Meaning::Abort),
            (3, Meaning::Retry, Meaning::Success),
            (63, Meaning::Retry, Meaning::Retry),
            (64, Meaning::Abort, Meaning::Snooze),
            (75, Meaning::Snooze, Meaning::Retry),
            (78, Meaning::Abort, Meaning::Abort),
            (79, Meaning::Retry, Meaning::Retry),
            (255, Meaning::Retry, Meaning::Retry),
        ];
        for (code, meaning, own_meaning) in cases {
            assert_eq!(usual.meaning(exited(code)), meaning, "{code}");
            assert_eq!(own.meaning(exited(code)), own_meaning, "{code}");
        }
        assert_eq!(own.meaning(ExitStatus::from_raw(9)), Meaning::Retry);
    }

    #[test]
    fn a_code_that_stands_twice_is_a_fault() {
        let codes: ExitCodes = serde_json::from_str(r#"{"snooze": [7], "abort": [1, 7]}"#).unwrap();
        let faults = codes.faults();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].pointer, "/exit_codes/abort/1");
        assert_eq!(faults[0].message, "exit code 7 stands in `snooze` already");
    }

    #[test]
    fn the_account_of_an_end_is_one_short_line() {
        let long = "é".repeat(300);
        let cut = format!("exit code 3: {}…", "é".repeat(199));
        let cases = [
            (exited(3), "", "", "exit code 3"),
            (exited(3), "out\n", "first\nno such host\n \n", "exit code 3: no such host"),
            (exited(3), "said\n", "\n\n", "exit code 3: said"),
            (exited(3), "", "\u{1b}[31mred\u{1b}[0m\0", r"exit code 3: \u{1b}[31mred\u{1b}[0m\u{0}"),
            (exited(3), "", "a\u{202e}b", r"exit code 3: a\u{202e}b"),
            (exited(3), "", long.as_str(), cut.as_str()),
            (ExitStatus::from_raw(9), "", "", "killed by SIGKILL"),
            (ExitStatus::from_raw(6 | 0x80), "", "panic", "killed by SIGABRT: panic"),
            (ExitStatus::from_raw(50), "", "", "killed by signal 50"),
        ];
        for (status, stdout, stderr, text) in cases {
            assert_eq!(account(status, stdout, stderr), text);
        }
    }
}
