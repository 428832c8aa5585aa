//! From what others send to alerts: rules over fields, the same for syslog, SNMP and other tools' web hooks.
//!
//! A source reads what came in as [`Fields`]; the rules of a [`Mapping`] say which labels, annotations, times and state the
//! alert has. The first rule counts whose `when` and `capture` match. What no rule takes is kept raw by its source, never lost.
//! Whatever a sender writes stays within the limits of an alert: values are cut, and what does not fit is left out and said in the
//! annotation `parse_error`.
//!
//! Where to start reading: [`Mapping::map`], then `rule` (one rule on one record), `text` (what stands in its settings).

mod fields;
mod index;
mod json;
mod keys;
mod room;
mod rule;
mod text;
mod times;

pub use fields::{Fields, Path};
pub use json::Json;
pub use rule::{Does, Items, Lasts, Names, Rule};
pub use text::{Text, TextError};
pub use times::moment;

use std::cell::OnceCell;

use ams2_core::{AlertRef, BatchBuilder, Severities, Wall};
use smol_str::SmolStr;

use super::Limits;
use index::Index;
use rule::Draft;

/// The annotation that says what of a record could not be used.
pub const PARSE_ERROR: &str = "parse_error";

/// Rules, in their order.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// The first that matches counts.
    pub rules: Vec<Rule>,
    /// Which rules are looked at for a value of one field; all of them where there is none.
    index: Option<Index>,
    /// What they are rules of: it stands before every key, so that one client's tools do not end each other's alerts. May be empty.
    source: SmolStr,
}

/// Keeps an item of a list as it came: its number, and where to.
pub type Raw<'f> = &'f mut dyn FnMut(usize, &dyn Fields, &mut BatchBuilder);

/// What the rules were read by, and what holds for every alert.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Ranks of severities, for matchers.
    pub severities: &'a Severities,
    /// Limits of an alert.
    pub limits: &'a Limits,
    /// The wall clock: when what came in is resolved that says no time.
    pub now: Wall,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// So many alerts were added: none where a list is empty.
    Alerts(usize),
    /// Somebody takes charge of an alert.
    Acknowledged(Acknowledged),
    /// The heartbeat of this name is heard of.
    Ping(String),
    /// A rule says that it is wrong, and why.
    Refused(String),
    /// A rule says that it is of no interest.
    Dropped,
    /// A rule takes it, and no alert comes of it.
    NoAlert,
    /// It is more than may come at once, in words: nothing of it is to be kept.
    TooMuch(String),
    /// No rule takes it.
    NoRule,
}

/// Who takes charge of which alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// What its sender calls it.
    pub key: String,
    /// Who; empty where that is not said.
    pub by: String,
    /// Why.
    pub comment: String,
}

impl Mapping {
    /// These rules, looked at in their order.
    pub fn new(rules: Vec<Rule>) -> Mapping {
        Mapping { rules, ..Mapping::default() }
    }

    /// The same rules, of which those that ask for another value of the field at `path` are not looked at: ten thousand cost as
    /// little as ten.
    pub fn indexed_by(self, path: &Path) -> Mapping {
        let index = Some(Index::of(&self.rules, path));
        Mapping { index, ..self }
    }

    /// The same rules, of this source.
    pub fn of(self, source: impl Into<SmolStr>) -> Mapping {
        Mapping { source: source.into(), ..self }
    }

    /// Adds the alerts of a record to a batch.
    pub fn map(&self, record: &dyn Fields, bounds: Bounds<'_>, batch: &mut BatchBuilder) -> Mapped {
        self.map_each(record, bounds, batch, &mut |_, _, _| {})
    }

    /// The same. `raw` keeps each item of a list of which no alert comes, where others give one.
    pub fn map_each(
        &self,
        record: &dyn Fields,
        bounds: Bounds<'_>,
        batch: &mut BatchBuilder,
        raw: Raw<'_>,
    ) -> Mapped {
        let root = OnceCell::new();
        let (mut chosen, mut all) = (None, None);
        match &self.index {
            Some(index) => chosen = Some(index.rules(record, &self.rules)),
            None => all = Some(self.rules.iter()),
        }
        for rule in chosen.into_iter().flatten().chain(all.into_iter().flatten()) {
            let Some(captured) = rule.matches(record, bounds.severities) else { continue };
            let source = &self.source;
            let whole = Draft { rule, record, item: record, captured: &captured, source, root: &root };
            return match rule.does {
                Does::Drop => Mapped::Dropped,
                Does::Ping => Mapped::Ping(whole.heartbeat()),
                Does::Refuse => Mapped::Refused(whole.why()),
                Does::Acknowledge => whole.acknowledged(bounds).map_or(Mapped::NoAlert, Mapped::Acknowledged),
                Does::Alert | Does::Resolve => whole.add_all(batch, bounds, raw),
            };
        }
        Mapped::NoRule
    }
}

/// Adds an alert of one batch to another, as it is.
pub fn copy(alert: AlertRef<'_>, batch: &mut BatchBuilder) {
    alert.labels().for_each(|(name, value)| batch.label(name, value));
    alert.annotations().for_each(|(name, value)| batch.annotation(name, value));
    if let Some(key) = alert.key() {
        batch.key(key);
    }
    let finished = batch.finish_alert(alert.times(), alert.id(), alert.generator_url());
    finished.expect("it was right before");
}

/// Begins an alert of what could not be used: as much of it as there is room for, and why. Whoever calls gives it its times and id.
pub fn raw_alert(
    batch: &mut BatchBuilder,
    bounds: Bounds<'_>,
    labels: &[(&str, &str)],
    raw: &str,
    why: &str,
) {
    let words = "raw".len() + "summary".len() + PARSE_ERROR.len() + 2 * why.len();
    let mut room = bounds.limits.alert_bytes.saturating_sub(words);
    for (name, value) in labels {
        batch.label(name, value);
        room = room.saturating_sub(name.len() + value.len());
    }
    batch.annotation("raw", &ams2_handlers::text::cut(raw, room));
    batch.annotation("summary", why);
    batch.annotation(PARSE_ERROR, why);
}

#[cfg(test)]
mod tests;
