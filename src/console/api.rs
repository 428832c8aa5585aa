//! `/api/v1/*` but the posting of alerts: what it stands on, its routes, and its queries.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use ams2_core::{
    AlertBatch, At, Machine, Position, Record, Severities,
    config::Removed,
    input::Input,
    machine::{DeliveryStanding, DeliveryView, GroupView},
    matcher::{Compiled, Matcher},
};
use axum::{
    Extension, Json, Router as Routes,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    Decision, clients,
    decisions::with_digests,
    done::{Done as Ended, done},
    orders,
    pieces::{self, Took, json, walk},
    problem::{Problem, bad_matcher},
    silences, views,
};
use crate::{
    alertmanager,
    flight::{Flight, Full, Room},
    handler::{Handler, Texts},
    pool::Pool,
    router::{Folded, Router, Unanswered},
};

/// Most rows that one answer holds.
pub(super) const ROWS_MAX: usize = 100_000;
/// Rows that it holds unless `limit` asks for others.
pub(super) const ROWS_SHOWN: usize = 1_000;
/// Deliveries that a filter looks at: each takes the router about a microsecond, and a text from the disk.
const DELIVERIES_LOOKED: usize = 100_000;
/// Things whose own texts one question looks for.
const OWN_TEXTS_AT_ONCE: usize = 512;
/// Says that an answer holds not all that there is: `100 of 2345`, or `100 of more` where counting all would take long.
pub const TRUNCATED: &str = "x-ams2-truncated";
/// Says from which sequence number on decisions are known: older ones are not in memory any more.
pub const KNOWN_FROM: &str = "x-ams2-known-from";
/// Decisions that an answer holds unless `limit` asks for more.
const DECISIONS_SHOWN: usize = 100;
/// Paths whose answer waits for a far end, or for files and the disk.
pub const SLOW_PATHS: [&str; 2] = ["/api/v1/actions/test", "/-/reload"];

/// Who asks: put into each request by whoever authenticated it.
#[derive(Clone, Debug)]
pub struct Operator(pub SmolStr);

/// Why an input was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot take it now; try again in {} s", retry_after.as_secs())]
pub struct NotAppended {
    /// When to try again.
    pub retry_after: Duration,
}

type Appended = Pin<Box<dyn Future<Output = Result<u64, NotAppended>> + Send>>;

/// Where inputs go: answers with the sequence number once it is flushed.
pub type Inputs = Arc<dyn Fn(Input) -> Appended + Send + Sync>;

/// Loads the configuration again; `Err` holds every mistake as text, and the old one stays.
pub type Reload =
    Arc<dyn Fn(ReloadOrder) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// A word to load the configuration again.
#[derive(Clone, Debug)]
pub struct ReloadOrder {
    /// Who says so.
    pub by: SmolStr,
    /// What becomes of deliveries that wait for actions which the file has no more, where its `removed:` says nothing.
    pub removed: Option<Removed>,
}

/// What the API stands on.
#[derive(Clone)]
pub struct Api {
    /// Answers queries.
    pub router: Router,
    /// Takes commands.
    pub inputs: Inputs,
    /// Takes what clients say.
    pub intake: Inputs,
    /// Loads the configuration again.
    pub reload: Reload,
    /// Tests actions.
    pub handler: Arc<Handler>,
    /// Texts of alerts that deliveries tell of.
    pub texts: Arc<dyn Texts>,
    /// The journal's clock.
    pub clock: Arc<dyn Fn() -> At + Send + Sync>,
    /// When the process started, on it.
    pub started: At,
    /// Reads texts and writes long answers.
    pub text_readers: Arc<Pool>,
}

/// The routes.
pub fn routes(api: Api) -> Routes {
    Routes::new()
        .route("/api/v1/groups", get(groups))
        .route("/api/v1/heartbeats", get(heartbeats))
        .route("/api/v1/decisions", get(decisions))
        .route("/api/v1/deliveries", get(deliveries))
        .route("/api/v1/deliveries/retry", post(orders::retry))
        .route("/api/v1/deliveries/drop", post(orders::drop_deliveries))
        .route("/api/v1/acknowledgements", post(orders::acknowledge))
        .route("/api/v1/actions", get(actions))
        .route("/api/v1/actions/test", post(orders::test_action))
        .route("/-/reload", post(orders::reload))
        .with_state(api.clone())
        .merge(clients::routes(api.clone()))
        .merge(silences::routes(api.clone()))
        .merge(alertmanager::routes(api))
}

/// `GET /api/v1/alerts`: mounted beside the POST that takes alerts.
pub async fn alerts(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: RowQueried,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let filter = query.filter()?;
    let limit = query.limit();
    let (offset, matchers) = api
        .router
        .ask(move |folded| {
            Ok::<_, Problem>((folded.machine.wall_offset_ms(), compile(&filter, &folded.machine)?.0))
        })
        .await??;
    let look = move |machine: &Machine, row, out: Option<&mut Vec<u8>>| {
        let Some(alert) = machine.alert_in(row).filter(|alert| alert.matches(&matchers)) else {
            return false;
        };
        if let Some(out) = out {
            write(out, &views::Alert::of(&alert, offset));
        }
        true
    };
    let (response, found) = pieces::listed(&api, room, limit, Machine::alert_bound, look).await?;
    Ok(cut_to(response, limit, found))
}

pub(super) fn write(out: &mut Vec<u8>, row: &impl Serialize) {
    serde_json::to_writer(out, row).expect("plain data encodes");
}

/// A list of at most `limit` of those that were found.
pub(super) fn cut_to(response: Response, limit: usize, found: usize) -> Response {
    let shown = found.min(limit);
    truncated(response, shown, More::Rows(found - shown))
}

/// What is not in an answer.
pub(super) enum More {
    /// So many rows; 0 for none.
    Rows(usize),
    /// Some: nobody counted them.
    Some,
}

/// Rows that are written one after the other, each counted from then on.
pub(super) struct Written {
    json: Vec<u8>,
    rows: usize,
    flight: Flight,
}

impl Written {
    pub fn new(room: &Room) -> Written {
        Written { json: Vec::new(), rows: 0, flight: room.flight() }
    }

    pub fn push(&mut self, row: &impl Serialize) -> Result<(), Full> {
        let before = self.json.len();
        self.json.push(if self.rows == 0 { b'[' } else { b',' });
        write(&mut self.json, row);
        self.rows += 1;
        self.flight.add(self.json.len() - before)
    }

    /// Whether it is as large as answers get.
    fn is_full(&self) -> bool {
        self.json.len() >= LIST_BYTES_MAX
    }

    /// As an answer, which says when the rows are not all.
    pub fn answer(mut self, more: More) -> Response {
        self.json.extend_from_slice(if self.rows == 0 { b"[]" } else { b"]" });
        truncated(json(self.flight.around(self.json)), self.rows, more)
    }
}

/// Largest list that is written before it is answered, in bytes, give or take a row.
const LIST_BYTES_MAX: usize = 32 << 20;

/// An answer that says how many rows it does not hold.
fn truncated(mut response: Response, shown: usize, more: More) -> Response {
    let truncated = match more {
        More::Rows(0) => return response,
        More::Rows(more) => format!("{shown} of {}", shown + more),
        More::Some => format!("{shown} of more"),
    };
    let truncated = header::HeaderValue::from_str(&truncated).expect("words and digits are a header value");
    response.headers_mut().insert(header::HeaderName::from_static(TRUNCATED), truncated);
    response
}

/// Filters of a query. Every `filter` must match.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowQuery {
    /// Matchers as a list: `event="Virus Found",severity>=major`.
    filter: Option<String>,
    /// Most rows.
    limit: Option<usize>,
    /// For deliveries: `pending`, `dead`, `done` or `all`; pending and dead ones unless set.
    state: Option<String>,
}

type RowQueried = Result<Query<RowQuery>, QueryRejection>;

impl RowQuery {
    fn filter(&self) -> Result<Vec<Matcher>, Problem> {
        ams2_core::matcher::parse_list(self.filter.as_deref().unwrap_or("")).map_err(bad_matcher)
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(ROWS_SHOWN).min(ROWS_MAX)
    }
}

/// Matchers with the ranks of the config in force.
pub(super) fn compile(
    matchers: &[Matcher],
    machine: &Machine,
) -> Result<(Vec<Compiled>, Severities), Problem> {
    let severities = machine.config().map(|(config, _)| config.severities.clone()).unwrap_or_default();
    let compiled: Result<Vec<_>, _> =
        matchers.iter().map(|matcher| matcher.compile(&severities).map_err(bad_matcher)).collect();
    Ok((compiled?, severities))
}

async fn groups(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: RowQueried,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (limit, filter) = (query.limit(), query.filter()?);
    let matchers = api.router.ask(move |folded| compile(&filter, &folded.machine)).await??.0;
    let look = move |machine: &Machine, row, out: Option<&mut Vec<u8>>| {
        // A group is shown whole if one of its alerts matches.
        let shown = |group: &GroupView<'_>| {
            matchers.is_empty() || group.alerts().any(|alert| alert.matches(&matchers))
        };
        let Some(group) = machine.group_in(row).filter(shown) else { return false };
        if let Some(out) = out {
            write(out, &views::Group::of(&group));
        }
        true
    };
    let (response, found) = pieces::listed(&api, room, limit, Machine::group_bound, look).await?;
    Ok(cut_to(response, limit, found))
}

async fn heartbeats(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: RowQueried,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (limit, filter) = (query.limit(), query.filter()?);
    let matchers = api.router.ask(move |folded| compile(&filter, &folded.machine)).await??.0;
    let look = move |machine: &Machine, row, out: Option<&mut Vec<u8>>| {
        let heartbeat = machine.heartbeat_in(row).filter(|heartbeat| heartbeat.matches(&matchers));
        let Some(heartbeat) = heartbeat else { return false };
        if let Some(out) = out {
            write(out, &views::Heartbeat::of(&heartbeat));
        }
        true
    };
    let (response, found) = pieces::listed(&api, room, limit, Machine::heartbeat_bound, look).await?;
    Ok(cut_to(response, limit, found))
}

/// Filters of a query for decisions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionQuery {
    /// An alert's fingerprint, a delivery's id, a group's key, a silence's id, or a heartbeat's or client's name.
    about: Option<String>,
    /// Most rows.
    limit: Option<usize>,
}

/// The newest decisions, newest first.
async fn decisions(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: Result<Query<DecisionQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(DECISIONS_SHOWN).min(ROWS_MAX);
    let (offset, records) = api.router.ask(newest).await?;
    let known_from = records.first().map_or(0, |record| record.seq);
    let written = api.text_readers.run(move || {
        let about = query.about.map(|what| with_digests(what, &records));
        let all = records.iter().rev().map(|record| Decision::of(record, offset));
        let concerns = |row: &Decision, what: &Vec<String>| what.iter().any(|what| row.concerns(what));
        let shown = all.filter(|row| about.as_ref().is_none_or(|what| concerns(row, what)));
        let (mut written, mut more) = (Written::new(&room), 0);
        for row in shown {
            if written.rows < limit && !written.is_full() {
                written.push(&row)?;
            } else {
                more += 1;
            }
        }
        Ok::<_, Full>(written.answer(More::Rows(more)))
    });
    let mut response = written.await.map_err(fault)??;
    response.headers_mut().insert(header::HeaderName::from_static(KNOWN_FROM), known_from.into());
    Ok(response)
}

/// The decisions in memory, oldest first, and how far the wall clock is ahead. They are shared, not copied: what is made
/// of them is made elsewhere than on the router's thread.
pub(super) fn newest(folded: &Folded) -> (i64, Vec<Arc<Record>>) {
    (folded.machine.wall_offset_ms(), folded.decisions.iter().cloned().collect())
}

fn fault(error: tokio::task::JoinError) -> Problem {
    Problem::bad(error.to_string(), "this is a fault of ams2")
}

/// A delivery that was found.
enum Found {
    Known(DeliveryView),
    Ended(Ended),
}

impl Found {
    fn positions(&self) -> Vec<Position> {
        match self {
            Found::Known(delivery) => delivery.positions.clone(),
            Found::Ended(delivery) => delivery.positions(),
        }
    }

    fn view(&self) -> views::Delivery {
        match self {
            Found::Known(delivery) => views::Delivery::of(delivery),
            Found::Ended(delivery) => delivery.view(),
        }
    }
}

async fn deliveries(
    State(api): State<Api>,
    Extension(room): Extension<Room>,
    query: RowQueried,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (limit, filter) = (query.limit(), query.filter()?);
    let (pending, dead, ended) = match query.state.as_deref() {
        None => (true, true, false),
        Some("all") => (true, true, true),
        Some("pending") => (true, false, false),
        Some("dead") => (false, true, false),
        Some("done") => (false, false, true),
        Some(other) => {
            let mend = "write state=pending, state=dead, state=done or state=all";
            return Err(Problem::bad(format!("state is `{other}`"), mend));
        }
    };
    // Which match is known once their texts are read.
    let most = if filter.is_empty() { limit } else { DELIVERIES_LOOKED };
    let (offset, records, matchers, severities) = api
        .router
        .ask(move |folded| {
            let (matchers, severities) = compile(&filter, &folded.machine)?;
            let (offset, records) = if ended { newest(folded) } else { Default::default() };
            Ok::<_, Problem>((offset, records, matchers, severities))
        })
        .await??;
    // One more than is looked at says that there are more.
    let look = move |machine: &Machine, row, (found, bytes): &mut (Vec<(Found, OwnTexts)>, usize)| {
        let is_dead = |delivery: &DeliveryView| matches!(delivery.standing, DeliveryStanding::Dead(_));
        if found.len() > most || *bytes > LIST_BYTES_MAX || !(pending || dead) {
            return Took::LOOK;
        }
        let delivery = machine.delivery_in(row).filter(|one| if is_dead(one) { dead } else { pending });
        let Some(delivery) = delivery else { return Took::LOOK };
        let own = own_texts(machine, &delivery.positions);
        // One that tells of many alerts has the place of each.
        let size = delivery.positions.len() * size_of::<Position>();
        *bytes += size;
        found.push((Found::Known(delivery), own));
        Took::found(size)
    };
    let (mut found, bytes) = walk(&api.router, Machine::delivery_bound, (Vec::new(), 0), look).await?;
    let mut is_more = found.len() > most || bytes > LIST_BYTES_MAX;
    found.truncate(most);
    if ended && !is_more {
        let mut ended = done(records.iter().map(|record| &**record), offset);
        is_more = ended.len() > most - found.len();
        ended.truncate(most - found.len());
        let told = ended.into_iter().map(|delivery| {
            let positions = delivery.positions();
            (Found::Ended(delivery), positions)
        });
        found.extend(own_texts_of(&api.router, told.collect()).await?);
    }
    // Texts are read from the disk: neither the router nor other clients wait for that.
    let read = api.text_readers.clone().run(move || {
        let told = Told { texts: &*api.texts, matchers: &matchers, severities: &severities };
        let mut rows = found.iter().filter_map(|(delivery, own)| told.row(delivery, own));
        let mut written = Written::new(&room);
        while written.rows < limit && !written.is_full() {
            let Some(row) = rows.next() else { break };
            written.push(&row)?;
        }
        // The rest is not looked at just to count it.
        let more = if is_more || rows.next().is_some() { More::Some } else { More::Rows(0) };
        Ok::<_, Full>(written.answer(more))
    });
    Ok(read.await.map_err(fault)??)
}

/// The texts of own alerts, by where they stand: the router alone has them.
pub(super) type OwnTexts = Vec<(Position, Arc<AlertBatch>)>;

fn own_texts(machine: &Machine, positions: &[Position]) -> OwnTexts {
    let own = positions.iter().filter(|position| position.is_raised());
    own.filter_map(|at| Some((*at, machine.own_text(*at)?))).collect()
}

/// Things with the texts of own alerts at their positions, some at a time.
pub(super) async fn own_texts_of<T: Send + 'static>(
    router: &Router,
    things: Vec<(T, Vec<Position>)>,
) -> Result<Vec<(T, OwnTexts)>, Unanswered> {
    let mut found = Vec::with_capacity(things.len());
    let mut things = things.into_iter().peekable();
    while things.peek().is_some() {
        let some: Vec<_> = things.by_ref().take(OWN_TEXTS_AT_ONCE).collect();
        let with_texts = move |folded: &Folded| -> Vec<_> {
            let texts = |(thing, at): (T, Vec<Position>)| (thing, own_texts(&folded.machine, &at));
            some.into_iter().map(texts).collect()
        };
        found.extend(router.ask(with_texts).await?);
    }
    Ok(found)
}

/// What deliveries tell of.
struct Told<'a> {
    texts: &'a dyn Texts,
    matchers: &'a [Compiled],
    severities: &'a Severities,
}

impl Told<'_> {
    /// The delivery as the API shows it, if one of its alerts matches.
    fn row(&self, delivery: &Found, own: &[(Position, Arc<AlertBatch>)]) -> Option<views::Delivery> {
        let positions = delivery.positions();
        let text = |position: &Position| match own.iter().find(|(known, _)| known == position) {
            Some((_, batch)) => Some((**batch).clone()),
            // What is lost, or cannot be read now, is shown without its labels.
            None => self.texts.alert(*position).ok().map(|stored| stored.batch),
        };
        let matches = |batch: &AlertBatch| {
            batch.alert(0).is_some_and(|alert| {
                self.matchers.iter().all(|m| m.matches(alert.label(&m.matcher.name), self.severities))
            })
        };
        let mut batches = positions.iter().map(text);
        let first = batches.next().flatten();
        let shown = self.matchers.is_empty()
            || first.as_ref().is_some_and(matches)
            || batches.flatten().any(|batch| matches(&batch));
        let mut row = delivery.view();
        if let Some(alert) = first.as_ref().and_then(|batch| batch.alert(0)) {
            row.labels = alert.labels().map(|(name, value)| (name.into(), value.into())).collect();
        }
        shown.then_some(row)
    }
}

async fn actions(State(api): State<Api>) -> Result<Response, Problem> {
    let pending = api.router.ask(|folded| folded.machine.pending()).await?;
    let rows: Vec<views::Action> = pending
        .into_iter()
        .filter(|of| of.present || of.pending > 0)
        .map(|of| views::Action {
            action: of.action.to_string(),
            present: of.present,
            pending: of.pending,
            in_flight: of.in_flight,
            failing: of.open,
        })
        .collect();
    Ok(Json(rows).into_response())
}
