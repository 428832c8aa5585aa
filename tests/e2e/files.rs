//! What can be wrong with files: the data folder, its journal, the socket, and configs as the program is given them.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::PathBuf,
};

use super::harness::*;

fn segments(site: &Site) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(site.data())
        .expect("a data folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect();
    found.sort();
    found
}

/// Small segments: what a test damages must be found in little time.
const SMALL: &str = "
journal: {dir: unused, segment_bytes: 1MiB, free_bytes_min: 1MiB}
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
";

/// An alert with so long a text of its own that some twenty of them fill a small segment.
fn large(number: u32) -> String {
    let text = format!("{number} ").repeat(50_000 / (1 + number.to_string().len()));
    format!(r#"{{"labels":{{"event":"Large","n":"large-{number}"}},"annotations":{{"text":"{text}"}}}}"#)
}

/// Names and sizes in the data folder, but for the file that says who uses it.
fn data_files(site: &Site) -> Vec<(String, u64)> {
    let entries = fs::read_dir(site.data()).expect("a data folder").map(|entry| entry.expect("an entry"));
    let files = entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, entry.metadata().expect("readable").len())
    });
    let mut files: Vec<_> = files.filter(|(name, _)| name != "lock").collect();
    files.sort();
    files
}

/// A site whose journal holds these alerts, each in a frame of its own, killed without a snapshot, its log gone.
fn killed_site(ids: &[&str]) -> Site {
    let site = Site::new(SMALL);
    let server = site.start();
    for id in ids {
        server.post(&alert("Kept", id)).is(200);
    }
    server.kill();
    site
}

fn place_of(path: &PathBuf, text: &str) -> u64 {
    let bytes = fs::read(path).expect("readable");
    let place = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    place.unwrap_or_else(|| panic!("{text} is not in {path:?}")) as u64
}

fn overwrite(path: &PathBuf, offset: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).expect("writable");
    file.write_all_at(bytes, offset).expect("written");
}

/// What is still known after the next start: alerts by their label `n`.
fn known(server: &Server) -> Vec<String> {
    let alerts = server.get("/api/v1/alerts").json();
    let names = alerts.as_array().expect("a list").iter();
    names.filter_map(|alert| alert["labels"]["n"].as_str().map(str::to_owned)).collect()
}

#[test]
fn two_servers_cannot_use_one_data_folder() {
    let site = Site::new(EACH);
    let first = site.start();
    let words = format!("is in use by process {}", first.pid());
    site.refused().ends(2).says(&words).says("name another with --data");
    first.post(&alert("Still", "here")).is(200);
    site.until_told(&["here"]);
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced_and_nothing_else_is() {
    let site = Site::new(EACH);
    site.start().kill();
    assert!(site.socket().exists(), "a killed server leaves its socket");
    let server = site.start();
    Connection::unix(&site.socket()).expect("it listens there again");
    assert!(server.terminate().success());
    assert!(!site.socket().exists(), "an orderly end takes the socket along");

    type Make = fn(&PathBuf);
    let rows: [(&str, Make); 3] = [
        ("is a file, not a socket", |path| fs::write(path, "mine").expect("written")),
        ("is a folder, not a socket", |path| fs::create_dir(path).expect("made")),
        ("is a symbolic link, not a socket", |path| symlink("/dev/null", path).expect("linked")),
    ];
    for (words, make) in rows {
        make(&site.socket());
        site.refused().ends(2).says(words).says("move it away or choose another path");
        assert!(fs::symlink_metadata(site.socket()).is_ok(), "what is not ours stays");
        drop(fs::remove_file(site.socket()).or_else(|_| fs::remove_dir(site.socket())));
    }
    let long = format!("{EACH}originator: {{socket: {{path: {}}}}}\n", "x".repeat(120));
    site.configure(&long);
    site.refused().ends(2).says("a socket's may have 107");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let site = Site::new(EACH);
    fs::write(site.data(), "a file").expect("written");
    site.refused().ends(2).says("the data folder").says("name another with --data");
    fs::remove_file(site.data()).expect("removed");
    symlink("/proc/nowhere", site.data()).expect("linked");
    site.refused().ends(2).says("the data folder");
    fs::remove_file(site.data()).expect("removed");
    let server = site.start();
    let mode = fs::metadata(site.data()).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else may look into it");
    drop(server);
}

/// What is written to a file without a name is gone at the end of the process: it must not be answered.
#[test]
fn a_data_folder_that_is_lost_while_it_runs_ends_the_process() {
    type Lose = fn(&Site);
    let rows: [(&str, Lose); 4] = [
        ("has been removed", |site| fs::remove_dir_all(site.data()).expect("removed")),
        ("has been removed", |site| fs::rename(site.data(), site.path().join("elsewhere")).expect("renamed")),
        ("has been removed", |site| fs::remove_file(segments(site).remove(0)).expect("removed")),
        ("is another file now", |site| {
            let segment = segments(site).remove(0);
            let copy = site.path().join("copy");
            fs::copy(&segment, &copy).expect("copied");
            fs::rename(copy, segment).expect("replaced");
        }),
    ];
    for (number, (words, lose)) in rows.into_iter().enumerate() {
        let site = Site::new(SMALL);
        let server = site.start();
        server.post(&alert("Before", "before")).is(200);
        site.until_told(&["before"]);
        lose(&site);
        // Until the next look it may be taken or refused; the event log must not make the folder anew meanwhile.
        drop(server.connect().call("POST", "/api/v1/alerts", &[], alert("After", "after").as_bytes()));
        let ended = server.wait();
        assert_eq!(ended.code(), Some(6), "{number}: {}", site.log());
        for words in [words, "nothing more is accepted"] {
            assert!(site.log().contains(words), "{number}: {words}: {}", site.log());
        }
        assert_eq!(site.data().exists(), number > 1, "{number}: it is not made anew");
    }
}

#[test]
fn a_file_with_the_highest_number_of_all_is_left_alone() {
    let site = killed_site(&["one"]);
    let strangers = ["ffffffffffffffff.seg", "fffffffffffffffe.seg", "18446744073709551615.free"];
    for name in strangers {
        fs::write(site.data().join(name), vec![0; 1 << 20]).expect("written");
    }
    let server = site.start();
    assert!(known(&server).contains(&"one".to_owned()));
    server.post(&alert("After", "after")).is(200);
    site.until_told(&["after"]);
    assert!(server.terminate().success(), "{}", site.log());
    for name in strangers {
        assert!(site.data().join(name).exists(), "{name}");
    }
    assert!(
        site.log().contains("ffffffffffffffff.seg: no segment of ours has so high a number"),
        "{}",
        site.log()
    );
    assert!(!site.log().contains("panicked"), "{}", site.log());
}

#[test]
fn a_segment_that_is_gone_is_said_as_an_error() {
    let site = killed_site(&["one"]);
    let server = site.start();
    let mut number = 0;
    until_true("another segment is begun", || {
        number += 1;
        server.post(&large(number)).is(200);
        segments(&site).len() > 1
    });
    server.kill();
    fs::remove_file(segments(&site).remove(0)).expect("removed");
    let server = site.start();
    let log = site.log();
    let said = log.lines().find(|line| line.contains("the records 1 to") && line.contains("are missing"));
    assert!(said.is_some_and(|line| line.contains("ERROR") || line.contains("\"error\"")), "{log}");
    assert!(server.terminate().success());
}

#[test]
fn a_listener_that_cannot_be_had_is_named() {
    let site = Site::new(EACH);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let mut command = ams2();
    command.args(["serve", "--listen", &address, "--data"]).arg(site.data());
    run(&mut command).ends(2).says(&format!("cannot listen on {address}")).says("name another with --listen");
    let mut command = ams2();
    command.args(["serve", "--listen", "192.0.2.1:0", "--data"]).arg(site.data());
    run(&mut command).ends(2).says("192.0.2.1:0");
    let mut command = ams2();
    command.args(["serve", "--listen", "somewhere", "--data"]).arg(site.data());
    run(&mut command).ends(2).says("`somewhere` is no address and port");
}

#[test]
fn a_flipped_bit_costs_its_own_frame_and_the_rest_is_read_behind_it() {
    let site = killed_site(&["one", "two", "three"]);
    let path = segments(&site).remove(0);
    let place = place_of(&path, "two");
    overwrite(&path, place, b"tw0");
    let server = site.start();
    let mut known = known(&server);
    known.sort();
    assert_eq!(known, ["one", "three"], "what is behind the damage is read");
    assert!(site.log().contains("do not check"), "{}", site.log());
    let set_aside = fs::read_dir(site.data()).expect("readable").filter_map(Result::ok);
    let damaged =
        set_aside.filter(|entry| entry.path().extension().is_some_and(|end| end == "damaged")).count();
    assert_eq!(damaged, 1, "what did not check is kept");
    server.post(&alert("Kept", "after")).is(200);
    site.until_told(&["after"]);
}

#[test]
fn a_journal_in_any_state_starts_and_takes_alerts() {
    type Harm = fn(&Site);
    let rows: [(&str, Harm); 8] = [
        ("the last segment is empty", |site| {
            let last = segments(site).pop().expect("one");
            fs::File::options().write(true).open(last).and_then(|file| file.set_len(0)).expect("cut");
        }),
        ("the last segment is cut in its header", |site| {
            let last = segments(site).pop().expect("one");
            fs::File::options().write(true).open(last).and_then(|file| file.set_len(30)).expect("cut");
        }),
        ("the first segment is gone", |site| fs::remove_file(segments(site).remove(0)).expect("removed")),
        ("a header is random", |site| overwrite(&segments(site).remove(0), 0, &[0x5a; 64])),
        ("a page in the middle is zero", |site| overwrite(&segments(site).remove(0), 4096, &[0; 4096])),
        ("a length is 0xFFFFFFFF", |site| {
            let path = segments(site).remove(0);
            let place = place_of(&path, "FRM1");
            overwrite(&path, place + 4, &[0xff; 4]);
        }),
        ("files of nobody's lie about", |site| {
            for name in ["notes.txt", "zzzz.seg", "7.free", "0000000000000009.snap", "core"] {
                fs::write(site.data().join(name), "what is this?").expect("written");
            }
        }),
        ("a snapshot is random", |site| {
            fs::write(site.data().join("00000000000000ff.snap"), [0xa5; 200]).expect("written");
        }),
    ];
    for (what, harm) in rows {
        let site = killed_site(&["one", "two"]);
        site.start().kill();
        harm(&site);
        let server = site.spawn(site.serve()).try_ready();
        let server = server.unwrap_or_else(|status| panic!("{what}: {status}\n{}", site.log()));
        server.post(&alert("Kept", "after")).is(200);
        site.until_told(&["after"]);
        assert!(server.terminate().success(), "{what}");
        assert!(!site.log().contains("panicked"), "{what}: {}", site.log());
        assert!(
            site.data().join("notes.txt").exists() || !what.starts_with("files"),
            "strangers' files stay"
        );
    }
}

#[test]
fn a_segment_of_a_newer_format_is_refused_with_the_way_back() {
    let site = killed_site(&["one"]);
    let path = segments(&site).remove(0);
    let mut header: [u8; 64] = fs::read(&path).expect("readable")[..64].try_into().expect("64 bytes");
    header[7] = b'2';
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    overwrite(&path, 0, &header);
    site.refused().ends(6).says("was written by ams2 0.1.0 in format 2").says("or a newer one");
}

#[test]
fn strange_config_files_are_named_and_harmless_ones_are_taken() {
    let site = Site::new(EACH);
    let refused = |text: &[u8], words: &str| {
        fs::write(site.config(), text).expect("written");
        site.refused().ends(2).says(words);
        run(ams2().arg("check").arg(site.config())).ends(2).says(words);
    };
    refused(b"", "the file holds no configuration");
    refused(b"\xef\xbb\xbf", "the file holds no configuration");
    refused(b"- a\n- b\n", "expected a map of settings, found a list");
    refused(format!("{EACH}---\n{EACH}").as_bytes(), "more than one document");
    refused(b"route:\n\treceiver: log\n", "a tab is used for indentation");
    refused(b"route: {receiver: l\xf6g}\n", "not UTF-8");
    refused(format!("{EACH}x: !!python/object:os.system y\n").as_bytes(), "unsupported tag");
    let bomb: String = (0..60_000).map(|n| format!("k{n}: &a{n} x\n")).collect();
    refused(bomb.as_bytes(), "too large or nested when its aliases are followed");
    fs::remove_file(site.config()).expect("removed");
    site.refused().ends(2).says("the file cannot be read").says("check the path");
    fs::create_dir(site.config()).expect("made");
    site.refused().ends(2).says("the file is a folder, not a file");
    fs::remove_dir(site.config()).expect("removed");

    for text in [
        format!("\u{feff}{EACH}"),
        EACH.replace('\n', "\r\n"),
        format!("---{EACH}"),
        format!("%YAML 1.2\n---{EACH}"),
    ] {
        site.configure(&text);
        run(ams2().arg("check").arg(site.config())).ends(0);
        assert!(site.start().terminate().success());
    }
}

/// A value of the environment is a value: were it read as a template, it could say what it was not given to say.
#[test]
fn the_environment_puts_no_template_into_a_setting() {
    let site = Site::new(EACH);
    let config = "
receivers: [{name: log, actions: [{event_log: {to: file, path: e.log, line: '${env:LINE_START} {{ alert.event }}'}}]}]
route: {receiver: log}
";
    site.configure(config);
    let check = |value: &str| run(ams2().env("LINE_START", value).arg("check").arg(site.config()));
    check("{{ alert.labels }}").ends(2).says("ams2.yaml:2:").says("would be read as a template");
    check("{ready}").ends(0);
}

#[test]
fn rot_that_is_met_while_it_runs_is_said_and_stops_no_snapshot() {
    let site = Site::new(SMALL);
    let server = site.start();
    server.post(&alert("Rotten", "rotten-since")).is(200);
    site.until_told(&["rotten-since"]);
    let segment = segments(&site).remove(0);
    overwrite(&segment, place_of(&segment, "rotten-since"), b"R");
    let mut number = 0;
    until_true("a snapshot is made", || {
        number += 1;
        server.post(&large(number)).is(200);
        data_files(&site).iter().any(|(name, _)| name.ends_with(".snap"))
    });
    assert!(site.log().contains("a snapshot of the live state covers that"), "{}", site.log());
    until_true("it is counted", || server.metric("ams2_journal_damaged") >= Some(1));
    until_true("it is an alert of its own", || site.events().contains("Journal Damaged"));
    server.kill();
    let server = site.start();
    assert!(known(&server).contains(&"rotten-since".to_owned()), "the state has it");
    assert!(server.terminate().success(), "{}", site.log());
}

#[test]
fn starts_that_are_refused_and_orderly_ones_use_up_no_segments() {
    let address = closed_address();
    let config = |action: &str| {
        format!(
            "{}receivers: [{{name: log, actions: [{{event_log: {action}}}]}}]\nroute: {{receiver: log, notify: each}}\n",
            "journal: {dir: unused, segment_bytes: 1MiB, free_bytes_min: 1MiB}\n"
        )
    };
    let far = config(&format!("{{name: far, to: syslog, address: 'tcp://{address}'}}"));
    let site = Site::new(&far);
    let server = site.start();
    server.post(&alert("Waits", "waits")).is(200);
    until_true("it waits", || server.metric("ams2_action_pending{action=\"log/event_log/far\"}") >= Some(1));
    server.kill();
    site.configure(&config("{to: file, path: events.log}"));
    let before = data_files(&site);
    for _ in 0..3 {
        site.refused().ends(2).says("deliveries that wait");
        assert_eq!(data_files(&site), before, "nothing was begun");
    }
    site.configure(&far);
    for _ in 0..5 {
        assert!(site.start().terminate().success(), "{}", site.log());
    }
    assert_eq!(segments(&site).len(), 1, "{:?}", data_files(&site));
}

#[test]
fn a_data_folder_of_others_is_refused_with_the_way_to_mend_it() {
    demand_root();
    let site = Site::new(EACH);
    assert!(site.start().terminate().success(), "{}", site.log());
    fs::set_permissions(site.data(), PermissionsExt::from_mode(0o770)).expect("ours");
    site.refused().ends(2).says("mode 0770").says("chmod go-w");
    fs::set_permissions(site.data(), PermissionsExt::from_mode(0o700)).expect("ours");
    std::os::unix::fs::chown(site.data(), Some(65_534), None).expect("root may");
    site.refused().ends(2).says("belongs to user 65534 (mode 0700)").says("chown -R 0 ");
}
