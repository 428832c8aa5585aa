//! What a notification says about one alert: which trap it is, and its varbinds in the MIB's order.
//!
//! A message that would be too long has its longest texts cut, evenly, and says so in `ams2AlertCut`. Everything else
//! always fits.

use ams2_core::{Severities, Severity, Wall, matcher::Compiled};

use super::{
    fit::{Texts, oid_bytes},
    mib::{self, OBJECT_COUNT, Which},
};
use crate::{Alert, Delivery, Group, render::Template, text};

/// The event that is a sign of life.
const HEARTBEAT: &str = "Heartbeat";

/// One notification, whatever the version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notification {
    /// snmpTrapOID.0.
    pub(super) oid: Vec<u32>,
    /// The values in the order of [`mib::OBJECTS`].
    pub(super) values: [Value; OBJECT_COUNT],
}

/// A value of SMIv2, as far as we need them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i32),
    Unsigned(u32),
    Octets(Vec<u8>),
}

/// Which trap is sent for which alerts.
#[derive(Debug)]
pub(super) struct Trap {
    pub(super) matchers: Vec<Compiled>,
    pub(super) firing: Vec<u32>,
    /// `None`: ams2AlertCleared.
    pub(super) resolved: Option<Vec<u32>>,
}

/// How alerts become notifications.
#[derive(Debug)]
pub(super) struct Notifications {
    pub(super) enterprise: u32,
    /// The first whose matchers fit counts; without one it is the MIB's own.
    pub(super) traps: Vec<Trap>,
    pub(super) summary: Option<Template>,
    pub(super) url: Option<Template>,
    /// Longest message, in bytes.
    pub(super) bytes_max: usize,
    /// What stands in a message before the varbinds, at most, in bytes.
    pub(super) head_bytes: usize,
    /// What the name of a varbind takes, at most, in bytes.
    pub(super) object_bytes: usize,
}

impl Notifications {
    /// One notification an alert, in order.
    pub(super) fn of(&self, delivery: &Delivery) -> Vec<Notification> {
        let rendered = |template: &Option<Template>| {
            template.as_ref().map(|template| template.render_each(delivery).into_iter())
        };
        let (mut summaries, mut urls) = (rendered(&self.summary), rendered(&self.url));
        let alerts =
            delivery.groups.iter().flat_map(|group| group.alerts.iter().map(move |alert| (group, alert)));
        alerts
            .map(|(group, alert)| {
                // The alert matters more than its layout: a template that fails gives way to what stands there unset.
                let next = |texts: &mut Option<std::vec::IntoIter<Result<String, _>>>| {
                    texts.as_mut().and_then(Iterator::next).and_then(Result::ok)
                };
                let summary = next(&mut summaries).unwrap_or_else(|| summary(alert).to_owned());
                let url = next(&mut urls).unwrap_or_else(|| link(delivery, alert).to_owned());
                self.notification(delivery, group, alert, [&summary, &url])
            })
            .collect()
    }

    fn notification(
        &self,
        delivery: &Delivery,
        group: &Group,
        alert: &Alert,
        [summary, url]: [&str; 2],
    ) -> Notification {
        let oid = self.trap(delivery, alert);
        let texts = Texts {
            severity_word: text::one_line(alert.label("severity")).into_owned(),
            event: text::one_line(alert.event()).into_owned(),
            event_id: text::one_line(alert.label("event_id")).into_owned(),
            source: text::one_line(&alert.client).into_owned(),
            summary: text::one_line(summary).into_owned(),
            labels: labels(alert),
            group: text::one_line(&group.key).into_owned(),
            url: text::one_line(url).into_owned(),
        };
        let count = u32::try_from(u64::from(group.firing) + u64::from(group.resolved)).unwrap_or(u32::MAX);
        let values = |bytes_max: usize| -> [Value; OBJECT_COUNT] {
            let short = |text: &str| Value::Octets(text::cut(text, bytes_max).into_owned().into_bytes());
            [
                Value::Octets(delivery.id.to_string().into_bytes()),
                Value::Octets(alert.fingerprint.to_string().into_bytes()),
                Value::Integer(perceived_severity(alert)),
                short(&texts.severity_word),
                Value::Integer(if alert.firing { 1 } else { 2 }),
                short(&texts.event),
                short(&texts.event_id),
                short(&texts.source),
                short(&texts.summary),
                short(&texts.labels),
                Value::Octets(date_and_time(Some(alert.starts_at))),
                Value::Octets(date_and_time(alert.ends_at)),
                Value::Unsigned(count),
                short(&texts.group),
                short(&texts.url),
                Value::Integer(truth(bytes_max < texts.longest())),
                Value::Integer(truth(delivery.test)),
            ]
        };
        let room = self.bytes_max.saturating_sub(self.head_bytes + oid_bytes(&oid));
        let texts_max = texts.bytes_max(room, self.object_bytes);
        Notification { oid, values: values(texts_max) }
    }

    fn trap(&self, delivery: &Delivery, alert: &Alert) -> Vec<u32> {
        let own = |which| mib::notification_oid(self.enterprise, which);
        if delivery.test {
            return own(Which::Test);
        }
        let found =
            self.traps.iter().find(|trap| trap.matchers.iter().all(|matcher| matches(matcher, alert)));
        match (found, alert.firing) {
            (Some(trap), true) => trap.firing.clone(),
            (Some(Trap { resolved: Some(oid), .. }), false) => oid.clone(),
            (_, false) => own(Which::Cleared),
            (None, true) if alert.event() == HEARTBEAT => own(Which::Heartbeat),
            (None, true) => own(Which::Firing),
        }
    }
}

/// The rank of the severity is the router's, which knows the words that the config adds.
fn matches(matcher: &Compiled, alert: &Alert) -> bool {
    let wanted = &matcher.matcher;
    let value = match alert.severity {
        Some(rank) if wanted.name == "severity" && wanted.op.is_order() => rank.word(),
        _ => alert.label(&wanted.name),
    };
    matcher.matches(value, &Severities::default())
}

fn summary(alert: &Alert) -> &str {
    match alert.annotation("summary") {
        "" => alert.annotation("description"),
        summary => summary,
    }
}

fn link<'a>(delivery: &'a Delivery, alert: &'a Alert) -> &'a str {
    if alert.generator_url.is_empty() { &delivery.external_url } else { &alert.generator_url }
}

fn labels(alert: &Alert) -> String {
    let mut line = String::with_capacity(128);
    for (name, value) in &alert.labels {
        if !line.is_empty() {
            line.push(' ');
        }
        text::push_word(&mut line, name);
        line.push('=');
        text::push_word(&mut line, value);
    }
    line
}

/// ItuPerceivedSeverity (RFC 3877 section 5.4).
fn perceived_severity(alert: &Alert) -> i32 {
    match alert.severity {
        _ if !alert.firing => 1,
        Some(Severity::Critical) => 3,
        Some(Severity::Major) => 4,
        Some(Severity::Minor) => 5,
        Some(Severity::Warning) => 6,
        Some(Severity::Info) | None => 2,
    }
}

/// TruthValue (RFC 2579).
fn truth(is_so: bool) -> i32 {
    if is_so { 1 } else { 2 }
}

/// DateAndTime (RFC 2579) in UTC. A year that it cannot say is no time, as is none at all: eight zeros.
fn date_and_time(wall: Option<Wall>) -> Vec<u8> {
    let time = wall.map(|wall| text::timestamp(wall).to_zoned_datetime(jiff::tz::TimeZone::UTC));
    let Some((time, year)) = time.and_then(|time| u16::try_from(time.year()).ok().map(|year| (time, year)))
    else {
        return vec![0; 8];
    };
    let [high, low] = year.to_be_bytes();
    let small = |number: i8| number.unsigned_abs();
    let tenths = (time.millisecond() / 100).unsigned_abs() as u8;
    let (month, day) = (small(time.month()), small(time.day()));
    let (hour, minute, second) = (small(time.hour()), small(time.minute()), small(time.second()));
    vec![high, low, month, day, hour, minute, second, tenths, b'+', 0, 0]
}

#[cfg(test)]
mod tests {
    use ams2_core::matcher::Matcher;

    use super::{super::mib::OBJECTS, *};
    use crate::{render::Scope, sample};

    fn notifications(bytes_max: usize) -> Notifications {
        let enterprise = mib::ENTERPRISE_DEFAULT;
        let (traps, summary, url) = (Vec::new(), None, None);
        Notifications { enterprise, traps, summary, url, bytes_max, head_bytes: 100, object_bytes: 13 }
    }

    fn octets(value: &Value) -> String {
        match value {
            Value::Octets(bytes) => String::from_utf8(bytes.clone()).expect("UTF-8"),
            other => panic!("{other:?}"),
        }
    }

    fn one(notifications: &Notifications, alert: Alert) -> Notification {
        notifications.of(&sample::delivery_of(0x2a, vec![alert])).pop().expect("one")
    }

    fn of_object(notification: &Notification, name: &str) -> Value {
        let at = OBJECTS.iter().position(|object| object.name == name).expect("known");
        notification.values[at].clone()
    }

    #[test]
    fn a_notification_has_every_object_in_the_order_of_the_mib() {
        let found = one(&notifications(1400), sample::alert());
        assert_eq!(found.oid, [1, 3, 6, 1, 4, 1, 32_473, 2004, 0, 1]);
        let shown: Vec<String> = OBJECTS
            .iter()
            .zip(&found.values)
            .map(|(object, value)| match value {
                Value::Octets(bytes) if object.syntax == "DateAndTime" => {
                    format!("{} {bytes:?}", object.name)
                }
                Value::Octets(_) => format!("{} {}", object.name, octets(value)),
                Value::Integer(number) => format!("{} {number}", object.name),
                Value::Unsigned(number) => format!("{} {number}", object.name),
            })
            .collect();
        let fingerprint = format!("ams2Fingerprint {}", sample::alert().fingerprint);
        assert_eq!(
            shown,
            [
                "ams2DeliveryId 0000000000000000000000000000002a",
                &fingerprint,
                "ams2Severity 3",
                "ams2SeverityWord critical",
                "ams2State 1",
                "ams2Event Virus Found",
                "ams2EventId ",
                "ams2Source boston",
                r"ams2Summary EICAR in C:\tmp\a.exe",
                r#"ams2Labels computer=ws-042 event="Virus Found" severity=critical site=boston"#,
                "ams2Starts [7, 234, 11, 24, 10, 15, 0, 0, 43, 0, 0]",
                "ams2Ends [0, 0, 0, 0, 0, 0, 0, 0]",
                "ams2Count 1",
                "ams2Group {}:{site=\"boston\"}",
                "ams2Url http://192.0.2.7/graph",
                "ams2AlertCut 2",
                "ams2TestAlert 2",
            ]
        );
    }

    #[test]
    fn every_value_has_the_syntax_that_the_mib_says() {
        for delivery in sample::hostile() {
            for notification in notifications(1400).of(&delivery) {
                for (object, value) in OBJECTS.iter().zip(&notification.values) {
                    let fits = match (object.syntax, value) {
                        ("Ams2Text", Value::Octets(text)) => {
                            std::str::from_utf8(text).is_ok_and(|text| !text.contains(text::leaves_the_line))
                        }
                        ("OCTET STRING (SIZE (32))", Value::Octets(id)) => id.len() == 32,
                        ("OCTET STRING (SIZE (16))", Value::Octets(id)) => id.len() == 16,
                        ("DateAndTime", Value::Octets(time)) => matches!(time.len(), 8 | 11),
                        ("ItuPerceivedSeverity", Value::Integer(number)) => (1..=6).contains(number),
                        ("TruthValue" | "INTEGER { firing(1), resolved(2) }", Value::Integer(number)) => {
                            (1..=2).contains(number)
                        }
                        ("Unsigned32", Value::Unsigned(_)) => true,
                        _ => false,
                    };
                    assert!(fits, "{}: {value:?}", object.name);
                }
            }
        }
    }

    #[test]
    fn severities_are_x_733s_and_what_ended_is_cleared() {
        let rows = [
            (Some(Severity::Critical), 3),
            (Some(Severity::Major), 4),
            (Some(Severity::Minor), 5),
            (Some(Severity::Warning), 6),
            (Some(Severity::Info), 2),
            (None, 2),
        ];
        for (severity, expected) in rows {
            let alert = Alert { severity, ..sample::alert() };
            assert_eq!(perceived_severity(&alert), expected, "{severity:?}");
            assert_eq!(perceived_severity(&Alert { firing: false, ..alert }), 1);
        }
        let ended = Alert { firing: false, ends_at: Some(Wall(1_795_515_301_500)), ..sample::alert() };
        let ended = one(&notifications(1400), ended);
        assert_eq!(ended.oid.last(), Some(&2));
        assert_eq!(of_object(&ended, "ams2State"), Value::Integer(2));
        assert_eq!(of_object(&ended, "ams2Severity"), Value::Integer(1));
        assert_eq!(
            of_object(&ended, "ams2Ends"),
            Value::Octets(vec![7, 234, 11, 24, 10, 15, 1, 5, 43, 0, 0])
        );
    }

    #[test]
    fn traps_are_chosen_by_matchers_and_a_test_is_always_a_test() {
        let compiled = |text: &str| {
            Matcher::parse(text).expect("a matcher").compile(&Severities::default()).expect("compiles")
        };
        let mut notifications = notifications(1400);
        notifications.traps = vec![
            Trap {
                matchers: vec![compiled("event = \"Virus Found\""), compiled("severity > major")],
                firing: vec![1, 3, 6, 1, 4, 1, 9, 1],
                resolved: None,
            },
            Trap {
                matchers: vec![compiled("event = \"Virus Found\"")],
                firing: vec![1, 3, 6, 1, 4, 1, 9, 2],
                resolved: Some(vec![1, 3, 6, 1, 4, 1, 9, 3]),
            },
        ];
        let ours = |number| vec![1, 3, 6, 1, 4, 1, 32_473, 2004, 0, number];
        let theirs = |number| vec![1, 3, 6, 1, 4, 1, 9, number];
        let major = Alert { severity: Some(Severity::Major), ..sample::alert() };
        let other = sample::alert_of(&[("event", "Outbreak")], &[]);
        let rows = [
            (sample::alert(), theirs(1)),
            (Alert { firing: false, ..sample::alert() }, ours(2)),
            (major.clone(), theirs(2)),
            (Alert { firing: false, ..major }, theirs(3)),
            (other.clone(), ours(1)),
            (Alert { firing: false, ..other }, ours(2)),
            (sample::alert_of(&[("alertname", "Heartbeat")], &[]), ours(3)),
        ];
        for (alert, expected) in rows {
            assert_eq!(one(&notifications, alert.clone()).oid, expected, "{alert:?}");
        }
        let test = Delivery { test: true, ..sample::delivery() };
        assert_eq!(notifications.of(&test)[0].oid, ours(4));
        assert_eq!(of_object(&notifications.of(&test)[0], "ams2TestAlert"), Value::Integer(1));
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_says_so() {
        let long = "é".repeat(3000);
        let alert = sample::alert_of(&[("event", "E"), ("a", &long)], &[("summary", &long)]);
        let found = one(&notifications(1400), alert);
        assert_eq!(of_object(&found, "ams2AlertCut"), Value::Integer(1));
        let (summary, labels) =
            (octets(&of_object(&found, "ams2Summary")), octets(&of_object(&found, "ams2Labels")));
        assert!(summary.ends_with("é…") && labels.ends_with("é…"), "{summary} {labels}");
        // Both are cut to the same length, and little is left over.
        assert!(summary.len().abs_diff(labels.len()) <= 2, "{} {}", summary.len(), labels.len());
        assert!((800..1000).contains(&(summary.len() + labels.len())), "{}", summary.len());
        assert_eq!(octets(&of_object(&found, "ams2Event")), "E");
        let whole = one(&notifications(60_000), sample::alert_of(&[("event", "E"), ("a", &long)], &[]));
        assert_eq!(of_object(&whole, "ams2AlertCut"), Value::Integer(2));
        assert_eq!(octets(&of_object(&whole, "ams2Labels")).len(), "event=E a=".len() + long.len());
    }

    #[test]
    fn templates_say_more_and_a_failing_one_gives_way() {
        let template = |source: &str| Some(Template::compile(source, Scope::Alert).expect("compiles"));
        let mut notifications = notifications(1400);
        notifications.summary = template("{{ alert.event }}\non {{ alert.labels.computer }}");
        notifications.url = template("https://noc.example.com/{{ alert.labels.nosuch }}");
        let found = one(&notifications, sample::alert());
        assert_eq!(octets(&of_object(&found, "ams2Summary")), r"Virus Found\non ws-042");
        assert_eq!(octets(&of_object(&found, "ams2Url")), "http://192.0.2.7/graph");
    }
}
