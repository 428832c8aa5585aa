//! One syslog message: RFC 5424, RFC 3164 as it is found in the wild, or anything else. Nothing is refused: what does not
//! parse has a [`ParseError`], as much of it as is well formed, and its bytes.

use super::{
    cisco::{Cisco, is_name, mnemonic},
    data::StructuredData,
    time::{self, Sent},
};

/// Longest field of a header, in bytes: RFC 5424 section 6 allows a host that many, and the others fewer.
pub const FIELD_BYTES_MAX: usize = 255;
/// Longest version of a header, in digits (RFC 5424 section 6: `NONZERO-DIGIT 0*2DIGIT`).
const VERSION_BYTES_MAX: usize = 3;
/// The priority of what has none: user, notice (RFC 3164 section 4.3.3).
const DEFAULT_PRIORITY: u8 = 13;
/// The largest: local7, debug.
const PRIORITY_MAX: u8 = 191;
/// RFC 5424 section 6.4: it may stand before a text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// One message, read. Texts that it does not have are empty.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What part of a system speaks.
    pub facility: Facility,
    /// How bad it is.
    pub severity: Level,
    /// The host that it says it is from.
    pub host: &'a str,
    /// The program: APP-NAME of RFC 5424, TAG of RFC 3164, or Cisco's `%FACILITY-SEVERITY-MNEMONIC`.
    pub app: &'a str,
    /// PROCID of RFC 5424, or what stands in brackets behind a TAG.
    pub process: &'a str,
    /// MSGID of RFC 5424.
    pub id: &'a str,
    /// RFC 5424's, as far as it is well formed and within limits.
    pub data: StructuredData<'a>,
    /// What it says. Where nothing else could be read, all of it.
    pub text: &'a str,
    /// When it says that it was sent.
    pub sent: Sent<'a>,
    /// What is wrong with it.
    pub parse_error: Option<ParseError>,
    /// How it came.
    pub came: Came<'a>,
}

/// How a message came to us.
#[derive(Clone, Debug)]
pub struct Came<'a> {
    /// Its bytes, without what ends a frame.
    pub raw: &'a [u8],
    /// Whether it was longer: the rest is lost.
    pub is_truncated: bool,
    /// Whether the connection ended where the end of its line should be.
    pub is_unterminated: bool,
    /// The address that it came from.
    pub peer: &'a str,
    /// Whether a certificate says who sent it; `None` where that says nothing: on a listener for this machine alone.
    pub is_authenticated: Option<bool>,
}

/// Why a message, or a part of it, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It begins with no `<PRI>` from `<0>` to `<191>`.
    Pri,
    /// Nothing stands behind it.
    Empty,
    /// It looks like RFC 5424 of a version that is not 1.
    Version,
    /// RFC 5424, and no time where one must be.
    Timestamp,
    /// RFC 5424, and a field of the header is missing, or too long.
    Header,
    /// RFC 5424, and the structured data is not well formed, or over a limit.
    StructuredData,
}

impl ParseError {
    /// All of them.
    pub const ALL: [ParseError; 6] = [
        ParseError::Pri,
        ParseError::Empty,
        ParseError::Version,
        ParseError::Timestamp,
        ParseError::Header,
        ParseError::StructuredData,
    ];

    /// Its name in the label `parse_error` and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            ParseError::Pri => "pri",
            ParseError::Empty => "empty",
            ParseError::Version => "version",
            ParseError::Timestamp => "timestamp",
            ParseError::Header => "header",
            ParseError::StructuredData => "structured_data",
        }
    }
}

/// RFC 5424 section 6.2.1, table 1: 0 to 23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

impl Facility {
    /// Its usual name.
    pub fn word(self) -> &'static str {
        const WORDS: [&str; 24] = [
            "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
            "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
            "local5", "local6", "local7",
        ];
        WORDS[usize::from(self.0) % WORDS.len()]
    }
}

/// RFC 5424 section 6.2.1, table 2: 0, the worst, to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub u8);

impl Level {
    /// Its usual name.
    pub fn word(self) -> &'static str {
        const WORDS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
        WORDS[usize::from(self.0) % WORDS.len()]
    }

    /// The rank that RFC 5674 section 2 gives it; nothing is worse than `alert`, and what is below `warning` is no fault.
    pub fn rank(self) -> ams2_core::Severity {
        use ams2_core::Severity;
        match self.0 {
            0 | 1 => Severity::Critical,
            2 => Severity::Major,
            3 => Severity::Minor,
            4 => Severity::Warning,
            _ => Severity::Info,
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a message. `text` is what `came.raw` says in UTF-8, with U+FFFD for what is not.
    pub fn read(text: &'a str, came: Came<'a>) -> Message<'a> {
        let (priority, rest) = match priority(text) {
            Some((priority, rest)) => (priority, Some(rest)),
            None => (DEFAULT_PRIORITY, None),
        };
        let mut message = Message {
            facility: Facility(priority >> 3),
            severity: Level(priority & 7),
            host: "",
            app: "",
            process: "",
            id: "",
            data: StructuredData::default(),
            text,
            sent: Sent::default(),
            parse_error: None,
            came,
        };
        match rest {
            None => message.parse_error = Some(ParseError::Pri),
            Some(rest) => message.read_behind_priority(rest),
        }
        message
    }

    /// How often it has been told by an ams2 and taken by one; 0 for what is not from one.
    pub fn hops(&self) -> u32 {
        let ours = self.data.element(ams2_handlers::event_log::SYSLOG_ELEMENT);
        ours.and_then(|element| element.value("hops")).and_then(|hops| hops.parse().ok()).unwrap_or(0)
    }

    fn read_behind_priority(&mut self, rest: &'a str) {
        self.text = rest;
        if rest.trim_matches([' ', BYTE_ORDER_MARK]).is_empty() {
            self.parse_error = Some(ParseError::Empty);
            return;
        }
        let (first, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        // Cisco's sequence numbers end with a colon, and times are longer.
        let is_version = first.len() <= VERSION_BYTES_MAX
            && first.starts_with(|c: char| c.is_ascii_digit())
            && !first.ends_with(':');
        if !is_version {
            self.read_rfc3164(rest);
        } else if first == "1" {
            self.parse_error = self.read_rfc5424(behind).err();
        } else {
            self.parse_error = Some(ParseError::Version);
        }
    }

    /// RFC 5424 section 6, behind the version. What is not read is the text.
    fn read_rfc5424(&mut self, rest: &'a str) -> Result<(), ParseError> {
        self.text = rest;
        if !rest.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(ParseError::Timestamp);
        }
        self.sent = Sent::new(self.take_field()?);
        self.host = self.take_field()?;
        self.app = self.take_field()?;
        self.process = self.take_field()?;
        self.id = self.take_field()?;
        let is_well_formed;
        (self.data, self.text, is_well_formed) = StructuredData::read(self.text);
        // The text has the same mark before it whether or not we could read what stands before that.
        let text = self.text.strip_prefix(' ');
        let is_apart = text.is_some() || self.text.is_empty();
        self.text = text.unwrap_or(self.text);
        // rsyslog takes the space behind the TAG that it was sent for a part of the text.
        self.text = self.text.strip_prefix(' ').unwrap_or(self.text);
        self.text = self.text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.text);
        if is_well_formed && is_apart { Ok(()) } else { Err(ParseError::StructuredData) }
    }

    /// A field of a header of RFC 5424 and the space behind it; `-` says that there is none.
    fn take_field(&mut self) -> Result<&'a str, ParseError> {
        let (field, rest) = self.text.split_once(' ').ok_or(ParseError::Header)?;
        if field.is_empty() || field.len() > FIELD_BYTES_MAX {
            return Err(ParseError::Header);
        }
        self.text = rest;
        Ok(if field == "-" { "" } else { field })
    }

    /// RFC 3164 section 4.1, and what is sent under its name: anything goes, so nothing of it is a mistake.
    fn read_rfc3164(&mut self, rest: &'a str) {
        let rest = rest.trim_start_matches(' ');
        if let Some(cisco) = Cisco::find(rest) {
            (self.host, self.sent, self.id) = (cisco.host, cisco.sent, cisco.node);
            self.read_tag(cisco.behind);
            // IOS XR puts its program before what others have for one.
            if let Some((name, text)) = mnemonic(self.text) {
                (self.app, self.text) = (name, text);
            }
            return;
        }
        let (sent, behind) = time::take(rest).unwrap_or((Sent::default(), rest));
        self.sent = sent;
        let behind = behind.trim_start_matches(' ');
        if let Some((host, behind)) = relayed(behind) {
            self.host = host;
            self.read_tag(behind);
            return;
        }
        if sent.text.is_empty() {
            self.read_tag(behind);
            return;
        }
        let (first, others) = behind.split_once(' ').unwrap_or((behind, ""));
        let others = others.trim_start_matches(' ');
        if others.is_empty() || is_tag(first) || first.len() > FIELD_BYTES_MAX {
            // What a program writes to its own machine's daemon has no host.
            self.read_tag(behind);
        } else {
            self.host = first;
            // Cisco's firewalls put a colon of its own behind the host.
            self.read_tag(others.strip_prefix(": ").unwrap_or(others));
        }
    }

    /// `su: text`, `su[17]: text`, or text.
    fn read_tag(&mut self, rest: &'a str) {
        self.text = rest.strip_prefix(BYTE_ORDER_MARK).unwrap_or(rest);
        let rest = self.text;
        let Some(end) = rest.find([' ', ':', '[']).filter(|end| (1..=FIELD_BYTES_MAX).contains(end)) else {
            return;
        };
        let (name, behind) = rest.split_at(end);
        let (process, behind) = match behind.strip_prefix('[') {
            None => ("", behind),
            Some(inner) => match inner.split_once(']') {
                Some((process, behind)) if process.len() <= FIELD_BYTES_MAX && !process.contains(' ') => {
                    (process, behind)
                }
                _ => return,
            },
        };
        let text = match behind.strip_prefix(':') {
            Some(text) if text.is_empty() || text.starts_with(' ') || !process.is_empty() => text,
            // `http://…` is no program.
            Some(_) => return,
            None if !process.is_empty() && (behind.is_empty() || behind.starts_with(' ')) => behind,
            None => return,
        };
        if name.bytes().all(|b| b.is_ascii_digit()) {
            // A number that Cisco counts by, or a part of a time.
            return;
        }
        (self.app, self.process) = (name, process);
        self.text = text.strip_prefix(' ').unwrap_or(text);
    }
}

/// `<PRI>`: a number from 0 to 191 without zeros before it (RFC 5424 section 6.2.1), and what stands behind.
fn priority(text: &str) -> Option<(u8, &str)> {
    let rest = text.strip_prefix('<')?;
    let end = rest.bytes().take(4).position(|b| b == b'>')?;
    let digits = &rest[..end];
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let priority = digits.parse().ok().filter(|priority| is_plain && *priority <= PRIORITY_MAX)?;
    Some((priority, &rest[end + 1..]))
}

/// Whether a word is a TAG and no host: `su:` or `su[17]:`. An address of IPv6 is none.
fn is_tag(word: &str) -> bool {
    word.ends_with(':') && !word.ends_with("::")
        || word.find('[').is_some_and(|at| at > 0 && word[at..].contains(']'))
}

/// What AIX puts before what it sends on, `Message forwarded from HOST: su: text`: the host, and what stands behind.
fn relayed(text: &str) -> Option<(&str, &str)> {
    let relayed = text.strip_prefix("Message forwarded from ").and_then(|rest| rest.split_once(": "));
    relayed.filter(|(host, _)| is_name(host))
}

#[cfg(test)]
mod tests;
