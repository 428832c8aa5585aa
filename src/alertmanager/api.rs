//! Alertmanager's API v2: the paths, its status codes, and its error shapes. Errors of its handlers are a bare JSON
//! string; those of its schema are `{"code": .., "message": ..}`.
//!
//! Long lists are written in pieces, each a question of its own to the router: whoever asks for fifty thousand alerts
//! holds up nobody who sends one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use ams2_core::{Fingerprint, Machine, Wall, machine::AlertView, matcher::Compiled};
use axum::{
    Router as Routes,
    body::Body,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde_json::json;
use smol_str::SmolStr;
use tokio::sync::mpsc;

use super::{
    export,
    filter::{Asked, BadQuery, compiled, passes},
    silences,
    views::{Alert, AlertStatus},
};
use crate::{
    console::{Api, NotAppended},
    originator::AlertProblem,
    router::Unanswered,
};

/// Where alerts are posted; a GET lists them.
pub const ALERTS: &str = "/api/v2/alerts";

/// Rows that one question looks at.
const ROWS: u32 = 2_048;
/// Alerts that one question writes.
const SHOWN: usize = 256;
/// Pieces of an answer that wait for a slow reader.
const PIECES_MAX: usize = 4;

/// The paths but the posting of alerts, which is the originator's.
pub fn routes(api: Api) -> Routes {
    Routes::new()
        .route("/api/v2/status", get(status))
        .route("/api/v2/receivers", get(receivers))
        .route(ALERTS, get(alerts))
        .route("/api/v2/alerts/groups", get(groups))
        .route("/api/v2/silences", get(silences::list).post(silences::set))
        .route("/api/v2/silence/{id}", get(silences::one).delete(silences::expire))
        .with_state(api)
}

/// An answer, or why there is none.
pub(super) type Answer = Result<Response, Failed>;

/// Why there is no answer.
pub(super) struct Failed(Box<Response>);

impl Failed {
    pub fn internal(why: String) -> Failed {
        Failed::new(text(StatusCode::INTERNAL_SERVER_ERROR, &why))
    }

    pub fn new(response: Response) -> Failed {
        Failed(Box::new(response))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        *self.0
    }
}

impl From<BadQuery> for Failed {
    fn from(error: BadQuery) -> Failed {
        Failed::new(text(StatusCode::BAD_REQUEST, &error.0))
    }
}

impl From<Unanswered> for Failed {
    fn from(why: Unanswered) -> Failed {
        Failed::new(unavailable(&why.to_string(), 1))
    }
}

impl From<NotAppended> for Failed {
    fn from(why: NotAppended) -> Failed {
        Failed::new(unavailable(&why.to_string(), why.retry_after.as_secs().max(1)))
    }
}

fn unavailable(why: &str, seconds: u64) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

/// An error of a handler: its words as a JSON string.
pub(super) fn text(status: StatusCode, words: &str) -> Response {
    (status, axum::Json(words)).into_response()
}

/// An error of the schema.
pub(super) fn schema(status: StatusCode, code: u32, message: String) -> Response {
    (status, axum::Json(json!({ "code": code, "message": message }))).into_response()
}

pub(super) fn not_a_uuid(id: &str) -> Response {
    let message = format!("silenceID in path must be of type uuid: {id:?}");
    schema(StatusCode::UNPROCESSABLE_ENTITY, 601, message)
}

/// `GET /api/v2/status`. Its configuration is one that `amtool` reads.
async fn status(State(api): State<Api>) -> Answer {
    let (original, offset) = api
        .router
        .ask(|folded| {
            let config = folded.machine.config().map(|(config, _)| export(config).text);
            (config.unwrap_or_default(), folded.machine.wall_offset_ms())
        })
        .await?;
    let body = json!({
        "cluster": { "status": "disabled", "peers": [] },
        "config": { "original": original },
        "uptime": super::views::time(api.started.wall(offset)),
        "versionInfo": {
            "branch": "",
            "buildDate": "",
            "buildUser": "",
            "goVersion": "",
            "revision": "",
            "version": env!("CARGO_PKG_VERSION"),
        },
    });
    Ok(axum::Json(body).into_response())
}

/// `GET /api/v2/receivers`, in the order of the configuration.
async fn receivers(State(api): State<Api>) -> Answer {
    let names: Vec<SmolStr> = api
        .router
        .ask(|folded| {
            let receivers = folded.machine.config().map(|(config, _)| config.receivers.iter());
            receivers.into_iter().flatten().map(|receiver| receiver.name.clone()).collect()
        })
        .await?;
    let shown: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    Ok(axum::Json(shown).into_response())
}

/// `GET /api/v2/alerts`: what fires, in the order of fingerprints.
async fn alerts(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer {
    let asked = Asked::read(query.as_deref())?;
    let filter = compiled(&asked.filter);
    let mut found = collect(&api, Machine::alert_bound, {
        let filter = filter.clone();
        move |machine, row, found| {
            let alert = machine.alert_in(row).filter(|alert| alert.is_firing() && passes(alert, &filter));
            found.extend(alert.map(|alert| (alert.fingerprint(), row)));
        }
    })
    .await?;
    found.sort_unstable();
    stream(api, AlertList { asked, found, next: 0 }).await
}

/// `GET /api/v2/alerts/groups`, by labels and receiver. What is told by `notify: each` is in no group: each of its alerts
/// is one of its own here.
async fn groups(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer {
    let asked = Asked::read(query.as_deref())?;
    let filter = compiled(&asked.filter);
    let mut found = collect(&api, Machine::group_bound, |machine, row, found: &mut Vec<GroupKey>| {
        let Some(group) = machine.group_in(row) else { return };
        let labels = group.name().labels.clone();
        found.push(GroupKey { labels, receiver: group.receiver(), members: Members::Group(row) });
    })
    .await?;
    found.extend(
        collect(&api, Machine::alert_bound, |machine, row, found: &mut Vec<GroupKey>| {
            let Some(alert) = machine.alert_in(row) else { return };
            for receiver in alert.receivers_of_each() {
                let labels = alert.labels().map(|(name, value)| (name.into(), value.into())).collect();
                let members = Members::Alert(row, alert.fingerprint());
                found.push(GroupKey { labels, receiver, members });
            }
        })
        .await?,
    );
    found.retain(|group| asked.wants_receiver(&group.receiver));
    found.sort_unstable();
    stream(api, GroupList { asked, filter, found, group: 0, member: 0, is_open: false }).await
}

/// Asks the router about all rows, some at a time.
async fn collect<T: Send + 'static>(
    api: &Api,
    rows: fn(&Machine) -> u32,
    look: impl Fn(&Machine, u32, &mut Vec<T>) + Send + Sync + 'static,
) -> Result<Vec<T>, Unanswered> {
    let look = std::sync::Arc::new(look);
    let (mut found, mut first) = (Vec::new(), 0);
    loop {
        let look = look.clone();
        let (more, is_last) = api
            .router
            .ask(move |folded| {
                let (machine, mut more) = (&folded.machine, Vec::new());
                let bound = rows(machine);
                (first..bound.min(first + ROWS)).for_each(|row| look(machine, row, &mut more));
                (more, bound <= first + ROWS)
            })
            .await?;
        found.extend(more);
        if is_last {
            return Ok(found);
        }
        first += ROWS;
    }
}

/// Whether an alert of this standing is asked for.
fn is_wanted(asked: &Asked, status: &AlertStatus) -> bool {
    (asked.active || status.state != "active")
        && (asked.silenced || status.silenced_by.is_empty())
        && (asked.inhibited || status.inhibited_by.is_empty())
        && (asked.muted || status.muted_by.is_empty())
}

/// A long array, written in pieces.
trait Listing: Send + 'static {
    /// Writes some more elements, each with a comma before it; `false` once all are written.
    fn write(&mut self, machine: &Machine, now: Wall, out: &mut Vec<u8>) -> bool;
}

fn add(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("plain data encodes");
}

struct AlertList {
    asked: Asked,
    found: Vec<(Fingerprint, u32)>,
    next: usize,
}

impl Listing for AlertList {
    fn write(&mut self, machine: &Machine, now: Wall, out: &mut Vec<u8>) -> bool {
        let end = self.found.len().min(self.next + SHOWN);
        for (fingerprint, row) in &self.found[self.next..end] {
            let alert = machine.alert_in(*row).filter(|alert| alert.is_firing());
            // Meanwhile another may stand there.
            let Some(alert) = alert.filter(|alert| alert.fingerprint() == *fingerprint) else { continue };
            if self.asked.receiver.is_some()
                && !alert.receivers().iter().any(|name| self.asked.wants_receiver(name))
            {
                continue;
            }
            let status = AlertStatus::of(&alert, &[], now);
            if is_wanted(&self.asked, &status) {
                out.push(b',');
                add(out, &Alert::of(&alert, status));
            }
        }
        self.next = end;
        end < self.found.len()
    }
}

/// A group as its place in the list: by labels, then receiver.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    labels: Vec<(SmolStr, SmolStr)>,
    receiver: SmolStr,
    members: Members,
}

/// Who is in it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Members {
    /// A group of the router.
    Group(u32),
    /// One alert that is told by itself.
    Alert(u32, Fingerprint),
}

struct GroupList {
    asked: Asked,
    filter: Vec<Compiled>,
    found: Vec<GroupKey>,
    /// Where the next piece begins: group, and member in it.
    group: usize,
    member: usize,
    /// Whether the group's head is written.
    is_open: bool,
}

impl Listing for GroupList {
    fn write(&mut self, machine: &Machine, now: Wall, out: &mut Vec<u8>) -> bool {
        let mut looked = 0;
        while looked < SHOWN {
            let Some(key) = self.found.get(self.group) else { return false };
            let mut muted_by = Vec::new();
            let members: Vec<AlertView<'_>> = match key.members {
                Members::Group(row) => {
                    // Meanwhile another may stand there.
                    let group = machine.group_in(row).filter(|group| group.name().labels == key.labels);
                    muted_by = group.map(|group| group.muted_by(now)).unwrap_or_default();
                    group
                        .into_iter()
                        .flat_map(|group| group.alerts())
                        .skip(self.member)
                        .take(SHOWN - looked)
                        .collect()
                }
                Members::Alert(row, fingerprint) => machine
                    .alert_in(row)
                    .filter(|alert| alert.fingerprint() == fingerprint && self.member == 0)
                    .into_iter()
                    .collect(),
            };
            let is_last = members.len() < SHOWN - looked;
            looked += members.len() + 1;
            self.member += members.len();
            for alert in members.iter().filter(|alert| alert.is_firing() && passes(alert, &self.filter)) {
                let status = AlertStatus::of(alert, &muted_by, now);
                if !is_wanted(&self.asked, &status) {
                    continue;
                }
                if !self.is_open {
                    // A group of which nothing is shown is not shown.
                    self.is_open = true;
                    out.extend_from_slice(b",{\"labels\":");
                    add(
                        out,
                        &key.labels.iter().map(|(name, value)| (name, value)).collect::<BTreeMap<_, _>>(),
                    );
                    out.extend_from_slice(b",\"receiver\":");
                    add(out, &json!({ "name": key.receiver }));
                    out.extend_from_slice(b",\"alerts\":[");
                } else {
                    out.push(b',');
                }
                add(out, &Alert::of(alert, status));
            }
            if is_last {
                if self.is_open {
                    out.extend_from_slice(b"]}");
                }
                (self.group, self.member, self.is_open) = (self.group + 1, 0, false);
            }
        }
        self.group < self.found.len()
    }
}

/// Sends a listing: each piece is one question to the router, and waits for the reader of those before it.
async fn stream(api: Api, mut listing: impl Listing) -> Answer {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let mut is_first = true;
    // The first piece before anything is answered: a router that is busy is a status of its own.
    let (mut piece, mut more);
    (listing, piece, more) = ask(&api, listing).await?;
    tokio::spawn(async move {
        loop {
            if is_first && !piece.is_empty() {
                // The comma before the first element.
                piece[0] = b'[';
                is_first = false;
            }
            if !more {
                piece.extend_from_slice(if is_first { b"[]" } else { b"]" });
            }
            if !piece.is_empty() && sender.send(Ok(Bytes::from(piece))).await.is_err() || !more {
                return;
            }
            match ask(&api, listing).await {
                Ok(next) => (listing, piece, more) = next,
                // The reader sees that the list breaks off.
                Err(why) => {
                    drop(sender.send(Err(why)).await);
                    return;
                }
            }
        }
    });
    let body = Body::new(Pieces(receiver));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn ask<L: Listing>(api: &Api, mut listing: L) -> Result<(L, Vec<u8>, bool), Unanswered> {
    let clock = api.clock.clone();
    api.router
        .ask(move |folded| {
            let now = clock().wall(folded.machine.wall_offset_ms());
            let mut piece = Vec::new();
            let more = listing.write(&folded.machine, now, &mut piece);
            (listing, piece, more)
        })
        .await
}

/// A body whose pieces are made while it is sent.
struct Pieces(mpsc::Receiver<Result<Bytes, Unanswered>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Unanswered;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Unanswered>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(hyper::body::Frame::data)))
    }
}

/// The answer to a POST of alerts of which some were not valid: the others are kept all the same.
pub fn bad_alerts(problems: &[AlertProblem]) -> String {
    let words: Vec<String> =
        problems.iter().map(|problem| format!("alert {}: {}", problem.index, problem.detail)).collect();
    serde_json::to_string(&words.join("; ")).expect("text is JSON")
}
