//! The configuration: YAML into what the core decides by and what the shell works with, and every mistake at once.
//!
//! Where to start reading: [`load`], then `read` (what the keys mean), `walk` (how a map is taken apart), `tree`
//! (YAML with places), `diagnostic` (how mistakes are said).

// A mistake travels up at most once for each file: its size costs nothing.
#![allow(clippy::result_large_err)]

mod diagnostic;
mod read;
mod schema;
mod secrecy;
mod sources;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod walk;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ams2_core::{
    Config,
    config::{ActionId, Removed},
};
use ams2_handlers::{ActionSettings, Limits as ActionLimits};
use smol_str::SmolStr;

use crate::{
    journal,
    originator::{
        Clients, HttpLimits, Limits, SocketSettings,
        inbound::{Hook, Hooks},
        mapping::Mapping,
        snmp::SnmpSettings,
        syslog::{SyslogSettings, Transport},
    },
};

pub use diagnostic::{Diagnostic, Gravity, Place, lines, snippets, whereabouts};
pub(crate) use read::{is_login_of_proxy, is_secret_header};
pub use schema::schema;
pub use sources::{SourceFile, Sources};

use sources::Include;

/// The built-in default.
pub const DEFAULT: &str = include_str!("../../config/default.yaml");

/// A configuration that is right.
#[derive(Clone)]
pub struct Loaded {
    /// What decisions depend on.
    pub core: Config,
    /// Its files.
    pub sources: Sources,
    /// The text, all files together, with secret references and never values.
    pub text: String,
    /// The HTTP listener; `None` when the config has none.
    pub http: Option<Http>,
    /// The Unix socket; `None` when the config has none.
    pub socket: Option<SocketSettings>,
    /// Syslog; `None` when the config has none.
    pub syslog: Option<Syslog>,
    /// SNMP; `None` when the config has none.
    pub snmp: Option<Snmp>,
    /// Who may come.
    pub clients: Arc<Clients>,
    /// Limits of alerts.
    pub alert_limits: Limits,
    /// Web hooks of other tools.
    pub inbound: Arc<Hooks>,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Settings of the journal.
    pub journal: journal::Options,
    /// Every action with its settings, in the order of the file.
    pub actions: Vec<(ActionId, ActionSettings, ActionLimits)>,
    /// What becomes of deliveries of actions that are gone.
    pub removed: Vec<(ActionId, Removed)>,
    /// Where this server is seen from outside; may be empty.
    pub external_url: SmolStr,
    /// What this server is called by others.
    pub server_name: SmolStr,
    /// Whether the command line says it: then it holds for what former configs decided, too.
    pub is_url_overridden: bool,
    /// Templates that the texts of its actions share.
    pub templates: ams2_handlers::render::Shared,
    /// What may not be as meant.
    pub warnings: Vec<Diagnostic>,
}

/// The HTTP listener.
#[derive(Clone)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its certificate and key.
    pub tls: Option<crate::originator::Tls>,
    /// Names that a request's `Host` may have besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Whether it may be reached from outside without TLS and tokens.
    pub insecure: bool,
    /// What stands before every path; may be empty.
    pub prefix: SmolStr,
    /// Limits.
    pub limits: HttpLimits,
}

/// The listeners of syslog: one at least.
#[derive(Clone)]
pub struct Syslog {
    /// Where each transport listens.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// What they share.
    pub settings: SyslogSettings,
}

/// The listener of SNMP.
#[derive(Clone)]
pub struct Snmp {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it goes by.
    pub settings: SnmpSettings,
}

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The data folder.
    pub data_dir: Option<PathBuf>,
    /// Where HTTP listens.
    pub listen: Option<SocketAddr>,
    /// What stands before every path.
    pub prefix: Option<SmolStr>,
    /// Where this server is seen from outside.
    pub external_url: Option<SmolStr>,
    /// Values that `${env:NAME}` stands for before the environment is asked: secrets of a configuration that was brought
    /// over.
    pub variables: std::collections::BTreeMap<String, String>,
}

/// A configuration that is wrong: its files, as far as they could be read, and every mistake in their order.
#[derive(Debug)]
pub struct Wrong {
    /// The files.
    pub sources: Sources,
    /// The mistakes, and warnings among them.
    pub found: Vec<Diagnostic>,
}

/// Reads a configuration file, and what it includes.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Wrong> {
    let name = path.display().to_string();
    let text = tree::read(path).map_err(|mistake| Wrong {
        sources: Sources::one(name.clone(), ""),
        found: vec![Diagnostic { file: name.clone(), ..mistake }],
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    load_text(&name, &text, folder, overrides)
}

/// Reads a configuration's text. Paths of secrets in it are relative to `folder`; `name` stands in messages.
pub fn load_text(name: &str, text: &str, folder: &Path, overrides: &Overrides) -> Result<Loaded, Wrong> {
    let mut sources = Sources::one(name, text);
    let named = |sources: &Sources, found: Vec<Diagnostic>| -> Vec<Diagnostic> {
        let shown = |diagnostic: Diagnostic| {
            let place = diagnostic.place;
            let is_hidden = secrecy::is_hidden(sources.text(place.file), place.line);
            Diagnostic {
                file: sources.name(place.file).to_owned(),
                message: secrecy::masked(&diagnostic.message),
                mend: secrecy::masked(&diagnostic.mend),
                beside_secret: diagnostic.beside_secret || is_hidden,
                ..diagnostic
            }
        };
        found.into_iter().map(shown).collect()
    };
    let read = sources.parse(folder, Include::Follow).and_then(|(tree, mistakes)| {
        read::read(&tree, mistakes, &sources, folder, overrides).map_err(|found| {
            let setting = |place| tree.path_of(place).unwrap_or_default();
            found.into_iter().map(|one| Diagnostic { setting: setting(one.place), ..one }).collect()
        })
    });
    match read {
        Ok(mut loaded) => {
            loaded.warnings = named(&sources, loaded.warnings);
            Ok(loaded)
        }
        Err(found) => Err(Wrong { found: named(&sources, found), sources }),
    }
}

/// A web hook as a file of `config/inbound` describes it; every mistake a line.
pub(crate) fn hook(name: &str, text: &str) -> Result<Hook, String> {
    let tree = tree::parse(text, 0).map_err(|mistake| lines(&[mistake]))?;
    let (hook, found) = read::hook(name, &tree);
    if found.is_empty() { Ok(hook) } else { Err(lines(&found)) }
}

/// Rules that come with ams2; every mistake a line.
pub(crate) fn rules(text: &str) -> Result<Mapping, String> {
    let tree = tree::parse(text, 0).map_err(|mistake| lines(&[mistake]))?;
    let (mapping, found) = read::rules(&tree);
    if found.is_empty() { Ok(mapping) } else { Err(lines(&found)) }
}

/// What a former config says of how things are told.
#[derive(Debug)]
pub struct FormerConfig {
    /// Its actions.
    pub actions: Vec<(ActionId, ActionSettings, ActionLimits)>,
    /// Where it was seen from outside.
    pub external_url: SmolStr,
    /// Its severity words.
    pub severities: ams2_core::Severities,
}

/// Reads of a config that was in force once what its texts were. It was right then; what cannot be read now (a secret
/// that is gone) is passed over.
pub fn former(text: &str, data_dir: &Path) -> FormerConfig {
    let mut sources = Sources::from_text(text);
    match sources.parse(Path::new("."), Include::Done) {
        Ok((tree, _)) => read::former(&tree, &sources, data_dir),
        Err(_) => FormerConfig {
            actions: Vec::new(),
            external_url: SmolStr::default(),
            severities: ams2_core::Severities::default(),
        },
    }
}

/// An action as people write it, `receiver/kind/name`; `None` if it is not that.
pub fn action_id(text: &str) -> Option<ActionId> {
    let mut parts = text.rsplitn(3, '/');
    let (name, kind, receiver) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ActionId { receiver: receiver.into(), kind: kind.into(), name: name.into() })
}

/// Where a server is seen from outside, without a `/` at its end; `None` if it cannot be that: paths and queries are appended to it.
pub fn external_url(text: &str) -> Option<SmolStr> {
    let url: hyper::Uri = text.parse().ok()?;
    let is_web =
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    (is_web && !text.contains(['?', '#'])).then(|| text.trim_end_matches('/').into())
}

/// How to mend a URL that [`external_url`] refuses.
pub const EXTERNAL_URL_MEND: &str = "write it like https://ams2.example.com/alerts, without `?` and `#`";
/// How to mend what [`prefix`] refuses.
pub const PREFIX_MEND: &str = "write it like /alerts: letters, digits, `-`, `_`, `.`, `~` and `/`";

/// What stands before every path, as it is compared: without a `/` at its end, empty for `/`; `None` if it cannot be that.
pub fn prefix(text: &str) -> Option<SmolStr> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
    let prefix = text.trim_end_matches('/');
    let has_names = prefix.split('/').skip(1).all(|name| !matches!(name, "" | "." | ".."));
    let right = text.starts_with('/') && text.chars().all(is_plain) && has_names;
    right.then(|| prefix.into())
}

/// The known word nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
        // Of one letter nothing is left when another takes its place.
        .filter(|(distance, candidate)| {
            let length = candidate.chars().count();
            *distance <= 1 + length / 4 && *distance < length.max(word.chars().count())
        })
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
