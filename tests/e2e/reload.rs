//! SIGHUP and `POST /-/reload`: a good config takes effect, a wrong one changes nothing and every mistake is said; and
//! the orderly end by SIGTERM.

use std::{
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{access, harness::*};

/// Two logs; `route` says which one is told.
fn two_logs(route: &str) -> String {
    format!(
        "
receivers:
  - {{name: first, actions: [{{event_log: {{to: file, path: events.log}}}}]}}
  - {{name: second, actions: [{{event_log: {{to: file, path: second.log}}}}]}}
route: {route}
"
    )
}

const FIRST: &str = "{receiver: first, notify: each}";
const SECOND: &str = "{receiver: second, notify: each}";

#[test]
fn a_good_config_takes_effect_by_signal_and_by_request() {
    let site = Site::new(&two_logs(FIRST));
    let server = site.start();
    server.post(&alert("A", "1")).is(200);
    site.until_told(&["1"]);
    site.configure(&two_logs(SECOND));
    server.signal(Signal::HUP);
    until_true("the new config is in force", || site.log().contains("by=signal"));
    server.post(&alert("A", "2")).is(200);
    until_true("the second log is told", || has(&site.read("second.log"), "2"));
    site.configure(&two_logs(FIRST));
    server.call("POST", "/-/reload", "").is(200);
    server.post(&alert("A", "3")).is(200);
    site.until_told(&["3"]);
    assert!(!has(&site.events(), "2") && !has(&site.read("second.log"), "3"));
    site.configure(&two_logs(SECOND));
    site.client(&["reload"]).ends(0).says("loaded again");
}

#[test]
fn a_wrong_config_changes_nothing_and_every_mistake_is_said() {
    let site = Site::new(&two_logs(FIRST));
    let server = site.start();
    site.configure(&two_logs("{receiver: frist, notify: sometimes, colour: red}"));
    let said = server.call("POST", "/-/reload", "").problem(500).text();
    for words in [
        "ams2.yaml:5:",
        "did you mean `first`?",
        "use `group` or `each`",
        "unknown key `colour`",
        "the old one stays",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    site.client(&["reload"]).ends(1).says("did you mean `first`?").says("unknown key `colour`");
    server.signal(Signal::HUP);
    until_true("the log has it thrice", || {
        site.log().matches("the new configuration is refused").count() == 3
    });
    server.post(&alert("A", "1")).is(200);
    site.until_told(&["1"]);
    until_true("an alert of our own says so", || site.events().contains("Configuration"));
    std::fs::remove_file(site.config()).expect("removed");
    assert!(server.call("POST", "/-/reload", "").problem(500).text().contains("cannot be read"));
    server.post(&alert("A", "2")).is(200);
    site.until_told(&["2"]);
}

#[test]
fn tokens_change_with_a_reload() {
    let site = Site::new("");
    let config =
        |file: &str| format!("originator: {{clients: [{{name: boston, token_file: {file}}}]}}{EACH}");
    site.secret("old", "old-token\n");
    site.secret("new", "new-token\n");
    site.configure(&config("old"));
    let server = site.start();
    let post = |token: &str, id: &str| {
        let headers = [("Authorization", format!("Bearer {token}"))];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        server
            .connect()
            .call("POST", "/api/v1/alerts", &headers, alert("T", id).as_bytes())
            .expect("an answer")
    };
    post("old-token", "1").is(200);
    post("new-token", "2").problem(401);
    site.configure(&config("new"));
    server.signal(Signal::HUP);
    until_true("the new token holds", || post("new-token", "3").status == 200);
    post("old-token", "4").problem(401);
}

#[test]
fn a_reload_never_opens_a_listener_that_stays() {
    let site = Site::new("");
    access::certificate_in(&site, ".");
    site.secret("token", "a-token-of-boston\n");
    let safe = "tls: {cert_file: cert.pem, key_file: key.pem}";
    let clients = "clients: [{name: boston, token_file: token, may: [operate]}]";
    let listen = |address: &str| {
        site.configure(&format!("originator: {{http: {{listen: '{address}', {safe}}}, {clients}}}{EACH}"));
        let mut command = ams2();
        command.arg("serve").arg("--config").arg(site.config()).arg("--data").arg(site.data());
        site.start_as(command)
    };
    let curl = |server: &Server, token: &str| {
        let url = format!("https://localhost:{}/api/v1/actions", server.address().port());
        let mut command = Command::new("curl");
        clean(&mut command);
        command.current_dir(site.path()).args(["-s", "--max-time", "30", "--cacert", "cert.pem"]);
        run(command.args(["-o", "/dev/null", "-w", "%{http_code}", "-H", token, &url])).stdout
    };
    let refused = |server: &Server, originator: &str, words: &str| {
        let before = site.log().matches("refused, the old one stays").count();
        site.configure(&format!("originator: {{{originator}}}{EACH}"));
        server.signal(Signal::HUP);
        until_true("it is refused", || site.log().matches("refused, the old one stays").count() > before);
        assert!(site.log().contains(words), "{words:?} is not in\n{}", site.log());
        assert_eq!(curl(server, "X: y"), "401", "{originator}");
        assert_eq!(curl(server, "Authorization: Bearer a-token-of-boston"), "200", "{originator}");
    };
    let server = listen("0.0.0.0:0");
    for originator in ["http: {listen: '127.0.0.1:9093'}", "http: false", &format!("http: false, {clients}")]
    {
        refused(&server, originator, "could be reached from outside without TLS: restart ams2");
    }
    let with_tls = format!("http: {{listen: '127.0.0.1:9093', {safe}}}");
    refused(&server, &with_tls, "could be reached from outside by anybody: restart ams2");
    // What is safe there, too, waits for the restart.
    site.configure(&format!("originator: {{{with_tls}, {clients}}}{EACH}"));
    server.signal(Signal::HUP);
    until_true("it is said", || site.log().contains("originator.http.listen takes effect at the next start"));
    server.kill();
    // One that only this machine reaches goes on as well.
    let server = listen("127.0.0.1:0");
    refused(&server, "http: false", "originator.http: what it was started with is listened on until");
    refused(&server, "socket: false", "originator.socket: what it was started with is listened on until");
}

#[test]
fn a_login_in_an_address_goes_to_no_receiver_and_no_log() {
    let site = Site::new(&two_logs(FIRST));
    let server = site.start();
    let email =
        "email: {to: [a@example.com], from: b@example.com, smtp: 'smtp://me:canary@mail.example.com:25'}";
    site.configure(
        &two_logs(FIRST).replace(
            "actions: [{event_log: {to: file, path: second.log}}]",
            &format!("actions: [{{{email}}}]"),
        ),
    );
    let said = server.call("POST", "/-/reload", "").problem(500).text();
    assert!(said.contains("…@mail.example.com:25"), "{said}");
    until_true("an alert of our own says where", || {
        site.events().contains("receivers[1].actions[0].email.smtp")
    });
    for text in [said, site.log(), site.events()] {
        assert!(!text.contains("canary"), "{text}");
    }
    server.kill();
    for file in std::fs::read_dir(site.data()).expect("a folder") {
        let bytes = std::fs::read(file.expect("readable").path()).unwrap_or_default();
        assert!(!bytes.windows(6).any(|part| part == b"canary"), "in the journal");
    }
}

#[test]
fn a_reload_goes_on_though_its_caller_hangs_up() {
    let site = Site::new(&two_logs(FIRST));
    // Every flush takes long, so that the caller is gone before the new config is kept.
    let mut slow = Command::new("strace");
    clean(&mut slow);
    slow.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]);
    slow.args(["-e", "inject=fdatasync,fsync:delay_enter=300000", AMS2]).args(site.arguments());
    let server = site.start_as(slow);
    let limits = "originator: {http: {limits: {body_bytes: 2KiB}}}\njournal: {retention: 80d}";
    site.configure(&format!("{limits}{}", two_logs(SECOND)));
    let mut caller = server.connect();
    let request = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    caller.stream.write_all(request).expect("sent");
    until_true("it is under way", || site.log().contains("journal takes effect at the next start"));
    drop(caller);
    // Both halves of it: what the router decides by, and what the ways in go by.
    until_true("the new config is in force", || site.log().contains("configuration in force"));
    let long = format!("{}{}", alert("Long", "long"), " ".repeat(3000));
    until_true("the new limit holds", || server.post(&long).status == 413);
    server.post(&alert("A", "1")).is(200);
    until_true("the new route holds", || has(&site.read("second.log"), "1"));
}

/// Where it is said what becomes of deliveries whose action is gone.
#[derive(Clone, Copy, Debug)]
enum Fate {
    InTheFile(&'static str),
    AtTheReload(&'static [&'static str]),
}

#[test]
fn a_config_that_drops_an_action_with_deliveries_waiting_must_say_what_becomes_of_them() {
    // Nobody listens there: everything for `far` waits.
    let closed = closed_address();
    let config = |far: &str, route: &str, more: &str| {
        format!(
            "
receivers:
  - {{name: log, actions: [{{event_log: {{to: file, path: events.log}}}}]}}
{far}
route: {{receiver: log, notify: each{route}}}
{more}
"
        )
    };
    let far =
        format!("  - {{name: far, actions: [{{event_log: {{to: syslog, address: 'tcp://{closed}'}}}}]}}");
    let with = config(&far, ", routes: [{matchers: [to=far], receiver: far}]", "");
    let without = config("", "", "");
    let removed = |what: &str| config("", "", &format!("removed: [{{action: far/event_log/0, {what}}}]"));
    let fates = [
        (Fate::InTheFile("move_to: log"), true),
        (Fate::InTheFile("drop: true"), false),
        (Fate::AtTheReload(&["--move-to", "log"]), true),
        (Fate::AtTheReload(&["--drop"]), false),
    ];
    for (fate, is_told) in fates {
        let site = Site::new(&with);
        let server = site.start();
        server.post("{\"labels\":{\"event\":\"Waits\",\"to\":\"far\",\"n\":\"1\"}}").is(200);
        until_true("it waits", || {
            server.metric("ams2_action_pending{action=\"far/event_log/0\"}") == Some(1)
        });
        site.configure(&without);
        let refused = server.call("POST", "/-/reload", "").problem(500).text();
        for words in ["far/event_log/0 (1 deliveries)", "removed:", "move_to: RECEIVER", "drop: true"] {
            assert!(refused.contains(words), "{words:?} is not in {refused}");
        }
        let server = match fate {
            Fate::InTheFile(what) => {
                // The same holds for a start.
                server.kill();
                site.refused().ends(2).says("far/event_log/0 (1 deliveries)").says("move_to: RECEIVER");
                site.configure(&removed(what));
                site.start()
            }
            Fate::AtTheReload(arguments) => {
                site.client(&["reload", "--move-to", "nobody"])
                    .ends(1)
                    .says("no receiver is called `nobody`");
                site.client(&[&["reload"], arguments].concat()).ends(0);
                server
            }
        };
        server.until_quiet();
        server.post(&alert("Goes on", "2")).is(200);
        site.until_told(&["2"]);
        assert_eq!(has(&site.events(), "1"), is_told, "{fate:?}: {}", site.events());
    }
}

#[test]
fn sigterm_ends_in_order_loses_nothing_and_the_next_start_says_so() {
    let site = Site::new(EACH);
    for (round, signal) in [Signal::TERM, Signal::INT, Signal::TERM].into_iter().enumerate() {
        let server = site.start();
        let ids: Vec<String> = (0..50).map(|n| format!("{round}-{n}")).collect();
        let alerts: Vec<String> = ids.iter().map(|id| alert("Load", id)).collect();
        server.post(&alerts.join("\n")).is(200);
        let began = Instant::now();
        server.signal(signal);
        let status = server.wait();
        assert!(status.success(), "{status}\n{}", site.log());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        // Another start on the same folder finds all of it.
        let server = site.start();
        site.until_told(&ids);
        assert!(server.terminate().success());
    }
    let events = site.events();
    assert!(events.contains("event=Shutdown"), "the orderly end is told: {events}");
    assert!(!events.contains("Crash"), "{events}");
}

#[test]
fn a_hanging_client_and_a_hanging_action_do_not_hold_up_the_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound");
    let site = Site::new(&format!(
        "
receivers: [{{name: far, actions: [{{event_log: {{to: syslog, address: 'tcp://{address}', timeout: 1h}}}}, {{program: {{command: [{ENDLESS}], timeout: 1h}}}}]}}]
route: {{receiver: far, notify: each}}
"
    ));
    let server = site.start();
    server.post(&alert("Hangs", "1")).is(200);
    until_true("the program runs", || {
        let actions = server.get("/api/v1/actions").json();
        let mut actions = actions.as_array().expect("a list").iter();
        actions.any(|row| row["action"] == "far/program/1" && row["in_flight"].as_u64() > Some(0))
    });
    let mut half = server.connect();
    half.stream
        .write_all(b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        .expect("sent");
    let began = Instant::now();
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", site.log());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let server = site.start();
    let waits = server.get("/api/v1/deliveries?state=pending").json();
    assert!(
        waits.as_array().is_some_and(|rows| rows.len() >= 2),
        "what was under way is tried again: {waits}"
    );
}
