//! Messages out of a stream of bytes (RFC 6587): the length in octets and a space before each (section 3.4.1), or a line feed or a
//! zero behind each (3.4.2), decided a frame: behind a line a number is a length only where `<PRI>` follows, since a line may begin
//! with one. Whatever pieces the bytes come in, the frames are the same.

/// Most digits of a length in octets: more is no length of a message, whoever sends it.
const DIGITS_MAX: usize = 10;

/// A message, without what ends it: line feeds, carriage returns and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// Its bytes; never only blanks.
    pub bytes: &'b [u8],
    /// Whether it was longer than the limit: the rest is passed over.
    pub is_truncated: bool,
    /// Whether the stream ended, or was left, where its line feed should be.
    pub is_unterminated: bool,
}

/// What stands at the start of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// A message.
    Frame(Frame<'b>),
    /// A frame with nothing in it but blanks.
    Empty,
    /// The start of a frame whose length was said, and then the end of the stream: what it would have been is not known.
    Half,
    /// Nothing more before more bytes come, or at the end of the stream.
    More,
}

/// Where frames begin is not known any more, or never was: nothing behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// RFC 6587 section 3.4.1: `NONZERO-DIGIT *DIGIT`.
    #[error("a length begins with 0")]
    LeadingZero,
    /// No message is as long.
    #[error("a length has more than {DIGITS_MAX} digits")]
    TooManyDigits,
    /// RFC 6587 section 3.4.1 has one.
    #[error("no space stands behind a length")]
    NoSpace,
    /// No length has one.
    #[error("a length has a sign")]
    Sign,
    /// RFC 8446 section 5.1: the record of a ClientHello.
    #[error("the peer speaks TLS")]
    Tls,
    /// A browser, or a scanner.
    #[error("the peer speaks HTTP")]
    Http,
}

/// Takes a stream apart. Never holds bytes itself, and asks for no more than the limit and a length.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// Bytes of the line at the start that are known to hold nothing that ends it.
    scanned: usize,
    is_first: bool,
    /// Whether the last frame had its length before it: whatever is none there is a mistake.
    is_counted: bool,
    /// Whether what ends lines may stand before the next frame all the same: behind a length, and behind a zero.
    may_trail: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a frame.
    Between,
    /// In the rest of a frame that was cut: so many octets.
    SkipOctets(u64),
    /// The same, up to what ends the line.
    SkipLine,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames { state: State::Between, scanned: 0, is_first: true, is_counted: false, may_trail: false }
    }
}

impl Frames {
    /// Takes what stands at the start of `bytes`, and says how many bytes are done with. A frame is cut at `limit` bytes. Behind
    /// [`Step::More`] it wants the bytes that are left again, and more of them: at most `limit` and the digits of a length.
    pub fn next<'b>(&mut self, bytes: &'b [u8], limit: usize) -> Result<(usize, Step<'b>), Lost> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::SkipOctets(left) => {
                    let skipped = left.min(rest.len() as u64);
                    at += skipped as usize;
                    if skipped < left {
                        self.state = State::SkipOctets(left - skipped);
                        return Ok((at, Step::More));
                    }
                    self.state = State::Between;
                }
                State::SkipLine => match memchr::memchr2(b'\n', 0, rest) {
                    None => return Ok((bytes.len(), Step::More)),
                    Some(end) => {
                        self.may_trail = rest[end] == 0;
                        at += end + 1;
                        self.state = State::Between;
                    }
                },
                State::Between => {
                    if self.may_trail && matches!(rest.first(), Some(b'\n' | b'\r' | b'\0')) {
                        at += 1;
                        continue;
                    }
                    let (taken, step) = match self.begins(rest)? {
                        Begins::Nothing => return Ok((at, Step::More)),
                        Begins::Octets => self.octets(rest, limit)?,
                        Begins::Line => self.line(rest, limit)?,
                    };
                    if step != Step::More {
                        (self.is_first, self.scanned) = (false, 0);
                    }
                    return Ok((at + taken, step));
                }
            }
        }
    }

    /// Whether the bytes that come next begin a frame, if [`Frames::next`] left none.
    pub fn is_between(&self) -> bool {
        self.state == State::Between
    }

    /// The same at the end of the stream, with what [`Frames::next`] left.
    pub fn end<'b>(&self, bytes: &'b [u8]) -> Step<'b> {
        let is_begun = self.state == State::Between && !bytes.is_empty();
        let is_counted = || self.is_counted && bytes[0].is_ascii_digit() || is_count(bytes) == Some(true);
        match is_begun {
            true if is_counted() => Step::Half,
            true => match step(bytes, false) {
                Step::Frame(frame) => Step::Frame(Frame { is_unterminated: true, ..frame }),
                step => step,
            },
            _ => Step::More,
        }
    }

    /// What kind of frame begins here.
    fn begins(&self, rest: &[u8]) -> Result<Begins, Lost> {
        match rest {
            [] => Ok(Begins::Nothing),
            [b'0'..=b'9', ..] if self.is_counted => Ok(Begins::Octets),
            [b'0'..=b'9', ..] => Ok(match is_count(rest) {
                None => Begins::Nothing,
                Some(true) => Begins::Octets,
                Some(false) => Begins::Line,
            }),
            [b'-' | b'+'] if self.is_counted => Ok(Begins::Nothing),
            [b'-' | b'+', b'0'..=b'9', ..] if self.is_counted => Err(Lost::Sign),
            [0x16] if self.is_first => Ok(Begins::Nothing),
            [0x16, 0x03, ..] if self.is_first => Err(Lost::Tls),
            _ => Ok(Begins::Line),
        }
    }

    fn octets<'b>(&mut self, rest: &'b [u8], limit: usize) -> Result<(usize, Step<'b>), Lost> {
        let digits = rest.iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
        if rest[0] == b'0' {
            return Err(Lost::LeadingZero);
        }
        if digits > DIGITS_MAX {
            return Err(Lost::TooManyDigits);
        }
        let content = match rest.get(digits) {
            None => return Ok((0, Step::More)),
            Some(b' ') => &rest[digits + 1..],
            Some(_) => return Err(Lost::NoSpace),
        };
        let length = rest[..digits].iter().fold(0, |all: u64, digit| 10 * all + u64::from(digit - b'0'));
        let kept = length.min(limit as u64) as usize;
        let Some(content) = content.get(..kept) else { return Ok((0, Step::More)) };
        let left = length - kept as u64;
        (self.is_counted, self.may_trail) = (true, true);
        if left > 0 {
            self.state = State::SkipOctets(left);
        }
        Ok((digits + 1 + kept, step(content, left > 0)))
    }

    fn line<'b>(&mut self, rest: &'b [u8], limit: usize) -> Result<(usize, Step<'b>), Lost> {
        let known = self.scanned.min(rest.len());
        let found = memchr::memchr2(b'\n', 0, &rest[known..]).map(|end| known + end);
        let (line, taken) = match found {
            Some(end) if end <= limit => (&rest[..end], end + 1),
            Some(end) => (&rest[..limit], end + 1),
            None if rest.len() <= limit => {
                self.scanned = rest.len();
                return Ok((0, Step::More));
            }
            None => {
                self.state = State::SkipLine;
                (&rest[..limit], limit)
            }
        };
        if self.is_first && is_http(line) {
            return Err(Lost::Http);
        }
        self.is_counted = false;
        self.may_trail = found.is_some_and(|end| rest[end] == 0);
        Ok((taken, step(line, found.is_none_or(|end| end > limit))))
    }
}

/// How a frame begins.
enum Begins {
    /// That cannot be said yet.
    Nothing,
    Octets,
    Line,
}

/// Whether a digit that begins these bytes is the first of a length, with a space and `<PRI>` behind it; `None` where that cannot be
/// said yet.
fn is_count(bytes: &[u8]) -> Option<bool> {
    let digits = bytes.iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    match &bytes[digits..] {
        _ if digits == 0 || digits > DIGITS_MAX => Some(false),
        [] | [b' '] | [b' ', b'<'] => None,
        [b' ', b'<', next, ..] => Some(next.is_ascii_digit()),
        _ => Some(false),
    }
}

/// A frame of these bytes.
fn step(bytes: &[u8], is_truncated: bool) -> Step<'_> {
    let bytes = if is_truncated { whole_chars(bytes) } else { bytes };
    match trimmed(bytes) {
        Some(bytes) => Step::Frame(Frame { bytes, is_truncated, is_unterminated: false }),
        None => Step::Empty,
    }
}

/// A message without what ends it; `None` if only blanks are left.
pub fn trimmed(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | b'\0'))? + 1;
    bytes[..end].iter().any(|b| !b.is_ascii_whitespace() && *b != 0).then_some(&bytes[..end])
}

/// The start of a message of at most `limit` bytes, and whether that is not all.
pub fn cut(bytes: &[u8], limit: usize) -> (&[u8], bool) {
    match bytes.get(..limit) {
        Some(start) if bytes.len() > limit => (whole_chars(start), true),
        _ => (bytes, false),
    }
}

/// Bytes without a character of UTF-8 at their end that is not all there.
fn whole_chars(bytes: &[u8]) -> &[u8] {
    let tail = bytes.iter().rev().take(3).take_while(|b| (0x80..0xc0).contains(*b)).count();
    let Some(lead) = bytes.len().checked_sub(tail + 1) else { return bytes };
    let length = match bytes[lead] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    };
    if tail + 1 < length { &bytes[..lead] } else { bytes }
}

/// Whether a line is the first of a request in HTTP.
fn is_http(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.first().is_some_and(u8::is_ascii_uppercase)
        && line.len() > b" HTTP/1.1".len()
        && line[line.len() - b" HTTP/1.1".len()..].starts_with(b" HTTP/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a stream is made of when it comes in these pieces: messages with their marks, and how it ended.
    fn taken_apart(stream: &[u8], pieces: impl Iterator<Item = usize>, limit: usize) -> Vec<String> {
        let (mut frames, mut buffer, mut seen) = (Frames::default(), Vec::new(), Vec::new());
        let mut rest = stream;
        for piece in pieces.chain([usize::MAX]) {
            let (piece, behind) = rest.split_at(piece.min(rest.len()));
            (rest, buffer) = (behind, [&buffer[..], piece].concat());
            loop {
                match frames.next(&buffer, limit) {
                    Err(lost) => {
                        seen.push(format!("lost: {lost:?}"));
                        return seen;
                    }
                    Ok((taken, step)) => {
                        seen.extend(shown(step));
                        let is_more = step == Step::More;
                        buffer.drain(..taken);
                        if is_more {
                            break;
                        }
                    }
                }
            }
            assert!(buffer.len() <= limit + DIGITS_MAX + 1, "it holds {} bytes", buffer.len());
        }
        seen.extend(shown(frames.end(&buffer)));
        seen
    }

    fn shown(step: Step<'_>) -> Option<String> {
        match step {
            Step::Frame(Frame { bytes, is_truncated, is_unterminated }) => {
                let marks = [(is_truncated, " truncated"), (is_unterminated, " unterminated")];
                let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
                Some(format!("{}{marks}", bytes.escape_ascii()))
            }
            Step::Empty => Some("empty".into()),
            Step::Half => Some("half".into()),
            Step::More => None,
        }
    }

    const LIMIT: usize = 24;

    /// Streams and what they are made of.
    const ROWS: &[(&[u8], &[&str])] = &[
        (b"", &[]),
        (b"<13>a\n<13>b\n", &["<13>a", "<13>b"]),
        (b"6 <13>ab6 <13>cd", &["<13>ab", "<13>cd"]),
        // Decided a frame (row 59).
        (b"<13>a\n6 <13>ab<13>c\n7 <13>def", &["<13>a", "<13>ab", "<13>c", "<13>def"]),
        // A line feed within what was counted is none of the framing (58); forged lines are one message (69).
        (b"10 <13>a\n<0>b<13>c\n", &["<13>a\\n<0>b", "<13>c"]),
        // What ends a message is none of it (61), also behind a count that does not count it.
        (b"<13>a\r\n<13>b\0\n<13>c\0\r\n7 <13>d\r\n", &["<13>a", "<13>b", "<13>c", "<13>d"]),
        (b"5 <13>a\n5 <13>b\r\n5 <13>c\0<13>d\n", &["<13>a", "<13>b", "<13>c", "<13>d"]),
        // A zero ends a line as well (RFC 6587 section 3.4.2).
        (b"<13>a\0<13>b\0", &["<13>a", "<13>b"]),
        (b"<13>a\0\n6 <13>ab<13>b\0\r\n\0<13>c\0", &["<13>a", "<13>ab", "<13>b", "<13>c"]),
        (b"<13>4567890123456789abcdefgh\0\n<13>b\0", &["<13>4567890123456789abcd truncated", "<13>b"]),
        // Nothing in it (48).
        (
            b"\n  \n\r\n\0\n4 <13>4     <13>a\n",
            &["empty", "empty", "empty", "empty", "<13>", "empty", "<13>a"],
        ),
        // A line that begins with a number is one, and swallows nothing.
        (b"<13>a: begins\n60000 rows\n<11>b\n", &["<13>a: begins", "60000 rows", "<11>b"]),
        (b"2026 <b>\n3 <x>\n4 <\n5 \n6\n", &["2026 <b>", "3 <x>", "4 <", "5 ", "6"]),
        // No `<PRI>` (49): it is a line all the same.
        (b"hello\n\xff\xfe\n-\n- a\n+x\n", &["hello", "\\xff\\xfe", "-", "- a", "+x"]),
        // No end (60).
        (b"<13>a\n<13>b", &["<13>a", "<13>b unterminated"]),
        (b"<13>a\n9 <13>b", &["<13>a", "half"]),
        (b"<13>a\n9", &["<13>a", "9 unterminated"]),
        (b"6 <13>ab9", &["<13>ab", "half"]),
        (b"<13>a\n-", &["<13>a", "- unterminated"]),
        (b"<13>a\n\r", &["<13>a", "empty"]),
        // Lengths that are none (57).
        (b"00012 <13>hello", &["lost: LeadingZero"]),
        (b"6 <13>ab0 ", &["<13>ab", "lost: LeadingZero"]),
        (b"6 <13>ab99999999999 <13>a", &["<13>ab", "lost: TooManyDigits"]),
        (b"6 <13>ab9999999999x", &["<13>ab", "lost: NoSpace"]),
        (b"6 <13>ab12a", &["<13>ab", "lost: NoSpace"]),
        (b"6 <13>ab-5 <13>a", &["<13>ab", "lost: Sign"]),
        (b"6 <13>ab+5 <13>a", &["<13>ab", "lost: Sign"]),
        (b"6 <13>ab2 hi", &["<13>ab", "hi"]),
        // The same where nothing shows that lengths are meant.
        (b"0 ", &["0  unterminated"]),
        (b"99999999999 <13>a", &["99999999999 <13>a unterminated"]),
        (b"<13>a\n12<13>b", &["<13>a", "12<13>b unterminated"]),
        (b"-5 <13>a", &["-5 <13>a unterminated"]),
        // Other protocols (32); later on a line is a line.
        (b"\x16\x03\x01\x02\x00\x01", &["lost: Tls"]),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["lost: Http"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["lost: Http"]),
        (b"<13>a\nGET / HTTP/1.1\n\x16\x03\n", &["<13>a", "GET / HTTP/1.1", "\\x16\\x03"]),
        // As long as it may be, and longer (55): cut, the rest passed over, the next one whole.
        (b"<13>4567890123456789abcd\n<13>b\n", &["<13>4567890123456789abcd", "<13>b"]),
        (b"<13>4567890123456789abcde\n<13>b\n", &["<13>4567890123456789abcd truncated", "<13>b"]),
        (b"<13>4567890123456789abcdefghijklmnopq\n<13>b\n", &["<13>4567890123456789abcd truncated", "<13>b"]),
        (b"<13>4567890123456789abcdefgh", &["<13>4567890123456789abcd truncated"]),
        (b"24 <13>4567890123456789abcd<13>b\n", &["<13>4567890123456789abcd", "<13>b"]),
        (b"30 <13>4567890123456789abcd\n12345<13>b\n", &["<13>4567890123456789abcd truncated", "<13>b"]),
        (b"9999999999 <13>4567890123456789abcd12345", &["<13>4567890123456789abcd truncated"]),
        // Not within a character.
        ("<13>456789012345678912é\n<13>b\n".as_bytes(), &["<13>456789012345678912\\xc3\\xa9", "<13>b"]),
        ("<13>4567890123456789abcé\n<13>b\n".as_bytes(), &["<13>4567890123456789abc truncated", "<13>b"]),
        (
            "28 <13>4567890123456789a\u{1f525}123<13>b\n".as_bytes(),
            &["<13>4567890123456789a truncated", "<13>b"],
        ),
        (b"<13>4567890123456789ab\x80\x80\x80\n", &["<13>4567890123456789ab\\x80\\x80 truncated"]),
    ];

    #[test]
    fn a_stream_is_taken_apart_whole_by_single_bytes_and_at_every_place() {
        for (stream, expected) in ROWS {
            let shown = stream.escape_ascii().to_string();
            assert_eq!(taken_apart(stream, std::iter::empty(), LIMIT), *expected, "{shown}");
            assert_eq!(taken_apart(stream, stream.iter().map(|_| 1), LIMIT), *expected, "{shown} by bytes");
            for at in 0..stream.len() {
                assert_eq!(taken_apart(stream, [at].into_iter(), LIMIT), *expected, "{shown} at {at}");
            }
        }
    }

    #[test]
    fn ten_thousand_messages_in_one_piece_are_ten_thousand() {
        let stream: String = (0..5000).map(|n| format!("<13>{n}\n8 <13>{n:04}")).collect();
        let seen = taken_apart(stream.as_bytes(), std::iter::empty(), LIMIT);
        assert_eq!((seen.len(), &*seen[0], &*seen[9999]), (10_000, "<13>0", "<13>4999"));
    }

    /// Bytes of which streams are often made, and any others.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop_oneof![
            4 => proptest::sample::select(ROWS.iter().map(|(stream, _)| stream.to_vec()).collect::<Vec<_>>()),
            2 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => "[0-9 <>\n\r\u{0}]{0,12}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(parts, 0..5).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn however_bytes_are_split_the_frames_are_the_same(
            stream in bytes(),
            pieces in proptest::collection::vec(0usize..30, 0..40),
        ) {
            let whole = taken_apart(&stream, std::iter::empty(), LIMIT);
            prop_assert_eq!(taken_apart(&stream, pieces.into_iter(), LIMIT), whole.clone());
            prop_assert_eq!(taken_apart(&stream, stream.iter().map(|_| 1), LIMIT), whole);
        }
    }
}
