//! Composed by macro: a crate that is referred to brings what it registered.

use std::process::ExitCode;

use custom_backend as _;
use custom_job as _;
use scheduler_cli::App;

fn main() -> ExitCode {
    App::new().with_builtins().run()
}
