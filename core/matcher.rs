//! Matchers: `name op "value"`, with Alertmanager's exact meaning, plus order operators on severities and numbers.
//!
//! A missing label is the empty string. Regexes are RE2 syntax, anchored at both ends. Order operators compare the
//! ranks of severities when the label is `severity` (or the matcher's value is a severity word), else decimals of
//! at most 18 digits, exactly; what has neither rank nor number matches no order operator.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use regex_syntax::hir::{
    Hir, HirKind,
    literal::{ExtractKind, Extractor},
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Severities, Severity, decimal::Decimal, printable::is_printable, re2};

/// How a matcher compares. The order is Alertmanager's sort order, then ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// `=`: equal.
    Equal,
    /// `!=`: not equal.
    NotEqual,
    /// `=~`: the whole value matches the regex.
    Regex,
    /// `!~`: the whole value does not match the regex.
    NotRegex,
    /// `>=`: rank or number at least.
    AtLeast,
    /// `>`: rank or number more.
    More,
    /// `<=`: rank or number at most.
    AtMost,
    /// `<`: rank or number less.
    Less,
}

impl Op {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Regex => "=~",
            Op::NotRegex => "!~",
            Op::AtLeast => ">=",
            Op::More => ">",
            Op::AtMost => "<=",
            Op::Less => "<",
        }
    }

    /// Whether it is `=` or `=~`.
    pub fn is_positive(self) -> bool {
        matches!(self, Op::Equal | Op::Regex)
    }

    /// Whether it compares order.
    pub fn is_order(self) -> bool {
        matches!(self, Op::AtLeast | Op::More | Op::AtMost | Op::Less)
    }
}

/// A matcher as written, checked by [`Matcher::parse`] or [`Matcher::compile`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Matcher {
    /// The label's name.
    pub name: SmolStr,
    /// The value or regex. Compared before the operator, as Alertmanager sorts matchers.
    pub value: SmolStr,
    /// How it compares.
    pub op: Op,
}

/// Why a text is not a matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatcherError {
    /// Where in the text, in characters from 0.
    pub column: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for MatcherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (character {})", self.message, self.column + 1)
    }
}

impl core::error::Error for MatcherError {}

/// Longest regex in bytes.
pub const REGEX_BYTES_MAX: usize = 8 * 1024;
/// Largest compiled regex in bytes: an alert's path through the router must stay cheap.
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;

/// A matcher that is ready to compare.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The matcher as written.
    pub matcher: Matcher,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal,
    NotEqual,
    /// The regex, how each value that matches begins, and what it contains, where that can be said in few words.
    Regex(regex::Regex, Vec<SmolStr>, Vec<SmolStr>),
    /// The regex that must not match.
    NotRegex(regex::Regex),
    /// A regex that is only literals joined by `|`, and whether one of them must equal.
    OneOf(Vec<SmolStr>, bool),
    Rank(Severity),
    Number(Decimal),
}

impl Matcher {
    /// Reads one matcher: `severity >= major`, `event = "Virus Found"`, `site=~"bos.*"`. Name and value are each
    /// bare or in double quotes with Go's escapes.
    pub fn parse(text: &str) -> Result<Matcher, MatcherError> {
        let mut found = parse_list(text)?;
        match (found.pop(), found.is_empty()) {
            (Some(matcher), true) => Ok(matcher),
            (None, _) => Err(MatcherError {
                column: 0,
                message: "a matcher is missing: write `name = \"value\"`".into(),
            }),
            (Some(_), false) => Err(MatcherError {
                column: 0,
                message: "more than one matcher: write each as an entry of its own".into(),
            }),
        }
    }

    /// Makes it ready to compare. Fails for a regex that is broken or too large and for an order operator whose
    /// value is neither a severity nor a number.
    pub fn compile(&self, severities: &Severities) -> Result<Compiled, MatcherError> {
        let fail = |message: String| MatcherError { column: 0, message };
        let test = match self.op {
            Op::Equal => Test::Equal,
            Op::NotEqual => Test::NotEqual,
            Op::Regex | Op::NotRegex => self.compile_regex().map_err(fail)?,
            _ => match (severities.rank(&self.value), Decimal::parse(&self.value)) {
                (_, Some(number)) if self.name != "severity" => Test::Number(number),
                (Some(rank), _) => Test::Rank(rank),
                (None, Some(number)) => Test::Number(number),
                (None, None) => {
                    return Err(fail(format!(
                        "`{}` is neither a severity nor a number of at most 18 digits, so `{}` cannot compare with it",
                        self.value,
                        self.op.symbol()
                    )));
                }
            },
        };
        Ok(Compiled { matcher: self.clone(), test })
    }

    fn compile_regex(&self) -> Result<Test, String> {
        let must = self.op == Op::Regex;
        if self.value.len() > REGEX_BYTES_MAX {
            return Err(format!(
                "the regex is {} bytes long; at most {REGEX_BYTES_MAX} are allowed",
                self.value.len()
            ));
        }
        if is_literal_choice(&self.value) {
            let mut values: Vec<SmolStr> = self.value.split('|').map(SmolStr::new).collect();
            values.sort_unstable();
            values.dedup();
            return Ok(Test::OneOf(values, must));
        }
        let invalid = |error: &dyn fmt::Display| format!("the regex `{}` is not valid: {error}", self.value);
        let pattern = re2::translate(&self.value).map_err(|error| invalid(&error))?;
        let regex = regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(REGEX_COMPILED_BYTES_MAX)
            .dfa_size_limit(REGEX_COMPILED_BYTES_MAX)
            .nest_limit(64)
            .build()
            .map_err(|error| invalid(&error))?;
        if !must {
            return Ok(Test::NotRegex(regex));
        }
        let Ok(parsed) = regex_syntax::parse(&pattern) else {
            return Ok(Test::Regex(regex, Vec::new(), Vec::new()));
        };
        let contained = contained(&parsed).unwrap_or_default();
        Ok(Test::Regex(regex, beginnings(&parsed), contained))
    }
}

/// Most texts that a regex may begin with, and their longest length in bytes: more is not worth an index.
const BEGINNINGS_MAX: usize = 64;
const BEGINNING_BYTES_MAX: usize = 32;
/// The shortest text that a value is looked up by when it may stand anywhere in it, in bytes.
pub(crate) const CONTAINED_BYTES_MIN: usize = 3;

/// How every value that the pattern matches begins, from the first character on; empty where that cannot be said.
fn beginnings(parsed: &Hir) -> Vec<SmolStr> {
    let mut extractor = Extractor::new();
    extractor.kind(ExtractKind::Prefix).limit_total(BEGINNINGS_MAX);
    let found = extractor.extract(parsed);
    let Some(literals) = found.literals() else { return Vec::new() };
    let mut texts: Vec<SmolStr> = Vec::with_capacity(literals.len());
    for literal in literals {
        let bytes = literal.as_bytes();
        let text = start_of(bytes);
        if text.is_empty() {
            return Vec::new();
        }
        texts.push(text.into());
    }
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// The longest whole characters at the start, within what is worth an index.
fn start_of(bytes: &[u8]) -> &str {
    let text = match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    };
    let end = (0..=BEGINNING_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Texts of at least [`CONTAINED_BYTES_MIN`] bytes of which every value that the regex matches contains one, wherever it
/// is; `None` where that cannot be said.
fn contained(regex: &Hir) -> Option<Vec<SmolStr>> {
    match regex.kind() {
        HirKind::Literal(literal) => {
            let text = start_of(&literal.0);
            (text.len() >= CONTAINED_BYTES_MIN).then(|| Vec::from([SmolStr::new(text)]))
        }
        HirKind::Capture(capture) => contained(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => contained(&repetition.sub),
        // Of several that must be there, the fewest and longest say most.
        HirKind::Concat(parts) => parts.iter().filter_map(contained).min_by_key(|texts| {
            let shortest = texts.iter().map(|text| text.len()).min().unwrap_or(0);
            (texts.len(), core::cmp::Reverse(shortest))
        }),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.append(&mut contained(part)?);
                if all.len() > BEGINNINGS_MAX {
                    return None;
                }
            }
            Some(all)
        }
        _ => None,
    }
}

/// Only letters, digits and characters without meaning, joined by `|`.
fn is_literal_choice(regex: &str) -> bool {
    regex.chars().all(|c| {
        c.is_alphanumeric() || matches!(c, '|' | ' ' | '_' | '-' | '/' | ':' | ',' | '@' | '%' | '=')
    })
}

/// `name op "value"`, with spaces around neither, as Alertmanager prints it.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.chars().all(|c| !is_reserved(c)) && !self.name.is_empty() {
            write!(f, "{}{}\"", self.name, self.op.symbol())?;
            for c in self.value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '"' => f.write_str("\\\"")?,
                    c => write!(f, "{c}")?,
                }
            }
            f.write_str("\"")
        } else {
            write!(f, "{}{}{}", go_quote(&self.name), self.op.symbol(), go_quote(&self.value))
        }
    }
}

/// Go's `%q`: a double-quoted string literal, what Go takes for printable as it is.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if c as u32 > 0xFFFF => out.push_str(&format!("\\U{:08x}", c as u32)),
            c => out.push_str(&format!("\\u{:04x}", c as u32)),
        }
    }
    out.push('"');
    out
}

impl Compiled {
    /// Whether a label with this value matches; a missing label is `""`.
    pub fn matches(&self, value: &str, severities: &Severities) -> bool {
        let ordered = |ordering: Option<core::cmp::Ordering>| {
            ordering.is_some_and(|ordering| match self.matcher.op {
                Op::AtLeast => ordering.is_ge(),
                Op::More => ordering.is_gt(),
                Op::AtMost => ordering.is_le(),
                _ => ordering.is_lt(),
            })
        };
        match &self.test {
            Test::Equal => value == self.matcher.value,
            Test::NotEqual => value != self.matcher.value,
            Test::Regex(regex, ..) => regex.is_match(value),
            Test::NotRegex(regex) => !regex.is_match(value),
            Test::OneOf(values, must) => {
                values.binary_search_by(|known| known.as_str().cmp(value)).is_ok() == *must
            }
            Test::Rank(rank) => ordered(severities.rank(value).map(|have| have.cmp(rank))),
            Test::Number(number) => ordered(Decimal::parse(value).map(|have| have.cmp(number))),
        }
    }

    /// What a value must be, begin with or contain to match, where that is known and `""` cannot match.
    pub(crate) fn demands(&self) -> impl Iterator<Item = Demand<'_>> {
        let (first, second) = match &self.test {
            Test::Equal => (Some(Demand::OneOf(core::slice::from_ref(&self.matcher.value))), None),
            Test::OneOf(values, true) => (Some(Demand::OneOf(values)), None),
            Test::Regex(_, beginnings, contained) => {
                (Some(Demand::StartsWith(beginnings)), Some(Demand::Contains(contained)))
            }
            _ => (None, None),
        };
        let says_something = |demand: &Demand<'_>| {
            !demand.texts().is_empty() && demand.texts().iter().all(|text| !text.is_empty())
        };
        first.into_iter().chain(second).filter(says_something)
    }
}

/// What a value must be like to match.
pub(crate) enum Demand<'a> {
    /// One of these.
    OneOf(&'a [SmolStr]),
    /// Something that begins with one of these.
    StartsWith(&'a [SmolStr]),
    /// Something with one of these in it, each of at least [`CONTAINED_BYTES_MIN`] bytes.
    Contains(&'a [SmolStr]),
}

impl<'a> Demand<'a> {
    /// The texts.
    pub fn texts(&self) -> &'a [SmolStr] {
        match self {
            Demand::OneOf(texts) | Demand::StartsWith(texts) | Demand::Contains(texts) => texts,
        }
    }
}

/// Reads a list: `{a="b", c!="d"}` or the same without braces; one comma may trail. Order operators included.
pub fn parse_list(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    let mut reader = Reader { rest: text, column: 0 };
    reader.skip_space();
    let braced = reader.take("{");
    let mut found = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest.is_empty() || reader.rest.starts_with('}') {
            break;
        }
        let name = reader.word("a label name")?;
        reader.skip_space();
        let op = reader.operator()?;
        reader.skip_space();
        let value = reader.word("a value; write `\"\"` for an empty one")?;
        found.push(Matcher { name: name.into(), op, value: value.into() });
        reader.skip_space();
        if !reader.take(",") {
            break;
        }
    }
    reader.skip_space();
    if braced != reader.take("}") {
        return Err(reader.error(if braced { "a `}` is missing" } else { "a `{` is missing at the start" }));
    }
    reader.skip_space();
    if reader.rest.is_empty() {
        Ok(found)
    } else {
        Err(reader.error("expected a comma or the end; quote values with special characters"))
    }
}

/// Whether a bare word may not hold this character.
fn is_reserved(c: char) -> bool {
    c.is_whitespace() || matches!(c, '{' | '}' | '!' | '=' | '~' | ',' | '\\' | '"' | '\'' | '`' | '<' | '>')
}

struct Reader<'a> {
    rest: &'a str,
    column: usize,
}

impl Reader<'_> {
    fn error(&self, message: &str) -> MatcherError {
        MatcherError { column: self.column, message: message.to_string() }
    }

    fn advance(&mut self, bytes: usize) {
        self.column += self.rest[..bytes].chars().count();
        self.rest = &self.rest[bytes..];
    }

    fn skip_space(&mut self) {
        let blank = self.rest.len() - self.rest.trim_start().len();
        self.advance(blank);
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.advance(token.len());
        }
        found
    }

    fn operator(&mut self) -> Result<Op, MatcherError> {
        let longest_first =
            [Op::NotEqual, Op::Regex, Op::NotRegex, Op::AtLeast, Op::AtMost, Op::More, Op::Less, Op::Equal];
        longest_first
            .into_iter()
            .find(|op| self.take(op.symbol()))
            .ok_or_else(|| self.error("expected one of = != =~ !~ >= > <= <"))
    }

    fn word(&mut self, what: &str) -> Result<String, MatcherError> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find(is_reserved).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.error(&format!("expected {what}")));
        }
        let word = self.rest[..end].to_string();
        self.advance(end);
        Ok(word)
    }

    /// A Go string literal: `\x` and octal escapes give bytes, and the bytes must be UTF-8 in the end.
    fn quoted(&mut self) -> Result<String, MatcherError> {
        self.advance(1);
        let mut bytes = Vec::new();
        loop {
            let c = self.rest.chars().next().ok_or_else(|| self.error("the closing quote is missing"))?;
            self.advance(c.len_utf8());
            match c {
                '"' => break,
                '\n' => return Err(self.error("a quoted value may not hold a line break; write `\\n`")),
                '\\' => self.escape(&mut bytes)?,
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.error("the quoted text is not UTF-8"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), MatcherError> {
        let c = self.rest.chars().next().ok_or_else(|| self.error("a backslash stands at the end"))?;
        self.advance(c.len_utf8());
        let simple = match c {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '\\' => b'\\',
            '"' => b'"',
            'x' => self.number(2, 16)? as u8,
            'u' | 'U' => {
                let code = self.number(if c == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code).ok_or_else(|| self.error("no such Unicode character"))?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            '0'..='7' => {
                let high = c as u32 - '0' as u32;
                u8::try_from(high * 64 + self.number(2, 8)?)
                    .map_err(|_| self.error("an octal escape is over 377"))?
            }
            _ => return Err(self.error("unknown escape; a backslash is written `\\\\`")),
        };
        bytes.push(simple);
        Ok(())
    }

    fn number(&mut self, digits: usize, radix: u32) -> Result<u32, MatcherError> {
        let text = self.rest.get(..digits).filter(|text| text.chars().all(|c| c.is_digit(radix)));
        let value = text.and_then(|text| u32::from_str_radix(text, radix).ok());
        let value = value.ok_or_else(|| self.error("an escape lacks digits"))?;
        self.advance(digits);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str, value: &str) -> bool {
        let severities = Severities::default();
        Matcher::parse(text).expect(text).compile(&severities).expect(text).matches(value, &severities)
    }

    /// `pkg/labels/matcher.go`, and the section on matchers of its `docs/configuration.md`, which has these rules.
    #[test]
    fn values_match_as_alertmanager_says() {
        let rows = [
            ("equal", "foo=bar", "bar", true),
            ("a label that is missing is empty", "foo=\"\"", "", true),
            ("a label that is missing is empty", "foo!=x", "", true),
            ("a label that is missing is empty", "foo=~\".*\"", "", true),
            ("regexes are anchored", "foo=~\"b\"", "abc", false),
            ("regexes are anchored", "foo=~\"team-(A|B)\"", "team-B", true),
            ("regexes are anchored", "foo=~\"a|b\"", "b", true),
            ("regexes are anchored as a whole", "foo=~\"a|b\"", "ab", false),
            ("not matching", "foo!~\"a|b\"", "c", true),
            ("RE2: `.` is no newline", "foo=~\"a.c\"", "a\nc", false),
            ("UTF-8 matchers: quoted as in Go", "foo = \"\\u263a\"", "☺", true),
        ];
        for (rule, text, value, expected) in rows {
            assert_eq!(matches(text, value), expected, "{rule}: {text} against {value:?}");
        }
    }

    #[test]
    fn order_operators_compare_ranks_and_exact_numbers() {
        let rows = [
            ("severity >= major", "critical", true),
            ("severity >= major", "error", true),
            ("severity >= major", "warning", false),
            ("severity < major", "purple", false),
            ("severity >= info", "", false),
            ("load > 1.5", "1.50", false),
            ("load > 1.5", "1.500001", true),
            ("load <= 3", "two", false),
            ("load <= 3", "1e0", false),
        ];
        for (text, value, expected) in rows {
            assert_eq!(matches(text, value), expected, "{text} against {value:?}");
        }
    }

    #[test]
    fn broken_matchers_say_where() {
        let rows = [
            ("foo", 3, "expected one of"),
            ("foo=", 4, "expected a value"),
            ("=x", 0, "expected a label name"),
            ("foo=\"a", 6, "closing quote"),
            ("foo=\"\\q\"", 7, "unknown escape"),
            ("{foo=bar", 8, "`}` is missing"),
            ("foo=bar}", 8, "`{` is missing"),
            ("foo=a b", 6, "expected a comma"),
        ];
        for (text, column, message) in rows {
            let error = parse_list(text).expect_err(text);
            assert!(error.message.contains(message) && error.column == column, "{text}: {error:?}");
        }
    }

    #[test]
    fn broken_values_do_not_compile() {
        let severities = Severities::default();
        for text in ["a=~\"(\"", "a=~\"((a{1000}){1000}){1000}\"", "severity >= purple", "load > 1e3"] {
            assert!(Matcher::parse(text).expect(text).compile(&severities).is_err(), "{text}");
        }
    }

    /// Go's `strconv.Quote`; rows after its own tests (go/src/strconv/quote_test.go) and `unicode.IsPrint`.
    #[test]
    fn text_is_quoted_as_go_does() {
        let rows = [
            ("\u{7}\u{8}\u{c}\r\n\t\u{b}", r#""\a\b\f\r\n\t\v""#),
            ("\\ \"", r#""\\ \"""#),
            ("\u{4}\u{7f}", r#""\x04\x7f""#),
            ("☺ é 日本", "\"☺ é 日本\""),
            ("\u{85}\u{a0}\u{ad}", r#""\u0085\u00a0\u00ad""#),
            ("\u{200b}\u{2028}\u{3000}\u{feff}", r#""\u200b\u2028\u3000\ufeff""#),
            ("\u{300}\u{fffd}", "\"\u{300}\u{fffd}\""),
            ("\u{e000}\u{378}", r#""\ue000\u0378""#),
            ("\u{1f600}\u{e0001}\u{10ffff}", "\"\u{1f600}\\U000e0001\\U0010ffff\""),
        ];
        for (text, quoted) in rows {
            assert_eq!(go_quote(text), quoted, "{text:?}");
        }
    }

    #[test]
    fn matchers_print_as_they_parse() {
        for text in ["a=\"b\"", "a!=\"x\\\"y\"", "a=~\"l\\nm\"", "\"a b\"=\"c\"", "n>=\"5\""] {
            assert_eq!(Matcher::parse(text).expect(text).to_string(), text);
        }
    }
}
