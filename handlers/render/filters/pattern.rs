//! Regular expressions in Go's dialect, RE2.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{Environment, Error};
use regex::{Regex, RegexBuilder};

use super::{OUTPUT_BYTES_MAX, bounded, invalid};

/// Most patterns that are kept compiled: a template has a few.
const KEPT_MAX: usize = 64;
/// Largest compiled pattern, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

pub(super) fn add(environment: &mut Environment<'static>) {
    let kept = Arc::new(Kept::default());
    let matching = Arc::clone(&kept);
    environment.add_filter("regex_match", move |text: &str, pattern: &str| {
        Ok::<_, Error>(matching.compiled(pattern)?.is_match(text))
    });
    environment.add_filter("regex_replace", move |text: &str, pattern: &str, replacement: &str| {
        replace(&*kept.compiled(pattern)?, text, replacement)
    });
}

/// Patterns that were used before.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, Arc<Regex>>>);

impl Kept {
    fn compiled(&self, pattern: &str) -> Result<Arc<Regex>, Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = kept.get(pattern) {
            return Ok(Arc::clone(regex));
        }
        let why = |why| invalid(format!("`{pattern}` is no pattern: {why}"));
        let regex = Arc::new(compile(pattern).map_err(why)?);
        if kept.len() == KEPT_MAX {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), Arc::clone(&regex));
        Ok(regex)
    }
}

/// `text | regex_replace(pattern, replacement)`: every match; `$1` and `${name}` stand for groups, `$$` for `$`.
fn replace(regex: &Regex, text: &str, replacement: &str) -> Result<String, Error> {
    let mut result = String::new();
    let mut end = 0;
    for captures in regex.captures_iter(text) {
        let whole = captures.get_match();
        result.push_str(&text[end..whole.start()]);
        captures.expand(replacement, &mut result);
        end = whole.end();
        if result.len() > OUTPUT_BYTES_MAX {
            break;
        }
    }
    result.push_str(&text[end..]);
    bounded(result)
}

/// A pattern in RE2's syntax, ready to use; or why it is none.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translated(pattern);
    RegexBuilder::new(&translated).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        other => other.to_string().lines().last().unwrap_or("wrong syntax").trim().to_owned(),
    })
}

/// RE2's classes have only ASCII, and in its brackets only `[:name:]` is special.
fn translated(pattern: &str) -> String {
    let mut result = String::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    // How many characters of a bracket have been seen, if inside of one.
    let mut bracket: Option<usize> = None;
    while let Some(character) = characters.next() {
        let inside = bracket.is_some();
        match character {
            '\\' => match characters.next() {
                Some('Q') if !inside => quote(&mut characters, &mut result),
                Some(escaped) => escape(escaped, inside, &mut result),
                None => result.push('\\'),
            },
            '[' if !inside => {
                bracket = Some(0);
                result.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    result.push('^');
                }
                // A bracket right at the beginning is a character.
                if characters.next_if_eq(&']').is_some() {
                    result.push_str("\\]");
                }
                continue;
            }
            ']' if inside => {
                bracket = None;
                result.push(']');
            }
            '[' if characters.peek() == Some(&':') => {
                result.push('[');
                for character in characters.by_ref() {
                    result.push(character);
                    if character == ']' {
                        break;
                    }
                }
            }
            '[' => result.push_str("\\["),
            // Doubled, they are operators on sets in Rust's dialect.
            '&' | '~' if inside => result.extend(['\\', character]),
            '-' if inside && characters.peek() == Some(&'-') => result.push_str("\\-"),
            _ => result.push(character),
        }
        bracket = bracket.map(|seen| seen + 1);
    }
    result
}

fn escape(escaped: char, inside: bool, result: &mut String) {
    let class = match escaped {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\f\\r ",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => "^\\t\\n\\f\\r ",
        'b' if !inside => return result.push_str("(?-u:\\b)"),
        _ => return result.extend(['\\', escaped]),
    };
    result.extend(["[", class, "]"]);
}

/// What stands between `\Q` and `\E` means itself.
fn quote(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, result: &mut String) {
    while let Some(character) = characters.next() {
        if character == '\\' && characters.next_if_eq(&'E').is_some() {
            return;
        }
        result.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
    }
}
