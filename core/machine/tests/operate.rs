//! Starts, crashes, configs, acknowledgements, and what the router says of itself.

use super::*;

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
fn an_acknowledgement_stops_repeats_until_something_changes() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.alert(A, Some(100 * HOUR));
    world.wait(40_000);
    let matchers = vec![Matcher::parse("event=E").expect("valid")];
    let acknowledge = Acknowledge {
        matchers,
        key: None,
        by: "ann".into(),
        until: None,
        comment: String::new(),
        withdraw: false,
    };
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
fn an_end_that_was_told_is_known_after_a_new_config_with_other_intervals() {
    for tell_short in [false, true] {
        let route = Route { tell_short: Some(tell_short), ..grouped() };
        let mut world = World::new(config(vec![action("ops", "log")], route.clone()));
        world.alert(A, Some(10 * HOUR));
        world.alert(B, Some(10 * HOUR));
        world.wait(31_000);
        // What is under way keeps it in its group.
        world.far_end = None;
        world.alert(A, Some(0));
        world.wait(60_000);
        assert_eq!(world.told().last().map(|told| told.1), Some(NotifyReason::SomeResolved));
        let other = Route { group_interval_ms: Some(90_000), ..route };
        world.install(config(vec![action("ops", "log")], other), vec![]);
        world.wait(600_000);
        assert!(!world.holds_of_ops().contains(&HoldReason::ResolvedBeforeTold));
        let is_short = |what: &Decided| matches!(what, Decided::Notify { reason: NotifyReason::Short, .. });
        assert!(!world.records().any(is_short), "tell_short: {tell_short}");
    }
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
fn own_alerts_have_the_numbers_of_the_old_table() {
    let route = each();
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

/// Positions below `seq` that a search finds in pieces of `rows`, and how many pieces it took; between two pieces `meanwhile`
/// happens, and is told how many there were.
fn search(
    world: &mut World,
    seq: u64,
    rows: u32,
    mut meanwhile: impl FnMut(&mut World, usize),
) -> (Vec<u64>, usize) {
    let (mut search, mut found, mut pieces) = (Search::default(), Vec::new(), 0);
    while let Some(needed) = world.machine.needed_before(seq, &mut search, rows) {
        found.extend(needed.into_iter().map(Position::seq));
        pieces += 1;
        meanwhile(world, pieces);
        if found.len() > 100 {
            // Nobody carries them here: what was found once is found again.
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    (found, pieces)
}

#[test]
fn a_search_for_needed_texts_finds_the_same_in_pieces() {
    let route = each();
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.far_end = None;
    for host in 0..50 {
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some(&format!("{host}")), None);
    }
    let seq = world.machine.next_seq();
    let whole = search(&mut world, seq, u32::MAX, |_, _| {});
    // Fifty alerts and the config.
    assert_eq!((whole.0.len(), whole.1), (51, 1));
    let in_pieces = search(&mut world, seq, 7, |_, _| {});
    assert_eq!(in_pieces.0, whole.0);
    assert!(in_pieces.1 >= 14, "{} pieces", in_pieces.1);
    let half = search(&mut world, seq - 25, u32::MAX, |_, _| {});
    assert_eq!(half.0, whole.0[..26]);
}

#[test]
fn a_search_for_needed_texts_does_not_miss_what_an_operator_brings_back_behind_it() {
    // Pieces of this many rows, the last of which an operator acts behind.
    for (rows, piece) in (1..6).flat_map(|rows| (1..6).map(move |piece| (rows, piece))) {
        let config = || {
            let route = each();
            config(vec![action("ops", "log"), action("ops", "mail")], route)
        };
        let mut world = World::new(config());
        world.far_end = None;
        // What was told first leaves a row free that the search passes before that of the dead letters.
        world.send(A, Some("told"), None);
        world.send(B, Some("dead"), None);
        let dead = world.machine.next_seq() - 1;
        let attempts: Vec<Deliver> = world.delivered.iter().map(|(_, deliver)| deliver.clone()).collect();
        let letters = [attempts[2].delivery, attempts[3].delivery];
        let never = Err(Failure::permanent("never"));
        let results = [never.clone(), never, Ok(Receipt::Sent), Ok(Receipt::Sent)];
        for (place, result) in [2, 3, 0, 1].into_iter().zip(results) {
            let deliver = &attempts[place];
            let (delivery, attempt) = (deliver.delivery, deliver.attempt);
            world.input(Input::Outcome(Outcome { delivery, attempt, result, took_ms: 1, led: true }));
        }
        world.wait(600_000);
        world.install(config(), vec![]);
        let seq = world.machine.next_seq();
        let (found, _) = search(&mut world, seq, rows, |world, pieces| {
            if pieces == piece {
                for (id, verb) in letters.into_iter().zip([DeliveryVerb::Retry, DeliveryVerb::Drop]) {
                    let which = DeliverySelection::One(id);
                    let command = DeliveryCommand { which, verb, by: "ann".into() };
                    world.input(Input::Deliveries(command));
                }
            }
        });
        assert!(found.contains(&dead), "{dead} is not among {found:?} in {piece} pieces of {rows}");
    }
}

/// Alerts that fire and are called so.
fn firing(world: &World, event: &str) -> usize {
    world.machine.alerts().filter(|alert| alert.is_firing() && alert.label("event") == event).count()
}

#[test]
fn room_on_the_disk_ends_the_own_alert_whatever_labels_it_had() {
    let mut first = config(vec![action("ops", "log")], grouped());
    first.own_labels = [("site".into(), "boston".into())].into();
    let mut world = World::new(first.clone());
    let disk = |resolved| crate::input::OwnEvent::DiskNearlyFull { resolved, free_bytes: 1 };
    world.input(Input::Own(disk(false)));
    assert_eq!(firing(&world, "Disk Nearly Full"), 1);
    first.own_labels = [("site".into(), "chicago".into())].into();
    world.install(first, vec![]);
    // Somebody else's alert of the same name stays.
    world.alert(&[("event", "Disk Nearly Full")], Some(HOUR));
    world.input(Input::Own(disk(true)));
    assert_eq!(firing(&world, "Disk Nearly Full"), 1);
    let mut disks = world.machine.alerts().filter(|alert| alert.label("event") == "Disk Nearly Full");
    assert!(disks.all(|alert| alert.is_firing() == (alert.client() == "test")));
}

#[test]
fn a_start_ends_the_shutdown_before_it() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    world.input(Input::Stopping);
    assert_eq!(firing(&world, "Shutdown"), 1);
    world.now = At(world.now.0 + 1_000);
    world.start();
    assert_eq!(firing(&world, "Shutdown"), 0);
    assert_eq!(firing(&world, "Startup"), 1);
    let told: Vec<_> = world.told().iter().map(|told| told.1).collect();
    assert_eq!(told, [NotifyReason::Occurrence, NotifyReason::Ended], "the shutdown, and its end");
    // In a group it was over before anybody was told.
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.input(Input::Stopping);
    world.start();
    world.wait(600_000);
    assert_eq!(world.told(), []);
    assert!(world.holds_of_ops().contains(&HoldReason::ResolvedBeforeTold));
}

#[test]
fn a_config_that_is_accepted_ends_the_refusal_of_another() {
    let refused = || Input::Own(crate::input::OwnEvent::ConfigRefused { why: "no".into() });
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.input(refused());
    assert!(firing(&world, "Configuration Refused") == 1 && world.machine.says_config_refused());
    world.install(config(vec![action("ops", "log")], grouped()), vec![]);
    assert!(firing(&world, "Configuration Refused") == 0 && !world.machine.says_config_refused());
    world.input(refused());
    world.input(Input::Own(crate::input::OwnEvent::ConfigAccepted));
    assert_eq!(firing(&world, "Configuration Refused"), 0);
    // One that cannot be used ends nothing.
    world.input(refused());
    let mut broken = config(vec![action("ops", "log")], grouped());
    broken.route.receiver = Some("nobody there".into());
    world.install(broken, vec![]);
    assert_eq!(firing(&world, "Configuration Refused"), 2, "and is refused itself");
}

#[test]
fn all_damage_that_a_start_found_is_said_in_one_alert() {
    let mut world = World::new(config(vec![action("ops", "log")], each()));
    let damage: Vec<String> = (0..25).map(|place| format!("place {place}")).collect();
    world.input(Input::Started(Started {
        incarnation: 7,
        seed: [1, 2],
        wall_offset_ms: OFFSET,
        version: "test".into(),
        damage,
        install: None,
    }));
    let row = world.machine.state.own_texts.values().find_map(|text| {
        let alert = text.batch.alert(0)?;
        (alert.label("event") == "Journal Damaged").then(|| alert.annotations().collect::<Vec<_>>())
    });
    let [("summary", summary)] = row.as_deref().expect("it is raised") else { panic!("{row:?}") };
    assert!(
        summary.contains("place 0; place 1; ") && summary.contains("place 19; 5 more places"),
        "{summary}"
    );
    assert_eq!(firing(&world, "Journal Damaged"), 1);
}

#[test]
fn an_order_that_changes_nothing_is_on_record() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    world.far_end = None;
    world.alert(A, Some(100 * HOUR));
    world.wait(31_000);
    let delivery = world.delivered[0].1.delivery;
    for verb in [DeliveryVerb::Retry, DeliveryVerb::Drop] {
        let before = world.records().count();
        let which = DeliverySelection::One(delivery);
        world.input(Input::Deliveries(DeliveryCommand { which, verb, by: "ann".into() }));
        assert_eq!(world.records().count(), before + 1, "{verb:?} of an attempt under way");
    }
    let before = world.records().count();
    let matchers = vec![Matcher::parse("event=E").expect("valid")];
    let until = Some(world.now);
    let comment = String::new();
    let late = Acknowledge { matchers, key: None, by: "ann".into(), until, comment, withdraw: false };
    world.input(Input::Acknowledge(late));
    assert_eq!(world.records().count(), before + 1, "an acknowledgement that was over when it came");
}

/// Receivers `ops` with the action `log`, and `desk` with `mail`; all goes to the one that is named.
fn two_receivers(all_to: &str, notify: Notify) -> Config {
    let mut config = config(vec![action("ops", "log")], Route { notify: Some(notify), ..grouped() });
    config.route.receiver = Some(all_to.into());
    config.receivers.push(Receiver { name: "desk".into(), actions: vec![action("desk", "mail")] });
    config
}

#[test]
fn what_moves_at_a_reload_is_told_before_what_its_group_has_to_tell_there() {
    let mut world = World::new(two_receivers("desk", Notify::Group));
    world.far_end = Some(Err(Failure { retry_after_ms: Some(3_000_000), ..Failure::transient("451") }));
    world.alert(A, Some(100 * HOUR));
    world.wait(31_000);
    assert_eq!(world.delivered.len(), 1);
    let mut second = two_receivers("ops", Notify::Group);
    second.receivers.pop();
    world.far_end = None;
    world.install(second, vec![(action("desk", "mail").id, Removed::MoveTo("ops".into()))]);
    world.alert(B, Some(100 * HOUR));
    world.wait(120_000);
    let mut told = Vec::new();
    for _ in 0..2 {
        assert_eq!(world.delivered.len(), told.len() + 2, "one after the other");
        told.push(world.delivered.last().expect("a delivery").1.notifications[0].alerts.len());
        world.outcome_of_last(Ok(Receipt::Sent));
    }
    assert_eq!(told, [1, 2]);
}

#[test]
fn occurrences_that_move_at_a_reload_are_told_in_their_order() {
    let mut first = two_receivers("ops", Notify::Each);
    let desk = Route { receiver: Some("desk".into()), goes_on: true, ..Route::default() };
    first.route.routes.extend([desk, Route::default()]);
    let mut world = World::new(first);
    world.far_end = Some(Err(Failure { retry_after_ms: Some(300_000), ..Failure::transient("451") }));
    for number in 1..=4 {
        world.send(A, Some(&format!("{number}")), None);
    }
    let mut second = two_receivers("ops", Notify::Each);
    second.receivers.pop();
    world.install(second, vec![(action("desk", "mail").id, Removed::MoveTo("ops".into()))]);
    world.delivered.clear();
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(HOUR as u64);
    let told: Vec<Position> =
        world.delivered.iter().map(|(_, told)| told.notifications[0].alerts[0].position).collect();
    assert_eq!(told.len(), 8);
    assert!(told.is_sorted(), "{told:?}");
}

#[test]
fn twin_groups_that_wait_behind_the_same_lane_both_go_on() {
    let twins = |actions: &[&str]| {
        let twin = || Route {
            goes_on: true,
            matchers: vec![Matcher::parse("event=E").expect("valid")],
            ..Route::default()
        };
        let actions = actions.iter().map(|kind| action("ops", kind)).collect();
        config(actions, Route { routes: vec![twin(), twin()], ..grouped() })
    };
    let mut world = World::new(twins(&["log", "mail"]));
    world.far_end = Some(Err(Failure { retry_after_ms: Some(3_000_000), ..Failure::transient("451") }));
    world.alert(A, Some(100 * HOUR));
    world.wait(31_000);
    let mail = action("ops", "mail").id;
    world.install(twins(&["log"]), vec![(mail.clone(), Removed::MoveTo("ops".into()))]);
    world.install(twins(&["log", "mail"]), vec![]);
    world.alert(B, Some(100 * HOUR));
    world.wait(120_000);
    world.far_end = Some(Ok(Receipt::Sent));
    world.wait(5 * HOUR as u64);
    let left: Vec<_> = world.machine.deliveries().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn after_the_word_to_stop_only_the_shutdown_is_told() {
    let mut log = action("ops", "log");
    log.max_in_flight = 2;
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut world = World::new(config(vec![log], route));
    world.far_end = None;
    for host in 0..6 {
        world.send(&[("event", "E"), ("host", &format!("{host}"))], Some("1"), None);
    }
    assert_eq!(world.delivered.len(), 2);
    world.input(Input::Stopping);
    world = world.restored();
    let first = world.delivered[0].1.clone();
    let outcome =
        Outcome { delivery: first.delivery, attempt: 1, result: Ok(Receipt::Sent), took_ms: 1, led: true };
    world.input(Input::Outcome(outcome));
    let shutdown = |told: &Deliver| told.notifications[0].alerts[0].position.is_raised();
    let told: Vec<bool> = world.delivered[2..].iter().map(|(_, told)| shutdown(told)).collect();
    assert_eq!(told, [true]);
    world.outcome_of_last(Ok(Receipt::Sent));
    assert_eq!(world.delivered.len(), 3);
    world.far_end = Some(Ok(Receipt::Sent));
    world.start();
    world.wait(HOUR as u64);
    let left: Vec<_> = world.machine.deliveries().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_alert_that_a_reload_moves_has_that_on_record() {
    for notify in [Notify::Group, Notify::Each] {
        let routed = || {
            let route = |matcher: &str| Route {
                matchers: vec![Matcher::parse(matcher).expect("valid")],
                notify: Some(notify),
                ..Route::default()
            };
            let routes = vec![route("host=b"), route("event=~\".+\"")];
            config(vec![action("ops", "log")], Route { routes, ..grouped() })
        };
        let mut world = World::new(routed());
        world.alert(A, Some(100 * HOUR));
        world.alert(B, Some(100 * HOUR));
        world.wait(60_000);
        world.effects.clear();
        // Both routes stay by name; only their order says whose the alert is.
        let mut second = routed();
        second.route.routes.swap(1, 2);
        world.install(second, vec![]);
        let moved: Vec<crate::Fingerprint> = world
            .records()
            .filter_map(|what| match what {
                Decided::Routed { alert, .. } => Some(*alert),
                _ => None,
            })
            .collect();
        let b = world.machine.alerts().find(|alert| alert.label("host") == "b").expect("it fires");
        assert_eq!(moved, [b.fingerprint()], "{notify:?}");
    }
}

#[test]
fn ids_whose_time_is_over_are_forgotten_in_pieces_before_an_own_alert() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    for number in 0..3_000 {
        let id = format!("{number}");
        world.send(A, Some(&id), None);
    }
    world.now = world.now.plus(25 * HOUR as u64);
    world.input(Input::Advanced);
    let record = JournalRecord { seq: world.machine.next_seq(), at: world.now, input: Input::Stopping };
    world.machine.apply(record);
    let mut steps = 1;
    while world.machine.step(1) == Step::More {
        steps += 1;
    }
    assert!(steps > 3_000 / 32, "{steps} steps");
    assert!(world.machine.state.ids.len() < 10);
}

#[test]
fn timers_are_made_again_in_pieces() {
    const LIVE: usize = 5_000;
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut world = World::new(config(vec![], route));
    for host in 0..LIVE {
        world.alert(&[("event", "E"), ("host", &format!("{host}"))], Some(HOUR));
    }
    // Each that comes and goes leaves an entry behind.
    let mut most = 0;
    for number in 0..2 * LIVE {
        for ends_in in [HOUR, 0] {
            let ends_at = Wall(world.now.0 as i64 + OFFSET + ends_in);
            let batch = batch(&[("event", "E"), ("host", &format!("gone {number}"))], None, Some(ends_at));
            let input = Input::Alerts(Arrival { client: "test".into(), batch: batch.into() });
            world.machine.apply(JournalRecord { seq: world.machine.next_seq(), at: world.now, input });
            let mut steps = 1;
            while world.machine.step(1) == Step::More {
                steps += 1;
            }
            while world.machine.next_effect().is_some() {}
            most = most.max(steps);
        }
    }
    assert!(most >= LIVE / 256, "{most} steps");
    assert!(world.machine.timers.len() < 3 * LIVE, "{} entries", world.machine.timers.len());
    // Every alert that lives still ends when its time has come.
    world.wait(2 * HOUR as u64);
    assert_eq!(world.machine.alerts().filter(|alert| alert.label("event") == "E").count(), 0);
}

#[test]
fn what_is_more_than_a_digest_carries_goes_into_a_further_one() {
    let mut log = action("ops", "log");
    log.max_per_minute = Some(1);
    let route = Route { notify: Some(Notify::Each), ..Route::default() };
    let mut world = World::new(config(vec![log], route));
    let mut builder = BatchBuilder::default();
    for host in 0..25_000 {
        builder.label("event", "E");
        builder.label("host", &format!("{host}"));
        builder.finish_alert(AlertTimes::default(), Some("1"), None).expect("valid");
    }
    let batch = builder.finish();
    world.input(Input::Alerts(Arrival { client: "test".into(), batch: batch.into() }));
    world.wait(300_000);
    let told: Vec<usize> = world.delivered.iter().map(|(_, told)| told.digest_of.len()).collect();
    assert_eq!(told[..2], [20_000, 5_000]);
    assert!(world.machine.deliveries().next().is_none());
}

#[test]
fn a_dead_letter_keeps_the_start_of_what_the_far_end_said() {
    let mut world = World::new(config(vec![action("ops", "log")], grouped()));
    let words = "ä".repeat(2_000);
    world.far_end = Some(Err(Failure::permanent(words.clone())));
    world.alert(A, Some(HOUR));
    world.wait(31_000);
    let kept = world.machine.deliveries().find_map(|of| match of.standing {
        DeliveryStanding::Dead(DeadReason::Permanent(words)) => Some(words),
        _ => None,
    });
    assert_eq!(kept, Some("ä".repeat(128)));
    let whole = DeadReason::Permanent(words);
    assert!(
        world.records().any(|what| matches!(what, Decided::DeadLetter { reason, .. } if *reason == whole))
    );
}

/// Lets time pass with a mail server that is away and a log that works: what the log was told, the event with how many fire.
fn without_mail(world: &mut World, milliseconds: u64) -> Vec<(String, usize)> {
    with_away(world, &["mail"], milliseconds)
}

/// The same with other actions away.
fn with_away(world: &mut World, away: &[&str], milliseconds: u64) -> Vec<(String, usize)> {
    let end = world.now.plus(milliseconds);
    let mut told = Vec::new();
    world.far_end = None;
    loop {
        for (_, deliver) in core::mem::take(&mut world.delivered) {
            let is_away = away.contains(&deliver.action.kind.as_str());
            let result = if is_away { Err(Failure::transient("535 refused")) } else { Ok(Receipt::Sent) };
            let said = deliver.notifications.iter().flat_map(|of| of.alerts.iter()).filter(|_| !is_away);
            let own = said.filter_map(|noted| Some((world.machine.own_text(noted.position)?, noted)));
            told.extend(own.map(|(text, noted)| {
                let event = text.alert(0).expect("one").label("event");
                (String::from(event), usize::from(noted.is_firing()))
            }));
            let (delivery, attempt) = (deliver.delivery, deliver.attempt);
            world.input(Input::Outcome(Outcome { delivery, attempt, result, took_ms: 1, led: true }));
        }
        let due = world.machine.next_due();
        if !world.delivered.is_empty() {
            continue;
        }
        if due > end {
            break;
        }
        world.now = world.now.max(due);
        world.input(Input::Advanced);
    }
    world.now = end;
    told
}

/// A mail server that refuses the login is nothing that passes, and until its mails are too old nobody would know.
#[test]
fn an_action_that_fails_for_minutes_is_told_by_another_and_so_is_its_return() {
    let both = || config(vec![action("ops", "log"), action("ops", "mail")], grouped());
    let failing = |firing: usize| (String::from("Action Failing"), firing);
    let mut world = World::new(both());
    world.alert(A, Some(1000 * HOUR));
    assert_eq!(without_mail(&mut world, 30_000 + 290_000), [], "that may pass");
    let told = without_mail(&mut world, HOUR as u64 / 2);
    assert_eq!(told, [failing(1)], "once, and by who is well");
    let alert =
        world.machine.alerts().find(|alert| alert.label("event") == "Action Failing").expect("it lasts");
    assert_eq!((alert.label("receiver"), alert.label("action")), ("ops", "ops/mail/0"));
    assert!(alert.is_firing());
    // It outlasts a restart, and a config that has the action still.
    let mut world = world.restored();
    world.start();
    world.install(both(), vec![]);
    assert_eq!(firing(&world, "Action Failing"), 1);
    world.far_end = Some(Ok(Receipt::Sent));
    world.delivered.clear();
    world.wait(HOUR as u64);
    assert_eq!(firing(&world, "Action Failing"), 0);
    assert!(
        world.told().iter().any(|told| (told.2, told.3) == (0, 1)),
        "its end is told: {:?}",
        world.told()
    );
}

/// Nothing waits for it any more, and nobody can say whether its far end is back.
#[test]
fn an_action_that_nothing_waits_for_fails_no_more() {
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], grouped()));
    world.alert(A, Some(1000 * HOUR));
    without_mail(&mut world, HOUR as u64 / 2);
    assert_eq!(firing(&world, "Action Failing"), 1);
    let which = DeliverySelection::One(world.machine.deliveries().next().expect("it waits").id);
    world.input(Input::Deliveries(DeliveryCommand { which, verb: DeliveryVerb::Drop, by: "test".into() }));
    let told = without_mail(&mut world, HOUR as u64 / 2);
    assert_eq!((told, firing(&world, "Action Failing")), (vec![(String::from("Action Failing"), 0)], 0));
}

#[test]
fn an_action_that_is_gone_fails_no_more() {
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], grouped()));
    world.alert(A, Some(1000 * HOUR));
    without_mail(&mut world, HOUR as u64 / 2);
    assert_eq!(firing(&world, "Action Failing"), 1);
    // An attempt is under way then.
    while world.delivered.is_empty() {
        world.wait(1_000);
    }
    let mail = world.delivered[0].1.action.clone();
    assert_eq!(mail.kind, "mail");
    world.install(config(vec![action("ops", "log")], grouped()), vec![(mail, Removed::Drop)]);
    assert_eq!(firing(&world, "Action Failing"), 0);
    world.outcome_of_last(Err(Failure::transient("535 refused")));
    assert_eq!(firing(&world, "Action Failing"), 0);
}

/// Attempts that tell of other actions alone say so again, too.
#[test]
fn an_action_fails_on_while_it_has_but_the_word_of_another_to_tell() {
    let kinds = ["log", "mail", "hook"].map(|kind| action("ops", kind));
    let mut world = World::new(config(kinds.into(), grouped()));
    world.alert(A, Some(1000 * HOUR));
    let away = ["mail", "hook"];
    with_away(&mut world, &away, HOUR as u64 / 2);
    assert_eq!(firing(&world, "Action Failing"), 2);
    let first: Vec<_> =
        world.machine.deliveries().filter(|of| of.action.kind == "mail").map(|of| of.id).collect();
    let which = DeliverySelection::One(first[0]);
    world.input(Input::Deliveries(DeliveryCommand { which, verb: DeliveryVerb::Drop, by: "test".into() }));
    let told = with_away(&mut world, &away, HOUR as u64 / 2);
    assert!(told.iter().all(|(_, firing)| *firing == 1), "it ends again and again: {told:?}");
    assert_eq!(firing(&world, "Action Failing"), 2);
}

/// What failed last week says nothing of today.
#[test]
fn failures_with_a_long_pause_between_are_no_failing() {
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], grouped()));
    world.alert(A, Some(1000 * HOUR));
    without_mail(&mut world, 34_000);
    let which = DeliverySelection::One(world.machine.deliveries().next().expect("it waits").id);
    world.input(Input::Deliveries(DeliveryCommand { which, verb: DeliveryVerb::Drop, by: "test".into() }));
    world.far_end = Some(Ok(Receipt::Sent));
    world.now = world.now.plus(1);
    world.alert(&[("event", "Other")], Some(1000 * HOUR));
    assert_eq!(without_mail(&mut world, 290_000), [], "the failures of before count no more");
}

/// Two that fail would tell each other of it for ever.
#[test]
fn what_is_said_of_an_action_that_fails_gives_no_cause_for_more() {
    let mut world = World::new(config(vec![action("ops", "log"), action("ops", "mail")], grouped()));
    world.far_end = None;
    world.alert(A, Some(1000 * HOUR));
    world.wait(31_000);
    // The log tells the alert itself and is away from then on.
    let log = world.delivered.iter().find(|(_, of)| of.action.kind == "log").expect("told").1.clone();
    let (delivery, attempt) = (log.delivery, log.attempt);
    world.input(Input::Outcome(Outcome {
        delivery,
        attempt,
        result: Ok(Receipt::Sent),
        took_ms: 1,
        led: true,
    }));
    world.outcome_of_last(Err(Failure::transient("away")));
    world.far_end = Some(Err(Failure::transient("away")));
    world.wait(HOUR as u64 / 2);
    assert_eq!(firing(&world, "Action Failing"), 1, "of the mail alone");
}

#[test]
fn a_wall_clock_that_is_set_is_said_from_two_seconds_on() {
    for (moved, said) in [(1_999, 0), (-1_999, 0), (2_000, 1), (-2_000, 1)] {
        let mut world = World::new(config(vec![action("ops", "log")], grouped()));
        world.input(Input::WallClock(OFFSET + moved));
        assert_eq!(firing(&world, "Clock Jumped"), said, "{moved} ms");
    }
}

/// The process was down for longer than a delivery may wait: it has one more try.
#[test]
fn what_waited_too_long_while_the_process_was_down_is_tried_once_before_it_is_given_up() {
    for (far_end, dead) in [(Ok(Receipt::Sent), 0), (Err(Failure::transient("away")), 1)] {
        let mut world = World::new(config(vec![action("ops", "log")], grouped()));
        world.far_end = Some(Err(Failure::transient("away")));
        world.alert(A, Some(10_000 * HOUR));
        world.wait(120_000);
        let id = world.delivered[0].1.delivery;
        let mut world = world.restored();
        (world.now, world.far_end) = (world.now.plus(100 * HOUR as u64), Some(far_end));
        world.delivered.clear();
        world.start();
        world.wait(1_000);
        assert!(world.delivered.iter().any(|(_, deliver)| deliver.delivery == id), "it has a try");
        let given_up = world.records().filter(|what| matches!(what, Decided::DeadLetter { .. }));
        assert_eq!(given_up.count(), dead);
    }
}

/// A day of ten groups costs what it costs beside a thousand groups that rest.
#[test]
fn groups_at_rest_have_one_timer_each_and_nothing_to_do() {
    let steps_beside = |groups: u32| {
        let route = Route { repeat_interval_ms: Some(1_000 * HOUR as u64), ..grouped() };
        let mut world = World::new(config(vec![action("ops", "log")], route));
        for group in 0..groups {
            world.alert(&[("event", &format!("rests {group}"))], Some(10_000 * HOUR));
        }
        world.wait(HOUR as u64);
        assert!(
            world.machine.timers.len() <= 2 * groups as usize + 2,
            "{} timers",
            world.machine.timers.len()
        );
        let before = world.journal.len();
        for minute in 0..600 {
            world.alert(&[("event", &format!("busy {}", minute % 10))], Some(10_000 * HOUR));
            world.wait(60_000);
        }
        world.journal.len() - before
    };
    assert_eq!(steps_beside(1_000), steps_beside(1));
}
