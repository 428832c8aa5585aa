//! Lines as syslog messages: RFC 5424, over a Unix socket, UDP (RFC 5426) or TCP with octet counting (RFC 6587
//! section 3.4.1).
//!
//! ```text
//! <26>1 2026-11-24T10:15:02.000Z ams2host ams2 - Virus_Found [ams2@32473 delivery="..." ...][labels@32473 ...] state=firing ...
//! ```
//!
//! The message is the same line as in a file, for readers that drop structured data; without a byte order mark,
//! because many write it out. Nobody confirms syslog, so a message that left is *sent*, never *delivered*. Over
//! a stream the connection is closed after each batch and the far end's own closing awaited for a moment: a
//! server that died before it read everything resets it, and that we see.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ams2_core::Severity;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
    time::{Instant, timeout_at},
};

use super::{
    Texts, all,
    line::{Cut, Lines, Time, Told, fit, raw_bytes, told},
};
use crate::{Delivery, Failure, Receipt, SettingsError, text};

/// RFC 5424 section 6: APP-NAME is at most 48 characters.
pub(super) const APP_NAME_BYTES_MAX: usize = 48;
/// RFC 5424 section 6: HOSTNAME is at most 255 characters.
pub(super) const HOSTNAME_BYTES_MAX: usize = 255;
/// RFC 5424 section 6: MSGID and the names in structured data are at most 32 characters.
const NAME_BYTES_MAX: usize = 32;
/// How long the far end may take to close after us. One that never closes is healthy too.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for a name: the rest of the deadline is for the connection.
const RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// A name with more addresses than this is a mistake or an attack; the first ones do.
const ADDRESSES_MAX: usize = 8;

/// Where syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Udp { host: String, port: u16 },
    Tcp { host: String, port: u16 },
}

/// What part of the system speaks (RFC 5424 table 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
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

/// A syslog server that is ready to be written to.
#[derive(Debug)]
pub(super) struct Syslog {
    address: Address,
    facility: Facility,
    hostname: String,
    app_name: String,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Address, SettingsError> {
        let wrong = |what: String| {
            let mend = "write unix:/dev/log, udp://host:514 or tcp://host:601";
            Err(SettingsError::new("address", what, mend))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match Path::new(path) {
                path if path.is_absolute() => Ok(Address::Unix(path.to_owned())),
                _ => wrong(format!("{path:?} is no absolute path")),
            };
        }
        let Some((scheme @ ("udp" | "tcp"), authority)) = text.split_once("://") else {
            return wrong(format!("{text:?} is no syslog address"));
        };
        let Some((host, port)) = authority.rsplit_once(':') else {
            return wrong(format!("{text:?} has no port"));
        };
        let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
            return wrong(format!("{port:?} is no port from 1 to 65535"));
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_v6 = bare.len() != host.len();
        let is_name = !bare.is_empty()
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if is_v6 && bare.parse::<std::net::Ipv6Addr>().is_err() || !is_v6 && !is_name {
            return wrong(format!("{host:?} is no host"));
        }
        let host = bare.to_owned();
        Ok(if scheme == "udp" { Address::Udp { host, port } } else { Address::Tcp { host, port } })
    }
}

/// For messages: the address as it is configured.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Udp { host, port } => write!(f, "udp://{host}:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl Syslog {
    pub(super) fn new(address: Address, facility: Facility, hostname: &str, app_name: &str) -> Syslog {
        let hostname = field(hostname, HOSTNAME_BYTES_MAX);
        Syslog { address, facility, hostname, app_name: app_name.to_owned() }
    }

    pub(super) async fn send(&self, messages: &[Texts], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let sending = async {
            match &self.address {
                Address::Udp { host, port } => send_udp(host, *port, messages, end).await,
                Address::Tcp { host, port } => match connect_tcp(host, *port, end).await {
                    Ok(stream) => send_stream(stream, messages, end).await,
                    Err(error) => Err(error),
                },
                Address::Unix(path) => match connect_unix(path).await {
                    Ok(UnixSocket::Datagram(socket)) => Ok(send_datagrams(&socket, messages).await),
                    Ok(UnixSocket::Stream(stream)) => send_stream(stream, messages, end).await,
                    Err(error) => Err(error),
                },
            }
        };
        let named = |words: String| Failure::transient(format!("{}: {words}", self.address));
        match timeout_at(end, sending).await {
            Ok(Ok(results)) => results,
            Ok(Err(error)) => all(messages, &named(error.to_string())),
            Err(_) => all(messages, &named("it did not take the messages in time".into())),
        }
    }

    /// Whether the socket can be connected. UDP has no answer: only that the name resolves.
    pub(super) async fn probe(&self, end: Instant) -> Result<String, String> {
        let words = match &self.address {
            Address::Udp { host, port } => resolve(host, *port, end)
                .await
                .map(|found| format!("{} (no answer can be had over UDP)", found[0])),
            Address::Tcp { host, port } => connect_tcp(host, *port, end).await.map(|_| "connected".into()),
            Address::Unix(path) => connect_unix(path).await.map(|_| "connected".into()),
        };
        words
            .map(|words| format!("{}: {words}", self.address))
            .map_err(|error| format!("{}: {error}", self.address))
    }

    pub(super) fn texts(&self, lines: &Lines, delivery: &Delivery) -> Texts {
        let written = lines.lines(delivery, Time::Elsewhere);
        let message =
            |(told, line): (Told<'_>, String)| self.message(told, &line, lines.bytes_max).into_bytes();
        told(delivery).zip(written).map(message).collect()
    }

    /// RFC 5424 section 6. PROCID stays empty: a retry after a restart says the same bytes.
    fn message(&self, told: Told<'_>, line: &str, bytes_max: usize) -> String {
        let priority = self.facility as u8 * 8 + severity_code(told);
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
fn structured_data(told: Told<'_>, cut: Cut) -> String {
    let alert = told.alert;
    let mut data = String::from("[ams2@32473");
    let sequence = alert.sequence.to_string();
    for (name, value) in [
        ("delivery", told.delivery.id.to_string().as_str()),
        ("state", crate::delivery::state_word(alert.firing)),
        ("fingerprint", &alert.fingerprint.to_string()),
        ("sequence", &sequence),
        ("event", alert.event()),
        ("event_id", alert.label("event_id")),
        ("rank", alert.severity.map_or("", |severity| severity.word())),
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

async fn resolve(host: &str, port: u16, end: Instant) -> io::Result<Vec<SocketAddr>> {
    let end = end.min(Instant::now() + RESOLVE_WAIT);
    let found = timeout_at(end, tokio::net::lookup_host((host, port))).await;
    let found =
        found.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time"))??;
    let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() {
        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    } else {
        Ok(found)
    }
}

async fn connect_tcp(host: &str, port: u16, end: Instant) -> io::Result<TcpStream> {
    TcpStream::connect(&resolve(host, port, end).await?[..]).await
}

enum UnixSocket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

/// A datagram socket, as most systems have it, else a stream.
async fn connect_unix(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Ok(()) => Ok(UnixSocket::Datagram(socket)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            UnixStream::connect(path).await.map(UnixSocket::Stream)
        }
        Err(error) => Err(error),
    }
}

/// One datagram a message. A refusal comes back late and names no datagram, so it stands for the whole batch.
async fn send_udp(
    host: &str,
    port: u16,
    messages: &[Texts],
    end: Instant,
) -> io::Result<Vec<Result<Receipt, Failure>>> {
    let address = resolve(host, port, end).await?[0];
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    let mut results = Vec::with_capacity(messages.len());
    for delivery in messages {
        let mut result = Ok(Receipt::Sent);
        for message in delivery {
            match socket.send(message).await {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
                    result = Err(too_large(message));
                }
                Err(error) => return Err(error),
            }
        }
        results.push(result);
    }
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(results),
    }
}

/// One datagram a message over a Unix socket; it waits while the far end's buffer is full.
pub(super) async fn send_datagrams(
    socket: &UnixDatagram,
    deliveries: &[Texts],
) -> Vec<Result<Receipt, Failure>> {
    let mut results = Vec::with_capacity(deliveries.len());
    let mut broken: Option<Failure> = None;
    for messages in deliveries {
        let mut result = Ok(Receipt::Sent);
        for message in messages {
            let sent = match &broken {
                Some(failure) => Err(failure.clone()),
                None => socket.send(message).await.map(drop).map_err(|error| match error.raw_os_error() {
                    Some(code) if code == rustix::io::Errno::MSGSIZE.raw_os_error() => too_large(message),
                    _ => broken.insert(Failure::transient(error.to_string())).clone(),
                }),
            };
            if let Err(failure) = sent {
                result = Err(failure);
                break;
            }
        }
        results.push(result);
    }
    results
}

fn too_large(message: &[u8]) -> Failure {
    let bytes = message.len();
    Failure::permanent(format!(
        "a message of {bytes} bytes is too large for a datagram: lower `line_bytes_max`"
    ))
}

/// RFC 6587 section 3.4.1: the length in octets, a space, the message. All or nothing: how much of it the far
/// end took is not known.
async fn send_stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    messages: &[Texts],
    end: Instant,
) -> io::Result<Vec<Result<Receipt, Failure>>> {
    let mut frames = Vec::new();
    for delivery in messages {
        frames.clear();
        for message in delivery {
            frames.extend_from_slice(message.len().to_string().as_bytes());
            frames.push(b' ');
            frames.extend_from_slice(message);
        }
        stream.write_all(&frames).await?;
    }
    stream.shutdown().await?;
    let close_by = end.min(Instant::now() + CLOSE_WAIT);
    let mut ignored = [0; 64];
    // A byte instead of the end is no syslog server's; it is not our business.
    if let Ok(closed) = timeout_at(close_by, stream.read(&mut ignored)).await {
        closed?;
    }
    Ok(messages.iter().map(|_| Ok(Receipt::Sent)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::line::Format;
    use super::*;
    use crate::{FailureKind, sample};
    use tokio::net::{TcpListener, UnixListener};

    const LINES: Lines = Lines { format: Format::Text, template: None, bytes_max: 8192 };
    const FIRST: &str = r#"<25>1 2026-11-24T10:15:02.000Z host.example.com ams2 - Virus_Found [ams2@32473 delivery="0000000000000000000000000000002a" state="firing" fingerprint="FP" sequence="17" event="Virus Found" rank="critical"][labels@32473 computer="ws-042" event="Virus Found" severity="critical" site="boston"] state=firing event="Virus Found" severity=critical computer=ws-042 site=boston summary="EICAR in C:\\tmp\\a.exe" starts_at=2026-11-24T10:15:00.000Z delivery=0000000000000000000000000000002a"#;

    fn first() -> String {
        FIRST.replace("FP", &sample::alert().fingerprint.to_string())
    }

    fn syslog(address: Address) -> Syslog {
        Syslog::new(address, Facility::Daemon, "host.example.com", "ams2")
    }

    fn messages(syslog: &Syslog, lines: &Lines, delivery: &Delivery) -> Vec<String> {
        let texts = syslog.texts(lines, delivery);
        texts.into_iter().map(|text| String::from_utf8(text).expect("text")).collect()
    }

    async fn deliver(syslog: &Syslog, batch: &[Delivery], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let texts: Vec<Texts> = batch.iter().map(|delivery| syslog.texts(&LINES, delivery)).collect();
        syslog.send(&texts, end).await
    }

    fn end() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn batch() -> Vec<Delivery> {
        vec![sample::delivery(), sample::delivery_of(7, vec![sample::alert(), sample::alert()])]
    }

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
        let rows = [
            ("unix:/dev/log", Some(Address::Unix("/dev/log".into()))),
            ("udp://127.0.0.1:514", Some(Address::Udp { host: "127.0.0.1".into(), port: 514 })),
            ("tcp://log.example.com:601", Some(tcp("log.example.com", 601))),
            ("tcp://[2001:db8::1]:601", Some(tcp("2001:db8::1", 601))),
            ("unix:dev/log", None),
            ("udp://host", None),
            ("udp://:514", None),
            ("udp://host:0", None),
            ("udp://host:99999", None),
            ("udp://ho st:1", None),
            ("tcp://2001:db8::1:601", None),
            ("tcp://[host]:601", None),
            ("https://host:1", None),
            ("", None),
        ];
        for (text, address) in rows {
            assert_eq!(Address::parse(text).ok(), address, "{text}");
        }
    }

    #[test]
    fn a_message_is_rfc_5424() {
        let syslog = syslog(Address::Unix("/dev/log".into()));
        assert_eq!(messages(&syslog, &LINES, &sample::delivery()), [first()]);
        let ended = crate::Alert { firing: false, ends_at: Some(ams2_core::Wall(0)), ..sample::alert() };
        let ended = &messages(&syslog, &LINES, &sample::delivery_of(1, vec![ended]))[0];
        assert!(ended.starts_with("<29>1 ") && ended.contains("state=\"resolved\""), "{ended}");
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
        let syslog = Syslog::new(Address::Unix("/dev/log".into()), Facility::Local0, "h", "a");
        for (severity, start) in rows {
            let alert = crate::Alert { severity, ..sample::alert() };
            let message = &messages(&syslog, &LINES, &sample::delivery_of(1, vec![alert]))[0];
            assert!(message.starts_with(start), "{severity:?}: {message}");
        }
    }

    #[test]
    fn hostile_text_stays_inside_its_element_and_the_limit() {
        let syslog = syslog(Address::Unix("/dev/log".into()));
        for bytes_max in [1024, 8192] {
            let lines = Lines { bytes_max, ..LINES };
            for delivery in sample::hostile() {
                for message in messages(&syslog, &lines, &delivery) {
                    assert!(message.len() <= bytes_max, "{} > {bytes_max}: {message}", message.len());
                    assert!(!message.contains(text::leaves_the_line), "{message:?}");
                    assert_eq!(message.split(' ').nth(1).map(str::len), Some(24), "{message}");
                }
            }
        }
        let mut data = String::new();
        push_param(&mut data, "a b=]\"é", "x\"y\\z]\n");
        assert_eq!(data, r#" a_b____="x\"y\\z\]\\n""#);
    }

    #[tokio::test]
    async fn udp_sends_one_datagram_an_alert() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog(Address::Udp { host: "127.0.0.1".into(), port });
        assert_eq!(deliver(&log, &batch(), end()).await, vec![Ok(Receipt::Sent); 2]);
        let mut buffer = [0; 9000];
        let mut received = Vec::new();
        for _ in 0..3 {
            let length = server.recv(&mut buffer).await.expect("a datagram");
            received.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(received[0], first());
        assert!(log.probe(end()).await.is_ok());
        drop(server);
        let refused = deliver(&log, &batch(), end()).await;
        assert!(
            refused.iter().all(|r| r.as_ref().is_err_and(|f| f.kind == FailureKind::Transient)),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn tcp_counts_octets() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog(Address::Tcp { host: "127.0.0.1".into(), port });
        let reader = async {
            let mut all = String::new();
            server.accept().await.expect("a connection").0.read_to_string(&mut all).await.expect("text");
            all
        };
        let deliveries = batch();
        let (results, text) = tokio::join!(deliver(&log, &deliveries, end()), reader);
        assert_eq!(results, vec![Ok(Receipt::Sent); 2]);
        assert!(text.starts_with(&format!("{} {}", first().len(), first())), "{text}");
        assert_eq!(text.matches(">1 2026").count(), 3);
        drop(server);
        let refused = deliver(&log, &batch(), end()).await;
        assert!(refused[1].as_ref().is_err_and(|f| f.kind == FailureKind::Transient), "{refused:?}");
    }

    #[tokio::test]
    async fn a_server_that_closes_without_reading_is_a_failure() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog(Address::Tcp { host: "127.0.0.1".into(), port });
        let closes = async {
            let (stream, _) = server.accept().await.expect("a connection");
            // Something must lie unread for the close to become a reset.
            stream.readable().await.expect("bytes");
        };
        let deliveries = batch();
        let (results, ()) = tokio::join!(deliver(&log, &deliveries, end()), closes);
        assert!(results.iter().all(Result::is_err), "{results:?}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_a_datagram_one_first_then_a_stream() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let log = syslog(Address::Unix(path.clone()));
        assert!(deliver(&log, &batch(), end()).await[0].is_err(), "nobody listens");
        let server = UnixDatagram::bind(&path).expect("bound");
        assert_eq!(deliver(&log, &batch(), end()).await, vec![Ok(Receipt::Sent); 2]);
        let mut buffer = [0; 9000];
        let length = server.recv(&mut buffer).await.expect("a datagram");
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), first());
        std::fs::remove_file(&path).expect("removed");

        let server = UnixListener::bind(&path).expect("bound");
        let reader = async {
            let mut all = String::new();
            server.accept().await.expect("a connection").0.read_to_string(&mut all).await.expect("text");
            all
        };
        let deliveries = batch();
        let (results, text) = tokio::join!(deliver(&log, &deliveries, end()), reader);
        assert_eq!(results, vec![Ok(Receipt::Sent); 2]);
        assert!(text.starts_with(&format!("{} <25>1", first().len())), "{text}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_empties_fails_at_the_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let _server = UnixDatagram::bind(&path).expect("bound");
        let many = vec![sample::delivery(); 5000];
        let soon = Instant::now() + Duration::from_millis(50);
        let results = deliver(&syslog(Address::Unix(path)), &many, soon).await;
        assert_eq!(results.len(), 5000);
        assert!(results[0].as_ref().is_err_and(|f| f.reason.contains("in time")), "{:?}", results[0]);
    }
}
