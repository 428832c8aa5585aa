//! Alerts that go from server to server: what comes twice counts once, and what is critical goes first.

use super::*;
use crate::{Position, trail};

/// An alert that `server` accepted first at a place, as another server hands it on.
fn handed_on(world: &mut World, by: &str, server: &str, seq: u64, began_s: i64, ends_in_ms: i64) {
    let mut builder = BatchBuilder::default();
    A.iter().for_each(|(name, value)| builder.label(name, value));
    builder.annotation(trail::ORIGIN, &trail::origin(server, 7, Position::arrived(seq)));
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
