//! A delivery as a mail (RFC 5322): headers, a text and an HTML part, nothing in it that could leave its place.
//!
//! Alert text comes from strangers. It stands in the subject (one line, encoded by RFC 2047), in admins' headers (the
//! same) and in the bodies, and those always go out as quoted-printable (RFC 2045 section 6.7): no line of theirs can
//! end the message or begin a command. [`check`] looks at the finished bytes once more.

use std::borrow::Cow;

use ams2_core::Severity;
use lettre::{
    Address, Message,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};

use crate::{
    Delivery,
    render::{OUTPUT_BYTES_MAX, Template},
    text::{self, TITLE_BYTES_MAX},
};

/// More recipients than this are not shown to each other: a list of thousands tells nobody anything.
const SHOWN_RECIPIENTS_MAX: usize = 100;
/// RFC 5322 section 2.1.1: a line has at most 998 characters.
const LINE_BYTES_MAX: usize = 998;
/// Longest value of a header that an admin wrote, rendered, in bytes: one word of that length fits into a line with a name
/// of 76 characters before it.
const HEADER_BYTES_MAX: usize = 900;
/// Longest HTML of ours, in bytes: Gmail hides what is behind the first 102 KB.
const HTML_BYTES_MAX: usize = 90_000;
/// Longest thread name that is taken back, in bytes: a Message-ID of ours.
const THREAD_BYTES_MAX: usize = 320;

/// How mails are written.
#[derive(Debug)]
pub(super) struct Letters {
    pub(super) from: Mailbox,
    pub(super) reply_to: Option<Mailbox>,
    pub(super) to: Vec<Mailbox>,
    pub(super) subject: Option<Template>,
    pub(super) text: Option<Template>,
    /// `None` for mails in plain text alone.
    pub(super) html: Option<Template>,
    /// Whether that is our own, which shows what fits; an admin's is the admin's.
    pub(super) is_html_ours: bool,
    pub(super) headers: Vec<(HeaderName, Template)>,
}

/// A finished mail.
#[derive(Debug)]
pub(super) struct Letter {
    /// The message with its headers, in lines that end with CR LF.
    pub(super) bytes: Vec<u8>,
    /// The thread that the group's next mail belongs to; empty when the next one begins another.
    pub(super) memo: Vec<u8>,
}

impl Letters {
    /// Writes the mail. A template of the admin's that fails is replaced by our own words, which say so: the alert
    /// matters more than its layout.
    pub(super) fn write(&self, delivery: &Delivery) -> Result<Letter, String> {
        let mut failed = Vec::new();
        let mut rendered = |name: &str, template: Option<&Template>| {
            let result = template?.render(delivery);
            result.map_err(|error| failed.push(format!("The template `{name}` failed: {error}"))).ok()
        };
        let subject = rendered("subject", self.subject.as_ref()).unwrap_or_else(|| text::title(delivery));
        let subject = text::cut(&text::one_line(subject.trim()), TITLE_BYTES_MAX).into_owned();
        let plain = rendered("text", self.text.as_ref()).unwrap_or_else(|| text::plain(delivery));
        let html = match &self.html {
            Some(ours) if self.is_html_ours => fitting(ours, delivery),
            own => rendered("html", own.as_ref()),
        };
        let mut headers = Vec::new();
        for (name, template) in &self.headers {
            if let Some(value) = rendered("headers", Some(template)) {
                let value = text::one_line(value.trim()).into_owned();
                headers.push((name.clone(), text::cut(&value, HEADER_BYTES_MAX).into_owned()));
            }
        }
        let plain = failed.iter().fold(plain, |plain, note| format!("{plain}\n{note}\n"));
        let own_id = format!("<{}@{}>", delivery.id, self.from.email.domain());
        let thread = delivery.memo.as_deref().and_then(thread);
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .date(system_time(delivery))
            .message_id(Some(own_id.clone()))
            .user_agent(concat!("ams2/", env!("CARGO_PKG_VERSION")).to_owned());
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        // A header is ASCII: an address that is not is in the envelope alone.
        let is_shown = |to: &&Mailbox| AsRef::<str>::as_ref(&to.email).is_ascii();
        if self.to.len() <= SHOWN_RECIPIENTS_MAX && self.to.iter().any(|to| is_shown(&to)) {
            builder = self.to.iter().filter(is_shown).fold(builder, |builder, to| builder.to(to.clone()));
        } else {
            builder = builder.raw_header(plain_header("To", "undisclosed-recipients:;"));
        }
        if let Some(thread) = &thread {
            builder = builder.in_reply_to(thread.clone()).references(thread.clone());
        }
        let (importance, priority) = importance(delivery);
        for (name, value) in [
            // RFC 3834: nobody's vacation answers this.
            ("Auto-Submitted", "auto-generated"),
            ("X-Auto-Response-Suppress", "All"),
            ("Importance", importance),
            ("X-Priority", priority),
            ("X-AMS2-State", delivery.state()),
            ("X-AMS2-Severity", delivery.severity().map_or("none", |severity| severity.word())),
        ] {
            builder = builder.raw_header(plain_header(name, value));
        }
        for (name, value) in headers {
            builder = builder.raw_header(HeaderValue::new(name, value));
        }
        let envelope = lettre::address::Envelope::new(
            Some(self.from.email.clone()),
            self.to.iter().take(1).map(|to| to.email.clone()).collect(),
        );
        builder = builder.envelope(envelope.map_err(|error| error.to_string())?);
        let plain = part(ContentType::TEXT_PLAIN, plain);
        let message = match html {
            None => builder.singlepart(plain),
            Some(html) => builder.multipart(
                MultiPart::alternative()
                    .boundary(format!("=_ams2_{}", delivery.id))
                    .singlepart(plain)
                    .singlepart(part(ContentType::TEXT_HTML, html)),
            ),
        };
        let mut bytes = message.map_err(|error| error.to_string())?.formatted();
        // The end of the message brings the last line break.
        while bytes.ends_with(b"\r\n") {
            bytes.truncate(bytes.len() - 2);
        }
        check(&bytes)?;
        let thread = thread.unwrap_or(own_id);
        // What ended is a thread that ended.
        let memo = if delivery.is_firing() { thread.into_bytes() } else { Vec::new() };
        Ok(Letter { bytes, memo })
    }

    /// Every recipient's address, in the order of the config.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.to.iter().map(|to| &to.email)
    }
}

/// Our HTML with as many alerts as fit; none where not even their number does, and the mail is in plain text.
fn fitting(ours: &Template, delivery: &Delivery) -> Option<String> {
    let mut count = delivery.alerts().count();
    let mut shown = Cow::Borrowed(delivery);
    loop {
        let html = ours.render(&shown);
        let bytes = match html {
            Ok(html) if html.len() <= HTML_BYTES_MAX => return Some(html),
            Ok(html) => html.len(),
            // It was longer than any template may give.
            Err(_) => OUTPUT_BYTES_MAX,
        };
        if count == 0 {
            return None;
        }
        count = (count * HTML_BYTES_MAX / bytes).min(count - 1);
        shown = Cow::Owned(delivery.showing(count));
    }
}

/// A body part as quoted-printable, whatever is in it. No line of it begins with a dot, so that nothing hangs on who
/// doubles dots and takes what for the end of a line.
fn part(kind: ContentType, content: String) -> SinglePart {
    const ENCODING: ContentTransferEncoding = ContentTransferEncoding::QuotedPrintable;
    let body = Body::new_with_encoding(content, ENCODING);
    let lines = body.expect("any text can be written as quoted-printable").into_vec();
    let mut safe = Vec::with_capacity(lines.len() + 64);
    for byte in lines {
        match byte {
            // With a soft line break behind it the line stays within 76 characters. Another dot begins a line then.
            b'.' if safe.last().is_none_or(|last| *last == b'\n') => safe.extend_from_slice(b"=2E=\r\n"),
            byte => safe.push(byte),
        }
    }
    SinglePart::builder().header(kind).body(Body::dangerous_pre_encoded(safe, ENCODING))
}

fn plain_header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// `Importance` (RFC 2156) and `X-Priority`, as mail programs read them.
fn importance(delivery: &Delivery) -> (&'static str, &'static str) {
    match delivery.severity() {
        Some(Severity::Critical | Severity::Major) if delivery.is_firing() => ("high", "1"),
        Some(Severity::Info) => ("low", "5"),
        _ => ("normal", "3"),
    }
}

/// The moment of the decision, so that retries say the same; what lies before 1970 is 1970.
fn system_time(delivery: &Delivery) -> std::time::SystemTime {
    // RFC 5322 knows four digits of a year.
    const LAST: u64 = 253_402_300_799_000;
    let ms = u64::try_from(delivery.decided().0).unwrap_or(0).min(LAST);
    std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)
}

/// The thread that an earlier mail of the group began: a Message-ID, or nothing that we would repeat.
fn thread(memo: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(memo).ok()?;
    let is_id = text.len() <= THREAD_BYTES_MAX
        && text.starts_with('<')
        && text.ends_with('>')
        && text.bytes().all(|b| b.is_ascii_graphic());
    is_id.then(|| text.to_owned())
}

/// What goes out: ASCII in lines that end with CR LF, no CR or LF elsewhere, no NUL, no line that is too long. The mail
/// library promises it, and below version 0.11.24 does not keep it (RUSTSEC-2026-0561): ours is 0.11.23, so this is what holds.
fn check(bytes: &[u8]) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("the mail would have {what}: it is not sent"));
    let mut line = 0;
    let mut before = 0;
    for byte in bytes {
        match (before, *byte) {
            (b'\r', b'\n') => line = 0,
            (b'\r', _) | (_, b'\n') => return wrong("a bare CR or LF"),
            (_, b'\r') => {}
            (_, 0) | (_, 0x80..) => return wrong("a byte that is not ASCII"),
            _ => line += 1,
        }
        if line > LINE_BYTES_MAX {
            return wrong("a line that is too long");
        }
        before = *byte;
    }
    if before == b'\r' { wrong("a bare CR or LF") } else { Ok(()) }
}
