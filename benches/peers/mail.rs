//! Mail: ams2 beside postfix's own `smtp-source` on one server, and a server that is away while 100,000 mails wait.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    ROUNDS,
    parts::{Ams2, Running, free_port, post_all, until},
    row,
};

/// Mails in one round of the comparison, and how many of them are under way at once.
const MAILS: usize = 20_000;
const CONNECTIONS: usize = 8;
/// The body of a mail that `smtp-source` sends: about what one of ours has.
const BODY_BYTES: usize = 4_600;
/// What waits for the server that is away, and how long it is.
const WAITING: usize = 100_000;
const AWAY: Duration = Duration::from_secs(60);
/// Longest time for a round.
const ROUND_MAX: Duration = Duration::from_secs(600);

const DELIVERED: &str = "ams2_attempts_total{action=\"mail/email/0\",outcome=\"delivered\"}";

/// A mail for each alert of the load; what ams2 says of itself goes into a log.
fn config(port: u16) -> String {
    format!(
        "receivers:
  - name: log
    actions: [{{event_log: {{to: file, path: events.log}}}}]
  - name: mail
    actions:
      - email: {{to: [ops@example.com], from: ams2@example.com, smtp: 'smtp://127.0.0.1:{port}', max_in_flight: {CONNECTIONS}}}
route:
  receiver: log
  routes: [{{receiver: mail, matchers: ['event = \"Virus Found\"'], notify: each}}]
"
    )
}

/// A server of others that ends with this, however the bench ends: a shell stands by until its standard input closes.
struct Kept(Child);

impl Kept {
    /// Starts it, and waits until it listens.
    fn start(command: &str, port: u16) -> Kept {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{command} & read _; kill -KILL -$! $! 2>/dev/null; wait"));
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let kept = Kept(shell.spawn().expect("a shell"));
        until("the mail server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        kept
    }

    /// It will not work as root.
    fn sink(port: u16, options: &str) -> Kept {
        Kept::start(&format!("smtp-sink -u nobody {options} 127.0.0.1:{port} 100"), port)
    }

    /// postfix: takes mails as it does (one flush each), and forgets them.
    fn postfix(folder: &Path, port: u16) -> Kept {
        let dir = folder.display();
        open_to_others(folder, 0o755);
        for name in ["conf", "queue", "data"] {
            std::fs::create_dir_all(folder.join(name)).expect("made");
        }
        let done = |command: &mut Command| assert!(command.status().is_ok_and(|status| status.success()));
        done(Command::new("chown").arg("postfix").arg(folder.join("data")));
        let main = format!(
            concat!(
                include_str!("../../tests/e2e/postfix.cf"),
                "relay_domains = example.com\nrelay_transport = discard:\n"
            ),
            dir = dir
        );
        let services = format!(
            "127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
proxymap unix - - n - - proxymap
discard unix - - n - - discard
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"
        );
        std::fs::write(folder.join("conf/main.cf"), main).expect("written");
        std::fs::write(folder.join("conf/master.cf"), services).expect("written");
        done(Command::new("postfix").arg("-c").arg(folder.join("conf")).arg("check"));
        Kept::start(&format!("$(postconf -c {dir}/conf -h daemon_directory)/master -s -c {dir}/conf"), port)
    }
}

/// Mail servers work as several users.
fn open_to_others(folder: &Path, mode: u32) {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).expect("set");
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// Mails a second, to postfix and to a server that only reads.
pub fn mail() {
    for (server, wanted) in [("postfix", "at least 0.5"), ("smtp-sink", "")] {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let _server = match server {
            "postfix" => Kept::postfix(folder.path(), port),
            _ => Kept::sink(port, ""),
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(smtp_source(port));
            ours.push(alerts_as_mails(port));
        }
        let (ours, theirs) = (median(ours), median(theirs));
        row(
            &format!("mails/s to {server}, {CONNECTIONS} connections"),
            format!("{ours:.0}"),
            &format!("smtp-source: {theirs:.0}"),
            format!("{:.2}", ours / theirs),
            wanted,
        );
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn smtp_source(port: u16) -> f64 {
    let began = Instant::now();
    let status = Command::new("smtp-source")
        .args(["-d", "-s", &CONNECTIONS.to_string(), "-m", &MAILS.to_string()])
        .args(["-l", &BODY_BYTES.to_string(), "-M", "bench.example.com"])
        .args(["-f", "ams2@example.com", "-t", "ops@example.com", &format!("127.0.0.1:{port}")])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "smtp-source failed");
    MAILS as f64 / began.elapsed().as_secs_f64()
}

/// From the first alert that is posted to the last mail that was taken.
fn alerts_as_mails(port: u16) -> f64 {
    let ams2 = Ams2::with(&config(port));
    let began = Instant::now();
    post_all(ams2.address(), ams2.path(), MAILS);
    until_delivered(&ams2, MAILS as u64, || {});
    MAILS as f64 / began.elapsed().as_secs_f64()
}

fn until_delivered(ams2: &Ams2, count: u64, mut look: impl FnMut()) {
    let deadline = Instant::now() + ROUND_MAX;
    while ams2.metric(DELIVERED).unwrap_or(0) < count {
        assert!(Instant::now() < deadline, "{:?} of {count} mails", ams2.metric(DELIVERED));
        look();
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A mail server that is away for a minute while 100,000 mails wait, and what its return is like.
pub fn outage() {
    let folder = tempfile::tempdir().expect("a folder");
    open_to_others(folder.path(), 0o777);
    let port = free_port();
    let ams2 = Ams2::with(&config(port));
    post_all(ams2.address(), ams2.path(), WAITING);
    let since = Instant::now();
    until("the mails wait", || {
        (ams2.metric("ams2_action_pending{action=\"mail/email/0\"}")? == WAITING as u64).then_some(())
    });
    std::thread::sleep(AWAY.saturating_sub(since.elapsed()));
    let (waited_mb, disk_mb) = (ams2.peak_mb(), ams2.disk_mb());
    let dump = folder.path().join("mails");
    let began = Instant::now();
    let sink = Kept::sink(port, &format!("-D {}", dump.display()));
    let mut connections = 0;
    until_delivered(&ams2, 1, || {});
    let first = began.elapsed();
    until_delivered(&ams2, WAITING as u64, || connections = connections.max(established(port)));
    let all = began.elapsed();
    drop(sink);
    let (mails, distinct) = message_ids(&dump);
    row(
        "a mail server away for 60 s, 100,000 mails waiting: first mail after its return",
        format!("{:.1} s", first.as_secs_f64()),
        "",
        String::new(),
        "at most 5 s",
    );
    row(
        "all of them, each once by Message-ID",
        format!("{:.0} s: {mails} mails, {distinct} different", all.as_secs_f64()),
        "",
        String::new(),
        "100,000, no duplicate",
    );
    row("most connections", connections.to_string(), "", String::new(), &format!("at most {CONNECTIONS}"));
    row(
        "most memory all along (while it was away)",
        format!("{:.0} MB ({waited_mb:.0} MB)", ams2.peak_mb()),
        "",
        String::new(),
        "at most 150 MB",
    );
    row(
        "data folder while it was away (in the end)",
        format!("{disk_mb:.0} MB ({:.0} MB)", ams2.disk_mb()),
        "",
        String::new(),
        "at most 300 MB",
    );
}

/// How many connections to this port are up.
fn established(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let far_end = format!(":{port:04X}");
    let is_up = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|to| to.ends_with(&far_end)) && fields.next() == Some("01")
    };
    table.lines().filter(is_up).count()
}

/// How many mails the dump has, and how many different Message-IDs.
fn message_ids(dump: &Path) -> (usize, usize) {
    let lines = BufReader::new(File::open(dump).expect("a dump")).lines().map_while(Result::ok);
    let ids: Vec<String> = lines.filter(|line| line.starts_with("Message-ID: ")).collect();
    (ids.len(), ids.iter().collect::<HashSet<_>>().len())
}
