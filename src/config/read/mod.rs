//! What each key means: the whole file, and what is neither receiver, route nor way in.

mod check_ins;
mod heartbeats;
mod inbound;
mod mapping;
mod muting;
mod originator;
mod receivers;
mod routes;
mod rules;
mod secrets;
mod snmp;
mod syslog;

pub(crate) use receivers::{is_login_of_proxy, is_secret_header};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ams2_core::{
    Config, Severities, Severity,
    config::{GiveUp, RESOLVE_TIMEOUT_MS},
    trail,
};
use ams2_handlers::render::Shared;
use smol_str::SmolStr;

use routes::Says;

use super::{
    Diagnostic, Gravity, Loaded, Overrides, Place, Sources,
    tree::{Node, Value},
    walk::Found,
};
use crate::{
    journal,
    originator::{Limits, inbound::Hook, mapping::Mapping},
};

/// Labels that ams2 sets on every own alert.
const OWN_NAMES: [&str; 4] = ["source", "event", "event_id", "severity"];
/// Most labels that it sets on one: those, and three about a delivery, a client or a heartbeat.
const OWN_COUNT: usize = 7;
/// Room for them and for its words, in bytes.
const OWN_BYTES: usize = 8 << 10;

/// Most that may be kept free of the disk: more would refuse everybody.
const FREE_BYTES_MIN_MAX: u64 = 1 << 40;

struct Reader<'a> {
    found: Found,
    folder: &'a Path,
    overrides: &'a Overrides,
    severities: Severities,
    /// Whether the config was in force once: then it was right, and what files it named may be gone.
    is_former: bool,
    /// Receivers with an action that is wrong: what would follow from their lack of actions is not said as well.
    mistaken_receivers: Vec<SmolStr>,
    /// Names of the time intervals that routes may be bound to.
    intervals: Vec<SmolStr>,
    /// Templates that the texts of actions may include.
    templates: Shared,
}

pub(super) fn read(
    tree: &Node,
    mistakes: Vec<Diagnostic>,
    sources: &Sources,
    folder: &Path,
    overrides: &Overrides,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reader = Reader::new(Found::with(overrides.variables.clone()), folder, overrides);
    if sources.0.len() > 1 {
        reader.found.names = sources.0.iter().map(|file| file.name.clone()).collect();
    }
    reader.found.list = mistakes;
    reader.read_templates(sources);
    reader.found.duplicates(tree);
    let loaded = reader.whole(tree, sources);
    let mut found = reader.found.hidden();
    found.sort_by_key(|diagnostic| diagnostic.place);
    match loaded {
        Some(mut loaded) if found.iter().all(|diagnostic| diagnostic.gravity != Gravity::Error) => {
            loaded.warnings = found;
            Ok(loaded)
        }
        _ => Err(found),
    }
}

/// See [`super::former`].
pub(super) fn former(tree: &Node, sources: &Sources, data_dir: &Path) -> super::FormerConfig {
    let overrides = Overrides::default();
    // It was set then; now it stands in no text that is told, and the words are kept.
    let mut reader = Reader::new(Found::where_unset_is_empty(), data_dir, &overrides);
    reader.is_former = true;
    reader.read_templates(sources);
    let mut fields = reader.found.fields(tree);
    if let Some(node) = fields.take("severities") {
        reader.read_severities(node);
    }
    let receivers = fields.take("receivers");
    let (_, actions) = receivers.map(|node| reader.receivers(node, data_dir)).unwrap_or_default();
    let external_url =
        fields.take("external_url").and_then(|node| reader.external_url(node)).unwrap_or_default();
    super::FormerConfig { actions, external_url, severities: reader.severities }
}

/// See [`super::hook`].
pub(super) fn hook(name: &str, tree: &Node) -> (Hook, Vec<Diagnostic>) {
    let overrides = Overrides::default();
    let mut reader = Reader::new(Found::default(), Path::new("."), &overrides);
    let hook = reader.hook(name, tree);
    (hook, reader.found.hidden())
}

/// See [`super::rules`].
pub(super) fn rules(tree: &Node) -> (Mapping, Vec<Diagnostic>) {
    let overrides = Overrides::default();
    let mut reader = Reader::new(Found::default(), Path::new("."), &overrides);
    let mapping = reader.mapping(tree);
    (mapping, reader.found.hidden())
}

impl<'a> Reader<'a> {
    fn new(found: Found, folder: &'a Path, overrides: &'a Overrides) -> Reader<'a> {
        Reader {
            found,
            folder,
            overrides,
            severities: Severities::default(),
            is_former: false,
            mistaken_receivers: Vec::new(),
            intervals: Vec::new(),
            templates: Shared::default(),
        }
    }
}

impl Reader<'_> {
    fn whole(&mut self, tree: &Node, sources: &Sources) -> Option<Loaded> {
        let mut fields = self.found.fields(tree);
        // They were followed before; here they are only known.
        fields.take("include");
        fields.take("templates");
        if let Some(node) = fields.take("severities") {
            self.read_severities(node);
        }
        let (data_dir, journal) = self.journal(fields.take("journal"));
        let originator = fields.take("originator");
        let receivers = fields.demand("receivers", &mut self.found);
        let (receivers, actions) = receivers.map(|node| self.receivers(node, &data_dir)).unwrap_or_default();
        let names: Vec<(SmolStr, bool)> =
            receivers.iter().map(|r| (r.name.clone(), self.tells_nobody(r))).collect();
        let mut used = Vec::new();
        let intervals = fields.take("time_intervals").map(|node| self.time_intervals(node));
        let (time_intervals, zones) = intervals.unwrap_or_default();
        self.intervals = time_intervals.iter().map(|interval| interval.name.clone()).collect();
        let inhibit_rules =
            fields.take("inhibit_rules").map(|node| self.inhibit_rules(node)).unwrap_or_default();
        let silences = fields.take("silences").map(|node| self.silences(node)).unwrap_or_default();
        let (compat, resolve) = (fields.take("compat"), fields.take("resolve_when_muted"));
        let muting = self.muting(compat, resolve, fields.take("notify_when_unmuted"));
        let route_node = fields.demand("route", &mut self.found);
        let route = route_node.map(|node| self.root(node, &names, &mut used));
        self.unused_receivers(tree, &names, &used);
        let resolve_timeout_ms = fields
            .take("resolve_timeout")
            .and_then(|node| self.found.duration_ms(node, 1))
            .unwrap_or(RESOLVE_TIMEOUT_MS);
        let give_up = fields.take("give_up").map(|node| self.give_up(node)).unwrap_or_default();
        let external_url =
            fields.take("external_url").and_then(|node| self.external_url(node)).unwrap_or_default();
        let external_url = self.overrides.external_url.clone().unwrap_or(external_url);
        let removed = fields.take("removed").map(|node| self.removed(node, &names)).unwrap_or_default();
        let originator::WaysIn { http, socket, syslog, snmp, clients, limits: alert_limits, inbound } =
            self.originator(originator, &data_dir);
        let own_labels = fields.take("own_labels");
        let own_labels = own_labels.map(|node| self.own_labels(node, &alert_limits)).unwrap_or_default();
        let heartbeats = fields.take("heartbeats");
        let heartbeats = heartbeats.map(|node| self.heartbeats(node, &clients, &alert_limits));
        let heartbeats = heartbeats.unwrap_or_default();
        let server_name = self.server_name(fields.take("server"));
        let check_ins = fields.take("check_ins");
        // What is never said in this site needs no route.
        let says = Says {
            heartbeats: !heartbeats.is_empty(),
            clients: check_ins.is_some() || clients.known.iter().any(|client| client.enrol),
            drops: actions.iter().any(|(_, settings, _)| settings.pending_max().is_some()),
        };
        let check_ins = check_ins.map(|node| self.check_ins(node)).unwrap_or_default();
        if let (Some(node), Some(route)) = (route_node, &route) {
            self.own_events_without_route(node, route, &own_labels, says);
        }
        fields.end(&mut self.found);
        let config = Config {
            receivers,
            route: route?,
            severities: self.severities.clone(),
            resolve_timeout_ms,
            give_up,
            own_labels,
            time_intervals,
            zones,
            inhibit_rules,
            silences,
            muting,
            heartbeats,
            check_ins,
        };
        Some(Loaded {
            core: config,
            text: sources.to_text(),
            sources: sources.clone(),
            http,
            socket,
            syslog,
            snmp,
            clients: Arc::new(clients),
            alert_limits,
            inbound: Arc::new(inbound),
            data_dir,
            journal,
            actions,
            removed,
            server_name,
            external_url,
            is_url_overridden: self.overrides.external_url.is_some(),
            templates: self.templates.clone(),
            warnings: Vec::new(),
        })
    }

    fn read_templates(&mut self, sources: &Sources) {
        let mut files = BTreeMap::new();
        let named = sources.templates().map(|(file, name, text)| {
            files.insert(name.to_owned(), (file, text));
            (name.to_owned(), text.to_owned())
        });
        let (shared, wrong) = Shared::new(named);
        self.templates = shared;
        for (name, error) in wrong {
            let place = Place::line_of(files[&name].0, files[&name].1, error.line);
            self.found.error(place, error.message, "correct the template");
        }
    }

    fn read_severities(&mut self, node: &Node) {
        let Value::Map(entries) = &node.value else {
            self.found.fields(node);
            return;
        };
        for (word, rank) in entries {
            let Some(name) = self.found.plain(rank) else { continue };
            match Severity::ALL.iter().find(|severity| severity.word() == name) {
                Some(severity) => {
                    let usual = Severities::default().rank(&word.text);
                    if usual.is_some_and(|usual| usual != *severity)
                        && Severity::ALL.iter().any(|rank| rank.word() == word.text)
                    {
                        let message =
                            format!("`{}` is a rank of its own, and counts as {name} now", word.text);
                        self.found.warning(word.place, message, "use another word, unless it is meant so");
                    }
                    self.severities.extra.insert(word.text.to_lowercase().into(), *severity);
                }
                None => {
                    let mend = "ranks are info, warning, minor, major, critical";
                    self.found.error(rank.place, format!("`{name}` is no rank"), mend);
                }
            }
        }
    }

    fn journal(&mut self, node: Option<&Node>) -> (PathBuf, journal::Options) {
        let mut options = journal::Options::default();
        let mut dir = PathBuf::from("./ams2-data");
        if let Some(node) = node {
            let mut fields = self.found.fields(node);
            if let Some(path) = fields.take("dir").and_then(|node| self.found.path(node)) {
                dir = path;
            }
            if let Some(ms) = fields.take("retention").and_then(|node| self.found.duration_ms(node, 60_000)) {
                options.retention.age = Duration::from_millis(ms);
            }
            if let Some(bytes) = fields.take("retention_bytes").and_then(|node| self.found.bytes(node)) {
                options.retention.bytes = bytes as u64;
            }
            if let Some(node) = fields.take("segment_bytes")
                && let Some(bytes) = self.found.bytes(node)
            {
                if (1 << 20..=1 << 30).contains(&bytes) {
                    options.segment_bytes = bytes as u64;
                } else {
                    self.found.error(node.place, format!("a segment of {bytes} bytes"), "use 1MiB to 1GiB");
                }
            }
            if let Some(node) = fields.take("free_bytes_min")
                && let Some(bytes) = self.found.bytes(node)
            {
                if bytes as u64 <= FREE_BYTES_MIN_MAX {
                    options.free_bytes_min = bytes as u64;
                } else {
                    let message =
                        format!("{bytes} bytes are to stay free: clients would be refused for ever");
                    self.found.error(node.place, message, "use 1TiB or less");
                }
            }
            if let Some(bytes) = fields.take("waiting_bytes_max").and_then(|node| self.found.bytes(node)) {
                options.waiting_bytes_max = bytes;
            }
            fields.end(&mut self.found);
        }
        (self.overrides.data_dir.clone().unwrap_or(dir), options)
    }

    fn give_up(&mut self, node: &Node) -> GiveUp {
        let mut give_up = GiveUp::default();
        let mut fields = self.found.fields(node);
        if let Some(ms) = fields.take("after").and_then(|node| self.found.duration_ms(node, 1)) {
            give_up.after_ms = ms;
        }
        if let Some(ms) = fields.take("critical_after").and_then(|node| self.found.duration_ms(node, 1)) {
            give_up.critical_after_ms = ms;
        }
        fields.end(&mut self.found);
        give_up
    }

    /// What this server is called by others: this machine's name, unless the config has one.
    fn server_name(&mut self, node: Option<&Node>) -> SmolStr {
        let mut name = None;
        if let Some(node) = node {
            let mut fields = self.found.fields(node);
            if let Some(node) = fields.take("name")
                && let Some(text) = self.found.plain(node)
            {
                if trail::is_server_name(text) {
                    name = Some(SmolStr::new(text));
                } else {
                    let mend = "use letters, digits, `.`, `_`, `-` and `/`, at most 128 of them";
                    self.found.error(node.place, format!("{text:?} is no name of a server"), mend);
                }
            }
            fields.end(&mut self.found);
        }
        let usual =
            || Some(SmolStr::new(ams2_handlers::hostname())).filter(|name| trail::is_server_name(name));
        name.or_else(usual).unwrap_or(SmolStr::new_static("ams2"))
    }

    fn tells_nobody(&self, receiver: &ams2_core::config::Receiver) -> bool {
        receiver.actions.is_empty() && !self.mistaken_receivers.contains(&receiver.name)
    }

    /// Labels of own alerts. What no alert may have is a mistake: with such labels none could be raised.
    fn own_labels(&mut self, node: &Node, limits: &Limits) -> BTreeMap<SmolStr, SmolStr> {
        let fields = self.found.fields(node);
        let mut labels = BTreeMap::new();
        for (key, value) in fields.entries {
            let (name, place) = (key.text.as_str(), key.place);
            let Some(text) = self.found.plain(value) else { continue };
            if name.is_empty() {
                self.found.error(place, "a label without a name", "name it, or remove it");
            } else if name.len() > limits.name_bytes {
                let message = format!(
                    "the name has {} bytes; a label's may have {} (originator.limits.name_bytes)",
                    name.len(),
                    limits.name_bytes
                );
                self.found.error(place, message, "use a shorter one");
            } else if OWN_NAMES.contains(&name) {
                let message = format!("`{name}` is ignored here: ams2 says that itself of each own alert");
                self.found.warning(place, message, "use another name, or remove it");
            }
            labels.insert(name.into(), text.into());
        }
        self.sizes_of_own(node, &labels, limits);
        labels
    }

    /// Labels that own alerts get beside what ams2 says.
    fn sizes_of_own(&mut self, node: &Node, labels: &BTreeMap<SmolStr, SmolStr>, limits: &Limits) {
        let bytes: usize =
            labels.iter().map(|(name, value): (&SmolStr, &SmolStr)| name.len() + value.len()).sum();
        if bytes.saturating_add(OWN_BYTES) > limits.alert_bytes {
            let message = format!(
                "{bytes} bytes of labels; an alert may have {}, {OWN_BYTES} of them ams2's own words (originator.limits.alert_bytes)",
                limits.alert_bytes
            );
            self.found.error(node.place, message, "use fewer or shorter ones");
        }
        if labels.len().saturating_add(OWN_COUNT) > limits.labels {
            let message = format!(
                "{} labels; an alert may have {}, {OWN_COUNT} of them ams2's own (originator.limits.labels)",
                labels.len(),
                limits.labels
            );
            self.found.error(node.place, message, "use fewer");
        }
    }

    fn external_url(&mut self, node: &Node) -> Option<SmolStr> {
        let url = self.found.expanded(node)?;
        let right = crate::config::external_url(&url);
        if right.is_none() {
            self.found.error(node.place, format!("`{url}` is no URL"), crate::config::EXTERNAL_URL_MEND);
        }
        right
    }
}
