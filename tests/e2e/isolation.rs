//! A receiver that hangs for an hour holds its own slots and nothing of anybody else's.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::harness::*;

/// The names of a server's threads.
fn threads(server: &Server) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

fn called(threads: &[String], name: &str) -> usize {
    threads.iter().filter(|thread| *thread == name).count()
}

fn in_flight(server: &Server, action: &str) -> u64 {
    let actions = server.get("/api/v1/actions").json();
    let row = actions.as_array().expect("a list").iter().find(|row| row["action"] == action).cloned();
    row.expect("the action")["in_flight"].as_u64().expect("a number")
}

/// Tells the log of some alerts, one after the other, and answers how long the slowest took.
fn slowest_of_log(site: &Site, server: &Server) -> Duration {
    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let id = format!("small-{n}");
        let began = Instant::now();
        server.post(&alert("Small", &id)).is(200);
        site.until_told(&[&id]);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

/// A log for all, and one action for what is `Stuck`.
fn beside_a_log(action: &str) -> Site {
    Site::new(&format!(
        "
receivers:
  - {{name: log, actions: [{{event_log: {{to: file, path: events.log}}}}]}}
  - {{name: stuck, actions: [{action}]}}
route:
  receiver: log
  notify: each
  routes: [{{matchers: ['event = Stuck'], receiver: stuck}}]
"
    ))
}

fn post_stuck(server: &Server, count: usize) {
    let stuck: Vec<String> = (0..count).map(|n| alert("Stuck", &format!("stuck-{n}"))).collect();
    server.post(&stuck.join("\n")).is(200);
}

/// The resolver of the system waits for ten seconds then, in as many threads as one lets it have.
#[test]
fn a_name_server_that_never_answers_holds_up_nobody_else() {
    demand_root();
    let pid = std::process::id();
    let address = format!("127.53.{}.{}:53", pid >> 8 & 0xff, pid & 0xff | 1);
    // Bound and silent.
    let silent = std::net::UdpSocket::bind(&address).expect("an address of our own");
    let site = beside_a_log(
        "email: {to: [a@example.com], from: b@example.com, smtp: 'smtp://mail.nowhere.example:25', max_in_flight: 700}",
    );
    let server = address.trim_end_matches(":53");
    let resolv = site.secret("resolv.conf", &format!("nameserver {server}\noptions timeout:5 attempts:2\n"));
    let mut command = Command::new("unshare");
    clean(&mut command);
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&resolv).arg(AMS2).args(site.arguments());
    let server = site.start_as(command);
    post_stuck(&server, 700);
    until_true("all are under way", || in_flight(&server, "stuck/email/0") == 700);
    let slowest = slowest_of_log(&site, &server);
    eprintln!("slowest of 50 alerts beside a name server that never answers: {slowest:?}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let threads = threads(&server);
    assert!(called(&threads, "ams2-lookup") <= 8, "{threads:?}");
    // It was asked.
    assert!(silent.recv(&mut [0; 512]).is_ok());
    until_true("it is said", || {
        server.get("/api/v1/deliveries").text().contains("the name was not resolved")
    });
}

/// As on a file server that is gone: each look at the program's path hangs, in the kernel.
#[test]
fn a_program_whose_path_hangs_keeps_a_few_threads_of_its_own() {
    demand_root();
    let site = Site::new("");
    let program = site.path().join("program");
    std::fs::copy("/bin/true", &program).expect("copied");
    let action = format!("program: {{command: [{}], max_in_flight: 700, timeout: 10m}}", program.display());
    site.configure(&std::fs::read_to_string(beside_a_log(&action).config()).expect("readable"));
    let server = site.start();
    let mut hang = Command::new("strace");
    clean(&mut hang);
    hang.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(&program);
    hang.args(["-e", "trace=readlink,readlinkat,statx,newfstatat"]);
    hang.args(["-e", "inject=readlink,readlinkat,statx,newfstatat:delay_enter=600s"]);
    hang.args(["-p", &server.pid().to_string()]);
    let before = threads(&server).len();
    let hang = Ward(hang.stderr(Stdio::null()).spawn().expect("strace runs"));
    let tasks = format!("/proc/{}/task", server.pid());
    until_true("it is traced", || {
        let tasks = std::fs::read_dir(&tasks).expect("it runs");
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
            .all(|status| status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")))
    });
    post_stuck(&server, 300);
    until_true("all are under way", || in_flight(&server, "stuck/program/0") == 300);
    until_true("some hang", || called(&threads(&server), "ams2-start") > 0);
    let slowest = slowest_of_log(&site, &server);
    eprintln!("slowest of 50 alerts beside a program whose path hangs: {slowest:?}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let threads = threads(&server);
    assert!(called(&threads, "ams2-start") <= 8, "{threads:?}");
    assert!(threads.len() < before + 40, "{before} before: {threads:?}");
    // Else it keeps what is killed.
    drop(hang);
    server.kill();
}

#[test]
fn actions_that_hang_for_an_hour_hold_up_nobody_else() {
    // A syslog server that accepts and never reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound");
    let held =
        std::thread::spawn(move || silent.incoming().map_while(Result::ok).take(1).collect::<Vec<_>>());
    let site = Site::new(&format!(
        "
receivers:
  - name: log
    actions: [{{event_log: {{to: file, path: events.log}}}}]
  - name: hangs
    actions:
      - program: {{name: sleeper, command: [{ENDLESS}], timeout: 1h}}
      - event_log: {{name: silent, to: syslog, address: 'tcp://{address}', timeout: 1h, line_bytes_max: 60KiB}}
route:
  receiver: log
  notify: each
  routes:
    - {{matchers: ['event = Large'], receiver: hangs}}
    - {{receiver: hangs, continue: true}}
    - {{receiver: log}}
"
    ));
    let server = site.start();
    // More than socket buffers hold, so that writing stops.
    let large: Vec<String> = (0..400)
        .map(|n| {
            serde_json::json!({ "labels": { "event": "Large", "n": n.to_string(), "x": "x".repeat(50_000) } })
                .to_string()
        })
        .collect();
    for part in large.chunks(100) {
        server.post(&part.join("\n")).is(200);
    }
    let in_flight = |action: &str| in_flight(&server, action);
    until_true("both hang", || {
        in_flight("hangs/program/sleeper") == 4 && in_flight("hangs/event_log/silent") > 0
    });
    // Each alert is told to the log while they do, without waiting for them.
    let mut slowest = Duration::ZERO;
    for n in 0..200 {
        let id = format!("small-{n}");
        let began = Instant::now();
        server.post(&alert("Small", &id)).is(200);
        site.until_told(&[&id]);
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("slowest of 200 alerts beside two actions that hang: {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(in_flight("hangs/program/sleeper"), 4, "it has its own slots and no more");
    // A line is in the file a moment before its outcome is in the journal.
    until_true("the log is done", || in_flight("log/event_log/0") == 0);
    server.get("/-/ready").is(200);
    server.kill();
    drop(held.join());
}
