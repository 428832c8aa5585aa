//! The `syslog` source, sent to by what others wrote: `logger`; and by bytes that nobody should send.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
};

use serde_json::Value;

use super::harness::*;

/// A receiver that writes every occurrence as a line of JSON.
pub const AS_JSON: &str = "
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log, format: json}}]}]
route: {receiver: log, notify: each}
";

/// A site that listens for syslog as `keys` say.
pub fn listening(keys: &str) -> Site {
    Site::new(&format!("originator: {{syslog: {{{keys}}}}}{AS_JSON}"))
}

pub const BOTH: &str = "udp: '127.0.0.1:0', tcp: '127.0.0.1:0'";

/// What was told of messages, in order: alerts of ours are left out.
pub fn told(site: &Site) -> Vec<Value> {
    let events = site.events();
    let whole = &events[..events.rfind('\n').map_or(0, |end| end + 1)];
    let alerts = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    alerts.filter(|alert| alert["labels"]["source"] != "ams2").collect()
}

/// Waits until so many messages were told.
#[track_caller]
pub fn until_told(site: &Site, count: usize) -> Vec<Value> {
    until(&format!("{count} messages are told"), || {
        let told = told(site);
        assert!(told.len() <= count, "too many: {told:?}");
        (told.len() == count).then_some(told)
    })
}

pub fn summaries(told: &[Value]) -> Vec<&str> {
    told.iter().map(|alert| alert["annotations"]["summary"].as_str().expect("text")).collect()
}

fn logger(to: SocketAddr, arguments: &[&str]) {
    let mut command = Command::new("logger");
    clean(&mut command);
    command.args(["--server", &to.ip().to_string(), "--port", &to.port().to_string()]).args(arguments);
    run(&mut command).ends(0);
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.syslog("tcp")).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("settable");
    stream
}

fn send(server: &Server, bytes: &[u8]) {
    connect(server).write_all(bytes).expect("sent");
}

/// Whether the server closes a connection within the deadline.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn what_logger_sends_in_each_of_its_ways_is_an_alert() {
    let site = listening(BOTH);
    let server = site.start();
    let (udp, tcp) = (server.syslog("udp"), server.syslog("tcp"));
    let common = ["--tag", "backup", "--id=17", "--priority", "local3.err"];
    let ways: [(&str, SocketAddr, &[&str]); 6] = [
        ("udp-3164", udp, &["--udp", "--rfc3164"]),
        (
            "udp-5424",
            udp,
            &["--udp", "--rfc5424", "--msgid", "ID47", "--sd-id", "zoo@123", "--sd-param", "a=\"b\""],
        ),
        ("tcp-3164", tcp, &["--tcp", "--rfc3164"]),
        ("tcp-5424", tcp, &["--tcp", "--rfc5424"]),
        ("tcp-3164-counted", tcp, &["--tcp", "--rfc3164", "--octet-count"]),
        ("tcp-5424-counted", tcp, &["--tcp", "--rfc5424", "--octet-count"]),
    ];
    for (number, (text, to, arguments)) in ways.iter().enumerate() {
        logger(*to, &[&common[..], arguments, &[text]].concat());
        // One after the other, so that they are told in order.
        until_told(&site, number + 1);
    }
    let told = told(&site);
    assert_eq!(summaries(&told), ways.map(|(text, ..)| text));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let host = host.trim().split('.').next().expect("a name");
    for alert in &told {
        let labels = &alert["labels"];
        assert!(labels["computer"].as_str().is_some_and(|name| name.starts_with(host)), "{labels}");
        for (name, value) in [("event", "backup"), ("facility", "local3"), ("severity", "minor")] {
            assert_eq!(labels[name], value, "{alert}");
        }
        assert_eq!(labels.as_object().map(serde_json::Map::len), Some(4), "{labels}");
        assert_eq!(
            (&alert["annotations"]["process"], &alert["annotations"]["peer"]),
            (&"17".into(), &"127.0.0.1".into())
        );
        assert!(
            alert["annotations"]["sent_at"].is_string() && alert["annotations"]["raw"].is_null(),
            "{alert}"
        );
    }
    assert_eq!(told[1]["annotations"]["message_id"], "ID47");
    assert_eq!(server.metric("ams2_syslog_messages_total{transport=\"udp\"}"), Some(2));
    assert_eq!(server.metric("ams2_syslog_messages_total{transport=\"tcp\"}"), Some(4));
    assert_eq!(server.metric("ams2_syslog_udp_drops_total"), Some(0));
}

/// It ends messages with a zero, and has nothing else between them.
#[test]
fn what_pythons_handler_sends_over_tcp_are_alerts() {
    const SCRIPT: &str = "
import logging, logging.handlers, socket, sys
handler = logging.handlers.SysLogHandler(('127.0.0.1', int(sys.argv[1])), socktype=socket.SOCK_STREAM)
handler.setFormatter(logging.Formatter('myapp: %(message)s'))
logging.getLogger().addHandler(handler)
for number in range(3): logging.error('message %d', number)
sys.stdin.read()
";
    let site = listening(BOTH);
    let server = site.start();
    let mut command = Command::new("python3");
    clean(&mut command);
    command
        .args(["-c", SCRIPT, &server.syslog("tcp").port().to_string()])
        .stdin(std::process::Stdio::piped());
    // While it is connected: each message is whole with its end, not with that of the connection.
    let _python = Ward(command.spawn().expect("it runs (Debian package python3)"));
    let told = until_told(&site, 3);
    assert_eq!(summaries(&told), ["message 0", "message 1", "message 2"]);
    assert!(told.iter().all(|alert| alert["labels"]["event"] == "myapp"), "{told:?}");
    assert!(told.iter().all(|alert| alert["annotations"]["unterminated"].is_null()), "{told:?}");
}

#[test]
fn each_message_is_an_occurrence_and_stays_one_over_a_restart() {
    let site = listening(BOTH);
    for round in 1..=3 {
        let server = site.start();
        send(&server, &b"<13>app: the same\n".repeat(10));
        let told = until_told(&site, round * 10);
        assert!(summaries(&told).iter().all(|text| *text == "the same"));
        assert!(server.terminate().success());
    }
}

#[test]
fn a_file_of_ten_thousand_lines_arrives_whole_and_in_order() {
    let site = listening(BOTH);
    let server = site.start();
    let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
    std::fs::write(site.path().join("lines"), &lines).expect("written");
    let path = site.path().join("lines");
    logger(server.syslog("tcp"), &["--tcp", "--octet-count", "--file", path.to_str().expect("UTF-8")]);
    let told = until_told(&site, 10_000);
    let expected: Vec<String> = lines.lines().map(str::to_owned).collect();
    assert_eq!(summaries(&told), expected);
}

/// Rows 48 to 62 of the bad inputs, over both transports where both have them; whatever comes, what is behind it is taken.
#[test]
fn what_cannot_be_read_is_kept_and_named_and_what_comes_behind_it_is_taken() {
    let site = listening(BOTH);
    let server = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let rows: [(&[u8], &str, &str); 9] = [
        (b"no priority", "pri", "no priority"),
        (b"<192>x", "pri", "<192>x"),
        (b"<013>x", "pri", "<013>x"),
        (b"<13>1 ", "timestamp", ""),
        (b"<13>99 x", "version", "99 x"),
        (b"<13>1 yesterday h a - - - x", "timestamp", "yesterday h a - - - x"),
        (b"<13>1 - h", "header", "h"),
        (b"<13>1 - h a - - [e x", "structured_data", "[e x"),
        (b"<13>M\xfcller", "", "M\u{fffd}ller"),
    ];
    let mut count = 0;
    for (raw, error, summary) in rows {
        for transport in ["udp", "tcp"] {
            if transport == "udp" {
                socket.send_to(raw, server.syslog("udp")).expect("sent");
            } else {
                send(&server, &[raw, b"\r\n"].concat());
            }
            count += 1;
            let told = until_told(&site, count);
            let alert = &told[count - 1];
            let shown = raw.escape_ascii().to_string();
            let found = alert["labels"]["parse_error"].as_str().unwrap_or_default();
            assert_eq!(
                (found, &alert["annotations"]["summary"]),
                (error, &summary.into()),
                "{shown} {transport}"
            );
            assert!(alert["annotations"]["raw"].is_string(), "{alert}");
        }
    }
    for blank in [&b""[..], b"\n", b"   ", b"\0\0"] {
        socket.send_to(blank, server.syslog("udp")).expect("sent");
    }
    socket.send_to(b"<13>behind", server.syslog("udp")).expect("sent");
    assert_eq!(until_told(&site, count + 1)[count]["annotations"]["summary"], "behind");
    assert_eq!(server.metric("ams2_syslog_dropped_total{reason=\"empty\"}"), Some(4));
    assert_eq!(server.metric("ams2_syslog_parse_errors_total{reason=\"pri\"}"), Some(6));
}

/// Rows 55, 57 to 61, 64.
#[test]
fn a_stream_keeps_its_frames_or_is_closed_and_what_came_before_is_kept() {
    let site = listening(&format!("{BOTH}, limits: {{message_bytes: 480B}}"));
    let server = site.start();
    let long = "é".repeat(600);
    let mut stream = connect(&server);
    // Both framings on one connection, a message that is cut, and one with a line feed in it.
    let counted = format!("{} <13>a: {long}", 7 + long.len());
    let whole = format!("<13>a: 1\n{counted}<13>a: {long}\r\n16 <13>a: 4\n<0>fire<13>a: 5\0\n");
    stream.write_all(whole.as_bytes()).expect("sent");
    let told_all = until_told(&site, 5);
    let found = summaries(&told_all);
    assert_eq!((found[0], found[3], found[4]), ("1", r"4\n<0>fire", "5"), "{found:?}");
    for cut in [1, 2] {
        let annotations = &told_all[cut]["annotations"];
        assert_eq!(annotations["truncated"], "true", "{annotations}");
        assert_eq!(annotations["raw"].as_str().map(str::len), Some(479), "{annotations}");
    }
    // No length: what came before is kept, the rest is not taken, and the connection is closed.
    for (number, lost) in ["0 ", "00012 <13>x", "99999999999 <13>x", "12a", "-5 <13>x"].iter().enumerate() {
        let mut stream = connect(&server);
        stream.write_all(format!("12 <13>before {number}{lost}").as_bytes()).expect("sent");
        assert!(is_closed(&mut stream), "{lost}");
        assert_eq!(summaries(&until_told(&site, 6 + number))[5 + number], format!("before {number}"));
    }
    assert_eq!(server.metric("ams2_syslog_refused_total{reason=\"framing\"}"), Some(5));
    // No end.
    send(&server, b"<13>a: no end");
    let told_all = until_told(&site, 11);
    assert_eq!(told_all[10]["annotations"]["unterminated"], "true", "{}", told_all[10]);
    send(&server, b"<13>a: whole\n100 <13>half");
    assert_eq!(summaries(&until_told(&site, 12))[11], "whole");
    until_true("the half is counted", || {
        server.metric("ams2_syslog_dropped_total{reason=\"half\"}") == Some(1)
    });
    // Other protocols. The log says so once, since it is one address and one reason.
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = connect(&server);
        stream.write_all(bytes).expect("sent");
        assert!(is_closed(&mut stream), "{}", bytes.escape_ascii());
    }
    assert_eq!(server.metric("ams2_syslog_refused_total{reason=\"protocol\"}"), Some(2));
    assert!(site.log().contains("this port speaks syslog, and the peer HTTP"), "{}", site.log());
    assert_eq!(site.log().matches("and the peer").count(), 1, "{}", site.log());
    assert_eq!(told(&site).len(), 12);
}

/// Rows 63 and 64: who says nothing, who does not come to an end, who resets, and too many of them.
#[test]
fn connections_are_bounded_and_those_that_do_not_go_on_are_closed() {
    let limits =
        "message_time: 300ms, idle_time: 600ms, connections_per_address: 5, connects_per_second: 1000";
    let site = listening(&format!("{BOTH}, limits: {{{limits}}}"));
    let server = site.start();
    let mut silent = connect(&server);
    let mut slow = connect(&server);
    slow.write_all(b"<13>a: whole\n<13>a: beg").expect("sent");
    assert!(is_closed(&mut slow) && is_closed(&mut silent));
    until_true("both are counted", || server.metric("ams2_syslog_refused_total{reason=\"idle\"}") == Some(2));
    let open = || server.metric("ams2_syslog_connections");
    until_true("they are gone", || open() == Some(0));
    let _here: Vec<TcpStream> = (0..5).map(|_| connect(&server)).collect();
    until_true("they are here", || open() == Some(5));
    assert!(is_closed(&mut connect(&server)), "the sixth");
    assert_eq!(server.metric("ams2_syslog_refused_total{reason=\"connections\"}"), Some(1));
    until_true("they are gone, too", || open() == Some(0));
    // A reset: with bytes unread a close is one.
    let reset = connect(&server);
    rustix::net::sockopt::set_socket_linger(&reset, Some(std::time::Duration::ZERO)).expect("settable");
    (&reset).write_all(b"<13>a: before\n<13>a: hal").expect("sent");
    // What has no end is kept, and marked.
    assert_eq!(summaries(&until_told(&site, 3)), ["whole", "beg", "before"]);
    drop(reset);
    until_true("it is counted", || server.metric("ams2_syslog_refused_total{reason=\"reset\"}") == Some(1));
    let all = until_told(&site, 4);
    assert_eq!((summaries(&all)[3], &all[3]["annotations"]["unterminated"]), ("hal", &"true".into()));
}

#[test]
fn who_may_send_what_is_the_configs_to_say() {
    let client = |addresses: &str| {
        format!("clients: [{{name: here, addresses: [{addresses}], allow: ['facility = \"local7\"']}}]")
    };
    let site = listening(&format!("{BOTH}, {}", client("127.0.0.0/8, '::1'")));
    let server = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let send_udp = |text: &str| {
        socket.send_to(text.as_bytes(), server.syslog("udp")).expect("sent");
    };
    send_udp("<13>not allowed");
    send(&server, b"<13>neither\n<191>allowed\n");
    assert_eq!(summaries(&until_told(&site, 1)), ["allowed"]);
    let denied = |server: &Server| server.metric("ams2_syslog_dropped_total{reason=\"denied\"}");
    until_true("both are counted", || denied(&server) == Some(2));
    until_true("it is raised", || {
        site.events().contains("Access Denied")
            && site.events().contains("the client `here` may only send alerts with facility")
    });
    // Another network's alone: a reload is in force for what comes then, also on connections that are open.
    let mut open = connect(&server);
    open.write_all(b"<191>still\n").expect("sent");
    until_told(&site, 2);
    site.configure(&format!("originator: {{syslog: {{{BOTH}, {}}}}}{AS_JSON}", client("192.0.2.0/24")));
    site.client(&["reload"]).ends(0);
    open.write_all(b"<191>no more\n").expect("sent");
    assert!(is_closed(&mut open) && is_closed(&mut connect(&server)));
    send_udp("<191>nor so");
    until_true("it is counted", || denied(&server) == Some(3));
    assert_eq!(server.metric("ams2_syslog_refused_total{reason=\"denied\"}"), Some(2));
    assert_eq!(told(&site).len(), 2);
    // Another address needs a restart, and changes nothing until then.
    site.configure(&format!("originator: {{syslog: {{tcp: '127.0.0.1:0'}}}}{AS_JSON}"));
    site.client(&["reload"]).ends(0).says("originator.syslog takes effect at the next start");
    assert!(is_closed(&mut connect(&server)));
}

#[test]
fn a_listener_that_others_reach_says_insecure_and_where_from() {
    for (keys, words) in [
        ("udp: '0.0.0.0:0'", "and a datagram does not say who sent it"),
        ("tcp: '[::]:0'", "[::]:0 can be reached from outside, without TLS"),
        ("limits: {}", "there is nothing to listen on"),
        ("tcp: '127.0.0.1:0', clients: [{name: a}]", "nothing says how to know the client `a`"),
        (
            "tcp: '127.0.0.1:0', clients: [{name: a, addresses: [192.0.2.1/24]}]",
            "`192.0.2.1/24` is no address or network",
        ),
        (
            "tcp: '127.0.0.1:0', clients: [{name: ams2, addresses: [192.0.2.1]}]",
            "a client may not be called `ams2`",
        ),
        (
            "tcp: '127.0.0.1:0', clients: [{name: a, certificates: [a b]}]",
            "`a b` is no certificate's name or fingerprint",
        ),
        (
            "tcp: '127.0.0.1:0', clients: [{name: a, certificates: [a.example.com]}]",
            "nothing listens for the certificate of the client `a`",
        ),
        ("tcp: '127.0.0.1:0', limits: {message_bytes: 1MiB}", "message_bytes: 1048576 bytes"),
        ("tls: {listen: '127.0.0.1:0'}", "`cert_file` is missing"),
        ("tcp: '127.0.0.1:0', mapping: [{does: refuse}]", "a sender of syslog hears no answer"),
    ] {
        listening(keys).refused().ends(2).says(words);
    }
    let site = listening("udp: '0.0.0.0:0', tcp: '[::]:0', insecure: true");
    let server = site.start();
    assert!(site.log().contains("everybody who reaches 0.0.0.0:0 may send alerts"), "{}", site.log());
    // What no certificate vouches for says so.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.send_to(b"<13>udp", ("127.0.0.1", server.syslog("udp").port())).expect("sent");
    until_told(&site, 1);
    let to = ("127.0.0.1", server.syslog("tcp").port());
    TcpStream::connect(to).and_then(|mut stream| stream.write_all(b"<13>tcp\n")).expect("sent");
    for alert in until_told(&site, 2) {
        let labels = &alert["labels"];
        assert_eq!((&labels["authenticated"], &labels["computer"]), (&"false".into(), &"127.0.0.1".into()));
    }
}

/// Row 68: what we tell as syslog comes back to us, again and again.
#[test]
fn a_loop_ends() {
    // The port must be known before.
    let port = closed_address().port();
    let site = Site::new(&format!(
        "
originator: {{syslog: {{tcp: '127.0.0.1:{port}'}}}}
receivers:
  - name: log
    actions:
      - event_log: {{to: file, path: events.log}}
      - event_log: {{to: syslog, address: 'tcp://127.0.0.1:{port}', protocol: rfc5424}}
  - {{name: quiet, actions: [{{event_log: {{to: file, path: own.log}}}}]}}
route: {{receiver: log, notify: each, routes: [{{matchers: ['source = \"ams2\"'], receiver: quiet}}]}}
"
    ));
    let server = site.start();
    server.post(&alert("Loop", "1")).is(200);
    until_true("it is cut", || server.metric("ams2_syslog_dropped_total{reason=\"loop\"}") == Some(1));
    until_true("it is said", || site.log().contains("came back for the 16th time"));
    server.until_quiet();
    assert_eq!(site.events().lines().count(), 17, "{}", site.events());
}

/// Rows 55 and 56: as large as a datagram can be, and larger than a message may be.
#[test]
fn a_datagram_is_taken_whole_or_cut_and_marked() {
    let site = listening(BOTH);
    let mut server = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let text = "é".repeat((65_507 - 7) / 2);
    let send = |server: &Server| socket.send_to(format!("<13>a: {text}").as_bytes(), server.syslog("udp"));
    send(&server).expect("sent");
    let whole = until_told(&site, 1).remove(0);
    assert!(whole["annotations"]["truncated"].is_null() && whole["annotations"]["raw"].is_null());
    let shown = whole["annotations"]["summary"].as_str().expect("text");
    assert!(shown.len() > 40_000 && text.starts_with(shown.trim_end_matches('…')), "{}", shown.len());
    assert!(server.terminate().success());
    site.configure(&format!("originator: {{syslog: {{{BOTH}, limits: {{message_bytes: 1KiB}}}}}}{AS_JSON}"));
    server = site.start();
    send(&server).expect("sent");
    let cut = until_told(&site, 2).remove(1);
    assert_eq!(cut["annotations"]["truncated"], "true", "{cut}");
    assert_eq!(cut["annotations"]["raw"].as_str().map(str::len), Some(1023));
    assert_eq!(server.metric("ams2_syslog_truncated_total"), Some(1));
}

/// The rules of docs/syslog.md.
#[test]
fn rules_say_which_alert_a_message_is_and_what_none_takes_is_one_all_the_same() {
    let page = include_str!("../../docs/syslog.md");
    let (_, rules) = page.split_once("```mapping\n").expect("the page has rules");
    let (rules, _) = rules.split_once("```").expect("they end");
    let site = Site::new(&format!("originator:\n  syslog:\n    tcp: '127.0.0.1:0'\n{rules}{AS_JSON}"));
    let server = site.start();
    let say = |text: &str| send(&server, format!("{text}\n").as_bytes());
    // A login: its user and where from are labels.
    say("<84>Dec  1 10:00:00 web sshd[17]: Failed password for root from 192.0.2.7 port 4711 ssh2");
    let login = until_told(&site, 1).remove(0);
    let labels = serde_json::json!({
        "event": "Login Failed", "computer": "web", "user": "root", "from": "192.0.2.7", "severity": "warning",
    });
    assert_eq!(login["labels"], labels, "{login}");
    // A link goes down and comes up: one alert, which ends.
    say("<187>29: sw-1: *Mar  1 18:46:11.103: %LINK-3-UPDOWN: Interface Gi0/1, changed state to down");
    let down = until_told(&site, 2).remove(1);
    assert_eq!(
        (&down["state"], &down["labels"]["event"], &down["labels"]["interface"]),
        (&"firing".into(), &"Link Down".into(), &"Gi0/1".into()),
        "{down}"
    );
    say("<189>30: sw-1: *Mar  1 18:47:11.103: %LINK-5-UPDOWN: Interface Gi0/1, changed state to up");
    let up = until_told(&site, 3).remove(2);
    assert_eq!((&up["state"], &up["labels"]), (&"resolved".into(), &down["labels"]), "{up}");
    // Of no interest.
    say("<15>app: debugging");
    until_true("it is counted", || server.metric("ams2_syslog_dropped_total{reason=\"rule\"}") == Some(1));
    // An alarm of RFC 5674 says itself how bad it is, and when it is over.
    for (severity, state) in [("major", "firing"), ("cleared", "resolved")] {
        say(&format!(
            "<27>1 - rack-7 bms - - [alarm resource=\"pump 2\" probableCause=\"pumpFailure\" perceivedSeverity=\"{severity}\"] x"
        ));
        let count = if severity == "major" { 4 } else { 5 };
        let alarm = until_told(&site, count).remove(count - 1);
        assert_eq!(
            (&alarm["state"], &alarm["labels"]["resource"], &alarm["labels"]["severity"]),
            (&state.into(), &"pump 2".into(), &"major".into()),
            "{alarm}"
        );
    }
    // What no rule takes; and what cannot be read and a rule takes is kept raw.
    say("<13>app: anything");
    assert_eq!(until_told(&site, 6)[5]["labels"]["event"], "app");
    say("sshd Failed password for x from y");
    let raw = until_told(&site, 7).remove(6);
    assert_eq!(
        (&raw["annotations"]["raw"], &raw["labels"]["parse_error"]),
        (&"sshd Failed password for x from y".into(), &"pri".into()),
        "{raw}"
    );
}

#[test]
fn a_rule_cannot_say_who_vouches_for_a_sender_nor_lose_what_was_not_read() {
    let mapping = "mapping: [{labels: {event: Any}, labels_from: [sd.labels]}]";
    let site = listening(&format!(
        "udp: '0.0.0.0:0', insecure: true, {mapping}, clients: [{{name: a, addresses: [0.0.0.0/0], allow: ['authenticated != \"true\"']}}]"
    ));
    let server = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let to = ("127.0.0.1", server.syslog("udp").port());
    let say = |text: &[u8]| socket.send_to(text, to).expect("sent");
    say(b"<13>1 - h a - - [labels authenticated=\"true\" site=\"boston\" source=\"ams2\"][ams2@32473 hops=\"7\"] x");
    let alert = until_told(&site, 1).remove(0);
    assert_eq!(
        alert["labels"],
        serde_json::json!({ "authenticated": "false", "event": "Any", "site": "boston" }),
        "{alert}"
    );
    assert_eq!(alert["annotations"]["hops"], "7");
    say(b"not read \xff");
    let alert = until_told(&site, 2).remove(1);
    assert_eq!(
        (&alert["labels"]["event"], &alert["annotations"]["raw"]),
        (&"Any".into(), &r"not read \xff".into()),
        "{alert}"
    );
}
