//! What each key means.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ams2_core::{
    Config, Severities, Severity,
    config::{ActionId, ActionSpec, GiveUp, GroupBy, Notify, RESOLVE_TIMEOUT_MS, Receiver, Removed, Route},
    matcher::{Compiled, Matcher},
};
use ams2_handlers::{ActionSettings, BuildContext, Limits as ActionLimits, TABLE};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use smol_str::SmolStr;

use super::{
    Diagnostic, Gravity, Http, Loaded, Overrides, nearest,
    tree::{Node, Value},
    walk::Found,
};
use crate::{
    journal,
    originator::{Clients, HttpLimits, KnownClient, Limits, SocketSettings, Tls, TokenHash},
};

/// Where HTTP listens unless the config says otherwise.
const LISTEN: &str = "127.0.0.1:9093";
/// Clients may not call themselves what ams2 calls itself and this machine.
const RESERVED_CLIENTS: [&str; 2] = ["ams2", "local"];

/// Takes the setting that a message is about out of the settings; `false` if there is none to take.
fn without_mistake(settings: &mut serde_json::Value, path: &str, message: &str) -> bool {
    let Some(settings) = settings.as_object_mut() else { return false };
    let top = path.split(['.', '[']).next().unwrap_or_default();
    if let Some(unknown) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
        && top.is_empty()
    {
        return settings.remove(unknown).is_some();
    }
    settings.remove(top).is_some()
}

/// Settings of actions that the router reads: nothing of the environment may be in them.
const ROUTER_SETTINGS: [&str; 5] = ["name", "send_resolved", "max_in_flight", "max_per_minute", "timeout"];

struct Reader<'a> {
    found: Found,
    folder: &'a Path,
    overrides: &'a Overrides,
    severities: Severities,
}

pub(super) fn read(
    tree: &Node,
    text: &str,
    folder: &Path,
    overrides: &Overrides,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reader = Reader { found: Found::default(), folder, overrides, severities: Severities::default() };
    reader.found.duplicates(tree);
    let loaded = reader.whole(tree, text);
    let mut found = reader.found.hidden();
    found.sort_by_key(|diagnostic| diagnostic.place);
    match loaded {
        Some(mut loaded) if found.iter().all(|diagnostic| diagnostic.gravity == Gravity::Warning) => {
            loaded.warnings = found;
            Ok(loaded)
        }
        _ => Err(found),
    }
}

/// See [`super::former`].
pub(super) fn former(tree: &Node, data_dir: &Path) -> super::FormerConfig {
    let overrides = Overrides::default();
    let mut reader = Reader {
        found: Found::default(),
        folder: data_dir,
        overrides: &overrides,
        severities: Severities::default(),
    };
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

impl Reader<'_> {
    fn whole(&mut self, tree: &Node, text: &str) -> Option<Loaded> {
        let mut fields = self.found.fields(tree);
        if let Some(node) = fields.take("severities") {
            self.read_severities(node);
        }
        let (data_dir, journal) = self.journal(fields.take("journal"));
        let originator = fields.take("originator");
        let receivers = fields.demand("receivers", &mut self.found);
        let (receivers, actions) = receivers.map(|node| self.receivers(node, &data_dir)).unwrap_or_default();
        let names: Vec<(SmolStr, bool)> =
            receivers.iter().map(|r| (r.name.clone(), r.actions.is_empty())).collect();
        let mut used = Vec::new();
        let route = fields.demand("route", &mut self.found).map(|node| self.root(node, &names, &mut used));
        self.unused_receivers(tree, &names, &used);
        let resolve_timeout_ms = fields
            .take("resolve_timeout")
            .and_then(|node| self.found.duration_ms(node, 1))
            .unwrap_or(RESOLVE_TIMEOUT_MS);
        let give_up = fields.take("give_up").map(|node| self.give_up(node)).unwrap_or_default();
        let own_labels = fields.take("own_labels").map(|node| self.own_labels(node)).unwrap_or_default();
        let external_url =
            fields.take("external_url").and_then(|node| self.external_url(node)).unwrap_or_default();
        let removed = fields.take("removed").map(|node| self.removed(node, &names)).unwrap_or_default();
        let (http, socket, clients, alert_limits) = self.originator(originator, &data_dir);
        fields.end(&mut self.found);
        let config = Config {
            receivers,
            route: route?,
            severities: self.severities.clone(),
            resolve_timeout_ms,
            give_up,
            own_labels,
        };
        Some(Loaded {
            core: config,
            text: text.to_owned(),
            http,
            socket,
            clients: Arc::new(clients),
            alert_limits,
            data_dir,
            journal,
            actions,
            removed,
            external_url,
            warnings: Vec::new(),
        })
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
            if let Some(bytes) = fields.take("free_bytes_min").and_then(|node| self.found.bytes(node)) {
                options.free_bytes_min = bytes as u64;
            }
            if let Some(bytes) = fields.take("waiting_bytes_max").and_then(|node| self.found.bytes(node)) {
                options.waiting_bytes_max = bytes;
            }
            fields.end(&mut self.found);
        }
        (self.overrides.data_dir.clone().unwrap_or(dir), options)
    }

    fn receivers(
        &mut self,
        node: &Node,
        data_dir: &Path,
    ) -> (Vec<Receiver>, Vec<(ActionId, ActionSettings, ActionLimits)>) {
        let (mut receivers, mut all): (Vec<Receiver>, Vec<_>) = Default::default();
        let mut lines: BTreeMap<SmolStr, usize> = BTreeMap::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name: Option<SmolStr> = name_node.and_then(|node| self.found.plain(node)).map(Into::into);
            let actions_node = fields.take("actions");
            fields.end(&mut self.found);
            let (Some(name), Some(name_node)) = (name, name_node) else { continue };
            if name.is_empty() || name.contains('/') {
                self.found.error(
                    name_node.place,
                    format!("`{name}` is no name"),
                    "use some text without `/`",
                );
                continue;
            }
            if let Some(line) = lines.insert(name.clone(), name_node.place.line) {
                let message = format!("the receiver `{name}` is defined twice, first in line {line}");
                self.found.error(name_node.place, message, "rename one, or put their actions together");
                continue;
            }
            let mut specs: Vec<ActionSpec> = Vec::new();
            for (position, item) in
                actions_node.map(|node| self.found.list(node)).unwrap_or_default().iter().enumerate()
            {
                let Some((settings, limits)) = self.action(item, data_dir) else { continue };
                let action_name = limits.name.clone().unwrap_or_else(|| position.to_string().into());
                let kind = SmolStr::new_static(settings.kind().key);
                let id = ActionId { receiver: name.clone(), kind, name: action_name };
                if specs.iter().any(|spec| spec.id == id) {
                    let message = format!("two actions of `{name}` are called `{}`", id.name);
                    self.found.error(item.place, message, "give each a `name` of its own");
                    continue;
                }
                specs.push(ActionSpec {
                    id: id.clone(),
                    send_resolved: limits.send_resolved,
                    max_in_flight: limits.max_in_flight,
                    batch_max: limits.batch_max,
                    max_per_minute: limits.max_per_minute,
                    timeout_ms: limits.timeout_ms,
                    patient: false,
                });
                all.push((id, settings, limits));
            }
            receivers.push(Receiver { name, actions: specs });
        }
        if receivers.is_empty() && self.found.0.is_empty() {
            self.found.error(node.place, "there is no receiver", "add one: `- name: log`");
        }
        (receivers, all)
    }

    /// One action: a map with its key and its settings.
    fn action(&mut self, node: &Node, data_dir: &Path) -> Option<(ActionSettings, ActionLimits)> {
        let Value::Map(entries) = &node.value else {
            self.found.error(
                node.place,
                "expected an action such as `event_log: {to: file, path: events.log}`",
                "",
            );
            return None;
        };
        let kinds: Vec<&str> = TABLE.iter().map(|kind| kind.key).collect();
        for (key, _) in entries {
            if !kinds.contains(&key.text.as_str()) {
                let near = nearest(&key.text, kinds.iter().copied());
                let mend = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                let message = format!("unknown action `{}`", key.text);
                self.found.error(key.place, message, format!("{mend}`ams2 action list` shows them all"));
                return None;
            }
        }
        let [(key, settings_node)] = entries.as_slice() else {
            self.found.error(
                node.place,
                "one entry holds more than one action",
                "begin each with a `-` of its own",
            );
            return None;
        };
        let before = self.found.0.len();
        for name in ROUTER_SETTINGS {
            if let Value::Map(entries) = &settings_node.value
                && let Some((_, node)) = entries.iter().find(|(key, _)| key.text == name)
                && let Value::Text(_) = node.value
            {
                // A mistake is kept; the value is read below with the others.
                let _ = self.found.plain(node);
            }
        }
        let found = &mut self.found;
        let json = settings_node.to_json(&mut |text, place| found.expand(text, place));
        let json = if json.is_null() { serde_json::json!({}) } else { json };
        let mut json = serde_json::json!({ key.text.clone(): json });
        let settings: ActionSettings = loop {
            match serde_path_to_error::deserialize(json.clone()) {
                Ok(settings) => break settings,
                Err(error) => {
                    let path = error.path().to_string();
                    let path =
                        path.strip_prefix(&key.text).unwrap_or(&path).trim_start_matches('.').to_owned();
                    let message = error.into_inner().to_string();
                    self.settings_mistake(settings_node, &path, &message);
                    // Without the setting that is wrong, what else is wrong comes to light.
                    if !without_mistake(&mut json[&key.text], &path, &message) {
                        return None;
                    }
                }
            }
        };
        if let Err(mistakes) = settings.build(&BuildContext::new(data_dir)) {
            for mistake in mistakes {
                let place = settings_node.at(&mistake.field).place;
                self.found.error(place, format!("{}: {}", mistake.field, mistake.message), mistake.mend);
            }
        }
        (self.found.0.len() == before).then(|| {
            let limits = settings.limits();
            (settings, limits)
        })
    }

    /// Serde's words for a wrong setting, in ours.
    fn settings_mistake(&mut self, node: &Node, path: &str, message: &str) {
        let at = node.at(path);
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        if let Some(rest) = message.strip_prefix("unknown field ")
            && let [unknown, known @ ..] = quoted.as_slice()
        {
            let place = at.key_place(unknown).unwrap_or(at.place);
            let mend = match nearest(unknown, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => rest.split_once(", ").map(|(_, known)| known.to_owned()).unwrap_or_default(),
            };
            self.found.error(place, format!("unknown key `{unknown}`"), mend);
        } else if message.starts_with("missing field ") {
            let name = quoted.first().copied().unwrap_or("?");
            self.found.error(at.place, format!("`{name}` is missing"), format!("add `{name}:`"));
        } else {
            self.found.error(at.place, message.to_owned(), "");
        }
    }

    fn root(&mut self, node: &Node, receivers: &[(SmolStr, bool)], used: &mut Vec<SmolStr>) -> Route {
        let before = self.found.0.len();
        let route = self.route(node, receivers, used);
        let mut fields = self.found.fields(node);
        for (name, why) in [
            ("matchers", "the first route takes every alert"),
            ("continue", "there is nothing after the first route"),
        ] {
            if let Some(node) = fields.take(name) {
                self.found.error(
                    node.place,
                    format!("the first route may not have `{name}`: {why}"),
                    "move it to a route below",
                );
            }
        }
        if route.receiver.is_none() && self.found.0.len() == before {
            self.found.error(
                node.place,
                "the first route has no receiver",
                "add `receiver:` with the one told by default",
            );
        }
        if let Some((name, true)) = receivers.iter().find(|(name, _)| Some(name) == route.receiver.as_ref()) {
            let message = format!("the default receiver `{name}` has no action");
            self.found.warning(node.place, message, "alerts that no route matches will reach nobody");
        }
        route
    }

    fn route(&mut self, node: &Node, receivers: &[(SmolStr, bool)], used: &mut Vec<SmolStr>) -> Route {
        let mut route = Route::default();
        let mut fields = self.found.fields(node);
        if let Some(node) = fields.take("receiver")
            && let Some(name) = self.found.plain(node)
        {
            if receivers.iter().any(|(known, _)| known == name) {
                used.push(name.into());
            } else {
                let near = nearest(name, receivers.iter().map(|(known, _)| known.as_str()));
                let mend = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "define it under `receivers:`".into(),
                };
                self.found.error(node.place, format!("no receiver is called `{name}`"), mend);
            }
            route.receiver = Some(name.into());
        }
        if let Some(node) = fields.take("matchers") {
            route.matchers = self.matchers(node).into_iter().map(|compiled| compiled.matcher).collect();
        }
        route.group_by = fields.take("group_by").and_then(|node| self.group_by(node));
        route.group_wait_ms = fields.take("group_wait").and_then(|node| self.found.duration_ms(node, 0));
        route.group_interval_ms =
            fields.take("group_interval").and_then(|node| self.found.duration_ms(node, 1));
        let repeat = fields.take("repeat_interval");
        route.repeat_interval_ms = repeat.and_then(|node| self.found.duration_ms(node, 1));
        if let (Some(node), Some(repeat), Some(interval)) =
            (repeat, route.repeat_interval_ms, route.group_interval_ms)
            && repeat < interval
        {
            let mend = "repeats happen on looks, so this is rounded up to the group_interval";
            self.found.warning(node.place, "repeat_interval is shorter than group_interval", mend);
        }
        route.goes_on = fields.take("continue").and_then(|node| self.found.flag(node)).unwrap_or(false);
        route.tell_short = fields.take("tell_short").and_then(|node| self.found.flag(node));
        if let Some(node) = fields.take("notify")
            && let Some(word) = self.found.plain(node)
        {
            match word {
                "group" => route.notify = Some(Notify::Group),
                "each" => route.notify = Some(Notify::Each),
                other => {
                    self.found.error(node.place, format!("notify is `{other}`"), "use `group` or `each`")
                }
            }
        }
        let children = fields.take("routes");
        fields.end(&mut self.found);
        if let Some(node) = children {
            self.children(node, &mut route, receivers, used);
        }
        route
    }

    fn children(
        &mut self,
        node: &Node,
        route: &mut Route,
        receivers: &[(SmolStr, bool)],
        used: &mut Vec<SmolStr>,
    ) {
        let mut hides: Option<usize> = None;
        for item in self.found.list(node) {
            let child = self.route(item, receivers, used);
            if let Some(line) = hides {
                let message = format!("no alert comes here: the route in line {line} takes them all");
                self.found.warning(item.place, message, "give that one matchers, or `continue: true`");
            } else if let Some(line) = self.hidden_by(route, node, &child) {
                let message = format!("no alert comes here: the route in line {line} has the same matchers");
                self.found.warning(
                    item.place,
                    message,
                    "give that one `continue: true`, or put them together",
                );
            }
            if child.matchers.is_empty() && !child.goes_on {
                hides = Some(item.place.line);
            }
            route.routes.push(child);
        }
    }

    /// The line of an earlier sibling with the same matchers that does not go on.
    fn hidden_by(&self, route: &Route, node: &Node, child: &Route) -> Option<usize> {
        let sorted = |route: &Route| {
            let mut matchers = route.matchers.clone();
            matchers.sort();
            matchers
        };
        let mine = sorted(child);
        let place = route
            .routes
            .iter()
            .position(|other| !other.goes_on && !mine.is_empty() && sorted(other) == mine)?;
        match &node.value {
            Value::List(items) => items.get(place).map(|item| item.place.line),
            _ => None,
        }
    }

    fn matchers(&mut self, node: &Node) -> Vec<Compiled> {
        let mut matchers = Vec::new();
        for item in self.found.list(node) {
            let Some(text) = self.found.plain(item) else { continue };
            let read = Matcher::parse(text).and_then(|matcher| matcher.compile(&self.severities));
            match read {
                Ok(compiled) => matchers.push(compiled),
                Err(error) => {
                    let message = format!("the matcher `{text}` is wrong: {error}");
                    let mend = "write 'name op \"value\"' with one of = != =~ !~ >= > <= <";
                    self.found.error(item.place, message, mend);
                }
            }
        }
        matchers
    }

    fn group_by(&mut self, node: &Node) -> Option<GroupBy> {
        let mut names: Vec<SmolStr> = Vec::new();
        for item in self.found.list(node) {
            let Some(name) = self.found.plain(item) else { continue };
            if name.is_empty() {
                self.found.error(item.place, "a label name is empty", "");
            } else if names.iter().any(|known| known == name) {
                self.found.error(item.place, format!("`{name}` is given twice"), "remove one");
            } else {
                names.push(name.into());
            }
        }
        if names.iter().any(|name| name == "...") {
            if names.len() > 1 {
                self.found.error(
                    node.place,
                    "`...` means every label, and stands beside others",
                    "keep `...` alone",
                );
            }
            return Some(GroupBy::All);
        }
        names.sort();
        Some(GroupBy::Labels(names))
    }

    fn unused_receivers(&mut self, tree: &Node, receivers: &[(SmolStr, bool)], used: &[SmolStr]) {
        let Value::List(items) = &tree.at("receivers").value else { return };
        for (name, _) in receivers.iter().filter(|(name, _)| !used.contains(name)) {
            let is_it = |item: &&Node| matches!(&item.at("name").value, Value::Text(text) if text == name);
            if let Some(item) = items.iter().find(is_it) {
                let message = format!("no route names the receiver `{name}`");
                self.found.warning(item.place, message, "name it in a route, or remove it");
            }
        }
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

    fn own_labels(&mut self, node: &Node) -> BTreeMap<SmolStr, SmolStr> {
        let fields = self.found.fields(node);
        let mut labels = BTreeMap::new();
        for (key, value) in fields.entries {
            if let Some(value) = self.found.plain(value) {
                labels.insert(key.text.as_str().into(), value.into());
            }
        }
        labels
    }

    fn external_url(&mut self, node: &Node) -> Option<SmolStr> {
        let url = self.found.expanded(node)?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            self.found.error(node.place, format!("`{url}` is no URL"), "write https://host/path");
            return None;
        }
        Some(url.trim_end_matches('/').into())
    }

    fn removed(&mut self, node: &Node, receivers: &[(SmolStr, bool)]) -> Vec<(ActionId, Removed)> {
        let mut removed = Vec::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let action = fields.demand("action", &mut self.found);
            let move_to = fields.take("move_to");
            let dropped = fields.take("drop").and_then(|node| self.found.flag(node)).unwrap_or(false);
            fields.end(&mut self.found);
            let Some(id) = action.and_then(|node| {
                let text = self.found.plain(node)?;
                let id = action_id(text);
                if id.is_none() {
                    self.found.error(
                        node.place,
                        format!("`{text}` is no action"),
                        "write receiver/kind/name",
                    );
                }
                id
            }) else {
                continue;
            };
            let target: Option<SmolStr> = move_to
                .and_then(|node| self.found.plain(node).map(|name| (name, node.place)))
                .and_then(|(name, place)| {
                    let known = receivers.iter().any(|(known, _)| known == name);
                    if !known {
                        self.found.error(
                            place,
                            format!("no receiver is called `{name}`"),
                            "define it under `receivers:`",
                        );
                    }
                    known.then(|| name.into())
                });
            match (target, dropped) {
                (Some(target), false) => removed.push((id, Removed::MoveTo(target))),
                (None, true) if move_to.is_none() => removed.push((id, Removed::Drop)),
                (None, false) if move_to.is_some() => {}
                _ => self.found.error(
                    item.place,
                    "what becomes of them is not clear",
                    "give `move_to: RECEIVER` or `drop: true`",
                ),
            }
        }
        removed
    }

    fn originator(
        &mut self,
        node: Option<&Node>,
        data_dir: &Path,
    ) -> (Option<Http>, Option<SocketSettings>, Clients, Limits) {
        let empty = Node { place: Default::default(), value: Value::Map(Vec::new()) };
        let mut fields = self.found.fields(node.unwrap_or(&empty));
        let clients = fields.take("clients").map(|node| self.clients(node)).unwrap_or_default();
        let clients = Clients { known: clients, severities: self.severities.clone() };
        let limits = fields.take("limits").map(|node| self.alert_limits(node)).unwrap_or_default();
        let http = fields.take("http");
        let socket = fields.take("socket");
        fields.end(&mut self.found);
        let http = match http {
            Some(Node { value: Value::Bool(false), .. }) => None,
            Some(node) => self.http(node, &clients),
            None => self.http(&empty, &clients),
        };
        let socket = match socket {
            Some(Node { value: Value::Bool(false), .. }) => None,
            Some(node) => self.socket(node, data_dir),
            None => self.socket(&empty, data_dir),
        };
        (http, socket, clients, limits)
    }

    fn http(&mut self, node: &Node, clients: &Clients) -> Option<Http> {
        let mut fields = self.found.fields(node);
        let listen_node = fields.take("listen");
        let listen = match listen_node {
            Some(node) => self.listen(node),
            None => LISTEN.parse().ok(),
        };
        let tls = fields.take("tls").and_then(|node| self.tls(node));
        let insecure = fields.take("insecure").and_then(|node| self.found.flag(node)).unwrap_or(false);
        let mut hosts = Vec::new();
        if let Some(node) = fields.take("hosts") {
            for item in self.found.list(node) {
                hosts.extend(self.found.expanded(item));
            }
        }
        let limits = fields.take("limits").map(|node| self.http_limits(node)).unwrap_or_default();
        fields.end(&mut self.found);
        let listen = self.overrides.listen.or(listen)?;
        if !listen.ip().is_loopback() && !insecure {
            let place = listen_node.unwrap_or(node).place;
            if tls.is_none() {
                let mend = "add `tls: {cert_file, key_file}`, listen on 127.0.0.1, or say `insecure: true`";
                self.found.error(place, format!("{listen} can be reached from outside without TLS"), mend);
            }
            if !clients.have_tokens() {
                let mend = "add `clients:` with tokens, listen on 127.0.0.1, or say `insecure: true`";
                self.found.error(place, format!("{listen} can be reached from outside by anybody"), mend);
            }
        }
        if insecure && !listen.ip().is_loopback() && !clients.need_names() {
            let place = listen_node.unwrap_or(node).place;
            let message = format!(
                "everybody who reaches {listen} may send alerts, acknowledge, retry, drop and reload"
            );
            self.found.warning(place, message, "add `clients:` with tokens");
        }
        Some(Http { listen, tls, hosts, limits })
    }

    fn listen(&mut self, node: &Node) -> Option<SocketAddr> {
        let text = self.found.expanded(node)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let message = format!("`{text}` is no address and port");
            self.found.error(
                node.place,
                message,
                "write it like 127.0.0.1:9093 or [::1]:9093, with a port from 0 to 65535",
            );
        }
        parsed
    }

    fn http_limits(&mut self, node: &Node) -> HttpLimits {
        let mut limits = HttpLimits::default();
        let mut fields = self.found.fields(node);
        let found = &mut self.found;
        for (name, size, allowed) in [
            // A request is one record of the journal, which has frames of at most 64 MiB.
            ("body_bytes", &mut limits.body_bytes, 1 << 10..=32 << 20),
            ("bytes_in_flight", &mut limits.bytes_in_flight, 1 << 20..=1 << 40),
            ("head_bytes", &mut limits.head_bytes, 1 << 10..=1 << 20),
        ] {
            if let Some(node) = fields.take(name)
                && let Some(bytes) = found.bytes(node)
            {
                if allowed.contains(&bytes) {
                    *size = bytes;
                } else {
                    let mend = format!("use {} to {} bytes", allowed.start(), allowed.end());
                    found.error(node.place, format!("{name}: {bytes} bytes"), mend);
                }
            }
        }
        for (name, time) in [
            ("header_time", &mut limits.header_time),
            ("body_time", &mut limits.body_time),
            ("answer_time", &mut limits.answer_time),
            ("handshake_time", &mut limits.handshake_time),
        ] {
            if let Some(ms) = fields.take(name).and_then(|node| found.duration_ms(node, 100)) {
                *time = Duration::from_millis(ms);
            }
        }
        for (name, count) in [
            ("connections", &mut limits.connections),
            ("connections_per_address", &mut limits.connections_per_address),
            ("headers", &mut limits.headers),
        ] {
            if let Some(number) = fields.take(name).and_then(|node| found.number(node, 1..=1_000_000)) {
                *count = number as usize;
            }
        }
        fields.end(&mut self.found);
        limits
    }

    fn alert_limits(&mut self, node: &Node) -> Limits {
        let mut limits = Limits::default();
        let mut fields = self.found.fields(node);
        let found = &mut self.found;
        for (name, size) in [
            ("name_bytes", &mut limits.name_bytes),
            ("alert_bytes", &mut limits.alert_bytes),
            ("id_bytes", &mut limits.id_bytes),
        ] {
            if let Some(bytes) = fields.take(name).and_then(|node| found.bytes(node)) {
                *size = bytes;
            }
        }
        for (name, count) in [("labels", &mut limits.labels), ("annotations", &mut limits.annotations)] {
            if let Some(number) = fields.take(name).and_then(|node| found.number(node, 1..=10_000)) {
                *count = number as usize;
            }
        }
        fields.end(&mut self.found);
        limits
    }

    fn socket(&mut self, node: &Node, data_dir: &Path) -> Option<SocketSettings> {
        let mut fields = self.found.fields(node);
        let path =
            fields.take("path").and_then(|node| self.found.path(node)).unwrap_or_else(|| "ams2.sock".into());
        let mode = fields.take("mode").and_then(|node| {
            let text = self.found.text(node)?;
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
            if mode.is_none() {
                self.found.error(
                    node.place,
                    format!("`{text}` is no mode"),
                    "write three octal digits in quotes: \"660\"",
                );
            }
            mode
        });
        fields.end(&mut self.found);
        // The design's sample names the data folder in the path; what is relative and does not starts there.
        let path = if path.is_absolute() || path.starts_with(data_dir) { path } else { data_dir.join(path) };
        Some(SocketSettings { path, mode: mode.unwrap_or(0o600) })
    }

    fn clients(&mut self, node: &Node) -> Vec<KnownClient> {
        let mut clients: Vec<KnownClient> = Vec::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name: Option<SmolStr> = name_node.and_then(|node| self.found.plain(node)).map(Into::into);
            let token = fields.take("token_file").and_then(|node| self.secret(node));
            let hash = fields.take("token_sha256").and_then(|node| self.token_hash(node));
            let uid = fields.take("uid").and_then(|node| self.found.number(node, 0..=u64::from(u32::MAX)));
            let allow = match fields.take("allow") {
                Some(node) if matches!(node.value, Value::Null) => {
                    let mend = "write the matchers, or leave `allow` out for everything";
                    self.found.error(node.place, "`allow` is empty", mend);
                    Vec::new()
                }
                allow => allow.map(|node| self.matchers(node)).unwrap_or_default(),
            };
            let operator = fields.take("operator").and_then(|node| self.found.flag(node)).unwrap_or(false);
            let known = ["token_file", "token_sha256", "uid"].map(|name| fields.take(name).is_some());
            fields.end(&mut self.found);
            let (Some(name), Some(name_node)) = (name, name_node) else { continue };
            if RESERVED_CLIENTS.contains(&name.as_str()) || name.is_empty() {
                self.found.error(
                    name_node.place,
                    format!("a client may not be called `{name}`"),
                    "choose another name",
                );
                continue;
            }
            if clients.iter().any(|client| client.name == name) {
                self.found.error(
                    name_node.place,
                    format!("the client `{name}` is defined twice"),
                    "rename one",
                );
                continue;
            }
            if !known.contains(&true) {
                let mend = "add `token_file`, `token_sha256` or `uid`";
                self.found.error(item.place, format!("nothing says how to know the client `{name}`"), mend);
            }
            let token = token.as_deref().map(TokenHash::of).or(hash);
            clients.push(KnownClient { name, token, uid: uid.map(|uid| uid as u32), allow, operator });
        }
        clients
    }

    fn token_hash(&mut self, node: &Node) -> Option<TokenHash> {
        let text = self.found.expanded(node)?;
        let digits: Option<Vec<u8>> = (0..text.len() / 2)
            .map(|i| text.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        let hash = digits.and_then(|digits| digits.try_into().ok()).map(TokenHash);
        if hash.is_none() || text.len() != 64 {
            self.found.error(
                node.place,
                "this is no SHA-256",
                "write 64 hex digits: `printf %s TOKEN | sha256sum`",
            );
            return None;
        }
        hash
    }

    /// A secret's file. Its content is never shown.
    fn secret(&mut self, node: &Node) -> Option<String> {
        let path = self.folder.join(self.found.path(node)?);
        let shown = path.display();
        let text = match std::fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Err(format!("{shown} is not a file")),
            Ok(metadata) if metadata.permissions().mode() & 0o007 != 0 => {
                let mend = format!("chmod 600 {shown}");
                self.found.error(
                    node.place,
                    format!("everybody on this machine can read or write {shown}"),
                    mend,
                );
                return None;
            }
            Ok(_) => {
                std::fs::read_to_string(&path).map_err(|error| format!("{shown} cannot be read: {error}"))
            }
            Err(error) => Err(format!("{shown} cannot be read: {error}")),
        };
        match text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()) {
            Ok(secret) if secret.is_empty() => {
                self.found.error(node.place, format!("{shown} is empty"), "write the secret into it");
                None
            }
            Ok(secret) => Some(secret),
            Err(message) => {
                self.found.error(node.place, message, "make it readable for the user that ams2 runs as");
                None
            }
        }
    }

    fn tls(&mut self, node: &Node) -> Option<Tls> {
        let mut fields = self.found.fields(node);
        let cert = fields.demand("cert_file", &mut self.found);
        let key = fields.demand("key_file", &mut self.found);
        let ca = fields.take("client_ca_file");
        fields.end(&mut self.found);
        let (cert, key) = (cert?, key?);
        let chain = self.certificates(cert)?;
        let secret = self.secret(key)?;
        let private = match PrivateKeyDer::from_pem_slice(secret.as_bytes()) {
            Ok(private) => private,
            Err(error) => {
                self.found.error(
                    key.place,
                    format!("the file holds no private key: {error}"),
                    "use PEM, unencrypted",
                );
                return None;
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions();
        let builder = builder.expect("ring knows TLS 1.2 and 1.3");
        let builder = match ca {
            None => builder.with_no_client_auth(),
            Some(node) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add_parsable_certificates(self.certificates(node)?);
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                match verifier.build() {
                    Ok(verifier) => builder.with_client_cert_verifier(verifier),
                    Err(error) => {
                        self.found.error(
                            node.place,
                            format!("clients cannot be checked with it: {error}"),
                            "",
                        );
                        return None;
                    }
                }
            }
        };
        match builder.with_single_cert(chain, private) {
            Ok(config) => Some(Arc::new(config)),
            Err(error) => {
                self.found.error(
                    node.place,
                    format!("the certificate and the key do not fit: {error}"),
                    "use the key that the certificate was made with",
                );
                None
            }
        }
    }

    fn certificates(&mut self, node: &Node) -> Option<Vec<CertificateDer<'static>>> {
        let path = self.folder.join(self.found.path(node)?);
        let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                self.found.error(node.place, format!("{} holds no certificate", path.display()), "use PEM");
                None
            }
            Err(error) => {
                self.found.error(
                    node.place,
                    format!("{} cannot be used: {error}", path.display()),
                    "use PEM, readable",
                );
                None
            }
        }
    }
}

/// `receiver/kind/name`.
fn action_id(text: &str) -> Option<ActionId> {
    let mut parts = text.rsplitn(3, '/');
    let (name, kind, receiver) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ActionId { receiver: receiver.into(), kind: kind.into(), name: name.into() })
}
