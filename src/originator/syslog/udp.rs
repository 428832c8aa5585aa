//! Datagrams (RFC 5426): a message each. What waits in the socket is read as one, so that one flush keeps many; while the
//! journal takes nothing it stays there, and what the system has no room for it drops and counts.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, time::Duration};

use ams2_core::input::Arrival;
use tokio::{net::UdpSocket, sync::watch};

use super::{
    Syslog, SyslogSettings, Transport,
    clients::Sender,
    frames::{Frame, cut, trimmed},
    listen::{DRAIN, peer, told},
    making::{ARRIVAL_BYTES_MAX, MESSAGES_MAX, Making, Peer},
    metrics::Dropped,
};
use crate::originator::{Intake, keep::Keeper};

/// No datagram has as many bytes: none is cut by the system.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Bytes of datagrams that are read as one.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// Arrivals that are on their way to the disk: each sender of a piece has one, and there may be many.
const UNDER_WAY_MAX: usize = 2000;
/// How long a socket that cannot be read is left alone.
const PAUSE: Duration = Duration::from_millis(100);
/// What still waits in the socket at the end is read in at most so many pieces: others may go on sending.
const LAST_PIECES_MAX: usize = 64;

/// Takes datagrams until the end. What a journal that takes nothing does not take then is lost with what waits in the socket.
pub(super) async fn serve<I: Intake>(
    socket: UdpSocket,
    is_from_outside: bool,
    syslog: Arc<Syslog<I>>,
    stop: watch::Receiver<bool>,
) {
    let mut stopped = stop.clone();
    let late = async {
        told(&mut stopped).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = receive(socket, is_from_outside, &syslog, stop) => {}
        () = late => tracing::warn!("the journal did not take all that was read of syslog over UDP before the end"),
    }
}

async fn receive<I: Intake>(
    socket: UdpSocket,
    is_from_outside: bool,
    syslog: &Syslog<I>,
    mut stop: watch::Receiver<bool>,
) {
    match rustix::fs::fstat(&socket) {
        Ok(about) => syslog.metrics.udp_socket(about.st_ino),
        Err(error) => tracing::warn!(%error, "what the system drops of syslog over UDP cannot be counted"),
    }
    let mut keeper = Keeper::new(syslog.intake.clone(), UNDER_WAY_MAX);
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        tokio::select! {
            readable = socket.readable() => {
                if let Err(error) = readable {
                    syslog.note(Transport::Udp, "", "socket", || format!("the socket cannot be read: {error}"));
                    // It may be well again; asking at once would spin.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            () = keeper.answered() => {
                if keeper.clear(usize::MAX).await.is_err() {
                    return;
                }
                continue;
            }
            () = told(&mut stop) => break,
        }
        if keep_piece(&socket, is_from_outside, syslog, &mut keeper, &mut buffer).await.is_none() {
            return;
        }
    }
    for _ in 0..LAST_PIECES_MAX {
        if keep_piece(&socket, is_from_outside, syslog, &mut keeper, &mut buffer).await != Some(true) {
            break;
        }
    }
    // Else the journal has ended, and says so itself.
    let _ = keeper.settle().await;
}

/// Reads what waits in the socket, and gives it to the journal. Whether there may be more; `None` when the journal has ended.
async fn keep_piece<I: Intake>(
    socket: &UdpSocket,
    is_from_outside: bool,
    syslog: &Syslog<I>,
    keeper: &mut Keeper<I>,
    buffer: &mut [u8],
) -> Option<bool> {
    // Before anything is taken out of the socket: what has no place stays there.
    let place = keeper.place(&syslog.places).await.ok()?;
    let settings = syslog.settings();
    let (arrivals, may_be_more) = read_piece(socket, is_from_outside, syslog, &settings, buffer);
    for arrival in arrivals {
        keeper.keep(arrival, place.clone()).await.ok()?;
    }
    Some(may_be_more)
}

/// One sender of a piece; `None` for who may not send.
type Known<'s> = (Peer, Option<(Sender<'s>, Making)>);

/// What waits in the socket, an arrival for each sender, and whether there may be more.
fn read_piece<I>(
    socket: &UdpSocket,
    is_from_outside: bool,
    syslog: &Syslog<I>,
    settings: &SyslogSettings,
    buffer: &mut [u8],
) -> (Vec<Arrival>, bool) {
    let mut senders: HashMap<IpAddr, Known<'_>> = HashMap::new();
    let (mut count, mut bytes, mut made) = (0, 0, 0);
    let is_full =
        |count, bytes, made| count >= MESSAGES_MAX || bytes >= PIECE_BYTES_MAX || made >= ARRIVAL_BYTES_MAX;
    while !is_full(count, bytes, made) {
        count += 1;
        let (length, address) = match socket.try_recv_from(buffer) {
            Ok((length, address)) => (length, peer(address)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The system's word on something else: nothing is sent from here.
            Err(_) => continue,
        };
        bytes += length;
        let Some(content) = trimmed(&buffer[..length]) else {
            syslog.metrics.left_out(Dropped::Empty);
            continue;
        };
        let (peer, known) = senders.entry(address).or_insert_with(|| {
            let known = settings.senders.who(address, None).map(|sender| (sender, Making::default()));
            (Peer::new(Transport::Udp, address, is_from_outside), known)
        });
        let Some((sender, making)) = known else {
            syslog.metrics.left_out(Dropped::Denied);
            (syslog.on_denied)(peer.name.clone(), peer.unknown());
            continue;
        };
        let (bytes, is_truncated) = cut(content, settings.limits.message_bytes);
        let frame = Frame { bytes, is_truncated, is_unterminated: false };
        let before = making.bytes();
        making.take(frame, peer, sender, syslog, settings);
        made += making.bytes() - before;
    }
    let may_be_more = is_full(count, bytes, made);
    let made = senders.into_values().filter_map(|(_, known)| {
        let (sender, making) = known?;
        making.finish(&sender.name)
    });
    (made.collect(), may_be_more)
}

#[cfg(test)]
mod tests {
    use super::{super::SyslogLimits, *};
    use crate::journal::{Accepted, Refused};

    /// A disk that is full.
    #[derive(Clone)]
    struct Full;

    impl Intake for Full {
        async fn accept(&self, _: Arrival) -> Result<Accepted, Refused> {
            Err(Refused::DiskFull { retry_after: Duration::from_secs(10) })
        }

        async fn accept_other(&self, _: ams2_core::Input) -> Result<Accepted, Refused> {
            Err(Refused::Stopping)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_does_not_hold_up_the_end() {
        let settings = SyslogSettings {
            senders: Arc::default(),
            tls: None,
            limits: SyslogLimits::default(),
            alert_limits: crate::originator::Limits::default(),
            mapping: crate::originator::mapping::Mapping::default(),
        };
        let syslog = Syslog::new(Full, settings, Arc::default(), Box::new(|_, _| {}), 1);
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let to = socket.local_addr().expect("bound");
        socket.send_to(b"<13>x", to).await.expect("sent");
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(socket, false, Arc::new(syslog), stopped));
        // It is read, and asked for again and again.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!serving.is_finished(), "what was read is not given up");
        stop.send(true).expect("it listens");
        tokio::time::timeout(2 * DRAIN, serving).await.expect("it ends").expect("no panic");
    }
}
