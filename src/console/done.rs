//! Deliveries that ended well, as far back as the newest decisions reach: the state forgets them, and there is no history yet.

use std::collections::HashMap;

use ams2_core::{
    DeliveryId, Position, Record, Wall,
    config::ActionId,
    effect::{AttemptResult, Decided, Next},
};

use super::views::{self, time};

/// A delivery that ended well.
#[derive(Debug)]
pub(super) struct Done {
    id: DeliveryId,
    action: ActionId,
    attempts: u32,
    /// The far end's words; `None` where nobody confirms.
    reply: Option<String>,
    /// What it told; `None` if that decision is older than those in memory.
    told: Option<Told>,
}

#[derive(Clone, Debug)]
struct Told {
    group: String,
    reason: &'static str,
    alerts: u32,
    first: Position,
    decided: Wall,
}

/// Those that the decisions (oldest first) tell of, the one that ended last first. What went out in a digest is there by
/// its own name, with the digest's outcome.
pub(super) fn done<'a>(
    decisions: impl DoubleEndedIterator<Item = &'a Record> + Clone,
    wall_offset_ms: i64,
) -> Vec<Done> {
    let (mut told, mut digests) = (HashMap::new(), HashMap::new());
    for record in decisions.clone() {
        match &record.what {
            Decided::Notify { delivery, group, reason, firing, resolved, first, .. } => {
                let decided = record.at.wall(wall_offset_ms);
                let (group, alerts) = (group.key.clone(), firing + resolved);
                let one = Told { group, reason: reason.word(), alerts, first: *first, decided };
                told.insert(*delivery, one);
            }
            Decided::Digested { digest: carrier, deliveries, .. }
            | Decided::Split { half: carrier, deliveries, .. } => drop(digests.insert(*carrier, deliveries)),
            _ => {}
        }
    }
    let mut rows = Vec::new();
    for record in decisions.rev() {
        let Decided::Attempt { delivery, action, attempt, result, next: Next::Done, .. } = &record.what
        else {
            continue;
        };
        let reply = match result {
            AttemptResult::Delivered(words) => Some(words.clone()),
            _ => None,
        };
        let parts = digests.get(delivery).map_or(std::slice::from_ref(delivery), |parts| parts.as_slice());
        rows.extend(parts.iter().map(|id| Done {
            id: *id,
            action: action.clone(),
            attempts: *attempt,
            reply: reply.clone(),
            told: told.get(id).cloned(),
        }));
    }
    rows
}

impl Done {
    /// Where the texts that it is found by stand.
    pub(super) fn positions(&self) -> Vec<Position> {
        self.told.iter().map(|told| told.first).collect()
    }

    /// As the API shows it.
    pub(super) fn view(&self) -> views::Delivery {
        let told = self.told.as_ref();
        views::Delivery {
            id: self.id.to_string(),
            action: self.action.to_string(),
            group: told.map(|told| told.group.clone()).unwrap_or_default(),
            reason: told.map_or("", |told| told.reason).into(),
            state: if self.reply.is_some() { "delivered" } else { "sent" }.into(),
            reply: self.reply.clone(),
            attempts: self.attempts,
            alerts: told.map_or(0, |told| told.alerts),
            decided: told.map(|told| time(told.decided)).unwrap_or_default(),
            ..views::Delivery::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use ams2_core::{
        At,
        effect::{GroupName, NotifyReason},
        input::FailureKind,
    };

    use super::*;

    fn record(what: Decided) -> Record {
        Record { seq: 1, at: At(7), what }
    }

    fn notify(id: u128) -> Record {
        record(Decided::Notify {
            delivery: DeliveryId(id),
            group: GroupName { key: format!("group {id}"), labels: vec![] }.into(),
            action: action(),
            reason: NotifyReason::FirstTime,
            firing: 2,
            resolved: 1,
            first: Position::arrived(id as u64),
        })
    }

    fn attempt(id: u128, attempt: u32, result: AttemptResult, next: Next) -> Record {
        let delivery = DeliveryId(id);
        record(Decided::Attempt { delivery, action: action(), attempt, result, took_ms: 1, next })
    }

    fn action() -> ActionId {
        ActionId { receiver: "r".into(), kind: "email".into(), name: "0".into() }
    }

    #[test]
    fn what_ended_well_is_shown_with_the_far_ends_words_and_nothing_else_is() {
        let later = AttemptResult::Failed(FailureKind::Transient, "later".into());
        let records = [
            attempt(1, 3, AttemptResult::Delivered("250 ok".into()), Next::Done),
            notify(2),
            notify(3),
            attempt(2, 1, later.clone(), Next::Retry(At(9))),
            attempt(3, 1, AttemptResult::Sent, Next::Done),
            attempt(2, 2, AttemptResult::Delivered("partly".into()), Next::Retry(At(9))),
            attempt(4, 9, later, Next::DeadLetter),
            attempt(2, 3, AttemptResult::Delivered("250 queued".into()), Next::Done),
        ];
        let rows: Vec<views::Delivery> = done(records.iter(), 0).iter().map(Done::view).collect();
        let short = |row: &views::Delivery| {
            (
                u128::from_str_radix(&row.id, 16),
                row.state.clone(),
                row.reply.clone(),
                row.attempts,
                row.alerts,
            )
        };
        let shown: Vec<_> = rows.iter().map(short).collect();
        let reply = |words: &str| Some(words.to_owned());
        assert_eq!(
            shown,
            [
                (Ok(2), "delivered".into(), reply("250 queued"), 3, 3),
                (Ok(3), "sent".into(), None, 1, 3),
                // Its decision is not in memory any more.
                (Ok(1), "delivered".into(), reply("250 ok"), 3, 0),
            ]
        );
        assert_eq!((rows[0].group.as_str(), rows[0].reason.as_str()), ("group 2", "first_time"));
        assert_eq!(done(records.iter(), 0)[0].positions(), [Position::arrived(2)]);
    }

    #[test]
    fn what_went_out_in_a_digest_is_there_by_its_own_name() {
        let (digest, deliveries) = (DeliveryId(9), vec![DeliveryId(1), DeliveryId(2)]);
        let records = [
            notify(1),
            notify(2),
            record(Decided::Digested { digest, deliveries, action: action() }),
            attempt(9, 1, AttemptResult::Delivered("both".into()), Next::Done),
        ];
        let rows: Vec<views::Delivery> = done(records.iter(), 0).iter().map(Done::view).collect();
        let groups: Vec<&str> = rows.iter().map(|row| row.group.as_str()).collect();
        assert_eq!(groups, ["group 1", "group 2"]);
        assert!(rows.iter().all(|row| row.reply.as_deref() == Some("both")), "{rows:?}");
    }
}
