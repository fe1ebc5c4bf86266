//! A rotation: generate, verify the new value, swap it into place, verify it there, and roll back when that fails.
//!
//! The new value is written beside the old one and renamed over it, so whoever reads finds one of the two, whole. The
//! old one is kept as a link until the new one was verified in place. Which files there are tells how far a rotation
//! came, and the ledger besides, so a run that is killed leaves nothing that the next does not finish or take back.
//! A lock on the folder makes rotations take turns.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use scheduler_core::RunContext;
use serde::Serialize;

use crate::secret_beside::{Fault, Files, alone, create, on_disk, shape};
use crate::secret_command::{Call, Out};
use crate::secret_ledger::{Ledger, Stage};
use crate::secret_rotation_check::SecretCheck;
use crate::secret_trail::{Step, Trail};

/// How often a lock that another rotation has is tried again.
const LOOK: Duration = Duration::from_millis(50);

/// How a secret is rotated.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    pub(crate) generate: Vec<String>,
    pub(crate) verify: Vec<String>,
    pub(crate) reload: Option<Vec<String>>,
    pub(crate) verify_live: Vec<String>,
    pub(crate) limit: Duration,
    /// The name whose value it is, in a file of several.
    pub(crate) key: Option<String>,
}

/// How a rotation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It would begin.
    Planned,
    /// The new value is in place and works.
    Rotated,
    /// So is that of a rotation that an earlier run had begun.
    Finished,
    /// Another run was faster.
    NotDue,
    /// The old value is back in place.
    RolledBack,
    /// Nothing in place was changed.
    Failed,
}

/// One rotation.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) ctx: &'a RunContext,
    pub(crate) check: &'a SecretCheck,
    pub(crate) rotation: &'a Rotation,
    pub(crate) files: &'a Files,
    pub(crate) trail: Trail<'a>,
    /// The limit for a look at the secret.
    pub(crate) timeout: Duration,
}

impl Turn<'_> {
    /// Rotates the secret, or finishes what an earlier run began.
    pub(crate) async fn take(&mut self) -> (Outcome, Option<Fault>) {
        let _lock = match self.lock().await {
            Ok(lock) => lock,
            Err(fault) => return (Outcome::Failed, Some(fault)),
        };
        match self.recover().await {
            Ok(None) => {}
            Ok(Some(ended)) => return ended,
            Err(fault) => return (Outcome::Failed, Some(fault)),
        }
        if !self.check.look(self.ctx, self.timeout).await.is_due(self.ctx.clock().now()) {
            return (Outcome::NotDue, None);
        }
        if let Err(fault) = self.prepare().await {
            return self.give_up(fault).await;
        }
        if let Err(fault) = self.swap().await {
            return self.give_up(fault).await;
        }
        self.confirm(Outcome::Rotated).await
    }

    /// Makes rotations in this folder take turns, those of other processes too.
    async fn lock(&self) -> Result<File, Fault> {
        let unlocked = |error| format!("cannot lock {}: {error}", self.files.folder.display());
        let folder = File::open(&self.files.folder).map_err(unlocked)?;
        let waiting = async {
            loop {
                match folder.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
                    Err(TryLockError::Error(error)) => return Err(unlocked(error)),
                }
            }
        };
        self.until_cancelled(waiting).await?;
        Ok(folder)
    }

    /// Finishes or takes back what a run left that was cut off.
    async fn recover(&mut self) -> Result<Option<(Outcome, Option<Fault>)>, Fault> {
        let ledger = Ledger::load(self.ctx).await.map_err(|error| error.to_string())?;
        let stage = ledger.stage(self.check.name.as_str(), &self.files.live);
        let (has_next, has_previous) = (self.files.next.exists(), self.files.previous.exists());
        match (stage, has_next, has_previous) {
            (None, false, false) => Ok(None),
            (Some(Stage::RollingBack), _, _) => {
                let fault = "an earlier run was cut off while it put the old value back".to_owned();
                Ok(Some(self.roll_back(fault).await))
            }
            // The swap takes the new one away, so the old one is in place.
            (_, true, _) => {
                self.clear().await?;
                Ok(None)
            }
            (_, false, true) => {
                self.tell(Step::Resumed, Some("an earlier run was cut off behind the swap")).await;
                Ok(Some(self.confirm(Outcome::Finished).await))
            }
            (Some(Stage::Generating | Stage::Swapping), false, false) => {
                self.clear().await?;
                Ok(None)
            }
        }
    }

    /// Brings a new value that works, beside the old one.
    async fn prepare(&mut self) -> Result<(), Fault> {
        self.trail.add(Step::Began, None).await?;
        self.note(Some(Stage::Generating)).await?;
        let next = self.files.next.clone();
        let out = on_disk(move || create(&next)).await?;
        let generate = self.call(&self.rotation.generate, &self.files.live);
        self.until_cancelled(generate.run(self.ctx, None, Out::Into(out))).await?;
        let (files, key) = (self.files.clone(), self.rotation.key.clone());
        on_disk(move || Ok(shape(&files, key.as_deref()))).await??;
        self.until_cancelled(self.verify(&self.rotation.verify, &self.files.next)).await?;
        self.trail.add(Step::Verified, None).await
    }

    /// Puts the new value in place.
    async fn swap(&mut self) -> Result<(), Fault> {
        self.trail.add(Step::Swapping, None).await?;
        self.note(Some(Stage::Swapping)).await?;
        let files = self.files.clone();
        on_disk(move || {
            std::fs::hard_link(&files.live, &files.previous)?;
            std::fs::rename(&files.next, &files.live)?;
            File::open(&files.folder)?.sync_all()
        })
        .await
    }

    /// Looks whether the value in place works, and takes it back if it does not.
    async fn confirm(&mut self, outcome: Outcome) -> (Outcome, Option<Fault>) {
        if let Err(fault) = self.until_cancelled(self.reload_and_verify()).await {
            return self.roll_back(fault).await;
        }
        if let Err(fault) = self.clear().await {
            return (outcome, Some(fault));
        }
        self.tell(Step::Rotated, None).await;
        (outcome, None)
    }

    /// Puts the old value back. It is not cut off by a cancellation, as each of its steps has a limit.
    async fn roll_back(&mut self, fault: Fault) -> (Outcome, Option<Fault>) {
        // The files tell the same, should the note fail.
        let _ = self.note(Some(Stage::RollingBack)).await;
        let files = self.files.clone();
        let back = on_disk(move || {
            match std::fs::rename(&files.previous, &files.live) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            File::open(&files.folder)?.sync_all()
        });
        if let Err(error) = back.await {
            let fault = format!(
                "{fault}; the old value, {}, could not be put back: {error}",
                self.files.previous.display()
            );
            return (Outcome::Failed, Some(fault));
        }
        self.tell(Step::RolledBack, Some(&fault)).await;
        if let Err(other) = self.reload_and_verify().await {
            self.tell(Step::OldValueFails, Some(&other)).await;
        }
        if let Err(other) = self.clear().await {
            return (Outcome::RolledBack, Some(format!("{fault}; {other}")));
        }
        (Outcome::RolledBack, Some(fault))
    }

    async fn give_up(&mut self, fault: Fault) -> (Outcome, Option<Fault>) {
        // Half a swap: the old value is in place as long as the new one lies beside it.
        if !self.files.next.exists() && self.files.previous.exists() {
            return self.roll_back(fault).await;
        }
        self.tell(Step::GivenUp, Some(&fault)).await;
        match self.clear().await {
            Ok(()) => (Outcome::Failed, Some(fault)),
            Err(other) => (Outcome::Failed, Some(format!("{fault}; {other}"))),
        }
    }

    /// Removes what lies beside the value in place, and the note.
    async fn clear(&self) -> Result<(), Fault> {
        let files = self.files.clone();
        on_disk(move || {
            for file in [&files.next, &files.previous, &files.value] {
                match std::fs::remove_file(file) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            File::open(&files.folder)?.sync_all()
        })
        .await?;
        self.note(None).await
    }

    async fn reload_and_verify(&self) -> Result<(), Fault> {
        if let Some(reload) = &self.rotation.reload {
            self.call(reload, &self.files.live).run(self.ctx, None, Out::Nowhere).await?;
        }
        self.verify(&self.rotation.verify_live, &self.files.live).await
    }

    /// Lets a program say whether the value in `file` works: it stands in its standard input.
    async fn verify(&self, words: &[String], file: &Path) -> Result<(), Fault> {
        let (path, value, key) = (file.to_owned(), self.files.value.clone(), self.rotation.key.clone());
        let input = on_disk(move || match key {
            None => File::open(&path),
            Some(key) => alone(&path, &key, &value),
        });
        let input = input.await?;
        self.call(words, file).run(self.ctx, Some(input), Out::Nowhere).await.map(drop)
    }

    fn call<'a>(&'a self, words: &'a [String], file: &'a Path) -> Call<'a> {
        Call { words, secret: &self.check.name, file: Some(file), limit: self.rotation.limit }
    }

    async fn until_cancelled<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match self.ctx.unless_cancelled(work).await {
            Ok(ended) => ended,
            Err(reason) => Err(format!("ended by the scheduler: {}", reason.as_str())),
        }
    }

    async fn note(&self, stage: Option<Stage>) -> Result<(), Fault> {
        let noted = Ledger::note(self.ctx, &self.check.name, &self.files.live, stage).await;
        noted.map_err(|error| error.to_string())
    }

    /// Adds to the trail where nothing may stop any more.
    async fn tell(&mut self, step: Step, reason: Option<&str>) {
        if let Err(fault) = self.trail.add(step, reason).await {
            tracing::error!(secret = %self.check.name, "{fault}");
        }
    }
}
