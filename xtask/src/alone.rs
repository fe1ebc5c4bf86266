//! Lints each crate as its users build it: by itself and without its development dependencies.
//!
//! Cargo joins the features that all crates of one build ask of a dependency. A crate that forgets to ask for a feature
//! therefore still builds beside its neighbours or its own tests, and breaks only for those who depend on it.

use crate::command_line::CommandLine;
use crate::metadata::Member;
use crate::steps::Step;

pub(crate) fn steps(members: &[Member]) -> Vec<Step> {
    let step = |member: &Member| {
        let line = CommandLine::cargo("clippy --locked --all-features --package")
            .and([&member.name])
            .and(["--", "-D", "warnings"]);
        Step::command(format!("alone, {}", member.name), line)
    };
    members.iter().map(step).collect()
}
