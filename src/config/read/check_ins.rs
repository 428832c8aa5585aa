//! How clients are waited for that check in.

use ams2_core::config::{CLIENTS_MAX, CheckIns};
use ams2_handlers::units::Duration;

use super::Reader;
use crate::config::tree::Node;

/// Shortest period, in milliseconds: what is less is a load, and no sign of life.
const PERIOD_MS_MIN: u64 = 1_000;

impl Reader<'_> {
    pub(super) fn check_ins(&mut self, node: &Node) -> CheckIns {
        let mut rules = CheckIns::default();
        let mut fields = self.found.fields(node);
        if let Some(ms) = fields.take("period").and_then(|node| self.found.duration_ms(node, PERIOD_MS_MIN)) {
            rules.period_ms = ms;
        }
        if let Some(ms) = fields.take("grace").and_then(|node| self.found.duration_ms(node, 0)) {
            rules.grace_ms = ms;
        }
        if let Some(ms) = fields.take("remove_after").and_then(|node| self.found.duration_ms(node, 1)) {
            rules.remove_after_ms = ms;
        }
        let silence_ms = rules.period_ms.saturating_add(rules.grace_ms);
        if rules.remove_after_ms <= silence_ms {
            let named = fields.take("remove_after").or(fields.take("period")).or(fields.take("grace"));
            let (after, silence) = (Duration::from_ms(rules.remove_after_ms), Duration::from_ms(silence_ms));
            let message =
                format!("clients leave the list after {after}, and are not missing before {silence}");
            let mend = "make `remove_after` longer than `period` and `grace` together";
            self.found.error(named.unwrap_or(node).place, message, mend);
        }
        let counts = 1..=u64::from(CLIENTS_MAX);
        if let Some(count) =
            fields.take("warn_above").and_then(|node| self.found.number(node, counts.clone()))
        {
            rules.warn_above = count as u32;
        }
        let most = fields.take("most").and_then(|node| self.found.number(node, counts));
        rules.most = most.map(|count| count as u32);
        fields.end(&mut self.found);
        rules
    }
}
