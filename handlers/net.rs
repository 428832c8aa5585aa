//! Names and addresses: resolved for a while, then tried one after the other.

use std::{
    borrow::Cow,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::lane::Lane;

/// Longest wait for a name: the rest of the deadline is for the connection.
pub(crate) const RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for one address of several, so that one that is gone leaves time for the next.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// A name with more addresses than this is a mistake or an attack; the first ones do.
const ADDRESSES_MAX: usize = 8;

/// `host:port`; `[::1]:25` for an address of IPv6.
#[derive(Clone, Debug)]
pub(crate) struct HostPort {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    /// From 1.
    pub(crate) port: u16,
    lookups: Lane,
}

impl PartialEq for HostPort {
    fn eq(&self, other: &HostPort) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Eq for HostPort {}

impl HostPort {
    /// A host without brackets, and a port from 1.
    pub(crate) fn new(host: impl Into<String>, port: u16) -> HostPort {
        HostPort { host: host.into(), port, lookups: lookups() }
    }

    /// Reads `host:port`, or `host` where there is a default port. The error says what is wrong.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
        if text.contains('@') {
            return Err(format!("{:?} is no host: a login does not stand in it", shown(text)));
        }
        let (host, port) = match text.rsplit_once(':') {
            // `::1` and `[::1]` have colons of their own.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match (port, default_port) {
            (None, None) => return Err(format!("{text:?} has no port")),
            (None, Some(port)) => port,
            (Some(port), _) => match port.parse().ok().filter(|port| *port > 0) {
                Some(port) => port,
                None => return Err(format!("{port:?} is no port from 1 to 65535")),
            },
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                !host.is_empty() && host.chars().all(is_plain)
            }
        };
        if !is_host {
            return Err(format!("{host:?} is no host"));
        }
        Ok(HostPort::new(bare.unwrap_or(host), port))
    }

    /// Whether it is this machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// Its addresses, at most [`ADDRESSES_MAX`], at least one.
    pub(crate) async fn resolve(&self, end: Instant) -> io::Result<Vec<SocketAddr>> {
        look_up(&self.lookups, &self.host, self.port, end).await
    }

    /// A connection to the first address that takes one, without Nagle's delay.
    pub(crate) async fn connect(&self, end: Instant) -> io::Result<TcpStream> {
        let addresses = self.resolve(end).await?;
        let last = addresses.len() - 1;
        let mut failed = io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        for (position, address) in addresses.into_iter().enumerate() {
            let until = if position == last { end } else { end.min(Instant::now() + CONNECT_WAIT) };
            match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::Error::new(io::ErrorKind::TimedOut, "no connection in time"),
            }
        }
        Err(failed)
    }
}

/// Where the lookups of one action wait for the system's resolver.
pub(crate) fn lookups() -> Lane {
    Lane::new("ams2-lookup")
}

/// The addresses of a host, at most [`ADDRESSES_MAX`], at least one.
pub(crate) async fn look_up(lane: &Lane, host: &str, port: u16, end: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let end = end.min(Instant::now() + RESOLVE_WAIT);
    let name = host.to_owned();
    let found = lane.run(end, move || {
        (name.as_str(), port).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>())
    });
    let late = |stuck| io::Error::new(io::ErrorKind::TimedOut, format!("the name was not resolved: {stuck}"));
    let found = found.await.map_err(late)??;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// For messages: what stands before `@` is a login, and may hold a password.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}").into(),
        None => text.into(),
    }
}

/// As it is written in a URL.
impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_an_at_sign_is_in_no_message() {
        for text in
            ["me:canary@host:25", "me:canary@host", "me:canary@ho st:25", "canary@host:0", "me:can@ary@h:x"]
        {
            let wrong = HostPort::parse(text, None).expect_err(text);
            assert!(!wrong.contains("can"), "{text}: {wrong}");
        }
    }

    #[test]
    fn hosts_and_ports_are_read() {
        let rows = [
            ("127.0.0.1:514", None, Some(("127.0.0.1", 514))),
            ("mail.example.com:25", None, Some(("mail.example.com", 25))),
            ("mail.example.com", Some(587), Some(("mail.example.com", 587))),
            ("[2001:db8::1]:25", None, Some(("2001:db8::1", 25))),
            ("[2001:db8::1]", Some(25), Some(("2001:db8::1", 25))),
            ("mail.example.com", None, None),
            (":25", None, None),
            ("host:0", None, None),
            ("host:65536", None, None),
            ("host:", Some(25), None),
            ("ho st:25", None, None),
            ("2001:db8::1:25", None, None),
            ("[host]:25", None, None),
            ("user@host:25", None, None),
            ("", Some(25), None),
        ];
        for (text, default, expected) in rows {
            let read = HostPort::parse(text, default).ok();
            let expected = expected.map(|(host, port)| HostPort::new(host, port));
            assert_eq!(read, expected, "{text}");
            if let Some(read) = read {
                assert_eq!(HostPort::parse(&read.to_string(), None), Ok(read), "{text}");
            }
        }
    }
}
