//! The scripts that the Redis store runs: each does a call of the store at once, by the clock of Redis.
//!
//! A script is not rolled back, so each looks before it writes; and each is bounded in what it touches.

use std::sync::LazyLock;

use redis::Script;

/// A script of parts, behind the line that says what Redis may expect of it.
macro_rules! script {
    ($name:ident, $flags:literal, $($part:literal),+) => {
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                "#!lua", $flags, "\n", include_str!("lua/prelude.lua"), $(include_str!(concat!("lua/", $part, ".lua"))),+
            ))
        });
    };
}

// What only reads.
script!(PEEK, " flags=no-writes", "letter", "peek");
script!(PAGE, " flags=no-writes", "letter", "page");
script!(WAITING, " flags=no-writes", "waiting");
script!(LOAD, " flags=no-writes", "ready", "load");
script!(STANDING, " flags=no-writes", "cursor", "standing");
script!(LOOK, " flags=no-writes", "oldest", "beyond", "look");
script!(QUEUES, " flags=no-writes", "under", "running", "ready", "queues");
script!(UNDER_WAY, " flags=no-writes", "running", "under_way");
script!(ADOPT_LOOK, " flags=no-writes", "adopt_look");
script!(LIVING, " flags=no-writes", "living");
script!(OWNER, " flags=no-writes", "unique", "owner");

// What adds runs; refused when Redis has no memory left.
script!(PUSH, "", "change", "wake", "insert", "push");
script!(PUSH_FRESH, "", "push_fresh");
script!(STEP, "", "change", "remember", "under", "acknowledge", "admit", "step");
script!(DECIDE, "", "change", "wake", "insert", "withdraw", "cursor", "decide");
script!(REPLAY, "", "change", "wake", "insert", "letters", "replay");
script!(ADOPT, "", "change", "wake", "insert", "adopt");
script!(INDEX, "", "change", "index");
script!(REGISTER, "", "register");
script!(PUSH_UNIQUE, "", "change", "wake", "insert", "unique", "push_unique");
script!(FIRE_UNIQUE, "", "change", "wake", "insert", "withdraw", "cursor", "unique", "unique_fire", "decide");

// What must go on without memory: it frees as much as it takes.
script!(ACKNOWLEDGE, " flags=allow-oom", "change", "remember", "under", "acknowledge", "admit", "step");
script!(PROBE, " flags=allow-oom", "probe");
script!(RECALL, " flags=allow-oom", "remember", "recall");
script!(EXPIRED, " flags=allow-oom", "expired");
script!(INDEX_TAKEN, " flags=allow-oom", "change", "index");
script!(SETTLE, " flags=allow-oom", "change", "wake", "under", "acknowledge", "settle");
script!(RENEW, " flags=allow-oom", "renew");
script!(PROGRESS, " flags=allow-oom", "progress");
script!(SERVE, " flags=allow-oom", "serve");
script!(PAUSE, " flags=allow-oom", "pause");
script!(PAUSE_QUEUE, " flags=allow-oom", "pause_queue");
script!(CANCEL, " flags=allow-oom", "change", "wake", "withdraw", "cancel");
script!(HOLD, " flags=allow-oom", "hold");
script!(DISCARD, " flags=allow-oom", "change", "letters", "discard");
script!(FORGET, " flags=allow-oom", "change", "letters", "oldest", "unique", "unshown", "drop", "forget");
script!(PRUNE, " flags=allow-oom", "change", "oldest", "beyond", "unique", "unshown", "drop", "prune");
