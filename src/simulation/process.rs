//! One life of the server: the real recovery, writer, fold, texts, snapshots and carrying forward, each a turn that the
//! world gives. A life ends by a crash, and nothing of it is left but the disk.

use std::collections::{BTreeMap, VecDeque};

use ams2_core::{
    At, Effect, Input, Position, Record,
    config::ActionId,
    effect::Deliver,
    input::{Arrival, DeliveryId, JournalRecord, Outcome},
    machine::Search,
};

use super::{
    far_ends::{Answer, FarEnds, Seen as SeenThere},
    oracle::Oracle,
    plan::Plan,
    random::Random,
};
use crate::{
    handler::{self, Attempt, Site, Texts},
    journal::{JournalReader, Pressure, SnapshotWriter, Writer},
    poison::Panics,
    router::{Folded, Follow},
    upkeep,
};

/// An input that waits for a flush, and the client's request that it answers.
#[derive(Debug)]
pub struct Waiting {
    pub input: Input,
    pub request: Option<usize>,
}

/// Segments before this number are to go: how far the search for what is needed of them is, what it found that is not carried
/// yet, and whether a `carried` waits for its flush.
#[derive(Debug)]
pub struct Leaving {
    seq: u64,
    search: Search,
    needed: Vec<Position>,
    waits: bool,
}

/// Rows that a piece of that search looks through: few, so that much happens between two.
const SEARCH_ROWS: u32 = 8;

/// A call of an action that is under way.
#[derive(Debug)]
pub struct UnderWay {
    pub action: ActionId,
    pub done_at: u64,
    began: u64,
    deliveries: Vec<(ams2_handlers::Delivery, u32, Answer)>,
    acted: bool,
}

/// See the module's head.
pub struct Process {
    pub live: Folded,
    pub writer: Writer,
    pub reader: JournalReader,
    pub snapshots: SnapshotWriter,
    pub panics: Panics,
    pub covered: u64,
    /// The journal's clock at the begin, and the world's.
    pub began: (At, u64),
    pub waiting: VecDeque<Waiting>,
    /// Flushed records that the router has not folded, and what the fold of the whole journal made of them.
    pub unfolded: VecDeque<(JournalRecord, Vec<Effect>)>,
    /// Attempts that wait for a slot.
    pub queued: BTreeMap<ActionId, VecDeque<Attempt>>,
    pub calls: Vec<UnderWay>,
    /// The config that the handler acts by.
    pub plan: Plan,
    /// The due time that an `advanced` waits for.
    pub asked_for: Option<At>,
    /// Segments that are to go.
    pub leaving: Option<Leaving>,
    /// Clients are refused: the disk is nearly full.
    pub full: bool,
    /// The wall clock's offset that was journaled last.
    pub offset_ms: i64,
}

/// Keeps what the fold tells, in order.
#[derive(Default)]
struct Seen {
    effects: Vec<Effect>,
    attempts: Vec<Attempt>,
    installed: Vec<String>,
}

impl Follow for Seen {
    fn deliver(&mut self, attempt: Attempt) {
        self.effects.push(Effect::Deliver(attempt.deliver.clone()));
        self.attempts.push(attempt);
    }

    fn installed(&mut self, _: Position, text: &str) {
        self.installed.push(text.to_owned());
    }

    fn decided(&mut self, record: &Record) {
        self.effects.push(Effect::Record(record.clone()));
    }
}

impl Process {
    /// The journal's clock.
    pub fn at(&self, now: u64) -> At {
        self.began.0.plus(now - self.began.1)
    }

    pub fn keep(&mut self, input: Input) {
        self.waiting.push_back(Waiting { input, request: None });
    }

    pub fn accept(&mut self, arrival: Arrival, request: usize) {
        self.waiting.push_back(Waiting { input: Input::Alerts(arrival), request: Some(request) });
    }

    /// When the router wants to be called.
    pub fn due_in_world(&mut self) -> Option<u64> {
        let due = self.live.machine.next_due();
        (due != At::NEVER).then(|| self.began.1 + due.since(self.began.0))
    }

    /// The router's clock: appends `advanced` when a timer is due and nothing else came.
    pub fn advance(&mut self, now: u64) {
        let due = self.live.machine.next_due();
        if due <= self.at(now) && self.asked_for != Some(due) && self.unfolded.is_empty() {
            self.asked_for = Some(due);
            self.keep(Input::Advanced);
        }
    }

    /// The router folds one record. The same must follow as in the fold of the whole journal.
    pub fn fold(&mut self, budget: u32) {
        let Some((record, expected)) = self.unfolded.pop_front() else { return };
        if let (Some(leaving), Input::Carried(_)) = (&mut self.leaving, &record.input) {
            leaving.waits = false;
        }
        let seq = record.seq;
        let mut seen = Seen::default();
        self.live.fold(record, budget, |_| {}, &mut seen);
        let expected = expected.iter().filter(|effect| !matches!(effect, Effect::Wake(_)));
        assert!(seen.effects.iter().eq(expected), "record {seq} has other effects than in the first fold");
        for text in seen.installed {
            self.plan = Plan::by_name(&text).expect("plans are numbered");
        }
        for attempt in seen.attempts {
            self.submit(attempt);
        }
    }

    fn submit(&mut self, attempt: Attempt) {
        let action = &attempt.deliver.action;
        if self.plan.action(action).is_none() {
            let failure = ams2_core::input::Failure::permanent("the config in force has no such action");
            self.keep(Input::Outcome(outcome(&attempt.deliver, Err(failure), 0)));
            return;
        }
        self.queued.entry(action.clone()).or_default().push_back(attempt);
    }

    /// The handler starts calls for an action as long as it has free slots.
    pub fn begin_calls(
        &mut self,
        now: u64,
        random: &mut Random,
        far_ends: &mut FarEnds,
        oracle: &mut Oracle,
    ) {
        let actions: Vec<ActionId> = self.queued.keys().cloned().collect();
        for id in actions {
            // An action that a reload took away ends with its queue.
            let action = self.plan.action(&id).cloned().unwrap_or_else(|| Plan::any_action(&id));
            loop {
                let slots = self.calls.iter().filter(|call| call.action == id).count();
                let Some(queue) = self.queued.get_mut(&id).filter(|queue| !queue.is_empty()) else { break };
                if slots >= action.max_in_flight as usize {
                    break;
                }
                let batch = next_batch(queue, action.batch_max as usize);
                let mut deliveries = Vec::new();
                let mut waits_for_unreadable = false;
                for attempt in batch {
                    let read = handler::delivery(&attempt, &self.reader as &dyn Texts, 0, &Site::default());
                    let failure = match read {
                        Ok(delivery) if !waits_for_unreadable => {
                            deliveries.push(delivery);
                            continue;
                        }
                        Ok(_) => "an earlier one is unreadable".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    *oracle.counts.entry("unreadable").or_default() += 1;
                    waits_for_unreadable = attempt.deliver.goes_on;
                    let failure = ams2_core::input::Failure::transient(failure);
                    self.keep(Input::Outcome(outcome(&attempt.deliver, Err(failure), 0)));
                }
                if deliveries.is_empty() {
                    continue;
                }
                let call = far_ends.call(random, &action, &deliveries);
                let deliveries = deliveries
                    .into_iter()
                    .zip(call.answers)
                    .map(|(d, answer)| (d.clone(), d.attempt, answer));
                let mut under_way = UnderWay {
                    action: id.clone(),
                    done_at: now + call.takes_ms,
                    began: now,
                    deliveries: deliveries.collect(),
                    acted: false,
                };
                if call.acts_at_once {
                    under_way.act(now, far_ends, oracle);
                }
                self.calls.push(under_way);
            }
        }
    }

    /// Calls whose time has come end, and their outcomes go to the journal.
    pub fn end_calls(&mut self, now: u64, far_ends: &mut FarEnds, oracle: &mut Oracle) {
        let (done, under_way) =
            std::mem::take(&mut self.calls).into_iter().partition(|call| call.done_at <= now);
        self.calls = under_way;
        for mut call in done {
            let call: &mut UnderWay = &mut call;
            call.act(now, far_ends, oracle);
            for (number, (delivery, attempt, answer)) in call.deliveries.iter().enumerate() {
                let (took_ms, led) = ((now - call.began) as u32, number == 0);
                let (delivery, attempt, result) = (delivery.id, *attempt, answer.result.clone());
                self.keep(Input::Outcome(Outcome { delivery, attempt, result, took_ms, led }));
            }
        }
    }

    /// Some step of letting old segments go.
    pub fn let_go(&mut self) {
        let Some(leaving) = &mut self.leaving else {
            // A disk that cannot list its files lets nothing go.
            let covered = self.snapshots.covered().unwrap_or(0);
            let seq = self.writer.droppable(covered, self.writer.at(), Pressure::None);
            // A router that lags behind does not know yet what it needs.
            self.leaving = seq.filter(|seq| self.live.machine.next_seq() >= *seq).map(|seq| Leaving {
                seq,
                search: Search::default(),
                needed: Vec::new(),
                waits: false,
            });
            return;
        };
        if leaving.waits {
            return;
        }
        let machine = &self.live.machine;
        if leaving.needed.is_empty() {
            match machine.needed_before(leaving.seq, &mut leaving.search, SEARCH_ROWS) {
                Some(needed) => leaving.needed = needed,
                None => {
                    let left = machine.needed_before(leaving.seq, &mut Search::default(), u32::MAX);
                    assert_eq!(left, None, "a search in pieces missed what is needed");
                    // What cannot be dropped now is dropped later.
                    drop(self.writer.drop_before(leaving.seq));
                    self.leaving = None;
                    return;
                }
            }
        }
        let some = &leaving.needed[..leaving.needed.len().min(5)];
        if !some.is_empty()
            && let Ok(carried) = upkeep::carried(some, &self.reader)
        {
            leaving.needed.drain(..carried.items.len());
            leaving.waits = true;
            self.keep(Input::Carried(carried));
        }
    }

    /// The process is gone: some calls had reached their far ends, and nobody knows.
    pub fn die(mut self, now: u64, random: &mut Random, far_ends: &mut FarEnds, oracle: &mut Oracle) {
        for call in &mut self.calls {
            if random.one_in(2) {
                call.act(now, far_ends, oracle);
            }
        }
        let waiting = self.waiting.iter().filter_map(|waiting| match &waiting.input {
            Input::Outcome(outcome) => Some(outcome.delivery),
            _ => None,
        });
        let acted = self.calls.iter().filter(|call| call.acted);
        let lost: Vec<DeliveryId> = acted
            .flat_map(|call| call.deliveries.iter().map(|(delivery, ..)| delivery.id))
            .chain(waiting)
            .collect();
        lost.into_iter().for_each(|id| oracle.outcome_lost(id));
    }
}

impl UnderWay {
    fn act(&mut self, now: u64, far_ends: &mut FarEnds, oracle: &mut Oracle) {
        if std::mem::replace(&mut self.acted, true) {
            return;
        }
        for (delivery, _, answer) in &self.deliveries {
            if !answer.told.is_empty() {
                oracle.told(delivery, &self.action);
                far_ends.seen.push(SeenThere::new(now, &self.action, delivery));
            }
            for id in std::iter::once(delivery.id).chain(oracle.told_with(delivery.id)) {
                far_ends.act(id, &answer.told);
            }
        }
    }
}

/// What goes into the next call: as much as it carries, and nothing torn apart that belongs into one.
fn next_batch(queue: &mut VecDeque<Attempt>, most: usize) -> Vec<Attempt> {
    let mut batch: Vec<Attempt> = Vec::new();
    while let Some(last) = queue.iter().position(|attempt| !attempt.deliver.goes_on) {
        if !batch.is_empty() && batch.len() + last + 1 > most {
            break;
        }
        batch.extend(queue.drain(..=last));
    }
    batch
}

pub fn outcome(
    deliver: &Deliver,
    result: Result<ams2_core::input::Receipt, ams2_core::input::Failure>,
    took_ms: u32,
) -> Outcome {
    Outcome { delivery: deliver.delivery, attempt: deliver.attempt, result, took_ms, led: false }
}
