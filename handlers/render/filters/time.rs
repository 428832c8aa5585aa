//! Times: RFC 3339 text, with the zone in brackets after `zone` (RFC 9557), or none, which is Go's zero time.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp, ZonedDateTime, civil, tz::TimeZone};
use minijinja::{
    Environment, Error,
    value::{Kwargs, Value},
};

use super::{invalid, layout};

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("date", date);
    environment.add_filter("date_layout", date_layout);
    environment.add_filter("zone", zone);
    environment.add_filter("parse_date", parse_date);
    environment.add_filter("unix", |time: &Value| Ok::<_, Error>(moment(time)?.timestamp().as_second()));
    environment.add_filter("plus", plus);
    environment.add_filter("since", since);
}

fn moment(time: &Value) -> Result<ZonedDateTime, Error> {
    if time.is_none() {
        let zero = civil::date(1, 1, 1).to_zoned_datetime(TimeZone::UTC);
        return zero.map_err(|error| invalid(error.to_string()));
    }
    let text = time.as_str().unwrap_or_default();
    let wrong = |_| invalid(format!("`{time}` is no time like 2026-11-24T10:15:00Z"));
    if text.ends_with(']') {
        return text.parse().map_err(wrong);
    }
    let moment: Timestamp = text.parse().map_err(wrong)?;
    Ok(moment.to_zoned_datetime(TimeZone::UTC))
}

/// The text of a time, without brackets where it is UTC.
fn written(moment: &ZonedDateTime) -> String {
    if *moment.time_zone() == TimeZone::UTC { moment.timestamp().to_string() } else { moment.to_string() }
}

/// `time | date("%H:%M")`: strftime, in the zone that the time has.
fn date(time: &Value, format: &str) -> Result<String, Error> {
    let mut shown = String::new();
    // Not `to_string`: an unknown conversion is an error of the template, not of ours.
    write!(shown, "{}", moment(time)?.strftime(format))
        .map_err(|_| invalid(format!("`{format}` is no time format")))?;
    Ok(shown)
}

/// `time | date_layout("Jan 2 15:04")`: Go's reference time as the format.
fn date_layout(time: &Value, layout: &str) -> Result<String, Error> {
    layout::format(&moment(time)?, layout)
}

/// `time | zone("Europe/Berlin")`: the same moment there. `Local` is the machine's zone.
fn zone(time: &Value, name: &str) -> Result<String, Error> {
    let zone = match name {
        "" | "UTC" => TimeZone::UTC,
        "Local" => TimeZone::system(),
        _ => TimeZone::get(name).map_err(|_| invalid(format!("`{name}` is no known time zone")))?,
    };
    Ok(written(&moment(time)?.with_time_zone(zone)))
}

/// `text | parse_date("2006-01-02")`: the time that the text says by Go's layout, UTC if it does not say. None if it
/// says none, or with `strict=true` an error.
fn parse_date(text: &str, layout: &str, options: Kwargs) -> Result<Value, Error> {
    let strict = options.get::<Option<bool>>("strict")?.unwrap_or(false);
    options.assert_all_used()?;
    match layout::parse(text, layout) {
        Some(moment) => Ok(Value::from(written(&moment))),
        None if strict => Err(invalid(format!("`{text}` is no time like {layout}"))),
        None => Ok(Value::from(())),
    }
}

/// `time | plus(28800)`: so many seconds later.
fn plus(time: &Value, seconds: f64) -> Result<String, Error> {
    let wrong = |_| invalid(format!("{seconds} seconds after {time} is no time"));
    let duration = SignedDuration::try_from_secs_f64(seconds).map_err(wrong)?;
    Ok(written(&moment(time)?.checked_add(duration).map_err(wrong)?))
}

/// `time | since(later)`: the seconds from the time to `later`.
fn since(time: &Value, later: &Value) -> Result<f64, Error> {
    Ok(moment(later)?.timestamp().duration_since(moment(time)?.timestamp()).as_secs_f64())
}
