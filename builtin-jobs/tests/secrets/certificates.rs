//! Certificates in files and those that a server shows.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::stage::Stage;

/// A certificate of `localhost` that ends in so many days, as a file, with its key where that is wanted.
fn certificate(stage: &Stage, days: i64, mode: u32, with_key: bool) -> (PathBuf, ServerConfig) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let end = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400 * days.unsigned_abs());
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = end.into();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    let pem = format!("{}{}", made.pem(), if with_key { key.serialize_pem() } else { String::new() });
    let file = stage.file(&format!("certificate-{days}-{mode:o}.pem"), &pem, mode, 1);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (file, config)
}

#[tokio::test]
async fn a_certificate_is_due_before_its_end_whatever_its_age() {
    let stage = Stage::new();
    for (days, status) in [(30, "current"), (6, "due")] {
        let (file, _) = certificate(&stage, days, 0o644, false);
        let told = stage.look(json!({"kind": "certificate", "path": file})).await;
        assert_eq!(
            (&told.first()["status"], &told.first()["findings"]),
            (&json!(status), &json!(0)),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn a_key_beside_a_certificate_must_be_nobody_elses() {
    let stage = Stage::new();
    for (mode, findings) in [(0o600, 0), (0o644, 1)] {
        let (file, _) = certificate(&stage, 30, mode, true);
        let told = stage.look(json!({"kind": "certificate", "path": file})).await;
        assert_eq!(told.first()["findings"], findings, "{told:?}");
    }
}

#[tokio::test]
async fn the_certificates_that_a_server_shows_are_judged() {
    let stage = Stage::new();
    for (days, status) in [(30, "current"), (3, "due")] {
        let (file, config) = certificate(&stage, days, 0o644, false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((wire, _)) = listener.accept().await {
                let _ = acceptor.accept(wire).await;
            }
        });

        let trusted = stage.look(json!({"kind": "tls", "address": address, "ca_file": file})).await;
        let untrusted = stage.look(json!({"kind": "tls", "address": address})).await;

        assert_eq!(trusted.first()["status"], status, "{trusted:?}");
        assert!(untrusted.error.unwrap().contains("no verified connection to localhost"));
    }
}
