//! Durations, which are numbers of seconds.

use std::fmt::Write as _;

use minijinja::{
    Environment, Error,
    value::{Value, ValueKind},
};

use super::{invalid, number};

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("humanize_duration", humanize);
    environment.add_filter("show_duration", show);
    environment.add_filter("round_duration", |seconds: f64, step: f64| {
        if step > 0.0 { (seconds / step).round() * step } else { seconds }
    });
    environment.add_filter("truncate_duration", |seconds: f64, step: f64| {
        if step > 0.0 { (seconds / step).trunc() * step } else { seconds }
    });
}

/// `seconds | humanize_duration`: `1d 2h 3m 4s`, below a minute four digits, below a second a small unit. A text must
/// be a number.
fn humanize(value: &Value) -> Result<String, Error> {
    let seconds = match value.kind() {
        ValueKind::Number => f64::try_from(value.clone())?,
        _ => {
            let text = value.to_string();
            text.parse().map_err(|_| invalid(format!("`{text}` is no number of seconds")))?
        }
    };
    let short = |value: f64| number::float(value, 'g', Some(4));
    if !seconds.is_finite() {
        return Ok(short(seconds));
    }
    if seconds == 0.0 || (1.0..60.0).contains(&seconds.abs()) {
        return Ok(format!("{}s", short(seconds)));
    }
    if seconds.abs() < 1.0 {
        let mut value = seconds;
        let mut unit = "";
        for prefix in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if value.abs() >= 1.0 {
                break;
            }
            unit = prefix;
            value *= 1000.0;
        }
        return Ok(format!("{}{unit}s", short(value)));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and is positive"
    )]
    let whole = seconds.abs() as u64;
    let (days, hours, minutes, seconds) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    Ok(match (days, hours) {
        (0, 0) => format!("{sign}{minutes}m {seconds}s"),
        (0, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    })
}

/// `seconds | show_duration`: as Go prints a duration, like `1h2m3.5s` or `250ms`.
fn show(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let nanoseconds = (seconds * 1e9).round() as i64;
    let size = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let fraction = |unit: u64| {
        let digits = unit.ilog10() as usize;
        let rest = if digits == 0 { String::new() } else { format!(".{:0digits$}", size % unit) };
        rest.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let mut text = String::from(sign);
    let small = [(1_000, 1, "ns"), (1_000_000, 1_000, "µs"), (1_000_000_000, 1_000_000, "ms")];
    if size == 0 {
        return "0s".into();
    }
    if let Some((_, unit, name)) = small.into_iter().find(|(below, _, _)| size < *below) {
        write!(text, "{}{}{name}", size / unit, fraction(unit)).expect("a string takes it");
        return text;
    }
    let whole = size / 1_000_000_000;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    if hours > 0 {
        write!(text, "{hours}h").expect("a string takes it");
    }
    if hours > 0 || minutes > 0 {
        write!(text, "{minutes}m").expect("a string takes it");
    }
    write!(text, "{}{}s", whole % 60, fraction(1_000_000_000)).expect("a string takes it");
    text
}
