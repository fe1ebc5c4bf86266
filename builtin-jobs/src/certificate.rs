//! Certificates: those a server shows in a verified handshake, and from when until when one is valid.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use scheduler_core::Timestamp;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls;

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) begin: Timestamp,
    pub(crate) end: Timestamp,
}

/// The certificates that the server behind a connection shows, in a handshake that must be trusted.
///
/// # Errors
/// Says why there was none.
pub(crate) async fn shown_by(
    host: &str,
    stream: TcpStream,
    ca_file: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let ca_file = ca_file.map(Path::to_owned);
    let reading = tokio::task::spawn_blocking(move || tls::client(ca_file.as_deref()));
    let config = match reading.await {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(error) => return Err(format!("the trusted roots could not be read: {error}")),
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("`{host}` is no name that a certificate can be made out to"))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = handshake.map_err(|error| format!("no verified connection to {host}: {error}"))?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(shown.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

/// The validity of a certificate (RFC 5280, 4.1), found by walking over what stands before it.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
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
    let (tag, text, rest) = element(validity)?;
    let begin = time(tag, std::str::from_utf8(text).ok()?)?;
    let (tag, text, _) = element(rest)?;
    let end = time(tag, std::str::from_utf8(text).ok()?)?;
    Some(Validity { begin, end })
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

        assert_eq!(validity(&der).map(|found| found.end), Some("2031-02-03T00:00:00Z".parse().unwrap()));
        for cut in 0..der.len() {
            // Whatever is cut off, nothing panics.
            let _ = validity(&der[..cut]);
        }
        for garbage in [
            b"".as_slice(),
            b"\x30",
            b"\x30\x80",
            b"\x30\x85\xff\xff\xff\xff\xff",
            b"\x30\x84\xff\xff\xff\xff",
        ] {
            assert_eq!(validity(garbage), None, "{garbage:?}");
        }
    }
}
