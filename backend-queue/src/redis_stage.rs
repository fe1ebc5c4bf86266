//! Redis servers for tests: one that all tests share, and others that a test stops as it likes.
//!
//! A server ends with the test that started it, even one that is killed: a shell beside it waits for the end of
//! its own input, which is a pipe that the test holds.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use scheduler_core::Name;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::QueueConfig;
use crate::redis_store::RedisStore;

/// The variable that names a server for tests.
const TEST_REDIS_URL: &str = "TEST_REDIS_URL";

/// Starts `redis-server` with the arguments and ends it when its own input ends.
const SHELL: &str = r#"
redis-server "$@" & pid=$!
exec >/dev/null
cat
kill -CONT $pid
kill -KILL $pid
wait $pid
"#;

/// What a server says on its output once it listens at its port.
const READY: &str = "Ready to accept connections";

/// A server of a test's own.
pub(crate) struct Server {
    shell: Option<Child>,
    port: u16,
    folder: TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts a server with these options.
    pub(crate) fn start(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        // Of two tests that chose one port, one tries again.
        for _ in 0..10 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            let mut server = Self { shell: None, port, folder, options: options.clone() };
            if server.comes_up() {
                return server;
            }
        }
        panic!("no redis-server came up; install it, or name a server in {TEST_REDIS_URL}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills the server; what it has not saved is lost.
    pub(crate) fn kill(&mut self) {
        let Some(mut shell) = self.shell.take() else { return };
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }

    /// Starts it again on the same port and folder.
    pub(crate) fn start_again(&mut self) {
        assert!(self.comes_up(), "it came up before, and does not now");
    }

    fn comes_up(&mut self) -> bool {
        let port = self.port.to_string();
        let fixed = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "local"];
        let mut command = Command::new("sh");
        command
            .args(["-c", SHELL, "sh"])
            .args(fixed)
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap());
        self.shell = Some(shell);
        // Another process may answer at the port; what ours says is known to be of ours. It ends when the port is
        // taken, and its output with it.
        let is_up = output.lines().map_while(Result::ok).any(|line| line.contains(READY));
        if !is_up {
            self.kill();
        }
        is_up
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server that tests share.
pub(crate) fn url() -> String {
    static SHARED: OnceLock<Server> = OnceLock::new();
    match std::env::var(TEST_REDIS_URL) {
        Ok(url) if !url.is_empty() => url,
        _ => SHARED.get_or_init(|| Server::start(&[])).url(),
    }
}

/// A namespace that no other test has.
pub(crate) fn namespace() -> Name {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Name::new(&format!("test_{}_{now}_{next}", std::process::id())).unwrap()
}

pub(crate) fn config(url: &str) -> QueueConfig {
    QueueConfig { url: url.to_owned(), ..QueueConfig::default() }
}

pub(crate) async fn open(url: &str, namespace: &Name) -> scheduler_core::Result<RedisStore> {
    RedisStore::open(&config(url), namespace, Name::new("queue").unwrap()).await
}

/// Stands between a store and its server, and loses answers when it is told to.
pub(crate) struct Proxy {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Proxy {
    /// Begins to pass on to the server at a URL.
    pub(crate) async fn before(url: &str) -> Self {
        let place = url.trim_start_matches("redis://").split('/').next().unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (port, is_cut) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let cut = Arc::clone(&is_cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = tokio::net::TcpStream::connect(&place).await else { continue };
                tokio::spawn(pass_on(client, server, Arc::clone(&cut)));
            }
        });
        Self { port, is_cut }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// From now on, or no longer, the first answer of a connection is lost and the connection with it.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }
}

async fn pass_on(client: tokio::net::TcpStream, server: tokio::net::TcpStream, cut: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asking = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut answer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from_server.read(&mut answer).await {
        if cut.load(Ordering::SeqCst) || to_client.write_all(&answer[..length]).await.is_err() {
            break;
        }
    }
    asking.abort();
}

#[test]
fn a_server_on_a_port_that_is_taken_is_not_taken_for_the_one_that_is_there() {
    let there = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut late = Server { shell: None, port: there.port, folder, options: Vec::new() };

    assert!(!late.comes_up());
}
