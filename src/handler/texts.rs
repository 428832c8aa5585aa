//! Texts: a pending delivery keeps positions, and what stands there is read back when it is attempted.

use std::{cmp::Reverse, sync::Arc};

use ams2_core::{
    AlertBatch, AlertRef, At, Position, Severities, Wall,
    effect::{Noted, Notification},
};
use ams2_handlers::{Alert, Delivery, Digest, Group, Overview};
use smol_str::SmolStr;

use super::{Attempt, Site};

/// An alert as the journal keeps it.
#[derive(Clone, Debug)]
pub struct StoredAlert {
    /// Who sent it.
    pub client: SmolStr,
    /// When it was accepted, on the journal's clock.
    pub at: At,
    /// The alert: a batch of one.
    pub batch: AlertBatch,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is not there any more: damage was set aside.
    #[error("it is lost")]
    Lost,
    /// It cannot be read now.
    #[error("{0}")]
    Unreadable(String),
}

/// Where texts stand: the journal.
pub trait Texts: Send + Sync {
    /// The alert that was accepted at this position.
    fn alert(&self, position: Position) -> Result<StoredAlert, TextError>;
}

/// Alerts of one delivery that are read at most where not all are shown: they decide which ones are, and what is said of all. The others,
/// which were told of before, are counted. Some 10 MB and 50 ms.
pub(super) const SURVEYED_MAX: usize = 10_000;

/// Puts together what an action sees. Every alert's times come from the decision, so that retries send the same.
pub(crate) fn delivery(
    attempt: &Attempt,
    texts: &dyn Texts,
    max_alerts: usize,
    site: &Site,
) -> Result<Delivery, TextError> {
    let deliver = &attempt.deliver;
    // Each group of a digest shows what those before it leave.
    let mut room = match max_alerts {
        0 => Room { shown: usize::MAX, read: usize::MAX },
        shown => Room { shown, read: SURVEYED_MAX.max(shown) },
    };
    let mut groups = Vec::with_capacity(deliver.notifications.len());
    for told in &deliver.notifications {
        groups.push(group(told, attempt, texts, &mut room, &site.severities)?);
    }
    let digest = (!deliver.digest_of.is_empty()).then(|| Digest { deliveries: deliver.digest_of.clone() });
    Ok(Delivery {
        id: deliver.delivery,
        attempt: deliver.attempt,
        maybe_duplicate: deliver.maybe_duplicate,
        test: false,
        receiver: deliver.action.receiver.clone(),
        external_url: site.external_url.clone(),
        groups,
        digest,
        unfinished: deliver.unfinished.clone(),
        memo: deliver.memo.clone(),
    })
}

/// How many alerts more.
struct Room {
    shown: usize,
    read: usize,
}

fn group(
    told: &Notification,
    attempt: &Attempt,
    texts: &dyn Texts,
    room: &mut Room,
    severities: &Severities,
) -> Result<Group, TextError> {
    let is_told = |noted: &&Noted| noted.is_firing() || attempt.deliver.send_resolved;
    let count = |firing: bool| told.alerts.iter().filter(|noted| noted.is_firing() == firing).count() as u32;
    let mut noted: Vec<&Noted> = told.alerts.iter().filter(is_told).collect();
    // Whoever reads Alertmanager's web hooks reads ours: the first ones in its order, and what those share.
    let is_theirs = attempt.deliver.action.kind == ams2_handlers::webhook::KIND.key;
    if is_theirs && room.shown != usize::MAX {
        noted.truncate(room.shown);
        room.shown -= noted.len();
    }
    let chooses = room.shown != usize::MAX && !is_theirs;
    if noted.len() > room.read {
        // What the notification is about is not left out for what was told before.
        noted.sort_by_key(|noted| !noted.is_new());
        noted.truncate(room.read);
    }
    room.read -= if chooses { noted.len() } else { 0 };
    let read = noted.into_iter().map(|noted| alert(noted, told, attempt, texts, severities));
    let mut alerts = read.collect::<Result<Vec<_>, _>>()?;
    let mut overview = None;
    if chooses {
        if alerts.len() > room.shown {
            overview = Some(Overview::of(&alerts));
        }
        alerts.sort_by_key(|alert| (!alert.new, !alert.firing, Reverse(alert.severity)));
        alerts.truncate(room.shown);
        room.shown -= alerts.len();
    }
    Ok(Group {
        key: told.group.key.as_str().into(),
        labels: told.group.labels.as_slice().into(),
        reason: told.reason,
        number: told.number,
        decided: told.decided_wall,
        decided_at: told.decided_at,
        alerts,
        overview,
        firing: count(true),
        resolved: if attempt.deliver.send_resolved { count(false) } else { 0 },
    })
}

fn alert(
    noted: &Noted,
    told: &Notification,
    attempt: &Attempt,
    texts: &dyn Texts,
    severities: &Severities,
) -> Result<Alert, TextError> {
    let position = noted.position;
    let own: Option<&Arc<AlertBatch>> =
        attempt.own_texts.iter().find(|(known, _)| *known == position).map(|(_, batch)| batch);
    let (client, batch) = match own {
        Some(batch) => (SmolStr::new_static("ams2"), (**batch).clone()),
        None => match texts.alert(position) {
            Ok(stored) => (stored.client, stored.batch),
            Err(TextError::Lost) => return Ok(lost(noted, told)),
            Err(error) => return Err(error),
        },
    };
    let text: AlertRef<'_> =
        batch.alert(0).ok_or_else(|| TextError::Unreadable(format!("position {position} holds no alert")))?;
    let own_pairs = |pairs: &mut dyn Iterator<Item = (&str, &str)>| -> Vec<(SmolStr, SmolStr)> {
        pairs.map(|(name, value)| (name.into(), value.into())).collect()
    };
    Ok(Alert {
        fingerprint: text.fingerprint(),
        sequence: position.seq(),
        firing: noted.is_firing(),
        new: noted.is_new(),
        labels: own_pairs(&mut text.labels()),
        annotations: own_pairs(&mut text.annotations()),
        starts_at: noted.began(told.decided_wall),
        ends_at: noted.ended(told.decided_wall),
        generator_url: text.generator_url().unwrap_or("").into(),
        severity: severities.rank(text.label("severity")),
        client,
    })
}

/// An alert whose text damage took: that there is one is told all the same.
fn lost(noted: &Noted, told: &Notification) -> Alert {
    let position = noted.position;
    let summary = format!("The text of this alert, number {position} of the journal, is lost to damage.");
    let labels = vec![("event".into(), "Text Lost".into()), ("position".into(), position.to_string().into())];
    Alert {
        fingerprint: ams2_core::Fingerprint::of(
            labels.iter().map(|(n, v): &(SmolStr, SmolStr)| (n.as_str(), v.as_str())),
        ),
        sequence: position.seq(),
        firing: noted.is_firing(),
        new: noted.is_new(),
        labels,
        annotations: vec![("summary".into(), summary.into())],
        starts_at: noted.began(told.decided_wall),
        ends_at: noted.ended(told.decided_wall),
        generator_url: SmolStr::default(),
        severity: None,
        client: SmolStr::new_static("ams2"),
    }
}

/// A made-up delivery for `ams2 action test`, marked as a test.
pub(super) fn test_delivery(
    id: &ams2_core::config::ActionId,
    external_url: SmolStr,
) -> Result<Delivery, TextError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| TextError::Unreadable(format!("no random bytes: {error}")))?;
    let now = jiff::Timestamp::now().as_millisecond();
    let labels: Vec<(SmolStr, SmolStr)> = [("event", "Test"), ("severity", "info"), ("source", "ams2")]
        .map(|(name, value)| (SmolStr::new_static(name), SmolStr::new_static(value)))
        .into();
    let alert = Alert {
        fingerprint: ams2_core::Fingerprint::of(labels.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
        sequence: 0,
        firing: true,
        new: true,
        labels,
        annotations: vec![("summary".into(), format!("This is a test of the action {id}.").into())],
        starts_at: Wall(now),
        ends_at: None,
        generator_url: SmolStr::default(),
        severity: Some(ams2_core::Severity::Info),
        client: SmolStr::new_static("ams2"),
    };
    Ok(Delivery {
        id: ams2_core::DeliveryId(u128::from_le_bytes(random)),
        attempt: 1,
        maybe_duplicate: false,
        test: true,
        receiver: id.receiver.clone(),
        external_url,
        groups: vec![Group {
            key: "test".into(),
            labels: Arc::from([]),
            reason: ams2_core::effect::NotifyReason::Occurrence,
            number: 1,
            decided: Wall(now),
            decided_at: At(0),
            alerts: vec![alert],
            overview: None,
            firing: 1,
            resolved: 0,
        }],
        digest: None,
        unfinished: None,
        memo: None,
    })
}
