//! `/-/healthy`, `/-/ready` and `/metrics` (OpenMetrics).

use std::{
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

use ams2_core::machine::{ClientState, HeartbeatState};
use axum::{
    Router as Routes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    flight::Flights,
    journal::{Health, Journal},
    originator::{OriginatorMetrics, snmp::SnmpMetrics, syslog::SyslogMetrics},
    router::Router,
    server::Counts,
};

/// What the status stands on.
#[derive(Clone)]
pub struct Status {
    /// Sizes and totals.
    pub router: Router,
    /// Health and flushes.
    pub journal: Journal,
    /// What came in.
    pub originator: Arc<OriginatorMetrics>,
    /// What came as syslog, where that is listened for.
    pub syslog: Option<Arc<SyslogMetrics>>,
    /// What came as SNMP, likewise.
    pub snmp: Option<Arc<SnmpMetrics>>,
    /// What was decided.
    pub counts: Arc<Counts>,
    /// Bodies and answers in memory.
    pub flights: Flights,
}

/// The routes.
pub fn status_routes(status: Status) -> Routes {
    Routes::new()
        .route("/-/healthy", get(|| async { "OK\n" }))
        .route("/-/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(status)
}

async fn ready(State(status): State<Status>) -> Response {
    if status.router.has_stopped() {
        let why = "the router stopped by a fault of its own; the process is about to end\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    let ended = |syslog: &Arc<SyslogMetrics>| syslog.listeners_ended.load(Ordering::Relaxed) > 0;
    if status.syslog.as_ref().is_some_and(ended) {
        let why = "a listener of syslog has ended: see the log, and start ams2 again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    match status.journal.health() {
        Health::Well => "OK\n".into_response(),
        Health::DiskFull => {
            (StatusCode::SERVICE_UNAVAILABLE, "the disk is nearly full: clients are refused\n")
                .into_response()
        }
        Health::Stalled => {
            let why = "the disk of the data folder does not answer: alerts are not accepted until it does; see to the disk\n";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
        Health::Failed => {
            (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be written\n").into_response()
        }
    }
}

async fn metrics(State(status): State<Status>) -> Response {
    let now = status.journal.now();
    let asked = status.router.ask(move |folded| {
        let machine = &folded.machine;
        let by_state = (machine.heartbeats_by_state(), machine.clients_by_state(now));
        (machine.sizes(), machine.totals(), machine.pending(), by_state)
    });
    let Ok(((alerts, groups, deliveries), totals, pending, (heartbeats, clients))) = asked.await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the router does not answer\n").into_response();
    };
    let mut text = Text(String::new());
    let journal = status.journal.metrics();
    let came = &status.originator;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    text.counter("ams2_alerts_arrived", "Alerts that arrived, refreshes included.", totals.arrived);
    text.counter(
        "ams2_alerts_refreshed",
        "Arrivals that only said that an alert still fires.",
        totals.refreshed,
    );
    text.counter("ams2_alerts_duplicate_id", "Arrivals whose id had come before.", totals.duplicates);
    text.counter(
        "ams2_alerts_unknown_severity",
        "New alerts with a severity that has no rank.",
        totals.unknown_severity,
    );
    text.gauge("ams2_alerts", "Alerts that fire, or ended and are not told everywhere.", alerts as u64);
    text.gauge("ams2_groups", "Groups.", groups as u64);
    text.gauge("ams2_deliveries", "Deliveries that are pending or dead.", deliveries as u64);
    text.counter("ams2_deliveries_done", "Deliveries that ended well.", totals.delivered);
    text.counter("ams2_deliveries_dead", "Deliveries that were given up.", totals.dead_lettered);
    text.counter(
        "ams2_http_alert_requests",
        "Requests with alerts that were accepted.",
        load(&came.requests),
    );
    text.counter("ams2_http_alerts", "Alerts accepted over HTTP and the socket.", load(&came.alerts));
    text.counter("ams2_http_alert_bytes", "Bytes of accepted bodies, decompressed.", load(&came.bytes));
    text.counter("ams2_http_pings", "Pings of heartbeats accepted.", load(&came.pings));
    text.counter("ams2_http_check_ins", "Check-ins of clients accepted.", load(&came.check_ins));
    text.family("ams2_http_refused", "counter", "Requests refused, by reason and status.");
    for (reason, code, count) in came.refusals() {
        text.sample("ams2_http_refused_total", &[("reason", reason), ("code", &code)], count);
    }
    let connections = load(&came.connections_refused);
    text.sample("ams2_http_refused_total", &[("reason", "connections")], connections);
    text.gauge("ams2_http_connections", "Open connections.", load(&came.connections));
    let in_flight = status.flights.bytes() as u64;
    text.gauge("ams2_http_bytes_in_flight", "Bytes of bodies and answers in memory.", in_flight);
    if let Some(came) = &status.syslog {
        syslog(&mut text, came);
    }
    if let Some(came) = &status.snmp {
        snmp(&mut text, came);
    }
    text.counter("ams2_journal_flushes", "Flushes of the journal.", load(&journal.flushes));
    text.counter("ams2_journal_flush_microseconds", "Time spent in flushes.", load(&journal.flush_micros));
    text.counter("ams2_journal_inputs", "Inputs kept.", load(&journal.inputs));
    text.counter("ams2_journal_sequences", "Sequence numbers given.", load(&journal.sequences));
    text.counter(
        "ams2_journal_failed_flushes",
        "Flushes that were written again elsewhere.",
        load(&journal.failures),
    );
    text.gauge(
        "ams2_journal_damaged",
        "Places of damage found at the start or after a failed flush.",
        load(&journal.damaged),
    );
    text.gauge(
        "ams2_journal_set_aside",
        "Records left out because the router panicked at them.",
        load(&journal.set_aside),
    );
    text.gauge("ams2_journal_waiting", "Inputs that wait for a flush.", status.journal.waiting());
    text.family("ams2_journal_refused", "counter", "Inputs of clients refused, by reason.");
    text.sample("ams2_journal_refused_total", &[("reason", "busy")], load(&journal.refused_busy));
    text.sample("ams2_journal_refused_total", &[("reason", "disk")], load(&journal.refused_disk));
    text.gauge(
        "ams2_journal_unsafe_no_sync",
        "1 when --unsafe-no-sync is set: what is accepted may be lost when the machine fails.",
        u64::from(!status.journal.syncs()),
    );
    text.gauge(
        "ams2_ready",
        "1 when clients are accepted.",
        u64::from(status.journal.health() == Health::Well),
    );
    text.family("ams2_action_pending", "gauge", "Deliveries that wait or are under way, by action.");
    for of in &pending {
        text.sample("ams2_action_pending", &[("action", &of.action.to_string())], of.pending.into());
    }
    text.family("ams2_action_failing", "gauge", "1 when the action's far end fails and is probed.");
    for of in &pending {
        text.sample("ams2_action_failing", &[("action", &of.action.to_string())], of.open.into());
    }
    text.family("ams2_heartbeats", "gauge", "Heartbeats, by how they stand.");
    for (state, count) in HeartbeatState::WORDS.into_iter().zip(heartbeats) {
        text.sample("ams2_heartbeats", &[("state", state)], count);
    }
    text.family("ams2_clients", "gauge", "Clients that check in, by how they stand.");
    for (state, count) in ClientState::WORDS.into_iter().zip(clients) {
        text.sample("ams2_clients", &[("state", state)], count);
    }
    decisions(&mut text, &status.counts);
    text.0.push_str("# EOF\n");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text.0).into_response()
}

fn syslog(text: &mut Text, came: &SyslogMetrics) {
    text.family("ams2_syslog_messages", "counter", "Messages of syslog that were taken, by transport.");
    for (transport, messages, _) in came.came() {
        text.sample("ams2_syslog_messages_total", &[("transport", transport)], messages);
    }
    text.family("ams2_syslog_bytes", "counter", "Bytes of those messages.");
    for (transport, _, bytes) in came.came() {
        text.sample("ams2_syslog_bytes_total", &[("transport", transport)], bytes);
    }
    text.family(
        "ams2_syslog_parse_errors",
        "counter",
        "Those that could not be read, and are kept as they came.",
    );
    for (reason, count) in came.parse_errors() {
        text.sample("ams2_syslog_parse_errors_total", &[("reason", reason)], count);
    }
    let truncated = came.truncated.load(Ordering::Relaxed);
    text.counter("ams2_syslog_truncated", "Those that were longer than they may be.", truncated);
    text.family("ams2_syslog_dropped", "counter", "Messages that became no alert, by reason.");
    for (reason, count) in came.dropped() {
        text.sample("ams2_syslog_dropped_total", &[("reason", reason)], count);
    }
    text.family("ams2_syslog_refused", "counter", "Connections refused, or ended for a fault, by reason.");
    for (reason, count) in came.ended() {
        text.sample("ams2_syslog_refused_total", &[("reason", reason)], count);
    }
    let crowded = came.crowded.load(Ordering::Relaxed);
    text.counter("ams2_syslog_crowded", "Messages of senders that have too many different alerts.", crowded);
    text.gauge("ams2_syslog_connections", "Open connections.", came.connections.load(Ordering::Relaxed));
    text.counter(
        "ams2_syslog_udp_drops",
        "Datagrams that the system dropped because they were not read in time.",
        came.udp_drops(),
    );
}

fn snmp(text: &mut Text, came: &SnmpMetrics) {
    text.family("ams2_snmp_messages", "counter", "Notifications of SNMP that were taken, by version.");
    for (version, messages) in came.messages() {
        text.sample("ams2_snmp_messages_total", &[("version", version)], messages);
    }
    text.counter("ams2_snmp_bytes", "Bytes of those notifications.", came.bytes.load(Ordering::Relaxed));
    text.family(
        "ams2_snmp_parse_errors",
        "counter",
        "Those of which something could not be read, and which are kept as they came.",
    );
    for (reason, count) in came.parse_errors() {
        text.sample("ams2_snmp_parse_errors_total", &[("reason", reason)], count);
    }
    text.family("ams2_snmp_dropped", "counter", "Datagrams that became no alert, by reason.");
    for (reason, count) in came.dropped() {
        text.sample("ams2_snmp_dropped_total", &[("reason", reason)], count);
    }
    text.family("ams2_snmp_informs", "counter", "Informs that are alerts, by what became of their answers.");
    for (result, count) in came.informs() {
        text.sample("ams2_snmp_informs_total", &[("result", result)], count);
    }
    text.counter(
        "ams2_snmp_replies",
        "Reports about our engine, and answers to informs that came before.",
        came.replies.load(Ordering::Relaxed),
    );
    text.counter(
        "ams2_snmp_udp_drops",
        "Datagrams that the system dropped because they were not read in time.",
        came.udp_drops(),
    );
}

fn decisions(text: &mut Text, counts: &Counts) {
    text.counter("ams2_decisions", "Decisions recorded.", counts.decisions.load(Ordering::Relaxed));
    text.family("ams2_notifications", "counter", "Notifications made, by reason.");
    for (reason, count) in sorted(&counts.notified) {
        text.sample("ams2_notifications_total", &[("reason", reason)], count);
    }
    text.family("ams2_holds", "counter", "Times that nothing was told, by reason.");
    for (reason, count) in sorted(&counts.held) {
        text.sample("ams2_holds_total", &[("reason", &reason)], count);
    }
    text.family("ams2_attempts", "counter", "Attempts, by action and outcome.");
    for ((action, outcome), count) in sorted(&counts.attempts) {
        text.sample("ams2_attempts_total", &[("action", &action), ("outcome", outcome)], count);
    }
    text.family(
        "ams2_maybe_duplicates",
        "counter",
        "Attempts that the far end may have acted on though no answer came, so that the next tells it twice, by action.",
    );
    for (action, count) in sorted(&counts.maybe_duplicates) {
        text.sample("ams2_maybe_duplicates_total", &[("action", &action)], count);
    }
    text.family("ams2_dead_letters", "counter", "Deliveries given up, by action and reason.");
    for ((action, reason), count) in sorted(&counts.dead) {
        text.sample("ams2_dead_letters_total", &[("action", &action), ("reason", reason)], count);
    }
}

fn sorted<K: Clone + Ord>(counts: &std::sync::Mutex<std::collections::HashMap<K, u64>>) -> Vec<(K, u64)> {
    let counts = counts.lock().unwrap_or_else(|e| e.into_inner());
    let mut rows: Vec<_> = counts.iter().map(|(key, count)| (key.clone(), *count)).collect();
    rows.sort();
    rows
}

/// OpenMetrics text, version 1.0.0.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}
