//! The way to one manager: a client of async-snmp that is kept, with its keys and its socket.
//!
//! Only this file and `engine.rs` know the library. One client costs a socket, for v3 also a million rounds of hashing and
//! a discovery, so it serves until the manager's address changes or an inform fails.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_snmp::{
    AuthProtocol, Client, ClientBuilder, DecodeConfig, Error, ErrorKind, MasterKeys, MessageSize,
    NotificationPdu, Oid, PrivProtocol, Retry, UdpHandle, UsmConfig, VarBind, Version,
    client::Auth,
    message::V3Message,
    transport::UdpTransport,
    v3::{AuthoritativeEngine, parse_discovery_response},
};
use tokio::{
    net::UdpSocket,
    sync::{Mutex, OnceCell},
    time::{Instant, timeout_at},
};

use super::{
    access::{Access, Authentication, Privacy},
    engine,
    fit::oid_bytes,
    mib::object_oids,
    varbinds::{Notification, Value},
};
use crate::{net::HostPort, text};

/// Largest message over UDP over IPv4: what we take, and what a config may let us send.
pub(super) const MESSAGE_BYTES_MAX: usize = 65_507;
/// Between two looks at a manager's name.
const RESOLVE_AGAIN: Duration = Duration::from_secs(60);
/// An inform is sent this many times more within one attempt where no answer comes: UDP loses packets.
const RESENDS: u32 = 2;
/// Longest reason for a failure, in bytes.
const WORDS_BYTES_MAX: usize = 500;

/// The way to one manager.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) place: HostPort,
    access: Access,
    inform: bool,
    /// The longest attempt: informs are sent again within it.
    timeout: Duration,
    enterprise: u32,
    data_dir: PathBuf,
    /// The names of the varbinds.
    objects: Vec<Oid>,
    credentials: OnceCell<Credentials>,
    open: Mutex<Option<Kept>>,
    /// Which of the manager's addresses comes next: an inform that fails moves on.
    turn: AtomicUsize,
}

/// What the library is shown for us. Deriving the keys takes a million rounds, so it is done once.
struct Credentials {
    auth: Auth,
    engine: Option<AuthoritativeEngine>,
}

#[derive(Debug)]
struct Kept {
    open: Arc<Open>,
    /// When the name was resolved last.
    resolved: Instant,
}

/// A client for one address.
struct Open {
    client: Client<UdpHandle>,
    address: SocketAddr,
    /// Where a v1 trap says that it comes from; zeros for IPv6 (RFC 3584 section 3.2).
    agent: [u8; 4],
    /// How often it has acknowledged. Where it ever did, silence is a loss, not a refusal.
    acknowledged: AtomicU64,
}

/// Why a notification was not taken.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The manager is not there, or does not take us: the next one has no better luck.
    Down(String),
    /// The manager answers others: it is about this one.
    Alone(String),
    /// The attempt was over before it had had its time: whether the manager is there others know.
    Late(String),
}

impl Trouble {
    pub(super) fn words(self) -> String {
        match self {
            Trouble::Down(words) | Trouble::Alone(words) | Trouble::Late(words) => words,
        }
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("address", &self.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Sender {
    pub(super) fn new(
        place: HostPort,
        access: Access,
        inform: bool,
        timeout: Duration,
        enterprise: u32,
        data_dir: PathBuf,
    ) -> Sender {
        let objects = object_oids(enterprise).iter().map(|oid| Oid::from_slice(oid)).collect();
        let (credentials, open, turn) = (OnceCell::new(), Mutex::new(None), AtomicUsize::new(0));
        Sender { place, access, inform, timeout, enterprise, data_dir, objects, credentials, open, turn }
    }

    /// What the name of a varbind takes, at most, in bytes.
    pub(super) fn object_bytes(&self) -> usize {
        self.objects.iter().map(|oid| oid_bytes(oid.arcs())).max().unwrap_or(0)
    }

    /// Sends a trap, or an inform and waits for its answer. The error says why not, in words for an operator.
    pub(super) async fn send(&self, notification: Notification, end: Instant) -> Result<(), Trouble> {
        let open = self.opened(end).await.map_err(Trouble::Down)?;
        let Notification { oid, values } = notification;
        let oid = Oid::from_slice(&oid);
        let varbinds = self.objects.iter().cloned().zip(values);
        let varbinds: Vec<VarBind> = varbinds.map(|(oid, value)| VarBind::new(oid, value.into())).collect();
        let sending = async {
            match self.access {
                Access::V1(_) => {
                    let pdu = NotificationPdu::trap_v2(Version::V2c, 0, uptime(), &oid, varbinds)?;
                    open.client.send_v1_trap(pdu.to_v1_trap(open.agent)?).await
                }
                Access::V2c(_) | Access::V3(_) if self.inform => {
                    open.client.send_inform(&oid, uptime(), varbinds).await
                }
                Access::V2c(_) | Access::V3(_) => open.client.send_trap(&oid, uptime(), varbinds).await,
            }
        };
        let (before, acknowledged) = (open.client.stats(), open.acknowledged.load(Ordering::Relaxed));
        let sent = timeout_at(end, sending).await;
        if let Ok(Ok(())) = sent {
            open.acknowledged.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let after = open.client.stats();
        let heard = after.correlated_datagrams + after.discarded_datagrams + after.malformed_datagrams
            > before.correlated_datagrams + before.discarded_datagrams + before.malformed_datagrams;
        let acknowledged_now = open.acknowledged.load(Ordering::Relaxed);
        let is_heard = heard && acknowledged_now == 0;
        let words = match &sent {
            Ok(Err(error)) => self.words(error, is_heard),
            _ => self.silence(is_heard),
        };
        let concerns_us = |error: &Error| {
            matches!(error.exchange_source(), Error::Snmp { .. } | Error::OutboundMessageTooLarge { .. })
        };
        match &sent {
            Ok(Err(error)) if concerns_us(error) => Err(Trouble::Alone(words)),
            Err(_) if acknowledged_now > 0 => Err(Trouble::Late(words)),
            // Others were acknowledged meanwhile.
            _ if acknowledged_now > acknowledged => Err(Trouble::Alone(words)),
            _ => {
                self.give_up(&open).await;
                Err(Trouble::Down(words))
            }
        }
    }

    /// Asks a manager that takes v3 informs for its engine id; of any other only the name is looked up, because nothing
    /// but a notification would make it say a word.
    pub(super) async fn probe(&self, end: Instant) -> Result<String, String> {
        let addresses = self.place.resolve(end).await.map_err(|error| error.to_string())?;
        let address = addresses[0];
        if !(self.inform && matches!(self.access, Access::V3(_))) {
            return Ok(format!("{}; whether it listens is not known before an inform", address.ip()));
        }
        let asked = timeout_at(end, discover(address)).await;
        let engine = asked.unwrap_or_else(|_| Err("no answer to the discovery of its engine id".into()))?;
        Ok(format!("its engine id is {}", engine::hex(&engine)))
    }

    /// The client for the manager's present address.
    async fn opened(&self, end: Instant) -> Result<Arc<Open>, String> {
        let late = || "no time was left to begin".to_owned();
        let mut kept = timeout_at(end, self.open.lock()).await.map_err(|_| late())?;
        if let Some(Kept { open, resolved }) = &*kept
            && resolved.elapsed() < RESOLVE_AGAIN
        {
            return Ok(open.clone());
        }
        let addresses = match (self.place.resolve(end).await, &mut *kept) {
            (Ok(addresses), _) => addresses,
            // Names that cannot be resolved are part of a bad night: where the manager was, it may still be.
            (Err(error), Some(kept)) => {
                tracing::warn!(manager = %self.place, %error, "the name cannot be resolved, its last address stands");
                kept.resolved = Instant::now();
                return Ok(kept.open.clone());
            }
            (Err(error), None) => return Err(error.to_string()),
        };
        if let Some(kept) = &mut *kept
            && addresses.contains(&kept.open.address)
        {
            kept.resolved = Instant::now();
            return Ok(kept.open.clone());
        }
        let address = addresses[self.turn.load(Ordering::Relaxed) % addresses.len()];
        let credentials = timeout_at(end, self.credentials.get_or_try_init(|| self.credentials()));
        let credentials = credentials.await.map_err(|_| late())??;
        let open = Arc::new(self.open(address, credentials).await?);
        *kept = Some(Kept { open: open.clone(), resolved: Instant::now() });
        Ok(open)
    }

    /// Keys and, for v3 traps, our engine: hashing and a file, so not on a thread that answers clients.
    async fn credentials(&self) -> Result<Credentials, String> {
        let user = match &self.access {
            Access::V1(community) => return Ok(Auth::v1(community.expose()).into()),
            Access::V2c(community) => return Ok(Auth::v2c(community.expose()).into()),
            Access::V3(user) => user.clone(),
        };
        let (inform, enterprise, data_dir) = (self.inform, self.enterprise, self.data_dir.clone());
        let made = tokio::task::spawn_blocking(move || {
            let keys =
                MasterKeys::new(user.authentication.into(), user.authentication_password.expose().as_bytes())
                    .and_then(|keys| {
                        keys.with_privacy(user.privacy.into(), user.privacy_password.expose().as_bytes())
                    })
                    .and_then(|keys| UsmConfig::new(user.name.clone().into_bytes()).with_master_keys(keys));
            let usm = keys.map_err(|error| format!("the keys of the user cannot be made: {error}"))?;
            let engine = (!inform).then(|| engine::of(&data_dir, enterprise)).transpose()?;
            Ok(Credentials { auth: usm.into(), engine })
        });
        made.await.unwrap_or_else(|error| Err(format!("the keys of the user cannot be made: {error}")))
    }

    async fn open(&self, address: SocketAddr, credentials: &Credentials) -> Result<Open, String> {
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let local = local_address(any, address).map_err(|error| format!("no way to {address}: {error}"))?;
        let transport = UdpTransport::builder().bind(SocketAddr::new(any, 0).to_string());
        let transport = transport.max_message_size(MESSAGE_BYTES_MAX).build().await;
        let resend = self.timeout * 9 / 10 / (RESENDS + 1);
        let builder = ClientBuilder::new(credentials.auth.clone())
            .request_timeout(resend)
            .send_timeout(self.timeout)
            .retry(Retry::fixed(RESENDS, Duration::ZERO).expect("a small number of retries is allowed"));
        let builder = match &credentials.engine {
            Some(engine) => builder.local_authoritative_engine(engine.clone()),
            None => builder,
        };
        let handle = transport.and_then(|transport| transport.handle(address));
        let client = handle.and_then(|handle| builder.build_with_transport(handle));
        let client = client.map_err(|error| self.words(&error, false))?;
        let agent = match local {
            IpAddr::V4(local) => local.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        Ok(Open { client, address, agent, acknowledged: AtomicU64::new(0) })
    }

    /// The next attempt begins anew: another address, another socket, another discovery.
    async fn give_up(&self, open: &Arc<Open>) {
        let mut kept = self.open.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.open, open)) {
            self.turn.fetch_add(1, Ordering::Relaxed);
            *kept = None;
        }
    }

    /// The library's error in words for an operator.
    fn words(&self, error: &Error, is_heard: bool) -> String {
        let words = match error.exchange_source() {
            Error::Network { source, .. } => source.to_string(),
            Error::Timeout { .. } => self.silence(is_heard),
            Error::Report { status, .. } => {
                format!("the manager does not take us: {status}; {}", self.mend())
            }
            Error::Auth { .. } => format!("the manager does not take us; {}", self.mend()),
            Error::Snmp { status, .. } => format!("the manager answered {status}"),
            Error::OutboundMessageTooLarge { size, limit } => {
                format!("a message of {size} bytes, and the manager takes {limit}: lower `message_bytes_max`")
            }
            other if matches!(other.kind(), ErrorKind::Decode | ErrorKind::MalformedResponse) => {
                format!("what came back is no answer to our inform: {other}")
            }
            other => other.to_string(),
        };
        text::cut(&text::one_line(&words), WORDS_BYTES_MAX).into_owned()
    }

    fn silence(&self, is_heard: bool) -> String {
        match (is_heard, &self.access) {
            // A manager refuses a user without authentication, so that anybody could have said it.
            (true, Access::V3(_)) => format!("the manager does not take us: {}", self.mend()),
            (true, _) => "what came back is no answer to our inform".into(),
            (false, _) => "no answer".into(),
        }
    }

    fn mend(&self) -> &'static str {
        match self.access {
            Access::V3(_) => "check `user`, `auth`, `priv` and both passwords, there and here",
            _ => "check the community, there and here",
        }
    }
}

impl From<Auth> for Credentials {
    fn from(auth: Auth) -> Credentials {
        Credentials { auth, engine: None }
    }
}

impl From<Authentication> for AuthProtocol {
    fn from(authentication: Authentication) -> AuthProtocol {
        match authentication {
            Authentication::Md5 => AuthProtocol::Md5,
            Authentication::Sha1 => AuthProtocol::Sha1,
            Authentication::Sha224 => AuthProtocol::Sha224,
            Authentication::Sha256 => AuthProtocol::Sha256,
            Authentication::Sha384 => AuthProtocol::Sha384,
            Authentication::Sha512 => AuthProtocol::Sha512,
        }
    }
}

/// Longer keys are made as net-snmp and most others make them (draft-blumenthal-aes-usm-04).
impl From<Privacy> for PrivProtocol {
    fn from(privacy: Privacy) -> PrivProtocol {
        match privacy {
            Privacy::Des => PrivProtocol::Des,
            Privacy::Aes128 => PrivProtocol::Aes128,
            Privacy::Aes192 => PrivProtocol::Aes192Blumenthal,
            Privacy::Aes256 => PrivProtocol::Aes256Blumenthal,
        }
    }
}

impl From<Value> for async_snmp::Value {
    fn from(value: Value) -> async_snmp::Value {
        match value {
            Value::Integer(number) => async_snmp::Value::Integer(number),
            Value::Unsigned(number) => async_snmp::Value::Gauge32(number),
            Value::Octets(bytes) => async_snmp::Value::OctetString(bytes.into()),
        }
    }
}

/// Hundredths of a second since this process first told somebody by SNMP: sysUpTime.0, which wraps after 497 days.
fn uptime() -> u32 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    (STARTED.get_or_init(Instant::now).elapsed().as_millis() / 10) as u32
}

/// Our address on the way to `address`. Connecting a datagram socket sends nothing.
fn local_address(any: IpAddr, address: SocketAddr) -> std::io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip())
}

/// The engine id of whoever answers there (RFC 3414 section 4). Asked again each second: UDP loses packets.
async fn discover(address: SocketAddr) -> Result<Vec<u8>, String> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
    socket.connect(address).await.map_err(failed)?;
    let size = MessageSize::new(MESSAGE_BYTES_MAX).expect("within UDP's limits");
    let question = V3Message::discovery_request(1, size).and_then(|message| message.encode());
    let question = question.map_err(|error| error.to_string())?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        socket.send(&question).await.map_err(failed)?;
        let again = Instant::now() + Duration::from_secs(1);
        while let Ok(received) = timeout_at(again, socket.recv(&mut buffer)).await {
            let answer = buffer[..received.map_err(failed)?].to_vec();
            let answer = V3Message::decode(answer.into(), DecodeConfig::default());
            let engine = answer.and_then(|answer| parse_discovery_response(answer.value.security_params()));
            if let Ok(engine) = engine {
                return Ok(engine.engine_id().to_vec());
            }
        }
    }
}
