//! Heartbeats: silence becomes an alert, failures and runs without an end too, and a success ends it.

use super::*;
use crate::{
    config::Heartbeat,
    effect::HeartbeatChange,
    input::{Ping, PingKind},
};

const MINUTE: u64 = 60_000;

fn heartbeat(name: &str) -> Heartbeat {
    Heartbeat { name: name.into(), period_ms: 10 * MINUTE, grace_ms: 2 * MINUTE, ..Heartbeat::default() }
}

fn with(heartbeats: Vec<Heartbeat>) -> Config {
    let mut config = config(vec![action("ops", "log")], Route { group_wait_ms: Some(0), ..grouped() });
    config.heartbeats = heartbeats;
    config
}

fn world(heartbeats: Vec<Heartbeat>) -> World {
    World::new(with(heartbeats))
}

impl World {
    fn ping(&mut self, name: &str, kind: PingKind) {
        self.ping_with(name, kind, "");
    }

    fn ping_with(&mut self, name: &str, kind: PingKind, words: &str) {
        let (name, words) = (name.into(), words.into());
        self.input(Input::Ping(Ping { name, kind, client: "cron".into(), words }));
    }

    fn heartbeat(&self, name: &str) -> HeartbeatView<'_> {
        let all = (0..self.machine.heartbeat_bound()).filter_map(|row| self.machine.heartbeat_in(row));
        let mut named = all.filter(|view| view.name() == name);
        named.next().expect("it is known")
    }

    fn state(&self, name: &str) -> HeartbeatState {
        self.heartbeat(name).state()
    }

    /// What was decided about heartbeats, and when.
    fn heartbeat_changes(&self) -> Vec<(u64, HeartbeatChange)> {
        let records = self.effects.iter().filter_map(|effect| match effect {
            Effect::Record(record) => Some(record),
            _ => None,
        });
        let changes = records.filter_map(|record| match &record.what {
            Decided::Heartbeat { change, .. } => Some((record.at.0, *change)),
            _ => None,
        });
        changes.collect()
    }

    /// The alerts about heartbeats that fire: heartbeat, summary, output.
    fn complaints(&self) -> Vec<(String, String, String)> {
        let alerts = self.machine.alerts().filter(|alert| {
            assert!(alert.label("heartbeat").is_empty() || alert.label("source") == "ams2");
            alert.is_firing() && !alert.label("heartbeat").is_empty()
        });
        let mut found: Vec<_> = alerts
            .map(|alert| {
                let text = |wanted: &str| {
                    let mut texts = alert.annotations().filter(|(name, _)| *name == wanted);
                    texts.next().map(|(_, text)| String::from(text)).unwrap_or_default()
                };
                (alert.label("heartbeat").into(), text("summary"), text("output"))
            })
            .collect();
        found.sort();
        found
    }
}

#[test]
fn silence_becomes_an_alert_at_its_time_and_a_success_ends_it() {
    let labels = [("severity".into(), "critical".into()), ("site".into(), "boston".into())].into();
    let mut world = world(vec![Heartbeat { labels, ..heartbeat("backup") }]);
    assert_eq!(world.state("backup"), HeartbeatState::Waiting);
    world.wait(5 * MINUTE);
    world.ping("backup", PingKind::Success);
    assert_eq!(world.heartbeat("backup").due(), Some(Wall(17 * MINUTE as i64 + OFFSET)));
    world.wait(12 * MINUTE - 1);
    assert_eq!((world.state("backup"), world.told().len()), (HeartbeatState::Up, 0));
    world.wait(1);
    assert_eq!(world.state("backup"), HeartbeatState::Missing);
    let said = "backup was not heard of for 12m";
    assert_eq!(world.complaints(), [("backup".into(), said.into(), String::new())]);
    let alert = world.machine.alerts().find(|alert| alert.label("heartbeat") == "backup").expect("it fires");
    assert_eq!(
        alert.labels().collect::<Vec<_>>(),
        [
            ("event", "Heartbeat Missing"),
            ("heartbeat", "backup"),
            ("severity", "critical"),
            ("site", "boston"),
            ("source", "ams2")
        ]
    );
    assert_eq!((alert.client(), alert.severity()), ("ams2", Some(Severity::Critical)));
    assert_eq!(world.heartbeat("backup").alert(), alert.fingerprint());
    // It lasts however long, and is told again as anything is.
    world.wait(10 * 24 * 60 * MINUTE);
    assert_eq!(world.complaints().len(), 1);
    world.ping_with("backup", PingKind::Success, "all well");
    assert!(world.complaints().is_empty());
    world.wait(2 * MINUTE);
    let told = world.told();
    assert_eq!((told[0].0, told[0].1), (17 * MINUTE, NotifyReason::FirstTime));
    assert_eq!(told.last().map(|told| (told.2, told.3)), Some((0, 1)), "{told:?}");
    let changes: Vec<_> = world.heartbeat_changes().into_iter().map(|(_, change)| change).collect();
    assert_eq!(changes, [HeartbeatChange::Heard, HeartbeatChange::Missing, HeartbeatChange::Returned]);
}

#[test]
fn each_decision_says_why_and_names_the_alert() {
    let mut world = world(vec![heartbeat("backup")]);
    world.wait(12 * MINUTE);
    world.ping("backup", PingKind::Exit(3));
    world.ping("backup", PingKind::Success);
    world.ping_with("backup", PingKind::Log, "phase two\nof three");
    world.ping("nobody", PingKind::Success);
    let alert = world.heartbeat("backup").alert();
    let said = |wanted: &Decided| match wanted {
        Decided::Heartbeat { name, alert: about, by, why, .. } => {
            assert_eq!((name.as_str(), *about), ("backup", alert));
            Some(format!("{by}: {why}"))
        }
        Decided::Ignored { verb, by, why, .. } => Some(format!("{verb} {by}: {why}")),
        _ => None,
    };
    assert_eq!(
        world.records().filter_map(said).collect::<Vec<_>>(),
        [
            ": backup was never heard of, for 12m",
            "cron: backup: the last run failed with exit code 3",
            "cron: backup was heard again: a run ended well",
            "cron: phase two",
            "ping cron: the configuration has no heartbeat `nobody`",
        ]
    );
}

#[test]
fn a_failure_is_said_at_once_with_its_words_and_each_is_an_occurrence() {
    let mut world = world(vec![heartbeat("backup")]);
    world.install(
        Config { heartbeats: vec![heartbeat("backup")], ..config(vec![action("ops", "log")], each()) },
        vec![],
    );
    world.delivered.clear();
    world.wait(MINUTE);
    world.ping_with("backup", PingKind::Fail, "disk full");
    let failed = ("backup".into(), "backup: the last run failed".into(), "disk full".into());
    assert_eq!(world.complaints(), [failed]);
    assert_eq!(world.state("backup"), HeartbeatState::Failed(None));
    world.ping("backup", PingKind::Exit(3));
    let failed = "backup: the last run failed with exit code 3";
    assert_eq!(world.complaints(), [("backup".into(), failed.into(), String::new())]);
    // What is wrong already is not missed besides.
    world.wait(60 * MINUTE);
    assert_eq!(world.state("backup"), HeartbeatState::Failed(Some(3)));
    world.ping_with("backup", PingKind::Exit(0), "again");
    let told: Vec<_> = world.told().iter().map(|told| told.1).collect();
    assert_eq!(told, [NotifyReason::Occurrence, NotifyReason::Occurrence, NotifyReason::Ended]);
    // And from here on silence counts again.
    world.wait(12 * MINUTE);
    assert_eq!(world.state("backup"), HeartbeatState::Missing);
}

#[test]
fn a_run_has_to_end_in_time_where_that_is_said_and_the_first_start_counts() {
    let limited = Heartbeat { max_duration_ms: Some(30 * MINUTE), ..heartbeat("limited") };
    let mut world = world(vec![limited, heartbeat("free")]);
    world.ping("limited", PingKind::Start);
    world.ping("free", PingKind::Start);
    world.wait(12 * MINUTE);
    // A start alone does not stand for a run that ended, unless there is a time by which it must.
    let states = |world: &World| (world.state("limited"), world.state("free"));
    assert_eq!(states(&world), (HeartbeatState::Waiting, HeartbeatState::Missing));
    world.ping("limited", PingKind::Start);
    world.wait(18 * MINUTE - 1);
    assert_eq!(world.state("limited"), HeartbeatState::Waiting);
    world.wait(1);
    assert_eq!(world.state("limited"), HeartbeatState::Overrun);
    assert_eq!(world.complaints()[1].1, "limited: a run did not end within 30m");
    // A new run does not take back that the last one never ended; its end does.
    world.ping("limited", PingKind::Start);
    world.wait(5 * MINUTE);
    assert_eq!(world.state("limited"), HeartbeatState::Overrun);
    world.ping("limited", PingKind::Success);
    world.ping("free", PingKind::Success);
    assert_eq!(states(&world), (HeartbeatState::Up, HeartbeatState::Up));
    assert!(world.complaints().is_empty() && world.heartbeat("limited").started().is_none());
    // Between its runs silence counts.
    world.wait(12 * MINUTE);
    assert_eq!(world.state("limited"), HeartbeatState::Missing);
}

#[test]
fn a_reload_resets_no_timer_a_new_one_is_waited_for_and_one_that_goes_ends_its_alert() {
    let mut world = world(vec![heartbeat("a"), heartbeat("b")]);
    world.ping("a", PingKind::Success);
    world.wait(6 * MINUTE);
    let due = world.heartbeat("a").due();
    // Others come before and behind it; one is new.
    world.install(with(vec![heartbeat("c"), heartbeat("b"), heartbeat("a")]), vec![]);
    assert_eq!(world.heartbeat("a").due(), due);
    assert_eq!(world.heartbeat("c").due(), Some(Wall(18 * MINUTE as i64 + OFFSET)));
    world.wait(6 * MINUTE);
    assert_eq!(world.complaints().len(), 2, "a and b are missing");
    world.install(with(vec![heartbeat("c"), heartbeat("a")]), vec![]);
    let left: Vec<_> = world.complaints().into_iter().map(|complaint| complaint.0).collect();
    assert_eq!(left, ["a"]);
    world.wait(6 * MINUTE);
    assert_eq!(world.state("c"), HeartbeatState::Missing);
    world.install(with(vec![]), vec![]);
    assert!(world.complaints().is_empty());
    assert!((0..world.machine.heartbeat_bound()).all(|row| world.machine.heartbeat_in(row).is_none()));
    world.wait(60 * MINUTE);
    let left = world.machine.alerts().filter(|alert| !alert.label("heartbeat").is_empty()).count();
    assert_eq!(left, 0, "their ends were told, and nothing of them is left");
    // The same name again is another heartbeat.
    world.install(with(vec![heartbeat("a")]), vec![]);
    assert_eq!(world.state("a"), HeartbeatState::Waiting);
}

#[test]
fn another_rhythm_counts_from_the_last_success_and_misses_nobody_at_once() {
    let every = |minutes: u64| Heartbeat { period_ms: minutes * MINUTE, ..heartbeat("a") };
    let mut world = world(vec![every(60)]);
    world.ping("a", PingKind::Success);
    world.wait(30 * MINUTE);
    world.install(with(vec![every(40)]), vec![]);
    assert_eq!(world.heartbeat("a").due(), Some(Wall(42 * MINUTE as i64 + OFFSET)));
    // By the new one it would be missing since long; it gets one whole period.
    world.install(with(vec![every(10)]), vec![]);
    assert_eq!(world.heartbeat("a").due(), Some(Wall(42 * MINUTE as i64 + OFFSET)));
    world.wait(12 * MINUTE);
    assert_eq!(world.state("a"), HeartbeatState::Missing);
    // It is given more time than it has taken.
    world.install(with(vec![every(600)]), vec![]);
    assert_eq!(world.state("a"), HeartbeatState::Waiting);
    assert!(world.complaints().is_empty());
    world.wait(590 * MINUTE + 2 * MINUTE);
    assert_eq!(world.state("a"), HeartbeatState::Missing);
}

#[test]
fn other_labels_move_an_alert_that_fires_and_it_goes_on_to_say_the_same() {
    let of = |site: &str| {
        let labels = [("event".into(), "Backup Late".into()), ("site".into(), site.into())].into();
        Heartbeat { labels, ..heartbeat("a") }
    };
    let mut world = world(vec![of("boston")]);
    world.ping_with("a", PingKind::Fail, "disk full");
    world.install(with(vec![of("boston")]), vec![]);
    let before = world.complaints();
    let mut moved = with(vec![of("chicago")]);
    moved.own_labels = [("server".into(), "one".into())].into();
    world.install(moved, vec![]);
    assert_eq!(world.complaints(), before);
    let fires = |world: &World| {
        let firing = world.machine.alerts().filter(|alert| alert.is_firing());
        let sites = firing.filter(|alert| !alert.label("heartbeat").is_empty());
        sites.map(|alert| format!("{} {}", alert.label("site"), alert.label("server"))).collect::<Vec<_>>()
    };
    assert_eq!(fires(&world), ["chicago one"]);
    world.ping("a", PingKind::Success);
    assert!(fires(&world).is_empty());
}

#[test]
fn a_router_that_was_down_for_long_misses_nobody_and_a_short_stop_forgets_nothing() {
    for downtime in [10, 11 * MINUTE, 3 * 24 * 60 * MINUTE] {
        let limited = Heartbeat { max_duration_ms: Some(30 * MINUTE), ..heartbeat("runs") };
        let mut world = world(vec![heartbeat("a"), limited, heartbeat("failed")]);
        world.ping("a", PingKind::Success);
        world.ping("runs", PingKind::Start);
        world.ping("failed", PingKind::Fail);
        world.wait(5 * MINUTE);
        world.input(Input::Stopping);
        world = world.restored();
        // The clock of the journal stands still meanwhile; the wall clock does not.
        let started = Started {
            incarnation: 8,
            seed: [1, 2],
            wall_offset_ms: OFFSET + downtime as i64,
            version: "test".into(),
            damage: vec![],
            install: None,
        };
        world.input(Input::Started(started));
        let short = downtime < MINUTE;
        // Seven of its twelve minutes are left, or all of them where its ping may have come meanwhile.
        let left = if short { 7 * MINUTE } else { 12 * MINUTE };
        world.wait(left - 1);
        let complaints: Vec<_> = world.complaints().into_iter().map(|complaint| complaint.0).collect();
        assert_eq!(complaints, ["failed"], "after {downtime} ms");
        world.wait(1);
        assert_eq!(world.state("a"), HeartbeatState::Missing, "after {downtime} ms");
        // The end of a run may have come meanwhile, too; but the next one is waited for.
        world.wait(25 * MINUTE - left);
        let runs = if short { HeartbeatState::Overrun } else { HeartbeatState::Missing };
        assert_eq!(world.state("runs"), runs, "after {downtime} ms");
    }
}

#[test]
fn a_machine_that_was_suspended_misses_nobody_and_a_timer_that_is_a_little_late_does() {
    for (pause, state) in [(20_000, HeartbeatState::Missing), (3 * 60 * MINUTE, HeartbeatState::Up)] {
        let limited = Heartbeat { max_duration_ms: Some(30 * MINUTE), ..heartbeat("runs") };
        let mut world = world(vec![heartbeat("a"), heartbeat("b"), limited]);
        world.ping("a", PingKind::Success);
        world.ping("b", PingKind::Success);
        world.ping("runs", PingKind::Start);
        world.wait(5 * MINUTE);
        world.ping("b", PingKind::Success);
        // The clock goes on meanwhile, and nobody has a turn until long after a's time.
        world.now = world.now.plus(7 * MINUTE + pause);
        world.input(Input::Advanced);
        assert_eq!(world.state("a"), state, "{pause}");
        assert_eq!((world.state("b"), world.state("runs")), (HeartbeatState::Up, HeartbeatState::Waiting));
        if pause > MINUTE {
            // From then on they have their whole time, the run as if it had ended.
            world.wait(12 * MINUTE - 1);
            assert!(world.complaints().is_empty());
            world.wait(1);
            assert_eq!(["a", "b", "runs"].map(|name| world.state(name)), [HeartbeatState::Missing; 3]);
        }
    }
}

#[test]
fn a_downtime_in_which_no_ping_was_due_changes_nothing() {
    let mut world = world(vec![Heartbeat { period_ms: 24 * 60 * MINUTE, ..heartbeat("a") }]);
    world.ping("a", PingKind::Success);
    world.wait(60 * MINUTE);
    let due = world.machine.state.heartbeats.due(0);
    world.input(Input::Stopping);
    let started = Started {
        incarnation: 8,
        seed: [1, 2],
        wall_offset_ms: OFFSET + 3 * HOUR,
        version: "test".into(),
        damage: vec![],
        install: None,
    };
    world.input(Input::Started(started));
    assert_eq!(world.machine.state.heartbeats.due(0), due);
    // When it was heard is the wall clock of that moment, whatever that did since.
    assert_eq!(world.heartbeat("a").heard(), Some(Wall(OFFSET)));
}

#[test]
fn ten_thousand_at_rest_are_no_work_and_as_many_missing_at_once_are_worked_on_one_by_one() {
    const MANY: usize = 10_000;
    let many: Vec<Heartbeat> = (0..MANY).map(|number| heartbeat(&format!("job-{number}"))).collect();
    let pieces_of_an_alert = |world: &mut World| {
        let batch = batch(A, None, Some(Wall(world.now.0 as i64 + OFFSET + HOUR)));
        let arrival = Input::Alerts(Arrival { client: "test".into(), batch: batch.into() });
        effort::most_of_a_piece(world, arrival).1
    };
    let mut none = world(vec![]);
    let mut world = world(many.clone());
    let at_rest = pieces_of_an_alert(&mut world);
    assert_eq!(at_rest, pieces_of_an_alert(&mut none), "they cost others nothing");
    assert_eq!(world.machine.state.heartbeats.len(), MANY);
    // Pings move due times; the timers keep one entry each.
    let timers = world.machine.timers.len();
    for round in 0..3 {
        world.wait(MINUTE);
        for number in 0..MANY {
            world.append(Input::Ping(Ping {
                name: format!("job-{number}").into(),
                kind: PingKind::Success,
                client: "cron".into(),
                words: String::new(),
            }));
        }
        assert!(world.machine.timers.len() <= timers + 8, "round {round}");
    }
    while world.machine.next_effect().is_some() {}
    // Nothing comes up until the first is due, and then once for all that are.
    world.effects.clear();
    let journal = world.journal.len();
    world.wait(12 * MINUTE - 1);
    let advanced = world.journal.len() - journal;
    assert!(advanced < 20, "{advanced} records while nothing was due");
    world.now = world.now.plus(1);
    let (most, pieces) = effort::most_of_a_piece(&mut world, Input::Advanced);
    assert_eq!(world.complaints().len(), MANY);
    // The piece that decides for the action of their one group has more.
    let of_lane = MANY as u64 * (6 * pieces::VISIT + pieces::CHANGE);
    assert!(pieces > MANY && most <= of_lane + pieces::PIECE_GRAINS, "{pieces} pieces, {most} grains in one");
    // And a config without them ends them one by one.
    let removed = Install {
        config: with(vec![]),
        text: String::new(),
        rule_version: 1,
        removed: vec![],
        by: "test".into(),
    };
    let (_, pieces) = effort::most_of_a_piece(&mut world, Input::ConfigInstalled(removed.into()));
    assert!(pieces > MANY && world.complaints().is_empty(), "{pieces}");
}

#[test]
fn a_restored_router_goes_on_with_each_heartbeat() {
    let limited = Heartbeat { max_duration_ms: Some(3 * MINUTE), ..heartbeat("runs") };
    let mut world = world(vec![heartbeat("a"), heartbeat("b"), limited]);
    world.ping("a", PingKind::Success);
    world.ping("b", PingKind::Fail);
    world.ping("runs", PingKind::Start);
    world = world.restored();
    world.wait(12 * MINUTE);
    let states = ["a", "b", "runs"].map(|name| world.state(name));
    assert_eq!(states, [HeartbeatState::Missing, HeartbeatState::Failed(None), HeartbeatState::Overrun]);
    world = world.restored();
    for name in ["a", "b", "runs"] {
        world.ping(name, PingKind::Success);
    }
    assert!(world.complaints().is_empty());
}
