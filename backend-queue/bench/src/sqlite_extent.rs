//! How much is measured on SQLite files, and with what `synchronous`.

use sqlx::sqlite::SqliteSynchronous;

/// How much is done.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) repeats: usize,
    pub(crate) finished: usize,
    /// Jobs of one drain, ours and theirs: theirs take long.
    pub(crate) ours: usize,
    pub(crate) theirs: usize,
    /// Ours alone, on a new file.
    pub(crate) backlog: usize,
    /// Few and many that are kept, and that many at once as a backlog.
    pub(crate) few: usize,
    pub(crate) many: usize,
    pub(crate) single: usize,
    pub(crate) from_callers: usize,
    pub(crate) bulk: usize,
    pub(crate) latencies: usize,
}

impl Extent {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            return Self {
                repeats: 1,
                finished: 1_000,
                ours: 2_000,
                theirs: 200,
                backlog: 10_000,
                few: 100,
                many: 20_000,
                single: 50,
                from_callers: 2_000,
                bulk: 2_000,
                latencies: 50,
            };
        }
        Self {
            repeats: 3,
            finished: 10_000,
            ours: 10_000,
            theirs: 500,
            backlog: 50_000,
            few: 1_000,
            many: 1_000_000,
            single: 500,
            from_callers: 20_000,
            bulk: 20_000,
            latencies: 300,
        }
    }
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Full,
    Normal,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }

    /// How ours is called; the headline is that of `NORMAL`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "ours, synchronous = full",
            Self::Normal => "ours",
        }
    }

    pub(crate) fn peer(self) -> &'static str {
        match self {
            Self::Full => "apalis-sqlite, synchronous = full",
            Self::Normal => "apalis-sqlite",
        }
    }

    pub(crate) fn theirs(self) -> SqliteSynchronous {
        match self {
            Self::Full => SqliteSynchronous::Full,
            Self::Normal => SqliteSynchronous::Normal,
        }
    }
}
