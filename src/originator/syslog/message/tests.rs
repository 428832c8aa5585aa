use proptest::prelude::*;

use super::*;

/// A message with nothing to say of how it came.
fn read(text: &str) -> Message<'_> {
    let came = Came {
        raw: text.as_bytes(),
        is_truncated: false,
        is_unterminated: false,
        peer: "192.0.2.7",
        is_authenticated: None,
    };
    Message::read(text, came)
}

/// `facility.severity host app[process] id {sent} | text !error`, what is missing left out.
fn shown(message: &Message<'_>) -> String {
    let mut shown = format!("{}.{}", message.facility.word(), message.severity.word());
    for part in [message.host, message.app] {
        shown += &format!(" {}", if part.is_empty() { "-" } else { part });
    }
    if !message.process.is_empty() {
        shown += &format!("[{}]", message.process);
    }
    if !message.id.is_empty() {
        shown += &format!(" {}", message.id);
    }
    if !message.sent.text.is_empty() {
        shown += &format!(" {{{}}}", message.sent.text);
    }
    for element in &message.data.elements {
        shown += &format!(" [{}: {}]", element.id, element.params.len());
    }
    shown += &format!(" | {}", message.text);
    if let Some(error) = message.parse_error {
        shown += &format!(" !{}", error.word());
    }
    shown
}

const FULL: &str = "<165>1 2026-10-11T22:14:15.003Z mymachine.example.com evntslog 17 ID47 [e@32473 a=\"1\" b=\"2\"][f] text";

#[test]
fn messages_are_read_as_they_are_found() {
    let rows = [
        // RFC 5424: its own examples, and what is left out.
        (
            FULL,
            "local4.notice mymachine.example.com evntslog[17] ID47 {2026-10-11T22:14:15.003Z} [e@32473: 2] [f: 0] | text",
        ),
        (
            "<34>1 2003-10-11T22:14:15.003Z host su - ID47 - \u{feff}'su root' failed on /dev/pts/8",
            "auth.crit host su ID47 {2003-10-11T22:14:15.003Z} | 'su root' failed on /dev/pts/8",
        ),
        ("<13>1 - - - - - -", "user.notice - - | "),
        ("<13>1 - - - - - - ", "user.notice - - | "),
        ("<0>1 - - - - - [a] x", "kern.emerg - - [a: 0] | x"),
        ("<191>1 - h a - - - two  spaces ", "local7.debug h a | two  spaces "),
        // What rsyslog makes of RFC 3164.
        ("<13>1 - h a - - -  hello", "user.notice h a | hello"),
        // RFC 3164: its own examples.
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            "auth.crit mymachine su {Oct 11 22:14:15} | 'su root' failed for lonvick on /dev/pts/8",
        ),
        (
            "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
            "user.notice 10.0.0.99 - {Feb  5 17:32:18} | Use the BFG!",
        ),
        (
            "<165>Aug 24 05:34:00 CST 1987 mymachine x",
            "local4.notice CST - {Aug 24 05:34:00} | 1987 mymachine x",
        ),
        // As the daemons of this day write it.
        (
            "<30>Dec  1 10:00:00 web systemd[1]: Started.",
            "daemon.info web systemd[1] {Dec  1 10:00:00} | Started.",
        ),
        ("<86>Dec  1 10:00:00 su[17]: opened", "authpriv.info - su[17] {Dec  1 10:00:00} | opened"),
        ("<13>Dec  1 10:00:00 root: hello", "user.notice - root {Dec  1 10:00:00} | hello"),
        (
            "<13>2026-12-01T10:00:00.123456+01:00 host app[1]: text",
            "user.notice host app[1] {2026-12-01T10:00:00.123456+01:00} | text",
        ),
        ("<13>Dec  1 10:00:00 fe80::1 app: x", "user.notice fe80::1 app {Dec  1 10:00:00} | x"),
        (
            "<13>Dec  1 10:00:00 host app[17] no colon",
            "user.notice host app[17] {Dec  1 10:00:00} | no colon",
        ),
        (
            "<13>Dec  1 10:00:00 host http://a/b is down",
            "user.notice host - {Dec  1 10:00:00} | http://a/b is down",
        ),
        ("<13>Dec  1 10:00:00 host a:b c", "user.notice host - {Dec  1 10:00:00} | a:b c"),
        ("<13>Dec  1 10:00:00 host [7]: c", "user.notice host - {Dec  1 10:00:00} | [7]: c"),
        ("<13>Dec  1 10:00:00 alone", "user.notice - - {Dec  1 10:00:00} | alone"),
        ("<13>Dec  1 10:00:00", "user.notice - - {Dec  1 10:00:00} | "),
        // No header, or none that is one.
        ("<13>hello world", "user.notice - - | hello world"),
        ("<13>su: hello", "user.notice - su | hello"),
        ("<13>su[17]:hello", "user.notice - su[17] | hello"),
        ("<13> Dec  1 10:00:00 host su: x", "user.notice host su {Dec  1 10:00:00} | x"),
        ("<13>10:00:00 it began", "user.notice - - | 10:00:00 it began"),
        // Cisco.
        (
            "<189>29: *Mar  1 18:46:11.103: %SYS-5-CONFIG_I: Configured from console by vty0",
            "local7.notice - %SYS-5-CONFIG_I {*Mar  1 18:46:11.103} | Configured from console by vty0",
        ),
        (
            "<189>000029: core-1: .Mar  1 18:46:11.103 UTC: %LINK-3-UPDOWN: Interface Gi0/1, changed state to down",
            "local7.notice core-1 %LINK-3-UPDOWN {.Mar  1 18:46:11.103 UTC} | Interface Gi0/1, changed state to down",
        ),
        (
            "<187>core-1: Mar  1 18:46:11: %LINK-3-UPDOWN: x",
            "local7.err core-1 %LINK-3-UPDOWN {Mar  1 18:46:11} | x",
        ),
        (
            "<166>Oct 11 2026 22:14:15: %ASA-6-302013: Built inbound",
            "local4.info - %ASA-6-302013 {Oct 11 2026 22:14:15} | Built inbound",
        ),
        (
            "<166>Oct 11 2026 22:14:15 fw-1 : %ASA-6-302013: Built inbound",
            "local4.info fw-1 %ASA-6-302013 {Oct 11 2026 22:14:15} | Built inbound",
        ),
        ("<189>29: 1: 2: no time", "local7.notice - - | 29: 1: 2: no time"),
        // As it is without a clock, and without a number.
        (
            "<189>29: 00:00:46: %LINK-3-UPDOWN: Interface Gi0/1, changed state to down",
            "local7.notice - %LINK-3-UPDOWN {00:00:46} | Interface Gi0/1, changed state to down",
        ),
        ("<189>31: 1w2d: %SYS-5-CONFIG_I: Configured", "local7.notice - %SYS-5-CONFIG_I {1w2d} | Configured"),
        ("<189>32: sw1: 1w2d: %SYS-5-CONFIG_I: x", "local7.notice sw1 %SYS-5-CONFIG_I {1w2d} | x"),
        ("<189>30: %SYS-5-CONFIG_I: Configured", "local7.notice - %SYS-5-CONFIG_I | Configured"),
        ("<189>%SYS-5-CONFIG_I: Configured", "local7.notice - %SYS-5-CONFIG_I | Configured"),
        (
            "<189>: 2026 Dec  1 10:00:00 UTC: %ETHPORT-5-IF_UP: Interface Ethernet1/1 is up",
            "local7.notice - %ETHPORT-5-IF_UP {2026 Dec  1 10:00:00 UTC} | Interface Ethernet1/1 is up",
        ),
        ("<190>: Dec  1 10:00:00 CET: %SYS-6-X: x", "local7.info - %SYS-6-X {Dec  1 10:00:00 CET} | x"),
        (
            "<189>33: *Dec  1 2026 10:00:00.123 CET: %SYS-5-X: x",
            "local7.notice - %SYS-5-X {*Dec  1 2026 10:00:00.123 CET} | x",
        ),
        (
            "<189>37: 10.0.0.1: Dec  1 10:00:00: %SYS-5-X: x",
            "local7.notice 10.0.0.1 %SYS-5-X {Dec  1 10:00:00} | x",
        ),
        (
            "<189>12: RP/0/RSP0/CPU0:Dec  1 10:00:00.123 : ifmgr[123]: %PKT_INFRA-LINK-3-UPDOWN : Interface x",
            "local7.notice - %PKT_INFRA-LINK-3-UPDOWN[123] RP/0/RSP0/CPU0 {Dec  1 10:00:00.123} | Interface x",
        ),
        ("<189>00:00:46: it began", "local7.notice - - | 00:00:46: it began"),
        // A program that writes a time of its own is no host.
        ("<14>myapp: 2026-12-01T10:00:00Z failed", "user.info - myapp | 2026-12-01T10:00:00Z failed"),
        ("<30>myapp[123]: 2026-12-01T10:00:00Z err", "daemon.info - myapp[123] | 2026-12-01T10:00:00Z err"),
        ("<30>myapp[1]: Dec  1 10:00:00: err", "daemon.info - myapp[1] | Dec  1 10:00:00: err"),
        // Hosts that are addresses.
        ("<30>Dec  1 10:00:00 2003:de:1::1 tag: x", "daemon.info 2003:de:1::1 tag {Dec  1 10:00:00} | x"),
        // What AIX sends on.
        (
            "<13>Dec  1 10:00:00 Message forwarded from aix1: sshd[1]: hi",
            "user.notice aix1 sshd[1] {Dec  1 10:00:00} | hi",
        ),
        ("<13>Message forwarded from aix1: sshd[1]: hi", "user.notice aix1 sshd[1] | hi"),
        // Row 49 of the bad inputs: no `<PRI>`.
        ("Oct 11 22:14:15 host su: x", "user.notice - - | Oct 11 22:14:15 host su: x !pri"),
        ("<>x", "user.notice - - | <>x !pri"),
        ("<192>x", "user.notice - - | <192>x !pri"),
        ("<999999999999>x", "user.notice - - | <999999999999>x !pri"),
        ("<-1>x", "user.notice - - | <-1>x !pri"),
        ("<+1>x", "user.notice - - | <+1>x !pri"),
        ("<013>x", "user.notice - - | <013>x !pri"),
        ("<00>x", "user.notice - - | <00>x !pri"),
        ("< 13>x", "user.notice - - | < 13>x !pri"),
        ("<13x", "user.notice - - | <13x !pri"),
        ("<é>x", "user.notice - - | <é>x !pri"),
        ("<1é>x", "user.notice - - | <1é>x !pri"),
        ("<\u{0}1\u{0}3\u{0}>\u{0}", "user.notice - - | <\u{0}1\u{0}3\u{0}>\u{0} !pri"),
        // Row 51: another version.
        (
            "<13>2 2026-10-11T22:14:15Z h a - - - x",
            "user.notice - - | 2 2026-10-11T22:14:15Z h a - - - x !version",
        ),
        ("<13>99 x", "user.notice - - | 99 x !version"),
        ("<13>1x x", "user.notice - - | 1x x !version"),
        ("<13>01 x", "user.notice - - | 01 x !version"),
        // A time that is none, and one that is no day (row 52).
        ("<13>1 file was deleted by a user", "user.notice - - | file was deleted by a user !timestamp"),
        ("<13>1 2026-02-30T22:14:15Z h a - - - x", "user.notice h a {2026-02-30T22:14:15Z} | x"),
        (
            "<13>1 2026-12-31T23:59:60.123456789Z h a - - - x",
            "user.notice h a {2026-12-31T23:59:60.123456789Z} | x",
        ),
        ("<13>Feb 30 10:00:00 h a: x", "user.notice h a {Feb 30 10:00:00} | x"),
        // Structured data (row 53).
        ("<13>1 - h a - - [e a=\"1\" x", "user.notice h a | [e a=\"1\" x !structured_data"),
        ("<13>1 - h a - - [e a=\"]\"] x", "user.notice h a [e: 1] | x !structured_data"),
        ("<13>1 - h a - - [e][e] x", "user.notice h a [e: 0] | x !structured_data"),
        ("<13>1 - h a - - [e]x", "user.notice h a [e: 0] | x !structured_data"),
        ("<13>1 - h a - - no data", "user.notice h a | no data !structured_data"),
        ("<13>1 - h a - - [e a=\"1\\", "user.notice h a | [e a=\"1\\ !structured_data"),
        ("<13>1 - h a - - [e a=\"x\n<0>1 - root\"] x", "user.notice h a [e: 1] | x"),
        // Fields that are missing.
        ("<13>1 -  a - - - x", "user.notice - - |  a - - - x !header"),
        ("<13>1 - h a", "user.notice h - | a !header"),
        // A forged line is a part of the message (row 69).
        ("<13>su: x\n<0>1 - - root - - - fire", "user.notice - su | x\n<0>1 - - root - - - fire"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in rows {
        let found = shown(&read(text));
        if found != expected {
            wrong.push(format!("for      {text:?}\nexpected {expected}\nfound    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Row 50: wherever a message was cut, what there is of it is kept, and that it is not all is said until only its text
/// can be short.
#[test]
fn a_message_that_is_cut_anywhere_is_kept_and_named() {
    let data_at = FULL.find("[e@").expect("it has some");
    let text_at = FULL.len() - " text".len();
    for end in 1..FULL.len() {
        let message = read(&FULL[..end]);
        let expected = match end {
            1..5 => Some("pri"),
            5 => Some("empty"),
            _ if end < data_at => Some("header"),
            _ if end < text_at => Some("structured_data"),
            _ => None,
        };
        let found = message.parse_error.map(ParseError::word);
        let found = if found == Some("timestamp") { Some("header") } else { found };
        // Between two elements nothing shows that the second is missing.
        let is_whole = FULL[..end].ends_with(']');
        assert!(found == expected || is_whole && found.is_none(), "{:?}: {found:?}", &FULL[..end]);
        assert_eq!(message.came.raw, &FULL.as_bytes()[..end]);
        assert!(found.is_none() || found == Some("structured_data") || FULL[..end].ends_with(message.text));
    }
}

#[test]
fn a_field_that_is_too_long_is_none() {
    let long = "h".repeat(FIELD_BYTES_MAX + 1);
    assert_eq!(read(&format!("<13>1 - {long} a - - - x")).parse_error, Some(ParseError::Header));
    assert_eq!(read(&format!("<13>Dec  1 10:00:00 {long} a: x")).host, "");
    assert_eq!(read(&format!("<13>{long}: x")).app, "");
    assert_eq!(read(&format!("<13>a[{long}]: x")).app, "");
    assert_eq!(read(&format!("<13>1 - {} a - - - x", &long[1..])).host.len(), FIELD_BYTES_MAX);
}

proptest! {
    /// Whatever comes is read without a panic, and its text is a part of it.
    #[test]
    fn anything_is_a_message(text in prop_oneof![
        any::<String>(),
        "<[0-9]{1,3}>.{0,80}",
        "<13>1 [-0-9TZ:.+]{1,25}( [-a-z]{1,9}){0,5} (-|(\\[.{0,30}\\]?){1,3}).{0,20}",
        "<13>([0-9]{1,5}: )?([a-z]{1,5}: )?[*.]?(Feb|Dec) [0-9 ]{1,3} [0-9:.]{1,12}( [a-z:\\[\\]0-9]{1,9}){0,4}",
    ]) {
        let message = read(&text);
        prop_assert!(text.contains(message.text));
        let _ = message.sent.read(jiff::Timestamp::UNIX_EPOCH, &jiff::tz::TimeZone::UTC);
        let bytes = String::from_utf8_lossy(text.as_bytes());
        prop_assert_eq!(shown(&read(&bytes)), shown(&message));
    }
}
