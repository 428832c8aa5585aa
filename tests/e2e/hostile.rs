//! What strangers write into an alert, on the wires of others: the real mail server and the real SNMP manager each get one
//! message, which their own parsers read as it was meant.

use std::collections::BTreeSet;

use serde_json::json;

use super::{harness::*, postfix::*, snmptrapd::*};

/// A label's value, and how it is shown in a text of lines and on one line.
struct Row {
    value: String,
    lines: String,
    line: String,
}

fn row(value: &str, lines: &str, line: &str) -> Row {
    Row { value: value.into(), lines: lines.into(), line: line.into() }
}

/// Longest value that the text of a mail shows, in bytes.
const VALUE_BYTES_MAX: usize = 2048;
/// Most that a template gives, in bytes.
const TEMPLATE_BYTES_MAX: usize = 256 * 1024;

fn rows() -> Vec<Row> {
    let mib = "x".repeat(1 << 20);
    let wide = "é\u{202e}".repeat(20);
    let wide_shown = wide.replace('\u{202e}', r"\u{202e}");
    vec![
        row("plain", "plain", "plain"),
        row(
            "x\r\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>",
            "x\n      .\n      MAIL FROM:<evil@example.com>\n      RCPT TO:<evil@example.com>",
            r#""x\r\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>""#,
        ),
        row("x\n.\nQUIT", "x\n      .\n      QUIT", r#""x\n.\nQUIT""#),
        row("x\r.\rRSET", r"x\r.\rRSET", r#""x\r.\rRSET""#),
        row("\r\nBcc: evil@example.com", "\n      Bcc: evil@example.com", r#""\r\nBcc: evil@example.com""#),
        row("nul\0byte", r"nul\u{0}byte", r#""nul\u{0}byte""#),
        row(
            "evil\u{202e}txt.exe\u{2066}",
            r"evil\u{202e}txt.exe\u{2066}",
            r#""evil\u{202e}txt.exe\u{2066}""#,
        ),
        row("\u{1b}[2J\u{7}", r"\u{1b}[2J\u{7}", r#""\u{1b}[2J\u{7}""#),
        row(
            "=?utf-8?q?=0D=0ABcc:_evil@example.com?=",
            "=?utf-8?q?=0D=0ABcc:_evil@example.com?=",
            "\"=?utf-8?q?=0D=0ABcc:_evil@example.com?=\"",
        ),
        row("汉字 🦠 ﷽", "汉字 🦠 ﷽", "\"汉字 🦠 ﷽\""),
        row(&wide, &wide_shown, &format!("\"{wide_shown}\"")),
        row(&mib, &format!("{}…", &mib[..VALUE_BYTES_MAX - "…".len()]), ""),
    ]
}

/// Posts an alert for each of the rows: the value as its event, as a label and as its summary.
fn post(server: &Server, rows: &[Row]) {
    for (n, row) in rows.iter().enumerate() {
        let labels = json!({ "event": row.value, "n": format!("number-{n}"), "value": row.value });
        let alert = json!({ "labels": labels, "annotations": { "summary": row.value } });
        server.post(&alert.to_string()).is(200);
    }
}

fn config(action: &str) -> String {
    format!(
        "
originator: {{limits: {{alert_bytes: 4MiB}}}}
receivers:
  - name: log
  - name: told
    actions:
      - {action}
route:
  receiver: log
  routes: [{{receiver: told, matchers: ['source != \"ams2\"'], notify: each}}]
"
    )
}

#[test]
fn a_mail_server_gets_one_mail_for_each_alert_whatever_is_written_in_it() {
    let postfix = Postfix::start();
    // As subject, as header, and in the text and HTML by default.
    let settings = "to: [ops@example.com], from: ams2@example.com, subject: '{{ event }}', headers: {X-Event: '{{ event }}'}";
    let port = postfix.port;
    let site = Site::new(&config(&format!("email: {{smtp: 'smtp://127.0.0.1:{port}', {settings}}}")));
    let server = site.start();
    let rows = rows();
    post(&server, &rows);
    let mails = postfix.until_mails(rows.len());
    server.until_quiet();
    assert_eq!(postfix.count(), rows.len(), "each once, and nothing beside them");
    let mut seen = BTreeSet::new();
    for mail in &mails {
        assert_eq!(mail.recipient(), "ops@example.com");
        let lines: Vec<&str> = mail.text.lines().collect();
        let number = lines.iter().find_map(|line| line.strip_prefix("  n = number-")).expect("its number");
        let number: usize = number.parse().expect("a number");
        assert!(seen.insert(number), "{number} came twice");
        let row = &rows[number];
        // The lines as they were meant, and nothing between them and the next of ours.
        let text = mail.text.replace("\r\n", "\n");
        assert!(text.contains(&format!("\n  value = {}\n", row.lines)), "{number}: {text}");
        assert!(text.contains(&format!("\n  summary: {}\n", row.lines)), "{number}: {text}");
        assert!(mail.html.contains(&format!("number-{number}")), "{number}: {}", mail.html);
        // One line each, which begins as the event does; no header of the alert's own making.
        for name in ["subject", "x-event"] {
            let value = mail.header(name);
            let word: String =
                row.value.trim().chars().take_while(|c| c.is_alphanumeric()).take(20).collect();
            let start = match (row.value.len() > TEMPLATE_BYTES_MAX, name) {
                (false, _) => word,
                // No template gives that much: our own words, and a word on the template that failed.
                (true, "subject") => format!("[FIRING] {word}"),
                (true, _) => String::new(),
            };
            assert!(value.starts_with(&start) && value.len() <= 1024, "{number}: {name}: {value}");
        }
        assert_eq!(
            mail.text.contains("The template `subject` failed: "),
            row.value.len() > TEMPLATE_BYTES_MAX
        );
        assert_eq!((mail.header("bcc"), mail.header("return-path")), ("", "<ams2@example.com>"));
        assert_eq!(mail.header("x-ams2-state"), "firing");
    }
    assert_eq!(seen.len(), rows.len());
    assert!(!postfix.log().contains("evil@example.com"), "{}", postfix.log());
}

#[test]
fn ten_thousand_recipients_get_the_mail_once_each() {
    let postfix = Postfix::start();
    let to: Vec<String> = (0..10_000).map(|n| format!("p{n}@example.com")).collect();
    let settings = format!("to: [{}], from: ams2@example.com, html: false, text: short", to.join(", "));
    let port = postfix.port;
    let site = Site::new(&config(&format!("email: {{smtp: 'smtp://127.0.0.1:{port}', {settings}}}")));
    let server = site.start();
    server.post(&alert("Down", "1")).is(200);
    server.until_quiet();
    assert_eq!(server.get("/api/v1/deliveries?state=dead").json(), json!([]));
    // Postfix has said yes to all; now it delivers.
    until_true("postfix delivers them all", || postfix.count() == to.len());
    let recipients: BTreeSet<String> = postfix.recipients().into_iter().collect();
    let expected: BTreeSet<String> = to.into_iter().collect();
    assert_eq!(recipients.len(), 10_000);
    assert!(recipients == expected, "others than those of the list");
    assert_eq!(server.metric("ams2_attempts_total{action=\"told/email/0\",outcome=\"delivered\"}"), Some(1));
}

#[test]
fn a_manager_reads_what_an_alert_says_on_one_line_and_is_told_of_a_cut() {
    let site = Site::new("");
    let port = free_port();
    site.secret("community", "example");
    let snmp = format!("to: '127.0.0.1:{port}', community_file: community, inform: true");
    site.configure(&config(&format!("snmp_trap: {{{snmp}, message_bytes_max: 4KiB}}")));
    let snmptrapd = Snmptrapd::start(&site, port, "");
    let server = site.start();
    let rows = rows();
    post(&server, &rows);
    server.until_quiet();
    let found = snmptrapd.messages("INFORM, SNMP v2c, community example", rows.len());
    assert_eq!(found.len(), rows.len(), "each once");
    for (number, row) in rows.iter().enumerate() {
        let is_it = |message: &&Message| message.value("ams2Labels").contains(&format!("n=number-{number} "));
        // The last does not fit; such texts have a test of their own below.
        if row.line.is_empty() {
            continue;
        }
        let message = found.iter().find(is_it).unwrap_or_else(|| panic!("{number}: {found:?}"));
        let word = if number == 0 { "plain".to_owned() } else { row.line.clone() };
        let labels = message.value("ams2Labels");
        assert!(labels.trim_end().ends_with(&format!("value={word}")), "{number}: {labels}");
        let line = word.trim_matches('"');
        assert_eq!(message.value("ams2Event").trim_end(), format!("STRING: {line}").trim_end(), "{number}");
        assert_eq!(message.value("ams2Summary").trim_end(), format!("STRING: {line}").trim_end(), "{number}");
        assert_eq!(message.value("ams2AlertCut"), "INTEGER: false(2)", "{number}");
    }
    let cut = found.iter().filter(|message| message.value("ams2AlertCut") == "INTEGER: true(1)").count();
    assert_eq!(cut, 1, "the one of a MiB: {found:?}");
}

/// A value can be longer than any SNMP message: as much of it as one datagram holds, cut between two characters, and said.
#[test]
fn a_text_over_64_kib_is_cut_at_a_character_and_the_manager_is_told() {
    let site = Site::new("");
    let port = free_port();
    site.secret("community", "example");
    let snmp = format!("to: '127.0.0.1:{port}', community_file: community, inform: true");
    // The longest that there is, and the usual one.
    let both = format!(
        "snmp_trap: {{name: long, {snmp}, message_bytes_max: 65507B}}\n      - snmp_trap: {{name: usual, {snmp}}}"
    );
    site.configure(&config(&both));
    let snmptrapd = Snmptrapd::start(&site, port, "");
    let server = site.start();
    let summary = "é".repeat(100_000);
    let alert = json!({ "labels": { "event": "Long", "n": "1" }, "annotations": { "summary": summary } });
    server.post(&alert.to_string()).is(200);
    server.until_quiet();
    let mut lengths: Vec<usize> = Vec::new();
    for message in snmptrapd.messages("INFORM, SNMP v2c, community example", 2) {
        assert_eq!(message.value("ams2AlertCut"), "INTEGER: true(1)");
        assert_eq!(message.value("ams2Event"), "STRING: Long");
        let text = message.value("ams2Summary").strip_prefix("STRING: ").expect("a text").to_owned();
        let kept = text.strip_suffix('…').expect("it says that it was cut");
        assert!(kept.chars().all(|c| c == 'é'), "whole characters");
        lengths.push(text.len());
    }
    lengths.sort_unstable();
    assert!((700..1400).contains(&lengths[0]), "{lengths:?}");
    assert!((64_000..65_507).contains(&lengths[1]), "{lengths:?}");
}
