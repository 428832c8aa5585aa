//! Alerts that go from server to server: what comes twice counts once, and what is critical goes first.

use super::*;
use crate::{Position, trail};

/// An alert that `server` accepted first at a place, as another server hands it on.
fn handed_on(world: &mut World, by: &str, server: &str, seq: u64, began_s: i64, ends_in_ms: i64) {
    let mut builder = BatchBuilder::default();
    A.iter().for_each(|(name, value)| builder.label(name, value));
    builder.any_annotation(trail::ORIGIN, &trail::origin(server, 7, Position::arrived(seq)));
    let times = AlertTimes {
        starts_at: Some(Wall(OFFSET + began_s * 1_000)),
        ends_at: Some(Wall(world.now.0 as i64 + OFFSET + ends_in_ms)),
    };
    builder.finish_alert(times, Some("1"), None).expect("valid");
    world.input(Input::Alerts(Arrival { client: by.into(), batch: builder.finish().into() }));
}

fn duplicates(world: &World) -> u64 {
    world.machine.totals().duplicates
}

#[test]
fn what_was_accepted_at_one_place_counts_once_whichever_way_it_came() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    handed_on(&mut world, "branch-a", "laptop", 17, 0, HOUR);
    handed_on(&mut world, "branch-b", "laptop", 17, 0, HOUR);
    assert_eq!(duplicates(&world), 1);
    // Another place, another server, its end, and what a journal that was restored from a copy has there: each is its own.
    handed_on(&mut world, "branch-a", "laptop", 18, 0, HOUR);
    handed_on(&mut world, "branch-a", "tower", 17, 0, HOUR);
    handed_on(&mut world, "branch-a", "laptop", 17, 0, 0);
    handed_on(&mut world, "branch-a", "laptop", 17, 50, HOUR);
    assert_eq!(duplicates(&world), 1);
    // However long it took, and though a million clients' ids came meanwhile.
    world.wait(25 * HOUR as u64);
    let mut world = world.restored();
    handed_on(&mut world, "branch-b", "laptop", 17, 0, 0);
    assert_eq!(duplicates(&world), 2);
}

#[test]
fn what_is_critical_overtakes_what_waits_for_a_server_of_ours_and_nothing_else_does() {
    for patient in [true, false] {
        let spec = ActionSpec { patient, max_in_flight: 1, batch_max: 2, ..action("up", "forward") };
        let mut world = World::new(config(vec![spec], each()));
        world.far_end = None;
        for number in 0..10 {
            let host = format!("{number}");
            let severity = if number == 7 { "critical" } else { "minor" };
            world.send(&[("event", "E"), ("host", &host), ("severity", severity)], Some("x"), None);
        }
        let mut world = world.restored();
        assert_eq!(world.delivered.len(), 2, "two went out before the critical one came");
        world.far_end = Some(Ok(Receipt::delivered("taken")));
        let (_, first) = world.delivered[0].clone();
        world.input(Input::Outcome(Outcome {
            delivery: first.delivery,
            attempt: 1,
            result: Ok(Receipt::delivered("taken")),
            took_ms: 1,
            led: true,
        }));
        let next = world.delivered[2].1.notifications[0].alerts[0].position;
        let critical = world.journal.iter().filter(|record| matches!(record.input, Input::Alerts(_))).nth(7);
        let is_critical = next == Position::arrived(critical.expect("the eighth").seq);
        assert_eq!(is_critical, patient, "patient: {patient}");
    }
}

fn forward() -> ActionSpec {
    ActionSpec { patient: true, ..action("up", "forward") }
}

fn taken_by(server: &str) -> Option<Result<Receipt, Failure>> {
    let memo = Some(server.as_bytes().to_vec());
    Some(Ok(Receipt::Delivered { reply: "taken".into(), memo, unfinished: vec![], refused: vec![] }))
}

/// A parent lost its disk, or another one takes its place: it hears of what fires, and of nothing else.
#[test]
fn a_parent_that_does_not_know_what_fires_is_told_anew() {
    for route in [each(), grouped()] {
        let mut world = World::new(config(vec![forward()], route));
        world.far_end = taken_by("primary/1");
        world.alert(A, Some(10 * HOUR));
        world.wait(60_000);
        world.alert(B, Some(10 * HOUR));
        world.send(&[("event", "E"), ("host", "c")], Some("once"), None);
        world.wait(60_000);
        world.alert(B, Some(0));
        world.wait(600_000);
        let before = world.delivered.len();
        let mut world = world.restored();
        world.far_end = taken_by("primary/2");
        world.alert(&[("event", "E"), ("host", "d")], Some(10 * HOUR));
        world.wait(600_000);
        let told: Vec<Position> = world.delivered[before..]
            .iter()
            .flat_map(|(_, deliver)| &deliver.notifications)
            .flat_map(|notification| notification.alerts.iter().filter(|noted| noted.is_firing()))
            .map(|noted| noted.position)
            .collect();
        let of = |labels: &[(&str, &str)]| {
            let alert = batch(labels, None, None).alert(0).expect("one").fingerprint();
            let row = world.machine.state.alerts.iter().find(|(_, row)| row.fingerprint == alert);
            row.map(|(_, row)| row.position)
        };
        let (a, d) = (of(A).expect("it fires"), of(&[("event", "E"), ("host", "d")]).expect("it fires"));
        assert!(told.contains(&d) && told.contains(&a), "{told:?}");
        assert!(of(B).is_none_or(|b| !told.contains(&b)), "what is over is not told");
        let changes = world.records().filter(|what| matches!(what, Decided::FarEnd { .. })).count();
        assert_eq!(changes, 1);
    }
}

/// Past the cap the oldest go, the least severe first, and it is counted and said.
#[test]
fn of_more_than_may_wait_the_oldest_and_least_severe_are_let_go() {
    let spec = ActionSpec { pending_max: Some(10), ..forward() };
    let mut world = World::new(config(vec![spec], each()));
    world.far_end = Some(Err(Failure::transient("down")));
    let send = |world: &mut World, number: u32, severity: &str| {
        let host = format!("{number}");
        world.send(&[("event", "E"), ("host", &host), ("severity", severity)], Some(&host), None);
        world.wait(10);
    };
    for number in 0..4 {
        send(&mut world, number, "critical");
    }
    for number in 4..24 {
        send(&mut world, number, if number % 2 == 0 { "info" } else { "major" });
    }
    let mut world = world.restored();
    let waiting: Vec<_> = world.machine.pending().iter().map(|of| of.pending).collect();
    assert_eq!(waiting, [10]);
    let shed = world.records().filter(|what| matches!(what, Decided::Shed { .. })).count();
    assert!(shed >= 14, "{shed}");
    world.far_end = taken_by("primary/1");
    world.delivered.clear();
    world.wait(HOUR as u64);
    let texts: Vec<u64> = world
        .delivered
        .iter()
        .flat_map(|(_, deliver)| deliver.notifications.iter().map(|n| n.alerts[0].position.seq()))
        .collect();
    let sent = |number: usize| {
        let alerts = world.journal.iter().filter(|record| matches!(record.input, Input::Alerts(_)));
        alerts.map(|record| record.seq).nth(number).expect("sent")
    };
    assert!((0..4).all(|number| texts.contains(&sent(number))), "what is critical stays");
    assert!((4..24).step_by(2).all(|number| !texts.contains(&sent(number))), "what is least severe goes");
    let own = world.machine.alerts().filter(|alert| alert.label("event") == "Log Forwarding Error").count();
    assert!(own <= 1);
}
