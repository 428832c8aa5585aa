//! Rules that say which alert something that came in is.

use ams2_core::matcher::Matcher;
use regex::RegexBuilder;
use smol_str::SmolStr;

use super::Reader;
use crate::{
    config::{
        nearest,
        tree::{Node, Value},
    },
    originator::mapping::{Does, Lasts, Mapping, Names, Path, Rule, Text},
};

/// Longest regex of a `capture`, in bytes, and compiled: what comes in must stay cheap.
const REGEX_BYTES_MAX: usize = 8 << 10;
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
const PATH_MEND: &str = "write it like `app`, `sd.origin.ip`, `sd[\"id@32473\"].name` or `tags[0]`";
const DOES: [(&str, Does); 6] = [
    ("alert", Does::Alert),
    ("resolve", Does::Resolve),
    ("acknowledge", Does::Acknowledge),
    ("ping", Does::Ping),
    ("drop", Does::Drop),
    ("refuse", Does::Refuse),
];

impl Reader<'_> {
    /// A list of rules.
    pub(super) fn mapping(&mut self, node: &Node) -> Mapping {
        let items = self.found.list(node);
        if items.is_empty() && matches!(node.value, Value::List(_) | Value::Null) {
            self.found.error(node.place, "there is no rule in it", "add one, or leave `mapping` out");
        }
        let rules = items.iter().map(|item| self.rule(item)).collect();
        let mapping = Mapping::new(rules);
        self.rules_behind_all(node, &mapping);
        mapping
    }

    fn rule(&mut self, node: &Node) -> Rule {
        let mut fields = self.found.fields(node);
        let when = fields.take("when").map(|node| self.when(node)).unwrap_or_default();
        let capture = fields.take("capture").map(|node| self.capture(node)).unwrap_or_default();
        let each = fields.take("each").and_then(|node| self.field_path(node));
        let does = fields.take("does").and_then(|node| self.does(node)).unwrap_or_default();
        let (own, from) = (fields.take("labels"), fields.take("labels_from"));
        // What is wrong in them is said where it stands.
        let is_some = |node: &Node| {
            !matches!(&node.value, Value::Null) && !matches!(&node.value, Value::Map(of) if of.is_empty())
        };
        let says_labels = own.is_some_and(is_some) || from.is_some();
        let labels = self.names(own, from);
        let annotations = self.names(fields.take("annotations"), fields.take("annotations_from"));
        let severity_node = fields.take("severity");
        let severity = severity_node.and_then(|node| self.mapped_text(node));
        let severities = fields.take("severity_words").map(|node| self.words(node)).unwrap_or_default();
        let id_node = fields.take("id");
        let mut text = |name| fields.take(name).and_then(|node| self.mapped_text(node));
        let (state, id, key) = (text("state"), text("id"), text("key"));
        let (starts_at, ends_at, generator_url) = (text("starts_at"), text("ends_at"), text("generator_url"));
        let (by, comment, why) = (text("by"), text("comment"), text("why"));
        let heartbeat = text("heartbeat");
        let lasts = fields.take("lasts").and_then(|node| self.lasts(node));
        if matches!(does, Does::Alert | Does::Resolve) && !says_labels && severity_node.is_none() {
            let mend = "add `labels: {event: …}`, or say `does: drop`";
            self.found.error(node.place, "a rule without labels: no alert comes of it", mend);
        }
        if let (Some(node), Some(id)) = (id_node, &id)
            && id.names().is_empty()
        {
            let message = "this `id` is always the same: whatever comes again is taken for a repetition, and is no occurrence";
            self.found.warning(
                node.place,
                message,
                "name a field in it that is another each time, or leave it out",
            );
        }
        if does == Does::Acknowledge && key.is_none() {
            self.found.error(node.place, "nothing says which alert is acknowledged", "add `key:`");
        }
        if does == Does::Ping && heartbeat.is_none() {
            self.found.error(node.place, "nothing says which heartbeat is heard of", "add `heartbeat:`");
        }
        fields.end(&mut self.found);
        Rule {
            when,
            capture,
            each,
            does,
            labels,
            annotations,
            severity,
            severities,
            state,
            key,
            lasts,
            id,
            starts_at,
            ends_at,
            generator_url,
            by,
            comment,
            heartbeat,
            why,
        }
    }

    fn when(&mut self, node: &Node) -> Vec<(Path, ams2_core::matcher::Compiled)> {
        let mut when = Vec::new();
        for item in self.found.list(node) {
            let Some(text) = self.found.plain(item) else { continue };
            let read = Matcher::parse(text).and_then(|matcher| matcher.compile(&self.severities));
            let compiled = match read {
                Ok(compiled) => compiled,
                Err(error) => {
                    let mend = "write 'field op \"value\"' with one of = != =~ !~ >= > <= <";
                    self.found.error(item.place, format!("`{text}` is wrong: {error}"), mend);
                    continue;
                }
            };
            match Path::parse(&compiled.matcher.name) {
                Some(path) => when.push((path, compiled)),
                None => {
                    let message = format!("`{}` is no field", compiled.matcher.name);
                    self.found.error(item.place, message, PATH_MEND);
                }
            }
        }
        when
    }

    fn capture(&mut self, node: &Node) -> Vec<(Path, regex::Regex)> {
        let mut capture: Vec<(Path, regex::Regex)> = Vec::new();
        for (key, value) in self.found.fields(node).entries {
            let Some(path) = Path::parse(&key.text) else {
                self.found.error(key.place, format!("`{}` is no field", key.text), PATH_MEND);
                continue;
            };
            let Some(text) = self.found.plain(value) else { continue };
            if text.len() > REGEX_BYTES_MAX {
                let message =
                    format!("the regex is {} bytes long; at most {REGEX_BYTES_MAX} are allowed", text.len());
                self.found.error(value.place, message, "use several rules");
                continue;
            }
            match RegexBuilder::new(text).size_limit(REGEX_COMPILED_BYTES_MAX).nest_limit(64).build() {
                Ok(regex) => {
                    if regex.capture_names().flatten().next().is_none() {
                        let mend = "name what it should catch, such as `(?P<user>\\S+)`, or use `when`";
                        self.found.warning(value.place, "this regex catches nothing", mend);
                    }
                    let known = |name: &&str| {
                        capture.iter().any(|(_, other)| other.capture_names().flatten().any(|of| of == *name))
                    };
                    if let Some(twice) = regex.capture_names().flatten().find(known) {
                        let message = format!("`{twice}` is caught twice: the second is never seen");
                        self.found.error(value.place, message, "give one of them another name");
                    }
                    capture.push((path, regex));
                }
                Err(error) => {
                    let message = format!("the regex `{text}` is not valid: {error}");
                    let mend = "write it like `user (?P<user>\\S+) from`; a character that means something has `\\` before it";
                    self.found.error(value.place, message, mend);
                }
            }
        }
        capture
    }

    fn field_path(&mut self, node: &Node) -> Option<Path> {
        let text = self.found.plain(node)?;
        let path = Path::parse(text);
        if path.is_none() {
            self.found.error(node.place, format!("`{text}` is no field"), PATH_MEND);
        }
        path
    }

    fn does(&mut self, node: &Node) -> Option<Does> {
        let text = self.found.plain(node)?;
        let does = DOES.iter().find(|(word, _)| *word == text).map(|(_, does)| *does);
        if does.is_none() {
            let mend = match nearest(text, DOES.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "use alert, resolve, acknowledge, ping, drop or refuse".into(),
            };
            self.found.error(node.place, format!("`{text}` is nothing that a rule does"), mend);
        }
        does
    }

    fn lasts(&mut self, node: &Node) -> Option<Lasts> {
        if matches!(&node.value, Value::Text(text) if text == "until resolved") {
            return Some(Lasts::UntilResolved);
        }
        self.found.duration_ms(node, 1).map(Lasts::For)
    }

    fn names(&mut self, own: Option<&Node>, from: Option<&Node>) -> Names {
        let from = match from {
            Some(node @ Node { value: Value::List(items), .. }) => {
                let paths = items.iter().filter_map(|item| self.field_path(item)).collect();
                if items.is_empty() {
                    self.found.error(node.place, "an empty list", "name a field, or leave it out");
                }
                paths
            }
            Some(node) => self.field_path(node).into_iter().collect(),
            None => Vec::new(),
        };
        let mut names = Names { from, own: Vec::new() };
        let Some(own) = own else { return names };
        for (key, value) in self.found.fields(own).entries {
            if key.text.is_empty() {
                self.found.error(key.place, "a name is empty", "name it, or remove it");
            }
            if let Some(text) = self.mapped_text(value) {
                names.own.push((key.text.as_str().into(), text));
            }
        }
        names
    }

    fn words(&mut self, node: &Node) -> std::collections::BTreeMap<SmolStr, SmolStr> {
        let mut words = std::collections::BTreeMap::new();
        for (key, value) in self.found.fields(node).entries {
            if let Some(text) = self.found.plain(value) {
                words.insert(key.text.as_str().into(), text.into());
            }
        }
        words
    }

    pub(super) fn mapped_text(&mut self, node: &Node) -> Option<Text> {
        let source = self.found.scalar(node)?;
        match Text::parse(source) {
            Ok(text) => Some(text),
            Err(error) => {
                self.found.error(node.place, format!("`{source}` is wrong: {error}"), "see docs/mapping.md");
                None
            }
        }
    }
}
