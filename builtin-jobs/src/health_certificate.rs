//! How long certificates are still valid: those a server shows in a verified handshake, or those in a file.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use scheduler_core::Timestamp;
use tokio::net::TcpStream;

use crate::health_probe::Found;
use crate::health_standing::Status;
use crate::health_threshold::Thresholds;
use crate::{certificate, tls};

/// Judges the certificates of the server behind a connection.
pub(crate) async fn of_server(
    host: &str,
    stream: TcpStream,
    ca_file: Option<&Path>,
    thresholds: Thresholds,
    now: Timestamp,
) -> Found {
    match certificate::shown_by(host, stream, ca_file).await {
        Ok(shown) => judged(&shown, thresholds, now),
        Err(fault) => Found::failed(fault),
    }
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
    let ends: Option<Vec<Timestamp>> =
        certificates.iter().map(|found| certificate::validity(found).map(|found| found.end)).collect();
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
