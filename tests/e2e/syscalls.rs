//! A kill, and an error, at each system call of a scripted run that changes a file (strace injects them): nothing that
//! was answered 2xx is missing afterwards, and no answer leaves before the sync that covers it.
//!
//! strace counts calls for each thread by itself. So there are two sweeps: one over the whole process from its start,
//! where the first thread that reaches a count is hit, and one attached to the journal's thread alone, which counts
//! exactly.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{BufRead, BufReader},
    ops::RangeInclusive,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::harness::*;

/// Calls that change files.
const CALLS: &str = "pwrite64,fdatasync,fsync,rename,renameat2,unlink,ftruncate,fallocate";
/// Points that are worked on side by side: most of the time a run waits for disk and timers.
const SIDE_BY_SIDE: usize = 6;
/// Requests of the script. Each has three alerts of 50 KiB: segments of 1 MiB change every seven.
const REQUESTS: usize = 16;

const CONFIG: &str = "
journal: {dir: unused, segment_bytes: 1MiB, retention_bytes: 2MiB, free_bytes_min: 1MiB}
receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
";

/// One request of the script; its occurrences are named in their summaries, its label sets come again and again.
fn request(run: &str, number: usize) -> (Vec<String>, String) {
    let ids: Vec<String> = (0..3).map(|part| format!("{run}-{number}-{part}")).collect();
    let alert = |(part, id): (usize, &String)| {
        serde_json::json!({
            "id": id,
            "labels": { "event": "Script", "part": part.to_string() },
            "annotations": { "summary": id, "padding": id.repeat(50_000 / id.len()) },
        })
    };
    let body = serde_json::Value::from(ids.iter().enumerate().map(alert).collect::<Vec<_>>()).to_string();
    (ids, body)
}

/// A data folder with some segments and two snapshots behind them, so that they may go, to start each point from.
fn prepared() -> Site {
    let site = Site::new(CONFIG);
    let server = site.start();
    for number in 0..REQUESTS {
        server.post(&request("before", number).1).is(200);
    }
    server.until_quiet();
    assert!(server.terminate().success());
    assert!(site.start().terminate().success());
    site
}

fn copy_of(prepared: &Site) -> Site {
    let site = Site::new(CONFIG);
    fs::create_dir(site.data()).expect("made");
    for entry in fs::read_dir(prepared.data()).expect("readable") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), site.data().join(entry.file_name())).expect("copied");
        }
    }
    site
}

/// The script on a running server: requests until old segments have gone, then an orderly end; or until it is dead.
/// Gives the ids of what was answered 2xx, and how it ended.
fn script(site: &Site, mut server: Server) -> (Vec<String>, std::process::ExitStatus) {
    let mut answered = Vec::new();
    let oldest = site.data().join("0000000000000001.seg");
    for number in 0..REQUESTS {
        let (ids, body) = request("script", number);
        let answer = Connection::tcp(server.address())
            .and_then(|mut connection| connection.call("POST", "/api/v1/alerts", &[], body.as_bytes()));
        match answer {
            Ok(answer) if answer.status == 200 => answered.extend(ids),
            Ok(answer) => drop(answer.problem(503)),
            Err(_) => break,
        }
    }
    let mut looks = 0;
    until_true("old segments go, or it ends", || {
        looks += 1;
        // With errors injected they may stay for good: some seconds are enough.
        !oldest.exists() || !server.runs() || looks > 1500
    });
    let status = if server.runs() { server.terminate() } else { server.wait() };
    (answered, status)
}

/// Starts without strace; everything answered is told.
fn check(site: &Site, answered: &[String], point: &str) {
    let server = site.start();
    // What failed in the life before waits for its time, which may be a minute off: an operator has it tried now.
    for row in server.get("/api/v1/deliveries?state=pending").json().as_array().into_iter().flatten() {
        let order = serde_json::json!({ "id": row["id"] }).to_string();
        // One that is done meanwhile is not there any more, and one that is being attempted needs no order.
        let answer = server.call("POST", "/api/v1/deliveries/retry", &order);
        assert!([200, 404, 409].contains(&answer.status), "{}", answer.text());
    }
    server.until_quiet();
    let dead = server.get("/api/v1/deliveries?state=dead").json();
    if dead.as_array().is_some_and(|rows| !rows.is_empty()) {
        server.call("POST", "/api/v1/deliveries/retry", "{\"all_dead\":true}").is(200);
        server.until_quiet();
    }
    let events = site.events();
    let told: BTreeSet<&str> = events
        .lines()
        .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("summary=")))
        .collect();
    let lost: Vec<_> = answered.iter().filter(|id| !told.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{point}: answered and lost: {lost:?}\n{}", site.log());
    // Another life goes on as if nothing had been.
    server.post(&alert("After", "after")).is(200);
    site.until_told(&["after"]);
}

/// `strace` in front of the server: it stays the child that we started (-D), strace looks on from aside. (Without
/// --seccomp-bpf, which is faster and swallows injected signals.)
fn traced(site: &Site, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    clean(&mut command);
    command.args(["-D", "-f", "-qq", "-o"]).arg(site.path().join("trace")).args(options);
    command.arg("--").arg(AMS2).args(site.arguments());
    command
}

/// The thread that does the journal's I/O.
fn journal_thread(server: &Server) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "ams2-journal")
    };
    let task = tasks.filter_map(Result::ok).find(named).expect("the journal has a thread");
    task.file_name().to_string_lossy().into_owned()
}

/// strace attached to one thread alone; gone with it.
fn attach(thread: &str, trace: &Path, options: &[&str]) -> Child {
    let mut command = Command::new("strace");
    clean(&mut command);
    command.args(["-p", thread, "-o"]).arg(trace).args(options).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut strace = command.spawn().expect("strace runs");
    let mut said = String::new();
    let mut words = BufReader::new(strace.stderr.take().expect("piped"));
    words.read_line(&mut said).expect("readable");
    assert!(said.contains("attached"), "{said}");
    // It must not be held up by what it says later.
    std::thread::spawn(move || drop(std::io::copy(&mut words, &mut std::io::sink())));
    strace
}

/// How often each call was made by the thread that made it most.
fn counts(trace: &str) -> BTreeMap<String, usize> {
    let mut by_thread: HashMap<(u64, String), usize> = HashMap::new();
    for call in calls(trace) {
        *by_thread.entry((call.thread, call.name)).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in by_thread {
        let known = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most
}

#[derive(Debug)]
struct Call {
    thread: u64,
    name: String,
    arguments: String,
    /// What it gave back; `None` while it is not known.
    result: Option<i64>,
    /// Lines of the trace where it began and ended.
    began: usize,
    ended: usize,
}

/// Calls of a trace (`strace -f -o`), in the order of their beginning.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<u64, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        // Without -f there is no number of the thread in front.
        let (thread, rest) = match line.split_once(' ') {
            Some((first, rest)) if first.parse::<u64>().is_ok() => {
                (first.parse().expect("digits"), rest.trim_start())
            }
            _ => (0, line),
        };
        let result =
            |text: &str| text.rsplit_once(" = ").and_then(|(_, end)| end.split(' ').next()?.parse().ok());
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let Some(call) = open.remove(&thread).map(|place| &mut calls[place]) {
                call.result = result(resumed);
                call.ended = number;
            }
        } else if let Some((name, arguments)) = rest.split_once('(') {
            let unfinished = arguments.ends_with("<unfinished ...>");
            if unfinished {
                open.insert(thread, calls.len());
            }
            calls.push(Call {
                thread,
                name: name.to_owned(),
                arguments: arguments.to_owned(),
                result: if unfinished { None } else { result(arguments) },
                began: number,
                ended: if unfinished { usize::MAX } else { number },
            });
        }
    }
    calls
}

/// Works on all points, some at once; every mistake is collected before any is said.
fn for_each(points: &[(String, usize)], work: impl Fn(&str, usize) + Sync) {
    let next = Mutex::new(points.iter());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some((call, number)) = next.lock().expect("no panic").next() else { return };
                    work(call, *number);
                }
            });
        }
    });
}

fn points(counts: &BTreeMap<String, usize>) -> Vec<(String, usize)> {
    counts.iter().flat_map(|(call, count)| (1..=*count).map(move |number| (call.clone(), number))).collect()
}

/// Kills at each of these points and checks what is there afterwards. `run` gives what was answered, and how it ended.
fn sweep(
    prepared: &Site,
    counts: &BTreeMap<String, usize>,
    run: impl Fn(&Site, &str) -> (Vec<String>, std::process::ExitStatus) + Sync,
) {
    let points = points(counts);
    let killed = AtomicUsize::new(0);
    for_each(&points, |call, number| {
        let site = copy_of(prepared);
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let (answered, status) = run(&site, &inject);
        killed.fetch_add(usize::from(status.signal() == Some(9)), Ordering::Relaxed);
        check(&site, &answered, &inject);
    });
    let killed = killed.into_inner();
    eprintln!("calls: {counts:?}; {} points, {killed} kills, lost=0", points.len());
    // How inputs share flushes differs a little from run to run, so a few of the last points may not be reached.
    assert!(killed * 4 >= points.len() * 3, "only {killed} of {} points were reached", points.len());
}

#[test]
fn a_kill_at_each_call_that_changes_a_file_loses_nothing() {
    demand_root();
    let prepared = prepared();
    // Once without harm, to see which calls there are.
    let site = copy_of(&prepared);
    let server = site.start_as(traced(&site, &["-e", &format!("trace={CALLS}")]));
    let (answered, status) = script(&site, server);
    assert!(status.success() && answered.len() == 3 * REQUESTS, "{status}\n{}", site.log());
    assert!(!site.data().join("0000000000000001.seg").exists(), "old segments have gone");
    let counts = counts(&fs::read_to_string(site.path().join("trace")).expect("a trace"));
    for call in ["pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "fallocate"] {
        assert!(counts.get(call).is_some_and(|count| *count > 0), "the script makes no {call}: {counts:?}");
    }
    sweep(&prepared, &counts, |site, inject| {
        let command = traced(site, &["-e", &format!("trace={CALLS}"), "-e", inject]);
        match site.spawn(command).try_ready() {
            Ok(server) => script(site, server),
            Err(status) => (Vec::new(), status),
        }
    });
}

#[test]
fn a_kill_at_each_call_of_the_journals_thread_loses_nothing() {
    demand_root();
    let prepared = prepared();
    let run = |site: &Site, options: &[&str]| {
        let server = site.start();
        let mut strace = attach(&journal_thread(&server), &site.path().join("trace"), options);
        let (answered, status) = script(site, server);
        strace.wait().expect("it ends with its thread");
        (answered, status)
    };
    let site = copy_of(&prepared);
    let (answered, status) = run(&site, &["-e", &format!("trace={CALLS}")]);
    assert!(status.success() && answered.len() == 3 * REQUESTS, "{status}\n{}", site.log());
    let counts = counts(&fs::read_to_string(site.path().join("trace")).expect("a trace"));
    for call in ["pwrite64", "fdatasync", "fsync", "renameat2"] {
        assert!(counts.get(call).is_some_and(|count| *count > 1), "the thread makes no {call}: {counts:?}");
    }
    sweep(&prepared, &counts, |site, inject| run(site, &["-e", &format!("trace={CALLS}"), "-e", inject]));
}

/// Strings of a call's arguments (`strace -xx`).
fn bytes_of(arguments: &str) -> Vec<u8> {
    let quoted = arguments.split('"').skip(1).step_by(2);
    let hex = quoted.flat_map(|text| text.split("\\x").skip(1));
    hex.filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

/// The sequence numbers that an answer promises (its header `ams2-sequence`).
fn promised(bytes: &[u8]) -> Option<RangeInclusive<u64>> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once("ams2-sequence: ")?;
    let (first, last) = rest.split("\r\n").next()?.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Asserts that each answer began after the end of a successful sync of what it promises; gives how many there were.
fn assert_answers_follow_syncs(trace: &str, point: &str) -> usize {
    let calls = calls(trace);
    let file = |call: &Call| {
        call.arguments.split(',').next().unwrap_or_default().trim_end_matches([')', ' ']).to_owned()
    };
    // Frames of the journal by file, and each answer, as (line, ...).
    let mut frames: Vec<(usize, String, RangeInclusive<u64>)> = Vec::new();
    let mut syncs: Vec<(usize, usize, String)> = Vec::new();
    let mut answers: Vec<(usize, RangeInclusive<u64>)> = Vec::new();
    for call in &calls {
        match call.name.as_str() {
            "pwrite64" if call.result.is_some_and(|count| count > 0) => {
                let bytes = bytes_of(&call.arguments);
                if let Some(head) = bytes.first_chunk::<32>().filter(|head| head.starts_with(b"FRM1")) {
                    let first = u64::from_le_bytes(head[8..16].try_into().expect("8 bytes"));
                    let count = u32::from_le_bytes(head[24..28].try_into().expect("4 bytes"));
                    frames.push((call.ended, file(call), first..=first + u64::from(count) - 1));
                }
            }
            "fdatasync" if call.result == Some(0) => {
                let name = call.arguments.split([')', ' ']).next().unwrap_or_default().to_owned();
                syncs.push((call.began, call.ended, name));
            }
            "write" | "writev" | "sendto" => {
                answers.extend(promised(&bytes_of(&call.arguments)).map(|range| (call.began, range)));
            }
            _ => {}
        }
    }
    for (line, range) in &answers {
        let covered = frames.iter().any(|(written, file, frame)| {
            frame.contains(range.start())
                && frame.contains(range.end())
                && syncs
                    .iter()
                    .any(|(began, ended, synced)| synced == file && began > written && ended < line)
        });
        assert!(covered, "{point}: the answer in line {line} promises {range:?}, which is not synced yet");
    }
    answers.len()
}

const ORDER: [&str; 6] = ["-xx", "-s", "600", "-ttt", "-e", "trace=pwrite64,fdatasync,write,writev,sendto"];

/// strace's time stamps stand between thread and call; the order of lines says the same.
fn without_times(trace: &str) -> String {
    let line = |line: &str| {
        let (thread, rest) = line.split_once(' ')?;
        let (_, call) = rest.trim_start().split_once(' ')?;
        Some(format!("{thread} {call}\n"))
    };
    trace.lines().filter_map(line).collect()
}

#[test]
fn no_byte_of_an_answer_leaves_before_the_sync_that_covers_it() {
    demand_root();
    let site = Site::new(EACH);
    let server = site.start_as(traced(&site, &ORDER));
    let requests = 10_000;
    let address = server.address();
    std::thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                let mut connection = Connection::tcp(address).expect("it listens");
                for number in 0..requests / 4 {
                    let body = alert("Order", &format!("{client}-{number}"));
                    connection
                        .call("POST", "/api/v1/alerts", &[], body.as_bytes())
                        .expect("an answer")
                        .is(200);
                }
            });
        }
    });
    assert!(server.terminate().success());
    let trace = fs::read_to_string(site.path().join("trace")).expect("a trace");
    let answers = assert_answers_follow_syncs(&without_times(&trace), "without errors");
    assert_eq!(answers, requests, "each answer is in the trace");
}

#[test]
fn after_an_injected_error_nothing_is_answered_that_is_not_synced_and_nothing_is_lost() {
    demand_root();
    let prepared = prepared();
    let mut points = Vec::new();
    for (call, numbers) in [
        ("fdatasync", &[3, 9, 17][..]),
        ("pwrite64", &[3, 12, 20]),
        ("fsync", &[2, 3]),
        ("renameat2", &[2, 3]),
        ("fallocate", &[1]),
    ] {
        for error in ["EIO", "ENOSPC", "EINTR"] {
            for number in numbers {
                for more in ["", "+"] {
                    points.push((format!("{call}:error={error}:when={number}{more}"), points.len()));
                }
            }
        }
    }
    let ends = Mutex::new(BTreeMap::<i32, usize>::new());
    for_each(&points, |point, _| {
        let site = copy_of(&prepared);
        let inject = format!("inject={point}");
        let set = format!("trace={CALLS},write,writev,sendto");
        let options = ["-xx", "-s", "600", "-e", &set, "-e", &inject];
        let answered = match site.spawn(traced(&site, &options)).try_ready() {
            Ok(server) => {
                let (answered, status) = script(&site, server);
                let code = status.code().unwrap_or_else(|| panic!("{point}: {status}\n{}", site.log()));
                assert!([0, 6].contains(&code), "{point}: {status}\n{}", site.log());
                *ends.lock().expect("no panic").entry(code).or_default() += 1;
                if code == 6 {
                    let log = site.log();
                    assert!(log.contains("error: the journal cannot be written"), "{point}: {log}");
                }
                answered
            }
            Err(status) => {
                assert_eq!(status.code(), Some(6), "{point}: {status}\n{}", site.log());
                *ends.lock().expect("no panic").entry(6).or_default() += 1;
                Vec::new()
            }
        };
        let trace = fs::read_to_string(site.path().join("trace")).expect("a trace");
        assert!(trace.contains("INJECTED"), "{point}: the script does not get there");
        assert_answers_follow_syncs(&trace, point);
        assert!(!site.log().contains("panicked"), "{point}: {}", site.log());
        check(&site, &answered, point);
    });
    eprintln!("{} points; exit codes: {:?}", points.len(), ends.into_inner().expect("no panic"));
}
