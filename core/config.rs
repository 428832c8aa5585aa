//! What the admin wants, as data: the part of the configuration that decisions depend on.
//!
//! The shell reads YAML, merges includes and checks it; what reaches the core is this. It travels in the journal
//! (`config installed`) and in snapshots as JSON, so that a later program reads what an earlier one wrote: fields may
//! be added, with a default, and never change their meaning. It holds no secret and nothing read from the environment.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Severities, Severity, calendar::TimeInterval, matcher::Matcher, silence::SilenceRules};

/// The decision part of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Receivers in the order of the file; names are unique.
    pub receivers: Vec<Receiver>,
    /// The root of the routing tree. It has a receiver and no matchers.
    pub route: Route,
    /// Which severity words have which rank.
    pub severities: Severities,
    /// How long an alert without an end stays firing after it was last seen, in milliseconds.
    pub resolve_timeout_ms: u64,
    /// When transient failures are given up.
    pub give_up: GiveUp,
    /// Labels that every own alert carries, such as the server's name.
    pub own_labels: BTreeMap<SmolStr, SmolStr>,
    /// Sets of times that routes name.
    pub time_intervals: Vec<TimeInterval>,
    /// TZif data (RFC 9636) of each time zone that they name.
    pub zones: BTreeMap<SmolStr, Vec<u8>>,
    /// Which alerts hold back which others.
    pub inhibit_rules: Vec<InhibitRule>,
    /// What must hold of silences.
    pub silences: SilenceRules,
    /// What becomes of alerts that are silenced, inhibited or muted by the time.
    pub muting: Muting,
    /// What is to be heard of again and again; names are unique. At most [`HEARTBEATS_MAX`].
    pub heartbeats: Vec<Heartbeat>,
    /// How clients are waited for that check in.
    pub check_ins: CheckIns,
}

/// Most heartbeats. A record has numbers for 65,534 own alerts, and one that installs a config may give two for each of
/// them: the end of one, and another.
pub const HEARTBEATS_MAX: usize = 30_000;

/// Most clients that check in, whatever a config says: ten times what is advised. Past it somebody enrols without end.
pub const CLIENTS_MAX: u32 = 50_000;

/// How clients are waited for that check in. AMS²'s numbers: every 200 minutes, gone after more than 30 days, 5,000 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckIns {
    /// How often a client is to check in, in milliseconds; more than 0.
    pub period_ms: u64,
    /// How much later it may be, in milliseconds.
    pub grace_ms: u64,
    /// It leaves the list after more than so long, in milliseconds; more than period and grace.
    pub remove_after_ms: u64,
    /// How many are advised: more are said.
    pub warn_above: u32,
    /// Most of them; `None` for [`CLIENTS_MAX`].
    pub most: Option<u32>,
}

impl Default for CheckIns {
    fn default() -> CheckIns {
        const MINUTE_MS: u64 = 60_000;
        CheckIns {
            period_ms: 200 * MINUTE_MS,
            grace_ms: 15 * MINUTE_MS,
            remove_after_ms: 30 * 24 * 60 * MINUTE_MS,
            warn_above: 5_000,
            most: None,
        }
    }
}

/// Something that is to be heard of again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// Its name, unique.
    pub name: SmolStr,
    /// How often it is to be heard, in milliseconds; more than 0.
    pub period_ms: u64,
    /// How much later it may be, in milliseconds.
    pub grace_ms: u64,
    /// The longest that a run may take from its start to its end, in milliseconds; `None` for any time.
    pub max_duration_ms: Option<u64>,
    /// Labels of its alert, beside those of every own alert or instead of them.
    pub labels: BTreeMap<SmolStr, SmolStr>,
    /// The only client that it may be heard from; `None` for whoever may send such an alert.
    pub client: Option<SmolStr>,
}

/// Firing alerts of one kind hold back those of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InhibitRule {
    /// Its name, for people; may be empty.
    pub name: SmolStr,
    /// Which alerts hold others back; none means all.
    pub source_matchers: Vec<Matcher>,
    /// Which alerts are held back; none means all.
    pub target_matchers: Vec<Matcher>,
    /// Labels that must have the same value in both; an absent label is empty.
    pub equal: Vec<SmolStr>,
}

/// What becomes of alerts that are silenced, inhibited or muted by the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Muting {
    /// Whether who was told that an alert fires is told of its end though it is muted then.
    pub resolve_when_muted: bool,
    /// Whether who was not told of an alert that still fires is told at once when its silence or mute time ends,
    /// rather than at the group's next turn.
    pub notify_when_unmuted: bool,
    /// Whether who was told that an alert fires is not told so again when it is no longer muted. Alertmanager forgets
    /// it with the next notification that leaves the alert out.
    pub remember_told: bool,
    /// Whether the rest is Alertmanager's, too. What was told is kept past the end of its group, for twice the repeat
    /// interval. Ends of what nobody said that it fired are looked at. The end of all that is not muted is told though
    /// something that is muted was told of before. And own alerts, which there are none of there, hold nothing back.
    pub as_alertmanager: bool,
}

impl Muting {
    /// What Alertmanager does: an end that comes while muted is told to nobody, nothing happens when a silence ends
    /// before the group's next turn, and the notification log is its own.
    pub const ALERTMANAGER: Muting = Muting {
        resolve_when_muted: false,
        notify_when_unmuted: false,
        remember_told: false,
        as_alertmanager: true,
    };
}

impl Default for Muting {
    fn default() -> Muting {
        Muting {
            resolve_when_muted: true,
            notify_when_unmuted: true,
            remember_told: true,
            as_alertmanager: false,
        }
    }
}

/// The age at which a delivery that fails transiently becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GiveUp {
    /// Age in milliseconds for deliveries without a critical alert.
    pub after_ms: u64,
    /// Age in milliseconds for deliveries with a critical alert.
    pub critical_after_ms: u64,
}

impl Default for GiveUp {
    fn default() -> GiveUp {
        const HOUR_MS: u64 = 3_600_000;
        GiveUp { after_ms: 24 * HOUR_MS, critical_after_ms: 72 * HOUR_MS }
    }
}

/// A named set of actions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receiver {
    /// Its name, unique.
    pub name: SmolStr,
    /// Its actions in the order of the file; none means that nobody is told.
    pub actions: Vec<ActionSpec>,
}

/// Which action of which receiver. It survives edits of the action's settings, and its place in the file if it
/// has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId {
    /// The receiver's name.
    pub receiver: SmolStr,
    /// The action's key in the config: `email`, `program`.
    pub kind: SmolStr,
    /// The `name` setting, else the position among the receiver's actions, counted from 0.
    pub name: SmolStr,
}

/// `receiver/kind/name`, as the command line takes and shows it.
impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.receiver, self.kind, self.name)
    }
}

/// What the router must know of one action. How it acts is the handler's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionSpec {
    /// Which action this is.
    pub id: ActionId,
    /// Whether it is told of resolves.
    pub send_resolved: bool,
    /// Most attempts under way at once. A call that carries a batch is one attempt.
    pub max_in_flight: u32,
    /// Most deliveries that one call may carry.
    pub batch_max: u32,
    /// Most attempts in any 60 s; `None` means no limit. What is over the limit becomes a digest.
    pub max_per_minute: Option<u32>,
    /// Longest time for one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Whether it goes to a server of ours: it is never given up for its age, what is critical goes first, and who took it is
    /// kept.
    pub patient: bool,
    /// Most deliveries that may wait for it; of more the oldest go, the least severe first. `None` means no limit.
    #[serde(default)]
    pub pending_max: Option<u32>,
}

/// One node of the routing tree. `None` means the parent's value; the root's `None` is Alertmanager's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Who is told. The root must name one.
    pub receiver: Option<SmolStr>,
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// Which labels make the group.
    pub group_by: Option<GroupBy>,
    /// Wait before the first notification of a new group, in milliseconds; default 30 s, may be 0.
    pub group_wait_ms: Option<u64>,
    /// Wait between looks at a group, in milliseconds; default 5 min, more than 0.
    pub group_interval_ms: Option<u64>,
    /// Wait before the same is told again, in milliseconds; default 4 h, more than 0.
    pub repeat_interval_ms: Option<u64>,
    /// Whether siblings after this one are looked at when it matched. Not inherited.
    pub goes_on: bool,
    /// Group, or tell each occurrence. Inherited.
    pub notify: Option<Notify>,
    /// Whether an alert that fires and resolves within group_wait is told once. Inherited; default no.
    pub tell_short: Option<bool>,
    /// Children in the order of the file.
    pub routes: Vec<Route>,
    /// Time intervals in which nothing is told by this route. Not inherited.
    pub mute_time_intervals: Vec<SmolStr>,
    /// Time intervals outside which nothing is told by this route; none means always. Not inherited.
    pub active_time_intervals: Vec<SmolStr>,
    /// Whether a later alert of a group waits no longer than group_wait of its own. Inherited; default no.
    pub group_wait_each: Option<bool>,
}

/// Which labels make the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupBy {
    /// `...`: every label, so each alert is a group of its own.
    All,
    /// These labels, sorted by name; absent ones are simply absent. Empty: one group for the route.
    Labels(Vec<SmolStr>),
}

/// How a route tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notify {
    /// One notification for a group, with group_wait, group_interval and repeat_interval.
    #[default]
    Group,
    /// One notification for each occurrence, at once (AMS² style).
    Each,
}

/// What becomes of the pending deliveries of an action that a new config no longer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removed {
    /// They are carried out by the actions of this receiver instead.
    MoveTo(SmolStr),
    /// They become dead letters, with this reason kept.
    Drop,
}

/// A configuration as it is installed: what the core reads, and the text for those who come after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// The decision part.
    #[serde(with = "as_json")]
    pub config: Config,
    /// The merged text after includes, with secret references, never values.
    pub text: String,
    /// The version of the decision rules that this config was proved with; see [`RULE_VERSION`].
    pub rule_version: u32,
    /// What becomes of deliveries that wait for actions that are gone.
    pub removed: Vec<(ActionId, Removed)>,
    /// Who installed it: `start`, `signal`, `http`, or a client's name.
    pub by: SmolStr,
}

/// A value as JSON inside a format that is not self-describing: fields that it lacks take their default, fields that
/// are not known are passed over.
pub(crate) mod as_json {
    use core::{fmt, marker::PhantomData};
    use serde::{
        Deserializer, Serialize, Serializer,
        de::{DeserializeOwned, Visitor},
        ser::Error as _,
    };

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&serde_json::to_vec(value).map_err(S::Error::custom)?)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        deserializer.deserialize_bytes(Bytes(PhantomData))
    }

    struct Bytes<T>(PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for Bytes<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            serde_json::from_slice(bytes).map_err(E::custom)
        }
    }
}

/// The version of the decision rules in this crate. A change of any rule raises it, so that the change takes
/// effect by a journaled input and replay decides as was decided then.
pub const RULE_VERSION: u32 = 1;

/// Alertmanager's defaults for what the root route leaves open, in milliseconds.
pub const GROUP_WAIT_MS: u64 = 30_000;
/// See [`GROUP_WAIT_MS`].
pub const GROUP_INTERVAL_MS: u64 = 300_000;
/// See [`GROUP_WAIT_MS`].
pub const REPEAT_INTERVAL_MS: u64 = 4 * 3_600_000;
/// Alertmanager's `resolve_timeout`, in milliseconds.
pub const RESOLVE_TIMEOUT_MS: u64 = 300_000;

impl Config {
    /// A config with one receiver and one route: what tests and the built-in default start from.
    pub fn single(receiver: Receiver, route: Route) -> Config {
        let route = Route { receiver: Some(receiver.name.clone()), ..route };
        Config {
            receivers: [receiver].into(),
            route,
            severities: Severities::default(),
            resolve_timeout_ms: RESOLVE_TIMEOUT_MS,
            give_up: GiveUp::default(),
            own_labels: BTreeMap::new(),
            time_intervals: Vec::new(),
            zones: BTreeMap::new(),
            inhibit_rules: Vec::new(),
            silences: SilenceRules::default(),
            muting: Muting::default(),
            heartbeats: Vec::new(),
            check_ins: CheckIns::default(),
        }
    }

    /// The age at which a delivery of this severity is given up, in milliseconds.
    pub fn give_up_ms(&self, severity: Option<Severity>) -> u64 {
        match severity {
            Some(Severity::Critical) => self.give_up.critical_after_ms,
            _ => self.give_up.after_ms,
        }
    }
}
