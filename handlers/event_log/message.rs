//! What a syslog message looks like.
//!
//! ```text
//! RFC 5424  <26>1 2026-11-24T10:15:02.000Z ams2host ams2 - Virus_Found [ams2@32473 delivery="..." ...][labels@32473 ...] state=firing ...
//! RFC 3164  <26>Nov 24 10:15:02 ams2host ams2: state=firing ...
//! ```
//!
//! The message is the same line as in a file, for readers that drop structured data; without a byte order mark,
//! because many write it out. RFC 3164 is for what knows no other: the daemons behind `/dev/log` first of all, which
//! expect what `syslog(3)` writes, without the host's name.

use ams2_core::Severity;

use super::line::{Cut, Lines, Time, Told, fit, raw_bytes, told};
use crate::{Delivery, text};

/// The id of the element that says what an alert is. 32473 is the enterprise number for documentation (RFC 5612).
pub const SYSLOG_ELEMENT: &str = "ams2@32473";
/// The annotation, and the parameter of that element, with how often an alert was told as syslog and taken by an ams2 again.
pub const HOPS: &str = "hops";
/// RFC 5424 section 6: APP-NAME is at most 48 characters.
pub(super) const APP_NAME_BYTES_MAX: usize = 48;
/// RFC 5424 section 6: HOSTNAME is at most 255 characters.
pub(super) const HOSTNAME_BYTES_MAX: usize = 255;
/// RFC 5424 section 6: MSGID and the names in structured data are at most 32 characters.
const NAME_BYTES_MAX: usize = 32;

/// Which shape of message the far end understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// RFC 5424: full time, structured data, octet counting over streams.
    Rfc5424,
    /// RFC 3164: local time without year, a line feed behind each over streams.
    Rfc3164,
}

/// What part of the system speaks (RFC 5424 table 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Facility {
    /// 0.
    Kern = 0,
    /// 1.
    User = 1,
    /// 2.
    Mail = 2,
    /// 3, the default.
    #[default]
    Daemon = 3,
    /// 4.
    Auth = 4,
    /// 5.
    Syslog = 5,
    /// 6.
    Lpr = 6,
    /// 7.
    News = 7,
    /// 8.
    Uucp = 8,
    /// 9.
    Cron = 9,
    /// 10.
    Authpriv = 10,
    /// 11.
    Ftp = 11,
    /// 16.
    Local0 = 16,
    /// 17.
    Local1 = 17,
    /// 18.
    Local2 = 18,
    /// 19.
    Local3 = 19,
    /// 20.
    Local4 = 20,
    /// 21.
    Local5 = 21,
    /// 22.
    Local6 = 22,
    /// 23.
    Local7 = 23,
}

/// What is the same in every message.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) protocol: Protocol,
    facility: Facility,
    /// Empty for daemons of this machine: `syslog(3)` does not say it.
    hostname: String,
    app_name: String,
}

impl Messages {
    pub(super) fn new(protocol: Protocol, facility: Facility, hostname: &str, app_name: &str) -> Messages {
        let hostname = field(hostname, HOSTNAME_BYTES_MAX);
        Messages { protocol, facility, hostname, app_name: app_name.to_owned() }
    }

    /// The same for a daemon of this machine.
    pub(super) fn local(self) -> Messages {
        match self.protocol {
            Protocol::Rfc3164 => Messages { hostname: String::new(), ..self },
            Protocol::Rfc5424 => self,
        }
    }

    /// One message an alert.
    pub(super) fn texts(&self, lines: &Lines, delivery: &Delivery) -> super::Texts {
        let written = lines.lines(delivery, Time::Elsewhere);
        let message = |(told, line): (Told<'_>, String)| match self.protocol {
            Protocol::Rfc5424 => self.rfc5424(told, &line, lines.bytes_max).into_bytes(),
            Protocol::Rfc3164 => self.rfc3164(told, &line, lines.bytes_max).into_bytes(),
        };
        told(delivery).zip(written).map(message).collect()
    }

    fn priority(&self, told: Told<'_>) -> u8 {
        self.facility as u8 * 8 + severity_code(told)
    }

    /// RFC 5424 section 6. PROCID stays empty: a retry after a restart says the same bytes.
    fn rfc5424(&self, told: Told<'_>, line: &str, bytes_max: usize) -> String {
        let priority = self.priority(told);
        let time = timestamp(told);
        let id = field(told.alert.event(), NAME_BYTES_MAX);
        let (host, app) = (&self.hostname, &self.app_name);
        fit(bytes_max, raw_bytes(told.alert), |cut| {
            let data = structured_data(told, cut);
            let message = format!("<{priority}>1 {time} {host} {app} - {id} {data} ");
            // The line says the labels once more: of the two, it is the one that is cut.
            let room = bytes_max.saturating_sub(message.len());
            if cut.is_cut() && room < line.len() { message + &text::cut(line, room) } else { message + line }
        })
    }

    /// RFC 3164 section 4.1: the time is the local one, as everybody who reads it assumes.
    fn rfc3164(&self, told: Told<'_>, line: &str, bytes_max: usize) -> String {
        let time = text::timestamp(told.group.decided).to_zoned_datetime(jiff::tz::TimeZone::system());
        let time = time.strftime("%b %e %H:%M:%S");
        let host = if self.hostname.is_empty() { String::new() } else { format!("{} ", self.hostname) };
        let message = format!("<{}>{time} {host}{}: ", self.priority(told), self.app_name);
        let room = bytes_max.saturating_sub(message.len());
        message + &text::cut(line, room)
    }
}

/// RFC 5674 section 2 maps X.733's severities to syslog's; what ended is a notice.
pub(super) fn severity_code(told: Told<'_>) -> u8 {
    const NOTICE: u8 = 5;
    match told.alert.severity {
        _ if !told.alert.firing => NOTICE,
        Some(Severity::Critical) => 1,
        Some(Severity::Major) => 2,
        Some(Severity::Minor) => 3,
        Some(Severity::Warning) => 4,
        Some(Severity::Info) => 6,
        None => NOTICE,
    }
}

/// RFC 5424 section 6.2.3 knows the years 0 to 9999 only; beyond them the time is not known.
fn timestamp(told: Told<'_>) -> String {
    let time = text::rfc3339(told.group.decided);
    if time.starts_with('-') { "-".into() } else { time }
}

/// Printable ASCII without spaces, at most `bytes_max` of it; what is not becomes `_`, nothing becomes `-`.
fn field(text: &str, bytes_max: usize) -> String {
    if text.is_empty() {
        return "-".into();
    }
    text.chars().take(bytes_max).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}

/// Whether `text` can stand in a header field as it is.
pub(super) fn is_printable(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Two elements: what we say about the alert, and its labels, so that no label can pass for ours. 32473 is the
/// enterprise number for documentation (RFC 5612).
///
/// `hops` counts how often the alert was told so and taken by an ams2 again: in a loop it is dropped some time.
fn structured_data(told: Told<'_>, cut: Cut) -> String {
    let alert = told.alert;
    let mut data = format!("[{SYSLOG_ELEMENT}");
    let sequence = alert.sequence.to_string();
    let hops = alert.annotation(HOPS).parse().unwrap_or(0u32).saturating_add(1).to_string();
    for (name, value) in [
        ("delivery", told.delivery.id.to_string().as_str()),
        ("state", crate::delivery::state_word(alert.firing)),
        ("fingerprint", &alert.fingerprint.to_string()),
        ("sequence", &sequence),
        ("event", alert.event()),
        ("event_id", alert.label("event_id")),
        ("rank", alert.severity.map_or("", |severity| severity.word())),
        ("hops", &hops),
        ("cut", if cut.is_cut() { "true" } else { "" }),
    ] {
        if !value.is_empty() {
            push_param(&mut data, name, &cut.value(value));
        }
    }
    data.push(']');
    if !alert.labels.is_empty() && cut.fields_max > 0 {
        data.push_str("[labels@32473");
        for (name, value) in alert.labels.iter().take(cut.fields_max) {
            push_param(&mut data, name, &cut.value(value));
        }
        data.push(']');
    }
    data
}

/// RFC 5424 section 6.3.3: `"`, `\` and `]` are escaped in values; names are printable without `=`, `]`, `"`.
fn push_param(data: &mut String, name: &str, value: &str) {
    data.push(' ');
    data.extend(
        field(name, NAME_BYTES_MAX).chars().map(|c| if matches!(c, '=' | ']' | '"') { '_' } else { c }),
    );
    data.push_str("=\"");
    for c in text::one_line(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            data.push('\\');
        }
        data.push(c);
    }
    data.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::line::Format;
    use super::*;
    use crate::sample;

    const LINES: Lines = Lines { format: Format::Text, template: None, bytes_max: 8192 };
    const FIRST: &str = r#"<25>1 2026-11-24T10:15:02.000Z host.example.com ams2 - Virus_Found [ams2@32473 delivery="0000000000000000000000000000002a" state="firing" fingerprint="FP" sequence="17" event="Virus Found" rank="critical" hops="1"][labels@32473 computer="ws-042" event="Virus Found" severity="critical" site="boston"] state=firing event="Virus Found" severity=critical computer=ws-042 site=boston summary="EICAR in C:\\tmp\\a.exe" starts_at=2026-11-24T10:15:00.000Z delivery=0000000000000000000000000000002a"#;

    fn messages(protocol: Protocol, facility: Facility) -> Messages {
        Messages::new(protocol, facility, "host.example.com", "ams2")
    }

    fn texts(messages: &Messages, lines: &Lines, delivery: &Delivery) -> Vec<String> {
        let texts = messages.texts(lines, delivery);
        texts.into_iter().map(|text| String::from_utf8(text).expect("text")).collect()
    }

    #[test]
    fn a_message_is_rfc_5424() {
        let messages = messages(Protocol::Rfc5424, Facility::Daemon);
        let first = FIRST.replace("FP", &sample::alert().fingerprint.to_string());
        assert_eq!(texts(&messages, &LINES, &sample::delivery()), [first]);
        let ended = crate::Alert { firing: false, ends_at: Some(ams2_core::Wall(0)), ..sample::alert() };
        let ended = &texts(&messages, &LINES, &sample::delivery_of(1, vec![ended]))[0];
        assert!(ended.starts_with("<29>1 ") && ended.contains("state=\"resolved\""), "{ended}");
    }

    #[test]
    fn a_message_is_rfc_3164_with_the_hosts_name_only_for_others() {
        let far = messages(Protocol::Rfc3164, Facility::Daemon);
        let far = &texts(&far, &LINES, &sample::delivery())[0];
        let (time, rest) = far.split_at("<25>Nov 24 10:15:02".len());
        // The hour is the zone's of whoever runs this.
        assert!(time.starts_with("<25>Nov 2") && time.ends_with(":02"), "{far}");
        assert!(rest.starts_with(" host.example.com ams2: state=firing event=\"Virus Found\" "), "{far}");
        let near = messages(Protocol::Rfc3164, Facility::Daemon).local();
        let near = &texts(&near, &LINES, &sample::delivery())[0];
        assert_eq!(*near, far.replacen(" host.example.com", "", 1));
    }

    #[test]
    fn ranks_become_syslog_severities() {
        let rows = [
            (Some(Severity::Critical), "<129>"),
            (Some(Severity::Major), "<130>"),
            (Some(Severity::Minor), "<131>"),
            (Some(Severity::Warning), "<132>"),
            (Some(Severity::Info), "<134>"),
            (None, "<133>"),
        ];
        for protocol in [Protocol::Rfc5424, Protocol::Rfc3164] {
            let messages = messages(protocol, Facility::Local0);
            for (severity, start) in rows {
                let alert = crate::Alert { severity, ..sample::alert() };
                let message = &texts(&messages, &LINES, &sample::delivery_of(1, vec![alert]))[0];
                assert!(message.starts_with(start), "{severity:?}: {message}");
            }
        }
    }

    #[test]
    fn hostile_text_stays_inside_its_element_and_the_limit() {
        for protocol in [Protocol::Rfc5424, Protocol::Rfc3164] {
            let messages = messages(protocol, Facility::Daemon);
            for bytes_max in [1024, 8192] {
                let lines = Lines { bytes_max, ..LINES };
                for message in
                    sample::hostile().iter().flat_map(|delivery| texts(&messages, &lines, delivery))
                {
                    assert!(message.len() <= bytes_max, "{} > {bytes_max}: {message}", message.len());
                    assert!(!message.contains(text::leaves_the_line), "{message:?}");
                    if protocol == Protocol::Rfc5424 {
                        assert_eq!(message.split(' ').nth(1).map(str::len), Some(24), "{message}");
                    }
                }
            }
        }
        let mut data = String::new();
        push_param(&mut data, "a b=]\"é", "x\"y\\z]\n");
        assert_eq!(data, r#" a_b____="x\"y\\z\]\\n""#);
    }
}
