//! The socket, and the thread that reads it: what waits there is read as one, so that one flush keeps many. While the journal
//! takes nothing it stays there, and what the system has no room for it drops and counts.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::UdpSocket,
    sync::{oneshot, watch},
    task::JoinSet,
};

use super::{
    Snmp,
    engines::Engines,
    making::{Answer, Memory, Piece},
    metrics::{Dropped, Told},
    usm::Own,
};
use crate::{
    journal::{Accepted, Refused},
    originator::{Intake, keep::Keeper},
};

/// No datagram has as many bytes: none is cut by the system.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams that are read as one, and their bytes.
const PIECE_MESSAGES_MAX: usize = 1000;
const PIECE_BYTES_MAX: usize = 256 << 10;
/// Arrivals that are on their way to the disk.
const UNDER_WAY_MAX: usize = 500;
/// Arrivals of informs that wait for the journal. Traps do not wait for them.
const INFORMS_MAX: usize = 64;
/// Whoever sends so often is read a little later: what has gathered by then costs far less than each of it alone.
const OFTEN: Duration = Duration::from_millis(4);
const GATHERING: Duration = Duration::from_millis(2);
/// What still waits in the socket at the end is read in at most so many pieces: others may go on sending.
const LAST_PIECES_MAX: usize = 64;
/// How long what was read may take to be kept after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(3);

/// A socket that is listened on.
pub struct Bound(std::net::UdpSocket);

impl Bound {
    /// Listens. `receive_bytes` are to be held by the system while we are busy with others: it may give less.
    pub fn bind(address: SocketAddr, receive_bytes: usize) -> io::Result<Bound> {
        use rustix::net::sockopt;
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // Who may go over the system's limit (net.core.rmem_max) does.
        if sockopt::set_socket_recv_buffer_size_force(&socket, receive_bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, receive_bytes)?;
        }
        Ok(Bound(socket))
    }

    /// Where it is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Takes what comes until `stop` says so, on a thread of its own, and keeps what was read.
pub async fn serve<I: Intake>(bound: Bound, snmp: Arc<Snmp<I>>, stop: watch::Receiver<bool>) {
    let (ended, end) = oneshot::channel::<()>();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(bound, &snmp, stop)),
            Err(error) => tracing::error!(%error, "SNMP is not read: no runtime"),
        }
        drop(ended);
    };
    match std::thread::Builder::new().name("snmp".into()).spawn(run) {
        // It ends by being dropped.
        Ok(_) => drop(end.await),
        Err(error) => tracing::error!(%error, "SNMP is not read: no thread"),
    }
}

async fn run<I: Intake>(bound: Bound, snmp: &Snmp<I>, stop: watch::Receiver<bool>) {
    let mut stopped = stop.clone();
    let late = async {
        told(&mut stopped).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = receive(bound, snmp, stop) => {}
        () = late => tracing::warn!("the journal did not take all that was read of SNMP before the end"),
    }
}

/// Waits until the process is told to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Informs that the journal has been given, with the answers that wait for it.
type Kept = (Vec<Answer>, Instant, Result<Accepted, Refused>);

/// A socket with all that is under way of it.
struct Listening<'s, I> {
    socket: UdpSocket,
    snmp: &'s Snmp<I>,
    memory: Memory,
    keeper: Keeper<I>,
    informs: JoinSet<Kept>,
    buffer: Vec<u8>,
}

/// The journal takes nothing any more.
struct Ended;

async fn receive<I: Intake>(bound: Bound, snmp: &Snmp<I>, mut stop: watch::Receiver<bool>) {
    let socket = match UdpSocket::from_std(bound.0) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "SNMP is not read"),
    };
    match rustix::fs::fstat(&socket) {
        Ok(about) => snmp.metrics.socket(about.st_ino),
        Err(error) => tracing::warn!(%error, "what the system drops of SNMP cannot be counted"),
    }
    let now = Instant::now();
    let mut listening = Listening {
        socket,
        snmp,
        memory: Memory::new(None, Engines::open(&snmp.data_dir, now), snmp.settings(), now),
        keeper: Keeper::new(snmp.intake.clone(), UNDER_WAY_MAX),
        informs: JoinSet::new(),
        buffer: vec![0; DATAGRAM_BYTES],
    };
    listening.start_engine();
    listening.until(&mut stop).await;
    listening.memory.engines.keep(Instant::now(), true);
}

impl<I: Intake> Listening<'_, I> {
    async fn until(&mut self, stop: &mut watch::Receiver<bool>) {
        let mut last = Instant::now();
        loop {
            tokio::select! {
                readable = self.socket.readable() => {
                    if let Err(error) = readable {
                        tracing::error!(%error, "SNMP is not read any more");
                        break;
                    }
                }
                () = self.keeper.answered() => {
                    if self.keeper.clear(usize::MAX).await.is_err() {
                        return;
                    }
                    continue;
                }
                Some(kept) = self.informs.join_next() => {
                    self.tell(kept);
                    continue;
                }
                () = told(stop) => break,
            }
            if last.elapsed() < OFTEN {
                tokio::time::sleep(GATHERING).await;
            }
            last = Instant::now();
            if self.piece().await.is_err() {
                return;
            }
        }
        for _ in 0..LAST_PIECES_MAX {
            match self.piece().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(Ended) => return,
            }
        }
        while let Some(kept) = self.informs.join_next().await {
            self.tell(kept);
        }
        // Else the journal has ended, and says so itself.
        let _ = self.keeper.settle().await;
    }

    /// Reads what waits in the socket, and gives it to the journal. Whether there may be more.
    async fn piece(&mut self) -> Result<bool, Ended> {
        // Before anything is taken out of the socket: what has no place stays there.
        let place = self.keeper.place(&self.snmp.places).await.map_err(|_| Ended)?;
        let now = Instant::now();
        let settings = self.snmp.settings();
        if self.memory.install(&settings) {
            self.start_engine();
        }
        let (piece, may_be_more) = self.read(now);
        for (to, message) in piece.at_once {
            // Who does not get it asks again.
            if self.socket.try_send_to(&message, to).is_ok() {
                self.snmp.metrics.replies.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        for making in piece.informs {
            let (arrival, answers) = making.finish();
            let Some(arrival) = arrival else { continue };
            if self.informs.len() >= INFORMS_MAX {
                for answer in answers {
                    self.snmp.metrics.left_out(Dropped::Crowded);
                    self.memory.repeats.refused(answer.what);
                }
                continue;
            }
            let intake = self.snmp.intake.clone();
            self.informs.spawn(async move { (answers, now, intake.accept(arrival).await) });
        }
        for making in piece.traps {
            if let (Some(arrival), _) = making.finish() {
                self.keeper.keep(arrival, place.clone()).await.map_err(|_| Ended)?;
            }
        }
        self.memory.engines.keep(now, false);
        Ok(may_be_more)
    }

    fn read(&mut self, now: Instant) -> (Piece, bool) {
        let (mut piece, mut count, mut bytes) = (Piece::default(), 0, 0);
        while count < PIECE_MESSAGES_MAX && bytes < PIECE_BYTES_MAX {
            let (length, from) = match self.socket.try_recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (piece, false),
                // The system's word on an answer of ours that nobody took.
                Err(_) => {
                    count += 1;
                    continue;
                }
            };
            (count, bytes) = (count + 1, bytes + length);
            self.memory.take(&self.buffer[..length], from, self.snmp, &mut piece, now);
        }
        (piece, true)
    }

    /// Where users of v3 are known: informs are for our own engine.
    fn start_engine(&mut self) {
        if self.memory.own.is_some() || !self.snmp.settings().clients.has_users() {
            return;
        }
        match ams2_handlers::snmp_trap::own_engine(&self.snmp.data_dir) {
            Ok(engine) => self.memory.own = Own::new(engine),
            Err(error) => tracing::error!(error, "SNMP v3 is not taken"),
        }
    }

    /// The journal has said what became of informs.
    fn tell(&mut self, kept: Result<Kept, tokio::task::JoinError>) {
        // A panic in the journal's code ends the process elsewhere.
        let Ok((answers, came, accepted)) = kept else { return };
        let (snmp, now) = (self.snmp, Instant::now());
        let is_late = now.saturating_duration_since(came) > snmp.settings().limits.inform_time;
        for answer in answers {
            if accepted.is_err() {
                self.memory.repeats.refused(answer.what);
                snmp.metrics.told(Told::NotKept);
                continue;
            }
            self.memory.repeats.kept(answer.what);
            if is_late {
                snmp.metrics.told(Told::Late);
                continue;
            }
            let message = answer.message(self.memory.own.as_ref(), now);
            let sent = message.is_some_and(|message| self.socket.try_send_to(&message, answer.to).is_ok());
            snmp.metrics.told(if sent { Told::Answered } else { Told::NotSent });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ams2_core::{Input, Severities, input::Arrival};
    use tokio::sync::Notify;

    use super::{
        super::{Access, Client, Clients, Hidden, SnmpLimits, SnmpSettings},
        *,
    };

    /// What the journal does with what it is given.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Does {
        Keep,
        Refuse,
        /// It keeps it when it is told to.
        Wait,
    }

    #[derive(Clone)]
    struct Journal {
        does: Arc<Mutex<Does>>,
        goes_on: Arc<Notify>,
        kept: Arc<Mutex<Vec<String>>>,
    }

    impl Intake for Journal {
        async fn accept(&self, arrival: Arrival) -> Result<Accepted, Refused> {
            let does = *self.does.lock().expect("no panic");
            match does {
                Does::Refuse => return Err(Refused::DiskFull { retry_after: Duration::from_secs(10) }),
                Does::Wait => self.goes_on.notified().await,
                Does::Keep => {}
            }
            let ids = arrival
                .batch
                .iter()
                .map(|alert| alert.id().unwrap_or_default().to_owned())
                .collect::<Vec<_>>();
            self.kept.lock().expect("no panic").extend(ids);
            Ok(Accepted { first: 1, last: 1 })
        }

        async fn accept_other(&self, _: Input) -> Result<Accepted, Refused> {
            Err(Refused::Stopping)
        }
    }

    /// An inform of v2c: coldStart.
    fn inform(request: u8) -> Vec<u8> {
        let tlv = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let varbind = |oid: &[u8], value: &[u8]| tlv(0x30, &[tlv(6, oid), value.to_vec()].concat());
        let list = [
            varbind(&[0x2b, 6, 1, 2, 1, 1, 3, 0], &tlv(0x43, &[0])),
            varbind(&[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0], &tlv(6, &[0x2b, 6, 1, 6, 3, 1, 1, 5, 1])),
        ];
        let pdu = [tlv(2, &[request]), tlv(2, &[0]), tlv(2, &[0]), tlv(0x30, &list.concat())].concat();
        tlv(0x30, &[tlv(2, &[1]), tlv(4, b"example"), tlv(0xa6, &pdu)].concat())
    }

    /// Row 84, and what is kept too late.
    #[tokio::test]
    async fn an_inform_is_answered_when_it_is_kept_and_else_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = Access::Community(Hidden(b"example".to_vec()));
        let client = Client { name: "a".into(), access, addresses: Vec::new(), allow: Vec::new() };
        let settings = SnmpSettings {
            clients: Arc::new(Clients::new(vec![client], Severities::default())),
            names: Arc::default(),
            limits: SnmpLimits { inform_time: Duration::from_millis(100), ..SnmpLimits::default() },
            alert_limits: crate::originator::Limits::default(),
            mapping: crate::originator::mapping::Mapping::default(),
        };
        let journal = Journal {
            does: Arc::new(Mutex::new(Does::Refuse)),
            goes_on: Arc::default(),
            kept: Arc::default(),
        };
        let path = folder.path().to_owned();
        let snmp = Arc::new(Snmp::new(
            journal.clone(),
            settings,
            Arc::default(),
            Box::new(|_, _| {}),
            1,
            path,
            false,
        ));
        let bound = Bound::bind("127.0.0.1:0".parse().expect("one"), 64 << 10).expect("bound");
        let to = bound.address().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(bound, snmp.clone(), stopped));
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.connect(to).await.expect("connected");
        let told = |how: &'static str| {
            snmp.metrics.informs().find(|(known, _)| *known == how).map(|(_, count)| count)
        };
        let until_told = async |how: &'static str, count: u64| {
            let looking = async {
                while told(how) != Some(count) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), looking)
                .await
                .unwrap_or_else(|_| panic!("{how} {count}"));
        };
        let answer = async || {
            let mut buffer = [0; 1024];
            let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
            buffer[..received.expect("an answer").expect("received")].to_vec()
        };
        let answered = |request| {
            [&inform(request)[..]]
                .concat()
                .iter()
                .map(|byte| if *byte == 0xa6 { 0xa2 } else { *byte })
                .collect::<Vec<u8>>()
        };
        // Not kept, not answered; and the same again is taken anew.
        socket.send(&inform(1)).await.expect("sent");
        until_told("not_kept", 1).await;
        assert!(socket.try_recv(&mut [0; 1024]).is_err());
        *journal.does.lock().expect("no panic") = Does::Keep;
        socket.send(&inform(1)).await.expect("sent");
        assert_eq!(answer().await, answered(1));
        until_told("answered", 1).await;
        // Kept too late: no answer, until it comes again. It is one all the same.
        *journal.does.lock().expect("no panic") = Does::Wait;
        socket.send(&inform(2)).await.expect("sent");
        socket.send(&inform(2)).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(200)).await;
        journal.goes_on.notify_one();
        until_told("late", 1).await;
        assert!(socket.try_recv(&mut [0; 1024]).is_err());
        socket.send(&inform(2)).await.expect("sent");
        assert_eq!(answer().await, answered(2));
        assert_eq!(journal.kept.lock().expect("no panic").len(), 2);
        stop.send(true).expect("it listens");
        tokio::time::timeout(DRAIN * 2, serving).await.expect("it ends").expect("no panic");
    }
}
