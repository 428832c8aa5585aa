//! Alerts that their senders call by a name of their own.

use super::*;
use crate::{
    config::InhibitRule,
    input::AlertKey,
    machine::{own::OWN_CLIENT, state::Alert},
};

const LONG: i64 = 10 * HOUR;

fn told(world: &World) -> Vec<(NotifyReason, usize, usize)> {
    world.told().iter().map(|told| (told.1, told.2, told.3)).collect()
}

fn send(world: &mut World, client: &str, key: &str, labels: &[(&str, &str)], ends_in_ms: i64) {
    let mut builder = BatchBuilder::default();
    labels.iter().for_each(|(name, value)| builder.label(name, value));
    builder.annotation("summary", key);
    builder.key(key);
    let ends_at = Some(Wall(world.now.0 as i64 + OFFSET + ends_in_ms));
    builder.finish_alert(AlertTimes { starts_at: None, ends_at }, None, None).expect("valid");
    world.input(Input::Alerts(Arrival { client: client.into(), batch: builder.finish().into() }));
}

fn world() -> World {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.now = At(1_000);
    world
}

/// How many of theirs fire.
fn firing(world: &World) -> usize {
    let is_theirs = |alert: &&Alert| world.machine.state.strings.text(alert.client) != OWN_CLIENT;
    world
        .machine
        .state
        .alerts
        .iter()
        .map(|(_, alert)| alert)
        .filter(is_theirs)
        .filter(|alert| alert.firing)
        .count()
}

#[test]
fn an_end_by_key_ends_the_alert_whatever_its_labels() {
    let mut world = world();
    send(&mut world, "pagerduty", "k1", &[("event", "E"), ("severity", "major")], LONG);
    world.wait(40_000);
    send(&mut world, "pagerduty", "k1", &[("event", "resolve")], 0);
    assert_eq!(firing(&world), 0);
    world.wait(600_000);
    let told = told(&world);
    assert_eq!(told[1..], [(NotifyReason::AllResolved, 0, 1)], "{told:?}");
    assert_eq!(world.machine.sizes(), (0, 0, 0), "nothing is left behind");
}

#[test]
fn another_alert_with_the_key_takes_the_place_of_the_one_before() {
    let mut world = world();
    send(&mut world, "pagerduty", "k1", &[("event", "E"), ("severity", "minor")], LONG);
    world.wait(40_000);
    send(&mut world, "pagerduty", "k1", &[("event", "E"), ("severity", "major")], LONG);
    assert_eq!(firing(&world), 1);
    world.wait(60_000);
    assert_eq!(told(&world)[1..], [(NotifyReason::NewAlerts, 1, 1)]);
    // The same labels once more are a refresh.
    send(&mut world, "pagerduty", "k1", &[("event", "E"), ("severity", "major")], LONG);
    assert_eq!(firing(&world), 1);
    send(&mut world, "pagerduty", "k1", &[("event", "E")], 0);
    assert_eq!(firing(&world), 0);
}

#[test]
fn a_key_is_its_clients_own() {
    let mut world = world();
    send(&mut world, "a", "k1", &[("event", "E"), ("x", "1")], LONG);
    send(&mut world, "b", "k1", &[("event", "E"), ("x", "2")], LONG);
    send(&mut world, "b", "k2", &[("event", "E"), ("x", "3")], LONG);
    assert_eq!(firing(&world), 3);
    send(&mut world, "b", "k1", &[("event", "E")], 0);
    assert_eq!(firing(&world), 2);
    send(&mut world, "c", "k1", &[("event", "E")], 0);
    assert_eq!(firing(&world), 2, "nothing of theirs has that key");
}

#[test]
fn an_alert_has_the_key_that_it_came_with_last() {
    let mut world = world();
    for key in ["k1", "k2"] {
        send(&mut world, "a", key, &[("event", "E")], LONG);
    }
    send(&mut world, "a", "k1", &[("event", "over")], 0);
    assert_eq!(firing(&world), 1);
    send(&mut world, "a", "k2", &[("event", "over")], 0);
    assert_eq!(firing(&world), 0);
}

#[test]
fn keys_hold_over_a_snapshot() {
    let mut world = world();
    send(&mut world, "a", "k1", &[("event", "E")], LONG);
    world.machine = Machine::restore(&world.machine.snapshot()).expect("its own");
    send(&mut world, "a", "k1", &[("event", "over")], 0);
    assert_eq!(firing(&world), 0);
}

#[test]
fn an_alert_that_fires_again_without_its_key_has_it_no_more() {
    let mut world = world();
    send(&mut world, "a", "k1", &[("event", "E"), ("x", "1")], LONG);
    send(&mut world, "a", "k1", &[("event", "E"), ("x", "2")], LONG);
    world.alert(&[("event", "E"), ("x", "1")], Some(LONG));
    assert_eq!(firing(&world), 2);
    send(&mut world, "a", "k1", &[("event", "over")], 0);
    let left: Vec<_> = world
        .machine
        .alerts()
        .filter(|alert| alert.is_firing())
        .map(|alert| String::from(alert.label("x")))
        .collect();
    assert_eq!(left.iter().filter(|x| !x.is_empty()).collect::<Vec<_>>(), ["1"]);
}

#[test]
fn nobody_else_gives_an_alert_a_key() {
    let mut world = world();
    send(&mut world, "a", "k1", &[("event", "E"), ("x", "1")], LONG);
    send(&mut world, "b", "k2", &[("event", "E"), ("x", "1")], LONG);
    for (client, key, left) in [("a", "k2", 1), ("b", "k2", 1), ("a", "k1", 0)] {
        send(&mut world, client, key, &[("event", "over")], 0);
        assert_eq!(firing(&world), left, "{client} {key}");
    }
}

/// What may hold others back is taken in before them, elsewhere.
#[test]
fn what_has_a_key_is_taken_in_as_it_was_sent() {
    let each = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut config = config(vec![action("ops", "log")], Route { routes: vec![each], ..grouped() });
    config.inhibit_rules = vec![InhibitRule {
        source_matchers: vec![Matcher::parse("x=1").expect("valid")],
        target_matchers: vec![Matcher::parse("x=3").expect("valid")],
        ..InhibitRule::default()
    }];
    let mut world = World::new(config);
    send(&mut world, "test", "k", &[("event", "E"), ("x", "1")], LONG);
    let mut builder = BatchBuilder::default();
    let times = AlertTimes { starts_at: None, ends_at: Some(Wall(world.now.0 as i64 + OFFSET + LONG)) };
    for (x, key) in [("2", "k"), ("1", "")] {
        builder.label("event", "E");
        builder.label("x", x);
        builder.key(key);
        builder.finish_alert(times, None, None).expect("valid");
    }
    world.input(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }));
    assert_eq!(firing(&world), 2);
}

#[test]
fn an_alert_is_acknowledged_by_its_key() {
    let mut world = world();
    send(&mut world, "a", "k1", &[("event", "E"), ("x", "1")], LONG);
    send(&mut world, "b", "k1", &[("event", "E"), ("x", "2")], LONG);
    for (client, key) in [("b", "k1"), ("b", "k2")] {
        world.input(Input::Acknowledge(Acknowledge {
            matchers: vec![],
            key: Some(AlertKey { client: client.into(), key: key.into() }),
            by: "ann".into(),
            until: None,
            comment: String::new(),
            withdraw: false,
        }));
    }
    let taken: Vec<_> = world.machine.alerts().filter(|alert| alert.acknowledged().is_some()).collect();
    assert_eq!(taken.iter().map(|alert| alert.label("x")).collect::<Vec<_>>(), ["2"]);
}
