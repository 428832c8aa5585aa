//! Receivers and their actions, and what becomes of deliveries of actions that are gone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ams2_core::config::{ActionId, ActionSpec, Receiver, Removed};
use ams2_handlers::{
    ActionSettings, BuildContext, FileSetting, Kind, Limits as ActionLimits, SettingsError, TABLE,
};
use smol_str::SmolStr;

use super::Reader;
use crate::config::{
    Place, action_id, nearest,
    tree::{Key, Node, Value},
};

/// Stands for a secret whose file is wrong: long enough for any rule about passwords, so that one mistake is said once.
const SECRET_UNREAD: &str = "????????????????";
/// The same for a URL.
const URL_UNREAD: &str = "http://unread.invalid/";
/// Settings of actions that the router reads: nothing of the environment may be in them.
const ROUTER_SETTINGS: [&str; 5] = ["name", "send_resolved", "max_in_flight", "max_per_minute", "timeout"];

impl Reader<'_> {
    pub(super) fn receivers(
        &mut self,
        node: &Node,
        data_dir: &Path,
    ) -> (Vec<Receiver>, Vec<(ActionId, ActionSettings, ActionLimits)>) {
        let (mut receivers, mut all): (Vec<Receiver>, Vec<_>) = Default::default();
        let mut places: BTreeMap<SmolStr, Place> = BTreeMap::new();
        let mut files: BTreeMap<PathBuf, ActionId> = BTreeMap::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name: Option<SmolStr> = name_node.and_then(|node| self.found.plain(node)).map(Into::into);
            let actions_node = fields.take("actions");
            fields.end(&mut self.found);
            let name = name.zip(name_node).filter(|(name, node)| self.is_new_name(name, node, &places));
            // Without a name its actions are read all the same, for what is wrong with them.
            let name = name.map(|(name, node)| {
                places.insert(name.clone(), node.place);
                name
            });
            let (name, is_named) = (name.clone().unwrap_or_default(), name.is_some());
            let mut specs: Vec<ActionSpec> = Vec::new();
            for (position, item) in
                actions_node.map(|node| self.found.list(node)).unwrap_or_default().iter().enumerate()
            {
                let Some((settings, limits)) = self.action(item, data_dir) else {
                    self.mistaken_receivers.push(name.clone());
                    continue;
                };
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
                    patient: limits.patient,
                    pending_max: settings.pending_max(),
                });
                self.warn_of_one_file_for_two(item, &id, &settings, data_dir, &mut files);
                all.push((id, settings, limits));
            }
            if is_named {
                receivers.push(Receiver { name, actions: specs });
            }
        }
        if receivers.is_empty() && self.found.list.is_empty() {
            self.found.error(node.place, "there is no receiver", "add one: `- name: log`");
        }
        (receivers, all)
    }

    /// Whether a receiver may be called that, and none before it is.
    fn is_new_name(&mut self, name: &SmolStr, node: &Node, known: &BTreeMap<SmolStr, Place>) -> bool {
        if name.is_empty() {
            self.found.error(node.place, "`` is no name", "write some text");
            return false;
        }
        if let Some(first) = known.get(name) {
            let first = self.found.at(*first);
            let message = format!("the receiver `{name}` is defined twice, first {first}");
            self.found.error(node.place, message, "rename one, or put their actions together");
            return false;
        }
        true
    }

    /// Two that write one file rotate it under each other.
    fn warn_of_one_file_for_two(
        &mut self,
        item: &Node,
        id: &ActionId,
        settings: &ActionSettings,
        data_dir: &Path,
        files: &mut BTreeMap<PathBuf, ActionId>,
    ) {
        let Some(file) = settings.file(data_dir) else { return };
        if let Some(first) = files.get(&file) {
            let message = format!("`{first}` and `{id}` write to one file, {}", file.display());
            let mend = "give each a `path` of its own: each rotates the file without the other's knowledge";
            self.found.warning(item.place, message, mend);
            return;
        }
        files.insert(file, id.clone());
    }

    /// One action: a map with its key and its settings.
    pub(super) fn action(&mut self, node: &Node, data_dir: &Path) -> Option<(ActionSettings, ActionLimits)> {
        let (kind, key, settings_node) = self.kind_of(node)?;
        let before = self.found.list.len();
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
        let json = settings_node.to_json(&mut |text, place| {
            let value = found.expand(text, place);
            if template_marks(&value) > template_marks(text) {
                let mend = "write it into a file, or into the template itself";
                found.error(place, "what the environment puts in here would be read as a template", mend);
            }
            value
        });
        let mut json = if json.is_null() { serde_json::json!({}) } else { json };
        self.file_settings(kind, settings_node, &mut json);
        if !self.is_former {
            self.inline_secrets(kind, settings_node);
        }
        let mut json = serde_json::json!({ kind.key: json });
        let (mut settings, replaced) = self.deserialized(kind, settings_node, &mut json)?;
        settings.set_templates(self.templates.clone());
        if !self.is_former
            && let Err(mistakes) = settings.build(&BuildContext::new(data_dir, self.severities.clone()))
        {
            self.build_mistakes(kind, settings_node, &replaced, mistakes);
        }
        if self.found.list.len() > before {
            return None;
        }
        if !self.is_former {
            for warning in settings.warnings() {
                // Of a setting that is not there the action itself is the place.
                let field = &warning.field;
                let top = field.split('[').next().unwrap_or(field);
                let place = match settings_node.key_place(top) {
                    Some(place) if top == field => place,
                    Some(_) => settings_node.at(field).place,
                    None => key.place,
                };
                self.found.warning(place, warning.message, warning.mend);
            }
        }
        let limits = settings.limits();
        Some((settings, limits))
    }

    /// Which action an entry is, and its settings.
    fn kind_of<'n>(&mut self, node: &'n Node) -> Option<(&'static Kind, &'n Key, &'n Node)> {
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
        Some((ams2_handlers::kind(&key.text)?, key, settings_node))
    }

    /// The settings in `json`, and the names of those in whose place something stands that is not wrong: every mistake is to be found.
    fn deserialized(
        &mut self,
        kind: &Kind,
        node: &Node,
        json: &mut serde_json::Value,
    ) -> Option<(ActionSettings, Vec<String>)> {
        let mut replaced = Vec::new();
        loop {
            let error = match serde_path_to_error::deserialize(json.clone()) {
                Ok(settings) => return Some((settings, replaced)),
                Err(error) => error,
            };
            let path = error.path().to_string();
            let path = path.strip_prefix(kind.key).unwrap_or(&path).trim_start_matches('.').to_owned();
            let message = error.into_inner().to_string();
            self.settings_mistake(kind, node, &path, &message);
            // Without the setting that is wrong, what else is wrong comes to light.
            match replace_missing(json, kind.key, node, &path, &message) {
                Some(name) => replaced.push(name),
                None if without_mistake(&mut json[kind.key], &path, &message) => {}
                None => return None,
            }
        }
    }

    /// Puts what building found to the settings as they are written.
    fn build_mistakes(&mut self, kind: &Kind, node: &Node, replaced: &[String], found: Vec<SettingsError>) {
        for mistake in found {
            // What is wrong with those is said.
            let top = mistake.field.split(['.', '[']).next().unwrap_or_default();
            if replaced.iter().any(|name| name == top) {
                continue;
            }
            let place = node.at(written_key(kind, node, &mistake.field)).place;
            self.found.error(place, format!("{}: {}", mistake.field, mistake.message), mistake.mend);
        }
    }

    /// Marks what may be a secret, so that no mistake shows its line. A key that is misspelt may have one all the same.
    fn hide_secrets(&mut self, kind: &Kind, node: &Node) {
        for file in kind.files.iter().filter(|file| file.secret) {
            let (node, name) = match file.into.split_once('.') {
                Some((folder, name)) => (node.at(folder), name),
                None => (node, file.into),
            };
            let Value::Map(entries) = &node.value else { continue };
            for (key, value) in entries {
                let meant = nearest(&key.text, std::iter::once(name)).is_some();
                if meant && !matches!(&value.value, Value::Text(text) if is_reference(text)) {
                    self.found.secret_at(value.place);
                }
            }
        }
    }

    /// Puts in what files hold that other keys name. A secret stands in a file or in the environment, never in the
    /// config, which is kept for ever.
    fn file_settings(&mut self, kind: &Kind, node: &Node, json: &mut serde_json::Value) {
        self.hide_secrets(kind, node);
        for FileSetting { key, into, secret, inline: may_stand } in kind.files {
            // A setting within another: both names have the same before the point.
            let (node, json, key, into) = match (key.split_once('.'), into.split_once('.')) {
                (Some((folder, key)), Some((_, into))) => {
                    let Some(within) = json.get_mut(folder) else { continue };
                    (node.at(folder), within, key, into)
                }
                _ => (node, &mut *json, *key, *into),
            };
            let (Value::Map(entries), Some(json)) = (&node.value, json.as_object_mut()) else { continue };
            let of = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node);
            let inline = of(into);
            if let Some(node) = inline
                && *secret
                && !may_stand
                && !matches!(&node.value, Value::Text(text) if is_reference(text))
            {
                let mend =
                    format!("write it into a file and name that with `{key}`, or `{into}: ${{env:NAME}}`");
                self.found.error(node.place, format!("`{into}` may not stand in the config itself"), mend);
                let unread = if into.ends_with("url") { URL_UNREAD } else { SECRET_UNREAD };
                json.insert(into.to_owned(), unread.into());
            }
            let Some(file) = of(key) else { continue };
            json.remove(key);
            if inline.is_some() {
                self.found.error(file.place, format!("both `{into}` and `{key}` are given"), "remove one");
                continue;
            }
            let value = match (self.is_former, secret) {
                (true, _) => Some(String::new()),
                (false, true) => self.secret(file),
                (false, false) => self.file_text(file),
            };
            // What is wrong with the file is said; that the setting is missing would be said of nothing.
            let unread = if *may_stand { URL_UNREAD } else { SECRET_UNREAD };
            let value = value.or(secret.then(|| unread.to_owned()));
            json.extend(value.map(|value| (into.to_owned(), value.into())));
        }
    }

    /// Secrets that stand where something else may: in headers, and in URLs that need not be secret.
    fn inline_secrets(&mut self, kind: &Kind, node: &Node) {
        let inline = |node: &Node| match &node.value {
            Value::Text(text) if !text.contains("${env:") => Some(text.clone()),
            _ => None,
        };
        if kind.key == ams2_handlers::webhook::KIND.key
            && let Value::Map(headers) = &node.at("headers").value
        {
            for (name, value) in headers.iter().filter(|(name, _)| is_secret_header(&name.text)) {
                if inline(value).is_some_and(|text| !text.is_empty()) {
                    self.found.secret_at(value.place);
                    let name = &name.text;
                    let mend = format!(
                        "write `{name}: '${{env:NAME}}'`; for a login there are `bearer_token_file` and `basic_auth`"
                    );
                    let message =
                        format!("`{name}` may not stand in the config itself, which is kept for ever");
                    self.found.error(value.place, message, mend);
                }
            }
        }
        let proxy = node.at("proxy");
        if inline(proxy).is_some_and(|url| is_login_of_proxy(&url)) {
            self.found.secret_at(proxy.place);
            let message = "the login of `proxy` may not stand in the config itself, which is kept for ever";
            let mend = "write `proxy: '${env:NAME}'`, and the URL with its login into that variable";
            self.found.error(proxy.place, message, mend);
        }
        for file in kind.files.iter().filter(|file| file.secret && file.inline) {
            let value = node.at(file.into);
            if inline(value).is_some_and(|text| has_random_part(&text)) {
                let FileSetting { key, into, .. } = file;
                let message = format!("`{into}` looks like a secret, and the config is kept for ever");
                let mend =
                    format!("write it into a file and name that with `{key}`, or `{into}: '${{env:NAME}}'`");
                self.found.secret_at(value.place);
                self.found.warning(value.place, message, mend);
            }
        }
    }

    /// Serde's words for a wrong setting, in ours.
    pub(super) fn settings_mistake(&mut self, kind: &Kind, node: &Node, path: &str, message: &str) {
        let at = node.at(path);
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        if let Some(rest) = message.strip_prefix("unknown field ")
            && let [unknown, known @ ..] = quoted.as_slice()
        {
            // The path may name the map, or the key in it.
            let map = node.at(path.strip_suffix(unknown).unwrap_or(path));
            let place = map.key_place(unknown).or(at.key_place(unknown)).unwrap_or(at.place);
            let is_from_file = |name: &str| kind.files.iter().any(|file| file.into == name && !file.inline);
            let here = known.iter().copied().filter(|name| !is_from_file(name));
            let from_files = kind.files.iter().map(|file| file.key);
            let mut keys: Vec<&str> = here.chain(from_files.filter(|key| !key.contains('.'))).collect();
            keys.sort_unstable();
            let mend = match nearest(unknown, known.iter().copied().chain(keys.iter().copied())) {
                Some(near) => format!("did you mean `{near}`?"),
                None if rest.contains("expected") => format!("known here: {}", keys.join(", ")),
                None => String::new(),
            };
            self.found.error(place, format!("unknown key `{unknown}`"), mend);
        } else if message.starts_with("missing field ") {
            let name = quoted.first().copied().unwrap_or("?");
            if at.key_place(name).is_some() {
                // It is there, and what is wrong with it is said.
                return;
            }
            self.found.error(at.place, format!("`{name}` is missing"), format!("add `{name}:`"));
        } else {
            let (message, mend) = in_our_words(message);
            self.found.error(at.place, message, mend);
        }
    }

    pub(super) fn unused_receivers(&mut self, tree: &Node, receivers: &[(SmolStr, bool)], used: &[SmolStr]) {
        let Value::List(items) = &tree.at("receivers").value else { return };
        for (name, _) in receivers.iter().filter(|(name, _)| !used.contains(name)) {
            let is_it = |item: &&Node| matches!(&item.at("name").value, Value::Text(text) if text == name);
            if let Some(item) = items.iter().find(is_it) {
                let message = format!("no route names the receiver `{name}`");
                self.found.warning(item.place, message, "name it in a route, or remove it");
            }
        }
    }

    pub(super) fn removed(&mut self, node: &Node, receivers: &[(SmolStr, bool)]) -> Vec<(ActionId, Removed)> {
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
}

/// Values that actions name and refuse, so that whoever writes them hears why: none that a message should offer.
const NOT_OFFERED: [&str; 3] = ["md5", "des", "3des"];

/// Serde's words for a value of the wrong type, and how to mend it.
fn in_our_words(message: &str) -> (String, String) {
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let quoted: Vec<&str> = rest.split('`').step_by(2).collect();
        if let [given, known @ ..] = quoted.as_slice() {
            let known: Vec<&str> = known
                .iter()
                .copied()
                .filter(|value| !value.is_empty() && !NOT_OFFERED.contains(value))
                .collect();
            let mend = match nearest(given, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use {}", known.join(", ")),
            };
            return (format!("`{given}` is none of its values"), mend);
        }
    }
    let parts = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    let Some((found, expected)) = parts.and_then(|parts| parts.rsplit_once(", expected ")) else {
        return (message.to_owned(), String::new());
    };
    let (expected, mend) = match expected {
        "a sequence" => ("a list", "write it as a list: [a, b]"),
        "a string" => ("text", if found.starts_with("string") { "" } else { "put it in quotes" }),
        "a boolean" => ("true or false", ""),
        "u8" | "u16" | "u32" | "u64" | "usize" => ("a whole number", ""),
        "i32" | "i64" => ("a whole number, which may be negative", ""),
        "a map" => ("a map of settings", ""),
        other if other.starts_with("struct") => ("a map of settings", ""),
        other => (other, ""),
    };
    // What the text is may be a secret that stands in the wrong place: its place is shown anyway.
    let found = match found.split_once(' ') {
        Some(("string", _)) => "text".to_owned(),
        Some(("integer", number)) => format!("the number {}", number.trim_matches('`')),
        Some(("floating", number)) => {
            format!("the number {}", number.trim_start_matches("point `").trim_matches('`'))
        }
        Some(("boolean", value)) => format!("the boolean {}", value.trim_matches('`')),
        _ => match found {
            "sequence" => "a list".to_owned(),
            "map" => "a map".to_owned(),
            "null" | "unit" | "unit value" => "nothing".to_owned(),
            other => other.to_owned(),
        },
    };
    (format!("expected {expected}, found {found}"), mend.into())
}

/// Where a demanded setting was taken out since its value is wrong: puts something of the right type in its place, and gives
/// its name.
fn replace_missing(
    action: &mut serde_json::Value,
    kind: &str,
    node: &Node,
    path: &str,
    message: &str,
) -> Option<String> {
    let name = message.strip_prefix("missing field `")?.split('`').next()?;
    // Only at this level: one within another setting is named by its path.
    if !path.is_empty() && path != name || node.key_place(name).is_none() {
        return None;
    }
    let values = [
        serde_json::json!("http://replaced.invalid"),
        serde_json::json!(["replaced@replaced.invalid"]),
        serde_json::json!("replaced@replaced.invalid"),
        serde_json::json!("1.1.1.1:1"),
        serde_json::json!(1),
        serde_json::json!(true),
        serde_json::json!({}),
    ];
    for value in values {
        action[kind][name] = value;
        let is_taken = match serde_path_to_error::deserialize::<_, ActionSettings>(action.clone()) {
            Ok(_) => true,
            Err(error) => !error.path().iter().any(|part| part.to_string() == name),
        };
        if is_taken {
            return Some(name.to_owned());
        }
    }
    None
}

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

/// Whether a text is one reference to the environment, and nothing else.
fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${env:").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['}', '{']))
}

/// Whether a header of this name says who we are.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "proxy-authorization", "cookie"].contains(&name.as_str())
        || ["token", "key", "secret", "password"].iter().any(|end| name.ends_with(end))
}

/// Whether a proxy's URL says who we are, with a password or without: nothing else of it has an `@`.
pub(crate) fn is_login_of_proxy(url: &str) -> bool {
    url.contains('@')
}

/// Shortest part of a URL that may be a secret, in bytes.
const RANDOM_BYTES_MIN: usize = 20;

/// Whether a part of a URL's path, or a value of its query, is long and looks made by chance: letters and digits mixed.
fn has_random_part(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let Some(path) = rest.find('/').map(|start| &rest[start..]) else { return false };
    path.split(['/', '?', '&', '=', '#', ':', '.']).any(|part| {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'%' | b'~' | b'+');
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        let letters = part.bytes().filter(u8::is_ascii_alphabetic).count();
        part.len() >= RANDOM_BYTES_MIN && part.bytes().all(is_word) && digits >= 3 && letters >= 3
    })
}

/// The key that an admin wrote for a setting: `password_file` where `password` came from a file.
fn written_key<'k>(kind: &Kind, node: &Node, field: &'k str) -> &'k str {
    let is_written = |key: &str| match key.split_once('.') {
        Some((folder, key)) => node.at(folder).key_place(key).is_some(),
        None => node.key_place(key).is_some(),
    };
    let file = kind.files.iter().find(|file| file.into == field && is_written(file.key));
    file.map_or(field, |file| file.key)
}

/// How many marks of a template there are in a setting's text.
fn template_marks(text: &str) -> usize {
    ["{{", "{%", "{#"].iter().map(|mark| text.matches(mark).count()).sum()
}
