use ams2_core::Wall;
use lettre::message::Mailbox;

use super::*;
use crate::{sample, text};

pub(super) fn settings(yaml: &str) -> Settings {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn mistakes(yaml: &str) -> Vec<String> {
    let built = settings(yaml).build(&BuildContext::new("/var/lib/ams2", Default::default()));
    let words = |errors: Vec<SettingsError>| errors.iter().map(|e| format!("{e}; {}", e.mend)).collect();
    built.map(drop).map_err(words).expect_err(yaml)
}

fn letters(more: &str) -> Letters {
    let yaml =
        format!("{{to: [secops@example.com], from: ams2@example.com, smtp: 'smtp://127.0.0.1'{more}}}");
    settings(&yaml).letters().unwrap_or_else(|error| panic!("{yaml}: {error:?}"))
}

fn written(letters: &Letters, delivery: &Delivery) -> String {
    let letter = letters.write(delivery).expect("written");
    String::from_utf8(letter.bytes).expect("ASCII")
}

/// Header fields, unfolded.
fn headers(mail: &str) -> Vec<(String, String)> {
    let head = mail.split("\r\n\r\n").next().expect("a head").replace("\r\n ", " ");
    head.lines()
        .map(|line| line.split_once(": ").expect("a field"))
        .map(|(n, v)| (n.into(), v.into()))
        .collect()
}

fn header(mail: &str, name: &str) -> Option<String> {
    headers(mail).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The parts of a mail with two, decoded.
fn parts(mail: &str) -> (String, String) {
    let boundary = mail.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    let boundary = format!("--{boundary}");
    let mut parts = mail.split(&boundary).skip(1).map(|part| {
        let (head, body) = part.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains("Content-Transfer-Encoding: quoted-printable"), "{head}");
        let decoded = unquote(body);
        String::from_utf8(decoded).expect("UTF-8")
    });
    (parts.next().expect("text"), parts.next().expect("HTML"))
}

fn unquote(body: &str) -> Vec<u8> {
    let body = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = body.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'=' {
            let hex = std::str::from_utf8(&after[..2]).expect("hex digits");
            bytes.push(u8::from_str_radix(hex, 16).expect("hex digits"));
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    bytes
}

#[test]
fn each_mistake_is_named_with_its_setting() {
    let base = "from: a@example.com, smtp: 'smtp://127.0.0.1'";
    let rows = [
        (format!("{{to: [], {base}}}"), "to: a mail to nobody; add an address"),
        (format!("{{to: [nobody], {base}}}"), "to[0]: \"nobody\" is no mail address"),
        (format!("{{to: [\"a@example.com\\r\\nRCPT TO:<b@x>\"], {base}}}"), "to[0]: "),
        (format!("{{to: [\"\\\"x\\r\\nBcc: b@x\\\" <a@example.com>\"], {base}}}"), "to[0]: "),
        ("{to: [a@b.c], from: x, smtp: 'smtp://h'}".into(), "from: \"x\" is no mail address"),
        ("{to: [a@b.c], from: a@b.c, smtp: mail}".into(), "smtp: \"mail\" is no mail server"),
        ("{to: [a@b.c], from: a@b.c, smtp: 'smtp://h:0'}".into(), "smtp: \"0\" is no port"),
        ("{to: [a@b.c], from: a@b.c, smtp: 'smtps://h', tls: none}".into(), "tls: smtps:// is TLS"),
        (format!("{{to: [a@b.c], {base}, user: u}}"), "user: a user without a password"),
        (format!("{{to: [a@b.c], {base}, password: p}}"), "password: a password without a user"),
        (
            "{to: [a@b.c], from: a@b.c, smtp: 'smtp://h', tls: none, user: u, password: p}".into(),
            "tls: the password would go over the network in the clear",
        ),
        (format!("{{to: [a@b.c], {base}, ca: x}}"), "ca_file: there is no TLS"),
        ("{to: [a@b.c], from: a@b.c, smtp: 'smtp://h', ca: x}".into(), "ca_file: it holds no certificate"),
        (format!("{{to: [a@b.c], {base}, hello: 'a b'}}"), "hello: \"a b\" is no name of a host"),
        (format!("{{to: [a@b.c], {base}, subject: '{{{{ evnt }}}}'}}"), "subject: no variable is called"),
        (format!("{{to: [a@b.c], {base}, html: '{{% if %}}'}}"), "html: "),
        (format!("{{to: [a@b.c], {base}, headers: {{Bcc: x}}}}"), "headers: \"Bcc\" is set by ams2"),
        (format!("{{to: [a@b.c], {base}, headers: {{'X Y': x}}}}"), "headers: \"X Y\" is no name"),
        (format!("{{to: [a@b.c], {base}, headers: {{X-Y: '{{{{ evnt }}}}'}}}}"), "headers.X-Y: no variable"),
    ];
    for (yaml, words) in rows {
        let found = mistakes(&yaml);
        assert!(found[0].starts_with(words), "{yaml}: {found:?}");
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
    }
    let many = vec!["a@example.com"; 10_001].join(", ");
    assert!(mistakes(&format!("{{to: [{many}], {base}}}"))[0].starts_with("to: 10001 recipients"));
}

#[test]
fn nothing_leaves_this_machine_without_tls_unless_the_config_says_so() {
    let rows = [
        ("smtp: 'smtp://127.0.0.1:25'", "Plain"),
        ("smtp: 'smtp://localhost'", "Plain"),
        ("smtp: 'smtp://[::1]:25'", "Plain"),
        ("smtp: 'smtp://127.0.0.1:25', tls: required", "StartTls"),
        ("smtp: 'smtp://mail.example.com'", "StartTls"),
        ("smtp: 'smtp://mail.example.com', tls: none", "Plain"),
        ("smtp: 'smtps://mail.example.com'", "Implicit"),
        ("smtp: 'smtps://127.0.0.1'", "Implicit"),
    ];
    for (way, security) in rows {
        let server = settings(&format!("{{to: [a@b.c], from: a@b.c, {way}}}")).server().expect(way);
        assert!(format!("{:?}", server.security).starts_with(security), "{way}: {:?}", server.security);
    }
    let server = settings("{to: [a@b.c], from: a@b.c, smtp: 'smtp://localhost', user: u, password: canary}");
    assert!(!format!("{server:?} {:?}", server.server()).contains("canary"));
}

#[test]
fn the_default_mail() {
    let mail = written(&letters(""), &sample::delivery());
    let head: String = headers(&mail).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let (plain, html) = parts(&mail);
    insta::assert_snapshot!("head", head);
    assert_eq!(plain.replace("\r\n", "\n").trim_end(), text::plain(&sample::delivery()).trim_end());
    insta::assert_snapshot!("html", html.replace("\r\n", "\n"));
}

/// A mail as it comes after a bad night: more than one severity, something that ended, links, and more than is shown.
fn bad_night() -> Delivery {
    let labels = |computer: &'static str, severity: &'static str| {
        [("event", "Virus Found"), ("severity", severity), ("computer", computer), ("site", "boston")]
    };
    let annotations = [
        ("summary", "EICAR-Test-File in C:\\Users\\pat\\Downloads\\invoice.doc"),
        ("description", "The file was quarantined.\nSee whether the share \\\\fs-01\\team is clean."),
        ("runbook_url", "https://wiki.example.com/virus-found"),
    ];
    let rank = |word: &str| ams2_core::Severities::default().rank(word);
    let severities = ["critical", "warning", "minor"];
    let computers = ["ws-042.boston.example.com", "ws-117.boston.example.com", "ws-009.boston.example.com"];
    let mut alerts: Vec<crate::Alert> = severities
        .iter()
        .zip(computers)
        .map(|(severity, computer)| crate::Alert {
            severity: rank(severity),
            generator_url: "https://console.example.com/scan/17".into(),
            ..sample::alert_of(&labels(computer, severity), &annotations)
        })
        .collect();
    alerts[2].firing = false;
    alerts[2].ends_at = Some(Wall(1_795_515_300_000));
    let mut delivery = sample::delivery_of(0x2b, alerts);
    delivery.groups[0].reason = ams2_core::effect::NotifyReason::NewAlerts;
    delivery.groups[0].firing += 40;
    delivery
}

#[test]
fn the_default_mail_after_a_bad_night() {
    let (plain, html) = parts(&written(&letters(""), &bad_night()));
    insta::assert_snapshot!("bad_night_text", plain.replace("\r\n", "\n"));
    insta::assert_snapshot!("bad_night_html", html.replace("\r\n", "\n"));
}

#[test]
fn a_domain_in_any_script_is_written_as_dns_has_it() {
    let yaml = "{to: ['Büro <büro@bücher.example>', 'x@BÜCHER.example', x@例え.example, y@plain.example], from: ams2@bücher.example, smtp: 'smtp://127.0.0.1'}";
    let letters = settings(yaml).letters().expect("right");
    let to: Vec<String> = letters.to.iter().map(|to| to.email.to_string()).collect();
    let expected =
        ["büro@bücher.example", "x@xn--bcher-kva.example", "x@xn--r8jz45g.example", "y@plain.example"];
    assert_eq!(to, expected);
    assert_eq!(letters.from.email.to_string(), "ams2@xn--bcher-kva.example");
}

#[test]
fn no_character_in_the_html_part_controls_or_reorders_what_is_read() {
    let odd = "a\u{202e}b\0c\u{7}d\u{1b}[2Je\u{2066}f\u{200f}g\u{85}h\rj";
    for delivery in sample::hostile().into_iter().chain([sample::delivery_of(
        9,
        vec![sample::alert_of(
            &[("event", odd), ("severity", odd), (odd, odd)],
            &[
                ("summary", odd),
                ("description", "one\u{202e}\ntwo\u{7}"),
                ("link", "https://x.example/\u{202e}"),
                (odd, odd),
            ],
        )],
    )]) {
        let mut delivery = delivery;
        for group in &mut delivery.groups {
            group.labels = [(odd.into(), odd.into())].into();
        }
        delivery.receiver = odd.into();
        let mail = written(&letters(""), &delivery);
        let (_, html) = parts(&mail);
        let html = html.replace("\r\n", "\n");
        let found = html.chars().find(|c| *c != '\n' && text::leaves_the_line(*c));
        assert_eq!(found, None, "{:?}", html.split_once(found.unwrap_or('-')));
    }
    let described = sample::alert_of(&[("event", "E")], &[("description", "one\u{202e}\ntwo")]);
    let (_, html) = parts(&written(&letters(""), &sample::delivery_of(9, vec![described])));
    assert!(html.replace("\r\n", "\n").contains("one\\u{202e}\ntwo"), "a description keeps its lines");
}

#[test]
fn the_html_part_shows_as_many_alerts_as_mail_programs_show_and_counts_the_rest() {
    let alert = |number: usize, rows: usize| {
        let text = "0123456789".repeat(8);
        let labels: Vec<(String, String)> =
            (0..rows).map(|row| (format!("l{row:04}"), format!("{number}-{row}-{text}"))).collect();
        let mut labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        labels.push(("event", "Disk"));
        sample::alert_of(&labels, &[("description", &text), ("runbook", &text), ("summary", &text)])
    };
    for (count, rows) in [(100, 10), (1, 3000), (20, 200), (3, 3)] {
        let delivery = sample::delivery_of(1, (0..count).map(|number| alert(number, rows)).collect());
        let mail = written(&letters(""), &delivery);
        assert!(mail.contains("multipart/alternative"), "{count} alerts: the HTML part is lost");
        let (plain, html) = parts(&mail);
        assert!(html.len() <= 95_000, "{count} alerts: {} bytes", html.len());
        assert!(!plain.contains("template"), "the admin wrote none");
        let shown = html.matches("since <span").count();
        assert!(shown >= 1, "{count} alerts");
        assert_eq!(
            shown < count,
            html.contains(&format!("and {} more that are not shown here", count - shown))
        );
        if count <= 3 {
            assert_eq!(shown, count);
        }
        assert_eq!(rows > 50, html.contains("more labels"), "{rows} labels");
    }
}

#[test]
fn what_is_new_is_marked_and_the_highest_severity_of_all_is_the_mails() {
    let warning = |number: usize| crate::Alert {
        severity: Some(ams2_core::Severity::Warning),
        ..sample::alert_of(
            &[("event", "Virus Found"), ("n", &number.to_string()), ("severity", "warning")],
            &[],
        )
    };
    let mut alerts: Vec<crate::Alert> = (0..5).map(warning).collect();
    alerts.insert(0, crate::Alert { new: true, ..sample::alert() });
    let delivery = sample::delivery_of(1, alerts).showing(3);
    let mail = written(&letters(""), &delivery);
    assert_eq!(header(&mail, "Importance").as_deref(), Some("high"));
    assert_eq!(header(&mail, "X-AMS2-Severity").as_deref(), Some("critical"));
    let (plain, html) = parts(&mail);
    assert_eq!((plain.matches("NEW: ").count(), html.matches("NEW · ").count()), (1, 1), "{plain}");
    assert!(html.contains("and 3 more"), "{html}");
}

#[test]
fn a_group_is_one_thread_from_its_first_mail_to_its_end() {
    let letters = letters("");
    let first = letters.write(&sample::delivery()).expect("written");
    let id = format!("<{}@example.com>", sample::delivery().id);
    assert_eq!(String::from_utf8_lossy(&first.memo), id);
    let repeat =
        Delivery { id: ams2_core::input::DeliveryId(7), memo: Some(first.memo), ..sample::delivery() };
    let second = letters.write(&repeat).expect("written");
    let mail = String::from_utf8_lossy(&second.bytes);
    for name in ["In-Reply-To", "References"] {
        assert_eq!(header(&mail, name).as_ref(), Some(&id), "{name}");
    }
    assert_eq!(String::from_utf8_lossy(&second.memo), id, "the thread goes on");
    let ended = crate::Alert { firing: false, ends_at: Some(Wall(0)), ..sample::alert() };
    let end = Delivery { memo: Some(second.memo), ..sample::delivery_of(9, vec![ended]) };
    let third = letters.write(&end).expect("written");
    assert_eq!(header(&String::from_utf8_lossy(&third.bytes), "References"), Some(id));
    assert!(third.memo.is_empty(), "what comes then is another thread");
    for forged in ["<a b>", "<a>\r\nBcc: x", "a", "<\u{e9}>"] {
        let delivery = Delivery { memo: Some(forged.into()), ..sample::delivery() };
        assert_eq!(header(&written(&letters, &delivery), "References"), None, "{forged:?}");
    }
}

#[test]
fn retries_say_the_same_bytes() {
    let letters = letters("");
    let again = Delivery {
        attempt: 4,
        maybe_duplicate: true,
        unfinished: Some(vec![Recipient::at(0)]),
        ..sample::delivery()
    };
    assert_eq!(written(&letters, &sample::delivery()), written(&letters, &again));
}

/// What ends a message, begins a command or a header, or is read differently by the next server (SMTP smuggling).
const INJECTIONS: [&str; 14] = [
    "x\r\n.\r\nMAIL FROM:<evil@example.com>\r\n",
    "x\n.\nMAIL FROM:<evil@example.com>\n",
    "x\r.\rRSET\r",
    "x\n.\r\nRSET",
    "x\r\n.\nRSET",
    "x\r\r\n.\r\r\nRSET",
    "\r\n.\r\n",
    ".",
    "..",
    "\r\nBcc: evil@example.com",
    "\nSubject: other",
    "x\0y",
    "\u{2028}Bcc: evil@example.com",
    "=0D=0A.=0D=0ARSET =?utf-8?q?=0D=0ABcc:_evil@example.com?=",
];

#[test]
fn nothing_that_an_alert_says_leaves_its_place() {
    let text = "{{ common_annotations | items }} {% for a in alerts %}{{ a.labels | items }}{% endfor %}";
    let more = format!(
        ", subject: '{{{{ event }}}}{{{{ common_labels.x | default(\"\") }}}}', text: '{text}', html: '{text}', headers: {{X-Event: '{{{{ event }}}}'}}"
    );
    let mut deliveries = sample::hostile();
    for injection in INJECTIONS {
        let labels = [("event", injection), ("x", injection), (injection, "name")];
        deliveries.push(sample::delivery_of(
            300,
            vec![sample::alert_of(&labels, &[("summary", injection), ("description", injection)])],
        ));
    }
    for letters in [letters(""), letters(&more)] {
        for delivery in &deliveries {
            let mail = written(&letters, delivery);
            // `check` in the letter looked for bare CR and LF; here are the meanings.
            let lines: Vec<&str> = mail.split("\r\n").collect();
            assert!(!lines.iter().any(|line| line.starts_with('.')), "{mail}");
            assert!(lines.iter().all(|line| line.len() <= 998), "{mail}");
            let names: Vec<String> =
                headers(&mail).into_iter().map(|(name, _)| name.to_lowercase()).collect();
            for name in ["bcc", "mail from"] {
                assert!(!names.iter().any(|known| known == name), "{name}: {mail}");
            }
            for name in ["subject", "from", "to", "message-id", "date"] {
                assert_eq!(names.iter().filter(|known| *known == name).count(), 1, "{name}: {mail}");
            }
        }
    }
}

#[test]
fn html_escapes_what_alerts_say_and_links_only_to_pages() {
    let evil = "<script>alert(1)</script><img src=x onerror=y>\"'&";
    let mut alert = sample::alert_of(
        &[("event", evil), (evil, evil), ("severity", evil)],
        &[
            ("summary", evil),
            ("runbook_url", "javascript:alert(1)"),
            ("dashboard", "https://d.example.com/?a=\"><b>"),
        ],
    );
    alert.generator_url = "data:text/html,<script>".into();
    let delivery = Delivery { external_url: "javascript:1".into(), ..sample::delivery_of(1, vec![alert]) };
    let (_, html) = parts(&written(&letters(""), &delivery));
    for part in ["<script", "<img", "href=\"javascript", "href=\"data", "\"><b>"] {
        assert!(!html.contains(part), "{part} in {html}");
    }
    assert!(html.contains("href=\"https:&#x2f;&#x2f;d.example.com"), "{html}");
    assert!(html.contains("javascript:alert(1)"), "shown as text: {html}");
}

#[test]
fn a_template_that_fails_is_said_and_loses_nothing() {
    let letters = letters(", text: '{{ common_labels.nowhere }}', html: false");
    let mail = written(&letters, &sample::delivery());
    let body = String::from_utf8(unquote(mail.split_once("\r\n\r\n").expect("a body").1)).expect("UTF-8");
    assert!(body.contains("Virus Found") && body.contains("The template `text` failed: "), "{body}");
    assert!(header(&mail, "Content-Type").expect("one").starts_with("text/plain"));
}

#[test]
fn words_of_all_languages_arrive() {
    let alert =
        sample::alert_of(&[("event", "Вирус 🦠 gefunden — ﷽"), ("site", "Zürich")], &[("summary", "汉字")]);
    let letters = letters(", reply_to: 'Büro <buero@example.com>'");
    let mail = written(&letters, &sample::delivery_of(1, vec![alert]));
    let (plain, html) = parts(&mail);
    for part in ["Вирус 🦠 gefunden — ﷽", "Zürich", "汉字"] {
        assert!(plain.contains(part) && html.contains(part), "{part}");
    }
    assert!(
        header(&mail, "Subject").expect("one").starts_with("[FIRING] =?utf-8?b?"),
        "{:?}",
        header(&mail, "Subject")
    );
    let reply: Mailbox = "Büro <buero@example.com>".parse().expect("a mailbox");
    assert!(header(&mail, "Reply-To").expect("one").ends_with("<buero@example.com>"), "{reply}");
}

#[test]
fn severity_is_importance() {
    let rows = [
        ("critical", true, "high"),
        ("major", true, "high"),
        ("warning", true, "normal"),
        ("info", true, "low"),
        ("critical", false, "normal"),
        ("purple", true, "normal"),
    ];
    for (severity, firing, importance) in rows {
        let severities = ams2_core::Severities::default();
        let alert = crate::Alert { firing, severity: severities.rank(severity), ..sample::alert() };
        let mail = written(&letters(""), &sample::delivery_of(1, vec![alert]));
        assert_eq!(header(&mail, "Importance").as_deref(), Some(importance), "{severity} {firing}");
    }
}

#[test]
fn a_list_of_thousands_is_not_shown_to_itself() {
    let to: Vec<String> = (0..200).map(|n| format!("p{n}@example.com")).collect();
    let yaml = format!("{{to: [{}], from: a@example.com, smtp: 'smtp://127.0.0.1'}}", to.join(", "));
    let mail = written(&settings(&yaml).letters().expect("right"), &sample::delivery());
    assert_eq!(header(&mail, "To").as_deref(), Some("undisclosed-recipients:;"));
    assert!(!mail.contains("p17@"), "{mail}");
}

#[test]
fn a_header_that_no_line_can_hold_is_cut_and_the_mail_goes() {
    let name = "X-".to_owned() + &"N".repeat(74);
    let more =
        format!(", headers: {{X-Site: '{{{{ common_labels.x }}}}', {name}: '{{{{ common_labels.x }}}}'}}");
    let letters = letters(&more);
    // One word, where there is nothing to fold at, and words that are.
    for word in ["a", "é", "a\u{a0}", "aa "] {
        for length in [800, 890, 900, 960, 997, 998, 999, 1024, 5000] {
            let value: String = word.chars().cycle().take(length).collect();
            let alert = sample::alert_of(&[("event", "E"), ("x", &value)], &[]);
            let mail = written(&letters, &sample::delivery_of(1, vec![alert]));
            let shown = header(&mail, "X-Site").unwrap_or_default();
            assert!(shown.starts_with("aa") || shown.starts_with("=?utf-8?b?"), "{length} of {word}: {mail}");
        }
    }
}
