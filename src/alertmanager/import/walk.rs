//! Taking settings one by one: each is reported once, and what nobody takes is said to be unknown.

use std::collections::BTreeMap;

use super::{Entry, Fate, LEFT_OUT, SecretsTo, yaml::Yaml};
use crate::config::{
    Diagnostic, Place,
    tree::{Key, Node, Value},
};

/// The work so far.
pub(super) struct Import {
    pub report: Vec<Entry>,
    pub mistakes: Vec<Diagnostic>,
    pub secrets: BTreeMap<String, String>,
    /// Variables that the caller does not give, and their values: two values have two names.
    variables: BTreeMap<String, String>,
    secrets_to: SecretsTo,
    /// Names of the secrets of the action that is being translated.
    fresh: Vec<String>,
    /// Why actions cannot run, by their paths in the file: these are left out.
    refused: BTreeMap<String, String>,
    /// The path in the file of each action, receiver by receiver, as they stand in ours.
    pub actions: Vec<Vec<String>>,
    /// The lines of the file.
    lines: Vec<String>,
    /// Where we are in the file.
    path: Vec<String>,
}

/// The keys of one map.
pub(super) struct Fields<'n> {
    entries: &'n [(Key, Node)],
    taken: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a key, if it is there and says something.
    pub fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.taken.push(name);
        let found = self.entries.iter().find(|(key, _)| key.text == name);
        found.map(|(_, value)| value).filter(|value| !matches!(value.value, Value::Null))
    }

    /// The value of a key, which somebody else takes.
    pub fn peek(&self, name: &str) -> Option<&'n Node> {
        let found = self.entries.iter().find(|(key, _)| key.text == name);
        found.map(|(_, value)| value).filter(|value| !matches!(value.value, Value::Null))
    }
}

impl Import {
    pub fn new(text: &str, secrets_to: SecretsTo, refused: &BTreeMap<String, String>) -> Import {
        Import {
            report: Vec::new(),
            mistakes: Vec::new(),
            secrets: BTreeMap::new(),
            variables: BTreeMap::new(),
            secrets_to,
            fresh: Vec::new(),
            refused: refused.clone(),
            actions: Vec::new(),
            lines: text.lines().map(str::to_owned).collect(),
            path: Vec::new(),
        }
    }

    /// The keys of a map; anything else is a mistake.
    pub fn fields<'n>(&mut self, node: &'n Node) -> Fields<'n> {
        let entries: &[(Key, Node)] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => {
                let message = format!("expected a map of settings, found {}", other.kind());
                self.mistakes.push(Diagnostic::error(node.place, message, ""));
                &[]
            }
        };
        Fields { entries, taken: Vec::new() }
    }

    /// Says what nobody took: settings that we do not know.
    pub fn end(&mut self, fields: Fields<'_>) {
        for (key, _) in fields.entries.iter().filter(|(key, _)| !fields.taken.contains(&key.text.as_str())) {
            self.path.push(key.text.clone());
            self.impossible(key.place, "this setting is not known");
            self.path.pop();
        }
    }

    /// The items of a list; anything else is a mistake.
    pub fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            other => {
                let message = format!("expected a list, found {}", other.kind());
                self.mistakes.push(Diagnostic::error(node.place, message, ""));
                &[]
            }
        }
    }

    /// A text, or what YAML takes for something else and is meant as one.
    pub fn text(&mut self, node: &Node) -> String {
        match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(text) => self.written(node.place, text),
            Value::Bool(value) => value.to_string(),
            Value::Null => String::new(),
            other => {
                let message = format!("expected text, found {}", other.kind());
                self.mistakes.push(Diagnostic::error(node.place, message, ""));
                String::new()
            }
        }
    }

    /// What YAML takes for a number as it stands in the file: `007` is no 7 where a text is meant.
    fn written(&self, place: Place, number: &str) -> String {
        let line = self.lines.get(place.line.saturating_sub(1)).map_or("", String::as_str);
        let rest = line.chars().skip(place.column.saturating_sub(1));
        let word: String = rest.take_while(|c| !c.is_whitespace() && !",]}".contains(*c)).collect();
        let value = |text: &str| text.parse::<f64>().ok();
        if value(&word).is_some() && value(&word) == value(number) { word } else { number.to_owned() }
    }

    pub fn flag(&mut self, node: &Node) -> bool {
        match &node.value {
            Value::Bool(value) => *value,
            // Words of YAML 1.1, which Alertmanager reads.
            Value::Text(text) if ["y", "yes", "on"].contains(&text.to_ascii_lowercase().as_str()) => true,
            Value::Text(text) if ["n", "no", "off"].contains(&text.to_ascii_lowercase().as_str()) => false,
            other => {
                let message = format!("expected true or false, found {}", other.kind());
                self.mistakes.push(Diagnostic::error(node.place, message, ""));
                false
            }
        }
    }

    /// Translates what becomes an action. One that cannot run is left out, and the others run.
    pub fn action(
        &mut self,
        place: Place,
        work: impl FnOnce(&mut Import) -> Result<Yaml, String>,
    ) -> Option<Yaml> {
        self.fresh.clear();
        let made = work(self);
        let path = self.path.join(".");
        let why = match (made, self.refused.get(&path)) {
            (Ok(action), None) => {
                self.actions.last_mut().expect("its receiver is there").push(path);
                return Some(action);
            }
            (Ok(_), Some(why)) => why.clone(),
            (Err(why), _) => why,
        };
        for name in std::mem::take(&mut self.fresh) {
            self.secrets.remove(&name);
            self.variables.remove(&name);
        }
        self.impossible(place, format!("{LEFT_OUT}{why}"));
        None
    }

    /// Works at `path` once more on what was reported: only what is worse than translated is said, and once.
    pub fn again<T>(&mut self, path: &[&str], work: impl FnOnce(&mut Import) -> T) -> T {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        let (before, here) = (self.report.len(), std::mem::replace(&mut self.path, path));
        let done = work(self);
        self.path = here;
        for entry in self.report.split_off(before) {
            if entry.fate != Fate::Translated && !self.report.contains(&entry) {
                self.report.push(entry);
            }
        }
        done
    }

    /// Works below a key.
    pub fn below<T>(&mut self, key: impl Into<String>, work: impl FnOnce(&mut Import) -> T) -> T {
        self.enter(key);
        let done = work(self);
        self.leave();
        done
    }

    /// Goes below a key, until [`leave`](Import::leave).
    pub fn enter(&mut self, key: impl Into<String>) {
        self.path.push(key.into());
    }

    pub fn leave(&mut self) {
        self.path.pop();
    }

    fn entry(&mut self, place: Place, fate: Fate, words: impl Into<String>) {
        let entry = Entry {
            line: place.line,
            column: place.column,
            fate,
            setting: self.path.join("."),
            words: words.into(),
        };
        self.report.push(entry);
    }

    pub fn translated(&mut self, place: Place) {
        self.entry(place, Fate::Translated, "");
    }

    pub fn approximated(&mut self, place: Place, words: impl Into<String>) {
        self.entry(place, Fate::Approximated, words);
    }

    pub fn impossible(&mut self, place: Place, words: impl Into<String>) {
        self.entry(place, Fate::Impossible, words);
    }

    /// A secret that stands in the file: the key and the value that stand for it in ours.
    pub fn secret(&mut self, key: &str, owner: &str, value: String) -> (String, String) {
        let base = match &self.secrets_to {
            SecretsTo::Folder(_) => format!("{}-{}", safe(owner), safe(key)),
            SecretsTo::Variables => variable(key, owner),
        };
        let name = numbered(&mut self.secrets, &mut self.fresh, base, value);
        match &self.secrets_to {
            SecretsTo::Folder(folder) => (format!("{key}_file"), format!("{folder}/{name}")),
            SecretsTo::Variables => (key.to_owned(), format!("${{env:{name}}}")),
        }
    }

    /// A secret that no file can give: what stands for it in ours, and the variable that the caller does not give.
    pub fn secret_variable(&mut self, key: &str, owner: &str, value: String) -> (String, Option<String>) {
        match &self.secrets_to {
            SecretsTo::Variables => (self.secret(key, owner, value).1, None),
            SecretsTo::Folder(_) => {
                let name = numbered(&mut self.variables, &mut self.fresh, variable(key, owner), value);
                (format!("${{env:{name}}}"), Some(name))
            }
        }
    }
}

/// Keeps a secret among those that are known, and gives its name: `base`, with a number where that has another value. One that was not
/// there is fresh.
fn numbered(
    known: &mut BTreeMap<String, String>,
    fresh: &mut Vec<String>,
    base: String,
    value: String,
) -> String {
    let separator = if base.contains('-') { '-' } else { '_' };
    let mut name = base.clone();
    let mut number = 2;
    while known.get(&name).is_some_and(|known| *known != value) {
        name = format!("{base}{separator}{number}");
        number += 1;
    }
    if known.insert(name.clone(), value).is_none() {
        fresh.push(name.clone());
    }
    name
}

/// The name of a secret as a file has it.
fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// The name of a secret as a variable has it.
fn variable(key: &str, owner: &str) -> String {
    let name = format!("{}-{}", safe(owner), safe(key));
    format!("AMS2_IMPORTED_{}", name.replace('-', "_").to_ascii_uppercase())
}
