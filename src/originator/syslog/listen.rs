//! The sockets of syslog: taken at the start, served until the end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};

use super::{Syslog, SyslogMetrics, Transport, tcp, udp};
use crate::originator::Intake;

/// How long what was read may take to be kept after the process was told to stop.
pub(super) const DRAIN: Duration = Duration::from_secs(3);

/// One socket.
pub enum Bound {
    /// Datagrams.
    Udp(UdpSocket),
    /// Connections.
    Tcp(TcpListener),
    /// Connections with TLS.
    Tls(TcpListener),
}

impl Bound {
    /// Listens. `receive_bytes` are to be held by the system while we are busy with others: it may give less.
    pub async fn bind(transport: Transport, address: SocketAddr, receive_bytes: usize) -> io::Result<Bound> {
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(address).await?;
                use rustix::net::sockopt;
                // Who may go over the system's limit (net.core.rmem_max) does.
                if sockopt::set_socket_recv_buffer_size_force(&socket, receive_bytes).is_err() {
                    sockopt::set_socket_recv_buffer_size(&socket, receive_bytes)?;
                }
                Ok(Bound::Udp(socket))
            }
            Transport::Tcp => TcpListener::bind(address).await.map(Bound::Tcp),
            Transport::Tls => TcpListener::bind(address).await.map(Bound::Tls),
        }
    }

    /// What comes there.
    pub fn transport(&self) -> Transport {
        match self {
            Bound::Udp(_) => Transport::Udp,
            Bound::Tcp(_) => Transport::Tcp,
            Bound::Tls(_) => Transport::Tls,
        }
    }

    /// Where it is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Bound::Udp(socket) => socket.local_addr(),
            Bound::Tcp(listener) | Bound::Tls(listener) => listener.local_addr(),
        }
    }
}

/// Takes what comes on a socket until `stop` says so, and keeps what was read.
pub async fn serve<I: Intake>(bound: Bound, syslog: Arc<Syslog<I>>, stop: watch::Receiver<bool>) {
    let _watched =
        Watched { transport: bound.transport(), metrics: syslog.metrics.clone(), stop: stop.clone() };
    let is_from_outside = !bound.address().is_ok_and(|address| address.ip().is_loopback());
    match bound {
        Bound::Udp(socket) => udp::serve(socket, is_from_outside, syslog, stop).await,
        Bound::Tcp(listener) => tcp::serve(listener, Transport::Tcp, is_from_outside, syslog, stop).await,
        Bound::Tls(listener) => tcp::serve(listener, Transport::Tls, is_from_outside, syslog, stop).await,
    }
}

/// Says so if a listener ends before it was told to, by whatever: who sends there hears nothing.
struct Watched {
    transport: Transport,
    metrics: Arc<SyslogMetrics>,
    stop: watch::Receiver<bool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A sender that is gone has stopped, too.
        if *self.stop.borrow() || self.stop.has_changed().is_err() {
            return;
        }
        let transport = self.transport.word();
        tracing::error!(
            transport,
            "a listener of syslog has ended: nothing that comes there is taken until ams2 is started again"
        );
        self.metrics.listeners_ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until the process is told to stop.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    drop(stop.wait_for(|stop| *stop).await);
}

/// The address of a peer. One of IPv4 is one, whatever the socket is.
pub(super) fn peer(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_ends_before_its_time_is_known() {
        let metrics = Arc::new(SyslogMetrics::default());
        let ended = || metrics.listeners_ended.load(Ordering::Relaxed);
        let (stop, stopped) = watch::channel(false);
        let watched =
            || Watched { transport: Transport::Udp, metrics: metrics.clone(), stop: stopped.clone() };
        drop(watched());
        assert_eq!(ended(), 1);
        stop.send(true).expect("it listens");
        drop(watched());
        assert_eq!(ended(), 1);
    }
}
