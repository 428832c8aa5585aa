//! `email` against a real mail server: what arrives there, for whom, how often, and what becomes of what it does not take.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use super::{harness::*, postfix::*};

/// What the tests tell of goes to an action `email` with these settings; a log keeps what ams2 says of itself.
fn config(port: u16, settings: &str, route: &str) -> String {
    format!(
        "
receivers:
  - name: log
    actions: [{{event_log: {{to: file, path: events.log}}}}]
  - name: mail
    actions:
      - email: {{from: ams2@example.com, smtp: 'smtp://localhost:{port}', {settings}}}
route:
  receiver: log
  routes: [{{receiver: mail, matchers: ['event =~ \"Down|Virus Found|Вирус.*\"'], {route}}}]
"
    )
}

const TO_ONE: &str = "to: [ops@example.com]";
const EACH_ONE: &str = "notify: each";
const LOGIN: &str = "tls: required, user: me, password_file: password, ca_file: ca.pem";

/// A site whose action logs in to `postfix`.
fn site_with_login(postfix: &Postfix, settings: &str) -> Site {
    let site = Site::new(&config(postfix.port, &format!("{settings}, {LOGIN}"), EACH_ONE));
    site.secret("password", &format!("{PASSWORD}\n"));
    std::fs::copy(postfix.ca(), site.path().join("ca.pem")).expect("copied");
    site
}

/// What is pending, or dead.
fn deliveries(server: &Server, state: &str) -> Vec<Value> {
    let rows = server.get(&format!("/api/v1/deliveries?state={state}")).json();
    rows.as_array().expect("a list").clone()
}

/// `ams2 check --probe`, in a place that has the data folder which the config's default names.
fn probe(site: &Site) -> Ran {
    std::fs::create_dir_all(site.path().join("ams2-data")).expect("made");
    run(ams2().current_dir(site.path()).args(["check", "--probe"]).arg(site.config()))
}

fn post_numbers(server: &Server, event: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        server.post(&alert(event, &n.to_string())).is(200);
    }
}

#[test]
fn a_mail_arrives_over_tls_with_a_login_and_a_private_authority() {
    let postfix = Postfix::with_logins();
    let to = "to: ['Büro Nacht <night@example.com>', ops@example.com], reply_to: desk@example.com, \
              headers: {X-Team: '{{ common_labels.site }} ✓'}";
    let site = site_with_login(&postfix, to);
    let server = site.start();
    let mut virus = json!({
        "id": "first",
        "labels": { "event": "Вирус 🦠 gefunden", "severity": "critical", "site": "Zürich" },
        "annotations": { "summary": "汉字 in invoice.doc\n.\nQUIT", "runbook_url": "https://wiki.example.com/virus" },
    });
    server.post(&virus.to_string()).is(200);
    let mails = postfix.until_mails(2);
    let mut recipients: Vec<&str> = mails.iter().map(Mail::recipient).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["night@example.com", "ops@example.com"]);
    for mail in &mails {
        // What the server says of the way that it came: extended SMTP with TLS and a login.
        assert!(mail.header("received").contains("with ESMTPSA"), "{mail:?}");
        assert_eq!(mail.header("return-path"), "<ams2@example.com>");
        for (name, value) in [
            ("from", "ams2@example.com"),
            ("to", "Büro Nacht <night@example.com>, ops@example.com"),
            ("reply-to", "desk@example.com"),
            ("subject", "[FIRING] Вирус 🦠 gefunden, critical: site=Zürich"),
            ("auto-submitted", "auto-generated"),
            ("importance", "high"),
            ("x-ams2-state", "firing"),
            ("x-ams2-severity", "critical"),
            ("x-team", "Zürich ✓"),
            ("in-reply-to", ""),
        ] {
            assert_eq!(mail.header(name), value, "{name}: {mail:?}");
        }
        assert!(!mail.header("date").is_empty(), "{mail:?}");
        for part in [&mail.text, &mail.html] {
            for words in ["Вирус 🦠 gefunden", "Zürich", "汉字 in invoice.doc", "QUIT"] {
                assert!(part.contains(words), "{words} is not in {part}");
            }
        }
        assert!(
            mail.html.contains("href=\"https:&#x2f;&#x2f;wiki.example.com&#x2f;virus\""),
            "{}",
            mail.html
        );
    }
    assert_eq!(mails[0].id(), mails[1].id());
    server.until_quiet();
    let said = server.get("/api/v1/decisions").text();
    assert!(said.contains("250 2.0.0 Ok: queued as"), "{said}");

    // The same with TLS from the first byte.
    let place = |port| format!("localhost:{port}'");
    let smtps = std::fs::read_to_string(site.config()).expect("readable").replace("smtp://", "smtps://");
    site.configure(
        &smtps.replace(&place(postfix.port), &place(postfix.tls_port)).replace("tls: required, ", ""),
    );
    site.client(&["reload"]).ends(0);
    virus["id"] = "second".into();
    server.post(&virus.to_string()).is(200);
    let mails = postfix.until_mails(4);
    assert!(mails[3].header("received").contains("with ESMTPSA"), "{:?}", mails[3]);
}

#[test]
fn a_wrong_authority_or_password_sends_nothing_and_waits_to_be_mended() {
    let postfix = Postfix::with_logins();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let rows = [
        ("canary-right", other.cert.pem(), "TLS failed: invalid peer certificate"),
        (
            "canary-wrong",
            std::fs::read_to_string(postfix.ca()).expect("readable"),
            "does not let us in as me: 535 5.7.8 Error: authentication failed",
        ),
    ];
    for (round, (password, ca, words)) in rows.into_iter().enumerate() {
        let site = site_with_login(&postfix, TO_ONE);
        site.secret("password", password);
        std::fs::write(site.path().join("ca.pem"), ca).expect("written");
        let probed = probe(&site).ends(1);
        assert!(probed.stdout.contains(words), "{probed:?}");
        let server = site.start();
        server.post(&alert("Down", "1")).is(200);
        until_true("`query deliveries` shows the server's words", || {
            site.client(&["query", "deliveries"]).ends(0).stdout.contains(words)
        });
        let waits = deliveries(&server, "pending");
        assert_eq!((waits.len(), &waits[0]["state"]), (1, &"waiting".into()), "{waits:?}");
        assert_eq!(deliveries(&server, "dead").len(), 0);
        assert_eq!((postfix.count(), postfix.log().matches(": from=<").count()), (round, round));
        // Nobody sees a password, neither as it is nor as it goes over the wire.
        let mut seen = vec![site.log(), format!("{probed:?}")];
        for path in ["metrics", "api/v1/deliveries", "api/v1/decisions", "api/v1/actions", "api/v1/alerts"] {
            seen.push(server.get(&format!("/{path}")).is(200).text());
        }
        // Mended, what waits goes out.
        site.secret("password", PASSWORD);
        std::fs::copy(postfix.ca(), site.path().join("ca.pem")).expect("copied");
        site.client(&["reload"]).ends(0);
        postfix.until_mails(round + 1);
        server.until_quiet();
        assert!(server.terminate().success());
        for entry in std::fs::read_dir(site.data()).expect("readable").map_while(Result::ok) {
            // The socket cannot be read.
            seen.push(
                std::fs::read(entry.path())
                    .map(|b| String::from_utf8_lossy(&b).into_owned())
                    .unwrap_or_default(),
            );
        }
        assert!(seen.iter().any(|text| text.contains("Down")), "the journal was looked at");
        for secret in ["canary", "AG1lAGNhbmFye", "Y2FuYXJ5"] {
            assert!(seen.iter().all(|text| !text.contains(secret)), "{secret}");
        }
    }
}

#[test]
fn a_groups_mails_are_one_thread_until_it_ends() {
    let postfix = Postfix::start();
    let route = "group_by: [site], group_wait: 0s, group_interval: 300ms, repeat_interval: 300ms";
    let site = Site::new(&config(postfix.port, TO_ONE, route));
    let server = site.start();
    let post = |site: &str, end: &str| {
        let labels = json!({ "event": "Down", "site": site });
        let ends_at = if end.is_empty() { Value::Null } else { end.into() };
        let mut alert = json!({ "labels": labels });
        if !ends_at.is_null() {
            alert["ends_at"] = ends_at;
        }
        server.post(&alert.to_string()).is(200);
    };
    let of = |site: &str, state: &str| -> Vec<Mail> {
        let about = |mail: &Mail| {
            mail.header("subject").ends_with(&format!("site={site}")) && mail.header("x-ams2-state") == state
        };
        postfix.mails().into_iter().filter(about).collect()
    };
    post("boston", "");
    post("austin", "");
    until_true("both groups are told and repeated", || {
        of("boston", "firing").len() > 2 && of("austin", "firing").len() > 2
    });
    post("boston", "2020-01-01T00:00:00Z");
    let ended = until("the end is told", || of("boston", "resolved").pop());
    let mut threads = BTreeMap::new();
    for place in ["boston", "austin"] {
        let mails = of(place, "firing");
        let first = mails[0].id();
        assert_eq!((mails[0].header("references"), mails[0].header("in-reply-to")), ("", ""));
        for mail in mails[1..].iter().chain((place == "boston").then_some(&ended)) {
            assert_eq!(mail.header("references"), first, "{mail:?}");
            assert_eq!(mail.header("in-reply-to"), first, "{mail:?}");
            assert_ne!(mail.id(), first);
        }
        threads.insert(first.to_owned(), place);
    }
    assert_eq!(threads.len(), 2, "each group has its own");
    // What begins after the end is another story.
    let before = of("boston", "firing").len();
    post("boston", "");
    let again = until("it is told again", || of("boston", "firing").into_iter().nth(before));
    assert_eq!(again.header("references"), "", "{again:?}");
}

#[test]
fn each_of_three_recipients_has_a_fate_of_its_own() {
    let mut postfix = Postfix::start();
    postfix.kill();
    postfix.start_again(
        "{gone@example.com = 550 5.1.1 nobody of that name}, {later@example.com = 450 4.2.1 mailbox busy}",
    );
    let to = "to: [gone@example.com, later@example.com, ops@example.com]";
    let site = Site::new(&config(postfix.port, to, EACH_ONE));
    let server = site.start();
    site.client(&["send", "Virus Found", "-l", "n=1"]).ends(0);
    let dead = until("the one that is gone is a dead letter", || {
        Some(deliveries(&server, "dead")).filter(|rows| !rows.is_empty())
    });
    assert_eq!(dead.len(), 1, "{dead:?}");
    let why = dead[0]["dead_reason"].as_str().expect("a reason");
    assert!(why.contains("gone@example.com: 550 5.1.1"), "{why}");
    assert!(why.contains("nobody of that name"), "{why}");
    let said = server.get("/api/v1/decisions").text();
    assert!(said.contains("later@example.com: 450 4.2.1"), "the first attempt says why: {said}");
    // By then the one who is busy was tried again, and nobody else was.
    until_true("the one who is busy is tried again", || {
        let waits = deliveries(&server, "pending");
        waits.len() == 1
            && waits[0]["attempts"].as_u64() > Some(2)
            && waits[0]["last_failure"].as_str().is_some_and(|why| why.contains("mailbox busy"))
    });
    let tried = |who: &str| {
        let words = format!("to=<{who}@example.com>");
        postfix.log().lines().filter(|line| line.contains("reject:") && line.contains(&words)).count()
    };
    // Postfix writes its log in its own time.
    until_true("postfix logged the attempts", || tried("later") > 2);
    assert_eq!(tried("gone"), 1, "{}", postfix.log());
    assert_eq!(postfix.until_mails(1)[0].recipient(), "ops@example.com");
    postfix.kill();
    postfix.start_again("{gone@example.com = 550 5.1.1 nobody of that name}");
    postfix.until_mails(2);
    server.until_quiet();
    let mails = postfix.mails();
    let recipients: Vec<&str> = mails.iter().map(Mail::recipient).collect();
    assert_eq!(recipients, ["ops@example.com", "later@example.com"]);
    assert_eq!(mails[0].id(), mails[1].id());
    assert_eq!(deliveries(&server, "dead").len(), 1);
}

/// The list changes while a mail waits for two of its recipients: they are known by their addresses, not by their places.
#[test]
fn who_waits_is_known_by_address_whatever_becomes_of_the_list() {
    let mut postfix = Postfix::start();
    postfix.kill();
    let busy = "450 4.2.1 mailbox busy";
    postfix.start_again(&format!("{{later@example.com = {busy}}}, {{left@example.com = {busy}}}"));
    let port = postfix.port;
    let list = |to: &str| config(port, &format!("to: [{to}]"), EACH_ONE);
    let site = Site::new(&list("ops@example.com, later@example.com, left@example.com"));
    let server = site.start();
    server.post(&alert("Down", "1")).is(200);
    assert_eq!(postfix.until_mails(1)[0].recipient(), "ops@example.com");
    until_true("two recipients wait", || {
        let waits = deliveries(&server, "pending");
        waits.len() == 1 && waits[0]["state"] == "waiting" && waits[0]["attempts"] != 0
    });
    // One is in another place, one is gone, and in their old places stand others.
    site.configure(&list("later@example.com, new@example.com, ops@example.com"));
    site.client(&["reload"]).ends(0);
    postfix.kill();
    postfix.start_again("");
    postfix.until_mails(2);
    server.until_quiet();
    let mails = postfix.mails();
    let recipients: Vec<&str> = mails.iter().map(Mail::recipient).collect();
    assert_eq!(recipients, ["ops@example.com", "later@example.com"]);
    assert_eq!(deliveries(&server, "dead").len(), 0);
    let done = deliveries(&server, "done");
    let reply =
        done.iter().find(|row| row["action"] == "mail/email/0").expect("it ended well")["reply"].clone();
    let reply = reply.as_str().expect("words");
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    assert!(reply.ends_with("; 1 recipient that was left is not in `to` any more"), "{reply}");
}

/// A mailbox that is full or greylists says nothing of the server: no mail for others waits for it.
#[test]
fn a_recipient_that_is_put_off_again_and_again_holds_up_no_other_mail() {
    let mut postfix = Postfix::start();
    postfix.kill();
    postfix.start_again("{ops@example.com = 450 4.2.0 greylisted}");
    let site = Site::new(&config(postfix.port, TO_ONE, EACH_ONE));
    let server = site.start();
    post_numbers(&server, "Down", 0..20);
    let way = "ams2_attempts_total{action=\"mail/email/0\",outcome=\"transient\"}";
    until_true("each was put off", || server.metric(way) >= Some(20));
    assert_eq!(server.metric("ams2_action_failing{action=\"mail/email/0\"}"), Some(0));
    let waits = deliveries(&server, "pending");
    assert!(waits.iter().all(|row| row["attempts"] != 0), "none waits without an attempt: {waits:?}");
    postfix.kill();
    postfix.start_again("");
    postfix.until_mails(20);
    server.until_quiet();
    assert_eq!(postfix.count(), 20);
}

/// Postfix's own word for a recipient that it does not relay to, `454`, keeps the mail from that one alone.
#[test]
fn a_recipient_that_the_server_does_not_relay_to_keeps_the_mail_from_nobody_else() {
    let mut postfix = Postfix::start();
    postfix.kill();
    // What postfix asks last for everybody who is no friend of it.
    postfix.start_again("{far@elsewhere.example = defer_unauth_destination}");
    let site = Site::new(&config(postfix.port, "to: [far@elsewhere.example, ops@example.com]", EACH_ONE));
    let server = site.start();
    post_numbers(&server, "Down", 0..7);
    let mails = postfix.until_mails(7);
    assert!(mails.iter().all(|mail| mail.recipient() == "ops@example.com"), "{mails:?}");
    let is_why =
        |row: &Value| row["last_failure"].as_str().is_some_and(|why| why.contains("Relay access denied"));
    until_true("the other waits, and says why", || {
        let waits = deliveries(&server, "pending");
        waits.len() == 7 && waits.iter().all(is_why)
    });
    assert_eq!(server.metric("ams2_action_failing{action=\"mail/email/0\"}"), Some(0));
    assert!(postfix.log().contains("454 4.7.1 <far@elsewhere.example>: Relay access denied"));
}

/// The server has the mail and its answer is lost: it is sent again, and whoever looks sees that it may be there twice.
#[test]
fn a_mail_that_may_arrive_twice_is_counted_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let site = Site::new(&config(listener.local_addr().expect("bound").port(), TO_ONE, EACH_ONE));
    let mails = std::thread::spawn(move || {
        let taken: Vec<String> = (0..2).map(|turn| take_mail(&listener, turn == 1)).collect();
        taken
    });
    let server = site.start();
    server.post(&alert("Down", "1")).is(200);
    let mails = mails.join().expect("two mails");
    assert_eq!(mails[0], mails[1], "the same, by Message-ID too");
    assert!(mails[0].contains("Message-ID: <"), "{}", mails[0]);
    server.until_quiet();
    assert_eq!(server.metric("ams2_maybe_duplicates_total{action=\"mail/email/0\"}"), Some(1));
    let said = server.get("/api/v1/decisions").text();
    assert!(said.contains("it may have the mail, which is sent again with the same Message-ID"), "{said}");
}

/// Takes one mail over one connection, answers it or hangs up, and says what it was.
fn take_mail(listener: &TcpListener, answers: bool) -> String {
    let (stream, _) = listener.accept().expect("a connection");
    let mut write = stream.try_clone().expect("a socket");
    let mut lines = BufReader::new(stream).lines();
    let mut say = |words: &str| write.write_all(format!("{words}\r\n").as_bytes()).expect("said");
    say("220 mail.example.com");
    loop {
        let command = lines.next().expect("a command").expect("text");
        if command == "DATA" {
            break;
        }
        say("250 fine");
    }
    say("354 go on");
    let mail: Vec<String> =
        lines.by_ref().map(|line| line.expect("text")).take_while(|line| line != ".").collect();
    if answers {
        say("250 queued");
    }
    mail.join("\n")
}

#[test]
fn mails_for_a_server_that_was_away_arrive_once_each() {
    let mut postfix = Postfix::start();
    let site = Site::new(&config(postfix.port, TO_ONE, EACH_ONE));
    let server = site.start();
    post_numbers(&server, "Down", 0..10);
    postfix.until_mails(10);
    server.until_quiet();
    postfix.kill();
    post_numbers(&server, "Down", 10..40);
    until_true("attempts fail", || {
        deliveries(&server, "pending")
            .iter()
            .any(|row| row["last_failure"].as_str().is_some_and(|why| why.contains("Connection refused")))
    });
    postfix.start_again("");
    postfix.until_mails(40);
    server.until_quiet();
    let mails = postfix.mails();
    let mut ids: Vec<&str> = mails.iter().map(Mail::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((mails.len(), ids.len()), (40, 40), "each once");
    for n in 0..40 {
        let words = format!("n={n}");
        let about = mails.iter().filter(|mail| mail.header("subject").ends_with(&words)).count();
        assert_eq!(about, 1, "{words}");
    }
    assert_eq!(deliveries(&server, "dead").len(), 0);
}

#[test]
fn a_probe_says_how_the_server_is_and_a_test_mail_says_that_it_is_one() {
    let mut postfix = Postfix::with_logins();
    let site = site_with_login(&postfix, TO_ONE);
    let well = probe(&site).ends(0).stdout;
    assert!(well.contains("mail.example.com greets, STARTTLS, logged in as me"), "{well}");
    assert_eq!(postfix.count(), 0, "nobody is told anything");
    let server = site.start();
    let told = site.client(&["action", "test", "mail/email/0"]).ends(0);
    assert!(told.stdout.contains("250 2.0.0 Ok: queued as"), "{}", told.stdout);
    let mail = postfix.until_mails(1).remove(0);
    assert!(mail.header("subject").starts_with("[TEST] "), "{mail:?}");
    assert!(mail.text.starts_with("[TEST] ") && mail.html.contains(">TEST · "), "{mail:?}");
    postfix.kill();
    let away = probe(&site).ends(1).stdout;
    assert!(away.contains("Connection refused"), "{away}");
    site.client(&["action", "test", "mail/email/0"]).ends(1);
    drop(server);
}

#[test]
fn the_example_sends_each_recipient_a_mail_of_a_group() {
    let postfix = Postfix::start();
    let site = super::examples::example("email.yaml");
    let text = std::fs::read_to_string(site.config()).expect("readable");
    let place = format!("smtp://127.0.0.1:{}\n", postfix.port);
    assert!(text.contains("smtp://127.0.0.1:25 ") && text.contains("group_wait: 30s"), "{text}");
    let text = text.replace("smtp://127.0.0.1:25 ", &place).replace("group_wait: 30s", "group_wait: 10ms");
    site.configure(&text);
    let _server = site.start();
    site.client(&["send", "Virus Found", "-l", "site=boston", "--severity", "critical"]).ends(0);
    site.client(&["send", "Scan Done", "-l", "site=boston", "--severity", "info"]).ends(0);
    let mails = postfix.until_mails(2);
    let mut recipients: Vec<&str> = mails.iter().map(Mail::recipient).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["night@example.com", "secops@example.com"]);
    assert!(mails.iter().all(|mail| mail.header("subject") == "Virus Found at boston"), "{mails:?}");
}

#[test]
fn a_mail_server_that_never_answers_holds_up_nobody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    // Ends with the test's process.
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            held.push(stream);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    // A manager that takes traps: their labels end with the number that we gave them.
    let manager = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let manager_place = manager.local_addr().expect("bound");
    let trapped = Arc::new(Mutex::new(BTreeSet::new()));
    let traps = trapped.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok(length) = manager.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let number = text
                .split("event=Down n=")
                .nth(1)
                .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            traps.lock().expect("no panic").extend(number);
        }
    });
    let site = Site::new(&format!(
        "
receivers:
  - name: both
    actions:
      - email: {{to: [ops@example.com], from: ams2@example.com, smtp: 'smtp://127.0.0.1:{port}', timeout: 10m, max_in_flight: 3}}
      - event_log: {{to: file, path: events.log}}
      - snmp_trap: {{to: '{manager_place}', community_file: community}}
route: {{receiver: both, notify: each}}
"
    ));
    site.secret("community", "example");
    let server = site.start();
    let ids: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    until_true("mails are on their way", || {
        server.post(&alert("Down", "0")).is(200);
        connections.load(Ordering::Relaxed) == 3
    });
    post_numbers(&server, "Down", 1..200);
    site.until_told(&ids);
    until_true("traps keep flowing", || trapped.lock().expect("no panic").len() == ids.len());
    let way = "ams2_attempts_total{action=\"both/email/0\",outcome=\"transient\"}";
    assert!(matches!(server.metric(way), None | Some(0)), "the mails still wait for their answer");
    assert_eq!(connections.load(Ordering::Relaxed), 3, "and take no more connections than they may");
    let waiting = deliveries(&server, "pending");
    assert!(waiting.len() >= 200 && waiting.iter().all(|row| row["action"] == "both/email/0"));
}
