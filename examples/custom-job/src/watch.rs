//! The job itself.

use scheduler_core::{ArgsError, Job, JobError, Output, RunContext, async_trait};
use serde_json::json;

use crate::Args;
use crate::appended::{self, Appended};

/// Reports new lines that hold one of its words.
///
/// The place in the file moves on when a run has read it. A run that fails or is cancelled before that leaves it
/// where it was, so the next one reads the same lines again and none is lost.
#[derive(Debug)]
pub struct LogWatch(Args);

impl LogWatch {
    /// A job from its args.
    ///
    /// # Errors
    /// All their faults.
    pub fn new(args: Args) -> Result<Self, Vec<ArgsError>> {
        let faults = args.faults();
        if faults.is_empty() { Ok(Self(args)) } else { Err(faults) }
    }

    fn is_wanted(&self, line: &str) -> bool {
        self.0.words.iter().any(|word| line.contains(word))
    }
}

#[async_trait]
impl Job for LogWatch {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        if self.0.file.is_dir() {
            // No retry turns a folder into a file.
            return Err(JobError::abort(format!("`{}` is a folder", self.0.file.display())));
        }
        let offset = ctx.state().load::<u64>().await?.unwrap_or(0);

        // Files block, and a job must not keep its thread from others.
        let file = self.0.file.clone();
        let reading = tokio::task::spawn_blocking(move || appended::since(&file, offset));
        let Ok(read) = ctx.unless_cancelled(reading).await else {
            return Err(JobError::retry("it was told to stop"));
        };
        let Appended { lines, end } = read??;

        let found: Vec<&String> = lines.iter().filter(|line| self.is_wanted(line)).collect();
        let reported = &found[..found.len().min(self.0.max_lines)];
        let output = json!({ "read": lines.len(), "found": found.len(), "lines": reported });
        ctx.state().update(|_: Option<u64>| end).await?;
        Ok(output)
    }

    /// Asked by `scheduler check` on the machine that is to run it.
    fn check(&self) -> Vec<ArgsError> {
        // A bare file name has an empty parent, which is the folder that the program was started in.
        let folder = self.0.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => {
                let message = format!("there is no folder `{}`", folder.display());
                vec![ArgsError::new("/file", message).with_help("create it, or mend the path")]
            }
            Some(_) | None => Vec::new(),
        }
    }
}
