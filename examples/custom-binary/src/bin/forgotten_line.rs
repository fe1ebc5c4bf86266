//! The trap of the macro: `custom-job` stands in Cargo.toml, but without the line `use custom_job as _;` the linker
//! drops it, and with it the job. The first use of the job's name says so.

use std::process::ExitCode;

use custom_backend as _;
use scheduler_cli::App;

fn main() -> ExitCode {
    App::new().with_builtins().run()
}
