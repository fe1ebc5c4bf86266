//! Lays the sources of the configuration over one another, later ones winning: files (what is
//! included before its includer), environment variables, flags.
//!
//! Keeps for each value what wrote it. Defaults are not a layer: a setting that nobody wrote is
//! absent, and its type knows its default.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use figment::value::{Dict, Value as Layered};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::origin::Origin;
use crate::overrides::Override;
use crate::source::Source;
use crate::{exposed, include, pointer};

/// The whole configuration as a tree of values, each with its origin.
///
/// Places are JSON pointers, such as `/tasks/backup/retry`.
pub struct Document {
    tree: Value,
    merged: Layered,
    figment: Figment,
    layers: Vec<Layer>,
}

enum Layer {
    File(Source),
    Override(Override),
}

/// Shows nothing of what it holds: passwords may be among it.
impl fmt::Debug for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Document").finish_non_exhaustive()
    }
}

impl Document {
    /// Reads the file with all it includes, then applies the environment and the flags.
    ///
    /// Only variables that begin with `SCHEDULER_` count. A value is read as a TOML value, or else
    /// is the text itself. The environment and flags change tasks and backends that a file defines;
    /// of the others they may only define backends named in `new_backends`.
    ///
    /// # Errors
    /// Every fault found, in the order of the layers.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
        new_backends: &[String],
    ) -> Result<Self, Vec<Diagnostic>> {
        let files = include::read_all(path)?;
        let exposed = files.iter().flat_map(exposed::secrets).collect();
        Self::of(files, exposed, environment, flags, new_backends)
    }

    /// What a file of that name would say if it held `content`, without environment and flags.
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(path: &Path, content: Vec<u8>) -> Result<Self, Vec<Diagnostic>> {
        Self::of(include::read_included(path, content)?, Vec::new(), [], &[], &[])
    }

    fn of(
        files: Vec<Source>,
        mut faults: Vec<Diagnostic>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
        new_backends: &[String],
    ) -> Result<Self, Vec<Diagnostic>> {
        faults.extend(duplicate_tasks(&files));
        let written =
            Self::merge(files.into_iter().map(Layer::File).collect()).map_err(|fault| vec![fault])?;

        let mut variables: Vec<(String, String)> = environment.into_iter().collect();
        // The order of the environment is arbitrary; that of conflicting variables should not be.
        variables.sort();
        let variables = variables.into_iter().filter_map(|(name, raw)| Override::variable(name, raw));
        let flags = flags.iter().map(|(key, raw)| Override::flag(key, raw));
        let mut overrides = Vec::new();
        for change in variables.chain(flags) {
            faults.extend(change.unknown(&written.tree, new_backends));
            overrides.push(Layer::Override(change));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut layers = written.layers;
        layers.extend(overrides);
        Self::merge(layers).map_err(|fault| vec![fault])
    }

    /// The value at a pointer; the whole tree at the empty one.
    pub fn value(&self, pointer: &str) -> Option<&Value> {
        self.tree.pointer(pointer)
    }

    /// What wrote the value at a pointer, or what holds it if there is none.
    ///
    /// A table that a file names is its origin, although another layer may have added to it.
    pub fn origin(&self, pointer: &str) -> Origin {
        self.over(self.nearest(pointer, Source::origin), pointer, Source::origin)
    }

    /// What wrote the key at a pointer.
    pub fn key_origin(&self, pointer: &str) -> Origin {
        self.over(self.nearest(pointer, Source::key_origin), pointer, Source::key_origin)
    }

    /// Adds to a variable what a file has at this pointer, or around it.
    fn over(&self, origin: Origin, pointer: &str, place: impl Fn(&Source, &str) -> Option<Origin>) -> Origin {
        let Origin::Environment { variable, .. } = origin else { return origin };
        let mut at = Some(pointer);
        while let Some(here) = at {
            let written = self.layers.iter().rev().find_map(|layer| match layer {
                Layer::File(source) => place(source, here),
                Layer::Override(_) => None,
            });
            if let Some(Origin::File(position)) = written {
                return Origin::Environment { variable, over: Some(position) };
            }
            at = pointer::parent(here);
        }
        Origin::Environment { variable, over: None }
    }

    /// The text that the environment or a flag gives for exactly this value.
    ///
    /// A setting that is a text takes it as it is: `SCHEDULER_NAMESPACE=007` names "007".
    pub(crate) fn raw(&self, pointer: &str) -> Option<&str> {
        match self.layer(pointer)? {
            Layer::Override(change) if change.pointer() == pointer => Some(change.raw()),
            Layer::Override(_) | Layer::File(_) => None,
        }
    }

    fn nearest(&self, pointer: &str, place: impl Fn(&Source, &str) -> Option<Origin>) -> Origin {
        let mut at = Some(pointer);
        while let Some(here) = at {
            if let Some(origin) = self.written(here, &place) {
                return origin;
            }
            at = pointer::parent(here);
        }
        Origin::None
    }

    fn written(&self, pointer: &str, place: impl Fn(&Source, &str) -> Option<Origin>) -> Option<Origin> {
        if self.value(pointer)?.is_object() {
            let files = self.layers.iter().rev().filter_map(|layer| match layer {
                Layer::File(source) => place(source, pointer),
                Layer::Override(_) => None,
            });
            if let Some(origin) = files.into_iter().next() {
                return Some(origin);
            }
        }
        match self.layer(pointer)? {
            Layer::File(source) => place(source, pointer),
            Layer::Override(change) => Some(change.origin().clone()),
        }
    }

    /// The layer whose value at this pointer won.
    fn layer(&self, pointer: &str) -> Option<&Layer> {
        let mut value = &self.merged;
        for key in pointer::keys(pointer) {
            value = match value {
                Layered::Dict(_, dict) => dict.get(&key)?,
                Layered::Array(_, values) => values.get(key.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        let metadata = self.figment.get_metadata(value.tag())?;
        self.layers.get(metadata.name.parse::<usize>().ok()?)
    }

    fn merge(layers: Vec<Layer>) -> Result<Self, Diagnostic> {
        let mut figment = Figment::new();
        for (index, layer) in layers.iter().enumerate() {
            figment = figment.merge(Numbered { index, layer });
        }
        // No value of ours is one that figment refuses, so these two are not expected to happen.
        let broken = |error: String| Diagnostic::error("config/internal", error, Origin::None);
        let merged = figment.find_value("").map_err(|error| broken(error.to_string()))?;
        let tree = serde_json::to_value(&merged).map_err(|error| broken(error.to_string()))?;
        Ok(Self { tree, merged, figment, layers })
    }
}

/// A layer as figment sees it; its number is what leads back from a value to the layer.
struct Numbered<'a> {
    index: usize,
    layer: &'a Layer,
}

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.index.to_string())
    }

    fn data(&self) -> figment::Result<figment::value::Map<Profile, Dict>> {
        let value = match self.layer {
            Layer::File(source) => Layered::serialize(source.tree())?,
            Layer::Override(change) => Layered::serialize(change.tree())?,
        };
        Ok(Profile::Default.collect(value.into_dict().unwrap_or_default()))
    }
}

/// A task belongs to one file: two that define it are a slip, not an override.
fn duplicate_tasks(files: &[Source]) -> Vec<Diagnostic> {
    let mut first: HashMap<&str, Origin> = HashMap::new();
    let mut faults = Vec::new();
    for source in files {
        let Some(Value::Object(tasks)) = source.tree().get("tasks") else { continue };
        for name in tasks.keys() {
            let place = pointer::from_path(["tasks", name]);
            let origin = source.key_origin(&place).unwrap_or(Origin::None);
            let Some(other) = first.insert(name, origin.clone()) else { continue };
            let message = format!("task `{name}` is defined twice, also at {}", other.place());
            let fault = Diagnostic::error("config/duplicate_name", message, origin);
            faults.push(fault.with_help("rename or remove one of the two"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::overrides::NO_SETTINGS;

    const BACKUP: &str =
        "[tasks.backup]\njob = 'exec'\ntimeout = '1h'\n[tasks.backup.retry]\nmax_attempts = 3\n";

    fn load(
        content: &str,
        environment: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Document, Vec<Diagnostic>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.toml");
        std::fs::write(&path, content).unwrap();
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        let flags: Vec<_> = flags.iter().map(owned).collect();
        Document::load(&path, environment.iter().map(owned), &flags, &["queue".to_owned()])
    }

    fn place(origin: &Origin) -> String {
        origin.place().split(", for ").next().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_file() {
        let environment = [
            ("SCHEDULER_TASKS__BACKUP__TIMEOUT", "5m"),
            ("SCHEDULER_TASKS__BACKUP__RETRY__MAX_ATTEMPTS", "4"),
        ];
        let flags = [("tasks.backup.retry.max_attempts", "5"), ("scheduler.timezone", "UTC")];

        let document = load(BACKUP, &environment, &flags).unwrap();

        let expected = json!({"scheduler": {"timezone": "UTC"},
            "tasks": {"backup": {"job": "exec", "timeout": "5m", "retry": {"max_attempts": 5}}}});
        assert_eq!(document.value(""), Some(&expected));
        let cases = [
            ("/tasks/backup/job", "scheduler.toml:2:7"),
            ("/tasks/backup/timeout", "environment variable SCHEDULER_TASKS__BACKUP__TIMEOUT"),
            ("/tasks/backup/retry/max_attempts", "flag for tasks.backup.retry.max_attempts"),
            ("/tasks/backup/retry", "scheduler.toml:4:15"),
            ("/tasks/backup/nothing/here", "scheduler.toml:1:8"),
            ("/scheduler", "flag for scheduler.timezone"),
            ("/nothing", "the defaults"),
        ];
        for (pointer, origin) in cases {
            assert_eq!(place(&document.origin(pointer)), origin, "{pointer}");
        }
        assert_eq!(place(&document.key_origin("/tasks/backup/job")), "scheduler.toml:2:1");
    }

    #[test]
    fn a_variable_names_what_it_stands_over_in_the_file() {
        let environment = [
            ("SCHEDULER_TASKS__BACKUP__TIMEOUT", "5m"),
            ("SCHEDULER_TASKS__BACKUP__OVERLAP", "skip"),
            ("SCHEDULER_NAMESPACE", "x"),
        ];

        let document = load(BACKUP, &environment, &[]).unwrap();

        let over = |pointer| match document.origin(pointer) {
            Origin::Environment { over, .. } => over.map(|at| (at.line, at.column)),
            other => panic!("{other:?}"),
        };
        assert_eq!(over("/tasks/backup/timeout"), Some((3, 11)));
        assert_eq!(over("/tasks/backup/overlap"), Some((1, 8)));
        assert_eq!(over("/namespace"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_in_a_file_that_everybody_reads_is_refused_and_not_shown() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.toml");
        let load = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Document::load(&path, [], &[], &[])
        };
        let content = "[tasks.a.args.env]\nDB_PASSWORD = 'hunter2'\n";

        let faults = load(content, 0o644).unwrap_err();

        assert_eq!(
            (faults.len(), faults[0].code, place(&faults[0].origin).as_str()),
            (1, "config/readable_secret", "scheduler.toml:2:1")
        );
        assert!(!faults[0].to_string().contains("hunter2"), "{}", faults[0]);
        assert!(load(content, 0o640).is_ok());
        assert!(load("[tasks.a.args.env]\nDB_PASSWORD = { env = 'P' }\n", 0o644).is_ok());
    }

    #[test]
    fn an_includer_wins_over_what_it_includes_and_origins_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.toml");
        std::fs::write(&path, "include = ['b.yaml']\n[scheduler]\ntimezone = 'UTC'\n").unwrap();
        std::fs::write(directory.path().join("b.yaml"), "scheduler:\n  timezone: CET\n  data_dir: x\n")
            .unwrap();

        let document = Document::load(&path, [], &[], &[]).unwrap();

        assert_eq!(document.value(""), Some(&json!({"scheduler": {"timezone": "UTC", "data_dir": "x"}})));
        assert_eq!(place(&document.origin("/scheduler/timezone")), "scheduler.toml:3:12");
        assert_eq!(place(&document.origin("/scheduler/data_dir")), "b.yaml:3:13");
    }

    #[test]
    fn a_task_defined_in_two_files_is_refused_naming_both() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.toml");
        std::fs::write(&path, format!("include = ['b.toml']\n{BACKUP}")).unwrap();
        std::fs::write(directory.path().join("b.toml"), "[tasks]\nbackup = {}").unwrap();

        let faults = Document::load(&path, [], &[], &[]).unwrap_err();

        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].code, "config/duplicate_name");
        assert!(faults[0].message.ends_with("b.toml:2:1"), "{}", faults[0].message);
        assert_eq!(place(&faults[0].origin), "scheduler.toml:2:8");
    }

    #[test]
    fn a_missing_configuration_names_the_next_step() {
        let faults = Document::load(Path::new("/nowhere/s.toml"), [], &[], &[]).unwrap_err();

        assert_eq!(faults[0].code, "config/file_not_found");
        assert!(faults[0].message.contains("/nowhere/s.toml"));
        assert!(faults[0].help.as_ref().unwrap().contains("--config FILE"));
    }

    #[test]
    fn the_variables_of_a_run_are_no_settings() {
        let mut environment: Vec<(&str, &str)> = NO_SETTINGS.iter().map(|name| (*name, "x")).collect();
        environment.extend([
            ("SCHEDULER_EXEC_ANYTHING", "x"),
            ("SCHEDULER_PARAM_X", "x"),
            ("PATH", "x"),
            ("SCHEDULERS", "x"),
        ]);

        assert_eq!(load("", &environment, &[]).unwrap().value(""), Some(&json!({})));
    }

    #[test]
    fn an_override_of_a_task_that_no_file_defines_is_refused() {
        let cases = [
            ("SCHEDULER_TASKS__BACKUPP__TIMEOUT", "5m", "did you mean `backup`? tasks: `backup`"),
            ("SCHEDULER_TASKS__OTHER", "{ job = 'exec' }", "tasks: `backup`"),
            ("SCHEDULER_TASKS", "{ other = { job = 'exec' } }", "tasks: `backup`"),
            ("SCHEDULER_BACKENDS__QUEU__URL", "redis://x", "did you mean `queue`? backends: `queue`"),
        ];

        for (variable, value, help) in cases {
            let faults = load(BACKUP, &[(variable, value)], &[]).unwrap_err();

            assert_eq!(faults.len(), 1, "{variable}");
            assert_eq!(faults[0].code, "config/unknown_override");
            assert_eq!(faults[0].origin, Origin::Environment { variable: variable.to_owned(), over: None });
            assert_eq!(faults[0].help.as_deref(), Some(help));
        }
        assert!(load(BACKUP, &[("SCHEDULER_BACKENDS__QUEUE__URL", "redis://x")], &[]).is_ok());
    }

    #[test]
    fn a_list_of_an_override_replaces_the_whole_list() {
        let document = load("l = [1, 2, 3]", &[("SCHEDULER_L", "['x']")], &[]).unwrap();

        assert_eq!(document.value(""), Some(&json!({"l": ["x"]})));
        assert_eq!(place(&document.origin("/l/0")), "environment variable SCHEDULER_L");
    }

    proptest! {
        #[test]
        fn nothing_makes_loading_panic(
            content in "(\\[tasks\\.[a-c]\\]\n|[a-c] = [0-9'\\[{]{1,3}\n|include = \\['.{0,3}'\\]\n|.{0,5}\n){0,8}",
            name in "(tasks|backends|[a-c_]{0,3}|.{0,3})(__[a-cA-C.]{0,3}){0,3}",
            value in "[0-9]{0,3}|\\{ [a-c] = 1 \\}|.{0,8}",
        ) {
            let variable = format!("SCHEDULER_{name}");
            if let Ok(document) = load(&content, &[(&variable, &value)], &[(&name, &value)]) {
                for pointer in ["", "/tasks", "/tasks/a/b", "/a/0", &name] {
                    let _ = (document.origin(pointer), document.key_origin(pointer), document.raw(pointer));
                }
            }
        }
    }
}
