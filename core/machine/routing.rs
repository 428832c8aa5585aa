//! The routing tree, compiled: inheritance worked out, siblings indexed by the label values they demand, so that
//! an alert does not pay for routes that cannot match it.

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};

use super::{index::Index, inhibition::Inhibition};
use crate::{
    Severities,
    calendar::Calendar,
    config::{self, Config, GroupBy, Notify},
    effect::GroupName,
    matcher::{Compiled, MatcherError},
};

/// One route with all that it inherits.
#[derive(Debug)]
pub(crate) struct RouteNode {
    matchers: Vec<Compiled>,
    children: Vec<u32>,
    index: Index,
    goes_on: bool,
    pub receiver: u32,
    pub group_by: GroupBy,
    pub group_wait_ms: u64,
    pub group_interval_ms: u64,
    pub repeat_interval_ms: u64,
    pub notify: Notify,
    pub tell_short: bool,
    pub group_wait_each: bool,
    /// Numbers of the time intervals in which nothing is told.
    pub mute_times: Vec<u32>,
    /// Numbers of the time intervals outside which nothing is told; none means always.
    pub active_times: Vec<u32>,
    /// Numbers of the receiver's actions; see [`Routing::number_actions`].
    pub actions: Arc<[u32]>,
    /// Alertmanager's route key.
    pub key: String,
    /// The name of all that `notify: each` tells by this route.
    pub each: Arc<GroupName>,
}

/// The compiled tree. Node 0 is the root.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    pub nodes: Vec<RouteNode>,
    severities: Severities,
    pub calendar: Calendar,
    /// Numbers of the actions that lead to other servers; see [`Routing::number_actions`].
    pub forwarders: Vec<u32>,
    /// Whether any route is bound to times.
    pub has_times: bool,
    /// Whether any route tells each occurrence.
    pub has_each: bool,
    pub inhibition: Inhibition,
}

/// Whatever has labels.
pub(crate) trait Labels {
    /// The value of label `name`; absent labels are `""`.
    fn value(&self, name: &str) -> &str;
}

impl Labels for crate::AlertRef<'_> {
    fn value(&self, name: &str) -> &str {
        self.label(name)
    }
}

impl Routing {
    /// Compiles the tree. The shell has checked the config; what is broken all the same is answered as an error.
    pub fn compile(config: &Config) -> Result<Routing, MatcherError> {
        let calendar = Calendar::new(&config.time_intervals, &config.zones)
            .map_err(|message| MatcherError { column: 0, message })?;
        let mut routing = Routing {
            severities: config.severities.clone(),
            calendar,
            inhibition: Inhibition::compile(&config.inhibit_rules, &config.severities)?,
            ..Routing::default()
        };
        routing.add(config, &config.route, None)?;
        let nodes = &routing.nodes;
        routing.has_times = nodes.iter().any(|n| !(n.mute_times.is_empty() && n.active_times.is_empty()));
        routing.has_each = nodes.iter().any(|n| n.notify == Notify::Each);
        Ok(routing)
    }

    /// Notes which actions each route's receiver has, once they have their numbers: `actions_of` says those of a receiver.
    pub fn number_actions(&mut self, mut actions_of: impl FnMut(u32) -> Vec<u32>) {
        let mut known: BTreeMap<u32, Arc<[u32]>> = BTreeMap::new();
        for node in &mut self.nodes {
            let actions = known.entry(node.receiver).or_insert_with(|| actions_of(node.receiver).into());
            node.actions = actions.clone();
        }
    }

    /// Which words have which rank.
    pub fn severities(&self) -> &Severities {
        &self.severities
    }

    fn intervals(&self, names: &[smol_str::SmolStr]) -> Result<Vec<u32>, MatcherError> {
        let number = |name: &smol_str::SmolStr| {
            self.calendar.find(name).ok_or_else(|| MatcherError {
                column: 0,
                message: format!("a route names the time interval `{name}`, which is not defined"),
            })
        };
        names.iter().map(number).collect()
    }

    fn add(
        &mut self,
        config: &Config,
        route: &config::Route,
        parent: Option<u32>,
    ) -> Result<u32, MatcherError> {
        let inherited = parent.map(|parent| &self.nodes[parent as usize]);
        let mut matchers =
            route.matchers.iter().map(|m| m.compile(&self.severities)).collect::<Result<Vec<_>, _>>()?;
        matchers.sort_by(|a, b| {
            let key = |m: &Compiled| (m.matcher.name.clone(), m.matcher.value.clone(), m.matcher.op);
            key(a).cmp(&key(b))
        });
        let printed: Vec<String> = matchers.iter().map(|m| format!("{}", m.matcher)).collect();
        let own_key = format!("{{{}}}", printed.join(","));
        let key = inherited.map_or(own_key.clone(), |parent| format!("{}/{own_key}", parent.key));
        let receiver = match &route.receiver {
            Some(name) => {
                config.receivers.iter().position(|receiver| receiver.name == *name).ok_or_else(|| {
                    MatcherError {
                        column: 0,
                        message: format!("a route names the receiver `{name}`, which is not defined"),
                    }
                })? as u32
            }
            None => inherited.map_or(0, |parent| parent.receiver),
        };
        let from =
            |own: Option<u64>, inherited: Option<u64>, default: u64| own.or(inherited).unwrap_or(default);
        let node = RouteNode {
            matchers,
            children: Vec::new(),
            index: Index::default(),
            goes_on: route.goes_on,
            receiver,
            group_by: route
                .group_by
                .clone()
                .or_else(|| inherited.map(|parent| parent.group_by.clone()))
                .unwrap_or(GroupBy::Labels(Vec::new())),
            group_wait_ms: from(
                route.group_wait_ms,
                inherited.map(|p| p.group_wait_ms),
                config::GROUP_WAIT_MS,
            ),
            group_interval_ms: from(
                route.group_interval_ms,
                inherited.map(|p| p.group_interval_ms),
                config::GROUP_INTERVAL_MS,
            )
            .max(1),
            repeat_interval_ms: from(
                route.repeat_interval_ms,
                inherited.map(|p| p.repeat_interval_ms),
                config::REPEAT_INTERVAL_MS,
            ),
            notify: route.notify.or(inherited.map(|p| p.notify)).unwrap_or_default(),
            tell_short: route.tell_short.or(inherited.map(|p| p.tell_short)).unwrap_or(false),
            group_wait_each: route.group_wait_each.or(inherited.map(|p| p.group_wait_each)).unwrap_or(false),
            actions: Arc::default(),
            mute_times: self.intervals(&route.mute_time_intervals)?,
            active_times: self.intervals(&route.active_time_intervals)?,
            each: Arc::new(GroupName { key: format!("{key}:each"), labels: Vec::new() }),
            key,
        };
        let number = self.nodes.len() as u32;
        self.nodes.push(node);
        for child in &route.routes {
            let child = self.add(config, child, Some(number))?;
            self.nodes[number as usize].children.push(child);
        }
        self.index_children(number);
        Ok(number)
    }

    fn index_children(&mut self, number: u32) {
        let mut index = Index::default();
        let node = &self.nodes[number as usize];
        for (position, child) in (0u32..).zip(&node.children) {
            index.insert(position, &self.nodes[*child as usize].matchers);
        }
        self.nodes[number as usize].index = index;
    }

    /// The routes that tell of an alert with these labels, in Alertmanager's order.
    pub fn routes(&self, labels: &impl Labels) -> Vec<u32> {
        let mut found = Vec::new();
        if !self.nodes.is_empty() {
            self.descend(0, labels, &mut found);
        }
        found
    }

    /// Whether the node's matchers all match.
    fn matches(&self, node: &RouteNode, labels: &impl Labels) -> bool {
        node.matchers.iter().all(|m| m.matches(labels.value(&m.matcher.name), &self.severities))
    }

    /// Collects the matches below `number`, whose own matchers match already; itself if no child matched.
    fn descend(&self, number: u32, labels: &impl Labels, found: &mut Vec<u32>) {
        let node = &self.nodes[number as usize];
        let before = found.len();
        for position in node.index.candidates(labels) {
            let child_number = node.children[position as usize];
            let child = &self.nodes[child_number as usize];
            if self.matches(child, labels) {
                self.descend(child_number, labels, found);
                if !child.goes_on {
                    break;
                }
            }
        }
        if found.len() == before {
            found.push(number);
        }
    }
}
