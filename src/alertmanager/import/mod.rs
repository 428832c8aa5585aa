//! An `alertmanager.yml` as our configuration: every setting is translated, approximated or said to be impossible, with
//! its line. Nothing is dropped in silence.
//!
//! Where to start reading: [`read`]; then `routes` (routes, rules, times), `receivers` with `setting` and
//! `particular`, `email`, `services`, `http` and `global` (who is told, and how), `maps` (settings whose names the admin chose), `walk` (how settings are taken and reported), `yaml` (how the result is written).

mod email;
mod global;
mod http;
mod maps;
mod particular;
mod receivers;
mod routes;
mod services;
mod setting;
mod templates;
#[cfg(test)]
mod tests;
mod walk;
mod yaml;

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use crate::config::{
    self, Diagnostic, Gravity, Overrides, Sources, Wrong,
    tree::{self, Node},
};
use global::Global;
use templates::Templates;
use walk::Import;
use yaml::Yaml;

/// A configuration that was brought over.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Ours, as YAML.
    pub text: String,
    /// Every setting of theirs, in the order of the file.
    pub report: Vec<Entry>,
    /// Secrets that stood in it, by the names that stand for them in the text.
    pub secrets: BTreeMap<String, String>,
}

/// What became of one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// What became of it.
    pub fate: Fate,
    /// Which: its path in the file.
    pub setting: String,
    /// What is other than there, and what to do about it; empty where nothing is.
    pub words: String,
}

/// What the words begin with where all of an action is left out.
const LEFT_OUT: &str = "it is left out: ";

impl Entry {
    /// Whether it is an action that is left out: nobody is told by it.
    pub fn is_left_out(&self) -> bool {
        self.words.starts_with(LEFT_OUT)
    }
}

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It means the same.
    Translated,
    /// It means nearly the same.
    Approximated,
    /// There is nothing like it.
    Impossible,
}

/// Where secrets of the file go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretsTo {
    /// Files of this folder, which the caller writes: [`Imported::secrets`] by file name.
    Folder(String),
    /// Variables, which the caller gives to the reader: [`Imported::secrets`] by variable.
    Variables,
}

/// Reads a file and translates it.
pub fn read(path: &Path, secrets: SecretsTo) -> Result<Imported, Wrong> {
    let files = secrets == SecretsTo::Variables;
    read_with(path, secrets, files)
}

/// Reads a file whose actions run already, secrets to variables. Where a secret's file cannot be read, that is left to the reader of the
/// text, which refuses it: an action that runs is not lost to a file that is away for a moment.
pub fn read_again(path: &Path) -> Result<Imported, Wrong> {
    read_with(path, SecretsTo::Variables, false)
}

fn read_with(path: &Path, secrets: SecretsTo, files: bool) -> Result<Imported, Wrong> {
    let name = path.display().to_string();
    let wrong = |text: &str, found: Vec<Diagnostic>| Wrong {
        sources: Sources::one(name.clone(), text),
        found: found.into_iter().map(|found| found.in_file(&name)).collect(),
    };
    let text = tree::read(path).map_err(|mistake| wrong("", vec![mistake]))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    import(&text, folder, secrets, files).map_err(|found| wrong(&text, found))
}

/// Translates a file. `folder` is where it stands: template files are read from there. What is no YAML, or has neither
/// route nor receivers, is a mistake. `files`: whether an action is left out whose secret's file cannot be read; where secrets are to be
/// files, those of theirs need not be on this machine.
fn import(text: &str, folder: &Path, secrets: SecretsTo, files: bool) -> Result<Imported, Vec<Diagnostic>> {
    let root = tree::parse(text, 0).map_err(|mistake| vec![mistake])?;
    let mut refused = BTreeMap::new();
    loop {
        let made = translate(text, &root, folder, SecretsTo::Variables, &refused)?;
        let more = made.refused(folder, files);
        match more.is_empty() {
            // Each round has an action less.
            false => refused.extend(more),
            true if secrets == SecretsTo::Variables => return Ok(made.imported),
            true => return Ok(translate(text, &root, folder, secrets, &refused)?.imported),
        }
    }
}

/// What one translation made.
struct Made {
    imported: Imported,
    /// Its receivers, as they stand in the text.
    receivers: Yaml,
    /// The path in the file of each action, receiver by receiver.
    actions: Vec<Vec<String>>,
}

impl Made {
    /// Why actions cannot run, by their paths in the file. What Alertmanager starts with starts here, too: one action that we
    /// refuse is left out, so that all others run. `files`: whether secrets in files are looked for.
    fn refused(&self, folder: &Path, files: bool) -> BTreeMap<String, String> {
        let Some(receiver) = self.first_receiver() else { return BTreeMap::new() };
        let mut text = String::new();
        let config = vec![
            ("compat".to_owned(), Yaml::text("alertmanager")),
            ("receivers".to_owned(), self.receivers.clone()),
            ("route".to_owned(), Yaml::Map(vec![("receiver".to_owned(), Yaml::text(receiver))])),
        ];
        Yaml::Map(config).write(0, &mut text);
        let overrides = Overrides { variables: self.imported.secrets.clone(), ..Overrides::default() };
        let Err(wrong) = config::load_text("", &text, folder, &overrides) else { return BTreeMap::new() };
        let mut refused = BTreeMap::new();
        for mistake in wrong.found.iter().filter(|found| found.gravity == Gravity::Error) {
            if !files && mistake.setting.ends_with("_file") {
                continue;
            }
            let Some((path, setting)) = self.action_of(&mistake.setting) else { continue };
            let mend = if mistake.mend.is_empty() { "" } else { ": " };
            let why = format!("{}{mend}{}", of_setting(setting, &mistake.message), mistake.mend);
            refused.entry(path).or_insert(why);
        }
        refused
    }

    fn first_receiver(&self) -> Option<String> {
        let Yaml::List(receivers) = &self.receivers else { return None };
        let Some(Yaml::Map(entries)) = receivers.first() else { return None };
        entries.iter().find_map(|(key, value)| match value {
            Yaml::Text(name) if key == "name" => Some(name.clone()),
            _ => None,
        })
    }

    /// The action that a setting of ours, such as `receivers[0].actions[1].slack.token`, is in, by its path in the file, and the rest of
    /// the setting.
    fn action_of<'s>(&self, setting: &'s str) -> Option<(String, &'s str)> {
        let (receiver, rest) = setting.strip_prefix("receivers[")?.split_once("].actions[")?;
        let (action, rest) = rest.split_once(']')?;
        let path = self.actions.get(receiver.parse::<usize>().ok()?)?.get(action.parse::<usize>().ok()?)?;
        Some((path.clone(), rest.trim_start_matches('.')))
    }
}

/// A message with the setting before it, such as `webhook.url`, once: some have it, without the action's key.
fn of_setting(setting: &str, message: &str) -> String {
    let (kind, own) = setting.split_once('.').unwrap_or((setting, ""));
    // What a file holds has the name of the setting that it is for.
    let names = [own, own.strip_suffix("_file").unwrap_or(own)].into_iter().filter(|name| !name.is_empty());
    let rests = names.filter_map(|name| message.strip_prefix(name));
    match rests.into_iter().find(|rest| rest.starts_with([':', '.', '['])) {
        Some(rest) if rest.starts_with(':') => format!("{setting}{rest}"),
        Some(_) => format!("{kind}.{message}"),
        None => format!("{setting}: {message}"),
    }
}

/// Translates a file whose tree is `root`. `refused`: actions that cannot run, by their paths, and why.
fn translate(
    text: &str,
    root: &Node,
    folder: &Path,
    secrets: SecretsTo,
    refused: &BTreeMap<String, String>,
) -> Result<Made, Vec<Diagnostic>> {
    let mut import = Import::new(text, secrets, refused);
    let mut top = import.fields(root);
    let mut out: Vec<(String, Yaml)> = Vec::new();

    let global = Global::read(&mut import, top.take("global"));
    out.push(("compat".into(), Yaml::text("alertmanager")));
    if let Some(timeout) = &global.resolve_timeout {
        out.push(("resolve_timeout".into(), Yaml::Plain(timeout.clone())));
    }
    let mut templates = Templates::read(&mut import, top.take("templates"), folder);
    let receivers = top.take("receivers");
    let receivers = receivers.map(|node| receivers::receivers(&mut import, node, &global, &mut templates));
    let route = top.take("route");
    let mut intervals = Vec::new();
    for key in ["time_intervals", "mute_time_intervals"] {
        if let Some(node) = top.take(key) {
            intervals.extend(routes::time_intervals(&mut import, node));
        }
    }
    let rules = top.take("inhibit_rules").map(|node| routes::inhibit_rules(&mut import, node));
    let route = route.map(|node| routes::route(&mut import, node));
    for key in ["tracing", "event_recorder"] {
        if let Some(node) = top.take(key) {
            import.impossible(
                node.place,
                "it is about Alertmanager itself: see docs/operating.md for logs and metrics",
            );
        }
    }
    import.end(top);
    let receivers = receivers.map(Yaml::List);
    match (route, &receivers) {
        (Some(route), Some(receivers)) => {
            out.push(("receivers".into(), receivers.clone()));
            out.push(("route".into(), route));
        }
        (None, _) => {
            return Err(vec![Diagnostic::error(
                root.place,
                "no route provided",
                "is this an alertmanager.yml?",
            )]);
        }
        (_, None) => {
            return Err(vec![Diagnostic::error(root.place, "no receivers", "is this an alertmanager.yml?")]);
        }
    }
    if !intervals.is_empty() {
        out.push(("time_intervals".into(), Yaml::List(intervals)));
    }
    if let Some(rules) = rules.filter(|rules| !rules.is_empty()) {
        out.push(("inhibit_rules".into(), Yaml::List(rules)));
    }
    if !import.mistakes.is_empty() {
        return Err(import.mistakes);
    }
    let mut text = String::new();
    Yaml::Map(out).write(0, &mut text);
    let mut report = import.report;
    report.sort_by_key(|entry| (entry.line, entry.column));
    let imported = Imported { text, report, secrets: import.secrets };
    Ok(Made { imported, receivers: receivers.unwrap_or(Yaml::Null), actions: import.actions })
}
