//! A Redis server of a test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts `redis-server` with the arguments and ends it when its own input ends, which a test holds that may be killed.
const SHELL: &str = "redis-server \"$@\" >/dev/null & pid=$!; cat >/dev/null; kill -KILL $pid; wait $pid";

/// The server, which ends with its value.
pub(crate) struct Redis {
    shell: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let redis = Self { shell: shell(port, folder.path()), port, folder };
        redis.comes_up();
        redis
    }

    /// Kills it and starts it again, with what it held.
    pub(crate) fn start_again(&mut self) {
        self.order("SAVE");
        self.end();
        self.shell = shell(self.port, self.folder.path());
        self.comes_up();
    }

    /// Has it do something.
    pub(crate) fn order(&self, command: &str) {
        let mut wire = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        wire.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 5];
        wire.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n", "{command}");
    }

    fn comes_up(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while !self.answers() {
            assert!(Instant::now() < until, "no redis-server came up; install it");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }

    /// The durable tier on this server beside the local one, as a configuration says it.
    pub(crate) fn settings(&self) -> String {
        format!("[backends.local]\n[backends.queue]\nurl = \"redis://127.0.0.1:{}/\"\n", self.port)
    }

    fn answers(&self) -> bool {
        let Ok(mut wire) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        wire.write_all(b"PING\r\n").is_ok() && wire.read(&mut [0; 16]).is_ok_and(|count| count > 0)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

fn shell(port: u16, folder: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", SHELL, "sh", "--bind", "127.0.0.1", "--save", "", "--port"]).arg(port.to_string());
    command.arg("--dir").arg(folder).stdin(Stdio::piped()).spawn().unwrap()
}
