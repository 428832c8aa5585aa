//! What the router promises, in virtual time.

use alloc::{format, string::String, vec, vec::Vec};

use super::*;
use crate::{
    AlertBatch, BatchBuilder, DeliveryId, Severity, Wall,
    batch::AlertTimes,
    config::{ActionId, ActionSpec, Config, GroupBy, Install, Notify, Receiver, Removed, Route},
    effect::{AlertChange, DeadReason, Deliver, HoldReason, NotifyReason},
    input::{
        Acknowledge, Arrival, DeliveryCommand, DeliverySelection, DeliveryVerb, Failure, Outcome, Receipt,
        Started,
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

    /// A world that goes on from a snapshot, with deliveries left as they are.
    pub fn restored(machine: Machine) -> World {
        World {
            now: machine.at(),
            machine,
            journal: Vec::new(),
            effects: Vec::new(),
            far_end: None,
            delivered: Vec::new(),
        }
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

#[test]
fn a_group_is_told_after_group_wait_then_on_its_grid() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.now = At(1_000);
    world.alert(A, Some(HOUR));
    world.wait(40_000);
    assert_eq!(world.told(), [(31_000, NotifyReason::FirstTime, 1, 0)]);
    world.alert(B, Some(HOUR));
    world.wait(100_000);
    assert_eq!(world.told()[1..], [(91_000, NotifyReason::NewAlerts, 2, 0)]);
    world.alert(A, Some(0));
    world.wait(60_000);
    assert_eq!(world.told()[2..], [(151_000, NotifyReason::SomeResolved, 1, 1)]);
    world.alert(B, Some(0));
    world.wait(60_000);
    assert_eq!(world.told()[3..], [(211_000, NotifyReason::AllResolved, 0, 1)]);
    world.wait(600_000);
    assert_eq!(world.machine.sizes(), (0, 0, 0), "nothing is left behind");
}

#[test]
fn the_same_is_told_again_on_the_grid_after_the_repeat_interval() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.alert(A, Some(10 * HOUR));
    world.wait(2 * HOUR as u64 + 300_000);
    let told: Vec<u64> = world.told().iter().map(|told| told.0).collect();
    // Told at 30 s; one hour later the stamp is not yet older than the interval, so it is the next minute.
    assert_eq!(told, [30_000, 30_000 + 3_660_000, 30_000 + 2 * 3_660_000]);
    let looks = world.journal.iter().filter(|record| record.input == Input::Advanced).count();
    assert!(looks < 10, "a group at rest is not looked at each minute: {looks} looks");
}

#[test]
fn an_alert_without_an_end_resolves_by_timeout() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.alert(A, None);
    world.wait(200_000);
    world.alert(A, None);
    world.wait(290_000);
    assert_eq!(world.told().len(), 1, "the refresh put the end off");
    world.wait(120_000);
    assert_eq!(world.told()[1].1, NotifyReason::AllResolved);
}

#[test]
fn an_alert_that_began_long_ago_does_not_wait() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.now = At(500_000);
    let mut builder = BatchBuilder::default();
    builder.label("event", "E");
    let times =
        AlertTimes { starts_at: Some(Wall(OFFSET + 100_000)), ends_at: Some(Wall(OFFSET + 10 * HOUR)) };
    builder.finish_alert(times, None, None).expect("valid");
    world.input(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }));
    assert_eq!(world.told(), [(500_000, NotifyReason::FirstTime, 1, 0)]);
}

#[test]
fn what_resolves_before_it_is_told_is_held_or_told_once() {
    for tell_short in [false, true] {
        let route = Route { tell_short: Some(tell_short), ..grouped() };
        let mut world = World::new(config(vec![action("ops", "log")], route));
        world.alert(A, Some(HOUR));
        world.wait(10_000);
        world.alert(A, Some(0));
        world.wait(100_000);
        if tell_short {
            assert_eq!(world.told(), [(30_000, NotifyReason::Short, 0, 1)]);
        } else {
            assert_eq!(world.holds_of_ops(), [HoldReason::ResolvedBeforeTold]);
            assert_eq!(world.told(), []);
        }
        world.wait(600_000);
        assert_eq!(world.machine.sizes(), (0, 0, 0));
    }
}

#[test]
fn an_action_without_resolves_is_told_when_it_fires_again() {
    let mut silent = action("ops", "log");
    silent.send_resolved = false;
    let mut world = World::new(config(vec![silent], grouped()));
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    world.alert(A, Some(0));
    world.wait(60_000);
    assert_eq!(world.holds_of_ops(), [HoldReason::ResolvesNotSent]);
    world.alert(A, Some(HOUR));
    world.wait(60_000);
    let reasons: Vec<NotifyReason> = world.told().iter().map(|told| told.1).collect();
    assert_eq!(reasons, [NotifyReason::FirstTime, NotifyReason::FirstTime]);
}

#[test]
fn each_occurrence_is_told_at_once_and_a_repeated_id_is_not_one() {
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.send(A, Some("1"), None);
    world.send(A, Some("2"), None);
    world.send(A, Some("2"), None);
    assert_eq!(world.told(), [(0, NotifyReason::Occurrence, 1, 0), (0, NotifyReason::Occurrence, 1, 0)]);
    assert_eq!(world.machine.totals().duplicates, 1);
    world.wait(600_000);
    assert_eq!(world.told().len(), 2, "a one-shot event does not end by itself");
    world.alert(B, Some(HOUR));
    world.alert(B, Some(HOUR));
    world.alert(B, Some(0));
    let reasons: Vec<NotifyReason> = world.told()[2..].iter().map(|told| told.1).collect();
    assert_eq!(reasons, [NotifyReason::Occurrence, NotifyReason::Ended], "a refresh is no occurrence");
}

#[test]
fn transient_failures_are_tried_again_and_given_up_by_age() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure::transient("451")));
    world.alert(A, Some(1000 * HOUR));
    world.wait(23 * HOUR as u64);
    let early: Vec<u64> = world.delivered.iter().map(|(at, _)| at.0).take(3).collect();
    assert!(early[1] - early[0] <= 1_000 && early[2] - early[1] <= 2_000, "{early:?}");
    let ids: Vec<DeliveryId> = world.delivered.iter().map(|(_, deliver)| deliver.delivery).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the same id on each attempt");
    assert!(ids.len() > 200 && ids.len() < 700, "{} attempts in 23 h", ids.len());
    world.wait(2 * HOUR as u64);
    let dead = world.records().find_map(|what| match what {
        Decided::DeadLetter { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(dead, Some(DeadReason::TooOld("451".into())));
}

#[test]
fn a_permanent_failure_is_a_dead_letter_that_an_operator_can_retry() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure::permanent("550")));
    world.alert(A, Some(HOUR));
    world.wait(70_000);
    let dead: Vec<_> = world.machine.deliveries().collect();
    assert_eq!(dead.len(), 1, "the own alert about it goes to nobody but the failed action: {dead:?}");
    assert!(world.holds_of_ops().contains(&HoldReason::AboutItself));
    assert!(matches!(dead[0].standing, DeliveryStanding::Dead(DeadReason::Permanent(_))));
    world.far_end = Some(Ok(Receipt::delivered("250")));
    let which = DeliverySelection::One(dead[0].id);
    world.input(Input::Deliveries(DeliveryCommand { which, verb: DeliveryVerb::Retry, by: "test".into() }));
    assert_eq!(world.machine.deliveries().count(), 0);
    assert_eq!(world.delivered.last().expect("it was tried").1.delivery, dead[0].id);
}

#[test]
fn a_failed_delivery_is_told_by_the_other_action() {
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], grouped()));
    world.far_end = None;
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    let (_, log) = world.delivered[0].clone();
    assert_eq!(log.action.kind, "log");
    world.far_end = Some(Ok(Receipt::Sent));
    let result = Err(Failure::permanent("550"));
    world.input(Input::Outcome(Outcome {
        delivery: log.delivery,
        attempt: 1,
        result,
        took_ms: 1,
        led: true,
    }));
    world.wait(40_000);
    let own = world.delivered.last().expect("the own alert is told");
    assert_eq!(own.1.action.kind, "mail");
    let position = own.1.notifications[0].alerts[0].position;
    let text = world.machine.own_text(position);
    assert!(position.is_raised());
    // Its own text stays as long as the alert lives.
    let text = text.expect("the text of a live own alert");
    assert_eq!(text.alert(0).expect("one").label("event"), "Delivery Failed");
}

#[test]
fn a_newer_notification_replaces_a_waiting_one_and_inherits_its_age() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = None;
    world.alert(A, Some(HOUR));
    world.wait(30_500);
    world.outcome_of_last(Err(Failure { retry_after_ms: Some(600_000), ..Failure::transient("451") }));
    world.alert(B, Some(HOUR));
    world.wait(120_000);
    let superseded = world.records().filter(|what| matches!(what, Decided::Superseded { .. })).count();
    assert_eq!((superseded, world.delivered.len()), (1, 1), "it waits as its elder did");
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(600_000);
    let last = &world.delivered.last().expect("tried again").1;
    assert_eq!((last.attempt, last.notifications[0].alerts.len()), (2, 2));
    assert_eq!(world.machine.deliveries().count(), 0);
}

#[test]
fn a_firing_that_nobody_was_told_of_is_not_replaced_by_its_resolve() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure { retry_after_ms: Some(600_000), ..Failure::transient("451") }));
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    world.alert(A, Some(0));
    world.wait(120_000);
    world.far_end = Some(Ok(Receipt::Sent));
    world.delivered.clear();
    world.wait(700_000);
    let reasons: Vec<NotifyReason> = world.told().iter().map(|told| told.1).collect();
    assert_eq!(reasons, [NotifyReason::FirstTime, NotifyReason::AllResolved]);
    assert_eq!(world.machine.sizes(), (0, 0, 0));
}

#[test]
fn after_five_failures_one_delivery_probes_and_the_rest_wait() {
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.far_end = Some(Err(Failure::transient("down")));
    for host in 0..100 {
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some(&format!("{host}")), None);
    }
    let before = world.delivered.len();
    world.wait(HOUR as u64);
    let attempts = world.delivered.len() - before;
    assert!(attempts < 20, "{attempts} attempts in an hour for 100 deliveries");
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(600_000);
    assert_eq!(world.machine.deliveries().count(), 0, "all came through");
}

#[test]
fn what_is_over_the_rate_limit_becomes_one_digest() {
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut limited = action("ops", "mail");
    limited.max_per_minute = Some(3);
    let mut world = World::new(config(vec![limited], route));
    for host in 0..10 {
        world.now = At(host * 100);
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some(&format!("{host}")), None);
    }
    world.wait(120_000);
    let sizes: Vec<usize> = world.delivered.iter().map(|(_, deliver)| deliver.notifications.len()).collect();
    assert_eq!(sizes, [1, 1, 1, 7]);
    let times: Vec<u64> = world.delivered.iter().map(|(at, _)| at.0).collect();
    assert!(times[3] - times[0] >= 60_000, "{times:?}");
    assert_eq!(world.machine.totals().delivered, 4);
    assert_eq!(world.machine.sizes().2, 0);
}

#[test]
fn a_digest_that_fails_is_told_again_as_it_was() {
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut limited = action("ops", "mail");
    limited.max_per_minute = Some(1);
    let mut world = World::new(config(vec![limited], route));
    for host in 0..5 {
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some(&format!("{host}")), None);
    }
    world.far_end = Some(Err(Failure::transient("down")));
    world.wait(61_000);
    world.send(&[("event", "E"), ("host", "late")], Some("late"), None);
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(300_000);
    let told: Vec<_> =
        world.delivered.iter().map(|(_, told)| (told.notifications.len(), told.attempt)).collect();
    assert_eq!(told[told.len() - 2..], [(4, 2), (1, 1)], "the same four again, and the late one by itself");
    assert_eq!(world.machine.sizes().2, 0);
}

#[test]
fn what_fires_and_ends_again_between_two_looks_is_held_by_name() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.alert(B, Some(100 * HOUR));
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    world.alert(A, Some(0));
    world.wait(60_000);
    world.alert(A, Some(HOUR));
    world.alert(A, Some(0));
    world.wait(60_000);
    assert_eq!(world.holds_of_ops().last(), Some(&HoldReason::ResolvedBeforeTold));
}

#[test]
fn an_action_without_resolves_that_was_told_late_is_told_of_the_next_firing() {
    let mut silent = action("ops", "log");
    silent.send_resolved = false;
    let mut world = World::new(config(vec![silent, action("ops", "mail")], grouped()));
    world.far_end = None;
    world.alert(A, Some(HOUR));
    world.wait(30_000);
    let late: Vec<_> = world.delivered.iter().map(|(_, deliver)| deliver.clone()).collect();
    world.alert(A, Some(0));
    world.wait(60_000);
    let silent = late.iter().find(|told| told.action.kind == "log").expect("told").delivery;
    let sent = |delivery| Outcome { delivery, attempt: 1, result: Ok(Receipt::Sent), took_ms: 1, led: true };
    world.input(Input::Outcome(sent(silent)));
    world.alert(A, Some(HOUR));
    world.delivered.clear();
    world.wait(60_000);
    let again = world.delivered.iter().filter(|(_, told)| told.action.kind == "log").count();
    assert_eq!(again, 1, "what it was told is over, and it was not told that");
}

#[test]
fn a_start_with_an_attempt_due_ends() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure::transient("later")));
    world.alert(A, Some(HOUR));
    world.wait(30_000);
    world.now = At(40_000);
    world.far_end = Some(Ok(Receipt::Sent));
    world.start();
    assert_eq!(world.delivered.last().map(|(at, told)| (at.0, told.attempt)), Some((40_000, 2)));
}

#[test]
fn after_two_reloads_the_older_delivery_of_a_group_is_told_first() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure::transient("later")));
    world.alert(A, Some(HOUR));
    world.wait(30_000);
    let whole = Route { group_by: Some(GroupBy::Labels(vec![])), ..grouped() };
    world.install(config(vec![action("ops", "log")], whole), vec![]);
    world.install(config(vec![action("ops", "log")], grouped()), vec![]);
    let old = world.delivered[0].1.delivery;
    world.wait(31_000);
    world.far_end = Some(Ok(Receipt::Sent));
    world.delivered.clear();
    world.wait(600_000);
    let told: Vec<DeliveryId> = world.delivered.iter().map(|(_, told)| told.delivery).collect();
    assert_eq!((told.len(), told[0]), (2, old));
}

#[test]
fn the_rate_limit_counts_when_attempts_are_made_not_when_they_were_due() {
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut limited = action("ops", "mail");
    limited.max_per_minute = Some(2);
    let mut world = World::new(config(vec![limited], route));
    world.far_end = Some(Err(Failure::transient("later")));
    for host in 0..2 {
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some(&format!("{host}")), None);
    }
    // The machine was suspended for an hour: everything is due, and all of it now.
    world.now = At(3_600_000);
    world.delivered.clear();
    world.far_end = None;
    world.input(Input::Advanced);
    world.wait(59_000);
    assert!(world.delivered.len() <= 2, "{} attempts in a minute", world.delivered.len());
}

#[test]
fn an_acknowledgement_stops_repeats_until_something_changes() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.alert(A, Some(100 * HOUR));
    world.wait(40_000);
    let matchers = vec![Matcher::parse("event=E").expect("valid")];
    let acknowledge =
        Acknowledge { matchers, by: "ann".into(), until: None, comment: String::new(), withdraw: false };
    world.input(Input::Acknowledge(acknowledge));
    world.wait(10 * HOUR as u64);
    assert_eq!(world.told().len(), 1);
    assert_eq!(world.holds_of_ops().last(), Some(&HoldReason::Acknowledged { by: "ann".into() }));
    world.alert(B, Some(100 * HOUR));
    world.wait(HOUR as u64);
    assert_eq!(world.told()[1].1, NotifyReason::NewAlerts);
}

#[test]
fn a_crash_repeats_what_was_under_way_and_three_make_a_dead_letter() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = None;
    world.alert(A, Some(100 * HOUR));
    world.wait(31_000);
    for crash in 1..=3 {
        world.start();
        let dead = world
            .machine
            .deliveries()
            .any(|d| matches!(d.standing, DeliveryStanding::Dead(DeadReason::Crashes)));
        assert_eq!(dead, crash == 3, "after crash {crash}");
    }
    let attempts: Vec<(u32, bool)> =
        world.delivered.iter().map(|(_, deliver)| (deliver.attempt, deliver.maybe_duplicate)).collect();
    assert_eq!(attempts, [(1, false), (2, true), (3, true)]);
}

#[test]
fn an_orderly_stop_counts_as_no_crash() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = None;
    world.alert(A, Some(100 * HOUR));
    world.wait(31_000);
    for _ in 0..5 {
        world.input(Input::Stopping);
        world.start();
    }
    assert!(!world.machine.deliveries().any(|d| matches!(d.standing, DeliveryStanding::Dead(_))));
}

#[test]
fn a_new_config_keeps_groups_and_what_they_were_told() {
    let first = config(vec![action("ops", "log")], grouped());
    let mut world = World::new(first.clone());
    world.alert(A, Some(100 * HOUR));
    world.wait(45_000);
    let mut second = first;
    second.receivers[0].actions.push(action("ops", "mail"));
    world.install(second, vec![]);
    world.wait(120_000);
    let told: Vec<_> = world.delivered.iter().map(|(at, d)| (at.0, d.action.kind.as_str())).collect();
    assert_eq!(told[0], (30_000, "log"));
    assert!(told[1..].iter().all(|(_, kind)| *kind == "mail" || *kind == "log"));
    let repeated = world
        .delivered
        .iter()
        .filter(|(at, d)| at.0 > 30_000 && d.action.kind == "log")
        .flat_map(|(_, d)| &d.notifications)
        .filter(|n| n.group.key.contains("\"E\""))
        .count();
    assert_eq!(repeated, 0, "the log was told before");
}

#[test]
fn deliveries_of_a_removed_action_move_or_become_dead_letters() {
    for (fate, heirs, dead) in
        [(Some(Removed::MoveTo("ops".into())), 1, 0), (Some(Removed::Drop), 0, 1), (None, 0, 1)]
    {
        let first = config(vec![action("ops", "log"), action("ops", "mail")], grouped());
        let mut world = World::new(first.clone());
        world.far_end = None;
        world.alert(A, Some(100 * HOUR));
        world.wait(31_000);
        let mail = world.delivered.iter().find(|(_, d)| d.action.kind == "mail").expect("mail").1.clone();
        let log = world.delivered.iter().find(|(_, d)| d.action.kind == "log").expect("log").1.clone();
        for deliver in [&mail, &log] {
            let failed = Failure { retry_after_ms: Some(3_000_000), ..Failure::transient("451") };
            let result = if deliver.action.kind == "mail" { Err(failed) } else { Ok(Receipt::Sent) };
            world.input(Input::Outcome(Outcome {
                delivery: deliver.delivery,
                attempt: 1,
                result,
                took_ms: 1,
                led: true,
            }));
        }
        let mut second = first;
        second.receivers[0].actions.pop();
        let removed = fate.iter().map(|fate| (mail.action.clone(), fate.clone())).collect();
        world.install(second, removed);
        let is_dead = |d: &DeliveryView| matches!(d.standing, DeliveryStanding::Dead(_));
        let of_e = |d: &DeliveryView| d.group.key.contains("\"E\"");
        let found: Vec<_> = world.machine.deliveries().filter(of_e).collect();
        let counts =
            (found.iter().filter(|d| !is_dead(d)).count(), found.iter().filter(|d| is_dead(d)).count());
        assert_eq!(counts, (heirs, dead), "{fate:?}: {found:?}");
    }
}

#[test]
fn routes_walk_as_alertmanagers() {
    let matchers =
        |texts: &[&str]| texts.iter().map(|text| Matcher::parse(text).expect(text)).collect::<Vec<_>>();
    let leaf = |receiver: &str, texts: &[&str]| Route {
        receiver: Some(receiver.into()),
        matchers: matchers(texts),
        ..Route::default()
    };
    let tree = Route {
        receiver: Some("default".into()),
        routes: vec![
            Route {
                routes: vec![
                    leaf("test", &["env=testing"]),
                    Route { goes_on: true, ..leaf("prod", &["env=production"]) },
                    leaf("prod-2", &["env=production"]),
                ],
                ..leaf("A", &["owner=team-A"])
            },
            leaf("BC", &["owner=~\"team-(B|C)\""]),
            Route { goes_on: true, ..leaf("high", &["severity>=major"]) },
            leaf("one-of", &["site=~\"boston|paris\""]),
        ],
        ..Route::default()
    };
    let names = ["default", "A", "test", "prod", "prod-2", "BC", "high", "one-of"];
    let receivers = names.iter().map(|name| Receiver { name: (*name).into(), actions: vec![] }).collect();
    let config = Config {
        receivers,
        route: tree,
        ..Config::single(Receiver { name: "x".into(), actions: vec![] }, Route::default())
    };
    let routing = Routing::compile(&config).expect("valid");
    let rows: [(&[(&str, &str)], &[&str]); 8] = [
        (&[("owner", "team-A")], &["A"]),
        (&[("env", "unset"), ("owner", "team-A")], &["A"]),
        (&[("owner", "team-C")], &["BC"]),
        (&[("env", "testing"), ("owner", "team-A")], &["test"]),
        (&[("env", "production"), ("owner", "team-A")], &["prod", "prod-2"]),
        (&[("severity", "critical"), ("site", "paris")], &["high", "one-of"]),
        (&[("severity", "critical")], &["high"]),
        (&[("owner", "nobody")], &["default"]),
    ];
    for (labels, expected) in rows {
        let found = batch(labels, None, None);
        let found = routing.routes(&found.alert(0).expect("one"));
        let found: Vec<&str> =
            found.iter().map(|route| names[routing.nodes[*route as usize].receiver as usize]).collect();
        assert_eq!(found, expected, "{labels:?}");
    }
}

#[test]
fn group_keys_print_as_alertmanagers() {
    let route = Route {
        receiver: Some("ops".into()),
        routes: vec![Route {
            matchers: vec![Matcher::parse("owner=\"team-A\"").expect("valid")],
            group_by: Some(GroupBy::Labels(vec!["alertname".into(), "zone".into()])),
            ..Route::default()
        }],
        ..Route::default()
    };
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.alert(&[("alertname", "X\"y"), ("owner", "team-A"), ("zone", "1")], Some(HOUR));
    let keys: Vec<&str> = world.machine.groups().map(|group| group.name().key.as_str()).collect();
    assert!(keys.contains(&r#"{}/{owner="team-A"}:{alertname="X\"y", zone="1"}"#), "{keys:?}");
}

#[test]
fn merged_times_are_alertmanagers() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.now = At(1_000_000);
    let send = |world: &mut World, starts: i64, ends: Option<i64>| {
        let mut builder = BatchBuilder::default();
        builder.label("event", "E");
        let wall = |ms: i64| Wall(OFFSET + ms);
        let times = AlertTimes { starts_at: Some(wall(starts)), ends_at: ends.map(wall) };
        builder.finish_alert(times, None, None).expect("valid");
        world.input(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }));
        let view = world
            .machine
            .alerts()
            .find(|a| a.label("event") == "E")
            .map(|alert| (alert.starts_at().0 - OFFSET, alert.ends_at().0 - OFFSET, alert.is_firing()));
        view.expect("it is known")
    };
    assert_eq!(send(&mut world, 900_000, Some(2_000_000)), (900_000, 2_000_000, true));
    assert_eq!(
        send(&mut world, 950_000, Some(1_500_000)),
        (900_000, 2_000_000, true),
        "overlap: earliest start, latest end"
    );
    assert_eq!(send(&mut world, 950_000, Some(990_000)), (900_000, 990_000, false), "a resolve ends it");
    assert_eq!(
        send(&mut world, 995_000, Some(3_000_000)),
        (995_000, 3_000_000, true),
        "no overlap: a new firing"
    );
}

#[test]
fn own_alerts_have_the_numbers_of_the_old_table() {
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.input(Input::Own(crate::input::OwnEvent::AccessDenied {
        from: "192.0.2.1".into(),
        what: "no token".into(),
    }));
    world.input(Input::Stopping);
    let told: Vec<(String, Severity)> = world
        .machine
        .alerts()
        .map(|alert| {
            (
                format!("{}/{}", alert.label("event"), alert.label("event_id")),
                alert.severity().expect("ranked"),
            )
        })
        .collect();
    for expected in [
        ("Startup/14", Severity::Info),
        ("Configuration Changed/12", Severity::Info),
        ("Access Denied/33", Severity::Minor),
        ("Shutdown/13", Severity::Minor),
    ] {
        assert!(
            told.iter().any(|(name, severity)| (name.as_str(), *severity) == expected),
            "{expected:?} in {told:?}"
        );
    }
    let changes = world
        .records()
        .filter(|what| matches!(what, Decided::Alert { change: AlertChange::Fired, .. }))
        .count();
    assert_eq!(changes, 2, "access denied and shutdown");
}

mod property {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Alert { host: u8, resolve: bool, id: Option<u8> },
        Wait(u32),
        Outcome { which: u8, how: u8 },
        Restart(bool),
        Reload(u8),
        Acknowledge(u8),
        Retry(bool),
        Clock(i32),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0u8..6, any::<bool>(), proptest::option::of(0u8..4)).prop_map(|(host, resolve, id)| Act::Alert { host, resolve, id }),
            5 => (0u32..200_000).prop_map(Act::Wait),
            6 => (any::<u8>(), 0u8..6).prop_map(|(which, how)| Act::Outcome { which, how }),
            1 => any::<bool>().prop_map(Act::Restart),
            1 => (0u8..4).prop_map(Act::Reload),
            1 => (0u8..6).prop_map(Act::Acknowledge),
            1 => any::<bool>().prop_map(Act::Retry),
            1 => any::<i32>().prop_map(Act::Clock),
        ]
    }

    fn some_config(variant: u8) -> Config {
        let mut mail = action("ops", "mail");
        mail.max_per_minute = Some(2);
        mail.send_resolved = false;
        let actions = match variant {
            0 => vec![action("ops", "log"), mail],
            1 => vec![mail],
            _ => vec![action("ops", "log")],
        };
        let each = Route {
            matchers: vec![Matcher::parse("host=~\"1|2\"").expect("valid")],
            notify: Some(Notify::Each),
            goes_on: true,
            ..Route::default()
        };
        let rest = Route { tell_short: Some(variant == 3), ..Route::default() };
        config(actions, Route { routes: vec![each, rest], ..grouped() })
    }

    /// Runs a script and keeps what was appended: the journal.
    fn journal(script: &[Act]) -> World {
        let mut world = World::new(some_config(0));
        world.far_end = None;
        for act in script {
            match act {
                Act::Alert { host, resolve, id } => {
                    let id = id.map(|id| format!("{id}"));
                    let ends = if *resolve { Some(0) } else { Some(HOUR) };
                    let host = format!("{host}");
                    world.send(
                        &[("event", "E"), ("host", &host), ("severity", "critical")],
                        id.as_deref(),
                        ends.filter(|_| id.is_none()),
                    );
                }
                Act::Wait(ms) => world.wait(u64::from(*ms)),
                Act::Outcome { which, how } => {
                    if world.delivered.is_empty() {
                        continue;
                    }
                    let (_, deliver) = world.delivered[*which as usize % world.delivered.len()].clone();
                    let result = match how {
                        0 => Err(Failure::transient("later")),
                        1 => Err(Failure::permanent("never")),
                        2 => Ok(Receipt::Delivered {
                            reply: "partly".into(),
                            memo: Some(vec![1]),
                            unfinished: vec![1],
                            refused: vec![(0, "no".into())],
                        }),
                        _ => Ok(Receipt::delivered("ok")),
                    };
                    world.input(Input::Outcome(Outcome {
                        delivery: deliver.delivery,
                        attempt: deliver.attempt,
                        result,
                        took_ms: 5,
                        led: true,
                    }));
                }
                Act::Restart(orderly) => {
                    if *orderly {
                        world.input(Input::Stopping);
                    }
                    world.start();
                }
                Act::Reload(variant) => world.install(some_config(*variant), vec![]),
                Act::Acknowledge(host) => {
                    let matchers = vec![Matcher::parse(&format!("host=\"{host}\"")).expect("valid")];
                    let until = Some(world.now.plus(100_000));
                    world.input(Input::Acknowledge(Acknowledge {
                        matchers,
                        by: "ann".into(),
                        until,
                        comment: String::new(),
                        withdraw: false,
                    }));
                }
                Act::Retry(drop) => {
                    let verb = if *drop { DeliveryVerb::Drop } else { DeliveryVerb::Retry };
                    world.input(Input::Deliveries(DeliveryCommand {
                        which: DeliverySelection::DeadLetters,
                        verb,
                        by: "ann".into(),
                    }));
                }
                Act::Clock(ms) => world.input(Input::WallClock(OFFSET + i64::from(*ms))),
            }
        }
        world
    }

    /// A script that a number names, the same everywhere.
    fn numbered_script(seed: u64) -> Vec<Act> {
        let mut state = seed;
        let mut draw = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let act = |_| match draw(22) {
            0..=5 => Act::Alert {
                host: draw(6) as u8,
                resolve: draw(2) == 0,
                id: (draw(2) == 0).then(|| draw(4) as u8),
            },
            6..=10 => Act::Wait(draw(200_000) as u32),
            11..=16 => Act::Outcome { which: draw(256) as u8, how: draw(6) as u8 },
            17 => Act::Restart(draw(2) == 0),
            18 => Act::Reload(draw(4) as u8),
            19 => Act::Acknowledge(draw(6) as u8),
            20 => Act::Retry(draw(2) == 0),
            _ => Act::Clock(draw(1 << 31) as i32),
        };
        (0..60).map(act).collect()
    }

    /// Replay and cluster stand on it. A change of any decision changes the first number, one of the snapshot's layout
    /// the second: it is then taken over from the failure, and the change said in the changelog. `tests/run` runs this
    /// in both builds.
    #[test]
    fn debug_and_release_builds_decide_the_same() {
        const DECIDED: [u64; 2] = [0x94a3_83f8_4ec8_52b4, 0x84cf_11db_15f7_9197];
        let mut hashes = [0xcbf2_9ce4_8422_2325u64; 2];
        let feed = |hash: &mut u64, bytes: &[u8]| {
            for byte in bytes {
                *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for seed in 0..200 {
            let world = journal(&numbered_script(seed));
            let mut machine = Machine::new();
            let effects = format!("{:?}", fold(&mut machine, &world.journal, u32::MAX));
            feed(&mut hashes[0], effects.as_bytes());
            feed(&mut hashes[1], &machine.snapshot());
        }
        assert_eq!(
            hashes, DECIDED,
            "effects or state of the same scripts are others than before: {hashes:#x?}"
        );
    }

    fn fold(machine: &mut Machine, records: &[JournalRecord], budget: u32) -> Vec<Effect> {
        let mut effects = Vec::new();
        for record in records {
            machine.apply(record.clone());
            while machine.step(budget) == Step::More {}
            while let Some(effect) = machine.next_effect() {
                effects.push(effect);
            }
        }
        effects
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// The same journal gives the same effects: folded twice, in small steps, and through a snapshot at any point.
        #[test]
        fn a_journal_always_gives_the_same_effects(script in proptest::collection::vec(act(), 1..60), cut in any::<prop::sample::Index>()) {
            let world = journal(&script);
            let mut whole = Machine::new();
            let effects = fold(&mut whole, &world.journal, u32::MAX);
            let mut stepped = Machine::new();
            prop_assert_eq!(&fold(&mut stepped, &world.journal, 1), &effects);
            prop_assert_eq!(whole.snapshot(), stepped.snapshot());

            let cut = cut.index(world.journal.len() + 1);
            let mut first = Machine::new();
            let mut restored_effects = fold(&mut first, &world.journal[..cut], u32::MAX);
            let bytes = first.snapshot();
            let mut second = Machine::restore(&bytes).expect("our own snapshot");
            prop_assert_eq!(&second.snapshot(), &bytes);
            restored_effects.extend(fold(&mut second, &world.journal[cut..], u32::MAX));
            prop_assert_eq!(&restored_effects, &effects);
            prop_assert_eq!(second.snapshot(), whole.snapshot());
        }

        /// Whatever happens, in the end every delivery is told, dead, superseded, in a digest or dropped by an operator.
        #[test]
        fn nothing_pending_is_left_when_the_far_end_is_well(script in proptest::collection::vec(act(), 1..60)) {
            let mut world = journal(&script);
            world.input(Input::Stopping);
            world.far_end = Some(Ok(Receipt::Sent));
            world.start();
            world.wait(3 * HOUR as u64);
            let left: Vec<_> = world.machine.deliveries().filter(|d| !matches!(d.standing, DeliveryStanding::Dead(_))).collect();
            prop_assert!(left.is_empty(), "{left:?}");
            for of in world.machine.pending() {
                prop_assert_eq!((of.pending, of.in_flight), (0, 0), "{:?}", of);
            }
        }
    }
}
