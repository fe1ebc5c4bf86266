//! The `scheduler` binary: everything that is compiled in.

use std::process::ExitCode;

use scheduler_cli::App;

fn main() -> ExitCode {
    App::new().with_builtins().run()
}
