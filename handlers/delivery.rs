//! What an action is given: one delivery with its texts read back, ready to be rendered.

use std::sync::Arc;

use ams2_core::{
    At, Fingerprint, Position, Severity, Wall,
    effect::NotifyReason,
    input::{DeliveryId, Recipient},
};
use smol_str::SmolStr;

/// One delivery as an action sees it. Everything in it is the same on every attempt but `attempt`,
/// `maybe_duplicate`, `unfinished` and `memo`, so that retries send the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The same on every attempt: `Message-ID` of a mail, `Idempotency-Key` of a web hook.
    pub id: DeliveryId,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// Whether the far end may have it already: an earlier attempt's outcome was lost, in a crash or with the connection.
    pub maybe_duplicate: bool,
    /// Whether it is a test from `ams2 action test`, to be marked as one.
    pub test: bool,
    /// The receiver's name.
    pub receiver: SmolStr,
    /// Where this server's console is seen from outside, without a slash at the end; may be empty.
    pub external_url: SmolStr,
    /// What is told: one group, or for a digest several, oldest first. Never empty.
    pub groups: Vec<Group>,
    /// Set when this is a digest of what was over the action's rate limit.
    pub digest: Option<Digest>,
    /// Recipients still to be told; `None` means all.
    pub unfinished: Option<Vec<Recipient>>,
    /// What the far end gave back with the last delivery of this group and action.
    pub memo: Option<Vec<u8>>,
    /// The server that tells it.
    pub server: Server,
}

/// A server, to others of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: SmolStr,
    /// Names its journal, the same for as long as that is kept.
    pub journal: u64,
}

/// One group at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Alertmanager's group key.
    pub key: Arc<str>,
    /// Labels that make the group, sorted by name.
    pub labels: Arc<[(SmolStr, SmolStr)]>,
    /// Why it is told now.
    pub reason: NotifyReason,
    /// Which notification of its group, from 1.
    pub number: u64,
    /// When it was decided, on the wall clock: the time that texts show.
    pub decided: Wall,
    /// When it was decided, on the journal's clock.
    pub decided_at: At,
    /// The alerts that are shown: all, in Alertmanager's order; where the action has a `max_alerts`, that many at most, what is
    /// new before what was told before, then what fires, then the highest severity, then in that order.
    pub alerts: Vec<Alert>,
    /// What all alerts have in common, where they are not all shown.
    pub overview: Option<Overview>,
    /// How many alerts fire in all, shown or not.
    pub firing: u32,
    /// How many resolved in all, shown or not.
    pub resolved: u32,
}

/// What all alerts of a group have in common, shown or not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// The highest severity among those that fire.
    pub firing_severity: Option<Severity>,
    /// The highest severity among all.
    pub severity: Option<Severity>,
    /// The name of what happened, where it is the same for every alert, else `""`.
    pub event: SmolStr,
    /// Labels that every alert has with the same value, sorted by name.
    pub labels: Vec<(SmolStr, SmolStr)>,
    /// Annotations that every alert has with the same value, sorted by name.
    pub annotations: Vec<(SmolStr, SmolStr)>,
}

/// What a digest stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// The deliveries that were put into it, oldest first.
    pub deliveries: Vec<DeliveryId>,
}

/// One alert with its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its name.
    pub fingerprint: Fingerprint,
    /// The sequence number that it was accepted under.
    pub sequence: u64,
    /// Where its text stands in the journal, which names it among all that this server accepted or raised.
    pub position: Position,
    /// The sender's name of this occurrence, where it merely happened and no end of it is told.
    pub occurrence: Option<SmolStr>,
    /// Whether it fires; else it is resolved.
    pub firing: bool,
    /// Whether the action was not told of that before: it is what the notification is about.
    pub new: bool,
    /// Labels, sorted by name.
    pub labels: Vec<(SmolStr, SmolStr)>,
    /// Annotations, sorted by name.
    pub annotations: Vec<(SmolStr, SmolStr)>,
    /// When it began.
    pub starts_at: Wall,
    /// When it ended; `None` while it fires.
    pub ends_at: Option<Wall>,
    /// Where it came from, as Alertmanager's `generatorURL`; may be empty.
    pub generator_url: SmolStr,
    /// Rank of its severity word, if it has one.
    pub severity: Option<Severity>,
    /// Who sent it: a client's name, `local`, or `ams2` for own alerts.
    pub client: SmolStr,
}

impl Alert {
    /// The value of label `name`; absent labels are `""`.
    pub fn label(&self, name: &str) -> &str {
        value(&self.labels, name)
    }

    /// The value of annotation `name`; absent ones are `""`.
    pub fn annotation(&self, name: &str) -> &str {
        value(&self.annotations, name)
    }

    /// What happened, by name: the label `event`, else `alertname`, else `""`.
    pub fn event(&self) -> &str {
        match self.label("event") {
            "" => self.label("alertname"),
            event => event,
        }
    }
}

impl Delivery {
    /// Every alert that is told, over all groups.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.groups.iter().flat_map(|group| &group.alerts)
    }

    /// The highest severity among the alerts that fire, else among all, shown or not.
    pub fn severity(&self) -> Option<Severity> {
        let highest = |of: fn(&Overview) -> Option<Severity>, firing: bool| {
            let of_group = |group: &Group| match &group.overview {
                Some(overview) => of(overview),
                None => highest_severity(&group.alerts, firing),
            };
            self.groups.iter().filter_map(of_group).max()
        };
        highest(|overview| overview.firing_severity, true)
            .or_else(|| highest(|overview| overview.severity, false))
    }

    /// Whether anything fires.
    pub fn is_firing(&self) -> bool {
        self.groups.iter().any(|group| group.firing > 0)
    }

    /// `firing` or `resolved`, as Alertmanager calls the state of a whole notification.
    pub fn state(&self) -> &'static str {
        state_word(self.is_firing())
    }

    /// How many alerts fire, over all groups, shown or not.
    pub fn firing(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.firing)).sum()
    }

    /// How many alerts resolved, over all groups, shown or not.
    pub fn resolved(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.resolved)).sum()
    }

    /// How many alerts are counted but not shown.
    pub fn hidden(&self) -> u64 {
        (self.firing() + self.resolved()).saturating_sub(self.alerts().count() as u64)
    }

    /// The name of what happened when it is the same for every alert, shown or not, else `""`.
    pub fn event(&self) -> &str {
        let mut groups = self.groups.iter().filter(|group| group.has_any()).map(Group::event);
        let first = groups.next().unwrap_or("");
        if groups.all(|event| event == first) { first } else { "" }
    }

    /// Labels that every alert, shown or not, has with the same value, sorted by name.
    pub fn common_labels(&self) -> Vec<(&SmolStr, &SmolStr)> {
        self.common(|alert| &alert.labels, |overview| &overview.labels)
    }

    /// Annotations that every alert, shown or not, has with the same value, sorted by name.
    pub fn common_annotations(&self) -> Vec<(&SmolStr, &SmolStr)> {
        self.common(|alert| &alert.annotations, |overview| &overview.annotations)
    }

    fn common(
        &self,
        of: fn(&Alert) -> &[(SmolStr, SmolStr)],
        of_all: fn(&Overview) -> &[(SmolStr, SmolStr)],
    ) -> Vec<(&SmolStr, &SmolStr)> {
        common(self.groups.iter().flat_map(|group| {
            let shown = if group.overview.is_none() { &group.alerts[..] } else { &[] };
            group.overview.iter().map(of_all).chain(shown.iter().map(of))
        }))
    }

    /// The same with no more than the first `count` alerts shown.
    pub(crate) fn showing(&self, count: usize) -> Delivery {
        let mut room = count;
        let group = |group: &Group| {
            let shown = room.min(group.alerts.len());
            room -= shown;
            if shown == group.alerts.len() {
                return group.clone();
            }
            let overview = group.overview.clone().unwrap_or_else(|| Overview::of(&group.alerts));
            let alerts = group.alerts[..shown].to_vec();
            Group { alerts, overview: Some(overview), ..group.without_alerts() }
        };
        let groups = self.groups.iter().map(group).collect();
        Delivery {
            groups,
            digest: self.digest.clone(),
            unfinished: self.unfinished.clone(),
            memo: self.memo.clone(),
            receiver: self.receiver.clone(),
            external_url: self.external_url.clone(),
            server: self.server.clone(),
            ..*self
        }
    }

    /// Labels that make the group; for a digest of several groups those that all of them share.
    pub fn group_labels(&self) -> Vec<(&SmolStr, &SmolStr)> {
        common(self.groups.iter().map(|group| &group.labels[..]))
    }

    /// When it was decided, on the wall clock: of a digest, the newest decision.
    pub fn decided(&self) -> Wall {
        self.groups.iter().map(|group| group.decided).max().unwrap_or_default()
    }
}

impl Group {
    fn event(&self) -> &str {
        match &self.overview {
            Some(overview) => &overview.event,
            None => common_event(&self.alerts),
        }
    }

    fn has_any(&self) -> bool {
        self.overview.is_some() || !self.alerts.is_empty()
    }

    fn without_alerts(&self) -> Group {
        Group {
            key: self.key.clone(),
            labels: self.labels.clone(),
            alerts: Vec::new(),
            overview: None,
            ..*self
        }
    }
}

impl Overview {
    /// Of these alerts.
    pub fn of(alerts: &[Alert]) -> Overview {
        let owned = |pairs: Vec<(&SmolStr, &SmolStr)>| {
            pairs.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        Overview {
            firing_severity: highest_severity(alerts, true),
            severity: highest_severity(alerts, false),
            event: common_event(alerts).into(),
            labels: owned(common(alerts.iter().map(|alert| &alert.labels[..]))),
            annotations: owned(common(alerts.iter().map(|alert| &alert.annotations[..]))),
        }
    }
}

/// The highest severity among those that fire, or among all.
fn highest_severity(alerts: &[Alert], firing_alone: bool) -> Option<Severity> {
    alerts.iter().filter(|alert| alert.firing || !firing_alone).filter_map(|alert| alert.severity).max()
}

fn common_event(alerts: &[Alert]) -> &str {
    let mut events = alerts.iter().map(Alert::event);
    let first = events.next().unwrap_or("");
    if events.all(|event| event == first) { first } else { "" }
}

/// `firing` or `resolved`.
pub(crate) fn state_word(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

/// The pairs that all sets share. A set of a thousand alerts costs one pass.
fn common<'a>(mut sets: impl Iterator<Item = &'a [(SmolStr, SmolStr)]>) -> Vec<(&'a SmolStr, &'a SmolStr)> {
    let Some(first) = sets.next() else { return Vec::new() };
    let mut shared: Vec<_> = first.iter().map(|(name, value)| (name, value)).collect();
    for set in sets {
        shared.retain(|(name, value)| set.iter().any(|(n, v)| n == *name && v == *value));
        if shared.is_empty() {
            break;
        }
    }
    shared
}

fn value<'a>(pairs: &'a [(SmolStr, SmolStr)], name: &str) -> &'a str {
    pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Alerts that are written out where they are: more take milliseconds.
const INLINE_ALERTS_MAX: usize = 256;

/// Writes a delivery out. A large one takes long: the runtime moves what else waits for this thread to another.
pub(crate) fn written<T>(delivery: &Delivery, write: impl FnOnce() -> T) -> T {
    let moves = tokio::runtime::Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() != tokio::runtime::RuntimeFlavor::CurrentThread);
    let alerts: usize = delivery.groups.iter().map(|group| group.alerts.len()).sum();
    if moves && alerts > INLINE_ALERTS_MAX { tokio::task::block_in_place(write) } else { write() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_is_not_shown_counts_all_the_same() {
        let warning = |number: usize| {
            let labels =
                [("event", "Disk"), ("n", &number.to_string()), ("severity", "warning"), ("site", "boston")];
            Alert { severity: Some(Severity::Warning), ..sample::alert_of(&labels, &[("summary", "full")]) }
        };
        let mut alerts: Vec<Alert> = (0..4).map(warning).collect();
        alerts.push(sample::alert());
        let whole = sample::delivery_of(1, alerts);
        let part = whole.showing(2);
        assert_eq!((part.alerts().count(), part.hidden()), (2, 3));
        assert_eq!(part.severity(), Some(Severity::Critical));
        assert_eq!((part.event(), whole.event()), ("", ""));
        assert_eq!(part.common_labels(), whole.common_labels());
        assert_eq!(part.common_labels().len(), 1);
        assert_eq!(part.common_annotations(), []);
        assert_eq!(part.showing(1).common_labels(), whole.common_labels());
        let ended = Alert { firing: false, ..sample::alert() };
        let mixed = sample::delivery_of(1, vec![warning(1), ended.clone()]);
        assert_eq!(mixed.showing(1).severity(), Some(Severity::Warning), "the critical one has ended");
        assert_eq!(sample::delivery_of(1, vec![ended]).showing(0).severity(), Some(Severity::Critical));
        assert_eq!(whole.showing(9), whole);
    }

    /// One worker: whoever holds it holds up all.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_delivery_is_written_while_others_go_on() {
        let delivery = sample::delivery_of(1, vec![sample::alert(); INLINE_ALERTS_MAX + 1]);
        let (sender, receiver) = std::sync::mpsc::channel();
        let writes = tokio::spawn(async move {
            written(&delivery, || {
                // Another task must run before this one goes on.
                tokio::spawn(async move { sender.send(()) });
                receiver.recv_timeout(std::time::Duration::from_secs(20))
            })
        });
        assert_eq!(writes.await.expect("no panic"), Ok(()));
    }
}
