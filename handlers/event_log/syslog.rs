//! Messages to a syslog server: over a Unix socket, UDP (RFC 5426) or TCP (RFC 6587).
//!
//! Nobody confirms syslog, so a message that left is *sent*, never *delivered*. Over a stream the connection is closed
//! after each batch and the far end's own closing awaited for a moment: a server that died before it read everything
//! resets it, and that we see.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UdpSocket, UnixDatagram, UnixStream},
    time::{Instant, timeout_at},
};

use super::{
    Texts, all,
    message::{Messages, Protocol},
};
use crate::{
    Failure, Receipt, SettingsError,
    net::{self, HostPort},
};

/// How long the far end may take to close after us. One that never closes is healthy too.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Where syslog listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Udp(HostPort),
    Tcp(HostPort),
}

/// A syslog server that is ready to be written to.
#[derive(Debug)]
pub(super) struct Syslog {
    address: Address,
    pub(super) messages: Messages,
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
            return wrong(format!("{:?} is no syslog address", net::shown(text)));
        };
        match HostPort::parse(authority, None) {
            Ok(place) if scheme == "udp" => Ok(Address::Udp(place)),
            Ok(place) => Ok(Address::Tcp(place)),
            Err(what) => wrong(what),
        }
    }

    /// What is understood there, as a rule.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Address::Unix(_) => Protocol::Rfc3164,
            Address::Udp(_) | Address::Tcp(_) => Protocol::Rfc5424,
        }
    }
}

/// For messages: the address as it is configured.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Udp(place) => write!(f, "udp://{place}"),
            Address::Tcp(place) => write!(f, "tcp://{place}"),
        }
    }
}

impl Syslog {
    pub(super) fn new(address: Address, messages: Messages) -> Syslog {
        let messages = match address {
            Address::Unix(_) => messages.local(),
            Address::Udp(_) | Address::Tcp(_) => messages,
        };
        Syslog { address, messages }
    }

    pub(super) async fn send(&self, messages: &[Texts], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let sending = async {
            match &self.address {
                Address::Udp(place) => send_udp(place, messages, end).await,
                Address::Tcp(place) => match place.connect(end).await {
                    Ok(stream) => send_stream(stream, messages, self.messages.protocol, end).await,
                    Err(error) => Err(error),
                },
                Address::Unix(path) => match connect_unix(path).await {
                    Ok(UnixSocket::Datagram(socket)) => Ok(send_datagrams(&socket, messages).await),
                    Ok(UnixSocket::Stream(stream)) => {
                        send_stream(stream, messages, self.messages.protocol, end).await
                    }
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
            Address::Udp(place) => {
                place.resolve(end).await.map(|found| format!("{} (no answer can be had over UDP)", found[0]))
            }
            Address::Tcp(place) => place.connect(end).await.map(|_| "connected".into()),
            Address::Unix(path) => connect_unix(path).await.map(|_| "connected".into()),
        };
        words
            .map(|words| format!("{}: {words}", self.address))
            .map_err(|error| format!("{}: {error}", self.address))
    }
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
    place: &HostPort,
    messages: &[Texts],
    end: Instant,
) -> io::Result<Vec<Result<Receipt, Failure>>> {
    let address = place.resolve(end).await?[0];
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

/// RFC 6587: the length in octets, a space, the message (section 3.4.1); what speaks RFC 3164 knows only a line feed
/// behind each (3.4.2). All or nothing: how much of it the far end took is not known.
async fn send_stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    messages: &[Texts],
    protocol: Protocol,
    end: Instant,
) -> io::Result<Vec<Result<Receipt, Failure>>> {
    let mut frames = Vec::new();
    for delivery in messages {
        frames.clear();
        for message in delivery {
            match protocol {
                Protocol::Rfc5424 => {
                    frames.extend_from_slice(message.len().to_string().as_bytes());
                    frames.push(b' ');
                    frames.extend_from_slice(message);
                }
                Protocol::Rfc3164 => {
                    frames.extend_from_slice(message);
                    frames.push(b'\n');
                }
            }
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
    use super::super::{
        line::{Format, Lines},
        message::Facility,
    };
    use super::*;
    use crate::{Delivery, FailureKind, sample};
    use tokio::net::{TcpListener, UnixListener};

    const LINES: Lines = Lines { format: Format::Text, template: None, bytes_max: 8192 };
    fn first() -> String {
        let messages = Messages::new(Protocol::Rfc5424, Facility::Daemon, "host.example.com", "ams2");
        let text = messages.texts(&LINES, &sample::delivery()).remove(0);
        String::from_utf8(text).expect("text")
    }

    fn syslog_of(protocol: Protocol, address: Address) -> Syslog {
        Syslog::new(address, Messages::new(protocol, Facility::Daemon, "host.example.com", "ams2"))
    }

    fn syslog(address: Address) -> Syslog {
        syslog_of(Protocol::Rfc5424, address)
    }

    async fn deliver(syslog: &Syslog, batch: &[Delivery], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let texts: Vec<Texts> =
            batch.iter().map(|delivery| syslog.messages.texts(&LINES, delivery)).collect();
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
        let place = |host: &str, port| HostPort::new(host, port);
        let tcp = |host: &str, port| Address::Tcp(place(host, port));
        let rows = [
            ("unix:/dev/log", Some(Address::Unix("/dev/log".into()))),
            ("udp://127.0.0.1:514", Some(Address::Udp(place("127.0.0.1", 514)))),
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

    #[tokio::test]
    async fn udp_sends_one_datagram_an_alert() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog(Address::Udp(HostPort::new("127.0.0.1", port)));
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

    /// What a server takes when a batch is sent to it, which is then sent.
    async fn taken_by(server: &TcpListener, log: &Syslog) -> String {
        let reader = async {
            let mut all = String::new();
            server.accept().await.expect("a connection").0.read_to_string(&mut all).await.expect("text");
            all
        };
        let deliveries = batch();
        let (results, text) = tokio::join!(deliver(log, &deliveries, end()), reader);
        assert_eq!(results, vec![Ok(Receipt::Sent); 2]);
        text
    }

    #[tokio::test]
    async fn tcp_counts_octets() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog(Address::Tcp(HostPort::new("127.0.0.1", port)));
        let text = taken_by(&server, &log).await;
        assert!(text.starts_with(&format!("{} {}", first().len(), first())), "{text}");
        assert_eq!(text.matches(">1 2026").count(), 3);
        drop(server);
        let refused = deliver(&log, &batch(), end()).await;
        assert!(refused[1].as_ref().is_err_and(|f| f.kind == FailureKind::Transient), "{refused:?}");
    }

    #[tokio::test]
    async fn tcp_ends_lines_for_those_who_know_no_more() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog_of(Protocol::Rfc3164, Address::Tcp(HostPort::new("127.0.0.1", port)));
        let text = taken_by(&server, &log).await;
        assert_eq!(text.lines().filter(|line| line.starts_with("<25>")).count(), 3, "{text}");
        assert!(text.ends_with('\n'), "{text}");
    }

    #[tokio::test]
    async fn a_server_that_closes_without_reading_is_a_failure() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = server.local_addr().expect("bound").port();
        let log = syslog(Address::Tcp(HostPort::new("127.0.0.1", port)));
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
