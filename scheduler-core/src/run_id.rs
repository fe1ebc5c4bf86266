//! The identity of a run: 26 lower-case characters of Crockford's base 32.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{Error, Name, Result, Timestamp};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The digit that a byte stands for, whatever its case.
const DIGITS: [Option<u8>; 256] = digits();
/// How many random bytes an id has, and how many the system is asked for at once.
const RANDOM: usize = 10;
const POOL: usize = 64 * RANDOM;

const fn digits() -> [Option<u8>; 256] {
    let mut digits = [None; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        let letter = ALPHABET[digit];
        digits[letter as usize] = Some(digit as u8);
        digits[letter.to_ascii_uppercase() as usize] = Some(digit as u8);
        digit += 1;
    }
    digits
}

thread_local! {
    /// Random bytes, and how many of them are not used yet: a call of the system takes longer than all else of an id.
    static RESERVE: RefCell<([u8; POOL], usize)> = const { RefCell::new(([0; POOL], 0)) };
}

/// Bytes that nobody else gets, unless the system has none.
fn random() -> Option<[u8; RANDOM]> {
    RESERVE.with_borrow_mut(|(bytes, left)| {
        if *left == 0 {
            getrandom::fill(bytes).ok()?;
            *left = POOL;
        }
        *left -= RANDOM;
        bytes[*left..][..RANDOM].try_into().ok()
    })
}

/// Names one run for ever, on every tier.
///
/// A scheduled run's id is the hash of (namespace, task, fire time), so two daemons that see the same fire
/// make the same id; a manual run's is a ULID (<https://github.com/ulid/spec>), which sorts by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u128);

impl RunId {
    /// The id behind all others in their order.
    pub(crate) const LAST: Self = Self(u128::MAX);

    /// The id of the run that a schedule fires: the first 128 bits of SHA-256 over its identity.
    pub fn scheduled(namespace: &Name, task: &Name, fire_time: Timestamp) -> Self {
        Self::hashed(namespace, task, &fire_time.as_millis().to_be_bytes())
    }

    /// The id of a run that was asked for with a key: the same task and key is the same run.
    pub fn keyed(namespace: &Name, task: &Name, key: &str) -> Self {
        // Eight bytes that begin like this lie far outside of every fire time, so the two kinds never meet.
        Self::hashed(namespace, task, format!("key/{key}").as_bytes())
    }

    /// The id of a run of a job without a task that was asked for with a key. A task of that name and key is
    /// another run.
    pub fn keyed_job(namespace: &Name, job: &Name, key: &str) -> Self {
        Self::hashed(namespace, job, format!("job/{key}").as_bytes())
    }

    fn hashed(namespace: &Name, task: &Name, rest: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for name in [namespace, task] {
            // A name holds no zero byte, so the fields cannot run into each other.
            hash.update(name.as_str());
            hash.update([0]);
        }
        hash.update(rest);
        let digest = hash.finalize();
        Self(digest.iter().take(16).fold(0, |n, byte| n << 8 | u128::from(*byte)))
    }

    /// A new id for a run that a person or a program asked for.
    pub fn manual(now: Timestamp) -> Self {
        // Without a source of randomness the id rests on a counter and the process id: still unique here.
        let random = random().unwrap_or_else(|| {
            static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            let next =
                NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) << 32 | u64::from(std::process::id());
            let mut bytes = [0; RANDOM];
            bytes[2..].copy_from_slice(&next.to_be_bytes());
            bytes
        });
        let low = random.iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
        let high = u128::from(now.as_millis().max(0).unsigned_abs()) & ((1 << 48) - 1);
        Self(high << 80 | low)
    }

    /// The id as the number it is.
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// A number that is spread evenly over all ids; the seed of a run's jitter.
    pub fn seed(self) -> u64 {
        // The low half is random in both kinds of id.
        (self.0 & u128::from(u64::MAX)) as u64
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 26];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = ALPHABET[(self.0 >> (125 - 5 * i) & 31) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = Error;

    /// # Errors
    /// `run/bad_id` when the text is not 26 characters of the alphabet, or more than 128 bits.
    fn from_str(text: &str) -> Result<Self> {
        let digit = |byte: &u8| DIGITS[usize::from(*byte)].map(u128::from);
        let value = match text.as_bytes() {
            // More than 128 bits begin with a higher digit.
            bytes @ [b'0'..=b'7', ..] if bytes.len() == 26 => {
                bytes.iter().try_fold(0, |number, byte| Some(number << 5 | digit(byte)?))
            }
            _ => None,
        };
        match value {
            Some(value) => Ok(Self(value)),
            None => Err(Error::invalid(
                "run/bad_id",
                format!(
                    "`{}` is no run id: 26 characters of 0-9 and a-z without i, l, o, u",
                    text.escape_debug()
                ),
            )),
        }
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_fire_has_one_id_and_each_part_of_it_counts() {
        let fire = Timestamp::from_millis(1_774_695_600_000);
        let id = RunId::scheduled(&name("default"), &name("backup"), fire);
        // Pinned: stored runs are found again by this id, so the rule may never change.
        assert_eq!(id.to_string(), "76ysmfagy4sd1a2jscrk70hq8r");
        assert_eq!(id, RunId::scheduled(&name("default"), &name("backup"), fire));
        assert_ne!(id, RunId::scheduled(&name("other"), &name("backup"), fire));
        assert_ne!(id, RunId::scheduled(&name("default"), &name("backup2"), fire));
        assert_ne!(id, RunId::scheduled(&name("default"), &name("backup"), Timestamp::from_millis(0)));
        assert_ne!(
            RunId::scheduled(&name("a"), &name("bc"), fire),
            RunId::scheduled(&name("ab"), &name("c"), fire)
        );
    }

    #[test]
    fn a_key_means_another_run_for_each_task_and_for_a_job_of_that_name() {
        let (default, backup) = (name("default"), name("backup"));
        let keyed = RunId::keyed(&default, &backup, "a");
        assert_eq!(keyed, RunId::keyed(&default, &backup, "a"));
        let others = [
            RunId::keyed(&name("other"), &backup, "a"),
            RunId::keyed(&default, &name("exec"), "a"),
            RunId::keyed(&default, &backup, "b"),
            RunId::keyed_job(&default, &backup, "a"),
        ];
        assert!(others.iter().all(|other| *other != keyed));
    }

    #[test]
    fn ids_survive_their_text_and_sort_by_time_when_manual() {
        let early = RunId::manual(Timestamp::from_millis(1_000));
        let late = RunId::manual(Timestamp::from_millis(2_000));
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.to_string().parse::<RunId>().unwrap(), late);
        assert_ne!(RunId::manual(Timestamp::from_millis(1)), RunId::manual(Timestamp::from_millis(1)));
    }

    #[test]
    fn a_text_that_is_no_id_is_refused() {
        for text in ["", "short", "zzzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000u"] {
            assert_eq!(text.parse::<RunId>().unwrap_err().code(), "run/bad_id", "{text}");
        }
    }
}
