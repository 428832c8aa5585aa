//! The command line against a running router: what it prints, and the exit codes that docs/cli.md promises.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    path::Path,
};

use super::harness::*;

/// A receiver whose program fails for good, so that there are dead letters, and one that keeps a log.
const FAILING: &str = "
receivers:
  - name: log
    actions: [{event_log: {to: file, path: events.log}}]
  - name: broken
    actions: [{program: {name: no, command: [/bin/false]}}]
route:
  receiver: log
  notify: each
  routes:
    - {matchers: ['event = \"Broken\"'], receiver: broken, continue: true}
    - {receiver: log}
";

fn rows(ran: &Ran) -> usize {
    ran.json().as_array().expect("a list").len()
}

#[test]
fn alerts_groups_and_acknowledgements_are_shown_as_table_and_json() {
    let site = Site::new(EACH);
    let _server = site.start();
    site.client(&["send", "Virus Found", "-l", "computer=ws-042", "-l", "n=1", "--severity", "critical"])
        .ends(0);
    site.until_told(&["1"]);
    let all = site.client(&["query", "alerts", "computer=ws-042", "--json"]).ends(0);
    assert_eq!(all.json()[0]["labels"]["event"], "Virus Found");
    let table = site.client(&["query", "alerts", "severity>=major"]).ends(0).stdout;
    assert!(table.starts_with("SINCE") && table.contains("computer=ws-042"), "{table}");
    let none = site.client(&["query", "alerts", "computer=ws-043"]).ends(0).says("nothing to show");
    assert_eq!(none.stdout.lines().count(), 1, "the head alone");
    assert_eq!(rows(&site.client(&["query", "alerts", "computer=ws-043", "--json"]).ends(0)), 0);
    site.client(&["query", "groups"]).ends(0).says("nothing to show");
    site.client(&["query", "alerts", "severity>=purple"]).ends(1).says("neither a severity nor a number");

    site.client(&["ack", "computer=ws-042", "--by", "night desk", "--for", "2h", "-c", "on it"])
        .ends(0)
        .says("1 alerts acknowledged");
    let shown = until("the acknowledgement is shown", || {
        let shown = site.client(&["query", "alerts", "computer=ws-042", "--json"]).ends(0).json();
        shown[0].get("acknowledged").cloned()
    });
    assert_eq!(
        (&shown["by"], &shown["comment"]),
        (&format!("night desk (by uid:{})", rustix::process::geteuid().as_raw()).into(), &"on it".into())
    );
    site.client(&["ack", "computer=ws-042", "--withdraw"]).ends(0).says("given back");
    site.client(&["ack", "computer=nowhere"]).ends(1).says("no firing alert matches");
    site.client(&["ack", "computer=ws-042", "--for", "soon"]).ends(2).says("--for");
    run(ams2().arg("ack")).ends(2).says("MATCHER");
}

#[test]
fn groups_are_shown_with_what_each_action_was_told() {
    let config = EACH.replace("notify: each", "group_by: [site], group_wait: 0s, repeat_interval: 1h");
    let site = Site::new(&config);
    let _server = site.start();
    site.client(&["send", "Down", "-l", "n=1", "-l", "site=boston"]).ends(0);
    site.until_told(&["1"]);
    let told = until("the group shows when it was told", || {
        let groups = site.client(&["query", "groups", "--json"]).ends(0).json();
        let of_boston = groups.as_array()?.iter().find(|group| group["labels"]["site"] == "boston")?.clone();
        of_boston["actions"][0]["told"].is_string().then_some(of_boston)
    });
    assert_eq!(
        (&told["receiver"], &told["actions"][0]["action"]),
        (&"log".into(), &"log/event_log/0".into())
    );
    assert!(site.client(&["query", "groups"]).ends(0).stdout.contains("boston"));
}

#[test]
fn dead_letters_are_shown_tried_again_and_dropped() {
    let site = Site::new(FAILING);
    let server = site.start();
    site.client(&["send", "Broken", "-l", "n=1"]).ends(0);
    let dead = || site.client(&["query", "dead-letters", "--json"]).ends(0).json();
    let first = until("there is a dead letter", || dead().as_array().filter(|rows| rows.len() == 1).cloned());
    assert_eq!(first[0]["action"], "broken/program/no");
    assert_eq!(first[0]["attempts"], 1);
    let id = first[0]["id"].as_str().expect("an id").to_owned();
    assert!(site.client(&["query", "dead-letters"]).ends(0).stdout.contains("exit"), "the table says why");

    site.client(&["delivery", "retry", &id]).ends(0).says("1 deliveries are tried again");
    until_true("it was tried again, and is dead again", || {
        server.metric("ams2_attempts_total{action=\"broken/program/no\",outcome=\"permanent\"}") == Some(2)
            && rows(&site.client(&["query", "dead-letters", "--json"]).ends(0)) == 1
    });
    site.client(&["delivery", "drop", "--action", "broken/program/no"])
        .ends(0)
        .says("1 deliveries are dropped");
    until_true("it is gone", || dead().as_array().is_some_and(Vec::is_empty));
    site.client(&["delivery", "drop", &id]).ends(1).says("no such delivery");
    site.client(&["delivery", "retry", "--all-dead"]).ends(1).says("no such delivery");
    site.client(&["delivery", "retry", "x"]).ends(1).says("32 hex digits");
    run(ams2().args(["delivery", "retry"])).ends(2).says("required");
    run(ams2().args(["delivery", "burn", "x"])).ends(2).says("possible values");
    // The failure is told by the other action, as an alert of our own.
    until_true("the log says so", || site.events().contains("Delivery Failed"));
}

#[test]
fn an_order_about_an_attempt_under_way_is_refused() {
    let config = FAILING.replace("[/bin/false]", &format!("[{ENDLESS}], timeout: 10m"));
    let site = Site::new(&config);
    let server = site.start();
    site.client(&["send", "Broken", "-l", "n=1"]).ends(0);
    let id = until("an attempt is under way", || {
        let rows = server.get("/api/v1/deliveries").json();
        let is_it =
            |row: &&serde_json::Value| row["action"] == "broken/program/no" && row["state"] == "in_flight";
        let row = rows.as_array()?.iter().find(is_it)?;
        row["id"].as_str().map(str::to_owned)
    });
    let order = serde_json::json!({ "id": id }).to_string();
    for path in ["/api/v1/deliveries/drop", "/api/v1/deliveries/retry"] {
        let answer = server.call("POST", path, &order);
        assert!(answer.status == 409 && answer.text().contains("under way"), "{}", answer.text());
    }
    site.client(&["delivery", "drop", &id]).ends(1).says("under way");
}

#[test]
fn actions_are_listed_and_tested() {
    let site = Site::new(FAILING);
    let none = site.client(&["action", "list"]).ends(0).says("no running router");
    assert!(none.stdout.contains("event_log") && none.stdout.contains("program"), "{}", none.stdout);
    let _server = site.start();
    let listed = site.client(&["action", "list", "--json"]).ends(0).json();
    let rows = listed["running"].as_array().expect("a list").iter();
    let names: BTreeSet<_> = rows.filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["log/event_log/0", "broken/program/no"]));
    let well = site.client(&["action", "test", "log/event_log/0"]).ends(0);
    assert!(well.stdout.starts_with("delivered"), "{}", well.stdout);
    assert!(site.events().contains("test=true"), "the log has the test, marked as one");
    let failed = site.client(&["action", "test", "broken/program/no"]).ends(1);
    assert!(failed.stdout.starts_with("failed"), "{}", failed.stdout);
    site.client(&["action", "test", "log/email/0"]).ends(1).says("there is no action").says("action list");
}

#[test]
fn a_test_may_take_longer_than_other_requests() {
    let slow = "{program: {name: slow, command: [/bin/sh, -c, 'sleep 1; echo done']}}";
    let site = Site::new(&format!(
        "originator: {{http: {{limits: {{body_time: 200ms}}}}}}
receivers: [{{name: log, actions: [{slow}]}}]
route: {{receiver: log}}
"
    ));
    let _server = site.start();
    let told = site.client(&["action", "test", "log/program/slow"]).ends(0);
    assert!(told.stdout.starts_with("delivered"), "{}", told.stdout);
}

#[test]
fn check_says_every_mistake_and_its_exit_code_says_which_kind() {
    let site = Site::new(EACH);
    let check = |more: &[&str]| run(ams2().arg("check").arg(site.config()).args(more));
    assert!(check(&[]).ends(0).stdout.contains("right"));
    site.configure(&EACH.replace("event_log", "emial").replace("receiver: log", "receiver: lgo"));
    let wrong = check(&[]).ends(2).says("unknown action `emial`").says("did you mean `log`?");
    assert!(wrong.stdout.contains("2 errors"), "{}", wrong.stdout);
    let found = check(&["--format", "json"]).ends(2).json();
    assert_eq!((&found["errors"], &found["warnings"]), (&2.into(), &1.into()), "`log` is not used: {found}");
    let first = &found["found"][0];
    assert!(first["line"].is_u64() && first["column"].is_u64() && first["mend"].is_string(), "{found}");
    assert!(first["file"].as_str().is_some_and(|file| file.ends_with("ams2.yaml")), "{found}");
    site.configure(&EACH.replace("path: events.log", "path: /nowhere/events.log"));
    check(&[]).ends(0);
    assert!(check(&["--probe"]).ends(1).stdout.contains("log/event_log/0: FAILS"));
    let probed = check(&["--probe", "--format", "json"]).ends(1).json();
    assert_eq!(
        (&probed["probes"][0]["action"], &probed["probes"][0]["ok"]),
        (&"log/event_log/0".into(), &false.into())
    );
    run(ams2().args(["check", "/nowhere.yaml"])).ends(2).says("the file cannot be read");
    run(ams2().arg("check")).ends(2);
    run(ams2().args(["chekc"])).ends(2).says("check");
    run(ams2().args(["serve", "--colour"])).ends(2).says("--colour");
}

#[test]
fn send_says_what_is_wrong_and_whose_turn_it_is() {
    let site = Site::new(EACH);
    site.client(&["send", "X"]).ends(3).says("no server answers at").says("start one with `ams2 serve`");
    let server = site.start();
    site.client(&["send", "X", "-l", "n"]).ends(2).says("has no `=`");
    site.client(&["send", "X", "-l", "a=1", "-l", "a=2"]).ends(2).says("given twice");
    site.client(&["send", "X", "-l", "=1"]).ends(2).says("no name before the `=`");
    site.client(&["send"]).ends(2).says("standard input is empty");
    run(ams2().args(["send", "X", "--to", "ftp://host"])).ends(2).says("`ftp://host` is no server");
    let mut untrusting = ams2();
    untrusting.env("SSL_CERT_FILE", "/dev/null").args(["send", "X", "--to", "https://localhost:1"]);
    run(&mut untrusting).ends(2).says("--ca-file");
    run(ams2().args(["send", "X", "--to", "http://127.0.0.1/a?b"])).ends(2).says("http://host:port/path");
    // Behind a proxy every path may have something before it; this server is behind none.
    let below = format!("{}/below/", server.url());
    run(ams2().args(["send", "X", "--to", &below])).ends(1).says("no such path").says("/below/api/v1/alerts");
    let misspelt = ["send", "X", "-l", "n=odd", "-s", "critcal", "--to", &server.url()];
    run(ams2().args(misspelt)).ends(0).says("`critcal` has no rank").says("did you mean `critical`?");
    let mut from_input = ams2();
    from_input.arg("send").arg("--to").arg(server.url());
    run_with_input(&mut from_input, format!("{}\n{}\n", alert("In", "a"), alert("In", "b")).as_bytes())
        .ends(0);
    site.until_told(&["a", "b"]);
    run_with_input(&mut from_input, b"\xff\xfe\0binary").ends(1).says("not UTF-8");
    // A far end that never answers: the deadline is ours.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}", silent.local_addr().expect("bound"));
    run(ams2().args(["send", "X", "--timeout", "1", "--to", &to])).ends(3).says("did not answer within 1s");
    // One that speaks something else.
    let odd = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}", odd.local_addr().expect("bound"));
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in odd.incoming().take(1) {
            drop(stream.and_then(|mut stream| stream.write_all(b"220 mail.example.com\r\n")));
        }
    });
    run(ams2().args(["send", "X", "--to", &to])).ends(3).says("no server answers");
}

#[test]
fn a_spool_keeps_what_no_server_takes_and_empties_in_order() {
    let site = Site::new(EACH);
    let spool = site.path().join("spool");
    let spool = spool.to_str().expect("UTF-8");
    let send = |n: &str| site.client(&["send", "Spooled", "-l", &format!("n={n}"), "--spool", spool]);
    send("1").ends(0).says("kept in the spool");
    send("2").ends(0).says("kept in the spool");
    let flush = || site.client(&["send", "--spool", spool, "--flush"]);
    flush().ends(3).says("no server answers");
    let server = site.start();
    flush().ends(0);
    site.until_told(&["1", "2"]);
    // An outcome that a kill took would have the line written again.
    server.until_quiet();
    server.kill();
    send("3").ends(0).says("kept in the spool");
    let _server = site.start();
    send("4").ends(0);
    site.until_told(&["1", "2", "3", "4"]);
    let log = site.events();
    let place = |n: &str| log.find(&format!(" n={n} ")).expect("told");
    assert!(place("1") < place("2") && place("3") < place("4"), "{log}");
    flush().ends(0);
    assert_eq!(log.matches("event=Spooled").count(), 4, "each once");
    // What a server refuses for good does not block the rest.
    std::fs::write(Path::new(spool).join("00000000000000000001-00000001.ndjson"), "{}").expect("written");
    flush().ends(1).says("set aside as");
    assert!(Path::new(spool).join("refused/00000000000000000001-00000001.why").exists());
    site.client(&["send", "--flush"]).ends(2).says("--spool");
}

/// What stands in a spool's folder, `refused/` included, by name ending.
fn spooled(spool: &Path, folder: &str, ending: &str) -> usize {
    let entries = std::fs::read_dir(spool.join(folder)).into_iter().flatten();
    entries
        .filter(|entry| entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == ending)))
        .count()
}

#[test]
fn an_alert_that_its_client_may_not_send_does_not_block_the_spool() {
    let clients = "originator: {clients: [{name: root, uid: 0, allow: ['site = \"here\"']}]}";
    let site = Site::new(&format!("{clients}{EACH}"));
    let spool = site.path().join("spool");
    let at = spool.to_str().expect("UTF-8");
    let send = |n: &str, place: &str| {
        let (n, place) = (format!("n={n}"), format!("site={place}"));
        site.client(&["send", "Spooled", "-l", &n, "-l", &place, "--spool", at])
    };
    send("1", "elsewhere").ends(0).says("kept in the spool");
    send("2", "here").ends(0).says("kept in the spool");
    let _server = site.start();
    send("3", "here").ends(0).says("set aside as").says("may only send alerts with");
    site.until_told(&["2", "3"]);
    assert_eq!((spooled(&spool, "", "ndjson"), spooled(&spool, "refused", "ndjson")), (0, 1));
    // A new one is not kept for a day that will not come.
    send("4", "elsewhere").ends(4).says("may only send alerts with");
    assert_eq!((spooled(&spool, "", "ndjson"), spooled(&spool, "refused", "ndjson")), (0, 1));
}

/// A server that answers a request without a body.
fn answers_once(body: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let (mut heard, mut byte) = (Vec::new(), [0]);
        while !heard.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            heard.push(byte[0]);
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
    });
    to
}

/// A server that gives every request this answer.
fn answers_always(status: &str, body: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}", listener.local_addr().expect("bound"));
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // Each body of these tests ends with the alert's brace, and no head holds one.
            let (mut heard, mut byte) = (Vec::new(), [0]);
            while !heard.ends_with(b"}") && stream.read_exact(&mut byte).is_ok() {
                heard.push(byte[0]);
            }
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    to
}

#[test]
fn only_a_word_on_the_alerts_themselves_is_final_for_them() {
    let site = Site::new(EACH);
    let problem = r#"{"detail":"this is what is wrong"}"#;
    // What is answered, and whether the alert is to wait.
    let rows = [
        ("301 Moved Permanently", "", true),
        ("200 OK", "<html>log in to this network</html>", true),
        ("400 Bad Request", "<html>plain HTTP was sent to a TLS port</html>", true),
        ("401 Unauthorized", problem, true),
        ("403 Forbidden", problem, true),
        ("404 Not Found", problem, true),
        ("405 Method Not Allowed", problem, true),
        ("415 Unsupported Media Type", problem, true),
        ("421 Misdirected Request", problem, true),
        ("429 Too Many Requests", problem, true),
        ("500 Internal Server Error", "", true),
        ("502 Bad Gateway", "", true),
        ("400 Bad Request", problem, false),
        (
            "403 Forbidden",
            r#"{"detail":"one","errors":[{"index":0,"pointer":"/labels","detail":"no"}]}"#,
            false,
        ),
        ("413 Payload Too Large", "<html>too large</html>", false),
        ("422 Unprocessable Content", problem, false),
    ];
    for (n, (status, body, waits)) in rows.into_iter().enumerate() {
        let to = answers_always(status, body);
        let spool = site.path().join(format!("spool-{n}"));
        let at = spool.to_str().expect("UTF-8");
        let call = |more: &[&str]| run(ams2().args(["send", "--to", &to, "--spool", at]).args(more));
        let sent = call(&["Spooled"]);
        let kept = (sent.code == Some(0), spooled(&spool, "", "ndjson"));
        assert_eq!(kept, (waits, usize::from(waits)), "{status} {body}: {}", sent.stderr);
        if !waits {
            std::fs::write(spool.join("00000000000000000001-00000001.ndjson"), "{}").expect("written");
        }
        let flushed = call(&["--flush"]);
        assert_ne!(flushed.code, Some(0), "{status} {body}");
        let left = (spooled(&spool, "", "ndjson"), spooled(&spool, "refused", "ndjson"));
        assert_eq!(left, (usize::from(waits), usize::from(!waits)), "{status} {body}: {}", flushed.stderr);
    }
}

#[test]
fn the_same_id_twice_is_one_occurrence_over_restarts_too() {
    let site = Site::new(EACH);
    let server = site.start();
    let body = alert("Once", "same");
    server.post(&body).is(200);
    server.post(&body).is(200);
    site.until_told(&["same"]);
    server.until_quiet();
    server.kill();
    let server = site.start();
    server.post(&body).is(200);
    assert!(server.terminate().success());
    let server = site.start();
    server.post(&body).is(200);
    site.client(&["send", "Once", "-l", "n=last"]).ends(0);
    site.until_told(&["last"]);
    assert_eq!(site.events().matches(" n=same ").count(), 1, "{}", site.events());
    assert!(server.metric("ams2_alerts_duplicate_id_total").is_some_and(|count| count >= 1));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let site = Site::new(EACH);
    let server = site.start();
    let alerts: Vec<String> = (0..2000).map(|n| alert("Pipe", &format!("pipe-{n}"))).collect();
    server.post(&alerts.join("\n")).is(200);
    site.until_told(&["pipe-1999"]);
    let mut shell = std::process::Command::new("bash");
    clean(&mut shell);
    let script = format!("set -o pipefail; {AMS2} query alerts --to {} | head -1", site.socket().display());
    run(shell.arg("-c").arg(script)).ends(0);
}

#[test]
fn a_dead_letter_says_what_it_is_about_and_can_be_found_by_it() {
    let site = Site::new(
        "
receivers: [{name: run, actions: [{program: {command: [/bin/false]}}]}]
route: {receiver: run, notify: each}
",
    );
    let server = site.start();
    for n in ["1", "2"] {
        site.client(&["send", "Virus Found", "-l", &format!("n={n}"), "--severity", "critical"]).ends(0);
    }
    until_true("both are given up", || {
        let dead = server.get("/api/v1/deliveries?state=dead").json();
        let about = |row: &serde_json::Value| row["labels"]["event"] == "Virus Found";
        dead.as_array().is_some_and(|rows| rows.iter().filter(|row| about(row)).count() == 2)
    });
    let shown = site.client(&["query", "dead-letters"]).ends(0).stdout;
    assert!(shown.contains("Virus Found n=1 severity=critical"), "{shown}");
    let found = site.client(&["query", "dead-letters", "n=2", "--json"]).ends(0).json();
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["labels"]["n"], "2");
    site.client(&["query", "dead-letters", "n=3"]).ends(0).says("nothing to show");
    site.client(&["query", "groups", "n=3"]).ends(0).says("nothing to show");
    site.client(&["query", "dead-letters", "n=~("]).ends(1).says("regex");
    // And why: from the alert's beginning to the far end's word.
    let id = found[0]["id"].as_str().expect("an id");
    let why = site.client(&["query", "decisions", id, "--json"]).ends(0).json();
    let words: Vec<_> = why.as_array().into_iter().flatten().map(|row| row["decision"].as_str()).collect();
    assert_eq!(words, [Some("dead_letter"), Some("attempt"), Some("notify")]);
    assert!(why[0]["reason"].as_str().is_some_and(|reason| reason.starts_with("refused for good")), "{why}");
    let alerts = site.client(&["query", "alerts", "n=2", "--json"]).ends(0).json();
    let fingerprint = alerts[0]["fingerprint"].as_str().expect("a fingerprint");
    let known = "decisions are known from sequence 1 on";
    let shown = site.client(&["query", "decisions", fingerprint]).ends(0).says(known).stdout;
    assert!(shown.contains("fired") && shown.contains("routed"), "{shown}");
    site.client(&["query", "decisions", "a", "b"]).ends(2).says("about one thing");
}

#[test]
fn a_list_that_is_cut_says_so() {
    let site = Site::new(EACH);
    let server = site.start();
    for n in 0..5 {
        server.post(&alert("Many", &format!("n-{n}"))).is(200);
    }
    site.until_told(&["n-0", "n-1", "n-2", "n-3", "n-4"]);
    let alerts = |query: &str| {
        let answer = server.get(&format!("/api/v1/{query}")).is(200);
        answer.header("x-ams2-truncated").map(str::to_owned)
    };
    // What the router says of its start is an alert, too.
    let all = server.get("/api/v1/alerts").json().as_array().expect("a list").len();
    assert_eq!(alerts("alerts?limit=2"), Some(format!("2 of {all}")));
    assert_eq!(alerts("alerts?limit=2&filter=event%3DMany"), Some("2 of 5".to_owned()));
    assert_eq!(alerts("alerts?limit=5&filter=event%3DMany"), None);
    assert_eq!(alerts("alerts"), None);
    assert_eq!(alerts("alerts?limit=0&filter=event%3DMany"), Some("0 of 5".to_owned()));
    assert!(alerts("decisions?limit=1").is_some_and(|text| text.starts_with("1 of ")));
    let said = "there is more: shown are 2 of 5";
    site.client(&["query", "alerts", "event=Many", "--limit", "2"]).ends(0).says(said);
    let json = site.client(&["query", "alerts", "event=Many", "--limit", "2", "--json"]).ends(0).says(said);
    assert_eq!(rows(&json), 2);
    let whole = site.client(&["query", "alerts", "event=Many"]).ends(0);
    assert!(!whole.stderr.contains("there is more"), "{}", whole.stderr);

    site.configure(FAILING);
    site.client(&["reload"]).ends(0);
    for n in 0..3 {
        server.post(&alert("Broken", &format!("dead-{n}"))).is(200);
    }
    until_true("there are dead letters", || {
        server.get("/api/v1/deliveries?state=dead").json().as_array().is_some_and(|rows| rows.len() == 3)
    });
    assert_eq!(alerts("deliveries?state=dead&limit=1"), Some("1 of more".to_owned()));
    assert_eq!(alerts("deliveries?state=dead&limit=3"), None);
    assert_eq!(alerts("deliveries?state=dead&limit=1&filter=event%3DBroken"), Some("1 of more".to_owned()));
    assert_eq!(alerts("deliveries?state=dead&limit=3&filter=event%3DBroken"), None);
}

#[test]
fn a_long_list_is_gathered_in_pieces_and_cut_unless_asked_for_more() {
    let grouped = "{receiver: log, group_by: [n], group_wait: 1h}";
    let site = Site::new(&format!(
        "receivers: [{{name: log, actions: [{{event_log: {{to: file, path: events.log}}}}]}}]\nroute: {grouped}\n"
    ));
    let server = site.start();
    let long = "x".repeat(1000);
    let alerts: Vec<_> = (0..2500)
        .map(|n| serde_json::json!({"labels": {"event": "Long", "n": n.to_string(), "long": long}}))
        .collect();
    server.post(&serde_json::Value::from(alerts).to_string()).is(200);
    let rows = |query: &str| {
        let answer = server.get(&format!("/api/v1/{query}")).is(200);
        let truncated = answer.header("x-ams2-truncated").map(str::to_owned);
        let rows = answer.json();
        let name = |row: &serde_json::Value| row["labels"]["n"].as_str().map(str::to_owned);
        let names: BTreeSet<_> = rows.as_array().expect("a list").iter().filter_map(name).collect();
        (rows.as_array().map_or(0, Vec::len), names.len(), truncated)
    };
    let filter = "filter=event%3DLong";
    until_true("all are there", || rows(&format!("alerts?{filter}&limit=5000")) == (2500, 2500, None));
    assert_eq!(rows(&format!("alerts?{filter}")), (1000, 1000, Some("1000 of 2500".into())));
    assert_eq!(rows(&format!("groups?{filter}")), (1000, 1000, Some("1000 of 2500".into())));
    assert_eq!(rows(&format!("groups?{filter}&limit=2500")), (2500, 2500, None));
    assert_eq!(rows("alerts?filter=event%3DNone"), (0, 0, None));
    let ack =
        server.call("POST", "/api/v1/acknowledgements", r#"{"matchers":["event=Long"]}"#).is(200).json();
    assert_eq!(ack["count"], 2500);
}

#[test]
fn an_answer_that_is_too_large_is_called_so() {
    let to = answers_once("x".repeat((256 << 20) + 1));
    run(ams2().args(["query", "alerts", "--to", &to])).ends(1).says("the answer is too large");
}

#[test]
fn an_alert_without_a_name_is_a_mistake_of_the_command_line() {
    let site = Site::new(EACH);
    site.client(&["send", ""]).ends(2).says("EVENT is empty");
    site.client(&["send", "Virus Found", "-l", "=b"]).ends(2).says("--label `=b` has no name before the `=`");
    site.client(&["send", "Virus Found", "-a", "=b"]).ends(2).says("--annotation `=b` has no name");
}

#[test]
fn a_body_over_the_servers_limit_is_told_with_the_servers_words() {
    let site = Site::new(&format!("originator: {{http: {{limits: {{body_bytes: 64KiB}}}}}}{EACH}"));
    let server = site.start();
    let line = alert("Much", &"x".repeat(1000)) + "\n";
    let (url, socket) = (server.url(), site.socket().display().to_string());
    // Far over it, so that the server has answered while most of it is not sent yet; and little over it.
    for (bytes, rounds) in [(7 << 20, 4), (1 << 20, 15), (70 << 10, 15)] {
        let input = line.repeat(bytes / line.len());
        for round in 0..rounds {
            for to in [&url, &socket] {
                let ran = run_with_input(ams2().args(["send", "--to", to]), input.as_bytes());
                assert_eq!(ran.code, Some(1), "{bytes} bytes to {to}, round {round}: {}", ran.stderr);
                assert!(
                    ran.stderr.contains("413") && ran.stderr.contains("several requests"),
                    "{}",
                    ran.stderr
                );
            }
        }
    }
    // One that is not there is told as ever.
    run(ams2().args(["send", "Much", "--to", "/nowhere.sock"])).ends(3).says("no server answers");
}

/// A client that sends all of its request before it reads must find the answer, and no reset.
#[test]
fn an_early_refusal_is_there_to_be_read_when_the_whole_body_is_sent_first() {
    use std::io::Write;
    let site = Site::new(&format!("originator: {{http: {{limits: {{body_bytes: 64KiB}}}}}}{EACH}"));
    let server = site.start();
    let body = vec![b' '; 3 << 20];
    let head =
        format!("POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    for round in 0..20 {
        for mut connection in [server.connect(), Connection::unix(&site.socket()).expect("it listens")] {
            let mut sent = connection.stream.write_all(head.as_bytes());
            for part in body.chunks(64 << 10) {
                sent = sent.and_then(|()| connection.stream.write_all(part));
            }
            sent.unwrap_or_else(|error| panic!("round {round}: {error}"));
            drop(connection.answer().expect("an answer").problem(413));
        }
    }
}
