//! What every action has in common: its entry in the table, its common settings, and how it is built.

use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

use ams2_core::Wall;
use smol_str::SmolStr;

use crate::units;

/// A kind of action: its entry in the [`crate::TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its key in the configuration, and its label in metrics: `event_log`.
    pub key: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Settings that build on any machine, as YAML, each with its key: a test builds every one.
    pub examples: &'static [&'static str],
    /// Settings whose value the configuration reader takes from a file that another key names.
    pub files: &'static [FileSetting],
    /// What holds where nothing is set.
    pub defaults: Defaults,
}

/// A setting that is read from a file when the configuration is: a password, or certificates. So building an action
/// reads nothing, and a file that goes away later takes nothing along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSetting {
    /// The key that names the file, relative to the configuration: `password_file`; within another setting
    /// `tls.key_file`.
    pub key: &'static str,
    /// The setting that gets what the file holds: `password`.
    pub into: &'static str,
    /// Whether it is a secret: then others may not read the file, and the setting takes nothing but `${env:NAME}`
    /// instead.
    pub secret: bool,
    /// Whether the setting may be written where the secret would not be one: the URL of a web hook.
    pub inline: bool,
}

impl FileSetting {
    /// A secret: from the file or the environment alone.
    pub const fn secret(key: &'static str, into: &'static str) -> FileSetting {
        FileSetting { key, into, secret: true, inline: false }
    }

    /// What everybody may read: certificates.
    pub const fn public(key: &'static str, into: &'static str) -> FileSetting {
        FileSetting { key, into, secret: false, inline: false }
    }
}

/// What holds for a kind of action where nothing is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Whether it is told of resolves.
    pub send_resolved: bool,
    /// Most attempts under way at once.
    pub max_in_flight: u32,
    /// Most deliveries that one call may carry.
    pub batch_max: u32,
    /// Longest time for one attempt.
    pub timeout: units::Duration,
    /// Most alerts that a message shows; 0 means all.
    pub max_alerts: u32,
    /// Whether it is never given up for its age, and what is critical goes first: the far end is a server of ours.
    pub patient: bool,
}

/// The settings that every action takes. `None` means the kind's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// Names the action for good, so that it keeps its deliveries when it moves in the list.
    pub name: Option<SmolStr>,
    /// Whether it is told of resolves.
    pub send_resolved: Option<bool>,
    /// Most attempts under way at once.
    pub max_in_flight: Option<u32>,
    /// Most attempts in any 60 s; unlimited unless set.
    pub max_per_minute: Option<u32>,
    /// Longest time for one attempt.
    pub timeout: Option<units::Duration>,
    /// Most alerts that a message shows; 0 means all.
    pub max_alerts: Option<u32>,
}

/// What the router must know of an action, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The `name` setting; without it the action's position names it.
    pub name: Option<SmolStr>,
    /// Whether it is told of resolves.
    pub send_resolved: bool,
    /// Most attempts under way at once.
    pub max_in_flight: u32,
    /// Most attempts in any 60 s; `None` means no limit.
    pub max_per_minute: Option<u32>,
    /// Longest time for one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Most deliveries that one call may carry.
    pub batch_max: u32,
    /// Most alerts that a message shows; 0 means all.
    pub max_alerts: u32,
    /// Whether it is never given up for its age, and what is critical goes first.
    pub patient: bool,
}

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SettingsError {
    /// Which setting: its key, for a list with the position from 0 (`command[1]`), for what is missing the
    /// missing key.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub mend: String,
}

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> Wall + Send + Sync>;

/// What building an action may know of the process.
#[derive(Clone)]
pub struct BuildContext {
    /// The data folder: relative paths start here.
    pub data_dir: PathBuf,
    /// The program that limits itself and starts another (`ams2 launch`).
    pub launcher: PathBuf,
    /// This machine's name, for syslog.
    pub hostname: String,
    /// The wall clock; only the age of files asks it.
    pub clock: Clock,
    /// Which severity words have which rank.
    pub severities: ams2_core::Severities,
}

/// Longest time for one attempt that can be set.
const TIMEOUT_MAX: units::Duration = units::Duration::from_seconds(3600);
/// More attempts at once of one action than this are a storm, not a throughput.
const IN_FLIGHT_MAX: u32 = 1000;
/// Longest name of an action, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// This machine's name; empty where the system does not say it.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

impl BuildContext {
    /// The usual context: this machine's name and clock; the running program is its own launcher.
    pub fn new(data_dir: impl Into<PathBuf>, severities: ams2_core::Severities) -> BuildContext {
        BuildContext {
            data_dir: data_dir.into(),
            // Still the program that runs when an upgrade has put a new one in its place.
            launcher: "/proc/self/exe".into(),
            hostname: hostname(),
            clock: Arc::new(system_clock),
            severities,
        }
    }
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildContext").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

fn system_clock() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl SettingsError {
    /// One mistake: which setting, what is wrong, how to mend it.
    pub fn new(
        field: impl Into<String>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> SettingsError {
        SettingsError { field: field.into(), message: message.into(), mend: mend.into() }
    }
}

impl Common {
    pub(crate) fn limits(&self, defaults: &Defaults) -> Limits {
        Limits {
            name: self.name.clone(),
            send_resolved: self.send_resolved.unwrap_or(defaults.send_resolved),
            max_in_flight: self.max_in_flight.unwrap_or(defaults.max_in_flight),
            max_per_minute: self.max_per_minute,
            timeout_ms: self.timeout.unwrap_or(defaults.timeout).ms(),
            batch_max: defaults.batch_max,
            max_alerts: self.max_alerts.unwrap_or(defaults.max_alerts),
            patient: defaults.patient,
        }
    }

    pub(crate) fn check(&self) -> Vec<SettingsError> {
        let mut errors = Vec::new();
        let mut wrong =
            |field: &str, message: String, mend: &str| errors.push(SettingsError::new(field, message, mend));
        if let Some(name) = &self.name
            && (name.is_empty()
                || name.len() > NAME_BYTES_MAX
                || name.contains(|c: char| c.is_control() || c == '/'))
        {
            wrong(
                "name",
                format!("{name:?} is no name"),
                "use 1 to 64 bytes without `/` and control characters",
            );
        }
        if let Some(count) = self.max_in_flight.filter(|count| !(1..=IN_FLIGHT_MAX).contains(count)) {
            wrong("max_in_flight", format!("{count} attempts at once"), "use a number from 1 to 1000");
        }
        if self.max_per_minute == Some(0) {
            wrong(
                "max_per_minute",
                "0 would never tell anybody".into(),
                "use 1 or more, or leave it out for no limit",
            );
        }
        if let Some(timeout) = self.timeout.filter(|timeout| timeout.ms() == 0 || *timeout > TIMEOUT_MAX) {
            wrong("timeout", format!("an attempt of {timeout}"), "use more than 0 and at most 1h");
        }
        errors
    }
}

/// What a kind of action says about settings that work, but perhaps not as meant.
pub(crate) trait Warnings {
    /// Each with the setting that it is about.
    fn warnings(&self) -> Vec<SettingsError> {
        Vec::new()
    }
}

/// A settings struct: the fields given, and those that every action has. Written out, not flattened: serde's
/// `flatten` loses line numbers and lets misspelt keys pass.
macro_rules! settings {
    ($(#[$meta:meta])* pub struct Settings { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[$field_meta])* pub $field: $type,)*
            /// Names the action for good, so that it keeps its deliveries when it moves in the list.
            pub name: Option<smol_str::SmolStr>,
            /// Whether it is told of resolves.
            pub send_resolved: Option<bool>,
            /// Most attempts under way at once.
            pub max_in_flight: Option<u32>,
            /// Most attempts in any 60 s; unlimited unless set.
            pub max_per_minute: Option<u32>,
            /// Longest time for one attempt.
            pub timeout: Option<crate::units::Duration>,
            /// Most alerts that a message shows; 0 means all.
            pub max_alerts: Option<u32>,
            /// What its templates may include: of the whole configuration.
            #[serde(skip)]
            pub templates: crate::render::Shared,
        }

        impl Settings {
            pub(crate) fn common(&self) -> crate::Common {
                crate::Common {
                    name: self.name.clone(),
                    send_resolved: self.send_resolved,
                    max_in_flight: self.max_in_flight,
                    max_per_minute: self.max_per_minute,
                    timeout: self.timeout,
                    max_alerts: self.max_alerts,
                }
            }
        }
    };
}

pub(crate) use settings;
