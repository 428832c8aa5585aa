//! What can happen to the router: the inputs that the journal keeps, in order.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{
    At, Wall,
    batch::AlertBatch,
    config::{ActionId, Install},
    silence::SilenceOrder,
};

/// Something that happened. Each variant carries all that the decision needs. New variants go to the end: the
/// journal names them by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A client sent alerts. Takes one sequence number an alert (at least one).
    Alerts(Arrival),
    /// The shell saw something about ams2 itself that people should know.
    Own(OwnEvent),
    /// An attempt at a delivery ended.
    Outcome(Outcome),
    /// Somebody takes charge of alerts.
    Acknowledge(Acknowledge),
    /// An operator wants dead letters tried again, or deliveries dropped.
    Deliveries(DeliveryCommand),
    /// A configuration takes effect.
    ConfigInstalled(Box<Install>),
    /// The process started on this journal.
    Started(Started),
    /// The process is about to stop in order; attempts still under way have no known outcome.
    Stopping,
    /// The wall clock is now this far ahead of the journal's clock, in milliseconds.
    WallClock(i64),
    /// Nothing happened, but a timer is due at this record's time.
    Advanced,
    /// Texts that would go away with their segment, written again in this record.
    Carried(Carried),
    /// Somebody makes, changes or ends a silence.
    Silence(SilenceOrder),
    /// Something was heard of a heartbeat.
    Ping(Ping),
    /// A client says how it is.
    CheckIn(CheckIn),
    /// Somebody takes a client out of the list.
    ForgetClient(ForgetClient),
}

impl Input {
    /// How many sequence numbers the input takes; a record's positions are `seq`, `seq + 1`, … below this.
    pub fn sequences(&self) -> u64 {
        match self {
            Input::Alerts(arrival) => (arrival.batch.len() as u64).max(1),
            Input::Carried(carried) => (carried.items.len() as u64).max(1),
            _ => 1,
        }
    }
}

/// Where an alert's text stands in the journal: the sequence number of its arrival, and for an alert that the
/// router raised itself, which of the alerts raised by that record it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(u64);

impl Position {
    /// The text of the alert that arrived with this sequence number (below 2^48).
    pub fn arrived(seq: u64) -> Position {
        Position(seq << 16)
    }

    /// The `index`-th alert (from 0) that the router raised because of record `seq`.
    pub fn raised(seq: u64, index: u16) -> Position {
        Position((seq << 16) | (u64::from(index) + 1))
    }

    /// The sequence number.
    pub fn seq(self) -> u64 {
        self.0 >> 16
    }

    /// Whether the router raised it, so that its text is asked of the machine, not of the journal.
    pub fn is_raised(self) -> bool {
        self.0 & 0xFFFF != 0
    }
}

/// `17`, or `17.1` for the first alert raised by record 17.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & 0xFFFF {
            0 => write!(f, "{}", self.seq()),
            index => write!(f, "{}.{index}", self.seq()),
        }
    }
}

/// Alerts from one client in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The authenticated sender, or the source's own name where it takes anybody (`local`).
    pub client: SmolStr,
    /// The alerts.
    pub batch: Arc<AlertBatch>,
}

/// The process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Drawn anew for a new journal and for one restored from a copy; part of every delivery id.
    pub incarnation: u64,
    /// Seed of the state's hash tables and identities; that of the journal's first start counts.
    pub seed: [u64; 2],
    /// How far the wall clock is ahead of the journal's clock, in milliseconds.
    pub wall_offset_ms: i64,
    /// Version of the program.
    pub version: SmolStr,
    /// Damage that recovery set aside, in words for people; empty if there was none.
    pub damage: Vec<String>,
    /// The configuration that takes effect with the start, if it is another than the one in force: attempts of the
    /// process before are forgotten first, so that none is taken for one of this process.
    pub install: Option<Box<Install>>,
}

/// Names one delivery for ever: hash of incarnation, group key, action and a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId(pub u128);

impl DeliveryId {
    /// Reads the 32 hex digits that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<DeliveryId> {
        (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok().map(DeliveryId))
            .flatten()
    }
}

/// 32 lower-case hex digits.
impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// What became of it.
    pub result: Result<Receipt, Failure>,
    /// How long it took, in milliseconds.
    pub took_ms: u32,
    /// Whether it was the first of its call. A call that carries a batch is one attempt at the far end, and says once
    /// how that is.
    pub led: bool,
}

/// How far we know a notification got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// It left and nobody will confirm: SNMP trap, syslog over UDP.
    Sent,
    /// The far end took charge: SMTP 250, HTTP 2xx, inform response, exit 0.
    Delivered {
        /// Its own words, at most [`REPLY_BYTES_MAX`] bytes.
        reply: String,
        /// At most [`MEMO_BYTES_MAX`] bytes that the next delivery for this group and action gets back: a ticket's key. A longer
        /// one is not kept.
        memo: Option<Vec<u8>>,
        /// Recipients it refused for now; they alone are tried again.
        unfinished: Vec<Recipient>,
        /// Recipients it refused for good, with its words: dead letters of their own.
        refused: Vec<(Recipient, String)>,
    },
    /// It is to be told still, as after a failure, but not to everybody.
    Partial {
        /// Why.
        failure: Failure,
        /// Recipients that are left; they alone are tried again. Never empty.
        unfinished: Vec<Recipient>,
        /// Recipients it refused for good, with its words: dead letters of their own.
        refused: Vec<(Recipient, String)>,
    },
}

impl Receipt {
    /// Everybody was told; `reply` is the far end's word on it.
    pub fn delivered(reply: impl Into<String>) -> Receipt {
        Receipt::Delivered { reply: reply.into(), memo: None, unfinished: Vec::new(), refused: Vec::new() }
    }
}

/// One recipient of an action: a hash of its address, which stays the same whatever becomes of the action's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Recipient(pub u64);

impl Recipient {
    /// The recipient with this address (FNV-1a). The highest bit is set: no position is as large.
    pub fn of(address: &str) -> Recipient {
        let feed = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
        Recipient(address.as_bytes().iter().fold(14_695_981_039_346_656_037, feed) | 1 << 63)
    }

    /// The recipient at this position of the list: what was kept before addresses were.
    pub fn at(position: u16) -> Recipient {
        Recipient(position.into())
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether another try can help.
    pub kind: FailureKind,
    /// The far end's words, or ours for it, at most [`REPLY_BYTES_MAX`] bytes.
    pub reason: String,
    /// How long the far end asked us to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// It may work later.
    pub fn transient(reason: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Transient, reason: reason.into(), retry_after_ms: None }
    }

    /// It may work later, and says nothing of how the far end is: a mailbox that is full, or greylists.
    pub fn deferred(reason: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Deferred, ..Failure::transient(reason) }
    }

    /// The far end may have it, but its answer was lost: the next attempt may tell it twice.
    pub fn uncertain(reason: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Uncertain, ..Failure::transient(reason) }
    }

    /// It will never work like this.
    pub fn permanent(reason: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Permanent, reason: reason.into(), retry_after_ms: None }
    }
}

/// Longest memo that the journal keeps, in bytes.
pub const MEMO_BYTES_MAX: usize = 1024;
/// Longest reply or reason that the journal keeps, in bytes.
pub const REPLY_BYTES_MAX: usize = 4 * 1024;

/// Whether another try can help. New variants go to the end: the journal names them by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// Yes, later.
    Transient,
    /// No.
    Permanent,
    /// Yes, later, and the far end is well: it puts off this delivery alone.
    Deferred,
    /// Yes, later, though the far end may have it already.
    Uncertain,
}

/// What a client calls an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertKey {
    /// The client.
    pub client: SmolStr,
    /// Its name for the alert.
    pub key: SmolStr,
}

/// Somebody takes charge: repeats stop until the alert changes or the time is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// Which alerts: all whose labels match. Empty only beside a key.
    pub matchers: Vec<crate::matcher::Matcher>,
    /// The one that fires and that this client calls so, see [`crate::AlertRef::key`].
    pub key: Option<AlertKey>,
    /// Who.
    pub by: SmolStr,
    /// Until when on the journal's clock; `None` until the alert changes.
    pub until: Option<At>,
    /// Why, for those who come after; may be empty.
    pub comment: String,
    /// Takes an acknowledgement back instead.
    pub withdraw: bool,
}

/// An operator's word on deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCommand {
    /// Which ones.
    pub which: DeliverySelection,
    /// What to do.
    pub verb: DeliveryVerb,
    /// Who says so.
    pub by: SmolStr,
}

/// Which deliveries an operator means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliverySelection {
    /// This one.
    One(DeliveryId),
    /// Every dead letter of this action.
    DeadLettersOf(ActionId),
    /// Every dead letter.
    DeadLetters,
}

/// What an operator wants done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryVerb {
    /// Try dead letters again, from the first attempt; a waiting delivery is tried at once.
    Retry,
    /// Give up, on record.
    Drop,
}

/// Something about ams2 itself that only the shell can see. It becomes an alert through the same path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnEvent {
    /// Somebody without the right tried to get in (event 33).
    AccessDenied {
        /// Where from: an address or a user.
        from: SmolStr,
        /// What was tried, in a few words.
        what: String,
    },
    /// The disk of the data folder is nearly full, or has room again.
    DiskNearlyFull {
        /// Whether there is room again.
        resolved: bool,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// A reload was refused; the old config stays (event 12's unhappy sister).
    ConfigRefused {
        /// Where the first mistake is, without a word of the file.
        why: String,
    },
    /// Damage in the journal was found and set aside.
    JournalDamaged {
        /// Where and how much.
        what: String,
    },
    /// A reload brought what is in force already, after another was refused.
    ConfigAccepted,
}

/// A word of what is to be heard of again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The heartbeat's name.
    pub name: SmolStr,
    /// What it says.
    pub kind: PingKind,
    /// The authenticated sender, or the source's own name where it takes anybody.
    pub client: SmolStr,
    /// What it says besides, at most [`PING_BYTES_MAX`] bytes; may be empty.
    pub words: String,
}

/// What a ping says. New variants go to the end: the journal names them by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PingKind {
    /// A run ended well.
    Success,
    /// A run begins.
    Start,
    /// A run failed.
    Fail,
    /// A run ended with this exit code; 0 is well.
    Exit(u8),
    /// Nothing but its words.
    Log,
}

/// Longest words of a ping that the journal keeps, in bytes.
pub const PING_BYTES_MAX: usize = 10 * 1024;

/// A client says how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIn {
    /// Its name here: who was let in, with what it calls itself behind a `/` where many share one token.
    pub client: SmolStr,
    /// Where it came from: an address or a user.
    pub address: SmolStr,
    /// What it says.
    pub said: ClientReport,
}

/// What a client says of itself. Texts are short, and bounded by whoever took them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Version of its program.
    pub version: SmolStr,
    /// A hash of its configuration.
    pub config: SmolStr,
    /// Names its journal: whoever has another is another client.
    pub incarnation: u64,
    /// Deliveries that wait there to come here.
    pub waiting: u64,
    /// Alerts that it accepted and has no route for to here.
    pub held_back: u64,
    /// Alerts that came here only after a failure.
    pub delayed: u64,
    /// Alerts that it gave up.
    pub dropped: u64,
    /// How far its wall clock is ahead of this router's, in milliseconds, as far as it said.
    pub ahead_ms: Option<i64>,
    /// The router that it checked in at before, if that was another.
    pub comes_from: Option<SmolStr>,
    /// The router that it goes to: this was its last word here.
    pub leaves_for: Option<SmolStr>,
}

/// Somebody takes a client out of the list, whoever comes under its name next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetClient {
    /// Its name.
    pub name: SmolStr,
    /// Who says so.
    pub by: SmolStr,
}

/// Texts written again so that their old segment may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// One item a text; item `i` stands at sequence number `seq + i` of its record.
    pub items: Vec<CarriedItem>,
}

/// One text and those who need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedItem {
    /// Where it stood.
    pub from: Position,
    /// The text itself.
    pub text: CarriedText,
}

/// A text that outlives its segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CarriedText {
    /// An alert.
    Alert {
        /// Who sent it.
        client: SmolStr,
        /// The alert: a batch of one.
        batch: AlertBatch,
    },
    /// A configuration's merged text.
    Config(String),
    /// It could not be read any more: damage, set aside and said when it was found.
    Lost,
}

/// One record of the journal: an input with its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Sequence number of its first item, from 1. The next record's is this plus [`Input::sequences`].
    pub seq: u64,
    /// The journal's clock when it was appended; never less than the record before.
    pub at: At,
    /// What happened.
    pub input: Input,
}

/// An acknowledgement that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: SmolStr,
    /// When, on the wall clock.
    pub since: Wall,
    /// Until when on the journal's clock; `None` until the alert changes.
    pub until: Option<At>,
    /// Why.
    pub comment: String,
}
