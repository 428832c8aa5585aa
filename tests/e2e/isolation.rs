//! A receiver that hangs for an hour holds its own slots and nothing of anybody else's.

use std::time::{Duration, Instant};

use super::harness::*;

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
    let in_flight = |action: &str| {
        let actions = server.get("/api/v1/actions").json();
        let row = actions.as_array().expect("a list").iter().find(|row| row["action"] == action).cloned();
        row.expect("the action")["in_flight"].as_u64().expect("a number")
    };
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
