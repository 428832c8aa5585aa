//! Web hooks of other tools: what they post becomes alerts by the rules of a file, and they get the answers that they expect.
//!
//! The files that come with ams2 are in `config/inbound/`; a configuration switches them on by their names, or has hooks of its own
//! in the same words. Where to start reading: `Hooks::find`, then `take` (one request), `request` (what its rules see).

mod answer;
mod builtin;
mod digits;
mod request;
mod take;
mod work;

pub use answer::{Answer, Answers, Tree};
pub use builtin::{NAMES, builtin};
pub(super) use take::{no_such, take};

use std::sync::Arc;

use hyper::Method;
use smol_str::SmolStr;

use super::{
    mapping::{Mapping, Path},
    problem::Problem,
};

/// Every hook that is switched on.
#[derive(Clone, Debug, Default)]
pub struct Hooks(pub Vec<Hook>);

/// What one tool posts.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its name in the configuration, and in what is said of it.
    pub name: SmolStr,
    /// Where its sender's token stands beside `Authorization: Bearer`, and as the password of `Basic`.
    pub token: Token,
    /// Its requests.
    pub requests: Vec<Arc<HookRequest>>,
    /// What is answered when something is wrong.
    pub answers: Answers,
}

/// Where a token stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// In `Authorization: Bearer` or `Basic` only.
    #[default]
    Usual,
    /// In this header, behind these words.
    Header {
        /// The header's name, in lower case.
        name: SmolStr,
        /// What stands before it, such as `GenieKey `; may be empty.
        before: SmolStr,
    },
    /// In this field of the body.
    Body(Path),
}

/// One request that a tool makes.
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// Its methods.
    pub methods: Vec<Method>,
    /// Its path.
    pub path: Pattern,
    /// What becomes of it.
    pub mapping: Mapping,
    /// What is answered once it is kept.
    pub answer: Answer,
}

/// A path whose parts may be anything where a name in braces stands, such as `/v2/alerts/{alias}/close`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Word(SmolStr),
    Any(SmolStr),
}

impl Pattern {
    /// Reads one; `None` where it does not begin with `/` or a part is no word.
    pub fn parse(text: &str) -> Option<Pattern> {
        let parts = text.strip_prefix('/')?.split('/').map(|part| {
            let named = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
            let word = named.unwrap_or(part);
            (!word.is_empty() && word.chars().all(is_word)).then(|| match named {
                Some(name) => Part::Any(name.into()),
                None => Part::Word(part.into()),
            })
        });
        parts.collect::<Option<Vec<_>>>().map(Pattern)
    }

    /// What stands where names do, if a path has this form; a `/` at its end is nothing. Parts may be percent-encoded.
    fn of(&self, path: &str) -> Option<Vec<(SmolStr, String)>> {
        let path = path.strip_prefix('/')?;
        let mut parts = path.strip_suffix('/').unwrap_or(path).split('/');
        let mut found = Vec::new();
        for part in &self.0 {
            let given = parts.next()?;
            match part {
                Part::Word(word) if word == given => {}
                Part::Word(_) => return None,
                Part::Any(_) if given.is_empty() => return None,
                Part::Any(name) => found.push((name.clone(), request::decoded(given))),
            }
        }
        parts.next().is_none().then_some(found)
    }

    /// Whether it begins with a part that may be anything.
    pub fn begins_with_any(&self) -> bool {
        matches!(self.0.first(), Some(Part::Any(_)))
    }

    /// A name that stands twice in it.
    pub fn twice(&self) -> Option<&str> {
        let names = self.0.iter().enumerate().filter(|(_, part)| matches!(part, Part::Any(_)));
        names.filter(|(at, part)| self.0[..*at].contains(part)).find_map(|(_, part)| match part {
            Part::Any(name) => Some(name.as_str()),
            Part::Word(_) => None,
        })
    }

    /// Whether a path begins with the words that this begins with.
    fn is_before(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        let mut words = self.0.iter().map_while(|part| match part {
            Part::Word(word) => Some(word),
            Part::Any(_) => None,
        });
        words.all(|word| parts.next() == Some(word))
    }

    /// Whether all paths of the one are paths of the other, whatever their parts are called.
    pub fn is_like(&self, other: &Pattern) -> bool {
        let same = |(a, b): (&Part, &Part)| matches!((a, b), (Part::Any(_), Part::Any(_))) || a == b;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }

    /// Whether some path has both forms.
    pub fn meets(&self, other: &Pattern) -> bool {
        let same = |(a, b): (&Part, &Part)| matches!((a, b), (Part::Any(_), _) | (_, Part::Any(_))) || a == b;
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

/// A request that a hook takes.
pub(super) struct Meant<'h> {
    pub hook: &'h Hook,
    pub request: &'h Arc<HookRequest>,
    /// What stands where its path has names.
    pub path: Vec<(SmolStr, String)>,
}

impl Hooks {
    /// The hook that takes a request.
    pub(super) fn find(&self, method: &Method, path: &str) -> Option<Meant<'_>> {
        self.0.iter().find_map(|hook| {
            hook.requests.iter().filter(|request| request.methods.contains(method)).find_map(|request| {
                let path = request.path.of(path)?;
                Some(Meant { hook, request, path })
            })
        })
    }

    /// The hook beside one of whose paths a path is.
    pub(super) fn beside(&self, path: &str) -> Option<&Hook> {
        self.0.iter().find(|hook| hook.requests.iter().any(|request| request.path.is_before(path)))
    }

    /// What is wrong with a request whose path is a hook's, and whose method is not.
    pub(super) fn other_method(&self, method: &Method, path: &str) -> Option<Problem> {
        let requests = self.0.iter().flat_map(|hook| &hook.requests);
        let at_path = requests.filter(|request| request.path.of(path).is_some());
        let methods: Vec<&str> =
            at_path.flat_map(|request| request.methods.iter().map(Method::as_str)).collect();
        if methods.is_empty() {
            return None;
        }
        let detail = format!("{path} takes no {method}");
        Some(Problem::other_method(detail, &methods.join(", ")))
    }
}

#[cfg(test)]
mod tests;
