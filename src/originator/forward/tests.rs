use std::io::Write;

use super::*;
use crate::{
    flight::{Flights, PATIENCE},
    originator::{Clients, HttpLimits, KnownClient},
};

const NOW: Wall = Wall(1_795_515_302_000);

fn alert(label: &str) -> wire::Alert {
    wire::Alert {
        labels: [("event".into(), label.into())].into(),
        starts_at: NOW.0 - 1_000,
        position: "17".into(),
        at: NOW.0,
        ..wire::Alert::default()
    }
}

fn batch(alerts: Vec<wire::Alert>) -> Batch {
    let from = wire::Server { name: "laptop".into(), journal: "00000000000000aa".into(), version: "".into() };
    Batch { from, alerts }
}

fn nobody() -> Sender<'static> {
    Sender { name: "local".into(), known: None }
}

fn here() -> Settings {
    Settings {
        clients: Arc::new(Clients::default()),
        limits: HttpLimits::default(),
        alert_limits: Limits::default(),
        hosts: Vec::new(),
        prefix: SmolStr::default(),
        tls: None,
        inbound: Arc::default(),
        heartbeats: Arc::default(),
        server: Server { name: "primary".into(), journal: 0xbb },
    }
}

fn checked(batch: Batch) -> Checked {
    check(batch, &nobody(), &here(), NOW).expect("a batch")
}

#[test]
fn an_alert_is_known_by_where_it_was_accepted_first_and_carries_its_trail() {
    let relayed = wire::Alert {
        origin: Some("pda/0000000000000001/5".into()),
        trail: Some("pda/0000000000000001 2026-11-24T10:15:00Z".into()),
        ..alert("B")
    };
    let Checked { kept, answer, .. } = checked(batch(vec![alert("A"), relayed]));
    assert_eq!((answer.accepted, answer.refused.len(), answer.cut.len()), (2, 0, 0));
    assert_eq!(
        (answer.server.name.as_str(), answer.server.journal.as_str()),
        ("primary", "00000000000000bb")
    );
    let notes = |index: usize| {
        let alert = kept.alert(index).expect("kept");
        [trail::ORIGIN, trail::TRAIL].map(|name| alert.annotation(name).unwrap_or_default().to_owned())
    };
    assert_eq!(notes(0), ["laptop/00000000000000aa/17", "laptop/00000000000000aa 2026-11-24T10:15:02Z"]);
    let way = "pda/0000000000000001 2026-11-24T10:15:00Z > laptop/00000000000000aa 2026-11-24T10:15:02Z";
    assert_eq!(notes(1), ["pda/0000000000000001/5", way]);
    // It fires until its end comes.
    assert_eq!(kept.alert(0).expect("kept").times().ends_at, Some(UNTIL_ITS_END_COMES));
}

#[test]
fn what_is_over_is_over_whatever_the_senders_clock_says() {
    let ahead = wire::Alert { ends_at: Some(NOW.0 + 3_600_000), starts_at: NOW.0 + 3_500_000, ..alert("A") };
    let once = wire::Alert { occurrence: Some("x".into()), ..alert("B") };
    let kept = checked(batch(vec![ahead, once])).kept;
    let times = kept.alert(0).expect("kept").times();
    assert_eq!((times.starts_at, times.ends_at), (Some(NOW), Some(NOW)));
    let once = kept.alert(1).expect("kept");
    assert_eq!((once.id(), once.times().ends_at), (Some("x"), None), "it merely happened");
}

#[test]
fn each_alert_that_is_wrong_is_named_and_the_others_are_kept() {
    let long = "x".repeat(2_000);
    let too_far: Vec<String> =
        (0..wire::HOPS_MAX).map(|n| format!("s{n}/{n:016x} 2026-11-24T10:15:00Z")).collect();
    let rows = [
        (
            wire::Alert { position: "17; drop".into(), ..alert("A") },
            "its place in the sender's journal is none",
        ),
        (
            wire::Alert { labels: [("source".into(), "ams2".into())].into(), ..alert("A") },
            "only the router itself",
        ),
        (wire::Alert { labels: Default::default(), ..alert("A") }, "at least one label"),
        (wire::Alert { labels: [(long.into(), "v".into())].into(), ..alert("A") }, "a name has 2000 bytes"),
        (wire::Alert { origin: Some("a\nb".into()), ..alert("A") }, "its origin is none"),
        (wire::Alert { trail: Some("a\u{1b}".into()), ..alert("A") }, "its trail is none"),
        (
            wire::Alert { trail: Some(too_far.join(trail::THEN).into()), ..alert("A") },
            "it came through 17 servers",
        ),
        (wire::Alert { occurrence: Some("".into()), ..alert("A") }, "the name of its occurrence"),
    ];
    for (wrong, words) in rows {
        let Checked { kept, answer, .. } = checked(batch(vec![alert("first"), wrong, alert("last")]));
        assert_eq!((answer.accepted, kept.len()), (2, 2), "{words}");
        let refused: Vec<_> =
            answer.refused.iter().map(|word| (word.index, word.detail.contains(words))).collect();
        assert_eq!(refused, [(1, true)], "{words}: {:?}", answer.refused);
        let events: Vec<_> = kept.iter().map(|alert| alert.label("event").to_owned()).collect();
        assert_eq!(events, ["first", "last"], "{words}");
    }
}

#[test]
fn an_alert_that_was_here_is_cut() {
    let back =
        wire::Alert { trail: Some("primary/00000000000000bb 2026-11-24T10:15:00Z".into()), ..alert("A") };
    let Checked { kept, answer, .. } = checked(batch(vec![back]));
    assert!(kept.is_empty() && answer.accepted == 0);
    let way = "primary/00000000000000bb 2026-11-24T10:15:00Z > laptop/00000000000000aa 2026-11-24T10:15:02Z";
    assert_eq!(answer.cut[0].detail, format!("{way} > primary once more"));
    // And straight back.
    let own = Batch {
        from: wire::Server { journal: "00000000000000bb".into(), ..batch(vec![]).from },
        alerts: vec![alert("A")],
    };
    assert_eq!(checked(own).answer.cut.len(), 1);
}

#[test]
fn a_client_has_its_own_name_and_sends_what_it_may() {
    let allow =
        ams2_core::matcher::Matcher::parse("event=~\"A|B\"").expect("valid").compile(&Default::default());
    let laptop = KnownClient {
        name: "laptop-17".into(),
        token: None,
        uid: None,
        allow: vec![allow.expect("valid")],
        may: vec![Right::Send],
        enrol: false,
    };
    let sender = Sender { name: laptop.name.clone(), known: Some(&laptop) };
    let relayed = wire::Alert { origin: Some("pda/0000000000000001/5".into()), ..alert("A") };
    let all = batch(vec![alert("A"), relayed, alert("C"), alert("B")]);
    let Checked { kept, answer, denied } = check(all, &sender, &here(), NOW).expect("a batch");
    assert_eq!((answer.accepted, kept.len()), (2, 2));
    let origin = kept.alert(0).expect("kept").annotation(trail::ORIGIN).map(str::to_owned);
    assert_eq!(origin.as_deref(), Some("laptop-17/00000000000000aa/17"), "whatever it calls itself");
    assert!(answer.refused[0].detail.contains("may not hand on alerts of other servers"), "{answer:?}");
    assert!(answer.refused[1].detail.contains("may only send alerts with event=~"), "{answer:?}");
    assert!(denied.is_some_and(|what| what.contains("hand on")), "the first counts");
}

#[test]
fn who_says_nothing_of_himself_is_no_server() {
    for (name, journal) in
        [("", "00000000000000aa"), ("a b", "00000000000000aa"), ("a", "aa"), ("a", "zz000000000000aa")]
    {
        let from = wire::Server { name: name.into(), journal: journal.into(), version: "".into() };
        let refused = check(Batch { from, alerts: vec![alert("A")] }, &nobody(), &here(), NOW).map(drop);
        assert_eq!(refused.map_err(|problem| problem.status.as_u16()), Err(400), "{name:?} {journal:?}");
    }
}

#[test]
fn a_batch_is_decompressed_up_to_a_limit() {
    let decompressed = |body: &[u8]| {
        let mut flight = Flights::default().room("me".into(), 1 << 20, 1 << 10, PATIENCE).flight();
        let largest = Largest { bytes: 1 << 10, by: "a limit", mend: "send less" };
        decompress(body, largest, &mut flight).map_err(|problem| problem.status.as_u16())
    };
    let frame = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).expect("in memory");
    assert_eq!(decompressed(&frame(b"text")).as_deref(), Ok(&b"text"[..]));
    assert_eq!(decompressed(&frame(&[b'x'; 1 << 10])).map(|body| body.len()), Ok(1 << 10));
    assert_eq!(decompressed(&frame(&[b'x'; 1 + (1 << 10)])), Err(413));
    assert_eq!(decompressed(&frame(&vec![0; 64 << 20])), Err(413), "a bomb");
    let (one, mut wide) = (frame(b"text"), zstd::stream::Encoder::new(Vec::new(), 3).expect("in memory"));
    for wrong in
        [&one[..one.len() - 1], b"", b"no zstd", &[&one[..], b"rest"].concat(), &[&one[..], &one].concat()]
    {
        assert_eq!(decompressed(wrong), Err(400), "{wrong:?}");
    }
    // A window that would take a gigabyte.
    wide.window_log(30).and_then(|()| wide.write_all(b"text")).expect("in memory");
    assert_eq!(decompressed(&wide.finish().expect("in memory")), Err(400));
}
