//! SNMP traps and informs, v1, v2c and v3 (RFC 3416, 3417, 3584): one notification for each alert, by AMS2-MIB.
//!
//! A trap is sent and nobody says whether it arrived; an inform is delivered once the manager has answered it. v3 always
//! authenticates and encrypts. What the manager does not take (an unknown user, another password) waits for whoever mends
//! the setting, as does everything else that fails. Informs go out several at once, those about one alert one after the other; what
//! the manager answered is not told again. Traps of which only some went out are told again whole: their varbinds carry the
//! delivery's id, by which a manager sees a repetition.

mod access;
mod engine;
mod fit;
pub mod mib;
mod progress;
mod sender;
mod varbinds;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ams2_core::{
    Fingerprint, Severities,
    matcher::{Compiled, Matcher},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, FileSetting, Kind, Receipt, Secret, SettingsError,
    delivery::written,
    net::HostPort,
    render::{Scope, Template},
    settings::{Warnings, settings},
    units,
};
pub use access::{Authentication, Privacy, SnmpVersion};
pub use engine::{OwnEngine, own_engine};
use mib::ENTERPRISE_DEFAULT;
use sender::{MESSAGE_BYTES_MAX, Sender, Trouble};
use varbinds::{Notification, Notifications, Trap};

/// The entry in the table.
pub const KIND: Kind = Kind {
    key: "snmp_trap",
    summary: "sends each alert as an SNMP trap or inform to a network manager (v1, v2c, v3)",
    examples: &[
        "snmp_trap: { to: '127.0.0.1:162', version: 2c, community: example, timeout: 2s }",
        "snmp_trap: { to: 127.0.0.1, version: 1, community: example, timeout: 2s, traps: [{ matchers: ['event = \"Virus Found\"'], oid: 1.3.6.1.4.1.32473.7.0.1 }] }",
        "snmp_trap: { to: '127.0.0.1:162', version: 3, inform: true, user: ams2, auth: sha256, auth_password: 'example one', priv: aes128, priv_password: 'example two', timeout: 200ms }",
    ],
    files: &[
        FileSetting::secret("community_file", "community"),
        FileSetting::secret("auth_password_file", "auth_password"),
        FileSetting::secret("priv_password_file", "priv_password"),
    ],
    defaults: Defaults {
        send_resolved: true,
        max_in_flight: 2,
        batch_max: 100,
        timeout: units::Duration::from_seconds(10),
        max_alerts: 0,
        patient: false,
    },
};

settings! {
    /// Settings of an `snmp_trap` action.
    pub struct Settings {
        /// The manager: `host:port` (162 unless set).
        pub to: String,
        /// `1`, `2c` or `3`; `2c` unless set.
        pub version: Option<SnmpVersion>,
        /// Whether the manager must answer (2c and 3); `false` unless set.
        pub inform: Option<bool>,
        /// 1 and 2c: the community, from `community_file` or `${env:NAME}`. There is no default one.
        pub community: Option<Secret>,
        /// 3: the user.
        pub user: Option<String>,
        /// 3: how it authenticates: `sha1`, `sha224`, `sha256`, `sha384` or `sha512`; `sha256` unless set.
        pub auth: Option<Authentication>,
        /// 3: its password for that, from `auth_password_file` or `${env:NAME}`.
        pub auth_password: Option<Secret>,
        /// 3: how it encrypts: `aes128`, `aes192` or `aes256`; `aes128` unless set.
        #[serde(rename = "priv")]
        pub privacy: Option<Privacy>,
        /// 3: its password for that, from `priv_password_file` or `${env:NAME}`.
        pub priv_password: Option<Secret>,
        /// The site's enterprise number, which the MIB was made for; 32473, the one for documentation, unless set.
        pub enterprise: Option<u32>,
        /// Other notifications for some alerts; the first whose matchers fit counts.
        pub traps: Option<Vec<TrapSetting>>,
        /// A template for the summary; the annotation `summary` unless set.
        pub summary: Option<String>,
        /// A template for the link; the alert's own, else our console, unless set.
        pub url: Option<String>,
        /// Longest message; what is longer is cut and says so. 1400 bytes unless set: longer ones are sent in fragments,
        /// which many networks drop.
        pub message_bytes_max: Option<units::Bytes>,
    }
}

/// Another notification for some alerts.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrapSetting {
    /// Which alerts: all of these match.
    pub matchers: Vec<String>,
    /// What is sent while it fires.
    pub oid: String,
    /// What is sent when it has ended; ams2AlertCleared unless set.
    pub resolved_oid: Option<String>,
}

/// The usual port of managers (RFC 3417 section 3.2).
const PORT: u16 = 162;
/// Shortest message limit: below it not even what is never cut fits.
const MESSAGE_BYTES_MIN: u64 = 1024;
/// Fits into one packet of 1500 bytes, with room for tunnels.
const MESSAGE_BYTES_DEFAULT: u64 = 1400;
/// Longest OID of a trap, in numbers, so that it fits into every message.
const OID_ARCS_MAX: usize = 40;
/// Most entries in `traps`.
const TRAPS_MAX: usize = 1000;
/// Informs of one call under way at once.
const INFORMS_AT_ONCE: usize = 16;

/// An action that is ready.
#[derive(Debug)]
struct SnmpTrap {
    notifications: Notifications,
    sender: Arc<Sender>,
    inform: bool,
}

impl Settings {
    /// The texts of `older`, sent where these settings say.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        Settings {
            traps: older.traps.clone(),
            summary: older.summary.clone(),
            url: older.url.clone(),
            ..self.clone()
        }
    }

    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let mut errors = self.misplaced();
        let place = HostPort::parse(&self.to, Some(PORT)).map_err(|what| {
            errors.push(SettingsError::new("to", what, "write it like manager.example.com:162"));
        });
        let access = self.access().map_err(|found| errors.extend(found));
        let enterprise = self.enterprise.unwrap_or(ENTERPRISE_DEFAULT);
        if enterprise == 0 {
            let mend = "use the number that IANA gave to your site, or leave it out";
            errors.push(SettingsError::new("enterprise", "0 is nobody's enterprise number", mend));
        }
        let bytes_max = self.message_bytes_max.unwrap_or(units::Bytes::new(MESSAGE_BYTES_DEFAULT));
        if !(MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX as u64).contains(&bytes_max.get()) {
            let message = format!("messages of at most {bytes_max}");
            let mend = format!("use 1KiB to {MESSAGE_BYTES_MAX}B");
            errors.push(SettingsError::new("message_bytes_max", message, mend));
        }
        let traps = self.traps(&context.severities).map_err(|found| errors.extend(found));
        let mut template = |field: &str, source: &Option<String>| {
            let compile = |source| Template::compile_with(source, Scope::Alert, &self.templates);
            let compiled = source.as_deref().map(compile).transpose();
            compiled.unwrap_or_else(|error| {
                errors.push(error.of_setting(field));
                None
            })
        };
        let (summary, url) = (template("summary", &self.summary), template("url", &self.url));
        let (Ok(place), Ok(access), Ok(traps), true) = (place, access, traps, errors.is_empty()) else {
            return Err(errors);
        };
        let inform = self.inform.unwrap_or(false);
        let timeout = Duration::from_millis(self.common().limits(&KIND.defaults).timeout_ms);
        let head_bytes = access.head_bytes();
        let sender = Sender::new(place, access, inform, timeout, enterprise, context.data_dir.clone());
        let object_bytes = sender.object_bytes();
        let bytes_max = bytes_max.len();
        let notifications =
            Notifications { enterprise, traps, summary, url, bytes_max, head_bytes, object_bytes };
        Ok(Box::new(SnmpTrap { notifications, sender: Arc::new(sender), inform }))
    }

    fn traps(&self, severities: &Severities) -> Result<Vec<Trap>, Vec<SettingsError>> {
        let (mut traps, mut errors) = (Vec::new(), Vec::new());
        let settings = self.traps.as_deref().unwrap_or_default();
        if settings.len() > TRAPS_MAX {
            let message = format!("{} entries", settings.len());
            errors.push(SettingsError::new("traps", message, format!("use at most {TRAPS_MAX}")));
        }
        for (position, setting) in settings.iter().enumerate().take(TRAPS_MAX) {
            let mut matchers: Vec<Compiled> = Vec::new();
            for (number, text) in setting.matchers.iter().enumerate() {
                match Matcher::parse(text).and_then(|matcher| matcher.compile(severities)) {
                    Ok(matcher) => matchers.push(matcher),
                    Err(error) => {
                        let field = format!("traps[{position}].matchers[{number}]");
                        errors.push(SettingsError::new(field, error.to_string(), "correct the matcher"));
                    }
                }
            }
            if setting.matchers.is_empty() {
                let mend = "write for instance `matchers: ['event = \"Virus Found\"']`";
                let field = format!("traps[{position}].matchers");
                errors.push(SettingsError::new(field, "it does not say for which alerts", mend));
            }
            let mut oid = |field: &str, text: &str| {
                let read = read_oid(text);
                if read.is_none() {
                    let field = format!("traps[{position}].{field}");
                    let mend = "write it like 1.3.6.1.4.1.32473.7.0.1";
                    errors.push(SettingsError::new(
                        field,
                        format!("{text:?} is no OID of a notification"),
                        mend,
                    ));
                }
                read
            };
            let firing = oid("oid", &setting.oid);
            let resolved = setting.resolved_oid.as_deref().map(|text| oid("resolved_oid", text));
            if let Some(firing) = firing {
                traps.push(Trap { matchers, firing, resolved: resolved.flatten() });
            }
        }
        if errors.is_empty() { Ok(traps) } else { Err(errors) }
    }
}

impl Warnings for Settings {
    fn warnings(&self) -> Vec<SettingsError> {
        if self.enterprise.unwrap_or(ENTERPRISE_DEFAULT) != ENTERPRISE_DEFAULT {
            return Vec::new();
        }
        vec![SettingsError::new(
            "enterprise",
            "traps go out under 32473, the enterprise number for documentation (RFC 5612), which others use too",
            "set `enterprise` to your site's number and load the MIB of `ams2 mib generate --enterprise NUMBER`",
        )]
    }
}

/// An OID that a notification can have in every version: v1 takes its last number as a positive one of 31 bits.
fn read_oid(text: &str) -> Option<Vec<u32>> {
    let text = text.strip_prefix('.').unwrap_or(text);
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let arc = |text: &str| if is_number(text) { text.parse().ok() } else { None };
    let arcs: Option<Vec<u32>> = text.split('.').map(arc).collect();
    arcs.filter(|arcs| match arcs[..] {
        [first, second, _, .., last] => {
            (first < 2 && second < 40 || first == 2 && second < 1000)
                && arcs.len() <= OID_ARCS_MAX
                && i32::try_from(last).is_ok()
        }
        _ => false,
    })
}

#[async_trait::async_trait]
impl Action for SnmpTrap {
    fn batch_max(&self) -> usize {
        KIND.defaults.batch_max as usize
    }

    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        if self.inform { self.inform(batch, end).await } else { self.trap(batch, end).await }
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        let named = |words: String| format!("{}: {words}", self.sender.place);
        self.sender.probe(Instant::now() + deadline).await.map(named).map_err(named)
    }
}

impl SnmpTrap {
    /// One trap after the other, until one does not leave.
    async fn trap(&self, batch: &[Delivery], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut down: Option<Failure> = None;
        for delivery in batch {
            if let Some(failure) = &down {
                // No better luck with the rest of them.
                results.push(Err(failure.clone()));
                continue;
            }
            let notifications = written(delivery, || self.notifications.of(delivery));
            let count = notifications.len();
            let mut result = Ok(Receipt::Sent);
            for (done, notification) in notifications.into_iter().enumerate() {
                if let Err(trouble) = self.sender.send(notification, end).await {
                    let words = format!("{}: {}", self.sender.place, trouble.words());
                    let of_several = || format!("{words} ({done} of {count} alerts are told)");
                    result = Err(Failure::transient(if count == 1 { words.clone() } else { of_several() }));
                    down = Some(Failure::transient(words));
                    break;
                }
            }
            results.push(result);
        }
        results
    }

    /// Informs, several at once: an answer from far away takes its time. Those about one alert go one after the other, in order.
    async fn inform(&self, batch: &[Delivery], end: Instant) -> Vec<Result<Receipt, Failure>> {
        let mut informs = Vec::new();
        for (position, delivery) in batch.iter().enumerate() {
            let notifications = written(delivery, || self.notifications.of(delivery));
            let told =
                progress::wanted(delivery).into_iter().zip(progress::alerts(delivery)).zip(notifications);
            informs.extend(told.map(|((is_wanted, (_, alert)), notification)| Inform {
                delivery: position,
                alert: alert.fingerprint,
                notification: is_wanted.then_some(notification),
                fate: if is_wanted { Fate::Waits } else { Fate::Known },
            }));
        }
        let down = self.tell(&mut informs, end).await;
        let answers = informs.iter().filter(|inform| inform.fate == Fate::Answered).count();
        let why = match down {
            Some(words) => words,
            None => format!("no time was left: the manager answered {answers} in this attempt"),
        };
        let mut rest = &informs[..];
        let outcome = |(position, delivery): (usize, &Delivery)| {
            let count = rest.iter().take_while(|inform| inform.delivery == position).count();
            let (own, others) = rest.split_at(count);
            rest = others;
            self.outcome(delivery, own, &why, answers > 0)
        };
        batch.iter().enumerate().map(outcome).collect()
    }

    /// Tells what can be told. Where the manager says nothing at all that ends, with the words for it.
    async fn tell(&self, informs: &mut [Inform], end: Instant) -> Option<String> {
        // Each waits for the one before it that is about the same alert.
        let mut after = vec![None; informs.len()];
        let (mut ready, mut last) = (BTreeSet::new(), HashMap::new());
        for (at, inform) in informs.iter().enumerate().filter(|(_, inform)| inform.fate == Fate::Waits) {
            match last.insert(inform.alert, at) {
                Some(before) => after[before] = Some(at),
                None => _ = ready.insert(at),
            }
        }
        let (mut under_way, mut down, mut late) = (JoinSet::new(), None, None);
        loop {
            while under_way.len() < INFORMS_AT_ONCE
                && down.is_none()
                && Instant::now() < end
                && let Some(at) = ready.pop_first()
                && let Some(notification) = informs[at].notification.take()
            {
                let sender = self.sender.clone();
                under_way.spawn(async move { (at, sender.send(notification, end).await) });
            }
            let (at, result) = match under_way.join_next().await {
                Some(Ok(ended)) => ended,
                // It panicked: it stays untold.
                Some(Err(_)) => continue,
                None if informs.iter().any(|inform| inform.fate == Fate::Answered) => return down,
                None => return down.or(late),
            };
            match result {
                Ok(()) => {
                    informs[at].fate = Fate::Answered;
                    ready.extend(after[at]);
                }
                // No better luck with the rest of them.
                Err(Trouble::Down(words)) => down = down.or(Some(words)),
                Err(Trouble::Late(words)) => late = Some(words),
                Err(Trouble::Alone(words)) => {
                    let mut waits = Some(at);
                    while let Some(at) = waits {
                        informs[at].fate = Fate::Failed(words.clone());
                        waits = after[at];
                    }
                }
            }
        }
    }

    /// What became of a delivery; `why` it is not what it could be where its informs have no words of their own.
    fn outcome(
        &self,
        delivery: &Delivery,
        informs: &[Inform],
        why: &str,
        is_answering: bool,
    ) -> Result<Receipt, Failure> {
        let place = &self.sender.place;
        let of = |fate: Fate| informs.iter().filter(|inform| inform.fate == fate).count();
        let (answered, count) = (of(Fate::Answered), informs.len() - of(Fate::Known));
        if answered == count {
            let what = if count == 1 { String::new() } else { format!(" {count} informs") };
            return Ok(Receipt::delivered(format!("{place} answered{what}")));
        }
        let own = informs.iter().find_map(|inform| match &inform.fate {
            Fate::Failed(words) => Some(words.as_str()),
            _ => None,
        });
        let why = own.unwrap_or(why);
        if answered > 0 {
            let is_told: Vec<bool> =
                informs.iter().map(|inform| matches!(inform.fate, Fate::Answered | Fate::Known)).collect();
            return Ok(Receipt::Delivered {
                reply: format!("{place} answered {answered} of {count} informs; {why}"),
                memo: None,
                unfinished: progress::left(delivery, &is_told),
                refused: Vec::new(),
            });
        }
        // A manager that answers others is well.
        let failure = if is_answering { Failure::deferred } else { Failure::transient };
        Err(failure(format!("{place}: {why}")))
    }
}

/// One alert of a delivery on its way.
struct Inform {
    /// Which delivery of the call.
    delivery: usize,
    alert: Fingerprint,
    /// What is to be said, until it is.
    notification: Option<Notification>,
    fate: Fate,
}

/// What became of an inform.
#[derive(PartialEq)]
enum Fate {
    /// It was answered in an earlier attempt.
    Known,
    /// It is not told yet.
    Waits,
    Answered,
    /// It alone, or one before it about the same alert, was not taken, with these words.
    Failed(String),
}

#[cfg(test)]
mod tests;
