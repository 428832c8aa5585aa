//! HTTP, over TCP, TLS and the Unix socket: the same protocol, the same limits. Connections are accepted and bounded here;
//! `requests` answers what comes on them.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, RwLock, atomic::Ordering},
    time::Duration,
};

use ams2_handlers::Server;
use hyper::{Request, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{
    HttpLimits, Intake, OriginatorMetrics,
    auth::Clients,
    drip::{Answering, Dripping},
    inbound::Hooks,
    json::Limits,
    linger::{Lingering, Unread},
    pings::Heartbeats,
    refusals::Refusals,
    requests::answer,
};
use crate::{flight::Flights, pool::Pool};

/// How long a connection may go on after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(3);
/// A whole answer may take so many times as long to be read as one piece of it.
pub(super) const ANSWER_TIMES: u32 = 10;

/// TLS for a listener.
pub type Tls = Arc<rustls::ServerConfig>;

/// One way in.
pub enum Listener {
    /// TCP, with TLS if the settings have it.
    Tcp(TcpListener),
    /// The Unix socket.
    Socket(UnixListener),
}

/// What the config says of the ways in. A reload puts others in force, for requests that come then.
#[derive(Clone)]
pub struct Settings {
    /// Who may come.
    pub clients: Arc<Clients>,
    /// Limits of listeners.
    pub limits: HttpLimits,
    /// Limits of alerts.
    pub alert_limits: Limits,
    /// Names that a request's `Host` may have besides addresses and `localhost`; empty: any, if not bound to loopback.
    pub hosts: Vec<String>,
    /// What stands before every path on TCP listeners, such as `/alerts`; may be empty.
    pub prefix: SmolStr,
    /// Certificate and key of TCP listeners.
    pub tls: Option<Tls>,
    /// Web hooks of other tools.
    pub inbound: Arc<Hooks>,
    /// What may be heard of by pings.
    pub heartbeats: Arc<Heartbeats>,
    /// What this server is to others.
    pub server: Server,
}

/// What every listener shares.
pub struct Serving<I> {
    /// Takes alerts.
    pub intake: I,
    /// Everything but the posting of alerts.
    pub routes: axum::Router,
    /// What the config in force says.
    pub settings: RwLock<Arc<Settings>>,
    /// Counts.
    pub metrics: Arc<OriginatorMetrics>,
    /// Told of everybody who was refused: the client, or where from if it is not known, and what was tried.
    pub on_denied: Box<dyn Fn(SmolStr, String) + Send + Sync>,
    /// Told of alerts that were refused.
    pub refusals: Refusals,
    /// Bytes of bodies, of what they inflate to, and of answers.
    pub in_flight: Flights,
    /// Who reads alerts out of large bodies.
    pub body_readers: BodyReaders,
}

/// Threads that read large bodies, and turns at them in the order in which the bodies came. That somebody hangs up meanwhile
/// is not seen, since a sender may close its side and still listen: what it sent is read and kept.
pub struct BodyReaders {
    pub(super) turns: Semaphore,
    pub(super) threads: Pool,
}

impl BodyReaders {
    /// As many as there are processors: more would only take them from each other.
    pub fn new() -> io::Result<BodyReaders> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(BodyReaders { turns: Semaphore::new(count), threads: Pool::new("ams2-bodies", count)? })
    }
}

impl<I> Serving<I> {
    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Tcp { address: SocketAddr, loopback_listener: bool },
    Unix { uid: u32 },
}

impl Peer {
    pub fn name(self) -> SmolStr {
        match self {
            Peer::Tcp { address, .. } => address.ip().to_smolstr(),
            Peer::Unix { uid } => format_smolstr!("uid:{uid}"),
        }
    }
}

/// Accepts connections until `stop` says so, then waits a little for those that are open.
pub async fn serve<I: Intake>(listener: Listener, serving: Arc<Serving<I>>, mut stop: watch::Receiver<bool>) {
    let connections = serving.settings().limits.connections;
    let slots = Arc::new(Semaphore::new(connections));
    let addresses = Arc::new(Addresses::default());
    let local = match &listener {
        Listener::Tcp(listener) => listener.local_addr().is_ok_and(|address| address.ip().is_loopback()),
        Listener::Socket(_) => true,
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = told(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, address),
            Err(error) => {
                // Out of descriptors, mostly: accepting again at once would spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = match peer {
            Peer::Tcp { address, .. } => Peer::Tcp { address, loopback_listener: local },
            other => other,
        };
        let settings = serving.settings();
        let most = settings.limits.connections_per_address;
        let slot = slots.clone().try_acquire_owned().ok().zip(addresses.enter(peer, most));
        let Some((slot, place)) = slot else {
            serving.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let tls = match &listener {
            Listener::Tcp(_) => settings.tls.clone(),
            Listener::Socket(_) => None,
        };
        tokio::spawn(connection(stream, tls, peer, serving.clone(), stop.clone(), slot, place));
    }
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    // Whoever is not done by then is cut off: nothing that was not answered was promised.
    drop(tokio::time::timeout(DRAIN, slots.acquire_many(all)).await);
}

/// Waits until the process is told to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    drop(stop.wait_for(|stop| *stop).await);
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(listener: &Listener) -> io::Result<(Box<dyn Stream>, Peer)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Peer::Tcp { address, loopback_listener: false }))
        }
        Listener::Socket(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok((Box::new(stream), Peer::Unix { uid }))
        }
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

struct Place {
    addresses: Arc<Addresses>,
    address: Option<IpAddr>,
}

impl Addresses {
    fn enter(self: &Arc<Self>, peer: Peer, most: usize) -> Option<Place> {
        let address = match peer {
            Peer::Tcp { address, .. } => Some(super::neighbours(address.ip())),
            Peer::Unix { .. } => None,
        };
        if let Some(address) = address {
            let mut counts = self.0.lock().unwrap_or_else(|e| e.into_inner());
            let count = counts.entry(address).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut counts = self.addresses.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

async fn connection<I: Intake>(
    stream: Box<dyn Stream>,
    tls: Option<Tls>,
    peer: Peer,
    serving: Arc<Serving<I>>,
    mut stop: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
    _place: Place,
) {
    let limits = serving.settings().limits.clone();
    let stream: Box<dyn Stream> = match tls {
        None => stream,
        Some(config) => {
            let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(limits.handshake_time, handshake).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => {
                    tracing::debug!(peer = %peer.name(), %error, "TLS handshake refused");
                    return;
                }
                Err(_) => return,
            }
        }
    };
    let mut stream = tokio_io_timeout::TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.answer_time));
    let (unread, answering) = (Unread::default(), Answering::default());
    let stream = Dripping::new(Box::pin(stream), limits.answer_time * ANSWER_TIMES, answering.clone());
    let stream = Lingering::new(stream, unread.clone());
    serving.metrics.connections.fetch_add(1, Ordering::Relaxed);
    let service = service_fn(|request: Request<Incoming>| {
        let (serving, unread, answering) = (serving.clone(), unread.clone(), answering.clone());
        async move {
            let has_body = !hyper::body::Body::is_end_stream(request.body());
            let response = answer(request, peer, &serving).await;
            unread.set(has_body && !response.status().is_success());
            Ok::<_, std::convert::Infallible>(response.map(|body| answering.begin(body)))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .max_headers(limits.headers)
        // Some say that their request is whole by closing their side; they still listen.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The HTTP library has answered these.
        if error.is_parse_too_large() {
            serving.metrics.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16());
        } else if error.is_parse() {
            serving.metrics.refused(StatusCode::BAD_REQUEST.as_u16());
        }
        tracing::debug!(peer = %peer.name(), %error, "connection ended early");
    }
    serving.metrics.connections.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use ams2_core::{Input, input::Arrival};
    use axum::{body::Body, routing::get};
    use bytes::Bytes;
    use hyper::body::Frame;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        time::Instant,
    };

    use super::*;
    use crate::journal::{Accepted, Refused};

    #[derive(Clone)]
    struct Nobody;

    impl Intake for Nobody {
        async fn accept(&self, _: Arrival) -> Result<Accepted, Refused> {
            Err(Refused::Stopping)
        }

        async fn accept_other(&self, _: Input) -> Result<Accepted, Refused> {
            Err(Refused::Stopping)
        }
    }

    static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

    /// So many pieces of a list, which the HTTP library cannot take all at once.
    struct Pieces(usize);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(&PIECE)))))
        }
    }

    const ANSWER_TIME: Duration = Duration::from_secs(5);

    /// Asks on a connection of its own: for a list of many pieces, or for something that never comes.
    async fn ask(path: &str) -> DuplexStream {
        let never = get(std::future::pending::<Body>);
        let routes = axum::Router::new()
            .route("/list", get(|| async { Body::new(Pieces(200)) }))
            .route("/never", never.clone())
            .route("/api/v2/never", never);
        let serving = Serving {
            intake: Nobody,
            routes,
            settings: RwLock::new(Arc::new(Settings {
                clients: Arc::default(),
                limits: HttpLimits { answer_time: ANSWER_TIME, ..HttpLimits::default() },
                alert_limits: Limits::default(),
                hosts: Vec::new(),
                prefix: SmolStr::default(),
                tls: None,
                inbound: Arc::default(),
                heartbeats: Arc::default(),
                server: Server::default(),
            })),
            metrics: Arc::default(),
            on_denied: Box::new(|_, _| {}),
            refusals: Refusals::default(),
            in_flight: Flights::default(),
            body_readers: BodyReaders::new().expect("threads"),
        };
        let (near, mut far) = tokio::io::duplex(PIECE.len());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Peer::Tcp { address, loopback_listener: true };
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a free one");
        let place = Arc::new(Addresses::default()).enter(peer, 1).expect("a free one");
        // Who asks neither stops nor goes on to listen.
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            connection(Box::new(near), None, peer, Arc::new(serving), stopped, slot, place).await;
            drop(stop);
        });
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        far.write_all(request.as_bytes()).await.expect("sent");
        far
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_takes_too_long_to_read_is_cut_off_though_each_piece_is_read_in_time() {
        for (pause_ms, whole) in [(1000, false), (0, true)] {
            let mut far = ask("/list").await;
            let (since, mut read, mut end) = (Instant::now(), vec![0; PIECE.len()], Vec::new());
            while let Ok(bytes @ 1..) = far.read(&mut read).await {
                end.extend_from_slice(&read[..bytes]);
                end.drain(..end.len().saturating_sub(5));
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                if end == b"0\r\n\r\n" {
                    break;
                }
            }
            assert_eq!(end == b"0\r\n\r\n", whole, "a piece each {pause_ms} ms");
            let most = ANSWER_TIME * ANSWER_TIMES;
            // What was on its way by then is read, too.
            let cut_off = most..most + ANSWER_TIME;
            assert!(whole || cut_off.contains(&since.elapsed()), "{:?}", since.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_for_an_answer_is_told_to_come_again_in_the_words_of_the_api() {
        for (path, kind, words) in [
            ("/never", "application/problem+json", "\"detail\":\"the answer took too long\""),
            ("/api/v2/never", "application/json", "{\"code\":503,\"message\":\"the answer took too long\"}"),
        ] {
            let mut far = ask(path).await;
            let mut read = Vec::new();
            while !read.ends_with(b"}") {
                read.push(far.read_u8().await.expect("it goes on"));
            }
            let read = String::from_utf8(read).expect("text");
            assert!(read.starts_with("HTTP/1.1 503 "), "{path}: {read}");
            for part in [&format!("content-type: {kind}\r\n"), "retry-after: 2\r\n", words] {
                assert!(read.contains(part), "{path}: {part} is not in {read}");
            }
        }
    }
}
