//! What other servers hand on: read within limits, checked alert by alert, and answered once it is kept. Who has an alert
//! already says so: a loop ends here.

use std::{
    io::Read,
    sync::{Arc, atomic::Ordering},
};

use ams2_core::{
    AlertBatch, BatchBuilder, Wall,
    batch::AlertTimes,
    input::Arrival,
    machine::{OWN_CLIENT, OWN_LABEL},
    trail,
};
use ams2_handlers::{
    Server,
    forward::wire::{self, Answer, Batch, Word},
    text,
};
use axum::body::Body;
use bytes::Bytes;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use smol_str::{SmolStr, format_smolstr};

use super::{
    Intake,
    alerts::{INLINE_BYTES_MAX, largest_of_alerts},
    auth::{Right, Sender},
    body::{Largest, read_body},
    http::{Serving, Settings},
    json::Limits,
    problem::{Problem, json_response},
};
use crate::flight::Flight;

/// What fires until its end comes ends then, as far as anybody is told: 9999-12-31T23:59:59Z.
const UNTIL_ITS_END_COMES: Wall = Wall(253_402_300_799_000);
/// Longest name of a place, an origin and a sender's occurrence, in bytes.
const PLACE_BYTES_MAX: usize = 256;
/// Most memory that a batch may ask of the decompressor, as a power of two.
const WINDOW_LOG_MAX: u32 = 23;
/// A batch is decompressed in pieces of so many bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// Takes a batch of another server.
pub(super) async fn take_forwarded<I: Intake>(
    request: Request<Incoming>,
    sender: Sender<'_>,
    serving: &Serving<I>,
    settings: &Arc<Settings>,
    mut flight: Flight,
) -> Result<Response<Body>, Problem> {
    let is_compressed = is_zstd(request.headers())?;
    let largest = largest_of_alerts(&settings.limits);
    let body = read_body(request, largest, &settings.limits, &mut flight).await?;
    let bytes = body.len() as u64;
    let read = move |body: Bytes, mut flight: Flight| {
        let whole = if is_compressed { decompress(&body, largest, &mut flight)? } else { body };
        let batch: Batch = serde_json::from_slice(&whole).map_err(|error| {
            let detail = format!("it is no batch of alerts: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail, "use the same version of ams2 on both sides")
        })?;
        Ok::<_, Problem>((batch, flight))
    };
    let (batch, _flight) = if body.len() <= INLINE_BYTES_MAX / 16 {
        read(body, flight)?
    } else {
        let _turn = serving.body_readers.turns.acquire().await.expect("nobody closes it");
        let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug".into(), "");
        serving.body_readers.threads.run(move || read(body, flight)).await.map_err(bug)??
    };
    let now = Wall(jiff::Timestamp::now().as_millisecond());
    let Checked { kept, answer, denied } = check(batch, &sender, settings, now)?;
    if let Some(what) = denied {
        (serving.on_denied)(sender.name.clone(), what);
    }
    for cut in &answer.cut {
        tracing::warn!(from = %sender.name, "a loop was cut: {}", cut.detail);
    }
    let count = kept.len() as u64;
    if count > 0 {
        serving.intake.accept(Arrival { client: sender.name.clone(), batch: Arc::new(kept) }).await?;
    }
    serving.metrics.requests.fetch_add(1, Ordering::Relaxed);
    serving.metrics.alerts.fetch_add(count, Ordering::Relaxed);
    serving.metrics.bytes.fetch_add(bytes, Ordering::Relaxed);
    Ok(json_response(StatusCode::OK, serde_json::to_string(&answer).expect("plain data encodes")))
}

/// Whether the batch is compressed, as ours are.
fn is_zstd(headers: &hyper::HeaderMap) -> Result<bool, Problem> {
    match headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes) {
        None => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(wire::CODING.as_bytes()) => Ok(true),
        Some(_) => {
            let detail = "this Content-Encoding is not understood here".to_owned();
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail, "send zstd, or none"))
        }
    }
}

/// Decompresses up to the limit, whatever the compressed size promised, and counts each piece as received.
fn decompress(body: &[u8], largest: Largest, flight: &mut Flight) -> Result<Bytes, Problem> {
    let broken = |error: std::io::Error| {
        let detail = format!("the body is no whole zstd frame: {error}");
        Problem::new(StatusCode::BAD_REQUEST, detail, "send it again")
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
    let mut decoded = Vec::new();
    loop {
        let read = decoder.by_ref().take(PIECE_BYTES).read_to_end(&mut decoded).map_err(broken)?;
        if read == 0 {
            break;
        }
        flight.add(read)?;
        if decoded.len() > largest.bytes {
            let detail =
                format!("the body is over {} bytes when decompressed ({})", largest.bytes, largest.by);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail, largest.mend));
        }
    }
    if !decoder.finish().is_empty() {
        let detail = "something follows the zstd frame".to_owned();
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail, "send one frame"));
    }
    Ok(decoded.into())
}

/// A batch, alert by alert.
#[derive(Debug)]
struct Checked {
    kept: AlertBatch,
    answer: Answer,
    /// What the sender has no right to send, if anything.
    denied: Option<String>,
}

fn check(batch: Batch, sender: &Sender<'_>, settings: &Settings, now: Wall) -> Result<Checked, Problem> {
    let wrong = |what: &str| {
        Problem::new(StatusCode::BAD_REQUEST, what.to_owned(), "use the same version of ams2 on both sides")
    };
    if !trail::is_server_name(&batch.from.name) {
        return Err(wrong("the sender's name is no name of a server"));
    }
    let journal =
        parse_journal(&batch.from.journal).ok_or_else(|| wrong("the sender's journal has no name"))?;
    let server = &settings.server;
    let mut way =
        Way { sender, from: hop_name(sender, &batch.from.name), journal, settings, now, denied: None };
    let mut answer = Answer {
        server: wire::Server {
            name: server.name.clone(),
            journal: format_smolstr!("{:016x}", server.journal),
            version: SmolStr::new_static(env!("CARGO_PKG_VERSION")),
        },
        ..Answer::default()
    };
    let mut builder = BatchBuilder::default();
    for (index, alert) in batch.alerts.into_iter().enumerate() {
        match way.add(alert, &mut builder) {
            Ok(()) => answer.accepted += 1,
            Err(Left::Refused(detail)) => answer.refused.push(Word { index, detail }),
            Err(Left::Cut(detail)) => answer.cut.push(Word { index, detail }),
        }
    }
    Ok(Checked { kept: builder.finish(), answer, denied: way.denied })
}

/// What the last server on an alert's way is called here: what its token says, if it has one of its own; where many share one,
/// with what it calls itself behind it.
pub(super) fn hop_name(sender: &Sender<'_>, said: &str) -> SmolStr {
    let of_many = sender.known.filter(|client| client.enrol);
    let of_many = of_many.map(|client| format_smolstr!("{}/{said}", client.name));
    match sender.known {
        Some(_) if of_many.as_ref().is_some_and(|name| trail::is_server_name(name)) => {
            of_many.unwrap_or_default()
        }
        Some(client) if trail::is_server_name(&client.name) => client.name.clone(),
        _ => said.into(),
    }
}

/// The name of a journal: 16 hex digits.
pub(super) fn parse_journal(text: &str) -> Option<u64> {
    let is_good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_good.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Why an alert is left out.
enum Left {
    /// It is wrong, or must not be sent by this one.
    Refused(String),
    /// It was here before.
    Cut(String),
}

/// What is the same for all alerts of a batch.
struct Way<'a> {
    sender: &'a Sender<'a>,
    from: SmolStr,
    journal: u64,
    settings: &'a Settings,
    now: Wall,
    denied: Option<String>,
}

impl Way<'_> {
    /// Puts an alert into the batch, if it may come in.
    fn add(&mut self, alert: wire::Alert, builder: &mut BatchBuilder) -> Result<(), Left> {
        let refused = |detail: &str| Left::Refused(detail.to_owned());
        let is_place = |text: &str| {
            let parts = text.split_once('.').map_or((text, "0"), |parts| parts);
            [parts.0, parts.1].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        };
        if alert.position.len() > PLACE_BYTES_MAX || !is_place(&alert.position) {
            return Err(refused("its place in the sender's journal is none"));
        }
        let server = Server { name: self.from.clone(), journal: self.journal };
        let is_relayed = alert.origin.is_some() || alert.trail.is_some();
        if let Some(client) = self.sender.known.filter(|client| is_relayed && !client.has(Right::Relay)) {
            let what = format!("the client `{}` may not {}", client.name, Right::Relay.what());
            return Err(self.deny(what, "add `relay` to its `may:` in the config"));
        }
        let origin = match &alert.origin {
            None => trail::place(&server.name, server.journal, &alert.position),
            Some(origin) => {
                let is_good = origin.len() <= PLACE_BYTES_MAX && !origin.contains(char::is_control);
                is_good.then(|| origin.to_string()).ok_or_else(|| refused("its origin is none"))?
            }
        };
        let trail = self.trail(&alert, &server)?;
        check_sizes(&alert, &self.settings.alert_limits).map_err(Left::Refused)?;
        for (name, value) in &alert.labels {
            if name == OWN_LABEL && value == OWN_CLIENT {
                return Err(refused("only the router itself says `source=\"ams2\"`"));
            }
            builder.label(name, value);
        }
        for (name, value) in &alert.annotations {
            builder.annotation(name, value);
        }
        builder.any_annotation(trail::ORIGIN, &origin);
        builder.any_annotation(trail::TRAIL, &trail);
        // Whatever the sender's clock says: what is over is over.
        let ended = alert.ends_at.map(|ends| Wall(ends.min(self.now.0)));
        let starts = ended.map_or(alert.starts_at, |ended| alert.starts_at.min(ended.0));
        let ends_at = match (&alert.occurrence, ended) {
            (_, Some(ended)) => Some(ended),
            (Some(_), None) => None,
            (None, None) => Some(UNTIL_ITS_END_COMES),
        };
        let times = AlertTimes { starts_at: Some(Wall(starts)), ends_at };
        let url = Some(alert.generator_url.as_str()).filter(|url| !url.is_empty());
        builder
            .finish_alert(times, alert.occurrence.as_deref(), url)
            .map_err(|error| Left::Refused(error.to_string()))?;
        self.check_allowed(builder)
    }

    /// The alert that was put in last goes out again if the sender may not send it.
    fn check_allowed(&mut self, builder: &mut BatchBuilder) -> Result<(), Left> {
        let (Some(client), Some(alert)) = (self.sender.known, builder.last()) else { return Ok(()) };
        let Some(matcher) = self.settings.clients.refuses(client, &alert) else { return Ok(()) };
        let what = format!("the client `{}` may only send alerts with {}", client.name, matcher.matcher);
        builder.remove_last();
        Err(self.deny(what, "its `allow:` in the config says so"))
    }

    fn deny(&mut self, what: String, mend: &str) -> Left {
        let detail = format!("{what}: {mend}");
        self.denied.get_or_insert(what);
        Left::Refused(detail)
    }

    /// The servers on the alert's way, this one's sender last; unless it was here, or has come too far.
    fn trail(&self, alert: &wire::Alert, last: &Server) -> Result<String, Left> {
        let time = jiff::Timestamp::from_millisecond(alert.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let mut trail = String::new();
        if let Some(before) = &alert.trail {
            let hops_bytes_max = wire::HOPS_MAX * PLACE_BYTES_MAX;
            if before.len() > hops_bytes_max || before.contains(char::is_control) {
                return Err(Left::Refused("its trail is none".into()));
            }
            trail = format!("{before}{}", trail::THEN);
        }
        trail.push_str(&format!("{} {time}", trail::hop(&last.name, last.journal)));
        let (hops, here) = (trail.split(trail::THEN).count(), &self.settings.server);
        if trail::passes(&trail, here.journal) {
            return Err(Left::Cut(format!("{trail}{}{} once more", trail::THEN, here.name)));
        }
        if hops > wire::HOPS_MAX {
            let detail =
                format!("it came through {hops} servers, of which {} are enough: {trail}", wire::HOPS_MAX);
            return Err(Left::Refused(text::cut(&detail, PLACE_BYTES_MAX * 4).into_owned()));
        }
        Ok(trail)
    }
}

/// Whether an alert is as small as one of anybody else's must be.
fn check_sizes(alert: &wire::Alert, limits: &Limits) -> Result<(), String> {
    let (labels, annotations) = (alert.labels.len(), alert.annotations.len());
    if labels > limits.labels || annotations > limits.annotations {
        let Limits { labels: most, annotations: notes, .. } = limits;
        return Err(format!(
            "it has {labels} labels and {annotations} annotations; {most} and {notes} are allowed (originator.limits)"
        ));
    }
    let pairs = || alert.labels.iter().chain(&alert.annotations);
    if let Some((name, _)) = pairs().find(|(name, _)| name.len() > limits.name_bytes) {
        return Err(format!(
            "a name has {} bytes; {} are allowed (originator.limits)",
            name.len(),
            limits.name_bytes
        ));
    }
    let bytes: usize = pairs().map(|(name, value)| name.len() + value.len()).sum();
    if bytes + alert.generator_url.len() > limits.alert_bytes {
        return Err(format!("it has {bytes} bytes; {} are allowed (originator.limits)", limits.alert_bytes));
    }
    if alert.occurrence.as_ref().is_some_and(|id| id.is_empty() || id.len() > limits.id_bytes) {
        return Err(format!("the name of its occurrence has more than {} bytes", limits.id_bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
