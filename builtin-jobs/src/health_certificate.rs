//! How long certificates are still valid: those a server shows in a verified handshake, or those in a file.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use scheduler_core::Timestamp;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::health_probe::Found;
use crate::health_standing::Status;
use crate::health_threshold::Thresholds;
use crate::tls;

/// Judges the certificates of the server behind a connection.
pub(crate) async fn of_server(
    host: &str,
    stream: TcpStream,
    ca_file: Option<&Path>,
    thresholds: Thresholds,
    now: Timestamp,
) -> Found {
    let ca_file = ca_file.map(Path::to_owned);
    let reading = tokio::task::spawn_blocking(move || tls::client(ca_file.as_deref()));
    let config = match reading.await {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => return Found::failed(error.to_string()),
        Err(error) => return Found::failed(format!("the trusted roots could not be read: {error}")),
    };
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Found::failed(format!("`{host}` is no name that a certificate can be made out to"));
    };
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let shown = match &handshake {
        Ok(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        Err(error) => return Found::failed(format!("no verified connection to {host}: {error}")),
    };
    judged(shown, thresholds, now)
}

/// Judges the certificates in a PEM file.
pub(crate) fn in_file(file: &Path, thresholds: Thresholds, now: Timestamp) -> Found {
    match tls::certificates(file) {
        Ok(certificates) => judged(&certificates, thresholds, now),
        Err(error) => Found::failed(error.to_string()),
    }
}

/// The one that ends first decides: a chain holds no longer than its weakest link.
fn judged(certificates: &[CertificateDer<'_>], thresholds: Thresholds, now: Timestamp) -> Found {
    let ends: Option<Vec<Timestamp>> = certificates.iter().map(|found| not_after(found)).collect();
    let Some(end) = ends.and_then(|ends| ends.into_iter().min()) else {
        return Found::failed("a certificate does not say until when it is valid".to_owned());
    };
    if end < now {
        return Found { status: Status::Failed, message: format!("expired at {end}") };
    }
    let days = end.since(now).as_secs_f64() / 86_400.0;
    let status = thresholds.when_below(days, 0.0);
    Found { status, message: format!("valid for {days:.1} days, until {end}") }
}

/// The end of a certificate's validity (RFC 5280, 4.1), found by walking over what stands before it.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The first element of DER: its tag, what it holds, and what follows it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A `UTCTime`, `YYMMDDHHMMSSZ` from 1950 to 2049, or a `GeneralizedTime`, `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = match tag {
        0x17 => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    if text.len() != 15 || !text.is_ascii() {
        return None;
    }
    let part = |from: usize, to: usize| &text[from..to];
    let [year, month, day] = [part(0, 4), part(4, 6), part(6, 8)];
    let [hour, minute, second] = [part(8, 10), part(10, 12), part(12, 15)];
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_both_forms() {
        let cases = [
            (0x17, "491231235959Z", Some("2049-12-31T23:59:59Z")),
            (0x17, "500101000000Z", Some("1950-01-01T00:00:00Z")),
            (0x18, "20500101000000Z", Some("2050-01-01T00:00:00Z")),
            (0x18, "99991231235959Z", Some("9999-12-31T23:59:59Z")),
            (0x17, "20500101000000Z", None),
            (0x18, "500101000000Z", None),
            (0x17, "491331235959Z", None),
            (0x17, "4912312359Z", None),
            (0x17, "äöü1231235Z", None),
            (0x04, "491231235959Z", None),
        ];
        for (tag, text, expected) in cases {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(time(tag, text), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_found_and_garbage_has_none() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();

        assert_eq!(not_after(&der), Some("2031-02-03T00:00:00Z".parse().unwrap()));
        for cut in 0..der.len() {
            // Whatever is cut off, nothing panics.
            let _ = not_after(&der[..cut]);
        }
        for garbage in [
            b"".as_slice(),
            b"\x30",
            b"\x30\x80",
            b"\x30\x85\xff\xff\xff\xff\xff",
            b"\x30\x84\xff\xff\xff\xff",
        ] {
            assert_eq!(not_after(garbage), None, "{garbage:?}");
        }
    }
}
