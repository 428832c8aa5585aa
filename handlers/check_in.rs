//! Check-ins: what a server says of itself now and then to the one that it forwards to (`POST /api/v1/checkin`), and what
//! that one answers. What is not known is passed over: the two may be of different versions.

use serde::{Deserialize, Serialize};

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it calls itself. That is its name where many share one token; else its token names it.
    #[serde(default)]
    pub server: String,
    /// Version of its program.
    pub version: String,
    /// A hash of its configuration.
    pub config: String,
    /// Names its journal, in 16 hex digits: another one under the same name is another server.
    #[serde(with = "hex")]
    pub incarnation: u64,
    /// Deliveries that wait to go where this goes.
    #[serde(default)]
    pub waiting: u64,
    /// Alerts that it accepted and has no route for to there, since its action came into its configuration; so the next two.
    #[serde(default)]
    pub held_back: u64,
    /// Alerts that got there only after a failure.
    #[serde(default)]
    pub delayed: u64,
    /// Alerts that it gave up.
    #[serde(default)]
    pub dropped: u64,
    /// Its wall clock, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ms: Option<i64>,
    /// The router that answered its last check-in: whoever is another takes it for one that comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// The router that it goes to: this is its last word here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves_for: Option<String>,
}

/// What is answered to it, once it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What the router calls itself.
    pub router: String,
    /// Names its journal, in 16 hex digits.
    #[serde(with = "hex")]
    pub incarnation: u64,
    /// How the client is called here.
    pub client: String,
    /// How often it is to check in, in milliseconds.
    pub period_ms: u64,
    /// What is not as it should be, in sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Numbers as 16 hex digits: JSON has none of 64 bits.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes a number.
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    /// Reads one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let is_one = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_one.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        number.ok_or_else(|| D::Error::custom("it has 16 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_nonsense_is_none() {
        let report = Report {
            server: "ws-1".into(),
            version: "0.1.0".into(),
            config: "c0ffee".into(),
            incarnation: u64::MAX - 1,
            waiting: 1,
            router: Some("branch".into()),
            ..Report::default()
        };
        let text = serde_json::to_string(&report).expect("plain data encodes");
        assert!(
            text.contains("\"incarnation\":\"fffffffffffffffe\"") && !text.contains("leaves_for"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).expect("our own"), report);
        let newer = text.replacen('{', "{\"mood\":\"good\",", 1);
        assert_eq!(serde_json::from_str::<Report>(&newer).expect("of a newer one"), report);
        for wrong in [
            "{}",
            r#"{"version":"1","config":"","incarnation":1}"#,
            r#"{"version":"1","config":"","incarnation":"1"}"#,
            r#"{"version":"1","config":"","incarnation":"+00000000000000a"}"#,
            r#"{"version":"1","config":"","incarnation":"000000000000000a","waiting":-1}"#,
            r#"{"version":"1","config":"","incarnation":"000000000000000a","waiting":99999999999999999999}"#,
        ] {
            assert!(serde_json::from_str::<Report>(wrong).is_err(), "{wrong}");
        }
    }
}
