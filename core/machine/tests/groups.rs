//! When groups are told, of what, and why not.

use super::*;
use crate::config::Muting;

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

/// Alertmanager's `notify/notify_test.go`, `TestDedupStageNeedsUpdate`, its rows in their order: what was told, what is so now, and
/// whether that is told. Row 4, an entry without a time, is none that can be here. With Alertmanager's own rules and with ours.
#[test]
fn what_was_told_decides_what_is_told_as_in_alertmanager() {
    use NotifyReason::{AllResolved, FirstTime, NewAlerts, RepeatDue, SomeResolved};
    const MINUTE: u64 = 60_000;
    const ONE: &[(&str, &str)] = &[("event", "E"), ("host", "1")];
    const TWO: &[(&str, &str)] = &[("event", "E"), ("host", "2")];
    const THREE: &[(&str, &str)] = &[("event", "E"), ("host", "3")];
    const FOUR: &[(&str, &str)] = &[("event", "E"), ("host", "4")];
    const FIVE: &[(&str, &str)] = &[("event", "E"), ("host", "5")];
    fn fire(world: &mut World, alerts: &[&[(&str, &str)]]) {
        alerts.iter().for_each(|labels| world.alert(labels, Some(100 * HOUR)));
    }
    fn end(world: &mut World, alerts: &[&[(&str, &str)]]) {
        alerts.iter().for_each(|labels| world.alert(labels, Some(0)));
    }
    /// A row, whether ends are sent, what happened, and what is told after `told`.
    type Row = (&'static str, bool, fn(&mut World), fn(&mut World), &'static [NotifyReason]);
    let nothing: fn(&mut World) = |_| {};
    let rows: [Row; 11] = [
        (
            "row 1: nothing was told, and some fire",
            true,
            nothing,
            |world| fire(world, &[TWO, THREE, FOUR]),
            &[FirstTime],
        ),
        (
            "row 2: nothing was told, and none fires",
            true,
            nothing,
            |world| {
                fire(world, &[TWO, THREE, FOUR]);
                end(world, &[TWO, THREE, FOUR]);
            },
            &[],
        ),
        (
            "row 3: others fire",
            true,
            |world| fire(world, &[ONE, TWO, THREE]),
            |world| {
                fire(world, &[FOUR]);
                end(world, &[ONE]);
            },
            &[NewAlerts],
        ),
        (
            "row 5: the same fire, before repeat_interval",
            true,
            |world| fire(world, &[ONE, TWO, THREE]),
            |world| world.wait(8 * MINUTE),
            &[],
        ),
        (
            "row 6: the same fire, after repeat_interval",
            true,
            |world| fire(world, &[ONE, TWO, THREE]),
            |world| world.wait(10 * MINUTE),
            &[RepeatDue],
        ),
        (
            "row 7: others are over and none fires, after repeat_interval",
            true,
            |world| {
                fire(world, &[ONE, TWO, THREE]);
                world.wait(MINUTE);
                end(world, &[ONE, TWO, THREE]);
            },
            |world| {
                fire(world, &[FOUR, FIVE]);
                end(world, &[FOUR, FIVE]);
                world.wait(11 * MINUTE);
            },
            &[],
        ),
        (
            "row 8: more are over, and ends are not sent",
            false,
            |world| fire(world, &[ONE, TWO]),
            |world| end(world, &[TWO]),
            &[],
        ),
        (
            "row 9: more are over, and ends are sent",
            true,
            |world| fire(world, &[ONE, TWO]),
            |world| end(world, &[TWO]),
            &[SomeResolved],
        ),
        (
            "row 10: none fires any more, and ends are not sent: it counts as told, for those who fire next",
            false,
            |world| fire(world, &[ONE, TWO]),
            |world| {
                end(world, &[ONE, TWO]);
                world.wait(2 * MINUTE);
                assert!(
                    world.holds_of_ops().contains(&HoldReason::ResolvesNotSent),
                    "{:?}",
                    world.holds_of_ops()
                );
                fire(world, &[ONE]);
            },
            &[FirstTime],
        ),
        (
            "row 11: none fires any more, and ends are sent",
            true,
            |world| fire(world, &[ONE, TWO]),
            |world| end(world, &[ONE, TWO]),
            &[AllResolved],
        ),
        (
            "section on repeats of its documentation: all ended, and some fire again",
            true,
            |world| {
                fire(world, &[ONE]);
                world.wait(MINUTE);
                end(world, &[ONE]);
            },
            |world| fire(world, &[ONE]),
            &[FirstTime],
        ),
    ];
    for muting in [Muting::default(), Muting::ALERTMANAGER] {
        for (row, send_resolved, told, now, expected) in rows {
            let route = Route { repeat_interval_ms: Some(10 * MINUTE), ..grouped() };
            let log = ActionSpec { send_resolved, ..action("ops", "log") };
            let mut world = World::new(Config { muting, ..config(vec![log], route) });
            told(&mut world);
            world.wait(MINUTE);
            let before = world.told().len();
            now(&mut world);
            world.wait(MINUTE);
            let reasons: Vec<NotifyReason> = world.told()[before..].iter().map(|told| told.1).collect();
            assert_eq!(reasons, expected, "{row}, {muting:?}");
        }
    }
}

/// Alertmanager's `alert.Merge` (`types/types_test.go`, `TestMerge`): pairs of the same alert whose times overlap, the older one first.
/// Beginnings and ends in seconds, the older one sent at 1,000 s, or at 985 s where it is over by then, and the younger
/// one at 1,010 s; no end: by timeout, after 300 s.
#[test]
fn pairs_merge_as_in_alertmanager() {
    type Times = (i64, Option<i64>);
    let rows: [(&str, Times, Times, (i64, i64)); 9] = [
        ("TestMerge: both end by timeout: the younger one's", (880, None), (940, None), (880, 1_310)),
        (
            "TestMerge: the older one by timeout: the younger one's, though it is earlier",
            (880, None),
            (940, Some(1_200)),
            (880, 1_200),
        ),
        (
            "TestMerge: the younger one by timeout: the older one's, which is later",
            (880, Some(1_500)),
            (940, None),
            (880, 1_500),
        ),
        (
            "TestMerge: neither by timeout: the older one's, which is later",
            (880, Some(1_500)),
            (940, Some(1_200)),
            (880, 1_500),
        ),
        (
            "TestMerge: neither by timeout: the younger one's, which is later",
            (880, Some(1_200)),
            (940, Some(1_500)),
            (880, 1_500),
        ),
        ("TestMerge: the younger one began before", (940, Some(1_200)), (880, Some(1_500)), (880, 1_500)),
        (
            "TestMerge: the older one fires, the younger one is over: over",
            (880, Some(1_500)),
            (940, Some(1_005)),
            (880, 1_005),
        ),
        ("TestMerge: both are over: the later end", (880, Some(990)), (940, Some(980)), (880, 990)),
        (
            "TestMerge: the older one is over, the younger one fires: it fires",
            (880, Some(990)),
            (940, Some(1_500)),
            (880, 1_500),
        ),
    ];
    for (row, older, younger, expected) in rows {
        let mut world = World::new(config(vec![action("ops", "log")], grouped()));
        // What is over when it is first heard of is not kept: that was heard of while it fired.
        let first = if older.1.is_some_and(|ends| ends < 1_000) { 985 } else { 1_000 };
        for (at, (starts, ends)) in [(first, older), (1_010, younger)] {
            world.now = At(at * 1_000);
            let mut builder = BatchBuilder::default();
            builder.label("event", "E");
            let wall = |seconds: i64| Wall(OFFSET + seconds * 1_000);
            let times = AlertTimes { starts_at: Some(wall(starts)), ends_at: ends.map(wall) };
            builder.finish_alert(times, None, None).expect("valid");
            world.append(Input::Alerts(Arrival { client: "test".into(), batch: builder.finish().into() }));
        }
        let found = world.machine.alerts().find(|alert| alert.label("event") == "E").expect("it is known");
        let seconds = |wall: Wall| (wall.0 - OFFSET) / 1_000;
        assert_eq!((seconds(found.starts_at()), seconds(found.ends_at())), expected, "{row}");
    }
}
