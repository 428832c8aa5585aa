//! Requests: who asks, whether they may, and where it leads. Alerts are taken by `alerts`, pings by `pings`; every other path,
//! and with it a check-in, goes to the routes that were handed in, after the same questions.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ams2_handlers::forward::wire::PATH as FORWARD;
use axum::body::Body;
use bytes::Bytes;
use hyper::{Method, Request, Response, StatusCode, Uri, Version, body::Incoming, header};
use smol_str::SmolStr;
use tower::ServiceExt;

use super::{
    HttpLimits, Intake,
    alerts::{BODY_BYTES, Shape, take_alerts},
    auth::{Clients, KnownClient, Right, Sender},
    body::{Largest, read_body},
    enrol::Caller,
    forward::take_forwarded,
    http::{ANSWER_TIMES, Peer, Serving, Settings},
    inbound,
    pings::{self, take_ping},
    problem::Problem,
};
use crate::{
    alertmanager,
    console::{self, Denied, Operator},
    flight::{self, Room},
};

/// Where alerts are posted; a GET lists them.
const ALERTS: &str = "/api/v1/alerts";
/// Where clients say how they are.
const CHECK_IN: &str = "/api/v1/checkin";
/// Largest body of anything but alerts, in bytes: orders and silences are small.
const ORDER_BYTES_MAX: usize = 2 << 20;
/// Paths that anybody may ask: they say only whether we are well.
const OPEN_PATHS: [&str; 2] = ["/-/healthy", "/-/ready"];
/// How much longer a piece of an answer waits for room than the slowest reader may take.
const ROOM_MORE: Duration = Duration::from_secs(10);
/// How long an answer may take that waits for a far end or a file: longer than a test of an action.
const SLOW_TIME: Duration = Duration::from_secs(30);

/// Answers a request, whatever it is.
pub(super) async fn answer<I: Intake>(
    request: Request<Incoming>,
    peer: Peer,
    serving: &Serving<I>,
) -> Response<Body> {
    // RFC 9112 section 6.1: where a Content-Length stands beside it, nothing more may be read from the connection. The
    // HTTP library drops that one without a word, so this holds for all.
    let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = match route(request, peer, serving).await {
        Ok(mut response) => {
            let status = response.status();
            if let Some(Denied { client, what }) = response.extensions_mut().remove() {
                (serving.on_denied)(client, format!("{what} (from {})", peer.name()));
            }
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
    check_host(&request, peer, &settings.hosts)?;
    if !request.method().is_safe() {
        check_origin(&request)?;
    }
    if matches!(peer, Peer::Tcp { .. }) && !settings.prefix.is_empty() {
        if request.method().is_safe() && matches!(request.uri().path(), "/" | "") {
            let below = format!("{}/", settings.prefix);
            let response = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, below);
            return Ok(response.body(Body::empty()).expect("the config was checked"));
        }
        *request.uri_mut() = without_prefix(request.uri(), &settings.prefix)?;
    }
    let is_theirs = request.uri().path().starts_with(alertmanager::PATHS);
    let answered = answer_path(request, peer, serving, &settings).await;
    answered.map_err(|problem| if is_theirs { problem.in_their_shape() } else { problem })
}

/// Answers a request whose path is one of ours.
async fn answer_path<I: Intake>(
    request: Request<Incoming>,
    peer: Peer,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
) -> Result<Response<Body>, Problem> {
    let room = |whose: SmolStr| {
        let limits = &settings.limits;
        let patience = limits.answer_time * ANSWER_TIMES + ROOM_MORE;
        serving.in_flight.room(whose, limits.bytes_in_flight, limits.body_bytes, patience)
    };
    let path = request.uri().path();
    if OPEN_PATHS.contains(&path) {
        // Whoever it is: nothing is read from them.
        let request = request.map(|_| Body::empty());
        return routed(request, serving, &settings.limits).await;
    }
    if let Some(meant) = settings.inbound.find(request.method(), path) {
        // Whatever its method is, it may change something.
        check_origin(&request)?;
        return inbound::take(request, meant, peer, serving, settings, room).await;
    }
    if let Some(problem) = settings.inbound.other_method(request.method(), path) {
        return Err(problem);
    }
    if let Some(hook) = settings.inbound.beside(path)
        && let Some(problem) = inbound::no_such(&request, hook, peer, &settings.clients)
    {
        return Err(problem);
    }
    let sender = who(&request, peer, &settings.clients)?;
    let is_ping = path.starts_with(pings::PATHS);
    let is_forwarded = request.method() == Method::POST && path == FORWARD;
    let right = match request.method() {
        _ if is_ping => Right::Send,
        &Method::POST if [ALERTS, alertmanager::ALERTS, FORWARD, CHECK_IN].contains(&path) => Right::Send,
        method if method.is_safe() => Right::Read,
        _ => Right::Operate,
    };
    check_right(&sender, right)?;
    // Who has no name of its own shares with those that come from the same place.
    let room = room(sender.known.map_or_else(|| peer.name(), |client| client.name.clone()));
    if is_ping {
        // Whatever its method is, it changes something.
        check_origin(&request)?;
        let largest = largest_order(&settings.limits);
        return take_ping(request, sender, serving, settings, largest, room.flight()).await;
    }
    if is_forwarded {
        let from = sender.name.clone();
        let taken = take_forwarded(request, sender, serving, settings, room.flight()).await;
        return taken.inspect_err(|problem| serving.refusals.all(&from, problem));
    }
    if right == Right::Send && path == CHECK_IN {
        let mut request = request;
        request.extensions_mut().insert(Caller::of(&sender, peer.name()));
        let response = pass_on(request, Some(sender.name), serving, &settings.limits, room).await?;
        let accepted = u64::from(response.status().is_success());
        serving.metrics.check_ins.fetch_add(accepted, Ordering::Relaxed);
        return Ok(response);
    }
    if right == Right::Send {
        let shape = if path == ALERTS { Shape::Native } else { Shape::Alertmanager };
        let from = sender.name.clone();
        let taken = take_alerts(request, sender, serving, settings, shape, room.flight()).await;
        return taken.inspect_err(|problem| serving.refusals.all(&from, problem));
    }
    let is_alerts = path == ALERTS || path == alertmanager::ALERTS;
    let mut response = pass_on(request, Some(sender.name), serving, &settings.limits, room).await?;
    if is_alerts && let Some(allow) = response.headers_mut().get_mut(header::ALLOW) {
        // The routes behind do not know that posts are taken here.
        *allow = header::HeaderValue::from_static("GET,HEAD,POST");
    }
    Ok(response)
}

/// Whether whoever sends may do what is asked.
pub(super) fn check_right(sender: &Sender<'_>, right: Right) -> Result<(), Problem> {
    let Some(client) = sender.known.filter(|client| !client.has(right)) else { return Ok(()) };
    let detail = format!("the client `{}` may not {}", sender.name, right.what());
    let mend = format!("add `{}` to its `may:` in the config", right.word());
    let client = Some(client.name.as_str().into());
    Err(Problem { client, ..Problem::new(StatusCode::FORBIDDEN, detail, mend) })
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

/// A page of another site may make a browser post here, or ping; what shows a token is no concern.
fn check_origin(request: &Request<Incoming>) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.contains_key(header::AUTHORIZATION) {
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
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        return token.map_or_else(|| Err(unauthorized()), |token| of_token(token, clients));
    }
    unnamed(peer, clients)
}

/// Who has a token.
pub(super) fn of_token<'c>(token: &str, clients: &'c Clients) -> Result<Sender<'c>, Problem> {
    clients.by_token(token).map(named).ok_or_else(unauthorized)
}

fn named(client: &KnownClient) -> Sender<'_> {
    Sender { name: client.name.clone(), known: Some(client) }
}

/// Who sends without a token.
pub(super) fn unnamed(peer: Peer, clients: &Clients) -> Result<Sender<'_>, Problem> {
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

/// The largest body of anything but alerts.
fn largest_order(limits: &HttpLimits) -> Largest {
    let (bytes, by) = match limits.body_bytes < ORDER_BYTES_MAX {
        true => (limits.body_bytes, BODY_BYTES),
        false => (ORDER_BYTES_MAX, "no order is larger"),
    };
    Largest { bytes, by, mend: "send less in one request" }
}

async fn pass_on<I: Intake>(
    request: Request<Incoming>,
    operator: Option<SmolStr>,
    serving: &Serving<I>,
    limits: &HttpLimits,
    room: Room,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let largest = largest_order(limits);
    let mut flight = room.flight();
    let body = match hyper::body::Body::is_end_stream(&body) {
        true => Bytes::new(),
        false => read_body(Request::new(body), largest, limits, &mut flight).await?,
    };
    let mut request = Request::from_parts(head, Body::from(body));
    request.extensions_mut().insert(room);
    if let Some(name) = operator {
        request.extensions_mut().insert(Operator(name));
    }
    let answered = routed(request, serving, limits).await;
    // The body was in memory until here.
    drop(flight);
    answered
}

/// What a path answers, in time.
async fn routed<I: Intake>(
    request: Request<Body>,
    serving: &Serving<I>,
    limits: &HttpLimits,
) -> Result<Response<Body>, Problem> {
    let mut time = limits.body_time * 2;
    if console::SLOW_PATHS.contains(&request.uri().path()) {
        time = time.max(SLOW_TIME);
    }
    match tokio::time::timeout(time, serving.routes.clone().oneshot(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => {
            let problem =
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long".into(), "try again");
            Err(Problem { retry_after: Some(flight::RETRY_AFTER), ..problem })
        }
    }
}
