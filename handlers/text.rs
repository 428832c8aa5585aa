//! A delivery in words for people: one line, or a whole plain text. What an action says when no template is
//! configured, or when one fails.
//!
//! Alert text comes from strangers, so whatever is shown on a line stays on it: control characters are escaped,
//! and so are those that reorder or hide text.

use std::{borrow::Cow, fmt::Write as _};

use ams2_core::Wall;
use smol_str::SmolStr;

use crate::{Alert, Delivery, delivery::state_word};

/// Longest one-line summary, in bytes: a subject line or the text of a small message.
pub const TITLE_BYTES_MAX: usize = 250;
/// Longest value shown in the plain text, in bytes; the notification as JSON has all of it.
const VALUE_BYTES_MAX: usize = 2 * 1024;
/// The plain text names the rest by number from here on, in bytes: more is not read by people.
pub const PLAIN_BYTES_MAX: usize = 64 * 1024;

/// One line that says it all: `[FIRING:2] Virus Found, critical: site=boston`.
pub fn title(delivery: &Delivery) -> String {
    let mut line = String::new();
    if delivery.test {
        line.push_str("[TEST] ");
    }
    line.push_str(&counts(delivery));
    if let Some(digest) = &delivery.digest {
        _ = write!(line, " Digest of {} notifications:", digest.deliveries.len());
    }
    line.push(' ');
    line.push_str(match delivery.event() {
        "" if delivery.alerts().nth(1).is_some() => "several events",
        "" => "an alert",
        event => event,
    });
    if let Some(severity) = delivery.severity() {
        _ = write!(line, ", {}", severity.word());
    }
    let shown = match delivery.groups.len() {
        1 if delivery.group_labels().is_empty() => delivery.common_labels(),
        _ => delivery.group_labels(),
    };
    let mut before = ": ";
    for (name, value) in shown.into_iter().filter(|(name, _)| !is_in_heading(name)) {
        _ = write!(line, "{before}{name}={value}");
        before = " ";
        if line.len() > TITLE_BYTES_MAX {
            break;
        }
    }
    cut(&one_line(&line), TITLE_BYTES_MAX).into_owned()
}

/// The whole of it in lines for people, at most about [`PLAIN_BYTES_MAX`] bytes. Ends with a line feed.
pub fn plain(delivery: &Delivery) -> String {
    let mut text = title(delivery);
    text.push('\n');
    let mut shown = 0;
    // Where all of it is news, none is marked.
    let marks = delivery.alerts().any(|alert| alert.new) && delivery.alerts().any(|alert| !alert.new);
    for alert in delivery.alerts() {
        if text.len() > PLAIN_BYTES_MAX {
            break;
        }
        plain_alert(&mut text, alert, marks && alert.new);
        shown += 1;
    }
    let hidden = (delivery.firing() + delivery.resolved()).saturating_sub(shown);
    if hidden > 0 {
        _ = writeln!(text, "\n... and {hidden} more.");
    }
    _ = write!(text, "\nTold to {}, delivery {}", one_line(&delivery.receiver), delivery.id);
    if !delivery.external_url.is_empty() {
        _ = write!(text, ", {}", one_line(&delivery.external_url));
    }
    text.push('\n');
    text
}

fn plain_alert(text: &mut String, alert: &Alert, is_marked: bool) {
    let event = if alert.event().is_empty() { "an alert" } else { alert.event() };
    _ = write!(
        text,
        "\n{}{}  {}",
        if is_marked { "NEW: " } else { "" },
        state_word(alert.firing).to_uppercase(),
        one_line(&cut(event, VALUE_BYTES_MAX))
    );
    if !alert.label("severity").is_empty() {
        _ = write!(text, " ({})", one_line(&cut(alert.label("severity"), VALUE_BYTES_MAX)));
    }
    _ = write!(text, " since {}", rfc3339(alert.starts_at));
    if let Some(end) = alert.ends_at {
        _ = write!(text, " until {}", rfc3339(end));
    }
    text.push('\n');
    plain_pairs(text, alert.labels.iter().filter(|(name, _)| !is_in_heading(name)), " = ");
    plain_pairs(text, alert.annotations.iter(), ": ");
    if !alert.generator_url.is_empty() {
        _ = writeln!(text, "  {}", one_line(&cut(&alert.generator_url, VALUE_BYTES_MAX)));
    }
}

fn plain_pairs<'a>(text: &mut String, pairs: impl Iterator<Item = &'a (SmolStr, SmolStr)>, between: &str) {
    for (name, value) in pairs {
        if text.len() > PLAIN_BYTES_MAX {
            return;
        }
        let name = cut(name, VALUE_BYTES_MAX);
        let value = cut(value, VALUE_BYTES_MAX);
        _ = write!(text, "  {}{between}", one_line(&name));
        // A text of several lines keeps them, each too deep to pass for one of ours.
        for (number, line) in value.trim_end().lines().enumerate() {
            let indent = if number == 0 { "" } else { "\n      " };
            _ = write!(text, "{indent}{}", one_line(line));
        }
        text.push('\n');
    }
}

/// `[FIRING:2 RESOLVED:1]`; a lone alert without its number.
fn counts(delivery: &Delivery) -> String {
    match (delivery.firing(), delivery.resolved()) {
        (1, 0) => "[FIRING]".into(),
        (0, 0 | 1) => "[RESOLVED]".into(),
        (firing, 0) => format!("[FIRING:{firing}]"),
        (0, resolved) => format!("[RESOLVED:{resolved}]"),
        (firing, resolved) => format!("[FIRING:{firing} RESOLVED:{resolved}]"),
    }
}

fn is_in_heading(label: &str) -> bool {
    matches!(label, "event" | "alertname" | "severity")
}

/// A moment as RFC 3339 in UTC with milliseconds. What lies outside the years -9999 to 9999 is their end.
pub fn rfc3339(wall: Wall) -> String {
    timestamp(wall).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A moment for jiff; what lies outside its years is their end.
pub(crate) fn timestamp(wall: Wall) -> jiff::Timestamp {
    let end = if wall.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(wall.0).unwrap_or(end)
}

/// `text` with everything escaped that would leave its line, move the cursor or reorder what is read:
/// `\n`, `\t`, `\r`, else `\u{1b}`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(leaves_the_line) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_safe(&mut safe, c);
    }
    Cow::Owned(safe)
}

/// Appends `c`, escaped if it must be.
pub(crate) fn push_safe(out: &mut String, c: char) {
    if leaves_the_line(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// Appends a word of `name=value`: bare where that is unambiguous, else in double quotes.
pub(crate) fn push_word(line: &mut String, word: &str) {
    let needs_quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || leaves_the_line(c);
    if !word.is_empty() && !word.contains(needs_quotes) {
        line.push_str(word);
        return;
    }
    line.push('"');
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            line.push('\\');
        }
        push_safe(line, c);
    }
    line.push('"');
}

/// Controls (C0, DEL, C1), line and paragraph separators, and the marks that change reading direction.
pub(crate) fn leaves_the_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The longest start of `text` of at most `bytes_max` bytes; what is cut ends with `…` where there is room.
pub fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    const MARK: &str = "…";
    match bytes_max.checked_sub(MARK.len()) {
        None => Cow::Borrowed(""),
        Some(room) => Cow::Owned(format!("{}{MARK}", &text[..text.floor_char_boundary(room)])),
    }
}

/// The longest end of `bytes` of at most `bytes_max` bytes, as text; wrong UTF-8 becomes U+FFFD.
pub(crate) fn tail(bytes: &[u8], bytes_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let start = text.ceil_char_boundary(text.len().saturating_sub(bytes_max));
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_lone_alert_reads_well() {
        let delivery = sample::delivery();
        assert_eq!(title(&delivery), "[FIRING] Virus Found, critical: site=boston");
        insta::assert_snapshot!(plain(&delivery), @r"
        [FIRING] Virus Found, critical: site=boston

        FIRING  Virus Found (critical) since 2026-11-24T10:15:00.000Z
          computer = ws-042
          site = boston
          summary: EICAR in C:\tmp\a.exe
          http://192.0.2.7/graph

        Told to secops, delivery 0000000000000000000000000000002a, http://ams2.example.com
        ");
    }

    #[test]
    fn several_alerts_are_counted_and_the_rest_named() {
        let mut delivery = sample::delivery();
        let mut other = sample::alert();
        (other.firing, other.ends_at) = (false, Some(Wall(1_795_515_400_000)));
        other.labels[1].1 = "Disk Full".into();
        delivery.groups[0].alerts.push(other);
        (delivery.groups[0].firing, delivery.groups[0].resolved) = (7, 1);
        delivery.test = true;
        assert_eq!(title(&delivery), "[TEST] [FIRING:7 RESOLVED:1] several events, critical: site=boston");
        assert!(plain(&delivery).contains("... and 6 more.\n"), "{}", plain(&delivery));
    }

    #[test]
    fn what_is_new_is_marked_where_something_is_not() {
        let mut delivery = sample::delivery_of(1, vec![sample::alert(), sample::alert()]);
        assert!(!plain(&delivery).contains("NEW"));
        delivery.groups[0].alerts[0].new = true;
        let text = plain(&delivery);
        assert!(
            text.contains("\nNEW: FIRING  Virus Found") && text.contains("\nFIRING  Virus Found"),
            "{text}"
        );
        delivery.groups[0].alerts[1].new = true;
        assert!(!plain(&delivery).contains("NEW"));
    }

    #[test]
    fn text_from_strangers_stays_on_its_line_and_short() {
        let mut delivery = sample::delivery();
        delivery.groups[0].labels = [("site".into(), "a\nb\u{1b}[31m\u{202e}x".into())].into();
        assert_eq!(title(&delivery), r"[FIRING] Virus Found, critical: site=a\nb\u{1b}[31m\u{202e}x");
        delivery.groups[0].labels = [("site".into(), "é".repeat(9999).into())].into();
        let long = title(&delivery);
        assert!(long.len() <= TITLE_BYTES_MAX && long.ends_with('…'), "{}", long.len());
        delivery.groups[0].alerts[0].labels[0].1 = "x".repeat(1 << 20).into();
        assert!(plain(&delivery).len() < 4096);
        delivery.groups[0].alerts = vec![delivery.groups[0].alerts[0].clone(); 1000];
        assert!(plain(&delivery).len() < PLAIN_BYTES_MAX + 4096);
    }

    #[test]
    fn absurd_times_are_the_end_of_the_calendar() {
        assert_eq!(rfc3339(Wall(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Wall(i64::MAX)), "9999-12-30T22:00:00.999Z");
        assert!(rfc3339(Wall(i64::MIN)).starts_with("-9999-01-02"));
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("ééé", 6), "ééé");
        assert_eq!(cut("éééé", 6), "é…");
        assert_eq!(cut("abc", 2), "");
        assert_eq!(tail("aéb".as_bytes(), 2), "b");
        assert_eq!(tail(b"\xff\xffb", 1), "b");
    }
}
