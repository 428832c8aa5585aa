//! Syslog over one TCP connection beside rsyslog: what is written, through to what was decided of it, with everything on the
//! disk; and rsyslog's rate in memory, which promises nothing.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    ROUND, ROUNDS,
    parts::{Ams2, Process, Running, free_port, until},
    row,
};

/// Messages in a round: of ours and of rsyslog in memory; and of rsyslog with a queue that is synced.
const MANY: usize = 1_000_000;
const FEW: usize = 100_000;
/// Hosts in the messages.
const HOSTS: usize = 150;

pub fn syslog() {
    let messages = messages(MANY);
    let few = &messages[..line_end(&messages, FEW)];
    let (mut ours, mut cpu, mut synced, mut in_memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (rate, seconds) = of_ams2(&messages);
        ours.push(rate);
        cpu.push(seconds / MANY as f64 * 1e6);
        synced.push(of_rsyslog(few, FEW, Queue::Synced));
        in_memory.push(of_rsyslog(&messages, MANY, Queue::InMemory));
    }
    let (ours, synced, in_memory) = (middle(ours), middle(synced), middle(in_memory));
    let cpu = middle(cpu);
    row(
        "syslog messages/s over one TCP connection, all synced",
        format!("{ours:.0} ({cpu:.1} µs of processor time each)"),
        &format!("rsyslog, synced disk queue: {synced:.0}"),
        format!("{:.1}", ours / synced),
        "at least 20",
    );
    row(
        "the same beside rsyslog's rate in memory",
        format!("{ours:.0}"),
        &format!("rsyslog, queue in memory: {in_memory:.0}"),
        format!("{:.2}", ours / in_memory),
        "",
    );
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// What daemons of many hosts say, a line each.
fn messages(count: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for n in 0..count {
        let (host, level) = (n % HOSTS, n % 8);
        let line = format!(
            "<{}>1 2026-12-01T10:00:00.{:06}Z ws-{host:03}.example.com sshd {} - - Failed password for invalid user u{n} from 192.0.2.7 port 4711 ssh2\n",
            32 + level,
            n % 1_000_000,
            1000 + host,
        );
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// Where so many lines end.
fn line_end(text: &[u8], lines: usize) -> usize {
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).expect("there are as many")
}

/// Who reads may be gone before it has all.
fn write(port: u16, messages: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    drop(stream.write_all(messages));
}

/// Messages a second until the last is journaled, synced and decided, and the processor time of the server in seconds.
fn of_ams2(messages: &[u8]) -> (f64, f64) {
    let port = free_port();
    let ams2 = Ams2::with(&format!(
        "originator: {{syslog: {{tcp: '127.0.0.1:{port}'}}}}
receivers:
  - name: log
    actions:
      - event_log: {{to: file, path: events.log}}
route: {{receiver: log, group_by: [event], group_wait: 30s}}
"
    ));
    let arrived = || ams2.metric("ams2_alerts_arrived_total ").unwrap_or(0);
    let (before, cpu) = (arrived(), ams2.cpu_seconds());
    let began = Instant::now();
    write(port, messages);
    until("all are decided", || {
        std::thread::sleep(Duration::from_millis(20));
        (arrived() >= before + MANY as u64).then_some(())
    });
    (MANY as f64 / began.elapsed().as_secs_f64(), ams2.cpu_seconds() - cpu)
}

/// Where rsyslog keeps what it has not written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// On the disk, every message synced before the next.
    Synced,
    /// In memory: its default.
    InMemory,
}

/// Messages a second until the last stands in rsyslog's file, or those that stand there after a while.
fn of_rsyslog(messages: &[u8], count: usize, queue: Queue) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, port) = (folder.path().display(), free_port());
    let queue = match queue {
        Queue::Synced => {
            "main_queue(queue.type=\"Disk\" queue.filename=\"q\" queue.checkpointInterval=\"1\" queue.syncQueueFiles=\"on\")"
        }
        Queue::InMemory => "",
    };
    let config = format!(
        "global(workDirectory=\"{dir}\")\n{queue}\nmodule(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\naction(type=\"omfile\" file=\"{dir}/received\")\n"
    );
    std::fs::write(folder.path().join("rsyslog.conf"), config).expect("written");
    let mut command = Command::new("rsyslogd");
    command
        .arg("-n")
        .arg("-f")
        .arg(folder.path().join("rsyslog.conf"))
        .arg("-i")
        .arg(folder.path().join("pid"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _rsyslog = Process(child.expect("rsyslogd runs"));
    until("rsyslogd listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    let received = folder.path().join("received");
    let mut lines = Lines { file: None, count: 0 };
    let messages = messages.to_vec();
    let began = Instant::now();
    std::thread::spawn(move || write(port, &messages));
    until("all are written, or some in a while", || {
        std::thread::sleep(Duration::from_millis(20));
        (lines.count(&received) >= count || began.elapsed() > ROUND).then_some(())
    });
    lines.count as f64 / began.elapsed().as_secs_f64()
}

/// Counts the lines of a file that grows, reading each once: that takes from what is measured.
struct Lines {
    file: Option<File>,
    count: usize,
}

impl Lines {
    fn count(&mut self, path: &Path) -> usize {
        if self.file.is_none() {
            self.file = File::open(path).ok();
        }
        let mut piece = vec![0; 1 << 20];
        while let Some(file) = &mut self.file
            && let Ok(bytes @ 1..) = file.read(&mut piece)
        {
            self.count += piece[..bytes].iter().filter(|byte| **byte == b'\n').count();
        }
        self.count
    }
}
