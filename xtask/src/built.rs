//! What cargo builds for the tests of the workspace: test programs, and the binaries beside them.
//!
//! Asking costs a moment when they were built before: the line is that of the suite, so nothing is built twice.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::command_line::CommandLine;
use crate::steps::Step;

/// A program that cargo built.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Program {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    #[serde(rename = "executable")]
    pub(crate) path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// All programs that `cargo test --workspace --all-features` starts.
pub(crate) struct Built(Vec<Program>);

/// What is built before anything is tested.
pub(crate) fn step() -> Step {
    let line = CommandLine::cargo(LINE).to_string();
    Step::rule("build", line, || Built::workspace().map(drop))
}

const LINE: &str = "test --locked --workspace --all-features --no-run";

impl Built {
    /// Builds them, or finds them built; asked again, it tells the same again, because cargo would wait for whatever it
    /// builds meanwhile.
    ///
    /// # Errors
    /// Something does not compile.
    pub(crate) fn workspace() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Built, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Self::build().map_err(|error| format!("{error:#}")));
        built.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn build() -> Result<Self> {
        let line = CommandLine::cargo(LINE).and(["--quiet", "--message-format=json-render-diagnostics"]);
        let told = String::from_utf8(line.output()?).with_context(|| format!("cannot read `{line}`"))?;
        Ok(Self(programs(&told)))
    }

    /// All tests, each a program, crate by crate.
    pub(crate) fn tests(&self) -> Vec<&Program> {
        let mut tests: Vec<&Program> = self.0.iter().filter(|program| program.profile.test).collect();
        tests.sort_by_key(|program| (&program.manifest_path, &program.target.name, &program.path));
        tests
    }

    /// The tests of a crate, each a program.
    pub(crate) fn tests_of(&self, package: &str) -> impl Iterator<Item = &Program> {
        self.0.iter().filter(move |program| program.profile.test && program.is_of(package))
    }

    /// A binary or an example, by name.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn binary(&self, name: &str) -> Result<PathBuf> {
        let named = |program: &&Program| !program.profile.test && program.target.name == name;
        let program =
            self.0.iter().find(named).with_context(|| format!("cargo built no program `{name}`"))?;
        Ok(program.path.clone())
    }
}

impl Program {
    /// Its target's name: the crate's for unit tests, else the file's in `tests/`.
    pub(crate) fn name(&self) -> &str {
        &self.target.name
    }

    /// As cargo starts it.
    pub(crate) fn line(&self) -> CommandLine {
        let line = CommandLine::program(self.path.display().to_string());
        match self.manifest_path.parent() {
            Some(folder) => line.in_folder(folder),
            None => line,
        }
    }

    fn is_of(&self, package: &str) -> bool {
        self.manifest_path.parent().is_some_and(|folder| folder.ends_with(package))
    }
}

/// What is no program fails to be read as one: it has no executable.
fn programs(told: &str) -> Vec<Program> {
    told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_what_cargo_tells() {
        let told = r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":true},"executable":"/t/a-1"}
{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"name":"tool"},"profile":{"test":false},"executable":"/t/tool"}
{"reason":"build-finished","success":true}"#;

        let built = Built(programs(told));

        let tests: Vec<_> = built.tests_of("a").map(|program| program.path.display().to_string()).collect();
        assert_eq!(tests, ["/t/a-1"]);
        assert_eq!(built.binary("tool").unwrap(), PathBuf::from("/t/tool"));
        assert!(built.binary("a").is_err() && built.tests_of("b").next().is_none());
    }
}
