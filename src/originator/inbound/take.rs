//! One request of a hook: who sends it, what alerts it is, and what is answered once they are kept.

use std::sync::{Arc, atomic::Ordering};

use ams2_core::{
    AlertBatch, BatchBuilder, Input, Wall,
    batch::AlertTimes,
    input::{Acknowledge, AlertKey, Arrival, Ping, PingKind},
};
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, header};
use serde_json::Value as Node;
use smol_str::SmolStr;

use super::{
    Meant, Token,
    request::{REQUEST, RequestFields, beside},
};
use crate::{
    flight::{Flight, Room},
    originator::{
        Intake,
        alerts::{INLINE_BYTES_MAX, check_allowed, is_gzip, largest_of_alerts},
        auth::{Right, Sender},
        body::read_body,
        http::{Peer, Serving, Settings},
        mapping::{Acknowledged, Bounds, Json, Mapped, raw_alert},
        problem::Problem,
        requests::{check_right, of_token, unnamed},
    },
};

/// A tree of JSON takes some times as much memory as its text.
const TREE_TIMES: usize = 6;

/// Answers a request that a hook takes.
pub(in crate::originator) async fn take<I: Intake>(
    request: Request<Incoming>,
    meant: Meant<'_>,
    peer: Peer,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
    room: impl Fn(SmolStr) -> Room,
) -> Result<Response<Body>, Problem> {
    let mut seen = Seen::default();
    let taken = read_and_keep(request, &meant, peer, serving, settings, room, &mut seen).await;
    let problem = match taken {
        Ok(response) => return Ok(response),
        Err(problem) => problem,
    };
    serving.refusals.all(seen.from.as_ref().unwrap_or(&peer.name()), &problem);
    // Whoever counts refusals and tells of them reads the status; the body is for the sender.
    let words = |text: Node| serde_json::json!({ "problem": text, REQUEST: seen.request });
    Err(Problem { answer: meant.hook.answers.to(&problem, &words), ..problem })
}

/// What is known of a request, however far it came.
#[derive(Default)]
struct Seen {
    from: Option<SmolStr>,
    request: Node,
}

async fn read_and_keep<I: Intake>(
    request: Request<Incoming>,
    meant: &Meant<'_>,
    peer: Peer,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
    room: impl Fn(SmolStr) -> Room,
    seen: &mut Seen,
) -> Result<Response<Body>, Problem> {
    let clients = &settings.clients;
    let known = |token: Option<&str>| match token {
        Some(token) if clients.need_names() => of_token(token, clients),
        _ => unnamed(peer, clients),
    };
    let given = token_in(request.headers(), &meant.hook.token);
    // Who stands in the body is known once it is read.
    let early = match (&given, &meant.hook.token) {
        (None, Token::Body(_)) => None,
        (given, _) => Some(known(given.as_deref())?),
    };
    let whose = early.as_ref().and_then(|sender| sender.known);
    let room = room(whose.map_or_else(|| peer.name(), |client| client.name.clone()));
    let mut flight = room.flight();
    if is_gzip(request.headers())? {
        let detail = "this body is compressed".to_owned();
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail, "send it as it is"));
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let generated = random_id()?;
    seen.request = beside(&meant.path, &query, &generated, "");
    let text = read_body(request, largest_of_alerts(&settings.limits), &settings.limits, &mut flight).await?;
    let (body, _flight) = parsed(text.clone(), serving, flight).await?;
    let sender = match (early, &meant.hook.token) {
        (Some(sender), _) => sender,
        (None, Token::Body(path)) => known(Json(&body).into_text(path.steps()).as_deref())?,
        (None, _) => known(None)?,
    };
    check_right(&sender, Right::Send)?;
    seen.from = Some(sender.name.clone());
    seen.request["client"] = Node::String(sender.name.to_string());
    let fields = RequestFields { body: &body, request: &seen.request };
    let now = Wall(jiff::Timestamp::now().as_millisecond());
    let (batch, more) = mapped(meant, &fields, &text, &generated, settings, now)?;
    if let Some(client) = sender.known {
        check_allowed(client, &batch, settings)?;
    }
    let count = batch.len() as u64;
    if count > 0 {
        serving.intake.accept(Arrival { client: sender.name.clone(), batch: Arc::new(batch) }).await?;
    }
    match more {
        None => {}
        Some(More::Acknowledged(acknowledged)) => {
            serving.intake.accept_other(acknowledge(acknowledged, &sender)).await?;
        }
        Some(More::Ping(name)) => {
            let (name, client) = (settings.heartbeats.check(&name, &sender, clients)?, sender.name.clone());
            let ping = Ping { name, kind: PingKind::Success, client, words: String::new() };
            serving.intake.accept_other(Input::Ping(ping)).await?;
            serving.metrics.pings.fetch_add(1, Ordering::Relaxed);
        }
    }
    serving.metrics.requests.fetch_add(1, Ordering::Relaxed);
    serving.metrics.alerts.fetch_add(count, Ordering::Relaxed);
    serving.metrics.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
    Ok(meant.request.answer.to(&fields))
}

/// The body as JSON; a large one is read where nobody else waits for it.
async fn parsed<I>(text: Bytes, serving: &Serving<I>, mut flight: Flight) -> Result<(Node, Flight), Problem> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok((Node::Null, flight));
    }
    flight.add(text.len() * TREE_TIMES)?;
    let parse = |text: &[u8]| {
        serde_json::from_slice::<Node>(text).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {error}"), "send JSON")
        })
    };
    if text.len() <= INLINE_BYTES_MAX {
        return Ok((parse(&text)?, flight));
    }
    let _turn = serving.body_readers.turns.acquire().await.expect("nobody closes it");
    let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug".into(), "");
    Ok((serving.body_readers.threads.run(move || parse(&text)).await.map_err(bug)??, flight))
}

/// What a request says that is no alert.
#[derive(Debug)]
pub(super) enum More {
    Acknowledged(Acknowledged),
    /// The heartbeat of this name is heard of.
    Ping(String),
}

/// The alerts of a request. What no rule takes is kept as it came.
fn mapped(
    meant: &Meant<'_>,
    fields: &RequestFields<'_>,
    text: &[u8],
    generated: &str,
    settings: &Settings,
    now: Wall,
) -> Result<(AlertBatch, Option<More>), Problem> {
    let bounds = Bounds { severities: &settings.clients.severities, limits: &settings.alert_limits, now };
    let mut batch = BatchBuilder::with_capacity(text.len());
    let why = match meant.request.mapping.map(fields, bounds, &mut batch) {
        Mapped::Alerts(_) | Mapped::Dropped => return Ok((batch.finish(), None)),
        Mapped::Acknowledged(acknowledged) => {
            return Ok((batch.finish(), Some(More::Acknowledged(acknowledged))));
        }
        Mapped::Ping(name) => return Ok((batch.finish(), Some(More::Ping(name)))),
        Mapped::Refused(why) => {
            return Err(Problem::new(StatusCode::BAD_REQUEST, why, "see the sender's documentation"));
        }
        Mapped::NoAlert => "there is no alert in it".to_owned(),
        Mapped::NoRule => format!("no rule of {} takes it", meant.hook.name),
    };
    let raw = String::from_utf8_lossy(text);
    raw_alert(&mut batch, bounds, &[("event", "Unknown Message"), ("inbound", &meant.hook.name)], &raw, &why);
    let times = AlertTimes::default();
    batch.finish_alert(times, Some(generated), None).expect("it has labels of its own");
    Ok((batch.finish(), None))
}

fn acknowledge(acknowledged: Acknowledged, sender: &Sender<'_>) -> Input {
    let Acknowledged { key, by, comment } = acknowledged;
    let by = if by.is_empty() { sender.name.clone() } else { by.into() };
    Input::Acknowledge(Acknowledge {
        matchers: Vec::new(),
        key: Some(AlertKey { client: sender.name.clone(), key: key.into() }),
        by,
        until: None,
        comment,
        withdraw: false,
    })
}

/// The token that a request's headers show.
fn token_in(headers: &HeaderMap, place: &Token) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Token::Header { name, before } = place
        && let Some(token) = text(name).and_then(|value| value.strip_prefix(before.as_str()))
    {
        return Some(token.trim().to_owned());
    }
    let (scheme, rest) = text(header::AUTHORIZATION.as_str())?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    // RFC 7617: user and password; the name of the user is for people.
    let login = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest.trim()).ok()).flatten()?;
    let login = String::from_utf8(login).ok()?;
    login.split_once(':').map(|(_, password)| password.to_owned())
}

fn random_id() -> Result<String, Problem> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let detail = format!("no random bytes: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail, "send it again later")
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::originator::{Clients, HttpLimits, Limits, inbound::Hooks};

    /// Settings of a listener for which nobody needs a name.
    pub(in super::super) fn settings() -> Settings {
        Settings {
            clients: Arc::new(Clients::default()),
            limits: HttpLimits::default(),
            alert_limits: Limits::default(),
            hosts: Vec::new(),
            prefix: SmolStr::default(),
            tls: None,
            inbound: Arc::new(Hooks::default()),
            heartbeats: Arc::default(),
            server: Default::default(),
        }
    }

    /// The alerts of a request that comes at `now`.
    pub(in super::super) fn mapped_at(
        meant: &Meant<'_>,
        fields: &RequestFields<'_>,
        text: &[u8],
        settings: &Settings,
        now: Wall,
    ) -> Result<(AlertBatch, Option<More>), Problem> {
        mapped(meant, fields, text, "generated", settings, now)
    }

    #[test]
    fn tokens_are_found_where_senders_put_them() {
        let header = Token::Header { name: "authorization".into(), before: "GenieKey ".into() };
        let own = Token::Header { name: "x-api-key".into(), before: "".into() };
        let rows = [
            (&Token::Usual, ("authorization", "Bearer abc"), Some("abc")),
            (&Token::Usual, ("authorization", "bearer  abc "), Some("abc")),
            // ann:abc:d
            (&Token::Usual, ("authorization", "Basic YW5uOmFiYzpk"), Some("abc:d")),
            (&Token::Usual, ("authorization", "Basic !!"), None),
            (&Token::Usual, ("authorization", "GenieKey abc"), None),
            (&header, ("authorization", "GenieKey abc"), Some("abc")),
            (&header, ("authorization", "Bearer abc"), Some("abc")),
            (&own, ("x-api-key", "abc"), Some("abc")),
            (&own, ("x-other", "abc"), None),
        ];
        for (place, (name, value), expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            assert_eq!(token_in(&headers, place).as_deref(), expected, "{place:?} {name}: {value}");
        }
    }
}
