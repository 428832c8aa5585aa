//! Deliveries for tests: a friendly one, and a corpus of hostile ones.

use std::sync::Arc;

use ams2_core::{At, Fingerprint, Position, Severity, Wall, effect::NotifyReason, input::DeliveryId};
use smol_str::SmolStr;

use crate::{Alert, Delivery, Digest, Group, Server};

/// 2026-11-24T10:15:02Z.
const DECIDED: Wall = Wall(1_795_515_302_000);

pub(crate) fn alert() -> Alert {
    let labels =
        [("computer", "ws-042"), ("event", "Virus Found"), ("severity", "critical"), ("site", "boston")];
    Alert {
        firing: true,
        severity: Some(Severity::Critical),
        generator_url: "http://192.0.2.7/graph".into(),
        ..alert_of(&labels, &[("summary", r"EICAR in C:\tmp\a.exe")])
    }
}

pub(crate) fn alert_of(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Alert {
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (SmolStr::new(n), SmolStr::new(v))).collect();
    Alert {
        fingerprint: Fingerprint::of(labels.iter().copied()),
        sequence: 17,
        position: Position::arrived(17),
        occurrence: None,
        firing: true,
        new: false,
        labels: pairs(labels),
        annotations: pairs(annotations),
        starts_at: Wall(DECIDED.0 - 2000),
        ends_at: None,
        generator_url: SmolStr::default(),
        severity: None,
        client: "boston".into(),
    }
}

pub(crate) fn delivery() -> Delivery {
    delivery_of(0x2a, vec![alert()])
}

pub(crate) fn delivery_of(id: u128, alerts: Vec<Alert>) -> Delivery {
    let firing = alerts.iter().filter(|alert| alert.firing).count() as u32;
    let group = Group {
        key: Arc::from("{}:{site=\"boston\"}"),
        labels: [("site".into(), "boston".into())].into(),
        reason: NotifyReason::FirstTime,
        number: 1,
        decided: DECIDED,
        decided_at: At(5000),
        resolved: alerts.len() as u32 - firing,
        firing,
        alerts,
        overview: None,
    };
    Delivery {
        id: DeliveryId(id),
        attempt: 1,
        maybe_duplicate: false,
        test: false,
        receiver: "secops".into(),
        external_url: "http://ams2.example.com".into(),
        groups: vec![group],
        digest: None,
        unfinished: None,
        memo: None,
        server: Server::default(),
    }
}

/// Alerts that strangers would send to break something, each in a delivery of its own; a digest at the end.
pub(crate) fn hostile() -> Vec<Delivery> {
    let long = "x".repeat(64 * 1024);
    let wide = "\u{202e}é\u{2028}".repeat(9000);
    let many: Vec<(String, String)> = (0..3000).map(|i| (format!("l{i:04}"), format!("v{i}\n"))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let rows: [&[(&str, &str)]; 14] = [
        &[("event", "two\nlines\r\nand more")],
        &[("event", "nul\0byte")],
        &[("event", "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m")],
        &[("event", &long)],
        &[(&long, "long name")],
        &[("event", &wide)],
        &[("event", "-oProxyCommand=id"), ("x", "--output=/etc/x")],
        &[("event", "; rm -rf / $(id) `id` | & > <")],
        &[("event", "]\"\\=")],
        &[("a b", "c"), ("d=e", "f"), ("g\"]", "h"), ("\u{0}", "i"), ("_x", "j"), ("0", "k")],
        &[("time", "1"), ("state", "firing"), ("delivery", "2"), ("label.time", "3"), ("cut", "4")],
        &[("PRIORITY", "0"), ("MESSAGE", "1"), ("_UID", "0")],
        &[("alertname", "only\u{feff}this")],
        &many,
    ];
    let mut deliveries: Vec<Delivery> = rows
        .iter()
        .enumerate()
        .map(|(i, labels)| delivery_of(100 + i as u128, vec![alert_of(labels, &[("summary", labels[0].1)])]))
        .collect();
    deliveries.push(delivery_of(200, vec![alert_of(&[], &[])]));
    deliveries.push(delivery_of(201, Vec::new()));
    let ended = Alert { firing: false, ends_at: Some(Wall(i64::MAX)), starts_at: Wall(i64::MIN), ..alert() };
    let mut digest = delivery_of(202, vec![alert(), ended]);
    digest.groups.push(digest.groups[0].clone());
    digest.digest = Some(Digest { deliveries: vec![DeliveryId(1), DeliveryId(2)] });
    deliveries.push(digest);
    deliveries
}
