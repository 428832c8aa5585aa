//! A disk that is full: clients are refused and told when to come again, deliveries and their receipts go on, and it
//! mends itself when there is room.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::harness::*;

/// A server whose data folder is a small disk of its own: a tmpfs that only it sees.
fn start_on_small_disk(site: &Site, mebibytes: u32) -> Server {
    std::fs::create_dir_all(site.data()).expect("made");
    let mut command = Command::new("unshare");
    clean(&mut command);
    let script = "mount -t tmpfs -o size=\"$1\",mode=700 tmpfs \"$2\" && shift 2 && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh", &format!("{mebibytes}m")]).arg(site.data()).arg(AMS2);
    command.args(site.arguments());
    site.start_as(command)
}

/// The server's data folder, seen from here.
fn inside(server: &Server, site: &Site) -> PathBuf {
    let data = site.data();
    PathBuf::from(format!("/proc/{}/root", server.pid())).join(data.strip_prefix("/").expect("absolute"))
}

/// Fills the disk to its last byte.
fn fill(filler: &PathBuf) {
    let mut file = File::create(filler).expect("made");
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_clients_while_deliveries_go_on_and_mends_itself() {
    demand_root();
    // A syslog server that can be reached later.
    let address = closed_address();
    let site = Site::new(&format!(
        "
journal: {{dir: unused, segment_bytes: 1MiB, free_bytes_min: 4MiB}}
receivers:
  - name: log
    actions:
      - event_log: {{to: file, path: events.log}}
      - event_log: {{name: far, to: syslog, address: 'tcp://{address}'}}
route: {{receiver: log, notify: each}}
"
    ));
    let server = start_on_small_disk(&site, 24);
    assert!(site.log().contains("the data folder is in memory"), "{}", site.log());
    let folder = inside(&server, &site);
    let events = || std::fs::read_to_string(folder.join("events.log")).unwrap_or_default();
    for n in 0..20 {
        server.post(&alert("Before", &format!("before-{n}"))).is(200);
    }
    until_true("the log is told", || has(&events(), "before-19"));
    let far = "ams2_action_pending{action=\"log/event_log/far\"}";
    until_true("what is for the far end waits", || server.metric(far) >= Some(20));

    let filler = folder.join("filler");
    fill(&filler);
    until_true("it is not ready", || server.get("/-/ready").status == 503);
    let refused = server.post(&alert("Full", "no")).problem(503);
    assert!(
        refused.header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).is_some_and(|wait| wait > 0)
    );
    assert!(refused.text().contains("the disk is nearly full"), "{}", refused.text());
    until_true("the log says so, too", || {
        site.log().contains("the disk is nearly full: clients are refused")
    });
    assert_eq!(server.metric("ams2_ready"), Some(0));
    server.get("/-/healthy").is(200);
    // Deliveries go out meanwhile, and their outcomes are kept.
    let heard = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind(address).expect("the port is still free");
    let count = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut text = Vec::new();
            drop(stream.and_then(|mut stream| stream.read_to_end(&mut text)));
            let text = String::from_utf8_lossy(&text).into_owned();
            count.fetch_add(text.matches("- Before [").count(), Ordering::Relaxed);
        }
    });
    until_true("all is delivered on a full disk", || server.metric(far) == Some(0));
    // We close before we count.
    until_true("all was heard", || heard.load(Ordering::Relaxed) >= 20);
    let done = server.metric("ams2_deliveries_done_total").expect("a count");
    server.post(&alert("Full", "no")).problem(503);

    std::fs::remove_file(filler).expect("removed");
    until_true("it is ready again, by itself", || server.get("/-/ready").status == 200);
    server.post(&alert("After", "after")).is(200);
    until_true("the log is told", || has(&events(), "after"));
    assert!(!has(&events(), "no"), "what was refused is not told");
    until_true("receipts are counted", || server.metric("ams2_deliveries_done_total") > Some(done));
    until_true("nothing waits", || server.metric(far) == Some(0));
    until_true("the log says so", || site.log().contains("the disk has room again"));
    assert!(server.terminate().success());
}

#[test]
fn a_disk_that_fills_up_under_load_loses_nothing_that_was_answered() {
    demand_root();
    let site = Site::new(
        "
journal: {dir: unused, segment_bytes: 1MiB, free_bytes_min: 1MiB}
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
",
    );
    let server = start_on_small_disk(&site, 12);
    let folder = inside(&server, &site);
    let mut answered = Vec::new();
    let mut connection = server.connect();
    let mut refused = 0;
    // Each takes 30 KiB of the journal and a line: some hundreds fill the disk.
    for n in 0.. {
        let id = format!("fill-{n}");
        let labels = serde_json::json!({ "event": "Fill", "n": id });
        let body =
            serde_json::json!({ "labels": labels, "annotations": { "x": id.repeat(4_000) } }).to_string();
        let answer = connection.call("POST", "/api/v1/alerts", &[], body.as_bytes()).expect("an answer");
        match answer.status {
            200 => answered.push(id),
            _ => {
                drop(answer.problem(503));
                refused += 1;
            }
        }
        if refused == 20 {
            break;
        }
        assert!(n < 10_000, "the disk does not fill up");
    }
    assert!(answered.len() > 50, "{}", answered.len());
    server.get("/-/ready").is(503);
    let told = || std::fs::read_to_string(folder.join("events.log")).unwrap_or_default();
    until_true("all that was answered is told", || {
        let told = told();
        answered.iter().all(|id| has(&told, id))
    });
    assert!(server.terminate().success(), "{}", site.log());
}

/// A small disk at a site's data folder that outlives its servers, in a name space of its own.
struct SmallDisk {
    holder: std::process::Child,
}

impl SmallDisk {
    fn new(site: &Site, mebibytes: u32) -> SmallDisk {
        std::fs::create_dir_all(site.data()).expect("made");
        let mut command = Command::new("unshare");
        clean(&mut command);
        let script = "mount -t tmpfs -o size=\"$1\",mode=700 tmpfs \"$2\" && echo mounted && exec cat";
        command.args(["--mount", "sh", "-c", script, "sh", &format!("{mebibytes}m")]).arg(site.data());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare runs");
        let mut said = [0; 8];
        holder.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it is mounted");
        SmallDisk { holder }
    }

    /// The server's command line, to be run where the disk is seen.
    fn serve(&self, site: &Site) -> Command {
        let mut command = Command::new("nsenter");
        clean(&mut command);
        command.args(["--mount", "--target", &self.holder.id().to_string(), "--"]).arg(AMS2);
        command.args(site.arguments());
        command
    }

    fn folder(&self, site: &Site) -> PathBuf {
        let data = site.data();
        PathBuf::from(format!("/proc/{}/root", self.holder.id()))
            .join(data.strip_prefix("/").expect("absolute"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

#[test]
fn a_start_on_a_full_disk_delivers_what_was_accepted_and_refuses_clients_until_there_is_room() {
    demand_root();
    let address = closed_address();
    let site = Site::new(&format!(
        "
journal: {{dir: unused, segment_bytes: 1MiB, free_bytes_min: 1MiB}}
receivers: [{{name: log, actions: [{{event_log: {{to: syslog, address: 'tcp://{address}'}}}}]}}]
route: {{receiver: log, notify: each}}
"
    ));
    let disk = SmallDisk::new(&site, 12);
    let folder = disk.folder(&site);
    let server = site.start_as(disk.serve(&site));
    for n in 0..20 {
        server.post(&alert("Before", &format!("before-{n}"))).is(200);
    }
    server.kill();
    // No spare segment is left, and nobody can make one.
    for entry in std::fs::read_dir(&folder).expect("readable").filter_map(Result::ok) {
        if entry.path().extension().is_some_and(|extension| extension == "free") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    let filler = folder.join("filler");
    fill(&filler);
    for life in 0..3 {
        let server = site.start_as(disk.serve(&site));
        until_true("it is not ready", || server.get("/-/ready").status == 503);
        server.post(&alert("Full", &format!("no-{life}"))).problem(503);
        server.kill();
    }

    let listener = TcpListener::bind(address).expect("the port is still free");
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // What came before the end counts, however it ended.
                drop(stream.read_to_end(&mut text));
                drop(sender.send(String::from_utf8_lossy(&text).into_owned()));
            });
        }
    });
    let server = site.start_as(disk.serve(&site));
    let far = "ams2_action_pending{action=\"log/event_log/0\"}";
    until_true("all is delivered and its outcomes are kept", || server.metric(far) == Some(0));
    let done = server.metric("ams2_deliveries_done_total").expect("a count");
    assert!(done >= 20, "{done}");
    server.post(&alert("Full", "no")).problem(503);
    std::fs::remove_file(filler).expect("removed");
    until_true("it is ready by itself", || server.get("/-/ready").status == 200);
    server.post(&alert("After", "after")).is(200);
    until_true("nothing waits", || server.metric(far) == Some(0));
    assert!(server.terminate().success(), "{}", site.log());
    let mut told = String::new();
    until_true("all was heard", || {
        told.extend(heard.try_iter());
        (0..20).all(|n| told.contains(&format!("before-{n}"))) && told.contains("after")
    });
    assert!(!told.contains("no-"));
}

#[test]
fn a_full_disk_lets_go_of_what_nobody_needs_and_goes_on() {
    demand_root();
    // By its age nothing would go for three months.
    let site = Site::new(
        "
journal: {dir: unused, segment_bytes: 1MiB, free_bytes_min: 2MiB}
receivers: [{name: log, actions: []}]
route: {receiver: log}
",
    );
    let server = start_on_small_disk(&site, 16);
    for n in 0..700 {
        // One alert that says something else each time: only what it says last is needed.
        let text = format!("{n} ").repeat(50_000 / (1 + n.to_string().len()));
        let body = format!(r#"{{"labels":{{"event":"Same"}},"annotations":{{"text":"{text}"}}}}"#);
        until_true("it is taken", || server.call("POST", "/api/v1/alerts", &body).status == 200);
    }
    let log = site.log();
    assert!(log.contains("retention_bytes is more than the disk has room for"), "{log}");
    assert!(log.contains("records that nobody needs any more go before their time"), "{log}");
    assert!(server.terminate().success(), "{log}");
}

#[test]
fn a_start_without_a_byte_of_room_says_how_much_it_takes() {
    demand_root();
    let site = Site::new(EACH);
    let disk = SmallDisk::new(&site, 12);
    let filler = disk.folder(&site).join("filler");
    fill(&filler);
    let status = site.spawn(disk.serve(&site)).try_ready().err().expect("no room for a first segment");
    assert_eq!(status.code(), Some(6), "{}", site.log());
    assert!(
        site.log().contains("the journal has no room: a new segment takes 67108864 bytes"),
        "{}",
        site.log()
    );
    assert!(site.log().contains("make room"), "{}", site.log());
}

#[test]
fn a_limit_of_file_sizes_is_no_room_and_does_not_kill() {
    let site = Site::new(EACH);
    let mut command = Command::new("prlimit");
    clean(&mut command);
    command.arg("--fsize=1000000").arg(AMS2).args(site.arguments());
    let status = site.spawn(command).try_ready().err().expect("no segment fits");
    assert_eq!(status.code(), Some(6), "{status}\n{}", site.log());
    assert!(site.log().contains("the journal has no room"), "{}", site.log());
}

#[test]
fn a_spool_on_a_full_disk_leaves_no_half_of_an_alert() {
    demand_root();
    let site = Site::new("");
    let spool = site.path().join("spool");
    std::fs::create_dir(&spool).expect("made");
    let script = "mount -t tmpfs -o size=16k,mode=700 tmpfs \"$1\" && \"$2\" send Full --to http://127.0.0.1:1 \
                  --spool \"$1\" -a \"text=$3\"; echo \"ended with $?\"; ls \"$1\"";
    let mut command = Command::new("unshare");
    clean(&mut command);
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&spool).args([AMS2, &"x".repeat(20_000)]);
    let ran = run(&mut command).ends(0).says("cannot be kept");
    assert_eq!(ran.stdout, "ended with 3\n");
}
