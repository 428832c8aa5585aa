//! Clients: they check in, and operators see them and take one out of the list.

use ams2_core::{
    Machine,
    input::{CheckIn, ClientReport, ForgetClient, Input},
    machine::{CheckInRefused, ClientState},
};
use ams2_handlers::{Answer, Report, text::cut, units::Duration as Span};
use axum::{
    Extension, Json, Router as Routes,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use smol_str::{SmolStr, ToSmolStr};

use super::{
    api::{Api, Operator, ROWS_MAX, ROWS_SHOWN, cut_to, write},
    orders::Done,
    pieces::listed,
    problem::Problem,
    views,
};
use crate::{flight::Room, originator::Caller};

/// Longest of each text of a check-in, in bytes.
const TEXT_BYTES_MAX: usize = 128;
/// A clock that is wrong by less is nothing to speak of, in milliseconds.
const CLOCK_MS_MAX: u64 = 60_000;
/// The largest number that JSON's readers agree on (RFC 8259 section 6): nobody counts that far.
const COUNT_MAX: u64 = (1 << 53) - 1;

/// Put into an answer that tells somebody to keep out, beside those with 401 and 403: it is raised as they are.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Who.
    pub client: SmolStr,
    /// What was tried.
    pub what: String,
}

pub(super) fn routes(api: Api) -> Routes {
    Routes::new()
        .route("/api/v1/checkin", post(check_in))
        .route("/api/v1/clients", get(clients))
        // A name may have slashes in it.
        .route("/api/v1/clients/{*name}", get(client).delete(forget))
        .with_state(api)
}

/// A check-in was refused.
enum Refused {
    Problem(Problem),
    /// Another has the name.
    Denied(Problem, Denied),
}

impl<T: Into<Problem>> From<T> for Refused {
    fn from(problem: T) -> Refused {
        Refused::Problem(problem.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Refused::Problem(problem) => problem.into_response(),
            Refused::Denied(problem, denied) => {
                let mut response = problem.into_response();
                response.extensions_mut().insert(denied);
                response
            }
        }
    }
}

async fn check_in(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    report: Result<Json<Report>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(report) = report?;
    let client = caller.called(&report.server).map_err(|error| {
        let mend =
            "many share this token: `server` has letters, digits, `.`, `_`, `-` and `/`, at most 128 of them";
        Problem::bad(error.to_string(), mend)
    })?;
    check(&report)?;
    let (name, incarnation, clock) = (client.clone(), report.incarnation, api.clock.clone());
    let refuses = move |machine: &Machine| machine.refuses_check_in(&name, incarnation, clock());
    let (asked, clock, us) = (refuses.clone(), api.clock.clone(), api.handler.server());
    let (refused, wall_ms) = api
        .router
        .ask(move |folded| (asked(&folded.machine), clock().wall(folded.machine.wall_offset_ms()).0))
        .await?;
    refusal(refused, &client)?;
    let said = said(&report, &us.name, wall_ms);
    let ahead_ms = said.ahead_ms;
    let input = Input::CheckIn(CheckIn { client: client.clone(), address: caller.address, said });
    let sequence = (api.intake)(input).await?;
    // Two that come at once under one name are told apart by the router alone.
    api.router.folded(sequence).await?;
    let (refused, answer) = api
        .router
        .ask(move |folded| {
            let (machine, rules) = (&folded.machine, folded.machine.check_ins());
            let answer = Answer {
                router: us.name.to_string(),
                incarnation: us.journal,
                client: String::new(),
                period_ms: rules.period_ms,
                warnings: warnings(machine, ahead_ms),
            };
            (refuses(machine), answer)
        })
        .await?;
    if report.leaves_for.is_none() {
        refusal(refused, &client)?;
    }
    Ok(Json(Answer { client: client.to_string(), ..answer }).into_response())
}

/// Texts of others are short and plain, and numbers are ones that somebody can have counted.
fn check(report: &Report) -> Result<(), Problem> {
    let texts = [
        ("version", Some(&report.version)),
        ("config", Some(&report.config)),
        ("router", report.router.as_ref()),
        ("leaves_for", report.leaves_for.as_ref()),
    ];
    for (field, text) in texts {
        let text = text.map_or("", String::as_str);
        if text.len() > TEXT_BYTES_MAX || text.contains(char::is_control) {
            let message =
                format!("`{field}` is longer than {TEXT_BYTES_MAX} bytes, or has control characters");
            return Err(Problem::bad(message, "send it shorter and plain"));
        }
    }
    let counts = [report.waiting, report.held_back, report.delayed, report.dropped];
    if counts.iter().any(|count| *count > COUNT_MAX) {
        return Err(Problem::bad(format!("a number is larger than {COUNT_MAX}"), "send what was counted"));
    }
    Ok(())
}

/// What the router keeps of a report. Who comes from this one comes from nowhere.
fn said(report: &Report, us: &str, wall_ms: i64) -> ClientReport {
    let other = |router: &Option<String>| {
        router.as_deref().filter(|router| !router.is_empty() && *router != us).map(ToSmolStr::to_smolstr)
    };
    ClientReport {
        version: report.version.as_str().into(),
        config: report.config.as_str().into(),
        incarnation: report.incarnation,
        waiting: report.waiting,
        held_back: report.held_back,
        delayed: report.delayed,
        dropped: report.dropped,
        ahead_ms: report.clock_ms.map(|clock_ms| clock_ms.saturating_sub(wall_ms)),
        comes_from: other(&report.router),
        leaves_for: report.leaves_for.as_deref().map(ToSmolStr::to_smolstr),
    }
}

fn refusal(refused: Option<CheckInRefused>, client: &SmolStr) -> Result<(), Refused> {
    match refused {
        None => Ok(()),
        Some(CheckInRefused::NameTaken { address }) => {
            let detail =
                format!("another client is called `{client}`, and was heard of at {address} a while ago");
            let mend = "give each client a name of its own; if this one replaces it, run `ams2 client forget`, or wait until it is late";
            let what = format!("it said that it is `{client}`, which another is");
            Err(Refused::Denied(Problem::conflict(detail, mend), Denied { client: client.clone(), what }))
        }
        Some(CheckInRefused::Full { most }) => {
            let detail = format!("{most} clients check in here, and no more are taken (check_ins.most)");
            let mend = "let it check in at another router, raise the limit, or take clients out with `ams2 client forget`";
            Err(Problem::status(StatusCode::SERVICE_UNAVAILABLE, detail, mend).into())
        }
    }
}

/// What a client should know.
fn warnings(machine: &Machine, ahead_ms: Option<i64>) -> Vec<String> {
    let (count, advised) = (machine.client_count(), machine.check_ins().warn_above);
    let many = (count > advised as usize)
        .then(|| format!("{count} clients check in here; more than {advised} are not advised"));
    let clock = ahead_ms.filter(|ahead_ms| ahead_ms.unsigned_abs() >= CLOCK_MS_MAX).map(|ahead_ms| {
        let how = if ahead_ms > 0 { "ahead of" } else { "behind" };
        let seconds = Span::from_ms(ahead_ms.unsigned_abs() / 1_000 * 1_000);
        format!("its clock is {seconds} {how} this server's")
    });
    many.into_iter().chain(clock).collect()
}

/// Which clients.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientQuery {
    /// `present`, `late` or `missing`; all unless set.
    state: Option<String>,
    /// Most rows.
    limit: Option<usize>,
}

async fn clients(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: Result<Query<ClientQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    if let Some(state) = &query.state
        && !ClientState::WORDS.contains(&state.as_str())
    {
        let mend = "write state=present, state=late or state=missing";
        return Err(Problem::bad(format!("state is `{}`", cut(state, TEXT_BYTES_MAX)), mend));
    }
    let (limit, now) = (query.limit.unwrap_or(ROWS_SHOWN).min(ROWS_MAX), (api.clock)());
    let look = move |machine: &Machine, row, out: Option<&mut Vec<u8>>| {
        let Some(client) = machine.client_in(row) else { return false };
        if query.state.as_ref().is_some_and(|state| state != client.state(now).word()) {
            return false;
        }
        if let Some(out) = out {
            write(out, &views::Client::of(&client, now));
        }
        true
    };
    let (response, found) = listed(&api, room, limit, Machine::client_bound, look).await?;
    Ok(cut_to(response, limit, found))
}

fn no_such(name: &str) -> Problem {
    let detail = format!("no client is called `{}`", cut(name, TEXT_BYTES_MAX));
    Problem::status(StatusCode::NOT_FOUND, detail, "`ams2 client list` shows them all")
}

fn bad_path(rejection: PathRejection) -> Problem {
    Problem::bad(rejection.body_text(), "percent-encode the name")
}

async fn client(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(bad_path)?;
    let (asked, now) = (name.clone(), (api.clock)());
    let found = api
        .router
        .ask(move |folded| folded.machine.client(&asked).map(|client| views::Client::of(&client, now)));
    let found = found.await?.ok_or_else(|| no_such(&name))?;
    Ok(Json(found).into_response())
}

async fn forget(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(bad_path)?;
    let asked = name.clone();
    if !api.router.ask(move |folded| folded.machine.client(&asked).is_some()).await? {
        return Err(no_such(&name));
    }
    let input = Input::ForgetClient(ForgetClient { name: name.into(), by: operator.0 });
    let sequence = (api.inputs)(input).await?;
    // Whoever asks next finds it gone.
    api.router.folded(sequence).await?;
    Ok(Json(Done { sequence, count: 1 }).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_routers_and_of_its_clock_is_made_of_what_is_known_here() {
        let report = |router: &str, clock_ms| Report {
            router: Some(router.into()),
            clock_ms,
            leaves_for: None,
            ..Report::default()
        };
        for (router, comes_from) in [("branch", Some("branch")), ("us", None), ("", None)] {
            assert_eq!(said(&report(router, None), "us", 0).comes_from.as_deref(), comes_from, "{router:?}");
        }
        for (clock_ms, ahead_ms) in [
            (None, None),
            (Some(7_000), Some(2_000)),
            (Some(i64::MIN), Some(i64::MIN)),
            (Some(0), Some(-5_000)),
        ] {
            assert_eq!(said(&report("", clock_ms), "us", 5_000).ahead_ms, ahead_ms);
        }
        let machine = Machine::new();
        let hours = 5 * 3_600_000;
        for (ahead_ms, words) in [
            (None, None),
            (Some(59_999), None),
            (Some(hours), Some("its clock is 5h ahead of this server's")),
            (Some(-hours - 1), Some("its clock is 5h behind this server's")),
        ] {
            assert_eq!(warnings(&machine, ahead_ms).first().map(String::as_str), words, "{ahead_ms:?}");
        }
        assert_eq!(warnings(&machine, Some(i64::MIN)).len(), 1);
    }

    #[test]
    fn texts_that_are_long_or_no_text_and_numbers_without_end_are_refused() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        for report in [
            Report { version: long.clone(), ..Report::default() },
            Report { config: "a\u{1b}[2J".into(), ..Report::default() },
            Report { router: Some("a\nb".into()), ..Report::default() },
            Report { leaves_for: Some(long.clone()), ..Report::default() },
            Report { waiting: COUNT_MAX + 1, ..Report::default() },
        ] {
            assert!(check(&report).is_err(), "{report:?}");
        }
        let good = Report { version: long[1..].into(), dropped: COUNT_MAX, ..Report::default() };
        assert!(check(&good).is_ok());
    }
}
