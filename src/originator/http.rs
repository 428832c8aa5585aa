//! HTTP, over TCP, TLS and the Unix socket: the same protocol, the same limits. Alerts are taken here; every other
//! path goes to the routes that are handed in, after the same questions who asks.

use std::{
    borrow::Cow,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, RwLock, atomic::Ordering},
    time::Duration,
};

use ams2_core::{AlertBatch, input::Arrival};
use axum::body::Body;
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version, body::Incoming, header,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::ServiceExt;

use super::{
    HttpLimits, Intake, OriginatorMetrics,
    auth::{Clients, KnownClient, Right, Sender},
    body::{Largest, inflate, read_body},
    drip::Dripping,
    json::{self, AlertProblem, BadBody, Limits, Mistakes},
    linger::{Lingering, Unread},
};
use crate::{
    alertmanager,
    console::{self, Operator},
    flight::{self, Flight, Flights, Full, Room},
    journal::Refused,
    pool::Pool,
};

/// How long a connection may go on after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(3);
/// Where alerts are posted; a GET lists them.
const ALERTS: &str = "/api/v1/alerts";
/// Bodies of at most so many bytes are read where they arrive: some milliseconds of work.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Largest body of what is neither alerts nor a silence of Alertmanager's API, in bytes: orders are small.
const ORDER_BYTES_MAX: usize = 2 << 20;
/// A whole answer may take so many times as long to be read as one piece of it.
const ANSWER_TIMES: u32 = 10;
/// Paths that anybody may ask: they say only whether we are well.
const OPEN_PATHS: [&str; 2] = ["/-/healthy", "/-/ready"];

/// How long an answer may take that waits for a far end or a file: longer than a test of an action.
const SLOW_TIME: Duration = Duration::from_secs(30);

/// TLS for a listener.
pub type Tls = Arc<rustls::ServerConfig>;

/// One way in.
pub enum Listener {
    /// TCP, with TLS if the settings have it.
    Tcp(TcpListener),
    /// The Unix socket.
    Socket(UnixListener),
}

/// What the config says of the ways in. A reload puts others in force, for requests that come then.
#[derive(Clone)]
pub struct Settings {
    /// Who may come.
    pub clients: Arc<Clients>,
    /// Limits of listeners.
    pub limits: HttpLimits,
    /// Limits of alerts.
    pub alert_limits: Limits,
    /// Names that a request's `Host` may have besides addresses and `localhost`; empty: any, if not bound to loopback.
    pub hosts: Vec<String>,
    /// What stands before every path on TCP listeners, such as `/alerts`; may be empty.
    pub prefix: SmolStr,
    /// Certificate and key of TCP listeners.
    pub tls: Option<Tls>,
}

/// What every listener shares.
pub struct Serving<I> {
    /// Takes alerts.
    pub intake: I,
    /// Everything but the posting of alerts.
    pub routes: axum::Router,
    /// What the config in force says.
    pub settings: RwLock<Arc<Settings>>,
    /// Counts.
    pub metrics: Arc<OriginatorMetrics>,
    /// Told of everybody who was refused: the client, or where from if it is not known, and what was tried.
    pub on_denied: Box<dyn Fn(SmolStr, String) + Send + Sync>,
    /// Bytes of bodies, of what they inflate to, and of answers.
    pub in_flight: Flights,
    /// Who reads alerts out of large bodies.
    pub readers: Readers,
}

/// Threads that read large bodies, and turns at them: who hangs up while waiting for one has nothing read.
pub struct Readers {
    turns: Semaphore,
    threads: Pool,
}

impl Readers {
    /// As many as there are processors: more would only take them from each other.
    pub fn new() -> io::Result<Readers> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Readers { turns: Semaphore::new(count), threads: Pool::new("ams2-bodies", count)? })
    }
}

impl<I> Serving<I> {
    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Tcp { address: SocketAddr, loopback_listener: bool },
    Unix { uid: u32 },
}

impl Peer {
    fn name(self) -> SmolStr {
        match self {
            Peer::Tcp { address, .. } => address.ip().to_smolstr(),
            Peer::Unix { uid } => format_smolstr!("uid:{uid}"),
        }
    }
}

/// Accepts connections until `stop` says so, then waits a little for those that are open.
pub async fn serve<I: Intake>(listener: Listener, serving: Arc<Serving<I>>, mut stop: watch::Receiver<bool>) {
    let connections = serving.settings().limits.connections;
    let slots = Arc::new(Semaphore::new(connections));
    let addresses = Arc::new(Addresses::default());
    let local = match &listener {
        Listener::Tcp(listener) => listener.local_addr().is_ok_and(|address| address.ip().is_loopback()),
        Listener::Socket(_) => true,
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = told(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, address),
            Err(error) => {
                // Out of descriptors, mostly: accepting again at once would spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = match peer {
            Peer::Tcp { address, .. } => Peer::Tcp { address, loopback_listener: local },
            other => other,
        };
        let settings = serving.settings();
        let most = settings.limits.connections_per_address;
        let slot = slots.clone().try_acquire_owned().ok().zip(addresses.enter(peer, most));
        let Some((slot, place)) = slot else {
            serving.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let tls = match &listener {
            Listener::Tcp(_) => settings.tls.clone(),
            Listener::Socket(_) => None,
        };
        tokio::spawn(connection(stream, tls, peer, serving.clone(), stop.clone(), slot, place));
    }
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    // Whoever is not done by then is cut off: nothing that was not answered was promised.
    drop(tokio::time::timeout(DRAIN, slots.acquire_many(all)).await);
}

/// Waits until the process is told to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    drop(stop.wait_for(|stop| *stop).await);
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(listener: &Listener) -> io::Result<(Box<dyn Stream>, Peer)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Peer::Tcp { address, loopback_listener: false }))
        }
        Listener::Socket(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok((Box::new(stream), Peer::Unix { uid }))
        }
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

struct Place {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
}

impl Addresses {
    fn enter(self: &Arc<Self>, peer: Peer, most: usize) -> Option<Place> {
        let address = match peer {
            Peer::Tcp { address, .. } => Some(address.ip()),
            Peer::Unix { .. } => None,
        };
        if let Some(address) = address {
            let mut counts = self.0.lock().unwrap_or_else(|e| e.into_inner());
            let count = counts.entry(address).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut counts = self.addresses.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

async fn connection<I: Intake>(
    stream: Box<dyn Stream>,
    tls: Option<Tls>,
    peer: Peer,
    serving: Arc<Serving<I>>,
    mut stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
    _place: Place,
) {
    let limits = serving.settings().limits.clone();
    let stream: Box<dyn Stream> = match tls {
        None => stream,
        Some(config) => {
            let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(limits.handshake_time, handshake).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => {
                    tracing::debug!(peer = %peer.name(), %error, "TLS handshake refused");
                    return;
                }
                Err(_) => return,
            }
        }
    };
    let mut stream = tokio_io_timeout::TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.answer_time));
    let unread = Unread::default();
    let stream = Dripping::new(Box::pin(stream), limits.answer_time * ANSWER_TIMES);
    let stream = Lingering::new(stream, unread.clone());
    serving.metrics.connections.fetch_add(1, Ordering::Relaxed);
    let service = service_fn(|request: Request<Incoming>| {
        let (serving, unread) = (serving.clone(), unread.clone());
        async move {
            let has_body = !hyper::body::Body::is_end_stream(request.body());
            let response = answer(request, peer, &serving).await;
            unread.set(has_body && !response.status().is_success());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .max_headers(limits.headers)
        // Some say that their request is whole by closing their side; they still listen.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if error.is_parse() {
            // The HTTP library has answered it.
            serving.metrics.refused(StatusCode::BAD_REQUEST.as_u16());
        }
        tracing::debug!(peer = %peer.name(), %error, "connection ended early");
    }
    serving.metrics.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn answer<I: Intake>(request: Request<Incoming>, peer: Peer, serving: &Serving<I>) -> Response<Body> {
    // RFC 9112 section 6.1: where a Content-Length stands beside it, nothing more may be read from the connection. The
    // HTTP library drops that one without a word, so this holds for all.
    let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = match route(request, peer, serving).await {
        Ok(response) => {
            let status = response.status();
            if status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE {
                serving.metrics.refused(status.as_u16());
            }
            response
        }
        Err(problem) => {
            serving.metrics.refused(problem.status.as_u16());
            if matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                let (from, what) = match &problem.client {
                    Some(client) => {
                        (SmolStr::new(client), format!("{} (from {})", problem.detail, peer.name()))
                    }
                    None => (peer.name(), problem.detail.clone()),
                };
                (serving.on_denied)(from, what);
            }
            problem.into_response()
        }
    };
    // What fires changes from one moment to the next: no cache between may answer for us.
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if is_last {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}

async fn route<I: Intake>(
    mut request: Request<Incoming>,
    peer: Peer,
    serving: &Serving<I>,
) -> Result<Response<Body>, Problem> {
    check_one_host(&request)?;
    let settings = serving.settings();
    let room = |whose: SmolStr| {
        let limits = &settings.limits;
        serving.in_flight.room(whose, limits.bytes_in_flight, limits.body_bytes)
    };
    check_host(&request, peer, &settings.hosts)?;
    check_origin(&request)?;
    if matches!(peer, Peer::Tcp { .. }) && !settings.prefix.is_empty() {
        if request.method().is_safe() && matches!(request.uri().path(), "/" | "") {
            let below = format!("{}/", settings.prefix);
            let response = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, below);
            return Ok(response.body(Body::empty()).expect("the config was checked"));
        }
        *request.uri_mut() = without_prefix(request.uri(), &settings.prefix)?;
    }
    let path = request.uri().path();
    if OPEN_PATHS.contains(&path) {
        return pass_on(request, None, serving, &settings.limits, room(peer.name())).await;
    }
    let sender = who(&request, peer, &settings.clients)?;
    let right = match request.method() {
        &Method::POST if path == ALERTS || path == alertmanager::ALERTS => Right::Send,
        method if method.is_safe() => Right::Read,
        _ => Right::Operate,
    };
    if let Some(client) = sender.known
        && !client.has(right)
    {
        return Err(Problem {
            client: Some(client.name.as_str().into()),
            ..Problem::new(
                StatusCode::FORBIDDEN,
                format!("the client `{}` may not {}", sender.name, right.what()),
                format!("add `{}` to its `may:` in the config", right.word()),
            )
        });
    }
    // Who has no name of its own shares with those that come from the same place.
    let room = room(sender.known.map_or_else(|| peer.name(), |client| client.name.clone()));
    if right == Right::Send {
        let shape = if path == ALERTS { Shape::Native } else { Shape::Alertmanager };
        return take_alerts(request, sender, serving, &settings, shape, room.flight()).await;
    }
    let is_alerts = path == ALERTS || path == alertmanager::ALERTS;
    let mut response = pass_on(request, Some(sender.name), serving, &settings.limits, room).await?;
    if is_alerts && let Some(allow) = response.headers_mut().get_mut(header::ALLOW) {
        // The routes behind do not know that posts are taken here.
        *allow = header::HeaderValue::from_static("GET,HEAD,POST");
    }
    Ok(response)
}

/// Where a request leads that came below `prefix`. What came beside it is for another program behind the same name.
fn without_prefix(uri: &Uri, prefix: &str) -> Result<Uri, Problem> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let rest = path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let rest = rest.map(|rest| if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") });
    rest.and_then(|rest| rest.parse().ok()).ok_or_else(|| {
        let detail = format!("this server answers below {prefix} only");
        Problem::new(StatusCode::NOT_FOUND, detail, format!("put {prefix} before the path"))
    })
}

/// RFC 9112 section 3.2: exactly one Host, from clients of HTTP/1.1.
fn check_one_host(request: &Request<Incoming>) -> Result<(), Problem> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the request has {hosts} Host headers"),
            "send exactly one",
        ));
    }
    Ok(())
}

/// A browser that was led here by another name (DNS rebinding) is sent away where nobody needs a token.
fn check_host(request: &Request<Incoming>, peer: Peer, hosts: &[String]) -> Result<(), Problem> {
    let Some(host) = request.headers().get(header::HOST) else { return Ok(()) };
    let Ok(host) = host.to_str() else {
        let detail = "the Host header has bytes that no name has".to_owned();
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail, "send the server's name or address"));
    };
    let loopback = matches!(peer, Peer::Tcp { loopback_listener: true, .. });
    if !loopback && hosts.is_empty() {
        return Ok(());
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if address || name.eq_ignore_ascii_case("localhost") || hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
    {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        format!("this server is not `{name}`"),
        "use its address, or name it in originator.http.hosts",
    ))
}

/// A page of another site may make a browser post here; what changes nothing, and what shows a token, is no concern.
fn check_origin(request: &Request<Incoming>) -> Result<(), Problem> {
    let headers = request.headers();
    if request.method().is_safe() || headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let own =
        |origin: &str| origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    let is_foreign = text("origin").is_some_and(|origin| !own(origin))
        || text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if is_foreign {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "a page of another site may not do this".into(),
            "send it without a browser, or with the token of a client",
        ));
    }
    Ok(())
}

/// Who sends: by token, by Unix user, or anybody on this machine where the config names no clients. Who runs the router
/// can do as they like anyhow.
fn who<'c>(request: &Request<Incoming>, peer: Peer, clients: &'c Clients) -> Result<Sender<'c>, Problem> {
    let named = |client: &'c KnownClient| Sender { name: client.name.clone(), known: Some(client) };
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        return token.and_then(|token| clients.by_token(token)).map(named).ok_or_else(unauthorized);
    }
    match peer {
        Peer::Unix { uid } => {
            let ours = uid == 0 || uid == rustix::process::geteuid().as_raw();
            match clients.by_uid(uid) {
                Some(client) => Ok(named(client)),
                None if clients.need_names() && !ours => Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    format!("the Unix user {uid} is no client"),
                    "add it to originator.clients with its uid, or send the token of a client",
                )),
                None => Ok(Sender { name: peer.name(), known: None }),
            }
        }
        Peer::Tcp { .. } if clients.need_names() => Err(unauthorized()),
        Peer::Tcp { loopback_listener: true, .. } => {
            Ok(Sender { name: SmolStr::new_static("local"), known: None })
        }
        // Only where the config says `insecure: true`.
        Peer::Tcp { .. } => Ok(Sender { name: peer.name(), known: None }),
    }
}

fn unauthorized() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "a valid token is required".into(),
        "send `Authorization: Bearer <token>` with the token of a client in the config",
    )
}

async fn pass_on<I: Intake>(
    request: Request<Incoming>,
    operator: Option<SmolStr>,
    serving: &Serving<I>,
    limits: &HttpLimits,
    room: Room,
) -> Result<Response<Body>, Problem> {
    let is_v2 = request.uri().path().starts_with("/api/v2/");
    let (head, body) = request.into_parts();
    let (bytes, by) = match limits.body_bytes < ORDER_BYTES_MAX {
        true => (limits.body_bytes, BODY_BYTES),
        false => (ORDER_BYTES_MAX, "no order is larger"),
    };
    let largest = Largest { bytes, by, mend: "send less in one request" };
    let mut flight = room.flight();
    let body = match hyper::body::Body::is_end_stream(&body) {
        true => Bytes::new(),
        false => {
            let read = read_body(Request::new(body), largest, limits, &mut flight).await;
            read.map_err(|problem| Problem { v2: is_v2.then(|| problem.status.as_u16().into()), ..problem })?
        }
    };
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(room);
    if let Some(name) = operator {
        request.extensions_mut().insert(Operator(name));
    }
    let mut time = limits.body_time * 2;
    if console::SLOW_PATHS.contains(&request.uri().path()) {
        time = time.max(SLOW_TIME);
    }
    let routed = tokio::time::timeout(time, serving.routes.clone().oneshot(request)).await;
    // The body was in memory until here.
    drop(flight);
    match routed {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long".into(), "try again"))
        }
    }
}

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Native,
    Alertmanager,
}

async fn take_alerts<I: Intake>(
    request: Request<Incoming>,
    sender: Sender<'_>,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
    shape: Shape,
    mut flight: Flight,
) -> Result<Response<Body>, Problem> {
    let gzip = is_gzip(request.headers())?;
    let body = read_body(request, largest_of_alerts(&settings.limits), &settings.limits, &mut flight).await?;
    let (read, _flight) = if body.len() <= INLINE_BYTES_MAX && !gzip {
        (read_alerts(&body, None, settings, shape)?, flight)
    } else {
        // Much of it takes long enough for others to wait on this thread.
        let (settings, body) = (settings.clone(), body);
        let _turn = serving.readers.turns.acquire().await.expect("nobody closes it");
        let reading = serving.readers.threads.run(move || {
            let read = read_alerts(&body, gzip.then_some(&mut flight), &settings, shape)?;
            Ok::<_, Problem>((read, flight))
        });
        let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug".into(), "");
        reading.await.map_err(bug)??
    };
    let ReadAlerts { batch, bytes, mistakes } = read;
    if batch.is_empty() {
        return Ok(match shape {
            Shape::Native => json_response(StatusCode::OK, "{\"accepted\":0}".into()),
            Shape::Alertmanager => answer_v2(&mistakes),
        });
    }
    if let Some(client) = sender.known {
        let refused = Mistakes::one_each(batch.iter().enumerate().filter_map(|(index, alert)| {
            let matcher = settings.clients.refuses(client, &alert)?;
            let detail =
                format!("the client `{}` may only send alerts with {}", client.name, matcher.matcher);
            Some(AlertProblem { index, pointer: "/labels".into(), detail })
        }));
        if let Some(first) = refused.listed.first() {
            // Whoever reads of it in the log or in an own alert knows neither the client nor the alert.
            let detail = format!("{}; none was accepted", first.detail);
            let client = Some(client.name.as_str().into());
            return Err(Problem { status: StatusCode::FORBIDDEN, detail, client, ..invalid(refused) });
        }
    }
    let count = batch.len() as u64;
    let accepted = serving.intake.accept(Arrival { client: sender.name, batch: Arc::new(batch) }).await?;
    serving.metrics.requests.fetch_add(1, Ordering::Relaxed);
    serving.metrics.alerts.fetch_add(count, Ordering::Relaxed);
    serving.metrics.bytes.fetch_add(bytes, Ordering::Relaxed);
    let (first, last) = (accepted.first, accepted.last);
    if shape == Shape::Alertmanager {
        return Ok(answer_v2(&mistakes));
    }
    let text = format!("{{\"accepted\":{count},\"sequence\":{{\"first\":{first},\"last\":{last}}}}}");
    let mut response = json_response(StatusCode::OK, text);
    let sequence =
        header::HeaderValue::from_str(&format!("{first}-{last}")).expect("digits are a header value");
    response.headers_mut().insert("ams2-sequence", sequence);
    Ok(response)
}

/// The setting of the largest body.
const BODY_BYTES: &str = "originator.http.limits.body_bytes";

fn largest_of_alerts(limits: &HttpLimits) -> Largest {
    Largest { bytes: limits.body_bytes, by: BODY_BYTES, mend: "send the alerts in several requests" }
}

/// Alertmanager's answer: nothing, or what is wrong with those alerts that were not taken.
fn answer_v2(mistakes: &Mistakes) -> Response<Body> {
    match mistakes.alerts {
        0 => Response::new(Body::empty()),
        _ => json_response(StatusCode::BAD_REQUEST, alertmanager::bad_alerts(mistakes)),
    }
}

/// The alerts of a body, its size without compression, and what is wrong with those that are left out.
struct ReadAlerts {
    batch: AlertBatch,
    bytes: u64,
    mistakes: Mistakes,
}

/// Reads the alerts of a body. One that is compressed is inflated, and what it becomes counted in its `flight`.
fn read_alerts(
    body: &[u8],
    flight: Option<&mut Flight>,
    settings: &Settings,
    shape: Shape,
) -> Result<ReadAlerts, Problem> {
    let largest = largest_of_alerts(&settings.limits);
    let inflated = flight.map(|flight| inflate(body, largest, flight)).transpose()?;
    let whole = inflated.as_deref().unwrap_or(body);
    let text = std::str::from_utf8(whole).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not UTF-8 at byte {at}"),
            "send JSON in UTF-8",
        )
    })?;
    let bytes = whole.len() as u64;
    let limits = &settings.alert_limits;
    match shape {
        Shape::Native => {
            let batch = json::parse(text, limits).map_err(invalid)?;
            Ok(ReadAlerts { batch, bytes, mistakes: Mistakes::default() })
        }
        Shape::Alertmanager => {
            let (batch, mistakes) = json::parse_v2(text, limits).map_err(|bad| {
                let (status, code, message) = match bad {
                    BadBody::Empty => {
                        (StatusCode::UNPROCESSABLE_ENTITY, 602, "alerts in body is required".into())
                    }
                    BadBody::NoLabels(index) => {
                        (StatusCode::UNPROCESSABLE_ENTITY, 602, format!("{index}.labels in body is required"))
                    }
                    BadBody::Malformed(why) => (
                        StatusCode::BAD_REQUEST,
                        400,
                        format!("parsing alerts body from \"\" failed, because {why}"),
                    ),
                };
                Problem { v2: Some(code), ..Problem::new(status, message, "") }
            })?;
            Ok(ReadAlerts { batch, bytes, mistakes })
        }
    }
}

/// Whether the body is compressed. RFC 9110 section 8.4.1: names of encodings have no case.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter().map(header::HeaderValue::as_bytes);
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"identity") => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case(b"gzip") => Ok(true),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this Content-Encoding is not understood".into(),
            "send gzip, once, or none",
        )),
    }
}

/// An error answer: problem+json (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    mend: Cow<'static, str>,
    errors: Vec<AlertProblem>,
    retry_after: Option<Duration>,
    /// Alertmanager's code, where the answer has its shape.
    v2: Option<u32>,
    /// Who was refused, where that is known.
    client: Option<Box<str>>,
}

impl Problem {
    /// RFC 9457.
    fn problem_json(&self) -> Response<Body> {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "mend": self.mend,
        });
        if !self.errors.is_empty() {
            body["errors"] = serde_json::to_value(&self.errors).expect("plain data encodes");
        }
        let mut response = json_response(self.status, body.to_string());
        let of_problems = header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, of_problems);
        response
    }

    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn new(status: StatusCode, detail: String, mend: impl Into<Cow<'static, str>>) -> Problem {
        let mend = mend.into();
        Problem { status, detail, mend, errors: Vec::new(), retry_after: None, v2: None, client: None }
    }

    fn into_response(self) -> Response<Body> {
        let mut response = match self.v2 {
            Some(code) => {
                let body = serde_json::json!({ "code": code, "message": self.detail });
                json_response(self.status, body.to_string())
            }
            None => self.problem_json(),
        };
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        let unread = matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
        if unread {
            // The rest of the body is not worth reading.
            headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        response
    }
}

fn invalid(mistakes: Mistakes) -> Problem {
    let detail = match mistakes.alerts {
        1 => "one alert is wrong; none was accepted".to_owned(),
        count => format!("{count} alerts are wrong; none was accepted"),
    };
    Problem {
        errors: mistakes.listed,
        ..Problem::new(StatusCode::BAD_REQUEST, detail, "mend what `errors` names and send all again")
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Problem {
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string(), "send it again a little later");
        Problem { retry_after: Some(flight::RETRY_AFTER), ..problem }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let (status, retry_after, mend) = match refused {
            Refused::TooLarge { .. } => {
                let mend = "send the alerts in several requests";
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, refused.to_string(), mend);
            }
            Refused::Busy { retry_after } => {
                (StatusCode::TOO_MANY_REQUESTS, retry_after, "send it again later")
            }
            Refused::Stalled { retry_after } => {
                (StatusCode::SERVICE_UNAVAILABLE, retry_after, "see to the disk of the data folder")
            }
            Refused::DiskFull { retry_after } => {
                (StatusCode::SERVICE_UNAVAILABLE, retry_after, "make room on the disk of the data folder")
            }
            Refused::Failed => {
                (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(30), "see the server's log")
            }
            Refused::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(2), "send it again later")
            }
        };
        Problem { retry_after: Some(retry_after), ..Problem::new(status, refused.to_string(), mend) }
    }
}

fn json_response(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
