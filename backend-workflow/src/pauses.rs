//! Who paused which task, why, and until when. The engine only knows that a schedule does not fire.
//!
//! Kept in a file, if the process has a folder for files: else a pause with an end would never end after a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scheduler_core::{Name, Pause};
use serde::{Deserialize, Serialize};

/// The version of the file.
const FORMAT: u32 = 1;

/// The pauses that were made here.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    file: Option<PathBuf>,
    by_task: BTreeMap<Name, Pause>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    pauses: BTreeMap<Name, Pause>,
}

impl Pauses {
    /// Those that a process before this one made.
    pub(crate) fn read(folder: Option<&Path>, backend: &Name) -> Self {
        let file = folder.map(|folder| folder.join(format!("{backend}-pauses.json")));
        let text = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let by_task = match text.map(|text| serde_json::from_slice::<Stored>(&text)) {
            None => BTreeMap::new(),
            Some(Ok(stored)) if stored.v == FORMAT => stored.pauses,
            Some(_) => {
                tracing::warn!(%backend, "who paused tasks is not known: {file:?} holds something else");
                BTreeMap::new()
            }
        };
        Self { file, by_task }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Name, &Pause)> {
        self.by_task.iter()
    }

    pub(crate) fn of(&self, task: &Name) -> Option<&Pause> {
        self.by_task.get(task)
    }

    pub(crate) fn add(&mut self, task: &Name, pause: Pause) {
        self.by_task.insert(task.clone(), pause);
        self.write();
    }

    pub(crate) fn remove(&mut self, task: &Name) {
        if self.by_task.remove(task).is_some() {
            self.write();
        }
    }

    /// The schedule does not fire already, so what cannot be written costs no more than the reason.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        let stored = Stored { v: FORMAT, pauses: self.by_task.clone() };
        let written = serde_json::to_vec(&stored).map_err(std::io::Error::other).and_then(|text| {
            let beside = file.with_extension("json.new");
            std::fs::write(&beside, text)?;
            std::fs::rename(&beside, file)
        });
        if let Err(error) = written {
            tracing::warn!(
                "who paused tasks is forgotten with the next restart: {}: {error}",
                file.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_known_after_a_restart_and_a_file_of_another_kind_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let (backend, task) = (Name::new("workflow").unwrap(), Name::new("backup").unwrap());
        let read = || Pauses::read(Some(folder.path()), &backend);
        let pause = Pause { by: Some("ada".to_owned()), ..Pause::default() };

        read().add(&task, pause.clone());
        assert_eq!(read().of(&task), Some(&pause));
        read().remove(&task);
        assert_eq!(read().all().count(), 0);

        std::fs::write(folder.path().join("workflow-pauses.json"), r#"{"v":2}"#).unwrap();
        assert_eq!(read().all().count(), 0);
        assert_eq!(Pauses::read(None, &backend).all().count(), 0);
    }
}
