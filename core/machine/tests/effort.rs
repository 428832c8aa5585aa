//! How much work one piece does: whoever asks something waits for a piece at most.

use super::*;
use crate::{
    machine::pieces::{CHANGE, MATCHER, PIECE_GRAINS, VISIT},
    silence::{SetSilence, SilenceId, SilenceOrder},
};

/// The most work of one piece of a record that is worked on in steps of a single unit, in grains, and how many pieces it took.
pub(super) fn most_of_a_piece(world: &mut World, input: Input) -> (u64, usize) {
    world.machine.effort.of_piece = (0, 0);
    let record = JournalRecord { seq: world.machine.next_seq(), at: world.now, input };
    world.machine.apply(record);
    let mut pieces = 1;
    while world.machine.step(1) == Step::More {
        pieces += 1;
    }
    world.effects.extend(core::iter::from_fn(|| world.machine.next_effect()));
    (world.machine.effort.of_piece.1, pieces)
}

fn silence(world: &mut World, number: u32, host: &str) {
    let set = SetSilence {
        id: None,
        fresh: SilenceId(u128::from(number) + 1),
        matchers: vec![Matcher::parse(&format!("host=~\"{host}\"")).expect("valid")],
        starts: None,
        ends: Wall(world.now.0 as i64 + OFFSET + HOUR),
        by: "ann".into(),
        client: "".into(),
        comment: String::new(),
        annotations: Default::default(),
    };
    world.input(Input::Silence(SilenceOrder::Set(set.into())));
}

fn hosts(world: &mut World, count: u32, ends_in_ms: i64) {
    let mut builder = BatchBuilder::default();
    let ends_at = Some(Wall(world.now.0 as i64 + OFFSET + ends_in_ms));
    for host in 0..count {
        builder.label("event", "E");
        builder.label("host", &format!("host{host}"));
        builder.finish_alert(AlertTimes { starts_at: None, ends_at }, None, None).expect("valid");
    }
    world.input(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }));
}

#[test]
fn silences_that_nothing_finds_are_tried_in_pieces_in_small_groups_too() {
    const SILENCES: usize = 200;
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    for number in 0..SILENCES as u8 {
        // Which letters are in it cannot be looked up where either case will do.
        let (first, second) = ((b'a' + number / 10) as char, (b'a' + number % 10) as char);
        silence(&mut world, u32::from(number), &format!("(?i).*{first}{second}"));
    }
    hosts(&mut world, 900, HOUR);
    world.now = world.now.plus(30_000);
    let (most, pieces) = most_of_a_piece(&mut world, Input::Advanced);
    let of_one = SILENCES as u64 * MATCHER + CHANGE;
    // The piece that decides for the action has more.
    let of_lane = 900 * (6 * VISIT + CHANGE);
    assert!(most <= of_one.max(of_lane), "{most} grains in a piece, {of_one} a member, {of_lane} an action");
    assert!(pieces >= 900, "{pieces} pieces");
}

#[test]
fn silences_are_found_by_what_a_value_has_in_it_and_cost_nothing_once_they_are_over() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    let tried = |world: &World, host: &str| {
        struct Host<'a>(&'a str);
        impl routing::Labels for Host<'_> {
            fn value(&self, name: &str) -> &str {
                if name == "host" { self.0 } else { "" }
            }
        }
        let (mut tried, wall) = (0, world.now.wall(world.machine.state.wall_offset()));
        let severities = world.machine.routing.severities();
        let held = world.machine.state.silences.matching(&Host(host), severities, wall, &mut tried);
        (held.len(), tried)
    };
    for number in 0..50 {
        silence(&mut world, number, &format!(".*never{number}x.*"));
    }
    silence(&mut world, 50, ".+");
    assert_eq!(tried(&world, "web"), (1, 1));
    let found = tried(&world, "a-never7x-b");
    assert!(found.0 == 2 && found.1 < 10, "{found:?}");
    world.wait(HOUR as u64);
    assert_eq!(tried(&world, "a-never7x-b"), (0, 0));
    assert_eq!(world.machine.silences(Wall(0)).count(), 51, "they are kept all the same");
    // The wall clock is set back: they hold again.
    world.input(Input::WallClock(OFFSET - HOUR));
    assert_eq!(tried(&world, "a-never7x-b").0, 2);
    let world = world.restored();
    assert_eq!(tried(&world, "a-never7x-b").0, 2);
}

#[test]
fn a_look_at_a_large_group_gathers_in_pieces_and_charges_what_it_compares() {
    const HOSTS: u32 = 20_000;
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    hosts(&mut world, HOSTS, 600_000);
    world.now = world.now.plus(30_000);
    let (most, pieces) = most_of_a_piece(&mut world, Input::Advanced);
    // The piece that decides for the action.
    let of_lane = u64::from(HOSTS) * (6 * VISIT + CHANGE);
    assert!(most <= of_lane + PIECE_GRAINS, "{most} grains in a piece, {of_lane} an action");
    assert!(pieces >= HOSTS as usize / 16, "{pieces} pieces");
    // All of them end, are told and leave.
    let told = world.effects.iter().find_map(|effect| match effect {
        Effect::Deliver(deliver) => Some(deliver.delivery),
        _ => None,
    });
    let outcome = |delivery: Option<DeliveryId>| {
        let (delivery, result) = (delivery.expect("told"), Ok(Receipt::Sent));
        Input::Outcome(Outcome { delivery, attempt: 1, result, took_ms: 1, led: true })
    };
    most_of_a_piece(&mut world, outcome(told));
    world.effects.clear();
    world.now = world.now.plus(700_000);
    most_of_a_piece(&mut world, Input::Advanced);
    let told = world.effects.iter().find_map(|effect| match effect {
        Effect::Deliver(deliver) => Some(deliver.delivery),
        _ => None,
    });
    let (_, pieces) = most_of_a_piece(&mut world, outcome(told));
    assert!(pieces >= HOSTS as usize / 32, "{pieces} pieces for alerts that leave");
    assert!(world.machine.sizes().0 <= 2, "none is left but our own");
}

#[test]
fn actions_that_are_gone_leave_their_rows_to_others_once_nothing_is_left_of_them() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = Some(Err(Failure::permanent("550")));
    world.alert(A, Some(HOUR));
    world.wait(60_000);
    let dead = |world: &World| world.machine.deliveries().count();
    assert_eq!(dead(&world), 1);
    for round in 0..10 {
        world.install(config(vec![action("ops", &format!("log{round}"))], grouped()), Vec::new());
        world.wait(60_000);
        world = world.restored();
    }
    let rows = world.machine.state.actions.len();
    let command = |verb| {
        let which = DeliverySelection::DeadLetters;
        Input::Deliveries(DeliveryCommand { which, verb, by: "ann".into() })
    };
    assert!(dead(&world) > 10 && rows == 11, "{rows} rows, each with a dead letter");
    world.input(command(DeliveryVerb::Drop));
    world.far_end = Some(Ok(Receipt::Sent));
    for round in 0..30 {
        world.install(config(vec![action("ops", &format!("mail{round}"))], grouped()), Vec::new());
        world.wait(60_000);
    }
    assert_eq!(world.machine.state.actions.len(), rows, "rows are used again");
    let state = &world.machine.state;
    for (action, number) in state.actions.iter().zip(0..) {
        let of = state.deliveries.iter().filter(|(_, row)| row.action == number).count();
        assert_eq!(action.deliveries as usize, of);
        let known = state.action(&action.spec.id);
        assert!(known == Some(number) || !action.present, "{:?}", action.spec.id);
    }
}
