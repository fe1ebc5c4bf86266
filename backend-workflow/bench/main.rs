//! Measures the workflow tier on a real Prefect server: `cargo xtask bench workflow` brings one and starts this.
//!
//! Starting runs is compared with a program that makes the same calls and nothing else. Following runs is measured by
//! the calls it takes, by our own processor time, and by how soon a change of state is told.

mod counting;
mod following;
mod prefect;
mod report;
mod silence;
mod triggering;

use std::process::ExitCode;

use crate::prefect::Prefect;
use crate::report::Report;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(url) = words.iter().find(|word| word.starts_with("http")) else {
        eprintln!("error: the first argument is the URL of Prefect's API");
        return ExitCode::FAILURE;
    };
    let has = |flag: &str| words.iter().any(|word| word == flag);
    if has("--log") {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    let measured = async {
        let prefect = Prefect::at(url).await?;
        let mut report = Report::new(has("--quick"), prefect.version().await?);
        if !has("--only-following") {
            triggering::measure(&prefect, &mut report).await?;
        }
        following::measure(&prefect, &mut report).await?;
        report.print(has("--json"))
    };
    match measured.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(error.source(), |cause| cause.source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            eprintln!("error: {error}{causes}");
            ExitCode::FAILURE
        }
    }
}
