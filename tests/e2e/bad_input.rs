//! What a client can send wrong, over HTTP: each row gets its answer, and a good alert before and after each is
//! accepted and told.

use std::io::Write;

use super::harness::*;

/// Limits that rows can go over cheaply.
const CONFIG: &str = "
originator:
  http: {limits: {body_bytes: 1MiB, header_time: 1s, body_time: 1s}}
journal: {dir: unused, segment_bytes: 4MiB, free_bytes_min: 1MiB}
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
";
const BODY_BYTES_MAX: usize = 1 << 20;

/// What a row must be answered.
enum Want {
    /// Accepted: so many alerts.
    Accepted(u64),
    /// One is accepted, and nothing more is read from the connection.
    AcceptedAndClosed,
    /// A problem+json with this status, whose text holds these words.
    Problem(u16, &'static [&'static str]),
    /// Refused by the HTTP library, which has no words for it; the connection is closed.
    Refused(&'static [u16]),
    /// Closed without an answer.
    Closed,
}
use Want::{Accepted, AcceptedAndClosed, Closed, Problem, Refused};

struct Row {
    name: &'static str,
    request: Vec<u8>,
    want: Want,
}

fn row(name: &'static str, body: impl AsRef<[u8]>, want: Want) -> Row {
    with(name, "", body, want)
}

/// A row with more header lines.
fn with(name: &'static str, headers: &str, body: impl AsRef<[u8]>, want: Want) -> Row {
    let body = body.as_ref();
    let head = format!(
        "POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    Row { name, request: [head.as_bytes(), body].concat(), want }
}

/// A row that is not a POST of alerts.
fn raw(name: &'static str, request: impl Into<Vec<u8>>, want: Want) -> Row {
    Row { name, request: request.into(), want }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("it compresses")
}

/// An alert whose `labels` are this JSON text.
fn labels(text: &str) -> String {
    format!("{{\"labels\":{text}}}")
}

fn many(count: usize) -> String {
    let pairs: Vec<String> = (0..count).map(|n| format!("\"l{n}\":\"x\"")).collect();
    labels(&format!("{{{}}}", pairs.join(",")))
}

/// An alert with more fields.
fn field(text: &str) -> String {
    format!("{{\"labels\":{{\"event\":\"Row\"}},{text}}}")
}

const GOOD: &str = "{\"labels\":{\"event\":\"Row\"}}";

fn json_rows() -> Vec<Row> {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    vec![
        row("empty body", "", Problem(400, &["expected an alert"])),
        row("only spaces", " \n ", Problem(400, &["expected an alert"])),
        row("not JSON", "xx", Problem(400, &["expected an alert"])),
        row("cut off", "{\"labels\":{\"event\":\"Ro", Problem(400, &["not valid JSON", "line 1 column"])),
        row("text after it", format!("{GOOD} x"), Problem(400, &["not valid JSON"])),
        row("a number", "5", Problem(400, &["expected an alert"])),
        row("null", "null", Problem(400, &["expected an alert"])),
        row("an array of numbers", "[1]", Problem(400, &["expected an alert: an object with `labels`"])),
        row("no alerts at all", "[]", Accepted(0)),
        row(
            "an alert without fields",
            "[{}]",
            Problem(400, &["\"index\":0", "/labels", "give at least one"]),
        ),
        row("no labels", labels("{}"), Problem(400, &["/labels", "give at least one"])),
        row("labels null", labels("null"), Problem(400, &["/labels", "give at least one"])),
        row("labels are a list", labels("[]"), Problem(400, &["an object of names and strings"])),
        row("labels are text", labels("\"x\""), Problem(400, &["an object of names and strings"])),
        row("an empty value only", labels("{\"a\":\"\"}"), Problem(400, &["give at least one"])),
        row("an empty value beside another", labels("{\"a\":\"\",\"event\":\"Row\"}"), Accepted(1)),
        row("an empty name", labels("{\"\":\"x\"}"), Problem(400, &["/labels", "none empty"])),
        row("a name with a dash", labels("{\"a-b\":\"x\"}"), Accepted(1)),
        row(
            "a long name",
            labels(&format!("{{\"{}\":\"x\"}}", "n".repeat(1025))),
            Problem(400, &["1025 bytes", "1024"]),
        ),
        row(
            "the router's own label",
            format!("[{GOOD},{}]", labels("{\"event\":\"Disk Nearly Full\",\"source\":\"ams2\"}")),
            Problem(400, &["\"index\":1", "/labels/source", "only the router itself"]),
        ),
        row(
            "the router's name elsewhere",
            labels("{\"event\":\"Row\",\"source\":\"ams2x\",\"a\":\"ams2\"}"),
            Accepted(1),
        ),
        row("a name twice", labels("{\"a\":\"1\",\"a\":\"2\"}"), Problem(400, &["`a`", "each name once"])),
        row("labels twice", "{\"labels\":{\"a\":\"1\"},\"labels\":{\"b\":\"2\"}}", Problem(400, &["labels"])),
        row("an unknown field", field("\"lables\":{}"), Problem(400, &["/lables", "did you mean `labels`?"])),
        row(
            "a number as severity",
            labels("{\"severity\":3}"),
            Problem(400, &["/labels/severity", "found a number", "quote it"]),
        ),
        row("true as a value", labels("{\"a\":true}"), Problem(400, &["/labels/a", "found a boolean"])),
        row("an object as a value", labels("{\"a\":{}}"), Problem(400, &["/labels/a", "found an object"])),
        row(
            "an annotation that is a number",
            field("\"annotations\":{\"a\":1e400}"),
            Problem(400, &["number"]),
        ),
        row(
            "a severity that nobody knows",
            labels("{\"event\":\"Row\",\"severity\":\"purple\"}"),
            Accepted(1),
        ),
        row(
            "an unknown severity with odd letters",
            labels("{\"event\":\"Row\",\"severity\":\"Très grave\"}"),
            Accepted(1),
        ),
        row("nested 100,000 deep", deep(100_000), Problem(400, &["not valid JSON"])),
        row(
            "a value nested 100,000 deep",
            field(&format!("\"x\":{}", deep(100_000))),
            Problem(400, &["unknown field `x`"]),
        ),
        row(
            "an annotation nested 100,000 deep",
            field(&format!("\"annotations\":{{\"a\":{}}}", deep(100_000))),
            Problem(400, &["/annotations/a", "found an array"]),
        ),
        row("65 labels", many(65), Problem(400, &["more than 64 labels", "originator.limits.labels"])),
        row("10,000 labels", many(10_000), Problem(400, &["more than 64 labels"])),
        row(
            "a label of 100 kB",
            labels(&format!("{{\"a\":\"{}\"}}", "x".repeat(100_000))),
            Problem(400, &["originator.limits.alert_bytes"]),
        ),
        row(
            "a label of 10 MB",
            labels(&format!("{{\"a\":\"{}\"}}", "x".repeat(10_000_000))),
            Problem(413, &["originator.http.limits.body_bytes"]),
        ),
        row(
            "NUL, ESC and bidi in a value",
            labels("{\"event\":\"Row\",\"a\":\"x\\u0000\\u001b[2J\\u202ey\"}"),
            Accepted(1),
        ),
        row("half a surrogate pair", labels("{\"a\":\"\\ud800\"}"), Problem(400, &["not valid JSON"])),
        row("a raw NUL byte", b"{\"labels\":{\"a\":\"\0\"}}", Problem(400, &["control character"])),
        row(
            "bytes that are not UTF-8",
            b"{\"labels\":{\"a\":\"\xff\"}}",
            Problem(400, &["not UTF-8 at byte 16"]),
        ),
        row("a byte order mark", format!("\u{feff}{GOOD}"), Problem(400, &["expected an alert"])),
        row(
            "one wrong of three",
            format!("[{GOOD},{{}},{GOOD}]"),
            Problem(400, &["none was accepted", "\"index\":1"]),
        ),
        row(
            "two wrong of three, by line",
            format!("{{}}\n{GOOD}\n{{}}"),
            Problem(400, &["\"index\":0", "\"index\":2"]),
        ),
        row("the same alert twice", format!("[{GOOD},{GOOD}]"), Accepted(2)),
        row("an id that is empty", field("\"id\":\"\""), Problem(400, &["/id", "1 to 256 bytes"])),
        row(
            "an id that is long",
            field(&format!("\"id\":\"{}\"", "x".repeat(257))),
            Problem(400, &["/id", "257"]),
        ),
        row("an id that is a number", field("\"id\":1"), Problem(400, &["/id", "quote it"])),
        row("a strange generator URL", field("\"generator_url\":\"javascript:alert(1)\""), Accepted(1)),
    ]
}

fn time_rows() -> Vec<Row> {
    let start = |text: &str| field(&format!("\"starts_at\":\"{text}\""));
    let end = |text: &str| field(&format!("\"ends_at\":\"{text}\""));
    let no_time = || Problem(400, &["/starts_at", "write it like 2026-11-24T02:10:00Z"]);
    vec![
        row("a start that is no time", start("yesterday"), no_time()),
        row(
            "a start as a number",
            field("\"starts_at\":1764037800"),
            Problem(400, &["/starts_at", "found a number"]),
        ),
        row("a start without a zone", start("2026-11-24T02:10:00"), no_time()),
        row("Go's zero time counts as none", start("0001-01-01T00:00:00Z"), Accepted(1)),
        row("year 1900", start("1900-01-01T00:00:00Z"), Problem(400, &["/starts_at", "1970 to 9998"])),
        row("year 9999", start("9999-06-01T00:00:00Z"), Problem(400, &["/starts_at", "1970 to 9998"])),
        row("year 292277026596", start("292277026596-12-04T15:30:08Z"), no_time()),
        row("30 February", start("2026-02-30T00:00:00Z"), no_time()),
        row("an offset of 99:99", start("2026-11-24T02:10:00+99:99"), no_time()),
        row("a leap second", start("2016-12-31T23:59:60Z"), Accepted(1)),
        row(
            "ten hours in the future",
            start(&format!("{:.0}", jiff::Timestamp::now() + jiff::SignedDuration::from_hours(10))),
            Accepted(1),
        ),
        row("an end in the past", end("2020-01-01T00:00:00Z"), Accepted(1)),
        row(
            "an end before the start",
            field("\"starts_at\":\"2026-11-24T02:10:00Z\",\"ends_at\":\"2026-11-24T02:09:00Z\""),
            Problem(400, &["/ends_at", "ends after it began"]),
        ),
    ]
}

fn body_rows() -> Vec<Row> {
    let exact = format!("{GOOD}{}", " ".repeat(BODY_BYTES_MAX - GOOD.len()));
    let over = format!("{exact} ");
    let chunked = |body: &str| {
        let head = "POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let gz = "Content-Encoding: gzip\r\n";
    let whole = gzip(GOOD.as_bytes());
    vec![
        row("a body at the limit", &exact, Accepted(1)),
        row(
            "a body one byte over it",
            &over,
            Problem(413, &["originator.http.limits.body_bytes", "several requests"]),
        ),
        raw("a chunked body at the limit", chunked(&exact), Accepted(1)),
        raw(
            "a chunked body one byte over it",
            chunked(&over),
            Problem(413, &["originator.http.limits.body_bytes"]),
        ),
        raw(
            "a body of 9 EB announced",
            "POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000000000000\r\n\r\n",
            Problem(413, &["originator.http.limits.body_bytes"]),
        ),
        with("gzip", gz, &whole, Accepted(1)),
        with("identity", "Content-Encoding: identity\r\n", GOOD, Accepted(1)),
        with("a gzip bomb of 64 MiB", gz, gzip(&vec![b' '; 64 << 20]), Problem(413, &["when decompressed"])),
        with("gzip cut off", gz, &whole[..whole.len() - 9], Problem(400, &["no whole gzip stream"])),
        with("gzip that is none", gz, GOOD, Problem(400, &["no whole gzip stream"])),
        with("gzip in gzip, named once", gz, gzip(&whole), Problem(400, &["not UTF-8"])),
        with(
            "gzip in gzip, named twice",
            "Content-Encoding: gzip, gzip\r\n",
            gzip(&whole),
            Problem(415, &["Content-Encoding", "gzip"]),
        ),
        with(
            "gzip in two lines",
            "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n",
            gzip(&whole),
            Problem(415, &["Content-Encoding"]),
        ),
        with("zstd", "Content-Encoding: zstd\r\n", GOOD, Problem(415, &["Content-Encoding", "gzip"])),
        with("an unknown encoding", "Content-Encoding: rot13\r\n", GOOD, Problem(415, &["Content-Encoding"])),
        with("GZIP in capitals", "Content-Encoding: GZIP\r\n", &whole, Accepted(1)),
    ]
}

fn framing_rows() -> Vec<Row> {
    let head = |lines: &str| format!("POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let length = GOOD.len();
    let chunk = format!("{length:x}\r\n{GOOD}\r\n0\r\n\r\n");
    let long = "x".repeat(64 << 10);
    let headers: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    vec![
        raw(
            "length and chunks at once",
            head(&format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n")) + &chunk,
            // RFC 9112 section 6.1: the chunks count, and the connection ends there.
            AcceptedAndClosed,
        ),
        raw(
            "chunks and length at once",
            head(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")) + &chunk,
            AcceptedAndClosed,
        ),
        raw(
            "two lengths",
            head(&format!("Content-Length: {length}\r\nContent-Length: 5\r\n")) + GOOD,
            Refused(&[400]),
        ),
        raw("a length with a sign", head(&format!("Content-Length: +{length}\r\n")) + GOOD, Refused(&[400])),
        raw("a length that is text", head("Content-Length: ten\r\n") + GOOD, Refused(&[400])),
        raw(
            "an unknown transfer encoding",
            head("Transfer-Encoding: xchunked\r\n") + &chunk,
            Refused(&[400, 501]),
        ),
        raw(
            "a folded header",
            head(&format!("X-A: b\r\n c\r\nContent-Length: {length}\r\n")) + GOOD,
            Refused(&[400]),
        ),
        raw(
            "a space before the colon",
            head(&format!("Content-Length : {length}\r\n")) + GOOD,
            Refused(&[400]),
        ),
        // RFC 9112 section 2.2 allows it; docs/http.md says to whom it matters.
        raw(
            "lines that end with LF alone",
            head(&format!("Content-Length: {length}\r\n")).replace('\r', "") + GOOD,
            Accepted(1),
        ),
        raw(
            "a value with a CR of its own",
            head(&format!("X-A: b\rX-B: c\r\nContent-Length: {length}\r\n")) + GOOD,
            Refused(&[400]),
        ),
        raw(
            "two hosts",
            head(&format!("Host: localhost\r\nContent-Length: {length}\r\n")) + GOOD,
            Problem(400, &["Host"]),
        ),
        raw(
            "no host",
            format!("POST /api/v1/alerts HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{GOOD}"),
            Problem(400, &["Host"]),
        ),
        raw(
            "a chunk size that is none",
            head("Transfer-Encoding: chunked\r\n") + "zz\r\n",
            Problem(400, &["broke off"]),
        ),
        raw("a header of 64 KiB", head(&format!("X-Long: {long}\r\n")), Refused(&[431])),
        raw("1,000 headers", head(&headers), Refused(&[431])),
        raw(
            "a URL of 1 MiB",
            format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(1 << 20)),
            Refused(&[414, 431]),
        ),
        raw("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Closed),
        raw(
            "a TLS hello on the plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            Refused(&[400]),
        ),
        raw("no HTTP at all", "hello\r\n\r\n", Refused(&[400])),
        raw(
            "a NUL in a header",
            b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_vec(),
            Refused(&[400]),
        ),
        raw("a head that never ends", "POST /api/v1/alerts HTTP/1.1\r\nHost: loc", Closed),
        raw("silence", "", Closed),
        raw(
            "half a body",
            head("Content-Length: 100\r\n") + "{\"labels\":",
            Problem(408, &["originator.http.limits.body_time"]),
        ),
        raw(
            "half a chunk",
            head("Transfer-Encoding: chunked\r\n") + "64\r\n{\"labels\":",
            Problem(408, &["originator.http.limits.body_time"]),
        ),
    ]
}

fn path_rows() -> Vec<Row> {
    let request = |first: &str| format!("{first} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let json = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let host = |name: &str| format!("GET /api/v1/alerts HTTP/1.1\r\nHost: {name}\r\n\r\n");
    vec![
        raw("DELETE of alerts", request("DELETE /api/v1/alerts"), Problem(405, &["DELETE"])),
        raw("GET of the reload", request("GET /-/reload"), Problem(405, &["GET"])),
        raw("an unknown path", request("GET /api/v1/nothing"), Problem(404, &["/api/v1/nothing"])),
        raw(
            "a path that climbs",
            request("GET /static/..%2f..%2fetc/passwd"),
            Problem(404, &["no such path"]),
        ),
        raw("a path with a NUL", request("GET /api/v1/alerts%00"), Problem(404, &["no such path"])),
        raw("a limit that is no number", request("GET /api/v1/alerts?limit=x"), Problem(400, &["limit"])),
        raw("a limit below zero", request("GET /api/v1/alerts?limit=-1"), Problem(400, &["limit"])),
        raw("an unknown parameter", request("GET /api/v1/alerts?colour=red"), Problem(400, &["colour"])),
        raw(
            "a filter that is no matcher",
            request("GET /api/v1/alerts?filter=%28"),
            Problem(400, &["matcher"]),
        ),
        raw(
            "a filter with a bad regex",
            request("GET /api/v1/alerts?filter=a%3D~%22%28%22"),
            Problem(400, &["regex"]),
        ),
        raw(
            "a filter with a huge regex",
            request("GET /api/v1/alerts?filter=a%3D~%22((a%7B1000%7D)%7B1000%7D)%7B1000%7D%22"),
            Problem(400, &["regex"]),
        ),
        raw(
            "a state that is none",
            request("GET /api/v1/deliveries?state=odd"),
            Problem(400, &["state=dead"]),
        ),
        raw(
            "an acknowledgement of nothing",
            json("/api/v1/acknowledgements", "{}"),
            Problem(400, &["matcher"]),
        ),
        raw(
            "an acknowledgement that no alert matches",
            json("/api/v1/acknowledgements", "{\"matchers\":[\"a=nowhere\"]}"),
            Problem(404, &["no firing alert"]),
        ),
        raw(
            "an acknowledgement for 0 s",
            json("/api/v1/acknowledgements", "{\"matchers\":[\"a=b\"],\"seconds\":0}"),
            Problem(400, &["seconds"]),
        ),
        raw(
            "an unknown field in an order",
            json("/api/v1/deliveries/retry", "{\"ids\":\"x\"}"),
            Problem(422, &["ids"]),
        ),
        raw("an order that is no JSON", json("/api/v1/deliveries/drop", "x"), Problem(400, &["JSON"])),
        raw("an order for nothing", json("/api/v1/deliveries/drop", "{}"), Problem(400, &["exactly one of"])),
        raw(
            "a delivery id that is none",
            json("/api/v1/deliveries/drop", "{\"id\":\"1\"}"),
            Problem(400, &["32 hex digits"]),
        ),
        raw(
            "a delivery that is not there",
            json("/api/v1/deliveries/drop", "{\"id\":\"00000000000000000000000000000000\"}"),
            Problem(404, &["query deliveries"]),
        ),
        raw(
            "a test of no action",
            json("/api/v1/actions/test", "{\"action\":\"log/event_log/9\"}"),
            Problem(404, &["action list"]),
        ),
        raw(
            "an order without its type",
            "POST /api/v1/deliveries/drop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
            Problem(415, &["Content-Type: application/json"]),
        ),
        raw(
            "another host's name",
            host("evil.example"),
            Problem(421, &["evil.example", "originator.http.hosts"]),
        ),
        raw("another host's name with a port", host("evil.example:9093"), Problem(421, &["evil.example"])),
        raw(
            "a token that is not known",
            "GET /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
            Problem(401, &["Authorization: Bearer"]),
        ),
        raw(
            "a password instead of a token",
            "GET /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic eDp5\r\n\r\n",
            Problem(401, &["Authorization: Bearer"]),
        ),
    ]
}

/// What is wrong with the answer to a row, if anything.
fn mistake(server: &Server, row: &Row) -> Option<String> {
    let mut connection = server.connect();
    let answer = connection.raw(&row.request);
    let answer = match (&row.want, answer) {
        (Closed, Err(_)) => return None,
        (_, Ok(answer)) => answer,
        (_, Err(error)) => return Some(format!("no answer: {error}")),
    };
    let text = answer.text();
    let said = |what: String| Some(format!("{what}; the answer was {} {text}", answer.status));
    match &row.want {
        Accepted(count) => (answer.status != 200 || answer.json()["accepted"] != *count)
            .then(|| format!("{} {text}", answer.status)),
        AcceptedAndClosed => (answer.status != 200 || !connection.is_closed())
            .then(|| format!("{} {text}, and perhaps the connection stays open", answer.status)),
        Problem(status, words) => {
            if answer.status != *status || answer.header("content-type") != Some("application/problem+json") {
                return said(format!("expected a problem with {status}"));
            }
            let problem = answer.json();
            if problem["status"] != *status
                || problem["detail"] == ""
                || problem["mend"].as_str().is_none_or(str::is_empty)
            {
                return said("it lacks status, detail or mend".into());
            }
            if matches!(*status, 413 | 408) && !connection.is_closed() {
                return said("the connection stays open behind a body that was not read".into());
            }
            if *status == 405 && answer.header("allow").is_none() {
                return said("it has no Allow".into());
            }
            words
                .iter()
                .find(|word| !text.contains(**word))
                .and_then(|word| said(format!("it does not say {word:?}")))
        }
        Refused(statuses) => {
            if !statuses.contains(&answer.status) {
                return said(format!("expected one of {statuses:?}"));
            }
            if connection.is_closed() { None } else { said("the connection stays open".into()) }
        }
        Closed => said("expected no answer".into()),
    }
}

fn run_rows(rows: Vec<Row>) {
    let site = Site::new(CONFIG);
    let server = site.start();
    let mut connection = server.connect();
    let mut good = Vec::new();
    let mut post_good = |id: String| {
        // A slow row may outlast the idle time of the connection.
        let body = alert("Good", &id);
        let answer = connection.call("POST", "/api/v1/alerts", &[], body.as_bytes());
        let answer = answer.or_else(|_| {
            connection = server.connect();
            connection.call("POST", "/api/v1/alerts", &[], body.as_bytes())
        });
        answer.expect("an answer").is(200);
        good.push(id);
    };
    let mut mistakes = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        post_good(format!("before-{number}"));
        if let Some(mistake) = mistake(&server, row) {
            mistakes.push(format!("{}: {mistake}", row.name));
        }
        post_good(format!("after-{number}"));
    }
    site.until_told(&good);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    let log = site.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn bad_json_gets_its_place_and_its_mend() {
    run_rows(json_rows());
}

#[test]
fn absurd_times_are_refused_or_harmless() {
    run_rows(time_rows());
}

#[test]
fn bodies_over_the_limit_and_unknown_encodings_are_refused() {
    run_rows(body_rows());
}

#[test]
fn broken_framing_is_refused_and_the_connection_closed() {
    run_rows(framing_rows());
}

#[test]
fn wrong_paths_methods_and_orders_are_named() {
    run_rows(path_rows());
}

#[test]
fn control_characters_reach_the_log_escaped_in_one_line() {
    let site = Site::new(EACH);
    let server = site.start();
    let value = "a\\u0000b\\u001b[2Jc\\nd\\u202ee\\u2028f";
    server.post(&labels(&format!("{{\"event\":\"Odd\",\"n\":\"odd\",\"a\":\"{value}\"}}"))).is(200);
    site.until_told(&["odd"]);
    let log = site.events();
    let line = log.lines().find(|line| line.contains("n=odd")).expect("it is told");
    assert!(line.contains("delivery="), "{line}");
    let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}');
    assert!(!log.replace('\n', "").contains(hidden), "{log:?}");
}

#[test]
fn ten_thousand_alerts_in_one_request_are_told_one_by_one() {
    let site = Site::new(EACH);
    let server = site.start();
    let alerts: Vec<String> = (0..10_000).map(|n| alert("Many", &format!("many-{n}"))).collect();
    server.post(&alerts.join("\n")).is(200);
    let told = || site.events().lines().filter(|line| line.contains("n=many-")).count();
    until_true("all are told", || told() >= 10_000);
    server.until_quiet();
    assert_eq!(told(), 10_000);
}

#[test]
fn every_member_of_a_gzip_body_counts() {
    use std::io::Write;
    let site = Site::new(EACH);
    let server = site.start();
    let member = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("in memory")
    };
    let mut body = member(&format!("{}\n", alert("E", "1")));
    body.extend(member(&alert("E", "2")));
    let gzip = [("Content-Encoding", "gzip")];
    let post = |body: &[u8]| server.connect().call("POST", "/api/v1/alerts", &gzip, body).expect("an answer");
    post(&body).is(200);
    site.until_told(&["1", "2"]);
    body.extend(b"something else");
    post(&body).problem(400);
}

#[test]
fn what_a_body_inflates_to_counts_as_received() {
    let limits = "originator: {http: {limits: {body_bytes: 1MiB, bytes_in_flight: 2MiB, body_time: 30s}}}";
    let site = Site::new(&format!("{limits}{EACH}"));
    let server = site.start();
    let post = || {
        let small = gzip(format!("{}{}", alert("Gz", "gz"), " ".repeat(BODY_BYTES_MAX - 1000)).as_bytes());
        assert!(small.len() < 10_000);
        let headers = [("Content-Encoding", "gzip")];
        server.connect().call("POST", "/api/v1/alerts", &headers, &small).expect("an answer")
    };
    post().is(200);
    // Two that are almost there leave no room for what it becomes.
    let held: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = server.connect();
            let head = format!(
                "POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n"
            );
            connection.stream.write_all(head.as_bytes()).expect("sent");
            connection.stream.write_all(&vec![b' '; BODY_BYTES_MAX - 10_000]).expect("sent");
            connection
        })
        .collect();
    let refused = until("it is refused", || Some(post()).filter(|answer| answer.status != 200)).problem(503);
    assert!(refused.header("retry-after").is_some());
    drop(held);
    until_true("it is taken again", || post().status == 200);
}
