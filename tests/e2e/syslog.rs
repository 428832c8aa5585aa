//! `event_log: {to: syslog}` against a real rsyslogd: other people's parser finds the fields that we meant.

use std::fs;

use super::{harness::*, rsyslog::Rsyslog};

/// What the daemon behind `/dev/log` makes of it with its own defaults, and what old collectors read over the network.
#[test]
fn rfc_3164_is_understood_by_the_local_daemon_and_over_udp_and_tcp() {
    let site = Site::new(EACH);
    let rsyslog = Rsyslog::start(&site, 0);
    let Rsyslog { tcp_port, udp_port, devlog, .. } = &rsyslog;
    site.configure(&format!(
        "
receivers:
  - name: log
    actions:
      - event_log: {{to: syslog, address: 'unix:{}', facility: local0}}
      - event_log: {{to: syslog, address: 'udp://127.0.0.1:{udp_port}', protocol: rfc3164, facility: local1, hostname: far.example.com}}
      - event_log: {{to: syslog, address: 'tcp://127.0.0.1:{tcp_port}', protocol: rfc3164, facility: local2, hostname: far.example.com}}
route: {{receiver: log, notify: each}}
",
        devlog.display()
    ));
    let server = site.start();
    server.post(&alert("Virus Found", "first\nline")).is(200);
    server.post(&alert("Virus Found", "second")).is(200);
    let here = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    for (facility, host) in
        [("local0", here.trim()), ("local1", "far.example.com"), ("local2", "far.example.com")]
    {
        let found = until("both messages arrive", || {
            let text = fs::read_to_string(&rsyslog.received).unwrap_or_default();
            let lines =
                text.lines().filter(|line| line.starts_with(facility) && line.contains("Virus Found"));
            let found: Vec<Vec<String>> =
                lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect();
            Some(found).filter(|found| found.len() == 2)
        });
        for fields in &found {
            assert_eq!((&*fields[2], &*fields[3], &*fields[5]), (host, "ams2", "0"), "{fields:?}");
            assert!(fields[7].trim_start().starts_with("state=firing event=\"Virus Found\""), "{fields:?}");
        }
        assert!(found[0][7].contains(r"first\nline"), "{:?}", found[0]);
    }
}

/// One receiver that writes to rsyslog in three ways, each under a facility of its own.
fn config(rsyslog: &Rsyslog) -> String {
    let Rsyslog { tcp_port, udp_port, socket, .. } = rsyslog;
    let socket = socket.display();
    format!(
        "
receivers:
  - name: log
    actions:
      - event_log: {{to: syslog, address: 'unix:{socket}', protocol: rfc5424, facility: local0, hostname: ams2.example.com}}
      - event_log: {{to: syslog, address: 'udp://127.0.0.1:{udp_port}', facility: local1, hostname: ams2.example.com}}
      - event_log: {{to: syslog, address: 'tcp://127.0.0.1:{tcp_port}', facility: local2, hostname: ams2.example.com, app_name: router}}
route: {{receiver: log, notify: each}}
"
    )
}

const WAYS: [(&str, &str); 3] = [("local0", "ams2"), ("local1", "ams2"), ("local2", "router")];

#[test]
fn rsyslog_writes_the_fields_that_were_meant_over_unix_udp_and_tcp() {
    let site = Site::new(EACH);
    let rsyslog = Rsyslog::start(&site, 0);
    site.configure(&config(&rsyslog));
    let server = site.start();
    // Severity of the label, and of syslog (RFC 5674); the last has no rank.
    let rows = [
        ("critical", "alert"),
        ("major", "crit"),
        ("minor", "err"),
        ("warning", "warning"),
        ("info", "info"),
        ("purple", "notice"),
    ];
    for (severity, _) in rows {
        let alert = serde_json::json!({
            "labels": { "event": "Virus Found", "severity": severity, "computer": "ws-042" },
            "annotations": { "summary": "it was found" },
        });
        server.post(&alert.to_string()).is(200);
    }
    for (facility, app) in WAYS {
        let found = until("every message arrives", || {
            Some(rsyslog.messages(facility, "Virus_Found")).filter(|found| found.len() == rows.len())
        });
        for ((severity, code), fields) in rows.iter().zip(&found) {
            assert_eq!(fields[1], *code, "{severity} over {facility}: {fields:?}");
            assert_eq!((&*fields[2], &*fields[3], &*fields[5]), ("ams2.example.com", app, "1"), "{fields:?}");
            for part in [
                "[ams2@32473 delivery=\"",
                " state=\"firing\"",
                " event=\"Virus Found\"",
                "[labels@32473 ",
                " computer=\"ws-042\"",
            ] {
                assert!(fields[6].contains(part), "{part} is not in {}", fields[6]);
            }
            let has_rank = fields[6].contains(&format!("rank=\"{severity}\""));
            assert_eq!(has_rank, *severity != "purple", "{}", fields[6]);
            let message = fields[7].trim_start();
            assert!(message.starts_with("state=firing event=\"Virus Found\""), "{message}");
            assert!(message.contains("summary=\"it was found\""), "{message}");
        }
    }
}

#[test]
fn what_an_alert_says_cannot_become_a_second_message_or_another_field() {
    let site = Site::new(EACH);
    let rsyslog = Rsyslog::start(&site, 0);
    site.configure(&config(&rsyslog));
    let server = site.start();
    let forged = "x\n<0>1 2026-11-24T00:00:00Z evil evil - Evil - root: fire\r\n12 <0>evil: fire";
    let odd = "a\"b\\c]d [evil@1 x=\"y\"] é\u{2028}\u{202e}\u{1b}[2J";
    let long = "y".repeat(30_000);
    for (n, value) in [forged, odd, &long].iter().enumerate() {
        let labels =
            serde_json::json!({ "event": "Odd", "n": n.to_string(), "value": value, "a=b] \"": "name" });
        server.post(&serde_json::json!({ "labels": labels }).to_string()).is(200);
    }
    server.post(&alert("Last", "last")).is(200);
    for (facility, _) in WAYS {
        until_true("the last message arrives", || !rsyslog.messages(facility, "Last").is_empty());
        let found = rsyslog.messages(facility, "Odd");
        assert_eq!(found.len(), 3, "{facility}: {found:?}");
        assert!(rsyslog.messages(facility, "Evil").is_empty());
        assert!(found[0][6].contains("value=\"x\\\\n<0>1 "), "{}", found[0][6]);
        assert!(found[1][6].contains("value=\"a\\\"b\\\\c\\]d [evil@1 x=\\\"y\\\"\\]"), "{}", found[1][6]);
        assert!(found[2][6].contains("cut=\"true\""), "{}", &found[2][6][..200]);
    }
    let text = fs::read_to_string(&rsyslog.received).expect("readable");
    assert!(text.lines().all(|line| !line.starts_with("kern")), "nothing came as priority 0");
}

#[test]
fn what_rsyslog_could_not_take_while_it_was_down_arrives_when_it_is_back() {
    let site = Site::new(EACH);
    let rsyslog = Rsyslog::start(&site, 0);
    let port = rsyslog.tcp_port;
    site.configure(&format!(
        "
receivers: [{{name: log, actions: [{{event_log: {{to: syslog, address: 'tcp://127.0.0.1:{port}', facility: local2}}}}]}}]
route: {{receiver: log, notify: each}}
"
    ));
    let server = site.start();
    let post = |n: usize| server.post(&alert("Down", &n.to_string())).is(200);
    (0..5).for_each(|n| drop(post(n)));
    until_true("the first arrive", || rsyslog.messages("local2", "Down").len() == 5);
    drop(rsyslog);
    (5..30).for_each(|n| drop(post(n)));
    until_true("attempts fail", || {
        server.metric("ams2_attempts_total{action=\"log/event_log/0\",outcome=\"transient\"}") > Some(0)
    });
    let waits = server.get("/api/v1/deliveries?state=pending").text();
    assert!(waits.contains("Connection refused"), "{waits}");
    let rsyslog = Rsyslog::start(&site, port);
    // That many deliveries failed together is no reason to wait for minutes: the deadline is one.
    until_true("the rest arrives", || {
        let found = rsyslog.messages("local2", "Down");
        (0..30).all(|n| found.iter().any(|fields| fields[6].contains(&format!(" n=\"{n}\""))))
    });
    server.until_quiet();
    assert_eq!(server.get("/api/v1/deliveries?state=dead").json(), serde_json::json!([]));
}
