//! How the other side of a TLS connection is verified; there is no way to leave it out.
//!
//! The cryptography is handed to each client (`ring`), so the process has no global state for it. The roots are
//! those of the operating system, which its administrators keep, plus those a task names.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use scheduler_core::{ArgsError, Error, Result};

/// A client that trusts the operating system's roots and those in `ca_file`. Reads files.
///
/// # Errors
/// Those of [`certificates`].
pub(crate) fn client(ca_file: Option<&Path>) -> Result<ClientConfig> {
    Ok(with_roots(roots(ca_file)?))
}

/// A client that trusts nobody: enough where no TLS is spoken.
pub(crate) fn client_without_roots() -> ClientConfig {
    with_roots(RootCertStore::empty())
}

/// The cryptography of every connection.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The operating system's roots and those in `ca_file`. What the system holds and nobody can read is left out.
///
/// # Errors
/// Those of [`certificates`].
pub(crate) fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| {
                let message = format!("{} holds a certificate that is no root: {source}", path.display());
                Error::invalid("tls/bad_certificate", message)
            })?;
        }
    }
    Ok(roots)
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// `tls/bad_certificate` when the file cannot be read or holds none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unread = |cause: &dyn std::fmt::Display| {
        let message = format!("no certificates in {}: {cause}", path.display());
        Error::invalid("tls/bad_certificate", message)
    };
    let text = std::fs::read(path).map_err(|source| unread(&source))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = read.map_err(|source| unread(&source))?;
    if found.is_empty() { Err(unread(&"it has no PEM block CERTIFICATE")) } else { Ok(found) }
}

/// What is wrong with the argument `ca_file`.
pub(crate) fn bad_ca_file(path: &Path) -> Option<ArgsError> {
    let fault = certificates(path).err()?;
    Some(ArgsError::new("/ca_file", fault.to_string()).with_help("give a PEM file of certificates"))
}

fn with_roots(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
