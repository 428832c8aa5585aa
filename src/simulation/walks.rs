//! Eight walks through what goes wrong most, each step by step. The oracle watches them as it watches every seed.

use ams2_core::{
    At, BatchBuilder, Input, Wall, batch::AlertTimes, config::Removed, effect::NotifyReason,
    input::DeliveryId,
};

use super::{
    far_ends::{Mood, Seen},
    plan::{HOUR, MINUTE, Plan, SECOND, id},
    world::{Crash, World},
};

const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR as i64;

/// A running server with the first plan, past its own first words.
fn world() -> World {
    let mut world = World::new(1);
    world.options.retention.age = std::time::Duration::from_secs(86_400);
    world.options.retention.bytes = u64::MAX;
    world.start();
    world.settle();
    world.pass(20 * MINUTE);
    world.far_ends.seen.clear();
    world
}

/// A client says that something fires, or is over, and is answered.
fn say(world: &mut World, event: &str, host: &str, text: &str, fires: bool) {
    let mut builder = BatchBuilder::default();
    builder.label("event", event);
    builder.label("host", host);
    builder.annotation("text", text);
    let ends = world.wall() + if fires { 2 * HOUR as i64 } else { 0 };
    let times = AlertTimes { starts_at: Some(Wall(ends.min(world.wall()))), ends_at: Some(Wall(ends)) };
    builder.finish_alert(times, None, None).expect("valid");
    world.send("boston", builder.finish());
}

/// What one action's far end saw of clients' alerts.
fn seen(world: &World, receiver: &str, kind: &str) -> Vec<Seen> {
    let own = |seen: &&Seen| seen.alerts.iter().any(|(text, _)| !text.is_empty());
    let by = |seen: &&Seen| seen.action.receiver == receiver && seen.action.kind == kind;
    world.far_ends.seen.iter().filter(own).filter(by).cloned().collect()
}

/// Records flow, and what follows from them, but no time passes and no call ends.
fn fold_all(world: &mut World) {
    world.flush();
    while let Some(process) = world.process.as_mut().filter(|process| !process.unfolded.is_empty()) {
        process.fold(100);
    }
}

#[test]
fn walk_1_group_wait_of_zero_tells_in_the_step_that_accepted() {
    let mut world = world();
    // The second route of `Virus` has a group_wait of 0 s.
    say(&mut world, "Virus", "a", "one", true);
    world.settle();
    let accepted = world.now;
    world.pass(SECOND);
    let told = seen(&world, "desk", "mail");
    assert_eq!(told.len(), 1);
    assert!(told[0].at < accepted + 50, "the far end takes less than that");
    assert_eq!(told[0].reason, NotifyReason::FirstTime);
    let mut since = world.log.iter().skip_while(|record| !matches!(record.input, Input::Alerts(_)));
    let next = since.find(|record| !matches!(record.input, Input::Alerts(_))).expect("an outcome");
    assert!(matches!(next.input, Input::Outcome(_)), "no second record was needed to decide");
    world.run_until_quiet();
}

#[test]
fn walk_2_a_crash_between_flush_and_delivery_delivers_after_the_start() {
    for how in [Crash::Process, Crash::Power] {
        let mut world = world();
        say(&mut world, "Job", "a", "one", true);
        world.flush();
        assert!(world.requests[0].answered || !world.process.as_ref().expect("runs").unfolded.is_empty());
        world.crash(how);
        assert_eq!(seen(&world, "ops", "log"), [], "nobody was told yet");
        world.start();
        world.settle();
        world.pass(SECOND);
        let told = seen(&world, "ops", "log");
        assert_eq!(told.len(), 1, "{how:?}");
        // The journal cannot tell whether the process that died had begun the attempt.
        assert_eq!((told[0].attempt, told[0].maybe_duplicate), (2, true), "{how:?}");
        world.run_until_quiet();
    }
}

#[test]
fn walk_3_a_crash_before_the_outcome_is_kept_repeats_under_the_same_name() {
    let mut world = world();
    world.far_ends.set_mood(&id("ops", "log", "0"), Mood::Slow);
    say(&mut world, "Job", "a", "one", true);
    fold_all(&mut world);
    let World { process, random, far_ends, oracle, now, .. } = &mut world;
    let process = process.as_mut().expect("runs");
    process.begin_calls(*now, random, far_ends, oracle);
    process.end_calls(*now + MINUTE, far_ends, oracle);
    assert_eq!(seen(&world, "ops", "log").len(), 1, "the far end has it");
    world.crash(Crash::Power);
    world.far_ends.heal();
    world.start();
    world.settle();
    world.pass(MINUTE);
    let told = seen(&world, "ops", "log");
    assert_eq!(told.len(), 2, "once more, since nobody knows");
    assert_eq!(told[0].delivery, told[1].delivery);
    assert_eq!((told[1].attempt, told[1].maybe_duplicate), (2, true));
    assert_eq!(told[0].alerts, told[1].alerts, "the same bytes");
    world.run_until_quiet();
}

#[test]
fn walk_4_a_reload_with_deliveries_pending_moves_or_refuses_them() {
    let mut world = world();
    world.far_ends.set_mood(&id("net", "trap", "0"), Mood::Failing);
    say(&mut world, "Virus", "a", "one", true);
    world.settle();
    assert_eq!(seen(&world, "net", "trap"), []);
    // Plan 1 has no receiver `net`; a reload that does not say what becomes of its deliveries is refused.
    let process = world.process.as_mut().expect("runs");
    let plan = Plan::of(1);
    let has = |id: &_| plan.action(id).is_some();
    let orphans = crate::upkeep::orphans(&process.live.machine, has, &[]);
    assert_eq!(orphans, [(id("net", "trap", "0"), 1)]);
    let fates = vec![(id("net", "trap", "0"), Removed::MoveTo("ops".into()))];
    assert_eq!(crate::upkeep::orphans(&process.live.machine, has, &fates), []);
    process.keep(Input::ConfigInstalled(plan.install(fates, "signal").into()));
    world.plan = 1;
    world.settle();
    world.pass(SECOND);
    let told: Vec<_> = seen(&world, "ops", "log").into_iter().map(|seen| seen.alerts).collect();
    assert_eq!(told, [[("one".to_owned(), true)]], "the new receiver has it");
    world.run_until_quiet();
}

#[test]
fn walk_5_retention_carries_forward_what_pending_deliveries_need() {
    let mut world = world();
    world.options.retention = crate::journal::Retention { age: std::time::Duration::ZERO, bytes: 0 };
    world.crash(Crash::Process);
    world.start();
    world.far_ends.set_mood(&id("ops", "log", "0"), Mood::Failing);
    say(&mut world, "Job", "a", "needed later", true);
    world.settle();
    let needed =
        world.log.iter().rev().find(|record| matches!(record.input, Input::Alerts(_))).expect("kept").seq;
    // Other alerts fill segments, a snapshot covers them, and the oldest go.
    for round in 0..200 {
        say(&mut world, "Door", "b", &format!("filler {round} {}", "x".repeat(200)), true);
        world.settle();
        if round % 20 == 19 {
            world.snapshot();
        }
        world.process.as_mut().expect("runs").let_go();
        world.settle();
    }
    let reader = &world.process.as_ref().expect("runs").reader;
    assert!(reader.alert(ams2_core::Position::arrived(needed)).is_err(), "its segment is gone");
    assert!(world.log.iter().any(|record| matches!(record.input, Input::Carried(_))));
    world.crash(Crash::Power);
    world.start();
    world.far_ends.heal();
    world.settle();
    world.pass(10 * MINUTE);
    let told: Vec<_> = seen(&world, "ops", "log").into_iter().map(|seen| seen.alerts).collect();
    assert_eq!(told[0], [("needed later".to_owned(), true)], "its text is right");
    world.run_until_quiet();
}

#[test]
fn walk_6_the_wall_clock_jumps_ten_years_and_back_and_no_timer_notices() {
    let mut world = world();
    world.far_ends.set_mood(&id("ops", "log", "0"), Mood::Failing);
    say(&mut world, "Disk", "a", "one", true);
    world.settle();
    world.wall_jumps_by(TEN_YEARS);
    world.settle();
    world.pass(29 * SECOND);
    assert_eq!(seen(&world, "ops", "page"), [], "group_wait is not over");
    world.pass(2 * SECOND);
    assert_eq!(seen(&world, "ops", "page").len(), 1, "now it is");
    world.wall_jumps_by(-TEN_YEARS);
    world.settle();
    world.pass(5 * MINUTE);
    let dead = world.truth.deliveries().filter(|view| view.attempts == 0).count();
    assert_eq!((world.truth.totals().dead_lettered, dead), (0, 0), "nothing was given up for its age");
    let firing = world.truth.alerts().filter(|alert| alert.label("event") == "Disk" && alert.is_firing());
    assert_eq!(firing.count(), 1, "the alert did not end by the jump");
    world.far_ends.heal();
    world.pass(10 * MINUTE);
    assert_eq!(seen(&world, "ops", "log").len(), 1);
    world.run_until_quiet();
}

#[test]
fn walk_7_an_idle_machine_with_a_full_disk_still_keeps_time_and_delivers() {
    let mut world = world();
    say(&mut world, "Disk", "a", "one", true);
    world.settle();
    world.disk.set_capacity(Some(world.disk.used_bytes()));
    world.look_at_space();
    assert!(world.process.as_ref().expect("runs").full, "clients are refused");
    say(&mut world, "Disk", "b", "two", true);
    world.settle();
    let refused = world.requests.last().expect("sent");
    assert!(!refused.answered);
    let before = world.log.len();
    world.pass(31 * SECOND);
    assert!(world.log[before..].iter().any(|record| record.input == Input::Advanced), "time is kept");
    assert!(
        world.log[before..].iter().any(|record| matches!(record.input, Input::Outcome(_))),
        "so are outcomes"
    );
    let told: Vec<_> = seen(&world, "ops", "log").into_iter().map(|seen| seen.alerts).collect();
    assert_eq!(told, [[("one".to_owned(), true)]], "deliveries go on, and what was refused is not told");
    world.disk.set_capacity(None);
    world.look_at_space();
    world.ask_again();
    world.settle();
    world.pass(MINUTE);
    assert_eq!(seen(&world, "ops", "log").len(), 2, "there is room again, without a restart");
    world.run_until_quiet();
}

#[test]
fn walk_8_a_group_that_changes_while_its_delivery_is_retried_is_told_once_and_whole() {
    let mut world = world();
    world.far_ends.set_mood(&id("ops", "log", "0"), Mood::Failing);
    say(&mut world, "Disk", "a", "one", true);
    world.settle();
    world.pass(40 * SECOND);
    let first: Vec<DeliveryId> = pending(&world);
    let mut builder = BatchBuilder::default();
    for (severity, text) in [("critical", "two"), ("", "one, newer")] {
        builder.label("event", "Disk");
        builder.label("host", "a");
        builder.label("severity", severity);
        builder.annotation("text", text);
        let times = AlertTimes { starts_at: None, ends_at: Some(Wall(world.wall() + HOUR as i64)) };
        builder.finish_alert(times, None, None).expect("valid");
    }
    world.send("boston", builder.finish());
    world.settle();
    world.pass(2 * MINUTE);
    let second = pending(&world);
    assert_eq!(second.len(), 1, "the newer one took the older one's place");
    assert_ne!(first, second);
    world.far_ends.heal();
    world.pass(10 * MINUTE);
    let told: Vec<_> = seen(&world, "ops", "log").into_iter().map(|seen| seen.alerts).collect();
    let all = vec![("one, newer".to_owned(), true), ("two".to_owned(), true)];
    assert_eq!(told, [all]);
    world.run_until_quiet();
}

/// Deliveries that the log action has still to make.
fn pending(world: &World) -> Vec<DeliveryId> {
    let log = id("ops", "log", "0");
    assert!(world.truth.at() > At(0));
    world.truth.deliveries().filter(|view| view.action == log).map(|view| view.id).collect()
}
