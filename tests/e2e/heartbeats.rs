//! Heartbeats, by the curl and wget that jobs have: silence becomes an alert, a return resolves it, no ping is lost, and the
//! lines of the documentation work as they stand.

use std::{fs, process::Command};

use serde_json::Value;

use super::harness::*;

/// A site with these heartbeats.
fn site(heartbeats: &str) -> Site {
    Site::new(&config(heartbeats))
}

fn config(heartbeats: &str) -> String {
    format!("heartbeats:\n{heartbeats}{EACH}").replace(
        "path: events.log}}",
        "path: events.log}}, {event_log: {to: file, path: events.json, format: json}}",
    )
}

/// One that is not missed while a test runs.
const PATIENT: &str = "- {name: backup, period: 24h, grace: 30m, labels: {site: boston}}\n";

fn sh(site: &Site, script: &str) -> Ran {
    let mut shell = Command::new("/bin/sh");
    clean(&mut shell);
    run(shell.current_dir(site.path()).args(["-c", script]))
}

/// The heartbeat as `ams2 query heartbeats --json` shows it.
fn shown(site: &Site, name: &str) -> Value {
    let rows = site.client(&["query", "heartbeats", "--json"]).ends(0).json();
    let rows = rows.as_array().expect("a list").clone();
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is not there"))
}

fn until_state(site: &Site, name: &str, state: &str) -> Value {
    until(&format!("{name} is {state}"), || Some(shown(site, name)).filter(|row| row["state"] == state))
}

/// Lines of the event log about a heartbeat, in this state.
fn told(site: &Site, name: &str, state: &str) -> Vec<String> {
    let (name, state) = (format!("heartbeat={name}"), format!("state={state}"));
    let events = site.events();
    let has = |line: &&str| [&name, &state].iter().all(|field| line.split(' ').any(|part| part == *field));
    events.lines().filter(has).map(str::to_owned).collect()
}

fn until_told(site: &Site, name: &str, state: &str, count: usize) -> Vec<String> {
    until(&format!("{count} lines say that {name} is {state}"), || {
        Some(told(site, name, state)).filter(|lines| lines.len() >= count)
    })
}

/// The words of jobs in what the log for programs was told.
fn until_output(site: &Site, count: usize) -> Vec<String> {
    until(&format!("{count} lines with a job's words"), || {
        let lines = site.read("events.json");
        let words = lines.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["annotations"]["output"].as_str()?.to_owned())
        });
        Some(words.collect::<Vec<_>>()).filter(|words| words.len() >= count)
    })
}

#[test]
fn silence_is_told_and_a_return_by_curl_or_wget_resolves_it() {
    let site = site("- {name: quick, period: 1s, grace: 500ms, labels: {severity: critical}}\n");
    let server = site.start();
    let url = format!("{}/ping/quick", server.url());
    let tools = [
        format!("curl -fsS -m 10 --retry 5 {url}"),
        format!("curl -fsS -m 10 -I {url}"),
        format!("wget -q -T 10 -t 5 -O - {url}"),
        format!("wget -q -T 10 -t 5 --spider {url}"),
        format!("curl -fsS -m 10 -X POST {url}"),
    ];
    for (round, tool) in tools.iter().enumerate() {
        let lines = until_told(&site, "quick", "firing", round + 1);
        for field in ["event=\"Heartbeat Missing\"", "severity=critical", "source=ams2"] {
            assert!(lines[0].contains(field), "{field} is not in {}", lines[0]);
        }
        assert_eq!(told(&site, "quick", "resolved").len(), round, "before {tool}");
        sh(&site, tool).ends(0);
        until_told(&site, "quick", "resolved", round + 1);
    }
    let decisions = site.client(&["query", "decisions", "quick", "--json"]).ends(0).json();
    let said = |word: &str| {
        let rows = decisions.as_array().expect("a list").iter();
        rows.filter(|row| row["decision"] == word).map(|row| row["reason"].to_string()).collect::<Vec<_>>()
    };
    assert!(said("heartbeat_missing").iter().all(|why| why.contains("1s 500ms")), "{decisions}");
    assert!(said("heartbeat_returned").len() >= tools.len(), "{decisions}");
    assert!(said("heartbeat_returned").iter().all(|why| why.contains("(by local)")), "{decisions}");
}

#[test]
fn a_failure_is_told_with_the_jobs_words_and_its_exit_code() {
    let site = site(PATIENT);
    let server = site.start();
    let url = format!("{}/ping/backup", server.url());
    sh(&site, &format!("curl -fsS {url}/start")).ends(0);
    assert!(until_state(&site, "backup", "waiting")["started"].is_string());
    // What a job says may hold anything.
    sh(&site, &format!("printf 'no space\\033[2J\\nleft' | curl -fsS --data-binary @- {url}/3")).ends(0);
    let lines = until_told(&site, "backup", "firing", 1);
    let summary = "summary=\"backup: the last run failed with exit code 3\"";
    assert!(lines[0].contains(summary) && lines[0].contains("site=boston"), "{}", lines[0]);
    assert_eq!(until_output(&site, 1), ["no space\u{1b}[2J\nleft"]);
    assert!(!site.events().contains('\u{1b}') && !site.read("events.json").contains('\u{1b}'));
    assert_eq!(shown(&site, "backup")["words"], "backup: the last run failed with exit code 3");
    // Another failed run is another occurrence.
    sh(&site, &format!("curl -fsS -d again {url}/fail")).ends(0);
    assert_eq!(until_output(&site, 2)[1], "again");
    let alerts = site.client(&["query", "alerts", "heartbeat=backup", "--json"]).ends(0).json();
    assert_eq!(alerts[0]["annotations"]["output"], "again");
    assert_eq!(alerts[0]["fingerprint"], shown(&site, "backup")["alert"]);
    assert_eq!(server.metric("ams2_heartbeats{state=\"failed\"}"), Some(1));
    sh(&site, &format!("curl -fsS {url}/0")).ends(0);
    until_told(&site, "backup", "resolved", 1);
    assert_eq!(server.metric("ams2_heartbeats{state=\"up\"}"), Some(1));
    assert_eq!(server.metric("ams2_http_pings_total"), Some(4));
    // Long words are cut, and longer ones than anybody reads are refused.
    sh(&site, &format!("head -c 100000 /dev/zero | tr '\\0' x | curl -fsS --data-binary @- {url}/fail"))
        .ends(0);
    let alerts = until("the alert is there", || {
        let found = site.client(&["query", "alerts", "heartbeat=backup", "--json"]).ends(0).json();
        found[0]["annotations"]["output"].as_str().map(str::to_owned)
    });
    assert_eq!(alerts.len(), 10 << 10);
    let huge = "x".repeat((2 << 20) + 1);
    server.call("POST", "/ping/backup", &huge).problem(413);
}

#[test]
fn what_is_answered_is_kept_whenever_the_router_is_killed() {
    let site = site(&format!("{PATIENT}- {{name: quick, period: 2s, grace: 1s}}\n"));
    for round in 1..=5 {
        let server = site.start();
        server.call("POST", "/ping/backup/fail", &format!("round {round}")).is(200);
        server.call("GET", "/ping/quick", "").is(200);
        server.kill();
        let server = site.start();
        // At least once: what was under way when it was killed is told again.
        until_true("the failure is told", || until_output(&site, 1).contains(&format!("round {round}")));
        // Its time goes on where it was.
        assert!(shown(&site, "quick")["heard"].is_string());
        until_state(&site, "quick", "missing");
        until_told(&site, "quick", "firing", round);
        server.call("GET", "/ping/quick", "").is(200);
        until_told(&site, "quick", "resolved", round);
        server.kill();
    }
}

#[test]
fn a_run_that_does_not_end_is_told_across_an_orderly_restart() {
    let site = site("- {name: runs, period: 24h, grace: 30m, max_duration: 2s}\n");
    let server = site.start();
    server.call("GET", "/ping/runs/start", "").is(200);
    server.terminate();
    let server = site.start();
    let lines = until_told(&site, "runs", "firing", 1);
    assert!(lines[0].contains("runs: a run did not end within 2s"), "{}", lines[0]);
    assert_eq!(shown(&site, "runs")["state"], "overrun");
    server.get("/ping/runs").is(200);
    until_told(&site, "runs", "resolved", 1);
}

#[test]
fn what_is_not_known_is_refused_with_its_mend() {
    let site = site(PATIENT);
    let server = site.start();
    for (path, words) in [
        ("/ping/bakcup", "there is no heartbeat `bakcup`"),
        ("/ping/", "there is no heartbeat ``"),
        ("/ping/backup/strat", "`strat` is nothing that a ping says"),
        ("/ping/backup/256", "an exit code from 0 to 255"),
        ("/ping/backup/-1", "an exit code from 0 to 255"),
    ] {
        let answer = server.call("POST", path, "").problem(404).text();
        assert!(answer.contains(words), "{path}: {answer}");
    }
    server.call("GET", "/ping", "").problem(404);
    for method in ["DELETE", "PATCH", "OPTIONS"] {
        let answer = server.call(method, "/ping/backup", "").problem(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT"), "{method}");
    }
    server.call("PUT", "/ping/backup", "").is(200);
    // A page of another site may not make a browser say that all is well, not even by an image.
    for header in [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")] {
        let answer = server.connect().call("GET", "/ping/backup", &[header], b"").expect("an answer");
        answer.problem(403);
    }
    site.client(&["query", "heartbeats", "site=austin"]).ends(0).says("nothing to show");
    let table = site.client(&["query", "heartbeats", "site=boston"]).ends(0).stdout;
    assert!(table.contains("backup") && table.contains("backup was heard in time"), "{table}");
}

#[test]
fn who_may_ping_is_who_may_send_or_the_client_that_the_heartbeat_names() {
    let clients = "originator:\n  clients:\n  - {name: boston, token_file: boston.token, allow: ['site = \"boston\"']}\n  \
                   - {name: desk, token_file: desk.token}\n  - {name: reader, token_file: reader.token, may: [read]}\n";
    let heartbeats = "- {name: boston, period: 1h, grace: 1m, labels: {site: boston}}\n\
                      - {name: austin, period: 1h, grace: 1m, labels: {site: austin}}\n\
                      - {name: desk, period: 1h, grace: 1m, labels: {site: boston}, client: desk}\n";
    let site = Site::new(&format!("{clients}{}", config(heartbeats)));
    for name in ["boston", "desk", "reader"] {
        site.secret(&format!("{name}.token"), &format!("token-of-{name}-0123456789"));
    }
    let server = site.start();
    let ping = |client: Option<&str>, name: &str| {
        let header = client.map(|client| format!("Bearer token-of-{client}-0123456789"));
        let headers: Vec<_> = header.iter().map(|header| ("Authorization", header.as_str())).collect();
        let answer = server.connect().call("GET", &format!("/ping/{name}"), &headers, b"");
        answer.expect("an answer").status
    };
    let of = |client: Option<&str>| ["boston", "austin", "desk"].map(|name| ping(client, name));
    assert_eq!(of(None), [401; 3]);
    assert_eq!(of(Some("boston")), [200, 403, 403]);
    assert_eq!(of(Some("desk")), [200, 200, 200]);
    assert_eq!(of(Some("reader")), [403; 3]);
    // Who runs the router may do as they like, over the socket.
    sh(&site, "curl -fsS --unix-socket data/ams2.sock http://localhost/ping/desk").ends(0);
    until_true("it is raised who was refused", || site.events().contains("event=\"Access Denied\""));
}

#[test]
fn an_opsgenie_script_pings_with_another_host_and_key() {
    let originator = "originator:\n  inbound: {opsgenie: {}}\n  clients: [{name: boston, token_file: boston.token, allow: ['site = \"boston\"']}]\n";
    let other = "- {name: austin, period: 24h, grace: 30m, labels: {site: austin}}\n";
    let site = Site::new(&format!("{originator}{}", config(&format!("{PATIENT}{other}"))));
    site.secret("boston.token", "token-of-boston-0123456789");
    let server = site.start();
    let ping = |name: &str, more: &str| {
        let url = format!("{}/v2/heartbeats/{name}/ping", server.url());
        let ran = sh(&site, &format!("curl -sS -m 10 -w '%{{http_code}}' {more} {url}")).ends(0).stdout;
        let (body, status) = ran.split_at(ran.len() - 3);
        (status.to_owned(), body.to_owned())
    };
    let key = "-H 'Authorization: GenieKey token-of-boston-0123456789'";
    for method in ["GET", "POST", "PATCH"] {
        let (status, body) = ping("backup", &format!("-X {method} {key}"));
        assert!(status == "202" && body.contains("PONG - Heartbeat received"), "{method}: {status} {body}");
    }
    until_state(&site, "backup", "up");
    let metrics = sh(&site, "curl -fsS --unix-socket data/ams2.sock http://localhost/metrics").ends(0).stdout;
    assert!(metrics.contains("\nams2_http_pings_total 3\n"), "{metrics}");
    for (name, more, status, words) in [
        ("bakcup", key, "422", "there is no heartbeat `bakcup`"),
        ("austin", key, "403", "site=\\\"boston\\\""),
        ("backup", "", "403", "a valid token is required"),
        ("backup", "-H 'Sec-Fetch-Site: cross-site'", "403", "a page of another site"),
    ] {
        let (found, body) = ping(name, more);
        assert!(found == status && body.contains(words), "{name} {more}: {found} {body}");
    }
}

#[test]
fn a_reload_leaves_the_times_of_what_it_does_not_change_alone() {
    let site = site(&format!("{PATIENT}- {{name: gone, period: 24h, grace: 30m}}\n"));
    let server = site.start();
    server.get("/ping/backup").is(200);
    server.get("/ping/gone/fail").is(200);
    until_told(&site, "gone", "firing", 1);
    let before = shown(&site, "backup");
    site.configure(&config(&format!("- {{name: new, period: 1s, grace: 0s}}\n{PATIENT}")));
    site.client(&["reload"]).ends(0);
    assert_eq!(shown(&site, "backup"), before);
    // What is gone ends its alert and is not known any more; what is new is waited for.
    until_told(&site, "gone", "resolved", 1);
    server.get("/ping/gone").problem(404);
    until_told(&site, "new", "firing", 1);
    server.get("/ping/new").is(200);
    until_told(&site, "new", "resolved", 1);
}

#[test]
fn the_example_tells_who_is_on_call_of_what_is_critical_and_the_desk_of_the_rest() {
    let site = super::examples::example("heartbeats.yaml");
    let server = site.start();
    for name in ["nightly-backup", "certificate-renewal"] {
        server.get(&format!("/ping/{name}/fail")).is(200);
    }
    until_true("both are told", || {
        site.read("on-call.log").contains("heartbeat=nightly-backup")
            && site.events().contains("event=\"Renewal Late\" severity=minor heartbeat=certificate-renewal")
    });
    assert!(!site.events().contains("nightly-backup"), "{}", site.events());
}

/// The lines of a page within fences of this kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let page = include_str!("../../docs/heartbeats.md");
    let fence = format!("```{kind}\n");
    let found = page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap_or(rest));
    found.collect()
}

#[test]
fn each_line_of_the_documentation_works_as_it_stands() {
    let text = blocks("yaml")[0];
    let clients = "originator: {clients: [{name: boston, token_file: secrets/boston.token}]}\n";
    let site = Site::new(&format!("{clients}{text}{EACH}"));
    fs::create_dir(site.path().join("secrets")).expect("made");
    site.secret("secrets/boston.token", "token-of-boston-0123456789");
    // With a client, everybody needs its token; the lines without one are for a router without clients.
    run(ams2().arg("check").arg(site.config())).ends(0);
    let open = Site::new(&format!("{}{EACH}", text.replace("client: boston", "")));
    let server = open.start();
    let job = open.path().join("backup");
    let address = server.address().to_string();
    let here = |line: &str| {
        let line = line.replace("127.0.0.1:9093", &address).replace("ams2-data/ams2.sock", "data/ams2.sock");
        line.replace("/usr/local/bin/backup", job.to_str().expect("UTF-8"))
            .replace("/tmp/backup.said", "backup.said")
    };
    let set_job = |code: u8| {
        fs::write(&job, format!("#!/bin/sh\necho said by the job\nexit {code}\n")).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&job, mode).expect("changed");
    };
    let (mut well, mut pings) = (0, 0);
    let mut check = |line: &str, code: u8, expected: Option<&str>| {
        // Whatever it was, it is another now.
        server.get(if code == 0 { "/ping/nightly-backup/fail" } else { "/ping/nightly-backup" }).is(200);
        set_job(code);
        let ran = sh(&open, &here(line));
        assert!(code != 0 || ran.code == Some(0), "{line}: {ran:?}");
        if let Some(state) = expected {
            until_state(&open, "nightly-backup", state);
            pings += 1;
        }
        well += 1;
    };
    for line in blocks("cron").concat().lines() {
        let (_, command) = line.split_once("* * *").expect("a line of a crontab");
        check(command, 0, Some("up"));
        if command.contains("$?") {
            check(command, 7, Some("failed"));
        }
    }
    for script in blocks("sh") {
        if script.contains("/usr/local/bin/backup") {
            check(script, 0, Some("up"));
            check(script, 7, Some("failed"));
            let alerts =
                open.client(&["query", "alerts", "heartbeat=nightly-backup", "--json"]).ends(0).json();
            assert_eq!(alerts[0]["annotations"]["output"], "said by the job", "{script}");
        } else if script.contains("curl") {
            fs::create_dir_all(open.path().join("secrets")).expect("made");
            fs::write(open.path().join("secrets/boston.token"), "t").expect("written");
            // The token is nobody's here, and refused: that line is tried below.
            let (socket, with_token) = script.trim().split_once('\n').expect("two lines");
            check(socket, 0, Some("up"));
            let secured = site.start();
            let line = with_token.replace("127.0.0.1:9093", &secured.address().to_string());
            sh(&site, &line).ends(0);
            until_state(&site, "nightly-backup", "up");
        } else {
            for line in script.lines().filter_map(|line| line.split('#').next()?.trim().strip_prefix("ams2 "))
            {
                let words: Vec<&str> = line.split(' ').collect();
                open.client(&words).ends(0);
            }
        }
    }
    for unit in blocks("ini") {
        if let Some(command) = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/")) {
            let state = if command.contains("/fail") { "failed" } else { "up" };
            let code = u8::from(state == "failed");
            check(&command.replace("%i", "nightly-backup"), code, Some(state));
        }
    }
    assert!(well >= 11 && pings >= 11, "{well} lines were run, {pings} of them seen");
}
