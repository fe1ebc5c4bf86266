//! The job `secret_rotation_check`: looks whether secrets are due for rotation or open to others, and rotates those it
//! was told how to.
//!
//! It checks first: nothing is changed unless `rotate` says so. No value of a secret is in its output, its messages,
//! its state or its audit trail, and what its programs print is not kept. A run fails while a secret is due, has
//! ended, cannot be read or is open to others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use scheduler_core::{
    ArgsError, Error, Job, JobDescriptor, JobError, Output, RunContext, Timestamp, async_trait,
};
use serde_json::json;

use crate::secret_args::SecretsArgs;
use crate::secret_beside::Files;
use crate::secret_due::{Limits, Status};
use crate::secret_kind::Kind;
use crate::secret_ledger::Ledger;
use crate::secret_rotation::{Outcome, Rotation, Turn};
use crate::secret_row::{Row, Told};
use crate::secret_source::{Item, Source};
use crate::secret_trail::Trail;
use crate::{dry_run, environment, program, tls};

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

/// What ending takes besides the commands of a rotation.
const ENDING: Duration = Duration::from_secs(5);

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(SecretsArgs).to_value();
    let summary = "looks whether secrets are due or open to others, and rotates them when told to";
    JobDescriptor::typed("secret_rotation_check", summary, SecretsArgs::read).with_schema(schema)
}

/// Secrets that can be looked at.
#[derive(Debug)]
pub(crate) struct SecretRotationCheck {
    pub(crate) secrets: Vec<SecretCheck>,
    pub(crate) timeout: Duration,
    pub(crate) rotates: bool,
    pub(crate) is_dry: bool,
    pub(crate) audit: Option<PathBuf>,
}

/// One secret, or several of one place.
#[derive(Debug)]
pub(crate) struct SecretCheck {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    pub(crate) limits: Limits,
    pub(crate) mode: u32,
    pub(crate) rotation: Option<Rotation>,
}

/// What a look at a place found.
#[derive(Debug)]
pub(crate) struct Seen {
    limits: Limits,
    pub(crate) items: Vec<Item>,
}

impl SecretCheck {
    /// Looks at every secret of the place, for at most the limit.
    pub(crate) async fn look(&self, ctx: &RunContext, limit: Duration) -> Seen {
        // A program gets the limit to itself, and a moment to be ended in.
        let looking = self.source.look(ctx, &self.name, self.mode, limit);
        let looked = tokio::time::timeout(limit.saturating_add(Duration::from_secs(2)), looking).await;
        let items = looked.unwrap_or_else(|_| {
            vec![Item::unknown(&self.name, format!("it could not be looked at within {limit:?}"))]
        });
        Seen { limits: self.limits, items }
    }
}

impl Seen {
    /// Whether one of the secrets is to be replaced.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        matches!(self.status(now), Status::Due | Status::Expired)
    }

    pub(crate) fn status(&self, now: Timestamp) -> Status {
        let all = self.items.iter().map(|item| self.judged(item, now).0);
        all.max().unwrap_or(Status::Unknown)
    }

    pub(crate) fn judged(&self, item: &Item, now: Timestamp) -> (Status, String) {
        match &item.dates {
            Ok(dates) => self.limits.judge(*dates, now),
            Err(why) => (Status::Unknown, why.clone()),
        }
    }
}

#[async_trait]
impl Job for SecretRotationCheck {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let is_dry = self.is_dry || dry_run::is_asked_for(ctx)?;
        let looking = join_all(self.secrets.iter().map(|secret| secret.look(ctx, self.timeout)));
        let seen = ctx
            .unless_cancelled(looking)
            .await
            .map_err(|reason| JobError::retry(format!("ended by the scheduler: {}", reason.as_str())))?;
        let ledger = Ledger::load(ctx).await?;
        let mut rows: Vec<Row<'_>> = Vec::with_capacity(seen.len());
        for (check, seen) in self.secrets.iter().zip(seen) {
            let files = check.source.file().and_then(|path| Files::of(path).ok());
            let is_between = files
                .is_some_and(|files| files.are_between() || ledger.stage(&check.name, &files.live).is_some());
            let row = Row { check, seen, is_between, rotation: None };
            let is_wanted = self.rotates && (row.seen.is_due(ctx.clock().now()) || is_between);
            rows.push(match &check.rotation {
                Some(_) if is_wanted && is_dry => {
                    let planned = Told { outcome: Outcome::Planned, fault: None, events: Vec::new() };
                    Row { rotation: Some(planned), ..row }
                }
                Some(rotation) if is_wanted && ctx.told_to_stop().is_none() => {
                    self.rotated(ctx, row, rotation).await
                }
                _ => row,
            });
        }
        conclude(&rows, is_dry, ctx)
    }

    fn wind_down(&self) -> Duration {
        let limits = self.secrets.iter().filter_map(|secret| secret.rotation.as_ref());
        let longest = limits.map(|rotation| rotation.limit).max().unwrap_or_default();
        // Going back takes two commands.
        longest.saturating_mul(2).saturating_add(ENDING)
    }

    fn check(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        let path = std::env::var_os("PATH").unwrap_or_else(|| environment::DEFAULT_PATH.into());
        for (index, secret) in self.secrets.iter().enumerate() {
            let mut programs: Vec<(&str, &[String])> = Vec::new();
            if let Source::Command(words) = &secret.source {
                programs.push(("/program", words));
            }
            if let Source::Tls(_, Some(ca_file)) = &secret.source {
                faults.extend(tls::bad_ca_file(ca_file).map(|fault| below(index, fault)));
            }
            if let Some(rotation) = &secret.rotation {
                programs.push(("/rotation/generate", &rotation.generate));
                programs.push(("/rotation/verify", &rotation.verify));
                programs.push(("/rotation/verify_live", &rotation.verify_live));
                programs.extend(rotation.reload.iter().map(|words| ("/rotation/reload", words.as_slice())));
            }
            for (place, words) in programs {
                let name = words.first().map(String::as_str).unwrap_or_default();
                if let Err(fault) = program::locate(name, &path, Path::new(".")) {
                    faults.push(below(index, ArgsError { pointer: place.to_owned(), ..fault }));
                }
            }
        }
        let folder = self.audit.as_ref().and_then(|path| path.parent());
        let missing = folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
        faults.extend(missing.map(|folder| {
            ArgsError::new("/audit", format!("there is no folder {}", folder.display())).with_help("make it")
        }));
        faults
    }
}

impl SecretRotationCheck {
    /// Rotates a secret and looks at it again.
    async fn rotated<'a>(&'a self, ctx: &RunContext, row: Row<'a>, rotation: &Rotation) -> Row<'a> {
        let check = row.check;
        let files = match check.source.file().map(Files::of) {
            Some(Ok(files)) => files,
            Some(Err(fault)) => {
                let told = Told { outcome: Outcome::Failed, fault: Some(fault), events: Vec::new() };
                return Row { rotation: Some(told), ..row };
            }
            None => return row,
        };
        let trail = Trail {
            ctx,
            secret: &check.name,
            path: &files.live,
            file: self.audit.as_deref(),
            events: Vec::new(),
        };
        let mut turn = Turn { ctx, check, rotation, files: &files, trail, timeout: self.timeout };
        let (outcome, fault) = turn.take().await;
        let told = Told { outcome, fault, events: turn.trail.events };
        let seen = check.look(ctx, self.timeout).await;
        Row { check, seen, is_between: files.are_between(), rotation: Some(told) }
    }
}

fn conclude(rows: &[Row<'_>], is_dry: bool, ctx: &RunContext) -> Result<Output, JobError> {
    let now = ctx.clock().now();
    let rotations: Vec<String> = rows.iter().filter_map(Row::rotated).collect();
    let output = json!({
        "schema_version": SCHEMA_VERSION,
        "summary": (!rotations.is_empty()).then(|| rotations.join(", ")),
        "dry_run": is_dry,
        "status": rows.iter().map(|row| row.seen.status(now)).max(),
        "secrets": rows.iter().map(|row| row.shown(now)).collect::<Vec<_>>(),
    });
    let troubles: Vec<String> = rows.iter().filter_map(|row| row.trouble(now)).collect();
    if troubles.is_empty() {
        return Ok(output);
    }
    let message = format!("{} of {} secrets: {}", troubles.len(), rows.len(), troubles.join("; "));
    let has_failed = rows.iter().any(|row| row.rotation.as_ref().is_some_and(|told| told.fault.is_some()));
    let code = if has_failed { "secrets/rotation_failed" } else { "secrets/due" };
    Err(JobError::abort(Error::unavailable(code, message)).with_output(output))
}

fn below(index: usize, fault: ArgsError) -> ArgsError {
    ArgsError { pointer: format!("/secrets/{index}{}", fault.pointer), ..fault }
}
