//! What one client cannot do to the others, or to whoever reads the log: shares of memory, paces, half-closed connections,
//! orders to stop, and words that try to be lines of their own.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use rustix::process::Signal;

use super::harness::*;

/// Two clients, and room for four bodies.
fn two_clients() -> (Site, Server) {
    let site = Site::new(&format!(
        "
originator:
  http: {{limits: {{body_bytes: 1MiB, bytes_in_flight: 4MiB, body_time: 60s}}}}
  clients:
    - {{name: greedy, token_file: greedy, may: [send, operate]}}
    - {{name: modest, token_file: modest, may: [send, operate]}}
{EACH}"
    ));
    site.secret("greedy", "a-token-of-the-greedy");
    site.secret("modest", "a-token-of-the-modest");
    let server = site.start();
    (site, server)
}

fn post_as(server: &Server, name: &str, path: &str, body: &[u8]) -> Answer {
    let token = format!("Bearer a-token-of-the-{name}");
    server.connect().call("POST", path, &[("Authorization", &token)], body).expect("an answer")
}

/// A request of which the last byte does not come.
fn stalled(server: &Server, path: &str, bytes: usize) -> Connection {
    let mut connection = server.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-of-the-greedy\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
    );
    connection.stream.write_all(head.as_bytes()).expect("sent");
    connection.stream.write_all(&vec![b' '; bytes - 1]).expect("sent");
    connection
}

#[test]
fn one_client_that_stalls_leaves_room_for_the_others() {
    for path in ["/api/v1/alerts", "/api/v1/silences"] {
        let (_site, server) = two_clients();
        // Half of all: its share, where a body may be a quarter.
        let held: Vec<Connection> = (0..2).map(|_| stalled(&server, path, 1 << 20)).collect();
        // Before that, who is refused is a matter of who comes first.
        let all = 2 * ((1 << 20) - 1);
        let read = &[("Authorization", "Bearer a-token-of-the-modest")];
        until_true("all of it came", || {
            let shown = server.connect().call("GET", "/metrics", read, b"").expect("an answer").text();
            shown.contains(&format!("ams2_http_bytes_in_flight {all}\n"))
        });
        let large = format!("{}{}", alert("A", "1"), " ".repeat(300_000));
        let refused = post_as(&server, "greedy", "/api/v1/alerts", large.as_bytes()).problem(503);
        assert!(refused.header("retry-after").is_some());
        let as_there = post_as(&server, "greedy", "/api/v2/silences", large.as_bytes()).is(503);
        assert!(as_there.header("retry-after").is_some() && as_there.json()["code"] == 503);
        let as_there = post_as(&server, "greedy", "/api/v2/alerts", large.as_bytes()).is(503);
        assert!(as_there.header("retry-after").is_some() && as_there.json()["code"] == 503);
        post_as(&server, "modest", "/api/v1/alerts", large.as_bytes()).is(200);
        // They stop coming, and are told so before `body_time`.
        for mut connection in held {
            let said = connection.answer().expect("an answer").problem(408).text();
            assert!(said.contains("of a large body came within 5s"), "{said}");
        }
        post_as(&server, "greedy", "/api/v1/alerts", large.as_bytes()).is(200);
    }
}

#[test]
fn an_order_that_is_too_large_is_told_the_limit() {
    let site = Site::new(EACH);
    let server = site.start();
    let large = " ".repeat((2 << 20) + 1);
    let said = server.call("POST", "/api/v1/silences", &large).problem(413).text();
    assert!(said.contains("the body is over 2097152 bytes"), "{said}");
    let v2 = server.call("POST", "/api/v2/silences", &large).is(413).json();
    assert_eq!((&v2["code"], v2["message"].as_str().is_some()), (&413.into(), true));
}

#[test]
fn who_closes_its_side_after_the_request_is_answered() {
    let site = Site::new(EACH);
    let server = site.start();
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("set");
    let body = alert("Half", "half");
    let length = body.len();
    write!(
        stream,
        "POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .and_then(|()| stream.shutdown(Shutdown::Write))
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    site.until_told(&["half"]);
}

#[test]
fn a_host_of_bytes_that_no_name_has_is_refused() {
    let site = Site::new(EACH);
    let server = site.start();
    let request = b"GET /api/v1/alerts HTTP/1.1\r\nHost: \xe4vil.example\r\n\r\n";
    server.connect().raw(request).expect("an answer").problem(400);
}

#[test]
fn what_is_refused_is_counted_wherever_it_is_refused() {
    let site = Site::new(EACH);
    let server = site.start();
    let refused = |code: u16| {
        let reason = if code == 421 { "denied" } else { "invalid" };
        let metric = format!("ams2_http_refused_total{{reason=\"{reason}\",code=\"{code}\"}}");
        server.metric(&metric).expect("it is there")
    };
    let all = [400, 404, 405, 413, 415, 421, 422, 431].map(|code| (code, refused(code)));
    assert_eq!(all.map(|(_, count)| count), [0; 8]);
    server.get("/api/v1/nothing").problem(404);
    server.call("POST", "/api/v1/silences", "{").problem(400);
    server.call("PUT", "/api/v1/silences", "{}").problem(405);
    server.call("POST", "/api/v1/silences", &" ".repeat((2 << 20) + 1)).problem(413);
    server.call("POST", "/api/v1/silences", "{\"matchers\": 7}").problem(422);
    let called = |headers: &[(&str, &str)]| {
        server.connect().call("POST", "/api/v1/alerts", headers, b"{}").expect("an answer")
    };
    called(&[("Content-Encoding", "br")]).problem(415);
    let elsewhere = b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n";
    server.connect().raw(elsewhere).expect("an answer").problem(421);
    // The HTTP library answers these.
    server.connect().raw(b"nonsense\r\n\r\n").expect("an answer").is(400);
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
    server.connect().raw(large.as_bytes()).expect("an answer").is(431);
    until_true("they are counted", || {
        all.iter().all(|(code, _)| refused(*code) == 1 + u64::from(*code == 400))
    });
}

#[test]
fn whose_alerts_are_refused_is_in_the_log_and_not_each_time() {
    let (site, server) = two_clients();
    for _ in 0..3 {
        post_as(&server, "greedy", "/api/v1/alerts", b"[{\"labels\": {\"a\": 7}}]").problem(400);
        post_as(&server, "modest", "/api/v2/alerts", b"[{\"labels\": {}}, {\"labels\": {\"a\": \"b\"}}]")
            .is(400);
    }
    let lines = |words: &[&str]| {
        let log = site.log();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    for words in [
        ["alerts were refused", "from=greedy", "status=400", "alert 0/labels/a: expected a string"],
        ["alerts were refused", "from=modest", "status=400", "1 of the alerts are wrong: alert 0/labels"],
    ] {
        until_true(words[1], || lines(&words) == 1);
        assert_eq!(lines(&words[..2]), 1, "{}", site.log());
    }
}

/// Words of the sender's, a megabyte of them, are neither in the log nor in the answer.
#[test]
fn a_refusal_is_short_whatever_was_sent() {
    let (site, server) = two_clients();
    let long = "a\u{200b}".repeat(250_000);
    let body = format!("[{{\"labels\": {{\"a\": \"b\"}}, \"{long}\": 1}}]");
    let answer = post_as(&server, "greedy", "/api/v1/alerts", body.as_bytes()).problem(400);
    assert!(answer.body.len() < 2_000, "{} bytes", answer.body.len());
    let body = format!("[\"{long}\"]");
    post_as(&server, "modest", "/api/v2/alerts", body.as_bytes());
    for from in ["from=greedy", "from=modest"] {
        let line = until(from, || {
            let log = site.log();
            log.lines().find(|line| line.contains("were refused") && line.contains(from)).map(str::to_owned)
        });
        assert!(line.len() < 2_000, "{} bytes", line.len());
    }
}

#[test]
fn words_of_a_request_are_no_line_of_the_log() {
    let site = Site::new(EACH);
    let server = site.start();
    let order = serde_json::json!({ "action": "log/event_log/0\nforged line\u{1b}[31m" }).to_string();
    server.call("POST", "/api/v1/actions/test", &order).problem(404);
    let order = r#"{"action": "log/event_log/0"}"#;
    server.call("POST", "/api/v1/actions/test", order).is(200);
    until_true("what is there is logged", || site.log().contains("a test was sent"));
    assert!(!site.log().contains("forged line"), "{}", site.log());
}

#[test]
fn who_asks_twice_to_stop_is_obeyed_at_once() {
    let site = Site::new(
        "
receivers: [{name: slow, actions: [{program: {command: [/bin/sleep, '1000'], timeout: 1h}}]}]
route: {receiver: slow, notify: each}
",
    );
    let server = site.start();
    server.post(&alert("Slow", "1")).is(200);
    until_true("it runs", || server.get("/api/v1/actions").json()[0]["in_flight"].as_u64() > Some(0));
    // A connection that goes on holds up the first part of an orderly end.
    let _stalled = stalled(&server, "/api/v1/alerts", 1 << 10);
    server.signal(Signal::TERM);
    until_true("the end has begun", || TcpStream::connect(server.address()).is_err());
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(site.log().contains("asked twice to stop"), "{}", site.log());
}

#[test]
fn what_makes_the_answer_a_weaker_promise_is_said() {
    let site = Site::new(EACH);
    let mut command = site.serve();
    command.arg("--unsafe-no-sync").env("AMS2_LOG", "ams2=loud");
    let server = site.start_as(command);
    assert_eq!(server.metric("ams2_journal_unsafe_no_sync"), Some(1));
    let log = site.log();
    for words in ["AMS2_LOG is no filter", "--unsafe-no-sync: what is accepted is lost if the machine fails"]
    {
        assert!(log.contains(words), "{words:?} is not in\n{log}");
    }
    server.kill();
    let server = site.start();
    assert_eq!(server.metric("ams2_journal_unsafe_no_sync"), Some(0));
}

#[test]
fn a_silence_names_its_author_and_who_was_let_in() {
    let (_site, server) = two_clients();
    let silence = serde_json::json!({
        "matchers": [{"name": "event", "value": "A", "isRegex": false, "isEqual": true}],
        "startsAt": "2026-11-24T02:10:00Z", "endsAt": "2126-11-24T02:10:00Z",
        "createdBy": "alice", "comment": "why",
    });
    post_as(&server, "modest", "/api/v2/silences", silence.to_string().as_bytes()).is(200);
    let get = |path: &str| {
        let token = [("Authorization", "Bearer a-token-of-the-modest")];
        server.connect().call("GET", path, &token, b"").expect("an answer").is(200).json()
    };
    let listed = get("/api/v1/silences");
    assert_eq!((&listed[0]["by"], &listed[0]["client"]), (&"alice".into(), &"modest".into()));
    assert_eq!(get("/api/v2/silences")[0]["createdBy"], "alice");
    let decisions = get("/api/v1/decisions?limit=1000");
    let made = decisions.as_array().expect("a list").iter().find(|row| row["decision"] == "silence_created");
    assert_eq!(made.expect("it is there")["reason"], "by alice (by modest)");
}

/// Control characters are six times as long in JSON as they are here: a few hundred such alerts are more than the share.
#[test]
fn alerts_of_any_size_are_listed() {
    const ALERTS: usize = 200;
    let limits = "originator: {http: {limits: {body_bytes: 1MiB, bytes_in_flight: 8MiB}}}";
    let site = Site::new(&format!("{limits}{}", EACH.replace("notify: each", "group_by: [event]")));
    let server = site.start();
    let large = "\\u0001".repeat(60_000);
    for first in (0..ALERTS).step_by(2) {
        let alert = |n: usize| serde_json::json!({ "labels": { "event": "Large", "n": n.to_string() }, "annotations": { "text": "@" } });
        let alerts = serde_json::json!([alert(first), alert(first + 1)]).to_string().replace('@', &large);
        server.call("POST", "/api/v2/alerts", &alerts).is(200);
    }
    for path in ["/api/v2/alerts", "/api/v2/alerts/groups", "/api/v1/alerts"] {
        until_true(path, || {
            let listed = server.get(path).is(200).json();
            let rows = listed.as_array().expect("a list");
            // Our own stand beside them.
            let large = |row: &&serde_json::Value| row["labels"]["event"] == "Large";
            let found = match path.ends_with("groups") {
                true => rows.iter().find(large).and_then(|group| group["alerts"].as_array()).map(Vec::len),
                false => Some(rows.iter().filter(large).count()),
            };
            found == Some(ALERTS)
        });
    }
}

/// A client's share is a quarter of it: less than a piece of an answer has elsewhere.
#[test]
fn the_smallest_room_that_a_config_may_give_is_enough_for_any_list() {
    const ROWS: usize = 40;
    let limits = "originator: {http: {limits: {body_bytes: 64KiB, bytes_in_flight: 1MiB}}}";
    let site = Site::new(&format!("{limits}{EACH}"));
    let server = site.start();
    let long = "long ".repeat(7_000);
    for n in 0..ROWS {
        let alert = serde_json::json!({ "labels": { "event": "Long", "n": n.to_string() }, "annotations": { "text": long } });
        server.post(&alert.to_string()).is(200);
        let silence =
            serde_json::json!({ "matchers": [format!("n=\"none {n}\"")], "seconds": 3600, "comment": long });
        server.call("POST", "/api/v1/silences", &silence.to_string()).is(200);
    }
    for path in
        ["/api/v1/alerts", "/api/v2/alerts", "/api/v2/alerts/groups", "/api/v1/silences", "/api/v2/silences"]
    {
        until_true(path, || {
            let listed = server.get(path).is(200).text();
            let rows: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("a list");
            rows.len() >= ROWS && listed.matches(&long).count() == ROWS
        });
    }
}
