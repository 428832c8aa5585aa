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
        ("no list at all", "/api/v2/alerts", "[]".into(), 200, ""),
        ("a good one", "/api/v2/alerts", label("x"), 200, ""),
        ("unknown fields", "/api/v2/alerts", "[{\"labels\":{\"a\":\"b\"},\"colour\":{\"x\":[1]}}]".into(), 200, ""),
        ("AM: nothing", "/api/v2/silences", "{}".into(), 422, "{\"code\":602,"),
        ("no comment", "/api/v2/silences", posted(&[("comment", Value::Null)]), 422, "{\"code\":602,\"message\":\"comment in body is required\"}"),
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
    let rows = [
        ("AM: no uuid", "GET", "/api/v2/silence/abc", 422, "{\"code\":601,"),
        ("unknown", "GET", "/api/v2/silence/11111111-1111-4111-8111-111111111111", 404, ""),
        ("unknown", "DELETE", "/api/v2/silence/11111111-1111-4111-8111-111111111111", 404, ""),
        ("a broken filter", "GET", "/api/v2/alerts?filter=nonsense", 400, "\"bad matcher format"),
        (
            "a broken receiver",
            "GET",
            "/api/v2/alerts/groups?receiver=(",
            400,
            "\"failed to parse receiver param",
        ),
        ("AM: a flag that is none", "GET", "/api/v2/alerts?active=maybe&silenced=maybe", 200, "[]"),
    ];
    for (what, method, path, status, start) in rows {
        let answer = server.call(method, path, "").is(status);
        assert!(answer.text().starts_with(start), "{what}: {}", answer.text());
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
    assert_eq!(all[0]["receiver"], json!({ "name": "ops" }));
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
