//! One HTTP client for one action: its connections, its TLS, its proxy, and where it may go.

use std::{error::Error, sync::Arc, time::Duration};

use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::time::{Instant, timeout_at};

use super::guard::{Inside, Named, Resolver};
use crate::{
    Clock, Failure, Secret, SettingsError,
    net::HostPort,
    text,
    tls::{self, Identity},
};

/// Longest wait for a connection, TLS included.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// A connection that was idle for this long is closed: servers close theirs after about as long, and a request on one that
/// is being closed is lost.
const IDLE: Duration = Duration::from_secs(20);
/// Most bytes of an answer that are read.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Most redirects that are followed for one request.
const REDIRECTS_MAX: usize = 3;
/// What `Retry-After` may ask for, in milliseconds.
const RETRY_AFTER_MS: (u64, u64) = (1000, 3_600_000);
/// Most bytes of an answer that are shown.
pub(crate) const WORDS_BYTES_MAX: usize = 1024;

/// Whom TLS trusts, and who we are.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Certificates (PEM) of the authorities that may sign the server's; those that this system trusts unless set.
    pub ca: Option<String>,
    /// Our own certificate (PEM), for servers that ask for one.
    pub cert: Option<String>,
    /// Its key (PEM, unencrypted).
    pub key: Option<Secret>,
    /// The name that the server's certificate must have; the host of the URL unless set.
    pub server_name: Option<String>,
}

/// What a client is made from.
#[derive(Default)]
pub(crate) struct Options<'a> {
    pub(crate) proxy: Option<&'a str>,
    pub(crate) tls: Option<&'a ClientTls>,
    pub(crate) redirects: bool,
    /// Whether the URL is one of https: without, authorities are not asked for.
    pub(crate) https: bool,
    /// Most requests at once.
    pub(crate) connections: usize,
    /// Hosts that the config names itself.
    pub(crate) named: Vec<String>,
    /// The host of the URL, where it is always the same: what `tls.server_name` stands for.
    pub(crate) host: Option<String>,
}

/// A client that is ready. Connections are kept, and none is opened before there is something to send.
pub(crate) struct Client {
    http: reqwest::Client,
    tls: Arc<ClientConfig>,
    named: Named,
    proxy: Option<HostPort>,
    redirects: bool,
    /// The name that certificates must have, and the host that has it.
    alias: Option<(String, String)>,
    clock: Clock,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("named", &self.named).finish_non_exhaustive()
    }
}

/// One request. What is in it may be secret, so it is never shown.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What it asked for, within bounds.
    pub(crate) retry_after_ms: Option<u64>,
    /// At most [`ANSWER_BYTES_MAX`] bytes.
    pub(crate) body: Vec<u8>,
    /// Whether all of it was read.
    pub(crate) is_whole: bool,
}

/// `https://host:port` of a URL, and nothing that may be secret.
pub(crate) fn place_of(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// Reads a URL as an admin wrote it. What is wrong is said without it: it may be a secret.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => {}
        "http" | "https" => return Err("it has no host".into()),
        _ => return Err("it begins with neither http:// nor https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a login in it would be shown; there are settings for that".into());
    }
    if url.fragment().is_some() {
        return Err("what follows a `#` is never sent".into());
    }
    Ok(url)
}

/// Whether what is sent to this URL goes over a network without TLS.
pub(crate) fn is_far_in_the_clear(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_near = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && !host.is_empty() && !is_near
}

impl Client {
    pub(crate) fn new(options: Options<'_>, clock: Clock) -> Result<Client, Vec<SettingsError>> {
        let none = ClientTls::default();
        let settings = options.tls.unwrap_or(&none);
        let mut config = client_config(settings, options.https)?;
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ams2/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WAIT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(options.connections.max(1));
        let alias = match (&settings.server_name, &options.host) {
            (None, _) => None,
            (Some(name), Some(host)) if ServerName::try_from(name.as_str()).is_ok() => {
                // The host stands in a header then, which HTTP/2 has no place for.
                builder = builder.http1_only();
                Some((name.clone(), host.clone()))
            }
            (Some(name), Some(_)) => {
                let message = format!("{name:?} is no name of a host");
                return Err(vec![SettingsError::new(
                    "tls.server_name",
                    message,
                    "write it like hooks.example.com",
                )]);
            }
            (Some(_), None) => {
                let message = "one name for hosts that come from a template";
                return Err(vec![SettingsError::new("tls.server_name", message, "remove it")]);
            }
        };
        config.alpn_protocols = match alias {
            None => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Some(_) => vec![b"http/1.1".to_vec()],
        };
        let mut named = options.named;
        let mut proxy = None;
        if let Some(text) = options.proxy {
            let wrong =
                |what: String| vec![SettingsError::new("proxy", what, "write http://proxy.example.com:3128")];
            let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
            let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
            let host = host.ok_or_else(|| wrong("it begins with neither http:// nor https://".into()))?;
            let port = url.port_or_known_default().expect("http and https have one");
            proxy = Some(HostPort::new(host.trim_matches(['[', ']']), port));
            named.push(host.to_owned());
            let found = reqwest::Proxy::all(url).map_err(|error| wrong(error.without_url().to_string()))?;
            builder = builder.proxy(found);
        }
        let named = Named::new(named);
        let resolver = Resolver::new(named.clone(), alias.clone());
        let built =
            builder.tls_backend_preconfigured(config.clone()).dns_resolver(Arc::new(resolver)).build();
        let http = built.map_err(|error| {
            vec![SettingsError::new("url", error.without_url().to_string(), "see the words before this")]
        })?;
        Ok(Client { http, tls: Arc::new(config), named, proxy, redirects: options.redirects, alias, clock })
    }

    /// Sends one request and reads the answer, redirects followed where the config says so. A failure is one of the way there
    /// or back; what the far end answers is the caller's to judge.
    pub(crate) async fn send(&self, request: Request, end: Instant) -> Result<Answer, Failure> {
        let Request { method, mut url, mut headers, body } = request;
        let origin = url.origin();
        for _ in 0..=REDIRECTS_MAX {
            let (answer, next) = self.send_once(&method, &url, &headers, &body, end).await?;
            let Some(next) =
                next.filter(|_| self.redirects && matches!(answer.status, 301 | 302 | 307 | 308))
            else {
                return Ok(answer);
            };
            let next = url.join(&next).map_err(|_| refused(&url, "it redirects to what is no URL"))?;
            if url.scheme() == "https" && next.scheme() != "https"
                || !matches!(next.scheme(), "http" | "https")
            {
                return Err(refused(&url, "it redirects to where TLS is not spoken"));
            }
            if self.proxy.is_some() && !self.named.has(next.host_str().unwrap_or_default()) {
                return Err(refused(
                    &url,
                    "it redirects to another host, which cannot be checked behind a proxy",
                ));
            }
            if next.origin() != origin {
                // What proves who we are is for the host that the config names alone.
                headers = only(&headers, &[CONTENT_TYPE, HeaderName::from_static("idempotency-key")]);
            }
            url = next;
        }
        Err(refused(&url, "it redirects in circles"))
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: &[u8],
        end: Instant,
    ) -> Result<(Answer, Option<String>), Failure> {
        let host = url.host_str().unwrap_or_default();
        if !self.named.allows(host) {
            return Err(refused(url, &Inside.to_string()));
        }
        let (mut target, mut headers) = (url.clone(), headers.clone());
        if let Some((name, aliased)) = &self.alias
            && aliased.eq_ignore_ascii_case(host)
        {
            let value = HeaderValue::from_str(&place_of(url)).expect("a URL's host is ASCII");
            headers.insert(HOST, value);
            target.set_host(Some(name)).map_err(|_| refused(url, "its name cannot stand in a URL"))?;
        }
        let request = self.http.request(method.clone(), target).headers(headers).body(body.to_vec());
        let mut response = match timeout_at(end, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(url, error)),
            Err(_) => return Err(Failure::uncertain(format!("{}: no answer in time", place_of(url)))),
        };
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let retry_after_ms = header(RETRY_AFTER).and_then(|text| self.retry_after(text));
        let next = header(LOCATION).map(str::to_owned);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let is_whole = loop {
            // What it says is of interest, but its status has been heard.
            match timeout_at(end, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    let room = ANSWER_BYTES_MAX - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        break false;
                    }
                }
                Ok(Ok(None)) => break true,
                Ok(Err(_)) | Err(_) => break false,
            }
        };
        Ok((Answer { status, retry_after_ms, body, is_whole }, next))
    }

    /// Seconds or a date (RFC 9110 section 10.2.3), within bounds.
    fn retry_after(&self, text: &str) -> Option<u64> {
        let text = text.trim();
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let ms = if is_number {
            // More than fits is as long as we wait.
            text.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1000)
        } else {
            let then = httpdate::parse_http_date(text).ok()?;
            let then = then.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
            let now = u64::try_from((self.clock)().0).unwrap_or(0);
            u64::try_from(then).unwrap_or(u64::MAX).saturating_sub(now)
        };
        Some(bounded(ms))
    }

    /// Connects and greets by TLS, and sends nothing.
    pub(crate) async fn probe(&self, url: &Url, deadline: Duration) -> Result<String, String> {
        let end = Instant::now() + deadline.min(CONNECT_WAIT);
        let place = place_of(url);
        let host = url.host_str().unwrap_or_default();
        let target = HostPort::new(host.trim_matches(['[', ']']), url.port_or_known_default().unwrap_or(443));
        if let Some(proxy) = &self.proxy {
            let connected = proxy.connect(end).await;
            connected.map_err(|error| format!("the proxy {proxy}: {error}"))?;
            return Ok(format!("the proxy {proxy} takes connections; {place} was not asked"));
        }
        // A service's own host: the same rule as for requests.
        let addresses = target.resolve(end).await.map_err(|error| format!("{place}: {error}"))?;
        if !self.named.has(host) && !addresses.iter().any(|address| super::guard::is_outside(address.ip())) {
            return Err(format!("{place}: {Inside}"));
        }
        let stream = target.connect(end).await.map_err(|error| format!("{place}: {error}"))?;
        if url.scheme() == "http" {
            return Ok(format!("{place} takes connections"));
        }
        let name = self.alias.as_ref().map_or(target.host.as_str(), |(name, _)| name).to_owned();
        let name = ServerName::try_from(name).map_err(|error| format!("{place}: {error}"))?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        match timeout_at(end, connector.connect(name, stream)).await {
            Ok(Ok(_)) => Ok(format!("{place} takes connections, and its certificate is good")),
            Ok(Err(error)) => Err(format!("{place}: {error}")),
            Err(_) => Err(format!("{place}: no TLS in time")),
        }
    }
}

/// Within what is waited for.
pub(crate) fn bounded(ms: u64) -> u64 {
    ms.clamp(RETRY_AFTER_MS.0, RETRY_AFTER_MS.1)
}

fn only(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| names.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Trying again would lead to the same place.
fn refused(url: &Url, what: &str) -> Failure {
    Failure::permanent(format!("{}: {what}", place_of(url)))
}

/// A request that had no answer. Nothing of the URL but its host is in the words.
fn failed(url: &Url, error: reqwest::Error) -> Failure {
    let never_sent = error.is_connect() || error.is_builder();
    let error = error.without_url();
    let mut words = String::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        if cause.is::<Inside>() {
            return refused(url, &Inside.to_string());
        }
        // The innermost says most; what is around it names layers.
        words = cause.to_string();
        next = cause.source();
    }
    let words = format!("{}: {}", place_of(url), text::one_line(&text::cut(&words, WORDS_BYTES_MAX)));
    if never_sent { Failure::transient(words) } else { Failure::uncertain(words) }
}

fn client_config(settings: &ClientTls, https: bool) -> Result<ClientConfig, Vec<SettingsError>> {
    let identity = match (&settings.cert, &settings.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (Some(_), None) => {
            let mend = "add `key_file:`";
            return Err(vec![SettingsError::new("tls.cert_file", "a certificate without its key", mend)]);
        }
        (None, Some(_)) => {
            let mend = "add `cert_file:`";
            return Err(vec![SettingsError::new("tls.key", "a key without its certificate", mend)]);
        }
    };
    tls::client_with(settings.ca.as_deref(), identity, https).map_err(|trouble| {
        let (field, what) = match trouble {
            tls::Trouble::Authorities(what) => ("tls.ca_file", what),
            tls::Trouble::Identity(what) => ("tls.cert_file", what),
        };
        vec![SettingsError::new(field, what, "name a file in PEM")]
    })
}
