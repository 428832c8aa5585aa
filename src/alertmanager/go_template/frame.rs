//! One body on its way into minijinja: its dot, its variables, and what has been written.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Note, NoteKind, Target,
    ast::{Body, Pipe},
    code::{Code, Writer},
    macros::Macros,
    types::{RESERVED, Type},
};

/// The state of translating one body.
pub(super) struct Frame<'a> {
    pub writer: Writer,
    pub macros: &'a mut Macros,
    /// The macros that the body calls.
    pub calls: BTreeSet<usize>,
    pub notes: Vec<Note>,
    /// For each open loop, the variable that says whether it was left.
    pub loops: Vec<Option<String>>,
    body: &'a Body,
    place: Place<'a>,
    target: Target,
    dots: Vec<Code>,
    variables: BTreeMap<usize, Code>,
    /// Names that are taken.
    names: BTreeSet<String>,
    /// Types of variables that later assignments changed, found in an earlier round.
    widened: BTreeMap<usize, Type>,
    /// Whether this round widened one.
    pub changed: bool,
    /// Whether the text so far is inside a comment of HTML, where nothing is put.
    pub in_comment: bool,
    /// Whether the text so far is inside a tag of HTML.
    in_tag: bool,
    /// Whether it is inside a script or style of HTML.
    in_script: bool,
}

/// The file that a body is from.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub file: &'a str,
    pub source: &'a str,
}

impl<'a> Frame<'a> {
    pub fn new(
        body: &'a Body,
        place: Place<'a>,
        target: Target,
        macros: &'a mut Macros,
        dot: Code,
        widened: BTreeMap<usize, Type>,
    ) -> Frame<'a> {
        let mut names: BTreeSet<String> = RESERVED.iter().map(|name| (*name).to_owned()).collect();
        names.extend(macros.names().map(str::to_owned));
        names.insert(dot.text.clone());
        Frame {
            writer: Writer::default(),
            macros,
            calls: BTreeSet::new(),
            notes: Vec::new(),
            loops: Vec::new(),
            body,
            place,
            target,
            variables: BTreeMap::from([(0, dot.clone())]),
            dots: vec![dot],
            names,
            widened,
            changed: false,
            in_comment: false,
            in_tag: false,
            in_script: false,
        }
    }

    /// Puts text of the template; as HTML without its comments, which Go takes out.
    pub fn text(&mut self, text: &str) {
        let mut rest = text;
        while self.escapes() && !rest.is_empty() {
            let mark = if self.in_comment { "-->" } else { "<!--" };
            let Some((before, after)) = rest.split_once(mark) else { break };
            if !self.in_comment {
                self.writer.text(before);
            }
            self.in_comment = !self.in_comment;
            rest = after;
        }
        if self.in_comment {
            return;
        }
        self.writer.text(rest);
        if let Some(position) = rest.rfind(['<', '>']) {
            self.in_tag = rest[position..].starts_with('<');
        }
        let lower = rest.to_ascii_lowercase();
        let last = |words: [&str; 2]| words.iter().filter_map(|word| lower.rfind(word)).max();
        match (last(["<script", "<style"]), last(["</script", "</style"])) {
            (None, None) => {}
            (opened, closed) => self.in_script = opened > closed,
        }
    }

    /// Says once for each tag or script that its values are escaped in another way.
    pub fn check_attribute(&mut self, at: usize) {
        let tag = std::mem::take(&mut self.in_tag);
        let script = std::mem::take(&mut self.in_script);
        if self.escapes() && script {
            let what = "inside of a script or style Go escapes in its language, ams2 as in text";
            self.approximate(at, what, "move the value out of it");
        } else if self.escapes() && tag {
            let what = "inside of a tag Go also encodes links, and drops those that would run a script";
            self.approximate(at, what, "where the link is not yours, ask `{% if … is http %}` first");
        }
    }

    /// The types of variables that later assignments changed.
    pub fn widened(&self) -> BTreeMap<usize, Type> {
        self.widened.clone()
    }

    /// Whether what is put in is escaped as HTML.
    pub fn escapes(&self) -> bool {
        self.target == Target::Html
    }

    pub fn dot(&self) -> &Code {
        self.dots.last().expect("the first dot stays")
    }

    pub fn with_dot(&mut self, dot: Code, inner: impl FnOnce(&mut Self)) {
        self.dots.push(dot);
        inner(self);
        self.dots.pop();
    }

    /// Runs `inner`, and frees the names that it takes.
    pub fn scoped(&mut self, inner: impl FnOnce(&mut Self)) {
        let names = self.names.clone();
        inner(self);
        self.names = names;
    }

    /// A name like `wanted` that nothing else here has.
    pub fn fresh(&mut self, wanted: &str) -> String {
        let clean = identifier(wanted);
        let mut name = clean.clone();
        let mut number = 2;
        while self.names.contains(&name) {
            name = format!("{clean}{number}");
            number += 1;
        }
        self.names.insert(name.clone());
        name
    }

    pub fn variable(&self, number: usize) -> Code {
        self.variables.get(&number).cloned().unwrap_or_else(|| Code::atom("\"\"", Type::Never))
    }

    /// Whether variable `number` is assigned again somewhere, and whether anything reads it.
    pub fn variable_use(&self, number: usize) -> (bool, bool) {
        let variable = &self.body.variables[number];
        (variable.assigned, variable.read)
    }

    /// A free name for variable `number`.
    pub fn variable_name(&mut self, number: usize) -> String {
        let body = self.body;
        self.fresh(&body.variables[number].name)
    }

    /// Makes variable `number` mean `code`.
    pub fn bind(&mut self, number: usize, code: Code) {
        self.variables.insert(number, code);
    }

    /// The value of a pipeline, which also sets its variable.
    pub fn set(&mut self, pipe: &Pipe) -> Code {
        let value = self.value(pipe);
        match pipe.targets.first() {
            None => value,
            Some(target) if pipe.declares => self.declare(*target, value.solid()),
            Some(target) => self.assign(*target, value.solid()),
        }
    }

    /// Declares variable `number`; how to read it.
    pub fn declare(&mut self, number: usize, value: Code) -> Code {
        let (assigned, read) = self.variable_use(number);
        let code = if assigned {
            let kind = self.widened.get(&number).cloned().unwrap_or(Type::Never).join(value.kind.clone());
            let name = self.variable_name(number);
            self.writer.tag(&format!("set {name} = namespace(value={})", value.text));
            Code::atom(format!("{name}.value"), kind)
        } else if value.is_name() || !read {
            value
        } else {
            let name = self.variable_name(number);
            self.writer.tag(&format!("set {name} = {}", value.text));
            Code::path(name, value.kind)
        };
        self.bind(number, code.clone());
        code
    }

    pub fn assign(&mut self, number: usize, value: Code) -> Code {
        let variable = self.variable(number);
        let kind = variable.kind.clone().join(value.kind.clone());
        if kind != variable.kind {
            self.changed = true;
            self.widened.insert(number, kind);
        }
        self.writer.tag(&format!("set {} = {}", variable.text, value.text));
        variable
    }

    fn note(&mut self, at: usize, kind: NoteKind, what: String, mend: String) {
        let (line, column) = super::line_and_column(self.place.source, at);
        self.notes.push(Note { file: self.place.file.to_owned(), line, column, kind, what, mend });
    }

    /// Says that the translation is near, but not the same.
    pub fn approximate(&mut self, at: usize, what: &str, mend: &str) {
        self.note(at, NoteKind::Approximated, what.to_owned(), mend.to_owned());
    }

    /// Says that this cannot be translated; what stands in its place prints nothing.
    pub fn impossible(&mut self, at: usize, what: String, mend: &str) -> Code {
        self.note(at, NoteKind::Impossible, what, mend.to_owned());
        Code { kind: Type::Never, ..Code::text("") }
    }
}

/// `wanted` as a name that minijinja takes: ASCII, no leading digit, no double underscore.
pub(super) fn identifier(wanted: &str) -> String {
    let mut name = String::new();
    for character in wanted.chars() {
        let kept = if character.is_ascii_alphanumeric() { character } else { '_' };
        if kept != '_' || !(name.is_empty() || name.ends_with('_')) {
            name.push(kept);
        }
    }
    let name = name.trim_end_matches('_');
    match name.bytes().next() {
        None => "item".into(),
        Some(b'0'..=b'9') => format!("t{name}"),
        Some(_) => name.to_owned(),
    }
}
