//! Decisions as the API shows them: what was decided, about what, and why. The newest are in memory.

use std::sync::Arc;

use ams2_core::{
    DeliveryId, Record,
    effect::{AlertChange, AttemptResult, Decided, HoldReason, Next},
    input::FailureKind,
};
use serde::{Deserialize, Serialize};

use super::views::time;

/// One decision with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// The journal record that caused it.
    pub sequence: u64,
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// What was decided, in a word: `fired`, `routed`, `notify`, `hold`, `attempt`, `dead_letter` ...
    pub decision: String,
    /// Why, in a word or in the far end's words; absent where the decision says all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fingerprints of the alerts concerned, where it is not the whole group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// The group's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who tells it: `receiver/kind/name`; for `routed` the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// Which attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The deliveries that it stands for, of a digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<String>,
    /// What caused it: the delivery that replaced this one, the digest that was refused, or the alerts that inhibit it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because_of: Vec<String>,
    /// The silences concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<String>,
    /// The heartbeat concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<String>,
    /// The client concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

impl Decision {
    /// The decision as the API shows it.
    pub fn of(record: &Record, wall_offset_ms: i64) -> Decision {
        let blank = Decision {
            sequence: record.seq,
            time: time(record.at.wall(wall_offset_ms)),
            ..Decision::default()
        };
        let said = |decision: &str| Decision { decision: decision.into(), ..blank.clone() };
        match &record.what {
            Decided::Alert { alert, change, .. } => {
                Decision { alerts: vec![alert.to_string()], ..said(change_word(*change)) }
            }
            Decided::DuplicateId { alert, .. } => {
                Decision { alerts: vec![alert.to_string()], ..said("duplicate_id") }
            }
            Decided::Routed { alert, group, receiver } => Decision {
                alerts: vec![alert.to_string()],
                group: Some(group.key.clone()),
                action: Some(receiver.to_string()),
                ..said("routed")
            },
            Decided::Notify { delivery, group, action, reason, .. } => Decision {
                reason: Some(reason.word().into()),
                group: Some(group.key.clone()),
                action: Some(action.to_string()),
                delivery: Some(delivery.to_string()),
                ..said("notify")
            },
            Decided::Hold { group, action, reason, alerts } => Decision {
                reason: Some(hold_words(reason)),
                alerts: alerts.iter().map(ToString::to_string).collect(),
                group: Some(group.key.clone()),
                action: action.as_ref().map(ToString::to_string),
                because_of: match reason {
                    HoldReason::Inhibited { by, .. } => by.iter().map(ToString::to_string).collect(),
                    _ => Vec::new(),
                },
                silences: match reason {
                    HoldReason::Silenced { by } => by.iter().map(ToString::to_string).collect(),
                    _ => Vec::new(),
                },
                ..said("hold")
            },
            Decided::Superseded { delivery, by } => Decision {
                reason: Some(format!("replaced by {by}")),
                because_of: vec![by.to_string()],
                delivery: Some(delivery.to_string()),
                ..said("superseded")
            },
            Decided::Digested { digest, deliveries, action } => Decision {
                reason: Some(format!("{} deliveries over the rate limit", deliveries.len())),
                deliveries: deliveries.iter().map(ToString::to_string).collect(),
                action: Some(action.to_string()),
                delivery: Some(digest.to_string()),
                ..said("digest")
            },
            Decided::Split { digest, half, deliveries, action } => Decision {
                reason: Some(match deliveries.len() {
                    1 => format!("{digest} was refused as a whole: told by itself"),
                    count => format!("{digest} was refused as a whole: {count} of it are told by themselves"),
                }),
                deliveries: deliveries.iter().map(ToString::to_string).collect(),
                because_of: vec![digest.to_string()],
                action: Some(action.to_string()),
                delivery: Some(half.to_string()),
                ..said("split")
            },
            Decided::Attempt { delivery, action, attempt, result, next, .. } => Decision {
                reason: Some(attempt_words(result, *next)),
                action: Some(action.to_string()),
                delivery: Some(delivery.to_string()),
                attempt: Some(*attempt),
                ..said("attempt")
            },
            Decided::LateOutcome { delivery, attempt } => Decision {
                delivery: Some(delivery.to_string()),
                attempt: Some(*attempt),
                ..said("late_outcome")
            },
            Decided::DeadLetter { delivery, action, reason } => Decision {
                reason: Some(reason.to_string()),
                action: Some(action.to_string()),
                delivery: Some(delivery.to_string()),
                ..said("dead_letter")
            },
            Decided::Operator { delivery, verb, by } => Decision {
                reason: Some(format!("by {by}")),
                delivery: Some(delivery.to_string()),
                ..said(verb)
            },
            Decided::Ignored { verb, delivery, by, why } => Decision {
                reason: Some(format!("{verb} by {by}: {why}")),
                delivery: delivery.as_ref().map(ToString::to_string),
                ..said("ignored")
            },
            Decided::Acknowledge { alert, by, .. } => Decision {
                reason: by.as_ref().map(|by| format!("by {by}")),
                alerts: vec![alert.to_string()],
                ..said(if by.is_some() { "acknowledged" } else { "acknowledgement_ended" })
            },
            Decided::Breaker { action, open } => Decision {
                action: Some(action.to_string()),
                ..said(if *open { "far_end_fails" } else { "far_end_is_back" })
            },
            Decided::Config { by, .. } => Decision { reason: Some(format!("by {by}")), ..said("config") },
            Decided::Process { started, unknown_outcomes } => Decision {
                reason: started.then(|| format!("{unknown_outcomes} attempts had no outcome")),
                ..said(if *started { "started" } else { "stopping" })
            },
            Decided::WallClock { moved_ms } => {
                Decision { reason: Some(format!("by {moved_ms} ms")), ..said("wall_clock") }
            }
            Decided::Silence { id, change, by } => Decision {
                reason: Some(if by.is_empty() { "its time is over".into() } else { format!("by {by}") }),
                silences: vec![id.to_string()],
                ..said(&format!("silence_{}", change.word()))
            },
            Decided::SilenceRefused { error, by } => {
                Decision { reason: Some(format!("{error}; wanted by {by}")), ..said("silence_refused") }
            }
            Decided::FarEnd { action, before, now } => Decision {
                reason: Some(format!("{now} takes it, not {before}: it is told anew what fires")),
                action: Some(action.to_string()),
                ..said("far_end")
            },
            Decided::Shed { delivery, action, shed } => Decision {
                reason: Some(format!("more waits than may; {shed} were dropped so far")),
                action: Some(action.to_string()),
                delivery: Some(delivery.to_string()),
                ..said("dropped")
            },
            Decided::Heartbeat { name, alert, change, by, why } => Decision {
                reason: Some(by_whom(why, by)),
                alerts: vec![alert.to_string()],
                heartbeat: Some(name.to_string()),
                ..said(&format!("heartbeat_{}", change.word()))
            },
            Decided::Client { name, alert, change, by, why } => Decision {
                reason: Some(by_whom(why, by)),
                alerts: vec![alert.to_string()],
                client: Some(name.to_string()),
                ..said(&format!("client_{}", change.word()))
            },
            Decided::ClientCount { count, advised, is_over } => Decision {
                reason: Some(format!("{count} check in, {advised} are advised")),
                ..said(if *is_over { "too_many_clients" } else { "clients_as_advised" })
            },
        }
    }

    /// Whether it concerns this alert (by fingerprint), delivery (by id), group (by key), silence (by id), or heartbeat or client
    /// (by name).
    pub fn concerns(&self, what: &str) -> bool {
        let lists = [&self.alerts, &self.deliveries, &self.because_of, &self.silences];
        let single = [&self.delivery, &self.group, &self.heartbeat, &self.client];
        lists.into_iter().flatten().chain(single.into_iter().flatten()).any(|known| known == what)
    }
}

/// What is asked about, and, where that is a delivery that went out in a digest, the digest: its attempts are the
/// delivery's.
pub(super) fn with_digests(what: String, records: &[Arc<Record>]) -> Vec<String> {
    let id = DeliveryId::parse(&what);
    let digests = records.iter().filter_map(|record| match &record.what {
        Decided::Digested { digest: carrier, deliveries, .. }
        | Decided::Split { half: carrier, deliveries, .. }
            if id.is_some_and(|id| deliveries.contains(&id)) =>
        {
            Some(carrier.to_string())
        }
        _ => None,
    });
    let mut all: Vec<String> = digests.collect();
    all.push(what);
    all
}

/// Why, and who said so; nobody where time or a config did.
fn by_whom(why: &str, by: &str) -> String {
    if by.is_empty() { why.to_owned() } else { format!("{why} (by {by})") }
}

/// Why something was held, with who holds it.
fn hold_words(reason: &HoldReason) -> String {
    let word = reason.word();
    match reason {
        HoldReason::Silenced { by } => {
            let by: Vec<String> = by.iter().map(ToString::to_string).collect();
            format!("{word} by {}", by.join(", "))
        }
        HoldReason::Inhibited { by, more } => {
            let by: Vec<String> = by.iter().map(ToString::to_string).collect();
            let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{word} by {}{more}", by.join(", "))
        }
        HoldReason::MuteTime { interval } => format!("{word} {interval}"),
        _ => word.into(),
    }
}

fn change_word(change: AlertChange) -> &'static str {
    match change {
        AlertChange::Fired => "fired",
        AlertChange::Occurred => "occurred",
        AlertChange::Updated => "updated",
        AlertChange::Resolved => "resolved",
        AlertChange::TimedOut => "timed_out",
        AlertChange::EndedByKey => "ended_by_key",
        AlertChange::ArrivedResolved => "arrived_resolved",
    }
}

fn attempt_words(result: &AttemptResult, next: Next) -> String {
    let said = match result {
        AttemptResult::Sent => "sent".to_owned(),
        AttemptResult::Delivered(words) if words.is_empty() => "delivered".to_owned(),
        AttemptResult::Delivered(words) => format!("delivered: {words}"),
        AttemptResult::Failed(FailureKind::Permanent, words) => format!("failed for good: {words}"),
        AttemptResult::Failed(FailureKind::Deferred, words) => format!("put off: {words}"),
        AttemptResult::Failed(FailureKind::Transient | FailureKind::Uncertain, words) => {
            format!("failed for now: {words}")
        }
        AttemptResult::Unknown => "the process ended before the outcome was kept".to_owned(),
    };
    match next {
        Next::Done => said,
        Next::Retry(_) => format!("{said}; it is tried again"),
        Next::DeadLetter => format!("{said}; it is given up"),
        Next::Split => format!("{said}; it is told in two halves"),
    }
}

#[cfg(test)]
mod tests {
    use ams2_core::{At, Fingerprint, config::ActionId, effect::GroupName};

    use super::*;

    fn record(what: Decided) -> Arc<Record> {
        Arc::new(Record { seq: 1, at: At(7), what })
    }

    #[test]
    fn what_became_of_a_delivery_is_told_in_a_digest_too_and_nothing_is_about_nothing() {
        let action = || ActionId { receiver: "r".into(), kind: "email".into(), name: "0".into() };
        let attempt = |id: u128| {
            let (result, next) = (AttemptResult::Sent, Next::Done);
            let delivery = DeliveryId(id);
            record(Decided::Attempt { delivery, action: action(), attempt: 1, result, took_ms: 1, next })
        };
        let (digest, deliveries) = (DeliveryId(9), vec![DeliveryId(1), DeliveryId(2)]);
        let group = || GroupName { key: "g".into(), labels: vec![] }.into();
        let by = Fingerprint::of([("event", "Offline")].into_iter());
        let inhibited = HoldReason::Inhibited { by: vec![by], more: 1 };
        let records = [
            record(Decided::Digested { digest, deliveries, action: action() }),
            attempt(9),
            record(Decided::Split {
                digest,
                half: DeliveryId(8),
                deliveries: vec![DeliveryId(2)],
                action: action(),
            }),
            attempt(8),
            attempt(3),
            record(Decided::Superseded { delivery: DeliveryId(4), by: DeliveryId(5) }),
            record(Decided::Hold { group: group(), action: None, reason: inhibited, alerts: vec![] }),
            record(Decided::Config { position: ams2_core::Position::default(), by: "signal".into() }),
        ];
        let rows = [
            (DeliveryId(1).to_string(), vec!["digest", "attempt", "split"]),
            (DeliveryId(2).to_string(), vec!["digest", "attempt", "split", "attempt"]),
            (digest.to_string(), vec!["digest", "attempt", "split"]),
            (DeliveryId(3).to_string(), vec!["attempt"]),
            (DeliveryId(5).to_string(), vec!["superseded"]),
            (by.to_string(), vec!["hold"]),
            ("g".to_owned(), vec!["hold"]),
            // The end of a reason, and nothing at all, name nothing.
            ("signal".to_owned(), vec![]),
            (String::new(), vec![]),
        ];
        for (about, expected) in rows {
            let about = with_digests(about, &records);
            let found = records.iter().map(|record| Decision::of(record, 0));
            let found = found.filter(|row| about.iter().any(|what| row.concerns(what)));
            assert_eq!(found.map(|row| row.decision).collect::<Vec<_>>(), expected, "{about:?}");
        }
    }
}
