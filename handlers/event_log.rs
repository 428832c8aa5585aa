//! Writes each alert as one line: to a file, to syslog (RFC 5424 or RFC 3164), or to systemd's journal.
//!
//! Every occurrence is written with its time, what happened, its state and all its labels; a digest writes each
//! of its alerts too. Lines carry the delivery id, so that a reader can tell a line that a retry wrote twice.
//! A file is synced once a batch before anything counts as delivered. (The Windows Event Log is not here: this
//! program is built for Linux.)

mod file;
mod journald;
mod line;
mod message;
mod place;
mod syslog;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, Kind, Receipt, SettingsError,
    delivery::written,
    render::{Scope, Template},
    settings::{Warnings, settings},
    units,
};

pub use file::Rotate;
pub use line::Format;
pub use message::{Facility, HOPS, Protocol, SYSLOG_ELEMENT};
use place::{inside, real};

/// The entry in the table.
pub const KIND: Kind = Kind {
    key: "event_log",
    summary: "writes each alert as one line to a file, to syslog or to systemd's journal",
    examples: &[
        "event_log: { to: file, path: events.log }",
        "event_log: { to: file, path: events.json, format: json, rotate: { size: 16MiB, age: 1d, keep: 30 } }",
        "event_log: { to: file, path: short.log, line: '{{ alert.event }} {{ alert.labels.computer | default(\"?\") }}' }",
        "event_log: { to: syslog, address: 'udp://127.0.0.1:514', facility: local0 }",
        "event_log: { to: syslog, address: 'unix:/dev/log' }",
        "event_log: { to: journald }",
    ],
    files: &[],
    defaults: Defaults {
        send_resolved: true,
        // One writer: lines keep their order.
        max_in_flight: 1,
        batch_max: BATCH_MAX,
        timeout: units::Duration::from_seconds(10),
        max_alerts: 0,
        patient: false,
    },
};

/// Most deliveries in one call: enough that one sync a batch keeps pace with 100,000 alerts a second, few enough
/// that their lines fit into memory.
const BATCH_MAX: u32 = 1000;

settings! {
    /// Settings of an `event_log` action.
    pub struct Settings {
        /// Where the lines go.
        pub to: To,
        /// `file`: the file; relative paths start in the data folder.
        pub path: Option<PathBuf>,
        /// `file`: when a new file is begun and how many old ones are kept.
        pub rotate: Option<Rotate>,
        /// `syslog`: `unix:/dev/log`, `udp://host:514` or `tcp://host:601`.
        pub address: Option<String>,
        /// `syslog`: `rfc5424` or `rfc3164`. Unless set, RFC 3164 to a Unix socket, because that is what the daemons
        /// behind `/dev/log` understand, else RFC 5424.
        pub protocol: Option<Protocol>,
        /// `syslog`, `journald`: the facility; `daemon` unless set.
        pub facility: Option<Facility>,
        /// `syslog`, `journald`: the name that we go by there; `ams2` unless set.
        pub app_name: Option<String>,
        /// `syslog`: this machine's name there; the kernel's unless set.
        pub hostname: Option<String>,
        /// `journald`: its socket; `/run/systemd/journal/socket` unless set.
        pub socket: Option<PathBuf>,
        /// `text` (the default) or `json`.
        pub format: Option<Format>,
        /// A template for the line instead, with the alert as `alert`. Line breaks in it are escaped.
        pub line: Option<String>,
        /// Longest line; what is longer is cut and says so with `cut=true`. 64 KiB for files and journald, 8 KiB
        /// for syslog, unless set.
        pub line_bytes_max: Option<units::Bytes>,
    }
}

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A file that we rotate.
    File,
    /// A syslog server or `/dev/log`.
    Syslog,
    /// systemd's journal on this machine.
    Journald,
}

/// Shortest line limit: below it not even the fixed fields fit.
const LINE_BYTES_MIN: u64 = 1024;
/// Longest line limit: a datagram to journald must fit into a socket buffer.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest line in a file and in the journal, unless set.
const LINE_BYTES_DEFAULT: u64 = 64 * 1024;
/// rsyslog's own default (`$MaxMessageSize 8k`): longer messages would be cut there, without a flag.
const SYSLOG_BYTES_DEFAULT: u64 = 8 * 1024;
/// What one UDP datagram over IPv4 can carry.
const UDP_BYTES_MAX: u64 = 65_507;

/// An event log that is ready to write.
#[derive(Debug)]
struct EventLog {
    lines: line::Lines,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    File(file::FileLog),
    Syslog(syslog::Syslog),
    Journald(journald::Journald),
}

impl Warnings for Settings {}

impl Settings {
    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let mut errors = self.misplaced();
        let lines = self.lines().map_err(|error| errors.push(error));
        let sink = match self.to {
            To::File => self.file(context).map(Sink::File),
            To::Syslog => self.syslog(context).map(Sink::Syslog),
            To::Journald => self.journald().map(Sink::Journald),
        };
        match (lines, sink) {
            (Ok(lines), Ok(sink)) if errors.is_empty() => Ok(Box::new(EventLog { lines, sink })),
            (_, sink) => {
                errors.extend(sink.err().into_iter().flatten());
                Err(errors)
            }
        }
    }

    /// The lines of `older`, written where these settings say.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        Settings { format: older.format, line: older.line.clone(), ..self.clone() }
    }

    /// Settings of one kind of log given to another: a misunderstanding that should not pass in silence.
    fn misplaced(&self) -> Vec<SettingsError> {
        let (file, syslog, journald) = (To::File, To::Syslog, To::Journald);
        let rows = [
            ("path", self.path.is_some(), &[file][..]),
            ("rotate", self.rotate.is_some(), &[file]),
            ("address", self.address.is_some(), &[syslog]),
            ("protocol", self.protocol.is_some(), &[syslog]),
            ("facility", self.facility.is_some(), &[syslog, journald]),
            ("app_name", self.app_name.is_some(), &[syslog, journald]),
            ("hostname", self.hostname.is_some(), &[syslog]),
            ("socket", self.socket.is_some(), &[journald]),
        ];
        let wrong = rows.into_iter().filter(|(_, given, kinds)| *given && !kinds.contains(&self.to));
        let mut errors: Vec<SettingsError> = wrong
            .map(|(field, ..)| {
                SettingsError::new(
                    field,
                    format!("a log to {} has no `{field}`", self.to.word()),
                    "remove it",
                )
            })
            .collect();
        if self.max_alerts.is_some_and(|count| count > 0) {
            let message = "an event log writes every alert";
            errors.push(SettingsError::new("max_alerts", message, "remove it, or set it to 0"));
        }
        if self.line.is_some() && self.format == Some(Format::Json) {
            let message = "a line of its own and `format: json` exclude each other";
            errors.push(SettingsError::new("format", message, "remove `line` or `format`"));
        }
        errors
    }

    fn lines(&self) -> Result<line::Lines, SettingsError> {
        let (default, most) = match self.to {
            To::Syslog => (SYSLOG_BYTES_DEFAULT, UDP_BYTES_MAX),
            To::File | To::Journald => (LINE_BYTES_DEFAULT, LINE_BYTES_MAX),
        };
        let bytes_max = self.line_bytes_max.unwrap_or(units::Bytes::new(default));
        if !(LINE_BYTES_MIN..=most).contains(&bytes_max.get()) {
            let mend = format!("use 1KiB to {}", units::Bytes::new(most));
            return Err(SettingsError::new("line_bytes_max", format!("lines of at most {bytes_max}"), mend));
        }
        let template =
            self.line.as_deref().map(|source| Template::compile_with(source, Scope::Alert, &self.templates));
        let template = template.transpose().map_err(|error| error.of_setting("line"))?;
        Ok(line::Lines { format: self.format.unwrap_or(Format::Text), template, bytes_max: bytes_max.len() })
    }

    fn file(&self, context: &BuildContext) -> Result<file::FileLog, Vec<SettingsError>> {
        let mut errors = self.rotate.iter().flat_map(Rotate::check).collect::<Vec<_>>();
        let path = match &self.path {
            None => {
                let mend = "add for instance `path: events.log`";
                errors.push(SettingsError::new("path", "a log to file needs a `path`", mend));
                PathBuf::new()
            }
            Some(path) => inside(&context.data_dir, path).unwrap_or_else(|error| {
                errors.push(error);
                PathBuf::new()
            }),
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let rotate = self.rotate.clone().unwrap_or_default();
        Ok(file::FileLog::new(path, &context.data_dir, &rotate, context.clock.clone()))
    }

    /// The file that the lines go to.
    pub(crate) fn written_file(&self, data_dir: &Path) -> Option<PathBuf> {
        let path = self.path.as_deref().filter(|_| self.to == To::File)?;
        Some(real(&inside(data_dir, path).ok()?))
    }

    fn syslog(&self, context: &BuildContext) -> Result<syslog::Syslog, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let address = match self.address.as_deref() {
            None => Err(SettingsError::new(
                "address",
                "a log to syslog needs an `address`",
                "add for instance `address: unix:/dev/log`",
            )),
            Some(text) => syslog::Address::parse(text),
        };
        let address = address.map_err(|error| errors.push(error)).ok();
        let hostname = self.hostname.as_deref().unwrap_or(&context.hostname);
        for (field, value, bytes_max) in [
            ("app_name", self.app_name.as_deref(), message::APP_NAME_BYTES_MAX),
            ("hostname", self.hostname.as_deref(), message::HOSTNAME_BYTES_MAX),
        ] {
            if let Some(value) = value.filter(|value| !message::is_printable(value, bytes_max)) {
                let mend =
                    format!("use 1 to {bytes_max} printable ASCII characters without spaces (RFC 5424)");
                errors.push(SettingsError::new(field, format!("{value:?} is no syslog name"), mend));
            }
        }
        match address {
            Some(address) if errors.is_empty() => {
                let app_name = self.app_name.as_deref().unwrap_or("ams2");
                let protocol = self.protocol.unwrap_or(address.protocol());
                let facility = self.facility.unwrap_or_default();
                Ok(syslog::Syslog::new(
                    address,
                    message::Messages::new(protocol, facility, hostname, app_name),
                ))
            }
            _ => Err(errors),
        }
    }

    fn journald(&self) -> Result<journald::Journald, Vec<SettingsError>> {
        let socket = self.socket.clone().unwrap_or_else(|| journald::SOCKET.into());
        if !socket.is_absolute() {
            let mend = format!("use an absolute path; without it {} is used", journald::SOCKET);
            return Err(vec![SettingsError::new("socket", format!("{socket:?} is no absolute path"), mend)]);
        }
        let app_name = self.app_name.as_deref().unwrap_or("ams2");
        Ok(journald::Journald::new(socket, self.facility.unwrap_or_default(), app_name))
    }
}

impl To {
    fn word(self) -> &'static str {
        match self {
            To::File => "file",
            To::Syslog => "syslog",
            To::Journald => "journald",
        }
    }
}

#[async_trait::async_trait]
impl Action for EventLog {
    fn batch_max(&self) -> usize {
        BATCH_MAX as usize
    }

    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let start = Instant::now();
        let end = start + deadline;
        let texts = self.write_out(batch, start + deadline / 2).await;
        let mut results = match &self.sink {
            Sink::File(file) => file.send(texts, end).await,
            Sink::Syslog(syslog) => syslog.send(&texts, end).await,
            Sink::Journald(journald) => journald.send(&texts, end).await,
        };
        results
            .resize_with(batch.len(), || Err(Failure::transient("the batch was too large for the timeout")));
        results
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        let end = Instant::now() + deadline;
        let probe = async {
            match &self.sink {
                Sink::File(file) => file.probe().await,
                Sink::Syslog(syslog) => syslog.probe(end).await,
                Sink::Journald(journald) => journald.probe().await,
            }
        };
        tokio::time::timeout_at(end, probe)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
    }
}

/// What is written for one delivery: one text an alert.
type Texts = Vec<Vec<u8>>;

impl EventLog {
    /// The texts of as many deliveries as can be written out until `stop`, and of the first in any case, so that
    /// a huge batch makes some progress with each attempt.
    async fn write_out(&self, batch: &[Delivery], stop: Instant) -> Vec<Texts> {
        let mut texts = Vec::with_capacity(batch.len());
        for delivery in batch {
            if !texts.is_empty() && Instant::now() >= stop {
                break;
            }
            texts.push(written(delivery, || match &self.sink {
                Sink::File(file) => file.texts(&self.lines, delivery),
                Sink::Syslog(syslog) => syslog.messages.texts(&self.lines, delivery),
                Sink::Journald(journald) => journald.texts(&self.lines, delivery),
            }));
            // Long texts are work: others want the thread too.
            tokio::task::yield_now().await;
        }
        texts
    }
}

/// The same answer to every delivery.
fn all(texts: &[Texts], failure: &Failure) -> Vec<Result<Receipt, Failure>> {
    texts.iter().map(|_| Err(failure.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(yaml: &str) -> Result<(), Vec<String>> {
        let settings: Settings = serde_saphyr::from_str(yaml).map_err(|error| vec![error.to_string()])?;
        let context = BuildContext::new("/var/lib/ams2", Default::default());
        let words = |errors: Vec<SettingsError>| errors.iter().map(|e| format!("{e}; {}", e.mend)).collect();
        settings.build(&context).map(drop).map_err(words)
    }

    #[test]
    fn each_mistake_is_named_with_its_setting() {
        let rows = [
            ("{to: file}", "path: a log to file needs a `path`"),
            ("{to: file, path: ../x.log}", "path: \"../x.log\" leaves the data folder"),
            ("{to: file, path: logs/}", "path: \"logs/\" names no file"),
            ("{to: file, path: x.log, address: 'udp://h:1'}", "address: a log to file has no `address`"),
            ("{to: file, path: x.log, max_alerts: 5}", "max_alerts: an event log writes every alert"),
            ("{to: file, path: x.log, line: '{{ alrt.event }}'}", "line: no variable is called `alrt.event`"),
            ("{to: file, path: x.log, line: x, format: json}", "format: a line of its own"),
            (
                "{to: file, path: x.log, line_bytes_max: 10B}",
                "line_bytes_max: lines of at most 10B; use 1KiB to 1MiB",
            ),
            ("{to: file, path: x.log, rotate: {keep: 0}}", "rotate.keep: "),
            ("{to: file, path: x.log, rotate: {size: 1KiB}}", "rotate.size: "),
            ("{to: syslog}", "address: a log to syslog needs an `address`"),
            ("{to: syslog, address: 'http://h:1'}", "address: "),
            ("{to: syslog, address: 'udp://h'}", "address: "),
            ("{to: syslog, address: 'unix:dev/log'}", "address: "),
            (
                "{to: syslog, address: 'unix:/dev/log', hostname: 'a b'}",
                "hostname: \"a b\" is no syslog name",
            ),
            ("{to: syslog, address: 'unix:/dev/log', path: x}", "path: a log to syslog has no `path`"),
            ("{to: journald, socket: run/socket}", "socket: "),
            ("{to: syslog, address: 'unix:/dev/log', protocol: rfc822}", "rfc822"),
            ("{to: file, path: x.log, protocol: rfc5424}", "protocol: a log to file has no `protocol`"),
            ("{to: tape}", "tape"),
            ("{to: file, path: x.log, colour: red}", "colour"),
        ];
        for (yaml, words) in rows {
            let errors = build(yaml).expect_err(yaml);
            assert!(errors[0].contains(words), "{yaml}: {errors:?}");
        }
        let both = build("{to: syslog, rotate: {}, facility: local7}").expect_err("two mistakes");
        assert_eq!(both.len(), 2, "{both:?}");
    }
}
