//! Pings of heartbeats: `/ping/<name>`, and behind it `/start`, `/fail`, `/log` or an exit code, by whatever method a job's
//! curl or wget uses. Answered with `OK` once the ping is kept.

use std::{collections::HashMap, sync::atomic::Ordering};

use ams2_core::{
    BatchBuilder, Config, Input,
    batch::AlertTimes,
    config::Heartbeat,
    input::{PING_BYTES_MAX, Ping, PingKind},
    machine::heartbeat_labels,
};
use ams2_handlers::text::cut;
use axum::body::Body;
use bytes::Bytes;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use smol_str::SmolStr;

use super::{
    Intake,
    auth::{Clients, Sender},
    body::{Largest, read_body},
    http::{Serving, Settings},
    problem::Problem,
};
use crate::flight::Flight;

/// What stands before the name of a heartbeat.
pub(super) const PATHS: &str = "/ping/";
/// Bytes that are shown of a wrong name, or of what is behind a name.
const NAME_SHOWN: usize = 64;
/// Methods of pings.
const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::PUT];

/// The heartbeats of the config: those that may be heard of.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats {
    /// What their labels are made of, and nothing else.
    config: Config,
    by_name: HashMap<SmolStr, usize>,
}

impl Heartbeats {
    /// Those of this config.
    pub fn of(config: &Config) -> Heartbeats {
        let heartbeats = config.heartbeats.clone();
        let by_name = heartbeats.iter().zip(0..).map(|(one, place)| (one.name.clone(), place)).collect();
        let config = Config { heartbeats, own_labels: config.own_labels.clone(), ..Config::default() };
        Heartbeats { config, by_name }
    }

    fn find(&self, name: &str) -> Option<&Heartbeat> {
        self.config.heartbeats.get(*self.by_name.get(name)?)
    }

    /// The name of a heartbeat that there is, and of which this client may say something.
    pub(super) fn check(
        &self,
        name: &str,
        sender: &Sender<'_>,
        clients: &Clients,
    ) -> Result<SmolStr, Problem> {
        let heartbeat = self.find(name).ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                format!("there is no heartbeat `{}`", cut(name, NAME_SHOWN)),
                "add it under `heartbeats:` in the config and reload, or correct the name",
            )
        })?;
        if let Some(detail) = self.refuses(heartbeat, sender, clients) {
            let mend = "let it be the heartbeat's `client:`, or widen its `allow:`, in the config";
            let client = Some(sender.name.as_str().into());
            return Err(Problem { client, ..Problem::new(StatusCode::FORBIDDEN, detail, mend) });
        }
        Ok(heartbeat.name.clone())
    }

    /// Why a client may not say anything of this heartbeat; `None` if it may. Who is named in the config may; else who may
    /// send an alert with its labels, since a ping can raise and end one.
    fn refuses(&self, heartbeat: &Heartbeat, sender: &Sender<'_>, clients: &Clients) -> Option<String> {
        let client = sender.known?;
        if let Some(only) = &heartbeat.client {
            let is_another = *only != client.name;
            return is_another.then(|| format!("the heartbeat `{}` is another client's", heartbeat.name));
        }
        let mut builder = BatchBuilder::default();
        for (name, value) in heartbeat_labels(&self.config, heartbeat) {
            builder.label(&name, &value);
        }
        builder.finish_alert(AlertTimes::default(), None, None).ok()?;
        let batch = builder.finish();
        let matcher = clients.refuses(client, &batch.alert(0)?)?;
        Some(format!(
            "the client `{}` may only send alerts with {}, and the heartbeat `{}` has others",
            client.name, matcher.matcher, heartbeat.name
        ))
    }
}

/// Takes a ping.
pub(super) async fn take_ping<I: Intake>(
    request: Request<Incoming>,
    sender: Sender<'_>,
    serving: &Serving<I>,
    settings: &Settings,
    largest: Largest,
    mut flight: Flight,
) -> Result<Response<Body>, Problem> {
    if !METHODS.contains(request.method()) {
        let detail = format!("`{}` cannot be used on pings", request.method());
        return Err(Problem::other_method(detail, "GET, HEAD, POST, PUT"));
    }
    let (name, kind) = parse(request.uri().path()).map_err(|rest| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("`{}` is nothing that a ping says", cut(rest, NAME_SHOWN)),
            "behind the name comes nothing, `/start`, `/fail`, `/log` or an exit code from 0 to 255",
        )
    })?;
    let name = settings.heartbeats.check(name, &sender, &settings.clients)?;
    let client = sender.name.clone();
    let body = match hyper::body::Body::is_end_stream(request.body()) {
        true => Bytes::new(),
        false => read_body(request, largest, &settings.limits, &mut flight).await?,
    };
    let ping = Ping { name, kind, client, words: words(&body) };
    serving.intake.accept_other(Input::Ping(ping)).await?;
    serving.metrics.pings.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(Body::from("OK"));
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}

/// Whose a ping is, and what it says; else what is not understood.
fn parse(path: &str) -> Result<(&str, PingKind), &str> {
    let rest = path.strip_prefix(PATHS).ok_or(path)?;
    let (name, said) = rest.split_once('/').unwrap_or((rest, ""));
    let kind = match said {
        "" => PingKind::Success,
        "start" => PingKind::Start,
        "fail" => PingKind::Fail,
        "log" => PingKind::Log,
        // No sign, as `parse` would take one.
        code if code.bytes().all(|byte| byte.is_ascii_digit()) => {
            PingKind::Exit(code.parse().map_err(|_| said)?)
        }
        _ => return Err(said),
    };
    Ok((name, kind))
}

/// The words of a body: its beginning, where that is text.
fn words(body: &[u8]) -> String {
    // Whatever is no text becomes longer, and nothing shorter.
    let start = &body[..body.len().min(PING_BYTES_MAX)];
    let text = String::from_utf8_lossy(start);
    // A character that was cut in two.
    let whole = if start.len() < body.len() { text.trim_end_matches('\u{FFFD}') } else { &text };
    let end = (0..=PING_BYTES_MAX.min(whole.len())).rev().find(|end| whole.is_char_boundary(*end));
    whole[..end.unwrap_or(0)].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::originator::{KnownClient, Right};

    #[test]
    fn what_stands_behind_the_name_is_understood_or_named() {
        for (path, expected) in [
            ("/ping/a", Ok(("a", PingKind::Success))),
            ("/ping/a/", Ok(("a", PingKind::Success))),
            ("/ping/a/start", Ok(("a", PingKind::Start))),
            ("/ping/a.b-c_1/fail", Ok(("a.b-c_1", PingKind::Fail))),
            ("/ping/a/log", Ok(("a", PingKind::Log))),
            ("/ping/a/0", Ok(("a", PingKind::Exit(0)))),
            ("/ping/a/255", Ok(("a", PingKind::Exit(255)))),
            ("/ping/a/007", Ok(("a", PingKind::Exit(7)))),
            ("/ping/start", Ok(("start", PingKind::Success))),
            ("/ping/", Ok(("", PingKind::Success))),
            ("/ping/a/256", Err("256")),
            ("/ping/a/-1", Err("-1")),
            ("/ping/a/+1", Err("+1")),
            ("/ping/a/strat", Err("strat")),
            ("/ping/a/START", Err("START")),
            ("/ping/a/start/", Err("start/")),
            ("/ping/a/fail/3", Err("fail/3")),
            ("/ping/a//", Err("/")),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }

    #[test]
    fn the_beginning_of_a_body_is_kept_as_text() {
        for (body, expected) in [
            (&b""[..], ""),
            (b"disk full\r\n", "disk full"),
            (b"a\0b\x1b[2J", "a\0b\x1b[2J"),
            (b"caf\xe9", "caf\u{FFFD}"),
        ] {
            assert_eq!(words(body), expected);
        }
        assert_eq!(words(&[b'x'; PING_BYTES_MAX + 1]).len(), PING_BYTES_MAX);
        // Two bytes each, and cut in the middle of one.
        let odd = format!("x{}", "ä".repeat(PING_BYTES_MAX));
        assert_eq!(words(odd.as_bytes()), odd[..PING_BYTES_MAX - 1]);
        let binary = words(&[0xFF; 2 * PING_BYTES_MAX]);
        assert!(binary.len() <= PING_BYTES_MAX, "{}", binary.len());
        let binary = words(&[0xFF; PING_BYTES_MAX]);
        assert!(binary.len() <= PING_BYTES_MAX && binary.len() > PING_BYTES_MAX - 3, "{}", binary.len());
    }

    #[test]
    fn a_heartbeat_is_its_clients_or_of_whoever_may_send_its_alert() {
        let of = |name: &str, site: &str, client: Option<&str>| Heartbeat {
            name: name.into(),
            labels: [("site".into(), site.into())].into(),
            client: client.map(Into::into),
            ..Heartbeat::default()
        };
        let all = vec![
            of("boston", "boston", None),
            of("austin", "austin", None),
            of("named", "austin", Some("boston")),
            of("other", "boston", Some("desk")),
        ];
        let heartbeats = Heartbeats::of(&Config { heartbeats: all, ..Config::default() });
        let matcher = ams2_core::matcher::Matcher::parse("site=boston").expect("valid");
        let clients = Clients::default();
        let client = KnownClient {
            name: "boston".into(),
            token: None,
            uid: None,
            allow: vec![matcher.compile(&clients.severities).expect("valid")],
            may: vec![Right::Send],
            enrol: false,
        };
        let refused = |name: &str, known: Option<&KnownClient>| {
            let sender = Sender { name: "boston".into(), known };
            heartbeats.refuses(heartbeats.find(name).expect("it is there"), &sender, &clients).is_some()
        };
        let of_client = ["boston", "austin", "named", "other"].map(|name| refused(name, Some(&client)));
        assert_eq!(of_client, [false, true, false, true]);
        // Who runs the router, or anybody where the config names nobody.
        assert!(!["boston", "austin", "named", "other"].iter().any(|name| refused(name, None)));
    }
}
