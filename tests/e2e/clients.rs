//! Clients that check in, with curl as the client: the list and who may come into it, silence and return, names of others,
//! nonsense, and what operators do.

use serde_json::{Value, json};

use super::harness::*;

/// A router for many machines with one token, one with its own, and an operator.
const CLIENTS: &str = "
originator:
  clients:
    - {name: boston, token_file: boston.token, enrol: true}
    - {name: laptop, token_file: laptop.token}
    - {name: desk, token_file: desk.token, may: [operate]}
    - {name: watch, token_file: watch.token, may: [read]}
server: {name: branch}
";

fn site(check_ins: &str) -> Site {
    let site = Site::new(&format!("{CLIENTS}check_ins: {{{check_ins}}}\n{EACH}"));
    for name in ["boston", "laptop", "desk", "watch"] {
        site.secret(&format!("{name}.token"), &format!("token-of-{name}-0123456789"));
        site.secret(
            &format!("{name}.curl"),
            &format!("header = \"Authorization: Bearer token-of-{name}-0123456789\"\n"),
        );
    }
    site
}

/// What a machine says.
fn report(server: &str, incarnation: u64) -> Value {
    json!({
        "server": server, "version": "0.1.0", "config": "c0ffee", "incarnation": format!("{incarnation:016x}"),
        "waiting": 3, "held_back": 7,
    })
}

/// Says it by curl: status and answer.
fn says(site: &Site, server: &Server, client: &str, report: &str) -> (u16, Value) {
    let mut curl = std::process::Command::new("curl");
    clean(&mut curl);
    let url = format!("{}/api/v1/checkin", server.url());
    curl.current_dir(site.path()).args(["-sS", "-m", "30", "-w", "\n%{http_code}", "--json", report, &url]);
    if !client.is_empty() {
        curl.args(["-K", &format!("{client}.curl")]);
    }
    let said = run(&mut curl).ends(0).stdout;
    let (body, status) = said.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn checks_in(site: &Site, server: &Server, client: &str, report: &Value) -> Value {
    let (status, answer) = says(site, server, client, &report.to_string());
    assert_eq!(status, 200, "{answer}");
    answer
}

fn shown(site: &Site) -> Vec<Value> {
    let rows = site.client(&["client", "list", "--json"]).ends(0).json();
    rows.as_array().expect("a list").clone()
}

fn state(site: &Site, name: &str) -> String {
    let rows = shown(site);
    let row = rows.iter().find(|row| row["name"] == name);
    row.map_or_else(String::new, |row| row["state"].as_str().expect("a word").to_owned())
}

/// Lines of the event log of this event about a client.
fn told(site: &Site, event: &str, client: &str, state: &str) -> usize {
    let fields = [format!("event=\"{event}\""), format!("client={client}"), format!("state={state}")];
    site.events().lines().filter(|line| fields.iter().all(|field| line.contains(field.as_str()))).count()
}

fn until_told(site: &Site, event: &str, client: &str, state: &str, count: usize) {
    until_true(&format!("{event} {client} {state} is told {count} times: {}", site.events()), || {
        told(site, event, client, state) >= count
    });
}

#[test]
fn a_client_that_checks_in_is_in_the_list_until_it_is_forgotten() {
    let site = site("");
    let server = site.start();
    let answer = checks_in(&site, &server, "boston", &report("ws-1", 1));
    assert_eq!((&answer["router"], &answer["client"]), (&json!("branch"), &json!("boston/ws-1")));
    assert_eq!((&answer["period_ms"], &answer["warnings"]), (&json!(200 * 60_000), &json!([])));
    let ours = answer["incarnation"].as_str().expect("text").to_owned();
    assert!(ours.len() == 16 && ours != format!("{:016x}", 0), "{answer}");
    // With a token of its own it is who that names, whatever it calls itself.
    let answer = checks_in(&site, &server, "laptop", &report("boston/ws-1", 2));
    assert_eq!(answer["client"], "laptop");
    let rows = shown(&site);
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = &rows[0];
    for (field, expected) in [
        ("name", json!("boston/ws-1")),
        ("state", json!("present")),
        ("address", json!("127.0.0.1")),
        ("version", json!("0.1.0")),
        ("config", json!("c0ffee")),
        ("incarnation", json!("0000000000000001")),
        ("waiting", json!(3)),
        ("held_back", json!(7)),
        ("dropped", json!(0)),
    ] {
        assert_eq!(row[field], expected, "{field}: {row}");
    }
    let one = site.client(&["client", "show", "boston/ws-1", "--json"]).ends(0).json();
    assert_eq!(&one, row);
    let text = site.client(&["client", "show", "laptop"]).ends(0).stdout;
    assert!(text.contains("missing from") && text.contains("waiting          3"), "{text}");
    let table = site.client(&["client", "list"]).ends(0).stdout;
    assert!(table.contains("boston/ws-1") && table.contains("HELD BACK"), "{table}");
    site.client(&["client", "list", "--state", "missing"]).ends(0).says("nothing to show");
    until_told(&site, "Client Enrolled", "boston/ws-1", "firing", 1);
    let metric = |sample: &str| {
        let mut over_socket = std::process::Command::new("curl");
        clean(&mut over_socket);
        let path = site.socket();
        over_socket.args(["-sS", "--unix-socket"]).arg(path).arg("http://localhost/metrics");
        let text = run(&mut over_socket).ends(0).stdout;
        text.lines().any(|line| line == sample)
    };
    assert!(metric("ams2_clients{state=\"present\"} 2") && metric("ams2_http_check_ins_total 2"));
    // It is all there after a kill and a start.
    server.kill();
    let server = site.start();
    // Only that it is waited for as much longer as nobody listened.
    let without_due = |rows: Vec<Value>| {
        let without = |mut row: Value| {
            drop(row.as_object_mut().expect("a client").remove("due"));
            row
        };
        rows.into_iter().map(without).collect::<Vec<_>>()
    };
    assert_eq!(without_due(shown(&site)), without_due(rows));
    assert_eq!(checks_in(&site, &server, "boston", &report("ws-1", 1))["incarnation"], ours.as_str());
    site.client(&["client", "forget", "boston/ws-1"]).ends(0).says("is in the list no more");
    site.client(&["client", "forget", "boston/ws-1"]).ends(1).says("no client is called `boston/ws-1`");
    site.client(&["client", "show", "boston/ws-1"]).ends(1);
    assert_eq!(shown(&site).len(), 1);
    let decisions = site.client(&["query", "decisions", "boston/ws-1", "--json"]).ends(0).json();
    assert_eq!(decisions[0]["decision"], "client_forgotten", "{decisions}");
    checks_in(&site, &server, "boston", &report("ws-1", 1));
    until_told(&site, "Client Enrolled", "boston/ws-1", "firing", 2);
}

#[test]
fn silence_is_told_a_return_ends_it_and_whoever_is_gone_for_long_leaves_the_list() {
    let site = site("period: 1s, grace: 1s, remove_after: 5s");
    let server = site.start();
    checks_in(&site, &server, "boston", &report("ws-1", 1));
    until_told(&site, "Client Missing", "boston/ws-1", "firing", 1);
    assert_eq!(state(&site, "boston/ws-1"), "missing");
    checks_in(&site, &server, "boston", &report("ws-1", 1));
    until_told(&site, "Client Missing", "boston/ws-1", "resolved", 1);
    until_told(&site, "Removed Client", "boston/ws-1", "firing", 1);
    assert!(site.events().contains("event_id=25"), "{}", site.events());
    until_true("its alert is over", || told(&site, "Client Missing", "boston/ws-1", "resolved") == 2);
    assert_eq!(shown(&site).len(), 0);
    checks_in(&site, &server, "boston", &report("ws-1", 1));
    until_told(&site, "Client Enrolled", "boston/ws-1", "firing", 2);
}

#[test]
fn the_name_of_another_is_refused_counted_and_raised_and_taken_over_when_that_is_late() {
    let site = site("period: 2s, grace: 1h");
    let server = site.start();
    checks_in(&site, &server, "boston", &report("ws-1", 1));
    let (status, answer) = says(&site, &server, "boston", &report("ws-1", 2).to_string());
    // A slow machine may have been late by then: what is refused is refused with all of this.
    if status == 409 {
        assert!(answer["detail"].as_str().is_some_and(|words| words.contains("`boston/ws-1`")), "{answer}");
        assert!(answer["mend"].as_str().is_some_and(|words| words.contains("client forget")), "{answer}");
        until_told(&site, "Access Denied", "boston/ws-1", "firing", 1);
        assert_eq!(
            site.client(&["client", "show", "boston/ws-1", "--json"]).json()["incarnation"],
            format!("{:016x}", 1)
        );
    }
    until_true("the holder is late, and the other takes its name", || {
        let (status, _) = says(&site, &server, "boston", &report("ws-1", 2).to_string());
        status == 200
    });
    until_told(&site, "Client Replaced", "boston/ws-1", "firing", 1);
    let row = site.client(&["client", "show", "boston/ws-1", "--json"]).ends(0).json();
    assert_eq!(row["incarnation"], format!("{:016x}", 2));
}

#[test]
fn a_name_that_another_holds_is_409_and_access_denied() {
    let site = site("");
    let server = site.start();
    checks_in(&site, &server, "laptop", &report("", 1));
    for _ in 0..5 {
        let (status, answer) = says(&site, &server, "laptop", &report("", 2).to_string());
        assert_eq!(status, 409, "{answer}");
    }
    until_told(&site, "Access Denied", "laptop", "firing", 1);
    assert!(site.events().contains("which another is (from 127.0.0.1)"), "{}", site.events());
    assert_eq!(told(&site, "Access Denied", "laptop", "firing"), 1, "not one for each try");
    // An operator says that the new one is right.
    site.client(&["client", "forget", "laptop"]).ends(0);
    checks_in(&site, &server, "laptop", &report("", 2));
}

#[test]
fn who_may_check_in_and_who_may_see_is_as_the_config_says() {
    let site = site("");
    let server = site.start();
    let said = report("ws-1", 1).to_string();
    assert_eq!(says(&site, &server, "", &said).0, 401);
    assert_eq!(says(&site, &server, "watch", &said).0, 403);
    until_told(&site, "Access Denied", "watch", "firing", 1);
    until_told(&site, "Access Denied", "127.0.0.1", "firing", 1);
    assert_eq!(shown(&site).len(), 0);
    checks_in(&site, &server, "boston", &report("ws-1", 1));
    let call = |client: &str, method: &str, path: &str| {
        let bearer = format!("Bearer token-of-{client}-0123456789");
        let answer = server.connect().call(method, path, &[("Authorization", bearer.as_str())], b"");
        answer.expect("an answer").status
    };
    let one = "/api/v1/clients/boston%2Fws-1";
    for (client, list, delete) in [("boston", 403, 403), ("watch", 200, 403), ("desk", 200, 200)] {
        assert_eq!(call(client, "GET", "/api/v1/clients"), list, "{client}");
        assert_eq!(call(client, "GET", "/api/v1/clients/boston/ws-1"), list, "{client}");
        assert_eq!(call(client, "DELETE", one), delete, "{client}");
    }
    assert_eq!(call("desk", "DELETE", one), 404);
    assert_eq!(call("desk", "GET", "/api/v1/clients?state=gone"), 400);
    assert_eq!(call("desk", "PUT", one), 405);
    assert_eq!(call("boston", "GET", "/api/v1/checkin"), 403);
    assert_eq!(call("desk", "GET", "/api/v1/checkin"), 405);
}

#[test]
fn nonsense_is_refused_with_its_mend_and_hours_between_clocks_are_said() {
    let site = site("");
    let server = site.start();
    let with = |field: &str, value: Value| {
        let mut said = report("ws-1", 1);
        said[field] = value;
        said.to_string()
    };
    let long = "x".repeat(129);
    for (said, status) in [
        ("".to_owned(), 400),
        ("nonsense".into(), 400),
        ("{\"version\":".into(), 400),
        ("[]".into(), 422),
        ("{}".into(), 422),
        (with("incarnation", json!(1)), 422),
        (with("incarnation", json!("x")), 422),
        (with("waiting", json!(-1)), 422),
        (with("waiting", json!(1u64 << 60)), 400),
        (with("version", json!("a\u{1b}[2J")), 400),
        (with("config", json!(long)), 400),
        (with("server", json!("")), 400),
        (with("server", json!("../ws-2")), 400),
        (with("server", json!("ws 1")), 400),
        (with("server", json!(long)), 400),
    ] {
        let (found, answer) = says(&site, &server, "boston", &said);
        assert_eq!(found, status, "{said}: {answer}");
        assert!(answer["mend"].is_string(), "{said}: {answer}");
    }
    let huge = with("server", json!("x".repeat(3 << 20)));
    std::fs::write(site.path().join("huge"), huge).expect("written");
    assert_eq!(says(&site, &server, "boston", "@huge").0, 413);
    assert_eq!(shown(&site).len(), 0);
    // What a newer client says besides is passed over.
    checks_in(&site, &server, "boston", &serde_json::from_str(&with("mood", json!("good"))).expect("JSON"));
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    for (clock_ms, words) in [
        (json!(now + 5 * 3_600_000 + 30_000), "is 5h"),
        (json!(now - 86_400_000 - 30_000), "is 1d"),
        (json!(0), "behind"),
    ] {
        let said = serde_json::from_str(&with("clock_ms", clock_ms)).expect("JSON");
        let warnings = checks_in(&site, &server, "boston", &said)["warnings"].to_string();
        assert!(warnings.contains(words), "{warnings}");
        assert_eq!(state(&site, "boston/ws-1"), "present", "by our clock alone");
    }
}

#[test]
fn one_more_than_advised_is_taken_and_said_and_one_more_than_there_may_be_is_refused() {
    let site = site("warn_above: 2, most: 3");
    let server = site.start();
    let of = |number: u64| report(&format!("ws-{number}"), number);
    for number in 1..=2 {
        assert_eq!(checks_in(&site, &server, "boston", &of(number))["warnings"], json!([]));
    }
    let warnings = checks_in(&site, &server, "boston", &of(3))["warnings"].to_string();
    assert!(warnings.contains("3 clients check in here; more than 2 are not advised"), "{warnings}");
    until_true("it is raised", || site.events().contains("event=\"Too Many Clients\""));
    assert!(site.log().contains("more clients check in than advised"), "{}", site.log());
    let (status, answer) = says(&site, &server, "boston", &of(4).to_string());
    assert!(status == 503 && answer["detail"].to_string().contains("check_ins.most"), "{status} {answer}");
    checks_in(&site, &server, "boston", &of(3));
    assert_eq!(shown(&site).len(), 3);
}

#[test]
fn who_roams_is_told_of_at_both_ends() {
    let site = site("");
    let server = site.start();
    let with = |field: &str, router: &str| {
        let mut said = report("", 1);
        said[field] = json!(router);
        said
    };
    // That it was here before is no news.
    checks_in(&site, &server, "laptop", &with("router", "branch"));
    until_told(&site, "Client Enrolled", "laptop", "firing", 1);
    checks_in(&site, &server, "laptop", &with("router", "headquarters"));
    until_told(&site, "Roaming Client added to Server", "laptop", "firing", 1);
    checks_in(&site, &server, "laptop", &with("router", "headquarters"));
    checks_in(&site, &server, "laptop", &with("leaves_for", "headquarters"));
    until_told(&site, "Roaming Client deleted from Server", "laptop", "firing", 1);
    assert_eq!(shown(&site).len(), 0);
    assert_eq!(told(&site, "Roaming Client added to Server", "laptop", "firing"), 1);
    for number in ["28", "29"] {
        assert!(site.events().contains(&format!("event_id={number}")), "{}", site.events());
    }
}

/// Clients that are connected at once, and with AMS2_TEST_LONG.
const CONNECTED: u64 = 500;
const CONNECTED_LONG: u64 = 5_000;
/// Most memory of the router with all of them, in bytes.
const RESIDENT_BYTES_MAX: u64 = 200 << 20;
/// Those that connect at the same time.
const LANES: u64 = 8;

#[test]
fn five_thousand_connected_clients_take_at_most_200_mb() {
    let count = if number_from_env("AMS2_TEST_LONG").is_some() { CONNECTED_LONG } else { CONNECTED };
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("as many as the system gives");
    let limits = "http: {limits: {connections: 6000, connections_per_address: 6000, header_time: 10m}}";
    let site = Site::new(&format!("originator: {{{limits}}}\n{EACH}"));
    let server = site.start();
    let address = server.address();
    let of_lane = &|lane: u64| {
        let numbers = (0..count).filter(|number| number % LANES == lane);
        let connected = numbers.map(|number| {
            let mut connection = Connection::tcp(address).expect("a connection");
            let said = report(&format!("ws-{number}"), number).to_string();
            let answer = connection.call("POST", "/api/v1/checkin", &[], said.as_bytes());
            answer.expect("an answer").is(200);
            connection
        });
        connected.collect::<Vec<_>>()
    };
    let connections: Vec<Connection> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || of_lane(lane))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("no panic")).collect()
    });
    assert_eq!(connections.len() as u64, count);
    let connected = server.metric("ams2_http_connections").expect("a number");
    assert!(connected >= count, "{connected} are connected");
    assert_eq!(server.metric("ams2_clients{state=\"present\"}"), Some(count));
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    eprintln!("{count} connected clients: {kilobytes} kB resident");
    assert!(kilobytes * 1024 <= RESIDENT_BYTES_MAX, "{kilobytes} kB with {count} clients");
}
