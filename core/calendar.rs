//! Time intervals: named sets of times of the week, month and year, in a time zone, by Alertmanager's rules.
//!
//! An interval is a list of spans, and a moment is in it if it is in one of them. It is in a span if it is in one of
//! the ranges of each kind that the span gives; a kind that it does not give holds always. Beginnings are inclusive.
//! One thing is wider than there: a range of times may go over midnight, and belongs to the day on which it begins.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use jiff::{
    Span as Duration, Timestamp,
    civil::{Date, DateTime, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::Wall;

/// A named set of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeInterval {
    /// Its name, unique in the configuration.
    pub name: SmolStr,
    /// A moment in one of them is in the interval; none means that no moment is.
    pub spans: Vec<Span>,
}

/// Ranges that must hold together. An empty list holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Times of the day.
    pub times: Vec<TimeRange>,
    /// Days of the week, 0 for Sunday to 6, first and last inclusive, first at most last.
    pub weekdays: Vec<(u8, u8)>,
    /// Days of the month, 1 to 31, or -1 (the last day) to -31, first and last inclusive.
    pub days_of_month: Vec<(i8, i8)>,
    /// Months, 1 to 12, first and last inclusive, first at most last.
    pub months: Vec<(u8, u8)>,
    /// Years, first and last inclusive, first at most last.
    pub years: Vec<(i16, i16)>,
    /// The zone's name in the configuration's table; `None` is UTC.
    pub zone: Option<SmolStr>,
}

/// A range of times of the day, in minutes after midnight, 0 to 1440. The end is exclusive; one before the start is on
/// the day after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first minute.
    pub start: u16,
    /// The minute after the last.
    pub end: u16,
}

/// Time intervals with their zones read, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    intervals: Vec<(TimeInterval, Vec<TimeZone>)>,
}

impl Calendar {
    /// Makes the intervals ready. `zones` has the TZif data (RFC 9636) of each zone that they name.
    pub fn new(intervals: &[TimeInterval], zones: &BTreeMap<SmolStr, Vec<u8>>) -> Result<Calendar, String> {
        let zone_of = |span: &Span| match &span.zone {
            None => Ok(TimeZone::UTC),
            Some(name) => {
                let data = zones.get(name).ok_or_else(|| format!("the time zone `{name}` is not known"))?;
                let read = TimeZone::tzif(name, data);
                read.map_err(|error| format!("the data of the time zone `{name}` cannot be read: {error}"))
            }
        };
        let ready = |interval: &TimeInterval| -> Result<_, String> {
            Ok((interval.clone(), interval.spans.iter().map(zone_of).collect::<Result<_, _>>()?))
        };
        Ok(Calendar { intervals: intervals.iter().map(ready).collect::<Result<_, _>>()? })
    }

    /// The number of the interval of this name.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.intervals.iter().position(|(interval, _)| interval.name == name).map(|number| number as u32)
    }

    /// The interval's name.
    pub fn name(&self, number: u32) -> &SmolStr {
        &self.intervals[number as usize].0.name
    }

    /// Whether the moment is in the interval.
    pub fn contains(&self, number: u32, wall: Wall) -> bool {
        let (interval, zones) = &self.intervals[number as usize];
        let Some(now) = timestamp(wall) else { return false };
        interval.spans.iter().zip(zones).any(|(span, zone)| span.contains(zone.to_datetime(now)))
    }

    /// The first moment after this one at which the answer of [`Self::contains`] may be another; `None` if it stays.
    pub fn next_change(&self, number: u32, wall: Wall) -> Option<Wall> {
        let (interval, zones) = &self.intervals[number as usize];
        let now = timestamp(wall)?;
        let next =
            interval.spans.iter().zip(zones).filter_map(|(span, zone)| span.next_change(zone, now)).min()?;
        Some(Wall(next.as_millisecond()))
    }
}

fn timestamp(wall: Wall) -> Option<Timestamp> {
    Timestamp::from_millisecond(wall.0).ok()
}

impl Span {
    fn contains(&self, local: DateTime) -> bool {
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        let today = || self.is_day(local.date());
        if self.times.is_empty() {
            return today();
        }
        self.times.iter().any(|range| {
            if range.start < range.end {
                return range.start <= minute && minute < range.end && today();
            }
            let began_yesterday = || local.date().yesterday().is_ok_and(|day| self.is_day(day));
            (range.start <= minute && today()) || (minute < range.end && began_yesterday())
        })
    }

    fn is_day(&self, date: Date) -> bool {
        let weekday = weekday(date.weekday());
        let (month, year) = (date.month() as u8, date.year());
        let holds = |ranges: &[(u8, u8)], value: u8| {
            ranges.is_empty() || ranges.iter().any(|(first, last)| (*first..=*last).contains(&value))
        };
        holds(&self.weekdays, weekday)
            && holds(&self.months, month)
            && (self.years.is_empty()
                || self.years.iter().any(|(first, last)| (*first..=*last).contains(&year)))
            && (self.days_of_month.is_empty()
                || self.days_of_month.iter().any(|range| is_in_month(*range, date)))
    }

    /// The next moment at which a range of times begins or ends, a day begins, or the clocks of the zone change.
    fn next_change(&self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        let today = zone.to_datetime(now).date();
        let mut next = zone.following(now).next().map(|transition| transition.timestamp());
        let minutes = self.times.iter().flat_map(|range| [range.start, range.end]).chain([0]);
        for minute in minutes {
            for days in 0..=1 {
                let Ok(date) = today.checked_add(Duration::new().days(days)) else { continue };
                let midnight = date.to_datetime(jiff::civil::Time::midnight());
                let Ok(local) = midnight.checked_add(Duration::new().minutes(i64::from(minute))) else {
                    continue;
                };
                let moments = zone.to_ambiguous_timestamp(local);
                for moment in [moments.earlier(), moments.later()].into_iter().flatten() {
                    if moment > now && next.is_none_or(|next| moment < next) {
                        next = Some(moment);
                    }
                }
            }
        }
        next
    }
}

/// 0 for Sunday, as Alertmanager counts.
fn weekday(weekday: Weekday) -> u8 {
    weekday.to_sunday_zero_offset() as u8
}

/// Alertmanager's rule: negative days count from the end; a range that begins past the month's end is not in it, any
/// other is cut to the month.
fn is_in_month((first, last): (i8, i8), date: Date) -> bool {
    let length = date.days_in_month();
    let from_start = |day: i8| if day < 0 { length + day + 1 } else { day };
    let (first, last) = (from_start(first), from_start(last));
    if first > length {
        return false;
    }
    (first.clamp(-length, length)..=last.clamp(-length, length)).contains(&date.day())
}

/// Reads `HH:MM`, 00:00 to 24:00, as minutes after midnight.
pub fn parse_minute(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is no time of the day: write HH:MM, from 00:00 to 24:00");
    let two_digits = |part: &str| {
        let fits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    match (two_digits(hour), two_digits(minute)) {
        (Some(24), Some(0)) => Ok(24 * 60),
        (Some(hour @ 0..=23), Some(minute @ 0..=59)) => Ok(hour * 60 + minute),
        _ => Err(wrong()),
    }
}

/// The names of the days, Sunday first.
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// The names of the months.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Reads `first:last` or `first` alone.
fn parse_range<T: Copy + PartialOrd>(
    text: &str,
    one: impl Fn(&str) -> Result<T, String>,
) -> Result<(T, T), String> {
    let mut parts = text.split(':');
    let first = one(parts.next().unwrap_or("").trim())?;
    let last = parts.next().map_or(Ok(first), |last| one(last.trim()))?;
    if parts.next().is_some() {
        return Err(format!("`{text}` is no range: write `first:last`"));
    }
    Ok((first, last))
}

fn in_order<T: Copy + PartialOrd>(text: &str, range: (T, T)) -> Result<(T, T), String> {
    if range.0 > range.1 {
        return Err(format!("the range `{text}` ends before it begins: write it as two ranges"));
    }
    Ok(range)
}

/// Reads days of the week: `monday`, `saturday:sunday` is refused since the week begins with Sunday.
pub fn parse_weekdays(text: &str) -> Result<(u8, u8), String> {
    let one = |part: &str| {
        let known = WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(part));
        known
            .map(|number| number as u8)
            .ok_or_else(|| format!("`{part}` is no day of the week: write `monday`"))
    };
    in_order(text, parse_range(text, one)?)
}

/// Reads months by name or number: `march`, `1:3`.
pub fn parse_months(text: &str) -> Result<(u8, u8), String> {
    let one = |part: &str| {
        let named = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(part)).map(|n| n as u8 + 1);
        let month = named.or_else(|| part.parse().ok().filter(|month| (1..=12).contains(month)));
        month.ok_or_else(|| format!("`{part}` is no month: write `march` or a number from 1 to 12"))
    };
    in_order(text, parse_range(text, one)?)
}

/// Reads days of the month: `1:7`, `-3:-1` for the last three.
pub fn parse_days_of_month(text: &str) -> Result<(i8, i8), String> {
    let one = |part: &str| {
        let day = part.parse().ok().filter(|day: &i8| *day != 0 && (-31..=31).contains(day));
        day.ok_or_else(|| {
            format!("`{part}` is no day of the month: write 1 to 31, or -1 to -31 counted from its end")
        })
    };
    let (first, last) = parse_range(text, one)?;
    if first < 0 && last > 0 {
        return Err(format!("the range `{text}` begins at the end of the month and ends at its beginning"));
    }
    // Even in the longest and in the shortest month the end must not come first.
    let longest = |day: i8| if day < 0 { 31 + day + 1 } else { day };
    if longest(first) > longest(last) {
        return Err(format!("the range `{text}` ends before it begins"));
    }
    Ok((first, last))
}

/// Reads years: `2026`, `2026:2028`.
pub fn parse_years(text: &str) -> Result<(i16, i16), String> {
    let one = |part: &str| {
        let year = part.parse().ok().filter(|year: &i16| (0..=9999).contains(year));
        year.ok_or_else(|| format!("`{part}` is no year: write four digits"))
    };
    in_order(text, parse_range(text, one)?)
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
