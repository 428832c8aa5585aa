//! Alertmanager's API v2: the paths, its status codes, and its error shapes. Errors of its handlers are a bare JSON
//! string; those of its schema are `{"code": .., "message": ..}`.
//!
//! Long lists are written in pieces, each a question of its own to the router: whoever asks for fifty thousand alerts
//! holds up nobody who sends one.

use std::collections::BTreeMap;

use ams2_core::{Fingerprint, Machine, Wall, machine::AlertView, matcher::Compiled};
use axum::{
    Extension, Router as Routes,
    extract::{RawQuery, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get},
};
use serde_json::json;
use smol_str::SmolStr;

use super::{
    export,
    filter::{Asked, BadQuery, compiled, passes},
    silences,
    views::{Alert, AlertStatus},
};
use crate::{
    console::{Api, Listing, NotAppended, Quota, Took, Unwritten, streamed, walk},
    flight::{Full, Room},
    originator::{AlertProblem, Mistakes},
    router::Unanswered,
};

/// What stands before every path.
pub const PATHS: &str = "/api/v2/";
/// Where alerts are posted; a GET lists them.
pub const ALERTS: &str = "/api/v2/alerts";

/// Members of a group that are taken out of it at once.
const MEMBERS_AT_ONCE: usize = 256;

/// The paths but the posting of alerts, which is the originator's.
pub fn routes(api: Api) -> Routes {
    Routes::new()
        .route("/api/v2/status", only("GET,HEAD", get(status)))
        .route("/api/v2/receivers", only("GET,HEAD", get(receivers)))
        .route(ALERTS, only("GET,HEAD,POST", get(alerts)))
        .route("/api/v2/alerts/groups", only("GET,HEAD", get(groups)))
        .route("/api/v2/silences", only("GET,HEAD,POST", get(silences::list).post(silences::set)))
        .route("/api/v2/silence/{id}", only("GET,HEAD,DELETE", get(silences::one).delete(silences::expire)))
        .route("/api/v2", any(no_such_path))
        .route("/api/v2/", any(no_such_path))
        .route("/api/v2/{*rest}", any(no_such_path))
        .with_state(api)
}

async fn no_such_path(uri: Uri) -> Response {
    schema(StatusCode::NOT_FOUND, 404, format!("path {} was not found", uri.path()))
}

/// A path that refuses every other method.
fn only(allowed: &'static str, path: MethodRouter<Api>) -> MethodRouter<Api> {
    path.fallback(move |method: Method| async move {
        let message = format!("method {method} is not allowed, but [{allowed}] are");
        schema(StatusCode::METHOD_NOT_ALLOWED, 405, message)
    })
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

impl From<Full> for Failed {
    fn from(full: Full) -> Failed {
        Failed::new(unavailable(&full.to_string(), crate::flight::RETRY_AFTER.as_secs()))
    }
}

impl From<Unwritten> for Failed {
    fn from(why: Unwritten) -> Failed {
        match why {
            Unwritten::Unanswered(why) => why.into(),
            Unwritten::Full(full) => full.into(),
        }
    }
}

impl From<NotAppended> for Failed {
    fn from(why: NotAppended) -> Failed {
        Failed::new(unavailable(&why.to_string(), why.retry_after.as_secs().max(1)))
    }
}

fn unavailable(why: &str, seconds: u64) -> Response {
    let mut response = schema(StatusCode::SERVICE_UNAVAILABLE, 503, why.into());
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

/// `GET /api/v2/receivers`, in the order of the configuration. Each has one label, which Alertmanager gives it, too.
async fn receivers(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer {
    let asked = Asked::read(query.as_deref())?;
    let names: Vec<SmolStr> = api
        .router
        .ask(|folded| {
            let receivers = folded.machine.config().map(|(config, _)| config.receivers.iter());
            receivers.into_iter().flatten().map(|receiver| receiver.name.clone()).collect()
        })
        .await?;
    let shown = names.iter().filter(|name| asked.has_labels(name));
    let shown: Vec<_> = shown.map(|name| json!({ "name": name, "labels": { "name": name } })).collect();
    Ok(axum::Json(shown).into_response())
}

/// `GET /api/v2/alerts`: what fires, in the order of fingerprints.
async fn alerts(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    RawQuery(query): RawQuery,
) -> Answer {
    let asked = Asked::read(query.as_deref())?;
    let filter = compiled(&asked.filter);
    let look = move |machine: &Machine, row, found: &mut Vec<(Fingerprint, u32)>| {
        let alert = machine.alert_in(row).filter(|alert| alert.is_firing() && passes(alert, &filter));
        found.extend(alert.map(|alert| (alert.fingerprint(), row)));
        Took::LOOK
    };
    let mut found = walk(&api.router, Machine::alert_bound, Vec::new(), look).await?;
    found.sort_unstable();
    Ok(streamed(&api, room, AlertList { asked, found, next: 0 }).await?)
}

/// `GET /api/v2/alerts/groups`, by labels and receiver. What is told by `notify: each` is in no group: each of its alerts
/// is one of its own here.
async fn groups(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    RawQuery(query): RawQuery,
) -> Answer {
    let asked = Asked::read(query.as_deref())?;
    let filter = compiled(&asked.filter);
    let of_groups = |machine: &Machine, row, found: &mut Vec<GroupKey>| {
        if let Some(group) = machine.group_in(row) {
            let labels = group.name().labels.clone();
            found.push(GroupKey { labels, receiver: group.receiver(), members: Members::Group(row) });
        }
        Took::LOOK
    };
    let found = walk(&api.router, Machine::group_bound, Vec::new(), of_groups).await?;
    let of_each = |machine: &Machine, row, found: &mut Vec<GroupKey>| {
        let Some(alert) = machine.alert_in(row) else { return Took::LOOK };
        for receiver in alert.receivers_of_each() {
            let labels = alert.labels().map(|(name, value)| (name.into(), value.into())).collect();
            let members = Members::Alert(row, alert.fingerprint());
            found.push(GroupKey { labels, receiver, members });
        }
        Took::LOOK
    };
    let mut found = walk(&api.router, Machine::alert_bound, found, of_each).await?;
    found.retain(|group| asked.wants_receiver(&group.receiver));
    found.sort_unstable();
    Ok(streamed(&api, room, GroupList { asked, filter, found, group: 0, member: 0, is_open: false }).await?)
}

/// Whether an alert of this standing is asked for.
fn is_wanted(asked: &Asked, status: &AlertStatus) -> bool {
    (asked.active || status.state != "active")
        && (asked.silenced || status.silenced_by.is_empty())
        && (asked.inhibited || status.inhibited_by.is_empty())
        && (asked.muted || status.muted_by.is_empty())
}

pub(super) fn add(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value).expect("plain data encodes");
}

struct AlertList {
    asked: Asked,
    found: Vec<(Fingerprint, u32)>,
    next: usize,
}

impl Listing for AlertList {
    fn write(&mut self, machine: &Machine, now: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool {
        while let Some((fingerprint, row)) = self.found.get(self.next).filter(|_| !quota.is_used()) {
            self.next += 1;
            let before = out.len();
            let alert = machine.alert_in(*row).filter(|alert| alert.is_firing());
            // Meanwhile another may stand there.
            let alert = alert.filter(|alert| alert.fingerprint() == *fingerprint);
            if let Some(alert) = alert.filter(|alert| self.asked.wants_one_of(|| alert.receivers())) {
                let status = AlertStatus::of(&alert, &[], now);
                if is_wanted(&self.asked, &status) {
                    out.push(b',');
                    add(out, &Alert::of(&alert, status));
                }
            }
            // Where it stands and who is told of it takes as long as a row, shown or not.
            quota.take(Took::rows(1, out.len() - before));
        }
        self.next < self.found.len()
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
    fn write(&mut self, machine: &Machine, now: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool {
        while !quota.is_used() {
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
                        .take(MEMBERS_AT_ONCE)
                        .collect()
                }
                Members::Alert(row, fingerprint) => machine
                    .alert_in(row)
                    .filter(|alert| alert.fingerprint() == fingerprint && self.member == 0)
                    .into_iter()
                    .collect(),
            };
            quota.take(Took::LOOK);
            let mut is_last = members.len() < MEMBERS_AT_ONCE;
            for alert in &members {
                if quota.is_used() {
                    is_last = false;
                    break;
                }
                self.member += 1;
                let before = out.len();
                if alert.is_firing() && passes(alert, &self.filter) {
                    let status = AlertStatus::of(alert, &muted_by, now);
                    if is_wanted(&self.asked, &status) {
                        write_member(alert, status, key, &mut self.is_open, out);
                    }
                }
                quota.take(Took::rows(1, out.len() - before));
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

/// Writes an alert of a group, and the group's head before the first: a group of which nothing is shown is not shown.
fn write_member(
    alert: &AlertView<'_>,
    mut status: AlertStatus,
    group: &GroupKey,
    is_open: &mut bool,
    out: &mut Vec<u8>,
) {
    if !status.muted_by.is_empty() {
        // Shown only: `active=` asks whether it is silenced or inhibited.
        status.state = "suppressed";
    }
    out.push(b',');
    if !std::mem::replace(is_open, true) {
        out.extend_from_slice(b"{\"labels\":");
        add(out, &group.labels.iter().map(|(name, value)| (name, value)).collect::<BTreeMap<_, _>>());
        out.extend_from_slice(b",\"routeLabels\":{},\"receiver\":");
        add(out, &json!({ "name": group.receiver }));
        out.extend_from_slice(b",\"alerts\":[");
    }
    add(out, &Alert::of(alert, status));
}

/// The answer to a POST of alerts of which some were not valid: the others are kept all the same.
pub fn bad_alerts(mistakes: &Mistakes) -> String {
    let words = |mistake: &AlertProblem| format!("alert {}: {}", mistake.index, mistake.detail);
    let mut words: Vec<String> = mistakes.listed.iter().map(words).collect();
    match mistakes.unlisted() {
        0 => {}
        more => words.push(format!("{more} more alerts are wrong")),
    }
    serde_json::to_string(&words.join("; ")).expect("text is JSON")
}
