//! `printf(format, ...)` with Go's verbs.

use std::{iter::Peekable, str::Chars};

use minijinja::{
    Error,
    value::{Rest, Value, ValueKind},
};

use super::{OUTPUT_BYTES_MAX, bounded, invalid, number, print};

/// Widest field and longest precision: messages have no use for more.
const WIDTH_MAX: usize = 1000;

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// `printf("%s is %.1f", name, value)`. A verb that does not suit its value says so in the text, as in Go.
pub(super) fn printf(format: &str, arguments: Rest<Value>) -> Result<String, Error> {
    let mut text = String::new();
    let mut arguments = arguments.0.into_iter();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let flags = flags(&mut characters, &mut arguments)?;
        match characters.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match arguments.next() {
                None => text.extend(["%!", &verb.to_string(), "(MISSING)"]),
                Some(value) => put(&value, verb, flags, &mut text)?,
            },
        }
        if text.len() > OUTPUT_BYTES_MAX {
            return bounded(text);
        }
    }
    extra(arguments.collect(), &mut text)?;
    bounded(text)
}

/// Arguments that no verb asked for.
fn extra(arguments: Vec<Value>, text: &mut String) -> Result<(), Error> {
    if arguments.is_empty() {
        return Ok(());
    }
    text.push_str("%!(EXTRA ");
    for (position, value) in arguments.iter().enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        if !value.is_none() {
            text.extend([kind(value), "="]);
        }
        print::put(value, text, 0)?;
    }
    text.push(')');
    Ok(())
}

fn flags(
    characters: &mut Peekable<Chars<'_>>,
    arguments: &mut impl Iterator<Item = Value>,
) -> Result<Flags, Error> {
    let mut flags = Flags::default();
    while let Some(flag) = characters.next_if(|character| "+-# 0".contains(*character)) {
        match flag {
            '+' => flags.plus = true,
            '-' => flags.minus = true,
            '#' => flags.sharp = true,
            ' ' => flags.space = true,
            _ => flags.zero = true,
        }
    }
    flags.zero &= !flags.minus;
    let width = count(characters, arguments)?;
    flags.width = width.unwrap_or(0);
    if characters.next_if_eq(&'.').is_some() {
        flags.precision = Some(count(characters, arguments)?.unwrap_or(0));
    }
    Ok(flags)
}

fn count(
    characters: &mut Peekable<Chars<'_>>,
    arguments: &mut impl Iterator<Item = Value>,
) -> Result<Option<usize>, Error> {
    let mut count = None;
    if characters.next_if_eq(&'*').is_some() {
        let value = arguments.next().ok_or_else(|| invalid("`*` in a format without a number for it"))?;
        count = Some(usize::try_from(value)?);
    }
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        count = Some(count.unwrap_or(0).saturating_mul(10).saturating_add(digit));
    }
    match count {
        Some(count) if count > WIDTH_MAX => Err(invalid(format!("a width of {count}; at most {WIDTH_MAX}"))),
        count => Ok(count),
    }
}

/// What Go calls the type of the value.
fn kind(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float64",
        ValueKind::Seq | ValueKind::Iterable => "[]string",
        ValueKind::Map => "map[string]string",
        _ => "string",
    }
}

fn put(value: &Value, verb: char, flags: Flags, text: &mut String) -> Result<(), Error> {
    let shown = match value.kind() {
        _ if verb == 'T' => Some(kind(value).to_owned()),
        ValueKind::String => string(value.as_str().unwrap_or_default(), verb, flags),
        ValueKind::Bool if matches!(verb, 't' | 'v') => Some(value.is_true().to_string()),
        ValueKind::Number if value.is_integer() => match i64::try_from(value.clone()) {
            Ok(integer) => return put_number(integer_text(integer, verb, flags), value, verb, flags, text),
            Err(_) => None,
        },
        ValueKind::Number => {
            let shown = float_text(f64::try_from(value.clone())?, verb, flags);
            return put_number(shown, value, verb, flags, text);
        }
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            for (position, item) in value.try_iter()?.enumerate() {
                if position > 0 {
                    text.push(' ');
                }
                put(&item, verb, flags, text)?;
                if text.len() > OUTPUT_BYTES_MAX {
                    break;
                }
            }
            text.push(']');
            return Ok(());
        }
        ValueKind::Map => {
            let mut shown = String::new();
            print::put(value, &mut shown, 0)?;
            Some(shown)
        }
        ValueKind::None | ValueKind::Undefined if verb == 'v' => Some("<nil>".into()),
        _ => None,
    };
    match shown {
        Some(shown) => pad(&shown, flags, text),
        None => mismatch(value, verb, text)?,
    }
    Ok(())
}

/// What Go prints for a verb that does not suit the value.
fn mismatch(value: &Value, verb: char, text: &mut String) -> Result<(), Error> {
    text.extend(["%!", &verb.to_string(), "("]);
    if !(value.is_none() || value.is_undefined()) {
        text.extend([kind(value), "="]);
    }
    print::put(value, text, 0)?;
    text.push(')');
    Ok(())
}

fn put_number(
    shown: Option<String>,
    value: &Value,
    verb: char,
    flags: Flags,
    text: &mut String,
) -> Result<(), Error> {
    let Some(shown) = shown else { return mismatch(value, verb, text) };
    let length = shown.chars().count();
    if !flags.zero
        || length >= flags.width
        || matches!(verb, 'c' | 'q' | 'U')
        || flags.precision.is_some() && value.is_integer()
    {
        pad(&shown, Flags { zero: false, ..flags }, text);
        return Ok(());
    }
    // The sign stands before the zeros.
    let (sign, digits) = shown.split_at(usize::from(shown.starts_with(['+', '-', ' '])));
    text.push_str(sign);
    text.extend(std::iter::repeat_n('0', flags.width - length));
    text.push_str(digits);
    Ok(())
}

fn pad(shown: &str, flags: Flags, text: &mut String) {
    let missing = flags.width.saturating_sub(shown.chars().count());
    let padding = std::iter::repeat_n(if flags.zero { '0' } else { ' ' }, missing);
    if flags.minus {
        text.push_str(shown);
        text.extend(padding);
    } else {
        text.extend(padding);
        text.push_str(shown);
    }
}

fn string(whole: &str, verb: char, flags: Flags) -> Option<String> {
    let cut: String = match flags.precision {
        Some(precision) => whole.chars().take(precision).collect(),
        None => whole.to_owned(),
    };
    match verb {
        'v' if flags.sharp => Some(quoted(&cut, flags)),
        's' | 'v' => Some(cut),
        'q' => Some(quoted(&cut, flags)),
        'x' | 'X' => {
            let bytes = &whole.as_bytes()[..flags.precision.unwrap_or(whole.len()).min(whole.len())];
            let digits = bytes.iter().map(|byte| match verb {
                'x' => format!("{byte:02x}"),
                _ => format!("{byte:02X}"),
            });
            Some(digits.collect::<Vec<_>>().join(if flags.space { " " } else { "" }))
        }
        _ => None,
    }
}

/// A string literal of Go.
fn quoted(text: &str, flags: Flags) -> String {
    if flags.sharp
        && !text.contains(|character: char| character == '`' || character.is_control() && character != '\t')
    {
        return format!("`{text}`");
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\0'..='\x1f' | '\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
            _ if flags.plus && !character.is_ascii() && u32::from(character) > 0xffff => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(character)));
            }
            _ if (flags.plus && !character.is_ascii()) || character.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn sign(negative: bool, flags: Flags) -> &'static str {
    match (negative, flags) {
        (true, _) => "-",
        (false, Flags { plus: true, .. }) => "+",
        (false, Flags { space: true, .. }) => " ",
        _ => "",
    }
}

fn integer_text(value: i64, verb: char, flags: Flags) -> Option<String> {
    let size = value.unsigned_abs();
    let character =
        || u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    let (prefix, digits) = match verb {
        'd' | 'v' => ("", size.to_string()),
        'b' => (if flags.sharp { "0b" } else { "" }, format!("{size:b}")),
        'o' => (if flags.sharp { "0" } else { "" }, format!("{size:o}")),
        'x' => (if flags.sharp { "0x" } else { "" }, format!("{size:x}")),
        'X' => (if flags.sharp { "0X" } else { "" }, format!("{size:X}")),
        'c' => return Some(character().to_string()),
        'q' => return Some(format!("'{}'", character())),
        'U' => return Some(format!("U+{size:04X}")),
        _ => return None,
    };
    let width = flags.precision.unwrap_or(0);
    Some(format!("{}{prefix}{digits:0>width$}", sign(value < 0, flags)))
}

fn float_text(value: f64, verb: char, flags: Flags) -> Option<String> {
    let text = match verb {
        'v' | 'g' => number::float(value, 'g', flags.precision),
        'G' => number::float(value, 'g', flags.precision).to_uppercase(),
        'f' | 'F' => number::float(value, 'f', Some(flags.precision.unwrap_or(6))),
        'e' => number::float(value, 'e', Some(flags.precision.unwrap_or(6))),
        'E' => number::float(value, 'e', Some(flags.precision.unwrap_or(6))).to_uppercase(),
        _ => return None,
    };
    let positive = text.trim_start_matches(['-', '+']);
    Some(format!("{}{positive}", sign(text.starts_with('-'), flags)))
}
