//! The `syslog` source, sent to by the daemons that people have, with the configurations of docs/syslog.md: rsyslog and syslog-ng; over
//! TLS by openssl, with certificates that are right and wrong; and killed in the middle of a stream.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    authority::Authority,
    harness::*,
    syslog_in::{AS_JSON, BOTH, listening, summaries, told, until_told},
};

/// Where `tests/run` unpacks Debian's syslog-ng: installed, it would take rsyslog away.
const SYSLOG_NG: &str = "/opt/syslog-ng/usr";

/// A block of the page with its host, ports and files as they are here.
fn documented(name: &str, to: SocketAddr, site: &Site) -> String {
    let page = include_str!("../../docs/syslog.md");
    let (_, block) = page.split_once(&format!("```{name}\n")).unwrap_or_else(|| panic!("no block {name}"));
    let (block, _) = block.split_once("```").expect("it ends");
    let port = to.port().to_string();
    block
        .replace("ams2.example.com", "localhost")
        .replace("\"5514\"", &format!("\"{port}\""))
        .replace("\"6514\"", &format!("\"{port}\""))
        .replace("port(5514)", &format!("port({port})"))
        .replace("port(6514)", &format!("port({port})"))
        .replace("/etc/ams2", &site.path().display().to_string())
}

/// A daemon that sends on what is written to its socket; ended when dropped.
struct Daemon {
    _process: Ward,
    socket: PathBuf,
}

impl Daemon {
    fn start(mut command: Command, folder: &Path) -> Daemon {
        let said = fs::File::options().create(true).append(true).open(folder.join("said")).expect("a file");
        let errors = said.try_clone().expect("a file");
        command.stdin(Stdio::null()).stdout(said).stderr(errors);
        let process = Ward(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let socket = folder.join("in.sock");
        until_true("the daemon has its socket", || socket.exists());
        Daemon { _process: process, socket }
    }

    /// rsyslog with this action.
    fn rsyslog(site: &Site, action: &str) -> Daemon {
        let folder = site.path().join("rsyslog-out");
        fs::create_dir_all(&folder).expect("made");
        let dir = folder.display();
        let config = format!(
            "global(workDirectory=\"{dir}\")
module(load=\"imuxsock\" SysSock.Use=\"off\")
input(type=\"imuxsock\" Socket=\"{dir}/in.sock\" RateLimit.Interval=\"0\")
{action}"
        );
        fs::write(folder.join("rsyslog.conf"), config).expect("written");
        let mut command = Command::new("rsyslogd");
        clean(&mut command);
        command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("pid"));
        Daemon::start(command, &folder)
    }

    /// syslog-ng with this destination.
    fn syslog_ng(site: &Site, destination: &str) -> Daemon {
        let folder = site.path().join("syslog-ng-out");
        fs::create_dir_all(&folder).expect("made");
        let dir = folder.display();
        let config = format!(
            "@version: 3.38
options {{ time-reopen(1); }};
source s_src {{ unix-dgram(\"{dir}/in.sock\"); }};
{destination}
log {{ source(s_src); destination(d_ams2); }};
"
        );
        fs::write(folder.join("syslog-ng.conf"), config).expect("written");
        let mut command = Command::new(format!("{SYSLOG_NG}/sbin/syslog-ng"));
        clean(&mut command);
        let libraries = format!("{SYSLOG_NG}/lib/syslog-ng:{SYSLOG_NG}/lib/x86_64-linux-gnu");
        command.env("LD_LIBRARY_PATH", libraries).args(["--foreground", "--no-caps"]);
        command.arg(format!("--module-path={SYSLOG_NG}/lib/syslog-ng/3.38"));
        for (option, name) in [
            ("cfgfile", "syslog-ng.conf"),
            ("persist-file", "persist"),
            ("pidfile", "pid"),
            ("control", "ctl"),
        ] {
            command.arg(format!("--{option}={dir}/{name}"));
        }
        Daemon::start(command, &folder)
    }

    /// Programs of this machine say something.
    fn log(&self, tag: &str, texts: &[String]) {
        for text in texts {
            let mut command = Command::new("logger");
            clean(&mut command);
            command.args([
                "--socket-errors=on",
                "--id=17",
                "--priority",
                "local1.err",
                "--tag",
                tag,
                "--socket",
            ]);
            run(command.arg(&self.socket).arg(text)).ends(0);
        }
    }
}

fn texts(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{what} {n}")).collect()
}

#[test]
fn rsyslog_sends_on_over_tcp_as_documented_and_in_each_other_way() {
    let site = listening(BOTH);
    let server = site.start();
    let to = server.syslog("tcp");
    let whole = documented("rsyslog-tcp", to, &site);
    let counted = "TCP_Framing=\"octet-counted\" ";
    let template = "template=\"RSYSLOG_SyslogProtocol23Format\"";
    assert!(whole.contains(counted) && whole.contains(template), "{whole}");
    let actions = [
        whole.clone(),
        whole.replace(counted, ""),
        whole.replace(template, ""),
        whole.replace(counted, "").replace(template, ""),
    ];
    for (number, action) in actions.iter().enumerate() {
        let texts = texts(&format!("way {number}"), 5);
        let rsyslog = Daemon::rsyslog(&site, action);
        rsyslog.log("app", &texts);
        let told = until_told(&site, 5 * (number + 1));
        assert_eq!(summaries(&told[5 * number..]), texts);
        let labels = &told[5 * number]["labels"];
        assert_eq!(
            (&labels["event"], &labels["facility"], &labels["severity"]),
            (&"app".into(), &"local1".into(), &"minor".into())
        );
        assert!(told[5 * number]["annotations"]["raw"].is_null(), "{}", told[5 * number]);
        drop(rsyslog);
        fs::remove_dir_all(site.path().join("rsyslog-out")).expect("removed");
    }
}

#[test]
fn rsyslogs_queue_takes_over_while_we_are_away() {
    // The port must be the same after a restart.
    let port = closed_address().port();
    let site = listening(&format!("tcp: '127.0.0.1:{port}'"));
    let server = site.start();
    let action = documented("rsyslog-tcp", server.syslog("tcp"), &site);
    // It looks every 30 s unless told otherwise.
    let retry = "action.resumeRetryCount=\"-1\"";
    let action = action.replace(retry, &format!("{retry} action.resumeInterval=\"1\""));
    let rsyslog = Daemon::rsyslog(&site, &action);
    rsyslog.log("app", &texts("before", 3));
    until_told(&site, 3);
    assert!(server.terminate().success());
    rsyslog.log("app", &texts("away", 20));
    let _server = site.start();
    until_true("what it kept arrives", || {
        let told = told(&site);
        let told = summaries(&told);
        texts("away", 20).iter().all(|text| told.contains(&text.as_str()))
    });
}

#[test]
fn syslog_ng_sends_on_over_tcp_and_tls_as_documented() {
    let site = listening(BOTH);
    let mut server = site.start();
    for (number, name) in ["syslog-ng-tcp", "syslog-ng-tls"].iter().enumerate() {
        if number > 0 {
            assert!(server.terminate().success());
            certificates(&site);
            site.configure(&format!("originator: {{syslog: {{{}}}}}{AS_JSON}", with_tls("")));
            server = site.start();
        }
        let to = server.syslog(if number > 0 { "tls" } else { "tcp" });
        let texts = texts(name, 5);
        let syslog_ng = Daemon::syslog_ng(&site, &documented(name, to, &site));
        syslog_ng.log("app", &texts);
        let told = until_told(&site, 5 * (number + 1));
        assert_eq!(summaries(&told[5 * number..]), texts);
        assert_eq!(told[5 * number]["labels"]["event"], "app");
        drop(syslog_ng);
        fs::remove_dir_all(site.path().join("syslog-ng-out")).expect("removed");
    }
}

/// A server's certificate, a client's, and who signed them: `ca.pem`.
fn certificates(site: &Site) -> Authority<'_> {
    let authority = Authority::new(site, "ca");
    authority.sign("server", &["localhost"]);
    authority.sign("client", &["gw.example.com"]);
    authority
}

fn with_tls(more: &str) -> String {
    format!(
        "tls: {{listen: '127.0.0.1:0', cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem{more}}}"
    )
}

#[test]
fn rsyslog_sends_on_over_tls_as_documented_and_without_a_certificate_nothing_arrives() {
    let site = listening(&with_tls(""));
    certificates(&site);
    let server = site.start();
    let action = documented("rsyslog-tls", server.syslog("tls"), &site);
    let rsyslog = Daemon::rsyslog(&site, &action);
    rsyslog.log("app", &texts("known", 5));
    let told = until_told(&site, 5);
    assert_eq!(summaries(&told), texts("known", 5));
    let labels = &told[0]["labels"];
    assert_eq!((&labels["authenticated"], &labels["event"]), (&"true".into(), &"app".into()), "{labels}");
    drop(rsyslog);
    let own = |name: &str| format!("StreamDriver.{name}=\"{}/client.", site.path().display());
    let action: Vec<&str> = action
        .split(' ')
        .filter(|word| !word.starts_with(&own("CertFile")) && !word.starts_with(&own("KeyFile")))
        .collect();
    fs::remove_dir_all(site.path().join("rsyslog-out")).expect("removed");
    let rsyslog = Daemon::rsyslog(&site, &action.join(" "));
    rsyslog.log("app", &texts("unknown", 1));
    until_true("it is refused", || {
        server.metric("ams2_syslog_refused_total{reason=\"certificate\"}") >= Some(1)
    });
    until_true("it is raised", || site.events().contains("no certificate was shown (syslog over tls)"));
    assert_eq!(super::syslog_in::told(&site).len(), 5);
}

/// One message by openssl.
fn by_openssl(site: &Site, to: SocketAddr, text: &str, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    clean(&mut command);
    command.current_dir(site.path()).args([
        "s_client",
        "-quiet",
        "-no_ign_eof",
        "-CAfile",
        "ca.pem",
        "-connect",
    ]);
    // How it ends says nothing: with TLS 1.3 a client is refused after its part is done.
    run_with_input(
        command.arg(format!("localhost:{}", to.port())).args(arguments),
        format!("{text}\n").as_bytes(),
    );
}

/// Row 65 and 66 of the bad inputs.
#[test]
fn a_certificate_that_is_wrong_is_refused_and_the_log_says_why() {
    let site = listening(&with_tls(", client_crl_file: crl.pem"));
    let authority = certificates(&site);
    const REVOKED: u64 = 0x1122_3344_5566_7788;
    authority.sign_with("expired", &["a.example.com"], |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1)
    });
    authority.sign_with("early", &["a.example.com"], |params| {
        params.not_before = rcgen::date_time_ymd(2990, 1, 1)
    });
    authority.sign_with("revoked", &["a.example.com"], |params| {
        params.serial_number = Some(rcgen::SerialNumber::from(REVOKED));
    });
    authority.sign("nameless", &[]);
    Authority::none(&site, "selfmade", &["a.example.com"]);
    Authority::new(&site, "other").sign("foreign", &["a.example.com"]);
    authority.revoke("crl.pem", &[REVOKED]);
    let chain = fs::read_to_string(site.path().join("ca.pem")).expect("readable");
    site.secret("long.pem", &chain.repeat((1 << 20) / chain.len() * 4 / 3 + 1));
    let server = site.start();
    let to = server.syslog("tls");
    let refused = |reason: &str| {
        let sample = format!("ams2_syslog_refused_total{{reason=\"{reason}\"}}");
        server.metric(&sample).unwrap_or_default()
    };
    let with = |name: &str| [format!("-cert={name}.pem"), format!("-key={name}.key")];
    for (number, (name, why)) in [
        ("expired", "it has expired"),
        ("early", "it is not valid yet"),
        ("revoked", "it was revoked"),
        ("nameless", "it has no name, and a common name is none"),
        ("selfmade", "none of the authorities signed it"),
        ("foreign", "none of the authorities signed it"),
        ("", "no certificate was shown"),
    ]
    .iter()
    .enumerate()
    {
        let [cert, key] = with(name);
        let (cert, key) = (cert.split_once('=').expect("two").1, key.split_once('=').expect("two").1);
        let arguments = if name.is_empty() { vec![] } else { vec!["-cert", cert, "-key", key] };
        by_openssl(&site, to, "<13>must not arrive", &arguments);
        until_true(&format!("{name} is refused"), || refused("certificate") == number as u64 + 1);
        // The log says one of each address in ten seconds; the others are counted there.
        if number == 0 {
            until_true("it is said", || {
                site.log().contains(&format!("the certificate of `{name}` (sha256:"))
                    && site.log().contains(why)
            });
        }
    }
    let good = ["-cert", "client.pem", "-key", "client.key"];
    by_openssl(
        &site,
        to,
        "<13>must not arrive",
        &[&good[..], &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]].concat(),
    );
    until_true("TLS 1.1 is refused", || refused("handshake") >= 1);
    let before = refused("handshake");
    by_openssl(&site, to, "<13>must not arrive", &[&good[..], &["-cert_chain", "long.pem"]].concat());
    until_true("a chain of 1 MiB is refused", || refused("handshake") + refused("reset") > before);
    let mut plain = TcpStream::connect(to).expect("it listens");
    plain.write_all(b"<13>must not arrive\n").expect("sent");
    until_true("plain syslog is refused", || refused("protocol") == 1);
    assert!(site.log().contains("this port speaks TLS, and the peer plain syslog"), "{}", site.log());
    for version in ["-tls1_2", "-tls1_3"] {
        by_openssl(&site, to, &format!("<13>{version}"), &[&good[..], &[version]].concat());
    }
    let told = until_told(&site, 2);
    assert_eq!(summaries(&told), ["-tls1_2", "-tls1_3"]);
}

#[test]
fn each_wrong_certificate_has_words_of_its_own() {
    // One start each, since what is said is bounded.
    for (name, why) in [
        ("early", "it is not valid yet"),
        ("nameless", "it has no name, and a common name is none"),
        ("foreign", "none of the authorities signed it"),
    ] {
        let site = listening(&with_tls(""));
        let authority = certificates(&site);
        match name {
            "early" => drop(authority.sign_with(name, &["a.example.com"], |params| {
                params.not_before = rcgen::date_time_ymd(2990, 1, 1)
            })),
            "nameless" => drop(authority.sign(name, &[])),
            _ => drop(Authority::new(&site, "other").sign(name, &["a.example.com"])),
        }
        let server = site.start();
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        by_openssl(&site, server.syslog("tls"), "<13>must not arrive", &["-cert", &cert, "-key", &key]);
        until_true("it is said", || {
            site.log().contains(&format!("the certificate of `{name}` (sha256:")) && site.log().contains(why)
        });
        until_true("it is raised", || site.events().contains("Access Denied"));
    }
}

#[test]
fn a_certificate_says_which_client_it_is() {
    let site = listening("tcp: '127.0.0.1:0'");
    let _authority = certificates(&site);
    let own = Authority::none(&site, "printer", &["gw.example.com"]);
    let fingerprint: String =
        <sha2::Sha256 as sha2::Digest>::digest(own.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    site.configure(&format!(
        "originator:
  syslog:
    {}
    clients:
      - {{name: gateway, certificates: [GW.example.com], allow: ['facility = \"local1\"']}}
      - {{name: printer, certificates: ['sha256:{fingerprint}'], allow: ['facility = \"local2\"']}}
{AS_JSON}",
        with_tls("")
    ));
    let server = site.start();
    let to = server.syslog("tls");
    for (name, priority, text) in
        [("client", 136, "gateway"), ("printer", 144, "printer"), ("printer", 136, "not of it")]
    {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        by_openssl(&site, to, &format!("<{priority}>{text}"), &["-cert", &cert, "-key", &key]);
    }
    until_true("the last is denied", || {
        server.metric("ams2_syslog_dropped_total{reason=\"denied\"}") == Some(1)
    });
    let told = until_told(&site, 2);
    assert_eq!(summaries(&told), ["gateway", "printer"]);
    until_true("it is raised", || {
        site.events().contains("the client `printer` may only send alerts with facility")
    });
}

/// The numbers of a round's messages that are told.
fn numbers(site: &Site, round: usize) -> std::collections::BTreeSet<usize> {
    let (events, start) = (site.events(), format!("summary=\"r{round}m"));
    let numbers = events.split(&start).skip(1).filter_map(|rest| rest.split('x').next()?.parse().ok());
    numbers.collect()
}

/// Whatever moment a kill comes at, what the router had was on the disk: it is told, with nothing missing before it.
#[test]
fn a_kill_in_the_middle_of_a_stream_loses_nothing_that_was_journaled() {
    const KILLS: usize = 12;
    let port = closed_address().port();
    let site = Site::new(&format!("originator: {{syslog: {{tcp: '127.0.0.1:{port}'}}}}{SMALL_SEGMENTS}"));
    let mut dice = Dice::new("a_kill_in_the_middle_of_a_stream");
    let mut journaled = 0;
    for round in 0..=KILLS {
        let server = site.start();
        if round > 0 {
            until_true("what was journaled is told", || {
                let told = numbers(&site, round - 1);
                (0..journaled).rev().all(|n| told.contains(&n))
            });
            server.until_quiet();
            let told = numbers(&site, round - 1);
            assert_eq!(told.last().map(|last| last + 1), Some(told.len()), "there is a gap");
        }
        if round == KILLS {
            break;
        }
        let mut stream = TcpStream::connect(server.syslog("tcp")).expect("it listens");
        let sender = std::thread::spawn(move || {
            for n in 0..1_000_000 {
                if stream
                    .write_all(format!("<13>app: r{round}m{n}x {}\n", "p".repeat(n % 400)).as_bytes())
                    .is_err()
                {
                    return;
                }
            }
        });
        let least = 1 + dice.below(2000);
        let before = server.metric("ams2_alerts_arrived_total").unwrap_or(0);
        let mut seen = 0;
        until_true("some are journaled", || {
            seen = server.metric("ams2_alerts_arrived_total").unwrap_or(0).saturating_sub(before);
            seen >= least
        });
        // Own alerts of the start arrive meanwhile.
        journaled = seen.saturating_sub(10) as usize;
        server.kill();
        sender.join().expect("no panic");
    }
}

#[test]
fn the_example_takes_syslog_from_here_and_by_certificate() {
    let site = super::examples::example("syslog.yaml");
    let text = fs::read_to_string(site.config()).expect("readable");
    site.configure(&text.replace("127.0.0.1:5514", "127.0.0.1:0").replace("0.0.0.0:6514", "127.0.0.1:0"));
    fs::create_dir(site.path().join("secrets")).expect("made");
    let authority = certificates(&site);
    authority.sign("switch", &["sw1.example.com"]);
    for (from, to) in [("server.pem", "cert.pem"), ("server.key", "key.pem"), ("ca.pem", "clients-ca.pem")] {
        fs::copy(site.path().join(from), site.path().join("secrets").join(to)).expect("copied");
    }
    let server = site.start();
    let mut stream = TcpStream::connect(server.syslog("tcp")).expect("it listens");
    stream.write_all(b"<10>app: from here\n<14>app: of no weight\n").expect("sent");
    for (name, text) in [
        ("client", "<10>app: the gateway"),
        ("switch", "<186>app: a switch"),
        ("switch", "<10>app: not of it"),
    ] {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        by_openssl(&site, server.syslog("tls"), text, &["-cert", &cert, "-key", &key]);
    }
    until_true("the last is denied", || {
        server.metric("ams2_syslog_dropped_total{reason=\"denied\"}") == Some(1)
    });
    until_true("all of it is in the file, and what is bad at the desk", || {
        let (all, desk) = (site.read("messages.log"), site.read("desk.log"));
        let all_of =
            |log: &str, texts: &[&str]| texts.iter().all(|text| log.contains(&format!("\"{text}\"")));
        all_of(&all, &["from here", "of no weight", "the gateway", "a switch"])
            && all_of(&desk, &["from here", "the gateway", "a switch"])
    });
    assert!(
        !site.read("desk.log").contains("of no weight") && !site.read("messages.log").contains("not of it")
    );
}
