//! The far ends: mail servers, trap receivers and pagers with moods of their own. They remember what they were told,
//! and that is the truth which the router's receipts are held against.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    config::ActionId,
    effect::NotifyReason,
    input::{DeliveryId, Failure, FailureKind, Receipt, Recipient},
};
use ams2_handlers::Delivery;

use super::{
    plan::{PlanAction, SECOND},
    random::Random,
};

/// How a far end is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers within a moment.
    Well,
    /// It answers well, after seconds.
    Slow,
    /// It says "later", and sometimes when.
    Failing,
    /// It never answers; the deadline cuts it off.
    Hanging,
    /// It takes everything and says "later" all the same.
    Lying,
    /// It refuses for good.
    Refusing,
    /// Some recipients are refused, for now or for good.
    Partly,
    /// It refuses a delivery that tells of more than two groups or occurrences: it is too large.
    Narrow,
    /// Each call is another of these.
    Moody,
}

const MOODS: [Mood; 9] = [
    Mood::Well,
    Mood::Slow,
    Mood::Failing,
    Mood::Hanging,
    Mood::Lying,
    Mood::Refusing,
    Mood::Partly,
    Mood::Narrow,
    Mood::Moody,
];

/// What one delivery of a call comes to.
#[derive(Clone, Debug)]
pub struct Answer {
    pub result: Result<Receipt, Failure>,
    /// Recipients that are told by it, whatever the answer says.
    pub told: BTreeSet<u16>,
}

/// What a call comes to: when it ends, and whether the far end acts at its begin.
#[derive(Clone, Debug)]
pub struct Call {
    pub takes_ms: u64,
    pub acts_at_once: bool,
    pub answers: Vec<Answer>,
}

/// All far ends, by the action that speaks to them.
#[derive(Debug, Default)]
pub struct FarEnds {
    moods: BTreeMap<ActionId, Mood>,
    /// Which recipients were told of a delivery.
    pub told: BTreeMap<DeliveryId, BTreeSet<u16>>,
    /// Every time that one acted, in order.
    pub seen: Vec<Seen>,
}

/// A far end acted on a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub at: u64,
    pub action: ActionId,
    pub delivery: DeliveryId,
    pub attempt: u32,
    pub maybe_duplicate: bool,
    pub reason: NotifyReason,
    /// The text of each alert, and whether it fires.
    pub alerts: Vec<(String, bool)>,
}

impl Seen {
    pub fn new(at: u64, action: &ActionId, delivery: &Delivery) -> Seen {
        let alerts = delivery.groups.iter().flat_map(|group| &group.alerts);
        Seen {
            at,
            action: action.clone(),
            delivery: delivery.id,
            attempt: delivery.attempt,
            maybe_duplicate: delivery.maybe_duplicate,
            reason: delivery.groups[0].reason,
            alerts: alerts.map(|alert| (alert.annotation("text").to_owned(), alert.firing)).collect(),
        }
    }
}

impl FarEnds {
    pub fn change_mood(&mut self, random: &mut Random, action: &ActionId) {
        let mood = *random.pick(&MOODS);
        self.set_mood(action, mood);
    }

    pub fn set_mood(&mut self, action: &ActionId, mood: Mood) {
        self.moods.insert(action.clone(), mood);
    }

    pub fn heal(&mut self) {
        self.moods.clear();
    }

    /// Draws what a call of an action comes to.
    pub fn call(&self, random: &mut Random, action: &PlanAction, batch: &[Delivery]) -> Call {
        let mood = match self.moods.get(&action.id).copied().unwrap_or(Mood::Well) {
            Mood::Moody => *random.pick(&MOODS[..8]),
            mood => mood,
        };
        let takes_ms = match mood {
            Mood::Hanging => 10 * SECOND,
            Mood::Slow => 1 + random.below(9 * SECOND),
            _ => random.below(50),
        };
        let answers = batch.iter().map(|delivery| answer(random, action, mood, delivery)).collect();
        Call { takes_ms, acts_at_once: random.one_in(2), answers }
    }

    /// The far end acts on one delivery.
    pub fn act(&mut self, delivery: DeliveryId, told: &BTreeSet<u16>) {
        self.told.entry(delivery).or_default().extend(told);
    }
}

fn answer(random: &mut Random, action: &PlanAction, mood: Mood, delivery: &Delivery) -> Answer {
    let asked: BTreeSet<u16> = match &delivery.unfinished {
        Some(unfinished) => unfinished.iter().map(|recipient| recipient.0 as u16).collect(),
        None => (0..action.recipients).collect(),
    };
    let none = BTreeSet::new();
    match mood {
        Mood::Narrow if delivery.groups.len() > 2 => {
            Answer { result: Err(Failure::permanent("413 too large")), told: none }
        }
        Mood::Well | Mood::Slow | Mood::Narrow | Mood::Moody => {
            let receipt = if random.one_in(3) { Receipt::Sent } else { Receipt::delivered("taken") };
            Answer { result: Ok(receipt), told: asked }
        }
        Mood::Failing => {
            let retry_after_ms = random.one_in(4).then(|| random.below(120 * SECOND));
            let kind = *random.pick(&[FailureKind::Transient, FailureKind::Deferred]);
            let failure = Failure { kind, retry_after_ms, ..Failure::transient("451 later") };
            Answer { result: Err(failure), told: none }
        }
        Mood::Hanging => {
            let told = if random.one_in(2) { asked } else { none };
            let kind = *random.pick(&[FailureKind::Transient, FailureKind::Uncertain]);
            Answer { result: Err(Failure { kind, ..Failure::transient("no answer") }), told }
        }
        Mood::Lying => Answer { result: Err(Failure::transient("451 later")), told: asked },
        Mood::Refusing => Answer { result: Err(Failure::permanent("550 never")), told: none },
        Mood::Partly => {
            let (mut told, mut unfinished, mut refused) = (none, Vec::new(), Vec::new());
            for recipient in asked {
                match random.below(3) {
                    0 => unfinished.push(Recipient::at(recipient)),
                    1 => refused.push((Recipient::at(recipient), "550 no such person".to_owned())),
                    _ => drop(told.insert(recipient)),
                }
            }
            let memo = random.one_in(2).then(|| vec![7; 8]);
            Answer {
                result: Ok(Receipt::Delivered { reply: "partly".into(), memo, unfinished, refused }),
                told,
            }
        }
    }
}
