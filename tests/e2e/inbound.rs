//! Other tools' web hooks: Alertmanager as it is, and the curl lines that people have for PagerDuty and Opsgenie.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::harness::*;

const CONFIG: &str = r#"
originator:
  socket: false
  clients:
    - { name: boston, token_file: boston.token, allow: ['event !~ "Secret.*"'] }
    - { name: reader, token_file: reader.token, may: [read] }
  inbound:
    alertmanager: {}
    pagerduty: {}
    opsgenie: {}
    zabbix:
      token: { header: X-Api-Key }
      requests:
        - path: /in/zabbix/{host}
          mapping:
            - when: ['value = 0']
              does: resolve
              key: '{{ id }}'
              labels: { event: Zabbix }
            - when: ['name != ""']
              key: '{{ id }}'
              lasts: until resolved
              labels: { event: '{{ name }}', computer: '{{ request.path.host }}' }
              severity: '{{ nseverity }}'
              severity_words: { "5": critical, "4": major }
          answer: { status: 201, body: { id: '{{ id }}', kept: true } }
    quiet:
      token: { body: auth.secret }
      requests: [{ path: /in/quiet, mapping: [{ when: ['a = 1'], labels: { event: E } }] }]
heartbeats:
  - { name: nightly-backup, period: 1h, grace: 1m }
receivers:
  - name: log
    actions: [{ event_log: { to: file, path: told.log } }]
route:
  receiver: log
  group_by: [event]
  group_wait: 0s
  group_interval: 1s
"#;

const TOKEN: &str = "a-token-of-boston";

fn site() -> (Site, Server) {
    let site = Site::new(CONFIG);
    site.secret("boston.token", TOKEN);
    site.secret("reader.token", "a-token-that-reads");
    let server = site.start();
    (site, server)
}

/// What curl says, and the status.
fn curl(server: &Server, arguments: &[&str], path: &str) -> (u16, String) {
    let mut command = Command::new("curl");
    clean(&mut command);
    command.args(["-sS", "-w", "\n%{http_code}"]).args(arguments).arg(format!("{}{path}", server.url()));
    let ran = run(&mut command).ends(0);
    let (body, status) = ran.stdout.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

fn post(server: &Server, header: &str, body: &str, path: &str) -> (u16, String) {
    curl(server, &["-X", "POST", "-H", "Content-Type: application/json", "-H", header, "-d", body], path)
}

/// Waits for a line of the event log with all of these words.
fn until_line(site: &Site, words: &[&str]) {
    until_true(&words.join(" "), || {
        site.read("told.log").lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

/// The alerts that fire of this event, acknowledged or not.
fn firing(server: &Server, event: &str) -> Vec<bool> {
    let mut connection = server.connect();
    let headers = [("Authorization", "Bearer a-token-that-reads")];
    let path = format!("/api/v1/alerts?filter=event%3D%22{}%22", event.replace(' ', "%20"));
    let answer = connection.call("GET", &path, &headers, b"").expect("an answer").is(200).json();
    let alerts = answer.as_array().expect("a list").clone();
    let fires = alerts.iter().filter(|alert| alert["state"] == "firing");
    fires.map(|alert| !alert["acknowledged"].is_null()).collect()
}

#[test]
fn what_alertmanager_tells_is_told_over_a_kill() {
    let (site, server) = site();
    let address = closed_address();
    let config = site.path().join("alertmanager.yml");
    // The user's name is for people; the password is the token.
    let text = format!(
        "route: {{receiver: ams2, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\nreceivers:\n- name: ams2\n  webhook_configs:\n  - url: {}/in/alertmanager\n    http_config: {{basic_auth: {{username: alertmanager, password: {TOKEN}}}}}\n",
        server.url()
    );
    fs::write(&config, text).expect("written");
    let mut command = Command::new("prometheus-alertmanager");
    clean(&mut command);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", site.path().join("alertmanager").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(site.path().join("theirs.log")).expect("a log"));
    let _theirs = Ward(command.spawn().expect("it runs (Debian package prometheus-alertmanager)"));
    let amtool = |arguments: &[&str]| {
        let mut command = Command::new("amtool");
        clean(&mut command);
        run(command.arg(format!("--alertmanager.url=http://{address}")).args(arguments))
    };
    until_true("Alertmanager answers", || amtool(&["cluster", "show"]).code == Some(0));
    amtool(&["alert", "add", "Disk", "host=a", "severity=major", "--annotation=summary=it is full"]).ends(0);
    until_line(&site, &["state=firing", "alertname=Disk", "host=a", "severity=major", "it is full"]);
    // Nothing of it is lost with the process; who comes again is refused until it is back, and comes again.
    let port = server.address().port();
    server.kill();
    amtool(&["alert", "add", "Disk", "host=a", "severity=major", "--end=2020-01-01T00:00:00Z"]).ends(0);
    let mut command = ams2();
    let listen = format!("127.0.0.1:{port}");
    let arguments = site.arguments().into_iter();
    command.args(arguments.map(|argument| if argument == "127.0.0.1:0" { listen.clone() } else { argument }));
    let _server = site.start_as(command);
    until_line(&site, &["state=resolved", "alertname=Disk", "host=a"]);
}

#[test]
fn pagerdutys_events_open_take_and_close_an_alert() {
    let (site, server) = site();
    let event = |action: &str, rest: &str| {
        let body =
            format!(r#"{{"routing_key":"{TOKEN}","event_action":"{action}","dedup_key":"disk/a"{rest}}}"#);
        post(&server, "X-Nothing: 1", &body, "/v2/enqueue")
    };
    let payload = r#","payload":{"summary":"Disk full","source":"web-1","severity":"critical","class":"Disk","custom_details":{"free":"0"}}"#;
    let (status, body) = event("trigger", payload);
    assert_eq!((status, body.contains(r#""status":"success""#)), (202, true), "{body}");
    assert!(body.contains(r#""dedup_key":"disk/a""#), "{body}");
    until_line(&site, &["state=firing", "event=Disk", "computer=web-1", "severity=critical", "Disk full"]);
    assert_eq!(event("acknowledge", "").0, 202);
    until_true("it is taken", || firing(&server, "Disk") == [true]);
    assert_eq!(event("resolve", "").0, 202);
    until_line(&site, &["state=resolved", "event=Disk", "computer=web-1"]);
    assert_eq!(firing(&server, "Disk"), Vec::<bool>::new());

    let (status, body) = event("trigger", r#","payload":{"source":"a","severity":"info"}"#);
    assert_eq!(status, 400);
    assert!(body.contains("invalid event") && body.contains("'payload.summary' is missing"), "{body}");
    let wrong = r#"{"routing_key":"another","event_action":"trigger","payload":{"summary":"s","source":"a","severity":"info"}}"#;
    assert_eq!(post(&server, "X-Nothing: 1", wrong, "/v2/enqueue").0, 403);
    until_line(&site, &["Access Denied", "127.0.0.1"]);
    // Without a key of its own it gets one, which ends it.
    let own = format!(
        r#"{{"routing_key":"{TOKEN}","event_action":"trigger","payload":{{"summary":"Own","source":"a","severity":"info"}}}}"#
    );
    let (_, body) = post(&server, "X-Nothing: 1", &own, "/v2/enqueue");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let key = answer["dedup_key"].as_str().expect("a key").to_owned();
    until_true("it fires", || firing(&server, "Own").len() == 1);
    let over = format!(r#"{{"routing_key":"{TOKEN}","event_action":"resolve","dedup_key":"{key}"}}"#);
    post(&server, "X-Nothing: 1", &over, "/v2/enqueue");
    until_true("it is over", || firing(&server, "Own").is_empty());
}

#[test]
fn an_opsgenie_script_works_with_another_host_and_key() {
    let (site, server) = site();
    let key = format!("Authorization: GenieKey {TOKEN}");
    let create = r#"{"message":"Backup failed","alias":"backup of web-1","description":"no space","priority":"P1","tags":["nightly"],"details":{"job":"17"}}"#;
    let (status, body) = post(&server, &key, create, "/v2/alerts");
    assert_eq!((status, body.contains("Request will be processed")), (202, true), "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let request = answer["requestId"].as_str().expect("an id").to_owned();
    let (status, body) = curl(&server, &["-H", &key], &format!("/v2/alerts/requests/{request}"));
    assert_eq!((status, body.contains(r#""alias":"backup of web-1""#)), (200, true), "{body}");
    until_line(
        &site,
        &["state=firing", "Opsgenie Alert", "Backup failed", "severity=critical", "tags=nightly"],
    );
    let about = |what: &str, body: &str| {
        post(&server, &key, body, &format!("/v2/alerts/backup%20of%20web-1/{what}?identifierType=alias"))
    };
    assert_eq!(about("acknowledge", r#"{"user":"ann","note":"on it"}"#).0, 202);
    until_true("it is taken", || firing(&server, "Opsgenie Alert") == [true]);
    // The message of one that is taken changes, and it stays taken.
    assert_eq!(
        post(&server, &key, &create.replace("Backup failed", "Backup failed twice"), "/v2/alerts").0,
        202
    );
    let other = |alias: &str| {
        assert_eq!(post(&server, &key, &create.replace("backup of web-1", alias), "/v2/alerts").0, 202);
    };
    other("backup of web-2");
    let mut taken =
        until("both fire", || Some(firing(&server, "Opsgenie Alert")).filter(|all| all.len() == 2));
    taken.sort();
    assert_eq!(taken, [false, true]);
    assert_eq!(about("close", r#"{"user":"ann"}"#).0, 202);
    until_line(&site, &["state=resolved", "Backup failed"]);
    let (status, body) = curl(&server, &["-H", &key], "/v2/heartbeats/nightly-backup/ping");
    assert_eq!((status, body.contains("PONG")), (202, true), "{body}");
    let reader = ["-H", "Authorization: Bearer a-token-that-reads"];
    until_true("it is heard of", || {
        curl(&server, &reader, "/api/v1/heartbeats").1.contains(r#""state":"up""#)
    });
    assert_eq!(curl(&server, &["-H", &key], "/v2/heartbeats/another/ping").0, 422);
    assert_eq!(post(&server, &key, "{}", "/v2/alerts").0, 422);
    // What of their API is not here.
    assert_eq!(post(&server, &key, "{}", "/v2/alerts/a/notes").0, 404);
    assert_eq!(post(&server, "Authorization: GenieKey wrong", "{}", "/v2/alerts/a/notes").0, 403);
    // The same key by another tool of this client is another alert's.
    let theirs =
        format!(r#"{{"routing_key":"{TOKEN}","event_action":"resolve","dedup_key":"backup of web-2"}}"#);
    assert_eq!(post(&server, "X-Nothing: 1", &theirs, "/v2/enqueue").0, 202);
    other("backup of web-3");
    until_true("both fire", || firing(&server, "Opsgenie Alert").len() == 2);
    let (status, body) = post(&server, "Authorization: GenieKey wrong", create, "/v2/alerts");
    assert_eq!((status, body.contains("\"message\"")), (403, true), "{body}");
}

#[test]
fn hooks_of_ones_own_and_what_is_wrong_with_requests() {
    let (site, server) = site();
    let key = format!("X-Api-Key: {TOKEN}");
    let (status, body) =
        post(&server, &key, r#"{"id":7,"name":"CPU","value":1,"nseverity":5}"#, "/in/zabbix/web%2D1");
    assert_eq!((status, body.as_str()), (201, r#"{"id":"7","kept":true}"#));
    until_line(&site, &["state=firing", "event=CPU", "computer=web-1", "severity=critical"]);
    post(&server, &key, r#"{"id":7,"value":0}"#, "/in/zabbix/web-1");
    until_line(&site, &["state=resolved", "event=CPU"]);

    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let rows: [(&str, &str, u16); 7] = [
        ("{", "/in/zabbix/a", 400),
        (&deep, "/in/zabbix/a", 400),
        ("\u{0}", "/in/zabbix/a", 400),
        ("[1]", "/in/zabbix/a", 201),
        ("", "/in/zabbix/a", 201),
        (r#"{"id":1,"name":"Secret plans"}"#, "/in/zabbix/a", 403),
        // Nobody takes it there.
        ("{}", "/in/zabbix/a/b", 404),
    ];
    for (body, path, expected) in rows {
        let file = site.path().join("body");
        fs::write(&file, body).expect("written");
        let data = format!("@{}", file.display());
        let arguments = [
            "-X",
            "POST",
            "-H",
            &key,
            "-H",
            &format!("Authorization: Bearer {TOKEN}"),
            "--data-binary",
            &data,
        ];
        let (status, answer) = curl(&server, &arguments, path);
        assert_eq!(status, expected, "{}: {answer}", &body[..body.len().min(40)]);
    }
    // What no rule takes is kept as it came.
    until_line(&site, &["Unknown Message", "no rule of zabbix takes it"]);
    // But without the token that its sender shows in it.
    let body = format!(r#"{{"auth":{{"secret":"{TOKEN}","user":"ann"}},"b":1}}"#);
    assert_eq!(post(&server, "X-Nothing: 1", &body, "/in/quiet").0, 200);
    until_line(&site, &["Unknown Message", "no rule of quiet takes it"]);
    let alerts = curl(&server, &["-H", "Authorization: Bearer a-token-that-reads"], "/api/v1/alerts").1;
    assert!(alerts.contains(r#"{\"auth\":{\"secret\":null,\"user\":\"ann\"},\"b\":1}"#), "{alerts}");
    assert!(!alerts.contains(TOKEN), "{alerts}");
    let reader = ["-X", "POST", "-H", "X-Api-Key: a-token-that-reads", "-d", r#"{"name":"a"}"#];
    assert_eq!(curl(&server, &reader, "/in/zabbix/a").0, 403);
    assert_eq!(curl(&server, &["-X", "POST", "-d", "{}"], "/in/zabbix/a").0, 401);
    let (status, answer) = curl(&server, &["-i"], "/in/zabbix/a");
    assert_eq!((status, answer.to_lowercase().contains("allow: post")), (405, true), "{answer}");
    let zipped = ["-X", "POST", "-H", &key, "-H", "Content-Encoding: gzip", "-d", "{}"];
    assert_eq!(curl(&server, &zipped, "/in/zabbix/a").0, 415);
}

#[test]
fn a_hook_that_is_gone_takes_its_keys_with_it_and_a_reload_says_so() {
    let config = |name: &str| {
        format!(
            "originator: {{inbound: {{{name}: {{requests: [{{path: /in/a, mapping: [{{key: '{{{{ id }}}}', labels: {{event: E}}}}]}}]}}}}}}\nreceivers: [{{name: n, actions: [{{event_log: {{to: file, path: e.log}}}}]}}]\nroute: {{receiver: n}}\n"
        )
    };
    let site = Site::new(&config("one"));
    let _server = site.start();
    site.configure(&config("other"));
    site.client(&["reload"]).ends(0).says("the web hook `one` is gone");
}

#[test]
fn hooks_that_cannot_be_are_refused_by_check() {
    let rows = [
        ("{pagerdty: {}}", "did you mean `pagerduty`?"),
        ("{pagerduty: {pth: x}}", "unknown key `pth`"),
        ("{own: {requests: [{path: /api/v1/alerts, mapping: [{labels: {event: e}}]}]}}", "are ams2's own"),
        ("{own: {requests: [{path: in, mapping: [{labels: {event: e}}]}]}}", "is no path"),
        ("{own: {requests: [{path: /in/a}]}}", "`mapping` is missing"),
        ("{own: {requests: [{path: /in/a, methods: [PAST], mapping: [{does: drop}]}]}}", "is no method"),
        (
            "{own: {requests: [{path: /v2/enqueue, mapping: [{does: drop}]}]}, pagerduty: {}}",
            "take the same requests",
        ),
        (
            "{own: {token: {}, requests: [{path: /in/a, mapping: [{does: drop}]}]}}",
            "either `header` or `body`",
        ),
        ("{own: {requests: [{path: /in/a, mapping: [{does: acknowledge}]}]}}", "nothing says which alert"),
        (
            "{own: {requests: [{path: /in/a, mapping: [{does: drop}], answer: {status: 99}}]}}",
            "from 200 to 299",
        ),
    ];
    for (inbound, words) in rows {
        let site = Site::new(&format!(
            "originator: {{inbound: {inbound}}}\nreceivers: [{{name: n, actions: [{{event_log: {{to: file, path: e.log}}}}]}}]\nroute: {{receiver: n}}\n"
        ));
        run(ams2().arg("check").arg(site.config())).ends(2).says(words);
    }
}
