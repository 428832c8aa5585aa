//! `forward`: a client, a branch and a primary, each a server of its own, one handing on to the next.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
};

use serde_json::Value;

use super::harness::*;

const TOKENS: [&str; 2] = ["the-token-of-a-laptop", "the-token-of-the-branch"];

/// A client: what runs on 35,000 machines.
fn client(parent: SocketAddr) -> Site {
    let site = Site::new(&format!(
        "
server: {{ name: laptop-17 }}
receivers: [{{ name: up, actions: [{{ forward: {{ to: ['http://{parent}'], bearer_token_file: token }} }}] }}]
route: {{ receiver: up, notify: each }}
"
    ));
    site.secret("token", TOKENS[0]);
    site
}

/// A branch: it tells its own people, and hands on what is major.
fn branch(parent: SocketAddr) -> Site {
    let site = Site::new(&format!(
        "
server: {{ name: branch }}
originator: {{ clients: [{{ name: laptop-17, token_file: laptop }}] }}
receivers:
  - {{ name: up, actions: [{{ forward: {{ to: ['http://{parent}'], bearer_token_file: token, labels: {{ site: boston }} }} }}] }}
  - {{ name: log, actions: [{{ event_log: {{ to: file, path: events.log }} }}] }}
route:
  receiver: log
  notify: each
  routes: [{{ receiver: up, matchers: ['severity >= major'], notify: each, continue: true }}, {{ receiver: log, notify: each }}]
"
    ));
    site.secret("laptop", TOKENS[0]);
    site.secret("token", TOKENS[1]);
    site
}

/// The primary.
fn primary() -> Site {
    let site = Site::new(
        "
server: { name: primary }
originator: { clients: [{ name: branch, token_file: branch, may: [send, relay] }, { name: watcher, token_file: watcher, may: [read] }] }
receivers: [{ name: log, actions: [{ event_log: { to: file, path: events.log } }] }]
route: { receiver: log, notify: each }
",
    );
    site.secret("branch", TOKENS[1]);
    site.secret("watcher", "the-token-of-a-watcher");
    site
}

/// A server that listens at an address of the caller's, so that it has the same one after a restart.
fn at(site: &Site, address: SocketAddr) -> Server {
    let mut command = site.serve_as_is();
    command.args(["--listen", &address.to_string()]);
    site.start_as(command)
}

/// The alerts of a site that are not its own.
fn alerts(site: &Site) -> Vec<Value> {
    let said = site.client(&["query", "alerts", "--json"]).ends(0).json();
    let all = said.as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|alert| alert["labels"]["event"] == "Virus Found").collect()
}

fn until_alert(site: &Site, what: &str, found: impl Fn(&Value) -> bool) -> Value {
    until(what, || alerts(site).into_iter().find(|alert| found(alert)))
}

#[test]
fn an_alert_goes_from_client_to_branch_to_primary_once_and_its_trail_names_them() {
    let (to_branch, to_primary) = (closed_address(), closed_address());
    let (laptop, branch, primary) = (client(to_branch), branch(to_primary), primary());
    let (_primary, _branch, client) = (at(&primary, to_primary), at(&branch, to_branch), laptop.start());
    for (computer, severity) in [("ws-1", "major"), ("ws-2", "minor")] {
        let alert = format!(
            r#"{{"labels":{{"event":"Virus Found","computer":"{computer}","severity":"{severity}"}},
                "annotations":{{"summary":"EICAR","ams2_trail":"forged"}},"ends_at":"2099-01-01T00:00:00Z"}}"#
        );
        client.post(&alert).is(200);
    }
    let there =
        until_alert(&primary, "the alert is at the primary", |alert| alert["labels"]["computer"] == "ws-1");
    assert_eq!(there["labels"]["site"], "boston", "{there}");
    let trail = there["annotations"]["ams2_trail"].as_str().expect("a trail");
    let hops: Vec<&str> = trail.split(" > ").collect();
    assert!(
        hops[0].starts_with("laptop-17/") && hops[1].starts_with("branch/") && hops.len() == 2,
        "{trail}"
    );
    eprintln!("{trail}");
    let origin = there["annotations"]["ams2_origin"].as_str().expect("an origin");
    assert!(hops[0].starts_with(origin.rsplit_once('/').expect("three parts").0), "{origin} {trail}");
    // Each server says to the next how it is.
    for (site, name) in [(&branch, "laptop-17"), (&primary, "branch")] {
        until_true("it checks in", || site.client(&["client", "list", "--json"]).stdout.contains(name));
    }
    // What is minor is at the branch, and not handed on.
    until_alert(&branch, "the minor one is at the branch", |alert| alert["labels"]["computer"] == "ws-2");
    // Its end comes, too.
    client
        .post(
            r#"{"labels":{"event":"Virus Found","computer":"ws-1","severity":"major"},"ends_at":"2020-01-01T00:00:00Z"}"#,
        )
        .is(200);
    until_true("its end is told at the primary", || primary.events().contains("resolved"));
    assert_eq!(primary.events().matches("ws-1").count(), 2, "{}", primary.events());
    assert!(!primary.events().contains("ws-2"), "{}", primary.events());
}

/// Hops are killed and started again while alerts are under way: each alert reaches the end. A server that is killed itself may
/// tell what it was telling once more; where the last one lives, each is told once, whatever was sent twice to it.
#[test]
fn whichever_hop_is_killed_each_alert_reaches_the_primary_once() {
    for victims in [2, 3] {
        let mut dice = Dice::new("forward");
        let (to_branch, to_primary, at_client) = (closed_address(), closed_address(), closed_address());
        let (laptop, branch, primary) = (client(to_branch), branch(to_primary), primary());
        let sites = [(&laptop, at_client), (&branch, to_branch), (&primary, to_primary)];
        let mut servers: Vec<Option<Server>> =
            sites.iter().map(|(site, address)| Some(at(site, *address))).collect();
        let ids: Vec<String> = (0..60).map(|number| format!("number-{number}")).collect();
        for (number, id) in ids.iter().enumerate() {
            let labels = format!(r#""event":"Virus Found","severity":"critical","n":"{id}""#);
            let alert = format!(r#"{{"id":"{id}","labels":{{{labels}}}}}"#);
            servers[0].as_ref().expect("it runs").post(&alert).is(200);
            if number % 10 == 5 {
                let which = dice.below(victims) as usize;
                servers[which].take().expect("it runs").kill();
                let (site, address) = sites[which];
                servers[which] = Some(at(site, address));
            }
        }
        primary.until_told(&ids);
        assert_eq!(alerts(&primary).len(), ids.len(), "each is one alert");
        let told = primary.events().lines().filter(|line| line.contains("n=number-")).count();
        assert!(
            told == ids.len() || victims == 3,
            "{told} lines for {} alerts\n{}",
            ids.len(),
            primary.events()
        );
    }
}

/// A hands on to B, and B to A: the alert stops where it was before, by name, and nobody waits for ever.
#[test]
fn a_loop_is_cut_and_named() {
    let (at_a, at_b) = (closed_address(), closed_address());
    let site = |name: &str, to: SocketAddr| {
        Site::new(&format!(
            "
server: {{ name: {name} }}
receivers: [{{ name: up, actions: [{{ forward: {{ to: ['http://{to}'] }} }}, {{ event_log: {{ to: file, path: events.log }} }}] }}]
route: {{ receiver: up, notify: each, routes: [{{ receiver: none, matchers: ['event != \"Virus Found\"'] }}] }}
"
        )
        .replace("receivers: [", "receivers: [{ name: none, actions: [] }, "))
    };
    let (a, b) = (site("a", at_b), site("b", at_a));
    let (server, _other) = (at(&a, at_a), at(&b, at_b));
    server.post(&alert("Virus Found", "loop-1")).is(200);
    until_true("the loop is cut at A", || a.log().contains("a loop was cut"));
    let log = a.log();
    let line = log.lines().find(|line| line.contains("a loop was cut")).expect("a line");
    assert!(line.contains("a/") && line.contains(" > b/") && line.contains(" > a once more"), "{line}");
    until_true("B is told that A has it", || b.log().contains("a loop was cut"));
    server.until_quiet();
    assert_eq!(a.events().matches("loop-1").count(), 1, "{}", a.events());
    assert_eq!(b.events().matches("loop-1").count(), 1, "{}", b.events());
}

#[test]
fn a_wrong_token_loses_nothing_and_is_an_alert_at_the_parent() {
    let to_primary = closed_address();
    let (branch, primary) = (branch(to_primary), primary());
    branch.secret("token", "a-wrong-token");
    let (upper, lower) = (at(&primary, to_primary), branch.start());
    lower.call("POST", "/api/v1/alerts", &alert("Virus Found", "x")).is(401);
    let sent = branch.client(&["send", "Virus Found", "--severity", "critical", "-l", "computer=ws-9"]);
    sent.ends(0);
    until_true("the refusal is an alert at the parent", || primary.events().contains("Access Denied"));
    assert!(alerts(&primary).is_empty());
    branch.secret("token", TOKENS[1]);
    let reloaded = branch.client(&["reload"]);
    reloaded.ends(0);
    until_alert(&primary, "the alert arrives once the token is right", |alert| {
        alert["labels"]["computer"] == "ws-9"
    });
    drop((upper, lower));
}

/// Who may not hand on what others accepted is refused, alert by alert, and the sender has a dead letter.
#[test]
fn who_is_no_relay_hands_on_nothing_of_others() {
    let (to_branch, to_primary) = (closed_address(), closed_address());
    let (laptop, branch, primary) = (client(to_branch), branch(to_primary), primary());
    primary.configure(
        "
originator: { clients: [{ name: branch, token_file: branch }] }
receivers: [{ name: log, actions: [{ event_log: { to: file, path: events.log } }] }]
route: { receiver: log, notify: each }
",
    );
    let (_primary, _branch, client) = (at(&primary, to_primary), at(&branch, to_branch), laptop.start());
    client.post(r#"{"labels":{"event":"Virus Found","severity":"critical"}}"#).is(200);
    until_true("the branch has a dead letter", || {
        let dead = branch.client(&["query", "dead-letters"]).ends(0);
        dead.stdout.contains("may not hand on alerts of other servers") && dead.stdout.contains("add `relay`")
    });
    assert!(alerts(&primary).is_empty());
    // What the branch accepted itself it may send.
    branch.client(&["send", "Virus Found", "--severity", "critical", "-l", "computer=own"]).ends(0);
    until_alert(&primary, "its own arrives", |alert| alert["labels"]["computer"] == "own");
}

/// A parent that answers nonsense is no parent: the alert waits, and the reason is shown.
#[test]
fn a_parent_that_answers_nonsense_has_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().expect("two ends"));
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = r#"{"accepted":1}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    let laptop = client(address);
    let server = laptop.start();
    server.post(r#"{"labels":{"event":"Virus Found"}}"#).is(200);
    until_true("the reason is shown", || {
        server.get("/api/v1/deliveries?state=pending").text().contains("it answers what no ams2 does")
    });
}

/// The client's file as it ships, its two lines changed: what logs and what sends on that machine arrives at the parent.
#[test]
fn the_clients_file_hands_on_what_is_sent_and_logged_on_its_machine() {
    let (to_primary, primary) = (closed_address(), primary());
    primary.configure(
        "
originator: { clients: [{ name: ws-042, token_file: branch }] }
receivers: [{ name: log, actions: [{ event_log: { to: file, path: events.log } }] }]
route: { receiver: log, notify: each }
",
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenarios/client.yaml");
    let shipped = std::fs::read_to_string(path).expect("the file");
    let to = format!("http://{to_primary}");
    let file = shipped.replace("https://ams2.example.com:9093", &to).replace("5514", "0");
    assert!(file.contains(&to) && !file.contains("5514"), "{file}");
    let laptop = Site::new(&file);
    std::fs::create_dir(laptop.path().join("secrets")).expect("a folder");
    laptop.secret("secrets/parent.token", TOKENS[1]);
    let (_primary, client) = (at(&primary, to_primary), laptop.start_as(laptop.serve_as_is()));
    laptop.client(&["send", "Virus Found", "-l", "computer=ws-042"]).ends(0);
    until_true("what was sent is at the parent", || primary.events().contains("computer=ws-042"));
    let logged = Command::new("logger")
        .args([
            "-n",
            "127.0.0.1",
            "-d",
            "-P",
            &client.syslog("udp").port().to_string(),
            "-t",
            "smartd",
            "the disk fails",
        ])
        .status();
    assert!(logged.expect("logger is there").success());
    until_true("what was logged is at the parent", || primary.events().contains("the disk fails"));
}
