//! Cuts a Go template into tokens: text between actions, and the words inside them.
//!
//! The white space that `{{-` and `-}}` take away is gone already, and so are comments. White space inside an action
//! is a token, because `.A .B` is two values and `.A.B` is one.

use super::Mistake;

/// Most tokens of one file: a template of that size is no template.
const TOKENS_MAX: usize = 100_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub at: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    Space,
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name`, without the `$`.
    Variable(String),
    /// A function's name or a word of the language.
    Word(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
    Quoted(String),
    Pipe,
    Comma,
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
    Left,
    Right,
    End,
}

impl Kind {
    /// How a message names it.
    pub fn shown(&self) -> String {
        match self {
            Kind::Text(_) => "text".into(),
            Kind::Open => "`{{`".into(),
            Kind::Close => "the end of the action".into(),
            Kind::Space => "a space".into(),
            Kind::Dot => "`.`".into(),
            Kind::Field(name) => format!("`.{name}`"),
            Kind::Variable(name) => format!("`${name}`"),
            Kind::Word(word) => format!("`{word}`"),
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Integer(value) => format!("`{value}`"),
            Kind::Float(value) => format!("`{value}`"),
            Kind::Quoted(_) => "a text in quotes".into(),
            Kind::Pipe => "`|`".into(),
            Kind::Comma => "`,`".into(),
            Kind::Declare => "`:=`".into(),
            Kind::Assign => "`=`".into(),
            Kind::Left => "`(`".into(),
            Kind::Right => "`)`".into(),
            Kind::End => "the end of the file".into(),
        }
    }
}

/// The tokens of `source`; the last is [`Kind::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Mistake> {
    let mut lexer = Lexer { source, position: 0, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
    tokens: Vec<Token>,
}

/// Go's own idea of white space in templates, which is less than Unicode's.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), Mistake> {
        let mut trim = false;
        loop {
            let start = self.position;
            let Some(length) = self.rest().find("{{") else {
                self.text(start, self.source.len(), trim, false)?;
                self.position = self.source.len();
                return self.push(self.position, Kind::End);
            };
            let open = start + length;
            let trims = trims_left(&self.source[open + 2..]);
            self.text(start, open, trim, trims)?;
            self.position = open + 2 + if trims { 2 } else { 0 };
            trim = match self.comment(open)? {
                Some(trim) => trim,
                None => self.action(open)?,
            };
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn push(&mut self, at: usize, kind: Kind) -> Result<(), Mistake> {
        if self.tokens.len() == TOKENS_MAX {
            return Err(self.mistake(at, format!("the template has more than {TOKENS_MAX} words")));
        }
        self.tokens.push(Token { at, kind });
        Ok(())
    }

    fn mistake(&self, at: usize, what: impl Into<String>) -> Mistake {
        Mistake::at(self.source, at, what)
    }

    fn text(&mut self, start: usize, end: usize, left: bool, right: bool) -> Result<(), Mistake> {
        let whole = &self.source[start..end];
        let text = if left { whole.trim_start_matches(is_space) } else { whole };
        let text = if right { text.trim_end_matches(is_space) } else { text };
        if text.is_empty() { Ok(()) } else { self.push(start, Kind::Text(text.to_owned())) }
    }

    /// Skips a comment, if one starts here; whether the text after it is trimmed.
    fn comment(&mut self, open: usize) -> Result<Option<bool>, Mistake> {
        if !self.rest().starts_with("/*") {
            return Ok(None);
        }
        let Some(length) = self.rest().find("*/") else {
            return Err(self.mistake(open, "the comment has no end").mend("close it with `*/}}`"));
        };
        self.position += length + 2;
        match self.close() {
            Some((trims, length)) => {
                self.position += length;
                Ok(Some(trims))
            }
            None => Err(self
                .mistake(self.position, "something stands between the comment and `}}`")
                .mend("a comment is an action of its own")),
        }
    }

    /// Whether `}}` or ` -}}` is next: whether it trims, and how long it is.
    fn close(&self) -> Option<(bool, usize)> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some((false, 2));
        }
        let after = rest.strip_prefix(is_space)?;
        after.starts_with("-}}").then_some((true, 4))
    }

    /// The words up to `}}`; whether the text after it is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, Mistake> {
        self.push(open, Kind::Open)?;
        let mut parens: Vec<usize> = Vec::new();
        loop {
            if let Some((trims, length)) = self.close() {
                if let Some(left) = parens.last() {
                    return Err(self.mistake(*left, "this `(` is never closed"));
                }
                self.push(self.position, Kind::Close)?;
                self.position += length;
                return Ok(trims);
            }
            let at = self.position;
            let Some(first) = self.rest().chars().next() else {
                return Err(self.mistake(open, "this `{{` is never closed").mend("close it with `}}`"));
            };
            match first {
                '(' => parens.push(at),
                ')' if parens.pop().is_none() => return Err(self.mistake(at, "`)` without `(`")),
                _ => {}
            }
            let kind = self.word(first)?;
            self.push(at, kind)?;
        }
    }

    /// The word that starts with `first` at the position, which moves behind it.
    fn word(&mut self, first: char) -> Result<Kind, Mistake> {
        let one = |lexer: &mut Self, length: usize, kind: Kind| {
            lexer.position += length;
            Ok(kind)
        };
        let second = self.rest()[first.len_utf8()..].chars().next();
        match first {
            _ if is_space(first) => {
                while self.close().is_none() && self.rest().starts_with(is_space) {
                    self.position += 1;
                }
                Ok(Kind::Space)
            }
            '(' => one(self, 1, Kind::Left),
            ')' => one(self, 1, Kind::Right),
            '|' => one(self, 1, Kind::Pipe),
            ',' => one(self, 1, Kind::Comma),
            '=' => one(self, 1, Kind::Assign),
            ':' if second == Some('=') => one(self, 2, Kind::Declare),
            ':' => Err(self.mistake(self.position, "`:` without `=`")),
            '"' => self.quoted('"').map(Kind::Quoted),
            '\'' => self.character(),
            '`' => self.raw(),
            '.' if second.is_some_and(|digit| digit.is_ascii_digit()) => self.number(),
            '+' | '-' | '0'..='9' => self.number(),
            '.' | '$' => {
                self.position += 1;
                let name = self.name()?;
                Ok(match (first, name.is_empty()) {
                    ('.', true) => Kind::Dot,
                    ('.', false) => Kind::Field(name),
                    _ => Kind::Variable(name),
                })
            }
            _ if is_word(first) => {
                let name = self.name()?;
                Ok(match &name[..] {
                    "true" => Kind::Bool(true),
                    "false" => Kind::Bool(false),
                    _ => Kind::Word(name),
                })
            }
            _ => Err(self.mistake(self.position, format!("{first:?} has no meaning in an action"))),
        }
    }

    fn name(&mut self) -> Result<String, Mistake> {
        let rest = self.rest();
        let length = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
        self.position += length;
        match self.rest().chars().next() {
            Some(next) if !is_space(next) && !".,|:=)(".contains(next) && !self.rest().starts_with("}}") => {
                let mistake = self.mistake(self.position, format!("{next:?} cannot stand in a name"));
                Err(mistake.mend("a label with such a name is `index .Labels \"name\"`"))
            }
            _ => Ok(rest[..length].to_owned()),
        }
    }

    fn raw(&mut self) -> Result<Kind, Mistake> {
        let start = self.position + 1;
        let Some(length) = self.source[start..].find('`') else {
            return Err(self.mistake(self.position, "the text in back quotes has no end"));
        };
        self.position = start + length + 1;
        // As in Go's own source code, carriage returns do not count.
        Ok(Kind::Quoted(self.source[start..start + length].replace('\r', "")))
    }

    fn character(&mut self) -> Result<Kind, Mistake> {
        let at = self.position;
        let text = self.quoted('\'')?;
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(only), None) => Ok(Kind::Integer(i64::from(u32::from(only)))),
            _ => Err(self.mistake(at, "there must be one character between the quotes")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let start = self.position;
        let unclosed = "the text in quotes has no end on its line";
        let mut bytes = Vec::new();
        let mut characters = self.source[start + 1..].char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\n' => return Err(self.mistake(start, unclosed)),
                '\\' => {
                    let rest = &self.source[start + 1 + offset + 1..];
                    let Some(length) = escape(rest, quote, &mut bytes) else {
                        return Err(self.mistake(start + 1 + offset, "there is no such escape"));
                    };
                    let end = offset + 1 + length;
                    while characters.offset() < end {
                        characters.next();
                    }
                }
                _ if character == quote => {
                    self.position = start + 1 + offset + 1;
                    return String::from_utf8(bytes)
                        .map_err(|_| self.mistake(start, "the text in quotes is not UTF-8"));
                }
                _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Err(self.mistake(start, unclosed))
    }

    fn number(&mut self) -> Result<Kind, Mistake> {
        let start = self.position;
        let mut previous = ' ';
        let rest = self.rest();
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
        let length = rest
            .char_indices()
            .find(|&(offset, character)| {
                let exponent = if hexadecimal { "pP" } else { "eE" };
                let sign = "+-".contains(character) && (offset == 0 || exponent.contains(previous));
                previous = character;
                !sign && !is_word(character) && character != '.'
            })
            .map_or(rest.len(), |(offset, _)| offset);
        self.position += length;
        number(&rest[..length])
            .ok_or_else(|| self.mistake(start, format!("`{}` is no number", &rest[..length.min(40)])))
    }
}

/// Whether what follows `{{` asks to trim the text before it: a minus and then a space.
fn trims_left(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space))
}

/// Puts the bytes of the escape that follows a backslash; how long it is in the source.
fn escape(rest: &str, quote: char, bytes: &mut Vec<u8>) -> Option<usize> {
    let first = rest.chars().next()?;
    let simple = match first {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        _ if first == quote => u8::try_from(u32::from(quote)).ok()?,
        '0'..='7' => {
            bytes.push(u8::from_str_radix(rest.get(..3)?, 8).ok()?);
            return Some(3);
        }
        'x' => {
            bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
            return Some(3);
        }
        'u' | 'U' => {
            let length = if first == 'u' { 5 } else { 9 };
            let character = char::from_u32(u32::from_str_radix(rest.get(1..length)?, 16).ok()?)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(length);
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(1)
}

/// A number as Go writes it; as an integer when it is one, like `28800e9`.
fn number(text: &str) -> Option<Kind> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let plain = digits.replace('_', "").to_ascii_lowercase();
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, radix)| {
        plain.strip_prefix(prefix).map(|digits| i128::from_str_radix(digits, radix))
    });
    let octal = plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|byte| byte.is_ascii_digit());
    let integer = match radix {
        Some(integer) => Some(integer.ok()?),
        None if octal => Some(i128::from_str_radix(&plain, 8).ok()?),
        None => plain.parse::<i128>().ok(),
    };
    if let Some(integer) = integer {
        let signed = if negative { -integer } else { integer };
        return i64::try_from(signed).ok().map(Kind::Integer);
    }
    let starts = plain.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let float = plain.parse::<f64>().ok().filter(|float| starts && float.is_finite())?;
    Some(Kind::Float(if negative { -float } else { float }))
}
