//! The actions of ams2: ways to tell somebody, one file each behind one trait, listed in one table.
//!
//! One call of [`Action::deliver`] is one attempt. Actions do not retry, wait or remember: patience is the core's.
//!
//! Where to start reading: [`Delivery`] (what an action is given), [`Action`], then any action's file: each has
//! its settings, its [`Kind`] (the entry in the [`TABLE`]), `build`, `deliver`, helpers and tests.
// The comments of settings are texts of the schema, for editors: an address in them is no link.
#![allow(rustdoc::bare_urls)]

pub mod check_in;
mod delivery;
mod json;
mod lane;
pub mod launch;
mod net;
pub mod render;
#[cfg(test)]
mod sample;
mod secret;
mod settings;
pub mod target;
pub mod text;
pub mod tls;
pub mod units;

pub mod email;
pub mod event_log;
pub mod forward;
pub mod program;
pub mod snmp_trap;
pub mod webhook;

pub use ams2_core::input::{Failure, FailureKind, Receipt, Recipient};
pub use check_in::{Answer, Report};
pub use delivery::{Alert, Delivery, Digest, Group, Overview, Server};
pub use json::notification;
pub use secret::Secret;
pub use settings::{
    BuildContext, Clock, Common, Defaults, FileSetting, Kind, Limits, SettingsError, hostname,
};

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

/// How long after its deadline a call of [`Action::deliver`] may go on to clean up: a program that overstays is
/// asked to end, then killed. A caller that waits less than this past the deadline may lose the receipt.
pub const CLEANUP_MAX: Duration = Duration::from_secs(12);

/// One configured way to tell somebody.
#[async_trait::async_trait]
pub trait Action: fmt::Debug + Send + Sync {
    /// Most deliveries that one call may carry; 1 unless the far end takes batches.
    fn batch_max(&self) -> usize {
        1
    }

    /// Makes one attempt for each delivery, giving up at `deadline` (counted from the call), and answers each in
    /// order. Several may tell of one alert, the earlier first: whoever tells one at a time does it in this order. Where an
    /// earlier one fails, a later one is told again whatever it is answered with. Retries are the router's business. Returns by `deadline` and at most [`CLEANUP_MAX`] more.
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>>;

    /// Says to the far end how this server is, giving up at `deadline` (counted from the call); `None` where that is nothing
    /// that the far end wants to know. An error is in words for the log.
    async fn check_in(&self, report: &Report, deadline: Duration) -> Option<Result<Answer, String>> {
        let _ = (report, deadline);
        None
    }

    /// Asks the far end how it is, without telling anybody anything. `Ok` is its answer in words.
    async fn probe(&self, deadline: Duration) -> Result<String, String>;
}

/// Makes the table, and the type that the configuration reader reads an action into, from the one list. Services that a file
/// describes ([`target`]) follow in it.
macro_rules! actions {
    ($($variant:ident = $module:ident),+ $(,)?) => {
        /// Every kind of action, in the order in which `ams2 action list` shows them.
        pub static TABLE: LazyLock<Vec<&'static Kind>> = LazyLock::new(|| {
            let described = target::TARGETS.iter().map(|target| &target.kind);
            [$(&$module::KIND),+].into_iter().chain(described).collect()
        });

        /// The settings of one action as an admin writes them: the action's key, then its settings.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ActionSettings {
            $(
                #[doc = concat!("Settings of `", stringify!($module), "`.")]
                $variant(Box<$module::Settings>),
            )+
            /// Settings of a service that a file describes.
            Target(Box<target::Settings>),
        }

        impl ActionSettings {
            /// The entry in the [`TABLE`].
            pub fn kind(&self) -> &'static Kind {
                match self {
                    $(ActionSettings::$variant(_) => &$module::KIND,)+
                    ActionSettings::Target(settings) => settings.kind(),
                }
            }

            /// The settings that every action has.
            pub fn common(&self) -> Common {
                match self {
                    $(ActionSettings::$variant(settings) => settings.common(),)+
                    ActionSettings::Target(settings) => settings.common(),
                }
            }

            /// What the router needs to know, with the kind's defaults where nothing is set.
            pub fn limits(&self) -> Limits {
                self.common().limits(&self.kind().defaults)
            }

            /// These settings with the texts of `older`, former settings of the same action: what was decided under
            /// them is told in their words, and goes where these say.
            pub fn with_texts_of(&self, older: &ActionSettings) -> ActionSettings {
                match (self, older) {
                    $((ActionSettings::$variant(new), ActionSettings::$variant(old)) => {
                        let max_alerts = old.max_alerts;
                        let templates = old.templates.clone();
                        let settings = $module::Settings { max_alerts, templates, ..new.with_texts_of(old) };
                        ActionSettings::$variant(Box::new(settings))
                    })+
                    (ActionSettings::Target(new), ActionSettings::Target(old)) if new.kind().key == old.kind().key => {
                        ActionSettings::Target(Box::new(new.with_texts_of(old).with_max_alerts_of(old)))
                    }
                    // Another kind of action has nothing in common with this one.
                    _ => self.clone(),
                }
            }

            /// Lets its templates include `templates`.
            pub fn set_templates(&mut self, templates: render::Shared) {
                match self {
                    $(ActionSettings::$variant(settings) => settings.templates = templates,)+
                    ActionSettings::Target(settings) => settings.set_templates(templates),
                }
            }

            /// What works, but perhaps not as meant.
            pub fn warnings(&self) -> Vec<SettingsError> {
                use settings::Warnings;
                match self {
                    $(ActionSettings::$variant(settings) => settings.warnings(),)+
                    ActionSettings::Target(_) => Vec::new(),
                }
            }

            /// Checks the settings and makes the action, or says every mistake. Touches no network and writes
            /// nothing.
            pub fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
                let mut errors = self.common().check();
                let built = match self {
                    $(ActionSettings::$variant(settings) => settings.build(context),)+
                    ActionSettings::Target(settings) => settings.build(context),
                };
                match built {
                    Ok(action) if errors.is_empty() => Ok(action),
                    Ok(_) => Err(errors),
                    Err(more) => {
                        errors.extend(more);
                        Err(errors)
                    }
                }
            }
        }

        /// One entry: the action's key, and behind it its settings.
        impl<'de> serde::Deserialize<'de> for ActionSettings {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ActionSettings, D::Error> {
                use serde::de::{EnumAccess, Error, VariantAccess, Visitor};
                struct Entry;
                impl<'de> Visitor<'de> for Entry {
                    type Value = ActionSettings;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an action's key and its settings")
                    }

                    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<ActionSettings, A::Error> {
                        let (key, settings) = data.variant::<String>()?;
                        $(if key == $module::KIND.key {
                            return settings.newtype_variant().map(ActionSettings::$variant);
                        })+
                        match target::find(&key) {
                            Some(target) => {
                                let settings = settings.newtype_variant_seed(target::Seed(target))?;
                                Ok(ActionSettings::Target(Box::new(settings)))
                            }
                            None => Err(A::Error::unknown_variant(&key, &[])),
                        }
                    }
                }
                deserializer.deserialize_enum("ActionSettings", &[$($module::KIND.key),+], Entry)
            }
        }

        impl schemars::JsonSchema for ActionSettings {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "ActionSettings".into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut entries = Vec::new();
                let mut entry = |kind: &Kind, settings: serde_json::Value| {
                    entries.push(serde_json::json!({
                        "type": "object",
                        "description": kind.summary,
                        "properties": { kind.key: settings },
                        "additionalProperties": false,
                        "required": [kind.key],
                    }));
                };
                $(entry(&$module::KIND, generator.subschema_for::<$module::Settings>().to_value());)+
                for target in target::TARGETS.iter() {
                    let settings = target::schema(target, generator);
                    generator.definitions_mut().insert(target.kind.key.into(), settings);
                    entry(&target.kind, serde_json::json!({ "$ref": format!("#/definitions/{}", target.kind.key) }));
                }
                schemars::json_schema!({
                    "description": "The settings of one action as an admin writes them: the action's key, then its settings.",
                    "oneOf": entries,
                })
            }
        }
    };
}

actions! {
    Email = email,
    EventLog = event_log,
    Forward = forward,
    Program = program,
    SnmpTrap = snmp_trap,
    Webhook = webhook,
}

impl ActionSettings {
    /// Most deliveries that may wait for it; `None` means no limit.
    pub fn pending_max(&self) -> Option<u32> {
        match self {
            ActionSettings::Forward(settings) => settings.spool_max,
            _ => None,
        }
    }

    /// The file that this action writes to, links followed as far as they lead.
    pub fn file(&self, data_dir: &Path) -> Option<PathBuf> {
        match self {
            ActionSettings::EventLog(settings) => settings.written_file(data_dir),
            _ => None,
        }
    }
}

/// The kind with this key in the configuration.
pub fn kind(key: &str) -> Option<&'static Kind> {
    TABLE.iter().copied().find(|kind| kind.key == key)
}

#[cfg(test)]
mod conformance;
