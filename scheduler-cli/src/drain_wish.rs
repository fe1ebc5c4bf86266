//! How another shell asks the daemon of a data folder to drain, and what it answers: by two files in that folder,
//! which only its owner can write to.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use scheduler_core::{Drained, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::data_dir::{Holder, unusable};
use crate::failure::Failure;

/// How often a daemon looks whether somebody wants it to drain.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const WISH: &str = "drain.json";
const ANSWER: &str = "drained.json";

/// What somebody wants of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    /// Which daemon is meant; whichever finds it where nothing is said.
    pub(crate) daemon: Option<String>,
    pub(crate) by: Option<String>,
    pub(crate) reason: Option<String>,
    /// How long what runs may take, in milliseconds; as long as it wants where there is none.
    pub(crate) timeout_ms: Option<u64>,
}

/// How the drain ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The daemon.
    #[serde(flatten)]
    pub(crate) holder: Holder,
    pub(crate) finished: usize,
    pub(crate) given_back: usize,
    pub(crate) abandoned: Vec<RunId>,
}

impl Answer {
    pub(crate) fn new(holder: &Holder, drained: &Drained) -> Self {
        let Drained { finished, given_back, abandoned } = drained;
        let (finished, given_back) = (*finished, *given_back);
        Self { holder: holder.clone(), finished, given_back, abandoned: abandoned.clone() }
    }
}

impl Wish {
    /// Tells the daemon of this folder.
    ///
    /// # Errors
    /// `data_dir/unusable`.
    pub(crate) fn tell(&self, folder: &Path) -> Result<(), Failure> {
        write(folder, WISH, self)
    }

    /// Takes the wish of somebody, if there is one for this daemon. One that cannot be read says at least that. One for
    /// another daemon, which has ended since, stays until somebody wants something else.
    pub(crate) fn take(folder: &Path, holder: &Holder) -> Option<Self> {
        let wish = Self::found(folder).filter(|wish| wish.daemon.is_none() || wish.is_of(holder))?;
        forget(folder, WISH).ok()?;
        Some(wish)
    }

    fn found(folder: &Path) -> Option<Self> {
        match fs::read(folder.join(WISH)) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(_) => Some(Self::default()),
        }
    }

    fn is_of(&self, holder: &Holder) -> bool {
        self.daemon.is_some() && self.daemon == holder.daemon
    }

    /// Waits for the wish of somebody.
    pub(crate) async fn heard(folder: &Path, holder: &Holder) -> Self {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(wish) = Self::take(folder, holder) {
                return wish;
            }
        }
    }

    /// Forgets a wish that was meant for a daemon before this one. Whoever has seen already that this one holds the
    /// folder may have asked it; and what the one before answered stays, for who asked may not have seen it yet.
    ///
    /// # Errors
    /// `data_dir/unusable`.
    pub(crate) fn forget(folder: &Path, holder: &Holder) -> Result<(), Failure> {
        if Self::found(folder).is_some_and(|wish| !wish.is_of(holder)) {
            forget(folder, WISH)
        } else {
            Ok(())
        }
    }

    /// Who wants it, and why.
    pub(crate) fn said(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("a drain was asked for{by}{reason}")
    }
}

impl Answer {
    /// Leaves it for whoever asked.
    ///
    /// # Errors
    /// `data_dir/unusable`.
    pub(crate) fn leave(&self, folder: &Path) -> Result<(), Failure> {
        write(folder, ANSWER, self)
    }

    /// The answer of this daemon, once there is one.
    pub(crate) fn of(folder: &Path, holder: &Holder) -> Option<Self> {
        read(folder, ANSWER).filter(|answer: &Self| answer.holder == *holder)
    }
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()
}

/// Written beside and renamed, so that nobody reads half of it, and for the other side to read, which may be another
/// user than who asks.
fn write(folder: &Path, name: &str, what: &impl Serialize) -> Result<(), Failure> {
    let unusable = |error| unusable(folder, &error);
    let text = serde_json::to_vec(what).map_err(|error| unusable(error.into()))?;
    let draft = folder.join(format!("{name}.{}", std::process::id()));
    fs::write(&draft, text).map_err(unusable)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).map_err(unusable)?;
    }
    fs::rename(&draft, folder.join(name)).map_err(unusable)
}

fn forget(folder: &Path, name: &str) -> Result<(), Failure> {
    match fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(folder, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_taken_once_and_the_answer_of_another_daemon_is_none() {
        let folder = tempfile::tempdir().unwrap();
        // As in two containers: the process ids are the same.
        let (this, other) = (Holder::new(), Holder::new());
        let wish =
            Wish { daemon: this.daemon.clone(), by: Some("ana".into()), timeout_ms: Some(5), reason: None };
        wish.tell(folder.path()).unwrap();

        assert_eq!(Wish::take(folder.path(), &other), None);
        Wish::forget(folder.path(), &this).unwrap();
        assert_eq!(Wish::take(folder.path(), &this), Some(wish.clone()));
        assert_eq!(Wish::take(folder.path(), &this), None);

        wish.tell(folder.path()).unwrap();
        Wish::forget(folder.path(), &other).unwrap();
        assert_eq!(Wish::take(folder.path(), &this), None);

        Answer::new(&this, &Drained::default()).leave(folder.path()).unwrap();
        assert!(Answer::of(folder.path(), &other).is_none());
        // The next daemon may be there before whoever asked looks again.
        Wish::forget(folder.path(), &other).unwrap();
        assert!(Answer::of(folder.path(), &this).is_some());
    }

    #[test]
    fn a_wish_that_cannot_be_read_is_one_without_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(WISH), "{").unwrap();
        assert_eq!(Wish::take(folder.path(), &Holder::new()), Some(Wish::default()));
    }
}
