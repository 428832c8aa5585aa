//! What one alert has room for, and what is said of what had none.

use std::borrow::Cow;

use ams2_core::machine::{OWN_CLIENT, OWN_LABEL};
use ams2_handlers::text::cut;
use smol_str::SmolStr;

use super::{
    Bounds, PARSE_ERROR,
    text::{Seen, Text},
};
use crate::originator::json::{GENERATOR_URL_BYTES_MAX, Limits};

/// Bytes of an alert that what is said of its mistakes may take.
const PROBLEMS_BYTES_MAX: usize = 512;
/// Most mistakes of an alert that are said; the rest is counted.
const PROBLEMS_MAX: usize = 10;

/// What has a name and a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is a part of what the alert is.
    Label,
    /// It says something of it.
    Annotation,
}

impl Kind {
    /// How many there may be, and what they are called.
    pub fn most(self, limits: &Limits) -> (usize, &'static str) {
        match self {
            Kind::Label => (limits.labels, "label"),
            // One is left for what is said of mistakes.
            Kind::Annotation => (limits.annotations.saturating_sub(1), "annotation"),
        }
    }
}

/// What an alert has room for, and what had none.
pub struct Room<'b> {
    pub bounds: Bounds<'b>,
    /// Bytes that are left for names and values.
    pub bytes: usize,
    problems: Vec<String>,
    /// Problems that are not said.
    more: usize,
}

impl<'b> Room<'b> {
    /// All of it.
    pub fn of(bounds: Bounds<'b>) -> Room<'b> {
        let bytes = bounds.limits.alert_bytes.saturating_sub(PROBLEMS_BYTES_MAX + PARSE_ERROR.len());
        Room { bounds, bytes, problems: Vec::new(), more: 0 }
    }

    /// What a text says; nothing where it cannot be read, which is said.
    pub fn read<'s>(&mut self, text: &'s Text, seen: &Seen<'s>) -> Cow<'s, str> {
        text.read(seen).unwrap_or_else(|why| {
            self.say(|| why);
            Cow::Borrowed("")
        })
    }

    /// Adds a name that is new, as far as there is room.
    pub fn add<'s>(
        &mut self,
        found: &mut Vec<(SmolStr, Cow<'s, str>)>,
        name: SmolStr,
        value: Cow<'s, str>,
        kind: Kind,
    ) {
        let limits = self.bounds.limits;
        let (most, what) = kind.most(limits);
        if value.is_empty() || found.iter().any(|(known, _)| *known == name) {
            return;
        }
        let is_own = kind == Kind::Label && name == OWN_LABEL && value == OWN_CLIENT;
        if name.is_empty() || name.len() > limits.name_bytes || is_own {
            return self.say(|| format!("the {what} `{}` was left out", cut(&name, 64)));
        }
        if found.len() >= most || name.len() >= self.bytes {
            return self.say(|| format!("no room for the {what} `{}`", cut(&name, 64)));
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
        self.say(|| "cut: it was too long".into());
        let kept = cut(&value, self.bytes).into_owned();
        self.bytes -= kept.len();
        Cow::Owned(kept)
    }

    /// A link, if there is room for all of it: one that is cut leads nowhere.
    pub fn link<'s>(&mut self, url: Cow<'s, str>) -> Option<Cow<'s, str>> {
        if url.len() > GENERATOR_URL_BYTES_MAX.min(self.bytes) {
            self.say(|| format!("the generator_url was left out: it has {} bytes", url.len()));
            return None;
        }
        self.bytes -= url.len();
        Some(url).filter(|url| !url.is_empty())
    }

    /// Something is wrong with the alert: said once, and counted where too much is.
    pub fn say(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() >= PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        let problem = problem();
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// What is wrong, in words.
    pub fn said(&self) -> Option<String> {
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        let said = self.problems.join("; ");
        let said = cut(&said, PROBLEMS_BYTES_MAX.saturating_sub(more.len()));
        (!said.is_empty()).then(|| format!("{said}{more}"))
    }
}
