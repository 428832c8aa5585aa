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
    let which = match max_alerts {
        0 => Which::All,
        // Whoever reads Alertmanager's web hooks reads ours: the first ones in its order, and what those share.
        shown if deliver.action.kind == ams2_handlers::webhook::KIND.key => Which::First { shown },
        shown => Which::Foremost { shown },
    };
    let mut budget = Budget::of(attempt, which);
    let mut groups = Vec::with_capacity(deliver.notifications.len());
    for told in &deliver.notifications {
        groups.push(group(told, attempt, texts, &mut budget, &site.severities)?);
    }
    if let Which::Foremost { shown } = which {
        show_foremost(&mut groups, shown);
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
        server: site.server.clone(),
    })
}

/// Which alerts of all groups together are shown.
#[derive(Clone, Copy)]
enum Which {
    All,
    /// The first so many.
    First {
        shown: usize,
    },
    /// The new ones, then those that fire, then the highest severity, so many in all.
    Foremost {
        shown: usize,
    },
}

/// How many alerts more are read.
struct Budget {
    all: usize,
    /// Of them those that were told before.
    others: usize,
}

impl Budget {
    /// What a notification is about is not left out for what was told before, nor for what another group of the digest has.
    fn of(attempt: &Attempt, which: Which) -> Budget {
        match which {
            Which::All => Budget { all: usize::MAX, others: usize::MAX },
            Which::First { shown } => Budget { all: shown, others: shown },
            Which::Foremost { shown } => {
                let noted = attempt.deliver.notifications.iter().flat_map(|told| told.alerts.iter());
                let new = noted.filter(|noted| noted.is_new() && is_told(noted, attempt)).count();
                let all = SURVEYED_MAX.max(shown);
                Budget { all, others: all.saturating_sub(new) }
            }
        }
    }

    /// Takes one more, if there is room for it.
    fn takes(&mut self, noted: &Noted) -> bool {
        let is_other = !noted.is_new();
        if self.all == 0 || (is_other && self.others == 0) {
            return false;
        }
        self.all -= 1;
        self.others -= usize::from(is_other);
        true
    }
}

fn is_told(noted: &Noted, attempt: &Attempt) -> bool {
    noted.is_firing() || attempt.deliver.send_resolved
}

/// Leaves `shown` alerts in all, the foremost. Of a group that loses some it is kept what is said of all.
fn show_foremost(groups: &mut [Group], shown: usize) {
    let rank = |alert: &Alert| (!alert.new, !alert.firing, Reverse(alert.severity));
    let mut ranks = Vec::new();
    for (number, group) in groups.iter_mut().enumerate() {
        group.alerts.sort_by_key(rank);
        ranks.extend(group.alerts.iter().map(|alert| (rank(alert), number)));
    }
    // By rank, then by group. In each group those that are shown come first then.
    ranks.sort();
    let mut left = vec![0; groups.len()];
    for (_, number) in ranks.into_iter().take(shown) {
        left[number] += 1;
    }
    for (group, left) in groups.iter_mut().zip(left) {
        if group.alerts.len() > left {
            group.overview = Some(Overview::of(&group.alerts));
            group.alerts.truncate(left);
        }
    }
}

fn group(
    told: &Notification,
    attempt: &Attempt,
    texts: &dyn Texts,
    budget: &mut Budget,
    severities: &Severities,
) -> Result<Group, TextError> {
    let count = |firing: bool| told.alerts.iter().filter(|noted| noted.is_firing() == firing).count() as u32;
    let noted = told.alerts.iter().filter(|noted| is_told(noted, attempt) && budget.takes(noted));
    let read = noted.map(|noted| alert(noted, told, attempt, texts, severities));
    let alerts = read.collect::<Result<Vec<_>, _>>()?;
    Ok(Group {
        key: told.group.key.as_str().into(),
        labels: told.group.labels.as_slice().into(),
        reason: told.reason,
        number: told.number,
        decided: told.decided_wall,
        decided_at: told.decided_at,
        alerts,
        overview: None,
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
        position,
        firing: noted.is_firing(),
        new: noted.is_new(),
        labels: own_pairs(&mut text.labels()),
        annotations: own_pairs(&mut text.annotations()),
        starts_at: noted.began(told.decided_wall),
        ends_at: noted.ended(told.decided_wall),
        generator_url: text.generator_url().unwrap_or("").into(),
        severity: severities.rank(text.label("severity")),
        occurrence: text.id().filter(|_| text.times().ends_at.is_none()).map(SmolStr::new),
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
        position,
        occurrence: None,
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
pub(super) fn test_delivery(id: &ams2_core::config::ActionId, site: &Site) -> Result<Delivery, TextError> {
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
        position: Position::default(),
        occurrence: None,
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
        external_url: site.external_url.clone(),
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
        server: site.server.clone(),
    })
}
