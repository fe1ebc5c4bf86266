//! Certificates of our own, for the servers that suites start.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};

/// Somebody who signs certificates, for one suite.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    /// # Errors
    /// The machine gives no random numbers.
    pub(crate) fn new() -> Result<Self> {
        let (mut params, key) = (named("an authority of a suite", &[])?, KeyPair::generate()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate, by which others are checked.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for a host.
    ///
    /// # Errors
    /// The host is neither a name nor an address.
    pub(crate) fn signed(&self, host: &str) -> Result<Certificate> {
        self.sign(&named("a server of a suite", &[host])?)
    }

    /// Signs one that was valid in the year 2000.
    ///
    /// # Errors
    /// As [`Self::signed`].
    pub(crate) fn expired(&self, host: &str) -> Result<Certificate> {
        let mut params = named("a server of a suite", &[host])?;
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Certificate> {
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certificate { chain, key: key.serialize_pem() })
    }
}

/// A certificate that nobody vouches for but itself.
///
/// # Errors
/// The host is neither a name nor an address.
pub(crate) fn self_signed(host: &str) -> Result<Certificate> {
    let key = KeyPair::generate()?;
    let chain = named("a server of a suite", &[host])?.self_signed(&key)?.pem();
    Ok(Certificate { chain, key: key.serialize_pem() })
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
