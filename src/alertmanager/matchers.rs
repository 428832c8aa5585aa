//! Alertmanager's matchers: the classic grammar, the UTF-8 grammar, and which of the two counts where both could.
//! It has no order operators: there `foo>=x` is the label `foo>`, which equals `x`.

use std::fmt;

use ams2_core::matcher::{Matcher, Op};

/// Why a text is no matcher, in the words of the grammar that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatcherSyntaxError(pub String);

impl fmt::Display for MatcherSyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MatcherSyntaxError {}

fn wrong<T>(why: impl Into<String>) -> Result<T, MatcherSyntaxError> {
    Err(MatcherSyntaxError(why.into()))
}

/// Reads a list such as `{a="b",c!~"d"}`, with or without braces. Both grammars are asked: where both can read it and
/// differ the classic one counts, and what neither can read is said in the classic one's words.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatcherSyntaxError> {
    parse_both(text).map(|read| read.matchers)
}

/// A list of matchers, and whether its two grammars agree on it.
pub(super) struct ReadMatchers {
    /// The reading that counts.
    pub matchers: Vec<Matcher>,
    /// How the UTF-8 grammar reads it, where that is another list.
    pub otherwise: Option<Vec<Matcher>>,
}

/// The same as [`parse_matchers`], with the other reading.
pub(super) fn parse_both(text: &str) -> Result<ReadMatchers, MatcherSyntaxError> {
    let one = |matchers| Ok(ReadMatchers { matchers, otherwise: None });
    match (utf8_list(text), classic_list(text)) {
        (Err(_), Err(error)) => Err(error),
        (Err(_), Ok(classic)) => one(classic),
        (Ok(utf8), Err(_)) => one(utf8),
        (Ok(utf8), Ok(classic)) if utf8 == classic => one(utf8),
        (Ok(utf8), Ok(classic)) => Ok(ReadMatchers { matchers: classic, otherwise: Some(utf8) }),
    }
}

/// Reads one matcher, as `filter=` and silences have it: without braces.
pub fn parse_matcher(text: &str) -> Result<Matcher, MatcherSyntaxError> {
    let utf8 = || {
        if text.starts_with('{') || text.ends_with('}') {
            return wrong("unexpected open or close brace");
        }
        let mut list = utf8_list(text)?;
        match (list.pop(), list.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => wrong("no matchers"),
            (Some(_), false) => wrong(format!("expected 1 matcher, found {}", list.len() + 1)),
        }
    };
    match (utf8(), classic_one(text)) {
        (Err(_), Err(error)) => Err(error),
        (Err(_), Ok(classic)) => Ok(classic),
        (Ok(utf8), Err(_)) => Ok(utf8),
        (Ok(utf8), Ok(classic)) => Ok(if utf8 == classic { utf8 } else { classic }),
    }
}

/// The operators, longest first.
const OPERATORS: [(&str, Op); 4] =
    [("=~", Op::Regex), ("!~", Op::NotRegex), ("!=", Op::NotEqual), ("=", Op::Equal)];

/// The classic grammar of one matcher: a name of letters, digits, `_` and `:`, an operator, and anything, which may
/// stand in double quotes.
fn classic_one(text: &str) -> Result<Matcher, MatcherSyntaxError> {
    let bad = || MatcherSyntaxError(format!("bad matcher format: {text}"));
    let rest = text.trim_start_matches(go_space);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad());
    }
    let rest = rest.trim_start_matches(go_space);
    // Its regex takes `=~` before `=`, and knows no `!` alone.
    let (op, rest) =
        OPERATORS.iter().find_map(|(symbol, op)| Some((*op, rest.strip_prefix(symbol)?))).ok_or_else(bad)?;
    let raw = rest.trim_matches(go_space);
    let value = classic_value(raw)
        .ok_or_else(|| MatcherSyntaxError(format!("matcher value contains unescaped double quote: {raw}")))?;
    check_regex(Matcher { name: name.into(), value: value.into(), op })
}

/// Takes one pair of quotes away, and understands `\n`, `\"` and `\\`; every other backslash is itself. `None` for a
/// quote that is neither first nor last nor escaped.
fn classic_value(raw: &str) -> Option<String> {
    let mut value = String::with_capacity(raw.len());
    let last = raw.len().saturating_sub(1);
    let opens = raw.starts_with('"');
    let mut escaped = false;
    let mut closed = false;
    for (at, c) in raw.char_indices() {
        if escaped {
            escaped = false;
            match c {
                'n' => value.push('\n'),
                '"' | '\\' => value.push(c),
                other => {
                    value.push('\\');
                    value.push(other);
                }
            }
            continue;
        }
        match c {
            '\\' if at == last => value.push('\\'),
            '\\' => escaped = true,
            '"' if at == 0 && opens => {}
            '"' if at == last && opens => closed = true,
            '"' => return None,
            c => value.push(c),
        }
    }
    // A quote that opens and never closes is an unescaped quote as well.
    (!opens || closed).then_some(value)
}

/// The classic grammar of a list: one brace on each side may stand or not, and commas outside quotes separate.
fn classic_list(text: &str) -> Result<Vec<Matcher>, MatcherSyntaxError> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let mut parts = Vec::new();
    let (mut part, mut quoted, mut escaped) = (String::new(), false, false);
    for c in inner.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                parts.push(std::mem::take(&mut part));
                escaped = false;
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        part.push(c);
    }
    if !part.trim_matches(go_space).is_empty() {
        parts.push(part);
    }
    parts.iter().map(|part| classic_one(part)).collect()
}

/// Go's `\s` of regular expressions.
fn go_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// The UTF-8 grammar of a list: braces both or none, one comma may trail, names and values bare or quoted.
fn utf8_list(text: &str) -> Result<Vec<Matcher>, MatcherSyntaxError> {
    let mut reader = Utf8 { rest: text };
    let mut found = Vec::new();
    let braced = reader.take('{');
    loop {
        reader.skip_space();
        if reader.rest.is_empty() || reader.rest.starts_with('}') {
            break;
        }
        let name = reader.word("label name")?;
        let op = reader.operator()?;
        let value = reader.word("label value")?;
        found.push(check_regex(Matcher { name: name.into(), value: value.into(), op })?);
        if !reader.take(',') {
            break;
        }
    }
    if braced != reader.take('}') {
        return wrong(if braced { "expected close brace" } else { "expected open brace" });
    }
    reader.skip_space();
    if !reader.rest.is_empty() {
        return wrong(format!("unexpected `{}`", reader.rest));
    }
    Ok(found)
}

struct Utf8<'a> {
    rest: &'a str,
}

impl Utf8<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn operator(&mut self) -> Result<Op, MatcherSyntaxError> {
        self.skip_space();
        for (symbol, op) in OPERATORS {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Ok(op);
            }
        }
        wrong(format!("expected an operator such as '=', '!=', '=~' or '!~' at `{}`", self.rest))
    }

    fn word(&mut self, what: &str) -> Result<String, MatcherSyntaxError> {
        self.skip_space();
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let reserved = |c: char| c.is_whitespace() || "{}!=~,\\\"'`".contains(c);
        let end = self.rest.find(reserved).unwrap_or(self.rest.len());
        if end == 0 {
            return wrong(format!("expected a {what} at `{}`", self.rest));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word.to_owned())
    }

    /// A Go string literal, which our own grammar has, too.
    fn quoted(&mut self) -> Result<String, MatcherSyntaxError> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { return wrong("missing end quote") };
        let (literal, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        let read = Matcher::parse(&format!("x={literal}"));
        read.map(|matcher| matcher.value.to_string()).map_err(|error| MatcherSyntaxError(error.to_string()))
    }
}

/// A regex that RE2 would refuse is refused with the matcher.
fn check_regex(matcher: Matcher) -> Result<Matcher, MatcherSyntaxError> {
    match matcher.compile(&ams2_core::Severities::default()) {
        Ok(_) => Ok(matcher),
        Err(error) => Err(MatcherSyntaxError(error.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(read: Result<Vec<Matcher>, MatcherSyntaxError>) -> String {
        match read {
            Ok(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Err(_) => "error".into(),
        }
    }

    /// Alertmanager's default mode: what its two grammars say of the same text, and which counts. `compliance` is its
    /// `matcher/compliance/compliance_test.go`, `classic` `pkg/labels/parse_test.go`, `UTF-8` `matcher/parse/parse_test.go`, `compat`
    /// `matcher/compat/parse_test.go`.
    #[test]
    fn lists_are_read_as_alertmanager_reads_them() {
        let rows = [
            ("compliance", "", ""),
            ("compliance", "{}", ""),
            ("compliance", "{foo=\"bar\"}", "foo=\"bar\""),
            ("compliance", "{foo=bar}", "foo=\"bar\""),
            ("compliance", "foo=bar", "foo=\"bar\""),
            ("compliance", "foo=bar,", "foo=\"bar\""),
            ("compliance", "{foo=bar,}", "foo=\"bar\""),
            ("compliance", "{ foo = bar , a != b }", "foo=\"bar\",a!=\"b\""),
            ("compliance", "foo=~\"[a-z]+\",x!~y", "foo=~\"[a-z]+\",x!~\"y\""),
            // Only the classic grammar reads these.
            ("classic", "foo=", "foo=\"\""),
            ("classic", "{foo=bar", "foo=\"bar\""),
            ("classic", "foo=bar}", "foo=\"bar\""),
            ("classic", "{foo=bar}}", "foo=\"bar}\""),
            ("classic", "tricky=~~~", "tricky=~\"~~\""),
            ("classic", "job='x'", "job=\"'x'\""),
            ("classic", "foo=a b", "foo=\"a b\""),
            ("classic", "foo=\\d", "foo=\"\\\\d\""),
            ("classic", "foo=\"a\\nb\"", "foo=\"a\\nb\""),
            // Only the UTF-8 grammar reads these.
            ("UTF-8", "foo🙂=bar", "foo🙂=\"bar\""),
            ("UTF-8", "\"foo bar\"=x", "\"foo bar\"=\"x\""),
            ("UTF-8", "foo>=x", "\"foo>\"=\"x\""),
            // Both read it, and differ: the classic one counts.
            ("compat, both differ", "foo=\"\\u263a\"", "foo=\"\\\\u263a\""),
            // Neither does.
            ("compliance, errors", "{,}", "error"),
            ("compliance, errors", "foo", "error"),
            ("compliance, errors", "foo=\"bar", "error"),
            ("compliance, errors", "foo=\"ba\"r\"", "error"),
            ("compliance, errors", "=bar", "error"),
            ("compliance, errors", "foo==~bar", "foo=\"=~bar\""),
            ("compliance, errors", "foo=~\"(\"", "error"),
            ("compliance, errors", "{foo=bar}{a=b}", "foo=\"bar}{a=b\""),
        ];
        for (source, text, expected) in rows {
            assert_eq!(shown(parse_matchers(text)), expected, "{source}: {text}");
        }
    }

    #[test]
    fn one_matcher_is_read_without_braces() {
        let rows = [
            ("compat, one matcher", "foo=bar", "foo=\"bar\""),
            ("compat, one matcher", "foo!=\"\"", "foo!=\"\""),
            ("compat, one matcher", "foo=~a|b", "foo=~\"a|b\""),
            ("compat, one matcher", "{foo=bar}", "error"),
            ("compat, one matcher", "foo=bar,a=b", "foo=\"bar,a=b\""),
            ("compat, one matcher", "\"foo bar\"=x", "\"foo bar\"=\"x\""),
            ("compat, one matcher", "", "error"),
        ];
        for (source, text, expected) in rows {
            assert_eq!(shown(parse_matcher(text).map(|one| vec![one])), expected, "{source}: {text}");
        }
    }
}
