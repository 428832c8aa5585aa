//! What every test needs: a site (a data folder and its config), a running server, raw HTTP, and waiting.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The simulation's; not all of it is used here.
#[allow(dead_code)]
#[path = "../../src/simulation/random.rs"]
mod random;
use random::Random;

/// The program.
pub const AMS2: &str = env!("CARGO_BIN_EXE_ams2");
/// A command that runs until it is ended, and not much longer than the router that reads its output: `kill -9` leaves it alone.
pub const ENDLESS: &str = "/bin/sh, -c, 'while sleep 1 && echo; do :; done'";

/// The longest that anything may take before a test says what it waited for. Generous: machines are shared.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
pub const LOOK: Duration = Duration::from_millis(3);

/// One receiver that writes every occurrence to `events.log`: what most tests add to.
pub const EACH: &str = "
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
";

/// Small segments, so that what happens to a journal hits the change from one to the next, too.
pub const SMALL_SEGMENTS: &str = "
journal: {dir: unused, segment_bytes: 1MiB, free_bytes_min: 1MiB}
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
";

/// An address where nobody listens: one that was free a moment ago.
pub fn closed_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Polls until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Polls until `look` says yes.
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}

/// Some tests need root: mounts, tracing. They fail where it is missing, and say so.
pub fn demand_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

/// `name` from the environment as a number.
pub fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Random numbers from one seed, which is printed so that a failure can be run again.
pub struct Dice(Random);

impl Dice {
    pub fn new(test: &str) -> Dice {
        let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        let seed = number_from_env("AMS2_TEST_SEED").unwrap_or_else(now);
        eprintln!("{test}: AMS2_TEST_SEED={seed}");
        Dice(Random::new(seed))
    }

    /// Those of one seed, whatever the environment says.
    pub fn of(seed: u64) -> Dice {
        Dice(Random::new(seed))
    }

    pub fn fork(&mut self) -> Dice {
        Dice(Random::new(self.0.next()))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// True once in `many`.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// A command of the program that sees nothing of the environment that the tests run in.
pub fn ams2() -> Command {
    let mut command = Command::new(AMS2);
    clean(&mut command);
    command
}

/// Takes the environment away but for the search path.
pub fn clean(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_with_input(command, b"")
}

/// Runs a command with something on its standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that refuses early need not read it all.
    drop(child.stdin.take().expect("piped").write_all(input));
    let pid = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
    let Ok(output) = ended.recv_timeout(DEADLINE) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} did not end within {DEADLINE:?}");
    };
    let Output { status, stdout, stderr } = output.expect("readable");
    Ran::of(status, stdout, stderr)
}

/// A child that does not outlive the test.
pub struct Ward(pub Child);

impl Drop for Ward {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts a part of what went to standard error.
    #[track_caller]
    pub fn says(self, words: &str) -> Ran {
        assert!(self.stderr.contains(words), "{words:?} is not in\n{}", self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in\n{}", self.stdout))
    }
}

/// A folder with a config and a data folder in it. Goes away with the test.
pub struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// A site with this config; `#` lines before it would shift places, so it is written as it is.
    pub fn new(config: &str) -> Site {
        let folder = tempfile::Builder::new().prefix("ams2-e2e-").tempdir().expect("a folder");
        let site = Site { folder };
        site.configure(config);
        site
    }

    /// Replaces the config file.
    pub fn configure(&self, config: &str) {
        fs::write(self.config(), config).expect("written");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("ams2.yaml")
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.data().join("ams2.sock")
    }

    /// A file in the data folder, empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        fs::read(self.data().join(name)).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8(bytes).unwrap_or_else(|error| panic!("{name} is not UTF-8: {error}")),
        )
    }

    /// What is in `events.log`.
    pub fn events(&self) -> String {
        self.read("events.log")
    }

    /// Waits until each of these ids is in the event log.
    #[track_caller]
    pub fn until_told(&self, ids: &[impl AsRef<str>]) {
        let mut missing: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
        let deadline = Instant::now() + DEADLINE;
        while !missing.is_empty() {
            let told = self.events();
            missing.retain(|id| !has(&told, id));
            assert!(Instant::now() < deadline, "not told: {missing:?}\n{}", self.log());
            std::thread::sleep(LOOK);
        }
    }

    /// What the servers of this site logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("serve.log")).unwrap_or_default()
    }

    /// Writes a file that only we can read, such as a token.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path().join(name);
        let mut options = File::options();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        path
    }

    /// The arguments that a server of this site gets.
    pub fn arguments(&self) -> Vec<String> {
        let shown = |path: PathBuf| path.display().to_string();
        ["serve", "--listen", "127.0.0.1:0", "--config", &shown(self.config()), "--data", &shown(self.data())]
            .map(str::to_owned)
            .into()
    }

    /// `ams2 serve` for this site, not started.
    pub fn serve(&self) -> Command {
        let mut command = ams2();
        command.args(self.arguments());
        command
    }

    /// The same where the config alone says what it listens to.
    pub fn serve_as_is(&self) -> Command {
        let mut command = ams2();
        command.arg("serve").arg("--config").arg(self.config()).arg("--data").arg(self.data());
        command
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&self) -> Server {
        self.start_as(self.serve())
    }

    /// Starts the server by a command of the caller's and waits until it is ready.
    pub fn start_as(&self, command: Command) -> Server {
        self.spawn(command).ready(self)
    }

    /// Starts a server and does not wait.
    pub fn spawn(&self, mut command: Command) -> Starting {
        let log =
            File::options().create(true).append(true).open(self.path().join("serve.log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = child.stdout.take().expect("piped");
        let (sender, said) = mpsc::channel();
        // Reads to the end, so that the server is never held up by a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Starting { child: Some(child), said }
    }

    /// A server that must refuse to start: how it ended and what it said.
    pub fn refused(&self) -> Ran {
        run(&mut self.serve())
    }

    /// A client's command for this site's socket: `ams2 VERB ... --to SOCKET`.
    pub fn client(&self, arguments: &[&str]) -> Ran {
        run(ams2().current_dir(self.path()).args(arguments).arg("--to").arg(self.socket()))
    }
}

/// A server that has been started and is perhaps not ready yet.
pub struct Starting {
    child: Option<Child>,
    said: mpsc::Receiver<String>,
}

impl Starting {
    /// Waits for the announcement.
    #[track_caller]
    pub fn ready(self, site: &Site) -> Server {
        self.try_ready().unwrap_or_else(|status| panic!("it ended early ({status}):\n{}", site.log()))
    }

    /// Waits for the announcement, or for the end.
    pub fn try_ready(mut self) -> Result<Server, ExitStatus> {
        let (mut http, mut socket, mut syslog, mut snmp) = (None, None, Vec::new(), None);
        loop {
            match self.said.recv_timeout(DEADLINE) {
                Ok(line) => {
                    if let Some(to) = line.strip_prefix("listening on ") {
                        match to.split_once("://") {
                            Some((scheme, to)) if scheme.starts_with("syslog+") => {
                                syslog.push((scheme.to_owned(), to.parse().expect("an address")));
                            }
                            Some(("snmp+udp", to)) => snmp = to.parse().ok(),
                            // A prefix of its paths may follow.
                            Some((_, to)) => http = to.split('/').next().and_then(|at| at.parse().ok()),
                            None => socket = Some(PathBuf::from(to)),
                        }
                    } else if line.starts_with("data in ") {
                        let child = self.child.take().expect("not ended");
                        let said = std::mem::replace(&mut self.said, mpsc::channel().1);
                        return Ok(Server { child, http, socket, syslog, snmp, said, ended: None });
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("not ready after {DEADLINE:?}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let mut child = self.child.take().expect("not ended");
                    return Err(child.wait().expect("it ended"));
                }
            }
        }
    }

    /// Kills it wherever it is.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("not ended");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub http: Option<SocketAddr>,
    pub socket: Option<PathBuf>,
    /// Where syslog listens, by `syslog+udp` and the like.
    pub syslog: Vec<(String, SocketAddr)>,
    snmp: Option<SocketAddr>,
    /// What it says on its standard output after the announcement.
    pub said: mpsc::Receiver<String>,
    ended: Option<ExitStatus>,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of HTTP.
    pub fn address(&self) -> SocketAddr {
        self.http.expect("it listens on HTTP")
    }

    /// The address of syslog over `udp`, `tcp` or `tls`.
    pub fn syslog(&self, transport: &str) -> SocketAddr {
        let scheme = format!("syslog+{transport}");
        self.syslog.iter().find(|(known, _)| *known == scheme).expect("it listens there").1
    }

    /// The address of SNMP.
    pub fn snmp(&self) -> SocketAddr {
        self.snmp.expect("it listens for SNMP")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A connection over TCP.
    pub fn connect(&self) -> Connection {
        Connection::tcp(self.address()).expect("it listens")
    }

    /// One request over a connection of its own.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.connect().call(method, path, &[], body.as_bytes()).expect("an answer")
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    /// Posts alerts.
    #[track_caller]
    pub fn post(&self, body: &str) -> Answer {
        self.call("POST", "/api/v1/alerts", body)
    }

    /// Waits until no delivery of what the router knows is pending. It may not know yet what was answered just now.
    pub fn until_quiet(&self) {
        until_true("no delivery is pending", || {
            self.get("/api/v1/deliveries?state=pending").json() == Value::Array(Vec::new())
        });
    }

    /// The value of a metric's first sample; `None` without one.
    pub fn metric(&self, sample: &str) -> Option<u64> {
        let text = self.get("/metrics").text();
        let line =
            text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.ended = Some(self.child.wait().expect("ended"));
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        let status = until("the server ends", || self.child.try_wait().expect("waitable"));
        self.ended = Some(status);
        status
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("waitable").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A stream in both directions.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// An HTTP connection, written byte by byte: what a test sends is what the server gets.
pub struct Connection {
    pub stream: Box<dyn Stream>,
}

impl Connection {
    pub fn tcp(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Connection { stream: Box::new(stream) })
    }

    pub fn unix(path: &Path) -> io::Result<Connection> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Connection { stream: Box::new(stream) })
    }

    /// One request and its answer.
    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        // What axum's JSON extractor wants; a test may say otherwise.
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request.push_str("Content-Type: application/json\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)?;
        self.answer()
    }

    /// Sends bytes as they are and reads what comes.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        // Who is refused early may find the connection closed while it still sends.
        let sent = self.stream.write_all(bytes);
        self.answer().map_err(|error| sent.err().unwrap_or(error))
    }

    /// Reads one answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in {first:?}")))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        match answer.header("content-length").map(str::parse) {
            _ if answer.header("transfer-encoding") == Some("chunked") => answer.body = self.chunks()?,
            Some(Ok(length)) => {
                answer.body = vec![0; length];
                self.stream.read_exact(&mut answer.body)?;
            }
            _ => drop(self.stream.read_to_end(&mut answer.body)?),
        }
        Ok(answer)
    }

    /// A body in chunks (RFC 9112 section 7.1), to its last one.
    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            let mut byte = [0];
            while !line.ends_with(b"\r\n") {
                self.stream.read_exact(&mut byte)?;
                line.push(byte[0]);
            }
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.stream.read_exact(&mut body[start..])?;
            body.truncate(start + size);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Whether the server has closed the connection, or does within the deadline.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0)) || {
            // Unread bytes make a close a reset.
            self.stream.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Asserts a problem+json with this status that says what is wrong and how to mend it.
    #[track_caller]
    pub fn problem(self, status: u16) -> Answer {
        let answer = self.is(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text());
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        for key in ["title", "detail", "mend"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "no `{key}` in {problem}");
        }
        answer
    }
}

/// One alert as JSON: the event, an id, and the id once more as a label that the log shows.
pub fn alert(event: &str, id: &str) -> String {
    serde_json::json!({ "id": id, "labels": { "event": event, "n": id } }).to_string()
}

/// Whether a line with the label `n` is in a text of `name=value` fields.
pub fn has(text: &str, id: &str) -> bool {
    text.lines().any(|line| line.split(' ').any(|field| field.strip_prefix("n=") == Some(id)))
}
