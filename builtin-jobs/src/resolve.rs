//! Names turned into addresses, once for each connection: exactly what was judged is connected to.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use scheduler_core::BoxFuture;

use crate::address::{Allowed, Refused};

/// Finds the addresses of a name.
pub(crate) trait Lookup: fmt::Debug + Send + Sync + 'static {
    /// The addresses; their port is of no meaning.
    fn lookup(&self, name: String) -> BoxFuture<io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Lookup for System {
    fn lookup(&self, name: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) })
    }
}

/// A resolver that answers with nothing but what may be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) allowed: Allowed,
}

/// Why a name led nowhere.
#[derive(Debug)]
pub(crate) enum Unresolved {
    Unknown(io::Error),
    Refused(Refused),
}

impl Guarded {
    /// The addresses of a host, a name or an address itself, that may be connected to.
    ///
    /// # Errors
    /// As [`addresses`](Self::addresses).
    pub(crate) async fn addresses_of(&self, host: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let Ok(address) = host.parse() else { return self.addresses(host.to_owned()).await };
        self.allowed.judge(address).map_err(Unresolved::Refused)?;
        Ok(vec![SocketAddr::new(address, 0)])
    }

    /// The addresses of `name` that may be connected to.
    ///
    /// # Errors
    /// When there are none; the first refused one says why.
    pub(crate) async fn addresses(&self, name: String) -> Result<Vec<SocketAddr>, Unresolved> {
        let found = self.lookup.lookup(name).await.map_err(Unresolved::Unknown)?;
        let mut refused = None;
        let mut fit = Vec::new();
        for address in found {
            match self.allowed.judge(address.ip()) {
                Ok(()) => fit.push(address),
                Err(fault) => refused = refused.or(Some(fault)),
            }
        }
        match (fit.is_empty(), refused) {
            (false, _) => Ok(fit),
            (true, Some(refused)) => Err(Unresolved::Refused(refused)),
            (true, None) => Err(Unresolved::Unknown(io::Error::other("it has no addresses"))),
        }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guarded = self.clone();
        let found = async move { guarded.addresses(name.as_str().to_owned()).await };
        Box::pin(found.map(|found| match found {
            Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
            Err(Unresolved::Refused(refused)) => Err(refused.into()),
            Err(Unresolved::Unknown(error)) => Err(error.into()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Http;
    use scheduler_core::{Job, Name, RunContext, RunHost, RunId, RunIdentity, SystemClock, Tier, Timestamp};
    use serde_json::{Map, json};
    use std::net::IpAddr;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Gives each answer once, from the last to the first.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Vec<&'static str>>>);

    impl Lookup for Script {
        fn lookup(&self, _: String) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
            let answer =
                self.0.lock().unwrap().pop().expect("no name is looked up more often than connected to");
            let address = |text: &str| SocketAddr::new(text.parse::<IpAddr>().unwrap(), 0);
            Box::pin(async move { Ok(answer.into_iter().map(address).collect()) })
        }
    }

    /// Says `answer` to whoever connects, and then to nobody any more.
    async fn server(host: &str, answer: String) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut wire, _) = listener.accept().await.unwrap();
            let _ = wire.read(&mut [0; 4096]).await;
            let _ = wire.write_all(answer.as_bytes()).await;
        });
        (address, serving)
    }

    fn context() -> RunContext {
        let name = Name::new("t").unwrap();
        let identity = RunIdentity {
            namespace: name.clone(),
            task: name.clone(),
            tier: Tier::Local,
            backend: name,
            run_id: RunId::manual(Timestamp::from_millis(0)),
            fire_time: Timestamp::from_millis(0),
            attempt: 1,
            fence: 1,
            params: Map::new(),
        };
        RunContext::new(identity, RunHost::standalone(Arc::new(SystemClock::new())))
    }

    /// Asks for `name.example` at this port while it resolves to each of these in turn.
    async fn asked(port: u16, answers: &[&[&'static str]]) -> Result<serde_json::Value, String> {
        let args =
            json!({"url": format!("http://name.example:{port}/"), "allow": ["127.0.0.1"], "redirects": 1});
        let mut job = Http::new(serde_json::from_value(args).unwrap()).unwrap();
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        job.lookup = Arc::new(Script(Mutex::new(answers)));
        job.run(&context()).await.map_err(|error| format!("{error:?}"))
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_exactly_what_was_judged_is_connected_to() {
        let (address, _serving) = server("127.0.0.1", "HTTP/1.1 200 OK\r\n\r\nfirst".to_owned()).await;

        let output = asked(address.port(), &[&["127.0.0.2", "127.0.0.1", "10.0.0.1"]]).await.unwrap();

        assert_eq!(output["body"], "first");
    }

    #[tokio::test]
    async fn a_name_that_resolves_differently_the_second_time_gains_nothing() {
        let (inner, inner_serving) = server("127.0.0.2", "HTTP/1.1 200 OK\r\n\r\ninner".to_owned()).await;
        let redirect = format!("HTTP/1.1 302 Found\r\nLocation: //name.example:{}/\r\n\r\n", inner.port());
        let (address, _serving) = server("127.0.0.1", redirect).await;

        let error = asked(address.port(), &[&["127.0.0.1"], &["127.0.0.2"]]).await.unwrap_err();

        assert!(error.starts_with("Abort(") && error.contains("address 127.0.0.2 is refused"), "{error}");
        assert!(!inner_serving.is_finished());
        inner_serving.abort();
    }

    #[tokio::test]
    async fn a_name_with_refused_addresses_alone_is_refused_and_one_with_none_unknown() {
        let error = asked(80, &[&["169.254.169.254", "127.0.0.2"]]).await.unwrap_err();
        assert!(
            error.contains("address 169.254.169.254 is refused: it leads to a cloud's metadata"),
            "{error}"
        );
        let error = asked(80, &[&[]]).await.unwrap_err();
        assert!(error.starts_with("Retry(no answer from http://name.example/"), "{error}");
    }
}
