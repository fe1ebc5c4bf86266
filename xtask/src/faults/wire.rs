//! A TCP proxy that carries bytes and knows nothing of what they say: on demand its lines are slow, silent, one-sided or
//! broken, or lead to another server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// How soon a line that carries nothing learns that it is over.
const LOOK: Duration = Duration::from_millis(20);

/// How it is on all lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Bytes pass as they come.
    Clear,
    /// What comes waits so long before it goes on.
    Slow(Duration),
    /// Bytes go on one by one.
    Crumbs,
    /// Commands arrive, and no answer ever comes back on that line, nor is it closed.
    HalfOpen,
    /// Nothing arrives, nothing is refused or closed; later it arrives after all, as a network repeats what it lost.
    Silent,
    /// Whoever says something finds the line reset.
    Reset,
}

/// The proxy. It ends with its value.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<(Weather, SocketAddr)>,
    is_over: AtomicBool,
    /// Grows when the lines lead elsewhere, and ends those that do not.
    turn: AtomicU64,
    lines: AtomicU64,
    /// Of each kind, how often that was done: pieces that waited, bytes that went alone, answers that were kept from who
    /// waited for them, pieces that were held back, lines that were reset.
    done: [AtomicU64; 5],
}

/// Both ends of a line, and what its two threads know of it.
struct Line {
    client: TcpStream,
    server: TcpStream,
    turn: u64,
    is_broken: AtomicBool,
    /// Its answers are lost from now on.
    is_deaf: AtomicBool,
}

impl Wire {
    /// Listens at a port of its own and leads to a server.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free for the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new((Weather::Clear, server)),
            is_over: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            done: Default::default(),
        });
        let of_loop = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                if of_loop.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A server that is away looks to the client like a line that is closed at once.
                let _ = serve(&of_loop, client);
            }
        });
        Ok(Self { address, shared })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn turn_to(&self, weather: Weather) {
        self.shared.lock().0 = weather;
    }

    /// Ends all lines, and leads those that come to another server.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.shared.lock().1 = server;
        self.shared.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// How many lines there were.
    pub(crate) fn lines(&self) -> u64 {
        self.shared.lines.load(Ordering::Relaxed)
    }

    /// How often it did what such weather does.
    pub(crate) fn done(&self, weather: Weather) -> u64 {
        kind(weather).map_or(0, |kind| self.shared.done[kind].load(Ordering::Relaxed))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the loop, which sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn kind(weather: Weather) -> Option<usize> {
    match weather {
        Weather::Clear => None,
        Weather::Slow(_) => Some(0),
        Weather::Crumbs => Some(1),
        Weather::HalfOpen => Some(2),
        Weather::Silent => Some(3),
        Weather::Reset => Some(4),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Weather, SocketAddr)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, weather: Weather, times: usize) {
        if let Some(kind) = kind(weather) {
            self.done[kind].fetch_add(u64::try_from(times).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    fn is_over(&self, line: &Line) -> bool {
        self.is_over.load(Ordering::Relaxed)
            || line.is_broken.load(Ordering::Relaxed)
            || self.turn.load(Ordering::Relaxed) != line.turn
    }
}

/// Two threads for a line, which end with it. The last of them closes it.
fn serve(shared: &Arc<Shared>, client: TcpStream) -> Result<()> {
    let (turn, target) = (shared.turn.load(Ordering::Relaxed), shared.lock().1);
    let server = TcpStream::connect(target)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
    }
    shared.lines.fetch_add(1, Ordering::Relaxed);
    let (is_broken, is_deaf) = (AtomicBool::new(false), AtomicBool::new(false));
    let line = Arc::new(Line { client, server, turn, is_broken, is_deaf });
    for is_answer in [false, true] {
        let (shared, line) = (Arc::clone(shared), Arc::clone(&line));
        std::thread::spawn(move || {
            let _ = carry(&shared, &line, is_answer);
            line.is_broken.store(true, Ordering::Relaxed);
        });
    }
    Ok(())
}

fn carry(shared: &Shared, line: &Line, is_answer: bool) -> std::io::Result<()> {
    let (mut from, mut to) =
        if is_answer { (&line.server, &line.client) } else { (&line.client, &line.server) };
    let mut buffer = [0; 16 * 1024];
    while !shared.is_over(line) {
        match from.peek(&mut buffer[..1]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        }
        let weather = shared.lock().0;
        match weather {
            Weather::Silent => {
                shared.note(weather, 1);
                std::thread::sleep(LOOK);
                continue;
            }
            // What is closed while it holds bytes that nobody has read is reset.
            Weather::Reset => {
                shared.note(weather, usize::from(!is_answer));
                return Ok(());
            }
            Weather::Slow(wait) => std::thread::sleep(wait),
            // Before the command goes on, so that its answer meets a line that is deaf.
            Weather::HalfOpen => line.is_deaf.store(true, Ordering::SeqCst),
            Weather::Clear | Weather::Crumbs => {}
        }
        let count = from.read(&mut buffer)?;
        let piece = &buffer[..count];
        if is_answer && line.is_deaf.load(Ordering::SeqCst) {
            shared.note(Weather::HalfOpen, 1);
        } else if weather == Weather::Crumbs {
            shared.note(weather, count);
            piece.chunks(1).try_for_each(|byte| to.write_all(byte))?;
        } else {
            shared.note(weather, 1);
            to.write_all(piece)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::{Redis, Settings};
    use crate::resp::Client;
    use crate::scratch::Scratch;

    #[test]
    fn a_wire_does_to_lines_what_the_weather_says() {
        let scratch = Scratch::new().unwrap();
        let redis = Redis::start(&scratch.path().join("redis"), &Settings::default()).unwrap();
        let wire = Wire::start(redis.address()).unwrap();
        let mut line = Client::connect(wire.address, None).unwrap();

        for weather in [Weather::Clear, Weather::Slow(LOOK), Weather::Crumbs] {
            wire.turn_to(weather);
            assert!(line.command(&["INCR", "n"]).is_ok());
        }
        wire.turn_to(Weather::Reset);
        let error = line.command(&["INCR", "n"]).unwrap_err();

        assert!(format!("{error:#}").contains("reset"), "{error:#}");
        assert_eq!(wire.done(Weather::Reset), 1);
        assert!(wire.done(Weather::Crumbs) > 10 && wire.done(Weather::Slow(LOOK)) == 2);
        let told = redis.connect().unwrap().command(&["GET", "n"]).unwrap();
        assert_eq!(told.integer(), Some(3));
    }

    #[test]
    fn a_line_that_became_one_sided_stays_so_and_others_lead_elsewhere() {
        let scratch = Scratch::new().unwrap();
        let start = |name| Redis::start(&scratch.path().join(name), &Settings::default()).unwrap();
        let (one, other) = (start("one"), start("other"));
        let wire = Wire::start(one.address()).unwrap();
        let mut deaf = Client::connect(wire.address, None).unwrap();

        wire.turn_to(Weather::HalfOpen);
        deaf.send(&["SET", "heard", "yes"]).unwrap();
        // The command and its answer.
        while wire.done(Weather::HalfOpen) < 2 {
            std::thread::yield_now();
        }
        wire.turn_to(Weather::Clear);
        wire.lead_to(other.address());

        let heard = |redis: &Redis| redis.connect().unwrap().command(&["EXISTS", "heard"]).unwrap().integer();
        assert_eq!(heard(&one), Some(1));
        let mut line = Client::connect(wire.address, None).unwrap();
        assert_eq!(line.command(&["EXISTS", "heard"]).unwrap().integer(), Some(0));
        assert!(deaf.command(&["PING"]).is_err());
    }
}
