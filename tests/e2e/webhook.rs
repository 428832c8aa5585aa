//! Web hooks: beside Debian's Alertmanager, to a server of Python's with TLS both ways, and the examples with their services.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::{examples::example, harness::*};

/// One request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A web server that keeps what it is asked; its threads end with their connections.
pub(super) struct Sink {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Sink {
    /// Answers the n-th request (from 0) with a status and a body.
    pub fn start(script: impl Fn(usize, &Asked) -> (u16, String) + Send + Sync + 'static) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, script) = (asked.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, script) = (kept.clone(), script.clone());
                std::thread::spawn(move || serve(&stream, &kept, &*script));
            }
        });
        Sink { address, asked }
    }

    /// What came so far, from the `first`-th request on.
    pub fn since(&self, first: usize) -> Vec<Asked> {
        self.asked.lock().expect("no panic")[first..].to_vec()
    }

    /// What came to `path` so far.
    pub fn at(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// The n-th request to `path`, counted from 1.
    #[track_caller]
    pub fn nth(&self, path: &str, number: usize) -> Asked {
        until(&format!("request {number} to {path}"), || self.at(path).into_iter().nth(number - 1))
    }
}

fn serve(stream: &TcpStream, kept: &Mutex<Vec<Asked>>, script: &dyn Fn(usize, &Asked) -> (u16, String)) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().expect("a number"))];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let asked = Asked { path, headers, body: String::from_utf8(body).expect("text") };
        let number = {
            let mut kept = kept.lock().expect("no panic");
            kept.push(asked.clone());
            kept.len() - 1
        };
        let (status, body) = script(number, &asked);
        let answer = format!("HTTP/1.1 {status} Word\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if (&mut &*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Own alerts go nowhere: what follows is of no interest to them.
fn quietly(config: &str) -> String {
    let route = "    - { matchers: ['source = \"ams2\"'], receiver: quiet }\n";
    let config = config.replacen("receivers:\n", "receivers:\n  - name: quiet\n", 1);
    match config.contains("  routes:\n") {
        true => config.replacen("  routes:\n", &format!("  routes:\n{route}"), 1),
        false => format!("{}\n  routes:\n{route}", config.trim_end()),
    }
}

/// One action, told of each alert.
fn one(action: &str) -> String {
    quietly(&format!(
        "receivers:\n  - {{ name: hooks, actions: [{action}] }}\nroute:\n  receiver: hooks\n  notify: each\n"
    ))
}

pub(super) fn ok(_: usize, _: &Asked) -> (u16, String) {
    (200, String::new())
}

/// One that was free a moment ago: what listens on it cannot say which port it took.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}

fn post(port: u16, alerts: &Value) -> Option<u16> {
    let mut connection = Connection::tcp(SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
    let headers = [("Content-Type", "application/json")];
    connection
        .call("POST", "/api/v2/alerts", &headers, alerts.to_string().as_bytes())
        .ok()
        .map(|answer| answer.status)
}

#[test]
fn the_body_is_the_one_that_alertmanager_sends() {
    let sink = Sink::start(ok);
    let to = |path: &str| format!("http://{}/{path}", sink.address);
    let route = "route:\n  receiver: hooks\n  group_by: [site]\n  group_wait: 5s\n  group_interval: 2s\n  repeat_interval: 1h\n";
    let site = Site::new(&quietly(&format!(
        "external_url: http://ams2.example.com\nreceivers:\n  - name: hooks\n    actions:\n      - webhook: {{ url: '{}' }}\n      - webhook: {{ url: '{}', max_alerts: 1 }}\n{route}",
        to("ours"),
        to("ours/short"),
    )));
    let config = site.path().join("alertmanager.yml");
    let text = quietly(&format!(
        "receivers:\n  - name: hooks\n    webhook_configs:\n      - {{ url: '{}' }}\n      - {{ url: '{}', max_alerts: 1 }}\n{route}",
        to("theirs"),
        to("theirs/short"),
    ));
    fs::write(&config, text).expect("written");
    let port = free_port();
    let mut command = Command::new("prometheus-alertmanager");
    clean(&mut command);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", site.path().join("alertmanager").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.external-url=http://ams2.example.com", "--cluster.listen-address="])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _theirs = Ward(command.spawn().expect("it runs (Debian package prometheus-alertmanager)"));
    let server = site.start();
    until_true("Alertmanager takes alerts", || post(port, &json!([])) == Some(200));
    // We keep milliseconds.
    let now = || jiff::Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond()).expect("a time");
    // Not longer ago than `group_wait`: a group of older alerts is told at once, of those that it has by then.
    let started = now();
    let alert = |name: &str, instance: &str, end: Option<jiff::Timestamp>| {
        let mut alert = json!({
            "labels": { "alertname": name, "site": "boston", "instance": instance, "job": "node", "text": "\"q\" <&> ü\n" },
            "annotations": { "summary": "it is \u{2028} full", "runbook": "http://wiki.example.com/a?b=c&d" },
            "startsAt": started.to_string(),
            "generatorURL": "http://prometheus.example.com/graph?g0.expr=up",
        });
        if let Some(end) = end {
            alert["endsAt"] = json!(end.to_string());
        }
        alert
    };
    let firing = json!([
        alert("DiskFull", "b:9100", None),
        alert("DiskFull", "a:9100", None),
        alert("Slow", "a:9100", None)
    ]);
    assert_eq!(post(port, &firing), Some(200));
    assert_eq!(post(server.address().port(), &firing), Some(200));
    let same = |number: usize| {
        for path in ["", "/short"] {
            let (ours, theirs) =
                (sink.nth(&format!("/ours{path}"), number), sink.nth(&format!("/theirs{path}"), number));
            assert_eq!(ours.json(), theirs.json(), "{number} {path}");
            assert_eq!(ours.header("content-type"), theirs.header("content-type"));
            // Key for key, in their order.
            let keys = |asked: &Asked| -> Vec<usize> {
                [
                    "\"receiver\"",
                    "\"status\"",
                    "\"alerts\"",
                    "\"groupLabels\"",
                    "\"version\"",
                    "\"truncatedAlerts\"",
                ]
                .iter()
                .map(|key| asked.body.find(key).expect(key))
                .collect()
            };
            assert!(keys(&ours).is_sorted() && keys(&theirs).is_sorted(), "{}", theirs.body);
        }
    };
    same(1);
    assert_eq!(sink.nth("/ours/short", 1).json()["truncatedAlerts"], 2);
    let end = now();
    let ended = json!([
        alert("DiskFull", "b:9100", Some(end)),
        alert("DiskFull", "a:9100", Some(end)),
        alert("Slow", "a:9100", Some(end))
    ]);
    assert_eq!(post(port, &ended), Some(200));
    assert_eq!(post(server.address().port(), &ended), Some(200));
    same(2);
    assert_eq!(sink.nth("/ours", 2).json()["status"], "resolved");
}

/// What a far end that was busy hears again is the same, under the same id, over a crash of ours as well.
#[test]
fn a_retry_keeps_the_id_and_every_byte() {
    let sink =
        Sink::start(|number, _| if number < 2 { (503, "busy".into()) } else { (200, "thanks".into()) });
    let site = Site::new(&one(&format!(
        "{{webhook: {{url: 'http://{}/h', signing_secret_file: key}}}}",
        sink.address
    )));
    site.secret("key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let server = site.start();
    server.post(&alert("Disk Full", "1")).is(200);
    let first = sink.nth("/h", 1);
    server.kill();
    let server = site.start();
    let last = sink.nth("/h", 3);
    server.until_quiet();
    for name in ["idempotency-key", "webhook-id"] {
        assert!(first.header(name).is_some() && first.header(name) == last.header(name), "{name}: {last:?}");
    }
    assert_eq!(first.body, last.body);
    let done = server.get("/api/v1/deliveries?state=done").text();
    assert!(done.contains("200 OK: thanks"), "{done}");
}

#[test]
fn a_token_is_fetched_before_the_first_request() {
    let sink = Sink::start(|_, asked| match asked.path.as_str() {
        "/token" => (200, r#"{"access_token":"of-the-server","expires_in":3600}"#.into()),
        _ => (
            if asked.header("authorization") == Some("Bearer of-the-server") { 200 } else { 401 },
            String::new(),
        ),
    });
    let site = Site::new(&one(&format!(
        "{{webhook: {{url: 'http://{0}/h', oauth2: {{client_id: ams2, client_secret_file: secret, token_url: 'http://{0}/token'}}}}}}",
        sink.address
    )));
    site.secret("secret", "of-the-client");
    let server = site.start();
    for n in ["1", "2", "3"] {
        server.post(&alert("Disk Full", n)).is(200);
    }
    sink.nth("/h", 3);
    server.until_quiet();
    assert_eq!((sink.at("/token").len(), sink.at("/h").len()), (1, 3));
    for shown in ["/metrics", "/api/v1/actions", "/api/v1/deliveries?state=done", "/api/v2/status"] {
        let shown = server.get(shown).text();
        assert!(!shown.contains("of-the-client") && !shown.contains("of-the-server"), "{shown}");
    }
    assert!(!site.log().contains("of-the-"), "{}", site.log());
}

/// OpenSSL, by Python, demands a certificate of ours and has one that we must trust.
const PYTHON: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        who = dict(pair[0] for pair in self.connection.getpeercert()["subject"])["commonName"]
        with open("received", "a") as file:
            file.write(who + " " + body.decode() + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain("server.pem", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
with open("port.new", "w") as file:
    file.write(str(server.server_address[1]))
import os; os.rename("port.new", "port")
server.serve_forever()
"#;

#[test]
fn pythons_server_and_we_know_each_other_by_certificates() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let site = Site::new(EACH);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    site.secret("ca.pem", &authority.pem());
    for (file, name) in [("server", "localhost"), ("client", "ams2-of-boston")] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        site.secret(&format!("{file}.pem"), &params.signed_by(&key, &authority).expect("signed").pem());
        site.secret(&format!("{file}.key"), &key.serialize_pem());
    }
    let mut command = Command::new("python3");
    clean(&mut command);
    command.current_dir(site.path()).args(["-c", PYTHON]).stdin(Stdio::null());
    let said = fs::File::create(site.path().join("said")).expect("a file");
    let _python = Ward(command.stdout(Stdio::null()).stderr(said).spawn().expect("python3 runs"));
    let port = until("Python listens", || fs::read_to_string(site.path().join("port")).ok());
    let config =
        |tls: &str| one(&format!("{{webhook: {{url: 'https://localhost:{port}/', tls: {{{tls}}}}}}}"));
    let both = "ca_file: ca.pem, cert_file: client.pem, key_file: client.key";
    site.configure(&config(both));
    run(ams2().args(["check", "--probe"]).arg(site.config())).ends(0);
    let server = site.start();
    server.post(&alert("Disk Full", "1")).is(200);
    let received = || fs::read_to_string(site.path().join("received")).unwrap_or_default();
    until_true("Python has it", || received().contains("Disk Full"));
    assert!(received().starts_with("ams2-of-boston {\"receiver\":\"hooks\""), "{}", received());
    drop(server);
    // Without a certificate of ours nothing arrives, and the alert waits.
    site.configure(&config("ca_file: ca.pem"));
    let server = site.start();
    server.post(&alert("Disk Full", "2")).is(200);
    until_true("it was tried", || {
        server.metric("ams2_attempts_total{action=\"hooks/webhook/0\",outcome=\"transient\"}") >= Some(1)
    });
    assert_eq!(received().lines().count(), 1, "{}", received());
}

/// An example whose far ends are one sink and whose groups wait as `wait` says, with a folder for its secrets.
fn example_told_to(sink: &Sink, name: &str, wait: &str) -> Site {
    let site = example(name);
    let text = fs::read_to_string(site.config()).expect("readable");
    let text = text
        .replace("127.0.0.1:5001", &sink.address.to_string())
        .replace("group_wait: 10s", wait)
        .replace("127.0.0.1:9093", "127.0.0.1:0");
    site.configure(&quietly(&text));
    fs::create_dir(site.path().join("secrets")).expect("made");
    site
}

#[test]
fn the_example_of_web_hooks_tells_each() {
    let sink = Sink::start(|_, asked| match asked.path.as_str() {
        "/token" => (200, r#"{"access_token":"t"}"#.into()),
        _ => (200, String::new()),
    });
    let site = example_told_to(&sink, "webhook.yaml", "group_wait: 0s");
    site.secret("secrets/hook.url", &format!("http://{}/secret-path", sink.address));
    site.secret("secrets/hook.signing", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    site.secret("secrets/hook.client", "of the client");
    let server = site.start();
    server.post(&alert("Virus Found", "1")).is(200);
    assert_eq!(sink.nth("/alerts", 1).json()["version"], "4");
    assert!(sink.nth("/secret-path", 1).header("webhook-signature").expect("signed").starts_with("v1,"));
    let own = sink.nth("/events/hooks", 1);
    assert_eq!(own.json()["alerts"], json!([{ "event": "Virus Found", "site": "?" }]));
    assert_eq!(own.header("authorization"), Some("Bearer t"));
}

#[test]
fn the_example_of_chats_tells_each() {
    let sink = Sink::start(|_, asked| {
        let answer = match asked.path.split('/').nth(1) {
            Some("slack") => r#"{"ok":true,"channel":"C1","ts":"17.1"}"#,
            Some("ntfy") => r#"{"event":"message"}"#,
            Some("telegram") => r#"{"ok":true,"result":{"message_id":7}}"#,
            Some("pagerduty") => r#"{"status":"success"}"#,
            _ => r#"{"event_id":"$e:example.com"}"#,
        };
        (200, answer.into())
    });
    let site = example_told_to(&sink, "chat.yaml", "group_wait: 0s\n  group_interval: 1s");
    for name in ["slack.token", "matrix.token", "telegram.token", "pagerduty.key"] {
        site.secret(&format!("secrets/{name}"), name);
    }
    let server = site.start();
    let mut told = json!({ "labels": { "event": "Virus Found", "site": "boston", "severity": "critical" } });
    server.post(&told.to_string()).is(200);
    assert_eq!(sink.nth("/slack/chat.postMessage", 1).json()["channel"], "#alerts");
    assert_eq!(sink.nth("/ntfy/", 1).json()["priority"], 5);
    assert_eq!(sink.nth("/pagerduty", 1).json()["event_action"], "trigger");
    let telegram = sink.nth("/telegram/bottelegram.token/sendMessage", 1).json();
    assert_eq!(telegram["text"], "<b>[FIRING] Virus Found, critical: site=boston</b>\n");
    until_true("Matrix has it", || {
        sink.asked.lock().expect("no panic").iter().any(|asked| asked.path.starts_with("/_matrix/"))
    });
    // The end stands in the thread of the beginning, and ends the incident.
    told["ends_at"] = json!(jiff::Timestamp::now().to_string());
    server.post(&told.to_string()).is(200);
    assert_eq!(sink.nth("/slack/chat.postMessage", 2).json()["thread_ts"], "17.1");
    let (began, ended) = (sink.nth("/pagerduty", 1).json(), sink.nth("/pagerduty", 2).json());
    assert_eq!((&ended["event_action"], &ended["dedup_key"]), (&json!("resolve"), &began["dedup_key"]));
    server.until_quiet();
    for shown in ["/metrics", "/api/v1/deliveries?state=done"] {
        let shown = server.get(shown).text();
        assert!(!shown.contains("telegram.token"), "{shown}");
    }
}

#[test]
fn the_example_of_tickets_tells_each() {
    let issue = r#"{"issues":[{"key":"OPS-1","fields":{"status":{"statusCategory":{"key":"new"}}}}]}"#;
    let found = Arc::new(Mutex::new(false));
    let sink = Sink::start(move |_, asked| {
        let mut found = found.lock().expect("no panic");
        match asked.path.as_str() {
            "/jira/rest/api/2/search" if *found => (200, issue.into()),
            "/jira/rest/api/2/search" => (200, r#"{"issues":[]}"#.into()),
            "/jira/rest/api/2/issue" => {
                *found = true;
                (201, r#"{"id":"10000","key":"OPS-1"}"#.into())
            }
            "/jira/rest/api/2/issue/OPS-1" => (204, String::new()),
            path if path.ends_with("/transitions") => {
                (200, r#"{"transitions":[{"id":"31","name":"Done"}]}"#.into())
            }
            "/sts/" => (200, "<R><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken></R>".into()),
            "/sns/" => (200, "<R><MessageId>1</MessageId></R>".into()),
            path if path.starts_with("/cgi-bin/gettoken") => {
                (200, r#"{"errcode":0,"access_token":"wecom-token","expires_in":7200}"#.into())
            }
            _ => (200, r#"{"errcode":0,"errmsg":"ok"}"#.into()),
        }
    });
    let site = example_told_to(&sink, "tickets.yaml", "group_wait: 0s\n  group_interval: 1s");
    for name in ["jira.token", "aws.key", "wecom.secret"] {
        site.secret(&format!("secrets/{name}"), name);
    }
    let server = site.start();
    let mut told = json!({ "labels": { "event": "Virus Found", "site": "boston", "severity": "critical" } });
    server.post(&told.to_string()).is(200);
    let issue = sink.nth("/jira/rest/api/2/issue", 1).json();
    assert_eq!(issue["fields"]["components"], json!([{ "name": "Virus Found" }]));
    assert_eq!(issue["fields"]["labels"][1], "boston");
    assert!(sink.nth("/sns/", 1).body.contains("MessageGroupId="), "a FIFO topic");
    assert_eq!(sink.nth("/cgi-bin/message/send?access_token=wecom-token", 1).json()["toparty"], "2");
    server.until_quiet();
    // The end resolves the issue.
    told["ends_at"] = json!(jiff::Timestamp::now().to_string());
    server.post(&told.to_string()).is(200);
    let moved = sink.nth("/jira/rest/api/2/issue/OPS-1/transitions", 2).json();
    assert_eq!(moved, json!({ "transition": { "id": "31" } }));
    server.until_quiet();
    let done = server.get("/api/v1/deliveries?state=done").text();
    assert!(done.contains("OPS-1 is new") && done.contains("OPS-1 was changed and resolved"), "{done}");
    for secret in ["jira.token", "wecom-token", "aws.key"] {
        assert!(!done.contains(secret), "{done}");
    }
}
