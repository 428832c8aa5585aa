//! rsyslogd in a test's folder: a syslog daemon that others wrote, with its own sockets and ports.

use std::{
    fs,
    net::{TcpStream, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::harness::*;

/// rsyslogd with its own config, ports, sockets and files; ended when dropped.
pub struct Rsyslog {
    _process: Ward,
    /// What it received, one message a line, fields between tabs.
    pub received: PathBuf,
    pub tcp_port: u16,
    pub udp_port: u16,
    /// A socket that takes what our RFC 5424 says.
    pub socket: PathBuf,
    /// A socket with rsyslog's defaults, as `/dev/log` has them.
    pub devlog: PathBuf,
}

impl Rsyslog {
    /// Starts it in the site's folder. `tcp_port` 0 takes a free one.
    pub fn start(site: &Site, tcp_port: u16) -> Rsyslog {
        let folder = site.path().join("rsyslog");
        fs::create_dir_all(&folder).expect("made");
        let dir = folder.display();
        // It cannot say which port it took for UDP: one that was free a moment ago.
        let udp_port =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let config = format!(
            r#"
global(workDirectory="{dir}" parser.permitSlashInProgramName="on")
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
module(load="imtcp")
input(type="imuxsock" Socket="{dir}/log.sock" UseSpecialParser="off" ParseHostname="on" RateLimit.Interval="0")
input(type="imuxsock" Socket="{dir}/devlog.sock" RateLimit.Interval="0")
input(type="imudp" address="127.0.0.1" port="{udp_port}")
input(type="imtcp" address="127.0.0.1" port="{tcp_port}" listenPortFileName="{dir}/port")
template(name="fields" type="string" string="%syslogfacility-text%\t%syslogseverity-text%\t%hostname%\t%app-name%\t%msgid%\t%protocol-version%\t%structured-data%\t%msg%\n")
action(type="omfile" file="{dir}/received" template="fields")
"#
        );
        fs::write(folder.join("rsyslog.conf"), config).expect("written");
        // What an earlier one left: it would take the one for alive, and we the other for ready.
        for name in ["port", "pid", "log.sock", "devlog.sock"] {
            drop(fs::remove_file(folder.join(name)));
        }
        let mut command = Command::new("rsyslogd");
        clean(&mut command);
        command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("pid"));
        let said = fs::File::options().create(true).append(true).open(folder.join("said")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let process = Ward(command.spawn().expect("rsyslogd runs (Debian package rsyslog)"));
        // It writes the port only where it chose it.
        let chosen = || fs::read_to_string(folder.join("port")).ok()?.trim().parse().ok();
        let tcp_port = if tcp_port == 0 { until("rsyslogd listens", chosen) } else { tcp_port };
        until_true("rsyslogd listens", || TcpStream::connect(("127.0.0.1", tcp_port)).is_ok());
        let socket = folder.join("log.sock");
        let devlog = folder.join("devlog.sock");
        until_true("rsyslogd has its sockets", || socket.exists() && devlog.exists());
        Rsyslog { _process: process, received: folder.join("received"), tcp_port, udp_port, socket, devlog }
    }

    /// Messages of a facility that are about event `event`, as fields.
    pub fn messages(&self, facility: &str, event: &str) -> Vec<Vec<String>> {
        let text = fs::read_to_string(&self.received).unwrap_or_default();
        text.lines()
            .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
            .filter(|fields| fields.len() == 8 && fields[0] == facility && fields[4] == event)
            .collect()
    }
}
