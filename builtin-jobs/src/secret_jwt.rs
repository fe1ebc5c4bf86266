//! When a JSON Web Token was made and when it ends (RFC 7519). Its signature is not looked at, and nothing of it is
//! ever told.

use scheduler_core::Timestamp;
use serde_json::{Map, Value};

use crate::secret_due::Dates;

/// Reads `iat` (else `nbf`) and `exp`.
///
/// # Errors
/// Says what is wrong with its form.
pub(crate) fn dates(token: &str) -> Result<Dates, &'static str> {
    let parts: Vec<&str> = token.trim().split('.').collect();
    let [_, payload, _] = parts.as_slice() else { return Err("it is no JWT: it has not three parts") };
    let payload = decoded(payload).ok_or("it is no JWT: its second part is no base64url")?;
    let claims: Map<String, Value> =
        serde_json::from_slice(&payload).map_err(|_| "it is no JWT: its second part is no JSON object")?;
    let claim = |name| claims.get(name).and_then(seconds);
    let dates = Dates { created: claim("iat").or_else(|| claim("nbf")), expires: claim("exp") };
    if dates == Dates::default() {
        Err("it says neither when it was made nor when it ends")
    } else {
        Ok(dates)
    }
}

/// Seconds since the epoch, with or without a fraction.
pub(crate) fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and so does a timestamp")]
    let millis = (seconds * 1_000.0) as i64;
    Some(Timestamp::from_millis(millis))
}

/// Base64 in the alphabet of URLs, with or without padding (RFC 4648, 5).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::with_capacity(text.len() / 4 * 3));
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    (count < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_nothing_of_a_token_is_told() {
        // {"iat":1700000000,"exp":1700003600.5,"x":"??>"}
        let payload = "eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMC41LCJ4IjoiPz8-In0";
        let found = dates(&format!("canary.{payload}.canary\n")).unwrap();
        assert_eq!(found.created.unwrap().as_millis(), 1_700_000_000_000);
        assert_eq!(found.expires.unwrap().as_millis(), 1_700_003_600_500);
        for token in
            ["", "canary", "a.b", "a.b.c.d", "a.canary!.c", "a.YQ.c", "a.e30.c", "a.W10.c", "a.bnVsbA==.c"]
        {
            let fault = dates(token).unwrap_err();
            assert!(!fault.contains("canary"), "{fault}");
        }
    }
}
