//! When a sender says that it sent. Its clock may be wrong, its year is left out, its zone is anybody's guess: what it says
//! is kept as it says it, and what that means is asked by whoever needs it. An alert's time is that of its arrival.

use jiff::{Timestamp, civil, tz::TimeZone};

/// Months as RFC 3164 section 4.1.2 has them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Longest name of a time zone behind a time, in bytes: `AEST`, `CHAST`.
const ZONE_BYTES_MAX: usize = 5;

/// Years behind, or before, a time: other numbers there are none.
const YEARS: std::ops::Range<u32> = 1970..2100;

/// Whether a time ends here, with Cisco's colon behind it, or at the end of all. In an address of IPv6 more follows.
fn is_at_end(rest: &str) -> bool {
    rest.is_empty() || rest == ":" || rest.starts_with(": ")
}

/// A time in the sender's words; empty if it says none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent<'a> {
    /// As it is sent.
    pub text: &'a str,
}

impl<'a> Sent<'a> {
    /// What stands where a time should.
    pub fn new(text: &'a str) -> Sent<'a> {
        Sent { text }
    }

    /// The moment that it means; `None` if there is none such, or its zone is not known. Where no zone is said it is ours,
    /// `zone`; where no year is, it is the one that makes it nearest to `now`.
    pub fn read(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (parts, end) = parts(self.text.trim_start_matches(['*', '.']))?;
        if end < self.text.trim_start_matches(['*', '.']).len() {
            return None;
        }
        match parts.year {
            Some(year) => parts.moment(year, zone),
            None => {
                let year = zone.to_datetime(now).year();
                let moments = (year - 1..=year + 1).filter_map(|year| parts.moment(year, zone));
                moments.min_by_key(|moment| moment.duration_since(now).unsigned_abs())
            }
        }
    }
}

/// A time at the start of a message of RFC 3164, and what stands behind it. RFC 3339 is in use there, too. Whether there is
/// such a day is not asked.
pub fn take(text: &str) -> Option<(Sent<'_>, &str)> {
    // Cisco: a clock that is not set, or not in step.
    let rest = text.strip_prefix(['*', '.']).unwrap_or(text);
    let (_, end) = parts(rest)?;
    let end = text.len() - rest.len() + end;
    let (sent, behind) = text.split_at(end);
    (behind.is_empty() || behind.starts_with([' ', ':'])).then_some((Sent::new(sent), behind))
}

/// Where a time is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone<'a> {
    /// Nowhere.
    Unsaid,
    /// So many seconds east of Greenwich.
    Offset(i32),
    /// In words.
    Named(&'a str),
}

/// What a time is made of.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    year: Option<i16>,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    zone: Zone<'a>,
}

impl Parts<'_> {
    fn moment(&self, year: i16, zone: &TimeZone) -> Option<Timestamp> {
        // A leap second is the last moment of its minute.
        let (second, nanosecond) = match self.second {
            60 => (59, 999_999_999),
            second => (second, self.nanosecond),
        };
        let Parts { month, day, hour, minute, .. } = *self;
        let time = civil::DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()?;
        let zone = match self.zone {
            Zone::Unsaid => zone.clone(),
            Zone::Named("UTC" | "GMT") => TimeZone::UTC,
            Zone::Named(_) => return None,
            Zone::Offset(seconds) => jiff::tz::Offset::from_seconds(seconds).ok()?.to_time_zone(),
        };
        zone.to_timestamp(time).ok()
    }
}

/// What a time at the start of `text` is made of, and how many bytes it has.
fn parts(text: &str) -> Option<(Parts<'_>, usize)> {
    let mut cursor = Cursor(text);
    let parts = match text.as_bytes().first()? {
        b'0'..=b'9' => match cursor.tried(Cursor::rfc3339) {
            Some(parts) => parts,
            None => cursor.year_first()?,
        },
        _ => cursor.rfc3164()?,
    };
    Some((parts, text.len() - cursor.0.len()))
}

/// What is not read yet.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// `2026-11-24T10:15:02.123456+01:00` (RFC 3339), the offset with or without its colon, or left out.
    fn rfc3339(&mut self) -> Option<Parts<'a>> {
        let year = self.number(4, 4)?;
        let month = self.behind('-')?.number(2, 2)?;
        let day = self.behind('-')?.number(2, 2)?;
        self.0 = self.0.strip_prefix(['T', 't'])?;
        let [hour, minute, second] = self.clock()?;
        let nanosecond = self.fraction();
        let zone = self.offset()?;
        let (year, month, day) = (Some(i16::try_from(year).ok()?), month as i8, day as i8);
        Some(Parts { year, month, day, hour, minute, second, nanosecond, zone })
    }

    /// `2026 Nov 24 10:15:02`, as Cisco's Nexus writes it.
    fn year_first(&mut self) -> Option<Parts<'a>> {
        let year = self.number(4, 4).filter(|year| YEARS.contains(year))?;
        self.spaces()?;
        let parts = self.rfc3164()?;
        Some(Parts { year: Some(year as i16), ..parts })
    }

    /// `Nov 24 10:15:02`; and, as it is found, with a fraction, with the year behind the day or behind the time, and with a
    /// zone where a colon shows that it is one: `Mar  1 2026 18:46:11.103 UTC:`.
    fn rfc3164(&mut self) -> Option<Parts<'a>> {
        let month = MONTHS.iter().position(|month| self.0.starts_with(month))?;
        self.0 = &self.0[3..];
        self.spaces()?;
        let day = self.number(1, 2)?;
        self.spaces()?;
        let mut year = self.tried(|cursor| {
            let year = cursor.number(4, 4)?;
            cursor.spaces().map(|()| year)
        });
        let [hour, minute, second] = self.clock()?;
        let nanosecond = self.fraction();
        if year.is_none() {
            year = self.tried(|cursor| {
                cursor.spaces()?;
                let year = cursor.number(4, 4).filter(|year| YEARS.contains(year))?;
                (cursor.0.starts_with(' ') || is_at_end(cursor.0)).then_some(year)
            });
        }
        let zone = self.tried(|cursor| {
            cursor.spaces()?;
            let end = cursor.0.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(cursor.0.len());
            let (zone, rest) = cursor.0.split_at(end);
            cursor.0 = rest;
            ((2..=ZONE_BYTES_MAX).contains(&end) && is_at_end(rest)).then_some(Zone::Named(zone))
        });
        let (year, month, day) = (year.map(|year| year as i16), month as i8 + 1, day as i8);
        Some(Parts { year, month, day, hour, minute, second, nanosecond, zone: zone.unwrap_or(Zone::Unsaid) })
    }

    /// What `read` takes, or nothing at all.
    fn tried<T>(&mut self, read: impl FnOnce(&mut Cursor<'a>) -> Option<T>) -> Option<T> {
        let mut tried = *self;
        let found = read(&mut tried)?;
        *self = tried;
        Some(found)
    }

    fn clock(&mut self) -> Option<[i8; 3]> {
        let hour = self.number(2, 2)?;
        let minute = self.behind(':')?.number(2, 2)?;
        let second = self.behind(':')?.number(2, 2)?;
        Some([hour as i8, minute as i8, second as i8])
    }

    /// Nanoseconds of a fraction of a second; 0 if there is none.
    fn fraction(&mut self) -> i32 {
        let digits = self.0.strip_prefix(['.', ',']).map(|rest| {
            let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            rest.split_at(end)
        });
        let Some((digits @ [_, ..], rest)) = digits.map(|(digits, rest)| (digits.as_bytes(), rest)) else {
            return 0;
        };
        self.0 = rest;
        (0..9).fold(0, |all, place| 10 * all + digits.get(place).map_or(0, |digit| i32::from(digit - b'0')))
    }

    fn offset(&mut self) -> Option<Zone<'a>> {
        if let Some(rest) = self.0.strip_prefix(['Z', 'z']) {
            self.0 = rest;
            return Some(Zone::Offset(0));
        }
        let sign = match self.0.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(Zone::Unsaid),
        };
        self.0 = &self.0[1..];
        let together = self.tried(|cursor| cursor.number(4, 4));
        let (hours, minutes) = match together {
            Some(digits) => (digits / 100, digits % 100),
            None => (self.number(2, 2)?, self.behind(':')?.number(2, 2)?),
        };
        Some(Zone::Offset(sign * (hours * 3600 + minutes * 60) as i32))
    }

    /// A number of so many digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let end = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(end);
        let is_whole = end >= least && !rest.starts_with(|c: char| c.is_ascii_digit());
        self.0 = rest;
        digits.parse().ok().filter(|_| is_whole)
    }

    fn behind(&mut self, mark: char) -> Option<&mut Cursor<'a>> {
        self.0 = self.0.strip_prefix(mark)?;
        Some(self)
    }

    /// One space, or more.
    fn spaces(&mut self) -> Option<()> {
        let rest = self.0.trim_start_matches(' ');
        let found = (rest.len() < self.0.len()).then_some(());
        self.0 = rest;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::Offset::constant(1))
    }

    #[test]
    fn a_time_is_taken_in_every_shape_that_is_found_and_means_what_it_says() {
        let now: Timestamp = "2026-12-31T23:30:00Z".parse().expect("a time");
        // What is sent, what stands behind the time, and the moment; an hour east of Greenwich where nothing is said.
        let rows = [
            ("Oct 11 22:14:15 host su: x", " host su: x", "2026-10-11T21:14:15Z"),
            ("Oct  1 02:04:05 host", " host", "2026-10-01T01:04:05Z"),
            ("Oct 1 02:04:05", "", "2026-10-01T01:04:05Z"),
            ("Oct 11 2025 22:14:15: %ASA-6-1: x", ": %ASA-6-1: x", "2025-10-11T21:14:15Z"),
            ("Oct 11 22:14:15 2025 host", " host", "2025-10-11T21:14:15Z"),
            ("Oct 11 22:14:15.103 host", " host", "2026-10-11T21:14:15.103Z"),
            ("*Mar  1 18:46:11.103 UTC: %SYS-5", ": %SYS-5", "2027-03-01T18:46:11.103Z"),
            (".Mar  1 18:46:11 CEST: %SYS-5", ": %SYS-5", ""),
            (
                "2026 Dec  1 10:00:00 UTC: %ETHPORT-5-IF_UP: x",
                ": %ETHPORT-5-IF_UP: x",
                "2026-12-01T10:00:00Z",
            ),
            ("2025 Dec  1 10:00:00.123 host", " host", "2025-12-01T09:00:00.123Z"),
            // Addresses are no years, and no zones.
            ("Dec  1 10:00:00 2003:de:1::1 tag: x", " 2003:de:1::1 tag: x", "2026-12-01T09:00:00Z"),
            ("Dec  1 10:00:00 2001::1 tag: x", " 2001::1 tag: x", "2026-12-01T09:00:00Z"),
            ("Dec  1 10:00:00 DEAD::1 tag: x", " DEAD::1 tag: x", "2026-12-01T09:00:00Z"),
            ("Dec  1 10:00:00 2025: %SYS-5-X: x", ": %SYS-5-X: x", "2025-12-01T09:00:00Z"),
            ("Mar  1 18:46:11 UTC x", " UTC x", "2027-03-01T17:46:11Z"),
            ("2026-10-11T22:14:15.003Z host", " host", "2026-10-11T22:14:15.003Z"),
            ("2026-10-11T22:14:15.123456789+02:00 host", " host", "2026-10-11T20:14:15.123456789Z"),
            ("2026-10-11T22:14:15-0130 host", " host", "2026-10-11T23:44:15Z"),
            ("2026-10-11T22:14:15 host", " host", "2026-10-11T21:14:15Z"),
            // The year is the one that makes it nearest.
            ("Dec 31 23:59:59 x", " x", "2026-12-31T22:59:59Z"),
            ("Jan  1 00:20:00 x", " x", "2026-12-31T23:20:00Z"),
            ("Jan  1 01:00:00 x", " x", "2027-01-01T00:00:00Z"),
            ("Feb 28 01:00:00 x", " x", "2027-02-28T00:00:00Z"),
            ("Sep 28 01:00:00 x", " x", "2026-09-28T00:00:00Z"),
            // There is none such, and it is a time all the same.
            ("Feb 30 22:14:15 host", " host", ""),
            ("2026-02-30T22:14:15Z host", " host", ""),
            ("2026-10-11T25:14:15Z host", " host", ""),
            ("2026-10-11T22:14:15+99:99 host", " host", ""),
            // Leap seconds.
            ("2016-12-31T23:59:60Z x", " x", "2016-12-31T23:59:59.999999999Z"),
            ("Dec 31 23:59:60 x", " x", "2026-12-31T22:59:59.999999999Z"),
        ];
        for (text, behind, moment) in rows {
            let (sent, rest) = take(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(rest, behind, "{text}");
            let read = sent.read(now, &zone()).map(|moment| moment.to_string()).unwrap_or_default();
            assert_eq!(read, moment, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_taken_for_one() {
        for text in [
            "",
            "*",
            "Oct",
            "Oct 11",
            "Oct 11 22:14",
            "Oct 11 22:14:1",
            "Oct 11 22:14:15x",
            "October 11 22:14:15",
            "Oct 111 22:14:15",
            "oct 11 22:14:15",
            "2026-10-11",
            "2026-10-11 22:14:15",
            "22:14:15",
            "2026",
            "1026 Dec  1 10:00:00",
            "2026 Dec",
            "é",
            "2026-10-11T22:14:15+1",
            "2026-10-11T22:14:15Zulu",
        ] {
            assert_eq!(take(text), None, "{text}");
        }
        let now = Timestamp::UNIX_EPOCH;
        for text in ["", "-", "yesterday", "Oct 11 22:14:15 more", "2026-10-11T22:14:15Zulu"] {
            assert_eq!(Sent::new(text).read(now, &zone()), None, "{text}");
        }
    }
}
