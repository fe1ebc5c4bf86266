//! Which processes belong to which run, read from the marks that `exec` leaves in their environment.
//!
//! A mark survives `setsid`, a double fork and the death of the daemon. It names its owner by process id and
//! start time, since ids are used again. Everything here is about processes of our own user and process id
//! namespace.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal, test_kill_process};
use scheduler_core::RunId;

use crate::environment::{OWNER, RUN_ID, TASK};
use crate::exec::{Orphan, Swept};

/// How long swept processes are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two scans; a killed process needs a moment to vanish.
const PAUSE: Duration = Duration::from_millis(10);

/// The process that started a program: `<pid namespace>:<pid>:<start time in ticks since boot>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    namespace: u64,
    pid: u32,
    started: u64,
}

impl Owner {
    /// This process; `None` without a `/proc` of our own namespace, whose numbers would mean other processes.
    pub(crate) fn current() -> Option<Self> {
        let pid = std::process::id();
        (fs::read_link("/proc/self").ok()?.to_str()? == pid.to_string()).then_some(())?;
        Some(Self { namespace: namespace_of(pid)?, pid, started: Stat::of(pid)?.started })
    }

    fn lives(self) -> bool {
        match Stat::of(self.pid) {
            Some(stat) => stat.lives() && stat.started == self.started,
            // Where `/proc` hides the processes of other users, the kernel still says that there is one.
            None => id(self.pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM)),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.namespace, self.pid, self.started)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split(':').map(|number| number.parse::<u64>().map_err(drop));
        let mut next = || numbers.next().ok_or(())?;
        let (namespace, pid, started) = (next()?, next()?, next()?);
        let pid = u32::try_from(pid).map_err(drop)?;
        if numbers.next().is_some() { Err(()) } else { Ok(Self { namespace, pid, started }) }
    }
}

/// What every process of a run carries: the run's id and who started it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    owner: Owner,
    run_id: RunId,
}

impl Marks {
    /// The marks of a run that this process starts.
    pub(crate) fn of(run_id: RunId) -> Option<Self> {
        Some(Self { owner: Owner::current()?, run_id })
    }

    /// Kills whoever carries these marks, again and again until nobody does or `patience` is over; at least
    /// once. Returns the ids of those who still live.
    pub(crate) fn kill_carriers(self, patience: Duration) -> Vec<u32> {
        let carries =
            |carrier: &Carrier| carrier.owner == self.owner && carrier.process.run_id == Some(self.run_id);
        kill_all(carries, patience).left.into_iter().map(|process| process.pid).collect()
    }
}

/// See [`crate::exec::sweep_orphans`].
pub(crate) fn sweep_orphans() -> Swept {
    let Some(own) = Owner::current() else { return Swept::default() };
    kill_all(|carrier| carrier.owner.namespace == own.namespace && !carrier.owner.lives(), PATIENCE)
}

/// Whether any member of the group lives; a zombie does not.
pub(crate) fn is_group_alive(group: Pid) -> bool {
    let group = u32::try_from(group.as_raw_pid()).ok();
    pids().filter_map(Stat::of).any(|stat| Some(stat.group) == group && stat.lives())
}

/// A process with an owner's mark.
struct Carrier {
    process: Orphan,
    owner: Owner,
}

impl Carrier {
    fn of(pid: u32) -> Option<Self> {
        // The user comes first: it is cheap to read, and the others' environments are closed to us anyway.
        let user = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        (user == geteuid().as_raw()).then_some(())?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let owner = variable(&environment, OWNER)?.parse().ok()?;
        let task = variable(&environment, TASK).and_then(|task| task.parse().ok());
        let run_id = variable(&environment, RUN_ID).and_then(|run_id| run_id.parse().ok());
        Some(Self { process: Orphan { pid, task, run_id }, owner })
    }

    /// Kills the process that `pid` is now, if it is one of those wanted.
    fn kill(pid: u32, wanted: &impl Fn(&Self) -> bool) -> bool {
        let Some(id) = id(pid) else { return false };
        let Ok(handle) = pidfd_open(id, PidfdFlags::empty()) else { return false };
        // The number may have passed on to a stranger before the handle was opened, but not since.
        Self::of(pid).is_some_and(|carrier| wanted(&carrier))
            && pidfd_send_signal(handle, Signal::KILL).is_ok()
    }
}

/// Scans and kills in rounds: a process may fork between the scan and its death.
fn kill_all(wanted: impl Fn(&Carrier) -> bool, patience: Duration) -> Swept {
    let own = std::process::id();
    let namespace = namespace_of(own);
    let until = Instant::now() + patience;
    let mut killed: Vec<Orphan> = Vec::new();
    loop {
        let carriers = pids().filter(|pid| *pid != own).filter_map(Carrier::of).filter(&wanted);
        let found: Vec<Orphan> = carriers
            .map(|carrier| carrier.process)
            .filter(|process| namespace_of(process.pid) == namespace)
            .collect();
        for process in &found {
            if Carrier::kill(process.pid, &wanted) && !killed.contains(process) {
                killed.push(process.clone());
            }
        }
        if found.is_empty() || Instant::now() >= until {
            return Swept { killed, left: found };
        }
        std::thread::sleep(PAUSE);
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    group: u32,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold any of them, and spaces.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and the two fields before the rest are the id and the name.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            group: field(5)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }

    fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The number as the kernel takes it; a mark may hold any.
fn id(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn namespace_of(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|namespace| namespace.ino())
}

fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a str> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        variable.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let rest = "S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 9000 1 2 3";
        for name in ["sh", "a b", "x) S 9 9 9", "((", ")", "\u{fffd}"] {
            let stat = Stat::parse(&format!("77 ({name}) {rest}"));
            assert_eq!(stat, Some(Stat { state: 'S', group: 77, started: 424_242 }), "{name}");
        }
        for text in ["", "77 (sh", "77 (sh) S 1 77"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_owner_survives_its_text_and_nothing_else_is_one() {
        let owner = Owner::current().unwrap();
        assert_eq!(owner.to_string().parse(), Ok(owner));
        for text in ["", "1:2", "1:2:3:4", "1:-2:3", "1:99999999999:3", "a:b:c"] {
            assert_eq!(text.parse::<Owner>(), Err(()), "{text}");
        }
    }

    #[test]
    fn an_owner_lives_while_its_number_and_its_start_agree() {
        let owner = Owner::current().unwrap();
        assert!(owner.lives());
        assert!(!Owner { started: owner.started + 1, ..owner }.lives());
        for pid in [0, i32::MAX as u32, u32::MAX] {
            assert!(!Owner { pid, ..owner }.lives(), "{pid}");
        }
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"AB=no\0A=yes\0B=\xff\0A=later\0C=";
        for (name, value) in [("A", Some("yes")), ("B", None), ("C", Some("")), ("D", None)] {
            assert_eq!(variable(environment, name), value, "{name}");
        }
    }
}
