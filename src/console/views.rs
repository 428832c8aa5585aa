//! What the API shows, as data: the server writes these shapes and `ams2 query` reads them.

use std::collections::BTreeMap;

use ams2_core::{
    At, Wall,
    machine::{AlertView, ClientView, DeliveryStanding, DeliveryView, GroupView, HeartbeatView, SilenceView},
};
use ams2_handlers::{check_in::hex, units::Duration};
use serde::{Deserialize, Serialize};

/// One alert that fires, or that ended and is not told everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// 16 hex digits: Alertmanager's fingerprint.
    pub fingerprint: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// Annotations by name.
    pub annotations: BTreeMap<String, String>,
    /// When it began, RFC 3339 in UTC.
    pub starts_at: String,
    /// When it ended, or will end if it is not seen again.
    pub ends_at: String,
    /// When it last arrived.
    pub updated_at: String,
    /// Sequence number of its newest version in the journal.
    pub sequence: u64,
    /// Who sent it.
    pub client: String,
    /// Receivers that it is told to.
    pub receivers: Vec<String>,
    /// Who took charge, until when, and why; absent if nobody did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acknowledged: Option<Acknowledged>,
    /// Where it came from; empty if the sender did not say.
    #[serde(default)]
    pub generator_url: String,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Until when; absent: until the alert changes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<String>,
    /// Why; may be empty.
    pub comment: String,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Alertmanager's group key.
    pub key: String,
    /// Labels that make the group.
    pub labels: BTreeMap<String, String>,
    /// Who is told.
    pub receiver: String,
    /// When it is looked at next, RFC 3339 in UTC; absent when nothing can come of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_look: Option<String>,
    /// Fingerprints of its alerts, in the order in which they are told.
    pub alerts: Vec<String>,
    /// What each action was told.
    pub actions: Vec<GroupAction>,
}

/// What one action was told of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAction {
    /// `receiver/kind/name`.
    pub action: String,
    /// Deliveries that wait.
    pub pending: usize,
    /// When it was last told, RFC 3339 in UTC; absent if never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub told: Option<String>,
    /// Why it was not told at the last look; absent if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<String>,
}

/// One delivery: pending, dead, or ended well not long ago.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// 32 hex digits, the same on every attempt.
    pub id: String,
    /// `receiver/kind/name`.
    pub action: String,
    /// Alertmanager's group key.
    pub group: String,
    /// Why it was made.
    pub reason: String,
    /// `waiting`, `in_flight`, `in_digest`, `dead`, `delivered` or `sent`.
    pub state: String,
    /// When it is tried next, RFC 3339 in UTC; only while waiting.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_attempt: Option<String>,
    /// Why it was given up; only when dead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dead_reason: Option<String>,
    /// What the last failed attempt said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<String>,
    /// The far end's words; only when delivered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reply: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// How many alerts it tells of.
    pub alerts: u32,
    /// Labels of the first of them; empty if its text is lost.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was decided, RFC 3339 in UTC.
    pub decided: String,
}

/// One action and what waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `receiver/kind/name`.
    pub action: String,
    /// Whether the config in force has it.
    pub present: bool,
    /// Deliveries that wait or are under way.
    pub pending: u32,
    /// Attempts under way.
    pub in_flight: u32,
    /// Whether its far end fails, so that one delivery at a time probes it.
    pub failing: bool,
}

/// One heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Its name.
    pub name: String,
    /// `waiting` (not heard yet), `up`, `missing`, `failed` or `overrun`.
    pub state: String,
    /// The same in a sentence.
    pub words: String,
    /// When anything was heard of it last, RFC 3339 in UTC; absent if never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heard: Option<String>,
    /// When the run that is under way began; absent if none is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<String>,
    /// When its alert is raised if nothing is heard until then; absent while that fires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<String>,
    /// How often it is to be heard.
    pub period: String,
    /// How much later it may be.
    pub grace: String,
    /// The longest that a run may take; absent for any time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_duration: Option<String>,
    /// Labels of its alert.
    pub labels: BTreeMap<String, String>,
    /// Fingerprint of its alert, whether that fires or not.
    pub alert: String,
}

impl Heartbeat {
    /// The heartbeat as the API shows it.
    pub fn of(view: &HeartbeatView<'_>) -> Heartbeat {
        let span = |ms: u64| Duration::from_ms(ms).to_string();
        Heartbeat {
            name: view.name().into(),
            state: view.state().word().into(),
            words: view.words(),
            heard: view.heard().map(time),
            started: view.started().map(time),
            due: view.due().map(time),
            period: span(view.period_ms()),
            grace: span(view.grace_ms()),
            max_duration: view.max_duration_ms().map(span),
            labels: view.labels().iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            alert: view.alert().to_string(),
        }
    }
}

/// One client that checks in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// `present`, `late` (its period is over, its grace is not) or `missing`.
    pub state: String,
    /// When it checked in last, RFC 3339 in UTC.
    pub heard: String,
    /// When it came into the list.
    pub enrolled: String,
    /// When it is missing if nothing is heard until then; when it leaves the list if it is missing.
    pub due: String,
    /// Where its last check-in came from: an address or a user.
    pub address: String,
    /// Version of its program.
    pub version: String,
    /// A hash of its configuration.
    pub config: String,
    /// Names its journal, 16 hex digits.
    #[serde(with = "hex")]
    pub incarnation: u64,
    /// Deliveries that wait there to come here.
    pub waiting: u64,
    /// Alerts that it accepted and has no route for to here, since its action came into its configuration; so the next two.
    pub held_back: u64,
    /// Alerts that came here only after a failure.
    pub delayed: u64,
    /// Alerts that it gave up.
    pub dropped: u64,
    /// How far its clock is ahead of this server's, in milliseconds; absent if it did not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ahead_ms: Option<i64>,
    /// The router that it came from with its last check-in; absent if from none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comes_from: Option<String>,
    /// Fingerprint of the alert that fires while it is missing.
    pub alert: String,
}

impl Client {
    /// The client as the API shows it.
    pub fn of(view: &ClientView<'_>, now: At) -> Client {
        let said = view.said();
        Client {
            name: view.name().into(),
            state: view.state(now).word().into(),
            heard: time(view.heard()),
            enrolled: time(view.enrolled()),
            due: time(view.due()),
            address: view.address().into(),
            version: said.version.to_string(),
            config: said.config.to_string(),
            incarnation: said.incarnation,
            waiting: said.waiting,
            held_back: said.held_back,
            delayed: said.delayed,
            dropped: said.dropped,
            ahead_ms: said.ahead_ms,
            comes_from: said.comes_from.as_ref().map(ToString::to_string),
            alert: view.alert().to_string(),
        }
    }
}

/// One silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// A UUID.
    pub id: String,
    /// `active`, `pending` or `expired`.
    pub state: String,
    /// Matchers; all must match.
    pub matchers: Vec<String>,
    /// When it begins, RFC 3339 in UTC.
    pub starts_at: String,
    /// When it ends.
    pub ends_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// Who made it.
    pub by: String,
    /// Which client set it last, where another is named as who made it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub client: String,
    /// Why.
    pub comment: String,
    /// More about it, for other tools.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Silence {
    /// The silence as the API shows it.
    pub fn of(view: &SilenceView<'_>) -> Silence {
        let silence = view.silence;
        Silence {
            id: silence.id.to_string(),
            state: view.state.word().into(),
            matchers: silence.matchers.iter().map(ToString::to_string).collect(),
            starts_at: time(silence.starts),
            ends_at: time(silence.ends),
            updated_at: time(silence.updated),
            by: silence.by.to_string(),
            client: silence.client.to_string(),
            comment: silence.comment.clone(),
            annotations: silence.annotations.iter().map(|(n, v)| (n.to_string(), v.clone())).collect(),
        }
    }
}

/// RFC 3339 in UTC with milliseconds.
pub fn time(wall: Wall) -> String {
    match jiff::Timestamp::from_millisecond(wall.0) {
        Ok(moment) => format!("{moment:.3}"),
        // Outside the years that a calendar has: the number is still true.
        Err(_) => format!("{} ms", wall.0),
    }
}

impl Alert {
    /// The alert as the API shows it.
    pub fn of(alert: &AlertView<'_>, wall_offset_ms: i64) -> Alert {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Alert {
            fingerprint: alert.fingerprint().to_string(),
            state: if alert.is_firing() { "firing" } else { "resolved" }.into(),
            labels: alert.labels().map(owned).collect(),
            annotations: alert.annotations().map(owned).collect(),
            starts_at: time(alert.starts_at()),
            ends_at: time(alert.ends_at()),
            updated_at: time(alert.updated_at()),
            sequence: alert.position().seq(),
            client: alert.client().into(),
            receivers: alert.receivers().iter().map(ToString::to_string).collect(),
            acknowledged: alert.acknowledged().map(|ack| Acknowledged {
                by: ack.by.to_string(),
                since: time(ack.since),
                until: ack.until.map(|until| time(until.wall(wall_offset_ms))),
                comment: ack.comment.clone(),
            }),
            generator_url: alert.generator_url().into(),
        }
    }
}

impl Group {
    /// The group as the API shows it.
    pub fn of(group: &GroupView<'_>) -> Group {
        Group {
            key: group.name().key.clone(),
            labels: group.name().labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            receiver: group.receiver().to_string(),
            next_look: group.next_look().map(time),
            alerts: group.alerts().map(|alert| alert.fingerprint().to_string()).collect(),
            actions: group
                .lanes()
                .map(|(action, pending, told, held)| GroupAction {
                    action: action.to_string(),
                    pending,
                    told: told.map(time),
                    held: held.map(|reason| reason.word().to_owned()),
                })
                .collect(),
        }
    }
}

impl Delivery {
    /// The delivery as the API shows it.
    pub fn of(delivery: &DeliveryView) -> Delivery {
        let (state, next_attempt, dead_reason) = match &delivery.standing {
            DeliveryStanding::Waiting(due) => ("waiting", Some(time(*due)), None),
            DeliveryStanding::InFlight => ("in_flight", None, None),
            DeliveryStanding::InDigest => ("in_digest", None, None),
            DeliveryStanding::Dead(reason) => ("dead", None, Some(reason.to_string())),
        };
        Delivery {
            id: delivery.id.to_string(),
            action: delivery.action.to_string(),
            group: delivery.group.key.clone(),
            reason: delivery.reason.word().into(),
            state: state.into(),
            next_attempt,
            dead_reason,
            last_failure: delivery.last_failure.clone(),
            reply: None,
            attempts: delivery.attempts,
            alerts: delivery.alerts,
            labels: BTreeMap::new(),
            decided: time(delivery.decided),
        }
    }
}
