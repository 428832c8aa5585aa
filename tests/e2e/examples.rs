//! Every file of config/examples is run: what it promises happens. Those that need a peer are run beside it, in the peer's
//! own file.

use std::{fs, path::Path};

use super::harness::*;

/// A site that runs a copy of an example.
pub fn example(name: &str) -> Site {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    Site::new(&fs::read_to_string(path).expect("readable"))
}

#[test]
fn check_finds_no_mistake_in_any_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut checked = 0;
    for path in fs::read_dir(folder).expect("there are examples").map(|file| file.expect("readable").path()) {
        let text = fs::read_to_string(&path).expect("readable");
        let site = Site::new(&text);
        // The secrets that it names are the admin's to make.
        fs::create_dir(site.path().join("secrets")).expect("made");
        super::access::certificate_in(&site, "secrets");
        let is_part = |c: char| c.is_ascii_alphanumeric() || "/.-_".contains(c);
        for secret in text.split(|c| !is_part(c)).filter(|word| word.starts_with("secrets/")) {
            match secret.rsplit_once('.') {
                // One that signed itself is an authority, too.
                Some((_, "pem")) if !site.path().join(secret).exists() => {
                    fs::copy(site.path().join("secrets/cert.pem"), site.path().join(secret))
                        .map(drop)
                        .expect("copied");
                }
                Some((_, "pem")) => {}
                Some((_, "url")) => drop(site.secret(secret, "https://hooks.example.com/secret")),
                _ => drop(site.secret(secret, secret)),
            }
        }
        let ran = run(ams2().arg("check").arg(site.config())).ends(0);
        assert!(!ran.stderr.contains("warning:"), "{}: {}", path.display(), ran.stderr);
        checked += 1;
    }
    assert!(checked > 0, "there is an example");
}

fn alert_with(labels: &serde_json::Value) -> String {
    serde_json::json!({ "labels": labels }).to_string()
}

#[test]
fn event_log_writes_each_of_its_files() {
    let site = example("event-log.yaml");
    let server = site.start();
    server
        .post(&alert_with(&serde_json::json!({ "event": "Virus Found", "computer": "ws-042", "n": "1" })))
        .is(200);
    site.until_told(&["1"]);
    until_true("the other files fill", || {
        site.read("events.json").contains("\"n\":\"1\"")
            && site.read("short.log").contains("Virus Found on ws-042")
    });
}

#[test]
fn program_is_run_with_the_notification() {
    let site = example("program.yaml");
    let server = site.start();
    server.post(&alert("Virus Found", "1")).is(200);
    site.until_told(&["1"]);
    until_true("cat was given the notification", || {
        server.metric("ams2_attempts_total{action=\"desk/program/keep\",outcome=\"delivered\"}") >= Some(1)
    });
    // As the example says: what it printed is shown with what ended well.
    until_true("what cat printed is kept", || {
        let done = site.client(&["query", "deliveries", "--state", "done", "--json"]).ends(0).json();
        done.as_array().is_some_and(|rows| {
            let kept = rows.iter().filter(|row| row["action"] == "desk/program/keep");
            kept.filter_map(|row| row["reply"].as_str()).any(|reply| reply.contains("Virus Found"))
        })
    });
}

#[test]
fn teams_are_told_what_is_theirs() {
    let site = example("teams.yaml");
    let text =
        fs::read_to_string(site.config()).expect("readable").replace("group_wait: 10s", "group_wait: 10ms");
    site.configure(&text);
    let server = site.start();
    for (n, event, severity) in
        [("1", "Link Down", "fatal"), ("2", "Virus Found", "minor"), ("3", "Disk Full", "info")]
    {
        let labels = serde_json::json!({ "event": event, "severity": severity, "n": n, "site": n });
        server.post(&alert_with(&labels)).is(200);
    }
    let told = |file: &str, n: &str| has(&site.read(file), n);
    until_true("each team has its own", || {
        told("on-call.log", "1")
            && told("network.log", "1")
            && told("desktop.log", "2")
            && told("events.log", "3")
    });
    server.until_quiet();
    let wrong = told("on-call.log", "2")
        || told("network.log", "2")
        || told("events.log", "1")
        || told("desktop.log", "3");
    assert!(!wrong, "{}", site.events());
}

#[test]
fn each_occurrence_is_told_and_the_program_never_run_more_often_than_it_may_be() {
    let site = example("each-occurrence.yaml");
    let server = site.start();
    let ids: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    for id in &ids {
        server.post(&alert("Virus Found", id)).is(200);
    }
    site.until_told(&ids);
    // The log has no limit; the program is run at most 30 times in the minute that this takes at most.
    let attempts = "ams2_attempts_total{action=\"console/program/1\",outcome=\"delivered\"}";
    until_true("the program is run", || server.metric(attempts) >= Some(1));
    assert!(server.metric(attempts) <= Some(30));
}

#[test]
fn the_unit_stops_ams2_alone_and_its_reload_says_what_is_wrong() {
    let unit = include_str!("../../config/ams2.service");
    let setting = |key: &str| unit.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
    // Otherwise systemd ends the programs that run for an alert, and makes dead letters of them.
    assert_eq!(setting("KillMode="), ["mixed"]);
    let reload = setting("ExecReload=/usr/local/bin/ams2 ");
    let [reload] = reload.as_slice() else { panic!("{reload:?}") };
    let site = Site::new(EACH);
    let _server = site.start();
    let socket = site.socket().display().to_string();
    let order: Vec<&str> =
        reload.split(' ').map(|word| if word.starts_with('/') { socket.as_str() } else { word }).collect();
    run(ams2().args(&order)).ends(0);
    site.configure("route: {}");
    run(ams2().args(&order)).ends(1).says("`receivers` is missing");
}

#[test]
fn secured_asks_everybody_who_they_are() {
    let site = example("secured.yaml");
    let text = fs::read_to_string(site.config()).expect("readable");
    let unit = include_str!("../../config/ams2.service");
    let socket = "/run/ams2/ams2.sock";
    assert!(text.contains(socket) && unit.lines().any(|line| line == "RuntimeDirectory=ams2"), "{unit}");
    let text = text.replace(socket, &site.socket().display().to_string());
    site.configure(&text.replace("127.0.0.1:9093", "127.0.0.1:0"));
    fs::create_dir(site.path().join("secrets")).expect("made");
    super::access::certificate_in(&site, "secrets");
    for name in ["boston", "prometheus", "desk"] {
        site.secret(&format!("secrets/{name}.token"), &format!("token-of-{name}"));
    }
    let server = site.start();
    let url = format!("https://localhost:{}", server.address().port());
    let ca = site.path().join("secrets/cert.pem");
    let run_as = |name: &str, more: &[&str]| {
        let token = site.path().join(format!("secrets/{name}.token"));
        run(ams2().args(more).arg("--to").arg(&url).arg("--ca-file").arg(&ca).arg("--token-file").arg(token))
    };
    run_as("boston", &["send", "E", "-l", "site=boston", "-l", "n=1"]).ends(0);
    run_as("boston", &["send", "E", "-l", "site=austin", "-l", "n=2"]).ends(4);
    run_as("prometheus", &["query", "alerts"]).ends(0);
    run_as("prometheus", &["reload"]).ends(4);
    run_as("desk", &["reload"]).ends(0);
    site.until_told(&["1"]);
}
