//! What stands between the items of a list: a line end, blanks, or one character.

use std::fmt;

/// A separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `LF`: a line feed, with or without a carriage return before it.
    LineEnd,
    /// `SP`: any run of blanks.
    Blanks,
    /// This character.
    Character(char),
}

/// What is no separator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeparatorError {
    /// Nothing.
    #[error("a separator is empty")]
    Empty,
    /// Several characters.
    #[error("the separator `{0}` is longer than one character")]
    TooLong(String),
}

impl Separator {
    /// `LF`, `SP`, or the character itself; `,` needs no name of its own.
    pub fn parse(text: &str) -> Result<Separator, SeparatorError> {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            _ if text.eq_ignore_ascii_case("LF") => Ok(Separator::LineEnd),
            _ if text.eq_ignore_ascii_case("SP") => Ok(Separator::Blanks),
            (None, _) => Err(SeparatorError::Empty),
            (Some('\n'), None) => Ok(Separator::LineEnd),
            (Some(' ' | '\t'), None) => Ok(Separator::Blanks),
            (Some(character), None) => Ok(Separator::Character(character)),
            (Some(_), Some(_)) => Err(SeparatorError::TooLong(text.into())),
        }
    }

    /// Whether it begins a comment, too.
    pub fn is_comment(self) -> bool {
        matches!(self, Separator::Character(';' | ':'))
    }

    /// Where it stands first: its place and length.
    pub(super) fn find(self, text: &str) -> Option<(usize, usize)> {
        match self {
            Separator::LineEnd => text.find('\n').map(|at| (at, 1)),
            Separator::Character(c) => text.find(c).map(|at| (at, c.len_utf8())),
            Separator::Blanks => {
                let at = text.find(char::is_whitespace)?;
                let rest = text[at..].trim_start();
                Some((at, text.len() - at - rest.len()))
            }
        }
    }

    /// Where it stands last.
    pub(super) fn find_last(self, text: &str) -> Option<(usize, usize)> {
        match self {
            Separator::LineEnd => text.rfind('\n').map(|at| (at, 1)),
            Separator::Character(c) => text.rfind(c).map(|at| (at, c.len_utf8())),
            Separator::Blanks => {
                let before = text.trim_end_matches(|c: char| !c.is_whitespace());
                let start = before.trim_end().len();
                (!before.is_empty()).then_some((start, before.len() - start))
            }
        }
    }
}

/// As it is given.
impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Separator::LineEnd => f.write_str("LF"),
            Separator::Blanks => f.write_str("SP"),
            Separator::Character(c) => write!(f, "{c}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_is_a_word_or_one_character() {
        for (text, expected) in [
            ("LF", Ok(Separator::LineEnd)),
            ("lf", Ok(Separator::LineEnd)),
            ("SP", Ok(Separator::Blanks)),
            (" ", Ok(Separator::Blanks)),
            (",", Ok(Separator::Character(','))),
            ("&", Ok(Separator::Character('&'))),
            ("§", Ok(Separator::Character('§'))),
            ("", Err(SeparatorError::Empty)),
            (",,", Err(SeparatorError::TooLong(",,".into()))),
            ("CR", Err(SeparatorError::TooLong("CR".into()))),
        ] {
            assert_eq!(Separator::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn blanks_are_found_as_runs_from_both_ends() {
        assert_eq!(Separator::Blanks.find("a \t b c"), Some((1, 3)));
        assert_eq!(Separator::Blanks.find_last("a b \t c"), Some((3, 3)));
        assert_eq!((Separator::Blanks.find("ab"), Separator::Blanks.find_last("ab")), (None, None));
        assert_eq!(Separator::Character('/').find_last("a/b/c"), Some((3, 1)));
    }
}
