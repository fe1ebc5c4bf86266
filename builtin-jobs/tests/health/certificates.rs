//! Certificates that are about to expire are told in time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::stage::{Stage, server};

const DAY: u64 = 86_400;

/// A certificate for 127.0.0.1 that is valid until so many seconds from now, negative ones ago.
fn params(seconds: i64) -> CertificateParams {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.saturating_add_signed(seconds));
    params
}

#[tokio::test]
async fn a_file_is_degraded_and_then_failed_as_its_end_comes_near() {
    let stage = Stage::new();
    let day = i64::try_from(DAY).unwrap();
    for (days, status, part) in [
        (30, "healthy", "valid for 30.0 days, until 20"),
        (20, "degraded", "valid for 20.0 days"),
        (6, "failed", "valid for 6.0 days"),
        (-1, "failed", "expired at 20"),
    ] {
        let file = stage.path("server.pem");
        let certificate = params(days * day + 60).self_signed(&KeyPair::generate().unwrap()).unwrap();
        let healthy = params(400 * day).self_signed(&KeyPair::generate().unwrap()).unwrap();
        std::fs::write(&file, healthy.pem() + &certificate.pem()).unwrap();
        let (found, message) = stage.look(json!({"kind": "certificate", "file": file})).await;
        assert_eq!(found, status, "{days}: {message}");
        assert!(message.contains(part), "{message}");
    }
    let (found, message) = stage.look(json!({"kind": "certificate", "file": stage.path("gone")})).await;
    assert_eq!(found, "failed", "{message}");
}

/// A server with such a certificate; returns the check of it, which trusts its authority.
async fn served(stage: &Stage, seconds: i64) -> Value {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let file = stage.path("ca.pem");
    std::fs::write(&file, authority.self_signed(&root_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params(seconds).signed_by(&key, &Issuer::new(authority, root_key)).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = server(move |wire| {
        let acceptor = acceptor.clone();
        async move { drop(acceptor.accept(wire).await) }
    })
    .await;
    json!({"kind": "certificate", "address": address.to_string(), "ca_file": file})
}

#[tokio::test]
async fn a_server_is_asked_for_its_certificate_which_must_be_trusted() {
    let stage = Stage::new();
    let day = i64::try_from(DAY).unwrap();
    for (seconds, status, part) in [
        (30 * day + 60, "healthy", "valid for 30.0 days"),
        (3 * day, "failed", "valid for"),
        (-day, "failed", "expired"),
    ] {
        let check = served(&stage, seconds).await;
        let (found, message) = stage.look(check).await;
        assert_eq!(found, status, "{message}");
        assert!(message.contains(part), "{message}");
    }
    let mut strange = served(&stage, 30 * day).await;
    strange.as_object_mut().unwrap().remove("ca_file");
    let (found, message) = stage.look(strange).await;
    assert_eq!(found, "failed");
    assert!(message.contains("no verified connection to 127.0.0.1"), "{message}");
}
