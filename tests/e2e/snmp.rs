//! `snmp_trap` against net-snmp's snmptrapd: other people's manager names what we sent by our MIB, and takes our users.

use std::{fs, net::UdpSocket, path::Path, process::Command};

use super::{
    harness::*,
    snmptrapd::{Message, Snmptrapd, free_port, root},
};

const AUTH_PASSWORD: &str = "canary auth password";
const PRIV_PASSWORD: &str = "canary priv password";
/// Users: name, our words for its algorithms, snmptrapd's.
const USERS: [(&str, &str, &str, &str, &str); 5] = [
    ("old", "sha1", "aes128", "SHA", "AES"),
    ("short", "sha224", "aes192", "SHA-224", "AES-192"),
    ("usual", "sha256", "aes128", "SHA-256", "AES"),
    ("long", "sha384", "aes192", "SHA-384", "AES-192"),
    ("strong", "sha512", "aes256", "SHA-512", "AES-256"),
];

/// The config: a receiver `noc` with these actions, told at once of everything but what the router says of itself.
fn config(actions: &[String]) -> String {
    let actions: Vec<String> =
        actions.iter().map(|action| format!("      - snmp_trap: {{{action}}}\n")).collect();
    format!(
        "receivers:
  - name: nobody
  - name: noc
    actions:
{}route:
  receiver: nobody
  routes: [{{receiver: noc, matchers: ['source != \"ams2\"'], group_by: [event], group_wait: 0s, group_interval: 1s}}]
",
        actions.concat()
    )
}

fn community(port: u16, name: &str, more: &str) -> String {
    format!("name: {name}, to: '127.0.0.1:{port}', community_file: community, {more}")
}

fn user(port: u16, name: &str, user: &str, auth: &str, privacy: &str, more: &str) -> String {
    format!(
        "name: {name}, to: '127.0.0.1:{port}', version: 3, user: {user}, auth: {auth}, auth_password_file: auth, \
         priv: {privacy}, priv_password_file: priv, {more}"
    )
}

/// A site with the secrets that the actions name.
fn site() -> Site {
    let site = Site::new("");
    site.secret("community", "canary-community\n");
    site.secret("auth", &format!("{AUTH_PASSWORD}\n"));
    site.secret("priv", &format!("{PRIV_PASSWORD}\n"));
    site
}

/// The lines of snmptrapd's config that make our users: for informs, and with our engine id for traps.
fn create_users(engine_id: Option<&str>) -> String {
    let engine = engine_id.map(|id| format!("-e {id} ")).unwrap_or_default();
    let line = |(name, _, _, auth, privacy): (&str, &str, &str, &str, &str)| {
        format!("createUser {engine}{name} {auth} \"{AUTH_PASSWORD}\" {privacy} \"{PRIV_PASSWORD}\"\n")
    };
    USERS.map(line).concat()
}

/// The values of `snmp-engine` in a site's data folder.
fn engine(site: &Site) -> (String, u32) {
    let text = site.read("snmp-engine");
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let (id, boots) = (value("engine_id").expect("an id"), value("boots").expect("boots"));
    (id.to_owned(), boots.parse().expect("a number"))
}

fn attempts(server: &Server, action: &str, outcome: &str) -> u64 {
    let sample = format!("ams2_attempts_total{{action=\"noc/snmp_trap/{action}\",outcome=\"{outcome}\"}}");
    // What has not happened yet has no sample.
    server.metric(&sample).unwrap_or(0)
}

#[test]
fn snmptrapd_names_what_every_version_says() {
    let site = site();
    let port = free_port();
    let mut actions = vec![
        community(port, "v1", "version: 1"),
        community(port, "v2c", "version: 2c"),
        community(port, "v2c-inform", "inform: true"),
    ];
    for (name, auth, privacy, ..) in USERS {
        actions.push(user(port, &format!("{name}-trap"), name, auth, privacy, ""));
        actions.push(user(port, &format!("{name}-inform"), name, auth, privacy, "inform: true"));
    }
    site.configure(&config(&actions));
    let server = site.start();
    // The manager must know our engine id before it can take a v3 trap: as docs/snmp.md says, a test makes one.
    let tested = site.client(&["action", "test", "noc/snmp_trap/old-trap"]).ends(0);
    assert!(tested.stdout.starts_with("sent"), "{}", tested.stdout);
    let (engine_id, boots) = engine(&site);
    assert_eq!(boots, 1);
    let users = format!("{}{}", create_users(Some(&engine_id)), create_users(None));
    let snmptrapd = Snmptrapd::start(&site, port, &users);

    let alert = |more: &str| {
        format!(
            r#"{{"labels": {{"event": "Virus Found", "severity": "critical", "computer": "ws-042"}}, "annotations": {{"summary": "EICAR on é\nws-042"}}, "starts_at": "2026-11-24T10:15:00Z"{more}}}"#
        )
    };
    server.post(&alert("")).is(200);
    let mut ways = vec!["TRAP, SNMP v1, community canary-community".to_owned()];
    for kind in ["TRAP2", "INFORM"] {
        ways.push(format!("{kind}, SNMP v2c, community canary-community"));
        ways.extend(USERS.map(|(name, ..)| format!("{kind}, SNMP v3, user {name}, context ")));
    }
    let mut first: Option<Vec<String>> = None;
    for way in &ways {
        let found = snmptrapd.messages(way, 1).remove(0);
        let id = found.value("ams2DeliveryId").to_owned();
        if way.contains("v1") {
            let v1 = ("127.0.0.1".into(), "Enterprise Specific".into(), "AMS2-MIB::ams2AlertFiring".into());
            assert_eq!(found.v1, v1);
        } else {
            assert_eq!(found.trap(), "AMS2-MIB::ams2AlertFiring", "{way}");
        }
        let said: Vec<String> =
            found.of_the_alert().iter().map(|varbind| varbind.replace(&id, "ID")).collect();
        // Every way says the same.
        let first = first.get_or_insert_with(|| said.clone());
        assert_eq!(&said, first, "{way}");
    }
    let fingerprint = r#"ams2Fingerprint.0 = STRING: ""#;
    let said = first.expect("one at least");
    assert!(
        said[1].contains(fingerprint) && said[1].len() == "AMS2-MIB::".len() + fingerprint.len() + 17,
        "{}",
        said[1]
    );
    let said: Vec<&str> =
        said.iter().map(|varbind| varbind.trim_start_matches("AMS2-MIB::").trim_end()).collect();
    assert_eq!(said[0], "ams2DeliveryId.0 = ID");
    assert_eq!(
        said[2..],
        [
            "ams2Severity.0 = INTEGER: critical(3)",
            "ams2SeverityWord.0 = STRING: critical",
            "ams2State.0 = INTEGER: firing(1)",
            "ams2Event.0 = STRING: Virus Found",
            "ams2EventId.0 = STRING:",
            "ams2Source.0 = STRING: local",
            r"ams2Summary.0 = STRING: EICAR on é\nws-042",
            "ams2Labels.0 = STRING: computer=ws-042 event=\"Virus Found\" severity=critical",
            "ams2Starts.0 = STRING: 2026-11-24,10:15:0.0,+0:0",
            "ams2Ends.0 = STRING: 0-0-0,0:0:0.0",
            "ams2Count.0 = Gauge32: 1",
            "ams2Group.0 = STRING: {}/{source!=\"ams2\"}:{event=\"Virus Found\"}",
            "ams2Url.0 = STRING:",
            "ams2AlertCut.0 = INTEGER: false(2)",
            "ams2TestAlert.0 = INTEGER: false(2)",
        ]
    );

    server.post(&alert(r#", "ends_at": "2026-11-24T10:20:00Z""#)).is(200);
    for way in &ways {
        let found = snmptrapd.messages(way, 2);
        let ended = found.iter().find(|message| message.value("ams2State") == "INTEGER: resolved(2)");
        let ended = ended.unwrap_or_else(|| panic!("{way}: {found:?}"));
        let trap = if way.contains("v1") { &ended.v1.2 } else { ended.trap() };
        assert_eq!(trap, "AMS2-MIB::ams2AlertCleared", "{way}");
        assert_eq!(ended.value("ams2Severity"), "INTEGER: cleared(1)");
        assert_ne!(ended.value("ams2Ends"), "STRING: 0-0-0,0:0:0.0");
        assert_eq!(
            ended.value("ams2Fingerprint"),
            found[0].value("ams2Fingerprint"),
            "what a manager correlates by"
        );
    }
    server.until_quiet();
    let all = |kind: &str, first: &[&str]| {
        let users = USERS.iter().map(|(name, ..)| format!("{name}-{kind}"));
        first.iter().map(|name| (*name).to_owned()).chain(users).collect::<Vec<String>>()
    };
    for action in &all("trap", &["v1", "v2c"]) {
        assert_eq!(attempts(&server, action, "delivered"), 0, "{action}");
        assert!(attempts(&server, action, "sent") >= 2, "{action}");
    }
    for action in &all("inform", &["v2c-inform"]) {
        assert_eq!(
            (attempts(&server, action, "sent"), attempts(&server, action, "delivered")),
            (0, 2),
            "{action}"
        );
        assert_eq!(attempts(&server, action, "transient"), 0, "{action}");
    }
    assert!(!site.log().contains("canary"), "{}", site.log());
}

#[test]
fn a_manager_on_ipv6_is_told_like_any_other() {
    let site = site();
    let port = free_port();
    let here = format!("127.0.0.1:{port}");
    let ipv6 = |action: String| action.replace(&here, &format!("[::1]:{port}"));
    site.configure(&config(&[
        ipv6(community(port, "v1", "version: 1")),
        ipv6(community(port, "v2c-inform", "inform: true")),
        ipv6(user(port, "v3-inform", "usual", "sha256", "aes128", "inform: true")),
    ]));
    let snmptrapd = Snmptrapd::start_on_ipv6(&site, port, &create_users(None));
    let server = site.start();
    server.post(&alert("Virus Found", "first")).is(200);
    let v1 = snmptrapd.messages("TRAP, SNMP v1, community canary-community", 1).remove(0);
    // RFC 3584 section 3.2: an agent's address of version 1 has no room for IPv6.
    let of = ("0.0.0.0".into(), "Enterprise Specific".into(), "AMS2-MIB::ams2AlertFiring".into());
    assert_eq!(v1.v1, of);
    for security in ["INFORM, SNMP v2c, community canary-community", "INFORM, SNMP v3, user usual, context "]
    {
        let found = snmptrapd.messages(security, 1).remove(0);
        assert_eq!(found.value("ams2Event"), "STRING: Virus Found", "{security}");
    }
    server.until_quiet();
    let said = site.client(&["query", "deliveries", "--state", "done"]).ends(0).stdout;
    assert_eq!(said.matches(&format!("[::1]:{port} answered")).count(), 2, "{said}");
    assert_eq!(said.matches("  sent  ").count(), 1, "{said}");
}

/// A manager that starts again counts its boots anew and says so in a way that we can trust: that costs no attempt. One whose
/// state is lost is another engine, which anybody could claim: the attempt fails, and the next asks again who is there.
#[test]
fn a_manager_that_started_again_is_told_and_another_in_its_place_at_the_next_attempt() {
    let site = site();
    let port = free_port();
    let server =
        start_with(&site, &user(port, "inform", "usual", "sha256", "aes128", "inform: true, timeout: 3s"));
    // Its engine id, its boots, and attempts that failed by the end.
    let rounds =
        [("0x80001f8880aabbcc01", 7, 0), ("0x80001f8880aabbcc01", 20, 0), ("0x80001f8880aabbcc02", 1, 1)];
    for (round, (engine_id, boots, failures)) in (1..).zip(rounds) {
        let engine = format!("exactEngineID {engine_id}\nengineBoots {boots}\n");
        let snmptrapd = Snmptrapd::start(&site, port, &format!("{engine}{}", create_users(None)));
        let event = format!("Round {round}");
        server.post(&alert(&event, "waits")).is(200);
        let found = snmptrapd.messages("INFORM, SNMP v3, user usual, context ", round);
        assert!(found.iter().any(|message| message.value("ams2Event") == format!("STRING: {event}")));
        server.until_quiet();
        let told = (attempts(&server, "inform", "delivered"), attempts(&server, "inform", "transient"));
        assert_eq!(told, (round as u64, failures), "{event}");
    }
}

/// Nobody confirms a trap: where nothing listens it is sent all the same, and says so.
#[test]
fn a_trap_to_nobody_is_sent_and_an_inform_to_nobody_waits() {
    let site = site();
    let port = free_port();
    site.configure(&config(&[
        community(port, "trap", ""),
        community(port, "inform", "inform: true, timeout: 300ms"),
    ]));
    let server = site.start();
    for n in 1..=3 {
        server.post(&alert(&format!("Down {n}"), "1")).is(200);
        until_true("the trap is sent", || attempts(&server, "trap", "sent") == n);
    }
    until_true("the inform is tried", || attempts(&server, "inform", "transient") > 0);
    assert_eq!(attempts(&server, "trap", "transient") + attempts(&server, "inform", "delivered"), 0);
}

/// A config with one action, and a server that runs it.
fn start_with(site: &Site, action: &str) -> Server {
    site.configure(&config(&[action.to_owned()]));
    site.start()
}

#[test]
fn an_inform_waits_until_the_manager_is_there() {
    let site = site();
    let port = free_port();
    let server = start_with(&site, &community(port, "inform", "inform: true, timeout: 300ms"));
    server.post(&alert("Virus Found", "waits")).is(200);
    until_true("an attempt fails", || attempts(&server, "inform", "transient") > 0);
    let waits = server.get("/api/v1/deliveries?state=pending").text();
    assert!(waits.contains(&format!("127.0.0.1:{port}: no answer")), "{waits}");
    let snmptrapd = Snmptrapd::start(&site, port, "");
    server.until_quiet();
    assert_eq!(attempts(&server, "inform", "delivered"), 1);
    let found = snmptrapd.messages("INFORM, SNMP v2c, community canary-community", 1);
    assert!(found[0].value("ams2Labels").contains("n=waits"), "{found:?}");
    let history = server.get("/api/v1/deliveries?state=dead").json();
    assert_eq!(history, serde_json::json!([]));
}

#[test]
fn a_user_that_the_manager_does_not_take_waits_and_shows_no_password() {
    let site = site();
    let port = free_port();
    let snmptrapd = Snmptrapd::start(&site, port, &create_users(None));
    // The other's password for this user, and a user that is not there.
    site.secret("auth", "canary wrong password\n");
    let inform = "inform: true, timeout: 1s";
    site.configure(&config(&[
        user(port, "wrong", "usual", "sha256", "aes128", inform),
        user(port, "unknown", "nobody", "sha256", "aes128", inform),
    ]));
    let server = site.start();
    server.post(&alert("Virus Found", "waits")).is(200);
    until_true("both are refused", || {
        let waits = server.get("/api/v1/deliveries?state=pending").text();
        waits.matches("the manager does not take us: check `user`").count() == 2
    });
    // The right password mends what waits; the unknown user waits on.
    site.secret("auth", AUTH_PASSWORD);
    server.call("POST", "/-/reload", "").is(200);
    until_true("it is delivered", || attempts(&server, "wrong", "delivered") == 1);
    assert_eq!(snmptrapd.messages("INFORM, SNMP v3, user usual, context ", 1).len(), 1);
    assert_eq!(attempts(&server, "unknown", "delivered"), 0);
    for text in
        [site.log(), server.get("/api/v1/deliveries?state=pending").text(), server.get("/metrics").text()]
    {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_manager_that_answers_garbage_is_no_manager() {
    let site = site();
    let manager = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let port = manager.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = manager.recv_from(&mut buffer) {
            for answer in [&b"garbage"[..], &[0x30; 9000], &buffer[..length / 2], &[]] {
                drop(manager.send_to(answer, from));
            }
        }
    });
    let server = start_with(&site, &community(port, "inform", "inform: true, timeout: 300ms"));
    server.post(&alert("Virus Found", "waits")).is(200);
    until_true("attempts fail", || attempts(&server, "inform", "transient") > 1);
    let waits = server.get("/api/v1/deliveries?state=pending").text();
    assert!(waits.contains("what came back is no answer to our inform"), "{waits}");
    assert_eq!(attempts(&server, "inform", "delivered"), 0);
}

#[test]
fn a_restart_keeps_the_engine_id_and_counts_and_managers_go_on_taking_our_traps() {
    let site = site();
    let port = free_port();
    let trap = user(port, "trap", "usual", "sha256", "aes128", "");
    let server = start_with(&site, &trap);
    assert_eq!(site.read("snmp-engine"), "", "nothing is written before it is needed");
    site.client(&["action", "test", "noc/snmp_trap/trap"]).ends(0);
    let (engine_id, boots) = engine(&site);
    assert_eq!(boots, 1);
    let snmptrapd = Snmptrapd::start(&site, port, &create_users(Some(&engine_id)));
    let security = "TRAP2, SNMP v3, user usual, context ";
    server.post(&alert("Virus Found", "first")).is(200);
    snmptrapd.messages(security, 1);
    // A reload makes a new action, and starts no engine anew.
    server.call("POST", "/-/reload", "").is(200);
    server.post(&alert("Outbreak", "second")).is(200);
    snmptrapd.messages(security, 2);
    assert_eq!(engine(&site), (engine_id.clone(), 1));
    server.kill();
    for restarts in 1..=3 {
        let server = site.start();
        let id = format!("restart-{restarts}");
        server.post(&alert("Outbreak", &id)).is(200);
        until_true("the manager takes it", || snmptrapd.text().contains(&id));
        assert_eq!(engine(&site), (engine_id.clone(), 1 + restarts));
        // Ends of both kinds.
        if restarts == 2 { assert!(server.terminate().success()) } else { server.kill() }
    }
}

#[test]
fn a_probe_tells_the_managers_engine_id_and_sends_no_notification() {
    let site = site();
    let port = free_port();
    let snmptrapd = Snmptrapd::start(&site, port, &create_users(None));
    site.configure(&config(&[
        user(port, "inform", "usual", "sha256", "aes128", "inform: true"),
        community(port, "trap", ""),
    ]));
    let check = || run(ams2().arg("check").arg(site.config()).arg("--probe"));
    let checked = check().ends(0);
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains(&format!("127.0.0.1:{port}: its engine id is 0x80001f88")), "{said}");
    assert!(said.contains("whether it listens is not known before an inform"), "{said}");
    assert!(said.contains("warning: traps go out under 32473"), "{said}");
    assert!(!snmptrapd.text().contains(", SNMP v"), "{}", snmptrapd.text());
    drop(snmptrapd);
    let checked = check().ends(1);
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("Connection refused"), "{said}");
    assert!(!site.data().exists(), "a probe writes nothing");
}

/// What smilint has to say of a module, with the modules that ours imports.
fn smilint(module: &Path) -> Ran {
    let mut command = Command::new("smilint");
    clean(&mut command);
    run(command.env("SMIPATH", root().join("tests/e2e/mibs")).args(["-s", "-l", "6"]).arg(module))
}

#[test]
fn the_mib_is_clean_and_a_sites_own_differs_in_the_number_alone() {
    let committed = root().join("config/mibs/AMS2-MIB.txt");
    let generate =
        |number: &str| run(ams2().args(["mib", "generate", "--enterprise", number])).ends(0).stdout;
    let text = fs::read_to_string(&committed).expect("readable");
    assert_eq!(generate("32473"), text);
    let own = generate("99999");
    assert_eq!(own.replace("99999", "32473"), text);
    assert_eq!(own.matches("99999").count(), 2);
    let folder = tempfile::tempdir().expect("a folder");
    let own_path = folder.path().join("AMS2-MIB.txt");
    fs::write(&own_path, &own).expect("written");
    for path in [&committed, &own_path] {
        let said = smilint(path).ends(0);
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""), "{}", path.display());
    }
    // It would say so.
    fs::write(&own_path, own.replacen("STATUS      current", "STATUS      deprecated", 1)).expect("written");
    let said = smilint(&own_path);
    assert!(!format!("{}{}", said.stdout, said.stderr).is_empty());
    run(ams2().args(["mib", "generate", "--enterprise", "0"])).ends(2);
}

#[test]
fn the_example_tells_both_managers() {
    let site = super::examples::example("snmp.yaml");
    let port = free_port();
    // Its managers are this one; the MIB that it loads has the number for documentation.
    let text = fs::read_to_string(site.config()).expect("readable");
    let text = text
        .replace("old-manager.example.com", &format!("127.0.0.1:{port}"))
        .replace("manager.example.com", &format!("127.0.0.1:{port}"))
        .replace("enterprise: 99999", "enterprise: 32473")
        .replace("group_wait: 10s", "group_wait: 0s");
    site.configure(&text);
    fs::create_dir(site.path().join("secrets")).expect("made");
    site.secret("secrets/snmp-auth", AUTH_PASSWORD);
    site.secret("secrets/snmp-priv", PRIV_PASSWORD);
    site.secret("secrets/snmp-community", "example");
    let user = format!("createUser ams2 SHA-256 \"{AUTH_PASSWORD}\" AES \"{PRIV_PASSWORD}\"\n");
    let snmptrapd = Snmptrapd::start(&site, port, &user);
    let server = site.start();
    server.post(&alert("Link Down", "1")).is(200);
    let is_it = |message: &Message| message.value("ams2Event") == "STRING: Link Down";
    let found = |security: &str| {
        until("the alert arrives", || snmptrapd.messages(security, 1).into_iter().find(is_it))
    };
    assert_eq!(found("INFORM, SNMP v3, user ams2, context ").trap(), "AMS2-MIB::ams2AlertFiring");
    assert_eq!(found("TRAP2, SNMP v2c, community example").trap(), "AMS2-MIB::ams2Enterprise.7.0.1");
}
