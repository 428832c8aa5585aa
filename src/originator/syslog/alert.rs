//! What a message says, as an alert.

use std::{borrow::Cow, fmt::Write};

use ams2_core::{BatchBuilder, batch::AlertTimes};
use ams2_handlers::text::{cut, one_line};

use super::message::Message;

/// The event of what names no program.
const EVENT: &str = "Syslog Message";
/// The event of messages whose sender has too many alerts of its own.
const SHARED_EVENT: &str = "Too Many Syslog Alerts";
/// The label that says whether a certificate vouches for the sender. Nobody but us says it.
pub const AUTHENTICATED: &str = "authenticated";
/// Labels of the alert of a message without rules.
pub const DEFAULT_LABELS: [&str; 6] =
    [AUTHENTICATED, "computer", "event", "facility", "parse_error", "severity"];
/// Longest value of a label, in bytes: who makes them up cannot make each a large alert.
const LABEL_BYTES_MAX: usize = 255;
/// Longest small annotation, in bytes.
const NOTE_BYTES_MAX: usize = 1 << 10;
/// What an alert has beside its text, in bytes, names and all: eight labels and as many notes at their longest.
const BESIDE_BYTES: usize = 12 << 10;

/// Whose alert a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of its host and its program.
    Own,
    /// One that it shares with many, because its sender has too many of its own: host and program are annotations.
    Shared,
}

/// The labels of the own alert of a message that a sender may make up.
pub fn identity<'m>(message: &Message<'m>) -> [&'m str; 5] {
    let error = message.parse_error.map_or("", |error| error.word());
    [message.host, message.app, message.facility.word(), message.severity.word(), error]
}

/// Adds the alert of a message to a batch, with at most `bytes_max` bytes of names and values. It happened once, and has no
/// end: its time is that of its arrival.
pub fn default_alert(
    message: &Message<'_>,
    whose: Whose,
    bytes_max: usize,
    id: &str,
    batch: &mut BatchBuilder,
) {
    let label = |batch: &mut BatchBuilder, name, value: &str| {
        batch.label(name, &safe(value, LABEL_BYTES_MAX));
    };
    let came = &message.came;
    if let Some(is) = came.is_authenticated {
        batch.label(AUTHENTICATED, if is { "true" } else { "false" });
    }
    match whose {
        Whose::Own => {
            label(batch, "computer", if message.host.is_empty() { came.peer } else { message.host });
            label(batch, "event", if message.app.is_empty() { EVENT } else { message.app });
        }
        Whose::Shared => batch.label("event", SHARED_EVENT),
    }
    batch.label("facility", message.facility.word());
    if let Some(error) = message.parse_error {
        batch.label("parse_error", error.word());
    }
    batch.label("severity", message.severity.rank().word());

    let note = |batch: &mut BatchBuilder, name, value: &str| {
        if !value.is_empty() {
            batch.annotation(name, &safe(value, NOTE_BYTES_MAX));
        }
    };
    if whose == Whose::Shared {
        note(batch, "host", message.host);
    }
    note(batch, "message_id", message.id);
    if !message.host.is_empty() || whose == Whose::Shared {
        note(batch, "peer", came.peer);
    }
    note(batch, "process", message.process);
    if whose == Whose::Shared {
        note(batch, "program", message.app);
    }
    note(batch, "sent_at", message.sent.text);
    let room = bytes_max.saturating_sub(BESIDE_BYTES).max(NOTE_BYTES_MAX);
    // All of it is in the raw text, where that is kept.
    let keeps_raw = keeps_raw(message);
    batch.annotation("summary", &safe(message.text, if keeps_raw { NOTE_BYTES_MAX } else { room }));
    for (name, value) in marks(message, room) {
        batch.annotation(name, &value);
    }
    let finished = batch.finish_alert(AlertTimes::default(), Some(id), None);
    finished.expect("it has labels, each once, and no times");
}

/// Whether a message is kept as it came, because what was made of it is not all that it was.
fn keeps_raw(message: &Message<'_>) -> bool {
    let is_lossy = || std::str::from_utf8(message.came.raw).is_err();
    message.parse_error.is_some() || message.came.is_truncated || is_lossy()
}

/// Annotations that every alert of a message has, whatever rules say: the message itself where something of it was lost, of at
/// most so many bytes, and how it came.
pub fn marks<'m>(message: &Message<'m>, bytes_max: usize) -> Vec<(&'static str, Cow<'m, str>)> {
    let mut marks = Vec::new();
    if message.hops() > 0 {
        // What is told of it counts on from there.
        marks.push((ams2_handlers::event_log::HOPS, message.hops().to_string().into()));
    }
    if keeps_raw(message) {
        let raw = match escaped(message.came.raw) {
            Cow::Borrowed(text) => cut(text, bytes_max),
            Cow::Owned(text) => Cow::Owned(cut(&text, bytes_max).into_owned()),
        };
        marks.push(("raw", raw));
    }
    if message.came.is_truncated {
        marks.push(("truncated", "true".into()));
    }
    if message.came.is_unterminated {
        marks.push(("unterminated", "true".into()));
    }
    marks
}

/// Text on one line, of at most so many bytes.
fn safe(text: &str, bytes_max: usize) -> Cow<'_, str> {
    match one_line(text) {
        Cow::Borrowed(text) => cut(text, bytes_max),
        Cow::Owned(text) => Cow::Owned(cut(&text, bytes_max).into_owned()),
    }
}

/// Bytes as text from which they can be had again: what is not UTF-8 as `\xff`, and a backslash as two, if there is any of it.
fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use ams2_core::{AlertBatch, AlertRef};

    use super::{super::message::Came, *};

    fn came(raw: &[u8]) -> Came<'_> {
        let peer = "192.0.2.7";
        Came { raw, is_truncated: false, is_unterminated: false, peer, is_authenticated: None }
    }

    fn alert_of(came: Came<'_>, bytes_max: usize) -> AlertBatch {
        let mut batch = BatchBuilder::default();
        let text = String::from_utf8_lossy(came.raw);
        default_alert(&Message::read(&text, came.clone()), Whose::Own, bytes_max, "id", &mut batch);
        batch.finish()
    }

    fn shown(alert: AlertRef<'_>) -> String {
        let pairs = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
            pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        format!("{} | {}", pairs(&mut alert.labels()), pairs(&mut alert.annotations()))
    }

    #[test]
    fn an_alert_says_what_the_message_says() {
        let rows: [(&[u8], &str); 8] = [
            (
                b"<34>1 2026-10-11T22:14:15Z db su 17 ID47 [e a=\"1\"] failed",
                "computer=db event=su facility=auth severity=major | message_id=ID47 peer=192.0.2.7 process=17 sent_at=2026-10-11T22:14:15Z summary=failed",
            ),
            (
                b"<13>hello",
                "computer=192.0.2.7 event=Syslog Message facility=user severity=info | summary=hello",
            ),
            (
                b"hello",
                "computer=192.0.2.7 event=Syslog Message facility=user parse_error=pri severity=info | raw=hello summary=hello",
            ),
            // What a line has no room for is escaped: it cannot become another line, or another color (rows 58, 69).
            (
                b"<13>su: x\n<0>1 - - root: \x1b[31mfire",
                r"computer=192.0.2.7 event=su facility=user severity=info | summary=x\n<0>1 - - root: \u{1b}[31mfire",
            ),
            // Not UTF-8 (row 54): shown as well as may be, and kept as it came.
            (
                b"<13>su: M\xfcnchen \\",
                r"computer=192.0.2.7 event=su facility=user severity=info | raw=<13>su: M\xfcnchen \\ summary=M�nchen \",
            ),
            (
                b"<\0\x31\0\x33\0>\0\xfc",
                r"computer=192.0.2.7 event=Syslog Message facility=user parse_error=pri severity=info | raw=<RAW summary=<\u{0}1\u{0}3\u{0}>\u{0}�",
            ),
            (
                "<13>1 - h \u{1b}é - - - x".as_bytes(),
                r"computer=h event=\u{1b}é facility=user severity=info | peer=192.0.2.7 summary=x",
            ),
            (
                b"<13>",
                "computer=192.0.2.7 event=Syslog Message facility=user parse_error=empty severity=info | raw=<13> summary=",
            ),
        ];
        for (raw, expected) in rows {
            let batch = alert_of(came(raw), 64 << 10);
            let found = shown(batch.alert(0).expect("one")).replace("<\u{0}1\u{0}3\u{0}>\u{0}\\xfc", "<RAW");
            assert_eq!(found, expected, "{}", raw.escape_ascii());
            assert_eq!(batch.alert(0).and_then(|alert| alert.id()), Some("id"));
        }
    }

    #[test]
    fn one_of_too_many_keeps_its_names_as_annotations() {
        let mut batch = BatchBuilder::default();
        let message = Message::read("<34>1 - db su 17 - - failed", came(b"<34>1 - db su 17 - - failed"));
        default_alert(&message, Whose::Shared, 64 << 10, "id", &mut batch);
        assert_eq!(
            shown(batch.finish().alert(0).expect("one")),
            "event=Too Many Syslog Alerts facility=auth severity=major | host=db peer=192.0.2.7 process=17 program=su summary=failed"
        );
    }

    #[test]
    fn each_level_has_its_rank() {
        let ranks = ["critical", "critical", "major", "minor", "warning", "info", "info", "info"];
        for (level, rank) in ranks.iter().enumerate() {
            let raw = format!("<{}>x", 8 + level);
            let batch = alert_of(came(raw.as_bytes()), 64 << 10);
            assert_eq!(batch.alert(0).expect("one").label("severity"), *rank, "{level}");
        }
    }

    #[test]
    fn marks_say_how_it_came() {
        let marked = Came {
            is_truncated: true,
            is_unterminated: true,
            is_authenticated: Some(true),
            ..came(b"<13>x")
        };
        let batch = alert_of(marked, 64 << 10);
        assert_eq!(
            shown(batch.alert(0).expect("one")),
            "authenticated=true computer=192.0.2.7 event=Syslog Message facility=user severity=info | raw=<13>x summary=x truncated=true unterminated=true"
        );
        let batch = alert_of(Came { is_authenticated: Some(false), ..came(b"<13>x") }, 64 << 10);
        assert_eq!(batch.alert(0).expect("one").label("authenticated"), "false");
    }

    #[test]
    fn no_alert_is_larger_than_it_may_be() {
        let long = "\u{1b}é".repeat(10_000);
        for (text, most) in [
            (format!("<13>{long}"), 64 << 10),
            (long.clone(), 64 << 10),
            (format!("<13>1 2{long} {long}"), 64 << 10),
            (format!("<13>1 - {0} {0} {0} {0} - x", &long[..225]), 16 << 10),
            (long.clone(), 16 << 10),
        ] {
            for raw in [text.as_bytes(), &[text.as_bytes(), b"\xff"].concat()] {
                let batch = alert_of(Came { is_truncated: true, ..came(raw) }, most);
                let alert = batch.alert(0).expect("one");
                let bytes: usize = alert
                    .labels()
                    .chain(alert.annotations())
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                assert!(bytes <= most, "{bytes} of {most}: {:.40}", text);
            }
        }
    }
}
