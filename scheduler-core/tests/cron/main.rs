//! The cron engine through its public face: against an oracle that tries every instant, against croner, and by tables.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

mod against_croner;
mod against_oracle;
mod dialects;
mod expressions;
mod judged;
mod mutants;
mod oracle;
mod tables;
