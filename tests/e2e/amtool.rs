//! Alertmanager's own client, unmodified, against our server: every command that talks to one.

use std::process::Command;

use serde_json::{Value, json};

use super::harness::*;

const CONFIG: &str = r#"
originator: { http: { listen: 127.0.0.1:0 }, socket: false }
receivers:
  - name: ops
    actions: [{ event_log: { to: file, path: ops.log } }]
  - name: db
    actions: [{ event_log: { to: file, path: db.log } }]
route:
  receiver: ops
  group_by: [alertname]
  group_wait: 0s
  routes:
    - { receiver: db, matchers: ['team=~"db.*"', 'severity >= major'] }
    - { receiver: ops, matchers: ['alertname="Nightly"'], mute_time_intervals: [always] }
time_intervals:
  - { name: always, time_intervals: [{}] }
inhibit_rules:
  - { source_matchers: [alertname=NodeDown], target_matchers: [alertname=Slow], equal: [node] }
"#;

fn amtool(server: &Server, arguments: &[&str]) -> Ran {
    let mut command = Command::new("amtool");
    clean(&mut command);
    command.arg(format!("--alertmanager.url={}", server.url())).args(arguments);
    run(&mut command)
}

fn shown(server: &Server, arguments: &[&str]) -> Value {
    amtool(server, &[&["-o", "json"], arguments].concat()).ends(0).json()
}

/// The values of one label of the alerts that a query shows.
fn names(server: &Server, arguments: &[&str]) -> Vec<String> {
    let alerts = shown(server, &[&["alert", "query"], arguments].concat());
    let alerts = alerts.as_array().expect("a list").iter();
    let mut names: Vec<String> =
        alerts.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn amtool_adds_and_queries_alerts() {
    let site = Site::new(CONFIG);
    let server = site.start();
    amtool(&server, &["alert", "add", "NodeDown", "node=a"]).ends(0);
    amtool(&server, &["alert", "add", "alertname=Slow", "node=a", "--annotation=summary=it is slow"]).ends(0);
    amtool(&server, &["alert", "add", "Other", "node=b", "--generator-url=http://x.example/1"]).ends(0);
    until_true("all are there", || names(&server, &["-s", "-i", "-a"]).len() == 3);
    assert_eq!(names(&server, &["node=a", "-s", "-i", "-a"]), ["NodeDown", "Slow"]);
    assert_eq!(names(&server, &["Slow", "-i"]), ["Slow"]);
    assert_eq!(names(&server, &["-i"]), ["Slow"], "only what is inhibited");
    assert_eq!(names(&server, &["alertname=~Slo.*"]), [""; 0], "what is inhibited is not active");
    let slow = &shown(&server, &["alert", "query", "-i", "Slow"])[0];
    let node = &shown(&server, &["alert", "query", "NodeDown"])[0];
    assert_eq!(slow["status"]["inhibitedBy"], json!([node["fingerprint"]]));
    assert_eq!(slow["annotations"]["summary"], "it is slow");
    let other = &shown(&server, &["alert", "query", "Other"])[0];
    assert_eq!(other["generatorURL"], "http://x.example/1");
    let extended = amtool(&server, &["alert", "query", "-o", "extended", "Other"]).ends(0);
    assert!(extended.stdout.contains("http://x.example/1"), "{}", extended.stdout);
}

#[test]
fn amtool_makes_changes_and_ends_silences() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let no_comment = amtool(&server, &["silence", "add", "alertname=Slow"]);
    no_comment.ends(1).says("comment required");
    let added =
        amtool(&server, &["silence", "add", "alertname=Slow", "-c", "we know", "-a", "ann", "-d", "1h"])
            .ends(0);
    let id = added.stdout.trim().to_owned();
    amtool(&server, &["alert", "add", "Slow"]).ends(0);
    until_true("it is there", || names(&server, &["-s"]) == ["Slow"]);
    let silence = &shown(&server, &["silence", "query"])[0];
    assert_eq!((&silence["id"], &silence["createdBy"]), (&json!(id), &json!("ann")));
    assert_eq!(
        silence["matchers"],
        json!([{ "isEqual": true, "isRegex": false, "name": "alertname", "value": "Slow" }])
    );
    assert_eq!(names(&server, &["Slow"]), [""; 0], "it is silenced");
    // In place: only its end.
    let updated = amtool(&server, &["silence", "update", &id, "-d", "2h"]).ends(0);
    assert!(updated.stdout.contains(&id), "{}", updated.stdout);
    // Queries by who made it, by name and by what it says.
    assert_eq!(
        shown(&server, &["silence", "query", "--created-by", "ann"]).as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(
        shown(&server, &["silence", "query", "--created-by", "bob"]).as_array().map(Vec::len),
        Some(0)
    );
    assert_eq!(shown(&server, &["silence", "query", "alertname=Slow"]).as_array().map(Vec::len), Some(1));
    assert_eq!(shown(&server, &["silence", "query", "alertname=Fast"]).as_array().map(Vec::len), Some(0));
    let exported = amtool(&server, &["silence", "query", "-o", "json"]).ends(0).stdout;
    amtool(&server, &["silence", "expire", &id]).ends(0);
    assert_eq!(shown(&server, &["silence", "query"]).as_array().map(Vec::len), Some(0));
    assert_eq!(shown(&server, &["silence", "query", "--expired"])[0]["status"]["state"], "expired");
    until_true("it is told", || site.read("ops.log").contains("Slow"));
    // What was written out is read in again, as a new one.
    let file = site.path().join("silences.json");
    std::fs::write(&file, exported).expect("written");
    amtool(&server, &["silence", "import", "--force", file.to_str().expect("UTF-8")]).ends(0);
    let again = shown(&server, &["silence", "query"]);
    assert_eq!(again[0]["matchers"], silence["matchers"]);
    assert_ne!(again[0]["id"], json!(id));
    let broken = site.path().join("broken.json");
    std::fs::write(&broken, r#"[{"matchers":[],"startsAt":"2026-11-25T10:00:00Z","endsAt":"2099-11-25T10:00:00Z","createdBy":"a","comment":"c"}]"#).expect("written");
    let failed = amtool(&server, &["silence", "import", broken.to_str().expect("UTF-8")]);
    failed.says("Error adding silence");
    assert_eq!(shown(&server, &["silence", "query"]).as_array().map(Vec::len), Some(1));
    // They outlive a crash.
    server.kill();
    let server = site.start();
    assert_eq!(shown(&server, &["silence", "query"])[0]["id"], again[0]["id"]);
}

#[test]
fn amtool_reads_our_configuration_and_tests_routes() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let tree = amtool(&server, &["config", "routes", "show"]).ends(0);
    assert!(
        tree.stdout.contains("receiver: ops") && tree.stdout.contains("team=~\"db.*\""),
        "{}",
        tree.stdout
    );
    for (labels, receiver) in [
        (&["team=db1", "severity=critical"][..], "db"),
        (&["team=db1", "severity=fatal"], "db"),
        (&["team=db1", "severity=minor"], "ops"),
        (&["team=web"], "ops"),
    ] {
        let ran = amtool(&server, &[&["config", "routes", "test"], labels].concat()).ends(0);
        assert_eq!(ran.stdout.trim(), receiver, "{labels:?}");
    }
    let wrong = amtool(&server, &["config", "routes", "test", "--verify.receivers=db", "team=web"]);
    let words = "WARNING: Expected receivers did not match resolved receivers.";
    assert!(wrong.stdout.contains(words), "{wrong:?}");
    wrong.ends(1);
    // What it prints is a configuration that it finds right.
    let printed = amtool(&server, &["config", "show"]).ends(0).stdout;
    let file = site.path().join("alertmanager.yml");
    std::fs::write(&file, printed).expect("written");
    amtool(&server, &["check-config", file.to_str().expect("UTF-8")]).ends(0);
    let cluster = amtool(&server, &["cluster", "show"]).ends(0);
    assert!(cluster.stdout.contains("disabled"), "{}", cluster.stdout);
}

/// A silence as JSON, with these fields changed.
fn silence(changes: &[(&str, Value)]) -> Value {
    let mut silence = json!({
        "matchers": [{ "name": "a", "value": "b", "isRegex": false }],
        "startsAt": "2026-11-25T10:00:00Z",
        "endsAt": "2099-11-25T10:00:00Z",
        "createdBy": "ann",
        "comment": "why",
    });
    for (field, value) in changes {
        if value.is_null() {
            silence.as_object_mut().expect("an object").remove(*field);
        } else {
            silence[field] = value.clone();
        }
    }
    silence
}

/// Statuses and shapes of errors; rows marked AM were seen with Alertmanager 0.25.
#[test]
fn what_is_wrong_is_answered_as_alertmanager_answers_it() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let label = |value: &str| json!([{ "labels": { "alertname": value } }]).to_string();
    let posted = |changes: &[(&str, Value)]| silence(changes).to_string();
    let matcher = |value: Value| posted(&[("matchers", json!([value]))]);
    let rows: Vec<(&str, &str, String, u16, &str)> = vec![
        ("AM: no labels", "/api/v2/alerts", "[{}]".into(), 422, "{\"code\":602,\"message\":\"0.labels in body is required\"}"),
        ("AM: nothing", "/api/v2/alerts", String::new(), 422, "{\"code\":602,\"message\":\"alerts in body is required\"}"),
        ("AM: blanks", "/api/v2/alerts", " \n".into(), 422, "{\"code\":602,\"message\":\"alerts in body is required\"}"),
        ("AM: null", "/api/v2/alerts", "null".into(), 200, ""),
        ("a list with null", "/api/v2/alerts", "[null]".into(), 400, "{\"code\":400,"),
        ("AM: no JSON", "/api/v2/alerts", "xx".into(), 400, "{\"code\":400,\"message\":\"parsing alerts body"),
        ("an object", "/api/v2/alerts", "{}".into(), 400, "{\"code\":400,"),
        ("a number as a label", "/api/v2/alerts", "[{\"labels\":{\"a\":1}}]".into(), 400, "{\"code\":400,"),
        ("a broken time", "/api/v2/alerts", "[{\"labels\":{\"a\":\"b\"},\"startsAt\":\"noon\"}]".into(), 400, "\"alert 0: `noon` is no time"),
        ("AM: empty labels", "/api/v2/alerts", "[{\"labels\":{}}]".into(), 400, "\"alert 0: at least one label"),
        (
            "an end before the start",
            "/api/v2/alerts",
            "[{\"labels\":{\"a\":\"b\"},\"startsAt\":\"2026-11-25T10:00:01Z\",\"endsAt\":\"2026-11-25T10:00:00Z\"}]".into(),
            400,
            "\"alert 0: ",
        ),
        ("an empty list", "/api/v2/alerts", "[]".into(), 200, ""),
        ("a good one", "/api/v2/alerts", label("x"), 200, ""),
        ("unknown fields", "/api/v2/alerts", "[{\"labels\":{\"a\":\"b\"},\"colour\":{\"x\":[1]}}]".into(), 200, ""),
        ("AM: nothing", "/api/v2/silences", String::new(), 422, "{\"code\":602,\"message\":\"silence in body is required\"}"),
        ("AM: null", "/api/v2/silences", "null".into(), 422, "{\"code\":602,\"message\":\"comment in body is required\"}"),
        ("AM: no JSON", "/api/v2/silences", "xx".into(), 400, "{\"code\":400,\"message\":\"parsing silence body from \\\"\\\" failed, because "),
        ("AM: an empty list", "/api/v2/silences", "[]".into(), 400, "{\"code\":400,\"message\":\"parsing silence body"),
        ("AM: no field", "/api/v2/silences", "{}".into(), 422, "{\"code\":602,\"message\":\"comment in body is required\"}"),
        ("AM: an end that is no time", "/api/v2/silences", posted(&[("endsAt", json!("noon"))]), 400, "{\"code\":400,\"message\":\"parsing silence body"),
        ("AM: a beginning that is no time", "/api/v2/silences", posted(&[("startsAt", json!("noon"))]), 400, "{\"code\":400,\"message\":\"parsing silence body"),
        ("AM: no author", "/api/v2/silences", posted(&[("createdBy", Value::Null)]), 422, "{\"code\":602,\"message\":\"createdBy in body is required\"}"),
        ("AM: no end", "/api/v2/silences", posted(&[("endsAt", Value::Null)]), 422, "{\"code\":602,\"message\":\"endsAt in body is required\"}"),
        ("AM: no beginning", "/api/v2/silences", posted(&[("startsAt", Value::Null)]), 422, "{\"code\":602,\"message\":\"startsAt in body is required\"}"),
        ("AM: matchers are missing", "/api/v2/silences", posted(&[("matchers", Value::Null)]), 422, "{\"code\":602,\"message\":\"matchers in body is required\"}"),
        ("AM: an id that is no uuid", "/api/v2/silences", posted(&[("id", json!("abc"))]), 404, "\"silence abc not found\""),
        ("over 2 MiB", "/api/v2/silences", posted(&[("comment", json!("x".repeat(2 << 20)))]), 413, "{\"code\":413,\"message\":\"the body is over 2097152 bytes (no order is larger)\"}"),
        ("AM: no comment", "/api/v2/silences", posted(&[("comment", Value::Null)]), 422, "{\"code\":602,\"message\":\"comment in body is required\"}"),
        ("no matchers", "/api/v2/silences", posted(&[("matchers", json!([]))]), 422, "{\"code\":612,"),
        ("half a matcher", "/api/v2/silences", matcher(json!({ "name": "a", "value": "b" })), 422, "{\"code\":602,\"message\":\"matchers.0.isRegex in body is required\"}"),
        ("matches everything", "/api/v2/silences", matcher(json!({ "name": "a", "value": ".*", "isRegex": true })), 400, "\"invalid silence: at least one matcher must not match the empty string\""),
        ("a broken regex", "/api/v2/silences", matcher(json!({ "name": "a", "value": "(", "isRegex": true })), 400, "\"invalid silence: invalid label matcher"),
        ("no name", "/api/v2/silences", matcher(json!({ "name": "", "value": "b", "isRegex": false })), 400, "\"invalid silence: invalid label matcher"),
        ("ends first", "/api/v2/silences", posted(&[("endsAt", json!("2026-11-25T09:00:00Z"))]), 400, "\"Failed to create silence: start time must be before end time\""),
        (
            "over already",
            "/api/v2/silences",
            posted(&[("startsAt", json!("2020-01-01T00:00:00Z")), ("endsAt", json!("2020-01-02T00:00:00Z"))]),
            400,
            "\"Failed to create silence: end time can't be in the past\"",
        ),
        ("nobody has this id", "/api/v2/silences", posted(&[("id", json!("11111111-1111-4111-8111-111111111111"))]), 404, "\"silence 11111111-"),
        ("a good silence", "/api/v2/silences", posted(&[]), 200, "{\"silenceID\":\""),
    ];
    for (what, path, body, status, start) in rows {
        let answer = server.call("POST", path, &body).is(status);
        assert!(answer.text().starts_with(start), "{what}: {}", answer.text());
    }
    const FILTER: &str = "\"bad matcher format: nonsense\"";
    const RECEIVER: &str = "\"failed to parse receiver param: ";
    const MATCHERS: &str = "\"failed to parse receiver_matchers param: bad matcher format: nonsense\"";
    let rows = [
        ("AM: no uuid", "GET", "/api/v2/silence/abc", 422, "{\"code\":601,"),
        ("AM: no uuid", "DELETE", "/api/v2/silence/abc", 422, "{\"code\":601,"),
        ("unknown", "GET", "/api/v2/silence/11111111-1111-4111-8111-111111111111", 404, ""),
        ("unknown", "DELETE", "/api/v2/silence/11111111-1111-4111-8111-111111111111", 404, ""),
        ("AM: a broken filter", "GET", "/api/v2/alerts?filter=nonsense", 400, FILTER),
        ("AM: a broken filter", "GET", "/api/v2/alerts/groups?filter=nonsense", 400, FILTER),
        ("AM: a broken filter", "GET", "/api/v2/silences?filter=nonsense", 400, FILTER),
        ("AM: a broken receiver", "GET", "/api/v2/alerts?receiver=(", 400, RECEIVER),
        ("AM: a broken receiver", "GET", "/api/v2/alerts/groups?receiver=(", 400, RECEIVER),
        ("broken matchers", "GET", "/api/v2/receivers?receiver_matchers=nonsense", 400, MATCHERS),
        ("broken matchers", "GET", "/api/v2/alerts?receiver_matchers=nonsense", 400, MATCHERS),
        ("broken matchers", "GET", "/api/v2/alerts/groups?receiver_matchers=nonsense", 400, MATCHERS),
        ("AM: a flag that is none", "GET", "/api/v2/alerts?active=maybe&silenced=maybe", 200, "[]"),
    ];
    for (what, method, path, status, start) in rows {
        let answer = server.call(method, path, "").is(status);
        assert!(answer.text().starts_with(start), "{what}: {}", answer.text());
    }
    // The HTTP library reads no more of a head.
    server.get(&format!("/api/v2/alerts?filter=a%3D{}", "b".repeat(64 << 10))).is(431);
    let many = server.get(&format!("/api/v2/alerts?{}", "x=&".repeat(1_001))).is(400);
    assert_eq!(many.json(), "more than 1000 parameters");
}

/// A path and a method that are not there, as Alertmanager's router answers them.
#[test]
fn paths_and_methods_that_are_not_there_are_answered_as_alertmanager_answers_them() {
    let site = Site::new(CONFIG);
    let server = site.start();
    for path in ["/api/v2", "/api/v2/", "/api/v2/nonsense", "/api/v2/silence/", "/api/v2/alerts/groups/x"] {
        for method in ["GET", "POST"] {
            let answer = server.call(method, path, "").is(404);
            assert_eq!(
                answer.json(),
                json!({ "code": 404, "message": format!("path {path} was not found") })
            );
        }
    }
    const SILENCE: &str = "/api/v2/silence/11111111-1111-4111-8111-111111111111";
    for (method, path, allowed) in [
        ("PUT", "/api/v2/alerts", "GET,HEAD,POST"),
        ("POST", "/api/v2/alerts/groups", "GET,HEAD"),
        ("DELETE", "/api/v2/silences", "GET,HEAD,POST"),
        ("POST", SILENCE, "GET,HEAD,DELETE"),
        ("POST", "/api/v2/receivers", "GET,HEAD"),
        ("PATCH", "/api/v2/status", "GET,HEAD"),
    ] {
        let answer = server.call(method, path, "").is(405);
        let message = format!("method {method} is not allowed, but [{allowed}] are");
        assert_eq!(answer.json(), json!({ "code": 405, "message": message }), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    // Ours stay ours.
    server.get("/api/v1/nonsense").problem(404);
    server.call("PUT", "/api/v1/alerts", "").problem(405);
}

/// What changes from one moment to the next is not for caches, whatever the answer is.
#[test]
fn no_answer_is_for_caches() {
    let site = Site::new(CONFIG);
    let server = site.start();
    for (method, path, body, status) in [
        ("GET", "/api/v2/alerts", "", 200),
        ("POST", "/api/v2/alerts", "[]", 200),
        ("POST", "/api/v2/alerts", "xx", 400),
        ("GET", "/api/v2/silences", "", 200),
        ("GET", "/api/v2/nonsense", "", 404),
        ("GET", "/api/v1/alerts", "", 200),
        ("GET", "/metrics", "", 200),
    ] {
        let answer = server.call(method, path, body).is(status);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {path}");
    }
}

/// What the header `Content-Type` says; rows marked AM were seen with Alertmanager 0.25. Alerts are never lost for it.
#[test]
fn a_silence_that_says_it_is_no_json_is_refused() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let post = |path: &str, kind: &str, body: &str| {
        let headers = [("Content-Type", kind)];
        server.connect().call("POST", path, &headers, body.as_bytes()).expect("an answer")
    };
    let body = silence(&[]).to_string();
    for (what, kind, status) in [
        ("AM", "application/json", 200),
        ("AM", "Application/JSON; charset=utf-8", 200),
        ("AM", "application/json;charset=latin1", 200),
        ("AM", "text/plain", 415),
        ("AM", "nonsense", 415),
        ("AM has 400", "a/b/c;;", 415),
    ] {
        let answer = post("/api/v2/silences", kind, &body).is(status);
        if status == 415 {
            let kind = kind.trim_end_matches(';');
            let message = format!("unsupported media type {kind:?}, only [application/json] are allowed");
            assert_eq!(answer.json(), json!({ "code": 415, "message": message }), "{what}: {kind}");
        }
    }
    let empty = post("/api/v2/silences", "text/plain", "").is(422).json();
    assert_eq!(empty["message"], "silence in body is required", "AM");
    assert_eq!(server.get("/api/v2/silences").is(200).json().as_array().map(Vec::len), Some(3));
    post("/api/v2/alerts", "text/plain", r#"[{"labels":{"alertname":"Slow"}}]"#).is(200);
    until_true("it is there", || names(&server, &["-s"]).is_empty() && names(&server, &["-a"]) == ["Slow"]);
}

/// An alert is worth more than its link: Alertmanager refuses the whole body for a link that is no URL.
#[test]
fn an_alert_whose_link_is_no_url_is_taken() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let body = r#"[{"labels":{"alertname":"Slow"},"generatorURL":"::"},{"labels":{"alertname":"Fast"}}]"#;
    server.call("POST", "/api/v2/alerts", body).is(200);
    until_true("both are there", || names(&server, &[]) == ["Fast", "Slow"]);
    assert_eq!(shown(&server, &["alert", "query", "Slow"])[0]["generatorURL"], "::");
}

/// What the configuration demands of silences.
#[test]
fn silences_that_the_configuration_does_not_take_are_refused() {
    let rules = "silences: { max: 2, bytes_max: 1KiB, comment: required, author: required }\n";
    let site = Site::new(&format!("{CONFIG}{rules}"));
    let server = site.start();
    let post =
        |changes: &[(&str, Value)]| server.call("POST", "/api/v2/silences", &silence(changes).to_string());
    let rows: [(&[(&str, Value)], &str); 4] = [
        (&[("comment", json!(""))], "invalid silence: a comment is required"),
        (&[("comment", json!(" "))], "invalid silence: a comment is required"),
        (&[("createdBy", json!(""))], "invalid silence: an author is required"),
        (&[("comment", json!("x".repeat(1 << 10)))], "silence exceeded maximum size: "),
    ];
    for (changes, words) in rows {
        let answer = post(changes).is(400).json();
        assert!(answer.as_str().is_some_and(|text| text.contains(words)), "{words}: {answer}");
    }
    post(&[]).is(200);
    post(&[]).is(200);
    assert_eq!(post(&[]).is(400).json(), "exceeded maximum number of silences: 2 (limit: 2)");
}

/// Every parameter of the lists, on the wire.
#[test]
fn lists_show_what_is_asked_for() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let receiver = |name: &str| json!({ "name": name, "labels": { "name": name } });
    for (query, shown) in [
        ("", json!([receiver("ops"), receiver("db")])),
        ("?receiver_matchers=name%3Ddb", json!([receiver("db")])),
        ("?receiver_matchers=name%3D~.*&receiver_matchers=name!%3Ddb", json!([receiver("ops")])),
        ("?receiver_matchers=team%3Da", json!([])),
    ] {
        assert_eq!(server.get(&format!("/api/v2/receivers{query}")).is(200).json(), shown, "{query}");
    }
    // One of each standing: what is marked `+` is silenced, `Slow` inhibited. Our own alerts have another name.
    const NAMED: &str = "filter=alertname!%3D%22%22";
    let body = json!([
        { "labels": { "alertname": "NodeDown", "node": "a" } },
        { "labels": { "alertname": "Slow", "node": "a" } },
        { "labels": { "alertname": "Slow", "node": "a", "deaf": "yes" } },
        { "labels": { "alertname": "Hushed", "team": "db1", "severity": "critical", "deaf": "yes" } },
    ]);
    let deaf = json!([{ "name": "deaf", "value": "yes", "isRegex": false }]);
    server.call("POST", "/api/v2/silences", &silence(&[("matchers", deaf)]).to_string()).is(200);
    server.call("POST", "/api/v2/alerts", &body.to_string()).is(200);
    let of = |alert: &Value| {
        let labels = &alert["labels"];
        let is_deaf = if labels["deaf"] == "yes" { "+" } else { "" };
        format!("{}{is_deaf}", labels["alertname"].as_str().unwrap_or_default())
    };
    let alerts = |query: &str| {
        let found = server.get(&format!("/api/v2/alerts?{NAMED}{query}")).is(200).json();
        let mut found: Vec<String> = found.as_array().into_iter().flatten().map(of).collect();
        found.sort();
        found
    };
    let groups = |query: &str| {
        let found = server.get(&format!("/api/v2/alerts/groups?{NAMED}{query}")).is(200).json();
        let found = found.as_array().into_iter().flatten();
        let mut found: Vec<String> =
            found.flat_map(|group| group["alerts"].as_array().into_iter().flatten()).map(of).collect();
        found.sort();
        found
    };
    let all = ["Hushed+", "NodeDown", "Slow", "Slow+"];
    until_true("all are there", || alerts("") == all && groups("") == all);
    let rows: [(&str, &[&str]); 14] = [
        ("&active=false", &["Hushed+", "Slow", "Slow+"]),
        ("&silenced=false", &["NodeDown", "Slow"]),
        ("&inhibited=false", &["Hushed+", "NodeDown"]),
        ("&silenced=false&inhibited=false", &["NodeDown"]),
        ("&active=false&inhibited=false", &["Hushed+"]),
        ("&active=false&silenced=false", &["Slow"]),
        ("&active=false&silenced=false&inhibited=false", &[]),
        ("&unprocessed=false", &all),
        ("&receiver=db", &["Hushed+"]),
        ("&receiver=d", &[]),
        ("&receiver=o.s&filter=node%3Da", &["NodeDown", "Slow", "Slow+"]),
        ("&filter=node%3Da&filter=deaf%3D%22%22", &["NodeDown", "Slow"]),
        ("&receiver_matchers=name%3Ddb", &["Hushed+"]),
        ("&receiver_matchers=name!%3Ddb&silenced=false", &["NodeDown", "Slow"]),
    ];
    for (query, shown) in rows {
        assert_eq!(alerts(query), shown, "alerts{query}");
        assert_eq!(groups(query), shown, "groups{query}");
    }
}

/// Active ones by their end, then pending ones by their beginning, then those that are over, the latest first.
#[test]
fn silences_are_listed_by_state_and_in_order() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let add = |comment: &str, starts: &str, ends: &str| {
        let changes = [("comment", json!(comment)), ("startsAt", json!(starts)), ("endsAt", json!(ends))];
        let answer = server.call("POST", "/api/v2/silences", &silence(&changes).to_string()).is(200).json();
        answer["silenceID"].as_str().expect("an id").to_owned()
    };
    let begun = "2026-01-01T00:00:00Z";
    add("pending, late", "2098-02-01T00:00:00Z", "2098-02-02T00:00:00Z");
    add("active, late", begun, "2099-01-01T00:00:00Z");
    let first = add("over, first", begun, "2099-01-01T00:00:00Z");
    add("pending, soon", "2098-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    let last = add("over, last", begun, "2097-01-01T00:00:00Z");
    add("active, soon", begun, "2098-01-01T00:00:00Z");
    for id in [first, last] {
        server.call("DELETE", &format!("/api/v2/silence/{id}"), "").is(200);
        // Both in one millisecond would have no order.
        let then = std::time::Instant::now();
        until_true("the clock goes on", || then.elapsed().as_millis() >= 2);
    }
    let (active, pending) = (["active, soon", "active, late"], ["pending, soon", "pending, late"]);
    let over = ["over, last", "over, first"];
    let rows = [
        ("", [active, pending, over].concat()),
        ("?expired=false", [active, pending].concat()),
        ("?pending=false", [active, over].concat()),
        ("?active=false", [pending, over].concat()),
        ("?active=false&expired=false", pending.to_vec()),
        ("?active=false&pending=false&expired=false", Vec::new()),
        ("?filter=a%3Db&pending=false&expired=false", active.to_vec()),
        ("?filter=a%3Dc", Vec::new()),
    ];
    for (query, shown) in rows {
        let found = server.get(&format!("/api/v2/silences{query}")).is(200).json();
        let found: Vec<&str> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|silence| silence["comment"].as_str())
            .collect();
        assert_eq!(found, shown, "{query}");
    }
}

/// Alertmanager: the valid alerts of a batch are taken, whatever stands beside them.
#[test]
fn of_a_batch_the_valid_alerts_are_taken_and_the_others_named() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let long = "x".repeat(70_000);
    let body = json!([
        { "labels": { "alertname": "First" } },
        { "labels": { "alertname": "" } },
        { "labels": { "alertname": "Long", "text": long } },
        { "labels": { "alertname": "Last" }, "annotations": { "summary": "s" } },
    ]);
    let answer = server.call("POST", "/api/v2/alerts", &body.to_string()).is(400);
    let words: String = serde_json::from_value(answer.json()).expect("a JSON string");
    assert!(words.starts_with("alert 1: at least one label") && words.contains("alert 2: "), "{words}");
    until_true("both are there", || names(&server, &[]) == ["First", "Last"]);
}

#[test]
fn groups_are_shown_with_what_mutes_them() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let body = r#"[{"labels":{"alertname":"Nightly"}},{"labels":{"alertname":"B","node":"1"}},{"labels":{"alertname":"B","node":"2"}}]"#;
    server.call("POST", "/api/v2/alerts", body).is(200);
    let groups = |query: &str| {
        let groups =
            server.get(&format!("/api/v2/alerts/groups?filter=alertname!%3D%22%22{query}")).is(200).json();
        let shown = groups.as_array().expect("a list").iter();
        let shown = shown.map(|group| {
            (group["labels"]["alertname"].clone(), group["alerts"].as_array().map_or(0, Vec::len))
        });
        shown.collect::<Vec<_>>()
    };
    until_true("both groups are there", || groups("") == [(json!("B"), 2), (json!("Nightly"), 1)]);
    assert_eq!(groups("&muted=false"), [(json!("B"), 2)]);
    assert_eq!(groups("&receiver=db"), []);
    assert_eq!(groups("&filter=node%3D2"), [(json!("B"), 1)]);
    let all = server.get("/api/v2/alerts/groups?filter=alertname%3DNightly").is(200).json();
    assert_eq!(all[0]["alerts"][0]["status"]["mutedBy"], json!(["always"]));
    assert_eq!(all[0]["alerts"][0]["status"]["state"], "suppressed");
    assert_eq!(all[0]["receiver"], json!({ "name": "ops" }));
    assert_eq!(all[0]["routeLabels"], json!({}));
    // Theirs asks before it looks at the time.
    assert_eq!(groups("&active=false"), []);
}

/// `ams2 silence`, with what amtool sees of it.
#[test]
fn our_own_commands_make_the_same_silences() {
    let site = Site::new(CONFIG);
    let server = site.start();
    let to = server.url();
    let ours = |arguments: &[&str]| run(ams2().arg("silence").args(arguments).args(["--to", &to]));
    server.call("POST", "/api/v2/alerts", r#"[{"labels":{"alertname":"Slow","severity":"minor"}}]"#).is(200);
    until_true("it is there", || names(&server, &["-s", "-a"]) == ["Slow"]);
    let preview = ours(&["preview", "severity < major", "alertname != \"\""]).ends(0);
    assert!(preview.stdout.contains("alertname=Slow"), "{}", preview.stdout);
    preview.says("1 alerts that fire now would be held back");
    ours(&["preview", "alertname = Nothing"]).ends(1);
    let ended =
        json!([{ "labels": { "alertname": "Gone", "severity": "minor" }, "endsAt": jiff::Timestamp::now() }]);
    server.call("POST", "/api/v2/alerts", r#"[{"labels":{"alertname":"Gone","severity":"minor"}}]"#).is(200);
    until_true("it fires", || names(&server, &["Gone"]) == ["Gone"]);
    server.call("POST", "/api/v2/alerts", &ended.to_string()).is(200);
    until_true("it is over", || names(&server, &["Gone"]) == [""; 0]);
    let preview = ours(&["preview", "severity < major", "alertname = Gone"]).ends(0);
    assert!(
        preview.stdout.contains("is over") && preview.stdout.contains("alertname=Gone"),
        "{}",
        preview.stdout
    );
    preview.says("0 alerts that fire now would be held back");
    let id = ours(&["add", "severity < major", "--for", "2h", "-c", "works", "--by", "ann"]).ends(0).stdout;
    let id = id.trim();
    until_true("it is silenced", || names(&server, &["-s"]) == ["Slow"]);
    assert_eq!(names(&server, &[]), [""; 0]);
    // What has no word there is shown in the nearest form.
    let silence = &shown(&server, &["silence", "query"])[0];
    assert_eq!(silence["matchers"][0]["isRegex"], true);
    let listed = ours(&["query", "--json"]).ends(0).json();
    assert_eq!((&listed[0]["id"], &listed[0]["matchers"]), (&json!(id), &json!(["severity<\"major\""])));
    assert_eq!(ours(&["update", id, "-c", "still"]).ends(0).stdout.trim(), id, "in place");
    let other = ours(&["update", id, "--matcher", "alertname = Slow"]).ends(0).stdout;
    assert_ne!(other.trim(), id, "another takes its place");
    let listed = ours(&["query", "--json"]).ends(0).json();
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["comment"]), (Some(1), &json!("still")));
    let exported = ours(&["query", "--json", "--state", "all"]).ends(0).stdout;
    ours(&["expire", other.trim()]).ends(0).says("is over");
    let file = site.path().join("ours.json");
    std::fs::write(&file, exported).expect("written");
    // One of the two was over when it was written out.
    let imported = ours(&["import", file.to_str().expect("UTF-8")]).ends(1);
    imported.says("1 of 2 silences are made");
    assert_eq!(shown(&server, &["silence", "query"]).as_array().map(Vec::len), Some(1));
    for (arguments, code, words) in [
        (&["add", "a=~\".*\""][..], 1, "at least one matcher must not match the empty string"),
        (&["add", "a=b", "--for", "0s"], 1, "the time is 0"),
        (&["add", "a=b", "--end", "noon"], 1, "is no time by RFC 3339"),
        (&["add", "a"], 1, "expected one of = != =~ !~"),
        (&["expire", "abc"], 1, "is no silence id"),
        (&["expire", "11111111-1111-4111-8111-111111111111"], 1, "there is no silence"),
        (&["query", "--state", "gone"], 1, "state is `gone`"),
        (&["import", "/nonexistent"], 2, "cannot be read"),
    ] {
        ours(arguments).ends(code).says(words);
    }
}

/// Behind a proxy that passes on one part of its paths: all that Alertmanager's `--web.route-prefix` does.
#[test]
fn all_paths_may_be_below_a_prefix() {
    let below = CONFIG.replace("listen: 127.0.0.1:0", "prefix: /team/alerts/").replace(", socket: false", "");
    let site = Site::new(&below);
    let server = site.start();
    let at = |path: &str| server.get(path);
    let beside = at("/-/ready").problem(404);
    assert!(beside.text().contains("put /team/alerts before the path"), "{}", beside.text());
    at("/team/alertsx/-/ready").problem(404);
    at("/team/alerts/-/ready").is(200);
    assert_eq!(at("/").is(302).header("location"), Some("/team/alerts/"));
    server.call("POST", "/api/v2/alerts", r#"[{"labels":{"alertname":"Lost"}}]"#).is(404);
    let url = format!("{}/team/alerts", server.url());
    let amtool = |arguments: &[&str]| {
        let mut command = Command::new("amtool");
        clean(&mut command);
        run(command.arg(format!("--alertmanager.url={url}")).args(arguments))
    };
    amtool(&["alert", "add", "Slow", "node=a"]).ends(0);
    until_true("it is there", || amtool(&["alert", "query", "node=a"]).ends(0).stdout.contains("Slow"));
    assert!(!amtool(&["alert", "query"]).ends(0).stdout.contains("Lost"));
    // Ours find it there, too; the socket has no prefix.
    run(ams2().args(["query", "alerts", "--to", &url])).ends(0);
    assert!(site.client(&["query", "alerts"]).ends(0).stdout.contains("Slow"));
    site.configure(&below.replace("/team/alerts/", "/other"));
    site.client(&["reload"]).ends(0);
    at("/other/-/ready").is(200);
    at("/team/alerts/-/ready").problem(404);
    site.configure(&below.replace("/team/alerts/", "alerts//x"));
    site.client(&["reload"]).ends(1).says("`alerts//x` is no beginning of a path");
}

/// The flags do what Alertmanager's do: the path of the URL is the prefix unless another is given.
#[test]
fn an_alertmanager_configuration_runs_below_the_path_of_its_url() {
    let site = Site::new("");
    let hook = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let to = hook.local_addr().expect("bound");
    let file = site.path().join("alertmanager.yml");
    let text = format!(
        "route: {{receiver: hook, group_wait: 0s}}\nreceivers: [{{name: hook, webhook_configs: [{{url: 'http://{to}/'}}]}}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let serve = |more: &[&str]| {
        let mut command = ams2();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(site.data());
        command.arg("--alertmanager-config").arg(&file).args(more);
        command
    };
    let server = site.start_as(serve(&["--external-url", "https://mon.example.com/am/"]));
    server.get("/am/-/ready").is(200);
    server.get("/-/ready").problem(404);
    server.call("POST", "/am/api/v2/alerts", r#"[{"labels":{"alertname":"Slow"}}]"#).is(200);
    let (mut told, _) = hook.accept().expect("the web hook");
    let mut read = String::new();
    until("the body came", || {
        let mut piece = [0; 4096];
        let bytes = std::io::Read::read(&mut told, &mut piece).expect("read");
        read.push_str(&String::from_utf8_lossy(&piece[..bytes]));
        read.contains(r#""externalURL":"https://mon.example.com/am""#).then_some(())
    });
    server.kill();
    let both = ["--external-url", "https://mon.example.com/am", "--route-prefix", "/"];
    let server = site.start_as(serve(&both));
    server.get("/-/ready").is(200);
    server.kill();
    for (more, words) in [
        (["--external-url", "mon.example.com"], "--external-url `mon.example.com` is no URL"),
        (["--route-prefix", "/a b"], "--route-prefix `/a b` is no beginning of a path"),
        (
            ["--external-url", "https://h/a%20b"],
            "the path `/a%20b` of --external-url is no beginning of a path",
        ),
    ] {
        run(&mut serve(&more)).ends(2).says(words);
    }
}
