//! `/api/v1/silences`: made, changed, ended, listed, and tried out before they are made. Matchers are texts and know
//! order operators; else all is as over Alertmanager's API.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ams2_core::{
    AlertBatch, Fingerprint, Machine, Position, Wall,
    effect::{AlertChange, Decided},
    input::Input,
    machine::SilenceView,
    matcher::{Compiled, Matcher},
    silence::{SetSilence, SilenceError, SilenceId, SilenceOrder, SilenceState},
};
use axum::{
    Extension, Json, Router as Routes,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    api::{Api, Operator, compile, newest, own_texts_of, write},
    pieces::{Listing, Quota, Took, Unwritten, streamed, walk},
    problem::{Problem, bad_matcher},
    views,
};
use crate::flight::Room;

/// Longest silence in seconds: ten years.
const SECONDS_MAX: u64 = 10 * 366 * 86_400;
/// Most alerts that a preview shows of each kind.
const PREVIEW_MAX: usize = 1_000;
/// Most alerts of the past whose texts a preview reads.
const RECENT_MAX: usize = 2_000;

pub(super) fn routes(api: Api) -> Routes {
    Routes::new()
        .route("/api/v1/silences", get(list).post(set))
        .route("/api/v1/silences/expire", post(expire))
        .route("/api/v1/silences/preview", post(preview))
        .with_state(api)
}

/// A silence as somebody wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetOrder {
    /// Which one to change; a new one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Matchers, one an entry; all must match. Those of the one that is changed when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<String>,
    /// When it begins, RFC 3339; now when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<String>,
    /// When it ends, RFC 3339; this or `seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// For how long from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Who makes it; the authenticated client when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why; that of the one that is changed when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// More about it, for other tools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<SmolStr, String>,
}

/// The answer: which silence it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDone {
    /// Its id: another than the one that was to be changed where a new one takes its place.
    pub id: String,
    /// Its sequence number in the journal.
    pub sequence: u64,
}

/// Which silence is to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireOrder {
    /// Its id.
    pub id: String,
}

/// What a silence would hold back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewOrder {
    /// Matchers, one an entry; all must match.
    pub matchers: Vec<String>,
}

/// Alerts that a silence would hold back, or would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Those that fire now; at most 1,000.
    pub current: Vec<views::Alert>,
    /// How many fire now and match.
    pub current_count: usize,
    /// Labels of those that fired a while ago and are over; as far as the newest decisions reach.
    pub recent: Vec<BTreeMap<String, String>>,
}

/// Filters of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `active`, `pending` or `expired`; all that are not over when absent.
    state: Option<String>,
    /// Matchers that the silence must have.
    filter: Option<String>,
}

async fn list(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    const STATES: [SilenceState; 3] = [SilenceState::Active, SilenceState::Pending, SilenceState::Expired];
    let wanted = match query.state.as_deref() {
        None => vec![SilenceState::Active, SilenceState::Pending],
        Some("all") => STATES.to_vec(),
        Some(word) => match STATES.iter().find(|state| state.word() == word) {
            Some(state) => vec![*state],
            None => {
                let mend = "write state=active, pending, expired or all";
                return Err(Problem::bad(format!("state is `{word}`"), mend));
            }
        },
    };
    let filter =
        ams2_core::matcher::parse_list(query.filter.as_deref().unwrap_or("")).map_err(bad_matcher)?;
    let place = move |view: &SilenceView<'_>| {
        let is_wanted =
            wanted.contains(&view.state) && filter.iter().all(|m| view.silence.matchers.contains(m));
        is_wanted.then(|| (view.state.word(), view.silence.ends))
    };
    let show = |view: &SilenceView<'_>, out: &mut Vec<u8>| write(out, &views::Silence::of(view));
    Ok(listed_silences(&api, room, place, show).await?)
}

/// Lists the silences to which `place` gives a place, in the order of places and ids, each as `show` writes it.
pub(crate) async fn listed_silences<K, P, S>(
    api: &Api,
    room: Room,
    place: P,
    show: S,
) -> Result<Response, Unwritten>
where
    K: Ord + Send + 'static,
    P: Fn(&SilenceView<'_>) -> Option<K> + Send + Sync + 'static,
    S: Fn(&SilenceView<'_>, &mut Vec<u8>) + Send + 'static,
{
    let (place, clock) = (Arc::new(place), api.clock.clone());
    let place_of = place.clone();
    let look = move |machine: &Machine, row, found: &mut Vec<(K, SilenceId)>| {
        let view = machine.silence_in(row, clock().wall(machine.wall_offset_ms()));
        let place = view.and_then(|view| Some((place_of(&view)?, view.silence.id)));
        found.extend(place);
        Took::LOOK
    };
    let mut found = walk(&api.router, Machine::silence_bound, Vec::new(), look).await?;
    found.sort_unstable();
    let ids = found.into_iter().map(|(_, id)| id).collect();
    streamed(api, room, SilenceList { ids, next: 0, place, show }).await
}

struct SilenceList<P, S> {
    ids: Vec<SilenceId>,
    next: usize,
    place: Arc<P>,
    show: S,
}

impl<K, P, S> Listing for SilenceList<P, S>
where
    P: Fn(&SilenceView<'_>) -> Option<K> + Send + Sync + 'static,
    S: Fn(&SilenceView<'_>, &mut Vec<u8>) + Send + 'static,
{
    fn write(&mut self, machine: &Machine, now: Wall, quota: &mut Quota, out: &mut Vec<u8>) -> bool {
        while let Some(id) = self.ids.get(self.next).filter(|_| !quota.is_used()) {
            self.next += 1;
            let before = out.len();
            let silence = machine.silence(*id);
            let view = silence.map(|silence| SilenceView { silence, state: silence.state(now) });
            // Meanwhile it may have become another.
            if let Some(view) = view.filter(|view| (self.place)(view).is_some()) {
                out.push(b',');
                (self.show)(&view, out);
            }
            quota.take(Took::rows(1, out.len() - before));
        }
        self.next < self.ids.len()
    }
}

async fn set(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    order: Result<Json<SetOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(order) = order?;
    let id = order.id.as_deref().map(silence_id).transpose()?;
    let known = match id {
        None => None,
        Some(id) => {
            let found = api.router.ask(move |folded| folded.machine.silence(id).cloned()).await?;
            Some(found.ok_or_else(|| not_found(id))?)
        }
    };
    let matchers = match (order.matchers.as_slice(), &known) {
        ([], Some(known)) => known.matchers.clone(),
        (texts, _) => parse(texts)?,
    };
    let clock = api.clock.clone();
    let now = api.router.ask(move |folded| clock().wall(folded.machine.wall_offset_ms())).await?;
    let starts = match (order.starts_at.as_deref(), &known) {
        (Some(text), _) => moment("starts_at", text)?,
        // An edit leaves the beginning where it is.
        (None, Some(known)) => known.starts,
        (None, None) => now,
    };
    let ends = match (order.ends_at.as_deref(), order.seconds, &known) {
        (Some(text), None, _) => moment("ends_at", text)?,
        (None, Some(seconds), _) if (1..=SECONDS_MAX).contains(&seconds) => {
            Wall(starts.0.max(now.0).saturating_add_unsigned(seconds * 1000))
        }
        (None, Some(_), _) => {
            return Err(Problem::bad(
                "the time is 0 or more than ten years",
                "give seconds from 1 to 316224000",
            ));
        }
        (None, None, Some(known)) => known.ends,
        _ => return Err(Problem::bad("when it ends is not clear", "give one of `ends_at` and `seconds`")),
    };
    // Whom it names is on record beside who was let in.
    let (by, client) = match order.by.filter(|by| *by != operator.0) {
        Some(by) => (SmolStr::from(by), operator.0),
        None => (operator.0, SmolStr::default()),
    };
    let comment = order.comment.or_else(|| known.as_ref().map(|known| known.comment.clone()));
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|error| Problem::bad(error.to_string(), "this is a fault of the system"))?;
    let order = SilenceOrder::Set(Box::new(SetSilence {
        id,
        fresh: SilenceId::from_random(u128::from_le_bytes(bits)),
        matchers,
        starts: Some(starts),
        ends,
        by,
        comment: comment.unwrap_or_default(),
        annotations: order.annotations,
        client,
    }));
    let sequence = append(&api, order).await?;
    let id = api
        .router
        .ask(move |folded| folded.machine.silence_set_by(sequence).map(|silence| silence.id))
        .await?;
    let id = id.ok_or_else(|| Problem::conflict("something changed while it was set", "try again"))?;
    Ok(Json(SetDone { id: id.to_string(), sequence }).into_response())
}

async fn expire(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    order: Result<Json<ExpireOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(order) = order?;
    let id = silence_id(&order.id)?;
    let sequence = append(&api, SilenceOrder::Expire { id, by: operator.0 }).await?;
    Ok(Json(SetDone { id: id.to_string(), sequence }).into_response())
}

/// Appends an order that can be followed, and waits until it is.
async fn append(api: &Api, order: SilenceOrder) -> Result<u64, Problem> {
    let (asked, clock) = (order.clone(), api.clock.clone());
    let checked = api
        .router
        .ask(move |folded| {
            let now = clock().wall(folded.machine.wall_offset_ms());
            folded.machine.check_silence(&asked, now)
        })
        .await?;
    checked.map_err(|error| match error {
        SilenceError::Unknown(id) => not_found(id),
        other => Problem::bad(other.to_string(), "docs/muting.md has the rules"),
    })?;
    let sequence = (api.inputs)(Input::Silence(order)).await?;
    api.router.folded(sequence).await?;
    Ok(sequence)
}

/// Shows what a silence with these matchers would hold back now, and would have held back lately.
async fn preview(
    State(api): State<Api>,
    order: Result<Json<PreviewOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(order) = order?;
    let matchers = parse(&order.matchers)?;
    let (compiled, severities, offset, decisions) = api
        .router
        .ask(move |folded| {
            let (compiled, severities) = compile(&matchers, &folded.machine)?;
            let (offset, decisions) = newest(folded);
            Ok::<_, Problem>((compiled, severities, offset, decisions))
        })
        .await??;
    let asked = compiled.clone();
    let look = move |machine: &Machine, row, (preview, firing): &mut (Preview, BTreeSet<Fingerprint>)| {
        let Some(alert) = machine.alert_in(row).filter(|alert| alert.is_firing()) else { return Took::LOOK };
        firing.insert(alert.fingerprint());
        if !alert.matches(&asked) {
            return Took::LOOK;
        }
        preview.current_count += 1;
        if preview.current.len() >= PREVIEW_MAX {
            return Took::LOOK;
        }
        let bytes = alert.labels().chain(alert.annotations()).map(|(name, value)| name.len() + value.len());
        let bytes = bytes.sum();
        preview.current.push(views::Alert::of(&alert, offset));
        Took::rows(1, bytes)
    };
    let (mut answer, mut seen) =
        walk(&api.router, Machine::alert_bound, <(Preview, BTreeSet<Fingerprint>)>::default(), look).await?;
    // Newest first, each alert once.
    let lately = decisions.iter().rev().filter_map(|record| match record.what {
        Decided::Alert { alert, position, change: AlertChange::Fired | AlertChange::Occurred } => {
            seen.insert(alert).then_some(position)
        }
        _ => None,
    });
    let lately: Vec<Position> = lately.take(RECENT_MAX).collect();
    let recent = own_texts_of(&api.router, lately.into_iter().map(|at| (at, vec![at])).collect()).await?;
    let texts = api.texts.clone();
    let read = api.text_readers.run(move || {
        let fits = |batch: &AlertBatch| -> Option<BTreeMap<String, String>> {
            let alert = batch.alert(0)?;
            let matches = |m: &Compiled| m.matches(alert.label(&m.matcher.name), &severities);
            let labels = alert.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
            compiled.iter().all(matches).then(|| labels.collect())
        };
        let labels = recent.into_iter().filter_map(|(position, own)| match own.first() {
            Some((_, batch)) => fits(batch),
            // What is lost or past its retention is not shown.
            None => fits(&texts.alert(position).ok()?.batch),
        });
        labels.take(PREVIEW_MAX).collect::<Vec<_>>()
    });
    answer.recent = read.await.map_err(|error| Problem::bad(error.to_string(), "this is a fault of ams2"))?;
    Ok(Json(answer).into_response())
}

fn parse(texts: &[String]) -> Result<Vec<Matcher>, Problem> {
    if texts.is_empty() {
        return Err(Problem::bad(
            "no matcher says which alerts",
            "give at least one, such as `event=\"Virus Found\"`",
        ));
    }
    texts.iter().map(|text| Matcher::parse(text).map_err(bad_matcher)).collect()
}

fn moment(field: &str, text: &str) -> Result<Wall, Problem> {
    let read = text.parse::<jiff::Timestamp>();
    read.map(|moment| Wall(moment.as_millisecond())).map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        Problem::bad(
            format!("{field}: `{shown}` is no time by RFC 3339"),
            "write it like 2026-11-24T02:10:00Z",
        )
    })
}

fn silence_id(text: &str) -> Result<SilenceId, Problem> {
    SilenceId::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        Problem::bad(format!("`{shown}` is no silence id"), "`ams2 silence query` shows them")
    })
}

fn not_found(id: SilenceId) -> Problem {
    Problem::status(
        StatusCode::NOT_FOUND,
        format!("there is no silence {id}"),
        "`ams2 silence query --state all` shows them",
    )
}
