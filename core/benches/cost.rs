//! What an alert costs the router where much is configured that does not concern it: routes, silences, inhibition rules
//! and inhibiting alerts, ten of them and many. `cargo bench -p ams2-core --bench cost`.
//!
//! An alert arrives, is routed, grouped, looked at after group_wait and told. The best of several rounds counts: whatever
//! else runs on the machine only adds.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use ams2_core::{
    At, Config, Effect, Input, Machine, Wall,
    batch::{AlertTimes, BatchBuilder},
    config::{ActionId, ActionSpec, GroupBy, InhibitRule, Install, Notify, Receiver, Route},
    input::{Arrival, JournalRecord, Started},
    matcher::Matcher,
    silence::{SetSilence, SilenceId, SilenceOrder},
};

/// Alerts that are measured, in batches of a hundred.
const ALERTS: usize = 20_000;
const BATCH: usize = 100;
/// Rounds; the best counts.
const ROUNDS: usize = 7;
/// Teams that the measured alerts belong to.
const TEAMS: usize = 10;
/// A wall clock that is this far ahead.
const OFFSET: i64 = 1_700_000_000_000;

/// How many of each there are.
#[derive(Clone, Copy)]
struct Scene {
    routes: usize,
    silences: usize,
    rules: usize,
    sources: usize,
}

const FEW: Scene = Scene { routes: 10, silences: 10, rules: 10, sources: 10 };

fn main() {
    let few = measure(FEW);
    println!("| what | ns an alert | with 10 of each | ratio | wanted |\n|---|---|---|---|---|");
    for (what, scene) in [
        ("10,000 routes, one in ten with a regex", Scene { routes: 10_000, ..FEW }),
        ("10,000 silences, one in ten with a regex", Scene { silences: 10_000, ..FEW }),
        ("1,000 inhibition rules", Scene { rules: 1_000, ..FEW }),
        ("10,000 inhibiting alerts", Scene { sources: 10_000, ..FEW }),
        ("all of it", Scene { routes: 10_000, silences: 10_000, rules: 1_000, sources: 10_000 }),
    ] {
        let (many, again) = (measure(scene), measure(FEW));
        let few = few.min(again);
        let (many, few) = (many.as_nanos() as f64 / ALERTS as f64, few.as_nanos() as f64 / ALERTS as f64);
        println!("| {what} | {many:.0} | {few:.0} | {:.2} | at most 2 |", many / few);
    }
}

fn matcher(text: &str) -> Matcher {
    Matcher::parse(text).expect(text)
}

/// One in ten says it with a regex.
fn about(label: &str, value: &str, number: usize) -> Matcher {
    match number % 10 {
        9 => matcher(&format!("{label}=~\"{value}(-[a-z]+)?\"")),
        _ => matcher(&format!("{label}=\"{value}\"")),
    }
}

fn config(scene: Scene) -> Config {
    let action = ActionSpec {
        id: ActionId { receiver: "ops".into(), kind: "log".into(), name: "0".into() },
        send_resolved: true,
        max_in_flight: 1_000_000,
        batch_max: 1,
        max_per_minute: None,
        timeout_ms: 10_000,
        patient: false,
        pending_max: None,
    };
    let routes = (0..scene.routes).map(|team| Route {
        matchers: vec![about("team", &format!("team{team}"), team)],
        ..Route::default()
    });
    let route = Route {
        group_by: Some(GroupBy::Labels(vec!["event".into(), "team".into()])),
        group_wait_ms: Some(30_000),
        notify: Some(Notify::Group),
        routes: routes.collect(),
        ..Route::default()
    };
    let mut config = Config::single(Receiver { name: "ops".into(), actions: vec![action] }, route);
    // Rule 0 is about the measured alerts, and has all the sources; none of them is in the same zone.
    config.inhibit_rules = (0..scene.rules)
        .map(|rule| InhibitRule {
            source_matchers: vec![matcher(&format!("kind=\"node{rule}\""))],
            target_matchers: vec![matcher(&format!("rule=\"{rule}\""))],
            equal: vec!["zone".into()],
            ..InhibitRule::default()
        })
        .collect();
    config
}

/// A router with all of a scene in it.
struct World {
    machine: Machine,
    now: At,
}

impl World {
    fn new(scene: Scene) -> World {
        let mut world = World { machine: Machine::new(), now: At(0) };
        world.input(Input::Started(Started {
            incarnation: 1,
            seed: [1, 2],
            wall_offset_ms: OFFSET,
            version: "bench".into(),
            damage: vec![],
            install: None,
        }));
        let install = Install {
            config: config(scene),
            text: String::new(),
            rule_version: 1,
            removed: vec![],
            by: "bench".into(),
        };
        world.input(Input::ConfigInstalled(install.into()));
        for number in 0..scene.silences {
            // Another host of the same event: only its second matcher tells it apart.
            let set = SetSilence {
                id: None,
                fresh: SilenceId(number as u128 + 1),
                matchers: vec![matcher("event=\"Slow\""), about("host", &format!("other{number}"), number)],
                starts: None,
                ends: Wall(OFFSET + 1_000_000_000),
                by: "bench".into(),
                comment: String::new(),
                annotations: Default::default(),
                client: "".into(),
            };
            world.input(Input::Silence(SilenceOrder::Set(set.into())));
        }
        let sources: Vec<Vec<(&str, String)>> = (0..scene.sources)
            .map(|number| {
                vec![("event", "Down".into()), ("kind", "node0".into()), ("zone", format!("far{number}"))]
            })
            .collect();
        for batch in sources.chunks(BATCH) {
            world.alerts(batch);
        }
        // Whatever they lead to is over before it is measured.
        world.now = At(60_000);
        world.input(Input::Advanced);
        world
    }

    fn input(&mut self, input: Input) {
        self.machine.apply_whole(JournalRecord { seq: self.machine.next_seq(), at: self.now, input });
        while let Some(effect) = self.machine.next_effect() {
            drop(std::hint::black_box::<Effect>(effect));
        }
    }

    fn alerts(&mut self, alerts: &[Vec<(&str, String)>]) {
        let mut builder = BatchBuilder::default();
        for labels in alerts {
            for (name, value) in labels {
                builder.label(name, value);
            }
            builder.annotation("summary", "it is slow");
            let ends_at = Some(Wall(OFFSET + 1_000_000_000));
            builder.finish_alert(AlertTimes { starts_at: None, ends_at }, None, None).expect("valid");
        }
        self.input(Input::Alerts(Arrival { client: "bench".into(), batch: builder.finish().into() }));
    }
}

/// The best time of all rounds for all alerts.
fn measure(scene: Scene) -> Duration {
    let alert = |number: usize| -> Vec<(&str, String)> {
        vec![
            ("event", "Slow".into()),
            ("team", format!("team{}", number % TEAMS)),
            ("host", format!("host{number}")),
            ("rule", "0".into()),
            ("zone", format!("near{}", number % 100)),
            ("severity", "minor".into()),
        ]
    };
    let all: Vec<Vec<(&str, String)>> = (0..ALERTS).map(alert).collect();
    let rounds = (0..ROUNDS).map(|_| {
        let mut world = World::new(scene);
        let began = Instant::now();
        for batch in all.chunks(BATCH) {
            world.alerts(batch);
        }
        world.now = world.now.plus(40_000);
        world.input(Input::Advanced);
        began.elapsed()
    });
    rounds.min().expect("there are rounds")
}
