//! What is wrong, where, and how to mend it.

use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::Sources;

/// Which of a configuration's files: its position among them.
pub(crate) type FileNumber = u16;

/// A place in a file: line and column from 1, both 0 when it is the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Which file.
    #[serde(skip)]
    pub(in crate::config) file: FileNumber,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    #[serde(skip)]
    offset: usize,
    #[serde(skip)]
    length: usize,
}

impl Place {
    pub(in crate::config) fn point(line: usize, column: usize, offset: usize) -> Place {
        Place { file: 0, line, column, offset, length: 0 }
    }

    /// A whole line of a file; the file without one.
    pub(in crate::config) fn line_of(file: FileNumber, text: &str, line: Option<usize>) -> Place {
        let Some(line) = line else { return Place { file, ..Place::default() } };
        let offset = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let length = text[offset..].lines().next().map_or(0, str::len);
        Place { file, line, column: 1, offset, length }
    }

    pub(in crate::config) fn with_length(self, length: usize) -> Place {
        Place { length, ..self }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    /// The configuration is refused.
    Error,
    /// It works, but perhaps not as meant.
    Warning,
    /// It works; good to know.
    Note,
}

/// One thing found in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The name of the file.
    pub file: String,
    /// How bad it is.
    pub gravity: Gravity,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong, in the user's own words where there are any.
    pub message: String,
    /// How to mend it; may be empty.
    pub mend: String,
    /// Which setting stands there, by its keys, such as `receivers[0].actions[1].email.smtp`; empty if that is not known.
    #[serde(skip)]
    pub(crate) setting: String,
    /// Whether a secret stands in the same line: then the line is never shown.
    #[serde(skip)]
    pub(in crate::config) beside_secret: bool,
}

impl Diagnostic {
    /// The same, found in this file.
    pub(crate) fn in_file(self, name: &str) -> Diagnostic {
        Diagnostic { file: name.into(), ..self }
    }

    pub(crate) fn error(place: Place, message: impl Into<String>, mend: impl Into<String>) -> Diagnostic {
        let (file, gravity) = (String::new(), Gravity::Error);
        let (message, mend) = (message.into(), mend.into());
        let setting = String::new();
        Diagnostic { file, gravity, place, message, mend, setting, beside_secret: false }
    }

    pub(in crate::config) fn note(
        place: Place,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { gravity: Gravity::Note, ..Diagnostic::error(place, message, mend) }
    }

    pub(in crate::config) fn warning(
        place: Place,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { gravity: Gravity::Warning, ..Diagnostic::error(place, message, mend) }
    }
}

/// One line each: `file:line:column: what is wrong: how to mend it`.
pub fn lines(found: &[Diagnostic]) -> String {
    let mut text = String::new();
    for Diagnostic { file, gravity, place, message, mend, .. } in found {
        let gravity = match gravity {
            Gravity::Error => "",
            Gravity::Warning => "warning: ",
            Gravity::Note => "note: ",
        };
        let mend = if mend.is_empty() { String::new() } else { format!(": {mend}") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{file}:{}:{}: {gravity}{message}{mend}", place.line, place.column);
    }
    text
}

/// The first mistake by its place and setting alone: what goes out to receivers holds no word of the file.
pub fn whereabouts(found: &[Diagnostic]) -> String {
    let mut errors = found.iter().filter(|diagnostic| diagnostic.gravity == Gravity::Error);
    let Some(Diagnostic { file, place, setting, .. }) = errors.next() else { return String::new() };
    let at = if place.line == 0 { file.clone() } else { format!("{file}:{}:{}", place.line, place.column) };
    let what = if setting.is_empty() { String::new() } else { format!(": `{setting}`") };
    let more = match errors.count() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("a mistake in {at}{what}{more}; `ams2 check` and the log say what")
}

/// For people: the source lines with a mark under each mistake, as rustc prints them.
pub fn snippets(sources: &Sources, found: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in found {
        let Diagnostic { file: name, gravity, place, message, mend, beside_secret, .. } = diagnostic;
        let source = sources.text(place.file);
        let level = match gravity {
            Gravity::Error => Level::ERROR,
            Gravity::Warning => Level::WARNING,
            Gravity::Note => Level::NOTE,
        };
        if place.line == 0 || *beside_secret {
            let at = match place.line {
                0 => String::new(),
                line => format!(":{line}:{}", place.column),
            };
            let mend = if mend.is_empty() { String::new() } else { format!("\n  help: {mend}") };
            let word = match gravity {
                Gravity::Error => "error",
                Gravity::Warning => "warning",
                Gravity::Note => "note",
            };
            let _ = writeln!(text, "{word}: {name}{at}: {message}{mend}");
            continue;
        }
        let (start, end) = mark(source, *place);
        let snippet = Snippet::source(source)
            .line_start(1)
            .path(name.as_str())
            .annotation(AnnotationKind::Primary.span(start..end));
        let mut group = level.primary_title(message.as_str()).element(snippet);
        if !mend.is_empty() {
            group = group.element(Level::HELP.message(mend.as_str()));
        }
        text.push_str(&renderer.render(&[group]));
        text.push('\n');
    }
    text
}

/// The bytes to mark: within one line, at least one character where there is one.
fn mark(source: &str, place: Place) -> (usize, usize) {
    let line_start =
        source.split_inclusive('\n').take(place.line.saturating_sub(1)).map(str::len).sum::<usize>();
    let line = source[line_start.min(source.len())..].lines().next().unwrap_or("");
    let start = line.char_indices().nth(place.column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let wanted = if place.length == 0 { 1 } else { place.length };
    let mut end = (start + wanted).min(line.len());
    while end < line.len() && !line.is_char_boundary(end) {
        end += 1;
    }
    (line_start + start, line_start + end.max(start))
}
