//! A notification as fields, for rules.

use std::{borrow::Cow, collections::BTreeMap, net::Ipv4Addr};

use minijinja::value::{Serde, Value};
use smol_str::{SmolStr, ToSmolStr};

use super::{
    message::{Notification, ParseError},
    names::{Names, Place},
    oid,
    value::{Varbind, hex},
};
use crate::originator::mapping::Fields;

/// The names of fields that stand for themselves; beside them there are `vb`, `time`, `index`, `varbinds` and `ams2_labels`.
const NAMES: [&str; 19] = [
    "trap",
    "trap_name",
    "enterprise",
    "kind",
    "version",
    "computer",
    "peer",
    "agent",
    "client",
    "uptime",
    "user",
    "level",
    "engine",
    "context",
    "authenticated",
    "replay_risk",
    "parse_error",
    "text",
    "request_id",
];

/// How a notification came.
#[derive(Clone, Copy, Debug)]
pub struct Came<'m> {
    /// The address that it came from.
    pub peer: &'m str,
    /// Who sent it.
    pub client: &'m str,
    /// Whether a digest vouches for it; `None` where it came from this machine without one.
    pub is_authenticated: Option<bool>,
    /// v3: the user, the level, the engine and the context.
    pub user: &'m str,
    /// The level in RFC 3411's word.
    pub level: &'m str,
    /// The engine that it is of, or for.
    pub engine: &'m [u8],
    /// The context's name.
    pub context: &'m [u8],
    /// Whether nobody knows if it is of now: it is the first of its engine.
    pub is_first: bool,
    /// The PDU.
    pub raw: &'m [u8],
}

/// A notification, and the names of what is in it.
pub struct TrapFields<'m> {
    /// The notification.
    pub notification: &'m Notification<'m>,
    /// How it came.
    pub came: Came<'m>,
    /// Names.
    pub names: &'m Names,
    /// Its OID as people write it.
    pub trap: &'m str,
}

impl<'m> TrapFields<'m> {
    fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let (notification, came) = (self.notification, &self.came);
        let text: Cow<'_, str> = match name {
            "trap" => self.trap.into(),
            "trap_name" => self.names.of_trap(&notification.trap)?.into(),
            "enterprise" => {
                let enterprise = notification.enterprise.unwrap_or_else(|| oid::parent(&notification.trap));
                oid::dotted(enterprise).into()
            }
            "kind" => (if notification.is_inform { "inform" } else { "trap" }).into(),
            "version" => notification.version.word().into(),
            "computer" | "peer" => came.peer.into(),
            "agent" => self.agent()?.into(),
            "client" => came.client.into(),
            "uptime" => notification.uptime?.to_string().into(),
            "request_id" => notification.request_id.to_string().into(),
            "user" => came.user.into(),
            "level" => came.level.into(),
            "engine" => hex(came.engine).into(),
            "context" => String::from_utf8_lossy(came.context),
            "authenticated" => (if came.is_authenticated? { "true" } else { "false" }).into(),
            "replay_risk" => (if came.is_first { "true" } else { "" }).into(),
            "parse_error" => notification.parse_error.map_or("", ParseError::word).into(),
            "text" => self.line().into(),
            _ => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The agent's own address, where that is another than the one that it came from.
    pub fn agent(&self) -> Option<String> {
        let agent = Ipv4Addr::from(self.notification.agent?).to_string();
        (agent != self.came.peer).then_some(agent)
    }

    /// Every varbind with its value, on one line.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for varbind in &self.notification.varbinds {
            if !line.is_empty() {
                line.push_str("; ");
            }
            line.push_str(&self.names.of_object(varbind.oid));
            line.push_str(" = ");
            line.push_str(&ams2_handlers::text::one_line(&varbind.text()));
        }
        line
    }

    fn found(&self, place: &Place) -> Option<&Varbind<'m>> {
        self.notification.varbinds.iter().find(|varbind| place.index(varbind.oid).is_some())
    }

    /// A varbind by the name of its object, or by an OID at or above it.
    fn varbind(&self, name: &str) -> Option<&Varbind<'m>> {
        self.found(&self.names.place(name)?)
    }

    /// The labels of an alert of ams2 (ams2Labels).
    fn labels(&self) -> BTreeMap<SmolStr, String> {
        let line = self.varbind("ams2Labels").map(|varbind| varbind.text()).unwrap_or_default();
        labels_in(&line)
    }

    fn described(&self, varbind: &Varbind<'m>) -> serde_json::Value {
        serde_json::json!({
            "oid": oid::dotted(varbind.oid),
            "name": self.names.of_object(varbind.oid),
            "type": varbind.kind(),
            "value": varbind.text(),
        })
    }
}

/// Names and values as ams2 writes them into one varbind: `a=b c="d e"`. What was cut, or is none, is left out from there on.
fn labels_in(line: &str) -> BTreeMap<SmolStr, String> {
    let mut labels = BTreeMap::new();
    let mut rest = line;
    while let Some((name, behind)) = word(rest) {
        let Some((value, behind)) = behind.strip_prefix('=').and_then(word) else { break };
        labels.insert(name.into(), value);
        match behind.strip_prefix(' ') {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    labels
}

/// One word, perhaps in quotes, and what stands behind it.
fn word(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['=', ' ']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut word, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &quoted[at + 1..])),
            // What leaves a line stays escaped (`\n`, `\u{1b}`).
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            c => word.push(c),
        }
    }
    None
}

impl Fields for TrapFields<'_> {
    fn text(&self, path: &[SmolStr]) -> Option<Cow<'_, str>> {
        match path {
            [name] => self.field(name),
            [first, name] => match first.as_str() {
                "vb" => self.varbind(name).map(Varbind::text),
                "time" => self.varbind(name)?.moment().map(Cow::Owned),
                "index" => {
                    let place = self.names.place(name)?;
                    let index = place.index(self.found(&place)?.oid)?;
                    Some(oid::dotted_behind(index).into())
                }
                "ams2_labels" => self.labels().remove(name).map(Cow::Owned),
                _ => None,
            },
            [first, at, what] if first == "varbinds" => {
                let varbind = self.notification.varbinds.get(at.parse::<usize>().ok()?)?;
                Some(match what.as_str() {
                    "value" => varbind.text(),
                    "oid" => oid::dotted(varbind.oid).into(),
                    "name" => self.names.of_object(varbind.oid).into(),
                    "type" => varbind.kind().into(),
                    _ => return None,
                })
            }
            _ => None,
        }
    }

    fn below(&self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'_, str>)> {
        match path {
            [] => NAMES.iter().filter_map(|name| Some(((*name).into(), self.field(name)?))).collect(),
            [first] if first == "vb" => {
                let named = |varbind: &Varbind<'_>| self.names.of_object(varbind.oid).to_smolstr();
                let varbinds = self.notification.varbinds.iter();
                varbinds.map(|varbind| (named(varbind), varbind.text())).collect()
            }
            [first] if first == "ams2_labels" => {
                self.labels().into_iter().map(|(name, value)| (name, value.into())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn items(&self, path: &[SmolStr]) -> Option<usize> {
        matches!(path, [first] if first == "varbinds").then_some(self.notification.varbinds.len())
    }

    fn item(&self, path: &[SmolStr], index: usize) -> Option<Box<dyn Fields + '_>> {
        let varbind = self.notification.varbinds.get(index).filter(|_| self.items(path).is_some())?;
        Some(Box::new(OneVarbind { varbind: *varbind, all: self }))
    }

    fn whole(&self) -> Value {
        let mut whole: serde_json::Map<String, serde_json::Value> =
            self.below(&[]).into_iter().map(|(name, text)| (name.into(), text.into_owned().into())).collect();
        let varbinds = &self.notification.varbinds;
        // By name without the row, the first of each; and by OID as it is written.
        let (mut values, mut times, mut rows) = Default::default();
        let add = |map: &mut serde_json::Map<String, serde_json::Value>, name: &str, text: String| {
            map.entry(name).or_insert_with(|| text.into());
        };
        for varbind in varbinds {
            let named = self.names.of_object(varbind.oid);
            let dotted = oid::dotted(varbind.oid);
            let plain = named.split_once('.').filter(|_| named != dotted);
            let (name, row) = plain.unwrap_or((&named, ""));
            for name in [name, &dotted] {
                add(&mut values, name, varbind.text().into_owned());
                if let Some(moment) = varbind.moment() {
                    add(&mut times, name, moment);
                }
            }
            add(&mut rows, name, row.to_owned());
        }
        let labels = self.labels().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        for (name, map) in [("vb", values), ("time", times), ("index", rows), ("ams2_labels", labels)] {
            whole.insert(name.into(), serde_json::Value::Object(map));
        }
        whole.insert("varbinds".into(), varbinds.iter().map(|varbind| self.described(varbind)).collect());
        Value::from(Serde(&serde_json::Value::Object(whole)))
    }
}

/// One varbind as an item of `varbinds`.
struct OneVarbind<'a, 'm> {
    varbind: Varbind<'m>,
    all: &'a TrapFields<'m>,
}

impl Fields for OneVarbind<'_, '_> {
    fn text(&self, path: &[SmolStr]) -> Option<Cow<'_, str>> {
        let [name] = path else { return None };
        Some(match name.as_str() {
            "value" => self.varbind.text(),
            "oid" => oid::dotted(self.varbind.oid).into(),
            "name" => self.all.names.of_object(self.varbind.oid).into(),
            "type" => self.varbind.kind().into(),
            _ => return None,
        })
    }

    fn below(&self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'_, str>)> {
        let names = if path.is_empty() { &["oid", "name", "type", "value"][..] } else { &[] };
        names.iter().filter_map(|name| Some(((*name).into(), self.text(&[(*name).into()])?))).collect()
    }

    fn whole(&self) -> Value {
        Value::from(Serde(&self.all.described(&self.varbind)))
    }
}
