//! Rules on records, as a config writes them.

use ams2_core::AlertBatch;
use serde_json::{Value as Node, json};

use super::*;
use crate::config;

/// Rules as a file has them.
fn mapping(rules: &str) -> Result<Mapping, String> {
    let hook = config::hook("test", &format!("requests: [{{path: /in/test, mapping: {rules}}}]"))?;
    Ok(hook.requests[0].mapping.clone())
}

fn mapped_within(limits: &Limits, rules: &str, record: &Node) -> (Mapped, AlertBatch) {
    let severities = Severities::default();
    let bounds = Bounds { severities: &severities, limits, now: Wall(1_795_515_300_000) };
    let mut batch = BatchBuilder::default();
    let mapping = mapping(rules).unwrap_or_else(|found| panic!("{rules}: {found}"));
    let mapped = mapping.map(&Json(record), bounds, &mut batch);
    (mapped, batch.finish())
}

fn mapped(rules: &str, record: &Node) -> (Mapped, AlertBatch) {
    mapped_within(&Limits::default(), rules, record)
}

/// Labels, annotations and times of the only alert.
fn only(batch: &AlertBatch) -> String {
    assert_eq!(batch.len(), 1);
    let alert = batch.alert(0).expect("one");
    let pairs = |pairs: Vec<(&str, &str)>| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let times = alert.times();
    let ends = if times.ends_at.is_some() { " over" } else { "" };
    format!("{} / {}{ends}", pairs(alert.labels().collect()), pairs(alert.annotations().collect()))
}

#[test]
fn rules_say_what_alert_a_record_is() {
    let record = json!({
        "app": "sshd", "host": "web-1", "priority": "P1", "status": "resolved", "n": 3, "none": null,
        "text": "Failed password for root from 192.0.2.7 port 4",
        "sd": {"origin": {"ip": "192.0.2.1"}, "a@1": {"x.y": "z"}}, "tags": ["a", "b"],
    });
    let rows = [
        ("[{labels: {event: A}}]", "event=A / "),
        ("[{labels: {event: '{{ app }} on {{ host }}'}}]", "event=sshd on web-1 / "),
        ("[{labels: {event: '{{ none or missing or app }}', x: '{{ missing }}'}}]", "event=sshd / "),
        ("[{labels: {event: '{{ n }}', ip: '{{ sd.origin.ip }}'}}]", "event=3 ip=192.0.2.1 / "),
        ("[{labels: {event: '{{ sd[\"a@1\"][\"x.y\"] }}{{ tags[1] }}'}}]", "event=zb / "),
        ("[{labels: {event: E}, labels_from: sd.origin}]", "event=E ip=192.0.2.1 / "),
        ("[{labels: {ip: own, event: E}, labels_from: [sd.origin]}]", "event=E ip=own / "),
        ("[{labels: {event: '{{ app | upper }}', t: '{{ tags | join(\"+\") }}'}}]", "event=SSHD t=a+b / "),
        ("[{labels: {event: E}, annotations: {tags: '{{ tags }}'}}]", "event=E / tags=[\"a\",\"b\"]"),
        (
            "[{labels: {event: E}, severity: '{{ priority }}', severity_words: {P1: critical}}]",
            "event=E severity=critical / ",
        ),
        ("[{labels: {event: E}, state: '{{ status }}'}]", "event=E /  over"),
        ("[{labels: {event: E}, state: '{{ priority }}'}]", "event=E / "),
        ("[{labels: {event: E}, does: resolve}]", "event=E /  over"),
        (
            "[{capture: {text: 'password for (?P<user>\\S+) from (?P<from>\\S+)'}, labels: {event: '{{ user }}', from: '{{ from }}'}}]",
            "event=root from=192.0.2.7 / ",
        ),
        // What is captured comes before what came in, in expressions, too.
        (
            "[{capture: {text: '(?P<app>Failed)'}, labels: {event: '{{ app }} {{ app | upper }}'}}]",
            "event=Failed FAILED / ",
        ),
        ("[{labels: {event: '{{ root.app }} {{ root.app | upper }}'}}]", "event=sshd SSHD / "),
        ("[{when: [app = other], labels: {event: A}}, {when: [n >= 3], labels: {event: B}}]", "event=B / "),
        ("[{capture: {text: '^(?P<x>nothing)'}, labels: {event: A}}, {labels: {event: B}}]", "event=B / "),
        ("[{when: ['sd.origin.ip =~ \"192[.].*\"'], labels: {event: A}}]", "event=A / "),
        ("[{labels: {event: E}, starts_at: '{{ host }}'}]", "event=E / parse_error=`web-1` is no time"),
    ];
    for (rules, expected) in rows {
        let (how, batch) = mapped(rules, &record);
        assert_eq!((how, only(&batch).as_str()), (Mapped::Alerts(1), expected), "{rules}");
    }
    assert_eq!(mapped("[{when: [app = sshd], does: drop}]", &record).0, Mapped::Dropped);
    assert_eq!(mapped("[{when: [app = other], labels: {event: A}}]", &record).0, Mapped::NoRule);
}

#[test]
fn keys_and_ends_are_as_the_rule_says() {
    let record = json!({"key": "k-1", "long": "k".repeat(300)});
    let alert = |rules: &str| {
        let batch = mapped(rules, &record).1;
        let alert = batch.alert(0).expect("one");
        (alert.key().map(str::to_owned), alert.times().ends_at.map(|Wall(ms)| ms))
    };
    let now = 1_795_515_300_000;
    let key = Some("test/k-1".to_owned());
    let hashed = "test/sha256:17b16d8ef494060fefa36a6a41567b8c32d213a17e02b7eeae86158cc4495461";
    let rows = [
        ("[{labels: {event: E}}]", None, None),
        ("[{labels: {event: E}, key: '{{ key }}'}]", key.clone(), None),
        ("[{labels: {event: E}, key: '{{ missing }}'}]", None, None),
        ("[{labels: {event: E}, key: '{{ long }}'}]", Some(hashed.to_owned()), None),
        ("[{labels: {event: E}, lasts: 4h}]", None, Some(now + 4 * 3_600_000)),
        ("[{labels: {event: E}, lasts: until resolved}]", None, Some(253_370_764_799_999)),
        ("[{labels: {event: E}, key: '{{ key }}', does: resolve, lasts: 4h}]", key, Some(now - 1000)),
        ("[{labels: {event: E}, lasts: 4h, ends_at: '1795515400'}]", None, Some(now + 100_000)),
    ];
    for (rules, key, ends_at) in rows {
        assert_eq!(alert(rules), (key, ends_at), "{rules}");
    }
}

#[test]
fn each_item_of_a_list_is_an_alert() {
    let record = json!({"commonLabels": {"site": "boston"}, "alerts": [
        {"status": "firing", "labels": {"event": "A"}, "startsAt": "2026-11-24T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z"},
        {"status": "resolved", "labels": {"event": "B"}, "endsAt": "2026-11-24T10:01:00Z"},
        {"status": "firing", "labels": {}},
    ]});
    let rules = "[{each: alerts, labels: {site: '{{ root.commonLabels.site }}'}, labels_from: labels, state: '{{ status }}',
        starts_at: '{{ startsAt }}', ends_at: '{{ endsAt }}'}]";
    let (how, batch) = mapped(rules, &record);
    let shown: Vec<String> = batch.iter().map(|alert| format!("{alert:?} {:?}", alert.times())).collect();
    assert_eq!(how, Mapped::Alerts(3));
    assert!(shown[0].contains("\"A\"") && shown[0].contains("ends_at: None"), "{}", shown[0]);
    assert!(shown[1].contains("ends_at: Some(Wall(1795514460000))"), "{}", shown[1]);
    assert_eq!(mapped(rules, &json!({"alerts": []})).0, Mapped::Alerts(0));
    assert_eq!(mapped(rules, &json!({"alerts": "none"})).0, Mapped::NoAlert);
}

#[test]
fn what_a_sender_writes_stays_within_the_limits_and_is_said_to_be_cut() {
    let limits = Limits { labels: 3, annotations: 3, name_bytes: 10, alert_bytes: 1024, id_bytes: 8 };
    let record = json!({
        "labels": {"event": "E", "source": "ams2", "longer-than-ten": "x", "a": "1", "b": "2", "c": "3"},
        "text": "ä".repeat(4000), "id": "123456789",
    });
    let rules =
        "[{labels_from: labels, id: '{{ id }}', annotations: {summary: '{{ text }}', more: '{{ text }}'}}]";
    let (how, batch) = mapped_within(&limits, rules, &record);
    let alert = batch.alert(0).expect("one");
    assert_eq!((how, alert.labels().len(), alert.label("source")), (Mapped::Alerts(1), 3, ""));
    let bytes: usize =
        alert.labels().chain(alert.annotations()).map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= limits.alert_bytes && alert.id().expect("an id").len() <= 8, "{bytes}");
    let said = alert.annotations().find(|(name, _)| *name == PARSE_ERROR).expect("said").1;
    for part in
        ["`source` was left out", "`longer-than-ten` was left out", "no room for the label", "too long"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn an_expression_that_fails_leaves_its_text_empty_and_is_said() {
    let record = json!({"n": 1});
    let (_, batch) = mapped("[{labels: {event: E, x: '{{ n + \"a\" }}'}}]", &record);
    assert!(only(&batch).starts_with("event=E / parse_error="), "{}", only(&batch));
}

#[test]
fn mistakes_in_rules_are_named_with_their_place() {
    let rows = [
        ("[{labels: {event: '{{ a | nosuch }}'}}]", ": `{{ a | nosuch }}` is wrong"),
        ("[{labels: {event: '{{ a '}}]", ": `{{ a ` is wrong"),
        ("[{labels: {event: '{% if a %}b{% endif %}'}}]", "statements"),
        ("[{annotations: {a: b}}]", "a rule without labels"),
        ("[{when: ['a ~ b'], labels: {event: E}}]", ": `a ~ b` is wrong"),
        ("[{when: ['a.. = b'], labels: {event: E}}]", "`a..` is no field"),
        ("[{capture: {text: '('}, labels: {event: E}}]", "the regex `(` is not valid"),
        ("[{capture: {'a b': 'x'}, labels: {event: E}}]", "`a b` is no field"),
        ("[{does: drpo}]", "did you mean `drop`?"),
        ("[{label: {event: E}}]", "did you mean `labels`?"),
        ("[{labels: {event: [a]}}]", "expected text"),
        ("[{labels_from: [], labels: {event: E}}]", "an empty list"),
        ("[{lasts: for ever, labels: {event: E}}]", "for ever"),
    ];
    for (rules, part) in rows {
        let found = mapping(rules).expect_err(rules);
        assert!(found.contains(part), "{rules}: {found}");
    }
}

/// However many names there are, what is said of them is bounded, and so is the time that it takes.
#[test]
fn a_hundred_thousand_names_that_do_not_fit_are_counted() {
    let labels: serde_json::Map<_, _> = (0..100_000).map(|n| (format!("k{n:06}"), "1".into())).collect();
    let record = json!({"labels": labels, "event": "E", "items": vec![json!({}); 10_000]});
    let (_, batch) = mapped("[{labels: {event: '{{ event }}'}, labels_from: labels}]", &record);
    let alert = batch.alert(0).expect("one");
    let said = alert.annotation(PARSE_ERROR).expect("said");
    assert_eq!(alert.labels().len(), 64);
    assert!(said.contains("no room for the label `k000063`") && said.ends_with("; and 184 more"), "{said}");
    // Of each of many items, too, and where a text names all that came in.
    let rules = "[{each: items, labels: {event: '{{ root.event | upper }}', x: '{{ root.labels.k000001 | length }}'}, labels_from: root.labels}]";
    let (how, batch) = mapped(rules, &record);
    assert_eq!((how, batch.alert(9999).expect("the last").label("event")), (Mapped::Alerts(10_000), "E"));
}

/// An expression sees the whole of what came in, which is made once a record and no more.
#[test]
fn a_record_is_made_for_expressions_once() {
    struct Counted<'a>(&'a std::cell::Cell<usize>);
    impl Fields for Counted<'_> {
        fn text(&self, _: &[SmolStr]) -> Option<std::borrow::Cow<'_, str>> {
            None
        }

        fn below(&self, _: &[SmolStr]) -> Vec<(SmolStr, std::borrow::Cow<'_, str>)> {
            Vec::new()
        }

        fn items(&self, _: &[SmolStr]) -> Option<usize> {
            Some(100)
        }

        fn item(&self, _: &[SmolStr], _: usize) -> Option<Box<dyn Fields + '_>> {
            Some(Box::new(Counted(self.0)))
        }

        fn whole(&self) -> minijinja::Value {
            self.0.set(self.0.get() + 1);
            minijinja::context! { a => "b" }
        }
    }
    let count = |rules: &str| {
        let (made, severities, limits) = (std::cell::Cell::new(0), Severities::default(), Limits::default());
        let bounds = Bounds { severities: &severities, limits: &limits, now: Wall(0) };
        let mut batch = BatchBuilder::default();
        let how = mapping(rules).expect(rules).map(&Counted(&made), bounds, &mut batch);
        assert_eq!(how, Mapped::Alerts(100), "{rules}");
        made.get()
    };
    assert_eq!(count("[{each: a, labels: {event: '{{ root.a | upper }}', b: '{{ root.a | trim }}'}}]"), 1);
    assert_eq!(count("[{each: a, labels: {event: '{{ a | upper }}', b: '{{ a | trim }}'}}]"), 100);
    assert_eq!(count("[{each: a, labels: {event: '{{ \"x\" | upper }}'}}]"), 0);
}

#[test]
fn a_link_is_whole_or_left_out() {
    let url = |length: usize| {
        let (_, batch) =
            mapped("[{labels: {event: E}, generator_url: '{{ url }}'}]", &json!({"url": "x".repeat(length)}));
        let alert = batch.alert(0).expect("one");
        (alert.generator_url().map(str::len), alert.annotation(PARSE_ERROR).is_some())
    };
    assert_eq!((url(8192), url(8193)), ((Some(8192), false), (None, true)));
}
