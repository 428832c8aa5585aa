//! Traps of SNMP v2c at a steady rate beside net-snmp's snmptrapd: how many the system dropped because they were not read in time, and
//! what each took of the processor. Ours are in the journal, synced and decided; snmptrapd's are lines in a file.

use std::{
    net::UdpSocket,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    parts::{Ams2, Process, Running, cpu_seconds, free_port, until},
    row,
};

/// Traps a second.
const RATE: u64 = 20_000;
/// How long they come: short, and with `--long`.
const TIME: Duration = Duration::from_secs(10);
const TIME_LONG: Duration = Duration::from_secs(60);
/// Devices in the traps.
const DEVICES: u64 = 150;
/// A little more often than a sender's system wakes it.
const PIECE: Duration = Duration::from_micros(2500);

pub fn snmp() {
    let is_long = std::env::args().any(|argument| argument == "--long");
    let time = if is_long { TIME_LONG } else { TIME };
    let (ours, theirs) = (of_ams2(time, 10), of_snmptrapd(time));
    let shown = |of: &Taken| {
        format!("{} of {} dropped, {:.1} µs of processor time each", of.dropped, of.sent, of.micros)
    };
    row(
        &format!("SNMP v2c traps, {RATE}/s for {} s", time.as_secs()),
        shown(&ours),
        &format!("snmptrapd: {}", shown(&theirs)),
        format!("{:.2}", ours.micros / theirs.micros),
        "0 dropped, at most 0.2",
    );
    let many = of_ams2(TIME, 10_000);
    row("the same with 10,000 rules", shown(&many), "", String::new(), "as with 10");
}

/// What became of a round.
struct Taken {
    sent: u64,
    dropped: u64,
    /// Processor time for each that was taken.
    micros: f64,
}

/// What a switch says of a port: another device, port and text each time, 176 bytes or so.
fn trap(number: u64) -> Vec<u8> {
    let tlv = |tag: u8, content: &[u8]| match u8::try_from(content.len()) {
        Ok(length @ 0..=127) => [&[tag, length], content].concat(),
        _ => [&[tag, 0x82], &(content.len() as u16).to_be_bytes()[..], content].concat(),
    };
    let varbind = |oid: &[u8], value: &[u8]| tlv(0x30, &[tlv(6, oid), value.to_vec()].concat());
    let (device, port) = (number % DEVICES, (number % 48) as u8 + 1);
    let interface = |column: u8| [0x2b, 6, 1, 2, 1, 2, 2, 1, column, port];
    let list = [
        varbind(&[0x2b, 6, 1, 2, 1, 1, 3, 0], &tlv(0x43, &(number as u32 & 0x7fff_ffff).to_be_bytes())),
        // 1.3.6.1.4.1.32473.7.0.1
        varbind(&[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0], &tlv(6, &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 7, 0, 1])),
        varbind(&interface(1), &tlv(2, &[port])),
        varbind(&interface(2), &tlv(4, format!("GigabitEthernet1/0/{port}").as_bytes())),
        varbind(&interface(8), &tlv(2, &[2])),
        varbind(&[0x2b, 6, 1, 2, 1, 1, 5, 0], &tlv(4, format!("sw-{device:03}.example.com").as_bytes())),
    ];
    let zero = tlv(2, &[0]);
    let request = tlv(2, &(number as u32 & 0x7fff_ffff).to_be_bytes());
    let pdu = tlv(0xa7, &[request, zero.clone(), zero, tlv(0x30, &list.concat())].concat());
    tlv(0x30, &[tlv(2, &[1]), tlv(4, b"example"), pdu].concat())
}

/// Sends at the rate, and answers how many.
fn send(port: u16, time: Duration) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(("127.0.0.1", port)).expect("connected");
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as u64;
        while sent < due {
            // A socket that is full at the far end is no mistake here.
            let _ = socket.send(&trap(sent));
            sent += 1;
        }
        std::thread::sleep(PIECE);
    }
    sent
}

/// With so many rules, of which the last takes them.
fn of_ams2(time: Duration, rules: usize) -> Taken {
    let port = free_port();
    let folder = tempfile::tempdir().expect("a folder");
    let community = folder.path().join("community");
    std::fs::write(&community, "example\n").expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&community, private).expect("set");
    let other = |n: usize| {
        format!("      - {{when: ['trap = 1.3.6.1.4.1.32473.9.0.{n}'], labels: {{event: Other}}}}\n")
    };
    let others: String = (1..rules).map(other).collect();
    let ams2 = Ams2::with(&format!(
        "originator:
  snmp:
    listen: '127.0.0.1:{port}'
    clients: [{{name: switches, community_file: '{}'}}]
    names: {{sysName: 1.3.6.1.2.1.1.5}}
    mapping:
{others}      - when: ['trap = 1.3.6.1.4.1.32473.7.0.1']
        labels: {{event: Port Down, computer: '{{{{ vb.sysName }}}}', port: '{{{{ vb.ifDescr }}}}'}}
        severity: major
        annotations: {{summary: 'status {{{{ vb.ifOperStatus }}}}'}}
receivers:
  - name: log
    actions:
      - event_log: {{to: file, path: events.log}}
route: {{receiver: log, group_by: [event], group_wait: 30s}}
",
        community.display()
    ));
    let count = |sample: &str| ams2.metric(sample).unwrap_or(0);
    let cpu = ams2.cpu_seconds();
    let sent = send(port, time);
    let dropped = || count("ams2_snmp_udp_drops_total ");
    let taken = || count("ams2_alerts_arrived_total ");
    until("all are decided", || {
        std::thread::sleep(Duration::from_millis(20));
        (taken() + dropped() >= sent).then_some(())
    });
    let (dropped, seconds) = (dropped(), ams2.cpu_seconds() - cpu);
    Taken { sent, dropped, micros: seconds / (sent - dropped) as f64 * 1e6 }
}

fn of_snmptrapd(time: Duration) -> Taken {
    let folder = tempfile::tempdir().expect("a folder");
    let (conf, log, port) = (folder.path().join("conf"), folder.path().join("log"), free_port());
    std::fs::write(&conf, "authCommunity log example\n").expect("written");
    let mut command = Command::new("snmptrapd");
    command.args(["-f", "-n", "-C", "-On", "-c"]).arg(&conf).arg("-Lf").arg(&log);
    command.arg(format!("udp:127.0.0.1:{port}")).env("MIBS", "").env("SNMP_PERSISTENT_DIR", folder.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let snmptrapd = Process(child.expect("snmptrapd runs"));
    until("snmptrapd listens", || drops(port));
    let before = cpu_seconds(snmptrapd.0.id());
    let sent = send(port, time);
    let mut seen = 0.0;
    // It has read all when it does no more.
    until("snmptrapd is done", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = cpu_seconds(snmptrapd.0.id());
        let is_done = now <= seen;
        seen = now;
        is_done.then_some(())
    });
    let dropped = drops(port).expect("it listens");
    Taken { sent, dropped, micros: (cpu_seconds(snmptrapd.0.id()) - before) / (sent - dropped) as f64 * 1e6 }
}

/// What the system dropped of a port's datagrams (proc(5): the last field).
fn drops(port: u16) -> Option<u64> {
    let sockets = std::fs::read_to_string("/proc/net/udp").ok()?;
    let line = sockets.lines().find(|line| line.contains(&format!(" 0100007F:{port:04X} ")))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}
