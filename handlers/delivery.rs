//! What an action is given: one delivery with its texts read back, ready to be rendered.

use std::sync::Arc;

use ams2_core::{
    At, Fingerprint, Severity, Wall,
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
    /// The alerts in Alertmanager's order; at most the action's `max_alerts`, unless the action asks for all.
    pub alerts: Vec<Alert>,
    /// How many alerts fire in all, shown or not.
    pub firing: u32,
    /// How many resolved in all, shown or not.
    pub resolved: u32,
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
    /// Whether it fires; else it is resolved.
    pub firing: bool,
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

    /// The highest severity among the alerts that fire, else among all.
    pub fn severity(&self) -> Option<Severity> {
        let firing = self.alerts().filter(|alert| alert.firing).filter_map(|alert| alert.severity).max();
        firing.or_else(|| self.alerts().filter_map(|alert| alert.severity).max())
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

    /// The name of what happened when it is the same for every alert, else `""`.
    pub fn event(&self) -> &str {
        let mut events = self.alerts().map(Alert::event);
        let first = events.next().unwrap_or("");
        if events.all(|event| event == first) { first } else { "" }
    }

    /// Labels that every alert has with the same value, sorted by name.
    pub fn common_labels(&self) -> Vec<(&SmolStr, &SmolStr)> {
        common(self.alerts().map(|alert| &alert.labels[..]))
    }

    /// Annotations that every alert has with the same value, sorted by name.
    pub fn common_annotations(&self) -> Vec<(&SmolStr, &SmolStr)> {
        common(self.alerts().map(|alert| &alert.annotations[..]))
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
