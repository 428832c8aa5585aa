//! Walking the tree: taking a map's keys one by one, with every mistake kept and none hiding another.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ams2_handlers::units;

use super::{
    diagnostic::{Diagnostic, Place},
    nearest,
    tree::{Key, Node, Value},
};

/// What was found wrong so far.
#[derive(Default)]
pub(in crate::config) struct Found {
    pub list: Vec<Diagnostic>,
    /// The names of the files, if there is more than one.
    pub names: Vec<String>,
    /// Values of environment variables that were put in, with what stands for them in the file.
    values: Vec<(String, String)>,
    /// What stands for variables before the environment is asked.
    variables: BTreeMap<String, String>,
    /// Where secrets stand in the files that should not, or may: those lines are never shown.
    secrets: Vec<Place>,
    /// Whether a variable that is not set stands for nothing, and is no mistake.
    unset_is_empty: bool,
}

/// Shorter values are no secrets, and part of too much else.
const HIDDEN_BYTES_MIN: usize = 4;

impl Found {
    /// Nothing yet. These variables stand before the environment's.
    pub fn with(variables: BTreeMap<String, String>) -> Found {
        Found { variables, ..Found::default() }
    }

    /// For a config whose variables may be gone.
    pub fn where_unset_is_empty() -> Found {
        Found { unset_is_empty: true, ..Found::default() }
    }

    pub fn error(&mut self, place: Place, message: impl Into<String>, mend: impl Into<String>) {
        self.list.push(Diagnostic::error(place, message, mend));
    }

    pub fn note(&mut self, place: Place, message: impl Into<String>, mend: impl Into<String>) {
        self.list.push(Diagnostic::note(place, message, mend));
    }

    pub fn warning(&mut self, place: Place, message: impl Into<String>, mend: impl Into<String>) {
        self.list.push(Diagnostic::warning(place, message, mend));
    }

    /// A place in words, for messages about another place.
    pub fn at(&self, place: Place) -> String {
        match self.names.get(usize::from(place.file)) {
            Some(name) => format!("at {name}:{}:{}", place.line, place.column),
            None => format!("in line {}", place.line),
        }
    }

    fn expected(&mut self, node: &Node, what: &str) {
        let shown = match &node.value {
            Value::Text(text) => format!("`{}`", text.chars().take(60).collect::<String>()),
            Value::Number(text) => format!("the number {text}"),
            Value::Bool(value) => format!("the boolean {value}"),
            other => other.kind().to_owned(),
        };
        let mend = match &node.value {
            Value::Number(_) | Value::Bool(_) if what == "text" => "put it in quotes",
            _ => "",
        };
        self.error(node.place, format!("expected {what}, found {shown}"), mend);
    }

    pub fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.expected(node, "text");
                None
            }
        }
    }

    /// Text that the core reads: nothing of this process's environment may be in it.
    pub fn plain<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        let text = self.text(node)?;
        if text.contains("${env:") {
            let mend = "write the value here: routing must be the same on every machine that replays it";
            self.error(node.place, "environment variables are not allowed here", mend);
            return None;
        }
        Some(text)
    }

    /// Text that the core reads, or a whole number as it is written.
    pub fn scalar<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Number(text) => Some(text),
            _ => self.plain(node),
        }
    }

    /// Text of the shell's own settings: `${env:NAME}` stands for the variable's value.
    pub fn expanded(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        Some(self.expand(text, node.place))
    }

    /// Puts in environment variables. Values are put in after parsing and never parsed again.
    pub fn expand(&mut self, text: &str, place: Place) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${env:") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 6..];
            let Some(end) = after.find('}') else {
                self.error(place, "`${env:` is not closed", "write ${env:NAME}");
                return out;
            };
            let name = &after[..end];
            match self.variables.get(name).cloned().ok_or(()).or_else(|()| std::env::var(name)) {
                Ok(value) => {
                    out.push_str(&value);
                    if value.len() >= HIDDEN_BYTES_MIN {
                        self.values.push((value, format!("${{env:{name}}}")));
                    }
                }
                Err(_) if self.unset_is_empty => {}
                Err(_) => {
                    let mend = "set it before ams2 starts, or write the value here";
                    self.error(place, format!("the environment variable `{name}` is not set"), mend);
                }
            }
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        // Where there is space it may be a script, which has variables of its own.
        if !text.contains(char::is_whitespace) && has_shell_variable(text) {
            let message = "what is written as `${NAME}` is not replaced: it stands there as it is";
            self.note(place, message, "write ${env:NAME} for a value of the environment");
        }
        out
    }

    /// A secret stands at this place, or may.
    pub fn secret_at(&mut self, place: Place) {
        self.secrets.push(place);
    }

    /// What was found, with everything from the environment as it stands in the file: it may be a secret.
    pub fn hidden(self) -> Vec<Diagnostic> {
        let Found { list: mut found, mut values, secrets, .. } = self;
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        for diagnostic in &mut found {
            let line = |place: &Place| (place.file, place.line);
            diagnostic.beside_secret = secrets.iter().any(|place| line(place) == line(&diagnostic.place));
            for (value, written) in &values {
                diagnostic.message = diagnostic.message.replace(value, written);
                diagnostic.mend = diagnostic.mend.replace(value, written);
            }
        }
        found
    }

    pub fn flag(&mut self, node: &Node) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.expected(node, "true or false");
                None
            }
        }
    }

    pub fn number(&mut self, node: &Node, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (range.start(), range.end());
        let value = match &node.value {
            Value::Number(text) => text.parse::<u64>().ok(),
            _ => None,
        };
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.expected(node, &format!("a whole number from {low} to {high}"));
        }
        value
    }

    /// What stands where a number with its unit should; a bare number's mistake is its missing unit.
    fn with_unit<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) | Value::Number(text) => Some(text),
            _ => {
                self.expected(node, what);
                None
            }
        }
    }

    /// A duration such as `30s`, in milliseconds, at least `least`.
    pub fn duration_ms(&mut self, node: &Node, least: u64) -> Option<u64> {
        let text = self.with_unit(node, "a duration such as 30s")?;
        match units::Duration::parse(text) {
            Ok(duration) if duration.ms() >= least => Some(duration.ms()),
            Ok(_) => {
                let mend = match least {
                    1 => "it must be more than 0".to_owned(),
                    least => format!("use {} or more", units::Duration::from_ms(least)),
                };
                self.error(node.place, format!("the duration `{text}` is too short"), mend);
                None
            }
            Err(error) => {
                self.error(node.place, error.to_string(), "");
                None
            }
        }
    }

    /// A size such as `64KiB`, in bytes.
    pub fn bytes(&mut self, node: &Node) -> Option<usize> {
        let text = self.with_unit(node, "a size such as 64KiB")?;
        match units::Bytes::parse(text) {
            Ok(bytes) => Some(bytes.len()),
            Err(error) => {
                self.error(node.place, error.to_string(), "");
                None
            }
        }
    }

    /// A size of the setting `name` that may not be any.
    pub fn bytes_within(
        &mut self,
        node: &Node,
        name: &str,
        allowed: &std::ops::RangeInclusive<usize>,
    ) -> Option<usize> {
        let bytes = self.bytes(node)?;
        if !allowed.contains(&bytes) {
            let mend = format!("use {} to {} bytes", allowed.start(), allowed.end());
            self.error(node.place, format!("{name}: {bytes} bytes"), mend);
            return None;
        }
        Some(bytes)
    }

    pub fn path(&mut self, node: &Node) -> Option<PathBuf> {
        self.expanded(node).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    pub fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            _ => {
                self.expected(node, "a list");
                &[]
            }
        }
    }

    /// Keys that are given twice in one map, wherever they are.
    pub fn duplicates(&mut self, node: &Node) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.duplicates(item)),
            Value::Map(entries) => {
                let mut first: BTreeMap<&str, Place> = BTreeMap::new();
                for (key, value) in entries {
                    match first.get(key.text.as_str()) {
                        Some(place) => {
                            let first = self.at(*place);
                            let message =
                                format!("`{}` is given twice in the same map, first {first}", key.text);
                            self.error(key.place, message, "remove one of the two");
                        }
                        None => drop(first.insert(&key.text, key.place)),
                    }
                    self.duplicates(value);
                }
            }
            _ => {}
        }
    }

    /// The keys of a map. Keys that are not taken until [`Fields::end`] are unknown.
    pub fn fields<'n>(&mut self, node: &'n Node) -> Fields<'n> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                self.expected(node, "a map of settings");
                &[]
            }
        };
        Fields { place: node.place, entries, asked: Vec::new() }
    }
}

/// The keys of one map.
pub(in crate::config) struct Fields<'n> {
    pub place: Place,
    pub entries: &'n [(Key, Node)],
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a key, if it is there.
    pub fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.asked.push(name);
        self.entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    /// The value of a key that must be there.
    pub fn demand(&mut self, name: &'static str, found: &mut Found) -> Option<&'n Node> {
        let value = self.take(name);
        if value.is_none() {
            found.error(self.place, format!("`{name}` is missing"), format!("add `{name}:`"));
        }
        value
    }

    /// Times of limits, each by its name where it is given: at least 100 ms.
    pub fn limit_times<const N: usize>(
        &mut self,
        found: &mut Found,
        times: [(&'static str, &mut Duration); N],
    ) {
        for (name, time) in times {
            if let Some(ms) = self.take(name).and_then(|node| found.duration_ms(node, 100)) {
                *time = Duration::from_millis(ms);
            }
        }
    }

    /// Counts of limits, likewise: 1 to 1,000,000.
    pub fn limit_counts<const N: usize>(
        &mut self,
        found: &mut Found,
        counts: [(&'static str, &mut usize); N],
    ) {
        for (name, count) in counts {
            if let Some(number) = self.take(name).and_then(|node| found.number(node, 1..=1_000_000)) {
                *count = number as usize;
            }
        }
    }

    /// Says every key that nobody asked for.
    pub fn end(self, found: &mut Found) {
        for (key, _) in self.entries {
            if !self.asked.contains(&key.text.as_str()) {
                unknown_key(found, key, &self.asked);
            }
        }
    }
}

/// A key that means nothing here.
pub(in crate::config) fn unknown_key(found: &mut Found, key: &Key, known: &[&str]) {
    let mend = match nearest(&key.text, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    found.error(key.place, format!("unknown key `{}`", key.text), mend);
}
/// Whether there is a `${NAME}`, as shells write it for a value of the environment, or a `${NAME:-default}`. Those that programs are
/// given by us are meant so.
fn has_shell_variable(text: &str) -> bool {
    text.split("${").skip(1).any(|after| {
        let end = after.find(|at: char| !at.is_ascii_alphanumeric() && at != '_').unwrap_or(0);
        let (name, rest) = after.split_at(end);
        let is_ours = ["", "env"].contains(&name) || name.starts_with("AMS2_");
        !is_ours && (rest.starts_with('}') || rest.starts_with(":-"))
    })
}
