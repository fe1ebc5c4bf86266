//! The rows.

use anyhow::Result;

use crate::faults::trial::{Store, Trial};
use crate::faults::{crowd, death, disk, faulty, file, poison, refusal, replies, server, tls};

/// A kind of fault.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) stores: &'static [Store],
    /// Whether it is part of the quick subset.
    pub(crate) is_quick: bool,
    pub(crate) run: fn(&mut Trial<'_>) -> Result<()>,
}

const SQLITE: &[Store] = &[Store::Sqlite];
const REDIS: &[Store] = &[Store::Redis];
const BOTH: &[Store] = &[Store::Sqlite, Store::Redis];

const fn row(
    name: &'static str,
    stores: &'static [Store],
    is_quick: bool,
    run: fn(&mut Trial<'_>) -> Result<()>,
) -> Row {
    Row { name, stores, is_quick, run }
}

/// All of them, in the order in which they are run.
pub(crate) const ROWS: &[Row] = &[
    row("kill-daemon", BOTH, true, death::kill_daemon),
    row("kill-worker", BOTH, true, death::kill_worker),
    row("sigterm-short", BOTH, true, death::sigterm_short),
    row("sigterm-long", BOTH, true, death::sigterm_long),
    row("stop-past-lease", BOTH, true, death::stop_past_lease),
    row("three-daemons", BOTH, true, crowd::three_daemons),
    row("many-daemons", BOTH, true, crowd::many_daemons),
    row("due-at-once", BOTH, true, crowd::due_at_once),
    row("panics", BOTH, true, faulty::panics),
    row("blocked-runtime", BOTH, true, faulty::blocked_runtime),
    row("poison", BOTH, true, poison::payloads),
    row("disk-full", SQLITE, true, disk::full),
    row("failing-fsync", SQLITE, true, disk::failing_fsync),
    row("locked", SQLITE, true, file::locked),
    row("corrupt", SQLITE, true, file::corrupt),
    row("newer", SQLITE, true, file::newer),
    row("redis-killed-always", REDIS, true, server::killed_always),
    row("redis-killed-everysec", REDIS, true, server::killed_everysec),
    row("redis-killed-none", REDIS, true, server::killed_none),
    row("redis-hung-1s", REDIS, true, server::hung_1s),
    row("redis-hung-5s", REDIS, false, server::hung_5s),
    row("redis-hung-60s", REDIS, false, server::hung_60s),
    row("replies-cut", REDIS, true, replies::cut),
    row("wrong-password", REDIS, true, refusal::wrong_password),
    row("tls", REDIS, true, tls::over_tls),
    row("tls-refused", REDIS, true, tls::refused),
    row("read-only", REDIS, true, refusal::read_only),
    row("out-of-memory", REDIS, true, refusal::out_of_memory),
    row("scripts-flushed", REDIS, true, refusal::scripts_flushed),
    row("wrong-type", REDIS, true, refusal::wrong_type),
];
