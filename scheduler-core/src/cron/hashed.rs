//! `H`: a value that the task's name fixes, so that many tasks of one rhythm do not fire together.

use sha2::{Digest, Sha256};

use super::field::Kind;

/// The range of each of the seven fields, as `H` uses it: a day that every month has.
const RANGES: [(u64, u64); 7] = [(0, 59), (0, 59), (0, 23), (1, 28), (1, 12), (0, 6), (1970, 2199)];

/// What stands in the place of a field that begins with `H`; `None` for another field.
pub(super) fn replace(kind: Kind, field: &str, key: &str) -> Result<Option<String>, String> {
    let Some(rest) = field.strip_prefix('H') else { return Ok(None) };
    let index = kind as usize;
    one(rest, RANGES[index], &format!("{key}/{index}")).map(Some)
}

/// `H`, `H/step`, `H(low-high)` or `H(low-high)/step`.
fn one(rest: &str, range: (u64, u64), key: &str) -> Result<String, String> {
    let wrong = || "it is not H, H/15, H(0-29) or H(0-29)/10".to_owned();
    let (range, rest) = match rest.strip_prefix('(') {
        Some(inner) => {
            let (inner, rest) = inner.split_once(')').ok_or_else(wrong)?;
            let (low, high) = inner.split_once('-').ok_or_else(wrong)?;
            let bounds = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
            if bounds.0 > bounds.1 || bounds.0 < range.0 || bounds.1 > range.1 {
                return Err(format!("H takes {}-{} here", range.0, range.1));
            }
            (bounds, rest)
        }
        None => (range, rest),
    };
    let digest = Sha256::digest(key);
    let hash = digest.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let (low, high) = range;
    match rest.strip_prefix('/') {
        None if rest.is_empty() => Ok((low + hash % (high - low + 1)).to_string()),
        Some(step) => {
            let step: u64 =
                step.parse().ok().filter(|step| (1..=high - low).contains(step)).ok_or_else(wrong)?;
            Ok(format!("{}-{high}/{step}", low + hash % step))
        }
        None => Err(wrong()),
    }
}
