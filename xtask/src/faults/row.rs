//! The rows.

use anyhow::Result;

use crate::faults::trial::{Store, Trial};
use crate::faults::{
    backlog, busy, control, crowd, death, disk, farewell, faulty, file, folder, lines, opening, output,
    poison, power, preload, refusal, replies, server, soak, stubborn, swarm, tls, upgrade, wal,
};

/// A kind of fault.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) stores: &'static [Store],
    pub(crate) size: Size,
    pub(crate) run: fn(&mut Trial<'_>) -> Result<()>,
}

/// Which runs it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// The quick subset as well, smaller.
    Quick,
    /// The full run.
    Full,
    /// The full run, when nothing else is run beside it: it measures.
    Alone,
}

use Size::{Alone, Full, Quick};

const SQLITE: &[Store] = &[Store::Sqlite];
const REDIS: &[Store] = &[Store::Redis];
const BOTH: &[Store] = &[Store::Sqlite, Store::Redis];

const fn row(
    name: &'static str,
    stores: &'static [Store],
    size: Size,
    run: fn(&mut Trial<'_>) -> Result<()>,
) -> Row {
    Row { name, stores, size, run }
}

/// All of them, in the order in which they are run.
pub(crate) const ROWS: &[Row] = &[
    // The longest first: it waits for most of its time, and all else is run beside it.
    row("soak", BOTH, Full, soak::soak),
    row("kill-daemon", BOTH, Quick, death::kill_daemon),
    row("kill-worker", BOTH, Quick, death::kill_worker),
    row("sigterm-short", BOTH, Quick, death::sigterm_short),
    row("sigterm-long", BOTH, Quick, death::sigterm_long),
    row("sigterm-twice", BOTH, Quick, farewell::sigterm_twice),
    row("taken-over", BOTH, Full, farewell::taken_over),
    row("stop-past-lease", BOTH, Quick, death::stop_past_lease),
    row("three-daemons", BOTH, Quick, crowd::three_daemons),
    row("many-daemons", BOTH, Quick, crowd::many_daemons),
    row("many-schedules", BOTH, Full, swarm::schedules),
    row("revisions", BOTH, Full, swarm::revisions),
    row("shared-folder", BOTH, Full, folder::shared),
    row("upgrade", BOTH, Quick, upgrade::older),
    row("due-at-once", BOTH, Quick, crowd::due_at_once),
    row("panics", BOTH, Quick, faulty::panics),
    row("blocked-runtime", BOTH, Quick, faulty::blocked_runtime),
    row("never-ends", BOTH, Full, stubborn::never_end),
    row("output", BOTH, Full, output::without_measure),
    row("poison", BOTH, Quick, poison::payloads),
    row("disk-full", SQLITE, Quick, disk::full),
    row("failing-fsync", SQLITE, Quick, preload::fsync),
    row("failing-writes", SQLITE, Full, preload::writes),
    row("failing-locks", SQLITE, Full, preload::locks),
    row("power-failure", SQLITE, Full, power::fails),
    row("torn-log", SQLITE, Quick, wal::torn),
    row("read-only-file", SQLITE, Full, wal::read_only),
    row("file-moved", SQLITE, Full, folder::moved),
    row("locked", SQLITE, Quick, file::locked),
    row("corrupt", SQLITE, Quick, file::corrupt),
    row("newer", SQLITE, Quick, file::newer),
    row("redis-killed-always", REDIS, Quick, server::killed_always),
    row("redis-killed-everysec", REDIS, Quick, server::killed_everysec),
    row("redis-killed-none", REDIS, Quick, server::killed_none),
    row("redis-hung-1s", REDIS, Quick, server::hung_1s),
    row("redis-hung-5s", REDIS, Full, server::hung_5s),
    row("redis-hung-60s", REDIS, Full, server::hung_60s),
    row("redis-busy", REDIS, Full, busy::busy),
    row("redis-restarted", REDIS, Full, busy::restarted),
    row("failover", REDIS, Full, lines::failover),
    row("bad-lines", REDIS, Full, lines::bad),
    row("replies-cut", REDIS, Quick, replies::cut),
    row("wrong-password", REDIS, Quick, refusal::wrong_password),
    row("acl", REDIS, Quick, opening::acl),
    row("eviction", REDIS, Quick, opening::eviction),
    row("tls", REDIS, Quick, tls::over_tls),
    row("tls-refused", REDIS, Quick, tls::refused),
    row("read-only", REDIS, Quick, refusal::read_only),
    row("out-of-memory", REDIS, Quick, refusal::out_of_memory),
    row("scripts-flushed", REDIS, Quick, refusal::scripts_flushed),
    row("flushed", REDIS, Full, server::flushed),
    row("wrong-type", REDIS, Quick, refusal::wrong_type),
    row("control", BOTH, Alone, control::from_outside),
    row("burst", BOTH, Alone, backlog::burst),
    row("day-of-backlog", BOTH, Alone, backlog::day),
];
