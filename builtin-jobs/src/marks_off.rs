//! The marks of a run where there is no `/proc` to read them from: nothing is marked, nothing is found.

use std::fmt;
use std::time::Duration;

use rustix::process::Pid;
use scheduler_core::RunId;

use crate::exec::Swept;

/// The process that started a program; unknown here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {}

impl Owner {
    pub(crate) fn current() -> Option<Self> {
        None
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// What every process of a run carries; nothing here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Marks {}

impl Marks {
    pub(crate) fn of(_: RunId) -> Option<Self> {
        None
    }

    pub(crate) fn kill_carriers(self, _: Duration) -> Vec<u32> {
        match self {}
    }
}

/// The members of a group cannot be told from its leader here, so they end with it.
pub(crate) fn is_group_alive(_: Pid) -> bool {
    false
}

pub(crate) fn sweep_orphans() -> Swept {
    Swept::default()
}
