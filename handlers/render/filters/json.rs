//! Values as JSON with the names that Alertmanager's have.

use std::fmt::Write as _;

use minijinja::{
    Error,
    value::{Value, ValueKind},
};

use super::{OUTPUT_BYTES_MAX, bounded, invalid};

/// Deepest value that is written.
const DEPTH_MAX: usize = 32;

/// Ours and Alertmanager's names for the fields of an alert, in its order.
const ALERT: [(&str, &str); 7] = [
    ("status", "status"),
    ("labels", "labels"),
    ("annotations", "annotations"),
    ("starts_at", "startsAt"),
    ("ends_at", "endsAt"),
    ("generator_url", "generatorURL"),
    ("fingerprint", "fingerprint"),
];

/// The same for the whole notification.
const ROOT: [(&str, &str); 9] = [
    ("receiver", "receiver"),
    ("status", "status"),
    ("alerts", "alerts"),
    ("reason", "notification_reason"),
    ("group_labels", "groupLabels"),
    ("common_labels", "commonLabels"),
    ("common_annotations", "commonAnnotations"),
    ("route_labels", "routeLabels"),
    ("external_url", "externalURL"),
];

/// `value | alertmanager_json`: on one line, keys in order, `<`, `>` and `&` escaped. Alerts and the notification's data
/// have Alertmanager's names and fields, and the year 1 where an alert has not ended.
pub(crate) fn json(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    put(value, &mut text, 0)?;
    bounded(text)
}

fn put(value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX || text.len() > OUTPUT_BYTES_MAX {
        return Err(invalid("a value is too deep or too long for JSON"));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => text.push_str(&value.to_string()),
        ValueKind::Number => number(f64::try_from(value.clone())?, text)?,
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            for (position, item) in value.try_iter()?.enumerate() {
                separate(position, text);
                put(&item, text, depth + 1)?;
            }
            text.push(']');
        }
        ValueKind::Map => map(value, text, depth)?,
        _ => string(value.as_str().unwrap_or(&value.to_string()), text),
    }
    Ok(())
}

fn separate(position: usize, text: &mut String) {
    if position > 0 {
        text.push(',');
    }
}

fn map(value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    let has = |key: &str| value.get_attr(key).is_ok_and(|value| !value.is_undefined());
    let fields: &[(&str, &str)] = match () {
        () if has("starts_at") && has("labels") && has("generator_url") => &ALERT,
        () if has("group_labels") && has("alerts") && has("receiver") => &ROOT,
        () => &[],
    };
    text.push('{');
    for (position, (ours, theirs)) in fields.iter().enumerate() {
        separate(position, text);
        string(theirs, text);
        text.push(':');
        match value.get_attr(ours)? {
            none if ours.ends_with("_at") && none.is_none() => text.push_str("\"0001-01-01T00:00:00Z\""),
            value => put(&value, text, depth + 1)?,
        }
    }
    let mut keys: Vec<Value> = if fields.is_empty() { value.try_iter()?.collect() } else { Vec::new() };
    keys.sort();
    for (position, key) in keys.iter().enumerate() {
        separate(position, text);
        string(key.as_str().unwrap_or(&key.to_string()), text);
        text.push(':');
        put(&value.get_item(key)?, text, depth + 1)?;
    }
    text.push('}');
    Ok(())
}

fn number(value: f64, text: &mut String) -> Result<(), Error> {
    if !value.is_finite() {
        return Err(invalid(format!("JSON has no {value}")));
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let shown = format!("{value:e}");
        text.push_str(&if size >= 1e21 { shown.replace('e', "e+") } else { shown });
    } else {
        text.push_str(&value.to_string());
    }
    Ok(())
}

fn string(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(text, "\\u{:04x}", u32::from(character)).expect("a string takes it");
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}
