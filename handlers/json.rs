//! A delivery as JSON for programs: Alertmanager's web hook body (version "4"), with ours beside it.
//!
//! What reads Alertmanager's web hooks reads this. The object `ams2` holds what Alertmanager does not know:
//!
//! ```json
//! { "version": "4", "groupKey": "...", "truncatedAlerts": 0, "status": "firing", "receiver": "secops",
//!   "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://ams2.example.com",
//!   "alerts": [ { "status": "firing", "labels": {}, "annotations": {}, "startsAt": "2026-11-24T10:15:00.000Z",
//!                 "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "0123456789abcdef",
//!                 "event": "Virus Found", "rank": "critical", "sequence": 17, "client": "boston" } ],
//!   "ams2": { "version": 1, "deliveryId": "...", "test": false, "title": "...", "event": "Virus Found",
//!             "rank": "critical", "firing": 1, "resolved": 0, "digestOf": [],
//!             "groups": [ { "groupKey": "...", "groupLabels": {}, "reason": "first_time", "number": 1,
//!                           "decidedAt": "...", "firing": 1, "resolved": 0, "alerts": 1 } ] } }
//! ```
//!
//! `alerts` lists the groups' alerts one group after the other; `groups[].alerts` says how many belong to each.
//! `rank` is the severity's word in our order, `""` for a word without one. Nothing in it changes from one
//! attempt to the next, so retries carry the same bytes. New keys may be added; `ams2.version` rises when one
//! changes its meaning.

use serde::{Serialize, Serializer};
use smol_str::SmolStr;

use crate::{Alert, Delivery, Group, delivery::state_word, text};

/// `ams2.version`.
const VERSION: u32 = 1;
/// What Go writes for a time that is not set; Alertmanager's `endsAt` while an alert fires.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The delivery as one JSON object on one line, without a line feed.
pub fn notification(delivery: &Delivery) -> Vec<u8> {
    serde_json::to_vec(&Body::of(delivery)).expect("text and numbers always serialise")
}

/// The delivery as Alertmanager's web hook body (version "4") and nothing else, keys in its order.
pub(crate) fn alertmanager(delivery: &Delivery) -> Vec<u8> {
    let body = Theirs {
        receiver: &delivery.receiver,
        status: delivery.state(),
        alerts: delivery.alerts().map(TheirAlert::of).collect(),
        group_labels: Pairs(delivery.group_labels()),
        common_labels: Pairs(delivery.common_labels()),
        common_annotations: Pairs(delivery.common_annotations()),
        external_url: &delivery.external_url,
        version: "4",
        group_key: delivery.groups.first().map_or("", |group| &group.key),
        truncated_alerts: delivery.hidden(),
    };
    serde_json::to_vec(&body).expect("text and numbers always serialise")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Theirs<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<TheirAlert<'a>>,
    group_labels: Pairs<'a>,
    common_labels: Pairs<'a>,
    common_annotations: Pairs<'a>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TheirAlert<'a> {
    status: &'static str,
    labels: Pairs<'a>,
    annotations: Pairs<'a>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

impl<'a> TheirAlert<'a> {
    fn of(alert: &'a Alert) -> TheirAlert<'a> {
        TheirAlert {
            status: state_word(alert.firing),
            labels: Pairs::of(&alert.labels),
            annotations: Pairs::of(&alert.annotations),
            starts_at: go_time(text::rfc3339(alert.starts_at)),
            ends_at: alert.ends_at.map_or_else(|| NO_TIME.to_owned(), |end| go_time(text::rfc3339(end))),
            generator_url: &alert.generator_url,
            fingerprint: alert.fingerprint.to_string(),
        }
    }
}

/// As Go writes it: without zeros at the end of a second's fraction.
fn go_time(text: String) -> String {
    let bare = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    // Only what follows a point are zeros of a fraction.
    if text.contains('.') { format!("{bare}Z") } else { text }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: u64,
    status: &'static str,
    receiver: &'a str,
    group_labels: Pairs<'a>,
    common_labels: Pairs<'a>,
    common_annotations: Pairs<'a>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<AlertBody<'a>>,
    ams2: Ours<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    status: &'static str,
    labels: Pairs<'a>,
    annotations: Pairs<'a>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
    event: &'a str,
    rank: &'static str,
    sequence: u64,
    client: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ours<'a> {
    version: u32,
    delivery_id: String,
    test: bool,
    title: String,
    event: &'a str,
    rank: &'static str,
    firing: u64,
    resolved: u64,
    digest_of: Vec<String>,
    groups: Vec<GroupBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupBody<'a> {
    group_key: &'a str,
    group_labels: Pairs<'a>,
    reason: &'static str,
    number: u64,
    decided_at: String,
    firing: u32,
    resolved: u32,
    alerts: usize,
}

impl<'a> Body<'a> {
    fn of(delivery: &'a Delivery) -> Body<'a> {
        Body {
            version: "4",
            group_key: delivery.groups.first().map_or("", |group| &group.key),
            truncated_alerts: delivery.hidden(),
            status: delivery.state(),
            receiver: &delivery.receiver,
            group_labels: Pairs(delivery.group_labels()),
            common_labels: Pairs(delivery.common_labels()),
            common_annotations: Pairs(delivery.common_annotations()),
            external_url: &delivery.external_url,
            alerts: delivery.alerts().map(AlertBody::of).collect(),
            ams2: Ours::of(delivery),
        }
    }
}

impl<'a> AlertBody<'a> {
    fn of(alert: &'a Alert) -> AlertBody<'a> {
        AlertBody {
            status: state_word(alert.firing),
            labels: Pairs::of(&alert.labels),
            annotations: Pairs::of(&alert.annotations),
            starts_at: text::rfc3339(alert.starts_at),
            ends_at: alert.ends_at.map_or_else(|| NO_TIME.to_owned(), text::rfc3339),
            generator_url: &alert.generator_url,
            fingerprint: alert.fingerprint.to_string(),
            event: alert.event(),
            rank: alert.severity.map_or("", |severity| severity.word()),
            sequence: alert.sequence,
            client: &alert.client,
        }
    }
}

impl<'a> Ours<'a> {
    fn of(delivery: &'a Delivery) -> Ours<'a> {
        let digest = delivery.digest.iter().flat_map(|digest| &digest.deliveries);
        Ours {
            version: VERSION,
            delivery_id: delivery.id.to_string(),
            test: delivery.test,
            title: text::title(delivery),
            event: delivery.event(),
            rank: delivery.severity().map_or("", |severity| severity.word()),
            firing: delivery.firing(),
            resolved: delivery.resolved(),
            digest_of: digest.map(|id| id.to_string()).collect(),
            groups: delivery.groups.iter().map(GroupBody::of).collect(),
        }
    }
}

impl<'a> GroupBody<'a> {
    fn of(group: &'a Group) -> GroupBody<'a> {
        GroupBody {
            group_key: &group.key,
            group_labels: Pairs::of(&group.labels),
            reason: group.reason.word(),
            number: group.number,
            decided_at: text::rfc3339(group.decided),
            firing: group.firing,
            resolved: group.resolved,
            alerts: group.alerts.len(),
        }
    }
}

/// Names and values as a JSON object.
pub(crate) struct Pairs<'a>(pub(crate) Vec<(&'a SmolStr, &'a SmolStr)>);

impl<'a> Pairs<'a> {
    pub(crate) fn of(pairs: &'a [(SmolStr, SmolStr)]) -> Pairs<'a> {
        Pairs(pairs.iter().map(|(name, value)| (name, value)).collect())
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_shape_is_alertmanagers_with_ours_beside_it() {
        let body: serde_json::Value =
            serde_json::from_slice(&notification(&sample::delivery())).expect("valid JSON");
        insta::assert_snapshot!(serde_json::to_string_pretty(&body).expect("valid"));
    }

    #[test]
    fn alertmanagers_body_has_its_keys_and_no_others() {
        let mut delivery = sample::delivery();
        let mut ended = sample::alert();
        (ended.firing, ended.ends_at) = (false, Some(ams2_core::Wall(1_795_515_302_120)));
        delivery.groups[0].alerts.push(ended);
        (delivery.groups[0].firing, delivery.groups[0].resolved) = (1, 4);
        insta::assert_snapshot!(String::from_utf8(alertmanager(&delivery)).expect("text"));
    }

    #[test]
    fn times_are_written_as_go_does() {
        for (ours, theirs) in [
            ("2026-11-24T10:15:00.000Z", "2026-11-24T10:15:00Z"),
            ("2026-11-24T10:15:00.120Z", "2026-11-24T10:15:00.12Z"),
            ("2026-11-24T10:15:00.123Z", "2026-11-24T10:15:00.123Z"),
            ("2026-11-24T10:10:10Z", "2026-11-24T10:10:10Z"),
        ] {
            assert_eq!(go_time(ours.into()), theirs);
        }
    }

    #[test]
    fn an_attempt_changes_no_byte() {
        let first = sample::delivery();
        let again = Delivery { attempt: 9, maybe_duplicate: true, memo: Some(vec![1]), ..first.clone() };
        assert_eq!(notification(&first), notification(&again));
    }
}
