//! A Redis server of our own: on a free port of this machine, in a folder of its own, with chosen settings.
//!
//! It is known by the process id that it tells, so no other server is ever taken for it. It ends with its value, and
//! with its [`Scratch`](crate::scratch::Scratch) when this process is killed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::certificate::Certificate;
use crate::resp::Client;
use crate::tool::{self, Tool};

/// How long a server may take until it answers, with what it has to load.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many ports are tried: somebody may take one between our look and the server's.
const PORTS: usize = 5;

const TOOL: Tool =
    Tool { program: "redis-server", package: "redis-server", purpose: "keeps the queue of the suite" };

/// When a write is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendOnly {
    /// Before it is answered.
    Always,
    /// Within a second or two.
    EverySecond,
    /// Never: what is there ends with the process.
    None,
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) append_only: AppendOnly,
    pub(crate) password: Option<String>,
    /// What it shows who comes over TLS, to a port of its own.
    pub(crate) tls: Option<Certificate>,
    /// Whatever else its configuration says, in lines of their own.
    pub(crate) more: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { append_only: AppendOnly::None, password: None, tls: None, more: String::new() }
    }
}

/// A server under way, or one that was killed and can be started again.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    folder: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    password: Option<String>,
}

impl Redis {
    /// Starts a server in `folder`, which is made.
    ///
    /// # Errors
    /// There is no redis-server and it cannot be installed, or it does not start.
    pub(crate) fn start(folder: &Path, settings: &Settings) -> Result<Self> {
        tool::ensure(&TOOL)?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut refused = None;
        for _ in 0..PORTS {
            let [port, tls_port] = free_ports()?;
            let tls_port = settings.tls.is_some().then_some(tls_port);
            write_config(folder, port, tls_port, settings)?;
            let child = spawn(folder)?;
            let password = settings.password.clone();
            let mut redis = Self { child, folder: folder.to_owned(), port, tls_port, password };
            match redis.await_answer() {
                Ok(()) => return Ok(redis),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.context("no port was tried")?)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address()),
            None => format!("redis://{}", self.address()),
        }
    }

    /// Where it is over TLS.
    ///
    /// # Errors
    /// It was started without.
    pub(crate) fn tls_port(&self) -> Result<u16> {
        self.tls_port.context("the server has no port for TLS")
    }

    /// As [`Self::url`], over TLS.
    ///
    /// # Errors
    /// As [`Self::tls_port`].
    pub(crate) fn tls_url(&self) -> Result<String> {
        let (plain, tls) = (format!(":{}", self.port), format!(":{}", self.tls_port()?));
        let url = self.url();
        let place = url.strip_suffix(&plain).and_then(|url| url.strip_prefix("redis://"));
        Ok(format!("rediss://{}{tls}", place.context("a URL ends in its port")?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(self.address(), self.password.as_deref())
    }

    /// Sends a signal to the server.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the server has ended")
    }

    /// Ends it by force, as a crash does.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        Ok(self.child.wait()?)
    }

    /// Asks it to end, as a service manager does, and waits for that.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        Ok(self.child.wait()?)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("redis.log")).unwrap_or_default()
    }

    /// Starts it again, on the same port and with what it kept.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn restart(&mut self) -> Result<()> {
        // Somebody may hold the port for a moment, so it is tried for a while.
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.child = spawn(&self.folder)?;
            match self.await_answer() {
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Waits until our process answers at our port.
    fn await_answer(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let pid = self.pid().to_string();
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = self.log();
                let last = log.trim().lines().last().unwrap_or("it logged nothing");
                bail!("redis-server ended at once with {status}: {last}");
            }
            let told = self.connect().and_then(|mut client| client.info("everything"));
            // While it loads it answers INFO already, and nothing else.
            if told.is_ok_and(|info| {
                info.get("process_id") == Some(&pid)
                    && info.get("loading").is_some_and(|loading| loading == "0")
            }) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("redis-server does not answer at {}", self.address())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports of this machine that nobody listens at.
///
/// # Errors
/// None is left.
fn free_ports() -> Result<[u16; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free");
    let (one, other) = (listen()?, listen()?);
    Ok([one.local_addr()?.port(), other.local_addr()?.port()])
}

/// In a file, so that the process list shows no password.
fn write_config(folder: &Path, port: u16, tls_port: Option<u16>, settings: &Settings) -> Result<()> {
    let append_only = match settings.append_only {
        AppendOnly::Always => "appendonly yes\nappendfsync always\n",
        AppendOnly::EverySecond => "appendonly yes\nappendfsync everysec\n",
        AppendOnly::None => "appendonly no\n",
    };
    let password =
        settings.password.as_ref().map_or(String::new(), |password| format!("requirepass {password}\n"));
    let folder_name = folder.display();
    let mut tls = String::new();
    if let (Some(tls_port), Some(certificate)) = (tls_port, &settings.tls) {
        fs::write(folder.join("tls.crt"), &certificate.chain).context("cannot write tls.crt")?;
        fs::write(folder.join("tls.key"), &certificate.key).context("cannot write tls.key")?;
        tls = format!(
            "tls-port {tls_port}\ntls-auth-clients no\ntls-cert-file {folder_name}/tls.crt\n\
             tls-key-file {folder_name}/tls.key\n"
        );
    }
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {folder_name}\nlogfile redis.log\nsave \"\"\n{append_only}{password}{tls}{}\n",
        settings.more
    );
    fs::write(folder.join("redis.conf"), text).context("cannot write redis.conf")
}

fn spawn(folder: &Path) -> Result<Child> {
    Command::new(TOOL.program)
        .arg("redis.conf")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start redis-server")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_a_server_kept_is_there_after_a_crash() {
        let scratch = Scratch::new().unwrap();
        let settings = Settings {
            append_only: AppendOnly::Always,
            password: Some("open sesame".replace(' ', "_")),
            ..Settings::default()
        };
        let mut redis = Redis::start(&scratch.path().join("redis"), &settings).unwrap();
        redis.connect().unwrap().command(&["SET", "k", "v"]).unwrap();
        let before = redis.pid();

        redis.kill().unwrap();
        redis.restart().unwrap();

        let kept = redis.connect().unwrap().command(&["GET", "k"]).unwrap();
        assert_eq!(kept.text().as_deref(), Some("v"));
        assert_ne!(redis.pid(), before);
        assert!(Client::connect(redis.address(), Some("wrong")).is_err());
    }
}
