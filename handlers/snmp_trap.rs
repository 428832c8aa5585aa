//! SNMP traps and informs, v1, v2c and v3 (RFC 3416, 3417, 3584): one notification for each alert, by AMS2-MIB.
//!
//! A trap is sent and nobody says whether it arrived; an inform is delivered once the manager has answered it. v3 always
//! authenticates and encrypts. What the manager does not take (an unknown user, another password) waits for whoever mends
//! the setting, as does everything else that fails. A delivery of which only some alerts went out is told again whole: its
//! varbinds carry the delivery's id, by which a manager sees a repetition.

mod engine;
pub mod mib;
mod sender;
mod varbinds;

use std::{sync::Arc, time::Duration};

use ams2_core::{
    Severities,
    matcher::{Compiled, Matcher},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, FileSetting, Kind, Receipt, Secret, SettingsError,
    net::HostPort,
    render::{Scope, Template},
    settings::{Warnings, settings},
    units,
};
use mib::ENTERPRISE_DEFAULT;
use sender::{Access, MESSAGE_BYTES_MAX, Sender, User};
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
        FileSetting { key: "community_file", into: "community", secret: true },
        FileSetting { key: "auth_password_file", into: "auth_password", secret: true },
        FileSetting { key: "priv_password_file", into: "priv_password", secret: true },
    ],
    defaults: Defaults {
        send_resolved: true,
        max_in_flight: 2,
        batch_max: 100,
        timeout: units::Duration::from_seconds(10),
        max_alerts: 0,
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

/// Which SNMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnmpVersion {
    /// SNMPv1 (RFC 1157).
    V1,
    /// SNMPv2c (RFC 1901).
    V2c,
    /// SNMPv3 (RFC 3410).
    V3,
}

/// How a v3 user authenticates (RFC 3414, RFC 7860).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// HMAC-MD5-96: known here so that it is refused in plain words.
    #[schemars(skip)]
    Md5,
    /// HMAC-SHA-96.
    Sha1,
    /// HMAC-128-SHA-224.
    Sha224,
    /// HMAC-192-SHA-256.
    Sha256,
    /// HMAC-256-SHA-384.
    Sha384,
    /// HMAC-384-SHA-512.
    Sha512,
}

/// How a v3 user encrypts (RFC 3826).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Privacy {
    /// CBC-DES: known here so that it is refused in plain words.
    #[schemars(skip)]
    Des,
    /// AES-128.
    Aes128,
    /// AES-192, with the longer key made as net-snmp does.
    Aes192,
    /// AES-256, with the longer key made as net-snmp does.
    Aes256,
}

/// YAML reads `1` and `3` as numbers.
impl<'de> serde::Deserialize<'de> for SnmpVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<SnmpVersion, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = SnmpVersion;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("1, 2c or 3")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<SnmpVersion, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<SnmpVersion, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<SnmpVersion, E> {
                match value {
                    "1" => Ok(SnmpVersion::V1),
                    "2c" => Ok(SnmpVersion::V2c),
                    "3" => Ok(SnmpVersion::V3),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for SnmpVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SnmpVersion".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [1, 3, "1", "2c", "3"] })
    }
}

/// The usual port of managers (RFC 3417 section 3.2).
const PORT: u16 = 162;
/// Shortest message limit: below it not even what is never cut fits.
const MESSAGE_BYTES_MIN: u64 = 1024;
/// Fits into one packet of 1500 bytes, with room for tunnels.
const MESSAGE_BYTES_DEFAULT: u64 = 1400;
/// RFC 3414 section 5: usmUserName has at most 32 bytes.
const USER_BYTES_MAX: usize = 32;
/// Longest community: longer ones are a mistaken file.
const COMMUNITY_BYTES_MAX: usize = 255;
/// RFC 3414 section 11.2: passwords have at least 8 characters.
const PASSWORD_BYTES_MIN: usize = 8;
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
        let traps = self.traps().map_err(|found| errors.extend(found));
        let mut template = |field: &str, source: &Option<String>| {
            let compiled =
                source.as_deref().map(|source| Template::compile(source, Scope::Alert)).transpose();
            compiled.unwrap_or_else(|error| {
                let line = error.line.map_or(String::new(), |line| format!(" (line {line} of the template)"));
                errors.push(SettingsError::new(field, format!("{error}{line}"), "correct the template"));
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

    fn version(&self) -> SnmpVersion {
        self.version.unwrap_or(SnmpVersion::V2c)
    }

    /// Settings of one version given to another: a misunderstanding that should not pass in silence.
    fn misplaced(&self) -> Vec<SettingsError> {
        let is_v3 = self.version() == SnmpVersion::V3;
        let word = self.version().word();
        let rows = [
            ("community", self.community.is_some() && is_v3),
            ("user", self.user.is_some() && !is_v3),
            ("auth", self.auth.is_some() && !is_v3),
            ("auth_password", self.auth_password.is_some() && !is_v3),
            ("priv", self.privacy.is_some() && !is_v3),
            ("priv_password", self.priv_password.is_some() && !is_v3),
        ];
        let wrong = rows.into_iter().filter(|(_, is_wrong)| *is_wrong);
        let mend = if is_v3 { "remove it" } else { "remove it, or say `version: 3`" };
        let mut errors: Vec<SettingsError> = wrong
            .map(|(field, _)| SettingsError::new(field, format!("version {word} has no `{field}`"), mend))
            .collect();
        if self.inform == Some(true) && self.version() == SnmpVersion::V1 {
            let mend = "use version 2c or 3, or remove `inform`";
            errors.push(SettingsError::new("inform", "version 1 has no informs", mend));
        }
        errors
    }

    fn access(&self) -> Result<Access, Vec<SettingsError>> {
        let community = || match &self.community {
            Some(community) if is_text(community.expose(), 1, COMMUNITY_BYTES_MAX) => Ok(community.clone()),
            Some(_) => Err(vec![SettingsError::new(
                "community",
                "a community that is empty, longer than 255 bytes or has control characters",
                "write it as the manager knows it",
            )]),
            None => Err(vec![SettingsError::new(
                "community",
                format!("version {} needs a community, and there is no default one", self.version().word()),
                "add `community_file`, or `community: ${env:NAME}`",
            )]),
        };
        match self.version() {
            SnmpVersion::V1 => community().map(Access::V1),
            SnmpVersion::V2c => community().map(Access::V2c),
            SnmpVersion::V3 => self.user().map(Access::V3),
        }
    }

    fn user(&self) -> Result<User, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: String, mend: &str| {
            errors.push(SettingsError::new(field, message, mend));
        };
        let name = self.user.clone().unwrap_or_default();
        if !is_text(&name, 1, USER_BYTES_MAX) {
            let message = match self.user {
                None => "version 3 needs a user".to_owned(),
                Some(_) => format!("{name:?} is no name of a user"),
            };
            wrong("user", message, "use 1 to 32 bytes, as the manager knows it");
        }
        let authentication = self.auth.unwrap_or(Authentication::Sha256);
        if authentication == Authentication::Md5 {
            wrong(
                "auth",
                "MD5 protects nothing any more".into(),
                "use sha256, or what the manager has of sha1 to sha512",
            );
        }
        let privacy = self.privacy.unwrap_or(Privacy::Aes128);
        if privacy == Privacy::Des {
            wrong(
                "priv",
                "DES protects nothing any more".into(),
                "use aes128, or what the manager has of aes192 and aes256",
            );
        }
        for (field, password) in
            [("auth_password", &self.auth_password), ("priv_password", &self.priv_password)]
        {
            match password {
                None => {
                    let mend = format!("add `{field}_file`, or `{field}: ${{env:NAME}}`");
                    wrong(
                        field,
                        format!("version 3 needs `{field}`: alerts do not travel in the clear"),
                        &mend,
                    );
                }
                Some(password) if password.expose().len() < PASSWORD_BYTES_MIN => {
                    wrong(
                        field,
                        "shorter than 8 characters (RFC 3414)".into(),
                        "use a longer one, there and here",
                    );
                }
                Some(_) => {}
            }
        }
        match (&self.auth_password, &self.priv_password) {
            (Some(authentication_password), Some(privacy_password)) if errors.is_empty() => Ok(User {
                name,
                authentication,
                authentication_password: authentication_password.clone(),
                privacy,
                privacy_password: privacy_password.clone(),
            }),
            _ => Err(errors),
        }
    }

    fn traps(&self) -> Result<Vec<Trap>, Vec<SettingsError>> {
        let (mut traps, mut errors) = (Vec::new(), Vec::new());
        let settings = self.traps.as_deref().unwrap_or_default();
        if settings.len() > TRAPS_MAX {
            let message = format!("{} entries", settings.len());
            errors.push(SettingsError::new("traps", message, format!("use at most {TRAPS_MAX}")));
        }
        for (position, setting) in settings.iter().enumerate().take(TRAPS_MAX) {
            let mut matchers: Vec<Compiled> = Vec::new();
            for (number, text) in setting.matchers.iter().enumerate() {
                match Matcher::parse(text).and_then(|matcher| matcher.compile(&Severities::default())) {
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

impl SnmpVersion {
    fn word(self) -> &'static str {
        match self {
            SnmpVersion::V1 => "1",
            SnmpVersion::V2c => "2c",
            SnmpVersion::V3 => "3",
        }
    }
}

fn is_text(text: &str, bytes_min: usize, bytes_max: usize) -> bool {
    (bytes_min..=bytes_max).contains(&text.len()) && !text.contains(char::is_control)
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
        let at_once = if self.inform { INFORMS_AT_ONCE } else { 1 };
        let mut results = Vec::with_capacity(batch.len());
        let mut down: Option<String> = None;
        for some in batch.chunks(at_once) {
            if let Some(words) = &down {
                // No better luck with the rest of them.
                results.extend(some.iter().map(|_| Err(Failure::transient(words.clone()))));
                continue;
            }
            let told = match some {
                [one] => vec![tell(&self.sender, self.notifications.of(one), end).await],
                some => self.tell_together(some, end).await,
            };
            for told in told {
                results.push(match told {
                    Ok(count) => Ok(self.receipt(count)),
                    Err(words) => {
                        let words = format!("{}: {words}", self.sender.place);
                        down = Some(words.clone());
                        Err(Failure::transient(words))
                    }
                });
            }
        }
        results
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        let named = |words: String| format!("{}: {words}", self.sender.place);
        self.sender.probe(Instant::now() + deadline).await.map(named).map_err(named)
    }
}

impl SnmpTrap {
    /// Several deliveries at once, each in order: an answer from far away takes its time.
    async fn tell_together(&self, some: &[Delivery], end: Instant) -> Vec<Result<usize, String>> {
        let mut under_way = JoinSet::new();
        for (position, delivery) in some.iter().enumerate() {
            let (sender, notifications) = (self.sender.clone(), self.notifications.of(delivery));
            under_way.spawn(async move { (position, tell(&sender, notifications, end).await) });
        }
        let mut told = vec![Err("it was given up".to_owned()); some.len()];
        while let Some(joined) = under_way.join_next().await {
            if let Ok((position, result)) = joined {
                told[position] = result;
            }
        }
        told
    }

    fn receipt(&self, count: usize) -> Receipt {
        match (self.inform, count) {
            (false, _) => Receipt::Sent,
            (true, 1) => Receipt::delivered(format!("{} answered", self.sender.place)),
            (true, count) => Receipt::delivered(format!("{} answered {count} informs", self.sender.place)),
        }
    }
}

/// One notification after the other; how many they were.
async fn tell(sender: &Sender, notifications: Vec<Notification>, end: Instant) -> Result<usize, String> {
    let count = notifications.len();
    for (done, notification) in notifications.into_iter().enumerate() {
        let sent = sender.send(notification, end).await;
        sent.map_err(|words| {
            if count == 1 { words } else { format!("{words} ({done} of {count} alerts are told)") }
        })?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
