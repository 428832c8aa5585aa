//! Silences: whoever matches is not told for a while. States, creation, edit in place and replacement follow
//! Alertmanager's rules; times are on the wall clock, and are compared with it at each decision.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{
    Wall,
    matcher::{Matcher, MatcherError},
};

/// Names one silence for ever: a random UUID (RFC 9562, version 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SilenceId(pub u128);

impl SilenceId {
    /// The id from random bits: version 4, variant 10 (RFC 9562 section 5.4).
    pub fn from_random(bits: u128) -> SilenceId {
        const VERSION: u128 = 0xF << 76;
        const VARIANT: u128 = 0b11 << 62;
        SilenceId((bits & !VERSION & !VARIANT) | (0x4 << 76) | (0b10 << 62))
    }

    /// Reads `8-4-4-4-12` hex digits, in either case.
    pub fn parse(text: &str) -> Option<SilenceId> {
        const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
        let mut parts = text.split('-');
        let mut id = 0;
        for length in LENGTHS {
            let part = parts.next()?;
            if part.len() != length || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            id = (id << (4 * length)) | u128::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(SilenceId(id))
    }
}

/// `8-4-4-4-12` lower-case hex digits.
impl fmt::Display for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            id >> 96,
            (id >> 80) & 0xFFFF,
            (id >> 64) & 0xFFFF,
            (id >> 48) & 0xFFFF,
            id & 0xFFFF_FFFF_FFFF
        )
    }
}

/// One silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its name.
    pub id: SilenceId,
    /// All of them must match; at least one, and not only such as match the empty string.
    pub matchers: Vec<Matcher>,
    /// When it begins, inclusive.
    pub starts: Wall,
    /// When it ends, exclusive.
    pub ends: Wall,
    /// When it was last set or ended by hand.
    pub updated: Wall,
    /// Who made it.
    pub by: SmolStr,
    /// Why.
    pub comment: String,
    /// More about it, for other tools.
    pub annotations: BTreeMap<SmolStr, String>,
    /// Which client set it last; empty where that is who made it.
    pub client: SmolStr,
}

/// Where a silence stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SilenceState {
    /// It holds.
    Active,
    /// It is to begin.
    Pending,
    /// It is over.
    Expired,
}

impl SilenceState {
    /// The word in APIs and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            SilenceState::Active => "active",
            SilenceState::Pending => "pending",
            SilenceState::Expired => "expired",
        }
    }
}

impl Silence {
    /// Where it stands at this moment.
    pub fn state(&self, now: Wall) -> SilenceState {
        if now >= self.ends {
            SilenceState::Expired
        } else if now < self.starts {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// Bytes of its texts: what the limit of a silence's size counts.
    pub fn text_bytes(&self) -> usize {
        let matchers = self.matchers.iter().map(|m| m.name.len() + m.value.len());
        let annotations = self.annotations.iter().map(|(name, text)| name.len() + text.len());
        self.by.len()
            + self.client.len()
            + self.comment.len()
            + matchers.sum::<usize>()
            + annotations.sum::<usize>()
    }
}

/// Somebody makes, changes or ends a silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SilenceOrder {
    /// Make one, or change the one with this id.
    Set(Box<SetSilence>),
    /// End it now.
    Expire {
        /// Which.
        id: SilenceId,
        /// Who says so.
        by: SmolStr,
    },
}

/// A silence as somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSilence {
    /// Which one to change; `None` makes a new one.
    pub id: Option<SilenceId>,
    /// The name of a new one, where one is made: drawn at random by the shell.
    pub fresh: SilenceId,
    /// See [`Silence::matchers`].
    pub matchers: Vec<Matcher>,
    /// See [`Silence::starts`]; `None` is now.
    pub starts: Option<Wall>,
    /// See [`Silence::ends`].
    pub ends: Wall,
    /// See [`Silence::by`].
    pub by: SmolStr,
    /// See [`Silence::comment`].
    pub comment: String,
    /// See [`Silence::annotations`].
    pub annotations: BTreeMap<SmolStr, String>,
    /// See [`Silence::client`].
    pub client: SmolStr,
}

impl SetSilence {
    /// Who set it, for the record: whom it names, and who was let in.
    pub fn signed(&self) -> SmolStr {
        match self.client.as_str() {
            "" => self.by.clone(),
            client => smol_str::format_smolstr!("{} (by {client})", self.by),
        }
    }
}

/// What must hold of silences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SilenceRules {
    /// Most silences that are kept, expired ones included; 0 means no limit (Alertmanager's `max-silences`).
    pub max: u32,
    /// Most bytes of one silence's texts; 64 KiB unless set, 0 means no limit.
    pub bytes_max: u32,
    /// How long an expired silence is kept, in milliseconds.
    pub retention_ms: u64,
    /// Whether a silence must say why.
    pub needs_comment: bool,
    /// Whether a silence must say who made it.
    pub needs_author: bool,
}

impl Default for SilenceRules {
    fn default() -> SilenceRules {
        const HOUR_MS: u64 = 3_600_000;
        SilenceRules {
            max: 0,
            bytes_max: 64 << 10,
            retention_ms: 120 * HOUR_MS,
            needs_comment: false,
            needs_author: false,
        }
    }
}

/// Why a silence cannot be set or ended. The words are Alertmanager's where it has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SilenceError {
    /// No silence has this id.
    Unknown(SilenceId),
    /// It names no matcher.
    NoMatcher,
    /// A matcher is broken.
    Matcher(String),
    /// Every matcher matches a label that is not there, so that it would silence everything.
    MatchesEmpty,
    /// It would end before it begins.
    EndsBeforeStart,
    /// It would have ended already.
    EndsInPast,
    /// There are as many as are allowed.
    TooMany {
        /// How many are kept.
        have: u32,
        /// How many may be.
        max: u32,
    },
    /// Its texts are too long.
    TooLarge {
        /// How many bytes they have.
        bytes: u32,
        /// How many they may have.
        max: u32,
    },
    /// It does not say why, and the configuration wants that.
    NoComment,
    /// It does not say who, and the configuration wants that.
    NoAuthor,
}

impl From<MatcherError> for SilenceError {
    fn from(error: MatcherError) -> SilenceError {
        SilenceError::Matcher(error.message)
    }
}

impl fmt::Display for SilenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SilenceError::Unknown(id) => write!(f, "silence {id} not found"),
            SilenceError::NoMatcher => f.write_str("invalid silence: at least one matcher required"),
            SilenceError::Matcher(why) => write!(f, "invalid silence: invalid label matcher: {why}"),
            SilenceError::MatchesEmpty => {
                f.write_str("invalid silence: at least one matcher must not match the empty string")
            }
            SilenceError::EndsBeforeStart => {
                f.write_str("invalid silence: end time must not be before start time")
            }
            SilenceError::EndsInPast => f.write_str("invalid silence: end time can't be in the past"),
            SilenceError::TooMany { have, max } => {
                write!(f, "exceeded maximum number of silences: {have} (limit: {max})")
            }
            SilenceError::TooLarge { bytes, max } => {
                write!(f, "silence exceeded maximum size: {bytes} bytes (limit: {max} bytes)")
            }
            SilenceError::NoComment => {
                f.write_str("invalid silence: a comment is required (`silences: { comment: required }`)")
            }
            SilenceError::NoAuthor => {
                f.write_str("invalid silence: an author is required (`silences: { author: required }`)")
            }
        }
    }
}

impl core::error::Error for SilenceError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ids_are_uuids_of_version_4() {
        let id = SilenceId::from_random(u128::MAX);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(SilenceId::from_random(0).to_string(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(SilenceId::parse("FFFFFFFF-ffff-4fff-bfff-ffffffffffff"), Some(id));
        for text in [
            "",
            "abc",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "ffffffff-ffff-4fff-bfff-ffffffffffff-",
            "+fffffff-ffff-4fff-bfff-ffffffffffff",
        ] {
            assert_eq!(SilenceId::parse(text), None, "{text}");
        }
    }
}
