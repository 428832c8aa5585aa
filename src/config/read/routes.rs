//! The routing tree.

use ams2_core::{
    config::{GroupBy, Notify, Route},
    matcher::{Compiled, Matcher},
};
use smol_str::SmolStr;

use super::Reader;
use crate::config::{
    nearest,
    tree::{Node, Value},
};

impl Reader<'_> {
    pub(super) fn root(
        &mut self,
        node: &Node,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
    ) -> Route {
        let before = self.found.0.len();
        let route = self.route(node, receivers, used);
        let mut fields = self.found.fields(node);
        for (name, why) in [
            ("matchers", "the first route takes every alert"),
            ("continue", "there is nothing after the first route"),
        ] {
            if let Some(node) = fields.take(name) {
                self.found.error(
                    node.place,
                    format!("the first route may not have `{name}`: {why}"),
                    "move it to a route below",
                );
            }
        }
        if route.receiver.is_none() && self.found.0.len() == before {
            self.found.error(
                node.place,
                "the first route has no receiver",
                "add `receiver:` with the one told by default",
            );
        }
        if let Some((name, true)) = receivers.iter().find(|(name, _)| Some(name) == route.receiver.as_ref()) {
            let message = format!("the default receiver `{name}` has no action");
            self.found.warning(node.place, message, "alerts that no route matches will reach nobody");
        }
        route
    }

    pub(super) fn route(
        &mut self,
        node: &Node,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
    ) -> Route {
        let mut route = Route::default();
        let mut fields = self.found.fields(node);
        if let Some(node) = fields.take("receiver")
            && let Some(name) = self.found.plain(node)
        {
            if receivers.iter().any(|(known, _)| known == name) {
                used.push(name.into());
            } else {
                let near = nearest(name, receivers.iter().map(|(known, _)| known.as_str()));
                let mend = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "define it under `receivers:`".into(),
                };
                self.found.error(node.place, format!("no receiver is called `{name}`"), mend);
            }
            route.receiver = Some(name.into());
        }
        if let Some(node) = fields.take("matchers") {
            route.matchers = self.matchers(node).into_iter().map(|compiled| compiled.matcher).collect();
        }
        route.group_by = fields.take("group_by").and_then(|node| self.group_by(node));
        route.group_wait_ms = fields.take("group_wait").and_then(|node| self.found.duration_ms(node, 0));
        route.group_interval_ms =
            fields.take("group_interval").and_then(|node| self.found.duration_ms(node, 1));
        let repeat = fields.take("repeat_interval");
        route.repeat_interval_ms = repeat.and_then(|node| self.found.duration_ms(node, 1));
        if let (Some(node), Some(repeat), Some(interval)) =
            (repeat, route.repeat_interval_ms, route.group_interval_ms)
            && repeat < interval
        {
            let mend = "repeats happen on looks, so this is rounded up to the group_interval";
            self.found.warning(node.place, "repeat_interval is shorter than group_interval", mend);
        }
        route.goes_on = fields.take("continue").and_then(|node| self.found.flag(node)).unwrap_or(false);
        route.tell_short = fields.take("tell_short").and_then(|node| self.found.flag(node));
        if let Some(node) = fields.take("notify")
            && let Some(word) = self.found.plain(node)
        {
            match word {
                "group" => route.notify = Some(Notify::Group),
                "each" => route.notify = Some(Notify::Each),
                other => {
                    self.found.error(node.place, format!("notify is `{other}`"), "use `group` or `each`")
                }
            }
        }
        let children = fields.take("routes");
        fields.end(&mut self.found);
        if let Some(node) = children {
            self.children(node, &mut route, receivers, used);
        }
        route
    }

    pub(super) fn children(
        &mut self,
        node: &Node,
        route: &mut Route,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
    ) {
        let mut hides: Option<usize> = None;
        for item in self.found.list(node) {
            let child = self.route(item, receivers, used);
            if let Some(line) = hides {
                let message = format!("no alert comes here: the route in line {line} takes them all");
                self.found.warning(item.place, message, "give that one matchers, or `continue: true`");
            } else if let Some(line) = self.hidden_by(route, node, &child) {
                let message = format!("no alert comes here: the route in line {line} has the same matchers");
                self.found.warning(
                    item.place,
                    message,
                    "give that one `continue: true`, or put them together",
                );
            }
            if child.matchers.is_empty() && !child.goes_on {
                hides = Some(item.place.line);
            }
            route.routes.push(child);
        }
    }

    /// The line of an earlier sibling with the same matchers that does not go on.
    pub(super) fn hidden_by(&self, route: &Route, node: &Node, child: &Route) -> Option<usize> {
        let sorted = |route: &Route| {
            let mut matchers = route.matchers.clone();
            matchers.sort();
            matchers
        };
        let mine = sorted(child);
        let place = route
            .routes
            .iter()
            .position(|other| !other.goes_on && !mine.is_empty() && sorted(other) == mine)?;
        match &node.value {
            Value::List(items) => items.get(place).map(|item| item.place.line),
            _ => None,
        }
    }

    pub(super) fn matchers(&mut self, node: &Node) -> Vec<Compiled> {
        let mut matchers = Vec::new();
        for item in self.found.list(node) {
            let Some(text) = self.found.plain(item) else { continue };
            let read = Matcher::parse(text).and_then(|matcher| matcher.compile(&self.severities));
            match read {
                Ok(compiled) => matchers.push(compiled),
                Err(error) => {
                    let message = format!("the matcher `{text}` is wrong: {error}");
                    let mend = "write 'name op \"value\"' with one of = != =~ !~ >= > <= <";
                    self.found.error(item.place, message, mend);
                }
            }
        }
        matchers
    }

    pub(super) fn group_by(&mut self, node: &Node) -> Option<GroupBy> {
        let mut names: Vec<SmolStr> = Vec::new();
        for item in self.found.list(node) {
            let Some(name) = self.found.plain(item) else { continue };
            if name.is_empty() {
                self.found.error(item.place, "a label name is empty", "");
            } else if names.iter().any(|known| known == name) {
                self.found.error(item.place, format!("`{name}` is given twice"), "remove one");
            } else {
                names.push(name.into());
            }
        }
        if names.iter().any(|name| name == "...") {
            if names.len() > 1 {
                self.found.error(
                    node.place,
                    "`...` means every label, and stands beside others",
                    "keep `...` alone",
                );
            }
            return Some(GroupBy::All);
        }
        names.sort();
        Some(GroupBy::Labels(names))
    }
}
