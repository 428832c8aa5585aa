//! Cases at the edges, each of which was wrong once.

use alloc::{format, vec, vec::Vec};

use super::{
    tests::{A, B, HOUR, World, action, batch, config, each, grouped},
    *,
};
use crate::{
    DeliveryId,
    config::{Config, GroupBy, Install, Receiver, Removed, Route},
    effect::{AlertChange, DeadReason, Deliver, HoldReason, NotifyReason},
    input::{
        Arrival, DeliveryCommand, DeliverySelection, DeliveryVerb, Failure, Outcome, OwnEvent, Receipt,
        Recipient, Started,
    },
    matcher::Matcher,
};

fn answer(world: &mut World, deliver: &Deliver, result: Result<Receipt, Failure>, led: bool) {
    let (delivery, attempt) = (deliver.delivery, deliver.attempt);
    world.input(Input::Outcome(Outcome { delivery, attempt, result, took_ms: 1, led }));
}

fn reasons(world: &World) -> Vec<NotifyReason> {
    world.told().iter().map(|told| told.1).collect()
}

/// Two receivers by `continue`: `ops` and `desk`, one action each.
fn two_receivers() -> Config {
    let child = |receiver: &str| Route {
        receiver: Some(receiver.into()),
        matchers: vec![Matcher::parse("event = E").expect("valid")],
        goes_on: true,
        ..Route::default()
    };
    let route = Route { routes: vec![child("ops"), child("desk")], ..grouped() };
    let mut config = config(vec![action("ops", "log")], route);
    config.receivers.push(Receiver { name: "desk".into(), actions: vec![action("desk", "mail")] });
    config
}

#[test]
fn what_fires_again_is_told_to_who_is_well_while_another_is_not() {
    let mut world = World::new(two_receivers());
    world.far_end = None;
    world.alert(A, Some(10 * HOUR));
    world.wait(31_000);
    let deliveries: Vec<Deliver> = world.delivered.iter().map(|(_, deliver)| deliver.clone()).collect();
    let log = deliveries.iter().find(|deliver| deliver.action.kind == "log").expect("told");
    answer(&mut world, log, Ok(Receipt::Sent), true);
    world.alert(A, Some(0));
    world.wait(60_000);
    let log = world.delivered.last().expect("the end is told").1.clone();
    assert_eq!((log.action.kind.as_str(), log.notifications[0].reason), ("log", NotifyReason::AllResolved));
    answer(&mut world, &log, Ok(Receipt::Sent), true);
    world.alert(A, Some(10 * HOUR));
    world.wait(60_000);
    let log = &world.delivered.last().expect("it is told again").1;
    assert_eq!((log.action.kind.as_str(), log.notifications[0].reason), ("log", NotifyReason::FirstTime));
}

#[test]
fn an_end_at_the_very_time_of_a_look_is_told() {
    let route = Route { group_wait_ms: Some(0), ..grouped() };
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.far_end = None;
    world.now = At(5_000);
    world.alert(A, Some(HOUR));
    world.alert(A, Some(0));
    let first = world.delivered.last().expect("told at once").1.clone();
    world.far_end = Some(Ok(Receipt::Sent));
    answer(&mut world, &first, Ok(Receipt::Sent), true);
    world.wait(600_000);
    assert_eq!(reasons(&world), [NotifyReason::FirstTime, NotifyReason::AllResolved]);
    assert_eq!(world.machine.sizes(), (0, 0, 0));
}

#[test]
fn an_end_not_sent_while_the_firing_waits_leaves_nothing_behind() {
    let mut world = World::not_told_of_ends();
    world.far_end = None;
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    world.alert(A, Some(0));
    world.wait(60_000);
    world.far_end = Some(Ok(Receipt::Sent));
    world.outcome_of_last(Ok(Receipt::Sent));
    world.wait(600_000);
    assert_eq!(world.machine.sizes(), (0, 0, 0));
    world.alert(A, Some(HOUR));
    world.wait(60_000);
    assert_eq!(reasons(&world), [NotifyReason::FirstTime, NotifyReason::FirstTime]);
}

#[test]
fn every_question_has_an_answer_in_the_middle_of_a_config_change() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    for host in 0..50 {
        world.alert(&[("event", "E"), ("host", &format!("{host}"))], Some(HOUR));
    }
    let by_host = Route { group_by: Some(GroupBy::Labels(vec!["host".into()])), ..grouped() };
    let install = Install {
        config: config(vec![action("ops", "log")], by_host),
        text: "".into(),
        rule_version: 1,
        removed: vec![],
        by: "test".into(),
    };
    let (seq, at) = (world.machine.next_seq(), world.now);
    world.machine.apply(JournalRecord { seq, at, input: Input::ConfigInstalled(install.into()) });
    let mut unsettled = 0;
    while world.machine.step(1) == Step::More {
        assert!(!world.machine.is_between_records());
        if world.machine.is_settled() {
            assert!(world.machine.alerts().all(|alert| !alert.receivers().is_empty()));
            assert!(world.machine.groups().all(|group| group.alerts().count() > 0));
        } else {
            unsettled += 1;
        }
    }
    assert!(unsettled >= 25, "{unsettled} steps of a change that is half done");
    assert!(world.machine.is_settled() && world.machine.is_between_records());
    assert_eq!(world.machine.sizes().1, 51, "a group a host, and that of the own alerts");
}

#[test]
fn groups_of_routes_with_the_same_name_survive_a_config_change() {
    let twin = || Route {
        matchers: vec![Matcher::parse("event = E").expect("valid")],
        goes_on: true,
        ..Route::default()
    };
    let twins = || {
        let route = Route { routes: vec![twin(), twin()], ..grouped() };
        config(vec![action("ops", "log")], route)
    };
    let mut world = World::new(twins());
    world.far_end = None;
    world.alert(A, Some(10 * HOUR));
    world.wait(31_000);
    assert_eq!(world.delivered.len(), 2);
    world.install(twins(), vec![]);
    let deliveries: Vec<Deliver> = world.delivered.iter().map(|(_, deliver)| deliver.clone()).collect();
    world.far_end = Some(Ok(Receipt::Sent));
    for deliver in &deliveries {
        answer(&mut world, deliver, Ok(Receipt::Sent), true);
    }
    world.alert(A, Some(0));
    world.wait(600_000);
    assert_eq!(world.machine.sizes(), (0, 0, 0));
}

#[test]
fn an_attempt_under_way_when_its_action_goes_meets_the_fate_of_the_others() {
    let fates = [(Removed::MoveTo("desk".into()), 1, 0), (Removed::Drop, 0, 1)];
    for (fate, told_by_heir, dead) in fates {
        let mut world = World::new(two_receivers());
        world.far_end = None;
        world.alert(A, Some(10 * HOUR));
        world.wait(31_000);
        let log = world.delivered.iter().find(|(_, d)| d.action.kind == "log").expect("told").1.clone();
        let mut next = two_receivers();
        next.receivers[0].actions.clear();
        world.delivered.clear();
        world.install(next, vec![(log.action.clone(), fate.clone())]);
        answer(&mut world, &log, Err(Failure::transient("421")), true);
        assert_eq!(world.delivered.len(), told_by_heir, "{fate:?}");
        let given_up = world
            .machine
            .deliveries()
            .filter(|of| matches!(of.standing, DeliveryStanding::Dead(DeadReason::Dropped)));
        assert_eq!(given_up.count(), dead, "{fate:?}");
    }
}

#[test]
fn a_start_with_another_config_makes_each_attempt_once() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.far_end = None;
    world.send(A, Some("1"), None);
    assert_eq!(world.delivered.len(), 1);
    world.delivered.clear();
    // What happens is told at once, and so is the start itself: nothing of it belongs to the process before.
    let install = Install {
        config: Config {
            route: Route { receiver: Some("ops".into()), ..each() },
            ..config(vec![action("ops", "log")], each())
        },
        text: "".into(),
        rule_version: 1,
        removed: vec![],
        by: "start".into(),
    };
    let started = Started {
        incarnation: 8,
        seed: [3, 4],
        wall_offset_ms: 0,
        version: "test".into(),
        damage: vec![],
        install: Some(install.into()),
    };
    world.now = At(10_000);
    world.input(Input::Started(started));
    let mut told: Vec<(DeliveryId, u32, bool)> =
        world.delivered.iter().map(|(_, d)| (d.delivery, d.attempt, d.maybe_duplicate)).collect();
    told.sort_unstable();
    let all = told.len();
    told.dedup_by_key(|(delivery, ..)| *delivery);
    assert_eq!((all, told.len()), (3, 3), "the alert, the start and the config, each once: {told:?}");
    let again: Vec<(u32, bool)> = told.iter().map(|(_, attempt, maybe)| (*attempt, *maybe)).collect();
    assert_eq!(again.iter().filter(|attempt| **attempt == (2, true)).count(), 1, "{again:?}");
    assert_eq!(again.iter().filter(|attempt| **attempt == (1, false)).count(), 2, "{again:?}");
}

#[test]
fn a_recipient_refused_in_a_digest_misses_none_of_its_parts() {
    let mut spec = action("ops", "mail");
    spec.max_per_minute = Some(1);
    let mut world = World::new(config(vec![spec], each()));
    for number in 0..5 {
        world.send(&[("event", "E"), ("host", &format!("{number}"))], Some(&format!("{number}")), None);
    }
    let refused = vec![(Recipient::at(1), "550 no such user".into())];
    let reply = "250".into();
    world.far_end = Some(Ok(Receipt::Delivered { reply, memo: None, unfinished: vec![], refused }));
    world.wait(61_000);
    let dead = world.machine.deliveries().filter(|of| matches!(of.standing, DeliveryStanding::Dead(_)));
    assert_eq!(dead.count(), 4, "one for each notification that the recipient missed");
}

#[test]
fn a_recipient_is_given_up_once_however_often_the_far_end_refuses_it() {
    for parts in [1, 5] {
        let mut spec = action("ops", "mail");
        spec.max_per_minute = (parts > 1).then_some(1);
        let mut world = World::new(config(vec![spec], each()));
        world.far_end = None;
        for number in 0..parts {
            world.send(&[("event", "E"), ("host", &format!("{number}"))], Some(&format!("{number}")), None);
        }
        if parts > 1 {
            world.outcome_of_last(Ok(Receipt::Sent));
            world.wait(61_000);
        }
        let told = if parts > 1 { parts - 1 } else { parts };
        let dead = |world: &World| {
            let of = world.machine.deliveries();
            of.filter(|of| matches!(of.standing, DeliveryStanding::Dead(_))).count()
        };
        let (gone, later) = (Recipient::at(1), Recipient::at(2));
        let words = || alloc::string::String::from("550 no such user");
        let first = world.delivered.last().expect("told").1.delivery;
        // It names one twice, and says of it that it may be tried again, too.
        let refused = vec![(gone, words()), (gone, words())];
        world.outcome_of_last(Ok(Receipt::Delivered {
            reply: "250".into(),
            memo: None,
            unfinished: vec![gone, later],
            refused,
        }));
        assert_eq!(dead(&world), told, "{parts}: one for each alert that it missed");
        // The next answer names it once more, beside one who is told.
        world.wait(120_000);
        let again = world.delivered.iter().rev().find(|(_, deliver)| deliver.delivery == first);
        let again = again.expect("told").1.clone();
        assert_eq!((again.attempt, again.unfinished.as_deref()), (2, Some(&[later][..])), "{parts}");
        let (reply, refused) = ("250".into(), vec![(gone, words())]);
        let receipt = Receipt::Delivered { reply, memo: None, unfinished: vec![], refused };
        answer(&mut world, &again, Ok(receipt), true);
        assert_eq!(dead(&world), told, "{parts}: none twice");
    }
}

#[test]
fn a_failed_call_counts_once_however_much_it_carried() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.far_end = None;
    for number in 0..20 {
        world.send(&[("event", "E"), ("host", &format!("{number}"))], Some(&format!("{number}")), None);
    }
    let call: Vec<Deliver> = world.delivered.drain(..).map(|(_, deliver)| deliver).collect();
    for (number, deliver) in call.iter().enumerate() {
        answer(&mut world, deliver, Err(Failure::transient("down")), number == 0);
    }
    let opened = world.records().any(|what| matches!(what, Decided::Breaker { .. }));
    assert!(!opened, "one call failed, not twenty");
    world.wait(1_000);
    assert_eq!(world.delivered.len(), 20, "all are tried again within a second");
}

#[test]
fn a_flood_of_one_alert_past_the_limit_is_a_digest() {
    let mut spec = action("ops", "log");
    spec.max_per_minute = Some(2);
    let mut world = World::new(config(vec![spec], each()));
    world.far_end = None;
    for number in 0..50 {
        world.send(A, Some(&format!("{number}")), None);
    }
    assert_eq!(world.delivered.len(), 1, "in order: one at a time");
    world.far_end = Some(Ok(Receipt::Sent));
    world.outcome_of_last(Ok(Receipt::Sent));
    world.wait(61_000);
    let told: usize = world.delivered.iter().map(|(_, deliver)| deliver.notifications.len()).sum();
    assert_eq!(told, 50, "all are told within the limit");
    let digest = &world.delivered[1].1;
    let numbers: Vec<u64> = digest.notifications.iter().map(|told| told.number).collect();
    assert_eq!(numbers.len(), 49);
    assert!(numbers.is_sorted(), "in the order in which they happened: {numbers:?}");
}

#[test]
fn a_part_of_a_waiting_digest_can_be_dropped_alone() {
    let mut spec = action("ops", "log");
    spec.max_per_minute = Some(1);
    let mut world = World::new(config(vec![spec], each()));
    world.far_end = Some(Err(Failure::transient("down")));
    for number in 0..4 {
        world.send(&[("event", "E"), ("host", &format!("{number}"))], Some(&format!("{number}")), None);
    }
    world.wait(61_000);
    let part = world.delivered.last().expect("a digest").1.digest_of[1];
    let which = DeliverySelection::One(part);
    world.input(Input::Deliveries(DeliveryCommand { which, verb: DeliveryVerb::Drop, by: "test".into() }));
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(HOUR as u64);
    let told = world.delivered.last().expect("told in the end").1.digest_of.clone();
    assert!(!told.is_empty() && !told.contains(&part), "{told:?}");
    assert_eq!(world.machine.deliveries().count(), 0);
}

/// What an operator drops counts as told, also if something decided before it is told only after that. (Found by the
/// simulation: the later success made the dropped one news again.)
#[test]
fn what_an_operator_drops_is_not_told_again() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = None;
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    world.alert(B, Some(HOUR));
    world.wait(60_000);
    let second =
        world.machine.deliveries().map(|view| view.id).find(|id| *id != world.delivered[0].1.delivery);
    let which = DeliverySelection::One(second.expect("it waits"));
    world.input(Input::Deliveries(DeliveryCommand { which, verb: DeliveryVerb::Drop, by: "test".into() }));
    let first = world.delivered[0].1.clone();
    world.far_end = Some(Ok(Receipt::Sent));
    answer(&mut world, &first, Ok(Receipt::Sent), true);
    world.send(A, Some("once more"), Some(HOUR));
    world.wait(120_000);
    assert_eq!(world.delivered.len(), 1, "{:?}", world.told());
    world.alert(B, Some(0));
    world.wait(120_000);
    assert_eq!(world.delivered.len(), 2, "the end of it is news: {:?}", world.told());
}

#[test]
fn a_resolve_that_comes_again_tells_nobody() {
    for tell_short in [false, true] {
        let route = Route { tell_short: Some(tell_short), ..grouped() };
        let mut world = World::new(config(vec![action("ops", "log")], route));
        world.alert(A, Some(HOUR));
        world.wait(31_000);
        world.alert(A, Some(0));
        world.wait(60_000);
        for _ in 0..10 {
            world.alert(A, Some(-1));
            world.wait(60_000);
        }
        assert_eq!(reasons(&world), [NotifyReason::FirstTime, NotifyReason::AllResolved], "{tell_short}");
        assert_eq!(world.holds_of_ops(), [], "{tell_short}");
        let again = AlertChange::ArrivedResolved;
        let count =
            world.records().filter(|what| matches!(what, Decided::Alert { change, .. } if *change == again));
        assert_eq!(count.count(), 10);
    }
}

#[test]
fn repeats_go_on_beside_alerts_that_end_before_they_are_told() {
    let mut world = World::not_told_of_ends();
    world.alert(A, Some(100 * HOUR));
    for _ in 0..75 {
        world.wait(30_000);
        world.alert(B, Some(HOUR));
        world.wait(1_000);
        world.alert(B, Some(0));
        world.wait(29_000);
    }
    assert!(reasons(&world).contains(&NotifyReason::RepeatDue), "{:?}", reasons(&world));
    assert!(world.holds_of_ops().contains(&HoldReason::ResolvedBeforeTold));
}

#[test]
fn a_new_id_is_an_occurrence_though_the_alert_has_an_end() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.send(A, Some("1"), Some(HOUR));
    world.send(A, Some("2"), Some(HOUR));
    world.send(A, None, Some(HOUR));
    assert_eq!(reasons(&world), [NotifyReason::Occurrence, NotifyReason::Occurrence]);
}

#[test]
fn a_full_disk_lasts_until_it_is_said_to_be_over() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    let event = |resolved| OwnEvent::DiskNearlyFull { resolved, free_bytes: 1 };
    world.input(Input::Own(event(false)));
    world.wait(100 * HOUR as u64);
    assert_eq!(reasons(&world), [NotifyReason::Occurrence]);
    world.input(Input::Own(event(true)));
    assert_eq!(reasons(&world), [NotifyReason::Occurrence, NotifyReason::Ended]);
}

#[test]
fn two_actions_that_fail_do_not_tell_each_other_for_ever() {
    let route = Route { repeat_interval_ms: Some(1000 * HOUR as u64), ..grouped() };
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], route));
    world.far_end = Some(Err(Failure::permanent("550")));
    world.alert(A, Some(1000 * HOUR));
    world.wait(10 * HOUR as u64);
    let own = world.records().filter(|what| matches!(what, Decided::DeadLetter { .. })).count();
    assert!(own < 10, "{own} dead letters in ten hours");
}

#[test]
fn an_alert_with_a_far_end_that_ends_early_leaves_no_timer_behind() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    for number in 0..5_000 {
        let host = format!("{number}");
        world.append(Input::Alerts(Arrival {
            client: "test".into(),
            batch: batch(&[("host", &host)], None, Some(crate::Wall(i64::MAX))).into(),
        }));
        world.append(Input::Alerts(Arrival {
            client: "test".into(),
            batch: batch(&[("host", &host)], None, Some(crate::Wall(0))).into(),
        }));
        while world.machine.next_effect().is_some() {}
    }
    assert!(world.machine.timers.len() < 20_000, "{} entries", world.machine.timers.len());
}

#[test]
fn a_far_end_that_was_away_for_a_moment_is_probed_within_a_second() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.far_end = Some(Err(Failure::transient("refused")));
    for number in 0..5 {
        world.send(&[("event", "E"), ("host", &format!("{number}"))], Some(&format!("{number}")), None);
    }
    assert!(world.records().any(|what| matches!(what, Decided::Breaker { open: true, .. })));
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(1_000);
    assert_eq!(world.machine.deliveries().count(), 0, "all are told");
}

/// Two notifications waited when all of it ended, and the action is not told of ends. After both it believes nothing: what
/// fires again is news. (Found by the simulation: the success of the first made the second say what no longer held.)
#[test]
fn who_is_not_told_of_ends_is_told_again_however_many_notifications_waited() {
    let mut world = World::not_told_of_ends();
    world.far_end = None;
    world.alert(A, Some(10 * HOUR));
    world.wait(31_000);
    world.alert(B, Some(10 * HOUR));
    world.wait(60_000);
    world.alert(A, Some(0));
    world.alert(B, Some(0));
    world.wait(60_000);
    assert_eq!(world.holds_of_ops().last(), Some(&HoldReason::ResolvesNotSent));
    world.alert(A, Some(10 * HOUR));
    let first = world.delivered[0].1.clone();
    answer(&mut world, &first, Ok(Receipt::Sent), true);
    let second = world.delivered.last().expect("its turn").1.clone();
    assert_ne!(second.delivery, first.delivery);
    answer(&mut world, &second, Ok(Receipt::Sent), true);
    world.wait(120_000);
    assert_eq!(reasons(&world).last(), Some(&NotifyReason::FirstTime), "{:?}", world.told());
}

/// All of it ended while a notification waited for an action that was not told of ends. It hears of ends from a reload
/// on: so it hears of this one, whether or not the alert fired once more meanwhile. (Found by the simulation.)
#[test]
fn who_hears_of_ends_after_a_reload_hears_of_the_end_of_what_still_waits() {
    for fires_again in [false, true] {
        let mut world = World::not_told_of_ends();
        world.far_end = None;
        world.alert(A, Some(10 * HOUR));
        world.wait(31_000);
        world.alert(A, Some(0));
        world.wait(60_000);
        assert_eq!(world.holds_of_ops().last(), Some(&HoldReason::ResolvesNotSent));
        world.install(config(vec![action("ops", "log")], grouped()), vec![]);
        if fires_again {
            world.alert(A, Some(10 * HOUR));
            world.alert(A, Some(0));
        }
        let waits = world.delivered[0].1.clone();
        world.far_end = Some(Ok(Receipt::Sent));
        answer(&mut world, &waits, Ok(Receipt::Sent), true);
        world.wait(120_000);
        let last = reasons(&world).pop();
        assert_eq!(last, Some(NotifyReason::AllResolved), "fires again: {fires_again}, {:?}", world.told());
        assert_eq!(world.machine.deliveries().count(), 0, "all are told");
    }
}

/// Something merely happened, and then somebody says when it is over: that end is told, though it comes as a due time
/// (the sender's clock is ahead).
#[test]
fn an_end_that_somebody_named_is_told_of_what_merely_happened() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.send(A, Some("once"), None);
    world.alert(A, Some(300));
    world.wait(10_000);
    assert_eq!(reasons(&world), [NotifyReason::Occurrence, NotifyReason::Ended]);
    // Without it, the timeout of what happened is no end.
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.send(A, Some("once"), None);
    world.wait(HOUR as u64);
    assert_eq!(reasons(&world), [NotifyReason::Occurrence]);
}

/// An id names an occurrence of one alert: nothing else that carries it is taken for the same.
#[test]
fn the_same_id_on_another_alert_or_on_the_end_is_no_duplicate() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.send(A, Some("1"), None);
    world.send(B, Some("1"), None);
    world.send(A, Some("1"), None);
    world.send(A, Some("1"), Some(0));
    world.send(A, Some("1"), Some(0));
    assert_eq!(reasons(&world), [NotifyReason::Occurrence, NotifyReason::Occurrence, NotifyReason::Ended]);
}

/// A config of two receivers, the second of which does not answer: one alert ended, which `ops` was told of.
fn ended_and_told_to_one(tell_short: bool) -> (World, Config) {
    let mut config = two_receivers();
    config.route.tell_short = Some(tell_short);
    let mut world = World::new(config.clone());
    world.far_end = None;
    world.alert(A, Some(10 * HOUR));
    for ends in [None, Some(0)] {
        if ends.is_some() {
            world.alert(A, ends);
        }
        world.wait(61_000);
        let log = world.delivered.iter().rev().find(|(_, deliver)| deliver.action.kind == "log");
        let log = log.expect("told").1.clone();
        answer(&mut world, &log, Ok(Receipt::Sent), true);
    }
    assert_eq!(
        reasons(&world),
        [NotifyReason::FirstTime, NotifyReason::FirstTime, NotifyReason::AllResolved]
    );
    (world, config)
}

/// Decisions about what `ops` is told, from the `from`-th on.
fn decided_for_log(world: &World, from: usize) -> Vec<&Decided> {
    let about_log = |what: &&Decided| match what {
        Decided::Notify { action, .. } | Decided::Hold { action: Some(action), .. } => action.kind == "log",
        Decided::Routed { receiver, .. } => receiver == "ops",
        _ => false,
    };
    world.records().skip(from).filter(about_log).collect()
}

#[test]
fn an_end_is_not_told_again_after_a_config_change_by_who_has_told_it() {
    for tell_short in [false, true] {
        let (mut world, mut config) = ended_and_told_to_one(tell_short);
        let from = world.records().count();
        config.resolve_timeout_ms += 1;
        world.install(config, vec![]);
        world.far_end = Some(Ok(Receipt::Sent));
        let mail = world.delivered.iter().find(|(_, deliver)| deliver.action.kind == "mail");
        let mail = mail.expect("told").1.clone();
        answer(&mut world, &mail, Ok(Receipt::Sent), true);
        world.wait(600_000);
        assert_eq!(decided_for_log(&world, from), Vec::<&Decided>::new());
        let last = world.delivered.last().map(|(_, told)| (&*told.action.kind, told.notifications[0].reason));
        assert_eq!(last, Some(("mail", NotifyReason::AllResolved)), "who has not told it does");
        assert_eq!(world.machine.sizes(), (0, 0, 0));
    }
}

#[test]
fn an_end_that_is_still_to_be_told_goes_where_a_config_change_takes_it() {
    let route = |receiver: &str| Route {
        receiver: Some(receiver.into()),
        matchers: vec![Matcher::parse("event = E").expect("valid")],
        tell_short: Some(true),
        ..Route::default()
    };
    let mut config = two_receivers();
    config.route.routes = vec![route("ops")];
    let mut world = World::new(config.clone());
    world.alert(A, Some(10 * HOUR));
    world.alert(A, Some(0));
    config.route.routes = vec![route("desk")];
    world.install(config, vec![]);
    world.wait(600_000);
    let told: Vec<_> = world.delivered.iter().map(|(_, told)| told.action.kind.as_str()).collect();
    let short: Vec<_> =
        world.told().iter().map(|told| told.1).filter(|reason| *reason == NotifyReason::Short).collect();
    assert_eq!(short.len(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|kind| **kind == "mail").count(), 1, "{told:?}");
}

#[test]
fn what_says_only_when_it_ends_begins_when_it_comes() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.now = At(7_000);
    world.alert(A, Some(100 * HOUR));
    world.wait(2 * HOUR as u64);
    world.alert(A, Some(100 * HOUR));
    world.wait(3 * HOUR as u64);
    assert!(world.delivered.len() > 2);
    for (_, deliver) in &world.delivered {
        let told = &deliver.notifications[0];
        assert_eq!(told.alerts[0].began(told.decided_wall), At(7_000).wall(tests::OFFSET));
    }
}

#[test]
fn an_alert_about_an_action_is_on_record_beside_others_that_it_tells() {
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], grouped()));
    world.far_end = Some(Err(Failure::permanent("no")));
    world.alert(&[("event", "Delivery Failed"), ("host", "a")], Some(10 * HOUR));
    world.wait(10 * 60_000);
    let hold_of = |kind: &str| {
        let it = |what: &&Decided| {
            matches!(what, Decided::Hold { action: Some(action), reason: HoldReason::AboutItself, alerts, .. }
                if action.kind == kind && alerts.len() == 1)
        };
        world.records().filter(it).count()
    };
    assert_eq!((hold_of("log"), hold_of("mail")), (1, 1));
}
