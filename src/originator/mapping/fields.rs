//! What came in, field by field.

use std::{borrow::Cow, fmt};

use minijinja::value::Value;
use smol_str::SmolStr;

/// Something that came in, read field by field.
pub trait Fields {
    /// The text of one field; `None` when it is not there. A path is `app` or `sd.origin.ip`, split at its dots.
    fn text(&self, path: &[SmolStr]) -> Option<Cow<'_, str>>;

    /// The fields below a path with their texts, such as all of `sd.origin`.
    fn below(&self, path: &[SmolStr]) -> Vec<(SmolStr, Cow<'_, str>)>;

    /// At most so many of those, and how many more there are.
    fn some_below(&self, path: &[SmolStr], most: usize) -> (Vec<(SmolStr, Cow<'_, str>)>, usize) {
        let mut all = self.below(path);
        let more = all.len().saturating_sub(most);
        all.truncate(most);
        (all, more)
    }

    /// How many items the list at a path has; `None` when there is no list.
    fn items(&self, _path: &[SmolStr]) -> Option<usize> {
        None
    }

    /// Item `index` of the list at a path.
    fn item(&self, _path: &[SmolStr], _index: usize) -> Option<Box<dyn Fields + '_>> {
        None
    }

    /// All of it, for settings that compute.
    fn whole(&self) -> Value;
}

/// A way to a field: `app`, `sd.origin.ip`, `sd["exampleSDID@32473"].eventID`, `tags[0]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Path(Vec<SmolStr>);

impl Path {
    /// Reads one from the beginning of a text; what is left of it stands behind. `None` when there is none.
    pub(super) fn take(text: &str) -> Option<(Path, &str)> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let length = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
            let name = &rest[..length];
            if name.is_empty() || (steps.is_empty() && name.starts_with(|c: char| c.is_ascii_digit())) {
                return None;
            }
            steps.push(name.into());
            rest = &rest[length..];
            while let Some(within) = rest.strip_prefix('[') {
                let (step, behind) = bracketed(within)?;
                steps.push(step);
                rest = behind;
            }
            match rest.strip_prefix('.') {
                Some(behind) => rest = behind,
                None => return Some((Path(steps), rest)),
            }
        }
    }

    /// Reads a whole text as a path.
    pub fn parse(text: &str) -> Option<Path> {
        Path::take(text.trim()).filter(|(_, rest)| rest.is_empty()).map(|(path, _)| path)
    }

    /// Its steps.
    pub fn steps(&self) -> &[SmolStr] {
        &self.0
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What stands in brackets, without them: a number, or a text in quotes.
fn bracketed(text: &str) -> Option<(SmolStr, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (step, behind) = match quote {
        Some(quote) => text[1..].split_once(quote)?,
        None => {
            let length = text.find(|c: char| !c.is_ascii_digit()).filter(|length| *length > 0)?;
            text.split_at(length)
        }
    };
    Some((step.into(), behind.strip_prefix(']')?))
}
