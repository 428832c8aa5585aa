//! The journal's thread: takes what waits, flushes it as one, answers, and hands the records to the router.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ams2_core::{
    At, Input,
    input::{Arrival, JournalRecord, OwnEvent},
    silence::SilenceOrder,
};
use tokio::sync::oneshot;

use super::{
    Options, Writer,
    writer::{FrameTooLarge, Pressure, Space},
};

/// Our own inputs that may wait for a flush; past this the journal is dead or the process is lost in a loop.
const OWN_WAITING_MAX: usize = 4_000_000;
/// And the memory that they may hold: outcomes are a few kilobytes each.
const OWN_BYTES_MAX: usize = 512 << 20;
/// Past this, inputs that somebody waits for are refused: an operator can come again.
const ASKED_BYTES_MAX: usize = 128 << 20;
/// Largest input, in bytes of memory: encoded it is smaller, and fits into a frame.
const INPUT_BYTES_MAX: usize = 60 << 20;
/// Most memory of inputs that one flush takes: it bounds the frame and the time that others wait.
const FLUSH_BYTES_MAX: usize = 8 << 20;
/// And the least, however small the segments.
const FLUSH_BYTES_MIN: usize = 64 << 10;
/// Largest input of an operator, in bytes of memory, that may go into the reserve of a full disk: an acknowledgement, an
/// end of a silence, a word on a delivery.
const OPERATOR_BYTES_MAX: usize = 4 << 10;
/// How often free space and retention are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// A change of the wall clock of more than this is journaled, in milliseconds.
const WALL_CHANGE_MS: u64 = 500;
/// When a refused client should come again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A disk that has not answered for so long hangs: clients are told so, and do not wait for it.
const STALLED: Duration = Duration::from_secs(10);
/// When a client refused for a full disk, or one that hangs, should come again.
const RETRY_AFTER_DISK: Duration = Duration::from_secs(10);

/// Kept: in the journal and flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Sequence number of the first.
    pub first: u64,
    /// Sequence number of the last.
    pub last: u64,
}

/// Not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too much waits.
    #[error("too much waits for the disk; try again in {} s", retry_after.as_secs())]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// The disk is nearly full.
    #[error("the disk is nearly full; try again in {} s", retry_after.as_secs())]
    DiskFull {
        /// When to come again.
        retry_after: Duration,
    },
    /// The disk does not answer.
    #[error("the disk has not answered for {} s; try again in {} s", STALLED.as_secs(), retry_after.as_secs())]
    Stalled {
        /// When to come again.
        retry_after: Duration,
    },
    /// It does not fit into one record.
    #[error("it has {bytes} bytes, which is too much for one record of the journal")]
    TooLarge {
        /// Its size in memory.
        bytes: usize,
    },
    /// The journal cannot be written.
    #[error("the journal cannot be written")]
    Failed,
    /// The process is about to end.
    #[error("the router is stopping")]
    Stopping,
}

/// The journal's clock: milliseconds that never fall.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> At;

    /// How far the wall clock is ahead of it, in milliseconds; `None` where there is none.
    fn wall_offset_ms(&self) -> Option<i64> {
        None
    }
}

/// The boot-time clock, going on from the last record.
#[derive(Debug)]
pub struct SystemClock {
    start: At,
    began_ms: u64,
}

impl SystemClock {
    /// A clock that shows `start` now.
    pub fn from(start: At) -> SystemClock {
        SystemClock { start, began_ms: boot_ms() }
    }
}

fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

fn unix_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

impl Clock for SystemClock {
    fn now(&self) -> At {
        self.start.plus(boot_ms().saturating_sub(self.began_ms))
    }

    fn wall_offset_ms(&self) -> Option<i64> {
        Some(unix_ms().saturating_sub_unsigned(self.now().0))
    }
}

/// Whether the journal can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Well,
    /// Clients are refused: the disk is nearly full.
    DiskFull,
    /// Clients are refused: the disk has not answered for a while.
    Stalled,
    /// No, and never again in this process.
    Failed,
}

/// Counts, for `/metrics`.
#[derive(Debug, Default)]
pub struct JournalMetrics {
    /// Flushes that succeeded.
    pub flushes: AtomicU64,
    /// Time spent in flushes, in microseconds.
    pub flush_micros: AtomicU64,
    /// Inputs that were kept.
    pub inputs: AtomicU64,
    /// Sequence numbers that were given.
    pub sequences: AtomicU64,
    /// Flushes that failed and were written again to a new segment.
    pub failures: AtomicU64,
    /// Inputs of clients refused because too much waited.
    pub refused_busy: AtomicU64,
    /// Inputs of clients refused because the disk was nearly full.
    pub refused_disk: AtomicU64,
    /// Places of damage that the start found, or that were found after a failed flush.
    pub damaged: AtomicU64,
    /// Records at which the router panicked, and which are left out.
    pub set_aside: AtomicU64,
}

/// A way to the journal. Clones lead to the same one.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    options: Options,
    clock: Arc<dyn Clock>,
    metrics: JournalMetrics,
    disk_full: AtomicBool,
    /// What nobody needs any more goes before its time: room becomes scarce.
    is_pressed: AtomicBool,
    free_bytes: AtomicU64,
    failed: AtomicBool,
    flushed: AtomicU64,
    /// Since when the thread waits for the disk, in milliseconds since boot; 0 while it does not.
    at_disk_since: AtomicU64,
    /// Inputs of the flush that is under way.
    under_way: AtomicU64,
    /// How often the thread has waited for something to do.
    #[cfg(test)]
    waits: AtomicU64,
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    /// Inputs of clients among them, and the memory they hold.
    clients: usize,
    client_bytes: usize,
    /// Memory that our own and operators' inputs hold.
    own_bytes: usize,
    /// Before which number segments are to go, and who waits for that: one or two, who ask one after the other.
    drop_before: Option<(u64, Vec<oneshot::Sender<io::Result<()>>>)>,
    covered: u64,
    stop: bool,
}

struct Item {
    input: Input,
    reply: Option<Reply>,
    bytes: usize,
    whose: Whose,
}

type Reply = oneshot::Sender<Result<Accepted, Refused>>;

/// Who wants an input kept: it says how much of a full disk it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// A client: nothing of the reserve.
    Client,
    /// An operator: a part of the reserve for a few words, nothing of it for more.
    Operator,
    /// We, to make room: it gets none where there is none.
    Carrying,
    /// We: all there is.
    Own,
}

impl Whose {
    /// Whose an input is that is no client's.
    fn of(input: &Input) -> Whose {
        match input {
            Input::Acknowledge(_)
            | Input::Deliveries(_)
            | Input::Silence(_)
            | Input::ForgetClient(_)
            | Input::ConfigInstalled(_) => Whose::Operator,
            Input::Carried(_) => Whose::Carrying,
            Input::Alerts(_)
            | Input::Ping(_)
            | Input::CheckIn(_)
            | Input::Own(_)
            | Input::Outcome(_)
            | Input::Started(_)
            | Input::Stopping
            | Input::WallClock(_)
            | Input::Advanced => Whose::Own,
        }
    }
}

/// What the thread tells when older segments may go: the first sequence number to keep.
pub type OnDroppable = Box<dyn FnMut(u64) + Send>;

impl Journal {
    /// Starts the thread. `records` takes flushed records in order and may wait; `false` ends the thread.
    pub fn start(
        writer: Writer,
        options: Options,
        clock: Arc<dyn Clock>,
        records: impl FnMut(Vec<JournalRecord>) -> bool + Send + 'static,
        droppable: OnDroppable,
    ) -> io::Result<(Journal, JoinHandle<()>)> {
        let shared = Arc::new(Shared::new(options, clock));
        let mut thread = Thread {
            writer,
            shared: shared.clone(),
            records,
            droppable,
            looked: None,
            early: 0,
            wall_offset_ms: None,
        };
        let thread = std::thread::Builder::new().name("ams2-journal".into()).spawn(move || thread.run())?;
        Ok((Journal { shared }, thread))
    }

    /// Keeps a client's alerts; answers once they are flushed.
    pub async fn accept(&self, arrival: Arrival) -> Result<Accepted, Refused> {
        let bytes = arrival.batch.memory_bytes() + 64;
        self.enter(Input::Alerts(arrival), bytes, Whose::Client)?.await.unwrap_or(Err(Refused::Failed))
    }

    /// Keeps what else a client says, such as a ping; answers once it is flushed.
    pub async fn accept_other(&self, input: Input) -> Result<Accepted, Refused> {
        let bytes = memory_bytes(&input);
        self.enter(input, bytes, Whose::Client)?.await.unwrap_or(Err(Refused::Failed))
    }

    /// Keeps an input of our own, or an operator's; answers with its sequence number once it is flushed.
    pub async fn append(&self, input: Input) -> Result<u64, Refused> {
        let bytes = memory_bytes(&input);
        let whose = Whose::of(&input);
        let answer = self.enter(input, bytes, whose)?.await.unwrap_or(Err(Refused::Failed));
        answer.map(|accepted| accepted.first)
    }

    /// Keeps an input of our own; does not wait for the flush.
    pub fn keep(&self, input: Input) -> Result<(), Refused> {
        let bytes = memory_bytes(&input);
        let mut queue = self.shared.lock();
        self.shared.admit(&queue, bytes, Whose::Own)?;
        queue.own_bytes += bytes;
        queue.items.push(Item { input, reply: None, bytes, whose: Whose::Own });
        self.shared.wake(&queue);
        Ok(())
    }

    /// Damage that was met while the process runs: counted, and raised as an own alert.
    pub fn note_damage(&self, what: &str) {
        self.shared.metrics.damaged.fetch_add(1, Ordering::Relaxed);
        let event = OwnEvent::JournalDamaged { what: what.to_owned() };
        if let Err(error) = self.keep(Input::Own(event)) {
            tracing::error!(%error, "an own alert was not kept");
        }
    }

    /// The journal's clock.
    pub fn now(&self) -> At {
        self.shared.clock.now()
    }

    /// Whether what is kept is synced to the disk before it is answered.
    pub fn syncs(&self) -> bool {
        !self.shared.options.unsafe_no_sync
    }

    /// Whether it can be written.
    pub fn health(&self) -> Health {
        if self.shared.failed.load(Ordering::Relaxed) {
            Health::Failed
        } else if self.shared.is_stalled() {
            Health::Stalled
        } else if self.shared.disk_full.load(Ordering::Relaxed) {
            Health::DiskFull
        } else {
            Health::Well
        }
    }

    /// Whether the disk has become nearly full, or has room again, since it was `full` or not: twice the space at which
    /// clients are refused is the time to act. With the bytes that are free.
    pub fn disk_turned(&self, full: bool) -> Option<(bool, u64)> {
        let free = self.shared.free_bytes.load(Ordering::Relaxed);
        let low = self.shared.options.free_bytes_low();
        let limit = if full { low.saturating_add(low / 4) } else { low };
        let now_full = free < limit || self.shared.disk_full.load(Ordering::Relaxed);
        (now_full != full).then_some((now_full, free))
    }

    /// Inputs that wait for a flush, or for the end of the one that is under way.
    pub fn waiting(&self) -> u64 {
        let queue = self.shared.lock();
        queue.items.len() as u64 + self.shared.under_way.load(Ordering::Relaxed)
    }

    /// Counts.
    pub fn metrics(&self) -> &JournalMetrics {
        &self.shared.metrics
    }

    /// The last sequence number that is flushed; 0 before the first flush of this process.
    pub fn flushed_seq(&self) -> u64 {
        self.shared.flushed.load(Ordering::Acquire)
    }

    /// A durable snapshot covers everything up to here.
    pub fn covered(&self, seq: u64) {
        let mut queue = self.shared.lock();
        queue.covered = queue.covered.max(seq);
    }

    /// Up to where snapshots cover all that a start may need, as [`Journal::covered`] said last.
    pub fn covered_seq(&self) -> u64 {
        self.shared.lock().covered
    }

    /// Whether room becomes scarce: segments that snapshots cover go before their time.
    pub fn is_pressed(&self) -> bool {
        self.shared.is_pressed.load(Ordering::Relaxed)
    }

    /// Lets the segments before `seq` go; nothing may need them any more.
    pub async fn drop_before(&self, seq: u64) -> io::Result<()> {
        let stopped = || io::Error::other("the journal has stopped");
        let answer = {
            let mut queue = self.shared.lock();
            // The thread says so before it clears what waits, and nobody will look here again.
            if self.shared.failed.load(Ordering::Relaxed) {
                return Err(stopped());
            }
            let (sender, answer) = oneshot::channel();
            let (before, waiting) = queue.drop_before.get_or_insert_default();
            *before = seq.max(*before);
            waiting.push(sender);
            answer
        };
        self.shared.filled.notify_one();
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Ends the thread once all that waits is flushed.
    pub fn stop(&self) {
        self.shared.lock().stop = true;
        self.shared.filled.notify_one();
    }

    fn enter(
        &self,
        input: Input,
        bytes: usize,
        whose: Whose,
    ) -> Result<oneshot::Receiver<Result<Accepted, Refused>>, Refused> {
        let (sender, answer) = oneshot::channel();
        let mut queue = self.shared.lock();
        self.shared.admit(&queue, bytes, whose)?;
        queue.items.push(Item { input, reply: Some(sender), bytes, whose });
        if whose == Whose::Client {
            queue.clients += 1;
            queue.client_bytes += bytes;
        } else {
            queue.own_bytes += bytes;
        }
        self.shared.wake(&queue);
        Ok(answer)
    }
}

impl Shared {
    fn new(options: Options, clock: Arc<dyn Clock>) -> Shared {
        Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            options,
            clock,
            metrics: JournalMetrics::default(),
            disk_full: AtomicBool::new(false),
            is_pressed: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            failed: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
            at_disk_since: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            #[cfg(test)]
            waits: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether the disk has not answered for a while.
    fn is_stalled(&self) -> bool {
        let since = self.at_disk_since.load(Ordering::Relaxed);
        since > 0 && boot_ms().saturating_sub(since) >= STALLED.as_millis() as u64
    }

    /// Wakes the thread for the first that waits; it takes the others with it.
    fn wake(&self, queue: &Queue) {
        if queue.items.len() == 1 {
            self.filled.notify_one();
        }
    }

    fn admit(&self, queue: &Queue, bytes: usize, whose: Whose) -> Result<(), Refused> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Refused::Failed);
        }
        if queue.stop {
            return Err(Refused::Stopping);
        }
        if bytes > INPUT_BYTES_MAX {
            return Err(Refused::TooLarge { bytes });
        }
        if matches!(whose, Whose::Client | Whose::Operator) && self.is_stalled() {
            self.metrics.refused_busy.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Stalled { retry_after: RETRY_AFTER_DISK });
        }
        let fits = |most: usize| {
            let has_room = queue.own_bytes == 0 || queue.own_bytes.saturating_add(bytes) <= most;
            has_room && queue.items.len() < OWN_WAITING_MAX
        };
        match whose {
            Whose::Own | Whose::Carrying if fits(OWN_BYTES_MAX) => return Ok(()),
            Whose::Own | Whose::Carrying => return Err(Refused::Failed),
            Whose::Operator if fits(ASKED_BYTES_MAX) => return Ok(()),
            Whose::Operator => return Err(Refused::Busy { retry_after: RETRY_AFTER }),
            Whose::Client => {}
        }
        if self.disk_full.load(Ordering::Relaxed) {
            self.metrics.refused_disk.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::DiskFull { retry_after: RETRY_AFTER_DISK });
        }
        let full = queue.clients >= self.options.waiting_max
            || queue.client_bytes.saturating_add(bytes) > self.options.waiting_bytes_max;
        if full && queue.clients > 0 {
            self.metrics.refused_busy.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Busy { retry_after: RETRY_AFTER });
        }
        Ok(())
    }
}

/// Takes items out of a flush that has no room for them, and answers them so; how many.
fn refuse(items: &mut Vec<Item>, which: impl Fn(&Item) -> bool) -> u64 {
    let refused = items.extract_if(.., |item| which(item)).filter_map(|item| item.reply);
    let answered = refused.map(|reply| {
        // Who has gone needs no answer.
        let _ = reply.send(Err(Refused::DiskFull { retry_after: RETRY_AFTER_DISK }));
    });
    answered.count() as u64
}

/// Most memory of inputs that one flush takes where segments have so many bytes: what many sent together fits into the reserve of one.
fn flush_bytes_max(segment_bytes: u64) -> usize {
    let part = usize::try_from(segment_bytes / 4).unwrap_or(usize::MAX);
    part.clamp(FLUSH_BYTES_MIN, FLUSH_BYTES_MAX)
}

/// About how much memory an input of our own, or an operator's, holds.
fn memory_bytes(input: &Input) -> usize {
    use ams2_core::input::{CarriedText, DeliverySelection, Receipt, Recipient};
    const BASE: usize = 256;
    let recipients = |unfinished: &[Recipient], refused: &[(Recipient, String)]| {
        let refused = refused.iter().map(|(_, words)| words.len() + 8).sum::<usize>();
        size_of_val(unfinished) + refused
    };
    BASE + match input {
        Input::Alerts(arrival) => arrival.batch.memory_bytes(),
        Input::Outcome(outcome) => match &outcome.result {
            Ok(Receipt::Sent) => 0,
            Ok(Receipt::Delivered { reply, memo, unfinished, refused }) => {
                reply.len() + memo.as_ref().map_or(0, Vec::len) + recipients(unfinished, refused)
            }
            Ok(Receipt::Partial { failure, unfinished, refused }) => {
                failure.reason.len() + recipients(unfinished, refused)
            }
            Err(failure) => failure.reason.len(),
        },
        Input::Acknowledge(acknowledge) => {
            let matchers = acknowledge.matchers.iter().map(|m| m.name.len() + m.value.len() + 32);
            acknowledge.by.len() + acknowledge.comment.len() + matchers.sum::<usize>()
        }
        // The decision part says what the text says, in another form.
        Input::ConfigInstalled(install) => 4 * install.text.len(),
        Input::Started(started) => {
            let install = started.install.as_ref().map_or(0, |install| 4 * install.text.len());
            install + started.damage.iter().map(String::len).sum::<usize>()
        }
        Input::Carried(carried) => carried
            .items
            .iter()
            .map(|item| match &item.text {
                CarriedText::Alert { batch, .. } => batch.memory_bytes() + 64,
                CarriedText::Config(text) => text.len() + 64,
                CarriedText::Lost => 64,
            })
            .sum(),
        Input::Silence(SilenceOrder::Set(set)) => {
            let matchers = set.matchers.iter().map(|m| m.name.len() + m.value.len() + 32);
            let annotations = set.annotations.iter().map(|(name, text)| name.len() + text.len() + 64);
            set.by.len() + set.comment.len() + matchers.sum::<usize>() + annotations.sum::<usize>()
        }
        Input::Silence(SilenceOrder::Expire { by, .. }) => by.len(),
        Input::Deliveries(command) => {
            let which = match &command.which {
                DeliverySelection::DeadLettersOf(action) => {
                    action.receiver.len() + action.kind.len() + action.name.len()
                }
                DeliverySelection::One(_) | DeliverySelection::DeadLetters => 0,
            };
            command.by.len() + which
        }
        Input::Ping(ping) => ping.name.len() + ping.client.len() + ping.words.len(),
        Input::CheckIn(check_in) => {
            let said = &check_in.said;
            let routers = [&said.comes_from, &said.leaves_for].into_iter().flatten();
            let texts = [&check_in.client, &check_in.address, &said.version, &said.config].into_iter();
            texts.chain(routers).map(|text| text.len()).sum()
        }
        Input::ForgetClient(forget) => forget.name.len() + forget.by.len(),
        Input::Own(OwnEvent::AccessDenied { from, what }) => from.len() + what.len(),
        Input::Own(OwnEvent::ConfigRefused { why }) => why.len(),
        Input::Own(OwnEvent::JournalDamaged { what }) => what.len(),
        Input::Own(OwnEvent::DiskNearlyFull { .. } | OwnEvent::ConfigAccepted)
        | Input::Stopping
        | Input::WallClock(_)
        | Input::Advanced => 0,
    }
}

struct Thread<R> {
    writer: Writer,
    shared: Arc<Shared>,
    records: R,
    droppable: OnDroppable,
    looked: Option<Instant>,
    /// How far the wall clock is ahead, as it was journaled last; `None` before the start was.
    wall_offset_ms: Option<i64>,
    /// Up to where segments went before their time, as it was said.
    early: u64,
}

impl<R: FnMut(Vec<JournalRecord>) -> bool> Thread<R> {
    fn run(&mut self) {
        loop {
            if let Err(error) = self.housekeep() {
                self.fail(&error, Vec::new());
                return;
            }
            let Some(mut items) = self.take() else { return };
            self.look_at_wall_clock(&mut items);
            if !items.is_empty() && !self.flush(items) {
                return;
            }
        }
    }

    /// What waits, up to what one flush takes; empty after a while without any, `None` at the end.
    fn take(&mut self) -> Option<Vec<Item>> {
        let mut queue = self.shared.lock();
        if queue.items.is_empty() && queue.drop_before.is_none() && !queue.stop {
            #[cfg(test)]
            self.shared.waits.fetch_add(1, Ordering::Relaxed);
            (queue, _) =
                self.shared.filled.wait_timeout(queue, HOUSEKEEPING).unwrap_or_else(|e| e.into_inner());
        }
        if let Some((seq, waiting)) = queue.drop_before.take() {
            drop(queue);
            let gone = self.at_disk(|writer| writer.drop_before(seq));
            for reply in waiting {
                let gone = gone.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()));
                // Who asked may have gone; the segments go all the same.
                drop(reply.send(gone.copied()));
            }
            return Some(Vec::new());
        }
        if queue.items.is_empty() {
            return if queue.stop { None } else { Some(Vec::new()) };
        }
        let bytes_max = flush_bytes_max(self.shared.options.segment_bytes);
        let mut bytes = 0;
        let count = queue.items.iter().take_while(|item| {
            let first = bytes == 0;
            bytes += item.bytes.max(64);
            first || bytes <= bytes_max
        });
        let count = count.count();
        let rest = queue.items.split_off(count);
        let items = std::mem::replace(&mut queue.items, rest);
        for item in &items {
            if item.whose == Whose::Client {
                queue.clients -= 1;
                queue.client_bytes -= item.bytes;
            } else {
                queue.own_bytes -= item.bytes;
            }
        }
        drop(queue);
        Some(self.refuse_into_reserve(items))
    }

    /// Where no other segment can be had, clients get no more than what the reserve leaves, texts that are carried forward
    /// what clients leave of that, and so do operators, who have a part of the reserve for a few words.
    fn refuse_into_reserve(&mut self, mut items: Vec<Item>) -> Vec<Item> {
        // The disk is asked only where its answer counts: a far one may take its time.
        let all: u64 = items.iter().map(|item| item.bytes as u64).sum();
        if all > self.writer.room_allocated() {
            self.at_disk(Writer::look_at_free);
        }
        let room = self.writer.room_for_clients();
        let bytes = |items: &[Item], of: &dyn Fn(&Item) -> bool| -> u64 {
            items.iter().filter(|item| of(item)).map(|item| item.bytes as u64).sum()
        };
        let is_client = |item: &Item| item.whose == Whose::Client;
        if bytes(&items, &is_client) > room {
            self.say_full(true, self.shared.free_bytes.load(Ordering::Relaxed));
            let refused = refuse(&mut items, is_client);
            self.shared.metrics.refused_disk.fetch_add(refused, Ordering::Relaxed);
        }
        let makes_room = |item: &Item| item.whose == Whose::Carrying;
        if bytes(&items, &|item| is_client(item) || makes_room(item)) > room {
            refuse(&mut items, makes_room);
        }
        let is_long = |item: &Item| item.whose == Whose::Operator && item.bytes > OPERATOR_BYTES_MAX;
        if bytes(&items, &|item| is_client(item) || makes_room(item) || is_long(item)) > room {
            refuse(&mut items, is_long);
        }
        if bytes(&items, &|item| item.whose != Whose::Own) > self.writer.room_for_operators() {
            refuse(&mut items, |item| item.whose == Whose::Operator);
        }
        items
    }

    /// A wall clock that was set is told before all that came with it: what clients say of times is by the new one.
    fn look_at_wall_clock(&mut self, items: &mut Vec<Item>) {
        let started = items.iter().find_map(|item| match &item.input {
            Input::Started(started) => Some(started.wall_offset_ms),
            _ => None,
        });
        if started.is_some() {
            self.wall_offset_ms = started;
        }
        let (Some(known), Some(now)) = (self.wall_offset_ms, self.shared.clock.wall_offset_ms()) else {
            return;
        };
        if started.is_none() && now.abs_diff(known) > WALL_CHANGE_MS {
            self.wall_offset_ms = Some(now);
            let (input, bytes) = (Input::WallClock(now), 0);
            items.insert(0, Item { input, reply: None, bytes, whose: Whose::Own });
        }
    }

    /// Does something with the disk; others see since when.
    fn at_disk<T>(&mut self, work: impl FnOnce(&mut Writer) -> T) -> T {
        self.shared.at_disk_since.store(boot_ms().max(1), Ordering::Relaxed);
        let done = work(&mut self.writer);
        self.shared.at_disk_since.store(0, Ordering::Relaxed);
        done
    }

    /// Flushes, answers, hands on; `false` when the thread must end. What is too large for one frame goes into more of them.
    fn flush(&mut self, items: Vec<Item>) -> bool {
        let at = self.shared.clock.now().max(self.writer.at());
        let mut waiting = vec![items.into_iter().map(|item| (item.input, item.reply)).unzip()];
        while let Some((inputs, mut replies)) = waiting.pop() {
            let inputs: Vec<Input> = inputs;
            let replies: &mut Vec<Option<Reply>> = &mut replies;
            let began = Instant::now();
            self.shared.under_way.store(inputs.len() as u64, Ordering::Relaxed);
            let flushed = self.at_disk(|writer| writer.flush(at, &inputs));
            self.shared.under_way.store(0, Ordering::Relaxed);
            let metrics = &self.shared.metrics;
            metrics.failures.store(self.writer.failures, Ordering::Relaxed);
            metrics.damaged.fetch_add(std::mem::take(&mut self.writer.damaged), Ordering::Relaxed);
            match flushed {
                Ok(first) => {
                    metrics.flushes.fetch_add(1, Ordering::Relaxed);
                    metrics.flush_micros.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                    if !self.hand_on(first, inputs, std::mem::take(replies)) {
                        return false;
                    }
                }
                Err(error) => {
                    let too_large = error.get_ref().and_then(|error| error.downcast_ref::<FrameTooLarge>());
                    let Some(&FrameTooLarge(bytes)) = too_large else {
                        self.fail(&error, std::mem::take(replies));
                        return false;
                    };
                    let mut first_half = inputs;
                    let middle = first_half.len() / 2;
                    if middle > 0 {
                        let second_half = (first_half.split_off(middle), replies.split_off(middle));
                        waiting.extend([second_half, (first_half, std::mem::take(replies))]);
                    } else if let Some(reply) = replies.pop().flatten() {
                        // Who has gone needs no answer.
                        let _ = reply.send(Err(Refused::TooLarge { bytes }));
                    } else {
                        tracing::error!(
                            bytes,
                            "an input of our own does not fit into one record: it is not kept"
                        );
                    }
                }
            }
        }
        true
    }

    /// Answers for what was flushed from `first` on, and hands it to the router; `false` when the thread must end.
    fn hand_on(&mut self, first: u64, inputs: Vec<Input>, replies: Vec<Option<Reply>>) -> bool {
        let metrics = &self.shared.metrics;
        metrics.inputs.fetch_add(inputs.len() as u64, Ordering::Relaxed);
        metrics.sequences.fetch_add(self.writer.next_seq() - first, Ordering::Relaxed);
        self.shared.flushed.store(self.writer.next_seq() - 1, Ordering::Release);
        let mut seq = first;
        let mut records = Vec::with_capacity(inputs.len());
        for (input, reply) in inputs.into_iter().zip(replies) {
            let next = seq + input.sequences();
            if let Some(reply) = reply {
                // A client that hung up does not wait for its answer; its alerts are kept.
                let _ = reply.send(Ok(Accepted { first: seq, last: next - 1 }));
            }
            records.push(JournalRecord { seq, at: self.writer.at(), input });
            seq = next;
        }
        (self.records)(records)
    }

    /// Nothing more can be kept: tells those whose inputs did not get there, and those who wait.
    fn fail(&self, error: &io::Error, replies: Vec<Option<Reply>>) {
        tracing::error!(%error, "the journal cannot be written; nothing more is accepted");
        self.shared.failed.store(true, Ordering::Relaxed);
        for reply in replies.into_iter().flatten() {
            let _ = reply.send(Err(Refused::Failed));
        }
        let left = std::mem::take(&mut self.shared.lock().items);
        for reply in left.into_iter().filter_map(|item| item.reply) {
            let _ = reply.send(Err(Refused::Failed));
        }
    }

    /// Whether the disk is full from now on; said when it changes.
    fn say_full(&self, full: bool, free: u64) {
        if self.shared.disk_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(free, "the disk is nearly full: clients are refused, deliveries go on");
            } else {
                tracing::info!(free, "the disk has room again: clients are accepted");
            }
        }
    }

    /// Looks at the segment, free space and retention, about once a second.
    fn housekeep(&mut self) -> io::Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < HOUSEKEEPING) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let Space { full, free } = self.at_disk(Writer::look_at_space)?;
        self.shared.free_bytes.store(free, Ordering::Relaxed);
        self.say_full(full, free);
        let is_pressed = full || free < self.shared.options.free_bytes_low();
        self.shared.is_pressed.store(is_pressed, Ordering::Relaxed);
        let covered = self.shared.lock().covered;
        // The time now, and not that of the last flush: a full disk lets nobody flush.
        let now = self.shared.clock.now();
        let due = self.writer.droppable(covered, now, Pressure::None);
        let early = if is_pressed { self.writer.droppable(covered, now, Pressure::Scarce) } else { None };
        if let Some(keep_from) = due.max(early) {
            if due < early && self.early < keep_from {
                self.early = keep_from;
                tracing::warn!(
                    free,
                    before = keep_from,
                    "the disk is nearly full: records that nobody needs any more go before their time"
                );
            }
            (self.droppable)(keep_from);
        }
        Ok(())
    }
}

impl<R> Drop for Thread<R> {
    /// Whatever ends the thread, a panic too: nothing is accepted any more, and nobody waits for an answer.
    fn drop(&mut self) {
        self.shared.failed.store(true, Ordering::Relaxed);
        let mut queue = self.shared.lock();
        queue.items.clear();
        queue.drop_before = None;
    }
}

#[cfg(test)]
mod tests;
