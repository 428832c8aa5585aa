//! net-snmp's snmptrapd in a test's folder: a manager that others wrote, with our MIB loaded.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::harness::*;

/// snmptrapd with its own config, port and state; ended when dropped.
pub struct Snmptrapd {
    _process: Ward,
    /// What it received: a line each, fields between `|`, varbinds between tabs.
    received: PathBuf,
}

impl Snmptrapd {
    /// Starts it on `port` with these lines in its config.
    pub fn start(site: &Site, port: u16, config: &str) -> Snmptrapd {
        Snmptrapd::start_at(site, &format!("udp:127.0.0.1:{port}"), config, || {
            let sockets = fs::read_to_string("/proc/net/udp").expect("readable");
            sockets.contains(&format!(" 0100007F:{port:04X} "))
        })
    }

    /// The same on IPv6's loopback.
    pub fn start_on_ipv6(site: &Site, port: u16, config: &str) -> Snmptrapd {
        Snmptrapd::start_at(site, &format!("udp6:[::1]:{port}"), config, || {
            let sockets = fs::read_to_string("/proc/net/udp6").expect("readable");
            sockets.contains(&format!(" 00000000000000000000000001000000:{port:04X} "))
        })
    }

    fn start_at(site: &Site, place: &str, config: &str, listens: impl FnMut() -> bool) -> Snmptrapd {
        let folder = site.path().join("snmptrapd");
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join("conf"), format!("disableAuthorization yes\n{config}")).expect("written");
        let received = folder.join("received");
        let said = fs::File::options().create(true).append(true).open(&received).expect("a file");
        let mut command = Command::new("snmptrapd");
        clean(&mut command);
        command
            .env("MIBDIRS", mib_folders())
            .env("SNMP_PERSISTENT_DIR", folder.join("state"))
            .args(["-f", "-Lo", "-n", "-C", "-m", "AMS2-MIB", "-F", "%P|%a|%W|%q|%v\n", "-c"])
            .arg(folder.join("conf"))
            .arg(place)
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(Stdio::null());
        let process = Ward(command.spawn().expect("snmptrapd runs (Debian package snmptrapd)"));
        until_true("snmptrapd listens", listens);
        Snmptrapd { _process: process, received }
    }

    /// Waits for `count` messages whose security information is this.
    #[track_caller]
    pub fn messages(&self, security: &str, count: usize) -> Vec<Message> {
        until(&format!("{count} messages: {security}\n{}", self.text()), || {
            let text = self.text();
            let lines = text.lines().filter_map(|line| line.strip_prefix(security)?.strip_prefix('|'));
            let found: Vec<Message> = lines.map(Message::of).collect();
            (found.len() >= count).then_some(found)
        })
    }

    pub fn text(&self) -> String {
        fs::read_to_string(&self.received).unwrap_or_default()
    }
}

/// One notification as snmptrapd decoded it.
#[derive(Debug)]
pub struct Message {
    /// v1: the agent's address, the kind of trap, its name.
    pub v1: (String, String, String),
    /// `name = TYPE: value`, in their order.
    pub varbinds: Vec<String>,
}

impl Message {
    fn of(line: &str) -> Message {
        let mut fields = line.splitn(4, '|').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let v1 = (next(), next(), next());
        Message { v1, varbinds: next().split('\t').map(str::to_owned).collect() }
    }

    /// What it says of the alert: without sysUpTime.0 and snmpTrapOID.0, which v1 does not have.
    pub fn of_the_alert(&self) -> &[String] {
        let ours = self.varbinds.iter().position(|varbind| varbind.starts_with("AMS2-MIB::ams2DeliveryId.0"));
        &self.varbinds[ours.expect("our first varbind")..]
    }

    pub fn value(&self, object: &str) -> &str {
        let name = format!("AMS2-MIB::{object}.0 = ");
        let found = self.varbinds.iter().find_map(|varbind| varbind.strip_prefix(&name));
        found.unwrap_or_else(|| panic!("{object} is not in {self:?}"))
    }

    pub fn trap(&self) -> &str {
        self.varbinds[1].rsplit(": ").next().unwrap_or_default()
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The modules that ours imports, and ours.
fn mib_folders() -> String {
    let folder = |name: &str| root().join(name).display().to_string();
    format!("{}:{}", folder("tests/e2e/mibs"), folder("config/mibs"))
}

/// A port that was free a moment ago: snmptrapd cannot say which it took.
pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port()
}
