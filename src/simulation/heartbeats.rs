//! What must hold of heartbeats, by plain rules: nobody is missing who was heard, nobody who is silent is forgotten, and an
//! alert fires exactly while something is wrong.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    At, Effect, Input, Machine,
    effect::{Decided, HeartbeatChange},
    input::{JournalRecord, PingKind},
    machine::HeartbeatView,
};

/// What is known of them.
#[derive(Debug, Default)]
pub struct Heartbeats {
    /// When each was last heard to be well.
    heard: BTreeMap<String, At>,
    /// How long each may be silent, by the config in force.
    silence_ms: BTreeMap<String, u64>,
    /// What became of them, and how often.
    pub changes: BTreeMap<HeartbeatChange, usize>,
}

impl Heartbeats {
    /// A record is folded.
    pub fn check(&mut self, record: &JournalRecord, effects: &[Effect], machine: &Machine) {
        let all = || (0..machine.heartbeat_bound()).filter_map(|row| machine.heartbeat_in(row));
        for effect in effects {
            let Effect::Record(decision) = effect else { continue };
            let Decided::Heartbeat { name, change, .. } = &decision.what else { continue };
            *self.changes.entry(*change).or_default() += 1;
            if *change != HeartbeatChange::Missing {
                continue;
            }
            // By the config of before, if the record brings another.
            let silence_ms = self.silence_ms[name.as_str()];
            let heard = self.heard.get(name.as_str()).copied().unwrap_or(At(0));
            let silent_ms = decision.at.since(heard);
            assert!(silent_ms >= silence_ms, "{name} is missing after {silent_ms} of {silence_ms} ms");
        }
        let silence_ms = |heartbeat: HeartbeatView<'_>| heartbeat.period_ms() + heartbeat.grace_ms();
        self.silence_ms = all().map(|one| (one.name().to_owned(), silence_ms(one))).collect();
        if let Input::Ping(ping) = &record.input
            && matches!(ping.kind, PingKind::Success | PingKind::Exit(0))
        {
            self.heard.insert(ping.name.to_string(), record.at);
        }
        let now = record.at.wall(machine.wall_offset_ms());
        let mut wrong = BTreeSet::new();
        for heartbeat in all() {
            match heartbeat.due() {
                Some(due) => assert!(due > now, "{} is forgotten: {}", heartbeat.name(), heartbeat.words()),
                None => drop(wrong.insert(heartbeat.name().to_owned())),
            }
        }
        let fires = machine.alerts().filter(|alert| alert.is_firing());
        let fires: BTreeSet<String> =
            fires.map(|alert| alert.label("heartbeat").to_owned()).filter(|name| !name.is_empty()).collect();
        assert_eq!(fires, wrong, "record {}", record.seq);
    }
}
