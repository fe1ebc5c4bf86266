//! A TCP proxy between daemons and Redis that cuts connections at chosen commands, and counts what it did.
//!
//! It knows just enough of the protocol to see where a command and a reply end. The first times that it sees a kind of
//! command it cuts each time at another point, so every command is met at every point.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::chance::Chance;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// Before the server hears of the command.
    Command,
    /// The server has carried it out, and nobody hears of that.
    Reply,
    /// In the middle of the reply.
    Half,
}

/// The points, in the order in which a kind of command meets them.
const POINTS: [Cut; 3] = [Cut::Reply, Cut::Half, Cut::Command];

/// Of so many later commands one is cut.
const LATER: u64 = 50;

/// The proxy. It ends with its value.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_armed: bool,
    is_over: bool,
    chance: Chance,
    /// How often each kind of command was seen while armed.
    seen: BTreeMap<String, u64>,
    cuts: BTreeMap<Cut, u64>,
    cut_kinds: BTreeMap<String, u64>,
    connections: u64,
    open: Vec<TcpStream>,
}

/// A command on its way.
struct Pending {
    cut: Option<Cut>,
}

impl Proxy {
    /// Listens at a port of its own.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) fn start(server: SocketAddr, chance: Chance) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free for the proxy")?;
        let address = listener.local_addr()?;
        let state = State {
            is_armed: false,
            is_over: false,
            chance,
            seen: BTreeMap::new(),
            cuts: BTreeMap::new(),
            cut_kinds: BTreeMap::new(),
            connections: 0,
            open: Vec::new(),
        };
        let shared = Arc::new(Shared { server, state: Mutex::new(state) });
        let of_loop = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                if of_loop.lock().is_over {
                    return;
                }
                // A server that is away looks to the client like a connection that is closed at once.
                let _ = serve(&of_loop, client);
            }
        });
        Ok(Self { address, shared })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Begins or ceases to cut.
    pub(crate) fn arm(&self, is_armed: bool) {
        self.shared.lock().is_armed = is_armed;
    }

    /// How many cuts there were at each point.
    pub(crate) fn cuts(&self) -> BTreeMap<Cut, u64> {
        self.shared.lock().cuts.clone()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// The kinds of commands that were seen while armed, each with how often it was cut.
    pub(crate) fn kinds(&self) -> BTreeMap<String, u64> {
        let state = self.shared.lock();
        let cut = |kind: &String| state.cut_kinds.get(kind).copied().unwrap_or_default();
        state.seen.keys().map(|kind| (kind.clone(), cut(kind))).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let open = {
            let mut state = self.shared.lock();
            state.is_over = true;
            std::mem::take(&mut state.open)
        };
        for stream in open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the loop, which sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether and where the connection is cut at this command.
    fn decide(&mut self, kind: &str) -> Option<Cut> {
        if !self.is_armed {
            return None;
        }
        let seen = self.seen.entry(kind.to_owned()).or_default();
        let point = POINTS.get(usize::try_from(*seen).unwrap_or(usize::MAX)).copied();
        *seen += 1;
        let is_later = point.is_none() && self.chance.between(0, LATER) == 0;
        let cut = point.or(is_later.then_some(POINTS[self.chance.index(POINTS.len())]))?;
        *self.cuts.entry(cut).or_default() += 1;
        *self.cut_kinds.entry(kind.to_owned()).or_default() += 1;
        Some(cut)
    }
}

/// Two threads for a connection, which end with it.
fn serve(shared: &Arc<Shared>, client: TcpStream) -> Result<()> {
    let server = TcpStream::connect(shared.server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    {
        let mut state = shared.lock();
        state.connections += 1;
        state.open.extend([client.try_clone()?, server.try_clone()?]);
    }
    let pending: Arc<Mutex<VecDeque<Pending>>> = Arc::default();
    let (of_commands, of_replies) = (Arc::clone(&pending), pending);
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let _ = commands(&shared, &of_commands, &from_client, &to_server);
        close(&from_client, &to_server);
    });
    std::thread::spawn(move || {
        let _ = replies(&of_replies, &server, &client);
        close(&server, &client);
    });
    Ok(())
}

fn close(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

fn commands(
    shared: &Shared,
    pending: &Mutex<VecDeque<Pending>>,
    client: &TcpStream,
    mut server: &TcpStream,
) -> Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let mut raw = Vec::new();
        read_raw(&mut client, &mut raw)?;
        let cut = shared.lock().decide(&kind(&raw));
        if cut == Some(Cut::Command) {
            return Ok(());
        }
        pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(Pending { cut });
        server.write_all(&raw)?;
    }
}

fn replies(pending: &Mutex<VecDeque<Pending>>, server: &TcpStream, mut client: &TcpStream) -> Result<()> {
    let mut server = BufReader::new(server);
    loop {
        let mut raw = Vec::new();
        read_raw(&mut server, &mut raw)?;
        // A message that was published answers no command.
        let answered = pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match answered.and_then(|pending| pending.cut) {
            Some(Cut::Reply | Cut::Command) => return Ok(()),
            Some(Cut::Half) => {
                client.write_all(&raw[..raw.len() / 2])?;
                return Ok(());
            }
            None => client.write_all(&raw)?,
        }
    }
}

/// The name of a command; of a script, the beginning of its hash.
fn kind(raw: &[u8]) -> String {
    let mut words =
        raw.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"$") && !line.starts_with(b"*"));
    let mut word = || String::from_utf8_lossy(words.next().unwrap_or_default()).trim().to_owned();
    let name = word().to_uppercase();
    match name.as_str() {
        "EVALSHA" => format!("script {}", word().get(..6).unwrap_or_default()),
        "SCRIPT" | "CLIENT" | "CONFIG" | "INFO" => format!("{name} {}", word().to_uppercase()),
        _ => name,
    }
}

/// Reads one command or reply with all of its parts, as it stands.
///
/// # Errors
/// The stream ends, or what comes is not the protocol.
fn read_raw(stream: &mut impl BufRead, raw: &mut Vec<u8>) -> Result<()> {
    let begin = raw.len();
    stream.read_until(b'\n', raw)?;
    let line = raw[begin..].strip_suffix(b"\r\n").context("the stream has ended")?;
    let count =
        || -> i64 { std::str::from_utf8(&line[1..]).ok().and_then(|text| text.parse().ok()).unwrap_or(-1) };
    let (bytes, parts) = match line.first().context("an empty line is no reply")? {
        b'$' | b'=' | b'!' => (count(), 0),
        b'*' | b'~' | b'>' => (-1, count()),
        b'%' => (-1, 2 * count()),
        _ => (-1, 0),
    };
    if let Ok(bytes) = u64::try_from(bytes) {
        stream.take(bytes + 2).read_to_end(raw)?;
    }
    (0..parts).try_for_each(|_| read_raw(stream, raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::{Redis, Settings};
    use crate::resp::Client;
    use crate::scratch::Scratch;

    #[test]
    fn each_kind_of_command_is_cut_at_each_point_and_the_server_may_have_done_it() {
        let scratch = Scratch::new().unwrap();
        let redis = Redis::start(&scratch.path().join("redis"), &Settings::default()).unwrap();
        let proxy = Proxy::start(redis.address(), Chance::of(1, "", "")).unwrap();
        let through = || Client::connect(proxy.address, None).unwrap().command(&["INCR", "n"]);
        assert!(through().is_ok());

        proxy.arm(true);
        assert!([through(), through(), through()].iter().all(Result::is_err));
        proxy.arm(false);

        // Two of the three were carried out.
        assert_eq!(through().unwrap().integer(), Some(4));
        assert_eq!(proxy.cuts().values().sum::<u64>(), 3);
        assert_eq!(proxy.kinds(), BTreeMap::from([("INCR".to_owned(), 3)]));
        assert_eq!(proxy.connections(), 5);
    }

    #[test]
    fn a_command_is_known_by_its_name_and_a_script_by_its_hash() {
        assert_eq!(kind(b"*2\r\n$7\r\nevalsha\r\n$8\r\n0123abcd\r\n"), "script 0123ab");
        assert_eq!(kind(b"*2\r\n$6\r\nscript\r\n$4\r\nload\r\n"), "SCRIPT LOAD");
        assert_eq!(kind(b"*1\r\n$4\r\nPING\r\n"), "PING");
    }
}
