//! One rule, and the alert that it makes of one record.

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use ams2_core::{BatchBuilder, Severities, Wall, batch::AlertTimes, matcher::Compiled};
use ams2_handlers::text::cut;
use minijinja::Value;
use regex::Regex;
use smol_str::SmolStr;

use super::{
    Acknowledged, Bounds, Mapped, PARSE_ERROR, Raw,
    fields::{Fields, Path},
    keys::{key_of, short},
    room::{Kind, Room},
    text::{Seen, Text},
    times::{NEVER, moment},
};

/// Most items of a list that one record may become alerts of.
const ITEMS_MAX: usize = 10_000;
/// Most bytes of alerts that one record may become: less than the journal takes at once.
const BATCH_BYTES_MAX: usize = 48 << 20;
/// So many times as many fields are looked at as there may be labels or annotations: some are empty.
const LOOKED_AT_TIMES: usize = 4;
/// Longest name and comment of who takes charge, in bytes.
const ACKNOWLEDGE_BYTES_MAX: usize = 1024;
/// How long ago what is over by now has ended, in milliseconds.
const OVER_AGO_MS: i64 = 1000;

/// What a rule does with what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Does {
    /// An alert, firing or resolved as `state` says.
    #[default]
    Alert,
    /// The alert ends.
    Resolve,
    /// Somebody takes charge of the alert with this key.
    Acknowledge,
    /// A heartbeat is heard of.
    Ping,
    /// Its sender hears that it is wrong.
    Refuse,
    /// Nothing: it is counted.
    Drop,
}

/// How long an alert fires whose sender says no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// Until somebody ends it.
    UntilResolved,
    /// So many milliseconds.
    For(u64),
}

/// A list whose items are an alert each.
pub type Items = Option<Path>;

/// Labels or annotations: those of fields that are taken over, and those with a text of their own, which come first.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// All fields below these are taken over by their names.
    pub from: Vec<Path>,
    /// Names and their texts.
    pub own: Vec<(SmolStr, Text)>,
}

/// A rule as it is configured.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// What must hold of fields.
    pub when: Vec<(Path, Compiled)>,
    /// What must be found in fields; what its groups catch is a field by the group's name.
    pub capture: Vec<(Path, Regex)>,
    /// A list whose items are an alert each.
    pub each: Items,
    /// What becomes of it.
    pub does: Does,
    /// Labels. Whatever gives the same labels is the same alert.
    pub labels: Names,
    /// Annotations.
    pub annotations: Names,
    /// The label `severity`.
    pub severity: Option<Text>,
    /// Words that stand for severities.
    pub severities: BTreeMap<SmolStr, SmolStr>,
    /// Whether it fires: a word. Firing unless set.
    pub state: Option<Text>,
    /// The sender's name of the alert, by which another rule ends it whatever its labels.
    pub key: Option<Text>,
    /// How long it fires unless it comes again; as long as every alert unless set.
    pub lasts: Option<Lasts>,
    /// The sender's name of the occurrence.
    pub id: Option<Text>,
    /// When it began.
    pub starts_at: Option<Text>,
    /// When it ended, or will.
    pub ends_at: Option<Text>,
    /// Where it came from, for people.
    pub generator_url: Option<Text>,
    /// Who takes charge.
    pub by: Option<Text>,
    /// Why.
    pub comment: Option<Text>,
    /// The heartbeat that is heard of.
    pub heartbeat: Option<Text>,
    /// Why it is refused.
    pub why: Option<Text>,
}

impl Rule {
    /// The first words of all fields that it names, but for those that it catches.
    pub fn fields(&self) -> BTreeSet<SmolStr> {
        let first = |path: &Path| path.steps().first().cloned();
        let mut fields: BTreeSet<SmolStr> = self.when.iter().filter_map(|(path, _)| first(path)).collect();
        let froms = self.labels.from.iter().chain(&self.annotations.from).chain(&self.each);
        fields.extend(froms.chain(self.capture.iter().map(|(path, _)| path)).filter_map(first));
        let named = self.labels.own.iter().chain(&self.annotations.own).map(|(_, text)| text);
        let texts = [
            &self.severity,
            &self.state,
            &self.key,
            &self.id,
            &self.starts_at,
            &self.ends_at,
            &self.generator_url,
            &self.by,
            &self.comment,
            &self.heartbeat,
            &self.why,
        ];
        let names = named.chain(texts.into_iter().flatten()).flat_map(Text::names);
        let caught: BTreeSet<&str> =
            self.capture.iter().flat_map(|(_, regex)| regex.capture_names().flatten()).collect();
        fields.extend(names.filter(|name| !caught.contains(name.as_str())).map(SmolStr::from));
        fields
    }

    /// What its groups caught, if it takes the record.
    pub(super) fn matches(
        &self,
        record: &dyn Fields,
        severities: &Severities,
    ) -> Option<Vec<(String, String)>> {
        let holds = |(path, matcher): &(Path, Compiled)| {
            let value = record.text(path.steps()).unwrap_or_default();
            matcher.matches(&value, severities)
        };
        if !self.when.iter().all(holds) {
            return None;
        }
        let mut captured = Vec::new();
        for (path, regex) in &self.capture {
            let value = record.text(path.steps())?;
            let groups = regex.captures(&value)?;
            let named = regex.capture_names().flatten();
            captured.extend(
                named.filter_map(|name| Some((name.to_owned(), groups.name(name)?.as_str().to_owned()))),
            );
        }
        Some(captured)
    }
}

/// An alert that a rule makes.
#[derive(Clone, Copy)]
pub(super) struct Draft<'r> {
    pub(super) rule: &'r Rule,
    pub(super) record: &'r dyn Fields,
    pub(super) item: &'r dyn Fields,
    pub(super) captured: &'r [(String, String)],
    /// Before its key.
    pub(super) source: &'r str,
    /// All of the record, once an expression asks for it.
    pub(super) root: &'r OnceCell<Value>,
}

impl Draft<'_> {
    /// Adds its alert to a batch, or that of each item of its list. `raw` keeps an item of which none comes, where others give one.
    pub(super) fn add_all(&self, batch: &mut BatchBuilder, bounds: Bounds<'_>, raw: Raw<'_>) -> Mapped {
        let Some(path) = &self.rule.each else {
            return self.add_to(batch, bounds).map_or(Mapped::NoAlert, |_| Mapped::Alerts(1));
        };
        let Some(items) = self.record.items(path.steps()) else { return Mapped::NoAlert };
        if items > ITEMS_MAX {
            return Mapped::TooMuch(format!(
                "`{path:?}` has {items} items; at most {ITEMS_MAX} are taken at once"
            ));
        }
        let (mut alerts, mut bytes, mut empty) = (0, 0, Vec::new());
        for index in 0..items {
            let Some(item) = self.record.item(path.steps(), index) else { continue };
            match (Draft { item: &*item, ..*self }).add_to(batch, bounds) {
                Some(more) => (alerts, bytes) = (alerts + 1, bytes + more),
                None => empty.push(index),
            }
            if bytes > BATCH_BYTES_MAX {
                let (alerts, most) = (index + 1, BATCH_BYTES_MAX >> 20);
                return Mapped::TooMuch(format!(
                    "its first {alerts} alerts have more than {most} MiB, which is the most"
                ));
            }
        }
        if alerts == 0 && items > 0 {
            return Mapped::NoAlert;
        }
        for index in empty {
            if let Some(item) = self.record.item(path.steps(), index) {
                raw(index, &*item, batch);
                alerts += 1;
            }
        }
        Mapped::Alerts(alerts)
    }

    /// Why its sender is refused.
    pub(super) fn why(&self) -> String {
        let why = self.rule.why.as_ref().map(|why| self.only(why)).unwrap_or_default();
        if why.is_empty() { "it is wrong".into() } else { why }
    }

    /// The heartbeat that is heard of.
    pub(super) fn heartbeat(&self) -> String {
        self.rule.heartbeat.as_ref().map(|name| self.only(name)).unwrap_or_default()
    }

    /// Who takes charge of which alert, if it says which.
    pub(super) fn acknowledged(&self, bounds: Bounds<'_>) -> Option<Acknowledged> {
        let read = |text: &Option<Text>| text.as_ref().map(|text| self.only(text)).unwrap_or_default();
        let within = |text: String| cut(&text, ACKNOWLEDGE_BYTES_MAX).into_owned();
        let key = read(&self.rule.key);
        (!key.is_empty()).then(|| Acknowledged {
            key: key_of(self.source, &key, bounds.limits.id_bytes),
            by: within(read(&self.rule.by)),
            comment: within(read(&self.rule.comment)),
        })
    }

    /// A text that stands alone; empty where it cannot be read.
    fn only(&self, text: &Text) -> String {
        let captured: Vec<(&str, &str)> =
            self.captured.iter().map(|(name, text)| (&**name, &**text)).collect();
        let seen = Seen::new(&captured, self.item, self.record, self.root);
        text.read(&seen).unwrap_or_default().into_owned()
    }

    /// Adds it to a batch, and says how many bytes of names and values it has; `None` when nothing of it is an alert.
    fn add_to(&self, batch: &mut BatchBuilder, bounds: Bounds<'_>) -> Option<usize> {
        let captured: Vec<(&str, &str)> =
            self.captured.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let seen = Seen::new(&captured, self.item, self.record, self.root);
        let mut room = Room::of(bounds);
        let labels = self.labels(&seen, &mut room);
        let annotations = named(&self.rule.annotations, &seen, &mut room);
        let times = self.times(&seen, bounds.now, &mut room);
        let id = self.rule.id.as_ref().map(|id| room.read(id, &seen)).filter(|id| !id.is_empty());
        let id = id.map(|id| short(&id, bounds.limits.id_bytes).into_owned());
        let key = self.rule.key.as_ref().map(|key| room.read(key, &seen)).filter(|key| !key.is_empty());
        let key = key.map(|key| key_of(self.source, &key, bounds.limits.id_bytes));
        let url = self.rule.generator_url.as_ref().map(|url| room.read(url, &seen));
        let url = url.and_then(|url| room.link(url));
        let bytes = bounds.limits.alert_bytes - room.bytes.min(bounds.limits.alert_bytes);
        for (name, value) in &labels {
            batch.label(name, value);
        }
        for (name, value) in &annotations {
            batch.annotation(name, value);
        }
        if let Some(problems) = room.said()
            && annotations.iter().all(|(name, _)| name != PARSE_ERROR)
        {
            batch.annotation(PARSE_ERROR, &problems);
        }
        if let Some(key) = key {
            batch.key(&key);
        }
        batch.finish_alert(times, id.as_deref(), url.as_deref()).ok().map(|()| bytes)
    }

    fn labels<'s>(&'s self, seen: &Seen<'s>, room: &mut Room<'_>) -> Vec<(SmolStr, Cow<'s, str>)> {
        let mut labels = Vec::new();
        if let Some(severity) = &self.rule.severity {
            let word = room.read(severity, seen);
            let known = self.rule.severities.get(word.as_ref());
            let word = known.map_or(word, |known| Cow::Owned(known.to_string()));
            room.add(&mut labels, "severity".into(), word, Kind::Label);
        }
        add_named(&mut labels, &self.rule.labels, seen, room, Kind::Label);
        labels
    }

    fn times(&self, seen: &Seen<'_>, now: Wall, room: &mut Room<'_>) -> AlertTimes {
        let mut time = |text: &Option<Text>| {
            let text = room.read(text.as_ref()?, seen);
            moment(&text).unwrap_or_else(|why| {
                room.say(|| why);
                None
            })
        };
        let (starts_at, ends_at) = (time(&self.rule.starts_at), time(&self.rule.ends_at));
        let resolved = match (self.rule.does, &self.rule.state) {
            (Does::Resolve, _) => true,
            (_, Some(state)) => is_resolved(&room.read(state, seen)),
            _ => false,
        };
        let lasting = self.rule.lasts.map(|lasts| match lasts {
            Lasts::UntilResolved => NEVER,
            Lasts::For(ms) => Wall(now.0.saturating_add_unsigned(ms)).min(NEVER),
        });
        // By the journal's clock, too, which may be half a second behind: else it would fire until then, under the labels that
        // it ends with.
        let over = Wall(now.0.saturating_sub(OVER_AGO_MS));
        let ends_at = match resolved {
            true => Some(ends_at.map_or(over, |end| end.min(over))),
            false => ends_at.or(lasting),
        };
        // A sender whose clock is ahead says that it ends before it began.
        let starts_at = starts_at.filter(|start| ends_at.is_none_or(|end| *start <= end));
        AlertTimes { starts_at, ends_at }
    }
}

/// Words of senders for what is over; everything else fires.
fn is_resolved(state: &str) -> bool {
    const OVER: [&str; 10] =
        ["resolved", "resolve", "ok", "close", "closed", "clear", "cleared", "up", "normal", "recovery"];
    OVER.iter().any(|word| state.trim().eq_ignore_ascii_case(word))
}

fn named<'s>(names: &'s Names, seen: &Seen<'s>, room: &mut Room<'_>) -> Vec<(SmolStr, Cow<'s, str>)> {
    let mut found = Vec::new();
    add_named(&mut found, names, seen, room, Kind::Annotation);
    found
}

fn add_named<'s>(
    found: &mut Vec<(SmolStr, Cow<'s, str>)>,
    names: &'s Names,
    seen: &Seen<'s>,
    room: &mut Room<'_>,
    kind: Kind,
) {
    for (name, text) in &names.own {
        let value = room.read(text, seen);
        room.add(found, name.clone(), value, kind);
    }
    let (most, what) = kind.most(room.bounds.limits);
    for path in &names.from {
        let (some, more) = seen.below(path, LOOKED_AT_TIMES * most);
        for (name, value) in some {
            room.add(found, name, value, kind);
        }
        if more > 0 {
            room.say(|| format!("{more} more fields of `{path:?}` are no {what}s: there is no room"));
        }
    }
}
