//! ams2 beside Prometheus Alertmanager (Debian's `prometheus-alertmanager`), in one run on one machine: the figures of
//! `docs/performance.md`. `cargo bench --bench peers`, with the names of sections to run only those.
//!
//! One config for both: one route grouped by event and site, group_wait 30 s. Alertmanager tells a web hook that answers
//! 200; ams2 writes an event log. Rounds alternate, and the median counts. Needs `wrk`, `prometheus-alertmanager` and postfix.
#![allow(clippy::print_stdout, missing_docs)]

mod api;
mod forward;
mod mail;
mod parts;
mod snmp;
mod syslog;

use std::time::{Duration, Instant};

use parts::{Ams2, Peer, Running, Sink, alerts, median, occurrences, post, post_all, tools};

/// Length of one round of load, and how many rounds each side gets.
const ROUND: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;
/// Distinct alerts in the comparisons.
const ALERTS: usize = 100_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    let sections: [(&str, fn()); 15] = [
        ("size", size),
        ("ingest", ingest),
        ("memory", memory),
        ("idle", idle),
        ("restart", restart),
        ("snapshot", snapshot),
        ("query", api::query),
        ("first", api::first),
        ("told", api::told),
        ("flood", flood),
        ("mail", mail::mail),
        ("mail_outage", mail::outage),
        ("syslog", syslog::syslog),
        ("snmp", snmp::snmp),
        ("forward", forward::forward),
    ];
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    if sections[..9].iter().any(|(name, _)| chosen(name)) {
        tools(&[("wrk", "wrk"), ("prometheus-alertmanager", "prometheus-alertmanager")]);
    }
    if chosen("syslog") {
        tools(&[("rsyslogd", "rsyslog")]);
    }
    if chosen("snmp") {
        tools(&[("snmptrapd", "snmptrapd")]);
    }
    if sections[10..12].iter().any(|(name, _)| chosen(name)) {
        tools(&[("postfix", "postfix"), ("smtp-source", "postfix"), ("smtp-sink", "postfix")]);
    }
    println!("| what | ams2 | peer | ratio | wanted |\n|---|---|---|---|---|");
    for (name, section) in sections {
        if chosen(name) {
            section();
        }
    }
}

fn row(what: &str, ours: String, theirs: &str, ratio: String, wanted: &str) {
    println!("| {what} | {ours} | {theirs} | {ratio} | {wanted} |");
}

/// Size of the release binary.
fn size() {
    let bytes = std::fs::metadata(env!("CARGO_BIN_EXE_ams2")).expect("built").len();
    row("binary", format!("{:.1} MB", bytes as f64 / 1e6), "", String::new(), "at most 25 MB");
}

/// Alerts a second, every answer after its flush.
fn ingest() {
    for (batch, wanted) in [(100, "at least 5 times"), (1, "at least 2 times")] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let sink = Sink::start();
        for _ in 0..ROUNDS {
            let ams2 = Ams2::grouped();
            ours.push(ams2.load(batch, ALERTS, ROUND));
            drop(ams2);
            let peer = Peer::start(sink.port());
            theirs.push(peer.load(batch, ALERTS, ROUND));
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        row(
            &format!("alerts/s, {batch} a request, 16 connections"),
            format!("{:.0} (p50 {:.2} ms, p99 {:.1} ms)", ours.alerts, ours.p50_ms, ours.p99_ms),
            &format!("{:.0} (p50 {:.2} ms, p99 {:.1} ms)", theirs.alerts, theirs.p50_ms, theirs.p99_ms),
            format!("{:.2}", ours.alerts / theirs.alerts),
            wanted,
        );
    }
}

/// Memory with 100,000 alerts firing, when all were told.
fn memory() {
    let sink = Sink::start();
    let told = Duration::from_secs(45);
    let ams2 = Ams2::grouped();
    post_all(ams2.address(), ams2.path(), ALERTS);
    let peer = Peer::start(sink.port());
    post_all(peer.address(), peer.path(), ALERTS);
    std::thread::sleep(told);
    let (ours, theirs) = (ams2.resident_mb(), peer.resident_mb());
    row(
        "memory, 100,000 alerts firing and told",
        format!("{ours:.0} MB"),
        &format!("{theirs:.0} MB"),
        format!("{:.2}", ours / theirs),
        "at most 0.25",
    );
}

/// Memory of a router that has nothing to do.
fn idle() {
    let ams2 = Ams2::default_config();
    std::thread::sleep(Duration::from_secs(3));
    row("memory, idle", format!("{:.1} MB", ams2.resident_mb()), "", String::new(), "at most 20 MB");
}

/// From the start of the process to the first accepted alert, with 100,000 alerts firing.
fn restart() {
    let mut ams2 = Ams2::grouped();
    post_all(ams2.address(), ams2.path(), ALERTS);
    for (how, orderly) in [("a kill", false), ("an orderly end", true)] {
        ams2.stop(orderly);
        let began = Instant::now();
        ams2.start_again();
        let ready = began.elapsed();
        row(
            &format!("restart after {how}, 100,000 alerts firing"),
            format!("{:.2} s", ready.as_secs_f64()),
            "",
            String::new(),
            "at most 1 s",
        );
    }
}

/// One thing that happens 20,000 times, told each time in order: until all of it stands in the event log.
fn flood() {
    const OCCURRENCES: usize = 20_000;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let ams2 = Ams2::default_config();
            let began = Instant::now();
            for first in (0..OCCURRENCES).step_by(1000) {
                post(ams2.address(), ams2.path(), &occurrences(first..first + 1000));
            }
            // What ams2 says of its own start stands there, too.
            parts::until("all written", || (ams2.log_lines() >= OCCURRENCES).then_some(()));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let seconds = times[ROUNDS / 2].as_secs_f64();
    let ours = format!("{seconds:.2} s");
    row("20,000 occurrences of one alert, told each to an event log", ours, "", String::new(), "");
}

/// The longest answer to a lone client while a snapshot of 1,000,000 alerts is made, beside the longest without one.
fn snapshot() {
    const MILLION: usize = 1_000_000;
    let ams2 = Ams2::grouped();
    let probe = |until: &dyn Fn() -> bool| {
        let (mut longest, mut all) = (Duration::ZERO, Vec::new());
        let body = alerts(MILLION..MILLION + 1);
        while !until() {
            let began = Instant::now();
            post(ams2.address(), ams2.path(), &body);
            longest = longest.max(began.elapsed());
            all.push(began.elapsed());
            std::thread::sleep(Duration::from_millis(1));
        }
        all.sort_unstable();
        (longest, all.get(all.len() * 99 / 100).copied().unwrap_or_default())
    };
    let half_minute = Instant::now() + Duration::from_secs(20);
    let (without, without_p99) = probe(&|| Instant::now() > half_minute);
    post_all(ams2.address(), ams2.path(), MILLION);
    // Behind a burst clients wait for the router, snapshot or not.
    let folded = || ams2.metric("ams2_alerts_arrived_total ").filter(|arrived| *arrived >= MILLION as u64);
    parts::until("all are folded", folded);
    assert!(!ams2.has_snapshot(), "it began too early to be measured");
    let (with, with_p99) = probe(&|| ams2.has_snapshot());
    row(
        "longest answer (p99) while 1,000,000 alerts are snapshot",
        format!("{:.1} ms ({:.1} ms)", with.as_secs_f64() * 1e3, with_p99.as_secs_f64() * 1e3),
        &format!(
            "without a snapshot: {:.1} ms ({:.1} ms)",
            without.as_secs_f64() * 1e3,
            without_p99.as_secs_f64() * 1e3
        ),
        String::new(),
        "at most 10 ms longer",
    );
}
