//! The configurations of the scripts: routes of random shape, as an alertmanager.yml.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{
    super::harness::Dice,
    script::{Alert, Kind},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

/// A matcher; a regex is one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    pub name: &'static str,
    pub op: Op,
    pub values: Vec<&'static str>,
}

impl Matcher {
    pub fn matches(&self, alert: &Alert) -> bool {
        let value = alert.labels.get(self.name).copied().unwrap_or("");
        let found = self.values.contains(&value);
        found == matches!(self.op, Op::Equal | Op::Regex)
    }

    pub fn is_regex(&self) -> bool {
        matches!(self.op, Op::Regex | Op::NotRegex)
    }

    pub fn is_equal(&self) -> bool {
        matches!(self.op, Op::Equal | Op::Regex)
    }

    pub fn value(&self) -> String {
        self.values.join("|")
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Regex => "=~",
            Op::NotRegex => "!~",
        };
        write!(f, "{}{op}\"{}\"", self.name, self.value())
    }
}

/// How a route's matchers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Match,
    MatchRegex,
    Matchers,
}

#[derive(Clone, Debug)]
struct Route {
    receiver: Option<String>,
    style: Style,
    matchers: Vec<Matcher>,
    goes_on: bool,
    /// Number in `GROUPINGS`, and those that it had.
    group_by: Option<usize>,
    had: Vec<usize>,
    interval_s: Option<u64>,
    repeats: bool,
    times: Option<(&'static str, &'static str)>,
    routes: Vec<Route>,
}

/// An alertmanager.yml.
#[derive(Clone, Debug)]
pub struct Config {
    root: Route,
    receivers: Vec<String>,
    /// Whether a web hook shows one alert only. Not where it must be seen which have ended.
    truncates: bool,
    rules: Vec<usize>,
    /// In seconds; alerts without an end are over then.
    pub timeout_s: Option<u64>,
}

const GROUPINGS: [&[&str]; 7] = [
    &["alertname"],
    &["team"],
    &["alertname", "instance"],
    &["..."],
    &["severity", "team"],
    &["text", "instance"],
    &["job"],
];
pub const LABELS: [(&str, &[&str]); 4] = [
    ("alertname", &["DiskFull", "Slow", "Down"]),
    ("severity", &["critical", "warning", "info"]),
    ("team", &["db", "web", "net"]),
    ("instance", &["a:9100", "b:9100", "c"]),
];
/// Receivers of every script, with `send_resolved` and `max_alerts` of each web hook. `extra` ones come with changes.
const RECEIVERS: [(&str, &[(bool, u64)]); 4] =
    [("quiet", &[]), ("all", &[(true, 0)]), ("firing", &[(false, 0)]), ("both", &[(true, 1), (false, 0)])];
/// Inhibition rules: sources, targets, equal.
const RULES: [(&str, &str, &[&str]); 4] = [
    ("severity=\"critical\"", "severity=~\"warning|info\"", &["instance"]),
    ("alertname=\"Down\"", "alertname!=\"Down\"", &["team", "instance"]),
    ("team=\"db\"", "severity=~\".+\"", &["alertname"]),
    ("severity=\"info\"", "team=\"net\"", &[]),
];

impl Config {
    pub fn new(dice: &mut Dice, kind: Kind, timeout_s: Option<u64>) -> Config {
        let mut root = Route::new(dice, 0, kind);
        let own = Route { receiver: Some("quiet".into()), ..Route::plain("source", "ams2") };
        root.matchers.clear();
        root.times = None;
        root.goes_on = false;
        root.receiver = Some((*dice.pick(&["all", "both"])).to_owned());
        root.group_by = root.group_by.or(Some(0));
        root.had = root.group_by.into_iter().collect();
        root.interval_s = Some(root.interval_s.unwrap_or(1));
        let children = 2 + dice.below(3);
        for _ in 0..children {
            let child = Route::new(dice, 1, kind);
            root.add(child, None);
        }
        if kind == Kind::Repeating
            && let Some(route) = root.routes.first_mut()
        {
            (route.repeats, route.interval_s, route.times) = (true, Some(1), None);
        }
        root.routes.insert(0, own);
        let rules = match kind {
            Kind::Holding => (0..RULES.len()).filter(|_| dice.one_in(3)).take(2).collect(),
            // Alertmanager's inhibition may come too late after a reload.
            Kind::Reloading | Kind::Repeating => Vec::new(),
        };
        let receivers = RECEIVERS.iter().map(|(name, _)| (*name).to_owned()).collect();
        Config { root, receivers, truncates: kind != Kind::Reloading, rules, timeout_s }
    }

    /// The longest time between two looks at a group.
    pub fn interval_ms(&self) -> u64 {
        self.root.interval_max_s() * 1000
    }

    /// Another one that leads no alert back to where it was told before an earlier change.
    pub fn changed(&self, dice: &mut Dice, number: usize, kind: Kind) -> Config {
        let mut next = self.clone();
        match dice.below(4) {
            0 => {}
            1 => {
                let place = dice.below(next.root.count()) as usize;
                let route = next.root.nth(place);
                let fresh = (0..GROUPINGS.len()).filter(|way| !route.had.contains(way));
                let fresh: Vec<usize> = fresh.collect();
                let way = *dice.pick(&fresh);
                route.had.push(way);
                route.group_by = Some(way);
            }
            2 => {
                let child = Route::new(dice, 1, kind);
                let place = 1 + dice.below(next.root.routes.len() as u64) as usize;
                next.root.add(child, Some(place));
            }
            _ => {
                let name = format!("extra{number}");
                let place = dice.below(next.root.count()) as usize;
                next.root.nth(place).receiver = Some(name.clone());
                next.receivers.push(name);
            }
        }
        next
    }

    /// As YAML, which JSON is.
    pub fn text(&self, url: &str) -> String {
        let receivers = self.receivers.iter().map(|name| {
            let hooks = RECEIVERS.iter().find(|(known, _)| known == name).map_or(&[(true, 0)][..], |(_, hooks)| hooks);
            let hooks = hooks.iter().enumerate().map(|(number, (send_resolved, max_alerts))| {
                json!({ "url": format!("{url}/{name}/{number}"), "send_resolved": send_resolved, "max_alerts": if self.truncates { *max_alerts } else { 0 } })
            });
            json!({ "name": name, "webhook_configs": hooks.collect::<Vec<_>>() })
        });
        let rules = self.rules.iter().map(|number| {
            let (source, target, equal) = RULES[*number];
            json!({ "source_matchers": [source], "target_matchers": [target], "equal": equal })
        });
        let config = json!({
            "global": { "resolve_timeout": format!("{}s", self.timeout_s.unwrap_or(300)) },
            "route": self.root.json(true),
            "receivers": receivers.collect::<Vec<_>>(),
            "inhibit_rules": rules.collect::<Vec<_>>(),
            "time_intervals": [
                { "name": "always", "time_intervals": [{ "times": [{ "start_time": "00:00", "end_time": "24:00" }] }] },
                { "name": "never", "time_intervals": [{ "years": ["1999"] }] },
            ],
        });
        serde_json::to_string_pretty(&config).expect("plain data encodes")
    }
}

impl Route {
    fn plain(name: &'static str, value: &'static str) -> Route {
        Route {
            receiver: None,
            style: Style::Matchers,
            matchers: vec![Matcher { name, op: Op::Equal, values: vec![value] }],
            goes_on: false,
            group_by: None,
            had: Vec::new(),
            interval_s: None,
            repeats: false,
            times: None,
            routes: Vec::new(),
        }
    }

    fn new(dice: &mut Dice, depth: u64, kind: Kind) -> Route {
        let style = *dice.pick(&[Style::Match, Style::MatchRegex, Style::Matchers, Style::Matchers]);
        let matchers = matchers(dice, style);
        let receiver = (!dice.one_in(4)).then(|| (*dice.pick(&["all", "firing", "both"])).to_owned());
        let group_by = (!dice.one_in(2)).then(|| dice.below(GROUPINGS.len() as u64) as usize);
        let times = (kind != Kind::Repeating && dice.one_in(4)).then(|| {
            (*dice.pick(&["mute_time_intervals", "active_time_intervals"]), *dice.pick(&["always", "never"]))
        });
        let mut route = Route {
            receiver,
            style,
            matchers,
            goes_on: dice.one_in(3),
            group_by,
            had: group_by.into_iter().collect(),
            interval_s: dice.one_in(3).then(|| 1 + dice.below(2)),
            repeats: false,
            times,
            routes: Vec::new(),
        };
        if depth == 1 && dice.one_in(3) {
            let child = Route::new(dice, depth + 1, kind);
            route.add(child, None);
        }
        route
    }

    /// Adds a route unless one beside it has the same matchers: their groups would have the same names.
    fn add(&mut self, route: Route, place: Option<usize>) {
        let key = |route: &Route| {
            let mut key: Vec<String> = route
                .matchers
                .iter()
                .map(|matcher| format!("{:?}{matcher}", route.style == Style::MatchRegex))
                .collect();
            key.sort();
            key
        };
        if self.routes.iter().all(|known| key(known) != key(&route)) {
            let place = place.unwrap_or(self.routes.len());
            self.routes.insert(place, route);
        }
    }

    /// Routes that may change: all but the one for own alerts.
    fn count(&self) -> u64 {
        let own = self.matchers.iter().any(|matcher| matcher.name == "source");
        u64::from(!own) + self.routes.iter().map(Route::count).sum::<u64>()
    }

    fn nth(&mut self, number: usize) -> &mut Route {
        let mut left = number;
        let mut route = self;
        while left > 0 {
            left -= 1;
            let mut place = 0;
            while left >= route.routes[place].count() as usize {
                left -= route.routes[place].count() as usize;
                place += 1;
            }
            route = &mut route.routes[place];
        }
        route
    }

    fn interval_max_s(&self) -> u64 {
        self.routes.iter().map(Route::interval_max_s).fold(self.interval_s.unwrap_or(0), u64::max)
    }

    fn json(&self, is_root: bool) -> Value {
        let mut out = Map::new();
        if is_root {
            out.insert("group_wait".into(), json!("500ms"));
            out.insert("repeat_interval".into(), json!("1h"));
        }
        if let Some(receiver) = &self.receiver {
            out.insert("receiver".into(), json!(receiver));
        }
        let pairs = || self.matchers.iter().map(|matcher| (matcher.name.to_owned(), json!(matcher.value())));
        if !self.matchers.is_empty() {
            let (key, value) = match self.style {
                Style::Match => ("match", Value::Object(pairs().collect())),
                Style::MatchRegex => ("match_re", Value::Object(pairs().collect())),
                Style::Matchers => {
                    ("matchers", self.matchers.iter().map(|matcher| json!(matcher.to_string())).collect())
                }
            };
            out.insert(key.into(), value);
        }
        if self.goes_on {
            out.insert("continue".into(), json!(true));
        }
        if let Some(group_by) = self.group_by {
            out.insert("group_by".into(), json!(GROUPINGS[group_by]));
        }
        if let Some(interval) = self.interval_s {
            out.insert("group_interval".into(), json!(format!("{interval}s")));
        }
        if self.repeats {
            out.insert("repeat_interval".into(), json!("1ms"));
        }
        if let Some((key, name)) = self.times {
            out.insert(key.into(), json!([name]));
        }
        if !self.routes.is_empty() {
            let routes: Vec<Value> = self.routes.iter().map(|route| route.json(false)).collect();
            out.insert("routes".into(), Value::Array(routes));
        }
        Value::Object(out)
    }
}

/// One or two matchers on different labels.
pub fn matchers(dice: &mut Dice, style: Style) -> Vec<Matcher> {
    let first = dice.below(LABELS.len() as u64) as usize;
    let count = if dice.one_in(3) { 2 } else { 1 };
    let names = [LABELS[first], LABELS[(first + 1) % LABELS.len()]];
    let names = names.into_iter().take(count);
    let matcher = |(name, values): (&'static str, &'static [&'static str])| {
        let op = match style {
            Style::Match => Op::Equal,
            Style::MatchRegex => Op::Regex,
            Style::Matchers => *dice.pick(&[Op::Equal, Op::Equal, Op::NotEqual, Op::Regex, Op::NotRegex]),
        };
        let first = dice.below(values.len() as u64) as usize;
        let mut chosen = vec![values[first]];
        if matches!(op, Op::Regex | Op::NotRegex) && dice.one_in(2) {
            chosen.push(values[(first + 1) % values.len()]);
        }
        Matcher { name, op, values: chosen }
    };
    names.map(matcher).collect()
}
