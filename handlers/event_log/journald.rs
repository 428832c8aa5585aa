//! Lines into systemd's journal by its native protocol: one datagram an entry, `NAME=value` lines, and for
//! values with line feeds the name, a line feed, 64 bits of length (little-endian), the value, a line feed.
//!
//! | field | what |
//! |---|---|
//! | `MESSAGE` | the line, without its time |
//! | `MESSAGE_ID` | the same for every alert: `journalctl MESSAGE_ID=...` shows them all |
//! | `PRIORITY`, `SYSLOG_FACILITY`, `SYSLOG_IDENTIFIER` | as for syslog |
//! | `AMS2_DELIVERY_ID`, `AMS2_STATE`, `AMS2_EVENT`, `AMS2_FINGERPRINT`, `AMS2_SEQUENCE`, `AMS2_DECIDED_AT` | ours |
//! | `AMS2_LABEL_*`, `AMS2_ANNOTATION_*` | each label and annotation: in capitals, what is not `A-Z0-9` as `_` |
//!
//! The journal confirms nothing, so an entry that left is *sent*. No journald runs where this is built: the
//! tests read the datagrams from a socket of their own.

use std::{io, path::PathBuf};

use smol_str::SmolStr;
use tokio::{
    net::UnixDatagram,
    time::{Instant, timeout_at},
};

use super::{
    Facility, Texts, all,
    line::{Cut, Lines, Time, Told, told},
    message::severity_code,
    syslog::send_datagrams,
};
use crate::{Delivery, Failure, Receipt, delivery::state_word, text};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// Names every alert that ams2 writes, for good.
pub(super) const MESSAGE_ID: &str = "5d2f0b6e7c1a4f3b9a52d3e0c4b8a716";
/// journald takes no longer field names.
const NAME_BYTES_MAX: usize = 64;
/// journald takes 1024 fields an entry; some are ours.
const FIELDS_MAX: usize = 900;
/// An entry must fit into a socket's default send buffer (212,992 bytes, of which the kernel uses a part).
const ENTRY_BYTES_MAX: usize = 128 * 1024;

/// A journal that is ready to be written to.
#[derive(Debug)]
pub(super) struct Journald {
    socket: PathBuf,
    facility: Facility,
    identifier: String,
}

impl Journald {
    pub(super) fn new(socket: PathBuf, facility: Facility, identifier: &str) -> Journald {
        Journald { socket, facility, identifier: identifier.to_owned() }
    }

    pub(super) async fn send(&self, entries: &[Texts], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let named = |words: String| Failure::transient(format!("{}: {words}", self.socket.display()));
        let socket = match self.connect() {
            Ok(socket) => socket,
            Err(error) => return all(entries, &named(error.to_string())),
        };
        let sent = timeout_at(end, send_datagrams(&socket, entries)).await;
        sent.unwrap_or_else(|_| all(entries, &named("it did not take the entries in time".into())))
    }

    pub(super) async fn probe(&self) -> Result<String, String> {
        let connected = self.connect().map(|_| format!("{}: connected", self.socket.display()));
        connected.map_err(|error| format!("{}: {error}", self.socket.display()))
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.socket)?;
        Ok(socket)
    }

    pub(super) fn texts(&self, lines: &Lines, delivery: &Delivery) -> Texts {
        let messages = lines.lines(delivery, Time::Elsewhere);
        told(delivery).zip(messages).map(|(told, message)| self.fitting_entry(told, &message)).collect()
    }

    /// The entry, with ever shorter values, then ever fewer labels, until it fits.
    fn fitting_entry(&self, told: Told<'_>, message: &str) -> Vec<u8> {
        let whole = Cut { fields_max: FIELDS_MAX, ..Cut::NONE };
        let shorter = (0..=7).map(|halvings| Cut { value_bytes_max: (32 * 1024) >> halvings, ..whole });
        let fewer = [100, 0].map(|fields_max| Cut { value_bytes_max: 256, fields_max });
        let cuts = std::iter::once(whole).chain(shorter).chain(fewer);
        let mut fitting =
            cuts.map(|cut| self.entry(told, message, cut)).skip_while(|entry| entry.len() > ENTRY_BYTES_MAX);
        fitting.next().unwrap_or_default()
    }

    fn entry(&self, told: Told<'_>, message: &str, cut: Cut) -> Vec<u8> {
        let alert = told.alert;
        let pairs = alert.labels.len().max(alert.annotations.len());
        let is_cut = cut.value_bytes_max != usize::MAX || pairs > cut.fields_max / 2;
        let mut entry = Vec::with_capacity(1024);
        for (name, value) in [
            ("MESSAGE", message),
            ("MESSAGE_ID", MESSAGE_ID),
            ("PRIORITY", &severity_code(told).to_string()),
            ("SYSLOG_FACILITY", &(self.facility as u8).to_string()),
            ("SYSLOG_IDENTIFIER", &self.identifier),
            ("AMS2_DELIVERY_ID", &told.delivery.id.to_string()),
            ("AMS2_STATE", state_word(alert.firing)),
            ("AMS2_EVENT", alert.event()),
            ("AMS2_FINGERPRINT", &alert.fingerprint.to_string()),
            ("AMS2_SEQUENCE", &alert.sequence.to_string()),
            ("AMS2_DECIDED_AT", &text::rfc3339(told.group.decided)),
            ("AMS2_CUT", if is_cut { "1" } else { "" }),
        ] {
            if !value.is_empty() {
                push_field(&mut entry, name, &cut.value(value));
            }
        }
        let mut push_all = |prefix: &str, pairs: &[(SmolStr, SmolStr)]| {
            for (name, value) in pairs.iter().take(cut.fields_max / 2) {
                push_field(&mut entry, &field_name(prefix, name), &cut.value(value));
            }
        };
        push_all("AMS2_LABEL_", &alert.labels);
        push_all("AMS2_ANNOTATION_", &alert.annotations);
        entry
    }
}

/// systemd's rule: capitals, digits and `_`; the prefix sees to the first character.
fn field_name(prefix: &str, name: &str) -> String {
    let safe = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    prefix.chars().chain(safe).take(NAME_BYTES_MAX).collect()
}

fn push_field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::line::Format;
    use super::*;
    use crate::sample;
    use std::time::Duration;

    const LINES: Lines = Lines { format: Format::Text, template: None, bytes_max: 64 * 1024 };

    /// Reads an entry as journald does.
    fn parse(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !entry.is_empty() {
            let stop = entry.iter().position(|b| matches!(b, b'=' | b'\n')).expect("a name ends");
            let name = String::from_utf8(entry[..stop].to_vec()).expect("text");
            let (value, rest) = if entry[stop] == b'=' {
                let length = entry[stop..].iter().position(|b| *b == b'\n').expect("a line ends");
                (&entry[stop + 1..stop + length], &entry[stop + length..])
            } else {
                let start = stop + 9;
                let length = u64::from_le_bytes(entry[stop + 1..start].try_into().expect("8 bytes")) as usize;
                (&entry[start..start + length], &entry[start + length..])
            };
            fields.push((name, String::from_utf8(value.to_vec()).expect("text")));
            entry = rest.strip_prefix(b"\n").expect("a line feed after each field");
        }
        fields
    }

    #[tokio::test]
    async fn an_entry_has_the_labels_as_fields() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let journal = Journald::new(path.clone(), Facility::Daemon, "ams2");
        assert!(journal.probe().await.is_err(), "nobody listens");
        let end = Instant::now() + Duration::from_secs(20);
        let waits = journal.send(&[journal.texts(&LINES, &sample::delivery())], end).await.remove(0);
        assert_eq!(waits.expect_err("nobody listens").kind, crate::FailureKind::Transient);
        let server = UnixDatagram::bind(&path).expect("bound");
        let mut delivery = sample::delivery();
        delivery.groups[0].alerts[0].annotations.push(("text".into(), "two\nlines".into()));
        assert_eq!(journal.send(&[journal.texts(&LINES, &delivery)], end).await, [Ok(Receipt::Sent)]);
        let mut buffer = [0; 9000];
        let length = server.recv(&mut buffer).await.expect("a datagram");
        let fields = parse(&buffer[..length]);
        let fingerprint = sample::alert().fingerprint.to_string();
        let line = r#"state=firing event="Virus Found" severity=critical computer=ws-042 site=boston summary="EICAR in C:\\tmp\\a.exe" starts_at=2026-11-24T10:15:00.000Z delivery=0000000000000000000000000000002a"#;
        let expected = [
            ("MESSAGE", line),
            ("MESSAGE_ID", MESSAGE_ID),
            ("PRIORITY", "1"),
            ("SYSLOG_FACILITY", "3"),
            ("SYSLOG_IDENTIFIER", "ams2"),
            ("AMS2_DELIVERY_ID", "0000000000000000000000000000002a"),
            ("AMS2_STATE", "firing"),
            ("AMS2_EVENT", "Virus Found"),
            ("AMS2_FINGERPRINT", &fingerprint),
            ("AMS2_SEQUENCE", "17"),
            ("AMS2_DECIDED_AT", "2026-11-24T10:15:02.000Z"),
            ("AMS2_LABEL_COMPUTER", "ws-042"),
            ("AMS2_LABEL_EVENT", "Virus Found"),
            ("AMS2_LABEL_SEVERITY", "critical"),
            ("AMS2_LABEL_SITE", "boston"),
            ("AMS2_ANNOTATION_SUMMARY", r"EICAR in C:\tmp\a.exe"),
            ("AMS2_ANNOTATION_TEXT", "two\nlines"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn hostile_alerts_make_entries_that_journald_can_read() {
        let journal = Journald::new("/x".into(), Facility::Daemon, "ams2");
        for delivery in sample::hostile() {
            for entry in journal.texts(&LINES, &delivery) {
                assert!(entry.len() <= ENTRY_BYTES_MAX, "{}", entry.len());
                let fields = parse(&entry);
                assert!(fields.len() <= 1024);
                assert_eq!(fields.iter().filter(|(name, _)| name == "PRIORITY").count(), 1);
                for (name, _) in &fields {
                    let is_legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
                    assert!(name.len() <= 64 && name.bytes().all(is_legal), "{name}");
                }
            }
        }
    }
}
