//! A scheduler whose jobs do what no job should: they panic in every way and block their threads.
//!
//! `cargo xtask faults queue` drives it. Each job notes its start and its end in a file, as the programs of the other
//! rows do, so that what is counted does not come from the scheduler.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use scheduler_cli::App;
use scheduler_cli::scheduler_core::{Job, JobDescriptor, JobError, Output, RunContext, async_trait, source};
use serde::Deserialize;

fn main() -> ExitCode {
    let blocks = JobDescriptor::typed("blocks", "blocks its thread for a while", |args: Blocks| Ok(args));
    let panics = JobDescriptor::typed("panics", "panics in one of many ways", |args: Panics| Ok(args));
    App::new().with_builtins().job(blocks, source!()).job(panics, source!()).run()
}

/// Notes its start and its end, and blocks its thread between them.
#[derive(Deserialize)]
struct Blocks {
    record: PathBuf,
    millis: u64,
}

/// Notes its start and panics.
#[derive(Deserialize)]
struct Panics {
    record: PathBuf,
    way: Way,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// With a text of the program.
    Text,
    /// With a text that was made up at run time.
    Message,
    /// With a value that is no text.
    Value,
    /// While something is dropped.
    Drop,
    /// On another thread, which it waits for.
    Thread,
    /// After it has waited for something.
    Later,
}

#[async_trait]
impl Job for Blocks {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        note("start", &self.record, ctx)?;
        std::thread::sleep(Duration::from_millis(self.millis));
        note("end", &self.record, ctx)?;
        Ok(Output::Null)
    }
}

#[async_trait]
impl Job for Panics {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        note("start", &self.record, ctx)?;
        match self.way {
            Way::Text => panic!("it fell over"),
            Way::Message => panic!("it fell over in attempt {}", ctx.attempt()),
            Way::Value => std::panic::panic_any(ctx.attempt()),
            Way::Drop => drop(FallsOver),
            Way::Thread => {
                let other = std::thread::spawn::<_, ()>(|| panic!("it fell over on another thread"));
                if let Err(payload) = other.join() {
                    std::panic::resume_unwind(payload);
                }
            }
            Way::Later => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                panic!("it fell over later");
            }
        }
        note("end", &self.record, ctx)?;
        Ok(Output::Null)
    }
}

struct FallsOver;

impl Drop for FallsOver {
    fn drop(&mut self) {
        panic!("it fell over while it was dropped");
    }
}

/// One line at once, as the shell's `echo` appends it.
fn note(word: &str, record: &PathBuf, ctx: &RunContext) -> std::io::Result<()> {
    let (task, run, attempt, fence, fire) =
        (ctx.task(), ctx.run_id(), ctx.attempt(), ctx.fence(), ctx.fire_time());
    let pid = std::process::id();
    // What another program reads as well, and no library that lets clocks lie changes.
    let told = std::fs::read_to_string("/proc/uptime")?;
    let uptime = told.split(' ').next().unwrap_or_default();
    let line = format!("{word} {task} {run} {attempt} {fence} {fire} {pid} {pid} {uptime}\n");
    File::options().create(true).append(true).open(record)?.write_all(line.as_bytes())
}
