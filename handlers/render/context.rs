//! What a template sees of a delivery, and nothing that differs between attempts.

use serde::Serialize;

use crate::{Alert, Delivery, Group, delivery::state_word, json::Pairs, text};

/// What a template may ask for that takes long to make, of a delivery of a hundred thousand alerts. A name that does not
/// stand in its text cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    alerts: bool,
    groups: bool,
    labels: bool,
    annotations: bool,
    text: bool,
}

impl Wanted {
    pub(super) const EVERYTHING: Wanted =
        Wanted { alerts: true, groups: true, labels: true, annotations: true, text: true };

    pub(super) fn by(source: &str) -> Wanted {
        // `root` is all of it, whatever is asked of it.
        let names = |name: &str| source.contains(name) || source.contains("root");
        Wanted {
            alerts: names("alerts"),
            groups: names("groups"),
            labels: names("common_labels"),
            annotations: names("common_annotations"),
            text: names("text"),
        }
    }

    /// What either of two texts asks for.
    pub(super) fn and(self, other: Wanted) -> Wanted {
        Wanted {
            alerts: self.alerts | other.alerts,
            groups: self.groups | other.groups,
            labels: self.labels | other.labels,
            annotations: self.annotations | other.annotations,
            text: self.text | other.text,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Context<'a> {
    delivery_id: String,
    receiver: &'a str,
    external_url: &'a str,
    test: bool,
    status: &'static str,
    firing: u64,
    resolved: u64,
    hidden: u64,
    event: &'a str,
    severity: &'static str,
    reason: &'static str,
    number: u64,
    decided: String,
    group_labels: Pairs<'a>,
    common_labels: Pairs<'a>,
    common_annotations: Pairs<'a>,
    /// Alertmanager's routes may have labels; ours have none.
    route_labels: Pairs<'a>,
    alerts: Vec<AlertContext<'a>>,
    groups: Vec<GroupContext<'a>>,
    digest: Option<Vec<String>>,
    title: String,
    text: String,
}

#[derive(Serialize)]
pub(super) struct AlertContext<'a> {
    status: &'static str,
    firing: bool,
    new: bool,
    event: &'a str,
    severity: &'a str,
    rank: &'static str,
    labels: Pairs<'a>,
    annotations: Pairs<'a>,
    starts_at: String,
    ends_at: Option<String>,
    generator_url: &'a str,
    fingerprint: String,
    sequence: u64,
    client: &'a str,
}

#[derive(Serialize)]
struct GroupContext<'a> {
    key: &'a str,
    labels: Pairs<'a>,
    reason: &'static str,
    number: u64,
    decided: String,
    firing: u32,
    resolved: u32,
    alerts: Vec<AlertContext<'a>>,
}

impl<'a> Context<'a> {
    /// What is not wanted stays empty.
    pub(super) fn of(delivery: &'a Delivery, wanted: Wanted) -> Context<'a> {
        let first = delivery.groups.first();
        let digest = delivery.digest.as_ref();
        Context {
            delivery_id: delivery.id.to_string(),
            receiver: &delivery.receiver,
            external_url: &delivery.external_url,
            test: delivery.test,
            status: delivery.state(),
            firing: delivery.firing(),
            resolved: delivery.resolved(),
            hidden: delivery.hidden(),
            event: delivery.event(),
            severity: delivery.severity().map_or("", |severity| severity.word()),
            reason: first.map_or("", |group| group.reason.word()),
            number: first.map_or(0, |group| group.number),
            decided: text::rfc3339(delivery.decided()),
            group_labels: Pairs(delivery.group_labels()),
            common_labels: Pairs(if wanted.labels { delivery.common_labels() } else { Vec::new() }),
            common_annotations: Pairs(if wanted.annotations {
                delivery.common_annotations()
            } else {
                Vec::new()
            }),
            route_labels: Pairs(Vec::new()),
            alerts: delivery.alerts().filter(|_| wanted.alerts).map(AlertContext::of).collect(),
            groups: delivery.groups.iter().filter(|_| wanted.groups).map(GroupContext::of).collect(),
            digest: digest.map(|digest| digest.deliveries.iter().map(|id| id.to_string()).collect()),
            title: text::title(delivery),
            text: if wanted.text { text::plain(delivery) } else { String::new() },
        }
    }
}

impl<'a> AlertContext<'a> {
    pub(super) fn of(alert: &'a Alert) -> AlertContext<'a> {
        AlertContext {
            status: state_word(alert.firing),
            firing: alert.firing,
            new: alert.new,
            event: alert.event(),
            severity: alert.label("severity"),
            rank: alert.severity.map_or("", |severity| severity.word()),
            labels: Pairs::of(&alert.labels),
            annotations: Pairs::of(&alert.annotations),
            starts_at: text::rfc3339(alert.starts_at),
            ends_at: alert.ends_at.map(text::rfc3339),
            generator_url: &alert.generator_url,
            fingerprint: alert.fingerprint.to_string(),
            sequence: alert.sequence,
            client: &alert.client,
        }
    }
}

impl<'a> GroupContext<'a> {
    fn of(group: &'a Group) -> GroupContext<'a> {
        GroupContext {
            key: &group.key,
            labels: Pairs::of(&group.labels),
            reason: group.reason.word(),
            number: group.number,
            decided: text::rfc3339(group.decided),
            firing: group.firing,
            resolved: group.resolved,
            alerts: group.alerts.iter().map(AlertContext::of).collect(),
        }
    }
}
