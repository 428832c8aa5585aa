//! The way in for those who come from Prometheus Alertmanager: its API v2, its matchers, and its configuration.
//!
//! Where to start reading: `api` (the paths), `matchers` (its two grammars), `export` (our configuration in its words).
//! Nothing here decides anything: alerts and silences are the router's, and change only by inputs.

mod api;
mod export;
mod filter;
pub mod go_template;
pub mod import;
mod matchers;
mod silences;
mod views;

pub use api::{ALERTS, PATHS, bad_alerts, routes};
pub use export::{Exported, export};
pub use import::{Fate, Imported, SecretsTo, read, read_again};
pub use matchers::{MatcherSyntaxError, parse_matcher, parse_matchers};
