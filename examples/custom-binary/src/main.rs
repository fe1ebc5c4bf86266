//! Composed explicitly: everything that the program can run stands in these lines.

use std::process::ExitCode;

use scheduler_cli::App;

fn main() -> ExitCode {
    App::new()
        .with_builtins()
        .job(custom_job::job(), custom_job::SOURCE)
        .backend_kind(custom_backend::kind(), custom_backend::SOURCE)
        .run()
}
