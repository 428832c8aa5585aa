//! Go's time layouts: a format is how the moment "Mon Jan 2 15:04:05 -0700 MST 2006" would be written.

use std::fmt::Write as _;

use jiff::{
    ZonedDateTime, civil,
    tz::{Offset, TimeZone},
};
use minijinja::Error;

use super::invalid;

/// Pieces that have a meaning, longer ones before those that they begin with, and what strftime calls them. Empty
/// where it has no word.
const PIECES: [(&str, &str); 35] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("__2", ""),
    ("_2", "%e"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("-07:00:00", ""),
    ("-07:00", "%:z"),
    ("-070000", ""),
    ("-0700", "%z"),
    ("-07", ""),
    ("Z07:00:00", ""),
    ("Z07:00", ""),
    ("Z070000", ""),
    ("Z0700", ""),
    ("Z07", ""),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    (".0", ""),
    (".9", ""),
];

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    /// One of [`PIECES`].
    Known(&'static str, &'static str),
    /// Digits of the second, with the separator: `.000` and `,999`.
    Fraction(&'a str),
    Plain(char),
}

/// The first piece of the layout, and the rest.
fn piece(layout: &str) -> Option<(Piece<'_>, &str)> {
    let first = layout.chars().next()?;
    if first == '.' || first == ',' {
        let digits = &layout[1..];
        for digit in ['0', '9'] {
            let length = digits.len() - digits.trim_start_matches(digit).len();
            if length > 0 && !digits[length..].starts_with(|next: char| next.is_ascii_digit()) {
                return Some((Piece::Fraction(&layout[..=length]), &digits[length..]));
            }
        }
    }
    let known = PIECES.iter().find(|(go, _)| {
        let longer_word =
            *go == "Jan" && layout[3.min(layout.len())..].starts_with(|next: char| next.is_ascii_lowercase());
        layout.starts_with(go)
            && !go.starts_with('.')
            && !(longer_word || *go == "_2" && layout.starts_with("_2006"))
    });
    match known {
        Some((go, strftime)) => Some((Piece::Known(go, strftime), &layout[go.len()..])),
        None => Some((Piece::Plain(first), &layout[first.len_utf8()..])),
    }
}

fn pieces(mut layout: &str) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        let (piece, rest) = piece(layout)?;
        layout = rest;
        Some(piece)
    })
}

/// The layout as a format for strftime, if that can say it.
pub fn strftime(layout: &str) -> Option<String> {
    let mut format = String::new();
    for piece in pieces(layout) {
        match piece {
            Piece::Plain('%') => format.push_str("%%"),
            Piece::Plain(character) => format.push(character),
            Piece::Known(_, "") => return None,
            Piece::Known(_, strftime) => format.push_str(strftime),
            Piece::Fraction(digits) if digits.starts_with(".0") => {
                write!(format, ".%{}f", digits.len() - 1).expect("a string takes it");
            }
            Piece::Fraction(".999999999") => format.push_str("%.f"),
            Piece::Fraction(_) => return None,
        }
    }
    Some(format)
}

/// The moment by the layout.
pub(super) fn format(moment: &ZonedDateTime, layout: &str) -> Result<String, Error> {
    let mut text = String::new();
    for piece in pieces(layout) {
        match piece {
            Piece::Plain(character) => text.push(character),
            Piece::Known("__2", _) => {
                write!(text, "{:>3}", moment.day_of_year()).expect("a string takes it");
            }
            Piece::Known(go, "") => offset(moment.offset(), go, &mut text),
            Piece::Known(_, format) => write!(text, "{}", moment.strftime(format))
                .map_err(|_| invalid(format!("`{layout}` is no time layout")))?,
            Piece::Fraction(digits) => {
                let count = (digits.len() - 1).min(9);
                let whole = format!("{:09}", moment.subsec_nanosecond());
                let shown = &whole[..count];
                let shown = if digits.ends_with('9') { shown.trim_end_matches('0') } else { shown };
                if !shown.is_empty() {
                    text.extend([&digits[..1], shown]);
                }
            }
        }
    }
    super::bounded(text)
}

/// Puts the distance from UTC.
fn offset(offset: Offset, form: &str, text: &mut String) {
    let seconds = offset.seconds();
    if form.starts_with('Z') && seconds == 0 {
        return text.push('Z');
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let separator = if form.contains(':') { ":" } else { "" };
    write!(text, "{sign}{hours:02}").expect("a string takes it");
    if form.len() > 3 {
        write!(text, "{separator}{minutes:02}").expect("a string takes it");
    }
    if form.ends_with("00:00") || form.ends_with("0000") {
        write!(text, "{separator}{:02}", seconds.abs() % 60).expect("a string takes it");
    }
}

/// What a text says by a layout.
struct Parts {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    afternoon: Option<bool>,
    offset: Option<i32>,
}

/// The moment that `text` is by the layout; none if it is none.
pub(super) fn parse(text: &str, layout: &str) -> Option<ZonedDateTime> {
    let mut parts = Parts {
        year: 0,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        nanosecond: 0,
        afternoon: None,
        offset: None,
    };
    let mut rest = text;
    for piece in pieces(layout) {
        rest = match piece {
            Piece::Plain(character) => rest.strip_prefix(character)?,
            Piece::Fraction(digits) => fraction(rest, digits, &mut parts)?,
            Piece::Known(go, _) => known(rest, go, &mut parts)?,
        };
        // Go takes a fraction after the seconds that the layout does not have.
        if matches!(piece, Piece::Known("05" | "5", _)) && rest.starts_with(['.', ',']) {
            let digits =
                rest[1..].len() - rest[1..].trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            if digits > 0 && !layout.contains(".0") && !layout.contains(".9") {
                rest = fraction(rest, ".9", &mut parts)?;
            }
        }
    }
    if !rest.is_empty() {
        return None;
    }
    match parts.afternoon {
        Some(true) if parts.hour < 12 => parts.hour += 12,
        Some(false) if parts.hour == 12 => parts.hour = 0,
        _ => {}
    }
    let date = civil::Date::new(parts.year, parts.month, parts.day).ok()?;
    let time = civil::Time::new(parts.hour, parts.minute, parts.second, parts.nanosecond).ok()?;
    let zone = match parts.offset {
        None | Some(0) => TimeZone::UTC,
        Some(seconds) => Offset::from_seconds(seconds).ok()?.to_time_zone(),
    };
    date.to_datetime(time).to_zoned_datetime(zone).ok()
}

/// Reads between `least` and `most` digits.
fn digits(text: &str, least: usize, most: usize) -> Option<(i32, &str)> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if length < least { None } else { Some((text[..length].parse().ok()?, &text[length..])) }
}

fn fraction<'a>(text: &'a str, form: &str, parts: &mut Parts) -> Option<&'a str> {
    let optional = form.ends_with('9');
    let Some(after) = text.strip_prefix(['.', ',']) else { return optional.then_some(text) };
    let most = if optional { 9 } else { form.len() - 1 };
    let length = after.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if length == 0 || (!optional && length < most) {
        return None;
    }
    parts.nanosecond = format!("{:0<9}", &after[..length]).parse().ok()?;
    Some(&after[length..])
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Reads one of the names, whole or its first three letters, whatever the capitals.
fn name<'a>(text: &'a str, names: &[&str], short: bool) -> Option<(i8, &'a str)> {
    names.iter().zip(1..).find_map(|(name, number)| {
        let length = if short { 3 } else { name.len() };
        let start = text.get(..length)?;
        start.eq_ignore_ascii_case(&name[..length]).then(|| (number, &text[length..]))
    })
}

fn known<'a>(text: &'a str, go: &str, parts: &mut Parts) -> Option<&'a str> {
    let two = |text: &'a str, least| {
        digits(text, least, 2).and_then(|(value, rest)| Some((i8::try_from(value).ok()?, rest)))
    };
    let rest = match go {
        "2006" => {
            let (year, rest) = digits(text, 4, 4)?;
            parts.year = i16::try_from(year).ok()?;
            rest
        }
        "06" => {
            let (year, rest) = digits(text, 2, 2)?;
            parts.year = i16::try_from(if year >= 69 { 1900 + year } else { 2000 + year }).ok()?;
            rest
        }
        "January" | "Jan" => {
            let (month, rest) = name(text, &MONTHS, go == "Jan")?;
            parts.month = month;
            rest
        }
        "Monday" | "Mon" => name(text, &DAYS, go == "Mon")?.1,
        "01" | "1" => two(text, go.len()).map(|(value, rest)| {
            parts.month = value;
            rest
        })?,
        "02" | "2" => two(text, go.len()).map(|(value, rest)| {
            parts.day = value;
            rest
        })?,
        "_2" => two(text.trim_start_matches(' '), 1).map(|(value, rest)| {
            parts.day = value;
            rest
        })?,
        "15" => two(text, 2).map(|(value, rest)| {
            parts.hour = value;
            rest
        })?,
        "03" | "3" => two(text, go.len()).map(|(value, rest)| {
            parts.hour = value;
            rest
        })?,
        "04" | "4" => two(text, go.len()).map(|(value, rest)| {
            parts.minute = value;
            rest
        })?,
        "05" | "5" => two(text, go.len()).map(|(value, rest)| {
            parts.second = value;
            rest
        })?,
        "PM" | "pm" => {
            let word = text.get(..2)?;
            parts.afternoon = Some(word.eq_ignore_ascii_case("pm"));
            if !word.eq_ignore_ascii_case("am") && parts.afternoon == Some(false) {
                return None;
            }
            &text[2..]
        }
        "MST" => {
            let length = text.bytes().take_while(u8::is_ascii_uppercase).count();
            if !(3..=5).contains(&length) {
                return None;
            }
            &text[length..]
        }
        _ if go.contains("07") => zone(text, go, parts)?,
        _ => return None,
    };
    Some(rest)
}

fn zone<'a>(text: &'a str, form: &str, parts: &mut Parts) -> Option<&'a str> {
    if form.starts_with('Z')
        && let Some(rest) = text.strip_prefix('Z')
    {
        parts.offset = Some(0);
        return Some(rest);
    }
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, mut rest) = digits(&text[1..], 2, 2)?;
    let mut minutes = 0;
    if form.len() > 3 {
        let after = if form.contains(':') { rest.strip_prefix(':')? } else { rest };
        (minutes, rest) = digits(after, 2, 2)?;
    }
    parts.offset = Some(sign * (hours * 3600 + minutes * 60));
    Some(rest)
}
