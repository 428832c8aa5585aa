//! How Cisco's devices begin their messages.

use super::{
    message::FIELD_BYTES_MAX,
    time::{self, Sent},
};

/// What stands before the text of a message of Cisco's IOS, IOS XE, NX-OS and IOS XR, each part with a colon behind it and many of them
/// left out: a sequence number, the host, and a time, or for how long the device has been up:
/// `29: core-1: *Mar  1 18:46:11.103 UTC: %LINK-3-UPDOWN: …`.
pub struct Cisco<'a> {
    /// The host; empty where none is named.
    pub host: &'a str,
    /// The card of a router that speaks, as IOS XR has it: `RP/0/RSP0/CPU0`.
    pub node: &'a str,
    /// When it was sent, or for how long it has been up.
    pub sent: Sent<'a>,
    /// What it says, with its mnemonic.
    pub behind: &'a str,
}

impl<'a> Cisco<'a> {
    /// Most parts before the time.
    const PARTS_MAX: usize = 3;

    /// What stands there, if it is one of those.
    pub fn find(text: &'a str) -> Option<Cisco<'a>> {
        let (mut host, mut node, mut is_numbered) = ("", "", false);
        // NX-OS has neither number nor host, and their colon.
        let mut rest = text.strip_prefix(": ").map_or(text, |rest| rest.trim_start_matches(' '));
        is_numbered |= rest.len() < text.len();
        for _ in 0..=Cisco::PARTS_MAX {
            if let Some((card, behind)) = rest.split_once(':')
                && card.contains('/')
                && is_name(card)
                && time::take(behind).is_some()
            {
                (node, rest) = (card, behind);
            }
            if let Some((sent, behind)) = time::take(rest) {
                // Others write a program there, and then a time: it has no colon behind it.
                let behind =
                    behind.trim_start_matches(' ').strip_prefix(':').filter(|rest| is_apart(rest))?;
                return Some(Cisco { host, node, sent, behind: behind.trim_start_matches(' ') });
            }
            if is_numbered && mnemonic(rest).is_some() {
                return Some(Cisco { host, node, sent: Sent::default(), behind: rest });
            }
            let (word, behind) = rest.split_once(": ")?;
            let behind = behind.trim_start_matches(' ');
            if is_uptime(word) && mnemonic(behind).is_some() {
                return Some(Cisco { host, node, sent: Sent::new(word), behind });
            }
            match word.bytes().all(|b| b.is_ascii_digit()) {
                true => is_numbered = true,
                false if host.is_empty() && is_name(word) => host = word,
                false => return None,
            }
            rest = behind;
        }
        None
    }
}

/// Whether nothing follows at once.
fn is_apart(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(' ')
}

/// `%LINK-3-UPDOWN` at the start of a text, and what stands behind its colon.
pub fn mnemonic(text: &str) -> Option<(&str, &str)> {
    let end = text.find([' ', ':'])?;
    let (name, behind) = text.split_at(end);
    let behind = behind.trim_start_matches(' ').strip_prefix(':').filter(|rest| is_apart(rest))?;
    let level = |part: &str| part.len() == 1 && part.bytes().all(|b| b.is_ascii_digit());
    let is_one = name.starts_with('%') && name.len() <= FIELD_BYTES_MAX && name.split('-').skip(1).any(level);
    is_one.then(|| (name, behind.strip_prefix(' ').unwrap_or(behind)))
}

/// For how long a device has been up: `00:00:46`, `3d04h`, `1w2d`, `1y2w`.
fn is_uptime(word: &str) -> bool {
    let is_of_it = |b: u8| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'y' | b'w' | b'd' | b'h');
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.bytes().all(is_of_it)
        && word.bytes().any(|b| !b.is_ascii_digit())
}

/// Whether a word may be the name of a host or of a program.
pub fn is_name(word: &str) -> bool {
    !word.is_empty() && word.len() <= FIELD_BYTES_MAX && !word.contains([' ', '['])
}
