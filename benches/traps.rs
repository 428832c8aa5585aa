//! What a trap costs: the action `snmp_trap` against a socket that counts, in another process. `cargo bench --bench traps`.
//!
//! Wanted: 10,000 traps a second with at most 30 us of processor time each. The time is that of this process alone, the
//! kernel's work for it included; the rate is that of one call after the other, as the handler makes them.
#![allow(clippy::print_stdout, missing_docs)]

use std::{
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ams2_core::{At, Fingerprint, Position, Severity, Wall, effect::NotifyReason, input::DeliveryId};
use ams2_handlers::{ActionSettings, Alert, BuildContext, Delivery, Group, Server};
use rustix::time::{ClockId, clock_gettime};

/// Traps in one round.
const TRAPS: usize = 100_000;
/// Rounds of each version; the median counts.
const ROUNDS: usize = 3;
/// Deliveries in one call, as the handler makes it.
const BATCH: usize = 100;
const DEADLINE: Duration = Duration::from_secs(60);
/// No trap for so long: the sender is done.
const QUIET: Duration = Duration::from_secs(1);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("sink") {
        return sink();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!(
        "| version | traps/s | us of processor time each | bytes each | arrived |\n|---|---|---|---|---|"
    );
    for (version, access) in [
        ("1", "community: example"),
        ("2c", "community: example"),
        (
            "3",
            "user: ams2, auth: sha256, auth_password: 'example one', priv: aes128, priv_password: 'example two'",
        ),
        (
            "3",
            "user: ams2, auth: sha512, auth_password: 'example one', priv: aes256, priv_password: 'example two'",
        ),
    ] {
        let mut rounds: Vec<Round> = (0..ROUNDS).map(|_| runtime.block_on(round(version, access))).collect();
        rounds.sort_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us));
        let Round { rate, cpu_us, bytes, arrived } = rounds[ROUNDS / 2];
        let how = access.split(", ").filter(|word| word.starts_with("auth:") || word.starts_with("priv:"));
        let how = how.filter_map(|word| word.split(": ").nth(1)).collect::<Vec<_>>().join(" ");
        println!("| {version} {how} | {rate:.0} | {cpu_us:.1} | {bytes} | {:.1} % |", arrived * 100.0);
    }
}

/// What one round gave.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    cpu_us: f64,
    bytes: u64,
    arrived: f64,
}

async fn round(version: &str, access: &str) -> Round {
    let (child, mut said, port) = start_sink();
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = format!("snmp_trap: {{to: '127.0.0.1:{port}', version: {version}, {access}}}");
    let settings: ActionSettings = serde_saphyr::from_str(&yaml).expect("settings");
    let action = settings.build(&BuildContext::new(folder.path(), Default::default())).expect("it builds");
    let batches: Vec<Vec<Delivery>> =
        (0..TRAPS / BATCH).map(|n| (0..BATCH).map(|k| delivery(n * BATCH + k)).collect()).collect();
    // Keys, engine and socket are made once.
    assert!(action.deliver(&batches[0][..1], DEADLINE).await[0].is_ok());
    let (started, cpu) = (Instant::now(), cpu_us());
    for batch in &batches {
        assert!(action.deliver(batch, DEADLINE).await.iter().all(Result::is_ok));
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_us() - cpu);
    let mut line = String::new();
    said.read_line(&mut line).expect("its count");
    let mut words = line.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
    let (count, bytes) = (words.next().expect("a count"), words.next().expect("bytes"));
    drop(child.wait_with_output());
    let (rate, arrived) = (TRAPS as f64 / elapsed.as_secs_f64(), count as f64 / (TRAPS + 1) as f64);
    Round { rate, cpu_us: cpu / TRAPS as f64, bytes: bytes / count.max(1), arrived }
}

/// Processor time of this process in microseconds.
fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn start_sink() -> (Child, BufReader<std::process::ChildStdout>, u16) {
    let program = std::env::current_exe().expect("a path");
    let mut child = Command::new(program).arg("sink").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("its port");
    (child, said, line.trim().parse().expect("a port"))
}

/// Says its port, then how many datagrams came and how many bytes.
fn sink() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    println!("{}", socket.local_addr().expect("bound").port());
    let (mut count, mut bytes, mut buffer) = (0u64, 0u64, [0; 65_536]);
    while let Ok(length) = socket.recv(&mut buffer) {
        (count, bytes) = (count + 1, bytes + length as u64);
        socket.set_read_timeout(Some(QUIET)).expect("set");
    }
    println!("{count} {bytes}");
}

fn delivery(number: usize) -> Delivery {
    let computer = format!("ws-{number:06}");
    let labels = [
        ("computer", computer.as_str()),
        ("event", "Virus Found"),
        ("severity", "critical"),
        ("site", "boston"),
    ];
    let alert = Alert {
        fingerprint: Fingerprint::of(labels.into_iter()),
        sequence: number as u64,
        position: Position::arrived(number as u64),
        occurrence: None,
        firing: true,
        new: true,
        labels: labels.map(|(name, value)| (name.into(), value.into())).into(),
        annotations: vec![(
            "summary".into(),
            r"EICAR in C:\tmp\a.exe, the file was moved to quarantine".into(),
        )],
        starts_at: Wall(1_795_515_300_000),
        ends_at: None,
        generator_url: "".into(),
        severity: Some(Severity::Critical),
        client: "boston".into(),
    };
    let group = Group {
        key: Arc::from("{}:{event=\"Virus Found\", site=\"boston\"}"),
        labels: [].into(),
        reason: NotifyReason::FirstTime,
        number: 1,
        decided: Wall(1_795_515_302_000),
        decided_at: At(5000),
        alerts: vec![alert],
        overview: None,
        firing: 1,
        resolved: 0,
    };
    Delivery {
        id: DeliveryId(number as u128),
        attempt: 1,
        maybe_duplicate: false,
        test: false,
        receiver: "noc".into(),
        external_url: "http://ams2.example.com".into(),
        groups: vec![group],
        digest: None,
        unfinished: None,
        memo: None,
        server: Server::default(),
    }
}
