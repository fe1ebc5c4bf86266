//! Worker processes of ours: the program that measures starts itself again, as often as it is asked.
//!
//! A process says that it is ready, begins when a line comes, tells how many runs have ended and when the first began
//! and the last ended by the clock that all processes share, and ends when its input does. At last, when nothing can
//! begin there any more, it tells which runs have begun.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::begun::{Begun, each_once};
use crate::machine::monotonic;
use crate::ours::Ours;
use crate::recorder::Recorder;

/// How often a process tells.
const TELL: Duration = Duration::from_millis(5);

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Is such a process.
///
/// # Errors
/// Those of the store.
pub(crate) async fn work(ours: &Ours, most: usize) -> Result<()> {
    let recorder = Recorder::new(most);
    let scheduler = ours.recording(&recorder).await?;
    println!("ready");
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    input.next_line().await?;
    scheduler.start().await?;
    let mut told = 0;
    loop {
        tokio::select! {
            line = input.next_line() => if line?.is_none() { break },
            () = tokio::time::sleep(TELL) => {
                let ended = recorder.ended();
                if ended > told {
                    told = ended;
                    println!("{ended} {} {}", monotonic(recorder.first()), monotonic(recorder.latest()));
                }
            }
        }
    }
    ours.stop(&scheduler).await?;
    println!("{}", Begun::of(&recorder, most).written());
    Ok(())
}

/// One that was started.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    ended: usize,
    first: u64,
    last: u64,
}

impl Process {
    async fn start(url: &str, most: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--redis", url, "--worker", &most.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("a worker process has no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = lines.next_line().await?;
        ensure!(line.as_deref() == Some("ready"), "a worker process says {line:?}");
        let input = child.stdin.take();
        Ok(Self { child, input, lines, ended: 0, first: u64::MAX, last: 0 })
    }

    async fn begin(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("a worker process has no input")?;
        Ok(input.write_all(b"go\n").await?)
    }

    /// Takes in what it has told.
    async fn hear(&mut self) -> Result<()> {
        while let Ok(line) = tokio::time::timeout(TELL, self.lines.next_line()).await {
            let line = line?.context("a worker process ended too early")?;
            let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            ensure!(numbers.len() == 3, "a worker process says {line}");
            (self.ended, self.first, self.last) = (usize::try_from(numbers[0])?, numbers[1], numbers[2]);
        }
        Ok(())
    }

    /// Lets it end; answers what it has begun.
    async fn end(mut self) -> Result<Begun> {
        drop(self.input.take());
        let told = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(begun) = Begun::read(&line)? {
                    return anyhow::Ok(begun);
                }
            }
            bail!("a worker process does not tell what it has begun")
        };
        let begun = tokio::time::timeout(PATIENCE, told).await.context("a worker process does not end")??;
        ensure!(self.child.wait().await?.success(), "a worker process failed");
        Ok(begun)
    }
}

/// Drains what waits by so many processes; answers the time from the first beginning to the last end that is in the
/// store, and how many runs ended in each process.
///
/// # Errors
/// Runs stay behind, or one begins twice.
pub(crate) async fn drain(url: &str, processes: usize, jobs: usize) -> Result<(Duration, Vec<usize>)> {
    let mut started = Vec::new();
    for _ in 0..processes {
        started.push(Process::start(url, jobs).await?);
    }
    for process in &mut started {
        process.begin().await?;
    }
    let heard = async {
        while started.iter().map(|process| process.ended).sum::<usize>() < jobs {
            for process in &mut started {
                process.hear().await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, heard).await.context("the worker processes leave runs behind")??;
    let ran: Vec<usize> = started.iter().map(|process| process.ended).collect();
    ensure!(ran.iter().sum::<usize>() == jobs, "{ran:?} runs ended, and {jobs} were there");
    let first = started.iter().map(|process| process.first).min().unwrap_or(0);
    let last = started.iter().map(|process| process.last).max().unwrap_or(0);
    let mut begun = Vec::new();
    for process in started {
        begun.push(process.end().await?);
    }
    each_once(jobs, &begun)?;
    Ok((Duration::from_nanos(last.saturating_sub(first)), ran))
}
