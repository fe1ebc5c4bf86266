//! The other side is always verified.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use crate::server::{Seen, Server, answer, say};
use crate::stage::{args, args_with, fails, output};

/// An authority made on the spot, in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server whose certificate is made out to `name`.
    async fn server(&self, name: &str) -> Server {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::raw("127.0.0.1", move |wire| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut wire) = acceptor.accept(wire).await else { return };
                if Seen::read(&mut wire).await.is_some() {
                    say(&mut wire, answer("200 OK", &[], "secure").as_bytes()).await;
                }
            }
        })
        .await
    }
}

fn secure(server: &Server) -> String {
    server.url("/").replace("http://", "https://")
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_and_of_a_named_one_accepted() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1").await;
    let url = secure(&server);

    fails(&args(&url), "Abort", "http/untrusted", "is not trusted").await;
    let other = Authority::new();
    let args = args_with(&url, json!({"ca_file": other.file()}));
    fails(&args, "Abort", "http/untrusted", "is not trusted").await;
    let output = output(&args_with(&url, json!({"ca_file": authority.file()}))).await;

    assert_eq!(output["body"], "secure");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = authority.server("other.example").await;
    let args = args_with(&secure(&server), json!({"ca_file": authority.file()}));
    fails(&args, "Abort", "http/untrusted", "is not trusted").await;
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_no_answer() {
    let server = Server::saying(answer("200 OK", &[], "")).await;
    let silent = args_with(&secure(&server), json!({"connect_timeout": "50ms"}));
    fails(&silent, "Retry", "http/timed_out", "within `connect_timeout`").await;
    let garbage =
        Server::raw("127.0.0.1", |mut wire| async move { say(&mut wire, b"SSH-2.0-x\r\n").await }).await;
    fails(&args(&secure(&garbage)), "Retry", "http/no_answer", "no answer from").await;
}

#[tokio::test]
async fn a_file_of_roots_that_has_gone_is_named() {
    let args = args_with("https://127.0.0.1:9/", json!({"ca_file": "/surely/not/there.pem"}));
    fails(&args, "Abort", "tls/bad_certificate", "no certificates in /surely/not/there.pem").await;
}
