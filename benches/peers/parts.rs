//! What the comparisons are made of: both servers, a sink for web hooks, the load.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for a server to come up or to take a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections of the load.
const CONNECTIONS: usize = 16;

/// Fails with the mend if a tool is missing.
pub fn tools(wanted: &[(&str, &str)]) {
    for (name, package) in wanted {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
        assert!(found.is_ok_and(|status| status.success()), "{name} is missing: apt-get install {package}");
    }
}

/// What a round of load gave.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub alerts: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// The round in the middle.
pub fn median(rounds: &[Round]) -> Round {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(|a, b| a.alerts.total_cmp(&b.alerts));
    rounds[rounds.len() / 2]
}

/// A server that takes alerts.
pub trait Running {
    fn address(&self) -> SocketAddr;
    fn path(&self) -> &'static str;
    fn pid(&self) -> u32;

    /// Memory in use, in MB.
    fn resident_mb(&self) -> f64 {
        memory_mb(self.pid(), "VmRSS:")
    }

    /// Processor time so far, in seconds.
    fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.pid())
    }

    /// Posts `count` alerts again and again for a while.
    fn load(&self, batch: usize, count: usize, time: Duration) -> Round {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/post_alerts.lua");
        let output = Command::new("wrk")
            .args(["-t2", &format!("-c{CONNECTIONS}"), &format!("-d{}", time.as_secs()), "-s", script])
            .arg(format!("http://{}{}", self.address(), self.path()))
            .env("BATCH", batch.to_string())
            .env("COUNT", count.to_string())
            .output()
            .expect("wrk runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let result = text.lines().find_map(|line| line.strip_prefix("result ")).expect("wrk's result");
        let numbers: Vec<f64> = result.split(' ').map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers[1], 0.0, "requests failed: {text}");
        Round { alerts: numbers[0], p50_ms: numbers[2], p99_ms: numbers[3] }
    }
}

fn memory_mb(pid: u32, which: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(which)).expect("a size");
    let kb: f64 = line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number");
    kb * 1024.0 / 1e6
}

/// Processor time of a process so far, in seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // Behind the name, which may hold spaces: state, ten others, user and system time in hundredths.
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |field: &str| field.parse::<f64>().expect("ticks");
    (ticks(fields[11]) + ticks(fields[12])) / 100.0
}

/// A process that ends with this.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Polls until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// ams2 with a data folder of its own.
pub struct Ams2 {
    folder: tempfile::TempDir,
    config: Option<PathBuf>,
    process: Option<Process>,
    address: SocketAddr,
}

const GROUPED: &str = "receivers:
  - name: log
    actions:
      - event_log: {to: file, path: events.log}
route:
  receiver: log
  group_by: [event, site]
  group_wait: 30s
";

impl Ams2 {
    /// With the config of the comparisons.
    pub fn grouped() -> Ams2 {
        Ams2::start(Some(GROUPED))
    }

    /// With a config of the caller's.
    pub fn with(config: &str) -> Ams2 {
        Ams2::start(Some(config))
    }

    /// With the built-in default.
    pub fn default_config() -> Ams2 {
        Ams2::start(None)
    }

    fn start(config: Option<&str>) -> Ams2 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = config.map(|text| {
            let path = folder.path().join("ams2.yaml");
            std::fs::write(&path, text).expect("written");
            path
        });
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut ams2 = Ams2 { folder, config: path, process: None, address };
        ams2.start_again();
        ams2
    }

    /// Starts it on the same data; returns when it is ready to accept.
    pub fn start_again(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ams2"));
        command.arg("serve").args(["--listen", &self.address.to_string(), "--data"]).arg(self.data());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        self.process = Some(Process(child));
        let address = self.address;
        until("ready", || (get(address, "/-/ready")? == 200).then_some(()));
    }

    /// Ends it, by a kill or in order.
    pub fn stop(&mut self, orderly: bool) {
        let mut process = self.process.take().expect("it runs");
        if orderly {
            let pid = process.0.id().to_string();
            assert!(Command::new("kill").arg(&pid).status().is_ok_and(|status| status.success()));
            process.0.wait().expect("it ends");
        }
    }

    /// The value of a metric's first sample.
    pub fn metric(&self, sample: &str) -> Option<u64> {
        let text = exchange(self.address, &get_head("/metrics"), "")?;
        let line = text.lines().find_map(|line| line.strip_prefix(sample))?;
        line.trim().parse().ok()
    }

    /// Most memory that it ever had, in MB.
    pub fn peak_mb(&self) -> f64 {
        memory_mb(self.pid(), "VmHWM:")
    }

    /// What the data folder takes on the disk, in MB.
    pub fn disk_mb(&self) -> f64 {
        use std::os::unix::fs::MetadataExt;
        let files = std::fs::read_dir(self.data()).expect("readable").filter_map(Result::ok);
        files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() as f64 * 512.0 / 1e6).sum()
    }

    pub fn has_snapshot(&self) -> bool {
        let files = std::fs::read_dir(self.data()).expect("readable").filter_map(Result::ok);
        files
            .into_iter()
            .any(|file| Path::new(&file.file_name()).extension().is_some_and(|end| end == "snap"))
    }

    /// Lines of the event log.
    pub fn log_lines(&self) -> usize {
        let log = std::fs::read(self.data().join("events.log")).unwrap_or_default();
        log.iter().filter(|byte| **byte == b'\n').count()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Running for Ams2 {
    fn address(&self) -> SocketAddr {
        self.address
    }
    fn path(&self) -> &'static str {
        "/api/v1/alerts"
    }
    fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").0.id()
    }
}

/// Prometheus Alertmanager, whose web hook leads to a port of ours.
pub struct Peer {
    _folder: tempfile::TempDir,
    process: Process,
    address: SocketAddr,
}

impl Peer {
    pub fn start(sink: u16) -> Peer {
        Peer::with(&format!(
            "receivers:\n  - name: log\n    webhook_configs: [{{url: 'http://127.0.0.1:{sink}/'}}]\nroute:\n  receiver: log\n  group_by: [event, site]\n  group_wait: 30s\n"
        ))
    }

    /// With a config of the caller's.
    pub fn with(text: &str) -> Peer {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, text).expect("written");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let peer = Peer { _folder: folder, process: Process(child), address };
        until("Alertmanager is ready", || (get(address, "/-/ready")? == 200).then_some(()));
        peer
    }
}

impl Running for Peer {
    fn address(&self) -> SocketAddr {
        self.address
    }
    fn path(&self) -> &'static str {
        "/api/v2/alerts"
    }
    fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// Answers every web hook with 200.
pub struct Sink(u16);

impl Sink {
    pub fn start() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || sink(stream));
            }
        });
        Sink(port)
    }

    pub fn port(&self) -> u16 {
        self.0
    }
}

/// Reads requests to their end, and says 200 to each, until the other side goes.
fn sink(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..count]);
        while let Some(whole) = request_bytes(&bytes) {
            bytes.drain(..whole);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

/// Bytes of the request that `bytes` begins with, if all of it is there.
pub fn request_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let whole = head + length.and_then(|length| length.trim().parse::<usize>().ok()).unwrap_or(0);
    (bytes.len() >= whole).then_some(whole)
}

fn get(address: SocketAddr, path: &str) -> Option<u16> {
    status(&exchange(address, &get_head(path), "")?)
}

fn get_head(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

fn exchange(address: SocketAddr, head: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Posts one body and waits for its yes.
pub fn post(address: SocketAddr, path: &str, body: &str) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    assert_eq!(exchange(address, &head, body).as_deref().and_then(status), Some(200));
}

/// Posts alerts 0 to `count`, a thousand a request.
pub fn post_all(address: SocketAddr, path: &str, count: usize) {
    for first in (0..count).step_by(1000) {
        post(address, path, &alerts(first..(first + 1000).min(count)));
    }
}

/// One alert that happens again and again, as JSON.
pub fn occurrences(numbers: Range<usize>) -> String {
    let alert = |i| format!(r#"{{"id":"{i}","labels":{{"event":"Virus Found","computer":"ws-042"}}}}"#);
    let alerts: Vec<String> = numbers.map(alert).collect();
    format!("[{}]", alerts.join(","))
}

/// Alerts of seven labels and two annotations, as JSON.
pub fn alerts(numbers: Range<usize>) -> String {
    let severities = ["critical", "major", "minor", "warning", "info"];
    let alerts: Vec<String> = numbers
        .map(|i| {
            let (branch, severity) = (i % 150, severities[i % severities.len()]);
            format!(
                r#"{{"labels":{{"event":"Virus Found","site":"branch-{branch:03}","computer":"ws-{i:06}.branch-{branch:03}.example.com","severity":"{severity}","product":"antivirus","action":"quarantined","scan":"realtime"}},"annotations":{{"summary":"EICAR-Test-File found on ws-{i:06}","description":"EICAR-Test-File in C:/Users/user{i:06}/Downloads/invoice.doc; action taken: quarantined"}}}}"#
            )
        })
        .collect();
    format!("[{}]", alerts.join(","))
}
