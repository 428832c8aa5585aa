//! A mail server by others: Debian's postfix with its own config, queue and ports in a folder of the test's, which keeps
//! all mail for example.com in a Maildir. Logins are dovecot's; what arrived is read by Python's `email` package.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use super::harness::*;

/// The login that the server knows.
pub const USER: &str = "me";
pub const PASSWORD: &str = "canary-right";

/// Reads a Maildir and says what a mail program would find in it.
const READ_MAILS: &str = r#"
import email, email.policy, json, pathlib, sys

def content(mail, kind):
    part = mail.get_body((kind,))
    return part.get_content() if part else None

mails = []
for path in sorted(pathlib.Path(sys.argv[1]).glob("new/*"), key=lambda path: path.stat().st_mtime_ns):
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    defects = [repr(d) for part in mail.walk() for d in part.defects]
    defects += [repr(d) for part in mail.walk() for value in part.values() for d in value.defects]
    headers = [[name.lower(), str(value)] for name, value in mail.items()]
    mails.append({"headers": headers, "text": content(mail, "plain"), "html": content(mail, "html"), "defects": defects})
print(json.dumps(mails))
"#;

/// Programs of others that do not outlive the test, however that ends: a shell stands by until its standard input closes.
struct Kept(Child);

impl Kept {
    /// Runs `start` in the background and `end` at the end; `$!` is the process in both. What they say goes to `said`.
    fn start(start: &str, end: &str, said: &Path) -> Kept {
        let log = || fs::File::options().create(true).append(true).open(said).expect("a file");
        let mut command = Command::new("sh");
        clean(&mut command);
        command.arg("-c").arg(format!("{start} & read _; {end}; wait"));
        // Its own group: what kills the test does not kill it.
        command.process_group(0).stdin(Stdio::piped()).stdout(log()).stderr(log());
        Kept(command.spawn().expect("a shell"))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// One mail for one recipient, as Python's parser read it.
#[derive(Debug)]
pub struct Mail {
    headers: Vec<(String, String)>,
    pub text: String,
    /// Empty for a mail in plain text alone.
    pub html: String,
}

impl Mail {
    fn of(read: &Value) -> Mail {
        assert_eq!(read["defects"], serde_json::json!([]), "{read}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pair = |pair: &Value| (text(&pair[0]), text(&pair[1]));
        let headers = read["headers"].as_array().expect("a list").iter().map(pair).collect();
        Mail { headers, text: text(&read["text"]), html: text(&read["html"]) }
    }

    /// The only header with this name, in small letters; empty without one.
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map_or("", |(_, value)| value);
        assert!(found.next().is_none(), "two headers `{name}`: {self:?}");
        value
    }

    /// Whom the server delivered it to.
    pub fn recipient(&self) -> &str {
        self.header("delivered-to")
    }

    pub fn id(&self) -> &str {
        self.header("message-id")
    }
}

/// postfix; ended when dropped.
pub struct Postfix {
    folder: tempfile::TempDir,
    /// Its SMTP, with STARTTLS if there are logins.
    pub port: u16,
    /// The same with TLS from the first byte.
    pub tls_port: u16,
    has_logins: bool,
    /// Ended before the folder goes.
    running: Vec<Kept>,
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Postfix {
    /// One that takes everything from this machine, in the clear.
    pub fn start() -> Postfix {
        let mut postfix = Postfix::new(false);
        postfix.start_again("");
        postfix
    }

    /// One that takes nothing without TLS and a login; its certificate for `localhost` is at [`Postfix::ca`].
    pub fn with_logins() -> Postfix {
        let mut postfix = Postfix::new(true);
        postfix.start_again("");
        postfix
    }

    fn new(has_logins: bool) -> Postfix {
        demand_root();
        let folder = tempfile::Builder::new().prefix("ams2-postfix-").tempdir().expect("a folder");
        // It works as several users.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
        for (name, owner) in [("queue", "root"), ("data", "postfix"), ("box", "nobody")] {
            fs::create_dir(folder.path().join(name)).expect("made");
            run(Command::new("chown").arg(owner).arg(folder.path().join(name))).ends(0);
        }
        fs::create_dir(folder.path().join("dovecot")).expect("made");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).expect("written");
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        let (port, tls_port) = (free_port(), free_port());
        Postfix { folder, port, tls_port, has_logins, running: Vec::new() }
    }

    /// Starts it on the same ports and queue, with an access table for recipients: `{a@example.com = 550 no}`.
    pub fn start_again(&mut self, recipients: &str) {
        assert!(self.running.is_empty(), "it runs");
        let dir = self.folder.path().display();
        let conf = self.folder.path().join("conf");
        fs::create_dir_all(&conf).expect("made");
        fs::write(conf.join("main.cf"), self.main_cf(recipients)).expect("written");
        fs::write(conf.join("master.cf"), self.master_cf()).expect("written");
        let said = self.folder.path().join("said");
        if self.has_logins {
            fs::write(self.folder.path().join("dovecot/users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n"))
                .expect("written");
            fs::write(self.folder.path().join("dovecot/conf"), dovecot(self.folder.path())).expect("written");
            let start = format!("dovecot -F -c {dir}/dovecot/conf");
            self.running.push(Kept::start(&start, "kill $!", &said));
            until_true("dovecot (Debian package dovecot-core) listens", || self.auth().exists());
        }
        // Makes the queue; says what is wrong with the config.
        let mut check = Command::new("postfix");
        clean(&mut check);
        run(check.arg("-c").arg(&conf).arg("check")).ends(0);
        let start = format!("$(postconf -c {dir}/conf -h daemon_directory)/master -s -c {dir}/conf");
        // It leads a session of its own, once it has got so far.
        self.running.push(Kept::start(&start, "kill -KILL -$! $!", &said));
        let greets = || {
            let mut line = String::new();
            let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            BufReader::new(stream).read_line(&mut line).ok()?;
            line.starts_with("220").then_some(())
        };
        until("postfix greets", greets);
    }

    /// `kill -9` of all its processes.
    pub fn kill(&mut self) {
        self.running.clear();
    }

    /// The certificate that signs its own.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many mails arrived, one for each recipient.
    pub fn count(&self) -> usize {
        fs::read_dir(self.maildir().join("new")).map_or(0, Iterator::count)
    }

    /// What arrived, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        let mut python = Command::new("python3");
        clean(&mut python);
        let read = run(python.args(["-c", READ_MAILS]).arg(self.maildir())).ends(0).json();
        read.as_array().expect("a list").iter().map(Mail::of).collect()
    }

    /// Whom it delivered to, by each mail's first lines: for more mails than Python reads in the time of a test.
    pub fn recipients(&self) -> Vec<String> {
        let files = fs::read_dir(self.maildir().join("new")).expect("a Maildir");
        let recipient = |path: PathBuf| {
            let mail = fs::read_to_string(path).expect("readable");
            let line = mail.lines().find_map(|line| line.strip_prefix("Delivered-To: "));
            line.expect("postfix says whom for").to_owned()
        };
        files.map(|file| recipient(file.expect("a file").path())).collect()
    }

    /// Waits until so many mails arrived, one for each recipient.
    #[track_caller]
    pub fn until_mails(&self, count: usize) -> Vec<Mail> {
        let deadline = Instant::now() + DEADLINE;
        while self.count() < count {
            assert!(Instant::now() < deadline, "{} of {count} mails arrived\n{}", self.count(), self.log());
            std::thread::sleep(LOOK);
        }
        self.mails()
    }

    fn maildir(&self) -> PathBuf {
        self.folder.path().join("box/box")
    }

    fn auth(&self) -> PathBuf {
        self.folder.path().join("dovecot/auth")
    }

    fn main_cf(&self, recipients: &str) -> String {
        let dir = self.folder.path().display();
        // An empty table is none to it.
        let recipients = if recipients.is_empty() { "{nobody.example = DUNNO}" } else { recipients };
        let logins = if self.has_logins {
            format!(
                "smtpd_tls_cert_file = {dir}/cert.pem
smtpd_tls_key_file = {dir}/key.pem
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = unix:{}
smtpd_client_restrictions = permit_sasl_authenticated, reject
",
                self.auth().display()
            )
        } else {
            String::new()
        };
        // What it would look up elsewhere is empty; a client that errs is not slowed down.
        let base = format!(include_str!("postfix.cf"), dir = dir);
        format!(
            "{base}virtual_mailbox_domains = example.com
virtual_mailbox_base = {dir}/box
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_recipient_restrictions = check_recipient_access inline:{{{recipients}}}, permit_mynetworks, reject
{logins}"
        )
    }

    fn master_cf(&self) -> String {
        let (port, tls_port) = (self.port, self.tls_port);
        let tls = if self.has_logins {
            format!("127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n")
        } else {
            String::new()
        };
        format!(
            "127.0.0.1:{port} inet n - n - - smtpd
{tls}cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"
        )
    }
}

/// dovecot as the one who knows passwords, and nothing else. It does not make who errs wait.
fn dovecot(folder: &Path) -> String {
    let dir = folder.join("dovecot");
    let dir = dir.display();
    format!(
        "base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols =
ssl = no
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {dir}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {dir}/auth {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"
    )
}

/// It cannot say which port it took: one that was free a moment ago.
fn free_port() -> u16 {
    closed_address().port()
}
