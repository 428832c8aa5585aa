//! Prometheus, unmodified, with its `alerting:` pointed at us: its rule fires, we tell; it resolves, we tell, over a
//! restart of ours in between.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::harness::*;

const CONFIG: &str = r#"
originator: { socket: false }
receivers:
  - name: log
    actions: [{ event_log: { to: file, path: told.log } }]
  - name: nobody
route:
  receiver: nobody
  routes:
    - { receiver: log, matchers: [alertname=SwitchedOn], group_by: [alertname], group_wait: 0s, group_interval: 1s }
"#;

/// Prometheus with its own folder and port; ended when dropped. Its rule needs no metric: it compares two numbers.
struct Prometheus {
    _process: Ward,
    folder: PathBuf,
    port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

impl Prometheus {
    fn start(site: &Site, ams2: &str) -> Prometheus {
        let folder = site.path().join("prometheus");
        fs::create_dir_all(&folder).expect("made");
        let port = free_port();
        let config = format!(
            "global: {{ evaluation_interval: 1s }}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - static_configs: [{{ targets: ['{ams2}'] }}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).expect("written");
        let prometheus = Prometheus { _process: Ward(Prometheus::spawn(&folder, port)), folder, port };
        prometheus.rule(false);
        until_true("Prometheus is ready", || {
            prometheus.call("GET", "/-/ready").is_some_and(|answer| answer.status == 200)
        });
        prometheus
    }

    fn spawn(folder: &std::path::Path, port: u16) -> std::process::Child {
        fs::write(folder.join("rules.yml"), "groups: []\n").expect("written");
        let mut command = Command::new("prometheus");
        clean(&mut command);
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-lifecycle", "--rules.alert.resend-delay=1s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().expect("prometheus runs (Debian package prometheus)")
    }

    fn call(&self, method: &str, path: &str) -> Option<Answer> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        Connection::tcp(address).ok()?.call(method, path, &[], b"").ok()
    }

    /// A rule that fires, or one that does not.
    fn rule(&self, fires: bool) {
        let rule = format!(
            "groups:\n- name: g\n  rules:\n  - alert: SwitchedOn\n    expr: vector(1) > {}\n    labels: {{ severity: critical }}\n    annotations: {{ summary: it is on }}\n",
            if fires { 0 } else { 2 }
        );
        fs::write(self.folder.join("rules.yml"), rule).expect("written");
        until_true("Prometheus reads its rules", || {
            self.call("POST", "/-/reload").is_some_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn what_prometheus_fires_and_resolves_is_told_once_each_over_a_restart() {
    let port = free_port();
    let site = Site::new(CONFIG);
    // It must come back where Prometheus looks for it.
    let start = || {
        let arguments = site.arguments().into_iter();
        let listen = format!("127.0.0.1:{port}");
        let arguments =
            arguments.map(|argument| if argument == "127.0.0.1:0" { listen.clone() } else { argument });
        let mut command = ams2();
        command.args(arguments);
        site.start_as(command)
    };
    let server = start();
    let prometheus = Prometheus::start(&site, &format!("127.0.0.1:{port}"));
    let told = |state: &str| site.read("told.log").matches(&format!("state={state}")).count();
    prometheus.rule(true);
    until_true("it is told that it fires", || told("firing") == 1);
    let line = site.read("told.log");
    for words in ["SwitchedOn", "severity=critical", "it is on"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    // It keeps sending: refreshes are no news.
    let refreshed = || server.metric("ams2_alerts_refreshed_total").unwrap_or(0);
    let before = refreshed();
    until_true("it is refreshed", || refreshed() > before + 2);
    server.kill();
    let server = start();
    let refreshed = || server.metric("ams2_alerts_refreshed_total").unwrap_or(0);
    let before = refreshed();
    until_true("it is refreshed after the restart", || refreshed() > before + 2);
    assert_eq!((told("firing"), told("resolved")), (1, 0), "{}", site.read("told.log"));
    prometheus.rule(false);
    until_true("it is told that it is over", || told("resolved") == 1);
    // It repeats the end for a quarter of an hour.
    let arrived = || server.metric("ams2_alerts_arrived_total").unwrap_or(0);
    let before = arrived();
    until_true("the end comes again", || arrived() > before + 2);
    assert_eq!((told("firing"), told("resolved")), (1, 1), "{}", site.read("told.log"));
}
