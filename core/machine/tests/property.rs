//! Promises about every journal: random scripts, and the same ones for all builds.

use super::*;
use crate::{
    calendar::{Span, TimeInterval, TimeRange},
    config::{CheckIns, Heartbeat, InhibitRule, Muting},
    input::{CheckIn, ClientReport, ForgetClient, Ping, PingKind},
    silence::{SetSilence, SilenceId, SilenceOrder},
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Alert {
        host: u8,
        resolve: bool,
        id: Option<u8>,
    },
    /// Several in one request.
    Batch(Vec<(u8, bool, Option<u8>)>),
    Wait(u32),
    Outcome {
        which: u8,
        how: u8,
    },
    Restart(bool),
    Reload(u8),
    Acknowledge(u8),
    Retry(bool),
    Clock(i32),
    Silence {
        host: u8,
        which: u8,
        seconds: u16,
    },
    Expire(u8),
    Ping {
        which: u8,
        how: u8,
    },
    CheckIn {
        which: u8,
        how: u8,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u8..6, any::<bool>(), proptest::option::of(0u8..4)).prop_map(|(host, resolve, id)| Act::Alert { host, resolve, id }),
        2 => proptest::collection::vec((0u8..6, any::<bool>(), proptest::option::of(0u8..4)), 2..5).prop_map(Act::Batch),
        5 => (0u32..200_000).prop_map(Act::Wait),
        6 => (any::<u8>(), 0u8..6).prop_map(|(which, how)| Act::Outcome { which, how }),
        1 => any::<bool>().prop_map(Act::Restart),
        1 => (0u8..4).prop_map(Act::Reload),
        1 => (0u8..6).prop_map(Act::Acknowledge),
        1 => any::<bool>().prop_map(Act::Retry),
        1 => any::<i32>().prop_map(Act::Clock),
        1 => (0u8..6, 0u8..4, 1u16..600).prop_map(|(host, which, seconds)| Act::Silence { host, which, seconds }),
        1 => (0u8..8).prop_map(Act::Expire),
        3 => (0u8..4, 0u8..6).prop_map(|(which, how)| Act::Ping { which, how }),
        3 => (0u8..4, 0u8..8).prop_map(|(which, how)| Act::CheckIn { which, how }),
    ]
}

fn some_config(variant: u8) -> Config {
    let mut mail = action("ops", "mail");
    mail.max_per_minute = Some(2);
    mail.send_resolved = false;
    let log = ActionSpec { batch_max: 3, ..action("ops", "log") };
    let actions = match variant {
        0 => vec![log, mail],
        1 => vec![mail],
        _ => vec![log],
    };
    let each = Route {
        matchers: vec![Matcher::parse("host=~\"1|2\"").expect("valid")],
        notify: Some(Notify::Each),
        goes_on: true,
        ..Route::default()
    };
    let mute_time_intervals = if variant == 2 { vec!["often".into()] } else { vec![] };
    let rest = Route {
        tell_short: Some(variant == 3),
        group_wait_each: Some(variant == 1),
        mute_time_intervals,
        ..Route::default()
    };
    let mut config = config(actions, Route { routes: vec![each, rest], ..grouped() });
    // Every hour has twenty minutes without a word.
    let times = (0..24).map(|hour| TimeRange { start: hour * 60 + 10, end: hour * 60 + 30 }).collect();
    let often = TimeInterval { name: "often".into(), spans: vec![Span { times, ..Span::default() }] };
    config.time_intervals = vec![often];
    if variant != 1 {
        let matchers = |text| vec![Matcher::parse(text).expect(text)];
        let rule = |source, target| InhibitRule {
            source_matchers: matchers(source),
            target_matchers: matchers(target),
            equal: vec!["event".into()],
            ..InhibitRule::default()
        };
        config.inhibit_rules = vec![rule("host=5", "host=~\"3|4\""), rule("host=~\"0|1\"", "host=~\"1|2\"")];
    }
    if variant == 3 {
        config.muting = Muting::ALERTMANAGER;
    }
    config.heartbeats = heartbeats(variant);
    // Some are gone soon, and one more than there may be comes.
    config.check_ins = CheckIns {
        period_ms: 100_000 * (1 + u64::from(variant)),
        grace_ms: 20_000,
        remove_after_ms: 600_000,
        warn_above: u32::from(variant),
        most: (variant == 3).then_some(3),
    };
    config
}

/// Those of a config: which there are, how often they come, and what their alerts say differ.
fn heartbeats(variant: u8) -> Vec<Heartbeat> {
    let heartbeat = |which: u8| Heartbeat {
        name: format!("job-{which}").into(),
        period_ms: 100_000 * (1 + u64::from(which) * u64::from(variant)),
        grace_ms: 20_000,
        max_duration_ms: (which == 1).then_some(50_000),
        labels: [("host".into(), format!("{variant}").into())].into(),
        client: None,
    };
    (0..3).filter(|which| *which != variant).map(heartbeat).collect()
}

/// Alerts of hosts, which end now or in an hour, or have an id; some ids are keys, too.
fn several(world: &World, alerts: &[(u8, bool, Option<u8>)]) -> AlertBatch {
    let mut builder = BatchBuilder::default();
    for (host, resolve, id) in alerts {
        for (name, value) in [("event", "E"), ("host", &format!("{host}")), ("severity", "critical")] {
            builder.label(name, value);
        }
        builder.annotation("summary", "text");
        let ends = Wall(world.now.0 as i64 + OFFSET + if *resolve { 0 } else { HOUR });
        let times = AlertTimes { starts_at: None, ends_at: id.is_none().then_some(ends) };
        let id = id.map(|id| format!("{id}"));
        if let Some(key @ ("2" | "3")) = id.as_deref() {
            builder.key(key);
        }
        builder.finish_alert(times, id.as_deref(), None).expect("valid");
    }
    builder.finish()
}

/// Runs a script and keeps what was appended: the journal.
fn journal(script: &[Act]) -> World {
    let mut world = World::new(some_config(0));
    world.far_end = None;
    for act in script {
        match act {
            Act::Alert { host, resolve, id } => {
                let batch = several(&world, &[(*host, *resolve, *id)]);
                world.input(Input::Alerts(Arrival { client: "test".into(), batch: batch.into() }));
            }
            Act::Batch(alerts) => {
                let batch = several(&world, alerts);
                world.input(Input::Alerts(Arrival { client: "test".into(), batch: batch.into() }));
            }
            Act::Wait(ms) => world.wait(u64::from(*ms)),
            Act::Outcome { which, how } => {
                if world.delivered.is_empty() {
                    continue;
                }
                let (_, deliver) = world.delivered[*which as usize % world.delivered.len()].clone();
                let result = match how {
                    0 => Err(Failure::transient("later")),
                    1 => Err(Failure::permanent("never")),
                    2 => Ok(Receipt::Delivered {
                        reply: "partly".into(),
                        memo: Some(vec![1]),
                        unfinished: vec![Recipient::at(1)],
                        refused: vec![(Recipient::at(0), "no".into())],
                    }),
                    _ => Ok(Receipt::delivered("ok")),
                };
                world.input(Input::Outcome(Outcome {
                    delivery: deliver.delivery,
                    attempt: deliver.attempt,
                    result,
                    took_ms: 5,
                    led: true,
                }));
            }
            Act::Restart(orderly) => {
                if *orderly {
                    world.input(Input::Stopping);
                }
                world.start();
            }
            Act::Silence { host, which, seconds } => {
                let known = world.machine.silences(Wall(0)).count() as u128;
                let starts = Wall(world.now.0 as i64 + OFFSET);
                world.input(Input::Silence(SilenceOrder::Set(
                    SetSilence {
                        id: (*which > 1).then_some(SilenceId(u128::from(*which))),
                        fresh: SilenceId(known + 1),
                        matchers: vec![Matcher::parse(&format!("host=~\"{host}|7\"")).expect("valid")],
                        starts: None,
                        ends: Wall(starts.0 + i64::from(*seconds) * 1000),
                        by: "ann".into(),
                        comment: String::new(),
                        annotations: Default::default(),
                        client: "".into(),
                    }
                    .into(),
                )));
            }
            Act::Expire(which) => {
                let id = SilenceId(u128::from(*which));
                world.input(Input::Silence(SilenceOrder::Expire { id, by: "ann".into() }));
            }
            Act::Ping { which, how } => {
                let kinds = [
                    PingKind::Success,
                    PingKind::Start,
                    PingKind::Fail,
                    PingKind::Exit(0),
                    PingKind::Exit(7),
                    PingKind::Log,
                ];
                let (name, client) = (format!("job-{which}").into(), "cron".into());
                let kind = kinds[usize::from(*how) % kinds.len()];
                world.input(Input::Ping(Ping { name, kind, client, words: "words".into() }));
            }
            Act::CheckIn { which, how } => {
                let name = format!("client-{which}").into();
                let router = |is_said: bool| is_said.then(|| "elsewhere".into());
                let said = ClientReport {
                    incarnation: u64::from(*how == 1),
                    waiting: u64::from(*how),
                    comes_from: router(*how == 2),
                    leaves_for: router(*how == 3),
                    ..ClientReport::default()
                };
                world.input(match how {
                    4 => Input::ForgetClient(ForgetClient { name, by: "ann".into() }),
                    _ => Input::CheckIn(CheckIn { client: name, address: "192.0.2.7".into(), said }),
                });
            }
            Act::Reload(variant) => world.install(some_config(*variant), vec![]),
            Act::Acknowledge(host) => {
                let matchers = vec![Matcher::parse(&format!("host=\"{host}\"")).expect("valid")];
                let until = Some(world.now.plus(100_000));
                world.input(Input::Acknowledge(Acknowledge {
                    key: None,
                    matchers,
                    by: "ann".into(),
                    until,
                    comment: String::new(),
                    withdraw: false,
                }));
            }
            Act::Retry(drop) => {
                let verb = if *drop { DeliveryVerb::Drop } else { DeliveryVerb::Retry };
                world.input(Input::Deliveries(DeliveryCommand {
                    which: DeliverySelection::DeadLetters,
                    verb,
                    by: "ann".into(),
                }));
            }
            Act::Clock(ms) => world.input(Input::WallClock(OFFSET + i64::from(*ms))),
        }
    }
    world
}

/// A script that a number names, the same everywhere.
fn numbered_script(seed: u64) -> Vec<Act> {
    let mut state = seed;
    let mut draw = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let act = |_| match draw(33) {
        0..=5 => Act::Alert {
            host: draw(6) as u8,
            resolve: draw(2) == 0,
            id: (draw(2) == 0).then(|| draw(4) as u8),
        },
        6..=10 => Act::Wait(draw(200_000) as u32),
        11..=16 => Act::Outcome { which: draw(256) as u8, how: draw(6) as u8 },
        17 => Act::Restart(draw(2) == 0),
        18 => Act::Reload(draw(4) as u8),
        19 => Act::Acknowledge(draw(6) as u8),
        20 => Act::Retry(draw(2) == 0),
        21..=22 => {
            let (host, which) = (draw(6) as u8, draw(4) as u8);
            Act::Silence { host, which, seconds: 1 + draw(599) as u16 }
        }
        23 => Act::Expire(draw(8) as u8),
        24..=25 => {
            let mut alert = || (draw(6) as u8, draw(2) == 0, (draw(2) == 0).then(|| draw(4) as u8));
            Act::Batch([alert(), alert(), alert()].into())
        }
        26..=28 => Act::Ping { which: draw(4) as u8, how: draw(6) as u8 },
        29..=31 => Act::CheckIn { which: draw(4) as u8, how: draw(8) as u8 },
        _ => Act::Clock(draw(1 << 31) as i32),
    };
    (0..60).map(act).collect()
}

/// Replay and cluster stand on it. A change of any decision changes the first number, one of the snapshot's layout
/// the second: it is then taken over from the failure, and the change said in the changelog. `tests/run` runs this
/// in both builds.
#[test]
fn debug_and_release_builds_decide_the_same() {
    const DECIDED: [u64; 2] = [0xcb76_bf31_e5f1_bf80, 0x0e64_9b53_beb3_2297];
    let mut hashes = [0xcbf2_9ce4_8422_2325u64; 2];
    let feed = |hash: &mut u64, bytes: &[u8]| {
        for byte in bytes {
            *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for seed in 0..200 {
        let world = journal(&numbered_script(seed));
        let mut machine = Machine::new();
        let effects = format!("{:?}", fold(&mut machine, &world.journal, u32::MAX));
        feed(&mut hashes[0], effects.as_bytes());
        feed(&mut hashes[1], &machine.snapshot());
    }
    assert_eq!(hashes, DECIDED, "effects or state of the same scripts are others than before: {hashes:#x?}");
}

/// Groups and actions that do not know of an alert that fires and that nothing holds back.
fn untold(world: &World) -> Vec<String> {
    let (machine, wall) = (&world.machine, world.now.wall(world.machine.state.wall_offset()));
    let mut found = Vec::new();
    for (number, group) in machine.state.groups.iter() {
        if machine.out_of_time(group.route, wall).is_some() {
            continue;
        }
        for row in group.members.iter() {
            let alert = &machine.state.alerts[*row];
            let held = machine.inhibited(alert).is_some() || machine.silenced(alert, wall).is_some();
            for lane in 0..group.lanes.len() {
                let about_itself = machine.state.about.get(row) == Some(&group.lanes[lane].action);
                if alert.firing && !held && !about_itself && !machine.knows(number, lane, alert.identity) {
                    found.push(format!("{}: {alert:?}", group.name.key));
                }
            }
        }
    }
    found
}

fn fold(machine: &mut Machine, records: &[JournalRecord], budget: u32) -> Vec<Effect> {
    let mut effects = Vec::new();
    for record in records {
        machine.apply(record.clone());
        while machine.step(budget) == Step::More {}
        while let Some(effect) = machine.next_effect() {
            effects.push(effect);
        }
    }
    effects
}

/// What became of each alert of a request, beside what a refresh counts: decisions that name its place. By its key it may end
/// another; one that ends says no more.
fn decided_of(effects: &[Effect], position: Position) -> usize {
    let ended = effects.iter().filter(|effect| {
        matches!(effect, Effect::Record(Record { what: Decided::Alert { position: known, change: AlertChange::EndedByKey, .. }, .. })
            if *known == position)
    });
    let names = |effect: &&Effect| match effect {
        Effect::Record(Record { what: Decided::Alert { position: known, change, .. }, .. }) => {
            *known == position && !matches!(change, AlertChange::TimedOut | AlertChange::EndedByKey)
        }
        Effect::Record(Record { what: Decided::DuplicateId { position: known, .. }, .. }) => {
            *known == position
        }
        _ => false,
    };
    match effects.iter().filter(names).count() {
        0 => ended.count(),
        others => others,
    }
}

/// Each alert of a request is decided once, or is a refresh that is counted, and what fires is known afterwards.
fn check_arrival(machine: &Machine, arrival: &Arrival, effects: &[Effect], seq: u64, refreshed: u64) {
    let mut quiet = 0;
    for (alert, number) in arrival.batch.iter().zip(0..) {
        match decided_of(effects, Position::arrived(seq + number)) {
            0 => quiet += 1,
            1 => {}
            more => panic!("{alert:?} of record {seq} was decided {more} times"),
        }
    }
    assert_eq!(quiet, refreshed, "{:?} of record {seq}: {effects:?}", arrival.batch);
    // The last word on each label set.
    for (number, alert) in arrival.batch.iter().enumerate() {
        let mut later = arrival.batch.iter().skip(number + 1);
        let last = later.all(|later| !later.labels().eq(alert.labels()) && later.key().is_none());
        let fires =
            alert.times().ends_at.is_none_or(|ends| ends.at(machine.state.wall_offset()) > machine.now);
        let known =
            machine.alerts().any(|known| known.is_firing() && known.fingerprint() == alert.fingerprint());
        let is_new = effects.iter().all(|effect| {
            !matches!(effect, Effect::Record(Record { what: Decided::DuplicateId { alert: id, .. }, .. })
                if *id == alert.fingerprint())
        });
        assert!(!(last && fires && is_new) || known, "{alert:?} of record {seq} is not known");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is accepted counts, one by one.
    #[test]
    fn each_alert_of_a_request_is_decided_or_refreshed_once(script in proptest::collection::vec(act(), 1..60)) {
        let world = journal(&script);
        let mut machine = Machine::new();
        for record in &world.journal {
            let before = machine.totals().refreshed;
            let effects = fold(&mut machine, core::slice::from_ref(record), u32::MAX);
            if let Input::Alerts(arrival) = &record.input {
                let refreshed = machine.totals().refreshed - before;
                check_arrival(&machine, arrival, &effects, record.seq, refreshed);
            }
        }
    }

    /// The same journal gives the same effects: folded twice, in small steps, and through a snapshot at any point.
    #[test]
    fn a_journal_always_gives_the_same_effects(script in proptest::collection::vec(act(), 1..60), cut in any::<prop::sample::Index>()) {
        let world = journal(&script);
        let mut whole = Machine::new();
        let effects = fold(&mut whole, &world.journal, u32::MAX);
        let mut stepped = Machine::new();
        prop_assert_eq!(&fold(&mut stepped, &world.journal, 1), &effects);
        prop_assert_eq!(whole.snapshot(), stepped.snapshot());

        let cut = cut.index(world.journal.len() + 1);
        let mut first = Machine::new();
        let mut restored_effects = fold(&mut first, &world.journal[..cut], u32::MAX);
        let bytes = first.snapshot();
        let mut second = Machine::restore(&bytes).expect("our own snapshot");
        prop_assert_eq!(&second.snapshot(), &bytes);
        restored_effects.extend(fold(&mut second, &world.journal[cut..], u32::MAX));
        prop_assert_eq!(&restored_effects, &effects);
        prop_assert_eq!(second.snapshot(), whole.snapshot());
    }

    /// Whatever happens, in the end every delivery is told, dead, superseded, in a digest or dropped by an operator.
    #[test]
    fn nothing_pending_is_left_when_the_far_end_is_well(script in proptest::collection::vec(act(), 1..60)) {
        let mut world = journal(&script);
        world.input(Input::Stopping);
        world.far_end = Some(Ok(Receipt::Sent));
        world.start();
        world.wait(3 * HOUR as u64);
        let left: Vec<_> = world.machine.deliveries().filter(|d| !matches!(d.standing, DeliveryStanding::Dead(_))).collect();
        prop_assert!(left.is_empty(), "{left:?}");
        for of in world.machine.pending() {
            prop_assert_eq!((of.pending, of.in_flight), (0, 0), "{:?}", of);
        }
        let untold = untold(&world);
        prop_assert!(untold.is_empty(), "{untold:?}");
    }
}
