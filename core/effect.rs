//! What follows from an input: attempts to make, decisions to keep, and when to come back.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{
    At, Fingerprint, Wall,
    config::ActionId,
    input::{DeliveryId, FailureKind, Position, Recipient},
    silence::{SilenceError, SilenceId},
};

/// What the shell must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make one attempt now and append its outcome.
    Deliver(Box<Deliver>),
    /// Keep this decision for those who ask why.
    Record(Record),
    /// The earliest timer is due at this time: append [`crate::Input::Advanced`] then, if nothing came before.
    /// [`At::NEVER`] when no timer is left.
    Wake(At),
}

/// One attempt at one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// The same on every attempt.
    pub delivery: DeliveryId,
    /// Who carries it out.
    pub action: ActionId,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// Whether the far end may have it already: an earlier attempt's outcome was lost, in a crash or with the connection.
    pub maybe_duplicate: bool,
    /// What to say. One, or for a digest several, oldest first.
    pub notifications: Vec<Arc<Notification>>,
    /// For a digest: the deliveries in it, in the order of `notifications`; empty for any other.
    pub digest_of: Vec<DeliveryId>,
    /// Recipients still to be told; `None` means all.
    pub unfinished: Option<Vec<Recipient>>,
    /// What the far end gave back with the last delivery of this group and action.
    pub memo: Option<Vec<u8>>,
    /// Whether resolved alerts are to be shown.
    pub send_resolved: bool,
    /// The next [`Effect::Deliver`] of this action goes into the same call, directly behind this one: it waits for it in its
    /// lane. A chain of them is never longer than the action's batch.
    pub goes_on: bool,
}

/// What is to be said about one group, or one occurrence, at one moment. Shared by all actions of a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Which group.
    pub group: Arc<GroupName>,
    /// Which notification of its group, from 1; of all, for `notify: each`.
    pub number: u64,
    /// Why now.
    pub reason: NotifyReason,
    /// When it was decided, on the journal's clock.
    pub decided_at: At,
    /// When it was decided, on the wall clock.
    pub decided_wall: Wall,
    /// Position of the config whose texts it is written with.
    pub config: Position,
    /// The alerts in Alertmanager's order (job, instance, labels).
    pub alerts: Arc<[Noted]>,
}

/// What names a group. For `notify: each` it names the route alone, and has no labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupName {
    /// Alertmanager's group key: route key, `:`, group labels.
    pub key: String,
    /// Labels that make the group, sorted by name.
    pub labels: Vec<(SmolStr, SmolStr)>,
}

/// One alert of a notification: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Where its text stands.
    pub position: Position,
    /// When it began, coded against the decision.
    pub(crate) start: u32,
    /// 0 while firing, else 1 + when it ended, coded against the decision; and [`NEW`].
    pub(crate) end: u32,
}

/// The bit of `end` that says that the alert's state is news.
const NEW: u32 = 1 << 31;

/// How moments are coded: below `fine` in milliseconds before the decision, up to `later` in whole seconds before it, up to
/// `top` in whole seconds behind it.
struct Scale {
    fine: u32,
    later: u32,
    top: u32,
}

/// 12 days, 68 years, 34 years.
const START: Scale = Scale { fine: 1 << 30, later: 3 << 30, top: u32::MAX };
/// 6 days, 34 years, 17 years.
const END: Scale = Scale { fine: 1 << 29, later: 3 << 29, top: NEW - 1 };

impl Noted {
    /// An alert of a notification that is decided at `decided`, with its beginning, and its end if it ended.
    pub(crate) fn new(position: Position, decided: Wall, began: Wall, ended: Option<Wall>) -> Noted {
        let end = ended.map_or(0, |ended| END.code(decided, ended) + 1);
        Noted { position, start: START.code(decided, began), end }
    }

    /// The same, marked as news or not.
    pub(crate) fn marked(self, is_new: bool) -> Noted {
        Noted { end: if is_new { self.end | NEW } else { self.end & !NEW }, ..self }
    }

    /// Whether the notification is about this alert: nobody was told before that it fires, or that it ended. The others are
    /// told of again with it.
    pub fn is_new(&self) -> bool {
        self.end & NEW != 0
    }

    /// Whether the alert was firing when this was decided.
    pub fn is_firing(&self) -> bool {
        self.end & !NEW == 0
    }

    /// When it began, in a notification that was decided at `decided`: to the millisecond within twelve days before that, to
    /// the second of the beginning otherwise.
    pub fn began(&self, decided: Wall) -> Wall {
        START.decode(decided, self.start)
    }

    /// When a resolved alert ended, to the same precision; `None` while firing.
    pub fn ended(&self, decided: Wall) -> Option<Wall> {
        (self.end & !NEW).checked_sub(1).map(|code| END.decode(decided, code))
    }
}

impl Scale {
    /// Far away only the second counts, so that every notification shows the same beginning whenever it was decided.
    fn code(&self, decided: Wall, moment: Wall) -> u32 {
        let before_ms = decided.0.saturating_sub(moment.0);
        if (0..i64::from(self.fine)).contains(&before_ms) {
            return before_ms as u32;
        }
        let before_s = decided.0.div_euclid(1000) - moment.0.div_euclid(1000);
        let (from, span) = match before_ms > 0 {
            true => (self.fine, self.later - self.fine),
            false => (self.later, self.top - self.later),
        };
        from + u32::try_from(before_s.unsigned_abs()).unwrap_or(u32::MAX).min(span - 1)
    }

    fn decode(&self, decided: Wall, code: u32) -> Wall {
        let second =
            |seconds: i64| Wall((decided.0.div_euclid(1000).saturating_add(seconds)).saturating_mul(1000));
        if code < self.fine {
            Wall(decided.0.saturating_sub(i64::from(code)))
        } else if code < self.later {
            second(-i64::from(code - self.fine))
        } else {
            second(i64::from(code - self.later))
        }
    }
}

/// Why a group is told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NotifyReason {
    /// Nothing was told about this group before.
    FirstTime,
    /// Alerts fire that were not told as firing.
    NewAlerts,
    /// No alert fires any more.
    AllResolved,
    /// Some alerts resolved.
    SomeResolved,
    /// The repeat interval is over.
    RepeatDue,
    /// `notify: each`: it happened, or happened once more.
    Occurrence,
    /// `notify: each`: it ended.
    Ended,
    /// It fired and resolved within group_wait, and the route says `tell_short`.
    Short,
}

impl NotifyReason {
    /// The word in JSON, logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            NotifyReason::FirstTime => "first_time",
            NotifyReason::NewAlerts => "new_alerts",
            NotifyReason::AllResolved => "all_resolved",
            NotifyReason::SomeResolved => "some_resolved",
            NotifyReason::RepeatDue => "repeat_due",
            NotifyReason::Occurrence => "occurrence",
            NotifyReason::Ended => "ended",
            NotifyReason::Short => "short",
        }
    }
}

/// Why a group is not told now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HoldReason {
    /// The same was told, and the repeat interval is not over.
    NothingNew,
    /// The same waits to be delivered already.
    AlreadyPending,
    /// It fired and resolved before anybody was told.
    ResolvedBeforeTold,
    /// It ended, and this action is not told of ends.
    ResolvesNotSent,
    /// A repeat would be due, but somebody took charge of every firing alert.
    Acknowledged {
        /// Who.
        by: SmolStr,
    },
    /// An own alert about this very action.
    AboutItself,
    /// The receiver has no action.
    NobodyToTell,
    /// Silences hold it back.
    Silenced {
        /// Which, in the order of their ids.
        by: Vec<SilenceId>,
    },
    /// Firing alerts hold it back.
    Inhibited {
        /// Which, in order; at most [`INHIBITORS_MAX`].
        by: Vec<Fingerprint>,
        /// How many more there are.
        more: u32,
    },
    /// A time interval mutes the route.
    MuteTime {
        /// Its name.
        interval: SmolStr,
    },
    /// None of the route's active time intervals holds.
    OutsideActiveTimes,
}

/// Most inhibiting alerts that are named; the rest is counted.
pub const INHIBITORS_MAX: usize = 16;

impl HoldReason {
    /// The word in JSON, logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            HoldReason::NothingNew => "nothing_new",
            HoldReason::AlreadyPending => "already_pending",
            HoldReason::ResolvedBeforeTold => "resolved_before_told",
            HoldReason::ResolvesNotSent => "resolves_not_sent",
            HoldReason::Acknowledged { .. } => "acknowledged",
            HoldReason::AboutItself => "about_itself",
            HoldReason::NobodyToTell => "nobody_to_tell",
            HoldReason::Silenced { .. } => "silenced",
            HoldReason::Inhibited { .. } => "inhibited",
            HoldReason::MuteTime { .. } => "mute_time_interval",
            HoldReason::OutsideActiveTimes => "active_time_interval",
        }
    }
}

/// What was decided about one thing, or why nothing was.
pub type Reason = Result<NotifyReason, HoldReason>;

/// A decision with its reason, as people ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The journal record that caused it.
    pub seq: u64,
    /// When it was decided: a timer's due time, or the record's time.
    pub at: At,
    /// What was decided.
    pub what: Decided,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decided {
    /// An alert began, came back, happened once more, changed or ended.
    Alert {
        /// Its name.
        alert: Fingerprint,
        /// Where its text stands.
        position: Position,
        /// What it did.
        change: AlertChange,
    },
    /// An alert's `id` came a second time: nothing happened.
    DuplicateId {
        /// Its name.
        alert: Fingerprint,
        /// Where the second copy stands.
        position: Position,
    },
    /// An alert joined a group of a route.
    Routed {
        /// Its name.
        alert: Fingerprint,
        /// The group it joined.
        group: Arc<GroupName>,
        /// Who will be told.
        receiver: SmolStr,
    },
    /// A notification was made for an action.
    Notify {
        /// The delivery that carries it.
        delivery: DeliveryId,
        /// The group.
        group: Arc<GroupName>,
        /// Who tells it.
        action: ActionId,
        /// Why now.
        reason: NotifyReason,
        /// How many alerts fire in it.
        firing: u32,
        /// How many are resolved in it.
        resolved: u32,
        /// Where the text of its first alert stands.
        first: Position,
    },
    /// Nothing was told, for this reason. Recorded when the reason changes, not at each look.
    Hold {
        /// The group.
        group: Arc<GroupName>,
        /// Who would have told it; `None` when it concerns the whole group.
        action: Option<ActionId>,
        /// Why not.
        reason: HoldReason,
        /// The alerts concerned, where it is not the whole group.
        alerts: Vec<Fingerprint>,
    },
    /// A pending delivery was replaced by a newer one that says all it would have said.
    Superseded {
        /// The one that goes.
        delivery: DeliveryId,
        /// The one that inherits its attempts, backoff and age.
        by: DeliveryId,
    },
    /// Deliveries over the rate limit were put into one.
    Digested {
        /// The digest.
        digest: DeliveryId,
        /// The deliveries in it.
        deliveries: Vec<DeliveryId>,
        /// Who tells it.
        action: ActionId,
    },
    /// A digest was refused as a whole: a part of what it carried is told by itself.
    Split {
        /// The digest, which is over.
        digest: DeliveryId,
        /// The delivery that tells the part.
        half: DeliveryId,
        /// The deliveries in the part; a single one is told as if it were in no digest.
        deliveries: Vec<DeliveryId>,
        /// Who tells it.
        action: ActionId,
    },
    /// An attempt ended.
    Attempt {
        /// The delivery.
        delivery: DeliveryId,
        /// Who tried.
        action: ActionId,
        /// Which attempt, from 1.
        attempt: u32,
        /// What the far end said.
        result: AttemptResult,
        /// How long it took, in milliseconds.
        took_ms: u32,
        /// What comes next.
        next: Next,
    },
    /// An outcome came for a delivery that is no longer pending; it changes nothing.
    LateOutcome {
        /// The delivery.
        delivery: DeliveryId,
        /// Which attempt.
        attempt: u32,
    },
    /// A delivery was given up and is kept until an operator retries or drops it.
    DeadLetter {
        /// The delivery.
        delivery: DeliveryId,
        /// Who should have told it.
        action: ActionId,
        /// Why it was given up.
        reason: DeadReason,
    },
    /// An operator retried or dropped a delivery.
    Operator {
        /// The delivery.
        delivery: DeliveryId,
        /// What was done: `retry` or `drop`.
        verb: SmolStr,
        /// Who.
        by: SmolStr,
    },
    /// Somebody's order changed nothing.
    Ignored {
        /// What was asked for: `retry`, `drop` or `acknowledge`.
        verb: SmolStr,
        /// The delivery that it was about, if it was about one.
        delivery: Option<DeliveryId>,
        /// Who.
        by: SmolStr,
        /// Why, in words.
        why: SmolStr,
    },
    /// Somebody took charge of an alert, or gave it back.
    Acknowledge {
        /// The alert.
        alert: Fingerprint,
        /// Who; `None` when the acknowledgement ended.
        by: Option<SmolStr>,
        /// Until when; `None` until it changes.
        until: Option<At>,
    },
    /// The state of an action's far end changed: it fails, is probed, or is back.
    Breaker {
        /// Which action.
        action: ActionId,
        /// Whether deliveries now wait for a single probe.
        open: bool,
    },
    /// A configuration took effect.
    Config {
        /// Its position.
        position: Position,
        /// Who installed it.
        by: SmolStr,
    },
    /// The process started or is about to stop.
    Process {
        /// Whether it started.
        started: bool,
        /// Deliveries that were under way and whose outcome is unknown.
        unknown_outcomes: u32,
    },
    /// The wall clock was set.
    WallClock {
        /// How far it moved against the journal's clock, in milliseconds.
        moved_ms: i64,
    },
    /// A silence was made, changed or ended.
    Silence {
        /// Which.
        id: SilenceId,
        /// What happened to it.
        change: SilenceChange,
        /// Who did it; empty where time did.
        by: SmolStr,
    },
    /// An order about a silence could not be followed: something changed after it was checked.
    SilenceRefused {
        /// Why.
        error: SilenceError,
        /// Who wanted it.
        by: SmolStr,
    },
    /// A heartbeat was heard, or was not, and that changes something.
    Heartbeat {
        /// Its name.
        name: SmolStr,
        /// The alert about it, whether that fires or not.
        alert: Fingerprint,
        /// What it amounts to.
        change: HeartbeatChange,
        /// Who said it; empty where time or a config did.
        by: SmolStr,
        /// Why, in words.
        why: String,
    },
    /// Another server of ours than before takes what an action sends, or the same one that forgot what it had: it is told
    /// anew what fires.
    FarEnd {
        /// The action.
        action: ActionId,
        /// Who took it before: its name, and that of its journal.
        before: SmolStr,
        /// Who takes it now.
        now: SmolStr,
    },
    /// Too many deliveries waited for an action: this one was let go.
    Shed {
        /// Which one.
        delivery: DeliveryId,
        /// The action.
        action: ActionId,
        /// How many were let go so far.
        shed: u64,
    },
    /// A client checked in, or did not, and that changes something.
    Client {
        /// Its name.
        name: SmolStr,
        /// The alert that says that it is missing, whether that fires or not.
        alert: Fingerprint,
        /// What it amounts to.
        change: ClientChange,
        /// Who said it; empty where time or a config did.
        by: SmolStr,
        /// Why, in words.
        why: String,
    },
    /// There are more clients than advised, or not any more.
    ClientCount {
        /// How many.
        count: u64,
        /// How many are advised.
        advised: u32,
        /// Whether they are more than that.
        is_over: bool,
    },
}

/// What happened to a client. A check-in while all is well is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClientChange {
    /// It is in the list from now on.
    Enrolled,
    /// It came from another router.
    Joined,
    /// It did not check in in time.
    Missing,
    /// It checked in after that.
    Returned,
    /// Another client has its name.
    Replaced,
    /// A config gives it more time: it is not missing any more.
    Awaited,
    /// It was missing for so long that it left the list.
    Removed,
    /// It went to another router.
    Left,
    /// Somebody took it out of the list.
    Forgotten,
}

impl ClientChange {
    /// The word in JSON and logs.
    pub fn word(self) -> &'static str {
        match self {
            ClientChange::Enrolled => "enrolled",
            ClientChange::Joined => "joined",
            ClientChange::Missing => "missing",
            ClientChange::Returned => "returned",
            ClientChange::Replaced => "replaced",
            ClientChange::Awaited => "awaited",
            ClientChange::Removed => "removed",
            ClientChange::Left => "left",
            ClientChange::Forgotten => "forgotten",
        }
    }
}

/// What happened to a heartbeat. A success while all is well is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HeartbeatChange {
    /// It was heard for the first time.
    Heard,
    /// It was not heard in time.
    Missing,
    /// A run failed.
    Failed,
    /// A run did not end in time.
    Overrun,
    /// A run ended well after one of these.
    Returned,
    /// It said something, which changes nothing.
    Logged,
    /// A config gives it more time: it is not missing any more.
    Awaited,
    /// The config has it no more.
    Removed,
}

impl HeartbeatChange {
    /// The word in JSON and logs.
    pub fn word(self) -> &'static str {
        match self {
            HeartbeatChange::Heard => "heard",
            HeartbeatChange::Missing => "missing",
            HeartbeatChange::Failed => "failed",
            HeartbeatChange::Overrun => "overrun",
            HeartbeatChange::Returned => "returned",
            HeartbeatChange::Logged => "logged",
            HeartbeatChange::Awaited => "awaited",
            HeartbeatChange::Removed => "removed",
        }
    }
}

/// What happened to a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SilenceChange {
    /// It was made.
    Created,
    /// It was changed in place.
    Updated,
    /// Somebody ended it.
    Expired,
    /// It was ended because a new one, made in the same step, takes its place.
    Replaced,
    /// Its time was over.
    Ended,
}

impl SilenceChange {
    /// The word in JSON and logs.
    pub fn word(self) -> &'static str {
        match self {
            SilenceChange::Created => "created",
            SilenceChange::Updated => "updated",
            SilenceChange::Expired => "expired",
            SilenceChange::Replaced => "replaced",
            SilenceChange::Ended => "ended",
        }
    }
}

/// What an alert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlertChange {
    /// It fires and was not known, or had ended.
    Fired,
    /// It happened once more.
    Occurred,
    /// Its annotations or times changed while it fires.
    Updated,
    /// Its sender said that it ended.
    Resolved,
    /// Its sender ended it by its key, or used the key for another alert. The position is that of what was sent.
    EndedByKey,
    /// It was not seen for the resolve timeout, or its announced end passed.
    TimedOut,
    /// It arrived as ended and was not known to fire.
    ArrivedResolved,
}

/// What the far end said to one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptResult {
    /// It left and nobody will confirm.
    Sent,
    /// The far end took charge, in its own words.
    Delivered(String),
    /// It failed.
    Failed(FailureKind, String),
    /// The process died before the outcome was kept.
    Unknown,
}

/// What comes after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// Nothing: it is done.
    Done,
    /// Another try, not before this time.
    Retry(At),
    /// It is given up.
    DeadLetter,
    /// A digest that was refused for good: what it carries is told in two halves, which may be taken.
    Split,
}

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadReason {
    /// The far end refused it for good.
    Permanent(String),
    /// It failed for too long; the last failure's words.
    TooOld(String),
    /// It was being attempted when the process died, three times.
    Crashes,
    /// A new config has no such action, and nothing said where its deliveries go.
    ActionRemoved,
    /// An operator dropped it at a config change.
    Dropped,
}

/// Longest start of a far end's words that a dead letter keeps, in bytes; the decision has them whole. There may be a million
/// dead letters, and most say the same.
const DEAD_WORDS_BYTES_MAX: usize = 256;

impl DeadReason {
    /// The same with no more of the far end's words than a dead letter keeps.
    pub(crate) fn cut(&self) -> DeadReason {
        let start = |words: &str| {
            let most = DEAD_WORDS_BYTES_MAX.min(words.len());
            let end = (0..=most).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
            String::from(&words[..end])
        };
        match self {
            DeadReason::Permanent(words) => DeadReason::Permanent(start(words)),
            DeadReason::TooOld(words) => DeadReason::TooOld(start(words)),
            other => other.clone(),
        }
    }

    /// The word in JSON, logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            DeadReason::Permanent(_) => "permanent",
            DeadReason::TooOld(_) => "too_old",
            DeadReason::Crashes => "crashes",
            DeadReason::ActionRemoved => "action_removed",
            DeadReason::Dropped => "dropped",
        }
    }
}

/// For people: the reason in a sentence.
impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadReason::Permanent(words) => write!(f, "refused for good: {words}"),
            DeadReason::TooOld(words) => write!(f, "failed for too long; last: {words}"),
            DeadReason::Crashes => f.write_str("the process died three times while attempting it"),
            DeadReason::ActionRemoved => f.write_str("its action is gone from the config"),
            DeadReason::Dropped => f.write_str("dropped at a config change"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_milliseconds_for_days_and_their_own_second_for_years() {
        assert_eq!(size_of::<Noted>(), 16);
        let decided = Wall(1_700_000_000_250);
        let year_ms: i64 = 365 * 86_400_000;
        let second = |wall: Wall| wall.0.div_euclid(1000) * 1000;
        let fine = i64::from(END.fine) - 1;
        for (before_ms, exact) in [
            (0, true),
            (1, true),
            (86_400_000, true),
            (fine, true),
            (i64::from(START.fine), false),
            (30 * year_ms + 333, false),
            (-1, false),
            (-900, false),
            (-15 * year_ms - 333, false),
        ] {
            let moment = Wall(decided.0 - before_ms);
            let shown = if exact { moment } else { Wall(second(moment)) };
            let noted = Noted::new(Position::arrived(1), decided, moment, Some(moment));
            assert_eq!((noted.began(decided), noted.ended(decided)), (shown, Some(shown)), "{before_ms}");
            assert!(!noted.is_firing() && !noted.is_new());
            let marked = noted.marked(true);
            assert!(marked.is_new() && !marked.is_firing() && marked.marked(false) == noted);
            assert_eq!((marked.began(decided), marked.ended(decided)), (shown, Some(shown)), "{before_ms}");
        }
        // Every notification shows the same.
        for (years, later_ms) in [(1, 1), (1, 777), (50, 999), (-1, 5), (-30, 86_400_000)] {
            let (moment, later) = (Wall(decided.0 - years * year_ms - 333), Wall(decided.0 + later_ms));
            let again = Noted::new(Position::arrived(1), later, moment, None).began(later);
            assert_eq!(again, Wall(second(moment)), "{years} years, decided {later_ms} ms later");
        }
        for far in [Wall(i64::MIN), Wall(i64::MAX)] {
            let firing = Noted::new(Position::arrived(1), decided, far, None);
            assert!(firing.is_firing() && firing.marked(true).is_firing() && firing.marked(true).is_new());
            assert!(!Noted::new(Position::arrived(1), decided, decided, Some(far)).is_firing());
        }
    }
}
