//! A part in a process of its own, which is ended when it takes too long.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::part::{Load, Part};

/// Measures a part.
///
/// # Errors
/// It failed or did not end in time; the message says which.
pub(crate) fn measure(part: Part, load: Load, patience: Duration) -> Result<Value> {
    eprintln!("  {}, {} tasks every {} ms for {} s", part.name(), load.tasks, load.period_ms, load.seconds);
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut child = Command::new(program)
        .args(["--part", part.name(), "--tasks", &load.tasks.to_string()])
        .args(["--period", &load.period_ms.to_string(), "--seconds", &load.seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            bail!("did not end within {} s", patience.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut answer = String::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut answer)?;
    }
    if !status.success() {
        bail!("ended with {status}");
    }
    serde_json::from_str(&answer).context("its figures cannot be read")
}
