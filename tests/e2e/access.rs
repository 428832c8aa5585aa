//! Who may come in, and how: TLS, tokens, what a client may send, peer credentials of the socket; metrics; full queues.

use std::{
    io::{Read, Write},
    process::Command,
};

use super::harness::*;

/// A certificate for `localhost` that signs itself, and its key.
fn certificate(site: &Site) {
    certificate_in(site, ".");
}

/// The same in a folder of the site.
pub fn certificate_in(site: &Site, folder: &str) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    site.secret(&format!("{folder}/cert.pem"), &made.cert.pem());
    site.secret(&format!("{folder}/key.pem"), &made.signing_key.serialize_pem());
}

fn curl(site: &Site, arguments: &[&str]) -> Ran {
    let mut command = Command::new("curl");
    clean(&mut command);
    run(command
        .current_dir(site.path())
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(arguments))
}

const TLS: &str = "tls: {cert_file: cert.pem, key_file: key.pem}";

#[test]
fn tls_serves_clients_that_trust_its_certificate_and_no_others() {
    let site = Site::new(&format!("originator: {{http: {{{TLS}}}}}{EACH}"));
    certificate(&site);
    let server = site.start();
    let port = server.address().port();
    let url = format!("https://localhost:{port}");
    let ready = format!("{url}/-/ready");
    curl(&site, &["--cacert", "cert.pem", "--fail", &ready]).ends(0);
    curl(&site, &["--cacert", "cert.pem", "--fail", "--tlsv1.2", "--tls-max", "1.2", &ready]).ends(0);
    assert_ne!(curl(&site, &["--cacert", "cert.pem", "--tlsv1.0", "--tls-max", "1.1", &ready]).code, Some(0));
    curl(&site, &[&ready]).ends(60);
    let alerts = format!("{url}/api/v1/alerts");
    curl(&site, &["--cacert", "cert.pem", "--fail", "--json", &alert("TLS", "curl"), &alerts]).ends(0);
    let ca = site.path().join("cert.pem");
    let ca = ca.to_str().expect("UTF-8");
    run(ams2().args(["send", "TLS", "-l", "n=ours", "--to", &url, "--ca-file", ca])).ends(0);
    let mut by_the_system = ams2();
    by_the_system.env("SSL_CERT_FILE", ca).args(["send", "TLS", "-l", "n=system", "--to", &url]);
    run(&mut by_the_system).ends(0);
    site.until_told(&["curl", "ours", "system"]);
    // Its name does not fit the address; another authority did not sign it.
    run(ams2().args(["send", "TLS", "--to", &format!("https://127.0.0.1:{port}"), "--ca-file", ca]))
        .ends(5)
        .says("TLS with");
    let other = Site::new("");
    certificate(&other);
    let wrong = other.path().join("cert.pem");
    run(ams2().args(["send", "TLS", "--to", &url, "--ca-file", wrong.to_str().expect("UTF-8")]))
        .ends(5)
        .says("--ca-file");
    // Plain HTTP on the TLS port, and TLS on none: closed, and the next client is served.
    let mut plain = server.connect();
    plain.stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    drop(plain.stream.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    curl(&site, &["--cacert", "cert.pem", "--fail", &ready]).ends(0);
}

#[test]
fn a_tls_handshake_that_does_not_go_on_is_cut_off() {
    let site = Site::new(&format!("originator: {{http: {{{TLS}, limits: {{handshake_time: 1s}}}}}}{EACH}"));
    certificate(&site);
    let server = site.start();
    let mut silent = server.connect();
    assert!(silent.is_closed());
}

#[test]
fn certificates_and_keys_that_do_not_fit_are_named() {
    let site = Site::new(&format!("originator: {{http: {{{TLS}}}}}{EACH}"));
    site.refused().ends(2).says("cert.pem cannot be read");
    certificate(&site);
    let other = Site::new("");
    certificate(&other);
    std::fs::copy(other.path().join("key.pem"), site.path().join("key.pem")).expect("copied");
    site.refused().ends(2).says("the certificate and the key do not fit");
    site.secret("key.pem", "no key");
    site.refused().ends(2).says("holds no private key");
}

#[test]
fn a_listener_that_others_can_reach_needs_tls_and_tokens_or_says_insecure() {
    let site = Site::new(EACH);
    let start = |site: &Site| {
        let mut command = ams2();
        command
            .args(["serve", "--listen", "0.0.0.0:0", "--config"])
            .arg(site.config())
            .arg("--data")
            .arg(site.data());
        command
    };
    run(&mut start(&site))
        .ends(2)
        .says("without TLS")
        .says("by anybody")
        .says("listen on 127.0.0.1, or say `insecure: true`");
    certificate(&site);
    site.configure(&format!("originator: {{http: {{{TLS}}}}}{EACH}"));
    let ran = run(&mut start(&site)).ends(2).says("by anybody");
    assert!(!ran.stderr.contains("without TLS"), "{}", ran.stderr);
    site.secret("token", "t0ken");
    site.configure(&format!(
        "originator: {{http: {{{TLS}}}, clients: [{{name: boston, token_file: token}}]}}{EACH}"
    ));
    assert!(site.start_as(start(&site)).terminate().success());
    site.configure(&format!("originator: {{http: {{insecure: true}}}}{EACH}"));
    let server = site.start_as(start(&site));
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    let answer = Connection::tcp(local)
        .and_then(|mut to| to.call("POST", "/api/v1/alerts", &[], alert("A", "1").as_bytes()));
    answer.expect("an answer").is(200);
}

const CLIENTS: &str = "
originator:
  clients:
    - {name: boston, token_file: boston.token, allow: ['site = \"boston\"', 'severity <= major']}
    - {name: desk, token_file: desk.token, may: [send, operate]}
    - {name: watch, token_file: watch.token, may: [read]}
    - {name: root, uid: 0, allow: ['site = \"local\"'], may: [send, operate]}
";

#[test]
fn tokens_say_who_a_client_is_and_what_it_may_send() {
    let site = Site::new(&format!("{CLIENTS}{EACH}"));
    site.secret("boston.token", "canary-boston\n");
    site.secret("desk.token", "canary-desk\n");
    site.secret("watch.token", "canary-watch\n");
    let server = site.start();
    let call = |token: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        server.connect().call(method, path, headers, body.as_bytes()).expect("an answer")
    };
    let post = |token: &str, body: &str| call(token, "POST", "/api/v1/alerts", body);
    let of = |site: &str, n: &str| {
        format!("{{\"labels\":{{\"event\":\"E\",\"site\":\"{site}\",\"severity\":\"minor\",\"n\":\"{n}\"}}}}")
    };
    for token in ["", "wrong", "canary-bosto", "canary-boston2"] {
        let answer = post(token, &of("boston", "no")).problem(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    call("", "POST", "/api/v1/alerts?token=canary-boston", &of("boston", "no")).problem(401);
    call("", "GET", "/metrics", "").problem(401);
    call("", "POST", "/-/reload", "").problem(401);
    call("", "GET", "/-/healthy", "").is(200);
    // Nothing is read from who may be anybody: the answer does not wait for a body.
    let head = b"POST /-/healthy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    server.connect().raw(head).expect("an answer").is(405);
    // Who is not known is refused before anything of the body is looked at.
    post("wrong", "not JSON").problem(401);
    post("canary-boston", &of("boston", "1")).is(200);
    let refused =
        post("canary-boston", &format!("[{},{}]", of("boston", "no"), of("austin", "no"))).problem(403);
    assert!(
        refused.text().contains("\"index\":1") && refused.text().contains("boston"),
        "{}",
        refused.text()
    );
    post("canary-boston", &of("boston", "no").replace("minor", "critical")).problem(403);
    call("canary-boston", "GET", "/api/v1/alerts", "").problem(403);
    call("canary-boston", "POST", "/-/reload", "").problem(403);
    post("canary-desk", &of("austin", "2")).is(200);
    call("canary-desk", "GET", "/api/v1/alerts", "").is(200);
    call("canary-watch", "GET", "/api/v1/alerts", "").is(200);
    call("canary-watch", "GET", "/metrics", "").is(200);
    for (path, body) in
        [("/api/v1/alerts", &*of("austin", "no")), ("/-/reload", ""), ("/api/v1/deliveries/retry", "{}")]
    {
        call("canary-watch", "POST", path, body).problem(403);
    }
    site.until_told(&["1", "2"]);
    assert!(!has(&site.events(), "no"), "{}", site.events());
    until_true("refused visitors raise an alert of our own", || site.events().contains("Access Denied"));
    // Beside whoever showed no token: each has a word of its own.
    let denied = "boston was refused: the client `boston` may only send alerts with site=";
    until_true("it says who was refused what", || site.events().contains(denied));
    let token = site.path().join("boston.token");
    let client =
        |more: &[&str]| run(ams2().args(more).arg("--token-file").arg(&token).arg("--to").arg(server.url()));
    client(&["send", "E", "-l", "site=boston", "-l", "n=3", "--severity", "minor"]).ends(0);
    client(&["send", "E", "-l", "site=austin"]).ends(4).says("may only send alerts with");
    client(&["query", "alerts"]).ends(4).says("add `read` to its `may:`");
    run(ams2().args(["send", "E", "--to", &server.url()])).ends(4).says("a valid token is required");
    site.until_told(&["3"]);
    // Nothing that we keep or say shows a token.
    for text in [site.log(), site.events(), call("canary-desk", "GET", "/metrics", "").text()] {
        assert!(!text.contains("canary-"), "{text}");
    }
    for entry in std::fs::read_dir(site.data()).expect("readable").map_while(Result::ok) {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        assert!(!bytes.windows(7).any(|window| window == b"canary-"), "{entry:?}");
    }
}

#[test]
fn the_socket_knows_its_clients_by_their_user() {
    demand_root();
    let site = Site::new(&format!("{CLIENTS}{EACH}"));
    site.secret("boston.token", "b");
    site.secret("desk.token", "d");
    site.secret("watch.token", "w");
    let _server = site.start();
    site.client(&["send", "E", "-l", "site=local", "-l", "n=1", "-s", "minor"]).ends(0);
    site.client(&["send", "E", "-l", "site=boston"]).ends(4).says("the client `root` may only send");
    site.until_told(&["1"]);
    let shown = site.client(&["query", "alerts", "n=1", "--json"]).ends(0).json();
    assert_eq!(shown[0]["client"], "root");
    // Its mode keeps others out.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(site.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A token says more than the user.
    let mut connection = Connection::unix(&site.socket()).expect("it listens");
    let body = "{\"labels\":{\"event\":\"E\",\"site\":\"boston\",\"severity\":\"minor\",\"n\":\"2\"}}";
    connection
        .call("POST", "/api/v1/alerts", &[("Authorization", "Bearer b")], body.as_bytes())
        .expect("an answer")
        .is(200);
    site.until_told(&["2"]);
}

#[test]
fn metrics_are_openmetrics_and_have_the_documented_names() {
    let snmp = "snmp: { listen: '127.0.0.1:0', clients: [{ name: switches, community_file: community }] }";
    let site = Site::new(&format!("originator: {{ syslog: {{ udp: '127.0.0.1:0' }}, {snmp} }}\n{EACH}"));
    site.secret("community", "example community");
    let server = site.start();
    server.post(&alert("M", "1")).is(200);
    site.until_told(&["1"]);
    server.until_quiet();
    let answer = server.get("/metrics").is(200);
    let kind = answer.header("content-type").expect("a type");
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let mut families: Vec<(&str, &str)> = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(families.iter().all(|(known, _)| *known != name), "{name} twice");
            families.push((name, kind));
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').expect("help");
            assert!(
                families.last().is_some_and(|(known, _)| *known == name) && words.ends_with('.'),
                "{line}"
            );
        } else {
            let (family, kind) = families.last().expect("a family before its samples");
            let name = line.split(['{', ' ']).next().expect("a name");
            let suffix = if *kind == "counter" { "_total" } else { "" };
            assert_eq!(name, format!("{family}{suffix}"), "{line}");
            assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{line}");
        }
    }
    // The list in the documentation and the families are the same.
    let documented: Vec<&str> = include_str!("../../docs/operating.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `ams2_").and_then(|rest| rest.split('`').next()))
        .collect();
    let shown: Vec<&str> = families.iter().filter_map(|(name, _)| name.strip_prefix("ams2_")).collect();
    assert_eq!(documented, shown, "docs/operating.md lists what /metrics shows, in its order");
}

#[test]
fn a_full_queue_answers_with_429_and_when_to_come_again() {
    // What waits for one flush may have 64 KiB: of many large requests at once, some must be refused.
    let site = Site::new(&format!("journal: {{dir: unused, waiting_bytes_max: 64KiB}}{EACH}"));
    let server = site.start();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    let body = |id: &str| {
        serde_json::json!({"labels": {"event": "Q", "n": id}, "annotations": {"a": "x".repeat(50_000)}})
            .to_string()
    };
    until_true("some are refused", || {
        let answers: Vec<(String, Answer)> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..16)
                .map(|n| {
                    let id = format!("{}-{n}", accepted.len() + refused);
                    let (address, body) = (server.address(), body(&id));
                    scope.spawn(move || {
                        let mut connection = Connection::tcp(address).expect("it listens");
                        let answer = connection.call("POST", "/api/v1/alerts", &[], body.as_bytes());
                        (id, answer.expect("an answer"))
                    })
                })
                .collect();
            senders.into_iter().map(|sender| sender.join().expect("an answer")).collect()
        });
        for (id, answer) in answers {
            if answer.status == 200 {
                accepted.push(id);
            } else {
                let answer = answer.problem(429);
                assert!(
                    answer
                        .header("retry-after")
                        .and_then(|wait| wait.parse::<u64>().ok())
                        .is_some_and(|wait| wait > 0)
                );
                refused += 1;
            }
        }
        refused > 0
    });
    server.post(&body("after")).is(200);
    accepted.push("after".into());
    site.until_told(&accepted);
    assert_eq!(server.metric("ams2_journal_refused_total{reason=\"busy\"}"), Some(refused as u64));
}

#[test]
fn too_many_connections_from_one_address_are_closed_and_others_go_on() {
    let site = Site::new(&format!("originator: {{http: {{limits: {{connections_per_address: 8}}}}}}{EACH}"));
    let server = site.start();
    let mut open: Vec<Connection> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut open {
        connection.call("GET", "/-/ready", &[], b"").expect("an answer").is(200);
    }
    assert!(server.connect().is_closed(), "the ninth is closed");
    open[0].call("POST", "/api/v1/alerts", &[], alert("C", "1").as_bytes()).expect("an answer").is(200);
    Connection::unix(&site.socket())
        .expect("the socket has its own count")
        .call("GET", "/-/ready", &[], b"")
        .expect("an answer")
        .is(200);
    drop(open);
    until_true("there is room again", || server.connect().call("GET", "/-/ready", &[], b"").is_ok());
    site.until_told(&["1"]);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let site = Site::new(EACH);
    let server = site.start();
    let call = |method: &str, path: &str, headers: &[(&str, &str)]| {
        server.connect().call(method, path, headers, alert("Page", "1").as_bytes()).expect("an answer")
    };
    let foreign: [&[(&str, &str)]; 3] = [
        &[("Origin", "http://evil.example"), ("Content-Type", "text/plain")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
    ];
    for headers in foreign {
        call("POST", "/api/v1/alerts", headers).problem(403);
        call("POST", "/-/reload", headers).problem(403);
        call("GET", "/api/v1/alerts", headers).is(200);
    }
    call("POST", "/api/v1/alerts", &[("Origin", "http://localhost"), ("Sec-Fetch-Site", "same-origin")])
        .is(200);
    site.until_told(&["1"]);
}

#[test]
fn clients_by_name_shut_out_who_has_none() {
    demand_root();
    let config =
        "originator:\n  socket: {mode: \"666\"}\n  clients: [{name: nobody, uid: 65534, allow: ['n = 1']}]\n";
    let site = Site::new(&format!("{config}{EACH}"));
    let server = site.start();
    server.call("POST", "/api/v1/alerts", &alert("E", "no")).problem(401);
    let socket = site.socket();
    for folder in [site.path(), &site.data()] {
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    }
    let send = |uid: u32, n: &str| {
        use std::os::unix::process::CommandExt;
        let body = format!("{{\"labels\":{{\"event\":\"E\",\"n\":\"{n}\"}}}}");
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(&socket);
        curl.args(["-d", &body, "http://localhost/api/v1/alerts"]).uid(uid).gid(uid);
        run(&mut curl).ends(0).stdout
    };
    assert_eq!(send(65534, "1"), "200");
    assert_eq!(send(65534, "2"), "403", "its labels are limited");
    assert_eq!(send(65533, "1"), "403", "nobody knows this one");
    assert_eq!(send(0, "3"), "200", "who runs the router may");
    site.until_told(&["1", "3"]);
}
