//! A host and a port that a job may connect to.

use std::net::SocketAddr;
use std::sync::Arc;

use scheduler_core::ArgsError;
use tokio::net::TcpStream;

use crate::address::Allowed;
use crate::http_target;
use crate::resolve::{Guarded, System, Unresolved};

/// A place, and what judges its addresses.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) host: String,
    port: u16,
    resolver: Guarded,
}

impl Place {
    /// Reads `HOST:PORT`.
    ///
    /// # Errors
    /// What is no such text, and an address that may not be connected to; at `/address`.
    pub(crate) fn parse(address: &str, allowed: Allowed) -> Result<Self, Vec<ArgsError>> {
        let fault = |text: String| vec![ArgsError::new("/address", text).with_help("write `HOST:PORT`")];
        let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = split.filter(|(host, port)| !host.is_empty() && *port > 0) else {
            return Err(fault(format!("`{}` is no host with a port", address.escape_debug())));
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if bare.is_none() && host.contains(':') {
            return Err(fault(format!(
                "`{address}` is no host with a port; an IPv6 address stands in brackets"
            )));
        }
        http_target::judge_host(host, &allowed).map_err(|refused| {
            vec![ArgsError::new("/address", refused.to_string()).with_help(refused.help())]
        })?;
        Ok(Self { host: host.to_owned(), port, resolver: Guarded { lookup: Arc::new(System), allowed } })
    }

    /// Connects to the first address that lets itself be connected to.
    ///
    /// # Errors
    /// Why there is no connection, as a person reads it.
    pub(crate) async fn connect(&self) -> Result<TcpStream, String> {
        let Self { host, port, resolver } = self;
        let found = resolver.addresses_of(host).await.map_err(|fault| match fault {
            Unresolved::Refused(refused) => format!("{refused}; {}", refused.help()),
            Unresolved::Unknown(error) => format!("`{host}` has no address: {error}"),
        })?;
        let addresses: Vec<SocketAddr> =
            found.into_iter().map(|address| SocketAddr::new(address.ip(), *port)).collect();
        TcpStream::connect(addresses.as_slice())
            .await
            .map_err(|error| format!("no connection to {host} at port {port}: {error}"))
    }
}
