//! Rules that are right by themselves, and do not do what is meant: behind one that takes all, of fields that there are not, or making
//! alerts that nobody may send.

use ams2_core::{Severities, matcher::Compiled};
use serde_json::Value as Null;
use smol_str::SmolStr;

use super::Reader;
use crate::{
    config::{nearest, tree::Node},
    originator::{
        inbound::Hook,
        mapping::{Does, Json, Mapping, Rule},
        syslog::{DEFAULT_LABELS, FIELDS, Senders},
    },
};

impl Reader<'_> {
    /// Rules that no record reaches.
    pub(super) fn rules_behind_all(&mut self, node: &Node, mapping: &Mapping) {
        let items = self.found.list(node);
        let takes_all = |(node, rule): &(&Node, &Rule)| {
            // What is wrong in them is said elsewhere.
            rule.when.is_empty() && rule.capture.is_empty() && !has(node, "when") && !has(node, "capture")
        };
        let rules: Vec<_> = items.iter().zip(&mapping.rules).collect();
        let Some(first) = rules.iter().position(takes_all) else { return };
        let Some((behind, _)) = rules.get(first + 1) else { return };
        let before = self.found.at(rules[first].0.place);
        let message = format!("nothing comes to this rule: the one {before} takes all");
        self.found.warning(behind.place, message, "say `when` in that one, or put it last");
    }

    /// What rules on syslog say that cannot be.
    pub(super) fn rules_of_syslog(&mut self, node: &Node, mapping: &Mapping, senders: &Senders) {
        for (node, rule) in self.found.list(node).iter().zip(&mapping.rules) {
            if rule.each.is_some() {
                let mend = "leave it out: structured data is read by its names";
                self.found.error(node.place, "a message of syslog has no list", mend);
            }
            for name in rule.fields() {
                if FIELDS.contains(&name.as_str()) || ["sd", "root"].contains(&name.as_str()) {
                    continue;
                }
                let mend = match nearest(&name, FIELDS.into_iter()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("use `sd.ID.NAME` or one of {}", FIELDS.join(", ")),
                };
                self.found.warning(node.place, format!("a message of syslog has no field `{name}`"), mend);
            }
            let is_ranked = |(_, compiled): &&(_, Compiled)| {
                compiled.matcher.name == "severity" && compiled.matcher.op.is_order()
            };
            if let Some((_, compiled)) = rule.when.iter().find(is_ranked) {
                let message = format!(
                    "`{}` ranks syslog's own words, of which `err` and `error` are as bad as `major`; the alert without a rule has `minor` for them",
                    compiled.matcher
                );
                self.found.warning(
                    node.place,
                    message,
                    "compare `rank`, which is what that alert has, or `severity_code`",
                );
            }
            let allows = senders.known.iter().map(|known| (&known.name, &known.allow[..]));
            self.rule_nobody_may_send(node, rule, allows, &DEFAULT_LABELS, "");
        }
    }

    /// Rules of a web hook that make alerts which no client may send.
    pub(super) fn rules_of_hook(&mut self, node: &Node, hook: &Hook, clients: &crate::originator::Clients) {
        let senders = || clients.known.iter().filter(|known| known.has(crate::originator::Right::Send));
        for request in &hook.requests {
            for (number, rule) in request.mapping.rules.iter().enumerate() {
                if rule.does == Does::Resolve && rule.key.is_some() {
                    // That ends an alert of its sender's own.
                    continue;
                }
                let allows = senders().map(|known| (&known.name, &known.allow[..]));
                let what = format!(" (rule {} of `{}`)", number + 1, hook.name);
                self.rule_nobody_may_send(node, rule, allows, &[], &what);
            }
        }
    }

    fn rule_nobody_may_send<'c>(
        &mut self,
        node: &Node,
        rule: &Rule,
        allows: impl Iterator<Item = (&'c SmolStr, &'c [Compiled])>,
        others: &[&str],
        what: &str,
    ) {
        if !matches!(rule.does, Does::Alert | Does::Resolve) {
            return;
        }
        let mut lacking = None;
        for (client, allow) in allows {
            match allow.iter().find(|matcher| never(rule, matcher, others, &self.severities)) {
                Some(matcher) => lacking = lacking.or(Some((client, matcher))),
                None => return,
            }
        }
        let Some((client, matcher)) = lacking else { return };
        let message = format!(
            "no client may send the alerts of this rule{what}: `{client}` may only send those with {}",
            matcher.matcher
        );
        let mend = format!("add the label `{}` to the rule, or widen `allow`", matcher.matcher.name);
        self.found.warning(node.place, message, mend);
    }
}

/// Whether no alert of a rule matches. `others`: labels of which it is not known what they are.
fn never(rule: &Rule, matcher: &Compiled, others: &[&str], severities: &Severities) -> bool {
    let name = matcher.matcher.name.as_str();
    let own = rule.labels.own.iter().find(|(known, _)| known == name).map(|(_, text)| text);
    let text = if name == "severity" { rule.severity.as_ref().or(own) } else { own };
    match text {
        Some(text) if !text.names().is_empty() => false,
        Some(text) => {
            let word = text.of(&Json(&Null::Null));
            let word =
                rule.severities.get(word.as_str()).filter(|_| name == "severity").map_or(&*word, |word| word);
            !matcher.matches(word, severities)
        }
        None if !rule.labels.from.is_empty() || others.contains(&name) => false,
        None => !matcher.matches("", severities),
    }
}

fn has(node: &Node, name: &str) -> bool {
    matches!(&node.value, crate::config::tree::Value::Map(entries) if entries.iter().any(|(key, _)| key.text == name))
}
