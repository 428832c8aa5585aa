//! Talks to a running router over HTTP, by TCP, TLS or its Unix socket.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{CliError, Exit, args::Server};
use crate::console;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Where the built-in default config has its socket.
const DEFAULT_SOCKET: &str = "ams2-data/ams2.sock";
/// Where the built-in default config listens.
const DEFAULT_URL: &str = "http://127.0.0.1:9093";

/// A way to one server.
pub(super) struct Client {
    target: Target,
    token: Option<String>,
    timeout: Duration,
}

enum Target {
    Socket(PathBuf),
    Tcp { at: Place },
    Tls { at: Place, host: String, config: Arc<rustls::ClientConfig> },
}

/// Where a URL leads.
struct Place {
    /// `host:port`.
    authority: String,
    /// What stands before every path, such as `/ams2` behind a proxy; empty for nothing.
    prefix: String,
}

/// What a server answered.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
    /// How many rows of how many it holds, where those are not all.
    pub truncated: Option<String>,
    /// From which sequence number on it knows, where it does not know all.
    pub known_from: Option<String>,
}

/// A list, and what its answer says of it.
pub(super) struct Rows<T> {
    pub rows: T,
    pub truncated: Option<String>,
    pub known_from: Option<String>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream whose write errors do not hide an answer. A server that refuses a request early answers and closes; who then
/// finds that it cannot write on has the answer to read yet. So what cannot be written is passed over, and the error told
/// only if nothing comes.
struct Patient {
    stream: Box<dyn Stream>,
    failed: Option<io::Error>,
    has_read: bool,
}

impl Patient {
    fn new(stream: Box<dyn Stream>) -> Patient {
        Patient { stream, failed: None, has_read: false }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.has_read = true;
        } else if !self.has_read
            && let Some(failed) = self.failed.take()
        {
            return Poll::Ready(Err(failed));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.failed.is_none() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)) {
                Err(error) => self.failed = Some(error),
                written => return Poll::Ready(written),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.is_none()
            && let Err(error) = ready!(Pin::new(&mut self.stream).poll_flush(cx))
        {
            self.failed = Some(error);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Client {
    pub fn new(server: &Server) -> Result<Client, CliError> {
        let to = server.to.clone().unwrap_or_else(|| match std::path::Path::new(DEFAULT_SOCKET).exists() {
            true => DEFAULT_SOCKET.into(),
            false => DEFAULT_URL.into(),
        });
        let target = if let Some(rest) = to.strip_prefix("http://") {
            Target::Tcp { at: place(rest, 80)? }
        } else if let Some(rest) = to.strip_prefix("https://") {
            let at = place(rest, 443)?;
            let host = at.authority.rsplit_once(':').map_or(at.authority.as_str(), |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Target::Tls { at, host, config: Arc::new(tls(server)?) }
        } else if to.contains("://") || to.parse::<std::net::SocketAddr>().is_ok() {
            return Err(CliError::new(
                Exit::Usage,
                format!("`{to}` is no server"),
                "write http://host:port, https://host:port or the path of a socket",
            ));
        } else {
            Target::Socket(to.trim_start_matches("unix:").into())
        };
        let token = server.token_file.as_deref().map(read_token).transpose()?;
        Ok(Client { target, token, timeout: Duration::from_secs(server.timeout.max(1)) })
    }

    /// Where it leads, for messages.
    pub fn name(&self) -> String {
        match &self.target {
            Target::Socket(path) => path.display().to_string(),
            Target::Tcp { at } => format!("http://{}{}", at.authority, at.prefix),
            Target::Tls { at, .. } => format!("https://{}{}", at.authority, at.prefix),
        }
    }

    pub async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.call(Method::GET, path, "application/json", Bytes::new()).await?;
        self.decode(answer.accepted()?)
    }

    /// The same of a list.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Rows<T>, CliError> {
        let mut answer = self.call(Method::GET, path, "application/json", Bytes::new()).await?;
        let (truncated, known_from) = (answer.truncated.take(), answer.known_from.take());
        Ok(Rows { rows: self.decode(answer.accepted()?)?, truncated, known_from })
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).expect("plain data encodes");
        let answer = self.call(Method::POST, path, "application/json", body.into()).await?;
        self.decode(answer.accepted()?)
    }

    fn decode<T: DeserializeOwned>(&self, body: Bytes) -> Result<T, CliError> {
        serde_json::from_slice(&body).map_err(|error| {
            let message = format!("{} answered something else than ams2 does: {error}", self.name());
            CliError::new(Exit::No, message, "see that --to leads to an ams2 of this version")
        })
    }

    /// One request and its answer, whatever the status. Fails only if there was no answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, CliError> {
        let exchange = self.exchange(method, path, content_type, body);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| {
            let message = format!("{} did not answer within {:?}", self.name(), self.timeout);
            Err(CliError::new(Exit::Unavailable, message, "is it overloaded? --timeout waits longer"))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, CliError> {
        let unreachable = |error: &dyn std::fmt::Display| {
            CliError::new(
                Exit::Unavailable,
                format!("no server answers at {}: {error}", self.name()),
                "start one with `ams2 serve`, or name another with --to",
            )
        };
        let (stream, host, prefix): (Box<dyn Stream>, &str, &str) = match &self.target {
            Target::Socket(path) => {
                (Box::new(UnixStream::connect(path).await.map_err(|e| unreachable(&e))?), "localhost", "")
            }
            Target::Tcp { at: Place { authority, prefix } } => {
                let stream = TcpStream::connect(authority).await.map_err(|e| unreachable(&e))?;
                stream.set_nodelay(true).map_err(|e| unreachable(&e))?;
                (Box::new(stream), authority, prefix)
            }
            Target::Tls { at: Place { authority, prefix }, host, config } => {
                let stream = TcpStream::connect(authority).await.map_err(|e| unreachable(&e))?;
                stream.set_nodelay(true).map_err(|e| unreachable(&e))?;
                let name = ServerName::try_from(host.clone())
                    .map_err(|e| CliError::new(Exit::Usage, format!("`{host}` is no host name: {e}"), ""))?;
                let connector = tokio_rustls::TlsConnector::from(config.clone());
                let stream = connector.connect(name, stream).await.map_err(|error| {
                    CliError::new(
                        Exit::Untrusted,
                        format!("TLS with {authority} failed: {error}"),
                        "name the file of the authority that signed its certificate with --ca-file",
                    )
                })?;
                (Box::new(stream), authority, prefix)
            }
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(Patient::new(stream)))
                .await
                .map_err(|e| unreachable(&e))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("ams2/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, content_type);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| CliError::new(Exit::Usage, format!("cannot ask for `{path}`: {error}"), ""))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        let said = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (truncated, known_from) = (said(console::TRUNCATED), said(console::KNOWN_FROM));
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => CliError::new(
                    Exit::No,
                    format!("the answer is too large: over {} MiB", ANSWER_BYTES_MAX >> 20),
                    "--limit asks for fewer rows, matchers for others",
                ),
                false => unreachable(&error),
            })?
            .to_bytes();
        driver.abort();
        Ok(Answer { status, body, truncated, known_from })
    }
}

impl Answer {
    /// Whether a POST of alerts got ams2's own word that they are kept: a network that wants a login says 200, too.
    pub fn keeps_alerts(&self) -> bool {
        self.status.is_success() && self.problem()["accepted"].is_u64()
    }

    /// Whether this is a word on the alerts themselves, which no waiting mends. What is said of the client (401, 403), of
    /// the server's own state, or by somebody on the way there is none: a setting is to be mended, and then they pass.
    /// Only a 413 is one whoever says it.
    pub fn judges_alerts(&self) -> bool {
        match self.status {
            StatusCode::PAYLOAD_TOO_LARGE => true,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                self.problem()["detail"].is_string()
            }
            StatusCode::FORBIDDEN => self.problem()["errors"].is_array(),
            _ => false,
        }
    }

    /// The body, if it is JSON.
    fn problem(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body of a 2xx; anything else as an error with the server's own words.
    pub fn accepted(self) -> Result<Bytes, CliError> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let exit = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
                Exit::Unavailable
            }
            // A gateway says 502 and 504 of a server that may be back soon. A reload that is refused is an answer.
            status if status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR => {
                Exit::Unavailable
            }
            _ => Exit::No,
        };
        let problem = self.problem();
        let text = |key: &str| problem[key].as_str().map(str::to_owned);
        let mut message =
            text("detail").unwrap_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned());
        for error in problem["errors"].as_array().into_iter().flatten() {
            let index = error["index"].as_u64().map(|index| format!("alert {index}: ")).unwrap_or_default();
            message.push_str(&format!("\n  {index}{}", error["detail"].as_str().unwrap_or_default()));
        }
        let mend = text("mend").unwrap_or_default();
        // The server's words may hold a stranger's: they break lines, and nothing else.
        let message: String = message
            .chars()
            .flat_map(|c| if c == '\n' { vec![c] } else { super::operate::printable(c) })
            .collect();
        Err(CliError::new(exit, format!("the server refused ({}): {message}", self.status), mend))
    }
}

/// `host:port` of what follows the scheme, and the path that every request is below.
fn place(rest: &str, default_port: u16) -> Result<Place, CliError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() || authority.contains('@') || path.contains(['?', '#']) {
        let message = format!("`{rest}` is no server");
        return Err(CliError::new(Exit::Usage, message, "write http://host:port or http://host:port/path"));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    let path = path.trim_matches('/');
    let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
    Ok(Place { authority, prefix })
}

fn read_token(path: &std::path::Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::new(Exit::Usage, format!("cannot read the token in {}: {error}", path.display()), "")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn tls(server: &Server) -> Result<rustls::ClientConfig, CliError> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = &server.ca_file {
        let wrong = |error: &dyn std::fmt::Display| {
            let message = format!("cannot use the certificates in {}: {error}", path.display());
            CliError::new(Exit::Usage, message, "")
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
            roots.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"the file holds none"));
        }
    } else {
        // One that cannot be read is missed only by servers that it signed.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let mend = "name the file of the authority that signed the server's with --ca-file";
            return Err(CliError::new(Exit::Usage, "this system has no certificates of authorities", mend));
        }
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
