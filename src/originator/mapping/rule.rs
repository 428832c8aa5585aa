//! One rule, and the alert that it makes of one record.

use std::{borrow::Cow, collections::BTreeMap};

use ams2_core::{
    BatchBuilder, Severities, Wall,
    batch::AlertTimes,
    machine::{OWN_CLIENT, OWN_LABEL},
    matcher::Compiled,
};
use ams2_handlers::text::cut;
use regex::Regex;
use smol_str::SmolStr;

use super::{
    Acknowledged, Bounds, PARSE_ERROR,
    fields::{Fields, Path},
    text::{Seen, Text},
    times::{NEVER, moment},
};

/// Most items of a list that one record may become alerts of.
const ITEMS_MAX: usize = 10_000;
/// Longest name and comment of who takes charge, in bytes.
const ACKNOWLEDGE_BYTES_MAX: usize = 1024;
/// How long ago what is over by now has ended, in milliseconds.
const OVER_AGO_MS: i64 = 1000;
/// Bytes of an alert that what is said of its mistakes may take.
const PROBLEMS_BYTES_MAX: usize = 512;

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

    /// Each item that is an alert; how many there are, where there is a list.
    pub(super) fn each(&self, record: &dyn Fields, mut then: impl FnMut(&dyn Fields)) -> Option<usize> {
        let Some(path) = &self.each else {
            then(record);
            return None;
        };
        let items = record.items(path.steps())?;
        for item in (0..items.min(ITEMS_MAX)).filter_map(|index| record.item(path.steps(), index)) {
            then(&*item);
        }
        Some(items)
    }
}

/// An alert that a rule makes.
#[derive(Clone, Copy)]
pub(super) struct Draft<'r> {
    pub(super) rule: &'r Rule,
    pub(super) record: &'r dyn Fields,
    pub(super) item: &'r dyn Fields,
    pub(super) captured: &'r [(String, String)],
}

impl Draft<'_> {
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
        let short = |text: String| cut(&text, ACKNOWLEDGE_BYTES_MAX).into_owned();
        let key = read(&self.rule.key);
        let is_key = !key.is_empty() && key.len() <= bounds.limits.id_bytes;
        is_key.then(|| Acknowledged {
            key,
            by: short(read(&self.rule.by)),
            comment: short(read(&self.rule.comment)),
        })
    }

    /// A text that stands alone; empty where it cannot be read.
    fn only(&self, text: &Text) -> String {
        let captured: Vec<(&str, &str)> =
            self.captured.iter().map(|(name, text)| (&**name, &**text)).collect();
        let seen = Seen { captured: &captured, item: self.item, root: self.record };
        text.read(&seen).unwrap_or_default().into_owned()
    }

    /// Adds it to a batch; `false` when nothing of it is an alert.
    pub(super) fn add_to(&self, batch: &mut BatchBuilder, bounds: Bounds<'_>) -> bool {
        let captured: Vec<(&str, &str)> =
            self.captured.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let seen = Seen { captured: &captured, item: self.item, root: self.record };
        let mut room = Room::of(bounds);
        let labels = self.labels(&seen, &mut room);
        let annotations = named(&self.rule.annotations, &seen, &mut room);
        let times = self.times(&seen, bounds.now, &mut room);
        let id = self.rule.id.as_ref().map(|id| room.read(id, &seen)).filter(|id| !id.is_empty());
        let id = id.map(|id| cut(&id, bounds.limits.id_bytes).into_owned());
        let key = self.rule.key.as_ref().map(|key| room.read(key, &seen));
        // A key that is cut would be another's.
        if let Some(key) = &key
            && key.len() > bounds.limits.id_bytes
        {
            room.say(format!("the key `{}` is too long", cut(key, 64)));
        }
        // One that is cut would be another's.
        let key = key.filter(|key| key.len() <= bounds.limits.id_bytes);
        let url = self.rule.generator_url.as_ref().map(|url| room.read(url, &seen));
        let url = url.filter(|url| !url.is_empty()).map(|url| room.fitting(url));
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
        batch.finish_alert(times, id.as_deref(), url.as_deref()).is_ok()
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
                room.say(why);
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Label,
    Annotation,
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
    for path in &names.from {
        for (name, value) in seen.below(path) {
            room.add(found, name, value, kind);
        }
    }
}

/// What an alert has room for, and what had none.
struct Room<'b> {
    bounds: Bounds<'b>,
    bytes: usize,
    problems: Vec<String>,
}

impl<'b> Room<'b> {
    fn of(bounds: Bounds<'b>) -> Room<'b> {
        let bytes = bounds.limits.alert_bytes.saturating_sub(PROBLEMS_BYTES_MAX + PARSE_ERROR.len());
        Room { bounds, bytes, problems: Vec::new() }
    }

    fn read<'s>(&mut self, text: &'s Text, seen: &Seen<'s>) -> Cow<'s, str> {
        text.read(seen).unwrap_or_else(|why| {
            self.say(why);
            Cow::Borrowed("")
        })
    }

    /// Adds a name that is new, as far as there is room.
    fn add<'s>(
        &mut self,
        found: &mut Vec<(SmolStr, Cow<'s, str>)>,
        name: SmolStr,
        value: Cow<'s, str>,
        kind: Kind,
    ) {
        let limits = self.bounds.limits;
        let (most, what) = match kind {
            Kind::Label => (limits.labels, "label"),
            // One is left for what is said of mistakes.
            Kind::Annotation => (limits.annotations.saturating_sub(1), "annotation"),
        };
        if value.is_empty() || found.iter().any(|(known, _)| *known == name) {
            return;
        }
        let is_own = kind == Kind::Label && name == OWN_LABEL && value == OWN_CLIENT;
        if name.is_empty() || name.len() > limits.name_bytes || is_own {
            return self.say(format!("the {what} `{}` was left out", cut(&name, 64)));
        }
        if found.len() >= most || name.len() >= self.bytes {
            return self.say(format!("no room for the {what} `{}`", cut(&name, 64)));
        }
        self.bytes -= name.len();
        let value = self.fitting(value);
        found.push((name, value));
    }

    /// As much of a value as there is room for.
    fn fitting<'s>(&mut self, value: Cow<'s, str>) -> Cow<'s, str> {
        if value.len() <= self.bytes {
            self.bytes -= value.len();
            return value;
        }
        self.say("cut: it was too long".into());
        let kept = cut(&value, self.bytes).into_owned();
        self.bytes -= kept.len();
        Cow::Owned(kept)
    }

    fn say(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// What is wrong, in words.
    fn said(&self) -> Option<String> {
        let said = self.problems.join("; ");
        (!said.is_empty()).then(|| cut(&said, PROBLEMS_BYTES_MAX).into_owned())
    }
}
