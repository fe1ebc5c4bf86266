//! A job of the program's own that takes the name of another crate's: refused at the start, and both are named.

use std::process::ExitCode;

use custom_job as _;
use scheduler_cli::App;
use scheduler_cli::scheduler_core::{JobDescriptor, source};

fn main() -> ExitCode {
    let mine = JobDescriptor::function("log_watch", "watches nothing", |_| async { Ok("nothing".into()) });
    App::new().with_builtins().job(mine, source!()).run()
}
