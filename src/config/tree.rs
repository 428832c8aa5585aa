//! A YAML file as a tree in which every value knows its place, and the reading of files that admins (and those who
//! got at them) may have made strange.

use std::{
    fmt,
    fs::{File, Metadata, OpenOptions},
    io::Read,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::diagnostic::{Diagnostic, FileNumber, Place};

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;
/// Most values, aliases followed.
const NODES_MAX: usize = 250_000;
/// Most anchors, and most aliases.
const ANCHORS_MAX: usize = 10_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As text, so that nothing is lost.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub text: String,
    pub place: Place,
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The node at a path of keys and positions, as deep as it goes.
    pub fn at(&self, path: &str) -> &Node {
        let mut node = self;
        for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            let next = match &node.value {
                Value::Map(entries) => {
                    entries.iter().find(|(key, _)| key.text == part).map(|(_, value)| value)
                }
                Value::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// The keys and positions that lead to what stands at a place: the way back from [`Node::at`].
    pub fn path_of(&self, place: Place) -> Option<String> {
        let start = |place: &Place| (place.file, place.line, place.column);
        // A map begins where its first key does, and is longer.
        let mut path = String::new();
        let found = self.find(&|other| *other == place, &mut path)
            || self.find(&|other| start(other) == start(&place), &mut path);
        found.then_some(path)
    }

    fn find(&self, is_it: &dyn Fn(&Place) -> bool, path: &mut String) -> bool {
        let before = path.len();
        match &self.value {
            Value::Map(entries) => entries.iter().any(|(key, value)| {
                path.truncate(before);
                let dot = if before == 0 { "" } else { "." };
                path.push_str(&format!("{dot}{}", key.text));
                is_it(&key.place) || is_it(&value.place) || value.find(is_it, path)
            }),
            Value::List(items) => items.iter().enumerate().any(|(index, item)| {
                path.truncate(before);
                path.push_str(&format!("[{index}]"));
                is_it(&item.place) || item.find(is_it, path)
            }),
            _ => false,
        }
    }

    /// The place of a key below this node, if it is there.
    pub fn key_place(&self, name: &str) -> Option<Place> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(key, _)| key.place)
    }

    /// The same as JSON, for serde. Texts go through `expand`.
    pub fn to_json(&self, expand: &mut dyn FnMut(&str, Place) -> String) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            Value::Text(text) => expand(text, self.place).into(),
            Value::List(items) => items.iter().map(|item| item.to_json(expand)).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, value)| (key.text.clone(), value.to_json(expand))).collect(),
            ),
        }
    }
}

/// Opens a regular file. Without waiting, so that a FIFO without a writer does not hang us; what is no file is said.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata), String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => Ok((file, metadata)),
        () if kind.is_dir() => Err("is a folder, not a file".into()),
        () if kind.is_fifo() => Err("is a FIFO, not a file".into()),
        () => Err("is a device or socket, not a file".into()),
    }
}

/// Reads a file's text, or says why it cannot be one.
pub(crate) fn read(path: &Path) -> Result<String, Diagnostic> {
    let wrong = |message: String, mend: &str| Diagnostic::error(Place::default(), message, mend);
    let (mut file, metadata) = open(path).map_err(|why| {
        let mend = if why.starts_with("cannot") {
            "check the path and its permissions"
        } else {
            "name a regular file"
        };
        wrong(format!("the file {why}"), mend)
    })?;
    if metadata.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", metadata.len());
        return Err(wrong(message, "is this the right file?"));
    }
    let mut bytes = Vec::new();
    let read = file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong(format!("the file cannot be read: {error}"), ""))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Diagnostic::error(Place::point(line, column, valid), "the file is not UTF-8 here", "save it as UTF-8")
    })
}

/// Reads a text into a tree.
pub(crate) fn parse(text: &str, file: FileNumber) -> Result<Node, Diagnostic> {
    let mut root = parse_one(text).map_err(|mut mistake| {
        mistake.place.file = file;
        mistake
    })?;
    if file > 0 {
        put_in(&mut root, file);
    }
    Ok(root)
}

fn put_in(node: &mut Node, file: FileNumber) {
    node.place.file = file;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| put_in(item, file)),
        Value::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
            key.place.file = file;
            put_in(value, file);
        }),
        _ => {}
    }
}

/// Whether a text holds nothing but comments.
pub(crate) fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn parse_one(text: &str) -> Result<Node, Diagnostic> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_blank(text) {
        let mend = "start from config/ams2.yaml, or leave --config out for the built-in default";
        return Err(Diagnostic::error(Place::point(1, 1, 0), "the file holds no configuration", mend));
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        // Told with both places, beside all other mistakes: see `Found::duplicates`.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        // Whoever wants a number there says so, beside all other mistakes.
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 2 * NODES_MAX },
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_anchors: ANCHORS_MAX,
            max_aliases: ANCHORS_MAX,
        },
    };
    serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options).map(node).map_err(|error| {
        let place = error.location().map(place_of).unwrap_or_default();
        let (message, mend) = reword(&error.to_string());
        Diagnostic::error(place, message, mend)
    })
}

/// The reader's message without its own snippet and place, which we print ourselves.
fn reword(message: &str) -> (String, &'static str) {
    let first = message.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let text = first.find(" at line ").map_or(first, |end| &first[..end]).to_owned();
    let text = match text.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, rest)) if place.starts_with(|c: char| c.is_ascii_digit()) => rest.to_owned(),
        _ => text,
    };
    let lower = text.to_lowercase();
    if lower.contains("duplicate") {
        let name = text.split(['`', '\'', '"']).nth(1).unwrap_or("").to_owned();
        let name = if name.is_empty() { "a key".to_owned() } else { format!("`{name}`") };
        return (format!("{name} is given twice in the same map"), "remove one of the two");
    }
    if lower.contains("tab") {
        return ("a tab is used for indentation".into(), "indent with spaces");
    }
    if lower.contains("unsupported tag") {
        return (
            format!("this is not plain YAML: {text}"),
            "remove the tag: values are known by their place",
        );
    }
    if lower.contains("nodes") {
        let mend =
            "write fewer: one route with `group_by` or a regex stands for many; and no alias of aliases";
        return (format!("the file holds more than {NODES_MAX} values, aliases followed"), mend);
    }
    if lower.contains("budget") || lower.contains("depth") || lower.contains("alias") {
        return (
            format!("the file is too large or nested when its aliases are followed ({text})"),
            "write it out without so many anchors and aliases",
        );
    }
    if lower.contains("multiple yaml documents") {
        return ("the file holds more than one document".into(), "keep one and remove the `---` line");
    }
    (format!("this is not valid YAML: {text}"), "check the indentation, quotes and brackets around here")
}

fn place_of(location: serde_saphyr::Location) -> Place {
    let offset = location.span().byte_offset().unwrap_or(0) as usize;
    Place::point(location.line() as usize, location.column() as usize, offset)
        .with_length(location.span().byte_len().unwrap_or(0) as usize)
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { place: place_of(spanned.referenced), value: spanned.value }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key = Key { place: place_of(key.referenced), text: key.value };
            map.push((key, node(entries.next_value::<Spanned<Value>>()?)));
        }
        Ok(Value::Map(map))
    }
}
