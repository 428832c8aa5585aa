//! Clients that check in: silence becomes an alert and then an end, a return is one event, and a name is its holder's.

use super::*;
use crate::{
    config::{CLIENTS_MAX, CheckIns},
    effect::ClientChange,
    input::{CheckIn, ClientReport, ForgetClient},
};

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// Period and grace where a config says nothing.
const SILENCE: u64 = 215 * MINUTE;

fn with(check_ins: CheckIns) -> Config {
    let mut config = config(vec![action("ops", "log")], Route { group_wait_ms: Some(0), ..grouped() });
    config.check_ins = check_ins;
    config
}

fn world() -> World {
    World::new(with(CheckIns::default()))
}

fn said(incarnation: u64) -> ClientReport {
    ClientReport { incarnation, version: "1".into(), ..ClientReport::default() }
}

impl World {
    fn says(&mut self, client: &str, said: ClientReport) {
        let (client, address) = (client.into(), "192.0.2.7".into());
        self.input(Input::CheckIn(CheckIn { client, address, said }));
    }

    fn checks_in(&mut self, client: &str) {
        self.says(client, said(1));
    }

    fn client_changes(&self) -> Vec<(u64, ClientChange)> {
        let records = self.effects.iter().filter_map(|effect| match effect {
            Effect::Record(record) => Some(record),
            _ => None,
        });
        let changes = records.filter_map(|record| match &record.what {
            Decided::Client { change, .. } => Some((record.at.0, *change)),
            _ => None,
        });
        changes.collect()
    }

    fn state_of(&self, client: &str) -> Option<ClientState> {
        self.machine.client(client).map(|view| view.state(self.now))
    }

    /// Names of clients whose alert fires.
    fn missing(&self) -> Vec<String> {
        let fires = self.machine.alerts().filter(|alert| alert.is_firing());
        let about = fires.filter(|alert| alert.label("event") == CLIENT_MISSING);
        let mut names: Vec<_> = about.map(|alert| String::from(alert.label("client"))).collect();
        names.sort();
        names
    }

    /// Own alerts about clients that fire: event, number, summary.
    fn events(&self) -> Vec<(String, String, String)> {
        let fires = self.machine.alerts().filter(|alert| alert.is_firing());
        let about = fires.filter(|alert| !alert.label("client").is_empty());
        let mut found: Vec<_> = about
            .map(|alert| {
                let summary = alert.annotations().next().map(|(_, text)| text).unwrap_or_default();
                (alert.label("event").into(), alert.label("event_id").into(), summary.into())
            })
            .collect();
        found.sort();
        found
    }
}

#[test]
fn silence_is_a_state_and_then_an_alert_that_a_return_ends() {
    let mut world = world();
    world.checks_in("boston/ws-1");
    world.wait(200 * MINUTE - 1);
    assert_eq!(world.state_of("boston/ws-1"), Some(ClientState::Present));
    world.wait(1);
    assert_eq!(world.state_of("boston/ws-1"), Some(ClientState::Late));
    assert_eq!(world.machine.clients_by_state(world.now), [0, 1, 0]);
    world.wait(15 * MINUTE - 1);
    assert!(world.missing().is_empty());
    world.wait(1);
    assert_eq!(world.missing(), ["boston/ws-1"]);
    assert_eq!(world.machine.clients_by_state(world.now), [0, 0, 1]);
    let alert =
        world.machine.alerts().find(|alert| alert.label("event") == CLIENT_MISSING).expect("it fires");
    assert_eq!(alert.severity(), Some(Severity::Minor));
    let words = "boston/ws-1 has not checked in for 3h 35m; it was last at 192.0.2.7";
    assert_eq!(alert.annotations().next(), Some(("summary", words)));
    assert_eq!(world.machine.client("boston/ws-1").expect("known").alert(), alert.fingerprint());
    // It lasts, whatever the resolve timeout is.
    world.wait(10 * DAY);
    assert_eq!(world.missing().len(), 1);
    world.checks_in("boston/ws-1");
    assert!(world.missing().is_empty());
    assert_eq!(world.state_of("boston/ws-1"), Some(ClientState::Present));
    let changes: Vec<_> = world.client_changes().into_iter().map(|(_, change)| change).collect();
    assert_eq!(changes, [ClientChange::Enrolled, ClientChange::Missing, ClientChange::Returned]);
    // And silence counts again.
    world.wait(SILENCE);
    assert_eq!(world.missing().len(), 1);
}

#[test]
fn a_client_goes_after_more_than_thirty_days_and_a_return_is_one_event() {
    let mut world = world();
    world.checks_in("a");
    world.wait(30 * DAY);
    assert_eq!(world.state_of("a"), Some(ClientState::Missing), "not at exactly thirty days");
    world.wait(1);
    assert_eq!((world.state_of("a"), world.machine.client_count()), (None, 0));
    assert!(world.missing().is_empty(), "what is not in the list is not missing");
    let words = "a was silent for more than 30d";
    assert_eq!(world.events(), [("Removed Client".into(), "25".into(), words.into())]);
    world.wait(DAY);
    world.checks_in("a");
    assert_eq!(
        world.events(),
        [("Client Enrolled".into(), String::new(), "a checked in for the first time, from 192.0.2.7".into())]
    );
    let changes: Vec<_> = world.client_changes().into_iter().map(|(_, change)| change).collect();
    use ClientChange::{Enrolled, Missing, Removed};
    assert_eq!(changes, [Enrolled, Missing, Removed, Enrolled]);
    assert_eq!(world.client_changes()[2].0, 30 * DAY + 1);
}

#[test]
fn a_router_that_was_down_misses_nobody_and_counts_no_day_of_it() {
    for downtime in [10, 100 * MINUTE, 40 * DAY] {
        let mut world = world();
        world.checks_in("gone");
        world.wait(SILENCE);
        world.checks_in("a");
        world.wait(150 * MINUTE);
        assert_eq!(world.missing(), ["gone"]);
        world.input(Input::Stopping);
        world = world.restored();
        // The clock of the journal stands still meanwhile; the wall clock does not.
        world.input(Input::Started(Started {
            incarnation: 8,
            seed: [1, 2],
            wall_offset_ms: OFFSET + downtime as i64,
            version: "test".into(),
            damage: vec![],
            install: None,
        }));
        let left = if downtime < MINUTE { SILENCE - 150 * MINUTE } else { SILENCE };
        world.wait(left - 1);
        assert_eq!(world.missing(), ["gone"], "after {downtime} ms");
        world.wait(1);
        assert_eq!(world.missing(), ["a", "gone"], "after {downtime} ms");
        // Thirty days in which the router listened.
        let listened = SILENCE + 150 * MINUTE + left;
        world.wait(30 * DAY - listened);
        assert!(world.state_of("gone").is_some(), "after {downtime} ms");
        world.wait(1);
        assert!(world.state_of("gone").is_none(), "after {downtime} ms");
    }
}

#[test]
fn a_machine_that_was_suspended_misses_nobody() {
    let mut world = world();
    world.checks_in("gone");
    world.wait(SILENCE);
    world.checks_in("a");
    world.wait(10 * MINUTE);
    world.input(Input::Advanced);
    // The clock goes on meanwhile, and nobody has a turn.
    world.now = world.now.plus(3 * DAY);
    world.input(Input::Advanced);
    assert_eq!(world.missing(), ["gone"]);
    assert_eq!(world.state_of("a"), Some(ClientState::Present));
    world.wait(SILENCE);
    assert_eq!(world.missing(), ["a", "gone"]);
    world.wait(30 * DAY - 2 * SILENCE - 10 * MINUTE);
    assert!(world.state_of("gone").is_some(), "three days do not count");
    world.wait(1);
    assert!(world.state_of("gone").is_none());
}

#[test]
fn a_name_is_its_holders_while_that_is_heard_of_and_then_the_next_ones() {
    let mut world = world();
    world.says("a", said(1));
    world.wait(200 * MINUTE - 1);
    let refused = CheckInRefused::NameTaken { address: "192.0.2.7".into() };
    assert_eq!(world.machine.refuses_check_in("a", 2, world.now), Some(refused));
    assert_eq!(world.machine.refuses_check_in("a", 1, world.now), None);
    // Whoever asked too early: the router decides by itself.
    world.says("a", ClientReport { waiting: 7, ..said(2) });
    let view = world.machine.client("a").expect("known");
    assert_eq!((view.said().incarnation, view.said().waiting), (1, 0));
    let ignored = world.records().find_map(|what| match what {
        Decided::Ignored { verb, why, .. } => Some(format!("{verb}: {why}")),
        _ => None,
    });
    assert_eq!(ignored.as_deref(), Some("check_in: another client at 192.0.2.7 is called `a`"));
    // An impostor's try keeps nobody alive.
    world.wait(1);
    assert_eq!(world.state_of("a"), Some(ClientState::Late));
    world.says("a", said(2));
    let words = "a is another client now, at 192.0.2.7; the one before was at 192.0.2.7";
    assert!(world.events().contains(&("Client Replaced".into(), String::new(), words.into())));
    assert_eq!(world.machine.client("a").expect("known").said().incarnation, 2);
    // The first one is the stranger now.
    assert!(world.machine.refuses_check_in("a", 1, world.now).is_some());
    world.wait(SILENCE);
    assert_eq!(world.missing(), ["a"]);
    world.says("a", said(3));
    assert!(world.missing().is_empty());
    let changes: Vec<_> = world.client_changes().into_iter().map(|(_, change)| change).collect();
    use ClientChange::{Enrolled, Missing, Replaced};
    assert_eq!(changes, [Enrolled, Replaced, Missing, Replaced]);
}

#[test]
fn one_more_than_advised_is_taken_and_said_once_and_a_cap_refuses() {
    let rules = CheckIns { warn_above: 2, most: Some(3), ..CheckIns::default() };
    let mut world = World::new(with(rules));
    let said_too_many = |world: &World| {
        world.machine.alerts().any(|alert| alert.is_firing() && alert.label("event") == "Too Many Clients")
    };
    world.checks_in("a");
    world.checks_in("b");
    assert!(!said_too_many(&world));
    world.checks_in("c");
    assert!(said_too_many(&world) && world.machine.client_count() == 3);
    assert_eq!(world.machine.refuses_check_in("d", 1, world.now), Some(CheckInRefused::Full { most: 3 }));
    world.checks_in("d");
    world.checks_in("c");
    assert_eq!(world.machine.client_count(), 3);
    let counts = |world: &World| {
        let counts = world.records().filter_map(|what| match what {
            Decided::ClientCount { count, advised, is_over } => Some((*count, *advised, *is_over)),
            _ => None,
        });
        counts.collect::<Vec<_>>()
    };
    assert_eq!(counts(&world), [(3, 2, true)]);
    world.wait(DAY);
    assert!(said_too_many(&world), "it lasts");
    world.input(Input::ForgetClient(ForgetClient { name: "b".into(), by: "ann".into() }));
    assert!(!said_too_many(&world) && world.machine.client_count() == 2);
    assert_eq!(world.missing(), ["a", "c"], "who is forgotten is not missing");
    // A config may move the mark.
    world.install(with(CheckIns { warn_above: 1, ..rules }), vec![]);
    assert!(said_too_many(&world));
    world.install(with(CheckIns { warn_above: 5_000, ..rules }), vec![]);
    assert!(!said_too_many(&world));
    assert_eq!(counts(&world).len(), 4);
    assert_eq!(CheckIns::default().most(), CLIENTS_MAX);
}

#[test]
fn the_5001st_client_is_taken_with_one_word() {
    let mut world = world();
    for number in 0..5_000 {
        world.checks_in(&format!("c-{number}"));
    }
    let warned = |world: &World| {
        let counts = world.records().filter(|what| matches!(what, Decided::ClientCount { .. }));
        counts.count()
    };
    assert_eq!((warned(&world), world.machine.client_count()), (0, 5_000));
    world.checks_in("one more");
    world.checks_in("and one");
    assert_eq!((warned(&world), world.machine.client_count()), (1, 5_002));
}

#[test]
fn who_roams_is_told_of_at_the_new_router_and_at_the_old_one() {
    let mut world = world();
    world.says("a", ClientReport { comes_from: Some("branch".into()), ..said(1) });
    let joined = ("Roaming Client added to Server".into(), "28".into(), "a comes from branch".into());
    assert_eq!(world.events(), [joined], "one event, and no enrolment besides");
    // It had no answer, and says the same once more.
    world.says("a", ClientReport { comes_from: Some("branch".into()), ..said(1) });
    world.says("a", said(1));
    let leaves = ClientReport { leaves_for: Some("branch".into()), ..said(1) };
    world.says("a", ClientReport { incarnation: 2, ..leaves.clone() });
    assert!(world.state_of("a").is_some(), "another one cannot say that it leaves");
    world.says("a", leaves.clone());
    assert_eq!(world.state_of("a"), None);
    let left = ("Roaming Client deleted from Server".into(), "29".into(), "a has left for branch".into());
    assert!(world.events().contains(&left));
    // Not a loss.
    world.wait(DAY);
    assert!(world.missing().is_empty());
    world.says("a", leaves);
    assert_eq!(world.state_of("a"), None, "who leaves does not come in by that");
    // It is missing here before its word to leave gets through.
    world.says("a", ClientReport { comes_from: Some("branch".into()), ..said(1) });
    world.wait(SILENCE);
    assert_eq!(world.missing(), ["a"]);
    world.says("a", ClientReport { leaves_for: Some("other".into()), ..said(1) });
    assert!(world.missing().is_empty());
    let changes: Vec<_> = world.client_changes().into_iter().map(|(_, change)| change).collect();
    use ClientChange::{Joined, Left, Missing};
    assert_eq!(changes, [Joined, Left, Joined, Missing, Left]);
}

#[test]
fn a_reload_gives_time_and_labels_and_misses_nobody_at_once() {
    let mut world = world();
    world.checks_in("a");
    world.wait(100 * MINUTE);
    let quick = CheckIns { period_ms: 10 * MINUTE, grace_ms: 5 * MINUTE, ..CheckIns::default() };
    world.install(with(quick), vec![]);
    world.wait(15 * MINUTE - 1);
    assert!(world.missing().is_empty(), "it gets one whole period");
    world.wait(1);
    assert_eq!(world.missing(), ["a"]);
    let mut labelled = with(quick);
    labelled.own_labels = [("site".into(), "boston".into())].into();
    world.install(labelled, vec![]);
    let fires: Vec<_> = world.machine.alerts().filter(|alert| alert.is_firing()).collect();
    let missing: Vec<_> = fires.iter().filter(|alert| alert.label("event") == CLIENT_MISSING).collect();
    assert_eq!((missing.len(), missing[0].label("site")), (1, "boston"));
    let before = world.machine.client("a").expect("known").due();
    world.install(with(CheckIns { period_ms: DAY, ..quick }), vec![]);
    assert!(world.missing().is_empty() && world.state_of("a") == Some(ClientState::Present));
    assert_ne!(world.machine.client("a").expect("known").due(), before);
    let last = world.client_changes().last().map(|(_, change)| *change);
    assert_eq!(last, Some(ClientChange::Awaited));
    world.wait(DAY);
    assert_eq!(world.missing(), ["a"]);
}

#[test]
fn a_storm_of_missing_clients_leaves_room_for_others_in_its_record() {
    let count = 31_000;
    let mut world = World::new(with(CheckIns { warn_above: u32::MAX, ..CheckIns::default() }));
    for number in 0..count {
        world.append(Input::CheckIn(CheckIn {
            client: format!("c-{number}").into(),
            address: "192.0.2.7".into(),
            said: said(number),
        }));
    }
    while world.machine.next_effect().is_some() {}
    world.now = world.machine.next_due().max(At(SILENCE));
    world.append(Input::Advanced);
    assert_eq!(world.machine.clients_by_state(world.now)[2], 30_000);
    assert_eq!(world.machine.next_due(), world.now.plus(1), "the rest is due at once");
    world.now = world.now.plus(1);
    world.append(Input::Advanced);
    assert_eq!(world.machine.clients_by_state(world.now), [0, 0, count]);
    let firing = world.machine.alerts().filter(|alert| alert.label("event") == CLIENT_MISSING).count();
    assert_eq!(firing as u64, count);
}

#[test]
fn what_is_held_back_late_or_given_up_on_the_way_to_another_server_is_counted() {
    let forward = ActionSpec { patient: true, ..action("up", "forward") };
    let up = Route {
        receiver: Some("up".into()),
        matchers: vec![Matcher::parse("severity=critical").expect("valid")],
        goes_on: true,
        ..each()
    };
    let mut config = config(vec![action("ops", "log")], Route { routes: vec![up], ..grouped() });
    config.receivers.push(Receiver { name: "up".into(), actions: vec![forward] });
    let mut world = World::new(config);
    let tally = |world: &World| {
        let up = world.machine.pending().into_iter().find(|of| of.action.receiver == "up");
        up.expect("it is there").tally
    };
    let critical: &[(&str, &str)] = &[("event", "E"), ("host", "c"), ("severity", "critical")];
    world.send(A, Some("1"), None);
    world.send(A, Some("2"), None);
    // A repetition and an end are no alerts more.
    world.send(A, Some("2"), None);
    world.send(B, None, Some(1_000));
    world.wait(MINUTE);
    world.send(critical, Some("1"), None);
    assert_eq!(tally(&world), Tally { held_back: 3, ..Tally::default() });
    world.far_end = Some(Err(Failure::transient("away")));
    world.send(critical, Some("2"), None);
    world.far_end = Some(Ok(Receipt::delivered("ok")));
    world.wait(10 * MINUTE);
    assert_eq!(tally(&world), Tally { held_back: 3, delayed: 1, dropped: 0 });
    world.far_end = Some(Err(Failure::permanent("never")));
    world.send(critical, Some("3"), None);
    assert_eq!(tally(&world), Tally { held_back: 3, delayed: 1, dropped: 1 });
    assert_eq!(tally(&world.restored()), Tally { held_back: 3, delayed: 1, dropped: 1 });
}

/// What came late or was dropped at a client is said here once it checks in, once, and of another client nothing.
#[test]
fn what_a_client_dropped_or_sent_late_is_said_at_its_router() {
    let mut world = world();
    let report = |incarnation, delayed, dropped| ClientReport { delayed, dropped, ..said(incarnation) };
    let troubles = |world: &World| {
        let all = world.events().into_iter().filter(|(event, ..)| event == LOG_FORWARDING_ERROR);
        all.map(|(_, number, words)| (number, words)).collect::<Vec<_>>()
    };
    world.says("ws-1", report(1, 5, 1));
    world.says("ws-1", report(1, 5, 1));
    assert_eq!(troubles(&world), [], "what was before it came is nobody's business");
    world.says("ws-1", report(1, 7, 1));
    assert_eq!(troubles(&world), [("34".into(), "2 alerts of ws-1 came late".into())]);
    world.says("ws-1", report(1, 8, 4));
    let words = "3 alerts of ws-1 were dropped there, and 1 came late";
    assert!(troubles(&world).contains(&("34".into(), words.into())), "{:?}", troubles(&world));
    world.wait(SILENCE + DAY);
    let before = troubles(&world).len();
    world.says("ws-1", report(2, 100, 100));
    assert_eq!(troubles(&world).len(), before, "another client");
}
