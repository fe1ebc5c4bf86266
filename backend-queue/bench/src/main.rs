//! Measures the durable tier beside stock apalis-redis and apalis-sqlite and BullMQ, in one run on one machine.
//!
//! `cargo xtask bench queue` builds and starts it. The contenders get the same jobs, the same payload and the same
//! store; what differs is written beside each figure.

mod apalis_redis;
mod apalis_sqlite;
mod arguments;
mod begun;
mod bullmq;
mod contender;
mod drains;
mod machine;
mod on_redis;
mod on_sqlite;
mod ours;
mod poll;
mod profile;
mod recorder;
mod report;
mod server;
mod sqlite_extent;
mod worker;

use std::process::ExitCode;

use crate::arguments::{Arguments, Place};
use crate::ours::Ours;

#[tokio::main]
async fn main() -> ExitCode {
    let measured = async {
        let arguments = Arguments::read()?;
        if let Some(runs) = arguments.profile {
            return profile::drain(&arguments.place, runs).await;
        }
        if let (Some(most), Place::Redis(url)) = (arguments.worker, &arguments.place) {
            let folder = tempfile::tempdir()?;
            return worker::work(&Ours::on_redis(url, folder.path()), most).await;
        }
        let report = match &arguments.place {
            Place::Redis(url) => on_redis::measure(url, arguments.quick).await?,
            Place::Sqlite(folder) => on_sqlite::measure(folder, arguments.quick).await?,
        };
        report.print(arguments.json)
    };
    match measured.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
