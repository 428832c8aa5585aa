//! Values as Go prints them.

use minijinja::{
    Environment, Error,
    value::{Rest, Value, ValueKind},
};

use super::{bounded, number};

/// Deepest value that is shown whole.
const DEPTH_MAX: usize = 16;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("show", |value: &Value| show(value));
    environment.add_function("print", |values: Rest<Value>| print(&values.0));
    environment.add_function("println", |values: Rest<Value>| println(&values.0));
}

/// `value | show`: as Go's templates print it. Nothing of what is undefined.
pub(super) fn show(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => text.push_str("<no value>"),
        _ => put(value, &mut text, 0)?,
    }
    bounded(text)
}

/// Puts `value` as `%v` does.
pub(super) fn put(value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX || text.len() > super::OUTPUT_BYTES_MAX {
        return Err(super::invalid("a value is too deep or too long to print"));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => text.push_str("<nil>"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if !value.is_integer() => {
            text.push_str(&number::float(f64::try_from(value.clone())?, 'g', None));
        }
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            for (position, item) in value.try_iter()?.enumerate() {
                if position > 0 {
                    text.push(' ');
                }
                put(&item, text, depth + 1)?;
            }
            text.push(']');
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            keys.sort();
            text.push_str("map[");
            for (position, key) in keys.iter().enumerate() {
                if position > 0 {
                    text.push(' ');
                }
                put(key, text, depth + 1)?;
                text.push(':');
                put(&value.get_item(key)?, text, depth + 1)?;
            }
            text.push(']');
        }
        _ => text.push_str(&value.to_string()),
    }
    Ok(())
}

/// `print(a, b)`: one after the other, with a space between two of which none is a text.
fn print(values: &[Value]) -> Result<String, Error> {
    let mut text = String::new();
    for (position, value) in values.iter().enumerate() {
        let is_text = |value: &Value| value.kind() == ValueKind::String;
        if position > 0 && !is_text(value) && !is_text(&values[position - 1]) {
            text.push(' ');
        }
        put(value, &mut text, 0)?;
    }
    bounded(text)
}

/// `println(a, b)`: with spaces between them and a line break at the end.
fn println(values: &[Value]) -> Result<String, Error> {
    let mut text = String::new();
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        put(value, &mut text, 0)?;
    }
    text.push('\n');
    bounded(text)
}
