//! What must hold of clients that check in, by plain rules: nobody is missing who was heard, nobody who is silent is forgotten,
//! and an alert fires exactly while one is missing.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    At, Effect, Input, Machine,
    config::CheckIns,
    effect::{ClientChange, Decided},
    input::JournalRecord,
    machine::ClientState,
};

/// What is known of them.
#[derive(Debug, Default)]
pub struct Clients {
    /// When each was last heard of.
    heard: BTreeMap<String, At>,
    /// The rules in force.
    rules: CheckIns,
    /// What became of them, and how often.
    pub changes: BTreeMap<ClientChange, usize>,
}

impl Clients {
    /// A record is folded.
    pub fn check(&mut self, record: &JournalRecord, effects: &[Effect], machine: &Machine) {
        for effect in effects {
            let Effect::Record(decision) = effect else { continue };
            let Decided::Client { name, change, .. } = &decision.what else { continue };
            *self.changes.entry(*change).or_default() += 1;
            let heard = self.heard.get(name.as_str()).copied().unwrap_or(At(0));
            let silent_ms = decision.at.since(heard);
            // By the rules of before, if the record brings others.
            let CheckIns { period_ms, grace_ms, remove_after_ms, .. } = self.rules;
            match change {
                ClientChange::Missing => assert!(silent_ms >= period_ms + grace_ms, "{name}: {silent_ms} ms"),
                ClientChange::Removed => assert!(silent_ms > remove_after_ms, "{name}: {silent_ms} ms"),
                _ => {}
            }
        }
        self.rules = machine.check_ins();
        if let Input::CheckIn(check_in) = &record.input {
            let known = machine.client(&check_in.client);
            if known.is_some_and(|client| client.said().incarnation == check_in.said.incarnation) {
                self.heard.insert(check_in.client.to_string(), record.at);
            }
        }
        let now = record.at.wall(machine.wall_offset_ms());
        let all = || (0..machine.client_bound()).filter_map(|row| machine.client_in(row));
        let mut missing = BTreeSet::new();
        for client in all() {
            assert!(client.due() > now, "{} is forgotten", client.name());
            if client.state(record.at) == ClientState::Missing {
                missing.insert(client.name().to_owned());
            }
        }
        let fires = machine.alerts().filter(|alert| alert.is_firing());
        let fires = fires.filter(|alert| alert.label("event") == "Client Missing");
        let fires: BTreeSet<String> = fires.map(|alert| alert.label("client").to_owned()).collect();
        assert_eq!(fires, missing, "record {}", record.seq);
        let is_over = machine.client_count() > self.rules.warn_above as usize;
        let says_so = |alert: ams2_core::machine::AlertView<'_>| {
            alert.is_firing() && alert.label("event") == "Too Many Clients"
        };
        assert_eq!(machine.alerts().any(says_so), is_over, "record {}", record.seq);
    }
}
