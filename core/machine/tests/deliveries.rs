//! What becomes of deliveries: failures, replacement, probes, digests.

use alloc::collections::{BTreeMap, VecDeque};

use super::*;
use crate::{
    effect::{AttemptResult, Next},
    input::FailureKind,
};

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
    let route = each();
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

/// What becomes of many deliveries whose far end is away for a while: it answers after a millisecond, never or well.
struct Outage {
    world: World,
    under_way: VecDeque<Deliver>,
    most_under_way: usize,
    attempts: usize,
    /// When each delivery was answered well.
    well: BTreeMap<DeliveryId, Vec<At>>,
}

impl Outage {
    fn new(slots: u32, count: u32) -> Outage {
        let action = ActionSpec { max_in_flight: slots, ..action("ops", "mail") };
        let route = each();
        let world = World::new(config(vec![action], route));
        let (under_way, well) = (VecDeque::new(), BTreeMap::new());
        let mut outage = Outage { world, under_way, most_under_way: 0, attempts: 0, well };
        outage.world.far_end = None;
        for first in (0..count).step_by(1_000) {
            let mut builder = BatchBuilder::default();
            for number in first..(first + 1_000).min(count) {
                let number = format!("{number}");
                builder.label("event", "E");
                builder.label("host", &number);
                builder.finish_alert(AlertTimes::default(), Some(&number), None).expect("valid");
            }
            let arrival = Arrival { client: "test".into(), batch: builder.finish().into() };
            outage.world.input(Input::Alerts(arrival));
        }
        outage
    }

    /// Lets the far end answer like this until then, or until nothing waits.
    fn go_on(&mut self, end: At, answer: Result<Receipt, Failure>) {
        loop {
            self.world.effects.clear();
            self.under_way.extend(self.world.delivered.drain(..).map(|(_, deliver)| deliver));
            self.most_under_way = self.most_under_way.max(self.under_way.len());
            let Some(deliver) = self.under_way.pop_front() else {
                let due = self.world.machine.next_due();
                if due > end || self.world.machine.deliveries().next().is_none() {
                    return;
                }
                self.world.now = self.world.now.max(due);
                self.world.input(Input::Advanced);
                continue;
            };
            self.world.now = self.world.now.plus(1);
            self.attempts += 1;
            if answer.is_ok() {
                self.well.entry(deliver.delivery).or_default().push(self.world.now);
            }
            self.world.input(Input::Outcome(Outcome {
                delivery: deliver.delivery,
                attempt: deliver.attempt,
                result: answer.clone(),
                took_ms: 1,
                led: true,
            }));
        }
    }
}

#[test]
fn a_hundred_thousand_deliveries_outlast_an_hour_without_their_far_end_and_are_told_once_each() {
    const COUNT: u32 = 100_000;
    let back = At(HOUR as u64);
    let mut outage = Outage::new(8, COUNT);
    outage.go_on(back, Err(Failure::transient("refused")));
    assert!(outage.attempts < COUNT as usize / 50, "{} attempts in the outage", outage.attempts);
    outage.world.now = outage.world.now.max(back);
    outage.go_on(back.plus(HOUR as u64), Ok(Receipt::delivered("250")));
    assert_eq!(outage.well.len(), COUNT as usize);
    assert!(outage.well.values().all(|times| times.len() == 1), "each once");
    let first = outage.well.values().flatten().min().expect("some").since(back);
    assert!(first < 5_000, "the first {first} ms after the return");
    assert!(outage.most_under_way <= 8, "{} at once", outage.most_under_way);
    let states = outage.world.machine.deliveries().count();
    assert_eq!(states, 0, "nothing waits, and nothing is dead");
}

#[test]
fn an_hour_without_the_far_end_costs_few_attempts_however_much_waits() {
    for count in [1, 100, 1_000, 10_000] {
        let mut outage = Outage::new(8, count);
        outage.go_on(At(HOUR as u64), Err(Failure::transient("refused")));
        let bound = 25 + count as usize / 8;
        assert!(outage.attempts <= bound, "{} attempts for {count}", outage.attempts);
    }
}

/// A full mailbox says nothing of the server that it is on.
#[test]
fn who_is_put_off_keeps_nobody_else_waiting() {
    let mut world = World::new(config(vec![action("ops", "mail")], grouped()));
    world.far_end = Some(Err(Failure::deferred("450 mailbox full")));
    for event in ["A", "B", "C", "D", "E", "F", "G", "H"] {
        world.alert(&[("event", event)], Some(1000 * HOUR));
    }
    world.wait(600_000);
    assert!(world.delivered.len() > 8 * 5, "{} attempts", world.delivered.len());
    assert!(!world.records().any(|what| matches!(what, Decided::Breaker { .. })), "the server is well");
    // It is given up by its age like any other, and the probe of a server that was away brings the server back.
    world.wait(25 * HOUR as u64);
    assert!(
        world.records().any(|what| matches!(what, Decided::DeadLetter { reason: DeadReason::TooOld(_), .. }))
    );
    world.far_end = Some(Err(Failure::transient("connection refused")));
    for event in ["I", "J", "K", "L", "M", "N"] {
        world.alert(&[("event", event)], Some(1000 * HOUR));
    }
    world.wait(600_000);
    let breaker = |world: &World| {
        let last = world.records().filter_map(|what| match what {
            Decided::Breaker { open, .. } => Some(*open),
            _ => None,
        });
        last.last()
    };
    assert_eq!(breaker(&world), Some(true));
    world.far_end = Some(Err(Failure::deferred("450 mailbox full")));
    world.wait(600_000);
    assert_eq!(breaker(&world), Some(false));
}

/// One recipient is refused for good and the others for now: that is a failure, and the one is given up.
#[test]
fn who_is_refused_is_given_up_while_nobody_has_it_yet() {
    let mut world = World::new(config(vec![action("ops", "mail")], grouped()));
    let [left, gone] = ["left@example.com", "gone@example.com"].map(Recipient::of);
    let refused = vec![(gone, String::from("550 no such user"))];
    let partly = |failure| Receipt::Partial { failure, unfinished: vec![left], refused: refused.clone() };
    world.far_end = Some(Ok(partly(Failure::uncertain("452 disk full"))));
    world.alert(A, Some(1000 * HOUR));
    while world.delivered.is_empty() {
        world.wait(1_000);
    }
    let dead: Vec<&DeadReason> = world
        .records()
        .filter_map(|what| match what {
            Decided::DeadLetter { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(dead, [&DeadReason::Permanent("550 no such user".into())]);
    assert!(world.records().any(|what| matches!(
        what,
        Decided::Attempt { result: AttemptResult::Failed(FailureKind::Uncertain, words), next: Next::Retry(_), .. } if words == "452 disk full"
    )));
    world.far_end = Some(Ok(Receipt::delivered("250")));
    world.wait(10_000);
    let told: Vec<_> = world
        .delivered
        .iter()
        .map(|(_, deliver)| (deliver.attempt, deliver.maybe_duplicate, deliver.unfinished.clone()))
        .collect();
    assert_eq!(told, [(1, false, None), (2, true, Some(vec![left]))]);
}

/// Each notification says which of its alerts it is about.
#[test]
fn what_an_action_was_not_told_of_before_is_marked_as_news() {
    let mut world = World::new(config(vec![action("ops", "mail")], grouped()));
    world.alert(A, Some(1000 * HOUR));
    world.wait(HOUR as u64);
    world.alert(B, Some(1000 * HOUR));
    world.wait(HOUR as u64);
    world.alert(A, Some(0));
    world.wait(HOUR as u64);
    world.wait(100 * HOUR as u64);
    let told: Vec<Vec<(bool, bool)>> = world
        .delivered
        .iter()
        .flat_map(|(_, deliver)| &deliver.notifications)
        .map(|told| told.alerts.iter().map(|noted| (noted.is_firing(), noted.is_new())).collect())
        .collect();
    let (news, known, ended) = ((true, true), (true, false), (false, true));
    assert_eq!(told[..3], [vec![news], vec![known, news], vec![ended, known]]);
    assert!(told.len() > 3 && told[3..].iter().all(|told| *told == [known]), "repeats: {told:?}");
}

#[test]
fn who_may_have_been_told_is_told_again_and_knows_it() {
    let mut world = World::new(config(vec![action("ops", "mail")], grouped()));
    world.far_end = Some(Err(Failure::uncertain("connection lost behind the mail")));
    world.alert(A, Some(1000 * HOUR));
    world.wait(30_000);
    world.far_end = Some(Err(Failure::transient("connection refused")));
    world.wait(1_000);
    world.far_end = Some(Ok(Receipt::delivered("250")));
    world.wait(10_000);
    let told: Vec<(u32, bool)> =
        world.delivered.iter().map(|(_, deliver)| (deliver.attempt, deliver.maybe_duplicate)).collect();
    assert_eq!(told, [(1, false), (2, true), (3, true)]);
    let ids: Vec<DeliveryId> = world.delivered.iter().map(|(_, deliver)| deliver.delivery).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "under one name");
}

#[test]
fn what_is_over_the_rate_limit_becomes_one_digest() {
    let route = each();
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
    let route = each();
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
fn what_a_digest_told_to_some_is_brought_back_for_the_others() {
    let mut limited = action("ops", "mail");
    limited.max_per_minute = Some(1);
    let mut world = World::new(config(vec![limited], each()));
    world.far_end = None;
    for host in 0..4 {
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some(&format!("{host}")), None);
    }
    world.outcome_of_last(Ok(Receipt::Sent));
    world.wait(61_000);
    assert_eq!(world.delivered.last().map(|(_, told)| told.notifications.len()), Some(3));
    let left = vec![Recipient::at(1)];
    world.outcome_of_last(Ok(Receipt::Delivered {
        reply: "partly".into(),
        memo: None,
        unfinished: left.clone(),
        refused: vec![],
    }));
    world.wait(61_000);
    world.outcome_of_last(Err(Failure::permanent("gone")));
    world.wait(61_000);
    let verb = DeliveryVerb::Retry;
    let which = DeliverySelection::DeadLetters;
    world.delivered.clear();
    world.far_end = Some(Ok(Receipt::Sent));
    world.input(Input::Deliveries(DeliveryCommand { which, verb, by: "ann".into() }));
    world.wait(600_000);
    let told: Vec<_> = world.delivered.iter().map(|(_, told)| told.unfinished.clone()).collect();
    assert_eq!(told, vec![Some(left); 3], "nobody hears it twice");
}

#[test]
fn after_two_reloads_the_older_delivery_of_a_group_is_told_first() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure::transient("later")));
    world.alert(A, Some(HOUR));
    world.wait(30_000);
    let group_by = Some(GroupBy::Labels(vec![]));
    let whole = Route { group_by, group_wait_ms: Some(HOUR as u64), ..grouped() };
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
    let route = each();
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

/// An action that takes batches of three, and one alert that happened seven times: the first is told, the others wait.
fn one_alert_again_and_again() -> World {
    let route = each();
    let log = ActionSpec { max_in_flight: 1, batch_max: 3, ..action("ops", "log") };
    let mut world = World::new(config(vec![log], route));
    world.far_end = None;
    for id in 0..7 {
        world.send(A, Some(&format!("{id}")), None);
    }
    assert_eq!(world.delivered.len(), 1, "the first goes alone: the others came later");
    world.outcome_of_last(Ok(Receipt::Sent));
    world
}

/// Answers the attempts that were made since `first`, in order.
fn answer(world: &mut World, first: usize, results: &[Result<Receipt, Failure>]) {
    let attempts: Vec<Deliver> =
        world.delivered[first..].iter().map(|(_, deliver)| deliver.clone()).collect();
    assert_eq!(attempts.len(), results.len());
    for (deliver, result) in attempts.into_iter().zip(results) {
        world.input(Input::Outcome(Outcome {
            delivery: deliver.delivery,
            attempt: deliver.attempt,
            result: result.clone(),
            took_ms: 1,
            led: true,
        }));
    }
}

fn later() -> Result<Receipt, Failure> {
    Err(Failure::transient("later"))
}

#[test]
fn what_happens_again_and_again_to_one_alert_goes_out_in_batches_in_order() {
    let mut world = one_alert_again_and_again();
    answer(&mut world, 1, &[Ok(Receipt::Sent), Ok(Receipt::Sent), Ok(Receipt::Sent)]);
    answer(&mut world, 4, &[Ok(Receipt::Sent), Ok(Receipt::Sent), Ok(Receipt::Sent)]);
    let goes_on: Vec<bool> = world.delivered.iter().map(|(_, deliver)| deliver.goes_on).collect();
    assert_eq!(goes_on, [false, true, true, false, true, true, false]);
    let numbers: Vec<u64> = world.delivered.iter().map(|(_, told)| told.notifications[0].number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!((world.machine.totals().delivered, world.machine.sizes().2), (7, 0));
}

#[test]
fn what_a_far_end_took_before_an_earlier_one_that_failed_is_told_again_after_it() {
    let mut world = one_alert_again_and_again();
    answer(&mut world, 1, &[Ok(Receipt::Sent), later(), Ok(Receipt::Sent)]);
    assert_eq!(world.machine.totals().delivered, 2, "the one behind the failure does not count");
    world.wait(2_000);
    let told = |world: &World, at: usize| {
        let deliver = &world.delivered[at].1;
        (deliver.delivery, deliver.attempt, deliver.maybe_duplicate, deliver.goes_on)
    };
    let (second, third) = (told(&world, 2).0, told(&world, 3).0);
    assert_eq!(world.delivered.len(), 5, "what failed is tried alone");
    assert_eq!(told(&world, 4), (second, 2, false, false));
    answer(&mut world, 4, &[Ok(Receipt::Sent)]);
    assert_eq!(told(&world, 5), (third, 2, true, true), "by its old name, and with what waits behind it");
    assert_eq!(world.delivered.len(), 8);
}

#[test]
fn what_stands_behind_one_that_was_given_up_counts_at_once() {
    let mut world = one_alert_again_and_again();
    answer(&mut world, 1, &[Ok(Receipt::Sent), Err(Failure::permanent("never")), Ok(Receipt::Sent)]);
    let totals = world.machine.totals();
    assert_eq!((totals.delivered, totals.dead_lettered), (3, 1));
}

#[test]
fn nothing_is_tried_again_while_what_went_with_it_is_under_way() {
    let mut world = one_alert_again_and_again();
    let third = world.delivered[3].1.clone();
    world.delivered.pop();
    answer(&mut world, 1, &[Ok(Receipt::Sent), later()]);
    world.wait(600_000);
    assert_eq!(world.delivered.len(), 3, "the last of the call may still reach the far end");
    world.delivered.push((world.now, third));
    world.outcome_of_last(later());
    assert_eq!(world.delivered.len(), 5);
    assert_eq!(world.delivered[4].1.delivery, world.delivered[2].1.delivery);
}

#[test]
fn the_rest_of_a_call_is_tried_again_in_order_after_a_crash() {
    let mut world = one_alert_again_and_again();
    let call: Vec<DeliveryId> = world.delivered[1..].iter().map(|(_, deliver)| deliver.delivery).collect();
    world.start();
    world.far_end = Some(Ok(Receipt::Sent));
    answer(&mut world, 4, &[Ok(Receipt::Sent), Ok(Receipt::Sent), Ok(Receipt::Sent)]);
    let again: Vec<DeliveryId> = world.delivered[4..7].iter().map(|(_, deliver)| deliver.delivery).collect();
    assert_eq!(again, call);
    assert!(world.delivered[4..7].iter().all(|(_, deliver)| deliver.maybe_duplicate));
}

#[test]
fn a_rate_limit_leaves_its_last_attempt_to_the_digest_of_one_alert_too() {
    let route = each();
    let log = ActionSpec { batch_max: 10, max_per_minute: Some(4), ..action("ops", "log") };
    let mut world = World::new(config(vec![log], route));
    world.far_end = None;
    for id in 0..12 {
        world.send(A, Some(&format!("{id}")), None);
    }
    answer(&mut world, 0, &[Ok(Receipt::Sent)]);
    answer(&mut world, 1, &[Ok(Receipt::Sent), Ok(Receipt::Sent)]);
    let parts: Vec<usize> = world.delivered.iter().map(|(_, deliver)| deliver.notifications.len()).collect();
    assert_eq!(parts, [1, 1, 1, 9]);
}

/// Answers what is being attempted, minute for minute, until nothing is: `taken` says what the far end takes.
fn answer_all(world: &mut World, taken: impl Fn(&Deliver) -> bool) -> usize {
    world.far_end = None;
    let mut answered = 0;
    for _ in 0..600 {
        while let Some((_, deliver)) = world.delivered.get(answered).cloned() {
            answered += 1;
            let result = if taken(&deliver) { Ok(Receipt::Sent) } else { Err(Failure::permanent("413")) };
            let (delivery, attempt) = (deliver.delivery, deliver.attempt);
            world.input(Input::Outcome(Outcome { delivery, attempt, result, took_ms: 1, led: true }));
        }
        world.wait(10_000);
    }
    answered
}

/// A world with an action of so many attempts a minute.
fn with_limit(per_minute: u32) -> World {
    let mut limited = action("ops", "hook");
    limited.max_per_minute = Some(per_minute);
    World::new(config(vec![limited], each()))
}

/// A hundred occurrences of five alerts.
fn a_hundred_happen(world: &mut World) {
    world.far_end = None;
    for number in 0..100 {
        let host = format!("{}", number % 5);
        world.send(&[("event", "E"), ("host", &host)], Some(&format!("{number}")), None);
    }
}

/// The positions that a far end took, in order.
fn taken(world: &World, taken: impl Fn(&Deliver) -> bool) -> Vec<Position> {
    let told = world.delivered.iter().filter(|(_, deliver)| taken(deliver));
    told.flat_map(|(_, d)| d.notifications.iter().flat_map(|n| n.alerts.iter().map(|a| a.position))).collect()
}

#[test]
fn a_digest_that_is_refused_as_a_whole_is_told_in_parts_in_order() {
    let mut world = with_limit(2);
    a_hundred_happen(&mut world);
    let small = |deliver: &Deliver| deliver.notifications.len() <= 13;
    let attempts = answer_all(&mut world, small);
    assert_eq!(world.machine.totals().dead_lettered, 0, "each would have been taken by itself");
    let told = taken(&world, small);
    assert_eq!(told.len(), 100);
    for host in 0..5 {
        let of_host = told.iter().filter(|position| position.seq() % 5 == host);
        assert!(of_host.is_sorted(), "occurrences of one alert are told in their order: {told:?}");
    }
    assert!((10..40).contains(&attempts), "{attempts} attempts, with halves of halves until they are taken");
    for of_minute in world.delivered.windows(3) {
        assert!(of_minute[2].0.since(of_minute[0].0) >= 60_000, "a part counts as an attempt");
    }
    let splits: Vec<usize> = world
        .records()
        .filter_map(|what| match what {
            Decided::Split { deliveries, .. } => Some(deliveries.len()),
            _ => None,
        })
        .collect();
    let digest = world.records().find_map(|what| match what {
        Decided::Digested { deliveries, .. } => Some(deliveries.len()),
        _ => None,
    });
    let digest = digest.expect("what is over the limit is a digest");
    assert_eq!(splits[..2], [digest.div_ceil(2), digest / 2], "{splits:?}");
    assert_eq!(world.machine.sizes().2, 0);
}

#[test]
fn of_a_digest_only_what_is_refused_by_itself_is_a_dead_letter() {
    let mut world = with_limit(3);
    a_hundred_happen(&mut world);
    let poison = Position::arrived(world.machine.next_seq() - 40);
    let well = |deliver: &Deliver| {
        !deliver.notifications.iter().any(|n| n.alerts.iter().any(|a| a.position == poison))
    };
    answer_all(&mut world, well);
    let dead: Vec<_> = world.machine.deliveries().collect();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].positions, [poison]);
    assert_eq!((taken(&world, well).len(), world.machine.totals().dead_lettered), (99, 1));
    let alone = world.delivered.iter().rfind(|(_, d)| !well(d)).expect("it was attempted");
    assert_eq!(alone.1.digest_of, [], "told as if it never was in company");
}

#[test]
fn parts_of_a_digest_leave_every_other_attempt_to_what_happens_meanwhile() {
    let mut world = with_limit(2);
    a_hundred_happen(&mut world);
    // The far end refuses whatever is older.
    let newest = world.machine.next_seq();
    let new = |deliver: &Deliver| {
        deliver.notifications.iter().any(|n| n.alerts.iter().any(|a| a.position.seq() >= newest))
    };
    world.far_end = Some(Err(Failure::permanent("413")));
    world.wait(180_000);
    assert!(world.records().any(|what| matches!(what, Decided::Split { .. })));
    let began = world.now;
    world.send(&[("event", "E"), ("host", "new")], Some("new"), None);
    world.wait(70_000);
    let told = world.delivered.iter().find(|(_, deliver)| new(deliver));
    let said: Vec<_> = world.delivered.iter().map(|(at, d)| (at.0, d.notifications.len())).collect();
    let told = told.unwrap_or_else(|| panic!("the new one has no turn: {said:?}"));
    assert!(told.0.since(began) <= 60_000, "it waits no longer than the limit has it wait");
}

#[test]
fn parts_of_a_digest_outlast_a_crash_and_a_snapshot() {
    let mut world = with_limit(2);
    a_hundred_happen(&mut world);
    let small = |deliver: &Deliver| deliver.notifications.len() <= 30;
    world.far_end = Some(Err(Failure::permanent("413")));
    world.outcome_of_last(Err(Failure::transient("later")));
    world.wait(65_000);
    assert!(world.records().any(|what| matches!(what, Decided::Split { .. })));
    world.far_end = None;
    world.wait(60_000);
    let under_way = world.delivered.len();
    let mut world = world.restored();
    world.start();
    world.delivered.drain(..under_way);
    answer_all(&mut world, small);
    assert!(world.delivered.iter().any(|(_, deliver)| deliver.maybe_duplicate));
    let told = taken(&world, small);
    let dead = world.machine.totals().dead_lettered as usize;
    assert_eq!((told.len() + dead, world.machine.sizes().2), (100, dead));
    assert!(dead <= 1, "only what was refused by itself before the far end was well");
}

#[test]
fn a_digest_has_no_more_alerts_than_fit_into_memory() {
    let mut limited = action("ops", "hook");
    limited.max_per_minute = Some(1);
    let mut world = World::new(config(vec![limited], grouped()));
    world.far_end = None;
    for event in ["A", "B", "C", "D"] {
        let mut builder = BatchBuilder::default();
        for host in 0..9_000 {
            builder.label("event", event);
            builder.label("host", &format!("{host}"));
            builder.finish_alert(AlertTimes { starts_at: None, ends_at: None }, None, None).expect("valid");
        }
        let batch = builder.finish().into();
        world.input(Input::Alerts(Arrival { client: "test".into(), batch }));
    }
    world.wait(40_000);
    answer_all(&mut world, |_| true);
    let sizes: Vec<Vec<usize>> = world
        .delivered
        .iter()
        .map(|(_, d)| d.notifications.iter().map(|n| n.alerts.len()).collect())
        .collect();
    assert_eq!(sizes[..2], [[9_000, 9_000], [9_000, 9_000]]);
}
