//! One alert as exactly one line of text.
//!
//! ```text
//! time=2026-11-24T10:15:02.000Z state=firing event="Virus Found" severity=critical computer=ws-042 site=boston
//!     summary="EICAR in a.exe" starts_at=2026-11-24T10:15:00.000Z delivery=0000000000000000000000000000002a
//! ```
//!
//! (In one line.) A value is bare where that is unambiguous, else in double quotes with `\"`, `\\`, `\n` and
//! `\u{1b}`. A label that is called like one of the fixed fields is written as `label.time`. What is too long is
//! cut, longest values first, and the line says `cut=true`.

use serde::Serialize;
use smol_str::SmolStr;

use crate::{
    Alert, Delivery, Group,
    delivery::state_word,
    json::Pairs,
    render::Template,
    text::{self, push_word},
};

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `name=value` fields.
    Text,
    /// One JSON object.
    Json,
}

/// How lines are written.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) format: Format,
    pub(super) template: Option<Template>,
    /// Longest line, in bytes, without its line feed.
    pub(super) bytes_max: usize,
}

/// Whether the line says when it was decided; syslog and the journal say it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    Written,
    Elsewhere,
}

/// How much of an alert is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Longest name or value, in bytes.
    pub(super) value_bytes_max: usize,
    /// Most labels (and, where they are shown, annotations).
    pub(super) fields_max: usize,
}

impl Cut {
    pub(super) const NONE: Cut = Cut { value_bytes_max: usize::MAX, fields_max: usize::MAX };

    pub(super) fn is_cut(self) -> bool {
        self != Cut::NONE
    }

    pub(super) fn value(self, value: &str) -> std::borrow::Cow<'_, str> {
        text::cut(value, self.value_bytes_max)
    }
}

/// A line's own names; labels that are called so get a prefix.
const FIXED: [&str; 11] = [
    "time",
    "state",
    "event",
    "severity",
    "summary",
    "starts_at",
    "ends_at",
    "delivery",
    "test",
    "cut",
    "template_error",
];
const LABEL_PREFIX: &str = "label.";

/// An alert with what it was told in.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) group: &'a Group,
    pub(super) alert: &'a Alert,
}

/// Every alert of a delivery with its group, in order.
pub(super) fn told(delivery: &Delivery) -> impl Iterator<Item = Told<'_>> {
    delivery
        .groups
        .iter()
        .flat_map(move |group| group.alerts.iter().map(move |alert| Told { delivery, group, alert }))
}

impl Lines {
    /// One line an alert, without line feeds.
    pub(super) fn lines(&self, delivery: &Delivery, time: Time) -> Vec<String> {
        let Some(template) = &self.template else {
            return told(delivery).map(|told| self.built_in(told, time, None)).collect();
        };
        let rendered = template.render_each(delivery);
        told(delivery)
            .zip(rendered)
            .map(|(told, result)| match result {
                Ok(line) => text::cut(&text::one_line(&line), self.bytes_max).into_owned(),
                // The alert matters more than its layout.
                Err(error) => self.built_in(told, time, Some(&error.message)),
            })
            .collect()
    }

    fn built_in(&self, told: Told<'_>, time: Time, template_error: Option<&str>) -> String {
        fit(self.bytes_max, raw_bytes(told.alert), |cut| match self.format {
            Format::Text => text_line(told, time, template_error, cut),
            Format::Json => json_line(told, cut),
        })
    }
}

/// The longest form that fits: first whole, then with ever shorter values, then with ever fewer fields.
/// `raw_bytes` is a length that the whole form has at least: what cannot fit is not tried.
pub(super) fn fit(bytes_max: usize, raw_bytes: usize, form: impl Fn(Cut) -> String) -> String {
    /// Shorter than this a value says nothing.
    const VALUE_BYTES_MIN: usize = 32;
    if raw_bytes <= bytes_max {
        let whole = form(Cut::NONE);
        if whole.len() <= bytes_max {
            return whole;
        }
    }
    let halves = |from: usize| std::iter::successors(Some(from), |n| Some(n / 2)).take_while(|n| *n > 0);
    let values = halves(bytes_max / 2).take_while(|bytes| *bytes >= VALUE_BYTES_MIN);
    let values = values.map(|value_bytes_max| Cut { value_bytes_max, ..Cut::NONE });
    // A field takes at least three bytes.
    let fields = halves(bytes_max / 3).chain([0]);
    let fields = fields.map(|fields_max| Cut { value_bytes_max: VALUE_BYTES_MIN, fields_max });
    let mut last = String::new();
    for cut in values.chain(fields) {
        last = form(cut);
        if last.len() <= bytes_max {
            return last;
        }
    }
    // The smallest limit that can be set holds the fixed fields, so this is a defence only.
    text::cut(&last, bytes_max).into_owned()
}

/// Bytes of all labels, without a mark between them.
pub(super) fn raw_bytes(alert: &Alert) -> usize {
    alert.labels.iter().map(|(name, value)| name.len() + value.len()).sum()
}

pub(super) fn text_line(told: Told<'_>, time: Time, template_error: Option<&str>, cut: Cut) -> String {
    let alert = told.alert;
    let mut line = String::with_capacity(256);
    let mut field = |name: &str, value: &str| push_field(&mut line, "", name, &cut.value(value));
    if time == Time::Written {
        field("time", &text::rfc3339(told.group.decided));
    }
    field("state", state_word(alert.firing));
    for (name, value) in [("event", alert.event()), ("severity", alert.label("severity"))] {
        if !value.is_empty() {
            field(name, value);
        }
    }
    for (name, value) in other_labels(alert).take(cut.fields_max) {
        let prefix = if is_taken(name) { LABEL_PREFIX } else { "" };
        push_field(&mut line, prefix, &cut.value(name), &cut.value(value));
    }
    let mut field = |name: &str, value: &str| push_field(&mut line, "", name, &cut.value(value));
    if !alert.annotation("summary").is_empty() {
        field("summary", alert.annotation("summary"));
    }
    field("starts_at", &text::rfc3339(alert.starts_at));
    if let Some(end) = alert.ends_at {
        field("ends_at", &text::rfc3339(end));
    }
    for (name, is_so) in [("test", told.delivery.test), ("cut", cut.is_cut())] {
        if is_so {
            field(name, "true");
        }
    }
    if let Some(error) = template_error {
        field("template_error", error);
    }
    field("delivery", &told.delivery.id.to_string());
    line
}

fn other_labels(alert: &Alert) -> impl Iterator<Item = &(SmolStr, SmolStr)> {
    alert.labels.iter().filter(|(name, _)| name != "event" && name != "severity")
}

fn is_taken(name: &str) -> bool {
    FIXED.contains(&name) || name.starts_with(LABEL_PREFIX)
}

fn push_field(line: &mut String, prefix: &str, name: &str, value: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(prefix);
    push_word(line, name);
    line.push('=');
    push_word(line, value);
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    state: &'static str,
    event: &'a str,
    severity: &'a str,
    labels: Pairs<'a>,
    annotations: Pairs<'a>,
    starts_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
    fingerprint: String,
    sequence: u64,
    client: &'a str,
    receiver: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    delivery: String,
}

fn json_line(told: Told<'_>, cut: Cut) -> String {
    let Told { delivery, group, alert } = told;
    let short = |pairs: &[(SmolStr, SmolStr)]| -> Vec<(SmolStr, SmolStr)> {
        let shown = pairs.iter().take(cut.fields_max);
        shown.map(|(name, value)| (SmolStr::new(cut.value(name)), SmolStr::new(cut.value(value)))).collect()
    };
    let (labels, annotations);
    let (labels, annotations) = if cut.is_cut() {
        (labels, annotations) = (short(&alert.labels), short(&alert.annotations));
        (Pairs::of(&labels), Pairs::of(&annotations))
    } else {
        (Pairs::of(&alert.labels), Pairs::of(&alert.annotations))
    };
    let (event, severity) = (cut.value(alert.event()), cut.value(alert.label("severity")));
    let line = JsonLine {
        time: text::rfc3339(group.decided),
        state: state_word(alert.firing),
        event: &event,
        severity: &severity,
        labels,
        annotations,
        starts_at: text::rfc3339(alert.starts_at),
        ends_at: alert.ends_at.map(text::rfc3339),
        fingerprint: alert.fingerprint.to_string(),
        sequence: alert.sequence,
        client: &cut.value(&alert.client),
        receiver: &cut.value(&delivery.receiver),
        test: delivery.test,
        cut: cut.is_cut(),
        delivery: delivery.id.to_string(),
    };
    json_safe(serde_json::to_string(&line).expect("text and numbers always serialise"))
}

/// JSON escapes only C0 controls; some of the others break lines for readers too. They stand inside strings
/// only, so escaping them keeps the meaning.
fn json_safe(line: String) -> String {
    if !line.contains(text::leaves_the_line) {
        return line;
    }
    let mut safe = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if text::leaves_the_line(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{render::Scope, sample};
    use ams2_core::Wall;

    fn lines(format: Format, template: Option<&str>, bytes_max: usize) -> Lines {
        let template = template.map(|source| Template::compile(source, Scope::Alert).expect("compiles"));
        Lines { format, template, bytes_max }
    }

    #[test]
    fn a_line_holds_time_event_severity_and_all_labels() {
        let mut delivery = sample::delivery();
        let ended = Alert { firing: false, ends_at: Some(Wall(1_795_515_301_500)), ..sample::alert() };
        delivery.groups[0].alerts.push(ended);
        assert_eq!(
            lines(Format::Text, None, 4096).lines(&delivery, Time::Written),
            [
                r#"time=2026-11-24T10:15:02.000Z state=firing event="Virus Found" severity=critical computer=ws-042 site=boston summary="EICAR in C:\\tmp\\a.exe" starts_at=2026-11-24T10:15:00.000Z delivery=0000000000000000000000000000002a"#,
                r#"time=2026-11-24T10:15:02.000Z state=resolved event="Virus Found" severity=critical computer=ws-042 site=boston summary="EICAR in C:\\tmp\\a.exe" starts_at=2026-11-24T10:15:00.000Z ends_at=2026-11-24T10:15:01.500Z delivery=0000000000000000000000000000002a"#,
            ]
        );
        assert_eq!(
            lines(Format::Json, None, 4096).lines(&delivery, Time::Written)[0],
            r#"{"time":"2026-11-24T10:15:02.000Z","state":"firing","event":"Virus Found","severity":"critical","labels":{"computer":"ws-042","event":"Virus Found","severity":"critical","site":"boston"},"annotations":{"summary":"EICAR in C:\\tmp\\a.exe"},"starts_at":"2026-11-24T10:15:00.000Z","fingerprint":"FP","sequence":17,"client":"boston","receiver":"secops","delivery":"0000000000000000000000000000002a"}"#
                .replace("FP", &sample::alert().fingerprint.to_string())
        );
    }

    #[test]
    fn values_are_bare_or_quoted() {
        let rows = [
            ("plain", "plain"),
            ("ws-042.example.com:80/x?a[]{}é", "ws-042.example.com:80/x?a[]{}é"),
            ("two words", r#""two words""#),
            ("", r#""""#),
            ("a=b", r#""a=b""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            (r"C:\tmp", r#""C:\\tmp""#),
            ("a\nb\r\tc", r#""a\nb\r\tc""#),
            ("\0\u{1b}[2J\u{9b}", r#""\u{0}\u{1b}[2J\u{9b}""#),
            ("\u{202e}\u{2028}", r#""\u{202e}\u{2028}""#),
            ("no\u{a0}break", "\"no\u{a0}break\""),
        ];
        for (value, written) in rows {
            let mut line = String::new();
            push_word(&mut line, value);
            assert_eq!(line, written, "{value:?}");
        }
    }

    #[test]
    fn labels_cannot_pass_for_our_own_fields() {
        let alert = sample::alert_of(&[("delivery", "1"), ("label.time", "2"), ("state", "resolved")], &[]);
        let line =
            &lines(Format::Text, None, 4096).lines(&sample::delivery_of(1, vec![alert]), Time::Elsewhere)[0];
        assert_eq!(
            line,
            "state=firing label.delivery=1 label.label.time=2 label.state=resolved \
             starts_at=2026-11-24T10:15:00.000Z delivery=00000000000000000000000000000001"
        );
    }

    #[test]
    fn every_alert_is_exactly_one_line_within_the_limit() {
        for bytes_max in [1024, 4096, 64 * 1024] {
            for (format, template) in [
                (Format::Text, None),
                (Format::Json, None),
                (Format::Text, Some("{{ alert.labels | json }}\n{{ alert.event }}")),
                (Format::Text, Some("{{ alert.labels.nosuch }}")),
            ] {
                let lines = lines(format, template, bytes_max);
                for delivery in sample::hostile() {
                    let written = lines.lines(&delivery, Time::Written);
                    assert_eq!(written.len(), delivery.alerts().count());
                    for line in written {
                        assert!(line.len() <= bytes_max, "{} > {bytes_max} {format:?}", line.len());
                        assert!(!line.contains(text::leaves_the_line), "{line:?}");
                        if format == Format::Json {
                            serde_json::from_str::<serde_json::Value>(&line).expect("valid JSON");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_cut_with_a_flag_and_keeps_its_delivery() {
        let long = "x".repeat(5000);
        let alert = sample::alert_of(&[("a", "kept"), ("b", &long), ("event", "E")], &[]);
        let line =
            &lines(Format::Text, None, 1024).lines(&sample::delivery_of(1, vec![alert]), Time::Written)[0];
        assert!(
            line.contains(" a=kept b=xxx") && line.contains("x… ") && line.contains(" cut=true "),
            "{line}"
        );
        assert!(line.ends_with("delivery=00000000000000000000000000000001") && line.len() > 512, "{line}");
    }

    #[test]
    fn a_template_that_fails_leaves_the_built_in_line_with_the_error() {
        let delivery = sample::delivery();
        let good = lines(Format::Text, Some("{{ alert.event }}\n{{ alert.labels.site }}"), 4096);
        assert_eq!(good.lines(&delivery, Time::Written), [r"Virus Found\nboston"]);
        let bad =
            &lines(Format::Text, Some("{{ alert.labels.rack }}"), 4096).lines(&delivery, Time::Written)[0];
        assert!(
            bad.contains(r#"event="Virus Found""#) && bad.contains("template_error=\"undefined value"),
            "{bad}"
        );
    }
}
