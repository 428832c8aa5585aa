//! The routing tree.

use std::collections::{BTreeMap, BTreeSet};

use ams2_core::{
    Severities, Severity,
    config::{GroupBy, Notify, Route},
    machine::{HEARTBEAT_LABEL, HEARTBEAT_MISSING, LOG_FORWARDING_ERROR, OWN_CLIENT, OWN_EVENTS, OWN_LABEL},
    matcher::{Compiled, Matcher, Op},
};
use smol_str::SmolStr;

use super::Reader;
use crate::config::{Place, nearest, tree::Node};

/// Labels that say which kind of own alert it is.
const OWN_KIND: [&str; 3] = [OWN_LABEL, "event", "event_id"];
/// Labels of own alerts whose values cannot be known before.
const OWN_VARIES: [&str; 4] = ["receiver", "action", "client", HEARTBEAT_LABEL];

/// What own alerts may be about in this site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Says {
    pub heartbeats: bool,
    pub clients: bool,
    /// Alerts that wait for another server may be let go.
    pub drops: bool,
}

impl Says {
    /// Whether an own alert may have this event. Those about clients have the word in it, and only those.
    fn may_be(self, event: &str) -> bool {
        match event {
            HEARTBEAT_MISSING => self.heartbeats,
            LOG_FORWARDING_ERROR => self.clients || self.drops,
            _ => self.clients || !event.contains("Client"),
        }
    }
}

impl Reader<'_> {
    pub(super) fn root(
        &mut self,
        node: &Node,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
    ) -> Route {
        let before = self.found.list.len();
        let route = self.route(node, receivers, used, &[]);
        let mut fields = self.found.fields(node);
        for (name, why) in [
            ("matchers", "the first route takes every alert"),
            ("continue", "there is nothing after the first route"),
            ("mute_time_intervals", "it takes what no other route takes, at all times"),
            ("active_time_intervals", "it takes what no other route takes, at all times"),
        ] {
            if let Some(node) = fields.take(name) {
                self.found.error(
                    node.place,
                    format!("the first route may not have `{name}`: {why}"),
                    "move it to a route below",
                );
            }
        }
        if route.receiver.is_none() && self.found.list.len() == before {
            self.found.error(
                node.place,
                "the first route has no receiver",
                "add `receiver:` with the one told by default",
            );
        }
        self.severities_without_route(node, &route);
        if let Some((name, true)) = receivers.iter().find(|(name, _)| Some(name) == route.receiver.as_ref()) {
            let message = format!("the default receiver `{name}` has no action");
            self.found.warning(node.place, message, "alerts that no route matches will reach nobody");
        }
        route
    }

    /// Where routes go by severity, those ranks that none of them takes are told to the default receiver alone.
    fn severities_without_route(&mut self, node: &Node, root: &Route) {
        let mut open: Vec<&Route> = root.routes.iter().collect();
        let mut taken: Option<BTreeSet<Severity>> = None;
        while let Some(route) = open.pop() {
            open.extend(&route.routes);
            let by_rank = route.matchers.iter().filter(|matcher| matcher.name == "severity");
            let by_rank: Vec<Compiled> =
                by_rank.filter_map(|matcher| matcher.clone().compile(&self.severities).ok()).collect();
            if by_rank.is_empty() {
                continue;
            }
            let severities = &self.severities;
            let takes = |severity: &Severity| by_rank.iter().all(|m| m.matches(severity.word(), severities));
            taken.get_or_insert_default().extend(Severity::ALL.into_iter().filter(takes));
        }
        let Some(taken) = taken else { return };
        let left = Severity::ALL.iter().filter(|severity| !taken.contains(severity));
        let left: Vec<&str> = left.map(|severity| severity.word()).collect();
        if !left.is_empty() {
            let message = format!("no route is about severity {}", left.join(", "));
            let receiver = root.receiver.as_deref().unwrap_or("?");
            let mend = format!("unless other routes take them, `{receiver}` is told");
            self.found.note(node.place, message, mend);
        }
    }

    /// Where routes go by the kind of own alerts, those kinds that none of them takes are told to the default receiver alone.
    pub(super) fn own_events_without_route(
        &mut self,
        node: &Node,
        root: &Route,
        own_labels: &BTreeMap<SmolStr, SmolStr>,
        says: Says,
    ) {
        let (mut is_by_kind, mut left) = (false, Vec::new());
        for (event, event_id, severity) in OWN_EVENTS.into_iter().filter(|(event, ..)| says.may_be(event)) {
            let mut labels = own_labels.clone();
            let own = [
                (OWN_LABEL, OWN_CLIENT),
                ("event", event),
                ("event_id", event_id),
                ("severity", severity.word()),
            ];
            labels.extend(own.map(|(name, value)| (name.into(), value.into())));
            let mut is_taken = false;
            let mut open: Vec<(&Route, bool)> = root.routes.iter().map(|route| (route, true)).collect();
            while let Some((route, is_child_of_root)) = open.pop() {
                let Some(by_kind) = self.takes_own(route, &labels) else { continue };
                is_taken |= is_child_of_root;
                is_by_kind |= by_kind;
                open.extend(route.routes.iter().map(|child| (child, false)));
            }
            if !is_taken && !left.contains(&event) {
                left.push(event);
            }
        }
        if is_by_kind && !left.is_empty() {
            let message = format!("no route is about ams2's own {}", left.join(", "));
            let mend = format!("`{}` is told", root.receiver.as_deref().unwrap_or("?"));
            self.found.note(node.place, message, mend);
        }
    }

    /// Whether a route takes an own alert with these labels, and whether it says so by the kind of alert.
    fn takes_own(&self, route: &Route, labels: &BTreeMap<SmolStr, SmolStr>) -> Option<bool> {
        let mut by_kind = false;
        for matcher in &route.matchers {
            if OWN_VARIES.contains(&matcher.name.as_str()) {
                continue;
            }
            let compiled = matcher.clone().compile(&self.severities).ok()?;
            let value = labels.get(&matcher.name).map_or("", SmolStr::as_str);
            if !compiled.matches(value, &self.severities) {
                return None;
            }
            by_kind |= OWN_KIND.contains(&matcher.name.as_str());
        }
        Some(by_kind)
    }

    /// `above` is what every alert that comes here has matched.
    fn route(
        &mut self,
        node: &Node,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
        above: &[(Compiled, Place)],
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
        let mut within = above.to_vec();
        if let Some(node) = fields.take("matchers") {
            let compiled = self.matchers(node);
            self.contradictions(node.place, &compiled, above);
            route.matchers = compiled.iter().map(|compiled| compiled.matcher.clone()).collect();
            within.extend(compiled.into_iter().map(|compiled| (compiled, node.place)));
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
        route.group_wait_each = fields.take("group_wait_each").and_then(|node| self.found.flag(node));
        route.mute_time_intervals = self.interval_names(fields.take("mute_time_intervals"));
        route.active_time_intervals = self.interval_names(fields.take("active_time_intervals"));
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
            self.children(node, &mut route, receivers, used, &within);
        }
        route
    }

    /// Says which of a route's matchers no alert can match that comes here.
    fn contradictions(&mut self, place: Place, matchers: &[Compiled], above: &[(Compiled, Place)]) {
        for (position, matcher) in matchers.iter().enumerate() {
            let beside = matchers[..position].iter().map(|other| (other, None));
            let above = above.iter().map(|(other, place)| (other, Some(*place)));
            let other = beside.chain(above).find(|(other, _)| excludes(other, matcher, &self.severities));
            if let Some((other, at)) = other {
                let (this, other) = (&matcher.matcher, &other.matcher);
                let message = match at {
                    None => format!("no alert comes here: `{other}` and `{this}` exclude each other"),
                    Some(at) => {
                        let at = self.found.at(at);
                        format!("no alert comes here: the route {at} takes only `{other}`, not `{this}`")
                    }
                };
                self.found.warning(place, message, "correct one of them, or move this route");
                return;
            }
        }
    }

    fn children(
        &mut self,
        node: &Node,
        route: &mut Route,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
        above: &[(Compiled, Place)],
    ) {
        let mut earlier = Earlier::default();
        for item in self.found.list(node) {
            let child = self.route(item, receivers, used, above);
            if let Some((place, same)) = earlier.hides(&child, &self.severities) {
                let at = self.found.at(place);
                let (message, mend) = if same {
                    let message = format!("no alert comes here: the route {at} has the same matchers");
                    (message, "give that one `continue: true`, or put them together")
                } else {
                    let message = format!("no alert comes here: the route {at} takes them all");
                    (message, "put this one before it, or give that one `continue: true`")
                };
                self.found.warning(item.place, message, mend);
            }
            earlier.add(&child, item.place, &self.severities);
            route.routes.push(child);
        }
    }

    pub(super) fn matchers(&mut self, node: &Node) -> Vec<Compiled> {
        let mut matchers = Vec::new();
        for item in self.found.list(node) {
            let Some(text) = self.found.plain(item) else { continue };
            let read = Matcher::parse(text).and_then(|matcher| matcher.compile(&self.severities));
            match read {
                Ok(compiled) => {
                    self.surprises(item.place, &compiled);
                    matchers.push(compiled);
                }
                Err(error) => {
                    let message = format!("the matcher `{text}` is wrong: {error}");
                    let mend = "write 'name op \"value\"' with one of = != =~ !~ >= > <= <";
                    self.found.error(item.place, message, mend);
                }
            }
        }
        matchers
    }

    /// What a regex does that few expect: it says of the whole value, and a label that is missing has an empty one.
    fn surprises(&mut self, place: Place, compiled: &Compiled) {
        let Matcher { name, op, value } = &compiled.matcher;
        if !matches!(op, Op::Regex | Op::NotRegex) {
            return;
        }
        // That shape is what an import writes for `match_re`: the key of a group shows it.
        let is_theirs = value.starts_with("^(?:") && value.ends_with(")$");
        let is_anchored = value.starts_with('^') || (value.ends_with('$') && !value.ends_with("\\$"));
        if is_anchored && !is_theirs {
            let message =
                format!("the regex `{value}` is about the whole value as it is: `^` and `$` change nothing");
            self.found.note(place, message, "leave them out; what may come before or after is `.*`");
        }
        if *op == Op::Regex && compiled.matches("", &self.severities) {
            let message = format!("the regex `{value}` matches alerts without a label `{name}`, too");
            self.found.note(place, message, "use `.+` where `.*` stands, unless it is meant so");
        }
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

/// Siblings that let nothing pass to those after them. One hides a later one if each of its matchers is among the other's.
#[derive(Default)]
struct Earlier {
    /// One that takes everything.
    all: Option<Place>,
    /// The others by their first matcher: with it and all of `rest` an alert is theirs.
    by_matcher: BTreeMap<Matcher, Vec<(Vec<Matcher>, Place)>>,
    /// Those of them that have an operator other than `=`: they may take what others say in other words.
    broad: Vec<(Vec<Compiled>, Place)>,
}

/// Most broad siblings that each later one is compared with: ten thousand routes are checked in a second.
const BROAD_MAX: usize = 200;

/// Whether whatever matches `narrow` matches `wide`, as far as their words tell.
fn implies(narrow: &Matcher, wide: &Compiled, severities: &Severities) -> bool {
    if narrow == &wide.matcher {
        return true;
    }
    if narrow.name != wide.matcher.name {
        return false;
    }
    let takes = |value: &str| wide.matches(value, severities);
    if narrow.op == Op::Equal {
        return takes(&narrow.value);
    }
    if !narrow.op.is_order() || !wide.matcher.op.is_order() {
        return false;
    }
    match severities.rank(&narrow.value) {
        Some(_) => {
            let Ok(narrow) = narrow.compile(severities) else { return false };
            Severity::ALL.iter().all(|rank| !narrow.matches(rank.word(), severities) || takes(rank.word()))
        }
        // Numbers: what is beyond the one is beyond the other if its bound is, or if both have the same.
        None => {
            let is_upward = |op: Op| matches!(op, Op::AtLeast | Op::More);
            is_upward(narrow.op) == is_upward(wide.matcher.op) && takes(&narrow.value)
        }
    }
}

/// Whether a matcher is no condition at all.
fn takes_everything(matcher: &Matcher) -> bool {
    matcher.op == Op::Regex && matcher.value == ".*"
}

/// Whether nothing matches both, as far as their words tell.
fn excludes(one: &Compiled, other: &Compiled, severities: &Severities) -> bool {
    if one.matcher.name != other.matcher.name {
        return false;
    }
    match (one.matcher.op, other.matcher.op) {
        (Op::Equal, _) => !other.matches(&one.matcher.value, severities),
        (_, Op::Equal) => !one.matches(&other.matcher.value, severities),
        (a, b) if a.is_order() && b.is_order() && severities.rank(&one.matcher.value).is_some() => {
            let both = |rank: &Severity| {
                one.matches(rank.word(), severities) && other.matches(rank.word(), severities)
            };
            severities.rank(&other.matcher.value).is_some() && !Severity::ALL.iter().any(both)
        }
        _ => false,
    }
}

impl Earlier {
    /// The one that takes all that would come to `route`, and whether both say the same.
    fn hides(&self, route: &Route, severities: &Severities) -> Option<(Place, bool)> {
        if let Some(place) = self.all {
            return Some((place, false));
        }
        let has = |matcher: &Matcher| route.matchers.contains(matcher);
        let found = route.matchers.iter().filter_map(|matcher| {
            let candidates = self.by_matcher.get(matcher)?;
            let hiding = candidates.iter().find(|(rest, _)| rest.iter().all(has))?;
            Some((hiding.1, hiding.0.len() + 1 == route.matchers.len()))
        });
        found.min_by_key(|(place, _)| *place).or_else(|| {
            let takes =
                |wide: &Compiled| route.matchers.iter().any(|narrow| implies(narrow, wide, severities));
            let hiding = self.broad.iter().find(|(matchers, _)| matchers.iter().all(takes))?;
            Some((hiding.1, false))
        })
    }

    fn add(&mut self, route: &Route, place: Place, severities: &Severities) {
        if route.goes_on {
            return;
        }
        let mut matchers: Vec<Matcher> =
            route.matchers.iter().filter(|matcher| !takes_everything(matcher)).cloned().collect();
        if self.broad.len() < BROAD_MAX && matchers.iter().any(|matcher| matcher.op != Op::Equal) {
            let compiled: Option<Vec<Compiled>> =
                matchers.iter().map(|matcher| matcher.compile(severities).ok()).collect();
            self.broad.extend(compiled.map(|compiled| (compiled, place)));
        }
        matchers.sort();
        matchers.dedup();
        match matchers.split_first() {
            None => self.all = self.all.or(Some(place)),
            Some((first, rest)) => {
                self.by_matcher.entry(first.clone()).or_default().push((rest.to_vec(), place));
            }
        }
    }
}
