//! When groups are told, of what, and why not.

use super::*;

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
    let mut world = World::not_told_of_ends();
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
    let route = each();
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
