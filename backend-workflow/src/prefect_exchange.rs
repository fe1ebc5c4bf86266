//! One request and its answer: the connection, who asks, and how much is read and waited for.
//!
//! Redirects are not followed, as they would carry the credentials elsewhere. Proxies of the environment are not used.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use scheduler_core::{Error, Result};

use crate::prefect::{Auth, PrefectSettings};
use crate::prefect_answer::hide;
use crate::prefect_csrf::{Csrf, Need, Token};
use crate::prefect_http::Call;
use crate::prefect_links::read_url;
use crate::prefect_verdict::Fault;

/// Prefect's own server closes a connection that was idle for five seconds, or what a slow one takes for that.
const IDLE: Duration = Duration::from_secs(3);

/// What a server answered, whatever it was.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Exchange {
    http: reqwest::Client,
    base: Url,
    auth: Auth,
    max_answer: usize,
    csrf: Csrf,
    /// For the connections that are not HTTP's.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) connect_timeout: Duration,
}

impl Exchange {
    pub(crate) fn new(settings: PrefectSettings) -> Result<Self> {
        let base = read_url(&settings.api_url)?;
        let is_secure = base.scheme() == "https";
        let tls = if is_secure { roots(settings.ca_file.as_deref())? } else { RootCertStore::empty() };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_root_certificates(tls)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .user_agent(concat!("hybrid-scheduler/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(IDLE)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(|error| {
                let message = format!("no connection can be prepared: {}", causes(&error));
                Error::unavailable("engine/unreachable", message)
            })?;
        Ok(Self {
            http,
            base,
            auth: settings.auth,
            max_answer: settings.max_answer,
            csrf: Csrf::default(),
            tls: Arc::new(tls),
            connect_timeout: settings.connect_timeout,
        })
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn is_bearer(&self) -> bool {
        matches!(self.auth, Auth::Bearer(_))
    }

    pub(crate) fn max_answer(&self) -> usize {
        self.max_answer
    }

    /// Who asks, as the stream of events wants to be told.
    ///
    /// # Errors
    /// The secret cannot be read.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        Ok(match &self.auth {
            Auth::None => None,
            Auth::Basic { user, password } => Some(format!("{user}:{}", password.resolve()?.expose())),
            Auth::Bearer(key) => Some(key.resolve()?.expose().to_owned()),
        })
    }

    /// What whoever is not let in does next.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.auth {
            Auth::None => "give `username` and `password`, or `api_key`",
            Auth::Basic { .. } => "correct `username` and `password`",
            Auth::Bearer(_) => "correct `api_key`",
        }
    }

    pub(crate) fn forget_token(&self) {
        self.csrf.forget();
    }

    /// What a message calls the request.
    pub(crate) fn place(&self, call: &Call) -> String {
        format!("{} {}", call.method, self.url(call))
    }

    /// What no message may hold.
    pub(crate) fn hidden(&self) -> Vec<String> {
        let request = self.identified(self.http.get(self.base.clone())).and_then(|request| {
            request
                .build()
                .map_err(|_| Error::invalid("engine/bad_secret", "a secret that no header can hold"))
        });
        // One that cannot be read now was not sent either.
        let Ok(request) = request else { return Vec::new() };
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent = header.and_then(|value| value.split(' ').next_back()).map(str::to_owned);
        let password = match &self.auth {
            Auth::Basic { password, .. } => password.resolve().ok().map(|value| value.expose().to_owned()),
            Auth::None | Auth::Bearer(_) => None,
        };
        sent.into_iter().chain(password).collect()
    }

    /// The text without what no message may hold.
    pub(crate) fn hide(&self, text: &str) -> String {
        hide(text, &self.hidden())
    }

    /// Sends a request, with what the server wants against forged ones, and reads the answer, each within `limit`.
    pub(crate) async fn run(&self, call: &Call, limit: Duration) -> Result<Answer, Fault> {
        if call.method == Method::GET {
            return self.send(call, None, limit).await;
        }
        let token = match self.csrf.need() {
            Need::Nothing => None,
            Need::Token(token) => Some(token),
            Need::Asking => match self.ask_for_token(limit).await? {
                Asked::Token(token) => token,
                Asked::Other(answer) => return Ok(answer),
            },
        };
        self.send(call, token.as_ref(), limit).await
    }

    async fn ask_for_token(&self, limit: Duration) -> Result<Asked, Fault> {
        let client = Csrf::fresh_client();
        let call = Call::get(&["csrf-token"]);
        let mut url = self.url(&call);
        url.query_pairs_mut().append_pair("client", &client);
        // Nothing was written yet, so what was to be written has not arrived.
        let answer = self.fetch(self.http.get(url), &self.place(&call), limit).await;
        let answer = answer.map_err(|fault| Fault { may_have_arrived: false, ..fault })?;
        let token = match answer.status.as_u16() {
            200 => match serde_json::from_slice::<Token>(&answer.body) {
                Ok(token) => Some(token),
                Err(_) => {
                    let message = format!("{} answered no token", self.place(&call));
                    return Err(Fault::lasting(Error::unavailable("engine/bad_answer", message)));
                }
            },
            400 | 404 | 405 | 422 => None,
            _ => return Ok(Asked::Other(answer)),
        };
        self.csrf.learn(token.clone());
        Ok(Asked::Token(token))
    }

    async fn send(&self, call: &Call, token: Option<&Token>, limit: Duration) -> Result<Answer, Fault> {
        let mut request = self.http.request(call.method.clone(), self.url(call));
        if let Some(token) = token {
            request = request
                .header("prefect-csrf-token", &token.token)
                .header("prefect-csrf-client", &token.client);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        self.fetch(request, &self.place(call), limit).await
    }

    async fn fetch(&self, request: RequestBuilder, place: &str, limit: Duration) -> Result<Answer, Fault> {
        let request = self.identified(request).map_err(Fault::lasting)?;
        let exchange = async {
            let response = request
                .header(ACCEPT, HeaderValue::from_static("*/*"))
                .send()
                .await
                .map_err(|error| fault_of(&error, place))?;
            self.read(response, place).await
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            let message = format!("{place}: no whole answer within {limit:?}");
            Err(Fault::silence(Error::unavailable("engine/timed_out", message), true))
        })
    }

    fn identified(&self, request: RequestBuilder) -> Result<RequestBuilder> {
        Ok(match &self.auth {
            Auth::None => request,
            Auth::Basic { user, password } => request.basic_auth(user, Some(password.resolve()?.expose())),
            Auth::Bearer(key) => {
                let key = key.resolve()?;
                if HeaderValue::from_str(key.expose()).is_err() {
                    let message = "the key for the engine holds a character that no header can";
                    return Err(Error::invalid("engine/bad_secret", message));
                }
                request.bearer_auth(key.expose())
            }
        })
    }

    async fn read(&self, mut response: Response, place: &str) -> Result<Answer, Fault> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let announced = response.content_length().unwrap_or(0);
        let mut is_too_large = announced > self.max_answer as u64;
        while !is_too_large {
            let chunk = response.chunk().await.map_err(|error| fault_of(&error, place))?;
            let Some(chunk) = chunk else { return Ok(Answer { status, headers, body }) };
            is_too_large = body.len() + chunk.len() > self.max_answer;
            if !is_too_large {
                body.extend_from_slice(&chunk);
            }
        }
        let message = format!("{place} answered more than {} bytes", self.max_answer);
        Err(Fault::lasting(Error::unavailable("engine/too_large", message)))
    }

    /// The parts of the path may hold anything: they are encoded.
    fn url(&self, call: &Call) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        url
    }
}

enum Asked {
    Token(Option<Token>),
    /// The server did not get as far as that.
    Other(Answer),
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(path) = ca_file else { return Ok(roots) };
    let bad = |why: String| {
        Error::invalid("tls/bad_certificate", format!("no certificates in {}: {why}", path.display()))
    };
    let text = std::fs::read(path).map_err(|source| bad(source.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = read.map_err(|source| bad(source.to_string()))?;
    if found.is_empty() {
        return Err(bad("it has no PEM block CERTIFICATE".to_owned()));
    }
    for certificate in found {
        roots.add(certificate).map_err(|source| bad(source.to_string()))?;
    }
    Ok(roots)
}

fn fault_of(error: &reqwest::Error, place: &str) -> Fault {
    let words = causes(error);
    if error.is_builder() {
        let message = format!("{place} cannot be asked: {words}");
        return Fault::lasting(Error::invalid("engine/refused", message));
    }
    if words.contains("certificate") {
        let message = format!("{place}: the certificate of the engine is not trusted: {words}");
        return Fault {
            is_passing: false,
            ..Fault::silence(Error::unauthorized("engine/untrusted", message), false)
        };
    }
    if error.is_connect() {
        let message = format!("{place}: no connection to the engine: {words}; start it, or correct `url`");
        return Fault::silence(Error::unavailable("engine/unreachable", message), false);
    }
    let message = format!("{place}: the connection broke before the whole answer was there: {words}");
    Fault::silence(Error::unavailable("engine/cut_short", message), true)
}

/// The causes below the library's own words, which hold the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !text.starts_with("client error") && !words.iter().any(|said| said.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() { "no reason was given".to_owned() } else { words.join(": ") }
}
