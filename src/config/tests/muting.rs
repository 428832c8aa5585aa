//! Mistakes in what holds alerts back.

use super::*;

const BEFORE: &str =
    "receivers: [{name: log, actions: [{event_log: {to: file, path: e.log}}]}]\nroute: {receiver: log}\n";

#[test]
fn each_mistake_in_what_mutes_has_its_place_and_its_mend() {
    let span = |inner: &str| format!("time_intervals: [{{name: n, time_intervals: [{{{inner}}}]}}]\n");
    let rows: Vec<(String, &str)> = vec![
        ("time_intervals: [{name: n}]\n".into(), "f:3:18: `time_intervals` is missing"),
        ("time_intervals: [{time_intervals: []}]\n".into(), "f:3:18: `name` is missing"),
        (
            "time_intervals:\n- {name: n, time_intervals: [{}]}\n- {name: n, time_intervals: [{}]}\n".into(),
            "f:5:3: the time interval `n` is defined twice, first in line 4: rename one of the two",
        ),
        (
            "time_intervals: [{name: n, time_intervals: []}]\n".into(),
            "f:3:18: warning: the time interval `n` holds at no time",
        ),
        (span("weekdays: [friday:monday]"), "f:3:57: the range `friday:monday` ends before it begins"),
        (span("weekdays: [mon]"), "`mon` is no day of the week"),
        (span("days_of_month: [0]"), "`0` is no day of the month"),
        (span("days_of_month: ['-15:5']"), "the range `-15:5` begins at the end of the month"),
        (span("months: [smarch]"), "`smarch` is no month"),
        (span("years: ['2027:2026']"), "the range `2027:2026` ends before it begins"),
        (
            span("location: Europe/Berln"),
            "no time zone is called `Europe/Berln`: did you mean `Europe/Berlin`?",
        ),
        (span("location: ../../etc/passwd"), "no time zone is called `../../etc/passwd`"),
        (span("times: [{start_time: '25:00', end_time: '26:00'}]"), "`25:00` is no time of the day"),
        (span("times: [{start_time: '09:00'}]"), "`end_time` is missing"),
        (span("times: [{start_time: '09:00', end_time: '09:00'}]"), "begins and ends at the same time"),
        (span("times: [{start_time: 540, end_time: '10:00'}]"), "expected text, found the number 540"),
        (span("hours: []"), "unknown key `hours`: known here: times, weekdays"),
        ("inhibit_rules: [{equal: ['']}]\n".into(), "f:3:26: a label name is empty"),
        ("inhibit_rules: [{equal: [a, a]}]\n".into(), "f:3:29: `a` is given twice"),
        ("inhibit_rules: [{source_matchers: ['a']}]\n".into(), "f:3:36: the matcher `a` is wrong"),
        (
            "inhibit_rules: [{source_matchers: [a=b], target_matchers: [a=b]}]\n".into(),
            "warning: source and target are the same",
        ),
        ("inhibit_rules: [{target_match: {a: b}}]\n".into(), "unknown key `target_match`: did you mean"),
        ("silences: {comment: yes please}\n".into(), "expected a rule, found `yes please`: use `required`"),
        ("silences: {max: -1}\n".into(), "expected a whole number from 0"),
        ("compat: prometheus\n".into(), "f:3:9: compat is `prometheus`: use `alertmanager`"),
        (
            "compat: alertmanager\nresolve_when_muted: true\n".into(),
            "f:4:21: `compat: alertmanager` decides without it",
        ),
    ];
    for (text, expected) in rows {
        let found = mistakes(&format!("{BEFORE}{text}"));
        assert!(found.contains(expected), "{text}\nwanted {expected}\ngot {found}");
    }
    let bound = |inner: &str| {
        format!(
            "time_intervals: [{{name: nights, time_intervals: [{{}}]}}]\n{}",
            BEFORE.replace("{receiver: log}", inner)
        )
    };
    let rows = [
        (
            "{receiver: log, routes: [{matchers: [a=b], mute_time_intervals: [night]}]}",
            "no time interval is called `night`: did you mean `nights`?",
        ),
        (
            "{receiver: log, mute_time_intervals: [nights]}",
            "the first route may not have `mute_time_intervals`",
        ),
        (
            "{receiver: log, active_time_intervals: [nights]}",
            "the first route may not have `active_time_intervals`",
        ),
    ];
    for (route, expected) in rows {
        let found = mistakes(&bound(route));
        assert!(found.contains(expected), "{route}\nwanted {expected}\ngot {found}");
    }
}

#[test]
fn what_mutes_reaches_the_router_as_it_is_written() {
    let text = format!(
        "{}{}",
        "time_intervals:\n- name: nights\n  time_intervals:\n  - times: [{start_time: '20:00', end_time: '06:00'}]\n    \
         weekdays: ['monday:friday']\n    days_of_month: [1, '-3:-1']\n    months: [12]\n    years: [2026]\n    \
         location: America/New_York\ninhibit_rules:\n- {name: r, source_matchers: [a=b], target_matchers: [c=d], equal: [e]}\n\
         silences: {max: 5, bytes_max: 1KiB, retention: 1h, comment: required, author: required}\n\
         resolve_when_muted: false\n",
        BEFORE.replace(
            "{receiver: log}",
            "{receiver: log, routes: [{matchers: [a=b], mute_time_intervals: [nights], group_wait_each: true}]}"
        )
    );
    let folder = tempfile::tempdir().expect("a folder");
    let core = load_text("f", &text, folder.path(), &Overrides::default())
        .map_err(|e| lines(&e.found))
        .expect("right")
        .core;
    let span = &core.time_intervals[0].spans[0];
    assert_eq!((span.times[0].start, span.times[0].end), (1200, 360));
    assert_eq!((&*span.weekdays, &*span.days_of_month), (&[(1, 5)][..], &[(1, 1), (-3, -1)][..]));
    assert_eq!((&*span.months, &*span.years), (&[(12, 12)][..], &[(2026, 2026)][..]));
    assert!(core.zones["America/New_York"].starts_with(b"TZif"));
    assert_eq!(core.inhibit_rules[0].equal, ["e"]);
    assert_eq!(
        (core.silences.max, core.silences.bytes_max, core.silences.retention_ms),
        (5, 1024, 3_600_000)
    );
    assert!(core.silences.needs_comment && core.silences.needs_author);
    assert!(!core.muting.resolve_when_muted && core.muting.notify_when_unmuted);
    let route = &core.route.routes[0];
    assert_eq!((&*route.mute_time_intervals, route.group_wait_each), (&["nights".into()][..], Some(true)));
}
