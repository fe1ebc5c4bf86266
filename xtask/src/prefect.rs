//! A Prefect server of our own with a worker: on a free port of this machine, in a folder of its own.
//!
//! It is known by its folder, which it tells, so no other server is ever taken for it. Both end with their value, and
//! with their [`Scratch`](crate::scratch::Scratch) when this process is killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use environment::Environment;

mod environment;
mod plain_http;

/// How long the server may take until it answers: a first start makes its database, on a busy machine slowly.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long a process that was told to end may take.
const GRACE: Duration = Duration::from_secs(15);

/// How many ports are tried: somebody may take one between our look and the server's.
const PORTS: usize = 3;

/// The pool that the worker serves.
pub(crate) const POOL: &str = "hybrid-scheduler";

/// Who may ask a server that is guarded, and how that is said in a request.
pub(crate) const GUARD: (&str, &str) = ("suite:pass:word", "Basic c3VpdGU6cGFzczp3b3Jk");

/// A server and a worker under way.
#[derive(Debug)]
pub(crate) struct Prefect {
    // The worker ends first, for it talks to the server.
    worker: Process,
    _server: Process,
    address: SocketAddr,
}

impl Prefect {
    /// Installs Prefect unless it is there, and starts both in `folder`, which is made.
    ///
    /// # Errors
    /// Prefect cannot be installed, or it does not start; with what it said last.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let environment = Environment::ensure()?;
        let version = environment::version_of_prefect()?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        eprintln!("    starting a server of Prefect {version} and a worker");
        let (server, address) = start_server(&environment, folder, &version, &[])?;
        let worker = start_worker(&environment, folder, address)?;
        Ok(Self { worker, _server: server, address })
    }

    /// The address of its API, as a configuration names it.
    pub(crate) fn url(&self) -> String {
        url(self.address)
    }

    /// The worker's process id.
    pub(crate) fn worker(&self) -> u32 {
        self.worker.child.id()
    }
}

/// A server that wants to know who asks, and a token against forged requests with whatever writes. Nobody works for it.
#[derive(Debug)]
pub(crate) struct Guarded {
    _server: Process,
    address: SocketAddr,
}

impl Guarded {
    /// As [`Prefect::start`].
    ///
    /// # Errors
    /// Those of [`Prefect::start`].
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let environment = Environment::ensure()?;
        let version = environment::version_of_prefect()?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        eprintln!("    starting a guarded server of Prefect {version}");
        let variables =
            [("PREFECT_SERVER_API_AUTH_STRING", GUARD.0), ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "true")];
        let (server, address) = start_server(&environment, folder, &version, &variables)?;
        Ok(Self { _server: server, address })
    }

    /// The address of its API, as a configuration names it.
    pub(crate) fn url(&self) -> String {
        url(self.address)
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/api")
}

fn start_server(
    environment: &Environment,
    folder: &Path,
    version: &str,
    variables: &[(&str, &str)],
) -> Result<(Process, SocketAddr)> {
    let mut refused = None;
    for _ in 0..PORTS {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let port = address.port().to_string();
        let words = ["server", "start", "--host", "127.0.0.1", "--port", &port];
        let mut server = Process::start("server", environment, folder, &words, variables)?;
        match server.wait_until(|| is_ours(address, folder, version)) {
            Ok(()) => return Ok((server, address)),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.context("no port was tried")?)
}

/// Whether the server at the address is healthy, runs in our folder and is of the wanted version.
fn is_ours(address: SocketAddr, folder: &Path, version: &str) -> Result<bool> {
    let get = |path: &str| plain_http::call(address, "GET", path, "");
    let Ok(Value::Bool(true)) = get("/api/health") else {
        return Ok(false);
    };
    let (Ok(settings), Ok(told)) = (get("/api/admin/settings"), get("/api/admin/version")) else {
        return Ok(false);
    };
    if settings["home"].as_str().map(Path::new) != Some(folder) {
        bail!("another server took {address}");
    }
    if told != version {
        bail!("the server says that it is {told}, and {version} was installed");
    }
    Ok(true)
}

fn start_worker(environment: &Environment, folder: &Path, address: SocketAddr) -> Result<Process> {
    let words = ["worker", "start", "--pool", POOL, "--type", "process", "--name", "suite"];
    let api = url(address);
    let mut worker = Process::start("worker", environment, folder, &words, &[("PREFECT_API_URL", &api)])?;
    // Until its first heartbeat there is no pool.
    worker.wait_until(|| {
        let path = format!("/api/work_pools/{POOL}/workers/filter");
        Ok(plain_http::call(address, "POST", &path, "{}")
            .is_ok_and(|workers| workers[0]["status"] == "ONLINE"))
    })?;
    Ok(worker)
}

/// A part of Prefect in a process group of its own.
#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Without whatever this machine's owner told Prefect.
    fn start(
        name: &'static str,
        environment: &Environment,
        folder: &Path,
        words: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(environment.python());
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PREFECT_") {
                command.env_remove(variable);
            }
        }
        command
            .args(["-m", "prefect"])
            .args(words)
            .env("PREFECT_HOME", folder)
            .env("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
            .env("DO_NOT_TRACK", "1")
            .env("PREFECT_SERVER_UI_ENABLED", "false")
            // It looks for work every ten seconds otherwise, and a test waits for each.
            .env("PREFECT_WORKER_QUERY_SECONDS", "2")
            // It makes a hundred runs of each schedule in advance otherwise, and nothing else is written meanwhile.
            .env("PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS", "10")
            // Flows make their temporary files where they are tidied up.
            .env("TMPDIR", folder)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .process_group(0)
            .envs(variables.iter().copied());
        let child = command.spawn().with_context(|| format!("cannot start the {name} of Prefect"))?;
        Ok(Self { name, child, log })
    }

    fn wait_until(&mut self, mut is_up: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("the {} of Prefect ended with {status}: {}", self.name, self.last_words());
            }
            if is_up()? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the {} of Prefect is not up after {PATIENCE:?}: {}", self.name, self.last_words())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(5)..].join("\n      ")
    }
}

impl Drop for Process {
    /// The whole group: it is asked first, so that a worker ends its runs and says good-bye.
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // It may have ended already; until it is waited for, nobody else gets its id.
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A port of this machine that nobody listens at.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
