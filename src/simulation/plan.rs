//! Routing configs in plain words. The core's config is made from them, and so is what the oracle expects: who must be
//! told of an alert is read here without asking the router.

use std::sync::LazyLock;

use ams2_core::{
    Config,
    config::{
        ActionId, ActionSpec, CheckIns, GiveUp, GroupBy, Heartbeat, InhibitRule, Install, Notify,
        RULE_VERSION, Receiver, Removed, Route,
    },
    matcher::Matcher,
};

pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;

/// What happens in the simulated world: the `event` labels of its alerts, each with routes of its own in the plans.
pub const EVENTS: [&str; 6] = ["Virus", "Disk", "Link", "Job", "Door", "Fan"];

/// Jobs that ping; not every plan waits for all of them.
pub const JOBS: [&str; 3] = ["backup", "report", "sweep"];

/// How an action behaves, as far as the router knows.
#[derive(Clone, Debug)]
pub struct PlanAction {
    pub id: ActionId,
    pub send_resolved: bool,
    pub max_in_flight: u32,
    pub batch_max: u32,
    pub max_per_minute: Option<u32>,
    /// Recipients at its far end.
    pub recipients: u16,
}

/// One route below the root: alerts with this event.
#[derive(Clone, Debug)]
pub struct PlanRoute {
    pub event: &'static str,
    pub receiver: &'static str,
    pub each: bool,
    /// Labels that make the group; `None` for all of them.
    pub group_by: Option<Vec<&'static str>>,
    pub wait: u64,
    pub interval: u64,
    pub tell_short: bool,
    /// An event with two routes: this is the second one, and has another matcher in its key.
    pub second: bool,
}

/// What each of these must be for an alert: a label and its values.
type Demands = &'static [(&'static str, &'static [&'static str])];

/// A rule by which alerts of one kind hold back those of another on the same host.
#[derive(Clone, Copy, Debug)]
pub struct PlanRule {
    source: Demands,
    target: Demands,
}

/// A fan that fails explains much, and what is critical hides what a disk says besides: a critical disk is of both sides.
const RULES: [PlanRule; 2] = [
    PlanRule { source: &[("event", &["Fan"])], target: &[("event", &["Virus", "Link", "Job"])] },
    PlanRule { source: &[("severity", &["critical"])], target: &[("event", &["Disk"])] },
];

impl PlanRule {
    /// Whether an alert with the labels `source`, which fires, holds back one with the labels `target`.
    pub fn holds(&self, source: &[(String, String)], target: &[(String, String)]) -> bool {
        let fits = |labels: &[(String, String)], demands: Demands| {
            demands.iter().all(|(name, values)| values.contains(&value(labels, name)))
        };
        let is_two_sided = |labels| fits(labels, self.source) && fits(labels, self.target);
        fits(source, self.source)
            && fits(target, self.target)
            && value(source, "host") == value(target, "host")
            && !(is_two_sided(source) && is_two_sided(target))
    }
}

fn value<'a>(labels: &'a [(String, String)], name: &str) -> &'a str {
    labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// One config.
#[derive(Clone, Debug)]
pub struct Plan {
    pub number: usize,
    pub rules: Vec<PlanRule>,
    pub routes: Vec<PlanRoute>,
    pub receivers: Vec<(&'static str, Vec<PlanAction>)>,
}

/// Where an alert is told: the group's or route's key, and the receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub key: String,
    pub receiver: &'static str,
    pub each: bool,
    pub tell_short: bool,
}

pub const PLANS: usize = 6;

pub fn id(receiver: &str, kind: &str, name: &str) -> ActionId {
    ActionId { receiver: receiver.into(), kind: kind.into(), name: name.into() }
}

fn action(receiver: &'static str, kind: &str, name: &str) -> PlanAction {
    PlanAction {
        id: id(receiver, kind, name),
        send_resolved: true,
        max_in_flight: 2,
        batch_max: 1,
        max_per_minute: None,
        recipients: 1,
    }
}

fn route(event: &'static str, receiver: &'static str) -> PlanRoute {
    PlanRoute {
        event,
        receiver,
        each: false,
        group_by: Some(vec!["host"]),
        wait: 30 * SECOND,
        interval: MINUTE,
        tell_short: false,
        second: false,
    }
}

impl Plan {
    /// One of [`PLANS`] configs.
    pub fn of(number: usize) -> Plan {
        Plan::all()[number].clone()
    }

    /// All of them.
    pub fn all() -> &'static [Plan] {
        static ALL: LazyLock<Vec<Plan>> = LazyLock::new(|| (0..PLANS).map(Plan::make).collect());
        &ALL
    }

    /// They differ in what a reload may change: actions, names, groups, limits, receivers.
    fn make(number: usize) -> Plan {
        let log = PlanAction { batch_max: 4, ..action("ops", "log", "0") };
        let page = PlanAction {
            send_resolved: false,
            max_in_flight: 1,
            max_per_minute: Some(3),
            ..action("ops", "page", "1")
        };
        let mail = PlanAction { recipients: 3, ..action("desk", "mail", "0") };
        let trap = PlanAction { max_in_flight: 8, max_per_minute: Some(4), ..action("net", "trap", "0") };
        let mut receivers =
            vec![("ops", vec![log, page]), ("desk", vec![mail]), ("net", vec![trap]), ("nobody", vec![])];
        let mut routes = vec![
            PlanRoute { each: true, ..route("Virus", "net") },
            PlanRoute { second: true, wait: 0, interval: 30 * SECOND, ..route("Virus", "desk") },
            route("Disk", "ops"),
            PlanRoute { tell_short: true, group_by: None, wait: 10 * SECOND, ..route("Link", "desk") },
            PlanRoute { each: true, ..route("Job", "ops") },
            PlanRoute { group_by: Some(vec![]), wait: 5 * MINUTE, ..route("Door", "nobody") },
        ];
        let mut rules = vec![];
        match number {
            1 => {
                rules.extend(RULES);
                routes[0].receiver = "ops";
                routes[2].group_by = Some(vec![]);
                receivers.retain(|(name, _)| *name != "net");
            }
            2 => {
                receivers[0].1[1].id.name = "night".into();
                routes[3] = PlanRoute { interval: 20 * SECOND, ..route("Link", "ops") };
                routes[4] = route("Job", "ops");
                rules.push(RULES[0]);
            }
            3 => {
                receivers.retain(|(name, _)| *name != "desk");
                routes[1].receiver = "net";
                routes[3].receiver = "ops";
            }
            4 => {
                receivers[0].1[0].max_in_flight = 1;
                receivers[0].1[1].max_per_minute = Some(1);
                receivers[1].1[0].send_resolved = false;
                receivers[2].1[0].max_per_minute = None;
                routes[5].receiver = "desk";
                rules.extend(RULES);
            }
            5 => {
                receivers[0].1.remove(0);
                receivers[2].1[0].max_in_flight = 1;
                routes[2].interval = 2 * MINUTE;
            }
            _ => {}
        }
        Plan { number, rules, routes, receivers }
    }

    /// The plan that a config's text names.
    pub fn by_name(text: &str) -> Option<Plan> {
        text.strip_prefix("plan ")?.parse().ok().map(Plan::of)
    }

    /// Where an alert with these labels is told. What no route wants goes to `ops` in one group an event.
    pub fn told(&self, labels: &[(String, String)]) -> Vec<Told> {
        let group = |by: Option<&[&str]>| {
            let pairs: Vec<String> = labels
                .iter()
                .filter(|(name, _)| by.is_none_or(|by| by.contains(&name.as_str())))
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            pairs.join(", ")
        };
        let mut told: Vec<Told> = Vec::new();
        for route in self.routes.iter().filter(|route| route.event == value(labels, "event")) {
            let key = format!("{{}}/{{{}}}", matcher_text(route));
            let key = match route.each {
                true => format!("{key}:each"),
                false => format!("{key}:{{{}}}", group(route.group_by.as_deref())),
            };
            let (receiver, each, tell_short) = (route.receiver, route.each, route.tell_short);
            told.push(Told { key, receiver, each, tell_short });
        }
        if told.is_empty() {
            let key = format!("{{}}:{{{}}}", group(Some(&["event"])));
            told.push(Told { key, receiver: "ops", each: false, tell_short: false });
        }
        told
    }

    pub fn actions(&self) -> impl Iterator<Item = &PlanAction> {
        self.receivers.iter().flat_map(|(_, actions)| actions)
    }

    pub fn actions_of(&self, receiver: &str) -> &[PlanAction] {
        self.receivers.iter().find(|(name, _)| *name == receiver).map_or(&[], |(_, actions)| actions)
    }

    pub fn action(&self, id: &ActionId) -> Option<&PlanAction> {
        self.actions().find(|action| action.id == *id)
    }

    /// An action that this plan may lack, with small limits.
    pub fn any_action(id: &ActionId) -> PlanAction {
        let found = Plan::all().iter().find_map(|plan| plan.action(id).cloned());
        PlanAction { max_in_flight: 1, ..found.expect("some plan has it") }
    }

    /// What is to be heard of again and again: which there are, and how often they come, differs.
    fn heartbeats(&self) -> impl Iterator<Item = Heartbeat> {
        let heartbeat = |name: &&str| Heartbeat {
            name: (*name).into(),
            period_ms: if self.number < 3 { 20 * MINUTE } else { 50 * MINUTE },
            grace_ms: 5 * MINUTE,
            max_duration_ms: (*name == JOBS[1]).then_some(10 * MINUTE),
            labels: [("host".into(), format!("{}", self.number / 2).into())].into(),
            client: None,
        };
        JOBS.iter().take(1 + self.number % JOBS.len()).map(heartbeat)
    }

    /// What the core is given.
    pub fn install(&self, removed: Vec<(ActionId, Removed)>, by: &str) -> Install {
        Install {
            config: self.config(),
            text: format!("plan {}", self.number),
            rule_version: RULE_VERSION,
            removed,
            by: by.into(),
        }
    }

    fn config(&self) -> Config {
        let own = Route {
            receiver: Some(self.receivers[1].0.into()),
            matchers: vec![Matcher::parse("source=\"ams2\"").expect("valid")],
            group_wait_ms: Some(0),
            group_interval_ms: Some(MINUTE),
            ..Route::default()
        };
        let below = self.routes.iter().map(|route| Route {
            receiver: Some(route.receiver.into()),
            matchers: vec![Matcher::parse(&matcher_text(route)).expect("valid")],
            group_by: Some(match &route.group_by {
                None => GroupBy::All,
                Some(names) => GroupBy::Labels(names.iter().map(|name| (*name).into()).collect()),
            }),
            group_wait_ms: Some(route.wait),
            group_interval_ms: Some(route.interval),
            notify: Some(if route.each { Notify::Each } else { Notify::Group }),
            tell_short: Some(route.tell_short),
            goes_on: true,
            ..Route::default()
        });
        let root = Route {
            group_by: Some(GroupBy::Labels(vec!["event".into()])),
            group_wait_ms: Some(30 * SECOND),
            group_interval_ms: Some(MINUTE),
            repeat_interval_ms: Some(HOUR),
            routes: std::iter::once(own).chain(below).collect(),
            ..Route::default()
        };
        let receivers = self.receivers.iter().map(|(name, actions)| Receiver {
            name: (*name).into(),
            actions: actions.iter().map(spec).collect(),
        });
        let receivers: Vec<Receiver> = receivers.collect();
        let mut config = Config::single(receivers[0].clone(), root);
        config.receivers = receivers;
        config.inhibit_rules = self.rules.iter().map(rule).collect();
        config.heartbeats = self.heartbeats().collect();
        config.check_ins = CheckIns {
            period_ms: if self.number < 3 { 30 * MINUTE } else { 60 * MINUTE },
            grace_ms: 5 * MINUTE,
            remove_after_ms: 3 * HOUR,
            warn_above: 1,
            most: None,
        };
        config.resolve_timeout_ms = 5 * MINUTE;
        config.give_up = GiveUp { after_ms: 2 * HOUR, critical_after_ms: 6 * HOUR };
        config
    }
}

fn rule(rule: &PlanRule) -> InhibitRule {
    let matchers = |demands: Demands| {
        let texts = demands.iter().map(|(name, values)| format!("{name}=~\"{}\"", values.join("|")));
        texts.map(|text| Matcher::parse(&text).expect("valid")).collect()
    };
    InhibitRule {
        source_matchers: matchers(rule.source),
        target_matchers: matchers(rule.target),
        equal: vec!["host".into()],
        ..InhibitRule::default()
    }
}

fn matcher_text(route: &PlanRoute) -> String {
    match route.second {
        true => format!("event=~\"{}\"", route.event),
        false => format!("event=\"{}\"", route.event),
    }
}

fn spec(action: &PlanAction) -> ActionSpec {
    ActionSpec {
        id: action.id.clone(),
        send_resolved: action.send_resolved,
        max_in_flight: action.max_in_flight,
        batch_max: action.batch_max,
        max_per_minute: action.max_per_minute,
        timeout_ms: 10 * SECOND,
        patient: false,
        pending_max: None,
    }
}
