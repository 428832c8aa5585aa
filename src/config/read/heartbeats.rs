//! Heartbeats: what is to be heard of again and again, and what its alert says when it is not.

use std::collections::{BTreeMap, HashMap};

use ams2_core::{
    config::{HEARTBEATS_MAX, Heartbeat},
    machine::{HEARTBEAT_LABEL, HEARTBEAT_MISSING, OWN_EVENTS, OWN_LABEL},
};
use smol_str::SmolStr;

use super::Reader;
use crate::{
    config::{Place, nearest, tree::Node},
    originator::{Clients, Limits},
};

/// Longest name, in bytes: it stands in a path, in a label and in every sentence about it.
const NAME_BYTES_MAX: usize = 128;
/// Shortest period and longest run, in milliseconds: what is less is over before anybody was told.
const SPAN_MS_MIN: u64 = 1_000;

impl Reader<'_> {
    pub(super) fn heartbeats(&mut self, node: &Node, clients: &Clients, limits: &Limits) -> Vec<Heartbeat> {
        let mut heartbeats: Vec<Heartbeat> = Vec::new();
        let mut places: HashMap<SmolStr, Place> = HashMap::new();
        let items = self.found.list(node);
        if items.len() > HEARTBEATS_MAX {
            let message = format!("{} heartbeats; a router may have {HEARTBEATS_MAX}", items.len());
            self.found.error(node.place, message, "share them among several routers");
            return heartbeats;
        }
        for item in items {
            let Some((heartbeat, place)) = self.heartbeat(item, clients, limits) else { continue };
            if let Some(first) = places.get(&heartbeat.name) {
                let first = self.found.at(*first);
                let message = format!("the heartbeat `{}` is defined twice, first {first}", heartbeat.name);
                self.found.error(place, message, "rename one of the two");
                continue;
            }
            places.insert(heartbeat.name.clone(), place);
            heartbeats.push(heartbeat);
        }
        heartbeats
    }

    fn heartbeat(&mut self, item: &Node, clients: &Clients, limits: &Limits) -> Option<(Heartbeat, Place)> {
        let mut fields = self.found.fields(item);
        let name = fields.demand("name", &mut self.found);
        let name = name.and_then(|node| Some((self.heartbeat_name(node)?, node.place)));
        let period = fields.demand("period", &mut self.found);
        let period = period.and_then(|node| self.found.duration_ms(node, SPAN_MS_MIN));
        let grace = fields.demand("grace", &mut self.found);
        let grace = grace.and_then(|node| self.found.duration_ms(node, 0));
        let longest = fields.take("max_duration").and_then(|node| self.found.duration_ms(node, SPAN_MS_MIN));
        let labels = fields.take("labels").map(|node| self.heartbeat_labels(node, limits));
        let client = fields.take("client").and_then(|node| self.heartbeat_client(node, clients));
        fields.end(&mut self.found);
        let (name, place) = name?;
        let heartbeat = Heartbeat {
            name,
            period_ms: period?,
            grace_ms: grace?,
            max_duration_ms: longest,
            labels: labels.unwrap_or_default(),
            client,
        };
        Some((heartbeat, place))
    }

    fn heartbeat_name(&mut self, node: &Node) -> Option<SmolStr> {
        let name = self.found.plain(node)?;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_part) || name.bytes().all(|byte| byte == b'.') {
            let message = format!("a heartbeat cannot be called `{name}`: it is a part of a path");
            self.found.error(node.place, message, "use letters, digits, `.`, `_` and `-`");
            return None;
        }
        if name.len() > NAME_BYTES_MAX {
            let message =
                format!("the name has {} bytes; a heartbeat's may have {NAME_BYTES_MAX}", name.len());
            self.found.error(node.place, message, "use a shorter one");
            return None;
        }
        Some(name.into())
    }

    fn heartbeat_labels(&mut self, node: &Node, limits: &Limits) -> BTreeMap<SmolStr, SmolStr> {
        let fields = self.found.fields(node);
        let mut labels = BTreeMap::new();
        for (key, value) in fields.entries {
            let (name, place) = (key.text.as_str(), key.place);
            let Some(text) = self.found.plain(value) else { continue };
            let is_taken = OWN_EVENTS.iter().any(|(event, ..)| *event == text && text != HEARTBEAT_MISSING);
            if name.is_empty() {
                self.found.error(place, "a label without a name", "name it, or remove it");
            } else if [OWN_LABEL, HEARTBEAT_LABEL].contains(&name) {
                let message = format!("`{name}` is ams2's to set");
                self.found.error(place, message, "use another name, or remove it");
            } else if name == "event" && is_taken {
                let message = format!("`{text}` is what ams2 says of itself");
                self.found.error(value.place, message, "use another event");
            } else if name == "severity" && self.severities.rank(text).is_none() {
                let message = format!("the severity `{text}` has no rank: no route by severity takes it");
                let mend = "use info, warning, minor, major or critical, or add the word to `severities:`";
                self.found.warning(value.place, message, mend);
            }
            if name.len() > limits.name_bytes {
                let message = format!(
                    "the name has {} bytes; a label's may have {} (originator.limits.name_bytes)",
                    name.len(),
                    limits.name_bytes
                );
                self.found.error(place, message, "use a shorter one");
            }
            labels.insert(name.into(), text.into());
        }
        self.sizes_of_own(node, &labels, limits);
        labels
    }

    fn heartbeat_client(&mut self, node: &Node, clients: &Clients) -> Option<SmolStr> {
        let name = self.found.plain(node)?;
        if !clients.known.iter().any(|client| client.name == name) {
            let near = nearest(name, clients.known.iter().map(|client| client.name.as_str()));
            let mend = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it under `originator.clients:`".into(),
            };
            self.found.error(node.place, format!("no client is called `{name}`"), mend);
            return None;
        }
        Some(name.into())
    }
}
