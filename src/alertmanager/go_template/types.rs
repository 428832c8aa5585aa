//! What Alertmanager's templates can hold, and what it is called in ams2's.

use std::collections::BTreeMap;

/// How deep lists and dictionaries are told apart: inside of that anything is [`Type::Unknown`].
const DEPTH_MAX: usize = 4;

/// The type of a value, as far as it is known before the template runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    /// What an empty list holds.
    Never,
    Unknown,
    Nil,
    /// All that a notification has.
    Root,
    Alert,
    /// Labels or annotations: what is missing is empty.
    Labels,
    /// One label, with `name` and `value`.
    Pair,
    Text,
    Bool,
    Integer,
    Float,
    /// RFC 3339 text, with the zone in brackets if there is one; none is Go's zero time.
    Time,
    /// Seconds.
    Duration,
    List(Box<Type>),
    /// What `dict` makes.
    Dictionary(BTreeMap<String, Type>),
}

impl Type {
    pub fn list(element: Type) -> Type {
        if element.depth() >= DEPTH_MAX { Type::Unknown } else { Type::List(Box::new(element)) }
    }

    pub fn dictionary(entries: BTreeMap<String, Type>) -> Type {
        let deep = entries.values().any(|value| value.depth() >= DEPTH_MAX);
        if deep { Type::Unknown } else { Type::Dictionary(entries) }
    }

    fn depth(&self) -> usize {
        match self {
            Type::List(element) => 1 + element.depth(),
            Type::Dictionary(entries) => 1 + entries.values().map(Type::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// The type of a value that is of one of the two.
    pub fn join(self, other: Type) -> Type {
        match (self, other) {
            (same, other) if same == other => same,
            (Type::Never, known) | (known, Type::Never) => known,
            (Type::List(one), Type::List(other)) => Type::list(one.join(*other)),
            (Type::Dictionary(one), Type::Dictionary(mut other)) if one.keys().eq(other.keys()) => {
                let joined = one.into_iter().map(|(key, value)| {
                    let other = other.remove(&key).unwrap_or(Type::Unknown);
                    (key, value.join(other))
                });
                Type::dictionary(joined.collect())
            }
            _ => Type::Unknown,
        }
    }

    /// What `range` gives one after the other; none for what has no elements.
    pub fn element(&self) -> Option<Type> {
        match self {
            Type::List(element) => Some((**element).clone()),
            Type::Labels => Some(Type::Text),
            Type::Integer => Some(Type::Integer),
            Type::Dictionary(entries) => {
                Some(entries.values().cloned().reduce(Type::join).unwrap_or(Type::Never))
            }
            Type::Unknown | Type::Never => Some(Type::Unknown),
            _ => None,
        }
    }

    /// Whether Go takes it for true whatever is in it.
    pub fn is_always_true(&self) -> bool {
        matches!(self, Type::Root | Type::Alert | Type::Pair | Type::Time)
    }

    /// How a message names it.
    pub fn shown(&self) -> &'static str {
        match self {
            Type::Never | Type::Unknown => "something",
            Type::Nil => "nothing",
            Type::Root => "the notification's data",
            Type::Alert => "an alert",
            Type::Labels => "a map of labels or annotations",
            Type::Pair => "a label",
            Type::Text => "a text",
            Type::Bool => "a truth value",
            Type::Integer | Type::Float => "a number",
            Type::Time => "a time",
            Type::Duration => "a duration",
            Type::List(_) => "a list",
            Type::Dictionary(_) => "a dictionary",
        }
    }

    /// What a variable that holds one is called.
    pub fn name(&self) -> &'static str {
        match self {
            Type::Alert => "alert",
            Type::Labels => "labels",
            Type::Pair => "pair",
            Type::Text => "value",
            Type::Integer | Type::Float => "number",
            Type::Time => "moment",
            Type::Duration => "seconds",
            Type::List(_) => "list",
            _ => "item",
        }
    }
}

/// The fields of the notification's data: Go's name, ours, and the type.
const ROOT: [(&str, &str, Type); 9] = [
    ("Receiver", "receiver", Type::Text),
    ("Status", "status", Type::Text),
    // A list, which no constant can hold: `field` says of what.
    ("Alerts", "alerts", Type::Never),
    ("NotificationReason", "reason", Type::Text),
    ("GroupLabels", "group_labels", Type::Labels),
    ("CommonLabels", "common_labels", Type::Labels),
    ("CommonAnnotations", "common_annotations", Type::Labels),
    ("RouteLabels", "route_labels", Type::Labels),
    ("ExternalURL", "external_url", Type::Text),
];

const ALERT: [(&str, &str, Type); 7] = [
    ("Status", "status", Type::Text),
    ("Labels", "labels", Type::Labels),
    ("Annotations", "annotations", Type::Labels),
    ("StartsAt", "starts_at", Type::Time),
    ("EndsAt", "ends_at", Type::Time),
    ("GeneratorURL", "generator_url", Type::Text),
    ("Fingerprint", "fingerprint", Type::Text),
];

const PAIR: [(&str, &str, Type); 2] = [("Name", "name", Type::Text), ("Value", "value", Type::Text)];

/// Variables that a template of ams2 can see: no name of ours may hide them.
pub(super) const RESERVED: [&str; 49] = [
    "root",
    "status",
    "route_labels",
    "delivery_id",
    "receiver",
    "external_url",
    "test",
    "state",
    "firing",
    "resolved",
    "hidden",
    "event",
    "severity",
    "reason",
    "number",
    "decided",
    "group_labels",
    "common_labels",
    "common_annotations",
    "alerts",
    "groups",
    "digest",
    "title",
    "text",
    "true",
    "false",
    "none",
    "True",
    "False",
    "None",
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "for",
    "loop",
    "self",
    "super",
    "caller",
    "range",
    "dict",
    "debug",
    "namespace",
    "printf",
    "print",
    "println",
];

/// The field of a value of `owner` whose name in Go is `name`: ours, and its type. An unknown owner may be any of
/// those that have such a field.
pub(super) fn field(owner: &Type, name: &str) -> Option<(&'static str, Type)> {
    let fields: Vec<&(&str, &'static str, Type)> = match owner {
        Type::Root => ROOT.iter().collect(),
        Type::Alert => ALERT.iter().collect(),
        Type::Pair => PAIR.iter().collect(),
        Type::Unknown => ALERT.iter().chain(&ROOT).chain(&PAIR).collect(),
        _ => Vec::new(),
    };
    let found = fields.into_iter().find(|(go, _, _)| *go == name)?;
    let kind = if name == "Alerts" { Type::list(Type::Alert) } else { found.2.clone() };
    Some((found.1, kind))
}

/// The fields of a value of `owner` in Go, for a message.
pub(super) fn fields(owner: &Type) -> String {
    let names = |fields: &[(&str, &str, Type)]| {
        let names: Vec<String> = fields.iter().map(|(go, _, _)| format!(".{go}")).collect();
        names.join(", ")
    };
    match owner {
        Type::Root => names(&ROOT),
        Type::Alert => names(&ALERT),
        Type::Pair => names(&PAIR),
        _ => String::new(),
    }
}
