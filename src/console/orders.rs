//! Orders of operators: words on deliveries, acknowledgements, tests of actions, and `/-/reload`.

use ams2_core::{
    Machine,
    config::{ActionId, Removed},
    input::{Acknowledge, DeliveryCommand, DeliveryId, DeliverySelection, DeliveryVerb, Input, Receipt},
    matcher::Matcher,
};
use ams2_handlers::text::one_line;
use axum::{
    Extension, Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    api::{Api, Operator, ReloadOrder, compile},
    pieces::{Took, walk},
    problem::{Problem, bad_matcher},
};
use crate::{config, router::Folded};

/// Longest acknowledgement: a year.
const ACKNOWLEDGE_MS_MAX: u64 = 366 * 86_400_000;
/// Longest name and comment of an acknowledgement, in bytes.
const BY_BYTES_MAX: usize = 256;
const COMMENT_BYTES_MAX: usize = 4 << 10;

/// Which deliveries: exactly one of the three.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryOrder {
    /// One delivery, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Every dead letter of an action, as `receiver/kind/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Every dead letter.
    #[serde(skip_serializing_if = "is_false")]
    pub all_dead: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl DeliveryOrder {
    fn selection(&self) -> Result<DeliverySelection, Problem> {
        match (&self.id, &self.action, self.all_dead) {
            (Some(id), None, false) => DeliveryId::parse(id).map(DeliverySelection::One).ok_or_else(|| {
                Problem::bad(
                    format!("`{id}` is no delivery id"),
                    "ids have 32 hex digits: `ams2 query deliveries` shows them",
                )
            }),
            (None, Some(action), false) => Ok(DeliverySelection::DeadLettersOf(action_id(action)?)),
            (None, None, true) => Ok(DeliverySelection::DeadLetters),
            _ => {
                Err(Problem::bad("which deliveries is not clear", "give exactly one of id, action, all_dead"))
            }
        }
    }
}

fn action_id(text: &str) -> Result<ActionId, Problem> {
    let mend = "write receiver/kind/name: `ams2 action list` shows them";
    config::action_id(text).ok_or_else(|| Problem::bad(format!("`{text}` is no action"), mend))
}

pub(super) async fn retry(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    order: Result<Json<DeliveryOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    order_deliveries(api, operator, order, DeliveryVerb::Retry).await
}

pub(super) async fn drop_deliveries(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    order: Result<Json<DeliveryOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    order_deliveries(api, operator, order, DeliveryVerb::Drop).await
}

async fn order_deliveries(
    api: Api,
    operator: Operator,
    order: Result<Json<DeliveryOrder>, JsonRejection>,
    verb: DeliveryVerb,
) -> Result<Response, Problem> {
    let Json(order) = order?;
    let which = order.selection()?;
    let (found, under_way) = match which.clone() {
        DeliverySelection::One(id) => {
            let one = move |folded: &Folded| {
                let machine = &folded.machine;
                (usize::from(machine.delivery(id).is_some()), machine.is_being_attempted(id))
            };
            api.router.ask(one).await?
        }
        several => {
            let of = match several {
                DeliverySelection::DeadLettersOf(action) => Some(action),
                _ => None,
            };
            let dead = move |machine: &Machine, row, count: &mut usize| {
                *count += usize::from(machine.is_dead_letter(row, of.as_ref()));
                Took::LOOK
            };
            (walk(&api.router, Machine::delivery_bound, 0, dead).await?, false)
        }
    };
    if under_way {
        return Err(Problem::conflict(
            "an attempt at this delivery is under way: its outcome decides",
            "see `ams2 query deliveries` in a moment, and give the order again if it is still there",
        ));
    }
    if found == 0 {
        return Err(Problem::status(
            StatusCode::NOT_FOUND,
            "no such delivery is pending or dead",
            "`ams2 query deliveries` and `ams2 query dead-letters` show them",
        ));
    }
    let input = Input::Deliveries(DeliveryCommand { which, verb, by: operator.0 });
    let sequence = (api.inputs)(input).await?;
    Ok(Json(Done { sequence, count: found }).into_response())
}

/// The answer to a command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Its sequence number in the journal.
    pub sequence: u64,
    /// How many things it concerns.
    pub count: usize,
}

/// `POST /api/v1/acknowledgements`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeOrder {
    /// Matchers, one an entry; all must match.
    pub matchers: Vec<String>,
    /// Who takes charge; the authenticated client when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// For how long, in seconds; until the alert changes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why.
    pub comment: String,
    /// Takes it back.
    #[serde(skip_serializing_if = "is_false")]
    pub withdraw: bool,
}

pub(super) async fn acknowledge(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    order: Result<Json<AcknowledgeOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(order) = order?;
    let matchers = order
        .matchers
        .iter()
        .map(|text| Matcher::parse(text).map_err(bad_matcher))
        .collect::<Result<Vec<_>, _>>()?;
    if matchers.is_empty() {
        return Err(Problem::bad(
            "no matcher says which alerts",
            "give at least one, such as `event=\"Virus Found\"`",
        ));
    }
    let asked = matchers.clone();
    let ms = order.seconds.map(|seconds| seconds.saturating_mul(1000));
    if ms.is_some_and(|ms| ms == 0 || ms > ACKNOWLEDGE_MS_MAX) {
        return Err(Problem::bad("the time is 0 or more than a year", "give seconds from 1 to 31622400"));
    }
    let compiled =
        api.router.ask(move |folded| Ok::<_, Problem>(compile(&asked, &folded.machine)?.0)).await??;
    let firing = move |machine: &Machine, row, count: &mut usize| {
        let alert = machine.alert_in(row);
        *count += usize::from(alert.is_some_and(|alert| alert.is_firing() && alert.matches(&compiled)));
        Took::LOOK
    };
    let count = walk(&api.router, Machine::alert_bound, 0, firing).await?;
    if count == 0 {
        return Err(Problem::status(
            StatusCode::NOT_FOUND,
            "no firing alert matches",
            "`ams2 query alerts` shows what fires",
        ));
    }
    for (field, text, most) in [
        ("by", order.by.as_deref().unwrap_or(""), BY_BYTES_MAX),
        ("comment", &order.comment, COMMENT_BYTES_MAX),
    ] {
        if text.len() > most {
            return Err(Problem::bad(
                format!("{field} has {} bytes; at most {most} are kept", text.len()),
                "say it in fewer words",
            ));
        }
    }
    let input = Input::Acknowledge(Acknowledge {
        key: None,
        matchers,
        // Whom it names is on record beside who was let in.
        by: match order.by.filter(|by| *by != operator.0) {
            Some(by) => smol_str::format_smolstr!("{by} (by {})", operator.0),
            None => operator.0,
        },
        until: ms.map(|ms| (api.clock)().plus(ms)),
        comment: order.comment,
        withdraw: order.withdraw,
    });
    let sequence = (api.inputs)(input).await?;
    Ok(Json(Done { sequence, count }).into_response())
}

/// `POST /api/v1/actions/test`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestOrder {
    /// `receiver/kind/name`.
    pub action: String,
}

/// What the far end said to a test.
#[derive(Debug, Serialize, Deserialize)]
pub struct TestAnswer {
    /// `sent`, `delivered` or `failed`.
    pub outcome: String,
    /// The far end's words.
    pub reply: String,
}

pub(super) async fn test_action(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    order: Result<Json<TestOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(order) = order?;
    let id = action_id(&order.action)?;
    let Some(result) = api.handler.test(&id).await else {
        return Err(Problem::status(
            StatusCode::NOT_FOUND,
            format!("there is no action `{}`", order.action),
            "`ams2 action list` shows them all",
        ));
    };
    // Names of the config and of clients may hold anything; of what is in neither, nothing is logged.
    let (action, by) = (id.to_string(), one_line(&operator.0));
    tracing::info!(action = %one_line(&action), %by, "a test was sent");
    let (outcome, reply) = match result {
        Ok(Receipt::Sent) => ("sent", "nobody will confirm".to_owned()),
        Ok(Receipt::Delivered { reply, .. }) => ("delivered", reply),
        Ok(Receipt::Partial { failure, .. }) | Err(failure) => ("failed", failure.reason),
    };
    Ok(Json(TestAnswer { outcome: outcome.into(), reply }).into_response())
}

/// `POST /-/reload`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadQuery {
    /// The receiver that takes deliveries whose action is gone.
    move_to: Option<SmolStr>,
    /// Whether they become dead letters instead.
    #[serde(default)]
    drop: bool,
}

pub(super) async fn reload(
    State(api): State<Api>,
    Extension(operator): Extension<Operator>,
    query: Result<Query<ReloadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let removed = match (query.move_to, query.drop) {
        (None, false) => None,
        (Some(receiver), false) => Some(Removed::MoveTo(receiver)),
        (None, true) => Some(Removed::Drop),
        (Some(_), true) => {
            return Err(Problem::bad("move_to and drop exclude each other", "give one of them"));
        }
    };
    match (api.reload)(ReloadOrder { by: operator.0, removed }).await {
        Ok(warnings) => Ok(warnings.into_response()),
        Err(mistakes) => Err(Problem::status(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the new configuration was refused, the old one stays:\n{mistakes}"),
            "mend the file and reload again; `ams2 check FILE` shows the same",
        )),
    }
}
