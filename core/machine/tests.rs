//! What the router promises, in virtual time: a machine with its journal, and the tests that run on it by theme.

mod clients;
mod deliveries;
mod effort;
mod forwarded;
mod groups;
mod heartbeats;
mod keys;
mod let_go;
mod muting;
mod operate;
mod property;
mod routes;

use alloc::{format, string::String, vec, vec::Vec};

use super::*;
use crate::{
    AlertBatch, BatchBuilder, DeliveryId, Severity, Wall,
    batch::AlertTimes,
    config::{ActionId, ActionSpec, Config, GroupBy, Install, Notify, Receiver, Removed, Route},
    effect::{AlertChange, DeadReason, Deliver, HoldReason, NotifyReason},
    input::{
        Acknowledge, Arrival, DeliveryCommand, DeliverySelection, DeliveryVerb, Failure, Outcome, Receipt,
        Recipient, Started,
    },
    matcher::Matcher,
};

/// A wall clock that is this far ahead makes times readable.
pub(super) const OFFSET: i64 = 1_700_000_000_000;

pub(super) fn action(receiver: &str, kind: &str) -> ActionSpec {
    ActionSpec {
        id: ActionId { receiver: receiver.into(), kind: kind.into(), name: "0".into() },
        send_resolved: true,
        max_in_flight: 1000,
        batch_max: 1,
        max_per_minute: None,
        timeout_ms: 10_000,
        patient: false,
        pending_max: None,
    }
}

/// One receiver `ops`; what ams2 says of its own start and configs goes to nobody.
pub(super) fn config(actions: Vec<ActionSpec>, mut route: Route) -> Config {
    let own = Route {
        receiver: Some("nobody".into()),
        matchers: vec![Matcher::parse("event=~\"Startup|Configuration Changed\"").expect("valid")],
        notify: Some(Notify::Group),
        ..Route::default()
    };
    route.routes.insert(0, own);
    let mut config = Config::single(Receiver { name: "ops".into(), actions }, route);
    config.receivers.push(Receiver { name: "nobody".into(), actions: vec![] });
    config
}

pub(super) fn grouped() -> Route {
    Route {
        group_by: Some(GroupBy::Labels(vec!["event".into()])),
        group_wait_ms: Some(30_000),
        group_interval_ms: Some(60_000),
        repeat_interval_ms: Some(3_600_000),
        ..Route::default()
    }
}

/// A route that tells each occurrence.
pub(super) fn each() -> Route {
    Route { notify: Some(Notify::Each), ..Route::default() }
}

/// A machine with its journal: appends inputs, and answers deliveries if told to.
pub(super) struct World {
    pub machine: Machine,
    pub journal: Vec<JournalRecord>,
    pub now: At,
    pub effects: Vec<Effect>,
    /// What every attempt is answered with; `None` leaves attempts under way.
    pub far_end: Option<Result<Receipt, Failure>>,
    pub delivered: Vec<(At, Deliver)>,
}

impl World {
    pub fn new(config: Config) -> World {
        let mut world = World {
            machine: Machine::new(),
            journal: Vec::new(),
            now: At(0),
            effects: Vec::new(),
            far_end: Some(Ok(Receipt::delivered("ok"))),
            delivered: Vec::new(),
        };
        world.start();
        world.install(config, Vec::new());
        world.delivered.clear();
        world.effects.clear();
        world
    }

    /// A world whose one action is not told of ends.
    pub fn not_told_of_ends() -> World {
        let silent = ActionSpec { send_resolved: false, ..action("ops", "log") };
        World::new(config(vec![silent], grouped()))
    }

    /// The same world, after the process wrote a snapshot and read it again.
    pub fn restored(mut self) -> World {
        self.machine = Machine::restore(&self.machine.snapshot()).expect("our own snapshot");
        self
    }

    pub fn start(&mut self) {
        let started = Started {
            incarnation: 7,
            seed: [1, 2],
            wall_offset_ms: OFFSET,
            version: "test".into(),
            damage: vec![],
            install: None,
        };
        self.input(Input::Started(started));
    }

    pub fn install(&mut self, config: Config, removed: Vec<(ActionId, Removed)>) {
        let install = Install { config, text: String::new(), rule_version: 1, removed, by: "test".into() };
        self.input(Input::ConfigInstalled(install.into()));
    }

    pub fn append(&mut self, input: Input) {
        let record = JournalRecord { seq: self.machine.next_seq(), at: self.now, input };
        self.journal.push(record.clone());
        self.machine.apply_whole(record);
    }

    /// Appends the input and, as long as attempts follow, their outcomes.
    pub fn input(&mut self, input: Input) {
        self.append(input);
        while let Some(effect) = self.machine.next_effect() {
            if let (Effect::Deliver(deliver), Some(result)) = (&effect, self.far_end.clone()) {
                let outcome = Outcome {
                    delivery: deliver.delivery,
                    attempt: deliver.attempt,
                    result,
                    took_ms: 1,
                    led: true,
                };
                self.delivered.push((self.now, (**deliver).clone()));
                self.effects.push(effect.clone());
                self.append(Input::Outcome(outcome));
            } else {
                if let Effect::Deliver(deliver) = &effect {
                    self.delivered.push((self.now, (**deliver).clone()));
                }
                self.effects.push(effect);
            }
        }
    }

    /// Lets `milliseconds` pass, stopping at each timer.
    pub fn wait(&mut self, milliseconds: u64) {
        let end = self.now.plus(milliseconds);
        loop {
            let due = self.machine.next_due();
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            self.input(Input::Advanced);
        }
        self.now = end;
    }

    pub fn alert(&mut self, labels: &[(&str, &str)], ends_in_ms: Option<i64>) {
        self.send(labels, None, ends_in_ms);
    }

    pub fn send(&mut self, labels: &[(&str, &str)], id: Option<&str>, ends_in_ms: Option<i64>) {
        let ends_at = ends_in_ms.map(|ms| Wall(self.now.0 as i64 + OFFSET + ms));
        let batch = batch(labels, id, ends_at);
        self.input(Input::Alerts(Arrival { client: "test".into(), batch: batch.into() }));
    }

    pub fn outcome_of_last(&mut self, result: Result<Receipt, Failure>) {
        let (_, last) = self.delivered.last().expect("a delivery").clone();
        self.input(Input::Outcome(Outcome {
            delivery: last.delivery,
            attempt: last.attempt,
            result,
            took_ms: 1,
            led: true,
        }));
    }

    pub fn holds_of_ops(&self) -> Vec<HoldReason> {
        self.records()
            .filter_map(|what| match what {
                Decided::Hold { reason, .. } if *reason != HoldReason::NobodyToTell => Some(reason.clone()),
                _ => None,
            })
            .collect()
    }

    pub fn records(&self) -> impl Iterator<Item = &Decided> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Record(record) => Some(&record.what),
            _ => None,
        })
    }

    /// When what was delivered, and why, with how many alerts firing and resolved.
    pub fn told(&self) -> Vec<(u64, NotifyReason, usize, usize)> {
        self.delivered
            .iter()
            .flat_map(|(at, deliver)| deliver.notifications.iter().map(|n| (*at, n.clone())))
            .map(|(at, n)| {
                let firing = n.alerts.iter().filter(|noted| noted.is_firing()).count();
                (at.0, n.reason, firing, n.alerts.len() - firing)
            })
            .collect()
    }
}

pub(super) fn batch(labels: &[(&str, &str)], id: Option<&str>, ends_at: Option<Wall>) -> AlertBatch {
    let mut builder = BatchBuilder::default();
    for (name, value) in labels {
        builder.label(name, value);
    }
    builder.annotation("summary", "text");
    builder.finish_alert(AlertTimes { starts_at: None, ends_at }, id, None).expect("valid");
    builder.finish()
}

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const A: &[(&str, &str)] = &[("event", "E"), ("host", "a")];
pub(super) const B: &[(&str, &str)] = &[("event", "E"), ("host", "b")];
