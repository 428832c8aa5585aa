//! Translates Alertmanager's Go templates into templates of ams2.
//!
//! [`Library::add`] reads the template files of a site, in the order in which Alertmanager would;
//! [`Library::translate`] turns one setting of a receiver into a template that stands on its own: what it calls in
//! the library becomes macros at its beginning. What cannot be said the same way is in the notes, with its place.
//!
//! The way of a template: `lex` cuts it into words, `parse` and `pipeline` make the tree of `ast`, `translate` walks
//! it with a `frame` for each body, `value` and `functions` put expressions in minijinja's words, guided by `types`,
//! and `code` keeps them right when they are put together.
//!
//! What the output needs: the variables `receiver`, `status`, `alerts`, `group_labels`, `common_labels`,
//! `common_annotations`, `route_labels`, `external_url`, `reason`, `decided` and `root`, which is all of them as one map; the
//! filters and functions of `filters.rs`; and an environment that keeps trailing line breaks and takes undefined values
//! for false in conditions.

mod ast;
mod code;
mod frame;
mod functions;
mod lex;
mod macros;
mod parse;
mod pipeline;
#[cfg(test)]
mod tests;
mod translate;
mod types;
mod value;

use std::{collections::BTreeMap, fmt};

use self::{ast::Body, frame::Place};

/// Most template files of one site.
const FILES_MAX: usize = 1000;

/// Where a rendered setting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing is escaped.
    Text,
    /// What is put in is escaped as HTML.
    Html,
}

/// A setting in minijinja's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The template; it needs nothing of the library.
    pub source: String,
    /// What is not quite the same, in the order of files and lines; empty if nothing.
    pub notes: Vec<Note>,
}

/// Something that the translation does not say as Alertmanager would.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The template file, as named to [`Library::add`]; empty for the setting itself.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// How far the translation got.
    pub kind: NoteKind,
    /// What is the matter.
    pub what: String,
    /// What the user can do about it.
    pub mend: String,
}

/// How far a translation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// It says something, which can differ in rare cases.
    Approximated,
    /// It says nothing at that place.
    Impossible,
}

/// Why a template cannot be read; Alertmanager would not start with it either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The template file, as named to [`Library::add`]; empty for the setting itself.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What the user can do about it; may be empty.
    pub mend: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { file, line, column, what, mend } = self;
        let file = if file.is_empty() { "template" } else { file };
        write!(f, "{file}:{line}:{column}: {what}")?;
        if mend.is_empty() { Ok(()) } else { write!(f, "; {mend}") }
    }
}

impl std::error::Error for Mistake {}

impl Mistake {
    fn at(source: &str, at: usize, what: impl Into<String>) -> Mistake {
        let (line, column) = line_and_column(source, at);
        Mistake { file: String::new(), line, column, what: what.into(), mend: String::new() }
    }

    fn mend(self, mend: impl Into<String>) -> Mistake {
        Mistake { mend: mend.into(), ..self }
    }
}

impl Note {
    fn too_long(place: Place<'_>) -> Note {
        Note {
            file: place.file.to_owned(),
            line: 1,
            column: 1,
            kind: NoteKind::Impossible,
            what: "the translation gets too long and stops here".into(),
            mend: "split the template".into(),
        }
    }
}

/// The templates that a site's files define.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// Names and texts; the setting that is translated comes last, without a name.
    files: Vec<(String, String)>,
    /// For each template its file and body.
    definitions: BTreeMap<String, (usize, Body)>,
}

impl Library {
    /// A library without templates.
    pub fn new() -> Library {
        Library::default()
    }

    /// Reads a file of templates. `name` is its path: the last part of it is also the name of the template that the
    /// text outside of every `define` makes. A later definition of a name replaces an earlier one, unless it is empty.
    pub fn add(&mut self, name: &str, source: &str) -> Result<(), Mistake> {
        let body = self.read(name, source)?;
        let base = name.rsplit('/').next().unwrap_or(name).to_owned();
        self.define(base, body);
        Ok(())
    }

    /// The names of all templates, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.definitions.keys().map(|name| &name[..])
    }

    /// Translates a setting of a receiver, which may define templates of its own.
    pub fn translate(&self, source: &str, target: Target) -> Result<Translated, Mistake> {
        let mut library = self.clone();
        let body = library.read("", source)?;
        let place = Place { file: "", source };
        Ok(translate::translate(&library, &body, place, target))
    }

    /// Takes in the definitions of a file, and gives the rest of it.
    fn read(&mut self, name: &str, source: &str) -> Result<Body, Mistake> {
        if self.files.len() == FILES_MAX {
            let what = format!("there are more than {FILES_MAX} template files");
            return Err(Mistake { file: name.to_owned(), ..Mistake::at(source, 0, what) });
        }
        let file = parse::file(source).map_err(|mistake| Mistake { file: name.to_owned(), ..mistake })?;
        self.files.push((name.to_owned(), source.to_owned()));
        for (name, body) in file.definitions {
            self.define(name, body);
        }
        Ok(file.body)
    }

    fn define(&mut self, name: String, body: Body) {
        if !body.is_empty() || !self.definitions.contains_key(&name) {
            self.definitions.insert(name, (self.files.len() - 1, body));
        }
    }

    fn definition(&self, name: &str) -> Option<(&Body, Place<'_>)> {
        let (file, body) = self.definitions.get(name)?;
        let (file, source) = &self.files[*file];
        Some((body, Place { file, source }))
    }
}

/// Whether `text` is a template at all: without an action it stands for itself.
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// The place of byte `at` in `source`, as an editor counts.
fn line_and_column(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let start = before.rfind('\n').map_or(0, |position| position + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}
