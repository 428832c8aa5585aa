//! The dialogue with a mail server (RFC 5321): connections that are kept for a while, STARTTLS (RFC 3207), login, and one
//! transaction after the other, with a word for each recipient.
//!
//! Commands and answers are lettre's; the socket is ours, for it sets TCP_NODELAY (a mail takes 44 ms without), bounds
//! what a server may say, and drops whatever came in the clear before TLS began (a classic injection): `guard.rs`.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        commands::{Data, Mail, Quit, Rcpt, Rset},
        extension::{ClientId, Extension, MailParameter},
        response::Response,
    },
};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::guard::{Guarded, start_tls};
use crate::{Recipient, Secret, net::HostPort, text};

/// A connection that was not used for so long is not used again: servers close theirs after five minutes.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long a server may take over our good-bye.
const QUIT_WAIT: Duration = Duration::from_secs(1);
/// Recipients in one transaction: what every server must take (RFC 5321 section 4.5.3.1.8).
pub(super) const RECIPIENTS_MAX: usize = 100;
/// The server's words that are kept, in bytes.
pub(super) const WORDS_BYTES_MAX: usize = 512;

/// How the connection is kept private.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// It is not.
    Plain,
    /// STARTTLS, or nothing is sent.
    StartTls(Arc<rustls::ClientConfig>),
    /// TLS from the first byte.
    Implicit(Arc<rustls::ClientConfig>),
}

/// Who logs in.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// A mail server and the connections to it that wait for more.
pub(super) struct Server {
    pub(super) place: HostPort,
    pub(super) security: Security,
    pub(super) login: Option<Login>,
    /// The name that we greet with; our address unless set.
    pub(super) hello: Option<String>,
    idle: Mutex<Vec<Idle>>,
    /// Most connections that wait.
    idle_max: usize,
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

/// Why a whole transaction came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server, the way to it, or our login: it may work later, for whatever mail.
    Server(String),
    /// As that, and the server may have the mail: its answer was lost.
    Lost(String),
    /// This mail was refused for now.
    ForNow(String),
    /// This mail was refused for good.
    ForGood(String),
}

/// What became of one transaction.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The server's word on the mail that it took; `None` if no recipient was left.
    pub(super) reply: Option<String>,
    /// Recipients that the mail was taken for.
    pub(super) taken: Vec<Recipient>,
    /// Recipients that were refused for now.
    pub(super) unfinished: Vec<Recipient>,
    /// Recipients that were refused for good, with the server's words.
    pub(super) refused: Vec<(Recipient, String)>,
    /// Whether it was the mail that was refused for now, and not a recipient of it.
    pub(super) as_a_whole: bool,
    /// The last words of a refusal; of one for now, if there was any.
    pub(super) words: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.place)
    }
}

impl Server {
    pub(super) fn new(
        place: HostPort,
        security: Security,
        login: Option<Login>,
        hello: Option<String>,
        idle_max: usize,
    ) -> Server {
        Server { place, security, login, hello, idle: Mutex::default(), idle_max }
    }

    /// One mail to some recipients. A connection that waited may be dead by now: then another is made, once.
    pub(super) async fn send(
        &self,
        from: &Address,
        recipients: &[(Recipient, Address)],
        mail: &[u8],
        end: Instant,
    ) -> Result<Told, Trouble> {
        if let Some(mut connection) = self.waiting() {
            match begin(&mut connection, from, recipients, end).await {
                Ok(()) => return self.go_on(connection, recipients, mail, end).await,
                // It said no more than that it is gone, or that it has had enough of us.
                Err(Trouble::Server(_)) => {}
                Err(other) => {
                    self.keep(connection, end).await;
                    return Err(other);
                }
            }
        }
        let mut connection = self.connect(end).await?;
        match begin(&mut connection, from, recipients, end).await {
            Ok(()) => self.go_on(connection, recipients, mail, end).await,
            Err(Trouble::Server(words)) => Err(Trouble::Server(words)),
            Err(other) => {
                self.keep(connection, end).await;
                Err(other)
            }
        }
    }

    async fn go_on(
        &self,
        mut connection: AsyncSmtpConnection,
        recipients: &[(Recipient, Address)],
        mail: &[u8],
        end: Instant,
    ) -> Result<Told, Trouble> {
        let told = transact(&mut connection, recipients, mail, end).await;
        if !matches!(told, Err(Trouble::Server(_) | Trouble::Lost(_))) {
            self.keep(connection, end).await;
        }
        told
    }

    /// A connection that was used before and is not too old.
    fn waiting(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.lock();
        let now = Instant::now();
        idle.retain(|idle| now.duration_since(idle.since) < IDLE_MAX);
        idle.pop().map(|idle| idle.connection)
    }

    /// Keeps a connection whose dialogue is at its beginning again.
    async fn keep(&self, mut connection: AsyncSmtpConnection, end: Instant) {
        if connection.has_broken() {
            return;
        }
        let since = Instant::now();
        {
            let mut idle = self.lock();
            if idle.len() < self.idle_max {
                idle.push(Idle { connection, since });
                return;
            }
        }
        // Whether it heard our good-bye does not matter any more.
        drop(timeout_at(end.min(since + QUIT_WAIT), connection.command(Quit)).await);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Asks the server how it is: greets, begins TLS, logs in, says good-bye.
    pub(super) async fn probe(&self, end: Instant) -> Result<String, String> {
        let mut connection = self.connect(end).await.map_err(Trouble::words)?;
        drop(timeout_at(end.min(Instant::now() + QUIT_WAIT), connection.command(Quit)).await);
        let privacy = match self.security {
            Security::Plain => "without TLS",
            Security::StartTls(_) => "STARTTLS",
            Security::Implicit(_) => "TLS",
        };
        let name = text::one_line(connection.server_info().name()).into_owned();
        let login = self.login.as_ref().map(|login| format!(", logged in as {}", login.user));
        Ok(format!("{name} greets, {privacy}{}", login.unwrap_or_default()))
    }

    async fn connect(&self, end: Instant) -> Result<AsyncSmtpConnection, Trouble> {
        let lost = |error: io::Error| Trouble::Server(error.to_string());
        let tcp = self.place.connect(end).await.map_err(lost)?;
        let local = tcp.local_addr().map_err(lost)?;
        let hello = match (&self.hello, local) {
            (Some(name), _) => ClientId::Domain(name.clone()),
            (None, SocketAddr::V4(address)) => ClientId::Ipv4(*address.ip()),
            (None, SocketAddr::V6(address)) => ClientId::Ipv6(*address.ip()),
        };
        let stream: Box<dyn AsyncTokioStream> = match &self.security {
            Security::Plain => Box::new(Guarded::new(tcp, &[], local)),
            Security::Implicit(config) => {
                let tls = step(end, "the TLS handshake", self.handshake(tcp, config)).await??;
                Box::new(Guarded::new(tls, &[], local))
            }
            Security::StartTls(config) => {
                let tcp = step(end, "STARTTLS", start_tls(tcp, &hello)).await??;
                let tls = step(end, "the TLS handshake", self.handshake(tcp, config)).await??;
                // It greeted before TLS; the library waits for a greeting.
                Box::new(Guarded::new(tls, b"220 TLS\r\n", local))
            }
        };
        let greeted = AsyncSmtpConnection::connect_with_transport(stream, &hello);
        let mut connection = step(end, "its greeting", greeted).await?.map_err(|error| {
            // Whatever it says now, it says about us and not about a mail.
            Trouble::Server(words(&error))
        })?;
        if let Some(Login { user, password }) = &self.login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let login = step(end, "the login", connection.auth(&mechanisms, &credentials)).await?;
            login.map_err(|error| {
                Trouble::Server(format!("it does not let us in as {user}: {}", words(&error)))
            })?;
        }
        Ok(connection)
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        config: &Arc<rustls::ClientConfig>,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Trouble> {
        let name = ServerName::try_from(self.place.host.clone())
            .map_err(|error| Trouble::Server(format!("{} is no name for TLS: {error}", self.place.host)))?;
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        connector.connect(name, tcp).await.map_err(|error| Trouble::Server(format!("TLS failed: {error}")))
    }
}

impl Trouble {
    pub(super) fn words(self) -> String {
        match self {
            Trouble::Server(words)
            | Trouble::Lost(words)
            | Trouble::ForNow(words)
            | Trouble::ForGood(words) => words,
        }
    }

    /// RFC 5321 section 4.2.1: 4yz may be tried again, 5yz must not be. Not of this mail speak 421 (the service ends), 503
    /// (the dialogue is out of step) and what asks for TLS or a login (RFC 4954 section 6): a setting is to be mended, and
    /// the mail waits for it.
    fn of(error: &lettre::transport::smtp::Error) -> Trouble {
        let words = words(error);
        match error.status().map(u16::from) {
            Some(421 | 454 | 503 | 530 | 534 | 535 | 538) | None => Trouble::Server(words),
            Some(400..=499) => Trouble::ForNow(words),
            Some(_) => Trouble::ForGood(words),
        }
    }

    /// The same of an answer to `RCPT`. But for 421 it concerns this recipient alone: relays deny one with 454 or 530 that take the
    /// others. What a setting can mend waits; so does 552, which here says "too many" (RFC 5321 section 4.5.3.1.10).
    fn of_recipient(error: &lettre::transport::smtp::Error) -> Trouble {
        let words = words(error);
        match error.status().map(u16::from) {
            Some(421) | None => Trouble::Server(words),
            Some(400..=499 | 503 | 530 | 534 | 535 | 538 | 552) => Trouble::ForNow(words),
            Some(_) => Trouble::ForGood(words),
        }
    }
}

/// One step of the dialogue, by the deadline.
async fn step<T>(end: Instant, what: &str, doing: impl Future<Output = T>) -> Result<T, Trouble> {
    timeout_at(end, doing).await.map_err(|_| Trouble::Server(format!("no end of {what} in time")))
}

/// `MAIL FROM`.
async fn begin(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    recipients: &[(Recipient, Address)],
    end: Instant,
) -> Result<(), Trouble> {
    let utf8 = connection.server_info().supports_feature(Extension::SmtpUtfEight);
    let needs = |address: &Address| !AsRef::<str>::as_ref(address).is_ascii();
    let mut parameters = Vec::new();
    if needs(from) || recipients.iter().any(|(_, to)| needs(to)) {
        // RFC 6531: without it the recipients that need it are refused one by one.
        if utf8 {
            parameters.push(MailParameter::SmtpUtfEight);
        } else if needs(from) {
            return Err(Trouble::ForGood(format!("it takes no mail from {from}: it knows no SMTPUTF8")));
        }
    }
    step(end, "MAIL FROM", connection.command(Mail::new(Some(from.clone()), parameters)))
        .await?
        .map(drop)
        .map_err(|error| Trouble::of(&error))
}

/// `RCPT TO` for each, then `DATA` and the mail for those that are left.
async fn transact(
    connection: &mut AsyncSmtpConnection,
    recipients: &[(Recipient, Address)],
    mail: &[u8],
    end: Instant,
) -> Result<Told, Trouble> {
    let utf8 = connection.server_info().supports_feature(Extension::SmtpUtfEight);
    let mut told = Told::default();
    for (recipient, to) in recipients {
        if !utf8 && !AsRef::<str>::as_ref(to).is_ascii() {
            told.refused.push((*recipient, format!("{to}: the server knows no SMTPUTF8")));
            continue;
        }
        match step(end, "RCPT TO", connection.command(Rcpt::new(to.clone(), Vec::new()))).await? {
            Ok(_) => told.taken.push(*recipient),
            Err(error) => match Trouble::of_recipient(&error) {
                trouble @ (Trouble::Server(_) | Trouble::Lost(_)) => return Err(trouble),
                Trouble::ForNow(words) => {
                    told.words = format!("{to}: {words}");
                    told.unfinished.push(*recipient);
                }
                Trouble::ForGood(words) => {
                    let words = format!("{to}: {words}");
                    if told.unfinished.is_empty() {
                        told.words.clone_from(&words);
                    }
                    told.refused.push((*recipient, words));
                }
            },
        }
    }
    if told.taken.is_empty() {
        step(end, "RSET", connection.command(Rset)).await?.map_err(|error| Trouble::Server(words(&error)))?;
        return Ok(told);
    }
    let sent = async {
        if let Err(error) = step(end, "DATA", connection.command(Data)).await? {
            let trouble = Trouble::of(&error);
            if matches!(trouble, Trouble::ForNow(_) | Trouble::ForGood(_)) {
                forget(connection, end).await;
            }
            return Err(trouble);
        }
        match step(end, "the mail", connection.message(mail)).await {
            Ok(Err(error)) if error.status().is_some() => Err(Trouble::of(&error)),
            Ok(Err(error)) => Err(lost(&words(&error))),
            Ok(Ok(reply)) => Ok(reply),
            Err(late) => Err(lost(&late.words())),
        }
    };
    match sent.await {
        Ok(reply) => {
            told.reply = Some(said(&reply));
            Ok(told)
        }
        Err(trouble @ (Trouble::Server(_) | Trouble::Lost(_))) => Err(trouble),
        Err(Trouble::ForNow(words)) => {
            told.unfinished.append(&mut told.taken);
            (told.words, told.as_a_whole) = (words, true);
            Ok(told)
        }
        Err(Trouble::ForGood(words)) => {
            told.refused.extend(told.taken.drain(..).map(|recipient| (recipient, words.clone())));
            told.words = words;
            Ok(told)
        }
    }
}

/// Ends a transaction whose `DATA` was refused: sender and recipients stand until then, and the next `MAIL` would be out of
/// order (RFC 5321 section 4.1.4). A connection that does not forget is not used again.
async fn forget(connection: &mut AsyncSmtpConnection, end: Instant) {
    if !matches!(timeout_at(end, connection.command(Rset)).await, Ok(Ok(_))) {
        // Whether it hears our good-bye does not matter any more.
        drop(timeout_at(end.min(Instant::now() + QUIT_WAIT), connection.abort()).await);
    }
}

/// Cut off behind the mail: nobody knows whether the server has it.
fn lost(words: &str) -> Trouble {
    Trouble::Lost(format!("{words}; it may have the mail, which is sent again with the same Message-ID"))
}

/// The server's own words: code and text.
fn said(response: &Response) -> String {
    let words: Vec<&str> = response.message().collect();
    let words = format!("{} {}", response.code(), words.join(" "));
    text::one_line(&text::cut(&words, WORDS_BYTES_MAX)).into_owned()
}

/// An error in the server's words, as far as it has any.
fn words(error: &lettre::transport::smtp::Error) -> String {
    use std::error::Error;
    let source = error.source().map(|source| source.to_string());
    let words = match (error.status(), source) {
        (Some(code), Some(words)) => format!("{code} {words}"),
        (Some(code), None) => code.to_string(),
        (None, Some(words)) => words,
        (None, None) => error.to_string(),
    };
    text::one_line(&text::cut(words.trim(), WORDS_BYTES_MAX)).into_owned()
}
