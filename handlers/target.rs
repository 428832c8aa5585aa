//! Chat and incident services by web hook, each described by a file in `handlers/targets`: settings, requests, what their answers
//! mean. No service has code of its own.
//!
//! Where to start reading: `file` (what a file may say), then `Target`; `settings` and `build` make an action of what an admin
//! wrote, `ready` is that action, and `round` is one attempt of it.

mod adf;
mod answer;
mod brief;
mod build;
pub(crate) mod escape;
pub(crate) mod file;
mod parts;
mod ready;
mod round;
mod settings;
pub(crate) mod tree;

use std::{
    fmt,
    sync::{LazyLock, OnceLock},
};

use minijinja::value::Value;

use crate::{Defaults, Delivery, FileSetting, Kind, render, units};
use file::{FILES, File};
use parts::Parts;
pub use settings::Settings;
pub(crate) use settings::{Seed, schema};

/// A service: its file, and what the rest of ams2 must know of it.
pub(crate) struct Target {
    pub(crate) file: File,
    /// Its entry in the table.
    pub(crate) kind: Kind,
    /// Every key that its settings may have.
    known: &'static [&'static str],
    parts: OnceLock<Parts>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.kind.key)
    }
}

/// Every service.
pub(crate) static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    let read = |text: &&str| Target::new(serde_saphyr::from_str(text).expect("a test reads every file"));
    FILES.iter().map(read).collect()
});

/// The service with this key.
pub(crate) fn find(key: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.kind.key == key)
}

impl Target {
    fn new(file: File) -> Target {
        // They live as long as the process, once.
        let text = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let secrets = file.settings.iter().filter(|setting| setting.secret);
        let mut files: Vec<FileSetting> = secrets
            .map(|setting| FileSetting::secret(text(&format!("{}_file", setting.name)), text(&setting.name)))
            .collect();
        files.extend([
            FileSetting::public("tls.ca_file", "tls.ca"),
            FileSetting::public("tls.cert_file", "tls.cert"),
            FileSetting::secret("tls.key_file", "tls.key"),
        ]);
        let own = file.settings.iter().map(|setting| text(&setting.name));
        let known: Vec<&'static str> = own.chain(settings::COMMON).collect();
        let examples: Vec<&'static str> = file.config.iter().map(|example| text(example)).collect();
        let kind = Kind {
            key: text(&file.name),
            summary: text(&file.summary),
            examples: examples.leak(),
            files: files.leak(),
            defaults: Defaults {
                send_resolved: true,
                max_in_flight: 2,
                batch_max: 1,
                timeout: units::Duration::from_seconds(30),
                max_alerts: file.max_alerts,
                patient: false,
            },
        };
        Target { file, kind, known: known.leak(), parts: OnceLock::new() }
    }

    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| Parts::compile(&self.file).expect("a test compiles every file"))
    }
}

/// What every template for a chat sees: a delivery, and `brief`.
pub(crate) fn context(delivery: &Delivery) -> Value {
    /// Enough for most chats.
    const BRIEF_CHARS: usize = 3000;
    context_of(delivery, BRIEF_CHARS)
}

fn context_of(delivery: &Delivery, brief_chars: usize) -> Value {
    minijinja::context! { brief => brief::brief(delivery, brief_chars), ..render::context(delivery) }
}

#[cfg(test)]
mod tests;
