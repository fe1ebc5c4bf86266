//! A small client of Redis for what suites do to a server and ask of it: one command at a time, no more.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest part of a reply that is believed.
const LONGEST: i64 = 64 * 1024 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Integer(i64),
    Bytes(Vec<u8>),
    List(Vec<Reply>),
    Nil,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Nobody listens there, or the password is refused.
    pub(crate) fn connect(address: SocketAddr, password: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = stream.with_context(|| format!("no server at {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream) };
        if let Some(password) = password {
            client.command(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// The server answers with an error, not in time, or not at all.
    pub(crate) fn command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply> {
        self.send(words)?;
        match read_reply(&mut self.stream)? {
            Reply::Error(message) => {
                let name = words.first().map(|word| String::from_utf8_lossy(word.as_ref()).into_owned());
                bail!("Redis refuses {}: {message}", name.unwrap_or_default())
            }
            reply => Ok(reply),
        }
    }

    /// Sends a command and does not wait.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<()> {
        self.stream.get_mut().write_all(&encoded(words)).context("the server hung up")
    }

    /// One of the sections of `INFO`, by field.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub(crate) fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>> {
        let reply = self.command(&["INFO", section])?;
        let text = reply.text().context("INFO is no text")?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Reply {
    /// The text, of a reply that is one.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Error(_) | Self::Integer(_) | Self::List(_) | Self::Nil => None,
        }
    }

    /// The number, of a reply that is one or its text.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            other => other.text()?.parse().ok(),
        }
    }

    /// The parts of a list; any other reply has none.
    pub(crate) fn items(self) -> Vec<Self> {
        match self {
            Self::List(items) => items,
            _ => Vec::new(),
        }
    }
}

/// A command as bytes of the protocol.
fn encoded<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Reads one reply, with all of its parts.
///
/// # Errors
/// The stream ends, or what comes is not the protocol.
pub(crate) fn read_reply(stream: &mut impl BufRead) -> Result<Reply> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).context("no answer from the server")?;
    let Some(line) = line.strip_suffix(b"\r\n") else { bail!("the server hung up") };
    let Some((&kind, rest)) = line.split_first() else { bail!("an empty line is no reply") };
    let rest = String::from_utf8_lossy(rest).into_owned();
    let number = || rest.parse::<i64>().with_context(|| format!("`{rest}` is no number"));
    match kind {
        b'+' => Ok(Reply::Text(rest)),
        b'-' => Ok(Reply::Error(rest)),
        b':' => Ok(Reply::Integer(number()?)),
        b'$' => bytes(stream, number()?),
        b'*' => {
            let length = number()?;
            if length < 0 {
                return Ok(Reply::Nil);
            }
            (0..length).map(|_| read_reply(stream)).collect::<Result<_>>().map(Reply::List)
        }
        other => bail!("a reply does not begin with `{}`", other.escape_ascii()),
    }
}

fn bytes(stream: &mut impl BufRead, length: i64) -> Result<Reply> {
    let Ok(wanted) = usize::try_from(length) else { return Ok(Reply::Nil) };
    if length > LONGEST {
        bail!("a reply of {length} bytes is too long");
    }
    let mut bytes = vec![0; wanted + 2];
    stream.read_exact(&mut bytes).context("the server hung up")?;
    bytes.truncate(wanted);
    Ok(Reply::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_list_of_counted_words() {
        assert_eq!(
            encoded(&[&b"SET"[..], b"k", b"\xff\r\n"]),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\xff\r\n\r\n"
        );
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let cases: [(&[u8], Reply); 7] = [
            (b"+OK\r\n", text("OK")),
            (b"-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (b":-3\r\n", Reply::Integer(-3)),
            (b"$2\r\n\r\n\r\n", Reply::Bytes(b"\r\n".to_vec())),
            (b"$-1\r\n", Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"*2\r\n*0\r\n+x\r\n", Reply::List(vec![Reply::List(vec![]), text("x")])),
        ];
        for (mut bytes, reply) in cases {
            assert_eq!(read_reply(&mut bytes).unwrap(), reply);
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for mut bytes in [&b""[..], b"+OK", b"\r\n", b"$5\r\nab", b":x\r\n", b"!\r\n", b"$99999999999\r\n"] {
            assert!(read_reply(&mut bytes).is_err());
        }
    }
}
