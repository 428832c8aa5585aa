//! A configuration's files: the one that was named, those of the folder that it includes, and the templates that its texts
//! share. They are read, merged and kept as one.

use std::path::{Path, PathBuf};

use super::{
    Diagnostic, Place,
    diagnostic::FileNumber,
    tree::{self, Key, Node, Value},
    walk::{Found, unknown_key},
};

/// Most files that are included.
const FILES_MAX: usize = 1000;
/// Largest configuration, all files together, in bytes: it is kept as one record.
const BYTES_MAX: usize = 4 << 20;
/// What stands before an included file where all are kept as one text. No file can hold such a line: it would begin
/// another document, and files of several documents are refused.
const MARK: &str = "--- # included: ";
/// The same before a template. No template may hold a line that begins with either.
const TEMPLATE_MARK: &str = "--- # template: ";
/// What an included file may hold.
const INCLUDED_KEYS: [&str; 8] = [
    "receivers",
    "routes",
    "clients",
    "severities",
    "removed",
    "time_intervals",
    "inhibit_rules",
    "heartbeats",
];

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in messages.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Whether it is a template, and no YAML.
    pub is_template: bool,
}

/// All files, the named one first, the included ones in the order of their names, then the templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub Vec<SourceFile>);

impl Sources {
    /// A configuration of one text.
    pub fn one(name: impl Into<String>, text: impl Into<String>) -> Sources {
        Sources(vec![SourceFile { name: name.into(), text: text.into(), is_template: false }])
    }

    /// All as one text, for the journal.
    pub fn to_text(&self) -> String {
        let mut files = self.0.iter();
        let mut whole = files.next().map(|file| file.text.clone()).unwrap_or_default();
        for SourceFile { name, text, is_template } in files {
            let mark = if *is_template { TEMPLATE_MARK } else { MARK };
            // A name of two lines cannot be: see `read_folder`.
            whole.push_str(&format!("\n{mark}{name}\n{text}"));
        }
        whole
    }

    /// The files that [`Sources::to_text`] made one of.
    pub fn from_text(text: &str) -> Sources {
        let mut files = Sources::one("config", "").0;
        for line in text.split_inclusive('\n') {
            let included = line.strip_prefix(MARK).map(|name| (name, false));
            let begins = included.or_else(|| line.strip_prefix(TEMPLATE_MARK).map(|name| (name, true)));
            match (begins, files.last_mut()) {
                (Some((name, is_template)), Some(last)) => {
                    if last.text.ends_with('\n') {
                        last.text.pop();
                    }
                    let name = name.trim_end().into();
                    files.push(SourceFile { name, text: String::new(), is_template });
                }
                (None, Some(last)) => last.text.push_str(line),
                (_, None) => {}
            }
        }
        Sources(files)
    }

    /// The templates that its texts share, each with the number of its file: they are called as their files are.
    pub(super) fn templates(&self) -> impl Iterator<Item = (FileNumber, &str, &str)> {
        let files = (0..=FileNumber::MAX).zip(&self.0);
        files.filter(|(_, file)| file.is_template).map(|(number, file)| {
            let name = Path::new(&file.name).file_name().and_then(|name| name.to_str());
            (number, name.unwrap_or(&file.name), file.text.as_str())
        })
    }

    /// The name of a file.
    pub(super) fn name(&self, file: FileNumber) -> &str {
        self.0.get(usize::from(file)).map_or("", |file| file.name.as_str())
    }

    /// The text of a file.
    pub(super) fn text(&self, file: FileNumber) -> &str {
        self.0.get(usize::from(file)).map_or("", |file| file.text.as_str())
    }

    /// Parses all files and merges them into one tree. `read` is whether `include:` is followed; else the included files
    /// are here already.
    ///
    /// Mistakes beside the tree are of included files: their other settings are in it.
    pub(super) fn parse(
        &mut self,
        folder: &Path,
        read: Include,
    ) -> Result<(Node, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut root = tree::parse(self.text(0), 0).map_err(|mistake| vec![mistake])?;
        let include = take(&mut root, "include");
        let templates = take(&mut root, "templates");
        if read == Include::Follow {
            for (node, kind) in [(&include, Held::Yaml), (&templates, Held::Templates)] {
                let Some(node) = node else { continue };
                self.read_folder(node, folder, kind).map_err(|mistake| vec![mistake])?;
            }
        }
        let mut mistakes = Vec::new();
        let mut found = Found::default();
        for number in 1..self.0.len() {
            let file = FileNumber::try_from(number).unwrap_or(FileNumber::MAX);
            // Whose settings are all commented out, for instance.
            if self.0[number].is_template || tree::is_blank(self.text(file)) {
                continue;
            }
            match tree::parse(self.text(file), file) {
                Ok(part) => merge(&mut root, part, &mut found),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() {
            return Ok((root, found.list));
        }
        // What a file that cannot be read defines would be missed everywhere.
        mistakes.append(&mut found.list);
        Err(mistakes)
    }

    fn read_folder(&mut self, node: &Node, folder: &Path, kind: Held) -> Result<(), Diagnostic> {
        let wrong = |message: String, mend: &str| Err(Diagnostic::error(node.place, message, mend));
        let Value::Text(name) = &node.value else {
            return match kind {
                Held::Yaml => {
                    wrong("`include` names one folder".into(), "write for instance `include: conf.d`")
                }
                Held::Templates => {
                    wrong("`templates` names one folder".into(), "write for instance `templates: templates`")
                }
            };
        };
        let folder = folder.join(name);
        let shown = folder.display();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let mend = match kind {
                    Held::Yaml => "name a folder of YAML files",
                    Held::Templates => "name a folder of templates",
                };
                return wrong(format!("the folder {shown} cannot be read: {error}"), mend);
            }
        };
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(error) => return wrong(format!("the folder {shown} cannot be read: {error}"), ""),
            }
        }
        paths.retain(|path| match kind {
            Held::Yaml => !is_hidden(path) && is_yaml(path),
            Held::Templates => !is_hidden(path) && !path.is_dir(),
        });
        paths.sort();
        if paths.len() > FILES_MAX {
            return wrong(format!("{shown} holds {} files", paths.len()), "at most 1000 are included");
        }
        let mut bytes: usize = self.0.iter().map(|file| file.text.len() + file.name.len() + MARK.len()).sum();
        for path in paths {
            let name = path.display().to_string();
            if name.contains(char::is_control) {
                return wrong(format!("{name:?} is a file name with control characters"), "rename it");
            }
            let text = tree::read(&path).map_err(|mistake| Diagnostic {
                place: node.place,
                message: format!("{name}: {}", mistake.message),
                ..mistake
            })?;
            let is_template = kind == Held::Templates;
            if is_template
                && text.lines().any(|line| [MARK, TEMPLATE_MARK].iter().any(|m| line.starts_with(m)))
            {
                let message =
                    format!("{name}: a line begins like those between the files of a configuration");
                return wrong(message, "put something before `---`");
            }
            bytes += text.len() + name.len() + MARK.len();
            if bytes > BYTES_MAX {
                let message = format!("the configuration has more than {BYTES_MAX} bytes with {name}");
                return wrong(message, "is this the right folder?");
            }
            self.0.push(SourceFile { name, text, is_template });
        }
        Ok(())
    }
}

/// Whether `include:` is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    /// The folder is read.
    Follow,
    /// What it held is here already.
    Done,
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Yaml,
    Templates,
}

/// Editors and package managers leave such files.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or(b".");
    name.starts_with(b".") || name.ends_with(b"~")
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml")
}

fn take(root: &mut Node, name: &str) -> Option<Node> {
    let Value::Map(entries) = &mut root.value else { return None };
    let position = entries.iter().position(|(key, _)| key.text == name)?;
    Some(entries.remove(position).1)
}

/// Puts the lists and maps of an included file behind those of the others.
fn merge(root: &mut Node, part: Node, found: &mut Found) {
    found.duplicates(&part);
    let entries = match part.value {
        Value::Map(entries) => entries,
        Value::Null => return,
        _ => {
            let mend = "begin with `receivers:` or `routes:`";
            found.error(part.place, "expected a map of settings", mend);
            return;
        }
    };
    for (key, node) in entries {
        if !INCLUDED_KEYS.contains(&key.text.as_str()) {
            unknown_key(found, &key, &INCLUDED_KEYS);
            continue;
        }
        let target = match key.text.as_str() {
            "routes" => child(root, "route", &key).and_then(|route| child(route, "routes", &key)),
            "clients" => child(root, "originator", &key).and_then(|node| child(node, "clients", &key)),
            name => child(root, name, &key),
        };
        // What is no map there is a mistake of the first file, which its reader says.
        let Some(target) = target else { continue };
        append(target, node, found);
    }
}

/// The value of a key, made if it is not there; `None` if this is no map.
fn child<'n>(node: &'n mut Node, name: &str, key: &Key) -> Option<&'n mut Node> {
    if matches!(node.value, Value::Null) {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else { return None };
    let position = entries.iter().position(|(known, _)| known.text == name).unwrap_or_else(|| {
        let key = Key { text: name.into(), place: key.place };
        entries.push((key, Node { place: Place::default(), value: Value::Null }));
        entries.len() - 1
    });
    Some(&mut entries[position].1)
}

fn append(target: &mut Node, more: Node, found: &mut Found) {
    match (&mut target.value, more.value) {
        (Value::List(items), Value::List(more)) => items.extend(more),
        (Value::Map(entries), Value::Map(more)) => entries.extend(more),
        (_, Value::Null) => {}
        (Value::Null, value) => *target = Node { place: more.place, value },
        (_, value) => {
            let message =
                format!("expected the same kind of value as in the other files, found {}", value.kind());
            found.error(more.place, message, "");
        }
    }
}
