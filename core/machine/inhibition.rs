//! Inhibition: firing alerts of one kind hold back those of another, by Alertmanager's rules. Each rule keeps a set of
//! sources for each combination of values of its `equal` labels, so that one source that ends hides no other.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use smol_str::SmolStr;

use super::{
    Machine, Phase, alerts::RowLabels, index::Index, interner::Sym, muting::Holder, routing::Labels,
    state::Alert,
};
use crate::{
    Fingerprint, Severities,
    config::InhibitRule,
    effect::{HoldReason, INHIBITORS_MAX},
    matcher::{Compiled, MatcherError},
};

/// The values of a rule's `equal` labels; `None` where the label is absent.
pub(crate) type Key = Box<[Option<Sym>]>;

/// The rules, compiled, and the alerts that inhibit by them.
#[derive(Debug, Default)]
pub(crate) struct Inhibition {
    rules: Vec<Rule>,
    /// Rules by what a source must be like.
    by_source: Index,
    /// Rules by what a target must be like.
    by_target: Index,
    sources: BTreeMap<(u32, Key), Sources>,
}

#[derive(Debug)]
struct Rule {
    source: Vec<Compiled>,
    target: Vec<Compiled>,
    equal: Vec<SmolStr>,
}

/// Rows of firing alerts that inhibit by one rule with the same values.
#[derive(Debug, Default)]
struct Sources {
    /// Those that only inhibit.
    one_sided: BTreeSet<u32>,
    /// Those that match the target's side as well: they inhibit no target that matches the source's side.
    two_sided: BTreeSet<u32>,
}

impl Sources {
    /// Whether a target of either kind is held back.
    fn hold(&self) -> (bool, bool) {
        (!self.one_sided.is_empty(), !(self.one_sided.is_empty() && self.two_sided.is_empty()))
    }
}

impl Inhibition {
    pub fn compile(rules: &[InhibitRule], severities: &Severities) -> Result<Inhibition, MatcherError> {
        let mut inhibition = Inhibition::default();
        for (rule, number) in rules.iter().zip(0..) {
            let ready = |matchers: &[crate::matcher::Matcher]| {
                matchers.iter().map(|m| m.compile(severities)).collect::<Result<Vec<_>, _>>()
            };
            let (source, target) = (ready(&rule.source_matchers)?, ready(&rule.target_matchers)?);
            inhibition.by_source.insert(number, &source);
            inhibition.by_target.insert(number, &target);
            inhibition.rules.push(Rule { source, target, equal: rule.equal.clone() });
        }
        Ok(inhibition)
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether alerts with these labels inhibit others when they fire.
    pub fn is_source(&self, labels: &impl Labels, severities: &Severities) -> bool {
        let candidates = self.by_source.candidates(labels);
        candidates.iter().any(|rule| match_all(&self.rules[*rule as usize].source, labels, severities))
    }

    /// The rules by which an alert inhibits: number, values, and whether it is two-sided.
    fn as_source(&self, labels: &RowLabels<'_>, severities: &Severities) -> Vec<(u32, Key, bool)> {
        let candidates = self.by_source.candidates(labels).into_iter();
        let fitting =
            candidates.filter(|rule| match_all(&self.rules[*rule as usize].source, labels, severities));
        fitting
            .map(|number| {
                let rule = &self.rules[number as usize];
                (number, key(&rule.equal, labels), match_all(&rule.target, labels, severities))
            })
            .collect()
    }

    /// Calls `found` with each rule that holds an alert with these labels back, and its sources.
    fn for_each_hold<'a>(
        &'a self,
        labels: &RowLabels<'_>,
        severities: &Severities,
        tried: &mut usize,
        mut found: impl FnMut(u32, Key, &'a Sources, bool),
    ) {
        if self.sources.is_empty() {
            return;
        }
        for number in self.by_target.candidates(labels) {
            let rule = &self.rules[number as usize];
            *tried += rule.target.len();
            if !match_all(&rule.target, labels, severities) {
                continue;
            }
            let values = (number, key(&rule.equal, labels));
            let Some(sources) = self.sources.get(&values) else { continue };
            let two_sided = match_all(&rule.source, labels, severities);
            let (holds_two_sided, holds_one_sided) = sources.hold();
            if if two_sided { holds_two_sided } else { holds_one_sided } {
                found(number, values.1, sources, two_sided);
            }
        }
    }
}

fn match_all(matchers: &[Compiled], labels: &impl Labels, severities: &Severities) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(&m.matcher.name), severities))
}

fn key(equal: &[SmolStr], labels: &RowLabels<'_>) -> Key {
    let value = |name: &SmolStr| {
        let name = labels.strings.find(name)?;
        labels.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    };
    equal.iter().map(value).collect()
}

impl Machine {
    /// An alert began to fire or ended: what it holds back is held, or let go at the next turn of its group.
    pub(super) fn source_changed(&mut self, row: u32) {
        if self.routing.inhibition.is_empty() {
            return;
        }
        let alert = &self.state.alerts[row];
        let labels = RowLabels { strings: &self.state.strings, labels: &alert.labels };
        let rules = self.routing.inhibition.as_source(&labels, self.routing.severities());
        let fires = alert.firing;
        if fires && alert.position.is_raised() && self.is_as_alertmanager() {
            return;
        }
        for (rule, values, two_sided) in rules {
            let all = &mut self.routing.inhibition.sources;
            let place = (rule, values);
            if fires {
                let sources = all.entry(place).or_default();
                if two_sided {
                    sources.two_sided.insert(row)
                } else {
                    sources.one_sided.insert(row)
                };
                continue;
            }
            let Some(sources) = all.get_mut(&place) else { continue };
            let before = sources.hold();
            if two_sided {
                sources.two_sided.remove(&row)
            } else {
                sources.one_sided.remove(&row)
            };
            let after = sources.hold();
            if after == (false, false) {
                all.remove(&place);
            }
            if after != before {
                self.let_go(&Holder::Inhibition(place.0, place.1));
            }
        }
    }

    /// Which firing alerts hold this one back, and by which rules.
    pub(super) fn inhibited(&self, alert: &Alert) -> Option<(HoldReason, Vec<Holder>)> {
        self.inhibited_counting(alert, &mut 0)
    }

    /// The same; `tried` counts the matchers that took.
    pub(super) fn inhibited_counting(
        &self,
        alert: &Alert,
        tried: &mut usize,
    ) -> Option<(HoldReason, Vec<Holder>)> {
        let inhibition = &self.routing.inhibition;
        if inhibition.sources.is_empty() {
            return None;
        }
        let alerts = &self.state.alerts;
        let labels = RowLabels { strings: &self.state.strings, labels: &alert.labels };
        let (mut sources, mut holders) = (BTreeSet::new(), Vec::new());
        let mut count = 0;
        let severities = self.routing.severities();
        inhibition.for_each_hold(&labels, severities, tried, |rule, values, found, two_sided| {
            holders.push(Holder::Inhibition(rule, values));
            let more = if two_sided { None } else { Some(&found.two_sided) };
            count += found.one_sided.len() + more.map_or(0, BTreeSet::len);
            let rows = found.one_sided.iter().chain(more.into_iter().flatten());
            sources.extend(rows.take(INHIBITORS_MAX).copied());
        });
        if holders.is_empty() {
            return None;
        }
        let mut by: Vec<Fingerprint> = sources.iter().map(|row| alerts[*row].fingerprint).collect();
        by.sort_unstable();
        by.dedup();
        by.truncate(INHIBITORS_MAX);
        // An alert that inhibits by several rules counts once where all of them are named.
        let all_named = count <= INHIBITORS_MAX;
        let more = if all_named { 0 } else { (count - by.len()) as u32 };
        Some((HoldReason::Inhibited { by, more }, holders))
    }

    /// Finds who holds back whom anew after a config change, from `row` on.
    pub(super) fn find_sources(&mut self, row: u32, left: &mut i64) -> Phase {
        if self.routing.inhibition.is_empty() || row >= self.state.alerts.bound() {
            return Phase::Reroute(0);
        }
        *left -= 1;
        if self.state.alerts.find(row).is_some_and(|alert| alert.firing) {
            self.source_changed(row);
        }
        Phase::FindSources(row + 1)
    }

    /// Finds who holds back whom, after a snapshot was read.
    pub(super) fn find_all_sources(&mut self) {
        let (mut phase, mut left) = (Phase::FindSources(0), 0);
        while let Phase::FindSources(row) = phase {
            phase = self.find_sources(row, &mut left);
        }
    }

    /// Whether an alert that arrives is to be taken in before the others of its batch, so that those that it holds
    /// back are not told before it is known.
    pub(super) fn goes_first(&self, labels: &impl Labels) -> bool {
        self.routing.inhibition.is_source(labels, self.routing.severities())
    }
}
