//! One request of a hook: who sends it, and what is answered once its alerts are kept. Which alerts it is says `work`.

use std::sync::{Arc, atomic::Ordering};

use ams2_core::{
    Input, Wall,
    input::{Acknowledge, AlertKey, Arrival, Ping, PingKind},
};
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, header};
use serde_json::Value as Node;
use smol_str::SmolStr;

use super::{
    Hook, Meant, Token,
    digits::with_digits,
    request::{REQUEST, beside},
    work::{Done, More, Work},
};
use crate::{
    flight::{Flight, Room},
    originator::{
        Intake,
        alerts::{is_gzip, largest_of_alerts},
        auth::{Clients, Right, Sender},
        body::read_body,
        http::{Peer, Serving, Settings},
        mapping::{Acknowledged, Json},
        problem::Problem,
        requests::{check_right, of_token, unnamed},
    },
};

/// A tree of JSON takes some times as much memory as its text.
const TREE_TIMES: usize = 6;
/// Bodies of at most so many bytes are read, and their alerts made, where they arrive: a rule may compute for each of many items.
const INLINE_BYTES_MAX: usize = 32 << 10;

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
    let known = |token: Option<&str>| who(token, peer, &settings.clients);
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
    let (mut body, flight) = parsed(text.clone(), serving, flight).await?;
    let sender = match (early, &meant.hook.token) {
        (Some(sender), _) => sender,
        (None, Token::Body(path)) => known(Json(&body).into_text(path.steps()).as_deref())?,
        (None, _) => known(None)?,
    };
    check_right(&sender, Right::Send)?;
    let is_secret = matches!(&meant.hook.token, Token::Body(_));
    if let Token::Body(path) = &meant.hook.token {
        blank(&mut body, path.steps());
    }
    seen.from = Some(sender.name.clone());
    seen.request["client"] = Node::String(sender.name.to_string());
    let bytes = text.len();
    let work = Work {
        name: meant.hook.name.clone(),
        request: meant.request.clone(),
        body,
        beside: seen.request.clone(),
        // As it came it has the token in it.
        text: (!is_secret).then_some(text),
        generated,
        now: Wall(jiff::Timestamp::now().as_millisecond()),
    };
    let (done, _flight) =
        made(work, bytes, sender.known.map(|client| client.name.clone()), serving, settings, flight).await?;
    let Done { batch, more, answer } = done;
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
            let name = settings.heartbeats.check(&name, &sender, &settings.clients)?;
            let client = sender.name.clone();
            let ping = Ping { name, kind: PingKind::Success, client, words: String::new() };
            serving.intake.accept_other(Input::Ping(ping)).await?;
            serving.metrics.pings.fetch_add(1, Ordering::Relaxed);
        }
    }
    serving.metrics.requests.fetch_add(1, Ordering::Relaxed);
    serving.metrics.alerts.fetch_add(count, Ordering::Relaxed);
    serving.metrics.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    Ok(answer)
}

/// Who shows this token, or none.
fn who<'c>(token: Option<&str>, peer: Peer, clients: &'c Clients) -> Result<Sender<'c>, Problem> {
    match token {
        Some(token) if clients.need_names() => of_token(token, clients),
        _ => unnamed(peer, clients),
    }
}

/// What is wrong with a request to a path beside those of a hook, where a header shows the token that is the hook's: its sender takes
/// us for more than we are.
pub(in crate::originator) fn no_such(
    request: &Request<Incoming>,
    hook: &Hook,
    peer: Peer,
    clients: &Clients,
) -> Option<Problem> {
    if !matches!(hook.token, Token::Header { .. }) {
        return None;
    }
    let token = token_in(request.headers(), &hook.token)?;
    let path = request.uri().path();
    let problem = who(Some(&token), peer, clients).err().unwrap_or_else(|| {
        let detail = format!("the web hook `{}` has no {path}", hook.name);
        Problem::new(StatusCode::NOT_FOUND, detail, "see docs/inbound.md for what is there")
    });
    let words = |text: Node| serde_json::json!({ "problem": text });
    let mut answer = hook.answers.to(&problem, &words);
    if let Some(answer) = &mut answer
        && problem.status == StatusCode::NOT_FOUND
    {
        *answer.status_mut() = problem.status;
    }
    Some(Problem { answer, ..problem })
}

/// Takes what stands at a path out of a body: nothing that is kept or told may have it.
fn blank(body: &mut Node, path: &[SmolStr]) {
    let mut node = Some(body);
    for step in path {
        node = match node {
            Some(Node::Object(entries)) => entries.get_mut(step.as_str()),
            Some(Node::Array(items)) => step.parse().ok().and_then(|index: usize| items.get_mut(index)),
            _ => None,
        };
    }
    if let Some(node) = node {
        *node = Node::Null;
    }
}

/// The body as JSON; a large one is read where nobody else waits for it.
async fn parsed<I>(text: Bytes, serving: &Serving<I>, mut flight: Flight) -> Result<(Node, Flight), Problem> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok((Node::Null, flight));
    }
    flight.add(text.len() * TREE_TIMES)?;
    let parse = |text: &[u8]| {
        serde_json::from_slice::<Node>(&with_digits(text)).map_err(|error| {
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

/// The alerts of a request; those of a large one are made where nobody else waits for it.
async fn made<I: Intake>(
    work: Work,
    bytes: usize,
    client: Option<SmolStr>,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
    mut flight: Flight,
) -> Result<(Done, Flight), Problem> {
    let settings = settings.clone();
    let run = move || {
        let done = work.done(&settings, client.as_deref())?;
        flight.add(done.batch.memory_bytes())?;
        Ok::<_, Problem>((done, flight))
    };
    if bytes <= INLINE_BYTES_MAX {
        return run();
    }
    let _turn = serving.body_readers.turns.acquire().await.expect("nobody closes it");
    let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug".into(), "");
    serving.body_readers.threads.run(run).await.map_err(bug)?
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
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_out_of_a_body_wherever_it_stands() {
        let rows = [
            (&["routing_key"][..], r#"{"a":1,"routing_key":null}"#),
            (&["a"], r#"{"a":null,"routing_key":"t"}"#),
            (&["a", "b"], r#"{"a":1,"routing_key":"t"}"#),
            (&["missing"], r#"{"a":1,"routing_key":"t"}"#),
        ];
        for (path, expected) in rows {
            let mut body = serde_json::json!({"routing_key": "t", "a": 1});
            let path: Vec<SmolStr> = path.iter().map(|step| SmolStr::from(*step)).collect();
            blank(&mut body, &path);
            assert_eq!(body.to_string(), expected, "{path:?}");
        }
        let mut body = serde_json::json!({"auth": [{"token": "t"}]});
        blank(&mut body, &["auth".into(), "0".into(), "token".into()]);
        assert_eq!(body.to_string(), r#"{"auth":[{"token":null}]}"#);
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
