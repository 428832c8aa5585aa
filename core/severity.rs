//! Severities: ordered words. The label itself is never rewritten; order operators compare ranks.

use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The five ranks of X.733 (ITU-T Recommendation X.733, section 8.1.2.3), lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Nothing to do; also where a condition has ended.
    Info,
    /// Something may become a fault.
    Warning,
    /// A fault that does not hinder service.
    Minor,
    /// Service is hindered: act soon.
    Major,
    /// Service is lost: act now.
    Critical,
}

impl Severity {
    /// All of them, lowest first.
    pub const ALL: [Severity; 5] =
        [Severity::Info, Severity::Warning, Severity::Minor, Severity::Major, Severity::Critical];

    /// The word that ams2 itself writes for this rank.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }
}

/// The usual synonyms: syslog's, DMI's (AMS²'s own) and those seen in other tools. Compared without case.
const SYNONYMS: &[(&str, Severity)] = &[
    ("debug", Severity::Info),
    ("information", Severity::Info),
    ("informational", Severity::Info),
    ("notice", Severity::Info),
    ("none", Severity::Info),
    ("ok", Severity::Info),
    ("monitor", Severity::Info),
    ("cleared", Severity::Info),
    ("low", Severity::Warning),
    ("warn", Severity::Warning),
    ("medium", Severity::Minor),
    ("moderate", Severity::Minor),
    ("non-critical", Severity::Minor),
    ("average", Severity::Minor),
    ("error", Severity::Major),
    ("err", Severity::Major),
    ("high", Severity::Major),
    ("alert", Severity::Critical),
    ("crit", Severity::Critical),
    ("disaster", Severity::Critical),
    ("emerg", Severity::Critical),
    ("emergency", Severity::Critical),
    ("fatal", Severity::Critical),
    ("non-recoverable", Severity::Critical),
    ("page", Severity::Critical),
    ("panic", Severity::Critical),
];

/// The words that have a rank: the five, their usual synonyms, and what the config adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severities {
    /// Words the config adds or moves, in lower case.
    pub extra: BTreeMap<SmolStr, Severity>,
}

impl Severities {
    /// Every word that has a rank, in lower case.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let own = Severity::ALL.iter().map(|severity| severity.word());
        own.chain(SYNONYMS.iter().map(|(word, _)| *word)).chain(self.extra.keys().map(SmolStr::as_str))
    }

    /// The rank of `word`, compared without case; `None` for a word that nobody knows.
    pub fn rank(&self, word: &str) -> Option<Severity> {
        let word = word.trim();
        if !self.extra.is_empty()
            && let Some(rank) = self.extra.get(word.to_lowercase().as_str())
        {
            return Some(*rank);
        }
        Severity::ALL
            .iter()
            .map(|severity| (severity.word(), *severity))
            .chain(SYNONYMS.iter().copied())
            .find(|(known, _)| known.eq_ignore_ascii_case(word))
            .map(|(_, severity)| severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_rank_and_unknown_ones_do_not() {
        let mut severities = Severities::default();
        let rows = [
            ("info", Some(Severity::Info)),
            ("CRITICAL", Some(Severity::Critical)),
            (" minor ", Some(Severity::Minor)),
            ("err", Some(Severity::Major)),
            ("non-recoverable", Some(Severity::Critical)),
            ("purple", None),
            ("", None),
        ];
        for (word, rank) in rows {
            assert_eq!(severities.rank(word), rank, "{word}");
        }
        severities.extra.insert("purple".into(), Severity::Major);
        assert_eq!(severities.rank("Purple"), Some(Severity::Major));
        assert!(Severity::Info < Severity::Warning && Severity::Major < Severity::Critical);
    }
}
