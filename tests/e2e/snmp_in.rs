//! The `snmp` source, sent to by net-snmp: `snmptrap`, `snmpinform` and an agent (`snmpd`), with the lines of docs/snmp-in.md; by
//! ams2 itself; and by bytes that nobody should send.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{
    harness::*,
    snmptrapd::free_port,
    syslog_in::{AS_JSON, told, until_told},
};

const COMMUNITY: &str = "canary-community";
const AUTH: &str = "canary auth password";
const PRIV: &str = "canary priv password";
/// Users: name, `snmptrap`'s words for how it authenticates and encrypts, and ours.
const USERS: [(&str, Option<(&str, &str)>, Option<(&str, &str)>); 7] = [
    ("none", None, None),
    ("plain1", Some(("SHA", "sha1")), None),
    ("plain256", Some(("SHA-256", "sha256")), None),
    ("old", Some(("SHA", "sha1")), Some(("AES", "aes128"))),
    ("usual", Some(("SHA-256", "sha256")), Some(("AES", "aes128"))),
    ("mixed", Some(("SHA", "sha1")), Some(("AES-256", "aes256"))),
    ("strong", Some(("SHA-512", "sha512")), Some(("AES-256", "aes256"))),
];

/// A site with the clients above, that listens on loopback and does `more`.
fn listening(more: &str) -> Site {
    let site = Site::new("");
    site.secret("community", &format!("{COMMUNITY}\n"));
    site.secret("auth", &format!("{AUTH}\n"));
    site.secret("priv", &format!("{PRIV}\n"));
    site.configure(&config("127.0.0.1:0", more));
    site
}

fn config(listen: &str, more: &str) -> String {
    let user = |(name, auth, privacy): &(&str, Option<(&str, &str)>, Option<(&str, &str)>)| {
        let auth = auth.map(|(_, ours)| format!(", auth: {ours}, auth_password_file: auth"));
        let privacy = privacy.map(|(_, ours)| format!(", priv: {ours}, priv_password_file: priv"));
        format!(
            "      - {{name: c-{name}, user: {name}{}{}}}\n",
            auth.unwrap_or_default(),
            privacy.unwrap_or_default()
        )
    };
    let users: String = USERS.iter().map(user).collect();
    format!(
        "originator:
  snmp:
    listen: '{listen}'
    clients:
      - {{name: switches, community_file: community}}
{users}{more}{AS_JSON}"
    )
}

/// `snmptrap` or `snmpinform` as root of no home, with what it says.
fn net_snmp(site: &Site, program: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program);
    clean(&mut command);
    // -On and no MIBs: what it knows is what the arguments say.
    command.env("MIBS", "").env("SNMP_PERSISTENT_DIR", site.path().join("net-snmp"));
    run(command.args(arguments))
}

/// The arguments of a user.
fn as_user<'a>(
    name: &'a str,
    auth: Option<(&'a str, &'a str)>,
    privacy: Option<(&'a str, &'a str)>,
) -> Vec<&'a str> {
    let mut arguments = vec!["-v", "3", "-u", name, "-l"];
    arguments.push(match (auth, privacy) {
        (None, _) => "noAuthNoPriv",
        (_, None) => "authNoPriv",
        _ => "authPriv",
    });
    if let Some((how, password)) = auth {
        arguments.extend(["-a", how, "-A", password]);
    }
    if let Some((how, password)) = privacy {
        arguments.extend(["-x", how, "-X", password]);
    }
    arguments
}

const TRAP: &str = "1.3.6.1.4.1.32473.7.0.1";
const OBJECT: &str = "1.3.6.1.4.1.32473.8.0";

fn only(site: &Site, count: usize) -> Value {
    until_told(site, count).pop().expect("one")
}

#[test]
fn a_trap_of_each_version_and_user_is_an_alert() {
    let site = listening("");
    let server = site.start();
    let to = server.snmp().to_string();
    let mut count = 0;
    let v1: [(&[&str], &str); 2] = [
        (&["1.3.6.1.4.1.32473.7", "192.0.2.9", "6", "1", ""], "SNMP Trap"),
        (&["1.3.6.1.4.1.32473.7", "192.0.2.9", "0", "0", ""], "Cold Start"),
    ];
    for (arguments, event) in v1 {
        let all = [&["-v", "1", "-c", COMMUNITY, &to], arguments, &[OBJECT, "s", "one"]].concat();
        net_snmp(&site, "snmptrap", &all).ends(0);
        count += 1;
        let alert = only(&site, count);
        let labels = &alert["labels"];
        assert_eq!(
            (&labels["event"], &labels["computer"], &labels["agent"]),
            (&event.into(), &"127.0.0.1".into(), &"192.0.2.9".into()),
            "{alert}"
        );
        assert!(
            alert["annotations"]["varbinds"].as_str().is_some_and(|text| text.ends_with("= one")),
            "{alert}"
        );
    }
    let v2 = ["-v", "2c", "-c", COMMUNITY, &to, "", TRAP, OBJECT, "s", "two", OBJECT, "u", "4294967295"];
    net_snmp(&site, "snmptrap", &v2).ends(0);
    count += 1;
    let alert = only(&site, count);
    assert_eq!(alert["labels"]["trap"], TRAP);
    assert_eq!(alert["annotations"]["summary"], format!("{TRAP}: two, 4294967295"));
    for (number, (name, auth, privacy)) in USERS.iter().enumerate() {
        let auth = auth.map(|(theirs, _)| (theirs, AUTH));
        let privacy = privacy.map(|(theirs, _)| (theirs, PRIV));
        // An engine each, as the devices of a site have; several for one user, too.
        for device in ["aa", "bb"] {
            let engine = format!("0x8000000001020{number}{device}");
            let more = ["-e", &engine, &to, "", TRAP, OBJECT, "s", name];
            net_snmp(&site, "snmptrap", &[&as_user(name, auth, privacy)[..], &more].concat()).ends(0);
            count += 1;
            let alert = only(&site, count);
            assert_eq!(alert["annotations"]["summary"], format!("{TRAP}: {name}"));
            let is = if auth.is_some() { Value::from("true") } else { Value::Null };
            assert_eq!(alert["labels"]["authenticated"], is, "{alert}");
        }
    }
    assert_eq!(server.metric("ams2_snmp_messages_total{version=\"1\"}"), Some(2));
    assert_eq!(server.metric("ams2_snmp_messages_total{version=\"2c\"}"), Some(1));
    assert_eq!(server.metric("ams2_snmp_messages_total{version=\"3\"}"), Some(14));
    assert_eq!(server.metric("ams2_snmp_udp_drops_total"), Some(0));
}

#[test]
fn an_inform_of_each_version_and_user_is_answered() {
    let site = listening("");
    let server = site.start();
    let to = server.snmp().to_string();
    let v2 = ["-v", "2c", "-c", COMMUNITY, &to, "", TRAP, OBJECT, "s", "two"];
    net_snmp(&site, "snmpinform", &v2).ends(0);
    let mut count = 1;
    for (name, auth, privacy) in &USERS {
        let auth = auth.map(|(theirs, _)| (theirs, AUTH));
        let privacy = privacy.map(|(theirs, _)| (theirs, PRIV));
        let more = [&to, "", TRAP, OBJECT, "s", name];
        net_snmp(&site, "snmpinform", &[&as_user(name, auth, privacy)[..], &more].concat()).ends(0);
        count += 1;
    }
    let told = until_told(&site, count);
    assert_eq!(told[count - 1]["annotations"]["summary"], format!("{TRAP}: strong"));
    assert_eq!(server.metric("ams2_snmp_informs_total{result=\"answered\"}"), Some(8));
    // Our engine stays, and its starts grow: what a sender learnt of the start before is not taken, and it learns anew.
    let engine = site.read("snmp-engine");
    assert!(engine.ends_with("boots 1\n"), "{engine}");
    assert!(server.terminate().success());
    let server = site.start();
    let again = site.read("snmp-engine");
    assert_eq!(again, engine.replace("boots 1", "boots 2"));
    let to = server.snmp().to_string();
    let more = [&to, "", TRAP, OBJECT, "s", "again"];
    net_snmp(
        &site,
        "snmpinform",
        &[&as_user("usual", Some(("SHA-256", AUTH)), Some(("AES", PRIV)))[..], &more].concat(),
    )
    .ends(0);
    until_told(&site, count + 1);
}

/// Nobody's: counted, said, raised, and not answered.
#[test]
fn whom_the_config_does_not_know_is_refused() {
    let site = listening("");
    let server = site.start();
    let to = server.snmp().to_string();
    let quick = ["-t", "0.2", "-r", "0"];
    let auth = |password| Some(("SHA-256", password));
    let aes = |password| Some(("AES", password));
    let rows: [(Vec<&str>, &str); 9] = [
        (vec!["-v", "2c", "-c", "public"], "community"),
        (vec!["-v", "2c", "-c", "Canary-community"], "community"),
        (as_user("nobody", auth(AUTH), aes(PRIV)), "user"),
        (as_user("usual", auth("another password"), aes(PRIV)), "digest"),
        (as_user("usual", Some(("SHA-512", AUTH)), aes(PRIV)), "digest"),
        (as_user("usual", auth(AUTH), aes("another password")), "decryption"),
        (as_user("usual", auth(AUTH), None), "level"),
        (as_user("usual", None, None), "level"),
        (as_user("plain256", auth(AUTH), aes(PRIV)), "level"),
    ];
    let refused =
        |reason: &str| server.metric(&format!("ams2_snmp_dropped_total{{reason=\"{reason}\"}}")).unwrap_or(0);
    for (user, reason) in &rows {
        let before = refused(reason);
        let more = [&quick[..], &[&to, "", TRAP]].concat();
        let ran = net_snmp(&site, "snmpinform", &[&user[..], &more].concat());
        assert_ne!(ran.code, Some(0), "{user:?}");
        until_true("it is counted", || refused(reason) > before);
    }
    until_true("it is raised", || site.events().contains("Access Denied"));
    assert_eq!(told(&site), Vec::<Value>::new());
    // Who is right is taken all the same, and no secret is anywhere.
    net_snmp(&site, "snmpinform", &["-v", "2c", "-c", COMMUNITY, &to, "", TRAP]).ends(0);
    until_told(&site, 1);
    let all = site.log() + &site.events() + &server.get("/metrics").text();
    for secret in ["canary-community", "Canary-community", "canary auth", "canary priv", "another password"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

/// `linkDown` and `linkUp` as an agent sends them; one alert, which ends. And what an agent says of itself.
#[test]
fn a_link_goes_down_and_comes_up() {
    let site = listening("");
    let server = site.start();
    let to = server.snmp().to_string();
    let link = |trap: &str, index: &str| {
        let (column, status) =
            (format!("1.3.6.1.2.1.2.2.1.1.{index}"), format!("1.3.6.1.2.1.2.2.1.8.{index}"));
        let trap = format!("1.3.6.1.6.3.1.1.5.{trap}");
        let arguments = ["-v", "2c", "-c", COMMUNITY, &to, "", &trap, &column, "i", index, &status, "i", "2"];
        net_snmp(&site, "snmpinform", &arguments).ends(0);
    };
    link("3", "7");
    link("3", "8");
    link("4", "7");
    let told = until_told(&site, 3);
    let shown: Vec<_> = told
        .iter()
        .map(|alert| {
            (alert["state"].as_str().expect("a state"), alert["labels"]["interface"].as_str().expect("one"))
        })
        .collect();
    assert_eq!(shown, [("firing", "7"), ("firing", "8"), ("resolved", "7")]);
    assert_eq!(told[0]["labels"], told[2]["labels"]);
}

/// The rules of docs/snmp-in.md, and those of the example.
#[test]
fn rules_say_which_alert_a_notification_is() {
    let page = include_str!("../../docs/snmp-in.md");
    let (_, rules) = page.split_once("```mapping\n").expect("the page has rules");
    let (rules, _) = rules.split_once("```").expect("they end");
    let site = listening(rules);
    let server = site.start();
    let to = server.snmp().to_string();
    let say = |trap: &str, varbind: &[&str]| {
        let more = ["-v", "2c", "-c", COMMUNITY, &to, "", trap];
        net_snmp(&site, "snmpinform", &[&more[..], varbind].concat()).ends(0);
    };
    say("1.3.6.1.2.1.33.2.1", &["1.3.6.1.2.1.33.1.2.3.0", "i", "17"]);
    let alert = only(&site, 1);
    assert_eq!(
        (&alert["labels"]["event"], &alert["annotations"]["summary"]),
        (&"On Battery".into(), &"17 minutes are left".into()),
        "{alert}"
    );
    say("1.3.6.1.4.1.32473.9.0.5", &[]);
    until_true("it is dropped", || server.metric("ams2_snmp_dropped_total{reason=\"rule\"}") == Some(1));
    for (count, trap, state) in [(2, "1.3.6.1.2.1.33.2.3", "firing"), (3, "1.3.6.1.2.1.33.2.4", "resolved")] {
        say(trap, &["1.3.6.1.2.1.33.1.6.2.1.1.4", "i", "4"]);
        let alarm = only(&site, count);
        assert_eq!((&alarm["state"], &alarm["labels"]["alarm"]), (&state.into(), &"4".into()), "{alarm}");
    }
    // The example, on loopback.
    let example = super::examples::example("snmp-in.yaml");
    std::fs::create_dir(example.path().join("secrets")).expect("made");
    for secret in ["community", "snmp-auth", "snmp-priv"] {
        example.secret(&format!("secrets/{secret}"), "canary secret");
    }
    let text = std::fs::read_to_string(example.config()).expect("readable");
    let text = text.replace("0.0.0.0:10162", "127.0.0.1:0").replace("192.0.2.0/24", "127.0.0.0/8");
    example.configure(&text);
    let server = example.start();
    let to = server.snmp().to_string();
    let user = as_user("ups", Some(("SHA-256", "canary secret")), Some(("AES", "canary secret")));
    let more = [&to, "", "1.3.6.1.2.1.33.2.1", "1.3.6.1.2.1.33.1.2.3.0", "i", "5"];
    net_snmp(&example, "snmpinform", &[&user[..], &more].concat()).ends(0);
    until_true("the desk is told", || example.read("desk.log").contains("5 minutes are left"));
    net_snmp(&example, "snmptrap", &["-v", "2c", "-c", "canary secret", &to, "", TRAP]).ends(0);
    until_true("it is in the file", || example.read("traps.log").contains(TRAP));
}

/// An agent, with the lines of docs/snmp-in.md.
#[test]
fn an_agent_of_net_snmp_is_heard() {
    let page = include_str!("../../docs/snmp-in.md");
    for fence in ["snmpd-v2c", "snmpd-v3"] {
        let (_, lines) = page.split_once(&format!("```{fence}\n")).expect("the page has them");
        let (lines, _) = lines.split_once("```").expect("they end");
        let site = listening("");
        let server = site.start();
        let lines = lines
            .replace("ams2.example.com:162", &server.snmp().to_string())
            .replace("example-community", COMMUNITY)
            .replace("the authentication password", AUTH)
            .replace("the privacy password", PRIV)
            .replace(" -u ups ", " -u usual ");
        let _agent = agent(&site, &lines);
        let alert = only(&site, 1);
        assert_eq!(alert["labels"]["event"], "Cold Start", "{fence}: {alert}");
        let is = if fence == "snmpd-v3" { Value::from("true") } else { Value::Null };
        assert_eq!(alert["labels"]["authenticated"], is, "{fence}: {alert}");
        let answered = || server.metric("ams2_snmp_informs_total{result=\"answered\"}") == Some(1);
        until_true(&format!("{fence} has its answer"), answered);
    }
}

/// `snmptrapd` passes on what devices send it, with the line of docs/snmp-in.md.
#[test]
fn a_snmptrapd_passes_traps_on() {
    let page = include_str!("../../docs/snmp-in.md");
    let (_, lines) = page.split_once("```snmptrapd\n").expect("the page has it");
    let (lines, _) = lines.split_once("```").expect("it ends");
    let site = listening("");
    let server = site.start();
    let lines = lines.replace("ams2.example.com:162", &server.snmp().to_string());
    let port = free_port();
    let _relay = super::snmptrapd::Snmptrapd::start(&site, port, &lines);
    let to = format!("127.0.0.1:{port}");
    net_snmp(&site, "snmptrap", &["-v", "2c", "-c", COMMUNITY, &to, "", TRAP, OBJECT, "s", "two"]).ends(0);
    assert_eq!(only(&site, 1)["annotations"]["summary"], format!("{TRAP}: two"));
    let v1 = ["-v", "1", "-c", COMMUNITY, &to, "1.3.6.1.4.1.32473.7", "192.0.2.9", "6", "1", ""];
    net_snmp(&site, "snmptrap", &v1).ends(0);
    assert_eq!(only(&site, 2)["labels"]["agent"], "192.0.2.9");
}

/// What a reload says holds for what comes then: communities, users, passwords, rules.
#[test]
fn a_reload_changes_who_may_send() {
    let site = listening("");
    let server = site.start();
    let to = server.snmp().to_string();
    let say = |user: &[&str]| {
        net_snmp(&site, "snmpinform", &[user, &["-t", "0.3", "-r", "0", &to, "", TRAP]].concat()).code
    };
    let usual = as_user("usual", Some(("SHA-256", AUTH)), Some(("AES", PRIV)));
    let community = ["-v", "2c", "-c", COMMUNITY];
    // A debug build takes its time for the first key.
    until_true("both are taken", || say(&usual) == Some(0) && say(&community) == Some(0));
    site.secret("community", "another\n");
    site.secret("auth", "another password\n");
    site.client(&["reload"]).ends(0);
    assert_ne!(say(&community), Some(0));
    assert_ne!(say(&usual), Some(0));
    let changed = as_user("usual", Some(("SHA-256", "another password")), Some(("AES", PRIV)));
    until_true("both are taken", || {
        say(&changed) == Some(0) && say(&["-v", "2c", "-c", "another"]) == Some(0)
    });
    // Another address needs a restart.
    site.configure(&config("127.0.0.1:1", ""));
    site.client(&["reload"]).ends(0).says("originator.snmp takes effect at the next start");
}

/// `snmpd` with these lines in its config.
fn agent(site: &Site, lines: &str) -> Ward {
    let folder = site.path().join("snmpd");
    std::fs::create_dir_all(&folder).expect("made");
    let port = free_port();
    std::fs::write(
        folder.join("conf"),
        format!("agentaddress udp:127.0.0.1:{port}\nrocommunity here 127.0.0.1\n{lines}"),
    )
    .expect("written");
    let mut command = Command::new("snmpd");
    clean(&mut command);
    command.env("MIBS", "").env("SNMP_PERSISTENT_DIR", folder.join("state"));
    command.args(["-f", "-Lo", "-C", "-c"]).arg(folder.join("conf")).arg("-p").arg(folder.join("pid"));
    let output = |name: &str| std::fs::File::create(folder.join(name)).expect("a file");
    command.stdin(Stdio::null()).stdout(output("out")).stderr(output("err"));
    Ward(command.spawn().expect("snmpd runs (Debian package snmpd)"))
}

/// What an ams2 says with `snmp_trap` is the same alert here, in every version, as trap and as inform, firing and resolved.
#[test]
fn an_ams2_tells_another_and_the_alert_is_the_same() {
    let here = listening("");
    let server = here.start();
    let to = server.snmp();
    let there = Site::new("");
    there.secret("community", &format!("{COMMUNITY}\n"));
    there.secret("auth", &format!("{AUTH}\n"));
    there.secret("priv", &format!("{PRIV}\n"));
    let user = "version: 3, user: strong, auth: sha512, auth_password_file: auth, priv: aes256, priv_password_file: priv";
    let ways = [
        "version: 1, community_file: community".to_owned(),
        "version: 2c, community_file: community".to_owned(),
        "version: 2c, inform: true, community_file: community".to_owned(),
        user.to_owned(),
        format!("{user}, inform: true"),
    ];
    for (number, way) in ways.iter().enumerate() {
        there.configure(&format!(
            "receivers: [{{name: nobody}}, {{name: up, actions: [{{snmp_trap: {{to: '{to}', {way}}}}}]}}]
route: {{receiver: nobody, routes: [{{receiver: up, matchers: ['source != \"ams2\"'], group_wait: 0s, group_interval: 1s}}]}}
"
        ));
        let sender = there.start();
        let labels = serde_json::json!({ "event": "Virus Found", "computer": format!("ws-{number}"), "path": "C:\\a \"b\"", "severity": "critical" });
        let firing = serde_json::json!([{ "labels": labels, "annotations": { "summary": "EICAR" } }]);
        sender.post(&firing.to_string()).is(200);
        let alert = only(&here, 2 * number + 1);
        assert_eq!(
            (&alert["state"], &alert["annotations"]["summary"]),
            (&"firing".into(), &"EICAR".into()),
            "{way}"
        );
        for (name, value) in labels.as_object().expect("an object") {
            assert_eq!(&alert["labels"][name], value, "{way}: {alert}");
        }
        let ended = serde_json::json!([{ "labels": labels, "ends_at": "2026-12-01T00:00:00Z" }]);
        sender.post(&ended.to_string()).is(200);
        let over = only(&here, 2 * number + 2);
        assert_eq!((&over["state"], &over["labels"]), (&"resolved".into(), &alert["labels"]), "{way}");
        assert!(sender.terminate().success());
    }
}

/// Rows 70 to 76, on the wire: nothing is answered, and what is somebody's is kept.
#[test]
fn bytes_that_nobody_should_send_are_counted_or_kept() {
    let site = listening("");
    let server = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(server.snmp()).expect("connected");
    let message = |version: u8, pdu: &[u8]| {
        let community = [&[4, COMMUNITY.len() as u8][..], COMMUNITY.as_bytes()].concat();
        let content = [&[2, 1, version][..], &community, pdu].concat();
        [&[0x30, content.len() as u8][..], &content].concat()
    };
    for nobodys in [
        &b""[..],
        b"\xff\xff\xff\xff",
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x80, 0, 0],
        &message(1, &[0xa0, 0]),
        &message(1, &[0xa4, 0]),
    ] {
        socket.send(nobodys).expect("sent");
    }
    let nothing = vec![0; 65_507];
    socket.send(&nothing).expect("sent");
    // No varbind at all, and a PDU that ends in the middle.
    socket.send(&message(1, &[0xa7, 11, 2, 1, 1, 2, 1, 0, 2, 1, 0, 0x30, 0])).expect("sent");
    socket.send(&message(1, &[0xa7, 3, 2, 1, 1])).expect("sent");
    let told = until_told(&site, 2);
    assert_eq!(told[0]["labels"]["parse_error"], "prefix", "{}", told[0]);
    assert_eq!(
        (&told[0]["labels"]["trap"], &told[0]["annotations"]["raw"]),
        (&"0.0".into(), &"0xa70b0201010201000201003000".into())
    );
    assert_eq!(
        (&told[1]["labels"]["parse_error"], &told[1]["annotations"]["raw"]),
        (&"pdu".into(), &"0xa703020101".into())
    );
    let count = |reason: &str| server.metric(&format!("ams2_snmp_dropped_total{{reason=\"{reason}\"}}"));
    assert_eq!([count("empty"), count("malformed"), count("pdu")], [Some(1), Some(4), Some(2)]);
    socket.set_nonblocking(true).expect("settable");
    assert!(socket.recv(&mut [0]).is_err(), "nobody is answered");
}

/// `kill -9` between the inform and its answer, again and again: what was answered is told, once.
#[test]
fn an_inform_that_was_answered_is_kept_whenever_it_is_killed() {
    const KILLS: u64 = 12;
    let port = free_port();
    let site = listening("");
    site.configure(&config(&format!("127.0.0.1:{port}"), ""));
    let mut dice = Dice::new("snmp informs");
    let (mut answered, mut number) = (Vec::new(), 0);
    let kills = if number_from_env("AMS2_TEST_LONG").is_some() { KILLS * 5 } else { KILLS };
    for _ in 0..kills {
        let server = site.start();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(server.snmp()).expect("connected");
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("settable");
        let wanted = 1 + dice.below(200);
        // Several under way at once; the kill comes while some are between their arrival and their answer.
        let first = number;
        for _ in 0..wanted {
            socket.send(&inform(number)).expect("sent");
            number += 1;
        }
        let mut buffer = [0; 2048];
        let before_kill = dice.below(wanted);
        for _ in 0..before_kill {
            let Ok(length) = socket.recv(&mut buffer) else { break };
            answered.push(request_of(&buffer[..length]));
        }
        server.kill();
        // What was answered and lies in the socket counts, too.
        while let Ok(length) = socket.recv(&mut buffer) {
            answered.push(request_of(&buffer[..length]));
        }
        // Whoever had no answer asks again, over the restart: one occurrence.
        let server = site.start();
        let again = UdpSocket::bind("127.0.0.1:0").expect("a port");
        again.connect(server.snmp()).expect("connected");
        again.set_read_timeout(Some(DEADLINE)).expect("settable");
        for request in first..number {
            again.send(&inform(request)).expect("sent");
        }
        for _ in first..number {
            let length = again.recv(&mut buffer).expect("an answer");
            answered.push(request_of(&buffer[..length]));
        }
        drop(server);
    }
    let server = site.start();
    // A kill may tell one twice, by the same delivery. Each has one delivery: it is one occurrence.
    let told_of = || {
        let mut deliveries: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for alert in told(&site) {
            let summary = alert["annotations"]["summary"].as_str().expect("text");
            let number =
                summary.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("its number");
            let delivery = alert["delivery"].as_str().expect("an id");
            deliveries.entry(number).or_default().insert(delivery.to_owned());
        }
        deliveries
    };
    let all = until("all are told", || Some(told_of()).filter(|all| all.len() >= number as usize));
    server.until_quiet();
    assert!(all.keys().copied().eq(0..number), "{all:?}");
    assert!(told_of().values().all(|deliveries| deliveries.len() == 1), "each is one");
    eprintln!("{kills} kills, {number} informs, {} answers", answered.len());
}

/// An inform of v2c that says its number.
fn inform(number: u32) -> Vec<u8> {
    let tlv =
        |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).expect("short")], content].concat();
    let varbind = |oid: &[u8], value: &[u8]| tlv(0x30, &[tlv(6, oid), value.to_vec()].concat());
    let list = [
        varbind(&[0x2b, 6, 1, 2, 1, 1, 3, 0], &tlv(0x43, &[0])),
        varbind(&[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0], &tlv(6, &[0x2b, 6, 1, 4, 1, 9, 1])),
        varbind(&[0x2b, 6, 1, 4, 1, 9, 2], &tlv(4, number.to_string().as_bytes())),
    ];
    let zero = tlv(2, &[0]);
    let pdu = [tlv(2, &number.to_be_bytes()), zero.clone(), zero, tlv(0x30, &list.concat())];
    tlv(0x30, &[tlv(2, &[1]), tlv(4, COMMUNITY.as_bytes()), tlv(0xa6, &pdu.concat())].concat())
}

/// The number of the inform that this answers.
fn request_of(answer: &[u8]) -> u32 {
    let at = answer.iter().position(|byte| *byte == 0xa2).expect("a Response");
    let length = usize::from(answer[at + 3]);
    answer[at + 4..at + 4 + length].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[test]
fn a_listener_that_others_reach_says_insecure_and_clients_say_how_they_are_known() {
    let user = "{name: a, user: u, auth_password_file: auth}";
    for (listen, clients, words) in [
        (
            "0.0.0.0:0",
            "[{name: a, community_file: community}]",
            "nothing proves that a message is of the client `a`",
        ),
        ("0.0.0.0:0", "[{name: a, user: u}]", "nothing proves that a message is of the client `a`"),
        ("127.0.0.1:0", "[{name: a}]", "nothing says how to know the client"),
        (
            "127.0.0.1:0",
            "[{name: a, community_file: public}]",
            "everybody tries the community `public` first",
        ),
        (
            "127.0.0.1:0",
            "[{name: a, user: u, auth: md5, auth_password_file: auth}]",
            "MD5 protects nothing any more",
        ),
        (
            "127.0.0.1:0",
            "[{name: a, user: u, auth: sha265, auth_password_file: auth}]",
            "did you mean `sha256`?",
        ),
        ("127.0.0.1:0", "[{name: a, user: u, priv_password_file: priv}]", "who encrypts authenticates, too"),
        ("127.0.0.1:0", "[{name: a, user: u, auth: sha256}]", "add `auth_password_file:`"),
        ("127.0.0.1:0", "[{name: a, community: x}]", "unknown"),
    ] {
        let site = listening("");
        site.secret("public", "public\n");
        site.configure(&format!(
            "originator:\n  snmp:\n    listen: '{listen}'\n    clients: {clients}\n{AS_JSON}"
        ));
        site.refused().ends(2).says(words);
    }
    let site = listening("    mapping: [{when: ['trap = \"IF-MIB::linkDown\"'], does: drop}]\n");
    site.refused().ends(2).says("`IF-MIB::linkDown` is no OID of a notification");
    // Users with passwords need no more than that.
    let site = listening("");
    site.configure(&format!(
        "originator:\n  snmp:\n    listen: '0.0.0.0:0'\n    clients: [{user}]\n{AS_JSON}"
    ));
    let server = site.start();
    assert!(server.snmp().ip().is_unspecified());
    assert!(Path::new(&site.data().join("snmp-engine")).exists());
}
