//! A message as fields, for rules.

use std::borrow::Cow;

use ams2_core::Wall;
use jiff::{Timestamp, tz::TimeZone};
use minijinja::value::{Serde, Value};
use smol_str::SmolStr;

use super::message::{Message, ParseError};
use crate::originator::mapping::Fields;

/// The names of fields that stand for themselves; beside them there is `sd`.
pub const NAMES: [&str; 19] = [
    "facility",
    "facility_code",
    "severity",
    "severity_code",
    "rank",
    "host",
    "computer",
    "app",
    "process",
    "message_id",
    "text",
    "sent_at",
    "sent",
    "peer",
    "authenticated",
    "parse_error",
    "truncated",
    "unterminated",
    "raw",
];

/// A message, and the time at which `sent` is read.
pub struct MessageFields<'m> {
    /// The message.
    pub message: &'m Message<'m>,
    /// Now.
    pub now: Wall,
}

impl MessageFields<'_> {
    fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let message = self.message;
        let came = &message.came;
        let flag = |is: bool| Cow::Borrowed(if is { "true" } else { "" });
        let text = match name {
            "facility" => message.facility.word().into(),
            "facility_code" => message.facility.0.to_string().into(),
            "severity" => message.severity.word().into(),
            "severity_code" => message.severity.0.to_string().into(),
            "rank" => message.severity.rank().word().into(),
            "host" => message.host.into(),
            "computer" => (if message.host.is_empty() { came.peer } else { message.host }).into(),
            "app" => message.app.into(),
            "process" => message.process.into(),
            "message_id" => message.id.into(),
            "text" => ams2_handlers::text::one_line(message.text),
            "sent_at" => message.sent.text.into(),
            "sent" => self.sent().into(),
            "peer" => came.peer.into(),
            "authenticated" => {
                came.is_authenticated.map_or("", |is| if is { "true" } else { "false" }).into()
            }
            "parse_error" => message.parse_error.map_or("", ParseError::word).into(),
            "truncated" => flag(came.is_truncated),
            "unterminated" => flag(came.is_unterminated),
            "raw" => String::from_utf8_lossy(came.raw),
            _ => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The sender's time in RFC 3339, if it is one.
    fn sent(&self) -> String {
        let now = Timestamp::from_millisecond(self.now.0).unwrap_or_default();
        let sent = self.message.sent.read(now, &TimeZone::system());
        sent.map(|sent| sent.to_string()).unwrap_or_default()
    }
}

impl Fields for MessageFields<'_> {
    fn text(&self, path: &[SmolStr]) -> Option<Cow<'_, str>> {
        match path {
            [name] => self.field(name),
            [first, within @ ..] if first == "sd" => {
                self.message.data.value(&within.join(".")).map(Cow::Borrowed)
            }
            _ => None,
        }
    }

    fn below(&self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'_, str>)> {
        let params = match path {
            [] => {
                let named = NAMES.iter().filter_map(|name| Some(((*name).into(), self.field(name)?)));
                return named.collect();
            }
            [first, within @ ..] if first == "sd" => {
                let id = within.join(".");
                let elements = self.message.data.elements.iter();
                elements
                    .filter(move |element| id.is_empty() || element.id == id)
                    .flat_map(|element| &element.params)
            }
            _ => return Vec::new(),
        };
        params.map(|(name, value)| ((*name).into(), Cow::Borrowed(&**value))).collect()
    }

    fn whole(&self) -> Value {
        let mut whole: serde_json::Map<String, serde_json::Value> =
            self.below(&[]).into_iter().map(|(name, text)| (name.into(), text.into_owned().into())).collect();
        let elements = self.message.data.elements.iter().map(|element| {
            let params = element.params.iter().rev();
            let params = params.map(|(name, value)| ((*name).to_owned(), value.as_ref().into()));
            (element.id.to_owned(), serde_json::Value::Object(params.collect()))
        });
        whole.insert("sd".into(), serde_json::Value::Object(elements.collect()));
        Value::from(Serde(&serde_json::Value::Object(whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::Came, *};
    use crate::originator::mapping::{Path, Text};

    const TEXT: &str = "<165>1 2026-10-11T22:14:15.003+01:00 db.example.com evntslog 17 ID47 [e@32473.1 a=\"1\" b=\"2\" a=\"3\"][f c=\"4\"] te\nxt";

    fn with<T>(text: &str, look: impl FnOnce(&MessageFields<'_>) -> T) -> T {
        let came = Came {
            raw: text.as_bytes(),
            is_truncated: false,
            is_unterminated: false,
            peer: "192.0.2.7",
            is_authenticated: Some(false),
        };
        let message = Message::read(text, came);
        look(&MessageFields { message: &message, now: Wall(1_796_083_200_000) })
    }

    #[test]
    fn fields_are_found_by_their_names_and_paths() {
        for (name, text) in [
            ("facility", "local4"),
            ("facility_code", "20"),
            ("severity", "notice"),
            ("severity_code", "5"),
            ("rank", "info"),
            ("host", "db.example.com"),
            ("computer", "db.example.com"),
            ("app", "evntslog"),
            ("process", "17"),
            ("message_id", "ID47"),
            ("text", r"te\nxt"),
            ("sent_at", "2026-10-11T22:14:15.003+01:00"),
            ("sent", "2026-10-11T21:14:15.003Z"),
            ("peer", "192.0.2.7"),
            ("authenticated", "false"),
            ("raw", TEXT),
            ("sd[\"e@32473.1\"].a", "1"),
            ("sd.f.c", "4"),
        ] {
            let path = Path::parse(name).unwrap_or_else(|| panic!("{name}"));
            with(TEXT, |fields| assert_eq!(fields.text(path.steps()).as_deref(), Some(text), "{name}"));
            // An expression sees the same.
            let expression = Text::parse(&format!("{{{{ {name} | trim }}}}")).expect("right");
            with(TEXT, |fields| assert_eq!(expression.of(fields), text, "{name}"));
        }
        for name in ["sd", "sd.x", "parse_error", "truncated", "unterminated", "host.name", "colour"] {
            let path = Path::parse(name).unwrap_or_else(|| panic!("{name}"));
            with(TEXT, |fields| assert_eq!(fields.text(path.steps()), None, "{name}"));
        }
        with("no priority", |fields| {
            let text = |name: &str| fields.text(&[name.into()]).map(Cow::into_owned);
            assert_eq!(text("parse_error").as_deref(), Some("pri"));
            assert_eq!((text("host"), text("computer").as_deref()), (None, Some("192.0.2.7")));
        });
    }

    #[test]
    fn what_is_below_a_path_is_taken_over_by_its_names() {
        let below = |path: &[&str]| {
            let path: Vec<SmolStr> = path.iter().map(|step| SmolStr::from(*step)).collect();
            with(TEXT, |fields| {
                let below = fields.below(&path);
                below.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(below(&["sd", "e@32473.1"]), "a=1 b=2 a=3");
        assert_eq!(below(&["sd"]), "a=1 b=2 a=3 c=4");
        assert_eq!((below(&["sd", "x"]), below(&["host"])), (String::new(), String::new()));
        assert!(
            below(&[]).starts_with("facility=local4 facility_code=20 severity=notice "),
            "{}",
            below(&[])
        );
    }
}
