//! Measures the cron engine beside croner, cron and cronexpr, and counts whose answers are wrong.
//!
//! `--json` prints every figure, `--quick` measures less. Times are the best of several rounds: what a call costs where
//! nothing disturbs it.

mod answers;
mod contender;
#[path = "../../tests/cron/oracle.rs"]
#[expect(clippy::unwrap_used, reason = "it reads expressions that are known to be right")]
mod oracle;
mod peers;
mod report;
mod timing;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let Some(unknown) =
        arguments.iter().find(|argument| !["--json", "--quick"].contains(&argument.as_str()))
    {
        eprintln!("`{unknown}` is no flag; there are --json and --quick");
        return ExitCode::from(2);
    }
    let report = report::measure(has("--quick"));
    match has("--json") {
        true => println!("{report:#}"),
        false => print!("{}", report::table(&report)),
    }
    ExitCode::SUCCESS
}
