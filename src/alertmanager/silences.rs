//! Silences over Alertmanager's API: listed, made, changed and ended.

use ams2_core::{
    Input, Machine, Wall,
    machine::SilenceView,
    matcher::{Matcher, Op},
    silence::{SetSilence, SilenceError, SilenceId, SilenceOrder, SilenceState},
};
use axum::{
    Extension,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use smol_str::SmolStr;

use super::{
    api::{Answer, Failed, add, not_a_uuid, schema, text},
    filter::Asked,
    views::ShownSilence,
};
use crate::{
    console::{Api, Operator, json, listed_silences},
    flight::Room,
};

/// `GET /api/v2/silences`.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    RawQuery(query): RawQuery,
) -> Answer {
    let asked = Asked::read(query.as_deref())?;
    let place = move |view: &SilenceView<'_>| {
        let wanted = match view.state {
            SilenceState::Active => asked.active,
            SilenceState::Pending => asked.pending,
            SilenceState::Expired => asked.expired,
        };
        // A silence is asked for by what it says, not by what it would match.
        let says = || asked.filter.iter().all(|m| view.silence.matchers.iter().any(|own| own == m));
        // Active ones by their end, pending ones by their beginning, expired ones latest first.
        let moment = match view.state {
            SilenceState::Active => view.silence.ends.0,
            SilenceState::Pending => view.silence.starts.0,
            SilenceState::Expired => -view.silence.ends.0,
        };
        (wanted && says()).then_some((view.state, moment))
    };
    let show = |view: &SilenceView<'_>, out: &mut Vec<u8>| add(out, &ShownSilence::of(view));
    Ok(listed_silences(&api, room, place, show).await?)
}

/// `GET /api/v2/silence/{id}`.
pub(super) async fn one(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let Some(id) = SilenceId::parse(&id) else { return Ok(not_a_uuid(&id)) };
    let clock = api.clock.clone();
    let found = api
        .router
        .ask(move |folded| {
            let now = clock().wall(folded.machine.wall_offset_ms());
            let silence = folded.machine.silence(id)?;
            let view = SilenceView { silence, state: silence.state(now) };
            Some(serde_json::to_vec(&ShownSilence::of(&view)).expect("plain data encodes"))
        })
        .await?;
    Ok(match found {
        Some(body) => json(body),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

/// `DELETE /api/v2/silence/{id}`: ends it, and keeps it for those who ask later.
pub(super) async fn expire(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
) -> Answer {
    let Some(id) = SilenceId::parse(&id) else { return Ok(not_a_uuid(&id)) };
    let known = api.router.ask(move |folded| folded.machine.silence(id).is_some()).await?;
    if !known {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let order = SilenceOrder::Expire { id, by: operator.0 };
    let sequence = (api.inputs)(Input::Silence(order)).await?;
    api.router.folded(sequence).await?;
    Ok(StatusCode::OK.into_response())
}

/// `postableSilence`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    id: Option<String>,
    matchers: Option<Vec<PostedMatcher>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<SmolStr>,
    comment: Option<String>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<SmolStr, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: Option<SmolStr>,
    value: Option<SmolStr>,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

/// `POST /api/v2/silences`.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    check_body(&headers, &body)?;
    // `null` is an object without fields there.
    let posted = match serde_json::from_slice::<Option<Posted>>(&body) {
        Ok(posted) => posted.unwrap_or_default(),
        Err(error) => {
            let message = format!("parsing silence body from \"\" failed, because {error}");
            return Ok(schema(StatusCode::BAD_REQUEST, 400, message));
        }
    };
    let set = wanted(posted)?;
    let fresh = SilenceId::from_random(random()?);
    // Whom it names is on record beside who was let in.
    let client = if set.by == operator.0 { SmolStr::default() } else { operator.0 };
    let order = SilenceOrder::Set(Box::new(SetSilence { fresh, client, ..set }));
    let asked = order.clone();
    let clock = api.clock.clone();
    let checked = api
        .router
        .ask(move |folded| {
            let now = clock().wall(folded.machine.wall_offset_ms());
            folded.machine.check_silence(&asked, now)
        })
        .await?;
    if let Err(error) = checked {
        return Ok(refused(&error));
    }
    let sequence = (api.inputs)(Input::Silence(order.clone())).await?;
    api.router.folded(sequence).await?;
    let id = api
        .router
        .ask(move |folded| match folded.machine.silence_set_by(sequence) {
            Some(silence) => Ok(silence.id),
            // Something changed after it was checked.
            None => Err(why_not(&folded.machine, &order)),
        })
        .await?;
    Ok(match id {
        Ok(id) => json(format!("{{\"silenceID\":\"{id}\"}}").into_bytes()),
        Err(error) => refused(&error),
    })
}

/// Whether a body is there, and said to be JSON if it says what it is.
fn check_body(headers: &HeaderMap, body: &Bytes) -> Result<(), Failed> {
    let refused = |status: StatusCode, code, message| Err(Failed::new(schema(status, code, message)));
    if body.trim_ascii().is_empty() {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, 602, "silence in body is required".into());
    }
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = String::from_utf8_lossy(kind.as_bytes());
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let message = format!("unsupported media type {kind:?}, only [application/json] are allowed");
            return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, message);
        }
    }
    Ok(())
}

fn why_not(machine: &Machine, order: &SilenceOrder) -> SilenceError {
    let now = machine.at().wall(machine.wall_offset_ms());
    machine.check_silence(order, now).err().unwrap_or(SilenceError::EndsInPast)
}

fn random() -> Result<u128, Failed> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Failed::internal(error.to_string()))?;
    Ok(u128::from_le_bytes(bits))
}

/// What the body asks for, or the answer to one that lacks what its schema demands.
fn wanted(posted: Posted) -> Result<SetSilence, Failed> {
    let required = |name: &str| {
        Failed::new(schema(StatusCode::UNPROCESSABLE_ENTITY, 602, format!("{name} in body is required")))
    };
    let comment = posted.comment.ok_or_else(|| required("comment"))?;
    let by = posted.created_by.ok_or_else(|| required("createdBy"))?;
    let ends = posted.ends_at.ok_or_else(|| required("endsAt"))?;
    let given = posted.matchers.ok_or_else(|| required("matchers"))?;
    let starts = posted.starts_at.ok_or_else(|| required("startsAt"))?;
    if given.is_empty() {
        let message = "matchers in body should have at least 1 items";
        return Err(Failed::new(schema(StatusCode::UNPROCESSABLE_ENTITY, 612, message.into())));
    }
    let mut matchers = Vec::with_capacity(given.len());
    for (index, matcher) in given.into_iter().enumerate() {
        let required = |name: &str| required(&format!("matchers.{index}.{name}"));
        let is_regex = matcher.is_regex.ok_or_else(|| required("isRegex"))?;
        let name = matcher.name.ok_or_else(|| required("name"))?;
        let value = matcher.value.ok_or_else(|| required("value"))?;
        let op = match (is_regex, matcher.is_equal.unwrap_or(true)) {
            (false, true) => Op::Equal,
            (false, false) => Op::NotEqual,
            (true, true) => Op::Regex,
            (true, false) => Op::NotRegex,
        };
        if name.is_empty() {
            let words = "invalid silence: invalid label matcher: invalid label name \"\"";
            return Err(Failed::new(text(StatusCode::BAD_REQUEST, words)));
        }
        matchers.push(Matcher { name, value, op });
    }
    let moment = |name: &str, text: &str| {
        let read = text.parse::<jiff::Timestamp>();
        let wrong = |_| {
            let message = format!(
                "parsing silence body from \"\" failed, because {name} is no time by RFC 3339: {text:?}"
            );
            Failed::new(schema(StatusCode::BAD_REQUEST, 400, message))
        };
        read.map(|moment| Wall(moment.as_millisecond())).map_err(wrong)
    };
    let id = match posted.id.filter(|id| !id.is_empty()) {
        None => None,
        // What is no id at all is an id that nobody has.
        Some(id) => {
            let unknown = || Failed::new(text(StatusCode::NOT_FOUND, &format!("silence {id} not found")));
            Some(SilenceId::parse(&id).ok_or_else(unknown)?)
        }
    };
    // Go's zero time stands for none.
    let none = |text: &str| text.starts_with("0001-01-01T00:00:00");
    let starts_at = if none(&starts) { None } else { Some(moment("startsAt", &starts)?) };
    let ends_at = if none(&ends) { Wall(0) } else { moment("endsAt", &ends)? };
    if starts_at.is_some_and(|starts| starts >= ends_at) {
        let words = "Failed to create silence: start time must be before end time";
        return Err(Failed::new(text(StatusCode::BAD_REQUEST, words)));
    }
    Ok(SetSilence {
        id,
        fresh: SilenceId::default(),
        matchers,
        starts: starts_at,
        ends: ends_at,
        by,
        comment,
        annotations: posted.annotations,
        client: SmolStr::default(),
    })
}

/// A silence that the router refuses.
fn refused(error: &SilenceError) -> Response {
    match error {
        SilenceError::Unknown(_) => text(StatusCode::NOT_FOUND, &error.to_string()),
        SilenceError::EndsInPast => {
            text(StatusCode::BAD_REQUEST, "Failed to create silence: end time can't be in the past")
        }
        SilenceError::EndsBeforeStart => {
            text(StatusCode::BAD_REQUEST, "Failed to create silence: start time must be before end time")
        }
        other => text(StatusCode::BAD_REQUEST, &other.to_string()),
    }
}
