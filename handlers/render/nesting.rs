//! What can be said of a template before it is compiled: how deep it nests, and which filters, tests and other templates it
//! names. Each block, bracket, `elif`, and each `|filter`, `.name` or operator of one expression takes
//! stack when it is compiled, and a stack that is used up ends the process. The compiler looks after blocks and brackets alone, and
//! allows more of them than a small stack has room for.

use super::TemplateError;

/// What a template names that the compiler does not look up: it would come to light when somebody is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named<'t> {
    pub filters: Vec<Name<'t>>,
    pub tests: Vec<Name<'t>>,
    pub templates: Vec<Name<'t>>,
    /// Whether values can be made from values again and again: what that comes to, nobody knows before it is done.
    pub grows: bool,
}

/// A name, and the line that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'t> {
    pub text: &'t str,
    pub line: usize,
}

/// Most operators, filters, calls and lookups in one `{{ }}` or `{% %}`.
const CHAIN_MAX: usize = 250;
/// Most `elif` in one template.
const ELIF_MAX: usize = 100;
/// Most brackets within each other.
const BRACKETS_MAX: usize = 40;
/// Most blocks within each other.
const BLOCKS_MAX: usize = 40;
/// Most places that give a value a name, in a template whose values count as small.
const NAMINGS_MAX: usize = 24;

/// Refuses what would nest too deep, and gives what it names.
pub(super) fn check(source: &str) -> Result<Named<'_>, TemplateError> {
    let (mut elifs, mut blocks, mut namings) = (0, 0_usize, 0);
    let (mut named, mut counted, mut line) = (Named::default(), 0, 1);
    let mut rest = source;
    while let Some(start) = ["{{", "{%", "{#"].iter().filter_map(|mark| rest.find(mark)).min() {
        let begins = source.len() - rest.len() + start;
        let refuse = |what: String| {
            let line = 1 + source[..begins].matches('\n').count();
            Err(TemplateError { message: format!("{what}: it cannot be compiled"), line: Some(line) })
        };
        let inside = &rest[start + 2..];
        if rest[start..].starts_with("{#") {
            rest = behind(inside, "#}");
            continue;
        }
        let tag = tag(inside);
        line += source[counted..begins].matches('\n').count();
        counted = begins;
        let at = |text| Name { text, line };
        named.filters.extend(tag.filters.iter().copied().map(at));
        named.tests.extend(tag.tests.iter().copied().map(at));
        if rest[start..].starts_with("{%") && matches!(tag.keyword, "include" | "import" | "from" | "extends")
        {
            named.templates.extend(tag.template.map(at));
        }
        namings += usize::from(matches!(tag.keyword, "set" | "with" | "for" | "macro"));
        let text = &rest[start + 2..start + 2 + tag.bytes];
        named.grows |= namings > NAMINGS_MAX || text.contains("namespace");
        if let Some(name) = doubled(text, tag.keyword) {
            let line = Some(1 + source[..begins].matches('\n').count());
            let message =
                format!("`{name}` is set to more than one of itself: in a loop it would grow for ever");
            return Err(TemplateError { message, line });
        }
        if tag.links > CHAIN_MAX {
            return refuse(format!("more than {CHAIN_MAX} operators, filters and lookups in one place"));
        }
        if tag.brackets > BRACKETS_MAX {
            return refuse(format!("more than {BRACKETS_MAX} brackets within each other"));
        }
        match tag.keyword {
            "if" | "for" | "macro" | "with" | "call" | "filter" | "block" | "autoescape" => blocks += 1,
            "set" if !tag.has_equals => blocks += 1,
            keyword if keyword.starts_with("end") => blocks = blocks.saturating_sub(1),
            _ => {}
        }
        if blocks > BLOCKS_MAX {
            return refuse(format!("more than {BLOCKS_MAX} blocks within each other"));
        }
        elifs += usize::from(tag.keyword == "elif");
        if elifs > ELIF_MAX {
            return refuse(format!("more than {ELIF_MAX} `elif`"));
        }
        rest = &inside[tag.bytes..];
        if tag.keyword == "raw" && source[begins..].starts_with("{%") {
            rest = behind(rest, "endraw");
        }
    }
    Ok(named)
}

/// The field of a namespace that a `set` makes of itself and itself once more: `set it.all = [it.all, it.all]`. What stands
/// behind an `if` decides, and is not put in.
fn doubled<'t>(tag: &'t str, keyword: &str) -> Option<&'t str> {
    let (name, value) = (keyword == "set").then(|| tag.split_once('='))??;
    let name = name.trim_start_matches(['-', '+', ' ', '\n', '\t']).strip_prefix("set")?.trim();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_whole = |at: usize| {
        !value[..at].ends_with(|c: char| is_part(c) || c == '.')
            && !value[at + name.len()..].starts_with(is_part)
    };
    let builds = value.contains(['[', '{', '+', '~']);
    let places: Vec<usize> = value.match_indices(name).map(|(at, _)| at).filter(|at| is_whole(*at)).collect();
    let twice = places.windows(2).any(|pair| !value[pair[0]..pair[1]].contains(" if "));
    (name.contains('.') && builds && twice).then_some(name)
}

/// What follows the first `mark`; nothing if there is none.
fn behind<'t>(text: &'t str, mark: &str) -> &'t str {
    text.find(mark).map_or("", |at| &text[at + mark.len()..])
}

/// One `{{ }}` or `{% %}`.
struct Tag<'t> {
    /// How many operators, filters, calls and lookups are in it.
    links: usize,
    /// How many brackets are within each other.
    brackets: usize,
    /// Whether there is an equals sign: a `set` without one is a block.
    has_equals: bool,
    /// Its first word.
    keyword: &'t str,
    /// Where it ends, counted from behind its beginning.
    bytes: usize,
    /// Names behind a `|`.
    filters: Vec<&'t str>,
    /// Names behind an `is`.
    tests: Vec<&'t str>,
    /// The text in quotes directly behind the keyword, unless what is not there is passed over.
    template: Option<&'t str>,
}

/// What the next word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Filter,
    Test,
    Other,
}

/// Reads a tag. Text in quotes is not looked at. A quote or a tag that is not closed ends with the template: the compiler
/// refuses it.
fn tag(inside: &str) -> Tag<'_> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let bare = inside.trim_start_matches(['-', '+']).trim_start();
    let keyword = &bare[..bare.find(|c| !is_part(c)).unwrap_or(bare.len())];
    let (mut links, mut braces, mut word) = (0, 0_usize, 0..0);
    let (mut open, mut brackets, mut has_equals) = (0_usize, 0, false);
    let (mut filters, mut tests) = (Vec::new(), Vec::new());
    let mut next = Next::Other;
    let behind = bare[keyword.len()..].trim_start();
    let quoted = behind.strip_prefix(['"', '\'']).and_then(|text| text.split(['"', '\'']).next());
    let mut template = quoted.filter(|text| !text.contains('\\'));
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        if is_part(c) {
            word.end = at + c.len_utf8();
            continue;
        }
        let text = inside[word.start..word.end].trim();
        links += usize::from(is_operator(text));
        if !text.is_empty() {
            match (next, text) {
                (Next::Filter, _) => filters.push(text),
                // `is not` is followed by the test.
                (Next::Test, "not") => {}
                (Next::Test, _) => tests.push(text),
                (Next::Other, "ignore") => template = None,
                (Next::Other, _) => {}
            }
            next = match (next, text) {
                (Next::Test, "not") | (_, "is") => Next::Test,
                // `{% filter upper %}`
                (Next::Other, "filter") if text == keyword && filters.is_empty() => Next::Filter,
                _ => Next::Other,
            };
        }
        next = match c {
            '|' => Next::Filter,
            c if c.is_whitespace() => next,
            _ => Next::Other,
        };
        word = at + c.len_utf8()..at + c.len_utf8();
        has_equals |= c == '=';
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        brackets = brackets.max(open);
        match c {
            '"' | '\'' => {
                while let Some((_, next)) = chars.next() {
                    if next == '\\' {
                        chars.next();
                    } else if next == c {
                        break;
                    }
                }
                let behind = chars.offset();
                word = behind..behind;
            }
            '{' => braces += 1,
            '}' if braces > 0 => braces -= 1,
            '}' | '%' if inside[at + 1..].starts_with('}') => {
                return Tag { links, brackets, has_equals, keyword, bytes: at + 2, filters, tests, template };
            }
            '|' | '.' | '[' | '(' | '+' | '-' | '*' | '/' | '%' | '~' | '<' | '>' | '=' | '!' => links += 1,
            _ => {}
        }
    }
    Tag { links, brackets, has_equals, keyword, bytes: inside.len(), filters, tests, template }
}

fn is_operator(word: &str) -> bool {
    matches!(word, "not" | "and" | "or" | "in" | "is" | "if" | "else")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Scope, Template};

    /// Less than any thread of ours has, in builds without optimisation, whose frames are the largest.
    const STACK_BYTES: usize = 1 << 20;

    /// Compiles, renders and drops on a small stack. Without the check this ends the whole process.
    fn compile(source: String) -> Result<(), String> {
        let work =
            move || Template::compile(&source, Scope::Delivery).map(drop).map_err(|error| error.to_string());
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(work)
            .expect("a thread")
            .join()
            .expect("no panic")
    }

    #[test]
    fn chains_that_would_use_up_the_stack_are_refused() {
        let chained = |link: &str, count: usize| format!("{{{{ event{} }}}}", link.repeat(count));
        let elifs = |count: usize| format!("{{% if test %}}{}{{% endif %}}", "{% elif test %}".repeat(count));
        let refused = [
            elifs(4000),
            elifs(ELIF_MAX + 1),
            format!("{{% if test %}}{}{{% endif %}}", "{%-elif test %}".repeat(4000)),
            chained("|e", 30_000),
            chained("|e", CHAIN_MAX + 1),
            chained(".a", 30_000),
            chained("[0]", 20_000),
            chained("()", 30_000),
            chained("+1", 30_000),
            chained("~1", 30_000),
            chained(" and 1", 10_000),
            chained(" is none", 8000),
            chained(" if 1 else 1", 5000),
            chained("<1", 30_000),
            chained("==1", 20_000),
            format!("{{{{ {} test }}}}", "not ".repeat(15_000)),
            format!("{{{{ {}1 }}}}", "-".repeat(60_000)),
            format!("{{{{ '\\'{}' ~ event{} }}}}", "x".repeat(9), "|e".repeat(9000)),
            format!("{{{{ {{'a': {{}}}}{} }}}}", "|e".repeat(9000)),
            format!("{{# {{{{ ' #}}{{{{ event{} }}}}", "|e".repeat(9000)),
            format!("{{% raw %}}{{{{ ' {{% endraw %}}{{{{ event{} }}}}", "|e".repeat(9000)),
            format!("{{{{ {}1{} }}}}", "(".repeat(30_000), ")".repeat(30_000)),
            format!("{{{{ {}1{} }}}}", "[".repeat(30_000), "]".repeat(30_000)),
            format!("{{{{ {}1{} }}}}", "{'a':".repeat(9000), "}".repeat(9000)),
            format!("{{% for a in event{} %}}{{% endfor %}}", "|e".repeat(9000)),
            "{% if test %}".repeat(4000),
            format!("{}{}", "{% set x %}".repeat(BLOCKS_MAX + 1), "{% endset %}".repeat(BLOCKS_MAX + 1)),
            format!("{}{}", "{% if test %}".repeat(BLOCKS_MAX + 1), "{% endif %}".repeat(BLOCKS_MAX + 1)),
        ];
        for source in refused {
            let shown: String = source.chars().take(60).collect();
            assert!(compile(source).is_err(), "{shown}");
        }
    }

    #[test]
    fn what_is_just_allowed_compiles_on_a_small_stack() {
        let elifs = format!("{{% if test %}}{}{{% endif %}}", "{% elif test %}".repeat(ELIF_MAX));
        let rows = [
            elifs.clone(),
            format!(
                "{}{elifs}{}",
                "{% if test %}".repeat(BLOCKS_MAX - 1),
                "{% endif %}".repeat(BLOCKS_MAX - 1)
            ),
            format!("{{{{ {}1{} }}}}", "(".repeat(BRACKETS_MAX), ")".repeat(BRACKETS_MAX)),
            format!("{{{{ {}1{} }}}}", "{'a':".repeat(BRACKETS_MAX), "}".repeat(BRACKETS_MAX)),
            "{% set x = 1 %}".repeat(500),
            "{% if test %}{% endif %}".repeat(500),
            format!("{{{{ event{} }}}}", "|e".repeat(CHAIN_MAX)),
            format!("{{{{ {} test }}}}", "not ".repeat(CHAIN_MAX)),
            format!("{{{{ {}1 }}}}", "-".repeat(CHAIN_MAX)),
            format!("{{{{ event{} }}}}", "~1".repeat(CHAIN_MAX)),
            format!("{{{{ '{}' }}}}", "|.+-".repeat(9000)),
            "{{ event | upper }}\n".repeat(3000),
        ];
        for source in rows {
            let shown: String = source.chars().take(60).collect();
            assert_eq!(compile(source), Ok(()), "{shown}");
        }
    }

    #[test]
    fn what_a_template_names_is_found() {
        let source = "{{ a | upper|join(', | no') }}
{% if a is http and b is not defined or c|length is divisibleby(2) %}{{ '| no' }}{# | no is no #}{% endif %}
{% filter title %}{% raw %}{{ x | no }}{% endraw %}{% endfilter %}{%- for x in y | sort if x is odd -%}{% endfor %}
{% include 'row' %}{% import \"site.j2\" as s %}{% include ['a', 'b'] %}{% include 'maybe' ignore missing %}{{ from | first }}
{% set filter = 1 %}{{ filter }} {{ is }}";
        let named = check(source).expect("it is right");
        let texts = |names: &[Name<'_>]| -> Vec<(String, usize)> {
            names.iter().map(|name| (name.text.to_owned(), name.line)).collect()
        };
        let rows = |rows: &[(&str, usize)]| -> Vec<(String, usize)> {
            rows.iter().map(|(text, line)| ((*text).to_owned(), *line)).collect()
        };
        let filters = [("upper", 1), ("join", 1), ("length", 2), ("title", 3), ("sort", 3), ("first", 4)];
        assert_eq!(texts(&named.filters), rows(&filters));
        assert_eq!(texts(&named.tests), rows(&[("http", 2), ("defined", 2), ("divisibleby", 2), ("odd", 3)]));
        assert_eq!(texts(&named.templates), rows(&[("row", 4), ("site.j2", 4)]));
    }

    #[test]
    fn the_line_is_named() {
        let source = format!("a\n{{{{ event }}}}\n{{{{ event{} }}}}", "|e".repeat(999));
        let error = check(&source).expect_err("too long");
        assert_eq!(error.line, Some(3));
        assert!(error.message.contains("operators"), "{}", error.message);
    }
}
