//! What was told in one step, made comparable: by web hook and group, without what cannot be equal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    super::webhook::Asked,
    script::{Alert, Script},
};

/// What one side told: by web hook and group the bodies in order, each with how often it came in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told(BTreeMap<(String, String), Vec<(Value, usize)>>);

/// The key of the group that a request is about.
pub fn group(asked: &Asked) -> String {
    asked.json()["groupKey"].as_str().unwrap_or_default().to_owned()
}

impl Told {
    /// What `side` told of all that came.
    pub fn new(script: &Script, side: &str, asked: &[Asked]) -> Told {
        let mut told: BTreeMap<_, Vec<(Value, usize)>> = BTreeMap::new();
        for one in asked {
            let Some((_, hook)) = one.path[1..].split_once('/').filter(|(of, _)| *of == side) else {
                continue;
            };
            let body = normal(script, one.json());
            let bodies = told.entry((hook.to_owned(), group(one))).or_default();
            match bodies.last_mut() {
                Some((last, times)) if *last == body => *times += 1,
                _ => bodies.push((body, 1)),
            }
        }
        Told(told)
    }

    pub fn add(&mut self, new: Told) {
        self.0.extend(new.0);
    }
}

/// The URL of the server is its own. What `max_alerts` leaves out is over, to Alertmanager's `status`; ours is the group's. Who does not say when an alert begins or ends leaves that to the server's clock.
fn normal(script: &Script, mut body: Value) -> Value {
    body["externalURL"] = Value::Null;
    if body["truncatedAlerts"] != 0 && firing(&body).is_empty() {
        body["status"] = json!("resolved");
    }
    let labels = |labels: &Value| -> BTreeMap<String, String> {
        serde_json::from_value(labels.clone()).unwrap_or_default()
    };
    for alert in body["alerts"].as_array_mut().into_iter().flatten() {
        let own = labels(&alert["labels"]);
        let same = |known: &Alert| {
            let known = known.labels.iter().filter(|(_, value)| !value.is_empty());
            known.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
                == own
        };
        if script.alerts.iter().find(|alert| same(alert)).is_some_and(|alert| !alert.timed) {
            alert["startsAt"] = json!("by the server's clock");
            if alert["status"] == "resolved" {
                alert["endsAt"] = json!("by the server's clock");
            }
        }
    }
    body
}

/// Whether both told the same in a step. After a reload at `reloaded` Alertmanager has its ways.
pub fn compare(told: &[Told; 2], before: &[Told; 2], reloaded: Option<jiff::Timestamp>) -> bool {
    let Some(at) = reloaded else { return repeated(&told[0]) == repeated(&told[1]) };
    let (ours, theirs) = (settled(&told[0], &before[0], at), settled(&told[1], &before[1], at));
    let same = |(key, theirs): (_, &Settled<'_>)| match ours.get(key) {
        // Without what had ended, what the rest has in common is another matter.
        Some(ours) if theirs.had_old => ours.alerts == theirs.alerts,
        Some(ours) => ours.body == theirs.body,
        None => false,
    };
    ours.len() == theirs.len() && theirs.iter().all(same)
}

/// Bodies, each with whether it came more than once: how often is a matter of the machine.
fn repeated(told: &Told) -> BTreeMap<&(String, String), Vec<(&Value, bool)>> {
    told.0
        .iter()
        .map(|(key, bodies)| (key, bodies.iter().map(|(body, times)| (body, *times > 1)).collect()))
        .collect()
}

/// The last word that a group had after a reload.
struct Settled<'a> {
    body: &'a Value,
    /// Without what had ended before.
    alerts: Vec<&'a Value>,
    had_old: bool,
}

/// At a reload Alertmanager forgets its groups and fills them again while it tells what is in them already, and it looks
/// again at what ended within the last half hour. So of each group only the last word counts, without what had ended before;
/// and if that leaves nothing that was not told before, it is none.
fn settled<'a>(
    told: &'a Told,
    before: &Told,
    reloaded: jiff::Timestamp,
) -> BTreeMap<&'a (String, String), Settled<'a>> {
    let mut settled = BTreeMap::new();
    for (key, bodies) in &told.0 {
        let Some((body, _)) = bodies.last() else { continue };
        let is_old = |alert: &&Value| {
            let ended = alert["endsAt"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            alert["status"] == "resolved" && ended.is_none_or(|ended| ended < reloaded)
        };
        let (old, alerts): (Vec<&Value>, Vec<&Value>) =
            body["alerts"].as_array().into_iter().flatten().partition(is_old);
        let had_old = !old.is_empty();
        let last = before.0.get(key).and_then(|bodies| bodies.last());
        let known = last.map(|(body, _)| firing(body)).unwrap_or_default();
        let now: BTreeSet<String> = alerts.iter().map(|alert| alert["fingerprint"].to_string()).collect();
        if !had_old || !now.is_subset(&known) {
            settled.insert(key, Settled { body, alerts, had_old });
        }
    }
    settled
}

fn firing(body: &Value) -> BTreeSet<String> {
    let alerts = body["alerts"].as_array().into_iter().flatten();
    alerts.filter(|alert| alert["status"] == "firing").map(|alert| alert["fingerprint"].to_string()).collect()
}

/// What of it differs, for people.
pub fn shown(told: &[Told; 2]) -> String {
    let mut text = String::new();
    let [ours, theirs] = told;
    let keys: BTreeSet<&(String, String)> = ours.0.keys().chain(theirs.0.keys()).collect();
    for key in keys.into_iter().filter(|key| ours.0.get(key) != theirs.0.get(key)) {
        text.push_str(&format!("{} {}\n", key.0, key.1));
        for (name, told) in [("ours", ours), ("theirs", theirs)] {
            for (body, times) in told.0.get(key).into_iter().flatten() {
                text.push_str(&format!("  {name}, {times} times: {body}\n"));
            }
        }
    }
    text
}
