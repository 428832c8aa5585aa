//! Times as senders write them.

use ams2_core::Wall;

use crate::originator::json::TIMES_MS;

/// The end of what nobody has ended: the last that there is.
pub(super) const NEVER: Wall = Wall(TIMES_MS.end - 1);
/// Numbers below this are seconds since 1970, up to the year 5138; below a thousand times this milliseconds, and so on.
const SECONDS_MAX: i64 = 100_000_000_000;

/// Reads a time: RFC 3339, or a count of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by its size.
/// `None` for Go's zero time and an empty text, which say nothing.
///
/// # Errors
/// What is no time, in words.
pub fn moment(text: &str) -> Result<Option<Wall>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let ms = number_ms(text).or_else(|| {
        let moment = text.parse::<jiff::Timestamp>().ok()?;
        Some(moment.as_millisecond())
    });
    match ms.filter(|ms| TIMES_MS.contains(ms)) {
        Some(ms) => Ok(Some(Wall(ms))),
        None => Err(format!("`{}` is no time", ams2_handlers::text::cut(text, 64))),
    }
}

fn number_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = whole.parse().ok()?;
    let thousandths = || {
        let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
        digits.parse::<i64>().unwrap_or(0)
    };
    Some(match number {
        0 => return None,
        n if n < SECONDS_MAX => n * 1000 + thousandths(),
        n if n / 1000 < SECONDS_MAX => n,
        n if n / 1_000_000 < SECONDS_MAX => n / 1000,
        n => n / 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_found() {
        let rows: [(&str, Option<i64>); 9] = [
            ("2026-11-24T10:15:00Z", Some(1_795_515_300_000)),
            ("2026-11-24T11:15:00.25+01:00", Some(1_795_515_300_250)),
            ("1795515300", Some(1_795_515_300_000)),
            ("1795515300.25", Some(1_795_515_300_250)),
            ("1795515300250", Some(1_795_515_300_250)),
            ("1795515300250000", Some(1_795_515_300_250)),
            ("1795515300250000000", Some(1_795_515_300_250)),
            ("0001-01-01T00:00:00Z", None),
            ("", None),
        ];
        for (text, ms) in rows {
            assert_eq!(moment(text), Ok(ms.map(Wall)), "{text}");
        }
        for text in ["yesterday", "0", "-5", "99999-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "1e9", ".5"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
