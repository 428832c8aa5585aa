//! Connections, with TLS (RFC 5425) or without (RFC 6587): a piece is read, its frames are cut, and they are given to the journal
//! as one arrival; then the next is read. While the journal takes nothing, nothing is read.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use smol_str::ToSmolStr;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Syslog, SyslogSettings, Transport,
    certificate::{Certificate, NotBelieved},
    clients::Sender,
    frames::{Frames, Lost, Step},
    guests::Guest,
    listen::{DRAIN, peer, told},
    making::{Making, Peer},
    metrics::{Dropped, Ended},
};
use crate::originator::{
    Intake, Tls,
    keep::{Keeper, Place},
};

/// Most bytes that are read at once; with a message that is not whole a connection holds a message more.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one connection that are on their way to the disk.
const UNDER_WAY_MAX: usize = 8;
/// And the least that is read at once: what a connection holds that says little.
const PIECE_BYTES_MIN: usize = 4 << 10;
/// A peer that is silent is asked after so long whether it is there still.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Most connections that are looked at at the end, of those that the system has taken for us.
const LAST_CONNECTIONS_MAX: usize = 128;
/// How long a connection is read at the end, whoever goes on sending: it takes some time to keep that, too.
const LAST_TIME: Duration = Duration::from_millis(DRAIN.as_millis() as u64 / 2);
/// And how long it may say nothing then.
const LAST_QUIET: Duration = Duration::from_millis(100);

/// What is read: with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Accepts connections until `stop` says so, then waits a little until what they brought is kept.
pub(super) async fn serve<I: Intake>(
    listener: TcpListener,
    transport: Transport,
    is_from_outside: bool,
    syslog: Arc<Syslog<I>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = told(&mut stop) => break,
        };
        match accepted {
            Ok(came) => admit(came, transport, is_from_outside, &syslog, &stop, &mut connections),
            Err(error) => {
                // Out of descriptors, mostly: accepting again at once would spin.
                tracing::warn!(%error, "cannot accept a connection for syslog");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // What those have sent whom nobody looked at yet is in the system already.
    for _ in 0..LAST_CONNECTIONS_MAX {
        let waits = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
            Poll::Pending => Poll::Ready(None),
        });
        let Some(came) = waits.await else { break };
        admit(came, transport, is_from_outside, &syslog, &stop, &mut connections);
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Who is not done by then is cut off.
    drop(timeout(DRAIN, all).await);
}

/// Serves a connection that came, if there is room.
fn admit<I: Intake>(
    (stream, address): (TcpStream, SocketAddr),
    transport: Transport,
    is_from_outside: bool,
    syslog: &Arc<Syslog<I>>,
    stop: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let (address, settings) = (peer(address), syslog.settings());
    let guest = match syslog.guests.enter(address, &settings.limits, std::time::Instant::now()) {
        Ok(guest) => guest,
        Err(crowded) => {
            syslog.metrics.end(Ended::Crowded);
            return syslog.note(transport, &address.to_string(), "connections", || {
                format!("a connection was closed at once, there are too many ({crowded:?}; originator.syslog.limits)")
            });
        }
    };
    let (syslog, stop) = (syslog.clone(), stop.clone());
    connections.spawn(async move {
        guest_served(stream, address, transport, is_from_outside, &syslog, guest, stop).await
    });
}

/// Serves one connection, and says how it ended.
async fn guest_served<I: Intake>(
    stream: TcpStream,
    address: IpAddr,
    transport: Transport,
    is_from_outside: bool,
    syslog: &Syslog<I>,
    _guest: Guest,
    stop: watch::Receiver<bool>,
) {
    let metrics = &syslog.metrics;
    metrics.connections.fetch_add(1, Ordering::Relaxed);
    if let Err(why) = connection(stream, address, transport, is_from_outside, syslog, stop).await {
        metrics.end(why.ended);
        let denied = matches!(why.ended, Ended::Denied | Ended::Certificate);
        match denied {
            true => (syslog.on_denied)(address.to_smolstr(), why.words),
            false => syslog.note(transport, &address.to_string(), why.reason(), || why.words),
        }
    }
    metrics.connections.fetch_sub(1, Ordering::Relaxed);
}

/// Why a connection ended.
struct Why {
    ended: Ended,
    words: String,
}

impl Why {
    fn new(ended: Ended, words: impl Into<String>) -> Why {
        Why { ended, words: words.into() }
    }

    fn reason(&self) -> &'static str {
        match self.ended {
            Ended::Protocol => "protocol",
            Ended::Framing => "framing",
            Ended::Idle => "idle",
            Ended::Reset => "reset",
            _ => "handshake",
        }
    }
}

impl From<Lost> for Why {
    fn from(lost: Lost) -> Why {
        match lost {
            Lost::Tls => Why::new(
                Ended::Protocol,
                "this port speaks plain syslog, and the peer TLS: use the port of originator.syslog.tls",
            ),
            Lost::Http => Why::new(Ended::Protocol, "this port speaks syslog, and the peer HTTP"),
            lost => Why::new(
                Ended::Framing,
                format!(
                    "where messages begin is not known any more: {lost}; what came before is kept, and the connection is closed"
                ),
            ),
        }
    }
}

async fn connection<I: Intake>(
    stream: TcpStream,
    address: IpAddr,
    transport: Transport,
    is_from_outside: bool,
    syslog: &Syslog<I>,
    stop: watch::Receiver<bool>,
) -> Result<(), Why> {
    keep_alive(&stream);
    let mut peer = Peer::new(transport, address, is_from_outside);
    let settings = syslog.settings();
    match (transport, &settings.tls) {
        (Transport::Tls, Some(tls)) => {
            let stream = shaken(stream, tls, &settings).await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            peer.certificate = shown.and_then(Certificate::read);
            Reading::new(Box::new(stream), peer, syslog).run(stop).await
        }
        // A config of another start: the listener stays until the next.
        (Transport::Tls, None) => {
            Err(Why::new(Ended::Handshake, "no certificate is configured for syslog over TLS"))
        }
        _ => Reading::new(Box::new(stream), peer, syslog).run(stop).await,
    }
}

/// A peer that is gone without a word is found out by the system.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let set = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, KEEPALIVE))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, KEEPALIVE));
    if let Err(error) = set {
        tracing::debug!(%error, "no keepalive");
    }
}

/// The TLS handshake.
async fn shaken(
    stream: TcpStream,
    tls: &Tls,
    settings: &SyslogSettings,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, Why> {
    let end = Instant::now() + settings.limits.handshake_time;
    let late = |_| Why::new(Ended::Handshake, "the TLS handshake took too long");
    let mut first = [0];
    let seen = timeout_at(end, stream.peek(&mut first)).await.map_err(late)?;
    let speaks = match (seen, first[0]) {
        (Ok(1..), b'<' | b'0'..=b'9') => Some("plain syslog: use the port of originator.syslog.tcp, or TLS"),
        (Ok(1..), b'A'..=b'Z') => Some("HTTP"),
        _ => None,
    };
    if let Some(speaks) = speaks {
        return Err(Why::new(Ended::Protocol, format!("this port speaks TLS, and the peer {speaks}")));
    }
    let handshake = tokio_rustls::TlsAcceptor::from(tls.clone()).accept(stream);
    timeout_at(end, handshake).await.map_err(late)?.map_err(|error| refused(&error))
}

/// Why a handshake failed.
fn refused(error: &io::Error) -> Why {
    use rustls::{CertificateError, Error, OtherError};
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => Why::new(
            Ended::Certificate,
            match why.downcast_ref::<NotBelieved>() {
                Some(why) => format!("{why} (syslog over tls)"),
                None => why.to_string(),
            },
        ),
        Some(Error::NoCertificatesPresented) => {
            Why::new(Ended::Certificate, "no certificate was shown (syslog over tls)")
        }
        Some(error @ Error::InvalidCertificate(_)) => {
            Why::new(Ended::Certificate, format!("the certificate is refused: {error} (syslog over tls)"))
        }
        _ => Why::new(Ended::Handshake, format!("the TLS handshake failed: {error}")),
    }
}

/// One connection that is read.
struct Reading<'s, I> {
    stream: Box<dyn Stream>,
    peer: Peer,
    syslog: &'s Syslog<I>,
    frames: Frames,
    buffer: Vec<u8>,
    keeper: Keeper<I>,
    /// Since when a message is not whole; `None` between two.
    begun: Option<Instant>,
}

/// What came of a read.
enum Came {
    Bytes(usize),
    End,
    Reset(io::Error),
    Late,
    Stop,
}

impl<'s, I: Intake> Reading<'s, I> {
    fn new(stream: Box<dyn Stream>, peer: Peer, syslog: &'s Syslog<I>) -> Self {
        let keeper = Keeper::new(syslog.intake.clone(), UNDER_WAY_MAX);
        Reading { stream, peer, syslog, frames: Frames::default(), buffer: Vec::new(), keeper, begun: None }
    }

    /// Reads to the end. Whatever that is, what was read is kept before.
    async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Why> {
        let ended = self.read_all(&mut stop).await;
        // When the journal has ended it says so itself.
        let _ = self.keeper.settle().await;
        ended
    }

    async fn read_all(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Why> {
        let mut piece = PIECE_BYTES_MIN;
        let certificate = self.peer.certificate.as_ref();
        if self.syslog.settings().senders.who(self.peer.address, certificate).is_none() {
            // At once: it need not say anything first.
            return Err(Why::new(Ended::Denied, self.peer.unknown()));
        }
        loop {
            let before = self.syslog.settings();
            let limits = &before.limits;
            self.buffer.reserve(piece);
            let end = match self.begun {
                Some(begun) => begun + limits.message_time,
                None => Instant::now() + limits.idle_time,
            };
            let Some(came) = self.read(end, stop).await else { return Ok(()) };
            // A reload is in force for what comes then, also where it has another word on who this is.
            let settings = self.syslog.settings();
            let Some(sender) = settings.senders.who(self.peer.address, self.peer.certificate.as_ref()) else {
                return Err(Why::new(Ended::Denied, self.peer.unknown()));
            };
            let goes_on = match came {
                Came::Bytes(count) => {
                    // Who says much is read in large pieces.
                    piece = if count >= piece {
                        (2 * piece).min(PIECE_BYTES)
                    } else {
                        PIECE_BYTES_MIN.max(count)
                    };
                    self.keep_frames(&sender, &settings).await?
                }
                Came::End => {
                    self.end(&sender, &settings).await;
                    return Ok(());
                }
                Came::Stop => return self.last().await,
                Came::Reset(error) => {
                    self.end(&sender, &settings).await;
                    return Err(Why::new(Ended::Reset, format!("the connection broke: {error}")));
                }
                Came::Late => {
                    self.end(&sender, &settings).await;
                    return Err(Why::new(
                        Ended::Idle,
                        match self.begun {
                            Some(_) => format!("a message was not whole after {:?}", limits.message_time),
                            None => format!("no message came in {:?}", limits.idle_time),
                        },
                    ));
                }
            };
            if !goes_on {
                return Ok(());
            }
            if self.buffer.is_empty() {
                self.buffer.shrink_to(PIECE_BYTES);
            }
        }
    }

    /// Reads some bytes, and sees to what the journal answers meanwhile; `None` when it has ended.
    async fn read(&mut self, end: Instant, stop: &mut watch::Receiver<bool>) -> Option<Came> {
        loop {
            tokio::select! {
                read = timeout_at(end, self.stream.read_buf(&mut self.buffer)) => return Some(match read {
                    Ok(Ok(0)) => Came::End,
                    Ok(Ok(count)) => Came::Bytes(count),
                    Ok(Err(error)) => Came::Reset(error),
                    Err(_) => Came::Late,
                }),
                () = self.keeper.answered() => self.keeper.clear(usize::MAX).await.ok()?,
                () = told(stop) => return Some(Came::Stop),
            }
        }
    }

    /// Cuts the frames of what was read, and gives them to the journal; `false` when it has ended.
    async fn keep_frames(&mut self, sender: &Sender<'_>, settings: &SyslogSettings) -> Result<bool, Why> {
        let (mut at, mut is_begun_before, mut made) = (0, true, None::<(Making, Place)>);
        let lost = loop {
            let (taken, step) = match self.frames.next(&self.buffer[at..], settings.limits.message_bytes) {
                Ok(next) => next,
                Err(lost) => break Some(lost),
            };
            at += taken;
            match step {
                Step::More | Step::Half => break None,
                Step::Empty => self.syslog.metrics.left_out(Dropped::Empty),
                Step::Frame(frame) => {
                    let (mut making, place) = match made.take() {
                        Some(made) => made,
                        None => match self.keeper.place(&self.syslog.places).await {
                            Ok(place) => (Making::default(), place),
                            Err(_) => return Ok(false),
                        },
                    };
                    making.take(frame, &self.peer, sender, self.syslog, settings);
                    if !making.is_full() {
                        made = Some((making, place));
                    } else if !give(&mut self.keeper, sender, making, place).await {
                        return Ok(false);
                    }
                }
            }
            is_begun_before = false;
        };
        let is_whole = self.frames.is_between() && at == self.buffer.len();
        self.begun = match self.begun.filter(|_| is_begun_before) {
            _ if is_whole => None,
            None => Some(Instant::now()),
            begun => begun,
        };
        self.buffer.drain(..at);
        if let Some((making, place)) = made
            && !give(&mut self.keeper, sender, making, place).await
        {
            return Ok(false);
        }
        lost.map_or(Ok(true), |lost| Err(lost.into()))
    }

    /// We are about to end: what the system has for us is read, since its sender hears nothing of what becomes of it.
    async fn last(&mut self) -> Result<(), Why> {
        let end = Instant::now() + LAST_TIME;
        // Who looks sees that nobody is here any more, and keeps the rest.
        drop(timeout_at(end, self.stream.shutdown()).await);
        loop {
            self.buffer.reserve(PIECE_BYTES);
            let now = Instant::now();
            let quiet = end.min(now + LAST_QUIET);
            let read = match now < end {
                true => timeout_at(quiet, self.stream.read_buf(&mut self.buffer)).await.ok(),
                // Who goes on sending would keep us for ever.
                false => None,
            };
            let settings = self.syslog.settings();
            let Some(sender) = settings.senders.who(self.peer.address, self.peer.certificate.as_ref()) else {
                return Ok(());
            };
            let goes_on = match read {
                Some(Ok(1..)) => self.keep_frames(&sender, &settings).await?,
                _ => {
                    self.end(&sender, &settings).await;
                    false
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Nothing more comes, or is waited for: what is left without an end.
    async fn end(&mut self, sender: &Sender<'_>, settings: &SyslogSettings) {
        match self.frames.end(&self.buffer) {
            Step::Frame(frame) => {
                // Where the journal has ended it says so itself.
                if let Ok(place) = self.keeper.place(&self.syslog.places).await {
                    let mut making = Making::default();
                    making.take(frame, &self.peer, sender, self.syslog, settings);
                    give(&mut self.keeper, sender, making, place).await;
                }
            }
            Step::Half => {
                self.syslog.metrics.left_out(Dropped::Half);
                self.syslog.note(self.peer.transport, &self.peer.name, "half", || {
                    let shown =
                        String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(200)]).into_owned();
                    format!(
                        "a message ended before as much came as its length said, and is not taken: {shown}"
                    )
                });
            }
            Step::Empty => self.syslog.metrics.left_out(Dropped::Empty),
            Step::More => {}
        }
    }
}

/// Gives messages to the journal; `false` when it has ended.
async fn give<I: Intake>(keeper: &mut Keeper<I>, sender: &Sender<'_>, making: Making, place: Place) -> bool {
    match making.finish(&sender.name) {
        Some(arrival) => keeper.keep(arrival, place).await.is_ok(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ams2_core::input::Arrival;

    use super::*;
    use crate::{
        journal::{Accepted, Refused},
        originator::{Limits, mapping::Mapping, syslog::SyslogLimits},
    };

    /// A journal that keeps everything.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Intake for Kept {
        async fn accept(&self, arrival: Arrival) -> Result<Accepted, Refused> {
            let summary = |alert: ams2_core::AlertRef<'_>| alert.annotation("summary").map(str::to_owned);
            self.0.lock().expect("no panic").extend(arrival.batch.iter().filter_map(summary));
            Ok(Accepted { first: 1, last: 1 })
        }

        async fn accept_other(&self, _: ams2_core::Input) -> Result<Accepted, Refused> {
            Err(Refused::Stopping)
        }
    }

    /// Nobody has looked at the connection yet when the word to stop comes: what was sent is in the system, and kept all the same.
    #[tokio::test]
    async fn what_the_system_has_received_before_the_end_is_kept() {
        let settings = SyslogSettings {
            senders: Arc::default(),
            tls: None,
            limits: SyslogLimits::default(),
            alert_limits: Limits::default(),
            mapping: Mapping::default(),
        };
        let kept = Kept::default();
        let syslog = Syslog::new(kept.clone(), settings, Arc::default(), Box::new(|_, _| {}), 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = listener.local_addr().expect("bound");
        let mut stream = TcpStream::connect(to).await.expect("it listens");
        stream.write_all(b"<13>one\n7 <13>two<13>three\0<13>four").await.expect("sent");
        let (_stop, stopped) = watch::channel(true);
        serve(listener, Transport::Tcp, false, Arc::new(syslog), stopped).await;
        assert_eq!(*kept.0.lock().expect("no panic"), ["one", "two", "three", "four"]);
        assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0);
        assert!(TcpStream::connect(to).await.is_err(), "nobody listens any more");
    }
}
