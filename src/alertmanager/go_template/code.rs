//! Pieces of minijinja source that stay right when they are put together, and the writer that does so.

use std::fmt::Write as _;

use super::types::Type;

/// Longest path that stands for itself wherever it is used, in bytes.
const NAME_BYTES_MAX: usize = 80;

/// How tightly an expression holds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// A name, a call, a literal: `.field` can follow.
    Atom,
    /// It ends in a filter: another can follow, and it can stand beside an operator.
    Filtered,
    /// A comparison: it needs parentheses beside another, but not beside `and`.
    Comparison,
    /// It needs parentheses beside any operator.
    Operator,
}

/// An expression of minijinja.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub text: String,
    pub kind: Type,
    pub level: Level,
    /// Whether it may be undefined, which Go would show as empty text.
    pub missing: bool,
    /// Whether saying it twice gives the same, at no cost.
    pub stable: bool,
    /// Its value, if the template has it in words.
    pub literal: Option<Literal>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Integer(i64),
    Float(f64),
}

impl Code {
    pub fn atom(text: impl Into<String>, kind: Type) -> Code {
        Code { text: text.into(), kind, level: Level::Atom, missing: false, stable: false, literal: None }
    }

    pub fn operator(text: impl Into<String>, kind: Type) -> Code {
        Code { level: Level::Operator, ..Code::atom(text, kind) }
    }

    pub fn comparison(text: impl Into<String>) -> Code {
        Code { level: Level::Comparison, ..Code::atom(text, Type::Bool) }
    }

    /// A name or path that can be said again.
    pub fn path(text: impl Into<String>, kind: Type) -> Code {
        Code { stable: true, ..Code::atom(text, kind) }
    }

    pub fn text(text: &str) -> Code {
        Code { literal: Some(Literal::Text(text.to_owned())), ..Code::atom(quoted(text), Type::Text) }
    }

    pub fn integer(value: i64) -> Code {
        let level = if value < 0 { Level::Operator } else { Level::Atom };
        let literal = Some(Literal::Integer(value));
        Code { level, literal, ..Code::atom(value.to_string(), Type::Integer) }
    }

    pub fn float(value: f64) -> Code {
        let level = if value < 0.0 { Level::Operator } else { Level::Atom };
        Code { level, literal: Some(Literal::Float(value)), ..Code::atom(format!("{value:?}"), Type::Float) }
    }

    pub fn literal_text(&self) -> Option<&str> {
        match &self.literal {
            Some(Literal::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether it can be said again in place of a variable. Not if it is long: a path of paths would grow with each.
    pub fn is_name(&self) -> bool {
        self.stable && self.level == Level::Atom && self.text.len() <= NAME_BYTES_MAX
    }

    /// As an operand of an operator, or the input of a filter.
    pub fn tight(&self) -> String {
        if self.level >= Level::Comparison { format!("({})", self.text) } else { self.text.clone() }
    }

    /// As the owner of a field or index.
    fn owner(&self) -> String {
        if self.level == Level::Atom { self.text.clone() } else { format!("({})", self.text) }
    }

    /// `self | filter`, where `filter` may have arguments.
    pub fn filter(&self, filter: &str, kind: Type) -> Code {
        Code { level: Level::Filtered, ..Code::atom(format!("{} | {filter}", self.tight()), kind) }
    }

    /// With empty text in place of what is missing.
    pub fn solid(self) -> Code {
        if self.missing {
            Code { stable: self.stable, ..self.filter("default(\"\")", self.kind.clone()) }
        } else {
            self
        }
    }

    /// `self.name`, or `self["name"]` where the name does not read as one.
    pub fn member(&self, name: &str, kind: Type) -> Code {
        let text = match (&self.kind, is_identifier(name)) {
            (Type::Root, _) => name.to_owned(),
            (_, true) => format!("{}.{name}", self.owner()),
            (_, false) => format!("{}[{}]", self.owner(), quoted(name)),
        };
        Code { stable: self.stable, ..Code::atom(text, kind) }
    }

    pub fn index(&self, key: &Code, kind: Type) -> Code {
        match key.literal_text() {
            Some(name) => self.member(name, kind),
            None => Code::atom(format!("{}[{}]", self.owner(), key.text), kind),
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// A string literal of minijinja.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            _ if character.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(character)).expect("a string takes it");
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// Template source as it grows. Text waits until it is known what follows, because a brace before a tag would be
/// taken for a part of it.
#[derive(Debug, Default)]
pub(super) struct Writer {
    done: String,
    text: String,
}

impl Writer {
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// `{% tag %}`.
    pub fn tag(&mut self, tag: &str) {
        self.flush(true);
        write!(self.done, "{{% {tag} %}}").expect("a string takes it");
    }

    /// `{{ expression }}`.
    pub fn print(&mut self, expression: &str) {
        self.flush(true);
        write!(self.done, "{{{{ {expression} }}}}").expect("a string takes it");
    }

    pub fn len(&self) -> usize {
        self.done.len() + self.text.len()
    }

    /// The source, after which a tag may stand or not.
    pub fn finish(mut self, tag_follows: bool) -> String {
        self.flush(tag_follows);
        self.done
    }

    fn flush(&mut self, tag_follows: bool) {
        let text = std::mem::take(&mut self.text);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let opens = match characters.peek() {
                Some(next) => "{%#".contains(*next),
                None => tag_follows,
            };
            if character == '{' && opens {
                self.done.push_str("{{ \"{\" }}");
            } else {
                self.done.push(character);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_turns_into_a_tag() {
        let rows = ["{% if %}", "{# no comment", "{{", "{{{%", "a{", "{", "}}%}#}", "{%{%{"];
        for row in rows {
            let mut writer = Writer::default();
            writer.text(row);
            writer.print("\"x\"");
            writer.text(row);
            let source = writer.finish(false);
            let shown = minijinja::Environment::new().render_str(&source, ()).expect(row);
            assert_eq!(shown, format!("{row}x{row}"), "{source}");
        }
    }

    #[test]
    fn literals_come_back_as_they_were() {
        for row in ["", "\"quoted\"", "back\\slash\\n", "a\nb\tc\rd", "\0\u{1}\u{7f}", "ü😀{{ x }}", "'"] {
            let source = format!("{{{{ {} }}}}", quoted(row));
            assert_eq!(minijinja::Environment::new().render_str(&source, ()).expect(row), row);
        }
    }
}
